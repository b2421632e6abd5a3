import type { Abortable } from '../util/abort.ts';

/** The capacity that tasks run on: `base` tasks run there first, and those above all bases are spread by the weights. */
export interface Capacity {
  /** As ECS calls it: `FARGATE` or `FARGATE_SPOT`. */
  readonly provider: string;
  readonly weight: number;
  readonly base: number;
}

export interface TaskCount {
  /** The number that ECS keeps running. */
  readonly desired: number;
  readonly running: number;
  readonly pending: number;
  readonly capacity: readonly Capacity[];
}

/** The tasks of the workers. Scaling decides their number at all other times. */
export interface Tasks {
  /** For logs and people. */
  readonly name: string;
  /** NOT_FOUND without the service. */
  count(options?: Abortable): Promise<TaskCount>;
  /**
   * Asks for so many tasks. With `capacity`, new tasks start on it and replace those that run; a task that has a job keeps running until the
   * job is done.
   */
  scale(tasks: number, options?: Abortable & { readonly capacity?: readonly Capacity[] | undefined }): Promise<void>;
}
