import { describe, expect, test } from 'vitest';
import { Pace, PullBudget } from '../../../worker/registry/rate.ts';
import { isFailure } from '../../../worker/util/failure.ts';
import { MAX_RETRY_AFTER_MS } from '../../../worker/util/retry.ts';
import { fakeClock } from '../../support/clock.ts';

describe('Pace', () => {
  test('lets a burst pass at once, then one after the other', async () => {
    const clock = fakeClock();
    const begun = clock.now();
    const pace = new Pace(10, clock);
    const starts: number[] = [];
    for (let i = 0; i < 25; i++) {
      await pace.take({});
      starts.push(clock.now() - begun);
    }
    expect(starts.slice(0, 10)).toEqual(Array.from({ length: 10 }, () => 0));
    expect(starts.slice(10)).toEqual(Array.from({ length: 15 }, (_, i) => (i + 1) * 100));
  });

  test('never lets more pass in any second than a bucket of that size would', async () => {
    const clock = fakeClock();
    const pace = new Pace(10, clock);
    const starts: number[] = [];
    for (let i = 0; i < 100; i++) {
      if (i === 40) await clock.sleep(3000);
      if (i === 55) await clock.sleep(250);
      await pace.take({});
      starts.push(clock.now());
    }
    for (const [i, at] of starts.entries()) {
      const within = starts.slice(i).filter((other) => other - at < 1000).length;
      expect(within).toBeLessThanOrEqual(20);
    }
    expect(starts.at(-1)).toBeGreaterThan((starts[0] ?? 0) + 6000);
  });

  test('serves concurrent requests in their order', async () => {
    const clock = fakeClock();
    const begun = clock.now();
    const pace = new Pace(1, clock);
    const order: number[] = [];
    await Promise.all([1, 2, 3].map(async (n) => pace.take({}).then(() => order.push(n))));
    expect(order).toEqual([1, 2, 3]);
    expect(clock.now() - begun).toBe(2000);
  });
});

describe('PullBudget', () => {
  const admitted = (budget: PullBudget): boolean => {
    try {
      budget.admit('read manifest a')();
      return true;
    } catch (error) {
      if (isFailure(error, 'THROTTLED')) return false;
      throw error;
    }
  };

  test('lets everything pass while the registry reports no limit', () => {
    const budget = new PullBudget(fakeClock());
    budget.observe(undefined);
    budget.observe('1');
    expect(admitted(budget)).toBe(true);
  });

  test('stops before the last pull, with one sentence of advice', () => {
    const budget = new PullBudget(fakeClock());
    budget.observe('2;w=21600');
    expect(admitted(budget)).toBe(true);
    budget.observe('1;w=21600');
    expect(() => budget.admit('read manifest a')).toThrow(
      "read manifest a: the registry's pull limit of 6 hours is used up; sign in with an account that has a higher one, or try again later",
    );
  });

  test('does not wait on the spot', () => {
    const budget = new PullBudget(fakeClock());
    budget.observe('0;w=21600');
    expect(budget.exhausted('read manifest a').context.retryAfterMs).toBeGreaterThan(MAX_RETRY_AFTER_MS);
  });

  test('counts requests in transit', () => {
    const budget = new PullBudget(fakeClock());
    budget.observe('3;w=60');
    const first = budget.admit('a');
    const second = budget.admit('b');
    expect(admitted(budget)).toBe(false);
    first();
    first();
    expect(admitted(budget)).toBe(true);
    second();
  });

  test('asks again when its information is old', async () => {
    const clock = fakeClock();
    const budget = new PullBudget(clock);
    budget.observe('0;w=21600');
    expect(budget.stale).toBe(false);
    await clock.sleep(60_000);
    expect(budget.stale).toBe(true);
    budget.observe('90;w=21600');
    expect(budget.stale).toBe(false);
    expect(admitted(budget)).toBe(true);
  });
});
