import type { OperationOptions } from '../../images/backends.ts';
import { planStorePrune, pruneStore } from '../../images/prune-store.ts';
import { describeFailure, Failure, isFailure } from '../../util/failure.ts';
import type { PlaceEnd, PruneContext } from './prune-context.ts';

/**
 * Deletes the snapshots of a store that the rule does not keep, then what no snapshot needs; a dry run reports what would go. The store keeps
 * backups and its garbage collection apart by itself: while one runs for longer than it waits, the place is postponed. Objects that are locked
 * stay, and go in a later run. `maxDeletes` is about images: what no snapshot needs is not an image.
 */
export async function pruneStorePlace(
  place: string,
  { rule, run, state, backends, report }: PruneContext,
  options: OperationOptions,
): Promise<PlaceEnd> {
  const [policy] = rule.policies;
  const { repositories: _, ...times } = policy ?? { repositories: [] };
  const request = { place, policy: times };
  if (rule.dryRun) {
    const { snapshots, sweep } = await planStorePrune(request, backends, options);
    const going = snapshots.filter(({ action }) => action === 'delete');
    for (const { name, reason } of going)
      report({
        type: 'prune-planned',
        place,
        kind: 'archives',
        id: name.id,
        tags: [],
        action: 'delete',
        bytes: name.size,
        reason,
      });
    const [kept, left] = [snapshots.length - going.length, sweep.blobs.length];
    report({ type: 'place-pruned', place, deleted: 0, kept, left, failed: 0 });
    return { state: 'skipped' };
  }
  try {
    const { deleted, notDeleted, snapshots } = await pruneStore(request, backends, options);
    const count = deleted.snapshots + deleted.blobs;
    if (count > 0) await state.runs.addDeletes(run.id, count, options);
    report({
      type: 'place-pruned',
      place,
      deleted: count,
      kept: snapshots.length - deleted.snapshots,
      left: notDeleted.length,
      failed: 0,
    });
    return { state: count > 0 ? 'done' : 'skipped' };
  } catch (error) {
    // a backup is running, or another collection
    if (isFailure(error, 'UNAVAILABLE')) return { state: 'postponed', why: describeFailure(error) };
    if (!isFailure(error) || error.code === 'ABORTED') throw error;
    report({ type: 'prune-failed', place, code: error.code, message: describeFailure(error) });
    return { state: 'failed', failure: new Failure(error.code, `prune ${place}: ${describeFailure(error)}`) };
  }
}
