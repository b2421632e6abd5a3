import { lookup } from 'node:dns';
import { Agent } from 'undici';
import type { Bytes } from '../../content/content.ts';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import { Failure, type Code } from '../../util/failure.ts';
import { Limit } from '../../util/limit.ts';
import type { Report } from '../../util/events.ts';
import { retry } from '../../util/retry.ts';
import { guardOf, type Guard } from './address.ts';
import { Exchange, type StreamedBody, type Wire } from './exchange.ts';
import { failureOf, MAX_REFUSAL_BYTES } from './refusal.ts';

/** What a request is for; decides which permission is missing when it is refused. */
export type Operation =
  | 'read-manifest'
  | 'read-blob'
  | 'find-blob'
  | 'begin-upload'
  | 'mount-blob'
  | 'upload-blob'
  | 'write-manifest'
  | 'list-tags'
  | 'list-repositories';

export interface HttpRequest {
  /** For messages: what we are doing, and to what. */
  readonly what: string;
  readonly operation: Operation;
  readonly method: Wire['method'];
  /** Path below the registry, or a whole URL that the registry gave. */
  readonly url: string | URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | StreamedBody | undefined;
  /** The statuses that are an answer. Every other is a Failure. */
  readonly accept: readonly number[];
  /** What a token has to allow: https://distribution.github.io/distribution/spec/auth/scope/ */
  readonly scopes: readonly string[];
  /** Tries in all. Default 6; requests with a streamed body have one. */
  readonly attempts?: number;
  /** Whether the place that a redirect leads to is good for the next request of the same URL too. Default false. */
  readonly reuseRedirect?: boolean;
  /** How long the answer may take to begin. Default a minute, and more for what is streamed. */
  readonly answerTimeoutMs?: number;
  /** Waited for before each try: a rate that the service imposes. */
  readonly admit?: ((options: Abortable) => Promise<void>) | undefined;
}

export interface HttpAnswer {
  readonly status: number;
  /** By its name in lower case. */
  readonly header: (name: string) => string | undefined;
  /** Where the answer came from. */
  readonly url: URL;
}

/** A request without credentials, for those who fetch tokens. Any status is an answer. */
export type PlainFetch = (
  request: Pick<HttpRequest, 'what' | 'method' | 'url' | 'headers' | 'body'>,
  options: Abortable,
) => Promise<HttpAnswer & { readonly text: string }>;

/** Who we are for a registry. */
export interface Authorizer {
  /** The Authorization header of a request; undefined for none. */
  header(scopes: readonly string[], options: Abortable): Promise<string | undefined>;
  /** Learns from a 401 or 403. True: the same request with what `header` gives now may do better. */
  refused(refusal: AuthRefusal, options: Abortable): Promise<boolean>;
  /** What to do about a failure for good. */
  hint(code: Code, operation: Operation): string | undefined;
}

interface AuthRefusal extends HttpAnswer {
  readonly text: string;
  readonly scopes: readonly string[];
  /** The Authorization that was refused. */
  readonly used: string | undefined;
}

export interface TransportOptions {
  /** As in references. */
  readonly host: string;
  /** Where it answers. */
  readonly baseUrl: URL;
  readonly authorize: (fetch: PlainFetch) => Authorizer;
  /** Blobs at once that the caller is going to read and write. */
  readonly concurrency: number;
  readonly userAgent: string;
  readonly clock: Clock;
  readonly report?: Report | undefined;
  /** Looks at every answer of the registry itself. */
  readonly observe?: (answer: HttpAnswer) => void;
}

/** Manifests, lists and questions at once: apart from blobs, so that they never wait behind them. */
const SMALL_AT_ONCE = 16;
/** Ranges of a blob that are read ahead are requests on top of those of the blobs themselves. */
const AHEAD_AT_ONCE = 16;
const CONNECT_TIMEOUT_MS = 10_000;
const ANSWER_TIMEOUT_MS = 60_000;
/** A body of which nothing comes for this long is broken off, and gone on with where it broke. */
const STALL_TIMEOUT_MS = 30_000;
/** Registries answer the end of an upload after they hashed it, some after they copied it within their storage. */
const UPLOAD_TIMEOUT_MS = 300_000;
const UPLOAD_BYTES_PER_MS = 100 * 1024;
/** Less than the idle timeouts of the load balancers around. */
const IDLE_TIMEOUT_MS = 15_000;
const MAX_REDIRECTS = 5;
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
/** Presigned URLs live for minutes: GHCR's 5, https://github.com/containerd/stargz-snapshotter/issues/167 */
const REDIRECT_REUSE_MS = 60_000;
const MAX_REDIRECTS_KEPT = 1000;
/** What storage answers to a link that is too old, or was not made for this request. */
const EXPIRED: ReadonlySet<number> = new Set([400, 401, 403]);

/**
 * The connections to one registry and to where it redirects: HTTP/1.1 only, because with HTTP/2 all blobs share one TCP connection
 * (https://github.com/project-zot/zot/issues/4333). Retries what may succeed later, follows redirects, authorizes, and turns every refusal
 * into a Failure. Credentials go to the registry's own origin and nowhere else.
 */
