import { expect, test } from 'vitest';
import { HostBackoff, Pauses } from '../../../../worker/registry/transport/pauses.ts';
import { Failure } from '../../../../worker/util/failure.ts';
import { fakeClock } from '../../../support/clock.ts';
import { fakeLayer, READ } from '../../../support/fake-layer.ts';

const refusal = (retryAfterMs?: number): Failure =>
  new Failure('THROTTLED', 'too many requests', { context: { status: 429, retryAfterMs } });

test('one refused request makes every other request to the host wait, also those of the other side', async () => {
  const clock = fakeClock();
  const backoff = new HostBackoff(clock);
  const source = new Pauses(fakeLayer(refusal(5000)), { backoff, clock });
  const target = new Pauses(fakeLayer({}, {}), { backoff, clock });
  await target.send(READ, {});
  expect(clock.sleeps).toEqual([]);
  await expect(source.send(READ, {})).rejects.toMatchObject({ code: 'THROTTLED' });
  await target.send(READ, {});
  expect(clock.sleeps).toEqual([5000]);
});

test('refusals of concurrent requests are one pause; later refusals make the next pause longer', async () => {
  const clock = fakeClock();
  const backoff = new HostBackoff(clock);
  const layer = new Pauses(fakeLayer(...Array.from({ length: 4 }, () => refusal()), {}, refusal(), {}), {
    backoff,
    clock,
  });
  const send = async (): Promise<unknown> => layer.send(READ, {}).catch(() => undefined);
  await Promise.all([send(), send(), send()]);
  await send();
  await send();
  await send();
  await send();
  expect(clock.sleeps).toEqual([100, 200, 100]);
});

test('a pause lasts at most 30 seconds, and ends for a caller that is aborted', async () => {
  const clock = fakeClock();
  const backoff = new HostBackoff(clock);
  const layer = new Pauses(fakeLayer(refusal(3_600_000), {}), { backoff, clock });
  await expect(layer.send(READ, {})).rejects.toThrow('too many');
  await expect(layer.send(READ, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORTED' });
  await layer.send(READ, {});
  expect(clock.sleeps).toEqual([30_000]);
});

test('a pull limit that is known before a request is sent pauses nothing', async () => {
  const clock = fakeClock();
  const known = new Failure('THROTTLED', 'used up', { context: { retryAfterMs: 600_000 } });
  const layer = new Pauses(fakeLayer(known, {}), { backoff: new HostBackoff(clock), clock });
  await expect(layer.send(READ, {})).rejects.toThrow('used up');
  await layer.send(READ, {});
  expect(clock.sleeps).toEqual([]);
});
