import { expect, test } from 'vitest';
import { Batches } from '../../../worker/util/batches.ts';

test('combines work that arrives in one moment or while a batch runs, as many batches at once as allowed', async () => {
  const done: (readonly number[])[] = [];
  const gates = Array.from({ length: 3 }, () => Promise.withResolvers<void>());
  const batches = new Batches<number, string>(3, async (items) => {
    await gates[done.push(items) - 1]?.promise;
    return items.map((item) => `done ${item}`);
  });
  const first = [batches.add(1), batches.add(2)];
  await Promise.resolve();
  await Promise.resolve();
  const later = [3, 4, 5, 6].map(async (item) => batches.add(item));
  expect(batches.isIdle).toBe(false);
  gates[0]?.resolve();
  expect(await Promise.all(first)).toEqual(['done 1', 'done 2']);
  gates[1]?.resolve();
  gates[2]?.resolve();
  expect(await Promise.all(later)).toEqual(['done 3', 'done 4', 'done 5', 'done 6']);
  expect(done).toEqual([[1, 2], [3, 4, 5], [6]]);
  expect(batches.isIdle).toBe(true);
});

test('fails for the members of a failed batch, and continues with the next', async () => {
  let calls = 0;
  const batches = new Batches<number, number>(2, async (items) => {
    if (++calls === 1) throw new Error('away');
    return items;
  });
  const all = await Promise.allSettled([1, 2, 3].map(async (item) => batches.add(item)));
  expect(all.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'fulfilled']);
});
