import type { Dispatcher } from 'undici';
import { checkAborted, orAborted, type Abortable } from '../../util/abort.ts';
import { Failure } from '../../util/failure.ts';
import { describeProxy, proxyOf, type Proxies } from '../../util/proxies.ts';
import { SharedPromise } from '../../util/shared-promise.ts';
import { decoded } from './content-encoding.ts';
import { Exchange, isPlainAnswer } from './exchange.ts';
import { Agent, Pool, ProxyAgent } from './undici.ts';
import { isStreamed, type Answer, type Layer, type WireRequest } from './layer.ts';
import type { Origin } from './origin.ts';
import { MAX_REFUSAL_BYTES } from './refusal.ts';

/** Settings of TLS for one registry. Absent members are as in the whole process. */
export interface TlsSettings {
  /** Every authority that is trusted. Default: those of the process. */
  readonly ca?: string[];
  /** The client's certificates and their keys. They are presented to the registry itself, not to where it redirects. */
  readonly cert?: string[];
  readonly key?: string[];
  /** False: any certificate is accepted. Default true. */
  readonly rejectUnauthorized?: boolean;
}

export interface WireOptions {
  /** Connections at once to each host. */
  readonly connections: number;
  readonly userAgent: string;
  /** Default: every host is reached directly. */
  readonly proxies?: Proxies | undefined;
  /** Called once. Default: the settings of the process. */
  readonly tls?: (() => Promise<TlsSettings>) | undefined;
  /** Whether the registry is asked by plain HTTP when it does not answer TLS with TLS. Default false. */
  readonly plainFallback?: boolean | undefined;
}

const CONNECT_TIMEOUT_MS = 10_000;
/** A proxy answers only when it has connected to the host or has given up. */
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
 * nowhere else. A proxy resolves host names itself, so behind one only addresses are guarded.
 */
export class Wire implements Layer<WireRequest> {
  readonly #origin: Origin;
  readonly #options: WireOptions;
  /** By the proxy, and by whether the registry itself answers. */
  readonly #dispatchers = new Map<string, Dispatcher>();
  #tls: Promise<TlsSettings> | undefined;
  /** Decides between https and plain HTTP, once. */
  readonly #deciding = new SharedPromise<void>();
  #isClosed = false;

  constructor(origin: Origin, options: WireOptions) {
    this.#origin = origin;
    this.#options = options;
  }

  async send(request: WireRequest, options: Abortable): Promise<Answer> {
    checkAborted(options);
    if (this.#options.plainFallback === true)
      await orAborted(
        this.#deciding.get(async () => this.#decide(request.what)),
        options,
      );
    return this.#send(request, options);
  }

  /** Sends a request of its own by https, because several requests may wait for the same answer, and their bodies cannot be sent twice. */
  async #decide(what: string): Promise<void> {
    try {
      (await this.#send({ what, method: 'GET', url: '/v2/' }, {})).discard();
    } catch (error) {
      if (!isPlainAnswer(error)) throw error;
      this.#origin.usePlainHttp();
    }
  }

  async #send(request: WireRequest, options: Abortable): Promise<Answer> {
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
    const tls = await (this.#tls ??= this.#options.tls?.() ?? Promise.resolve({}));
    checkAborted(options);
    if (this.#isClosed) throw new Failure('ABORTED', `${what}: the registry was closed meanwhile`);
    const exchange = new Exchange(
      this.#dispatcher({ proxy, isOwn: this.#origin.isOwn(url) }, tls),
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
    this.#isClosed = true;
    await Promise.all([...this.#dispatchers.values()].map(async (dispatcher) => dispatcher.destroy()));
  }

  #dispatcher(way: Way, tls: TlsSettings): Dispatcher {
    const key = `${way.isOwn} ${way.proxy?.href ?? ''}`;
    const known = this.#dispatchers.get(key);
    if (known !== undefined) return known;
    const { cert: _cert, key: _key, ...withoutClient } = tls;
    const connect = { timeout: CONNECT_TIMEOUT_MS, ...(way.isOwn ? tls : withoutClient) };
    const limits = limitsOf(this.#options);
    const opened =
      way.proxy === undefined
        ? new Agent({ ...limits, connect: { ...connect, lookup: this.#origin.lookup } })
        : proxyAgent(way.proxy, limits, connect);
    this.#dispatchers.set(key, opened);
    return opened;
  }
}

/** How a host is reached. */
interface Way {
  readonly proxy: URL | undefined;
  /** Whether the registry itself answers, and not a host that it redirects to. */
  readonly isOwn: boolean;
}

function proxyAgent(proxy: URL, limits: Pool.Options, connect: TlsSettings & { readonly timeout: number }): ProxyAgent {
  return new ProxyAgent({
    ...limits,
    uri: proxy.href,
    // plain requests are sent whole, because many proxies allow CONNECT to port 443 only
    proxyTunnel: false,
    requestTls: connect,
    proxyTls: { timeout: CONNECT_TIMEOUT_MS },
    factory: (to: string | URL, options: object) => new Pool(to, { ...limits, ...options }),
    clientFactory: (to, options) => new Pool(to, { ...options, headersTimeout: TUNNEL_TIMEOUT_MS }),
  });
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
