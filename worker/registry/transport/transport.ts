import type { Bytes } from '../../content/content.ts';
import type { Abortable } from '../../util/abort.ts';
import { systemClock, type Clock } from '../../util/clock.ts';
import type { Report } from '../../util/events.ts';
import { Limit } from '../../util/limit.ts';
import type { Proxies } from '../../util/proxies.ts';
import { Acceptance } from './acceptance.ts';
import { Authorization, plainFetch, type Authorizer, type PlainFetch } from './authorization.ts';
import { Deadlines } from './deadlines.ts';
import { isStreamed, type HttpAnswer, type HttpRequest, type Layer } from './layer.ts';
import { Limits } from './limits.ts';
import { Observer } from './observer.ts';
import { Origin } from './origin.ts';
import { HostBackoff, Pauses } from './pauses.ts';
import { Redirects } from './redirects.ts';
import { MAX_REFUSAL_BYTES } from './refusal.ts';
import { Retries } from './retries.ts';
import { WholeBody, type WholeAnswer, type WholeRequest } from './whole-body.ts';
import { Wire, type TlsSettings } from './wire.ts';

export interface TransportOptions {
  /** The registry's host as in references. */
  readonly host: string;
  /** Where the registry answers. */
  readonly baseUrl: URL;
  /** Whether the registry is asked by plain HTTP when it does not answer TLS with TLS. Default false. */
  readonly plainFallback?: boolean | undefined;
  /** Makes the authorizer; `fetch` is for its own requests. */
  readonly authorize: (fetch: PlainFetch, origin: Origin) => Authorizer;
  /** Blobs that the caller reads and writes at once. */
  readonly concurrency: number;
  readonly userAgent: string;
  /** Default: every host is reached directly. */
  readonly proxies?: Proxies | undefined;
  /** The TLS settings for the registry; called once. Default: those of the process. */
  readonly tls?: (() => Promise<TlsSettings>) | undefined;
  readonly clock: Clock;
  /** The clock that limits how long an answer may take. Default: the machine's, as for the timeouts of connections. */
  readonly timeoutClock?: Clock | undefined;
  readonly report?: Report | undefined;
  /** What pauses the requests to the host; another client of the host may share it. Default: one of its own. */
  readonly backoff?: HostBackoff | undefined;
  /** Called with every answer of the registry itself, refusals included. */
  readonly observe?: (answer: HttpAnswer) => void;
}

/** Requests without the body of a blob at once (manifests, lists, lookups). They are apart, so that they never wait for blobs. */
const SMALL_AT_ONCE = 16;
/** Ranges of a blob that are read ahead are requests on top of those of the blobs themselves. */
const AHEAD_AT_ONCE = 16;

/**
 * The requests to one registry and to where it redirects. It retries what may succeed later, follows redirects, authorizes, and turns every
 * refusal into a Failure: each in a layer of its own, stacked here. From the outside in:
 *
 * retries → whole body (`send` only) → limits → pauses → deadlines → acceptance → authorization → observer → redirects → wire
 */
export class Transport {
  readonly #origin: Origin;
  readonly #wire: Wire;
  readonly #opening: Layer;
  readonly #sendingSmall: Layer<WholeRequest, WholeAnswer>;
  readonly #sendingLarge: Layer<WholeRequest, WholeAnswer>;

  constructor(options: TransportOptions) {
    const { host, baseUrl, concurrency, clock, report, observe } = options;
    const { timeoutClock = systemClock } = options;
    const origin = new Origin(host, baseUrl);
    const largeAtOnce = concurrency + AHEAD_AT_ONCE;
    this.#origin = origin;
    this.#wire = new Wire(origin, { ...options, connections: SMALL_AT_ONCE + largeAtOnce });
    const authorizer = options.authorize(plainFetch(this.#wire, origin), origin);
    const redirects = new Redirects(this.#wire, origin, clock);
    const observer = new Observer(redirects, origin, (answer) => observe?.(answer));
    const authorization = new Authorization(observer, authorizer, origin);
    const hint: Authorizer['hint'] = (code, operation) => authorizer.hint(code, operation);
    const acceptance = new Acceptance(authorization, { origin, clock, hint });
    const begun = new Deadlines(acceptance, { clock: timeoutClock, body: false });
    const whole = new Deadlines(acceptance, { clock: timeoutClock, body: true });
    const large = new Limit(largeAtOnce);
    const backoff = options.backoff ?? new HostBackoff(clock);
    // one that waited for its turn waits for a pause that began meanwhile too
    const limited = (inner: Layer, limit: Limit): Layer => new Limits(new Pauses(inner, { backoff, clock }), limit);
    this.#opening = new Retries(limited(begun, large), { clock, report });
    this.#sendingSmall = new Retries(new WholeBody(limited(whole, new Limit(SMALL_AT_ONCE))), { clock, report });
    this.#sendingLarge = new Retries(new WholeBody(limited(whole, large)), { clock, report });
  }

  /** An answer with its whole body, which is at most `limit` bytes: more is UNSUPPORTED. A body that breaks is asked for again. */
  async send(
    request: HttpRequest,
    options: Abortable & { readonly limit?: number } = {},
  ): Promise<HttpAnswer & { readonly bytes: Buffer }> {
    const { limit = MAX_REFUSAL_BYTES } = options;
    const stack = isStreamed(request.body) ? this.#sendingLarge : this.#sendingSmall;
    return stack.send({ ...request, limit }, options);
  }

  /** An answer whose body must be iterated or discarded: it occupies a connection until its end, or until the iteration is left. */
  async open(
    request: HttpRequest,
    options: Abortable = {},
  ): Promise<HttpAnswer & { readonly body: Bytes; readonly discard: () => void }> {
    return this.#opening.send(request, options);
  }

  /** The URL that a Location or Link stands for, seen from `from`. UNSUPPORTED when it leads where a registry has no business to lead. */
  lead(what: string, location: string, from: URL): URL {
    return this.#origin.lead(what, location, from);
  }

  /** Breaks off what is under way and closes every connection. */
  async close(): Promise<void> {
    await this.#wire.close();
  }
}
