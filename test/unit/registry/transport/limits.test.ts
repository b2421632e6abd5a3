import { expect, test } from 'vitest';
import { Limits } from '../../../../worker/registry/transport/limits.ts';
import { Failure } from '../../../../worker/util/failure.ts';
import { Limit } from '../../../../worker/util/limit.ts';
import { fakeLayer, READ } from '../../../support/fake-layer.ts';

test('counts a request until its exchange is over', async () => {
  const first = Promise.withResolvers<void>();
  const inner = fakeLayer({ ended: first.promise }, {});
  const layer = new Limits(inner, new Limit(1));
  await layer.send(READ, {});
  const second = layer.send(READ, {});
  await new Promise((resolve) => setImmediate(resolve));
  expect(inner.requests).toHaveLength(1);
  first.resolve();
  await second;
});

test('does not count a request that failed', async () => {
  const layer = new Limits(fakeLayer(new Failure('UNAVAILABLE', 'broken'), {}), new Limit(1));
  await expect(layer.send(READ, {})).rejects.toThrow('broken');
  expect((await layer.send(READ, {})).status).toBe(200);
});

test('waits for admission of the request, and takes no place while it waits', async () => {
  const limit = new Limit(1);
  const gate = Promise.withResolvers<void>();
  const inner = fakeLayer({});
  const sending = new Limits(inner, limit).send({ ...READ, admit: async () => gate.promise }, {});
  await new Promise((resolve) => setImmediate(resolve));
  const giveBack = limit.tryTake();
  expect([inner.requests.length, giveBack === undefined]).toEqual([0, false]);
  giveBack?.();
  gate.resolve();
  await sending;
});

test('stops waiting when the signal aborts', async () => {
  const limit = new Limit(1);
  await limit.take();
  const stop = new AbortController();
  const sending = new Limits(fakeLayer(), limit).send(READ, { signal: stop.signal });
  stop.abort();
  await expect(sending).rejects.toMatchObject({ code: 'ABORTED' });
});
