import { expect, test } from 'vitest';
import { requestsFirst } from '../../../worker/queue/requests-first.ts';
import { manualClock } from '../../support/clock.ts';
import { MemoryQueue } from '../../support/memory-queue.ts';

test('receives requests before jobs that were sent earlier, and jobs without waiting for a request', async () => {
  const clock = manualClock();
  const [requests, jobs] = [new MemoryQueue({ clock }), new MemoryQueue({ clock })];
  const both = requestsFirst(requests, jobs, clock);
  await both.send([{ body: 'job 1' }, { body: 'job 2' }]);
  const next = async (): Promise<readonly string[]> => (await both.receive(1)).map(({ body }) => body);
  expect(await next()).toEqual(['job 1']);
  await requests.send([{ body: 'request' }]);
  await clock.advance(1000);
  expect(await next()).toEqual(['request']);
  expect(await next()).toEqual(['job 2']);
});

test('asks an empty queue of requests once a second, however many jobs there are', async () => {
  const clock = manualClock();
  const [requests, jobs] = [new MemoryQueue({ clock }), new MemoryQueue({ clock })];
  const both = requestsFirst(requests, jobs, clock);
  await both.send(Array.from({ length: 20 }, (_, i) => ({ body: `job ${i}` })));
  for (let i = 0; i < 10; i++) {
    await both.receive(1);
    await clock.advance(250);
  }
  expect(requests.calls).toHaveLength(3);
});
