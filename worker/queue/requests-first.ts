import type { Queue } from './queue.ts';

/** A queue that receives the messages of `requests` before those of `jobs`. It sends to `jobs`, and counts the messages there. */
export function requestsFirst(requests: Queue, jobs: Queue): Queue {
  return {
    name: jobs.name,
    receive: async (max, options) => {
      const first = await requests.receive(max, { ...options, waitSeconds: 0 });
      return first.length > 0 ? first : jobs.receive(max, options);
    },
    send: async (messages, options) => jobs.send(messages, options),
    count: async (options) => jobs.count(options),
  };
}
