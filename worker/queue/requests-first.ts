import type { Queue } from './queue.ts';

/** Takes the messages of `requests` before those of `jobs`. What is sent goes to `jobs`, and what is counted is there. */
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
