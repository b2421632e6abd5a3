import type { PlanJob } from '../../queue/job.ts';
import type { CopyRule, Rule } from '../../rules/rule.ts';
import type { Run } from '../../state/state.ts';
import { anyOf, type Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import type { Report } from '../../util/events.ts';
import type { Service } from '../service.ts';
import { FROM_THE_START } from './plan-jobs.ts';
import type { PushedImages } from './many-jobs.ts';
import { planSnapshots, sendSnapshots } from './plan-many.ts';
import { RunJobs, type Tally } from './run-jobs.ts';

/** A run, and where its planning continues. */
export interface RunToPlan {
  readonly rule: Pick<Rule, 'name'>;
  readonly run: Pick<Run, 'id' | 'startedAtMs'>;
  /** Only images after this one. Default: all. */
  readonly after?: PlanJob['after'] | undefined;
  /** What the snapshots of the run are about. Absent: it writes none. */
  readonly snapshots?: { readonly rule: CopyRule; readonly pushed?: PushedImages | undefined } | undefined;
}

export interface PlanOptions extends Abortable {
  readonly clock: Clock;
  readonly report?: Report | undefined;
  /** How long a run stays locked after its planner has crashed: not longer than the message that brings the next one. Default 60. */
  readonly lockSeconds?: number | undefined;
}

/** The result of planning a run, or a part of it. */
export interface PlanResult extends Tally {
  /** Whether a worker plans the rest. */
  readonly continued: boolean;
}

/**
 * Makes the jobs of a run. Returns the last image that was planned when a worker has to plan the rest. `options.signal` fires with that of
 * the caller, and when another planner may have taken the run.
 */
type MakeJobs = (
  jobs: RunJobs,
  options: Abortable & { readonly signal: AbortSignal },
) => Promise<PlanJob['after'] | undefined>;

const LOCK_SECONDS = 60;
/** The result for a run that needs no planning. */
export const NOTHING_LEFT: PlanResult = { jobs: 0, unchanged: 0, unseen: 0, failed: 0, continued: false };

/**
 * Plans a run under its lock, by `makeJobs`, and marks the run as planned when all of it is. Undefined when another planner is planning the
 * run.
 *
 * Safe to repeat, from the start and after any crash: the same jobs are made, those that ended are not sent again, the others are. Only
 * the count of unchanged images is then too high.
 */
export async function planRun(
  { rule, run, snapshots, after = FROM_THE_START }: RunToPlan,
  service: Service,
  makeJobs: MakeJobs,
  options: PlanOptions,
): Promise<PlanResult | undefined> {
  const { lockSeconds = LOCK_SECONDS, report } = options;
  await using lease = await service.state.lock(`plan/${run.id}`, lockSeconds, options);
  if (lease === undefined) return undefined;
  const held = { signal: anyOf(options.signal, lease.signal) };
  const { runs } = service.state;
  const before = await runs.get(run.id, held);
  if (before?.plannedAtMs !== undefined || before?.endedAtMs !== undefined) return NOTHING_LEFT;
  const again = before !== undefined && before.jobs.waiting > 0;
  const jobs = new RunJobs(service, { rule: rule.name, run, again, report });
  const reached = await makeJobs(jobs, held);
  await jobs.sendForgotten(after, held);
  const continued = reached !== undefined && (await jobs.handOn(reached, held));
  if (!continued) {
    if (snapshots !== undefined) await planSnapshots({ run, ...snapshots }, runs, held);
    await runs.planned(run.id, held);
    if (snapshots !== undefined) await sendSnapshots(run.id, service, held);
  }
  const result = { ...jobs.tally, continued };
  const { jobs: count, unchanged, unseen } = result;
  report?.({ type: 'run-planned', run: run.id, rule: rule.name, jobs: count, unchanged, unseen, continued });
  return result;
}
