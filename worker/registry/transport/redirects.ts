import { LRUCache } from 'lru-cache';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import { Failure } from '../../util/failure.ts';
import { isAccepted, refusalText, type Answer, type HttpRequest, type Layer } from './layer.ts';
import type { Origin } from './origin.ts';

const MAX_REDIRECTS = 5;
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
/** Presigned URLs live for minutes: GHCR's 5, https://github.com/containerd/stargz-snapshotter/issues/167 */
const REUSE_MS = 60_000;
const MAX_REMEMBERED = 1000;
/** What storage answers to a link that is too old, or was not made for this request. */
const EXPIRED: ReadonlySet<number> = new Set([400, 401, 403]);

/**
 * Follows redirects of requests that only read, to where the registry may lead. Remembers for a short time where it led, for requests that
 * allow that. A link that storage refuses is dropped, and the registry is asked for a new one, once.
 */
export class Redirects implements Layer {
  readonly #inner: Layer;
  readonly #origin: Origin;
  readonly #clock: Clock;
  readonly #remembered = new LRUCache<string, { readonly url: URL; readonly untilMs: number }>({ max: MAX_REMEMBERED });

  constructor(inner: Layer, origin: Origin, clock: Clock) {
    this.#inner = inner;
    this.#origin = origin;
    this.#clock = clock;
  }

  async send(request: HttpRequest, options: Abortable): Promise<Answer> {
    const answer = await this.#follow(request, options);
    if (!this.#isExpired(request, answer)) return answer;
    // read to its end before the request is sent again
    await refusalText(answer, options);
    this.#remembered.delete(keyOf(request));
    checkAborted(options);
    return this.#follow(request, options);
  }

  async #follow(request: HttpRequest, options: Abortable): Promise<Answer> {
    let url = this.#rememberedFor(request) ?? request.url;
    for (let hops = 0; ; hops++) {
      const answer = await this.#inner.send({ ...request, url }, options);
      const location = answer.header('location');
      const reads = request.method === 'GET' || request.method === 'HEAD';
      if (!reads || !REDIRECTS.has(answer.status) || location === undefined) return answer;
      answer.discard();
      if (hops === MAX_REDIRECTS)
        throw new Failure('UNSUPPORTED', `${request.what}: the registry redirects more than ${MAX_REDIRECTS} times`);
      url = this.#origin.lead(request.what, location, answer.url);
      if (request.reuseRedirect === true && !this.#origin.isOwn(url))
        this.#remembered.set(keyOf(request), { url, untilMs: this.#clock.now() + REUSE_MS });
    }
  }

  #isExpired(request: HttpRequest, answer: Answer): boolean {
    return !isAccepted(request, answer) && !this.#origin.isOwn(answer.url) && EXPIRED.has(answer.status);
  }

  #rememberedFor(request: HttpRequest): URL | undefined {
    if (request.reuseRedirect !== true) return undefined;
    const remembered = this.#remembered.get(keyOf(request));
    return remembered !== undefined && remembered.untilMs > this.#clock.now() ? remembered.url : undefined;
  }
}

function keyOf(request: HttpRequest): string {
  return String(request.url);
}
