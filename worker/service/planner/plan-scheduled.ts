import { isDeepStrictEqual } from 'node:util';
import type { Backends } from '../../images/backends.ts';
import { formatRepository, type Repository } from '../../oci/reference.ts';
import type { PlanJob } from '../../queue/job.ts';
import type { Destination } from '../../rules/destinations.ts';
import { isPlannedRule, type CopyRule, type PlannedRule, type Rule } from '../../rules/rule.ts';
import type { Run, StateStore } from '../../state/state.ts';
import { anyOf, checkAborted, type Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import { deadline } from '../../util/deadline.ts';
import type { Report } from '../../util/events.ts';
import { Failure, isFailure } from '../../util/failure.ts';
import { append } from '../../util/lists.ts';
import type { BackendPool } from '../backend-pool.ts';
import { DestinationOwners } from '../destination-owner.ts';
import type { Service } from '../service.ts';
import { listRepositories } from './list-repositories.ts';
import { listSource } from './list-source.ts';
import { archivedWarning } from './source-list.ts';
import { batchesOf, planBatch, type BatchContext } from './plan-batch.ts';
import { afterRepository, FROM_THE_START, isAfter, mayHaveAfter, nameOf } from './plan-jobs.ts';
import { NOTHING_LEFT, planRun, type PlanOptions, type PlanResult, type RunToPlan } from './plan-run.ts';
import { planSettings } from './plan-settings.ts';
import { planStores } from './plan-many.ts';
import { planPublish } from './plan-publish.ts';
import { planVerify } from './plan-verify.ts';
import { planPushes } from './plan-pushed.ts';
import { Presences } from './presences.ts';
import { Remembered } from './remembered.ts';
import { Retries } from './retries.ts';
import type { RunJobs } from './run-jobs.ts';
import { readRule } from './stored-rule.ts';

export interface ScheduledPlanOptions extends PlanOptions {
  /**
   * When to leave the rest to a worker, in milliseconds since 1970. Default: never. What is under way by then has a little longer, and is
   * broken off: a registry that does not answer holds up no other rule. A plan that goes on after an image gets further, late or not.
   */
  readonly untilMs?: number | undefined;
  /** How often each tag of a destination in a registry other than ECR is asked for. 0: in every run. Default 24. */
  readonly lookEveryHours?: number | undefined;
}

/** A run of everything that its rule names. */
interface ScheduledPlan extends RunToPlan {
  readonly rule: PlannedRule;
  readonly run: Pick<Run, 'id' | 'startedAtMs' | 'trigger'>;
}

/** What is under way when it is late ends within this time, or is broken off. */
const ENDING_MS = 15_000;
/** After this many repositories in a row have failed, a registry counts as unreachable and its others are not asked. */
const MAX_FAILURES = 3;

/**
 * Plans a run of everything that its rule names, as `planRun`; of a rule that publishes as `planPublish`. A repository that cannot be listed is
 * a failed job of the run, and the others go on. Memory is that of the largest repository.
 */
export async function planScheduled(
  request: ScheduledPlan,
  service: Service,
  backends: Backends,
  options: ScheduledPlanOptions,
): Promise<PlanResult | undefined> {
  const { untilMs = Infinity, clock, report, lookEveryHours } = options;
  const { rule, run } = request;
  if (rule.kind === 'publish') return planPublish({ rule, run }, service, backends, options);
  if (rule.kind === 'verify') return planVerify({ rule, run }, service, options);
  return planRun(
    { ...request, snapshots: { rule } },
    service,
    async (jobs, held) => {
      const isStart = request.after === undefined || isDeepStrictEqual(request.after, FROM_THE_START);
      if (isStart) await planStores({ rule, run, jobs, retries: retriesOf(rule, run, service.state) }, held);
      if (rule.to.length === 0) return undefined;
      const parts = { jobs, state: service.state, backends, clock, report, untilMs, lookEveryHours };
      if (untilMs === Infinity || request.after !== undefined)
        return new RulePlanner({ ...request, rule }, parts, held, held.signal).plan();
      const late = (): Failure => new Failure('ABORTED', `plan run ${run.id}: the time for it is over`);
      await using end = deadline(Math.max(0, untilMs - clock.now()) + ENDING_MS, late, clock);
      return await new RulePlanner({ ...request, rule }, parts, held, anyOf(held.signal, end.signal)).plan();
    },
    options,
  );
}

/** Does a plan job: plans a run of pushes, or goes on with planning any other run. As `planScheduled`. NOT_FOUND without the rule or the run. */
export async function continuePlan(
  job: PlanJob,
  service: Service,
  backends: Pick<BackendPool, 'use'>,
  options: ScheduledPlanOptions,
): Promise<PlanResult | undefined> {
  const { runs } = service.state;
  const run = await runs.get(job.run, options);
  if (run === undefined) throw new Failure('NOT_FOUND', `plan ${job.rule}: there is no run ${job.run}`);
  if (run.trigger === 'push') return planPushes({ run, rule: job.rule }, service, backends, options);
  let rule: Rule;
  try {
    rule = await readRule(job.rule, service, options);
  } catch (error) {
    // no planner can plan the rest: the run ends with what there is
    if (isFailure(error, 'NOT_FOUND', 'INVALID')) await runs.planned(job.run, options);
    throw error;
  }
  // a Cleaner finds the run
  if (!isPlannedRule(rule)) return NOTHING_LEFT;
  const request = { rule, run, after: job.after };
  return backends.use(async (opened) => planScheduled(request, service, opened, options), options);
}

/** Undefined for a run by hand: a person who asks for a run wants an attempt now. */
function retriesOf({ name }: CopyRule, run: ScheduledPlan['run'], { runs }: StateStore): Retries | undefined {
  return run.trigger === 'schedule' ? new Retries(name, run, runs) : undefined;
}

interface Parts {
  readonly jobs: RunJobs;
  readonly state: StateStore;
  readonly backends: Backends;
  readonly clock: Clock;
  readonly report: Report | undefined;
  readonly untilMs: number;
  readonly lookEveryHours: number | undefined;
}

/** Plans repository after repository of one rule, until it is late. */
class RulePlanner {
  readonly #rule: CopyRule;
  readonly #run: ScheduledPlan['run'];
  readonly #after: PlanJob['after'];
  readonly #parts: Parts;
  /** For work that goes on when it is late. */
  readonly #held: Abortable;
  /** For work that is broken off when it is late. */
  readonly #options: { readonly signal: AbortSignal };
  readonly #batches: BatchContext;
  /** Images up to this one are planned. Undefined in a plan that continues after an image, until it gets further. */
  #reached: PlanJob['after'] | undefined;

  constructor(
    { rule, run, after }: ScheduledPlan & { readonly rule: CopyRule },
    parts: Parts,
    held: Abortable,
    /** Fires with that of `held`, and when it is late. */
    signal: AbortSignal,
  ) {
    this.#rule = rule;
    this.#run = run;
    this.#after = after ?? FROM_THE_START;
    this.#reached = after === undefined ? FROM_THE_START : undefined;
    this.#parts = parts;
    this.#held = held;
    this.#options = { signal };
    this.#batches = {
      rule,
      run,
      jobs: parts.jobs,
      spread: true,
      remembered: new Remembered(parts.state.destinations),
      presences: new Presences(parts.backends, {
        destinations: parts.state.destinations,
        clock: parts.clock,
        report: parts.report,
        lookEveryHours: parts.lookEveryHours,
      }),
      owners: new DestinationOwners(parts.state.rules, parts.clock),
      retries: retriesOf(rule, run, parts.state),
      fail: async (title, error) => this.#fail(title, error),
    };
  }

  /** Returns after which image a worker has to go on; undefined when all is planned. */
  async plan(): Promise<PlanJob['after'] | undefined> {
    try {
      return await this.#planRepositories();
    } catch (error) {
      checkAborted(this.#held);
      if (!this.#options.signal.aborted || this.#reached === undefined) throw error;
      this.#warn(`rule ${this.#rule.name}: not all that it names answered in time; a worker goes on`);
      return this.#reached;
    }
  }

  async #planRepositories(): Promise<PlanJob['after'] | undefined> {
    if (this.#reached !== undefined && this.#isLate()) return this.#reached;
    const away = new Map<string, { readonly times: number; readonly error: unknown }>();
    for (const { registry, repository } of await this.#repositories()) {
      const name = formatRepository({ registry, repository });
      if (!mayHaveAfter(this.#after, name)) continue;
      if (this.#reached !== undefined && this.#isLate()) return this.#reached;
      const before = away.get(registry);
      try {
        if (before !== undefined && before.times >= MAX_FAILURES) throw before.error;
        const last = await this.#planRepository({ registry, repository });
        if (last !== undefined) return { repository: name, name: last };
        away.delete(registry);
      } catch (error) {
        await this.#fail(`list docker://${name}`, error);
        if (isFailure(error) && error.retryable) away.set(registry, { times: (before?.times ?? 0) + 1, error });
      }
      this.#reached = afterRepository(name);
    }
    return undefined;
  }

  async #repositories(): Promise<readonly Repository[]> {
    const { backends, report } = this.#parts;
    return listRepositories(this.#rule, backends, { ...this.#options, report, fail: this.#batches.fail });
  }

  /** Returns the name of the last image that is planned where it is late and there are more; else undefined. */
  async #planRepository({ registry, repository }: Repository): Promise<string | undefined> {
    const name = formatRepository({ registry, repository });
    const source = this.#parts.backends.registry(registry, 'source');
    const list = await listSource(this.#rule, source, repository, this.#run.startedAtMs, this.#options);
    if (list.size !== undefined && isAfter(this.#after, name, ''))
      this.#parts.report?.({ type: 'repository-listed', rule: this.#rule.name, repository: name, ...list.size });
    if (list.archived.length > 0 && isAfter(this.#after, name, '')) this.#warn(archivedWarning(name, list));
    const candidates = list.selected.filter((candidate) => isAfter(this.#after, name, nameOf(candidate)));
    const end = candidates.at(-1);
    const archives: Destination[] = [];
    for (const batch of batchesOf(candidates)) {
      const made = await planBatch({ registry, repository, list, candidates: batch }, this.#batches, this.#options);
      append(archives, made);
      const last = batch.at(-1);
      if (last === undefined || last === end) continue;
      this.#reached = { repository: name, name: nameOf(last) };
      if (this.#isLate()) return nameOf(last);
    }
    const context = { ...this.#batches, backends: this.#parts.backends };
    if (end !== undefined) await planSettings({ registry, repository, archives }, context, this.#options);
    return undefined;
  }

  async #fail(title: string, error: unknown): Promise<void> {
    await this.#parts.jobs.fail(title, error, this.#options);
  }

  #isLate(): boolean {
    const { untilMs, clock } = this.#parts;
    return untilMs !== Infinity && clock.now() >= untilMs;
  }

  #warn(message: string): void {
    this.#parts.report?.({ type: 'warning', message });
  }
}
