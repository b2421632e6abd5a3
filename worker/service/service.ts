import type { Queue } from '../queue/queue.ts';
import type { StateStore } from '../state/state.ts';

/** The parts of the deployed system that planners, workers and commands share. */
export interface Service {
  readonly state: StateStore;
  readonly queue: Queue;
  /** The dead-letter queue: messages that cannot be done, each with the reason. */
  readonly deadLetters: Queue;
}
