import { BlockList, isIP } from 'node:net';

/** The HTTP proxies that the environment names, and the hosts that are reached without them. */
export interface Proxies {
  /** For `http://` addresses. */
  readonly http: URL | undefined;
  /** For `https://` addresses, which are tunnelled by CONNECT. */
  readonly https: URL | undefined;
  /** The entries of NO_PROXY: `*`, `host`, `.domain`, `*.domain`, an IP address or a network such as `10.0.0.0/8`; each also with a port. */
  readonly except: readonly string[];
}

/**
 * The proxy for `url`; undefined where it is reached directly, as this machine always is. As in curl and Go, an exception `example.com` covers
 * its subdomains too.
 */
export function proxyOf(proxies: Proxies | undefined, url: URL): URL | undefined {
  const proxy = url.protocol === 'https:' ? proxies?.https : proxies?.http;
  if (proxies === undefined || proxy === undefined) return undefined;
  const host = url.hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '');
  const port = url.port === '' ? (url.protocol === 'https:' ? '443' : '80') : url.port;
  if (isThisMachine(host) || proxies.except.some((entry) => covers(entry, host, port))) return undefined;
  return proxy;
}

/** `host:port` of a proxy, for messages: its URL may hold a password. */
export function describeProxy(proxy: URL): string {
  return proxy.host;
}

/** The options with which Node's agents, and so the clients of the AWS SDK, use the proxies. Empty without a proxy. */
export function proxiedAgent(proxies: Proxies | undefined): { readonly proxyEnv?: Record<string, string> } {
  if (proxies?.http === undefined && proxies?.https === undefined) return {};
  return {
    proxyEnv: {
      ...(proxies.http === undefined ? {} : { HTTP_PROXY: proxies.http.href }),
      ...(proxies.https === undefined ? {} : { HTTPS_PROXY: proxies.https.href }),
      NO_PROXY: ['localhost', '127.0.0.1', '[::1]', '::1', ...proxies.except.flatMap(nodeEntriesOf)].join(','),
    },
  };
}

function isThisMachine(host: string): boolean {
  return /^(?:.+\.)?localhost$/i.test(host) || /^127\.\d+\.\d+\.\d+$/.test(host) || host === '::1';
}

function covers(entry: string, host: string, port: string): boolean {
  const [, name = entry, only] = /^(\[[^\]]*\]|[^:]*):(\d+)$/.exec(entry) ?? [];
  if (only !== undefined && only !== port) return false;
  const pattern = name.replace(/^\[|\]$/g, '').toLowerCase();
  if (pattern === '*') return true;
  if (isIP(host) !== 0) return pattern === host || isIn(pattern, host);
  const domain = pattern.replace(/^\*?\./, '').replace(/\.$/, '');
  // `.example.com` and `*.example.com` do not cover example.com itself
  return host.endsWith(`.${domain}`) || (host === domain && domain === pattern.replace(/\.$/, ''));
}

/** Whether the address is in the network, such as `10.0.0.0/8`. False for what is not a network. */
function isIn(network: string, address: string): boolean {
  const [base = '', bits = ''] = network.split('/');
  const family = isIP(base);
  if (family === 0 || family !== isIP(address) || !/^\d{1,3}$/.test(bits)) return false;
  if (Number(bits) > (family === 4 ? 32 : 128)) return false;
  const list = new BlockList();
  const type = family === 4 ? 'ipv4' : 'ipv6';
  list.addSubnet(base, Number(bits), type);
  return list.check(address, type);
}

/** An exception as Node reads it: there, `example.com` is that host alone, and a network is a range of addresses. */
function nodeEntriesOf(entry: string): readonly string[] {
  const [, base = '', bits = ''] = /^([\d.]+)\/(\d+)$/.exec(entry) ?? [];
  if (isIP(base) === 4 && Number(bits) <= 32) return [rangeOf(base, Number(bits))];
  const isHost = /^[a-z0-9]/i.test(entry) && isIP(entry) === 0 && /[a-z]/i.test(entry);
  return isHost ? [entry, `.${entry}`] : [entry];
}

function rangeOf(base: string, bits: number): string {
  const size = 2 ** (32 - bits);
  const number = base.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  const first = Math.floor(number / size) * size;
  return `${addressOf(first)}-${addressOf(first + size - 1)}`;
}

function addressOf(number: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(number / 2 ** shift) % 256).join('.');
}
