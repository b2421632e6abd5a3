import { describe, expect, test } from 'vitest';
import { Failure, type Code } from '../../../worker/util/failure.ts';
import type { Event } from '../../../worker/util/events.ts';
import { MAX_RETRY_AFTER_MS, retry, retryDelayMs } from '../../../worker/util/retry.ts';
import { fakeClock } from '../../support/clock.ts';

/** Fails with `failures` in turn, then succeeds; counts its calls. */
function failingWith(...failures: readonly unknown[]): { work: (attempt: number) => Promise<string>; calls: number[] } {
  const calls: number[] = [];
  const work = async (attempt: number): Promise<string> => {
    calls.push(attempt);
    const failure = failures[calls.length - 1];
    // oxlint-disable-next-line typescript/only-throw-error -- what others throw is the point here
    if (failure !== undefined) throw failure;
    return 'done';
  };
  return { work, calls };
}

const unavailable = (retryAfterMs?: number): Failure =>
  new Failure('UNAVAILABLE', 'get a: 503', { context: { retryAfterMs } });

describe('retry', () => {
  test('returns the result of the work, without waiting when it succeeds at once', async () => {
    const clock = fakeClock();
    const { work, calls } = failingWith();
    await expect(retry('get a', work, { clock })).resolves.toBe('done');
    expect(calls).toEqual([1]);
    expect(clock.sleeps).toEqual([]);
  });

  test.each<[Code, boolean]>([
    ['NOT_FOUND', false],
    ['UNAUTHENTICATED', false],
    ['DENIED', false],
    ['CONFLICT', false],
    ['INVALID', false],
    ['UNSUPPORTED', false],
    ['CORRUPT', false],
    ['THROTTLED', true],
    ['UNAVAILABLE', true],
    ['ABORTED', false],
    ['BUG', false],
  ])('retries after %s: %s', async (code, again) => {
    const clock = fakeClock();
    const failure = new Failure(code, 'get a: failed');
    const { work, calls } = failingWith(failure);
    if (again) await expect(retry('get a', work, { clock })).resolves.toBe('done');
    else await expect(retry('get a', work, { clock })).rejects.toBe(failure);
    expect(calls).toEqual(again ? [1, 2] : [1]);
    expect(clock.sleeps).toHaveLength(again ? 1 : 0);
  });

  test('never repeats work that failed by a bug', async () => {
    const mistake = new TypeError('x is undefined');
    const { work, calls } = failingWith(mistake);
    await expect(retry('get a', work, { clock: fakeClock() })).rejects.toBe(mistake);
    expect(calls).toEqual([1]);
  });

  test('gives up after the attempts with the last failure', async () => {
    const clock = fakeClock();
    const failures = Array.from({ length: 10 }, (_, i) => new Failure('UNAVAILABLE', `failure ${i + 1}`));
    const { work, calls } = failingWith(...failures);
    await expect(retry('get a', work, { clock })).rejects.toBe(failures[5]);
    expect(calls).toEqual([1, 2, 3, 4, 5, 6]);
    expect(clock.sleeps).toHaveLength(5);
    const once = failingWith(...failures);
    await expect(retry('get a', once.work, { clock, attempts: 1 })).rejects.toBe(failures[0]);
    expect(once.calls).toEqual([1]);
  });

  test('waits twice as long each time, half of it at random, up to the longest wait', async () => {
    for (let seed = 1; seed <= 50; seed++) {
      const clock = fakeClock({ seed });
      const { work } = failingWith(...Array.from({ length: 9 }, () => unavailable()));
      await retry('get a', work, { clock, attempts: 10, maxDelayMs: 5000 });
      for (const [i, ceiling] of [200, 400, 800, 1600, 3200, 5000, 5000, 5000, 5000].entries()) {
        expect(clock.sleeps[i]).toBeGreaterThanOrEqual(ceiling / 2);
        expect(clock.sleeps[i]).toBeLessThanOrEqual(ceiling);
      }
    }
    const waits = [1, 2, 3].map((seed) => retryDelayMs(unavailable(), 5, fakeClock({ seed })));
    expect(new Set(waits).size).toBe(3);
  });

  test('waits for as long as the server asked, even beyond the longest wait of its own', async () => {
    const clock = fakeClock();
    const { work } = failingWith(unavailable(31_000), unavailable(MAX_RETRY_AFTER_MS), unavailable(1));
    await retry('get a', work, { clock, maxDelayMs: 1000 });
    expect(clock.sleeps.slice(0, 2)).toEqual([31_000, MAX_RETRY_AFTER_MS]);
    expect(clock.sleeps[2]).toBeGreaterThanOrEqual(400); // the server asked for less than backoff would wait
  });

  test('does not wait for hours: the caller gets the failure and may retry later', async () => {
    const clock = fakeClock();
    const failure = unavailable(MAX_RETRY_AFTER_MS + 1);
    await expect(retry('get a', failingWith(failure).work, { clock })).rejects.toBe(failure);
    expect(clock.sleeps).toEqual([]);
  });

  test('reports for each wait the work, the reason and the duration', async () => {
    const clock = fakeClock();
    const events: Event[] = [];
    await retry('get a', failingWith(unavailable(), new Failure('THROTTLED', 'get a: 429')).work, {
      clock,
      report: (event) => events.push(event),
    });
    expect(events).toEqual([
      {
        type: 'retry',
        what: 'get a',
        attempt: 1,
        delayMs: clock.sleeps[0],
        code: 'UNAVAILABLE',
        message: 'get a: 503',
      },
      { type: 'retry', what: 'get a', attempt: 2, delayMs: clock.sleeps[1], code: 'THROTTLED', message: 'get a: 429' },
    ]);
  });

  test('does not begin when the signal is already aborted', async () => {
    const { work, calls } = failingWith();
    await expect(retry('get a', work, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORTED' });
    expect(calls).toEqual([]);
  });

  test('ends with ABORTED when the signal aborts during a wait', async () => {
    const stop = new AbortController();
    const clock = fakeClock({ onSleep: () => stop.abort() });
    const { work, calls } = failingWith(unavailable(), unavailable());
    await expect(retry('get a', work, { clock, signal: stop.signal })).rejects.toMatchObject({ code: 'ABORTED' });
    expect(calls).toEqual([1]);
    expect(clock.sleeps).toHaveLength(1);
  });

  test('reports no retry that will not happen, when work fails because it was aborted', async () => {
    const stop = new AbortController();
    const events: Event[] = [];
    const work = async (): Promise<never> => {
      // as when the failure of another blob stops this one: the reason of the signal is a failure that could be retried
      stop.abort(unavailable());
      throw unavailable();
    };
    const retrying = retry('get a', work, { clock: fakeClock(), signal: stop.signal, report: (e) => events.push(e) });
    await expect(retrying).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(events).toEqual([]);
  });
});
