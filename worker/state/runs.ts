import { randomUUID } from 'node:crypto';
import { checkAborted, type Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import { Failure } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import type { Report } from '../util/events.ts';
import type { JobCounts, JobEnd, JobRecord, JobState, RuleProgress, Run, Runs, RunTrigger } from './state.ts';
import {
  findNumber,
  findText,
  keyOf,
  numberOf,
  textOf,
  type Change,
  type Expected,
  type Item,
  type Key,
  type Table,
} from './table.ts';

const KEPT_SECONDS = 90 * 24 * 3600;
const JOBS_AT_ONCE = 32;
const RUNS_AT_ONCE = 8;
const DEFAULT_RUNS = 50;
const MAX_REASON = 1000;
const MAX_TITLE = 2000;
/** Of a change that others come in between: the others then see to what it was for. */
const TRIES = 8;
const OPEN: readonly JobState[] = ['waiting', 'running'];

/**
 * Runs and their jobs. The items of the jobs are the truth; everything in the item of the run follows from them, and `settle` makes it follow.
 *
 * `left` counts down as jobs end and only says when it is worth counting them: it may be too low, when a process died while it added jobs,
 * or a job ended and its message came again; then they are counted too early, and it is set right. It is not too high for long: who died
 * before it counted down leaves a message. `epoch` counts up with all that makes more jobs open or `left` greater, so that
 * nobody ends a run, or sets it right, by what was counted before that.
 *
 * That a rule's run has ended is reported where it is written, and so by one of all that may come to it: planner, worker, or who does the
 * work of one that died. Who dies in between does not report it.
 */
export function runsOver(table: Table, clock: Clock, report?: Report): Runs {
  return new StoredRuns(table, clock, report);
}

class StoredRuns implements Runs {
  readonly #table: Table;
  readonly #clock: Clock;
  readonly #report: Report | undefined;

  constructor(table: Table, clock: Clock, report: Report | undefined) {
    this.#table = table;
    this.#clock = clock;
    this.#report = report;
  }

  // of rules

  async progress(rule: string, options?: Abortable): Promise<RuleProgress | undefined> {
    const item = await this.#table.get(progressKey(rule), options);
    if (item === undefined) return undefined;
    const run = findText(item, 'currentRun');
    return {
      rule,
      current: run === undefined ? undefined : { run, startedAtMs: numberOf(item, 'currentStartedAtMs') },
      dueAtMs: findNumber(item, 'dueAtMs'),
      goodAtMs: findNumber(item, 'goodAtMs'),
    };
  }

  async beginScheduled(
    {
      id,
      rule,
      dueAtMs,
      replacing,
    }: {
      readonly id: string;
      readonly rule: string;
      readonly dueAtMs: number;
      readonly replacing?: string | undefined;
    },
    options?: Abortable,
  ): Promise<Run | undefined> {
    const replaced = replacing === undefined ? undefined : await this.#table.get(runKey(replacing), options);
    if (replaced !== undefined) await this.#detachFromRule(replaced, options);
    const found = await this.#table.get(progressKey(rule), options);
    const current = findText(found, 'currentRun');
    if ((findNumber(found, 'dueAtMs') ?? -Infinity) >= dueAtMs) return undefined;
    if (current !== undefined && current !== replacing) return undefined;
    // before the rule points to it. If we die in between nobody ever sees it.
    const run = await this.#make({ id, rule, trigger: 'schedule' }, options);
    const mark = randomUUID();
    const set = { currentRun: id, currentStartedAtMs: numberOf(run, 'startedAtMs'), dueAtMs, mark };
    const expected = { currentRun: current, dueAtMs: findNumber(found, 'dueAtMs') };
    const begun = await this.#table.update(progressKey(rule), { set }, expected, options);
    // not done, but ours: the answer to an earlier try was lost
    if (!begun.done && findText(begun.item, 'mark') !== mark) return undefined;
    await this.#addToListings(run, options);
    return this.#runOf(run, options);
  }

  /** Takes an ended run off its rule. */
  async #detachFromRule(run: Item, options?: Abortable): Promise<void> {
    const rule = findText(run, 'rule');
    if (findText(run, 'trigger') !== 'schedule' || rule === undefined || run['endedAtMs'] === undefined) return;
    const goodAtMs = run['dead'] !== true && run['failed'] === 0 ? numberOf(run, 'startedAtMs') : -Infinity;
    for (let tries = 0; tries < TRIES; tries++) {
      const found = await this.#table.get(progressKey(rule), options);
      const before = { currentRun: findText(found, 'currentRun'), goodAtMs: findNumber(found, 'goodAtMs') };
      const isCurrent = before.currentRun === idOf(run);
      const isBetter = goodAtMs > (before.goodAtMs ?? -Infinity);
      if (found === undefined || (!isCurrent && !isBetter)) return;
      const set = {
        ...(isCurrent ? { currentRun: undefined, currentStartedAtMs: undefined } : {}),
        ...(isBetter ? { goodAtMs } : {}),
      };
      if ((await this.#table.update(progressKey(rule), { set }, before, options)).done) return;
    }
  }

  // of runs

  async begin(run: Pick<Run, 'id' | 'rule' | 'trigger'>, options?: Abortable): Promise<Run> {
    const item = await this.#make(run, options);
    await this.#addToListings(item, options);
    return this.#runOf(item, options);
  }

  async get(run: string, options?: Abortable): Promise<Run | undefined> {
    const item = await this.#table.get(runKey(run), options);
    return item === undefined || this.#isForgotten(item) ? undefined : this.#runOf(item, options);
  }

  async list(
    options: Abortable & { readonly limit?: number; readonly rule?: string | undefined } = {},
  ): Promise<readonly Run[]> {
    const { limit = DEFAULT_RUNS, rule, signal } = options;
    const pk = rule === undefined ? ALL_RUNS : rulePk(rule);
    const ids: string[] = [];
    for await (const item of this.#table.query(pk, { prefix: LISTED, descending: true, limit, signal }))
      if (!this.#isForgotten(item)) ids.push(textOf(item, 'run'));
    const found = new Map<string, Run>();
    await forEachOf(
      ids,
      RUNS_AT_ONCE,
      async (id, taskOptions) => {
        const run = await this.get(id, taskOptions);
        if (run !== undefined) found.set(id, run);
      },
      options,
    );
    return ids.map((id) => found.get(id)).filter((run) => run !== undefined);
  }

  async addUnchanged(run: string, unchanged: number, options?: Abortable): Promise<void> {
    await this.#change(run, { add: { unchanged } }, options);
  }

  async planned(run: string, options?: Abortable): Promise<void> {
    const expected = { pk: runKey(run).pk, plannedAtMs: undefined };
    const { item } = await this.#table.update(
      runKey(run),
      { set: { plannedAtMs: this.#clock.now() } },
      expected,
      options,
    );
    if (item === undefined) throw noRun(run);
    await this.#settleIfDone(item, options);
  }

  async settle(run: string, options?: Abortable): Promise<Run> {
    for (let tries = 0; ; tries++) {
      checkAborted(options);
      const found = await this.#table.get(runKey(run), options);
      if (found === undefined) throw noRun(run);
      await this.#addToListings(found, options);
      const jobs = await this.#count(run, options);
      const next = settled(found, jobs, this.#clock.now());
      const changed =
        next === undefined ? undefined : await this.#table.update(runKey(run), next.change, next.expected, options);
      // another came in between: it is counted anew, and if that goes on they see to it themselves
      if (changed?.done === false && tries < TRIES) continue;
      const item = changed?.done === true ? changed.item : found;
      const { rule, endedAtMs } = asRun(item, jobs);
      if (endedAtMs !== undefined && found['endedAtMs'] === undefined && rule !== undefined)
        this.#report?.({ type: 'run-ended', run, rule, failed: jobs.failed });
      await this.#detachFromRule(item, options);
      return asRun(item, jobs);
    }
  }

  async declareDead(run: string, options?: Abortable): Promise<void> {
    const key = runKey(run);
    const set = { dead: true, endedAtMs: this.#clock.now() };
    const { item } = await this.#table.update(key, { set }, { pk: key.pk, endedAtMs: undefined }, options);
    if (item === undefined) throw noRun(run);
    await this.#detachFromRule(item, options);
  }

  /** The item of the run; the one that is there already stays. */
  async #make({ id, rule, trigger }: Pick<Run, 'id' | 'rule' | 'trigger'>, options?: Abortable): Promise<Item> {
    const nowMs = this.#clock.now();
    const set = { rule, trigger, startedAtMs: nowMs, ttl: this.#forgetAt(nowMs), unchanged: 0, left: 0, epoch: 0 };
    const { item } = await this.#table.update(runKey(id), { set }, { pk: undefined }, options);
    return item ?? bug(`begin run ${id}`);
  }

  /** Makes the run appear in the lists. Idempotent. */
  async #addToListings(run: Item, options?: Abortable): Promise<void> {
    if (run['listed'] === true) return;
    const id = idOf(run);
    const rule = findText(run, 'rule');
    const startedAtMs = numberOf(run, 'startedAtMs');
    const sk = `${LISTED}${String(startedAtMs).padStart(15, '0')}#${id}`;
    const set = { run: id, ttl: numberOf(run, 'ttl') };
    for (const pk of [ALL_RUNS, ...(rule === undefined ? [] : [rulePk(rule)])])
      await this.#table.update(keyOf(pk, sk), { set }, {}, options);
    await this.#table.update(runKey(id), { set: { listed: true } }, { pk: run.pk }, options);
  }

  async #change(run: string, change: Change, options?: Abortable): Promise<Item> {
    const key = runKey(run);
    const { done, item } = await this.#table.update(key, change, { pk: key.pk }, options);
    if (!done) throw noRun(run);
    return item;
  }

  /** Ends it if it looks as if none were left. */
  async #settleIfDone(run: Item, options?: Abortable): Promise<void> {
    if (run['plannedAtMs'] !== undefined && run['done'] === undefined && numberOf(run, 'left') <= 0)
      await this.settle(idOf(run), options);
  }

  async #runOf(item: Item, options?: Abortable): Promise<Run> {
    return asRun(item, finalCounts(item) ?? (await this.#count(idOf(item), options)));
  }

  async #count(run: string, options?: Abortable): Promise<JobCounts> {
    const counts: Record<JobState, number> = { waiting: 0, running: 0, done: 0, skipped: 0, failed: 0 };
    const query = { prefix: JOB, attributes: ['state'], signal: options?.signal };
    for await (const item of this.#table.query(runKey(run).pk, query)) counts[stateOf(item)]++;
    return counts;
  }

  // of jobs

  async addJobs(
    run: string,
    jobs: readonly Pick<JobRecord, 'id' | 'title' | 'rule' | 'body'>[],
    options?: Abortable,
  ): Promise<ReadonlySet<string>> {
    const found = await this.#table.get(runKey(run), options);
    if (found === undefined) throw noRun(run);
    const open = new Set<string>();
    let left = 0;
    await forEachOf(
      jobs,
      JOBS_AT_ONCE,
      async ({ id, title, rule, body }, taskOptions) => {
        const nowMs = this.#clock.now();
        const set = { title: title.slice(0, MAX_TITLE), rule, body, state: 'waiting', attempts: 0, changedAtMs: nowMs };
        const ttl = this.#forgetAt(nowMs);
        const { done, item } = await this.#table.update(
          jobKey(run, id),
          { set: { ...set, ttl } },
          { pk: undefined },
          taskOptions,
        );
        if (done) left++;
        if (item !== undefined && OPEN.includes(stateOf(item))) open.add(id);
      },
      options,
    );
    // whatever was made, or was made by one who died before it came to this
    if (open.size > 0) {
      const item = await this.#addLeft(found, left, options);
      if (item['plannedAtMs'] !== undefined) await this.settle(run, options);
    }
    return open;
  }

  /** Once, also when the answer to it is lost: with too many left nobody would see the run end. */
  async #addLeft(run: Item, left: number, options?: Abortable): Promise<Item> {
    const key = runKey(idOf(run));
    const mark = randomUUID();
    for (let found = run; ;) {
      checkAborted(options);
      const change = { add: { left, epoch: 1 }, set: { mark } };
      const { done, item } = await this.#table.update(key, change, { epoch: numberOf(found, 'epoch') }, options);
      if (item === undefined) throw noRun(idOf(run));
      if (done || item['mark'] === mark) return item;
      found = item;
    }
  }

  async job(run: string, job: string, options?: Abortable): Promise<JobRecord | undefined> {
    const item = await this.#table.get(jobKey(run, job), options);
    return item && jobOf(item);
  }

  async startJob(run: string, job: string, options?: Abortable): Promise<number | undefined> {
    const set = { state: 'running', changedAtMs: this.#clock.now() };
    const { done, item } = await this.#table.update(
      jobKey(run, job),
      { set, add: { attempts: 1 } },
      { state: OPEN },
      options,
    );
    if (done) return numberOf(item, 'attempts');
    if (item === undefined) throw noJob(run, job);
    await this.#goOnFor(run, options);
    return undefined;
  }

  async giveBackJob(run: string, job: string, options?: Abortable): Promise<void> {
    const set = { state: 'waiting', changedAtMs: this.#clock.now() };
    const key = jobKey(run, job);
    const { item } = await this.#table.update(key, { set, add: { attempts: -1 } }, { state: 'running' }, options);
    if (item === undefined) throw noJob(run, job);
  }

  async retryJob(
    run: string,
    job: string,
    { code, reason }: { readonly code: string; readonly reason: string },
    options?: Abortable,
  ): Promise<void> {
    const set = { state: 'waiting', code, reason: reason.slice(0, MAX_REASON), changedAtMs: this.#clock.now() };
    const { item } = await this.#table.update(jobKey(run, job), { set }, { state: OPEN }, options);
    if (item === undefined) throw noJob(run, job);
  }

  async endJob(run: string, job: string, end: JobEnd, options?: Abortable): Promise<void> {
    const why =
      end.state === 'failed'
        ? { code: end.code, reason: end.reason.slice(0, MAX_REASON) }
        : { code: undefined, reason: undefined, body: undefined }; // it is never sent again
    const mark = randomUUID();
    const set = { state: end.state, ...why, changedAtMs: this.#clock.now(), mark };
    const { done, item } = await this.#table.update(jobKey(run, job), { set }, { state: OPEN }, options);
    if (item === undefined) throw noJob(run, job);
    // not done, but ours: the answer to an earlier try was lost
    if (done || item['mark'] === mark)
      await this.#settleIfDone(await this.#change(run, { add: { left: -1 } }, options), options);
    else await this.#goOnFor(run, options);
  }

  async reviveJob(run: string, job: string, options?: Abortable): Promise<void> {
    const set = { state: 'waiting', attempts: 0, changedAtMs: this.#clock.now() };
    const { item } = await this.#table.update(jobKey(run, job), { set }, { state: 'failed' }, options);
    if (item === undefined) throw noJob(run, job);
    if (!OPEN.includes(stateOf(item))) return;
    await this.#change(run, { add: { epoch: 1 } }, options);
    await this.settle(run, options);
  }

  async *jobs(
    run: string,
    options: Abortable & { readonly state?: JobState | undefined } = {},
  ): AsyncIterable<JobRecord> {
    for await (const item of this.#table.query(runKey(run).pk, { prefix: JOB, signal: options.signal }))
      if (options.state === undefined || options.state === stateOf(item)) yield jobOf(item);
  }

  /**
   * After a job that had ended already: whoever ended it may have died before it told the run. If not, too few count as left, and they are
   * counted once more than is needed.
   */
  async #goOnFor(run: string, options?: Abortable): Promise<void> {
    const item = await this.#table.get(runKey(run), options);
    if (item === undefined || item['done'] !== undefined) return;
    await this.#settleIfDone(await this.#change(run, { add: { left: -1 } }, options), options);
  }

  #forgetAt(nowMs: number): number {
    return Math.ceil(nowMs / 1000) + KEPT_SECONDS;
  }

  /** What the table has not come to delete yet. */
  #isForgotten(item: Item): boolean {
    return numberOf(item, 'ttl') * 1000 <= this.#clock.now();
  }
}

/** What has to change in the item of a run for it to follow from its jobs. */
function settled(run: Item, jobs: JobCounts, nowMs: number): { change: Change; expected: Expected } | undefined {
  const expected = { pk: run.pk, epoch: numberOf(run, 'epoch'), endedAtMs: findNumber(run, 'endedAtMs') };
  const left = jobs.waiting + jobs.running;
  const { done, skipped, failed } = jobs;
  // more jobs may come, or nobody goes on with planning
  if (run['plannedAtMs'] === undefined) return undefined;
  const counted = finalCounts(run);
  if (left === 0) {
    const isSame = counted?.done === done && counted.skipped === skipped && counted.failed === failed;
    if (isSame && expected.endedAtMs !== undefined) return undefined;
    return { change: { set: { done, skipped, failed, left, endedAtMs: expected.endedAtMs ?? nowMs } }, expected };
  }
  const before = numberOf(run, 'left');
  const isOpen = run['dead'] === true || expected.endedAtMs === undefined;
  if (isOpen && counted === undefined && before === left) return undefined;
  const endedAtMs = run['dead'] === true ? expected.endedAtMs : undefined;
  const set = { left, endedAtMs, done: undefined, skipped: undefined, failed: undefined };
  return { change: { set, add: { epoch: 1 } }, expected: { ...expected, left: before } };
}

const ALL_RUNS = 'RUNS';
const LISTED = 'RUN#';
const JOB = 'JOB#';
const RUN = 'RUN#';

function runKey(run: string): Key {
  return keyOf(RUN + run, 'RUN');
}

function jobKey(run: string, job: string): Key {
  return keyOf(RUN + run, JOB + job);
}

function rulePk(rule: string): string {
  return `RULE#${rule}`;
}

function progressKey(rule: string): Key {
  return keyOf(rulePk(rule), 'PROGRESS');
}

function idOf(run: Item): string {
  return run.pk.slice(RUN.length);
}

/** Of a run none of whose jobs is left; they are known without counting. */
function finalCounts(run: Item): JobCounts | undefined {
  const done = findNumber(run, 'done');
  if (done === undefined) return undefined;
  return { waiting: 0, running: 0, done, skipped: numberOf(run, 'skipped'), failed: numberOf(run, 'failed') };
}

function asRun(item: Item, jobs: JobCounts): Run {
  return {
    id: idOf(item),
    rule: findText(item, 'rule'),
    trigger: triggerOf(item),
    startedAtMs: numberOf(item, 'startedAtMs'),
    plannedAtMs: findNumber(item, 'plannedAtMs'),
    endedAtMs: findNumber(item, 'endedAtMs'),
    dead: item['dead'] === true ? true : undefined,
    unchanged: numberOf(item, 'unchanged'),
    jobs,
  };
}

function jobOf(item: Item): JobRecord {
  return {
    id: item.sk.slice(JOB.length),
    run: idOf(item),
    state: stateOf(item),
    title: textOf(item, 'title'),
    rule: findText(item, 'rule'),
    body: findText(item, 'body'),
    attempts: numberOf(item, 'attempts'),
    code: findText(item, 'code'),
    reason: findText(item, 'reason'),
    changedAtMs: numberOf(item, 'changedAtMs'),
  };
}

function stateOf(item: Item): JobState {
  const state = textOf(item, 'state');
  if (state === 'waiting' || state === 'running' || state === 'done' || state === 'skipped' || state === 'failed')
    return state;
  throw new Failure('CORRUPT', `read item ${item.pk}, ${item.sk} of the table: its state is ${state}`);
}

function triggerOf(item: Item): RunTrigger {
  const trigger = textOf(item, 'trigger');
  if (trigger === 'schedule' || trigger === 'push' || trigger === 'request') return trigger;
  throw new Failure('CORRUPT', `read item ${item.pk}, ${item.sk} of the table: its trigger is ${trigger}`);
}

function noRun(run: string): Failure {
  return new Failure('NOT_FOUND', `change run ${run}: there is none; after 90 days it is forgotten`);
}

function noJob(run: string, job: string): Failure {
  return new Failure('NOT_FOUND', `change job ${job} of run ${run}: there is none; after 90 days it is forgotten`);
}

function bug(doing: string): never {
  throw new Failure('BUG', `${doing}: the table made no item`);
}
