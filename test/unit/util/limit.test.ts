import { getEventListeners } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Failure } from '../../../worker/util/failure.ts';
import { forEachOf, Limit } from '../../../worker/util/limit.ts';

describe('a limit', () => {
  test('lets as much pass at once as it has, and the next when something is given back', async () => {
    const limit = new Limit(2);
    const first = await limit.take();
    await limit.take();
    let third = false;
    const waiting = limit.take().then(() => (third = true));
    await turn();
    expect(third).toBe(false);
    first();
    await waiting;
    expect(third).toBe(true);
  });

  test('serves in the order of asking, so that small requests do not starve large ones', async () => {
    const limit = new Limit(4);
    const held = await limit.take(3);
    const order: string[] = [];
    const ask = async (name: string, amount: number): Promise<void> => {
      const giveBack = await limit.take(amount);
      order.push(name);
      giveBack();
    };
    const large = ask('large', 4);
    const small = ask('small', 1);
    expect(limit.tryTake(1)).toBeUndefined(); // one is free, but others were first
    await turn();
    expect(order).toEqual([]);
    held();
    await Promise.all([large, small]);
    expect(order).toEqual(['large', 'small']);
  });

  test('takes back the same thing only once', async () => {
    const limit = new Limit(2);
    const giveBack = await limit.take(2);
    giveBack();
    giveBack();
    expect(limit.tryTake(2)).toBeTypeOf('function');
    expect(limit.tryTake(1)).toBeUndefined();
  });

  test('is exceeded at once by work that must not wait, which the others wait for', async () => {
    const limit = new Limit(2);
    const giveBack = [limit.takeNow(2), limit.takeNow(1)];
    let passed = false;
    const waiting = limit.take().then(() => (passed = true));
    giveBack[1]?.();
    await turn();
    expect(passed).toBe(false);
    giveBack[0]?.();
    await waiting;
  });

  test('counts more than it has as all it has', async () => {
    const limit = new Limit(3);
    const giveBack = await limit.take(1000);
    expect(limit.tryTake(1)).toBeUndefined();
    giveBack();
    expect(limit.tryTake(3)).toBeTypeOf('function');
  });

  test.each([0, -1, Number.NaN])('of %s is refused when it is made: nothing would ever pass', (capacity) => {
    expect(() => new Limit(capacity)).toThrow(expect.objectContaining({ code: 'BUG' }));
  });

  test.each([-1, Number.NaN])('refuses to hand out %s, which could never be given back', async (amount) => {
    const limit = new Limit(1);
    await expect(limit.take(amount)).rejects.toMatchObject({ code: 'BUG' });
    expect(() => limit.tryTake(amount)).toThrow(expect.objectContaining({ code: 'BUG' }));
    expect(limit.tryTake(1)).toBeTypeOf('function');
  });

  test('hands out nothing once the signal is aborted', async () => {
    const limit = new Limit(1);
    await expect(limit.take(1, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORTED' });
    expect(limit.tryTake(1)).toBeTypeOf('function');
  });

  test('forgets a caller that is aborted while waiting, and serves the next ones', async () => {
    const limit = new Limit(2);
    const held = await limit.take(1);
    const stop = new AbortController();
    const large = limit.take(2, stop);
    const small = limit.take(1);
    stop.abort(new Failure('ABORTED', 'interrupted'));
    await expect(large).rejects.toMatchObject({ code: 'ABORTED', message: 'interrupted' });
    (await small)(); // one was free all the time; only the large one was before it
    held();
    expect(limit.tryTake(2)).toBeTypeOf('function');
    expect(getEventListeners(stop.signal, 'abort')).toHaveLength(0);
  });

  test('removes no other caller from the queue when one is aborted that was served in the same turn', async () => {
    const limit = new Limit(1);
    const first = await limit.take();
    const stop = new AbortController();
    const second = limit.take(1, stop);
    const third = limit.take(1);
    first();
    stop.abort();
    (await second)();
    await expect(third).resolves.toBeTypeOf('function');
  });

  test('run holds one while working, and gives it back when work fails', async () => {
    const limit = new Limit(1);
    await expect(limit.run(async () => limit.tryTake(1))).resolves.toBeUndefined();
    await expect(limit.run(async () => Promise.reject(new Failure('DENIED', 'x')))).rejects.toMatchObject({
      code: 'DENIED',
    });
    await expect(limit.run(async () => 7, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORTED' });
    expect(limit.tryTake(1)).toBeTypeOf('function');
  });

  test('never hands out more than it has, serves in order, and has everything back in the end', async () => {
    const step = fc.record({ amount: fc.integer({ min: 0, max: 12 }), abort: fc.boolean(), release: fc.nat(5) });
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 10 }), fc.array(step, { maxLength: 30 }), async (capacity, steps) => {
        const limit = new Limit(capacity);
        const holding: { readonly amount: number; readonly giveBack: () => void }[] = [];
        const served: number[] = [];
        const asked: Promise<void>[] = [];
        for (const [i, { amount, abort, release }] of steps.entries()) {
          const stop = new AbortController();
          const ask = async (): Promise<void> => {
            const giveBack = await limit.take(amount, stop);
            served.push(i);
            holding.push({ amount: Math.min(amount, capacity), giveBack });
          };
          asked.push(ask().catch(() => undefined));
          if (release > 2) holding.splice(release % (holding.length + 1), 1)[0]?.giveBack();
          if (abort) stop.abort();
          await turn();
          expect(holding.reduce((sum, h) => sum + h.amount, 0)).toBeLessThanOrEqual(capacity);
        }
        for (let h = holding.shift(); h !== undefined; h = holding.shift()) {
          h.giveBack();
          await turn();
        }
        await Promise.all(asked);
        expect(served).toEqual([...served].sort((a, b) => a - b));
        expect(limit.tryTake(capacity)).toBeTypeOf('function');
      }),
      { numRuns: 60 },
    );
  });
});

