import { getEventListeners } from 'node:events';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../../worker/util/clock.ts';
import { Failure } from '../../../worker/util/failure.ts';
import { fakeClock } from '../../support/clock.ts';

describe('the system clock', () => {
  test('returns the time since 1970 in milliseconds', () => {
    const before = Date.now();
    const now = systemClock.now();
    expect(now).toBeGreaterThanOrEqual(before);
    expect(now).toBeLessThanOrEqual(Date.now());
  });

  test('draws from [0, 1), not always the same', () => {
    const drawn = Array.from({ length: 50 }, () => systemClock.random());
    expect(Math.min(...drawn)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...drawn)).toBeLessThan(1);
    expect(new Set(drawn).size).toBeGreaterThan(1);
  });

  test('sleeps for as long as asked', async () => {
    const before = performance.now();
    await systemClock.sleep(5);
    // timers count whole milliseconds from the start of the turn, so one may seem to be missing
    expect(performance.now() - before).toBeGreaterThanOrEqual(3.5);
  });

  test('wakes at once when the signal aborts, and leaves neither timer nor listener', async () => {
    const stop = new AbortController();
    const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
    const before = timers();
    const sleeping = systemClock.sleep(3_600_000, stop);
    expect(timers()).toBe(before + 1);
    stop.abort(new Failure('ABORTED', 'interrupted'));
    await expect(sleeping).rejects.toMatchObject({ code: 'ABORTED', message: 'interrupted' });
    expect(timers()).toBe(before);
    expect(getEventListeners(stop.signal, 'abort')).toHaveLength(0);
  });

  test('does not begin to sleep when the signal is already aborted', async () => {
    await expect(systemClock.sleep(3_600_000, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'ABORTED',
    });
  });
});

describe('the clock of the tests', () => {
  test('records waits, passes their time at once and draws the same for the same seed', async () => {
    const clock = fakeClock({ seed: 7 });
    const before = clock.now();
    await clock.sleep(3_600_000);
    await clock.sleep(1);
    expect(clock.sleeps).toEqual([3_600_000, 1]);
    expect(clock.now() - before).toBe(3_600_001);
    const again = fakeClock({ seed: 7 });
    const drawn = Array.from({ length: 20 }, () => clock.random());
    expect(drawn).toEqual(Array.from({ length: 20 }, () => again.random()));
    expect(drawn.every((x) => x >= 0 && x < 1)).toBe(true);
    expect(new Set(drawn).size).toBe(20);
  });

  test('can be interrupted in the middle of a wait', async () => {
    const stop = new AbortController();
    const clock = fakeClock({ onSleep: () => stop.abort() });
    await expect(clock.sleep(5, stop)).rejects.toMatchObject({ code: 'ABORTED' });
    await expect(clock.sleep(5, stop)).rejects.toMatchObject({ code: 'ABORTED' });
    expect(clock.sleeps).toEqual([5]);
  });
});
