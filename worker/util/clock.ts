import { aborted, checkAborted, type Abortable } from './abort.ts';

/** Time and chance, injected so that tests decide them. The only place that asks the machine for either. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Resolves after `ms` milliseconds; rejects with ABORTED when the signal fires first. `background`: it does not keep the process running. */
  sleep(ms: number, options?: Abortable & { readonly background?: boolean }): Promise<void>;
  /** A number in [0, 1). */
  random(): number;
  /** Milliseconds since this thread began, by a clock that is never set. Absent: not known. */
  steadyMs?(): number;
  /** Milliseconds that this thread has been idle since it began. Absent: not known. */
  idleMs?(): number;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  random: () => Math.random(),
  steadyMs: () => performance.now(),
  idleMs: () => performance.eventLoopUtilization().idle,
  sleep: async (ms, options) => {
    checkAborted(options);
    const signal = options?.signal;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, ms);
    if (options?.background === true) timer.unref();
    const onAbort = (): void => {
      if (signal !== undefined) reject(aborted(signal));
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    }
  },
};
