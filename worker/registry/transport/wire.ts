import { Agent, Pool, ProxyAgent, type Dispatcher } from 'undici';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import { describeProxy, proxyOf, type Proxies } from '../../util/proxies.ts';
import { decoded } from './content-encoding.ts';
import { Exchange } from './exchange.ts';
import { isStreamed, type Answer, type Layer, type WireRequest } from './layer.ts';
import type { Origin } from './origin.ts';
import { MAX_REFUSAL_BYTES } from './refusal.ts';

export interface WireOptions {
  /** Connections at once to each host. */
  readonly connections: number;
  readonly userAgent: string;
  /** Default: every host is reached directly. */
  readonly proxies?: Proxies | undefined;
}

const CONNECT_TIMEOUT_MS = 10_000;
/** A proxy answers when it has reached the host itself, or has given up. */
const TUNNEL_TIMEOUT_MS = 30_000;
const ANSWER_TIMEOUT_MS = 60_000;
/** A body that brings no bytes for this long is broken off; `read` resumes it where it broke. */
const STALL_TIMEOUT_MS = 30_000;
/** Registries answer the end of an upload after they hashed it, some after they copied it within their storage. */
const UPLOAD_TIMEOUT_MS = 300_000;
const UPLOAD_BYTES_PER_MS = 100 * 1024;
/** Less than the idle timeouts of the load balancers around. */
const IDLE_TIMEOUT_MS = 15_000;

/**
 * The innermost layer: the connections to one registry and to where it redirects. HTTP/1.1 only, because with HTTP/2 all blobs share one TCP
 * connection (https://github.com/project-zot/zot/issues/4333). Every status is an answer. Credentials go to the registry's own origin and
 * nowhere else. Where a proxy stands before a host, it looks the host's name up, so only addresses are guarded there.
 */
export class Wire implements Layer<WireRequest> {
  readonly #origin: Origin;
  readonly #options: WireOptions;
  readonly #direct: Agent;
  readonly #proxied = new Map<string, ProxyAgent>();

  constructor(origin: Origin, options: WireOptions) {
    this.#origin = origin;
    this.#options = options;
    this.#direct = new Agent({
      ...limitsOf(options),
      connect: { timeout: CONNECT_TIMEOUT_MS, lookup: origin.lookup },
    });
  }

  async send(request: WireRequest, options: Abortable): Promise<Answer> {
    checkAborted(options);
    const { what, method, body, authorization } = request;
    const url = this.#origin.resolve(request.url);
    const headers: Record<string, string> = {
      'user-agent': this.#options.userAgent,
      'accept-encoding': 'identity',
      ...request.headers,
    };
    if (authorization !== undefined && this.#origin.isOwn(url)) headers['authorization'] = authorization;
    if (isStreamed(body)) headers['content-length'] = String(body.size);
    const headersTimeoutMs = request.answerTimeoutMs ?? answerTimeoutMs(body);
    const proxy = proxyOf(this.#options.proxies, url);
    const exchange = new Exchange(
      proxy === undefined ? this.#direct : this.#by(proxy),
      { what, method, url, headers, body, headersTimeoutMs, proxy: proxy && describeProxy(proxy) },
      options,
    );
    try {
      await exchange.answered;
    } catch (error) {
      // a producer that still runs would overlap with that of the next attempt
      if (options.signal?.aborted !== true) await exchange.ended;
      throw error;
    }
    return answerOf(what, exchange);
  }

  /** Breaks off what is under way and closes every connection. */
  async close(): Promise<void> {
    await Promise.all([this.#direct, ...this.#proxied.values()].map(async (dispatcher) => dispatcher.destroy()));
  }

  #by(proxy: URL): Dispatcher {
    const known = this.#proxied.get(proxy.href);
    if (known !== undefined) return known;
    const limits = limitsOf(this.#options);
    const opened = new ProxyAgent({
      ...limits,
      uri: proxy.href,
      // proxies take plain requests whole, and CONNECT for port 443 alone
      proxyTunnel: false,
      requestTls: { timeout: CONNECT_TIMEOUT_MS },
      proxyTls: { timeout: CONNECT_TIMEOUT_MS },
      factory: (to: string | URL, options: object) => new Pool(to, { ...limits, ...options }),
      clientFactory: (to, options) => new Pool(to, { ...options, headersTimeout: TUNNEL_TIMEOUT_MS }),
    });
    this.#proxied.set(proxy.href, opened);
    return opened;
  }
}

function limitsOf({ connections }: WireOptions): Pool.Options {
  return { allowH2: false, connections, bodyTimeout: STALL_TIMEOUT_MS, keepAliveTimeout: IDLE_TIMEOUT_MS };
}

function answerTimeoutMs(body: WireRequest['body']): number {
  return isStreamed(body) ? UPLOAD_TIMEOUT_MS + body.size / UPLOAD_BYTES_PER_MS : ANSWER_TIMEOUT_MS;
}

function answerOf(what: string, exchange: Exchange): Answer {
  const header = (name: string): string | undefined => exchange.header(name);
  const readText = async (): Promise<string> => {
    const bytes = await exchange.bytes(MAX_REFUSAL_BYTES);
    // what is cut off or too long says nothing, and is no reason to ask again
    const document = await decoded(what, { header }, bytes, MAX_REFUSAL_BYTES).catch(() => undefined);
    return document?.toString() ?? '';
  };
  let text: Promise<string> | undefined;
  return {
    status: exchange.status,
    header,
    url: exchange.url,
    body: exchange,
    discard: () => exchange.discard(),
    text: async () => (text ??= readText()),
    ended: exchange.ended,
  };
}
