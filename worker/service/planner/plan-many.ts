import type { BackupStoreJob, SnapshotJob } from '../../queue/job.ts';
import { patternOf } from '../../queue/many-images.ts';
import type { CopyRule } from '../../rules/rule.ts';
import type { Run, Runs } from '../../state/state.ts';
import type { Abortable } from '../../util/abort.ts';
import type { Service } from '../service.ts';
import { isSnapshotJobId, SNAPSHOT, snapshotJobsOf, storeJobsOf, type PushedImages } from './many-jobs.ts';
import { newJob, type RunJobs } from './run-jobs.ts';
import type { Retries } from './retries.ts';

/** A run of a rule that backs up. */
interface ManyPlan {
  readonly rule: CopyRule;
  readonly run: Pick<Run, 'id' | 'startedAtMs'>;
  readonly jobs: RunJobs;
  /** Absent: jobs are made whatever earlier runs are trying. */
  readonly retries?: Retries | undefined;
  /** Only these images. Default: all that the rule names. */
  readonly pushed?: PushedImages | undefined;
}

/** Plans the backups of a run into stores. Asks no registry and no store: a job finds out what is new. */
export async function planStores(plan: ManyPlan, options: Abortable): Promise<void> {
  for (const job of storeJobsOf(plan.rule, plan.run, plan.pushed)) {
    const one = { job, title: titleOfMany(job) };
    const retried = await plan.retries?.find(job, options);
    if (retried === undefined) await plan.jobs.add([one], { unchanged: 0, unseen: 0 }, options);
    else await plan.jobs.leave(one, retried, options);
  }
}

/**
 * Makes the jobs known that write the snapshots of a run, before the run counts as planned: it ends with them. `sendSnapshots` sends them when
 * their time has come.
 */
export async function planSnapshots(
  { rule, run, pushed }: Omit<ManyPlan, 'jobs'>,
  runs: Runs,
  options: Abortable,
): Promise<void> {
  const made = snapshotJobsOf(rule, run, pushed).map((job) => newJob(job, { title: titleOfMany(job) }).record);
  if (made.length > 0) await runs.addJobs(run.id, made, options);
}

/** A run that has more jobs left is not asked about its snapshots when one of its jobs ends: it has others. */
const MAX_SNAPSHOTS = 64;

/** `sendSnapshots` after the end of one job of a run, of which `left` are left. Asks for nothing while these are many. */
export async function sendSnapshotsAfter(
  { run, left }: { readonly run: string; readonly left: number },
  service: Pick<Service, 'state' | 'queue'>,
  options: Abortable,
): Promise<void> {
  if (left <= 0 || left > MAX_SNAPSHOTS) return;
  const snapshots = service.state.runs.jobs(run, { ...options, state: 'waiting', prefix: SNAPSHOT });
  if ((await Array.fromAsync(snapshots)).length >= left) await sendSnapshots(run, service, options);
}

/**
 * Sends the jobs that write the snapshots of a run where every other job has ended; does nothing before. A process that planned a run or ended
 * one of its jobs calls it after it has written that: at least the last of them sees that the time has come. Of a process that crashed in
 * between, the planner's next passes take the place. Idempotent: a job that is sent twice is done once.
 */
export async function sendSnapshots(
  run: string,
  { state, queue }: Pick<Service, 'state' | 'queue'>,
  options: Abortable,
): Promise<void> {
  const { runs } = state;
  if (!(await isOver(run, runs, options))) return;
  const due: { readonly body: string }[] = [];
  for await (const { id, body } of runs.jobs(run, { ...options, state: 'waiting', prefix: SNAPSHOT }))
    if (body !== undefined && (await runs.resendJob(run, id, undefined, options))) due.push({ body });
  if (due.length > 0) await queue.send(due, options);
}

/** Whether every job of a run has ended, but those that write its snapshots. */
export async function isOver(run: string, runs: Pick<Runs, 'get' | 'jobs'>, options: Abortable): Promise<boolean> {
  const found = await runs.get(run, options);
  if (found?.plannedAtMs === undefined) return false;
  for (const state of ['running', 'waiting'] as const) {
    if (found.jobs[state] === 0) continue;
    for await (const { id } of runs.jobs(run, { ...options, state })) if (!isSnapshotJobId(id)) return false;
  }
  return true;
}

/** What people know the job by. */
export function titleOfMany(job: BackupStoreJob | SnapshotJob): string {
  const from = patternOf(job);
  const what =
    job.only === undefined ? from : `${from} (${job.only.map(({ tag, digest }) => tag ?? digest).join(', ')})`;
  return job.kind === 'snapshot' ? `snapshot of ${what} in ${job.to}` : `${what} → ${job.to}`;
}
