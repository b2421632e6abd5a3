import type { Abortable } from './abort.ts';
import { checkAborted } from './abort.ts';
import { systemClock, type Clock } from './clock.ts';
import { describeFailure, isFailure, type Failure } from './failure.ts';
import type { Report } from './events.ts';

export interface RetryOptions extends Abortable {
  /** Tries in all, the first included. Default 6. */
  readonly attempts?: number;
  /** The longest wait that backoff itself chooses, in milliseconds. Default 20,000. */
  readonly maxDelayMs?: number;
  readonly clock?: Clock | undefined;
  readonly report?: Report | undefined;
}

const FIRST_DELAY_MS = 200;
/** A server may ask for more than backoff would wait; beyond this the failure is handed to the caller, which can requeue. */
export const MAX_RETRY_AFTER_MS = 120_000;

/**
 * Runs `work` until it succeeds, fails permanently, or the attempts are used up. Only failures with `retryable` are tried again,
 * after an exponential wait, half of it by chance, or after the wait that the server asked for. `work` must be safe to repeat.
 */
export async function retry<T>(
  what: string,
  work: (attempt: number) => Promise<T>,
  options: RetryOptions = {},
): Promise<T> {
  const { attempts = 6, clock = systemClock } = options;
  for (let attempt = 1; ; attempt++) {
    checkAborted(options);
    try {
      return await work(attempt);
    } catch (error) {
      if (!isFailure(error) || !error.retryable || attempt >= attempts) throw error;
      checkAborted(options); // it may have failed because it was stopped: that is not a retry
      const delayMs = retryDelayMs(error, attempt, clock, options.maxDelayMs);
      if (delayMs > MAX_RETRY_AFTER_MS) throw error;
      options.report?.({ type: 'retry', what, attempt, delayMs, code: error.code, message: describeFailure(error) });
      await clock.sleep(delayMs, options);
    }
  }
}

/** The wait before the next attempt, in milliseconds. */
export function retryDelayMs(failure: Failure, attempt: number, clock: Clock, maxDelayMs = 20_000): number {
  const ceiling = Math.min(maxDelayMs, FIRST_DELAY_MS * 2 ** (attempt - 1));
  const backoff = Math.ceil(ceiling / 2 + clock.random() * (ceiling / 2));
  return Math.max(backoff, failure.context.retryAfterMs ?? 0);
}
