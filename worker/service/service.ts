import type { Queue } from '../queue/queue.ts';
import type { StateStore } from '../state/state.ts';

/** The parts of the deployed system that planners, workers and commands share. */
export interface Service {
  readonly state: StateStore;
  readonly queue: Queue;
  /** The dead-letter queue: messages that cannot be done, each with the reason. */
  readonly deadLetters: Queue;
  /** What requests by hand may write to beside what rules name, as `parseAllowed` reads it. Absent: not known here; to a worker that is nothing. */
  readonly allow?: readonly string[] | undefined;
}
