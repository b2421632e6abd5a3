import { isRecord } from '../util/record.ts';
import type { Queue } from './queue.ts';

/**
 * A queue that sends large jobs to `large` and all other messages to `jobs`. It receives from `jobs`, and counts the messages there: large workers
 * receive from `large` itself.
 */
export function routingLarge(jobs: Queue, large: Queue): Queue {
  return {
    name: jobs.name,
    receive: async (max, options) => jobs.receive(max, options),
    send: async (messages, options) => {
      const { true: some = [], false: others = [] } = Object.groupBy(messages, ({ body }) => `${isLargeJob(body)}`);
      if (others.length > 0) await jobs.send(others, options);
      if (some.length > 0) await large.send(some, options);
    },
    count: async (options) => jobs.count(options),
  };
}

/** Whether the message is a job for large workers. */
export function isLargeJob(body: string): boolean {
  // most messages are not, and some are long
  if (!body.includes('"large"')) return false;
  try {
    const message: unknown = JSON.parse(body);
    return isRecord(message) && message['large'] === true;
  } catch {
    return false;
  }
}
