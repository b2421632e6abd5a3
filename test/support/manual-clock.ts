import { aborted, checkAborted } from '../../worker/util/abort.ts';
import type { Clock } from '../../worker/util/clock.ts';

/** A clock that stands still until it is told to go on. */
export interface ManualClock extends Clock {
  /** How many wait for it. */
  readonly waiting: number;
  /** Goes on by `ms`, and wakes those whose time has come, in order. */
  advance(ms: number): void;
}

export function manualClock(): ManualClock {
  let nowMs = Date.UTC(2026, 0, 1);
  const sleepers = new Map<() => void, number>();
  return {
    get waiting() {
      return sleepers.size;
    },
    now: () => nowMs,
    random: () => 0.5,
    sleep: async (ms, o) => {
      checkAborted(o);
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const signal = o?.signal;
      const onAbort = (): void => {
        if (signal !== undefined) reject(aborted(signal));
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      sleepers.set(resolve, nowMs + ms);
      try {
        await promise;
      } finally {
        sleepers.delete(resolve);
        signal?.removeEventListener('abort', onAbort);
      }
    },
    advance: (ms) => {
      nowMs += ms;
      const due = [...sleepers].filter(([, atMs]) => atMs <= nowMs).sort(([, a], [, b]) => a - b);
      for (const [wake] of due) wake();
    },
  };
}
