import type { Delivery, QueueCount } from '../../queue/queue.ts';
import { parseRule } from '../../rules/config.ts';
import { isExpired, type Rule } from '../../rules/rule.ts';
import { lastScheduledMs, nextScheduledMs } from '../../rules/schedule.ts';
import type { JobRecord, Run, RuleProgress, StateStore } from '../../state/state.ts';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import { within } from '../../util/deadline.ts';
import { isFailure, toFailure, type Failure } from '../../util/failure.ts';
import { isDone, jobIn } from '../dead-letters.ts';
import { countMessages, type Service } from '../service.ts';

/** The state of one rule. */
export interface RuleStatus {
  readonly name: string;
  /** Absent where this version cannot read it. */
  readonly kind?: Rule['kind'];
  /** Whether its runs are drills. */
  readonly drills?: true;
  readonly nextScheduledAtMs?: number | undefined;
  /** The run that is going on. */
  readonly current?: Run | undefined;
  /** How long ago the last good run of all of the rule began: the age of its copies, or of what it verified. Absent: there never was one. */
  readonly ageSeconds?: number | undefined;
  readonly expired: boolean;
  /**
   * What is wrong, a sentence each: a scheduled time that no planner served, a run that goes on past its next
   * scheduled time or that had failures, a rule that cannot be read.
   */
  readonly faults: readonly string[];
}

interface DeadLetter {
  /** What `redrive --discard` takes. */
  readonly id: string;
  readonly body: string;
  readonly reason: string | undefined;
  readonly sentAtMs: number;
}

/** What is read for a status, each on its own. */
type Part = 'rules' | 'runs' | 'queue' | 'dead letters';

/** The state of the deployed system. */
export interface Status {
  /** Parts that could not be read, and why. What they would have shown is absent or empty. */
  readonly unanswered: readonly { readonly part: Part; readonly failure: Failure }[];
  readonly queue: QueueCount | undefined;
  /** The queue of large workers. Absent where the deployment does not have one, or it is not known. */
  readonly large?: QueueCount | undefined;
  /** How many there are, about. */
  readonly deadLetters: number | undefined;
  /** Some of them. */
  readonly dead: readonly DeadLetter[];
  readonly rules: readonly RuleStatus[];
  /** The latest, newest first, without those that `uneventfulPushes` counts. */
  readonly runs: readonly Run[];
  /** How many of the runs that were looked at are of pushes and needed nothing. */
  readonly uneventfulPushes: number;
  /** Jobs of those runs that a worker is running, or that failed and are tried again. */
  readonly inFlight: readonly JobRecord[];
  /** Jobs of those runs that failed permanently. */
  readonly failed: readonly JobRecord[];
  /** Whether something is late or dead. */
  readonly faulty: boolean;
}

export interface StatusOptions extends Abortable {
  readonly clock: Clock;
  /** How many runs to list. Default 10. */
  readonly runs?: number | undefined;
}

/** A scheduled time may be served this much later: a planner runs every few minutes, and takes a while. */
const GRACE_MS = 10 * 60_000;
const DEFAULT_RUNS = 10;
/** Runs that are looked at for some that are worth a line: many pushes need nothing. */
const RUNS_LOOKED_AT = 100;
/** Each part answers within this time, or counts as unanswered. */
const PART_MS = 10_000;
/** The part of it that dead letters wait for the table, so that they are shown without it. */
const TABLE_MS = 5000;
/** The most jobs of each kind that are listed. */
const MAX_JOBS = 50;
/** The most faults at its destinations that are listed for a rule. */
const MAX_FOUND = 3;
/** What one receive gives at most: enough to see what is wrong. */
const MAX_DEAD = 10;

/**
 * The state of the deployed system. A part that fails or does not answer does not keep the others back. Reads dead letters, which hides them
 * from other readers for a moment, and deletes those whose jobs were done since; changes nothing else. Fails only with ABORTED.
 */
