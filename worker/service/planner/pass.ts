import { isPlanJobId } from './plan-jobs.ts';
import { parseRule } from '../../rules/config.ts';
import { isExpired, isPlannedRule, type PlannedRule } from '../../rules/rule.ts';
import { lastScheduledMs, nextScheduledMs } from '../../rules/schedule.ts';
import type { Run, StoredRule } from '../../state/state.ts';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import { describeFailure, ifFound, toFailure } from '../../util/failure.ts';
import type { Report } from '../../util/events.ts';
import type { BackendPool } from '../backend-pool.ts';
import { dropDone } from '../dead-letters.ts';
import { planScheduled } from './plan-scheduled.ts';
import { onlyRetries } from './retries.ts';
import { reachedByOthersMs, resendLost } from './resend-lost.ts';
import { DEAD_AFTER_SECONDS, lateRun, scheduledRunId } from '../scheduled-runs.ts';
import { countMessages, type Service } from '../service.ts';
import { startTask } from '../start-task.ts';

export interface PassOptions extends Abortable {
  readonly clock: Clock;
  readonly report?: Report | undefined;
  /** When to leave the rest to workers, in milliseconds since 1970. Default: never. */
  readonly untilMs?: number | undefined;
  /** As `ScheduledPlanOptions.lookEveryHours`. */
  readonly lookEveryHours?: number | undefined;
}

/** The result of a pass. */
export interface PassResult {
  readonly rules: number;
  /** Rules whose run began. */
  readonly begun: number;
  /** Rules that are due while their last run goes on. */
  readonly late: number;
  /** Rules that could not be served. */
  readonly failed: number;
  /** Rules of which some sources or images could not be read: these are failed jobs of their runs, and the rest was planned. */
  readonly incomplete: number;
  /** Jobs whose messages were lost and were sent again. */
  readonly resent: number;
}

/** The others wait for it: what of a rule is not planned by then is left to a worker. */
const MAX_RULE_MS = 2 * 60_000;
/** How many of the newest runs, ended or not, show how far workers have come. */
const RUNS_LOOKED_AT = 100;

/**
 * One pass of a planner: begins and plans the runs of all rules that are due, repairs what crashed planners and workers left, and reports what
 * is late, expired or failed, and how old each rule's last good copy, verification or drill is. It deletes the dead letters of jobs that were
 * done since. It is called every few minutes. Any number may run at once: one of them begins the run of a scheduled time, and one plans it. One
 * rule that fails does not stop the others. When jobs wait and no worker runs, it starts one.
 *
 * A rule is due once its schedule named a time that no run was begun for, so one run makes up for all the times that were missed.
 */
export async function runPass(
  service: Service,
  backends: Pick<BackendPool, 'use'>,
  options: PassOptions,
): Promise<PassResult> {
  const rules = await service.state.rules.list(options);
  const pass = new Pass(service, backends, options);
  for (const stored of rules) await pass.guard(stored.name, async () => pass.serve(stored));
  await pass.guard(undefined, async () => pass.settleOthers());
  await pass.guard(undefined, async () => pass.resendLost());
  await pass.guard(undefined, async () => dropDone(service, options));
  await pass.guard(undefined, async () => pass.startLargeWorker());
  await pass.guard(undefined, async () => pass.startWorker());
  return { rules: rules.length, ...pass.tally };
}

class Pass {
  readonly tally = { begun: 0, late: 0, failed: 0, incomplete: 0, resent: 0 };
  readonly #service: Service;
  readonly #backends: Pick<BackendPool, 'use'>;
  readonly #options: PassOptions;
  /** Runs that were looked at, by id. */
  readonly #seen = new Map<string, Run>();
  /** Those of them that go on. */
  readonly #open = new Map<string, Run>();
  /** Rules whose runs a Cleaner does, without a queue. */
  readonly #cleaned = new Set<string>();

  constructor(service: Service, backends: Pick<BackendPool, 'use'>, options: PassOptions) {
    this.#service = service;
    this.#backends = backends;
    this.#options = options;
  }

  /** Runs `work`. Its failure is reported, and counted for a rule. */
  async guard(rule: string | undefined, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      checkAborted(this.#options);
      const { code } = toFailure(error);
      const message = describeFailure(error);
      if (rule === undefined) return this.#options.report?.({ type: 'warning', message });
      this.tally.failed++;
      this.#options.report?.({ type: 'rule-failed', rule, code, message });
    }
  }

