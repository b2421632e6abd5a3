import type { Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import { Failure, type Code } from '../../util/failure.ts';
import { isAccepted, refusalText, type Answer, type HttpRequest, type Layer, type Operation } from './layer.ts';
import type { Origin } from './origin.ts';
import { failureOf } from './refusal.ts';

export interface AcceptanceOptions {
  readonly origin: Origin;
  readonly clock: Clock;
  /** What to do about a refusal by the registry itself; undefined where nothing is known. */
  readonly hint: (code: Code, operation: Operation) => string | undefined;
}

/** Returns the answers that a request accepts, and turns every other into a Failure that names the host, the status and the reason. */
export class Acceptance implements Layer {
  readonly #inner: Layer;
  readonly #options: AcceptanceOptions;

  constructor(inner: Layer, options: AcceptanceOptions) {
    this.#inner = inner;
    this.#options = options;
  }

  async send(request: HttpRequest, options: Abortable): Promise<Answer> {
    const answer = await this.#inner.send(request, options);
    if (isAccepted(request, answer)) return answer;
    throw await this.#failure(request, answer, options);
  }

  async #failure(request: HttpRequest, answer: Answer, options: Abortable): Promise<Failure> {
    const { origin, clock, hint } = this.#options;
    const own = origin.isOwn(answer.url);
    const { text, brokeOff } = await refusalText(answer, options);
    const failure = failureOf({
      what: request.what,
      method: request.method,
      status: answer.status,
      elsewhere: own ? undefined : answer.url.host,
      header: answer.header,
      text,
      nowMs: clock.now(),
      renewed: answer.renewed === true,
      hint: (code) => (own && !brokeOff ? hint(code, request.operation) : undefined),
    });
    // the missing part may have named a cause that a retry removes: a repository to be created, a token that expired. docker-registry breaks off each
    // 416, whose status is enough
    return brokeOff && !failure.retryable && answer.status !== 416
      ? new Failure('UNAVAILABLE', `${failure.message}, and broke off before it gave the reason`)
      : failure;
  }
}
