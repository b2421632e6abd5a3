import type { LookupFunction } from 'node:net';
import type { Dispatcher } from 'undici';
import { preferredCiphers } from '../../util/http/ciphers.ts';
import type { TlsSettings } from './wire.ts';
import { Agent, Pool, ProxyAgent } from './undici.ts';

export interface DispatcherOptions {
  /** Undefined: hosts are reached directly. */
  readonly proxy: URL | undefined;
  readonly tls: TlsSettings;
  /** Resolves the names of hosts that are reached directly. */
  readonly lookup: LookupFunction;
  /** Connections at once to each host. */
  readonly connections: number;
  readonly connectTimeoutMs: number;
  readonly stallTimeoutMs: number;
  readonly idleTimeoutMs: number;
}

/** A proxy answers only when it has connected to the host or has given up. */
const TUNNEL_TIMEOUT_MS = 30_000;

/** Undici's connections, for what is sent and for what goes through a proxy. */
export function openDispatcher(options: DispatcherOptions): Dispatcher {
  const { proxy, tls, lookup, connections, stallTimeoutMs: bodyTimeout, idleTimeoutMs: keepAliveTimeout } = options;
  const connect = { timeout: options.connectTimeoutMs, ciphers: preferredCiphers(), ...tls };
  const limits: Pool.Options = { allowH2: false, connections, bodyTimeout, keepAliveTimeout };
  if (proxy === undefined) return new Agent({ ...limits, connect: { ...connect, lookup } });
  return new ProxyAgent({
    ...limits,
    uri: proxy.href,
    // plain requests are sent whole, because many proxies allow CONNECT to port 443 only
    proxyTunnel: false,
    requestTls: connect,
    proxyTls: { timeout: options.connectTimeoutMs },
    factory: (to: string | URL, more: object) => new Pool(to, { ...limits, ...more }),
    clientFactory: (to, more) => new Pool(to, { ...more, headersTimeout: TUNNEL_TIMEOUT_MS }),
  });
}
