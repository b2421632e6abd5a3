import { anyOf, type Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import { deadline } from '../util/deadline.ts';
import { Failure, isFailure } from '../util/failure.ts';
import type { Service } from './service.ts';

/** What has not answered by then may answer later. */
const WAIT_MS = 20_000;

/**
 * Asks the table and the queues once. Throws a failure that is permanent, such as NOT_FOUND, DENIED or UNAUTHENTICATED: a process that is
 * deployed wrongly ends, instead of reporting it again and again. Any other failure may pass, and is left to the calls that follow.
 */
export async function expectService(
  { state, queue, requests, deadLetters }: Service,
  options: Abortable & { readonly clock: Clock },
): Promise<void> {
  const late = (): Failure => new Failure('UNAVAILABLE', `there was no answer within ${WAIT_MS / 1000} seconds`);
  await using end = deadline(WAIT_MS, late, options.clock);
  const signal = anyOf(options.signal, end.signal);
  const queues = requests === undefined ? [queue, deadLetters] : [queue, requests, deadLetters];
  const asked = [state.rules.access({ signal }), ...queues.map(async (one) => one.count({ signal }))];
  await Promise.all(
    asked.map(async (answer) => {
      try {
        await answer;
      } catch (error) {
        if (!signal.aborted && !(isFailure(error) && error.retryable)) throw error;
      }
    }),
  );
}
