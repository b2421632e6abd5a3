import { isCopyRule, isExpired, type PruneRule, type Rule } from '../../rules/rule.ts';
import { lastScheduledMs } from '../../rules/schedule.ts';
import type { Run, StateStore, StoredRule } from '../../state/state.ts';
import { anyOf, checkAborted, type Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import type { JobName, Report } from '../../util/events.ts';
import { describeFailure, ifFound, toFailure } from '../../util/failure.ts';
import type { BackendPool } from '../backend-pool.ts';
import type { DeletingBackends } from '../../images/deletions.ts';
import { readableRules } from '../readable-rules.ts';
import { DEAD_AFTER_SECONDS, lateRun, scheduledRunId } from '../scheduled-runs.ts';
import { OpenJobs } from './open-jobs.ts';
import { coverOf, keptTagsOf } from './cover.ts';
import { cleanRun, type CleanContext, type RunEnd } from './clean-run.ts';
import { LOCK_SECONDS } from './prune-place.ts';
import { cleanScratch } from './scratch.ts';

export interface CleanOptions extends Abortable {
  readonly clock: Clock;
  /** Returns what takes the events of a job; without one, those that belong to no job. */
  readonly reportOf: (job: JobName | undefined) => Report;
  /** When to begin no more places, in milliseconds since 1970: the next pass goes on there. Default: never. */
  readonly untilMs?: number | undefined;
}

/** The result of a pass of a Cleaner. */
export interface CleanResult {
  /** Rules that prune and have not expired. */
  readonly rules: number;
  /** Runs that began. */
  readonly begun: number;
  /** Runs that are not at their end: the next pass goes on with them. */
  readonly open: number;
  /** Rules that are due while their last run goes on. */
  readonly late: number;
  /** Rules that could not be served. */
  readonly failed: number;
  /** Repositories and folders that were pruned, that needed nothing, that are left for the next pass, and that failed. */
  readonly places: {
    readonly done: number;
    readonly skipped: number;
    readonly postponed: number;
    readonly failed: number;
  };
  /** Scratch repositories of drills: how many were deleted, and how many could not be deleted or listed. */
  readonly scratch: { readonly deleted: number; readonly failed: number };
}

/**
 * One pass of a Cleaner: begins the runs of all rules that prune and are due, and goes on with those that were asked for or did not end. It is
 * called every quarter of an hour. Any number may run at once: one of them serves a rule, and one is at a place. One rule that fails does not
 * stop the others. Last, it deletes the scratch repositories of drills that are over. Safe to stop anywhere: the next pass goes on with the
 * places that were not done.
 */
export async function runCleaner(
  state: StateStore,
  backends: Pick<BackendPool<DeletingBackends>, 'use'>,
  options: CleanOptions,
): Promise<CleanResult> {
  const stored = await state.rules.list(options);
  const pass = new Pass(state, backends, await readableRules(state.rules, options), options);
  for (const one of stored) await pass.guard(one);
  await pass.cleanScratch();
  return pass.result;
}

class Pass {
  readonly #tally = { rules: 0, begun: 0, open: 0, late: 0, failed: 0 };
  readonly #scratch = { deleted: 0, failed: 0 };
  readonly #places = { done: 0, skipped: 0, postponed: 0, failed: 0 };
  readonly #state: StateStore;
  readonly #backends: Pick<BackendPool<DeletingBackends>, 'use'>;
  readonly #rules: readonly Rule[];
  readonly #options: CleanOptions;
  readonly #jobs: OpenJobs;
  readonly #report: Report;

  constructor(
    state: StateStore,
    backends: Pick<BackendPool<DeletingBackends>, 'use'>,
    rules: readonly Rule[],
    options: CleanOptions,
  ) {
    this.#state = state;
    this.#backends = backends;
    this.#rules = rules;
    this.#options = options;
    this.#jobs = new OpenJobs(state.runs, coverOf(rules), options.clock);
    this.#report = options.reportOf(undefined);
  }

  get result(): CleanResult {
    return { ...this.#tally, places: { ...this.#places }, scratch: { ...this.#scratch } };
  }

  /** Serves a rule. Its failure is reported and counted. */
  async guard(stored: StoredRule): Promise<void> {
    // one that cannot be read is reported by the planner
    const rule = this.#rules.find(({ name }) => name === stored.name);
    if (rule?.kind !== 'prune' || isExpired(rule, this.#options.clock.now())) return;
    this.#tally.rules++;
    try {
      await this.#serve(rule, stored);
    } catch (error) {
      checkAborted(this.#options);
      this.#tally.failed++;
      const message = describeFailure(error);
      this.#report({ type: 'rule-failed', rule: rule.name, code: toFailure(error).code, message });
    }
  }

  /** Deletes the scratch repositories of drills that are over. Failures are reported. */
  async cleanScratch(): Promise<void> {
    const { clock, untilMs } = this.#options;
    const named = new Set(this.#rules.flatMap((rule) => (rule.kind === 'verify' ? (rule.restoreTo ?? []) : [])));
    // a rule that was removed may have left some
    const places = await this.#state.scratchPlaces.noteNamed([...named], this.#options);
    if (places.length === 0) return;
    const { deleted, failed, open } = await this.#backends.use(
      async (backends) =>
        cleanScratch({ places, named }, this.#state, backends, {
          ...this.#options,
          clock,
          report: this.#report,
          untilMs,
        }),
      this.#options,
    );
    this.#scratch.deleted += deleted;
    this.#scratch.failed += failed;
    if (open) this.#tally.open++;
  }

  async #serve(rule: PruneRule, stored: StoredRule): Promise<void> {
    await using lease = await this.#state.lock(`clean/${rule.name}`, LOCK_SECONDS, this.#options);
    // another Cleaner serves it
    if (lease === undefined) return;
    const held = { signal: anyOf(this.#options.signal, lease.signal) };
    const open = await this.#openRuns(rule, held);
    const begun = await this.#begin(rule, stored, open, held);
    for (const run of [...open, ...(begun === undefined ? [] : [begun])]) {
      if (this.#isOver()) this.#tally.open++;
      else await this.#clean(run, rule, stored, held);
    }
  }

  /** The runs of the rule that go on, oldest first. Those that are too old are declared dead. */
  async #openRuns(rule: PruneRule, options: Abortable): Promise<readonly Run[]> {
    const { runs } = this.#state;
    const nowMs = this.#options.clock.now();
    // twice the time, so that the first pass after it still finds them and declares them dead
    const unendedSinceMs = nowMs - 2 * DEAD_AFTER_SECONDS * 1000;
    const listed = (await runs.list({ ...options, rule: rule.name, unendedSinceMs })).map(({ id }) => id).toReversed();
    // one whose Cleaner crashed while it began is in no list
    const current = (await runs.progress(rule.name, options))?.current?.run;
    const open: Run[] = [];
    for (const id of new Set([...listed, ...(current === undefined ? [] : [current])])) {
      const run = await ifFound(runs.settle(id, options));
      if (run === undefined || run.endedAtMs !== undefined) continue;
      if (nowMs - run.startedAtMs < DEAD_AFTER_SECONDS * 1000) open.push(run);
      else {
        await runs.declareDead(id, options);
        this.#late(run, rule, true);
      }
    }
    return open;
  }

  /**
   * Begins the run of the last scheduled time, unless no time has passed yet, or another run is open. A time before the rule was applied in its
   * present form does not count: a new rule deletes nothing before its first own time.
   */
  async #begin(
    rule: PruneRule,
    { appliedAtMs }: StoredRule,
    open: readonly Run[],
    options: Abortable,
  ): Promise<Run | undefined> {
    const { runs } = this.#state;
    const progress = await runs.progress(rule.name, options);
    const scheduledAtMs = lastScheduledMs(rule.schedule, this.#options.clock.now()) ?? 0;
    const { lastScheduledAtMs, current } = progress ?? {};
    if (scheduledAtMs < appliedAtMs) return undefined;
    if (lastScheduledAtMs !== undefined && scheduledAtMs <= lastScheduledAtMs) return undefined;
    const before = open.find(({ id }) => id === current?.run);
    if (before !== undefined) {
      this.#late(before, rule, false);
      return undefined;
    }
    const id = scheduledRunId(rule.name, scheduledAtMs);
    const run = await runs.beginScheduled({ id, rule: rule.name, scheduledAtMs, replacing: current?.run }, options);
    if (run === undefined) return undefined;
    this.#tally.begun++;
    this.#report({ type: 'run-started', run: id, rule: rule.name });
    return run;
  }

  async #clean(run: Run, rule: PruneRule, stored: StoredRule, options: Abortable): Promise<void> {
    const { clock, reportOf, untilMs } = this.#options;
    const ended = await this.#backends.use(async (backends): Promise<RunEnd> => {
      const context: CleanContext = {
        rule,
        run,
        state: this.#state,
        backends,
        jobs: this.#jobs,
        backups: this.#rules.filter((one) => isCopyRule(one)).filter(({ kind }) => kind === 'backup'),
        keptTags: keptTagsOf(this.#rules),
        clock,
        reportOf,
        isCurrent: async (taskOptions) => this.#isCurrent(stored, taskOptions),
        untilMs,
      };
      return cleanRun(context, options);
    }, options);
    if (!ended.ended) this.#tally.open++;
    for (const state of ['done', 'skipped', 'postponed', 'failed'] as const) this.#places[state] += ended.places[state];
  }

  async #isCurrent({ name, revision }: StoredRule, options: Abortable): Promise<boolean> {
    const rules = await this.#state.rules.list(options);
    return rules.some((one) => one.name === name && one.revision === revision);
  }

  #isOver(): boolean {
    const { untilMs = Infinity, clock } = this.#options;
    return clock.now() >= untilMs;
  }

  #late(run: Run, rule: PruneRule, dead: boolean): void {
    const { waiting, running } = run.jobs;
    if (!dead) this.#tally.late++;
    this.#report(lateRun(run, { rule: rule.name, dead, left: `${waiting + running} places left` }));
  }
}
