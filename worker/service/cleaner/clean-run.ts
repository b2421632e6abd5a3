import { parsePrunePlace } from '../../images/prune-places.ts';
import { jobId } from '../../queue/job.ts';
import { parseSource, formatSource } from '../../rules/sources.ts';
import { isStore } from '../../rules/stores.ts';
import type { JobRecord, NewJob } from '../../state/state.ts';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import type { JobName, Report } from '../../util/events.ts';
import { describeFailure, Failure, toFailure } from '../../util/failure.ts';
import { compareStrings } from '../../util/text.ts';
import { placeName } from '../place-uses.ts';
import { Budget } from './budget.ts';
import { coverOf } from './cover.ts';
import { placesAt } from './places.ts';
import type { PlaceEnd, PruneContext } from './prune-context.ts';
import { prunePlace } from './prune-place.ts';

export interface CleanContext extends Omit<PruneContext, 'report' | 'budget' | 'run'> {
  readonly run: {
    readonly id: string;
    readonly deletes?: number | undefined;
    readonly plannedAtMs?: number | undefined;
  };
  readonly reportOf: (job: JobName | undefined) => Report;
  /** Whether the rule is stored as it was read. */
  readonly isCurrent: (options: Abortable) => Promise<boolean>;
  /** When to begin no more places. Default: never. */
  readonly untilMs?: number | undefined;
}

/** The result of a pass for one run. */
export interface RunEnd {
  /** Whether every place has been looked at. */
  readonly ended: boolean;
  readonly places: Readonly<Record<PlaceEnd['state'], number>>;
}

/** After so many Cleaners crashed or were stopped at a place, its job fails: the place may be what stops them. */
const MAX_ATTEMPTS = 5;
/** Begins the titles of jobs; the place follows. */
const TITLE = 'prune ';

/**
 * Does what is left of a run: makes a job known for each place, then prunes one place after another, in their order. The job of a place has no
 * message: no worker does it. The caller holds the lease of the rule.
 */
export async function cleanRun(context: CleanContext, options: Abortable): Promise<RunEnd> {
  const { rule, run, state, clock, untilMs = Infinity } = context;
  if (run.plannedAtMs === undefined) await planRun(context, options);
  const budget = new Budget(run, rule.maxDeletes, state.runs);
  const places = { done: 0, skipped: 0, postponed: 0, failed: 0 };
  const open: JobRecord[] = [];
  for await (const job of state.runs.jobs(run.id, options)) {
    const isOpen = job.state === 'waiting' || job.state === 'running';
    // one with a message is a worker's: that of a request
    if (isOpen && job.fingerprint === undefined) open.push(job);
  }
  open.sort((a, b) => compareStrings(a.title, b.title));
  for (const job of open) {
    checkAborted(options);
    // a rule that was changed or removed deletes nothing more; the next pass goes on with what is stored
    if (clock.now() >= untilMs || !(await context.isCurrent(options))) return { ended: false, places };
    const end = await cleanPlace(job, budget, context, options);
    if (end !== undefined) places[end]++;
  }
  return { ended: places.postponed === 0, places };
}

/** Makes a job known for each place that the rule names. An `at` that cannot be listed is a failed job, and the others are pruned. */
async function planRun(
  { rule, run, state, backends, reportOf, clock }: CleanContext,
  options: Abortable,
): Promise<void> {
  const { runs } = state;
  const report = reportOf(undefined);
  const names = new Set<string>();
  const failed: { readonly at: string; readonly failure: Failure }[] = [];
  for (const at of rule.at.flatMap(patternsOf)) {
    try {
      const found = isStore(at) ? [at] : await placesAt(parsePrunePlace(at), backends, { ...options, clock, report });
      for (const name of found) names.add(name);
    } catch (error) {
      checkAborted(options);
      failed.push({ at, failure: toFailure(error) });
    }
  }
  const jobs: NewJob[] = [];
  for (const name of names) jobs.push({ id: jobId(run.id, 'prune', name), title: TITLE + name, rule: rule.name });
  await runs.addJobs(run.id, jobs, options);
  // after the others: a run whose only jobs have failed counts as given up
  for (const { at, failure } of failed) {
    const job = { id: jobId(run.id, 'list', at), title: `list ${at}`, rule: rule.name };
    await runs.addJobs(run.id, [job], options);
    const end = { state: 'failed', code: failure.code, reason: describeFailure(failure) } as const;
    await runs.endJob(run.id, job.id, end, options);
    const { code, reason: message } = end;
    reportOf({ ...job, kind: 'prune', run: run.id })({ type: 'prune-failed', place: at, code, message });
  }
  await runs.planned(run.id, options);
  const counts = { jobs: jobs.length, unchanged: 0, unseen: 0, continued: false };
  report({ type: 'run-planned', run: run.id, rule: rule.name, ...counts });
}

/** Braces written out, and the host of a registry alone as all its repositories. */
function patternsOf(at: string): readonly string[] {
  return at.startsWith('s3://') || isStore(at) ? [at] : parseSource(at).map(formatSource);
}

/** Prunes the place of a job, and ends the job unless it is postponed. Undefined for a job that another Cleaner ended. */
async function cleanPlace(
  job: JobRecord,
  budget: Budget,
  context: CleanContext,
  options: Abortable,
): Promise<PlaceEnd['state'] | undefined> {
  const { rule, run, state, reportOf } = context;
  const { id, title } = job;
  const place = title.slice(TITLE.length);
  const report = reportOf({ kind: 'prune', id, run: run.id, rule: rule.name, title });
  if (!coverOf([rule])(placeName(place))) {
    // the rule was changed since the run began
    await state.runs.endJob(run.id, id, { state: 'skipped' }, options);
    return 'skipped';
  }
  const attempt = await state.runs.startJob(run.id, id, options);
  if (attempt === undefined) return undefined;
  const fail = async (failure: Failure): Promise<'failed'> => {
    const end = { state: 'failed', code: failure.code, reason: describeFailure(failure) } as const;
    await state.runs.endJob(run.id, id, end, options);
    return 'failed';
  };
  const crashed = new Failure('UNAVAILABLE', `prune ${place}: ${MAX_ATTEMPTS} Cleaners crashed or were stopped there`);
  if (attempt > MAX_ATTEMPTS) return failPlace(place, crashed, report, fail);
  let end: PlaceEnd;
  try {
    end = await prunePlace(place, job, { ...context, budget, report }, options);
  } catch (error) {
    // the next Cleaner goes on here; a stop in order is not an attempt
    if (options.signal?.aborted === true) await state.runs.giveBackJob(run.id, id).catch(() => undefined);
    checkAborted(options);
    return failPlace(place, toFailure(error), report, fail);
  }
  if (end.state === 'failed') return fail(end.failure);
  if (end.state === 'postponed') {
    await state.runs.giveBackJob(run.id, id, options);
    report({ type: 'place-postponed', place, message: end.why });
  } else await state.runs.endJob(run.id, id, { state: end.state }, options);
  return end.state;
}

async function failPlace<T>(
  place: string,
  failure: Failure,
  report: Report,
  fail: (failure: Failure) => Promise<T>,
): Promise<T> {
  report({ type: 'prune-failed', place, code: failure.code, message: describeFailure(failure) });
  return fail(failure);
}
