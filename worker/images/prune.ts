import { parseRepository } from '../oci/reference.ts';
import type { PlannedItem, PrunePlan, RepositoryPlan } from '../retention/plan.ts';
import { checkAborted } from '../util/abort.ts';
import { describeFailure, Failure, toFailure } from '../util/failure.ts';
import type { OperationOptions } from './backends.ts';
import { deletableAt, type DeletingBackends } from './deletions.ts';
import { readRepository } from './inventories.ts';
import { pruneArchives } from './prune-archives.ts';
import { pruneImages, type Outcomes } from './prune-images.ts';
import { storeAndPrefix } from './open-place.ts';
import { archivesIn, parsePrunePlace } from './prune-places.ts';

/** What was not deleted, and why. */
interface PruneFailure {
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
 * Deletes what the plan names, and nothing else. A repository is read once more right before: what has another tag by then, or belongs to what
 * stays, is kept, and is a failure of that item; so is an archive with another ETag. Tags first, then images before what they list and what
 * refers to them. What is gone is deleted, so a plan may be carried out again after a stop at any point. Reports each item. Throws ABORTED alone.
 */
export async function execute(
  plan: PrunePlan,
  backends: DeletingBackends,
  options: OperationOptions,
): Promise<PruneResult> {
  const tally = new Tally(options);
  for (const repository of plan.repositories) {
    checkAborted(options);
    if (!repository.items.some(({ action }) => action !== 'keep')) continue;
    const outcomes = tally.of(repository);
    try {
      if (repository.kind === 'images') await executeImages(repository, backends, outcomes, options);
      else await executeArchives(repository, plan, backends, outcomes, options);
    } catch (error) {
      checkAborted(options);
      tally.failed(repository.place, undefined, toFailure(error));
    }
  }
  return tally.result;
}

async function executeImages(
  repository: RepositoryPlan,
  backends: DeletingBackends,
  outcomes: Outcomes,
  options: OperationOptions,
): Promise<void> {
  const { registry, repository: name } = parseRepository(repository.place);
  const now = await readRepository(registry, name, backends, options);
  if (now.incomplete !== undefined)
    throw new Failure(
      'UNAVAILABLE',
      `${repository.place} could not be read again, so nothing of it was deleted: ${now.incomplete}: run the plan again`,
    );
  await pruneImages(repository, now, backends.deletions.images(registry, name), outcomes, options);
}

async function executeArchives(
  repository: RepositoryPlan,
  plan: PrunePlan,
  backends: DeletingBackends,
  outcomes: Outcomes,
  options: OperationOptions,
): Promise<void> {
  const root = archivesIn(repository.place, plan.places.map(parsePrunePlace));
  const { store } = storeAndPrefix(root, backends);
  const deletable = deletableAt(root, backends);
  await pruneArchives(repository, store, deletable, outcomes, options);
}

/** Counts and reports what becomes of the items. */
class Tally {
  readonly #options: OperationOptions;
  readonly #failures: PruneFailure[] = [];
  #deleted = 0;
  #untagged = 0;
  #gone = 0;
  #bytes = 0;

  constructor(options: OperationOptions) {
    this.#options = options;
  }

  of({ place, kind }: RepositoryPlan): Outcomes {
    const report = (item: PlannedItem, action: 'delete' | 'untag', tags: readonly string[], bytes: number): void => {
      const { id, reason } = item;
      this.#options.report?.({ type: 'pruned', place, kind, id, tags, action, bytes, reason });
    };
    return {
      deleted: (item) => {
        this.#deleted++;
        this.#bytes += item.bytes ?? 0;
        report(item, 'delete', item.tags, item.bytes ?? 0);
      },
      untagged: (item, tags) => {
        this.#untagged += tags.length;
        report(item, 'untag', tags, 0);
      },
      gone: () => {
        this.#gone++;
      },
      failed: (id, failure) => this.failed(place, id, failure),
    };
  }

  failed(place: string, id: string | undefined, failure: Failure): void {
    this.#failures.push({ place, id, failure });
    const message = describeFailure(failure);
    this.#options.report?.({ type: 'prune-failed', place, id, code: failure.code, message });
  }

  get result(): PruneResult {
    return {
      deleted: this.#deleted,
      untagged: this.#untagged,
      gone: this.#gone,
      bytes: this.#bytes,
      failures: this.#failures,
    };
  }
}
