import { checkAborted, type Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import { Failure } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import type { Report } from '../util/events.ts';
import type { RuleProgressItems } from './rule-progress.ts';
import {
  ALL_RUNS,
  asRun,
  finalCounts,
  idOf,
  isExpired,
  JOB,
  jobPartitions,
  LISTED,
  listedFrom,
  noRun,
  rulePk,
  runKey,
  stateOf,
  TRIES,
  ttlFrom,
} from './run-items.ts';
import type { JobCounts, JobState, NewRun, OpenRun, Run, RunListOptions, ScheduledRun } from './state.ts';
import {
  findNumber,
  findText,
  keyOf,
  numberOf,
  textOf,
  type Change,
  type Expected,
  type Item,
  type Table,
} from './table.ts';

const RUNS_AT_ONCE = 8;
const DEFAULT_RUNS = 50;

/** Runs, and the lists in which they are found. */
export class RunStore {
  readonly #table: Table;
  readonly #clock: Clock;
  readonly #progress: RuleProgressItems;
  readonly #report: Report | undefined;

  constructor(table: Table, clock: Clock, progress: RuleProgressItems, report: Report | undefined) {
    this.#table = table;
    this.#clock = clock;
    this.#progress = progress;
    this.#report = report;
  }

  async beginScheduled(run: ScheduledRun, options?: Abortable): Promise<Run | undefined> {
    const { id, rule, scheduledAtMs, replacing } = run;
    const replaced = replacing === undefined ? undefined : await this.#table.get(runKey(replacing), options);
    if (replaced !== undefined) await this.#progress.detach(replaced, options);
    const free = await this.#progress.findFree(rule, scheduledAtMs, replacing, options);
    if (free === undefined) return undefined;
    // made before the rule points to it: after a crash in between no list shows it
    const item = await this.#make({ id, rule, trigger: 'schedule' }, options);
    if (!(await this.#progress.setCurrent(free, item, options))) return undefined;
    await this.#addToListings(item, options);
    return this.#runOf(item, options);
  }

  async begin(run: NewRun, options?: Abortable): Promise<Run> {
    const item = await this.#make(run, options);
    await this.#addToListings(item, options);
    return this.#runOf(item, options);
  }

  async get(run: string, options?: Abortable): Promise<Run | undefined> {
    const item = await this.#table.get(runKey(run), options);
    return item === undefined || isExpired(item, this.#clock.now()) ? undefined : this.#runOf(item, options);
  }

  async list(options: RunListOptions = {}): Promise<readonly Run[]> {
    const { rule, unendedSinceMs, signal } = options;
    const limit = options.limit ?? (unendedSinceMs === undefined ? DEFAULT_RUNS : undefined);
    const pk = rule === undefined ? ALL_RUNS : rulePk(rule);
    const ids: string[] = [];
    for await (const item of this.#table.query(pk, { prefix: LISTED, descending: true, limit, signal })) {
      if (unendedSinceMs !== undefined && item.sk < listedFrom(unendedSinceMs)) break;
      const isWanted = unendedSinceMs === undefined || item['ended'] !== true;
      if (isWanted && !isExpired(item, this.#clock.now())) ids.push(textOf(item, 'run'));
    }
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

  async open(sinceMs: number, options: Abortable = {}): Promise<readonly OpenRun[]> {
    const found: OpenRun[] = [];
    for await (const entry of this.#table.query(ALL_RUNS, {
      prefix: LISTED,
      descending: true,
      signal: options.signal,
    })) {
      if (entry.sk < listedFrom(sinceMs)) break;
      if (entry['ended'] === true && entry['dead'] !== true) continue;
      const item = await this.#table.get(runKey(textOf(entry, 'run')), options);
      if (item !== undefined) found.push({ id: idOf(item), epoch: numberOf(item, 'epoch') });
    }
    return found;
  }

  async addUnchanged(
    run: string,
    { unchanged, unseen }: Pick<Run, 'unchanged' | 'unseen'>,
    options?: Abortable,
  ): Promise<void> {
    await this.change(run, { add: unseen === 0 ? { unchanged } : { unchanged, unseen } }, options);
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
    await this.settleIfDone(item, options);
  }

  async settle(run: string, options?: Abortable): Promise<Run> {
    for (let tries = 0; ; tries++) {
      checkAborted(options);
      const found = await this.#table.get(runKey(run), options);
      if (found === undefined) throw noRun(run);
      await this.#addToListings(found, options);
      const jobs = await this.#count(found, options);
      const next = settled(found, jobs, this.#clock.now());
      const changed =
        next === undefined ? undefined : await this.#table.update(runKey(run), next.change, next.expected, options);
      // another process changed it in between: count again, and in the end leave it to that process
      if (changed?.done === false && tries < TRIES) continue;
      const item = changed?.done === true ? changed.item : found;
      const { rule, endedAtMs } = asRun(item, jobs);
      if (endedAtMs !== undefined && found['endedAtMs'] === undefined && rule !== undefined)
        this.#report?.({ type: 'run-ended', run, rule, failed: jobs.failed });
      await this.#progress.detach(item, options);
      await this.#addToListings(item, options);
      return asRun(item, jobs);
    }
  }

  async declareDead(run: string, options?: Abortable): Promise<void> {
    const key = runKey(run);
    const set = { dead: true, endedAtMs: this.#clock.now() };
    const { item } = await this.#table.update(key, { set }, { pk: key.pk, endedAtMs: undefined }, options);
    if (item === undefined) throw noRun(run);
    await this.#progress.detach(item, options);
    await this.#addToListings(item, options);
  }

  /** The item of the run; the one that is there already stays. */
  async #make({ id, rule, trigger, whole = false }: NewRun, options?: Abortable): Promise<Item> {
    const nowMs = this.#clock.now();
    const counts = { unchanged: 0, left: 0, epoch: 0 };
    const set = { rule, trigger, whole: whole || undefined, startedAtMs: nowMs, ttl: ttlFrom(nowMs), ...counts };
    const { item } = await this.#table.update(runKey(id), { set }, { pk: undefined }, options);
    return item ?? bug(`begin run ${id}`);
  }

  /** Makes the run appear in the lists as one that goes on or has ended. Idempotent. */
  async #addToListings(run: Item, options?: Abortable): Promise<void> {
    const dead = run['dead'] === true || undefined;
    const listed = run['endedAtMs'] === undefined ? 'open' : 'ended';
    if (run['listed'] === listed) return;
    const id = idOf(run);
    const rule = findText(run, 'rule');
    const startedAtMs = numberOf(run, 'startedAtMs');
    const sk = `${listedFrom(startedAtMs)}#${id}`;
    const set = { run: id, ttl: numberOf(run, 'ttl'), ended: listed === 'ended' || undefined, dead };
    for (const pk of [ALL_RUNS, ...(rule === undefined ? [] : [rulePk(rule)])])
      await this.#table.update(keyOf(pk, sk), { set }, {}, options);
    await this.#table.update(runKey(id), { set: { listed } }, { pk: run.pk }, options);
  }

  /** Changes the item of a run. NOT_FOUND without it. */
  async change(run: string, change: Change, options?: Abortable): Promise<Item> {
    const key = runKey(run);
    const { done, item } = await this.#table.update(key, change, { pk: key.pk }, options);
    if (!done) throw noRun(run);
    return item;
  }

  /** Ends the run if its count shows that no job is left. */
  async settleIfDone(run: Item, options?: Abortable): Promise<void> {
    if (run['plannedAtMs'] !== undefined && run['done'] === undefined && numberOf(run, 'left') <= 0)
      await this.settle(idOf(run), options);
  }

  async #runOf(item: Item, options?: Abortable): Promise<Run> {
    return asRun(item, finalCounts(item) ?? (await this.#count(item, options)));
  }

  async #count(run: Item, options?: Abortable): Promise<JobCounts> {
    const counts: Record<JobState, number> = { waiting: 0, running: 0, done: 0, skipped: 0, gone: 0, failed: 0 };
    const query = { prefix: JOB, attributes: ['state'], signal: options?.signal };
    for (const pk of jobPartitions(run)) for await (const item of this.#table.query(pk, query)) counts[stateOf(item)]++;
    return counts;
  }
}

/** What has to change in the item of a run for it to follow from its jobs. */
function settled(run: Item, jobs: JobCounts, nowMs: number): { change: Change; expected: Expected } | undefined {
  const expected = { pk: run.pk, epoch: numberOf(run, 'epoch'), endedAtMs: findNumber(run, 'endedAtMs') };
  const left = jobs.waiting + jobs.running;
  const { done, skipped, gone, failed } = jobs;
  // more jobs may come
  if (run['plannedAtMs'] === undefined) return undefined;
  const counted = finalCounts(run);
  if (left === 0) {
    const isSame = counted?.done === done && counted.skipped === skipped && counted.failed === failed;
    if (isSame && counted.gone === gone && expected.endedAtMs !== undefined) return undefined;
    return { change: { set: { done, skipped, gone, failed, left, endedAtMs: expected.endedAtMs ?? nowMs } }, expected };
  }
  const before = numberOf(run, 'left');
  const isOpen = run['dead'] === true || expected.endedAtMs === undefined;
  if (isOpen && counted === undefined && before === left) return undefined;
  const endedAtMs = run['dead'] === true ? expected.endedAtMs : undefined;
  const set = { left, endedAtMs, done: undefined, skipped: undefined, gone: undefined, failed: undefined };
  return { change: { set, add: { epoch: 1 } }, expected: { ...expected, left: before } };
}

function bug(doing: string): never {
  throw new Failure('BUG', `${doing}: the table made no item`);
}
