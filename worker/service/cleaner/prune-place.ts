import type { OperationOptions } from '../../images/backends.ts';
import { readRepository } from '../../images/inventories.ts';
import { partsToBackUp } from '../../images/plan-places.ts';
import { execute, type PruneResult } from '../../images/prune.ts';
import { parseRepository } from '../../oci/reference.ts';
import type { Inventory, Item } from '../../retention/inventory.ts';
import { newestKept, withBad } from '../../retention/newest-kept.ts';
import { assemblePlan } from '../../retention/plan-prune.ts';
import { planRepository } from '../../retention/plan-repository.ts';
import type { PlannedItem, RepositoryPlan } from '../../retention/plan.ts';
import { isStore } from '../../rules/stores.ts';
import type { JobRecord } from '../../state/state.ts';
import { anyOf, checkAborted, type Abortable } from '../../util/abort.ts';
import type { Event } from '../../util/events.ts';
import { describeFailure, Failure } from '../../util/failure.ts';
import { append } from '../../util/lists.ts';
import { placeName, pruneLock } from '../place-uses.ts';
import { refusedPlace } from '../refused-place.ts';
import { formatDoomed, leftoversOf, partsOf } from './doomed.ts';
import { isWrittenNow, withHolds } from './holds.ts';
import type { PlaceEnd, PruneContext } from './prune-context.ts';
import { pruneStorePlace } from './prune-store-place.ts';
import { readFolder } from './places.ts';
import { changedArchives, RecordedBackups } from './recorded-backups.ts';

/** How long a rule and a place stay locked after their Cleaner has crashed, beside the difference of clocks. */
export const LOCK_SECONDS = 60;

/**
 * Prunes one repository or folder, under a lock that keeps workers from beginning a copy there. While a worker is writing images there, it is
 * postponed. Safe to stop anywhere and to repeat: what is gone is not in the next plan, and `job.doomed` has what the last Cleaner was deleting.
 * Throws ABORTED, and what fails while the place is locked, read or deleted from as a whole. Items that fail are in the result.
 */
export async function prunePlace(
  place: string,
  job: Pick<JobRecord, 'id' | 'doomed'>,
  context: PruneContext,
  options: Abortable,
): Promise<PlaceEnd> {
  const { state } = context;
  await using lock = await state.lock(pruneLock(place), LOCK_SECONDS, options);
  if (lock === undefined) return { state: 'postponed', why: 'another Cleaner is there' };
  const held = { signal: anyOf(options.signal, lock.signal), clock: context.clock, report: context.report };
  if (isStore(place)) return await pruneStorePlace(place, context, held);
  const jobs = await context.jobs.at(placeName(place), held);
  // an archive is written at once or not at all, and deleted only while it is as it was listed
  if (
    !place.startsWith('s3://') &&
    (isWrittenNow(jobs) || (await state.destinations.isWritten(`docker://${placeName(place)}`, held)))
  )
    return { state: 'postponed', why: 'a copy is writing to it' };
  const read = async (): Promise<Inventory> =>
    withHolds(
      await readPlace(place, context, held),
      jobs,
      context.keptTags.get(placeName(place)) ?? new Map<string, string>(),
    );
  let inventory = await read();
  const leftovers = leftoversOf(job.doomed, inventory);
  if (leftovers !== undefined) {
    await deleteAll(planLeftovers(leftovers, inventory, context), job, context, held);
    inventory = await read();
  }
  const plan = await planPlace(inventory, context, held);
  if (plan.refused !== undefined)
    return failedPlace(place, new Failure('CONFLICT', refusedPlace(place, plan.refused)), context);
  return await carryOut(plan, job, context, held);
}

async function readPlace(
  place: string,
  { rule, backends }: PruneContext,
  options: OperationOptions,
): Promise<Inventory> {
  if (place.startsWith('s3://')) return readFolder(place, rule, backends, options);
  const { registry, repository } = parseRepository(place);
  return readRepository(registry, repository, backends, options);
}

/** What can be deleted of it, whatever the policy: its images were deleted by one. */
function planLeftovers(leftovers: RepositoryPlan, inventory: Inventory, { rule, clock }: PruneContext): RepositoryPlan {
  const nowMs = clock.now();
  const only = assemblePlan([leftovers], rule.policies, { places: rule.at, nowMs });
  return planRepository(inventory, rule.policies, { nowMs, maxDeletes: Infinity, only }, Infinity);
}

/**
 * The plan of a place. Backups are looked up for what would go, and of every image that loses archives whether the newest that stays is as a worker
 * wrote it, until there is nothing left to look up.
 */
