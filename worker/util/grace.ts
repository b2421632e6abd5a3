import type { Abortable } from './abort.ts';
import type { Clock } from './clock.ts';

/**
 * Runs work that should not stop halfway: the signal that it gets fires `ms` after that of the caller. Work that ends before then is not disturbed.
 * Where the caller's signal has fired before, so has that of the work.
 */
export async function withGrace<T>(
  ms: number,
  work: (options: { readonly signal: AbortSignal }) => Promise<T>,
  options: Abortable & { readonly clock: Clock },
): Promise<T> {
  const { signal, clock } = options;
  const stop = new AbortController();
  const done = new AbortController();
  const onAbort = (): void => {
    clock.sleep(ms, { signal: done.signal }).then(
      () => stop.abort(signal?.reason),
      () => undefined,
    );
  };
  if (signal?.aborted === true) stop.abort(signal.reason);
  else signal?.addEventListener('abort', onAbort, { once: true });
  try {
    return await work({ signal: stop.signal });
  } finally {
    signal?.removeEventListener('abort', onAbort);
    done.abort();
  }
}