export class Transport {
  readonly #options: TransportOptions;
  readonly #guard: Guard;
  readonly #agent: Agent;
  readonly #authorizer: Authorizer;
  readonly #small = new Limit(SMALL_AT_ONCE);
  readonly #large: Limit;
  readonly #redirects = new Map<string, { readonly url: URL; readonly untilMs: number }>();

  constructor(options: TransportOptions) {
    this.#options = options;
    this.#guard = guardOf(options.baseUrl.hostname, lookup);
    this.#large = new Limit(options.concurrency + AHEAD_AT_ONCE);
    this.#agent = new Agent({
      allowH2: false,
      connections: SMALL_AT_ONCE + options.concurrency + AHEAD_AT_ONCE,
      bodyTimeout: STALL_TIMEOUT_MS,
      keepAliveTimeout: IDLE_TIMEOUT_MS,
      connect: { timeout: CONNECT_TIMEOUT_MS, lookup: this.#guard.lookup },
    });
    this.#authorizer = options.authorize((request, taskOptions) => this.#plain(request, taskOptions));
  }

  /** An answer with its whole body, which is at most `limit` bytes: more is UNSUPPORTED. A body that breaks is asked for again. */
  async send(
    request: HttpRequest,
    options: Abortable & { readonly limit?: number } = {},
  ): Promise<HttpAnswer & { readonly bytes: Buffer }> {
    const { limit = MAX_REFUSAL_BYTES } = options;
    const streamed = isStreamed(request.body);
    return this.#retried(request, options, async () => {
      await request.admit?.(options);
      const giveBack = await (streamed ? this.#large : this.#small).take(1, options);
      let x: Exchange | undefined;
      try {
        x = await this.#authorized(request, options);
        const bytes = await x.bytes(limit + 1);
        if (bytes.byteLength > limit)
          throw new Failure('UNSUPPORTED', `${request.what}: the answer is longer than ${limit} bytes`);
        return { ...answerOf(x), bytes };
      } finally {
        giveBack();
      }
    });
  }

  /** An answer whose body has to be iterated or discarded: it holds a connection until its end, or until it is left. */
  async open(
    request: HttpRequest,
    options: Abortable = {},
  ): Promise<HttpAnswer & { readonly body: Bytes; readonly discard: () => void }> {
    return this.#retried(request, options, async () => {
      const giveBack = await this.#large.take(1, options);
      try {
        const exchange = await this.#authorized(request, options);
        void exchange.ended.then(giveBack);
        return { ...answerOf(exchange), body: exchange, discard: () => exchange.discard() };
      } catch (error) {
        giveBack();
        throw error;
      }
    });
  }

  /** The URL that a Location or Link stands for, seen from `from`. UNSUPPORTED when it leads where a registry has no business to lead. */
  lead(what: string, location: string, from: URL): URL {
    const url = URL.parse(location, from.href);
    if (url === null || !/^https?:$/.test(url.protocol))
      throw new Failure('UNSUPPORTED', `${what}: the registry sent us to something that is no address`);
    // a server behind a TLS front or a mapped endpoint names itself as it is known outside
    if (url.host === this.#options.host && url.origin !== this.#options.baseUrl.origin) {
      return new URL(`${url.pathname}${url.search}`, this.#options.baseUrl);
    }
    this.#check(what, url);
    return url;
  }

  /** Breaks off what is under way and closes every connection. */
  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  async #retried<T>(request: HttpRequest, options: Abortable, work: () => Promise<T>): Promise<T> {
    const { clock, report } = this.#options;
    const attempts = isStreamed(request.body) ? 1 : (request.attempts ?? 6);
    return retry(request.what, work, { attempts, clock, report, signal: options.signal });
  }

  /** Sends with credentials, once more when they turn out to be stale, or a link to be. */
  async #authorized(request: HttpRequest, options: Abortable): Promise<Exchange> {
    let renewed = false;
    let again = false;
    for (;;) {
      checkAborted(options);
      const used = await this.#authorizer.header(request.scopes, options);
      const exchange = await this.#followed(request, used, options);
      const own = this.#isOwn(exchange.url);
      if (own) this.#options.observe?.(answerOf(exchange));
      if (request.accept.includes(exchange.status)) return exchange;
      const { text, brokeOff } = await refusalOf(exchange, options);
      if (!own && EXPIRED.has(exchange.status) && !again) {
        again = true;
        this.#redirects.delete(redirectKey(request));
        continue;
      }
      if (own && (exchange.status === 401 || exchange.status === 403) && !renewed) {
        renewed = await this.#authorizer.refused(
          { ...answerOf(exchange), text, scopes: request.scopes, used },
          options,
        );
        // a streamed body cannot be sent again to the same place: the caller begins anew
        if (renewed && !isStreamed(request.body)) continue;
      }
      const failure = failureOf({
        what: request.what,
        method: request.method,
        status: exchange.status,
        elsewhere: own ? undefined : exchange.url.host,
        header: (name) => exchange.header(name),
        text,
        nowMs: this.#options.clock.now(),
        renewed: renewed && isStreamed(request.body),
        hint: (code) => (own && !brokeOff ? this.#authorizer.hint(code, request.operation) : undefined),
      });
      // what to do about it may be in what is missing: a repository to be created, a token that expired
      throw brokeOff && !failure.retryable
        ? new Failure('UNAVAILABLE', `${failure.message}, and broke off before it said why`)
        : failure;
    }
  }

  /** Sends, and follows redirects of what only reads. */
  async #followed(request: HttpRequest, authorization: string | undefined, options: Abortable): Promise<Exchange> {
    let url = this.#rememberedRedirect(request) ?? this.#urlOf(request.url);
    for (let hops = 0; ; hops++) {
      const exchange = await this.#sent(request, url, authorization, options);
      const location = exchange.header('location');
      const reads = request.method === 'GET' || request.method === 'HEAD';
      if (!reads || !REDIRECTS.has(exchange.status) || location === undefined) return exchange;
      exchange.discard();
      if (hops === MAX_REDIRECTS)
        throw new Failure('UNSUPPORTED', `${request.what}: the registry redirects more than ${MAX_REDIRECTS} times`);
      url = this.lead(request.what, location, url);
      if (request.reuseRedirect === true && !this.#isOwn(url)) this.#rememberRedirect(request, url);
    }
  }

  async #sent(
    r: Pick<HttpRequest, 'what' | 'method' | 'headers' | 'body' | 'answerTimeoutMs'>,
    url: URL,
    authorization: string | undefined,
    options: Abortable,
  ): Promise<Exchange> {
    const { body } = r;
    const headers: Record<string, string> = { 'user-agent': this.#options.userAgent, ...r.headers };
    if (authorization !== undefined && this.#isOwn(url)) headers['authorization'] = authorization;
    if (isStreamed(body)) headers['content-length'] = String(body.size);
    const usual = isStreamed(body) ? UPLOAD_TIMEOUT_MS + body.size / UPLOAD_BYTES_PER_MS : ANSWER_TIMEOUT_MS;
    const headersTimeoutMs = r.answerTimeoutMs ?? usual;
    const exchange = new Exchange(
      this.#agent,
      { what: r.what, method: r.method, url, headers, body, headersTimeoutMs },
      options,
    );
    try {
      await exchange.answered;
    } catch (error) {
      // a producer that still runs would run beside that of the next try
      if (options.signal?.aborted !== true) await exchange.ended;
      throw error;
    }
    return exchange;
  }

  async #plain(
    r: Pick<HttpRequest, 'what' | 'method' | 'url' | 'headers' | 'body'>,
    options: Abortable,
  ): Promise<HttpAnswer & { readonly text: string }> {
    const url = this.#urlOf(r.url);
    if (!this.#isOwn(url)) this.#check(r.what, url);
    const exchange = await this.#sent(r, url, undefined, options);
    const bytes = await exchange.bytes(MAX_REFUSAL_BYTES);
    return { ...answerOf(exchange), text: bytes.toString() };
  }

  #urlOf(url: string | URL): URL {
    if (typeof url !== 'string') return url;
    return new URL(`${this.#options.baseUrl.pathname.replace(/\/$/, '')}${url}`, this.#options.baseUrl);
  }

  #isOwn(url: URL): boolean {
    return url.origin === this.#options.baseUrl.origin;
  }

  #check(what: string, url: URL): void {
    const kind = this.#guard.refuses(url.hostname);
    if (kind === undefined) return;
    throw new Failure('UNSUPPORTED', `${what}: the registry sent us to ${url.host}, a ${kind} address; refused`);
  }

  #rememberedRedirect(request: HttpRequest): URL | undefined {
    if (request.reuseRedirect !== true) return undefined;
    const kept = this.#redirects.get(redirectKey(request));
    return kept !== undefined && kept.untilMs > this.#options.clock.now() ? kept.url : undefined;
  }

  #rememberRedirect(request: HttpRequest, url: URL): void {
    const [oldest] = this.#redirects.keys();
    if (this.#redirects.size >= MAX_REDIRECTS_KEPT && oldest !== undefined) this.#redirects.delete(oldest);
    this.#redirects.set(redirectKey(request), { url, untilMs: this.#options.clock.now() + REDIRECT_REUSE_MS });
  }
}

function isStreamed(body: HttpRequest['body']): body is StreamedBody {
  return body !== undefined && !(body instanceof Uint8Array);
}

/** What an answer that nobody wanted says, if it comes to say it. */
async function refusalOf(
  exchange: Exchange,
  options: Abortable,
): Promise<{ readonly text: string; readonly brokeOff: boolean }> {
  try {
    return { text: (await exchange.bytes(MAX_REFUSAL_BYTES)).toString(), brokeOff: false };
  } catch {
    checkAborted(options);
    return { text: '', brokeOff: true };
  }
}

function redirectKey(request: HttpRequest): string {
  return String(request.url);
}

function answerOf(exchange: Exchange): HttpAnswer {
  return { status: exchange.status, header: (name) => exchange.header(name), url: exchange.url };
}
