import type { Queue, QueueCount } from '../queue/queue.ts';
import type { StateStore } from '../state/state.ts';
import type { Tasks } from '../tasks/tasks.ts';
import type { Abortable } from '../util/abort.ts';

/** The parts of the deployed system that planners, workers and commands share. */
export interface Service {
  readonly state: StateStore;
  readonly queue: Queue;
  /** Requests by hand, which workers take first. Absent: they are in `queue`. */
  readonly requests?: Queue | undefined;
  /** The dead-letter queue: messages that cannot be done, each with the reason. */
  readonly deadLetters: Queue;
  /** What requests by hand may write to beside what rules name, as `parseAllowed` reads it. Absent: not known; a worker then allows nothing else. */
  readonly allow?: readonly string[] | undefined;
  /** The tasks of the workers. Absent: it is not known where workers run, and they are started by other means. */
  readonly tasks?: Tasks | undefined;
  /** Absent: all workers are alike. */
  readonly large?: LargeWorkers | undefined;
}

/** The workers that do large jobs, and nothing else. `Service.queue` sends such jobs to their queue. */
interface LargeWorkers {
  readonly queue: Queue;
  /** Copies of images above this size are large jobs. */
  readonly aboveBytes: number;
  /** As `Service.tasks`. */
  readonly tasks?: Tasks | undefined;
}

/** About how many messages wait for workers, are in flight or are delayed, over the queues of jobs and of requests. */
export async function countMessages(
  { queue, requests }: Pick<Service, 'queue' | 'requests'>,
  options: Abortable = {},
): Promise<QueueCount> {
  const [jobs, more] = await Promise.all([queue.count(options), requests?.count(options)]);
  return {
    visible: jobs.visible + (more?.visible ?? 0),
    inFlight: jobs.inFlight + (more?.inFlight ?? 0),
    delayed: jobs.delayed + (more?.delayed ?? 0),
  };
}
