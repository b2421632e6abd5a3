import type { Clock } from '../util/clock.ts';
import type { Report } from '../util/events.ts';
import { JobStore } from './job-store.ts';
import { PushGroups } from './push-groups.ts';
import { RuleProgressItems } from './rule-progress.ts';
import { RunStore } from './run-store.ts';
import type { Runs } from './state.ts';
import type { Table } from './table.ts';

/**
 * Runs and their jobs. The items of the jobs are the truth; everything in the item of the run follows from them, and `settle` makes it follow.
 *
 * `left` counts down as jobs end and only shows when it is worth counting them. It may be too low, after a crash while jobs were added, or when the
 * message of an ended job is redelivered: then the jobs are counted too early, and `left` is corrected. It can briefly be too high: if a worker
 * crashes before decrementing it, the job's message is redelivered. `epoch` counts up with every change that makes more jobs open or `left` greater,
 * so that a run is never ended or corrected by an older count.
 *
 * The process that writes the end of a rule's run reports it: a planner, a worker, or the one that takes over the work of either. If it crashes in
 * between, the end is not reported.
 */
export function runsOver(table: Table, clock: Clock, report?: Report): Runs {
  const progress = new RuleProgressItems(table);
  const runs = new RunStore(table, clock, progress, report);
  const jobs = new JobStore(table, clock, runs);
  const pushes = new PushGroups(table, clock, runs);
  return {
    progress: async (rule, options) => progress.get(rule, options),

    beginScheduled: async (run, options) => runs.beginScheduled(run, options),
    begin: async (run, options) => runs.begin(run, options),
    gatherPush: async (group, push, options) => pushes.gather(group, push, options),
    closePushes: async (run, options) => pushes.close(run, options),
    get: async (run, options) => runs.get(run, options),
    list: async (options) => runs.list(options),
    open: async (sinceMs, options) => runs.open(sinceMs, options),
    addUnchanged: async (run, counts, options) => runs.addUnchanged(run, counts, options),
    addDeletes: async (run, count, options) => {
      await runs.change(run, { add: { deletes: count } }, options);
    },
    planned: async (run, options) => runs.planned(run, options),
    settle: async (run, options) => runs.settle(run, options),
    declareDead: async (run, options) => runs.declareDead(run, options),

    addJobs: async (run, added, options) => jobs.add(run, added, options),
    job: async (run, job, options) => jobs.get(run, job, options),
    jobs: (run, options) => jobs.list(run, options),
    takeJob: async (run, job, fingerprint, options) => jobs.take(run, job, fingerprint, options),
    startJob: async (run, job, options) => jobs.start(run, job, options),
    setDoomed: async (run, job, doomed, options) => jobs.setDoomed(run, job, doomed, options),
    setVerified: async (run, job, verified, options) => jobs.setVerified(run, job, verified, options),
    giveBackJob: async (run, job, options) => jobs.giveBack(run, job, options),
    retryJob: async (run, job, why, options) => jobs.retry(run, job, why, options),
    resendJob: async (run, job, changedAtMs, options) => jobs.resend(run, job, changedAtMs, options),
    endJob: async (run, job, end, options) => jobs.end(run, job, end, options),
    reviveJob: async (run, job, options) => jobs.revive(run, job, options),
  };
}
