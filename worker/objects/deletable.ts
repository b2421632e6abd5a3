import type { Abortable } from '../util/abort.ts';
import type { Failure } from '../util/failure.ts';

/** An object to delete, as it was listed. */
export interface Doomed {
  readonly key: string;
  readonly etag: string;
}

/** An object that was not deleted, and why. */
export interface NotRemoved {
  readonly key: string;
  readonly failure: Failure;
}

/** Deletes objects. Apart from `ObjectStore`, so that what reads and writes archives cannot delete any. */
export interface DeletableStore {
  /**
   * Deletes the objects that still have the ETag they were listed with; in a bucket with versions, a delete marker hides them and the version stays.
   * An object that is gone counts as deleted. Resolves to what was not deleted, in any order: CONFLICT for an object that was written since, DENIED
   * for one that is locked or that may not be deleted. Fails when the store does not answer, or with ABORTED: some may be deleted then.
   */
  remove(items: readonly Doomed[], options?: Abortable): Promise<readonly NotRemoved[]>;
}
