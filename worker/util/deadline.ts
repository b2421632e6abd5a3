import type { Clock } from './clock.ts';
import type { Failure } from './failure.ts';

/** A limit of time for some work. Disposing ends it, and leaves nothing running. */
interface Deadline extends AsyncDisposable {
  /** Fires with the reason when the time is over. */
  readonly signal: AbortSignal;
}

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
      done.abort();
      await timer;
    },
  };
}
