import { anyOf, type Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import { deadline } from '../../util/deadline.ts';
import { Failure } from '../../util/failure.ts';
import { isStreamed, type Answer, type HttpRequest, type Layer } from './layer.ts';

/** The most that one answer may take, with redirects and the bodies of refusals. */
const ANSWER_MS = 60_000;

/** What is limited. */
export interface DeadlinesOptions {
  readonly clock: Clock;
  /** Whether the body of the answer has to be there in time too. */
  readonly body: boolean;
}

/**
 * Gives up a request whose answer takes more than a minute in all. The timeouts of the wire begin anew with each piece that arrives, so a server that
 * sends a header line now and then would hold the request without end. A request with a streamed body has the wire's timeouts alone.
 */
export class Deadlines implements Layer {
  readonly #inner: Layer;
  readonly #options: DeadlinesOptions;

  constructor(inner: Layer, options: DeadlinesOptions) {
    this.#inner = inner;
    this.#options = options;
  }

  async send(request: HttpRequest, options: Abortable): Promise<Answer> {
    if (isStreamed(request.body)) return this.#inner.send(request, options);
    const { clock, body } = this.#options;
    const what = body ? 'was not whole' : 'did not begin';
    const reason = (): Failure => new Failure('UNAVAILABLE', `${request.what}: the answer ${what} within a minute`);
    const limit = deadline(ANSWER_MS, reason, clock);
    try {
      const answer = await this.#inner.send(request, { ...options, signal: anyOf(options.signal, limit.signal) });
      if (body) void answer.ended.then(async () => limit[Symbol.asyncDispose]());
      else await limit[Symbol.asyncDispose]();
      return answer;
    } catch (error) {
      await limit[Symbol.asyncDispose]();
      throw error;
    }
  }
}
