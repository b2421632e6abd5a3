import type { Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import { within } from '../util/deadline.ts';
import { isFailure } from '../util/failure.ts';
import type { Service } from './service.ts';

/** A part that has not answered by then may still answer later. */
const WAIT_MS = 20_000;

/**
 * Asks the table and the queues once. Throws a permanent failure, such as NOT_FOUND, DENIED or UNAUTHENTICATED: a process that is deployed
 * wrongly ends, instead of reporting it again and again. Any other failure may pass, and is left to the calls that follow.
 */
export async function expectService(
  { state, queue, requests, deadLetters, large }: Service,
  options: Abortable & { readonly clock: Clock },
): Promise<void> {
  const queues = [queue, requests, deadLetters, large?.queue].filter((one) => one !== undefined);
  const expect = async (ask: (options: Abortable) => Promise<unknown>): Promise<void> => {
    try {
      await within(WAIT_MS, ask, options);
    } catch (error) {
      if (options.signal?.aborted !== true && !(isFailure(error) && error.retryable)) throw error;
    }
  };
  await Promise.all([
    expect(async ({ signal }) => state.rules.access({ signal })),
    ...queues.map(async (one) => expect(async ({ signal }) => one.count({ signal }))),
  ]);
}
