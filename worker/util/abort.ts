import { Failure } from './failure.ts';

/** The last option of every call that waits. When the signal fires the call rejects with ABORTED and leaves nothing running. */
export interface Abortable {
  readonly signal?: AbortSignal | undefined;
}

/** Throws ABORTED when the signal has fired, with its reason as the cause. */
export function checkAborted(options: Abortable | undefined): void {
  if (options?.signal?.aborted === true) throw aborted(options.signal);
}

/** The Failure for a signal that has fired; a reason that is a Failure already is handed on as it is. */
export function aborted(signal: AbortSignal): Failure {
  const reason: unknown = signal.reason;
  return reason instanceof Failure ? reason : new Failure('ABORTED', 'stopped', { cause: reason });
}

/** Fires with the first of those that there are. */
export function anyOf(...signals: readonly (AbortSignal | undefined)[]): AbortSignal {
  return AbortSignal.any(signals.filter((signal) => signal !== undefined));
}

/** Settles as `promise` does, or rejects with ABORTED as soon as the signal fires. The work of `promise` must stop by itself. */
export async function orAborted<T>(promise: Promise<T>, options: Abortable | undefined): Promise<T> {
  const signal = options?.signal;
  if (signal === undefined) return promise;
  promise.catch(() => undefined); // handled below, or no caller waits for it any more
  checkAborted(options);
  const { promise: stopped, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(aborted(signal));
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, stopped]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
