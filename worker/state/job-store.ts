import { randomUUID } from 'node:crypto';
import { checkAborted, orAborted, type Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import { forEachOf } from '../util/limit.ts';
import { CountDowns } from './count-downs.ts';
import {
  isExpired,
  JOB,
  jobKey,
  jobOf,
  jobPartitions,
  noJob,
  noRun,
  OPEN,
  runKey,
  idOf,
  stateOf,
  ttlFrom,
} from './run-items.ts';
import type { RunStore } from './run-store.ts';
import { isSpread, mayBeSpread } from './spread-jobs.ts';
import type { JobEnd, JobListOptions, JobRecord, JobTaken, NewJob } from './state.ts';
import { MAX_CHANGES, numberOf, type Item, type ItemChange, type Table } from './table.ts';

const JOBS_AT_ONCE = 32;
/** Requests at once, each of which makes many jobs. */
const TOGETHER_AT_ONCE = 4;
const MAX_REASON = 1000;
const MAX_TITLE = 2000;

/** The jobs of runs. Whatever changes how many are open is counted in the item of the run after it. */
export class JobStore {
  readonly #table: Table;
  readonly #clock: Clock;
  readonly #runs: RunStore;
  readonly #countDowns: CountDowns;

  constructor(table: Table, clock: Clock, runs: RunStore) {
    this.#table = table;
    this.#clock = clock;
    this.#runs = runs;
    this.#countDowns = new CountDowns(async (run, count) => {
      const item = await runs.change(run, { add: { left: -count } });
      await runs.settleIfDone(item);
      return numberOf(item, 'left');
    });
  }

  async add(run: string, jobs: readonly NewJob[], options?: Abortable): Promise<ReadonlySet<string>> {
    let found = await this.#table.get(runKey(run), options);
    if (found === undefined) throw noRun(run);
    // before the first of them is made, so that no reader overlooks one
    if (found['spread'] !== true && jobs.some(({ id }) => isSpread(id)))
      found = await this.#runs.change(run, { set: { spread: true } }, options);
    const open = new Set<string>();
    let left = 0;
    const made = [...new Map(jobs.map((job) => [job.id, job])).values()].map((job) => this.#newItem(run, job));
    const makeEach = async (some: readonly NewItem[], taskOptions: Abortable): Promise<void> =>
      forEachOf(
        some,
        JOBS_AT_ONCE,
        async (one, oneOptions) => {
          const { done, item } = await this.#table.update(one.key, one.change, one.expected, oneOptions);
          if (done && one.isOpen) left++;
          if (item !== undefined && OPEN.includes(stateOf(item))) open.add(one.id);
        },
        taskOptions,
      );
    await forEachOf(
      chunksOf(made),
      TOGETHER_AT_ONCE,
      async (some, taskOptions) => {
        // one request for many jobs where all of them are new, which is nearly always so
        if (some.length === 1 || !(await this.#table.updateAll(some, taskOptions))) return makeEach(some, taskOptions);
        for (const { id, isOpen } of some) {
          if (!isOpen) continue;
          left++;
          open.add(id);
        }
      },
      options,
    );
    // also for jobs that a process made before it crashed here
    if (open.size > 0) {
      const item = await this.#addLeft(found, left, options);
      if (item['plannedAtMs'] !== undefined) await this.#runs.settle(run, options);
    } else if (jobs.length > 0 && found['plannedAtMs'] !== undefined && numberOf(found, 'left') <= 0)
      await this.#runs.settle(run, options);
    return open;
  }

  /** The change that makes the item of a job, where it does not exist yet. */
  #newItem(run: string, { id, title, rule, body, fingerprint, fault, unreferenced, failed }: NewJob): NewItem {
    const nowMs = this.#clock.now();
    const shown = { title: title.slice(0, MAX_TITLE), fault: fault?.slice(0, MAX_REASON) };
    const ended = failed && { code: failed.code, reason: failed.reason.slice(0, MAX_REASON) };
    const state = failed === undefined ? 'waiting' : 'failed';
    const known = { ...shown, rule, body, fingerprint, unreferenced, ...ended, state, attempts: 0, changedAtMs: nowMs };
    const isOpen = failed === undefined;
    return { id, isOpen, key: jobKey(run, id), change: { set: { ...known, ttl: ttlFrom(nowMs) } }, expected: ABSENT };
  }

  /** Adds to `left` exactly once, even when an answer is lost: a count that stays too high would keep the run from ending. */
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

  async take(run: string, job: string, fingerprint: string, options?: Abortable): Promise<JobTaken> {
    const mark = randomUUID();
    const change = { set: { state: 'running', changedAtMs: this.#clock.now(), mark }, add: { attempts: 1 } };
    const expected = { state: 'waiting', fingerprint };
    const { done, item } = await this.#table.update(jobKey(run, job), change, expected, options);
    if (item === undefined) return { state: 'unknown' };
    // it has our mark, so an earlier try was done and its answer was lost
    if (done || item['mark'] === mark)
      return { state: 'taken', attempt: numberOf(item, 'attempts'), unreferenced: jobOf(item).unreferenced };
    if (item['fingerprint'] !== fingerprint) return { state: 'other' };
    if (OPEN.includes(stateOf(item))) return { state: 'open' };
    await this.#countDown(run, options);
    return { state: 'ended' };
  }

  async start(run: string, job: string, options?: Abortable): Promise<number | undefined> {
    const set = { state: 'running', changedAtMs: this.#clock.now() };
    const { done, item } = await this.#table.update(
      jobKey(run, job),
      { set, add: { attempts: 1 } },
      { state: OPEN },
      options,
    );
    if (done) return numberOf(item, 'attempts');
    if (item === undefined) throw noJob(run, job);
    await this.#countDown(run, options);
    return undefined;
  }

  async setDoomed(run: string, job: string, doomed: string, options?: Abortable): Promise<void> {
    const { item } = await this.#table.update(jobKey(run, job), { set: { doomed } }, { state: OPEN }, options);
    if (item === undefined) throw noJob(run, job);
  }

  async setVerified(run: string, job: string, verified: string, options?: Abortable): Promise<void> {
    const { item } = await this.#table.update(jobKey(run, job), { set: { verified } }, { state: OPEN }, options);
    if (item === undefined) throw noJob(run, job);
  }

  async giveBack(
    run: string,
    job: string,
    options: Abortable & { readonly attempt?: number | undefined; readonly body?: string | undefined } = {},
  ): Promise<void> {
    const { attempt, body } = options;
    const changed = { changedAtMs: this.#clock.now(), ...(body === undefined ? {} : { body }) };
    const change = { set: { state: 'waiting', ...changed }, add: { attempts: -1 } };
    const expected = { state: 'running', ...(attempt === undefined ? {} : { attempts: attempt }) };
    const { item } = await this.#table.update(jobKey(run, job), change, expected, options);
    if (item === undefined) throw noJob(run, job);
  }

  async retry(
    run: string,
    job: string,
    { code, reason, dueAtMs }: { readonly code: string; readonly reason: string; readonly dueAtMs: number },
    options?: Abortable,
  ): Promise<void> {
    const why = { code, reason: reason.slice(0, MAX_REASON) };
    const set = { state: 'waiting', ...why, changedAtMs: this.#clock.now(), dueAtMs };
    const { item } = await this.#table.update(jobKey(run, job), { set }, { state: OPEN }, options);
    if (item === undefined) throw noJob(run, job);
  }

  async resend(run: string, job: string, changedAtMs: number | undefined, options?: Abortable): Promise<boolean> {
    const set = { changedAtMs: this.#clock.now() };
    const expected = { state: 'waiting', ...(changedAtMs === undefined ? {} : { changedAtMs }) };
    return (await this.#table.update(jobKey(run, job), { set }, expected, options)).done;
  }

  async end(run: string, job: string, end: JobEnd, options?: Abortable): Promise<number> {
    const why =
      end.state === 'failed'
        ? { code: end.code, reason: end.reason.slice(0, MAX_REASON) }
        : { code: undefined, reason: undefined, body: undefined }; // it is never sent again
    const mark = randomUUID();
    const set = {
      state: end.state,
      ...why,
      doomed: undefined,
      verified: undefined,
      changedAtMs: this.#clock.now(),
      mark,
    };
    const { done, item } = await this.#table.update(jobKey(run, job), { set }, { state: OPEN }, options);
    if (item === undefined) throw noJob(run, job);
    // it has our mark, so an earlier try was done and its answer was lost
    return done || item['mark'] === mark ? this.#takeOne(run, options) : this.#countDown(run, options);
  }

  async revive(run: string, job: string, options?: Abortable): Promise<void> {
    // what its planner's list showed is old by now
    const set = { state: 'waiting', attempts: 0, changedAtMs: this.#clock.now(), unreferenced: undefined };
    const { item } = await this.#table.update(jobKey(run, job), { set }, { state: 'failed' }, options);
    if (item === undefined) throw noJob(run, job);
    if (!OPEN.includes(stateOf(item))) return;
    await this.#runs.change(run, { add: { epoch: 1 } }, options);
    await this.#runs.settle(run, options);
  }

  async get(run: string, job: string, options?: Abortable): Promise<JobRecord | undefined> {
    const item = await this.#table.get(jobKey(run, job), options);
    return item === undefined || isExpired(item, this.#clock.now()) ? undefined : jobOf(item);
  }

  async *list(run: string, options: JobListOptions = {}): AsyncIterable<JobRecord> {
    const { prefix = '', signal } = options;
    const key = runKey(run);
    const found = mayBeSpread(prefix) ? await this.#table.get(key, options) : undefined;
    for (const pk of found === undefined ? [key.pk] : jobPartitions(found))
      for await (const item of this.#table.query(pk, { prefix: JOB + prefix, signal }))
        if (options.state === undefined || options.state === stateOf(item)) yield jobOf(item);
  }

  /**
   * Counts down for a job that has ended already: the process that ended it may have crashed before it counted. If it did count, `left` is too
   * low, and the jobs are counted once more than needed.
   */
  async #countDown(run: string, options?: Abortable): Promise<number> {
    const item = await this.#table.get(runKey(run), options);
    return item === undefined || item['done'] !== undefined ? 0 : this.#takeOne(run, options);
  }

  async #takeOne(run: string, options?: Abortable): Promise<number> {
    return orAborted(this.#countDowns.take(run), options ?? {});
  }
}

/** The change that makes a job. */
interface NewItem extends ItemChange {
  readonly id: string;
  readonly isOpen: boolean;
}

const ABSENT = { pk: undefined };

/** The items in pieces that `Table.updateAll` takes. */
function* chunksOf(items: readonly NewItem[]): Generator<readonly NewItem[]> {
  for (let at = 0; at < items.length; at += MAX_CHANGES) yield items.slice(at, at + MAX_CHANGES);
}
