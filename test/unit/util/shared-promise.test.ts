import { expect, test } from 'vitest';
import { SharedPromise } from '../../../worker/util/shared-promise.ts';

test('starts the work once for all that ask while it runs, and after it succeeded', async () => {
  const shared = new SharedPromise<number>();
  let started = 0;
  const start = async (): Promise<number> => ++started;
  expect(await Promise.all([shared.get(start), shared.get(start)])).toEqual([1, 1]);
  expect(await shared.get(start)).toBe(1);
});

test('forgets work that failed: the next caller starts it again', async () => {
  const shared = new SharedPromise<number>();
  await expect(shared.get(async () => Promise.reject(new Error('away')))).rejects.toThrow('away');
  expect(shared.current).toBeUndefined();
  expect(await shared.get(async () => 2)).toBe(2);
});

test('a failure of replaced work does not forget what took its place', async () => {
  const shared = new SharedPromise<number>();
  const first = Promise.withResolvers<number>();
  const failing = shared.get(() => first.promise);
  const second = shared.replace(Promise.resolve(2));
  first.reject(new Error('late'));
  await expect(failing).rejects.toThrow('late');
  expect(shared.current).toBe(second);
  shared.forget(failing);
  expect(shared.current).toBe(second);
  shared.forget();
  expect(shared.current).toBeUndefined();
});