export async function status(service: Service, options: StatusOptions): Promise<Status> {
  const { state } = service;
  const [rules, runs, count, letters] = await Promise.all([
    answer('rules', async (taskOptions) => statusOfRules(state, taskOptions), options),
    answer('runs', async (taskOptions) => latestRuns(state, taskOptions), options),
    answer(
      'queue',
      async (taskOptions) =>
        Promise.all([countMessages(service, taskOptions), service.large?.queue.count(taskOptions)]),
      options,
    ),
    answer('dead letters', async (taskOptions) => lookAtDeadLetters(service, taskOptions), options),
  ]);
  const { dead = [], deadLetters } = letters.value ?? {};
  const none = { runs: [], uneventfulPushes: 0, inFlight: [], failed: [], lastOfRules: new Map<string, Run>() };
  const { lastOfRules, ...latest } = { ...none, ...runs.value };
  const found = { ...latest, rules: (rules.value ?? []).map((rule) => withPushFault(rule, lastOfRules)) };
  return {
    unanswered: [rules, runs, count, letters].flatMap(({ part, failure }) =>
      failure === undefined ? [] : [{ part, failure }],
    ),
    queue: count.value?.[0],
    ...(count.value?.[1] === undefined ? {} : { large: count.value[1] }),
    deadLetters,
    dead,
    ...found,
    faulty:
      (deadLetters ?? 0) > 0 ||
      found.rules.some((rule) => rule.faults.length > 0) ||
      found.inFlight.some((job) => job.fault !== undefined),
  };
}

interface Answer<T> {
  readonly part: Part;
  readonly value?: T;
  readonly failure?: Failure;
}

async function answer<T>(
  part: Part,
  work: (options: StatusOptions) => Promise<T>,
  options: StatusOptions,
): Promise<Answer<T>> {
  try {
    return { part, value: await within(PART_MS, work, options) };
  } catch (error) {
    checkAborted(options);
    return { part, failure: toFailure(error) };
  }
}

/** Counts the dead letters, reads some, and deletes those of them whose jobs were done since. */
async function lookAtDeadLetters(
  { deadLetters, state }: Service,
  options: StatusOptions,
): Promise<Pick<Status, 'deadLetters' | 'dead'>> {
  const deliveries = await deadLetters.receive(MAX_DEAD, { ...options, waitSeconds: 0 });
  let done: readonly Delivery[] = [];
  try {
    done = await within(TABLE_MS, async (taskOptions) => doneOf(deliveries, state, taskOptions), options).catch(
      () => [],
    );
    const { visible, inFlight } = await deadLetters.count(options);
    const dead = deliveries.filter((delivery) => !done.includes(delivery));
    return {
      dead: dead.map(({ id, body, reason, sentAtMs }) => ({ id, body, reason, sentAtMs })),
      deadLetters: Math.max(dead.length, visible + inFlight - done.length),
    };
  } finally {
    const settle = async (delivery: Delivery): Promise<void> =>
      delivery.settle(done.includes(delivery) ? { type: 'done' } : { type: 'again', seconds: 0 });
    // where this fails they are visible again when their visibility ends
    await Promise.allSettled(deliveries.map(settle));
  }
}

/** Those whose jobs were done since. */
async function doneOf(
  deliveries: readonly Delivery[],
  { destinations }: StateStore,
  options: Abortable,
): Promise<readonly Delivery[]> {
  const done: Delivery[] = [];
  for (const delivery of deliveries) {
    const job = jobIn(delivery.body);
    if (job !== undefined && (await isDone(job, destinations, options))) done.push(delivery);
  }
  return done;
}

/** The rule, with a fault where its last run is one of pushes that had failures: its progress does not know of those. */
function withPushFault(rule: RuleStatus, lastOfRules: ReadonlyMap<string, Run>): RuleStatus {
  const last = lastOfRules.get(rule.name);
  if (last?.trigger !== 'push' || (last.jobs.failed === 0 && last.dead !== true) || rule.expired) return rule;
  return { ...rule, faults: [...rule.faults, `its last run, of pushes, had failures: see run ${last.id}`] };
}

