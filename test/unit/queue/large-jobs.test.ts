import { expect, test } from 'vitest';
import { isLargeJob, routingLarge } from '../../../worker/queue/large-jobs.ts';
import { manualClock } from '../../support/clock.ts';
import { MemoryQueue } from '../../support/memory-queue.ts';

test('sends large jobs to their own queue, and receives and counts the others only', async () => {
  const clock = manualClock();
  const [jobs, large] = [new MemoryQueue({ clock, name: 'jobs' }), new MemoryQueue({ clock, name: 'large' })];
  const queue = routingLarge(jobs, large);
  await queue.send([{ body: '{"large":true}' }, { body: '{"large":false}' }, { body: 'no JSON' }]);
  expect((await large.receive(10)).map(({ body }) => body)).toEqual(['{"large":true}']);
  expect(await queue.count()).toMatchObject({ visible: 2 });
  expect((await queue.receive(10)).map(({ body }) => body)).toEqual(['{"large":false}', 'no JSON']);
  expect(queue.name).toBe('jobs');
});

test.each(['{"title":"\\"large\\":true"}', '["large"]', '"large"', '{"large":"true"}', '{"large":true'])(
  'takes %s for no large job',
  (body) => {
    expect(isLargeJob(body)).toBe(false);
  },
);
