import { anyOf, orAborted, type Abortable } from './abort.ts';
import type { Clock } from './clock.ts';
import { Failure } from './failure.ts';

/** A limit of time for some work. Disposing ends it, and leaves nothing running. */
interface Deadline extends AsyncDisposable {
  /** Fires with the reason when the time is over. */
  readonly signal: AbortSignal;
}

/** Shared, since making an error with its stack is a good part of what a small request costs. */
const ENDED = new Failure('ABORTED', 'the work ended in time');

/** `ms` from now; what is not above 0 is at once. `reason` is made when it is needed. */
export function deadline(ms: number, reason: () => Failure, clock: Clock): Deadline {
  const over = new AbortController();
  const done = new AbortController();
  const timer = clock.sleep(Math.max(0, ms), { signal: done.signal }).then(
    () => over.abort(reason()),
    () => undefined,
  );
  return {
    signal: over.signal,
    [Symbol.asyncDispose]: async () => {
      done.abort(ENDED);
      await timer;
    },
  };
}

/** What `work` resolves to. UNAVAILABLE after `ms`, even if `work` does not heed its signal and goes on. */
export async function within<T, O extends Abortable & { readonly clock: Clock }>(
  ms: number,
  work: (options: O) => Promise<T>,
  options: O,
): Promise<T> {
  const late = (): Failure => new Failure('UNAVAILABLE', `there was no answer within ${ms / 1000} seconds`);
  await using end = deadline(ms, late, options.clock);
  const signal = anyOf(options.signal, end.signal);
  return await orAborted(work({ ...options, signal }), { signal });
}