async function planPlace(listed: Inventory, context: PruneContext, options: Abortable): Promise<RepositoryPlan> {
  const { rule, budget, clock } = context;
  const { policies, maxDeletes, requireBackup } = rule;
  const unbacked = new Map<string, boolean>();
  const nowMs = clock.now();
  const planOptions = {
    nowMs,
    maxDeletes,
    ...(requireBackup === undefined ? {} : { unbacked: ({ id }: Item) => unbacked.get(id) === true }),
  };
  let inventory = listed;
  const compared = new Set<string>();
  const backups =
    requireBackup === undefined || inventory.kind === 'archives'
      ? undefined
      : new RecordedBackups(parseRepository(inventory.place), {
          place: requireBackup,
          rules: context.backups,
          destinations: context.state.destinations,
          backends: context.backends,
          nowMs,
        });
  const items = new Map(inventory.items.map((item) => [item.id, item]));
  for (;;) {
    checkAborted(options);
    const plan = planRepository(inventory, policies, planOptions, budget.left);
    const newest = newestKept(inventory, plan).filter(({ id }) => !compared.has(id));
    if (newest.length > 0) {
      for (const { id } of newest) compared.add(id);
      inventory = withBad(
        inventory,
        await changedArchives(inventory.place, newest, context.state.destinations, options),
      );
      continue;
    }
    const going = plan.items.filter(({ id, group }) => group === id && !unbacked.has(id));
    if (backups === undefined || going.length === 0) return plan;
    for (const { id } of going) {
      const item = items.get(id);
      unbacked.set(id, item === undefined || !(await backups.has(item, partsToBackUp(plan, id), options)));
    }
  }
}

/** Deletes what the plan names, or only reports it. */
async function carryOut(
  plan: RepositoryPlan,
  job: Pick<JobRecord, 'id'>,
  context: PruneContext,
  options: OperationOptions,
): Promise<PlaceEnd> {
  const { rule, run, state, report } = context;
  const { place, kind } = plan;
  const going = plan.items.filter(({ action }) => action !== 'keep');
  const left = plan.items.filter((item) => item.left === true).length;
  const kept = plan.items.length - going.length;
  if (kept > 0) await state.runs.addUnchanged(run.id, { unchanged: kept, unseen: 0 }, options);
  if (rule.dryRun || going.length === 0) {
    for (const item of going) report({ type: 'prune-planned', place, kind, ...shownOf(item) });
    report({ type: 'place-pruned', place, deleted: 0, kept, left, failed: 0 });
    return { state: 'skipped' };
  }
  const { deleted, failures } = await deleteAll(plan, job, context, options);
  report({ type: 'place-pruned', place, deleted, kept, left, failed: failures.length });
  return endOf(place, failures);
}

async function deleteAll(
  plan: RepositoryPlan,
  job: Pick<JobRecord, 'id'>,
  { rule, run, state, backends, budget, clock }: PruneContext,
  options: OperationOptions,
): Promise<{ readonly deleted: number; readonly failures: PruneResult['failures'] }> {
  let deleted = 0;
  const failures: PruneResult['failures'][number][] = [];
  for (const part of partsOf(plan)) {
    checkAborted(options);
    // before it is deleted: after a crash the run has deleted no more than is recorded, and the rest of a group is known
    await state.runs.setDoomed(run.id, job.id, formatDoomed(part), options);
    await budget.take(part.items.length, options);
    const whole = assemblePlan([part], rule.policies, { places: rule.at, nowMs: clock.now() });
    const result = await execute(whole, backends, options);
    await budget.giveBack(part.items.length - result.deleted - result.untagged, options);
    deleted += result.deleted + result.untagged + result.gone;
    append(failures, result.failures);
  }
  return { deleted, failures };
}

/** What has moved on since it was listed is looked at again by the next run, and fails nothing. */
function endOf(place: string, failures: PruneResult['failures']): PlaceEnd {
  const [first, ...others] = failures.filter(({ failure }) => failure.code !== 'CONFLICT');
  if (first === undefined) return { state: 'done' };
  const what = first.id === undefined ? place : `${place} ${first.id}`;
  const more = others.length > 0 ? `, and ${others.length} more` : '';
  const { code } = first.failure;
  return { state: 'failed', failure: new Failure(code, `delete ${what}: ${describeFailure(first.failure)}${more}`) };
}

function shownOf(item: PlannedItem): Pick<PrunedEvent, 'id' | 'tags' | 'action' | 'bytes' | 'reason'> {
  const { id, tags, untag, bytes = 0, reason, action } = item;
  return action === 'untag'
    ? { id, tags: untag ?? [], action, bytes: 0, reason }
    : { id, tags, action: 'delete', bytes, reason };
}

type PrunedEvent = Extract<Event, { readonly type: 'prune-planned' }>;

function failedPlace(place: string, failure: Failure, { report }: PruneContext): PlaceEnd {
  report({ type: 'prune-failed', place, code: failure.code, message: describeFailure(failure) });
  return { state: 'failed', failure };
}