/** The latest runs that are worth a line, and their jobs; and of all that were looked at the last of each rule. */
async function latestRuns(
  state: StateStore,
  options: StatusOptions,
): Promise<
  Pick<Status, 'runs' | 'uneventfulPushes' | 'inFlight' | 'failed'> & { readonly lastOfRules: ReadonlyMap<string, Run> }
> {
  const { runs: wanted = DEFAULT_RUNS } = options;
  const runs: Run[] = [];
  let uneventfulPushes = 0;
  const lastOfRules = new Map<string, Run>();
  for (const run of await state.runs.list({ ...options, limit: Math.max(wanted, RUNS_LOOKED_AT) })) {
    if (run.rule !== undefined && !lastOfRules.has(run.rule)) lastOfRules.set(run.rule, run);
    if (runs.length === wanted) continue;
    if (isUneventful(run)) uneventfulPushes++;
    else runs.push(run);
  }
  const jobs = await Promise.all(runs.map(async (run) => jobsOf(state, run, options)));
  const inFlight = jobs.flatMap((found) => found.inFlight).slice(0, MAX_JOBS);
  const failed = jobs.flatMap((found) => found.failed).slice(0, MAX_JOBS);
  return { runs, uneventfulPushes, inFlight, failed, lastOfRules };
}

/** Whether a run of pushes has ended and needed nothing. One job is done even then: the one that planned the run. */
function isUneventful({ trigger, endedAtMs, dead, jobs }: Run): boolean {
  if (trigger !== 'push' || endedAtMs === undefined || dead === true) return false;
  return jobs.done <= 1 && jobs.failed + jobs.gone === 0;
}

/** What is known of a rule, with its run under way and what that has found wrong. */
interface Progress extends Omit<RuleProgress, 'rule' | 'current'> {
  readonly current: Run | undefined;
  readonly found: readonly string[];
}

/** Every rule with its progress. */
export async function statusOfRules(
  state: StateStore,
  options: Abortable & { readonly clock: Clock },
): Promise<readonly RuleStatus[]> {
  const rules = await state.rules.list(options);
  return Promise.all(
    rules.map(async ({ name, document, appliedAtMs }) => {
      const progress = await state.runs.progress(name, options);
      const current = progress?.current === undefined ? undefined : await state.runs.get(progress.current.run, options);
      const found = await faultsFound(state, current, options);
      const stored = { name, document, appliedAtMs };
      return statusOf(stored, { ...progress, current, found }, options.clock.now());
    }),
  );
}

function statusOf(
  stored: { readonly name: string; readonly document: string; readonly appliedAtMs: number },
  progress: Progress,
  nowMs: number,
): RuleStatus {
  const { name } = stored;
  const { lastGoodRunAtMs, current } = progress;
  const common = {
    name,
    current: current?.endedAtMs === undefined ? current : undefined,
    ageSeconds: lastGoodRunAtMs === undefined ? undefined : Math.max(0, Math.round((nowMs - lastGoodRunAtMs) / 1000)),
  };
  let rule: Rule;
  try {
    rule = parseRule(stored.document);
  } catch (error) {
    const why = isFailure(error) ? error.message : String(error);
    return { ...common, expired: false, faults: [`it cannot be read by this version: ${why}`] };
  }
  const expired = isExpired(rule, nowMs);
  return {
    ...common,
    kind: rule.kind,
    ...(rule.kind === 'verify' && rule.restoreTo !== undefined ? { drills: true } : {}),
    expired,
    nextScheduledAtMs: expired ? undefined : nextScheduledMs(rule.schedule, nowMs),
    faults: expired
      ? []
      : [...lateFaults(rule, stored.appliedAtMs, progress, nowMs), ...failureFaults(progress), ...progress.found],
  };
}

