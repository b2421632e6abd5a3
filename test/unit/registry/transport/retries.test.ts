import { expect, test } from 'vitest';
import { Retries } from '../../../../worker/registry/transport/retries.ts';
import type { Event } from '../../../../worker/util/events.ts';
import { Failure } from '../../../../worker/util/failure.ts';
import { chunked } from '../../../support/chunks.ts';
import { fakeClock } from '../../../support/clock.ts';
import { fakeLayer, READ } from '../../../support/fake-layer.ts';

const unavailable = (): Failure => new Failure('UNAVAILABLE', 'broken');

test('sends again what may succeed later, and reports each retry', async () => {
  const events: Event[] = [];
  const inner = fakeLayer(unavailable(), unavailable(), {});
  const layer = new Retries(inner, { clock: fakeClock(), report: (event) => events.push(event) });
  expect((await layer.send(READ, {})).status).toBe(200);
  expect(events.map(({ type }) => type)).toEqual(['retry', 'retry']);
});

test('sends once what fails permanently', async () => {
  const inner = fakeLayer(new Failure('NOT_FOUND', 'not there'));
  await expect(new Retries(inner, { clock: fakeClock() }).send(READ, {})).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

test.each([
  ['six times by default', READ, 6],
  ['as often as the request allows', { ...READ, attempts: 2 }, 2],
  ['once with a streamed body', { ...READ, body: { size: 4, open: () => chunked(Buffer.from('body'), 2) } }, 1],
])('sends %s', async (_, request, times) => {
  const inner = fakeLayer(...Array.from({ length: times }, unavailable));
  await expect(new Retries(inner, { clock: fakeClock() }).send(request, {})).rejects.toThrow('broken');
  expect(inner.requests).toHaveLength(times);
});
