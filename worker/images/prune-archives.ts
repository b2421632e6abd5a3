import { posix } from 'node:path';
import type { DeletableStore } from '../objects/deletable.ts';
import type { ObjectStore } from '../objects/objects.ts';
import { archiveKindOf, SETTINGS_NAME } from '../oci/archive-key.ts';
import type { PlannedItem, RepositoryPlan } from '../retention/plan.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { Failure } from '../util/failure.ts';
import type { Outcomes } from './prune-images.ts';

/** https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html */
const BATCH = 1000;

/**
 * Deletes the archives that `plan` names and that still have the ETag that they had; then the settings beside them, where no archive is left in
 * their folder.
 */
export async function pruneArchives(
  plan: RepositoryPlan,
  store: ObjectStore,
  deletable: DeletableStore,
  outcomes: Outcomes,
  options: Abortable,
): Promise<void> {
  const doomed = plan.items.filter(({ action }) => action === 'delete');
  const isSettings = ({ id }: PlannedItem): boolean => posix.basename(id) === SETTINGS_NAME;
  await remove(
    doomed.filter((item) => !isSettings(item)),
    deletable,
    outcomes,
    options,
  );
  for (const item of doomed.filter(isSettings)) {
    checkAborted(options);
    const beside = await archiveBeside(store, item.id, options);
    if (beside === undefined) await remove([item], deletable, outcomes, options);
    else
      outcomes.failed(
        item.id,
        new Failure('CONFLICT', `delete ${store.describe(item.id)}: ${beside} is beside it; it stays`),
      );
  }
}

async function remove(
  items: readonly PlannedItem[],
  deletable: DeletableStore,
  outcomes: Outcomes,
  options: Abortable,
): Promise<void> {
  for (let at = 0; at < items.length; at += BATCH) {
    checkAborted(options);
    const batch = items.slice(at, at + BATCH);
    const notDeleted = await deletable.remove(
      batch.map(({ id, etag = '' }) => ({ key: id, etag })),
      options,
    );
    const failed = new Map(notDeleted.map(({ key, failure }) => [key, failure]));
    for (const item of batch) {
      const failure = failed.get(item.id);
      if (failure === undefined) outcomes.deleted(item);
      else outcomes.failed(item.id, failure);
    }
  }
}

/** The key of an archive in the folder of `settings`. */
async function archiveBeside(store: ObjectStore, settings: string, options: Abortable): Promise<string | undefined> {
  const folder = settings.slice(0, -SETTINGS_NAME.length);
  for await (const { key } of store.list(folder, options))
    if (archiveKindOf(key) !== undefined && !key.slice(folder.length).includes('/')) return key;
  return undefined;
}
