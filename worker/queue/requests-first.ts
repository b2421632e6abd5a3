import type { Clock } from '../util/clock.ts';
import type { Queue } from './queue.ts';

/** How long an empty queue of requests is not asked again while there are jobs. */
const EMPTY_FOR_MS = 1000;

/**
 * A queue that receives the messages of `requests` before those of `jobs`. It sends to `jobs`, and counts the messages there. A new request may
 * wait a second, while jobs that are already there are received.
 */
export function requestsFirst(requests: Queue, jobs: Queue, clock: Clock): Queue {
  let askedMs = -Infinity;
  return {
    name: jobs.name,
    receive: async (max, options) => {
      const nowMs = clock.now();
      if (nowMs - askedMs >= EMPTY_FOR_MS) {
        const first = await requests.receive(max, { ...options, waitSeconds: 0 });
        if (first.length > 0) return first;
        askedMs = nowMs;
      }
      return jobs.receive(max, options);
    },
    send: async (messages, options) => jobs.send(messages, options),
    count: async (options) => jobs.count(options),
  };
}
