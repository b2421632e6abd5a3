import { checkAborted, orAborted } from '../../worker/util/abort.ts';
import type { Clock } from '../../worker/util/clock.ts';

export interface FakeClock extends Clock {
  /** Every requested wait in milliseconds, in order. */
  readonly sleeps: readonly number[];
}

export interface FakeClockOptions {
  /** Equal seeds give equal random numbers. Default 1. */
  readonly seed?: number;
  /** The first result of `now`. Default: the first of January 2026. */
  readonly startMs?: number;
  /** Called during each wait, before it ends: the place to abort in the middle of one. */
  readonly onSleep?: (ms: number) => void;
}

/** A clock on which only sleeping passes time, and sleeping returns at once. */
export function fakeClock(options: FakeClockOptions = {}): FakeClock {
  const sleeps: number[] = [];
  let nowMs = options.startMs ?? Date.UTC(2026, 0, 1);
  let state = options.seed ?? 1;
  return {
    sleeps,
    now: () => nowMs,
    sleep: async (ms, abortable) => {
      checkAborted(abortable);
      sleeps.push(ms);
      options.onSleep?.(ms);
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

/** Like `fakeClock`, but a wait of a minute or more lasts until it is aborted: background work does not advance the clock. */
export function workClock(options: FakeClockOptions = {}): FakeClock {
  const clock = fakeClock(options);
  const never = new Promise<void>(() => undefined);
  return {
    ...clock,
    sleep: async (ms, abortable) => (ms < 60_000 ? clock.sleep(ms, abortable) : orAborted(never, abortable)),
  };
}

export interface ManualClock extends Clock {
  /** Advances the time, and ends the waits that are over, one after the other. Their effects in this process have happened afterwards. */
  advance(ms: number): Promise<void>;
  /** The number of current waits. */
  readonly sleeping: number;
}

/** A clock that stands until it is advanced, for background work. Its random numbers are constant. */
export function manualClock(startMs = Date.UTC(2026, 0, 1)): ManualClock {
  const sleepers = new Set<{ readonly untilMs: number; readonly wake: () => void }>();
  let nowMs = startMs;
  return {
    now: () => nowMs,
    random: () => 0.5,
    get sleeping() {
      return sleepers.size;
    },
    sleep: async (ms, options) => {
      checkAborted(options);
      const { promise, resolve } = Promise.withResolvers<void>();
      const sleeper = { untilMs: nowMs + ms, wake: resolve };
      sleepers.add(sleeper);
      try {
        await orAborted(promise, options);
      } finally {
        sleepers.delete(sleeper);
      }
    },
    advance: async (ms) => {
      const untilMs = nowMs + ms;
      for (;;) {
        await settled();
        const [next] = [...sleepers].filter((it) => it.untilMs <= untilMs).sort((a, b) => a.untilMs - b.untilMs);
        if (next === undefined) break;
        nowMs = Math.max(nowMs, next.untilMs);
        sleepers.delete(next);
        next.wake();
      }
      nowMs = untilMs;
    },
  };
}

/** Runs everything that is ready to run. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
}
