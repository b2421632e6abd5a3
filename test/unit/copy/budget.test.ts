import { expect, test } from 'vitest';
import { CopyBudget } from '../../../worker/copy/budget.ts';
import { digestOf } from '../../../worker/oci/digest.ts';

const DIGEST = digestOf(Buffer.from('a layer'));

test('one copy at a time sends a blob to a place, and a later copy finds that another sent it', async () => {
  const budget = new CopyBudget(4);
  const { promise: first, resolve: finish } = Promise.withResolvers<void>();
  const seen: string[] = [];
  const send =
    (name: string, until: Promise<void> = Promise.resolve()) =>
    async (isLater: boolean) => {
      seen.push(`${name} begins ${isLater ? 'later' : 'first'}`);
      await until;
      seen.push(`${name} ends`);
    };
  const all = [
    budget.inTurn('r/app', DIGEST, send('a', first), {}),
    budget.inTurn('r/app', DIGEST, send('b'), {}),
    budget.inTurn('r/other', DIGEST, send('c'), {}),
    budget.inTurn(undefined, DIGEST, send('d'), {}),
  ];
  await Promise.all(all.slice(2));
  finish();
  await Promise.all(all);
  expect(seen.filter((line) => /^[ab]/.test(line))).toEqual(['a begins first', 'a ends', 'b begins later', 'b ends']);
  expect(seen.filter((line) => line.endsWith('later'))).toHaveLength(1);
});

test('a copy whose turn comes after a failed one sends the blob itself', async () => {
  const budget = new CopyBudget(1);
  const failing = budget.inTurn('r/app', DIGEST, async () => Promise.reject(new Error('broken')), {});
  const after = budget.inTurn('r/app', DIGEST, async (isLater) => expect(isLater).toBe(true), {});
  await expect(failing).rejects.toThrow('broken');
  await after;
});

test('a copy that is aborted while it waits for another returns at once', async () => {
  const budget = new CopyBudget(2);
  const { promise, resolve } = Promise.withResolvers<void>();
  const first = budget.inTurn('r/app', DIGEST, async () => promise, {});
  const stop = new AbortController();
  const second = budget.inTurn('r/app', DIGEST, () => expect.unreachable('it was stopped'), stop);
  stop.abort();
  await expect(second).rejects.toMatchObject({ code: 'ABORTED' });
  resolve();
  await first;
});

test('copies with budgets of their own share the memory to read ahead', () => {
  expect(new CopyBudget().ahead).toBe(new CopyBudget().ahead);
});