function lateFaults(
  rule: Rule,
  appliedAtMs: number,
  { current, lastScheduledAtMs }: Progress,
  nowMs: number,
): readonly string[] {
  const scheduledMs = lastScheduledMs(rule.schedule, nowMs);
  // the rule did not exist before it was applied
  if (scheduledMs === undefined || scheduledMs < appliedAtMs || nowMs - scheduledMs < GRACE_MS) return [];
  if (lastScheduledAtMs !== undefined && lastScheduledAtMs >= scheduledMs) return [];
  const when = new Date(scheduledMs).toISOString();
  if (current !== undefined && current.endedAtMs === undefined && current.startedAtMs < scheduledMs)
    return [`its run ${current.id} went on past its scheduled time ${when}`];
  return [
    `it was not planned at its scheduled time ${when}: is ${rule.kind === 'prune' ? 'a Cleaner' : 'a planner'} running?`,
  ];
}

/**
 * What failed in the last run that ended, and in the run under way. Repositories that cannot be listed leave no dead letter: only this shows
 * that they are no longer copied.
 */
function failureFaults({
  current,
  lastScheduledAtMs,
  lastGoodRunAtMs,
  lastFailedRunAtMs,
}: Progress): readonly string[] {
  const isOpen = current !== undefined && current.endedAtMs === undefined;
  const failures = isOpen ? current.jobs.failed : 0;
  const faults = failures > 0 ? [`${failures} of the jobs of its run under way failed`] : [];
  const goodAtMs = lastGoodRunAtMs ?? -Infinity;
  const hasFailed = lastFailedRunAtMs !== undefined && lastFailedRunAtMs > goodAtMs;
  // a run that the state has forgotten cannot record its end
  const hasNotEnded = !isOpen && lastScheduledAtMs !== undefined && lastScheduledAtMs > goodAtMs;
  if (!hasFailed && !hasNotEnded) return faults;
  const good =
    lastGoodRunAtMs === undefined
      ? 'there was no good one yet'
      : `the last good one began at ${new Date(lastGoodRunAtMs).toISOString()}`;
  return [`its last run had failures, or did not end; ${good}`, ...faults];
}

/** The faults that the planner of the run under way found at destinations and no worker has fixed yet. */
async function faultsFound(state: StateStore, run: Run | undefined, options: Abortable): Promise<readonly string[]> {
  const found: string[] = [];
  if (run === undefined || run.endedAtMs !== undefined || run.jobs.waiting + run.jobs.running === 0) return found;
  for await (const job of state.runs.jobs(run.id, options)) {
    if (job.fault === undefined || (job.state !== 'waiting' && job.state !== 'running')) continue;
    if (found.length === MAX_FOUND) return [...found, 'and more of the same kind'];
    found.push(job.fault);
  }
  return found;
}

async function jobsOf(
  state: StateStore,
  run: Run,
  options: Abortable,
): Promise<{ readonly inFlight: readonly JobRecord[]; readonly failed: readonly JobRecord[] }> {
  const inFlight: JobRecord[] = [];
  const failed: JobRecord[] = [];
  if (run.jobs.running > 0) await addFirst(state.runs.jobs(run.id, { ...options, state: 'running' }), inFlight);
  if (run.jobs.failed > 0) await addFirst(state.runs.jobs(run.id, { ...options, state: 'failed' }), failed);
  if (run.jobs.waiting > 0 && run.endedAtMs === undefined) {
    for await (const job of state.runs.jobs(run.id, { ...options, state: 'waiting' })) {
      if (inFlight.length >= MAX_JOBS) break;
      if (job.reason !== undefined || job.fault !== undefined) inFlight.push(job);
    }
  }
  return { inFlight, failed };
}

/** Adds jobs to `to` until it has `MAX_JOBS`. */
async function addFirst(from: AsyncIterable<JobRecord>, to: JobRecord[]): Promise<void> {
  for await (const job of from) {
    if (to.length >= MAX_JOBS) return;
    to.push(job);
  }
}