  async serve(stored: StoredRule): Promise<void> {
    const nowMs = this.#options.clock.now();
    const { runs } = this.#service.state;
    const before = await runs.progress(stored.name, this.#options);
    const replacing = before?.current?.run;
    // a run that the state has forgotten is no reason not to begin another
    const current = replacing === undefined ? undefined : await ifFound(this.#settle(replacing));
    const open = current?.endedAtMs === undefined ? current : undefined;
    // before the rule is read: it may be unreadable, expired or gone
    const isGoingOn = open !== undefined && !(await this.#isDead(open, stored.name));
    const rule = parseRule(stored.document);
    if (!isPlannedRule(rule)) this.#cleaned.add(rule.name);
    if (isExpired(rule, nowMs)) return this.#options.report?.({ type: 'rule-expired', rule: rule.name });
    // a Cleaner runs it
    if (!isPlannedRule(rule)) return;

    // a run that just ended may have been a good one
    const progress = current === undefined ? before : await runs.progress(rule.name, this.#options);
    const { lastGoodRunAtMs, lastScheduledAtMs } = progress ?? {};
    const goodMs = lastGoodRunAtMs ?? stored.appliedAtMs;
    this.#options.report?.({
      type: 'rule-age',
      rule: rule.name,
      what: goodRunOf(rule),
      ageSeconds: secondsSince(goodMs, nowMs),
      overdueSeconds: secondsSince(nextScheduledMs(rule.schedule, goodMs) ?? nowMs, nowMs),
    });

    const scheduledMs = lastScheduledMs(rule.schedule, nowMs) ?? 0;
    const isDue = lastScheduledAtMs === undefined || scheduledMs > lastScheduledAtMs;
    const isFree = !isGoingOn || (isDue && (await onlyRetries(open, runs, this.#options)));
    if (!isFree) {
      if (isDue) this.#late(open, rule.name, false);
      if (open.plannedAtMs === undefined) await this.#resume(open, rule);
      return;
    }
    if (isDue) await this.#begin(rule, scheduledMs, replacing);
  }

  /** Settles runs that no schedule waits for: those of pushes, of requests, and of rules that are gone. */
  async settleOthers(): Promise<void> {
    const { runs } = this.#service.state;
    const { signal, clock } = this.#options;
    for (const run of await runs.list({ signal, limit: RUNS_LOOKED_AT })) this.#seen.set(run.id, run);
    // twice the time, so that the first pass after it still finds them and declares them dead
    const unendedSinceMs = clock.now() - 2 * DEAD_AFTER_SECONDS * 1000;
    for (const run of await runs.list({ signal, unendedSinceMs })) {
      if (this.#open.has(run.id)) continue;
      const settled = await this.#settle(run.id);
      if (settled.endedAtMs === undefined && settled.jobs.running === 0) await this.#isDead(settled, run.rule);
    }
  }

  /** Sends waiting jobs again that a planner made known but crashed before it sent, and those whose messages the queue lost. */
  async resendLost(): Promise<void> {
    const worked = [...this.#seen.values()].filter(({ rule }) => rule === undefined || !this.#cleaned.has(rule));
    const reached = await reachedByOthersMs(worked, this.#service, this.#options);
    const resent = await resendLost(this.#open.values(), reached, this.#service, this.#options);
    this.tally.resent = resent;
    if (resent > 0)
      this.#options.report?.({
        type: 'warning',
        message: `${resent} jobs waited longer than the queue explains, and were sent again`,
      });
  }

  /** As `startWorker`, for large jobs. */
  async startLargeWorker(): Promise<void> {
    const { large } = this.#service;
    if (large?.tasks === undefined) return;
    if ((await large.queue.count(this.#options)).visible > 0) await startTask(large, this.#options);
  }

  /** Jobs that wait need not wait for scaling, which sees them some minutes later. SQS may not count yet what this pass sent. */
  async startWorker(): Promise<void> {
    const { begun, resent } = this.tally;
    if (this.#service.tasks === undefined) return;
    const isSent = begun + resent > 0;
    if (isSent || (await countMessages(this.#service, this.#options)).visible > 0)
      await startTask(this.#service, this.#options);
  }

  async #settle(id: string): Promise<Run> {
    const run = await this.#service.state.runs.settle(id, this.#options);
    this.#seen.set(id, run);
    if (run.endedAtMs === undefined) this.#open.set(id, run);
    return run;
  }

  /** Declares it dead when it is too old. */
  async #isDead(run: Run, rule: string | undefined): Promise<boolean> {
    if (this.#options.clock.now() - run.startedAtMs < DEAD_AFTER_SECONDS * 1000) return false;
    await this.#service.state.runs.declareDead(run.id, this.#options);
    this.#open.delete(run.id);
    this.#late(run, rule, true);
    return true;
  }

  #late(run: Run, rule: string | undefined, dead: boolean): void {
    if (!dead) this.tally.late++;
    this.#options.report?.(lateRun(run, { rule, dead, left: leftOf(run) }));
  }

  async #begin(rule: PlannedRule, scheduledAtMs: number, replacing: string | undefined): Promise<void> {
    const id = scheduledRunId(rule.name, scheduledAtMs);
    const run = await this.#service.state.runs.beginScheduled(
      { id, rule: rule.name, scheduledAtMs, replacing },
      this.#options,
    );
    // another planner did
    if (run === undefined) return;
    this.tally.begun++;
    this.#options.report?.({ type: 'run-started', run: id, rule: rule.name });
    await this.#plan(run, rule);
  }

  /** Plans the rest of a run whose planner may have crashed, unless a job of the run goes on with planning. */
  async #resume(run: Run, rule: PlannedRule): Promise<void> {
    for await (const { id, state } of this.#service.state.runs.jobs(run.id, { signal: this.#options.signal }))
      if (isPlanJobId(id) && (state === 'waiting' || state === 'running')) return;
    await this.#plan(run, rule);
  }

  async #plan(run: Run, rule: PlannedRule): Promise<void> {
    const { untilMs = Infinity, clock } = this.#options;
    const options = { ...this.#options, untilMs: Math.min(untilMs, clock.now() + MAX_RULE_MS) };
    const plan = await this.#backends.use(
      async (opened) => planScheduled({ rule, run }, this.#service, opened, options),
      options,
    );
    if (plan !== undefined && plan.failed > 0) this.tally.incomplete++;
  }
}

/** 0 for a moment that is yet to come. */
function secondsSince(thenMs: number, nowMs: number): number {
  return Math.max(0, Math.round((nowMs - thenMs) / 1000));
}

/** What a good run of the rule was. */
function goodRunOf(rule: PlannedRule): 'copy' | 'verification' | 'drill' {
  if (rule.kind !== 'verify') return 'copy';
  return rule.restoreTo === undefined ? 'verification' : 'drill';
}

function leftOf({ jobs, plannedAtMs }: Run): string {
  const left = `${jobs.waiting + jobs.running} of its ${Object.values(jobs).reduce((a, b) => a + b, 0)} jobs left`;
  return plannedAtMs === undefined ? `${left}, and is not planned to the end` : left;
}
