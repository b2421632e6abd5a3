import type { OperationOptions } from '../../images/backends.ts';
import type { DeletingBackends } from '../../images/deletions.ts';
import { readRepository } from '../../images/inventories.ts';
import { execute } from '../../images/prune.ts';
import { isDigest } from '../../oci/digest.ts';
import { parseRepository } from '../../oci/reference.ts';
import type { Inventory, Item } from '../../retention/inventory.ts';
import { assemblePlan } from '../../retention/plan-prune.ts';
import { planRepository } from '../../retention/plan-repository.ts';
import type { PlannedItem, RepositoryPlan } from '../../retention/plan.ts';
import type { CopyRule, PruneRule } from '../../rules/rule.ts';
import type { Run, StateStore } from '../../state/state.ts';
import { anyOf, checkAborted, type Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import type { Event, Report } from '../../util/events.ts';
import { describeFailure, Failure } from '../../util/failure.ts';
import { placeName, pruneLock } from '../place-uses.ts';
import type { Budget } from './budget.ts';
import { isWrittenNow, withHolds } from './holds.ts';
import type { OpenJobs } from './open-jobs.ts';
import { readFolder } from './places.ts';
import { RecordedBackups } from './recorded-backups.ts';

/** What pruning the places of a rule shares. */
export interface PruneContext {
  readonly rule: PruneRule;
  readonly run: Pick<Run, 'id'>;
  readonly budget: Budget;
  readonly state: StateStore;
  readonly backends: DeletingBackends;
  readonly jobs: Pick<OpenJobs, 'at'>;
  /** Rules that back up: where archives of an image are. */
  readonly backups: readonly CopyRule[];
  /** Tags that stay, by place, with the reason of each. */
  readonly keptTags: ReadonlyMap<string, ReadonlyMap<string, string>>;
  readonly clock: Clock;
  readonly report: Report;
  /** How long a place stays locked after its Cleaner has crashed. */
  readonly lockSeconds: number;
}

/** What became of a place. */
export type PlaceEnd =
  | { readonly state: 'done' | 'skipped' }
  /** To be looked at again later. */
  | { readonly state: 'postponed'; readonly why: string }
  /** Something there could not be deleted, or nothing. */
  | { readonly state: 'failed'; readonly failure: Failure };

/**
 * Prunes one repository or folder, under a lock that keeps workers from beginning a copy there. While a worker is writing images there, it is
 * postponed. Safe to stop anywhere and to repeat: what is gone is not in the next plan. Throws ABORTED, and failures of the state.
 */
export async function prunePlace(place: string, context: PruneContext, options: Abortable): Promise<PlaceEnd> {
  const { state, lockSeconds } = context;
  await using lock = await state.lock(pruneLock(place), lockSeconds, options);
  if (lock === undefined) return { state: 'postponed', why: 'another Cleaner is there' };
  const held = { signal: anyOf(options.signal, lock.signal) };
  const jobs = await context.jobs.at(placeName(place), held);
  const isArchives = place.startsWith('s3://');
  // an archive is written at once or not at all, and deleted only while it is as it was listed
  if (!isArchives && (isWrittenNow(jobs) || (await state.destinations.isWritten(`docker://${place}`, held))))
    return { state: 'postponed', why: 'a copy is writing to it' };
  const taskOptions = { ...held, clock: context.clock, report: context.report };
  const read = isArchives
    ? await readFolder(place, context.rule, context.backends, taskOptions)
    : await readImages(place, context.backends, taskOptions);
  const inventory = withHolds(read, jobs, context.keptTags.get(placeName(place)) ?? new Map<string, string>());
  const plan = await planPlace(inventory, context, held);
  if (plan.refused !== undefined)
    return failedPlace(place, new Failure('CONFLICT', `nothing is deleted of ${place}: ${plan.refused}`), context);
  return await carryOut(plan, context, taskOptions);
}

async function readImages(place: string, backends: DeletingBackends, options: OperationOptions): Promise<Inventory> {
  const { registry, repository } = parseRepository(place);
  return readRepository(registry, repository, backends, options);
}

/** The plan of a place. Backups are looked up for what would go, until there is nothing left to look up. */
async function planPlace(inventory: Inventory, context: PruneContext, options: Abortable): Promise<RepositoryPlan> {
  const { rule, budget, clock } = context;
  const { policies, maxDeletes, requireBackup } = rule;
  const unbacked = new Map<string, boolean>();
  const nowMs = clock.now();
  const planOptions = {
    nowMs,
    maxDeletes,
    ...(requireBackup === undefined ? {} : { unbacked: ({ id }: Item) => unbacked.get(id) === true }),
  };
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
    const going = plan.items.filter(({ id, group }) => group === id && !unbacked.has(id));
    if (backups === undefined || going.length === 0) return plan;
    for (const { id } of going) {
      const item = items.get(id);
      const parts = plan.items.flatMap((one) => (one.group === id && isDigest(one.id) ? [one.id] : []));
      unbacked.set(id, item === undefined || !(await backups.has(item, parts, options)));
    }
  }
}

/** Deletes what the plan names, or only reports it. */
async function carryOut(plan: RepositoryPlan, context: PruneContext, options: OperationOptions): Promise<PlaceEnd> {
  const { rule, run, state, report, budget, clock } = context;
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
  // before it is deleted: after a crash the run has deleted no more than it says
  await budget.take(going.length, options);
  const whole = assemblePlan([plan], rule.policies, { places: rule.at, nowMs: clock.now() });
  const { deleted, untagged, gone, failures } = await execute(whole, context.backends, options);
  await budget.giveBack(going.length - deleted - untagged, options);
  report({ type: 'place-pruned', place, deleted: deleted + untagged + gone, kept, left, failed: failures.length });
  // what has moved on since it was listed is looked at again by the next run
  const serious = failures.filter(({ failure }) => failure.code !== 'CONFLICT');
  const [first] = serious;
  if (first === undefined) return { state: 'done' };
  const what = first.id === undefined ? place : `${place} ${first.id}`;
  const more = serious.length > 1 ? `, and ${serious.length - 1} more` : '';
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
