import { manualClock } from '../../support/clock.ts';
import { MemoryQueue } from '../../support/memory-queue.ts';
import { queueSuite } from '../../contracts/queue.ts';

queueSuite('memory', async () => {
  const clock = manualClock();
  return {
    queue: new MemoryQueue({ clock }),
    now: () => clock.now(),
    pass: async (seconds) => clock.advance(seconds * 1000),
    [Symbol.asyncDispose]: async () => undefined,
  };
});
