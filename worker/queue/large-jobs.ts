import { isRecord } from '../util/record.ts';
import type { Message, Queue } from './queue.ts';

/**
 * A queue that sends large jobs to `large` and all other messages to `jobs`. It receives from `jobs`, and counts the messages there: large workers
 * receive from `large` itself.
 */
export function routingLarge(jobs: Queue, large: Queue): Queue {
  return {
    name: jobs.name,
    receive: async (max, options) => jobs.receive(max, options),
    send: async (messages, options) => {
      const [forLarge, others] = [messages.filter(isLarge), messages.filter((message) => !isLarge(message))];
      if (others.length > 0) await jobs.send(others, options);
      if (forLarge.length > 0) await large.send(forLarge, options);
    },
    count: async (options) => jobs.count(options),
  };
}

function isLarge({ body }: Message): boolean {
  return isLargeJob(body);
}

/** Whether the message is a job for large workers. */
export function isLargeJob(body: string): boolean {
  // parsing a long message takes time, and most do not have the member
  if (!body.includes('"large"')) return false;
  try {
    const message: unknown = JSON.parse(body);
    return isRecord(message) && message['large'] === true;
  } catch {
    return false;
  }
}