describe('forEachOf', () => {
  test('handles every item once, starting in order, no more than the width at once', async () => {
    const started: number[] = [];
    let running = 0;
    let most = 0;
    await forEachOf(
      Array.from({ length: 20 }, (_, i) => i),
      3,
      async (i) => {
        started.push(i);
        most = Math.max(most, ++running);
        for (let turns = i % 4; turns > 0; turns--) await turn();
        running--;
      },
    );
    expect(started).toEqual(Array.from({ length: 20 }, (_, i) => i));
    expect(most).toBe(3);
  });

  test('is done at once with nothing to do', async () => {
    await expect(forEachOf([], 3, async () => expect.unreachable())).resolves.toBeUndefined();
  });

  test('after a failure starts nothing more, stops what runs, waits for its end and throws the first', async () => {
    const started: number[] = [];
    const ended: number[] = [];
    const failure = new Failure('CORRUPT', 'b is broken');
    const all = forEachOf([0, 1, 2, 3, 4, 5], 3, async (i, { signal }) => {
      started.push(i);
      if (i === 1) {
        await turn();
        throw failure;
      }
      const { promise, resolve } = Promise.withResolvers<void>();
      signal.addEventListener('abort', () => resolve());
      await promise;
      expect(signal.reason).toBe(failure);
      await turn(); // cleaning up takes its time
      ended.push(i);
      throw new Failure('ABORTED', `${i} was stopped`);
    });
    await expect(all).rejects.toBe(failure);
    expect(started).toEqual([0, 1, 2]);
    expect(ended).toEqual([0, 2]);
  });

  test('stops when it is aborted, and waits for what runs', async () => {
    const stop = new AbortController();
    const started: number[] = [];
    const ended: number[] = [];
    const all = forEachOf(
      [0, 1, 2, 3],
      2,
      async (i) => {
        started.push(i);
        await turn();
        stop.abort();
        await turn();
        ended.push(i);
      },
      stop,
    );
    await expect(all).rejects.toMatchObject({ code: 'ABORTED' });
    expect(started).toEqual([0, 1]);
    expect(ended).toEqual([0, 1]);
  });

  test('does not begin when the signal is already aborted', async () => {
    const all = forEachOf([1], 1, async () => expect.unreachable(), { signal: AbortSignal.abort() });
    await expect(all).rejects.toMatchObject({ code: 'ABORTED' });
  });

  test('stops and waits for what runs before it throws, when the items themselves fail', async () => {
    const ended: number[] = [];
    const failure = new Failure('UNAVAILABLE', 'the list broke off');
    function* items(): Iterable<number> {
      yield 0;
      throw failure;
    }
    const all = forEachOf(items(), 2, async (i, { signal }) => {
      await turn();
      expect(signal.aborted).toBe(true);
      ended.push(i);
    });
    await expect(all).rejects.toBe(failure);
    expect(ended).toEqual([0]);
  });

  test('releases items that it abandons', async () => {
    let closed = false;
    function* items(): Iterable<number> {
      try {
        for (let i = 0; ; i++) yield i;
      } finally {
        closed = true;
      }
    }
    await expect(
      forEachOf(items(), 2, async (i) => {
        if (i === 3) throw new Failure('DENIED', 'x');
      }),
    ).rejects.toMatchObject({ code: 'DENIED' });
    expect(closed).toBe(true);
  });

  test.each([0, -1, Number.NaN, 0.5])(
    'of width %s is refused: it would do nothing and report success',
    async (width) => {
      await expect(forEachOf([1], width, async () => undefined)).rejects.toMatchObject({ code: 'BUG' });
    },
  );
});
