import type { Dispatcher } from 'undici';
import type { Bytes } from '../../content/content.ts';
import { checkAborted, orAborted, type Abortable } from '../../util/abort.ts';
import { Failure } from '../../util/failure.ts';
import { HttpReader } from '../../util/http/http-reader.ts';
import { describeProxy, proxyOf, type Proxies } from '../../util/proxies.ts';
import { SharedPromise } from '../../util/shared-promise.ts';
import { decoded } from './content-encoding.ts';
import { connectionFailure, isPlainAnswer } from './connection-failure.ts';
import { Exchange } from './exchange.ts';
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
  /** By whether the registry itself answers. */
  readonly #readers = new Map<boolean, HttpReader>();
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
    this.#checkOpen(what, options);
    const isOwn = this.#origin.isOwn(url);
    if ((method === 'GET' || method === 'HEAD') && body === undefined && proxy === undefined)
      return this.#read({ what, method, url, headers, timeoutMs: headersTimeoutMs, isOwn }, tls, options);
    const dispatcher = await this.#dispatcher({ proxy, isOwn }, tls);
    this.#checkOpen(what, options);
    const exchange = new Exchange(
      dispatcher,
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
    const { status, ended } = exchange;
    const header = (name: string): string | undefined => exchange.header(name);
    return answerOf(what, { status, header, url, body: exchange, discard: () => exchange.discard(), ended });
  }

  /** Reads by connections of our own, which lend the bytes of the body instead of allocating for them. */
  async #read(request: DirectRead, tls: TlsSettings, options: Abortable): Promise<Answer> {
    const { what, method, url, headers, isOwn } = request;
    const answer = await this.#reader(isOwn, tls).get(
      {
        method,
        origin: url,
        path: `${url.pathname}${url.search}`,
        headers,
        answerTimeoutMs: request.timeoutMs,
        stallTimeoutMs: STALL_TIMEOUT_MS,
        explain: (error) => connectionFailure(what, { host: url.host, proxy: undefined }, error),
      },
      options,
    );
    return answerOf(what, { ...answer, header: (name) => answer.headers.get(name), url });
  }

  /** Breaks off what is under way and closes every connection. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const reader of this.#readers.values()) reader.close();
    await Promise.all([...this.#dispatchers.values()].map(async (dispatcher) => dispatcher.destroy()));
  }

  #checkOpen(what: string, options: Abortable): void {
    checkAborted(options);
    if (this.#isClosed) throw new Failure('ABORTED', `${what}: the registry was closed meanwhile`);
  }

  #reader(isOwn: boolean, tls: TlsSettings): HttpReader {
    const known = this.#readers.get(isOwn);
    if (known !== undefined) return known;
    const opened = new HttpReader({
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
      idleTimeoutMs: IDLE_TIMEOUT_MS,
      maxIdle: this.#options.connections,
      lookup: this.#origin.lookup,
      tls: isOwn ? tls : withoutClient(tls),
    });
    this.#readers.set(isOwn, opened);
    return opened;
  }

  /** Undici is loaded when something is sent, or a proxy is used. */
  async #dispatcher(way: Way, tls: TlsSettings): Promise<Dispatcher> {
    const { openDispatcher } = await import('./dispatcher.ts');
    const key = `${way.isOwn} ${way.proxy?.href ?? ''}`;
    const known = this.#dispatchers.get(key);
    if (known !== undefined) return known;
    const opened = openDispatcher({
      proxy: way.proxy,
      tls: way.isOwn ? tls : withoutClient(tls),
      lookup: this.#origin.lookup,
      connections: this.#options.connections,
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
      stallTimeoutMs: STALL_TIMEOUT_MS,
      idleTimeoutMs: IDLE_TIMEOUT_MS,
    });
    this.#dispatchers.set(key, opened);
    return opened;
  }
}

/** A request that only reads, and does not go through a proxy. */
interface DirectRead extends Pick<WireRequest, 'what'> {
  readonly method: 'GET' | 'HEAD';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  /** How long the answer may take to begin. */
  readonly timeoutMs: number;
  readonly isOwn: boolean;
}

/** How a host is reached. */
interface Way {
  readonly proxy: URL | undefined;
  /** Whether the registry itself answers, and not a host that it redirects to. */
  readonly isOwn: boolean;
}

function answerTimeoutMs(body: WireRequest['body']): number {
  return isStreamed(body) ? UPLOAD_TIMEOUT_MS + body.size / UPLOAD_BYTES_PER_MS : ANSWER_TIMEOUT_MS;
}

function withoutClient({ cert: _cert, key: _key, ...settings }: TlsSettings): TlsSettings {
  return settings;
}

function answerOf(what: string, answer: Omit<Answer, 'text'>): Answer {
  const readText = async (): Promise<string> => {
    const bytes = await beginningOf(answer.body, MAX_REFUSAL_BYTES);
    // a body that is cut off or too long is ignored, and is not a reason to ask again
    const document = await decoded(what, answer, bytes, MAX_REFUSAL_BYTES).catch(() => undefined);
    return document?.toString() ?? '';
  };
  let text: Promise<string> | undefined;
  return { ...answer, text: async () => (text ??= readText()) };
}

/** The first `limit` bytes of a body: what is after them is not read. */
async function beginningOf(body: Bytes, limit: number): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    chunks.push(Buffer.from(chunk));
    size += chunk.byteLength;
    if (size > limit) break;
  }
  return Buffer.concat(chunks).subarray(0, limit);
}
