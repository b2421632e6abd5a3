import type { Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import type { Report } from '../../util/events.ts';
import { retry } from '../../util/retry.ts';
import { isStreamed, type HttpRequest, type Layer } from './layer.ts';

export interface RetriesOptions {
  readonly clock: Clock;
  readonly report?: Report | undefined;
}

const ATTEMPTS = 6;

/** Sends a request again after a retryable failure. A streamed body is sent once: only its caller can begin a new upload. */
export class Retries<Request extends HttpRequest, Result> implements Layer<Request, Result> {
  readonly #inner: Layer<Request, Result>;
  readonly #options: RetriesOptions;

  constructor(inner: Layer<Request, Result>, options: RetriesOptions) {
    this.#inner = inner;
    this.#options = options;
  }

  async send(request: Request, options: Abortable): Promise<Result> {
    const attempts = isStreamed(request.body) ? 1 : (request.attempts ?? ATTEMPTS);
    const { clock, report } = this.#options;
    const work = async (): Promise<Result> => this.#inner.send(request, options);
    return retry(request.what, work, { attempts, clock, report, signal: options.signal });
  }
}
