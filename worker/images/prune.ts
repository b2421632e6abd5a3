import type { PrunePlan } from '../retention/plan.ts';
import type { Failure } from '../util/failure.ts';
import type { OperationOptions } from './backends.ts';
import type { DeletingBackends } from './deletions.ts';

/** What was not deleted, and why. */
export interface PruneFailure {
  /** The repository or folder, as the plan names it. */
  readonly place: string;
  /** The item; absent where it is about the whole repository. */
  readonly id?: string | undefined;
  readonly failure: Failure;
}

/** What `execute` did. */
export interface PruneResult {
  /** Items that are gone by this run. */
  readonly deleted: number;
  /** Tags that were removed from images that stay. */
  readonly untagged: number;
  /** Items that another process had deleted before. */
  readonly gone: number;
  /** Bytes of what was deleted, as far as they are known. */
  readonly bytes: number;
  readonly failures: readonly PruneFailure[];
}

/**
 * Deletes what the plan names, and nothing else. Each repository is read once more right before: what has another tag, another ETag or an
 * index that the plan does not know by then stays, and is a failure of that item. Tags first, then images before what they list and what
 * refers to them. What is gone is deleted, so a plan may be carried out again after a stop at any point. Fails with ABORTED alone.
 */
export async function execute(
  plan: PrunePlan,
  backends: DeletingBackends,
  options: OperationOptions,
): Promise<PruneResult> {
  throw new Error(`${plan.format}${typeof backends}${typeof options}`);
}
