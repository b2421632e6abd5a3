import { checkAborted } from '../../worker/util/abort.ts';
import type { Clock } from '../../worker/util/clock.ts';

export interface FakeClock extends Clock {
  /** Every wait that was asked for, in milliseconds, in order. */
  readonly sleeps: readonly number[];
}

export interface FakeClockOptions {
  /** Equal seeds give equal chances. Default 1. */
  readonly seed?: number;
  /** Called during each wait, before it ends: the place to abort in the middle of one. */
  readonly onSleep?: (ms: number) => void;
}

/** A clock on which no time passes but what is slept, and sleeping takes none. */
export function fakeClock(o: FakeClockOptions = {}): FakeClock {
  const sleeps: number[] = [];
  let nowMs = Date.UTC(2026, 0, 1);
  let state = o.seed ?? 1;
  return {
    sleeps,
    now: () => nowMs,
    sleep: async (ms, abortable) => {
      checkAborted(abortable);
      sleeps.push(ms);
      o.onSleep?.(ms);
      checkAborted(abortable);
      nowMs += ms;
    },
    random: () => {
      // mulberry32
      state = (state + 0x6d2b79f5) | 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    },
  };
}
