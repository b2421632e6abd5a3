import { Failure } from '../util/failure.ts';
import type { JobCounts, JobRecord, JobState, Run, RunTrigger } from './state.ts';
import { isSpread, partitionOf, partitionsOf } from './spread-jobs.ts';
import { findNumber, findText, keyOf, numberOf, textOf, type Item, type Key } from './table.ts';

// The items of runs, of their jobs and of the lists of runs: docs/state.md.

const KEPT_SECONDS = 90 * 24 * 3600;
/** How often a change is tried that other processes keep interrupting: each of them then does what it was for. */
export const TRIES = 8;
/** States of jobs that have not ended. */
export const OPEN: readonly JobState[] = ['waiting', 'running'];
const STATES: readonly JobState[] = [...OPEN, 'done', 'skipped', 'gone', 'failed'];

/** The `pk` of the list of all runs. */
export const ALL_RUNS = 'RUNS';
/** The start of the `sk` of an entry in a list of runs. */
export const LISTED = 'RUN#';

/** The least `sk` that an entry of a run can have which began at that time or later. */
export function listedFrom(startedAtMs: number): string {
  return `${LISTED}${String(startedAtMs).padStart(15, '0')}`;
}

/** What the `sk` of a job begins with. */
export const JOB = 'JOB#';
const RUN = 'RUN#';

/** `ttl` of an item that is made now. */
export function ttlFrom(nowMs: number): number {
  return Math.ceil(nowMs / 1000) + KEPT_SECONDS;
}

/** Whether the time of the item is over, though the table may not have deleted it yet. */
export function isExpired(item: Item, nowMs: number): boolean {
  return numberOf(item, 'ttl') * 1000 <= nowMs;
}

/** The key of a run. */
export function runKey(run: string): Key {
  return keyOf(RUN + run, 'RUN');
}

/** The key of a job of a run. */
export function jobKey(run: string, job: string): Key {
  return keyOf(partitionOf(RUN + run, job), JOB + job);
}

/** The `pk` of every partition that may have jobs of the run. */
export function jobPartitions(run: Item): readonly string[] {
  return run['spread'] === true ? partitionsOf(run.pk) : [run.pk];
}

/** The `pk` of a rule's progress and of the list of its runs. */
export function rulePk(rule: string): string {
  return `RULE#${rule}`;
}

/** The id of a run, by its item. */
export function idOf(run: Item): string {
  return run.pk.slice(RUN.length);
}

/** The counts that the item of a run has while no job of it is open; undefined otherwise. */
export function finalCounts(run: Item): JobCounts | undefined {
  const done = findNumber(run, 'done');
  if (done === undefined) return undefined;
  const [skipped, failed] = [numberOf(run, 'skipped'), numberOf(run, 'failed')];
  return { waiting: 0, running: 0, done, skipped, gone: findNumber(run, 'gone') ?? 0, failed };
}

/** The run of an item, with these counts. CORRUPT for an item that is not one. */
export function asRun(item: Item, jobs: JobCounts): Run {
  return {
    id: idOf(item),
    rule: findText(item, 'rule'),
    trigger: triggerOf(item),
    startedAtMs: numberOf(item, 'startedAtMs'),
    plannedAtMs: findNumber(item, 'plannedAtMs'),
    endedAtMs: findNumber(item, 'endedAtMs'),
    dead: item['dead'] === true ? true : undefined,
    unchanged: numberOf(item, 'unchanged'),
    unseen: findNumber(item, 'unseen') ?? 0,
    deletes: findNumber(item, 'deletes'),
    jobs,
  };
}

/** The job of an item. CORRUPT for an item that is not one. */
export function jobOf(item: Item): JobRecord {
  const id = item.sk.slice(JOB.length);
  return {
    id,
    run: item.pk.slice(RUN.length, isSpread(id) ? item.pk.lastIndexOf('#') : undefined),
    state: stateOf(item),
    title: textOf(item, 'title'),
    rule: findText(item, 'rule'),
    body: findText(item, 'body'),
    fingerprint: findText(item, 'fingerprint'),
    attempts: numberOf(item, 'attempts'),
    code: findText(item, 'code'),
    reason: findText(item, 'reason'),
    fault: findText(item, 'fault'),
    unreferenced: item['unreferenced'] === true ? true : undefined,
    doomed: findText(item, 'doomed'),
    verified: findText(item, 'verified'),
    changedAtMs: numberOf(item, 'changedAtMs'),
    dueAtMs: findNumber(item, 'dueAtMs'),
  };
}

/** The state of a job. CORRUPT for an unknown one. */
export function stateOf(item: Item): JobState {
  const state = textOf(item, 'state');
  const known = STATES.find((one) => one === state);
  if (known !== undefined) return known;
  throw new Failure('CORRUPT', `read item ${item.pk}, ${item.sk} of the table: its state is ${state}`);
}

function triggerOf(item: Item): RunTrigger {
  const trigger = textOf(item, 'trigger');
  if (trigger === 'schedule' || trigger === 'push' || trigger === 'request') return trigger;
  throw new Failure('CORRUPT', `read item ${item.pk}, ${item.sk} of the table: its trigger is ${trigger}`);
}

/** NOT_FOUND of a run. */
export function noRun(run: string): Failure {
  return new Failure('NOT_FOUND', `change run ${run}: it does not exist; a run is forgotten after 90 days`);
}

/** NOT_FOUND of a job. */
export function noJob(run: string, job: string): Failure {
  return new Failure(
    'NOT_FOUND',
    `change job ${job} of run ${run}: it does not exist; a run is forgotten after 90 days`,
  );
}
