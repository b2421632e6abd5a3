import assert from 'node:assert/strict';
import { expect } from 'vitest';
import { jobId, type CopyJob, type Job } from '../../worker/queue/job.ts';
import type { Delivery, Outcome, Queue } from '../../worker/queue/queue.ts';
import { openBackendPool, type BackendPool } from '../../worker/service/backend-pool.ts';
import type { Backends } from '../../worker/images/backends.ts';
import { runPass } from '../../worker/service/planner/pass.ts';
import { newJob } from '../../worker/service/planner/run-jobs.ts';
import type { WorkContext } from '../../worker/service/worker/work-context.ts';
import { work } from '../../worker/service/worker/work.ts';
import { destinationKey } from '../../worker/rules/destinations.ts';
import { memoryTable } from '../../worker/state/memory.ts';
import type { Run, StateStore } from '../../worker/state/state.ts';
import { stateOver } from '../../worker/state/store.ts';
import type { Table } from '../../worker/state/table.ts';
import { checkAborted } from '../../worker/util/abort.ts';
import type { Clock } from '../../worker/util/clock.ts';
import type { Event, JobName, Report } from '../../worker/util/events.ts';
import { manualClock, type ManualClock } from './clock.ts';
import { MemoryQueue } from './memory-queue.ts';

/** What was reported, and for which job. */
type JobEvent = Event & { readonly of: JobName | undefined };

/** The deployed system in memory, except its backends: a state, the queues, and workers that do one message at a time. */
export interface TestService {
  readonly table: Table;
  readonly state: StateStore;
  readonly queue: MemoryQueue;
  readonly deadLetters: MemoryQueue;
  /** The clock of state, queues and messages: it stands until a test advances it. */
  readonly clock: ManualClock;
  readonly events: readonly JobEvent[];
  /** A worker with these backends. */
  worker(backends: Backends, options?: Partial<WorkerParts>): TestWorker;
  /** Creates a run of these jobs and sends them, as a planner does. Returns its id. */
  enqueue(...jobs: readonly JobDraft[]): Promise<string>;
  /** The run with its counts. */
  run(id: string): Promise<Run>;
}

/** The parts of a worker that tests replace to play faults. */
interface WorkerParts {
  readonly table: Table;
  readonly queue: Queue;
  readonly deadLetters: Queue;
}

interface TestWorker {
  readonly context: WorkContext;
  /** Takes the next visible message, and does it. Undefined if no message is visible. */
  next(options?: {
    readonly signal?: AbortSignal;
  }): Promise<{ readonly outcome: Outcome; readonly delivery: Delivery } | undefined>;
  /** Does message after message, and advances the clock while none is visible, until no message is left. */
  drain(): Promise<void>;
}

/** A job without the members that a planner fills in. */
export type JobDraft = Job extends infer J ? (J extends Job ? Omit<J, 'version' | 'id' | 'run' | 'at'> : never) : never;

/** `allow` as in `Service`. */
export function testService({ allow = [] }: { readonly allow?: readonly string[] } = {}): TestService {
  const clock = manualClock();
  const table = memoryTable();
  const state = stateOver(table, clock);
  const deadLetters = new MemoryQueue({ clock, name: 'dead' });
  const queue = new MemoryQueue({ clock, name: 'jobs', deadLetters: { queue: deadLetters, maxReceiveCount: 20 } });
  const events: JobEvent[] = [];
  let runs = 0;
  return {
    table,
    state,
    queue,
    deadLetters,
    clock,
    events,
    worker: (backends, options = {}) => {
      const parts = { table, queue, deadLetters, ...options };
      const report = (event: Event): void => void events.push({ ...event, of: undefined });
      const service = { ...parts, allow, state: stateOver(parts.table, clock, { report }) };
      const current = openBackendPool({
        rules: service.state.rules,
        connect: () => ({ ...backends, [Symbol.asyncDispose]: async () => undefined }),
        clock,
      });
      const context: WorkContext = {
        service,
        backends: current,
        clock: impatient(clock),
        reportOf: (of) => (event) => void events.push({ ...event, of }),
      };
      return testWorker(context, queue, clock);
    },
    enqueue: async (...drafts) => {
      const run = `run-${++runs}`;
      await state.runs.begin({ id: run, trigger: 'schedule', rule: 'rule' });
      const jobs: Job[] = [];
      for (const [i, draft] of drafts.entries()) {
        const id = jobId(run, draft.kind, String(i));
        jobs.push({ rule: 'rule', ...draft, version: 1, id, run, at: new Date(clock.now()).toISOString() });
      }
      const made = jobs.map((job) => newJob(job, { title: job.kind }));
      await state.runs.addJobs(
        run,
        made.map(({ record }) => record),
      );
      await state.runs.planned(run);
      await queue.send(made.map(({ message }) => message));
      return run;
    },
    run: async (id) => {
      const run = await state.runs.get(id);
      if (run === undefined) throw new Error(`there is no run ${id}`);
      return run;
    },
  };
}

/** A pool that always has these backends. */
export function poolOf<B extends Backends>(backends: B): Pick<BackendPool<B>, 'use'> {
  return { use: async (task) => task(backends) };
}

export const HOUR_MS = 3_600_000;

/** Advances the clock by `hours`, and runs a pass of the planner, which must begin one run. Returns that run. */
export async function planRun(
  t: TestService,
  backends: Backends,
  { hours = 0, report }: { readonly hours?: number; readonly report?: Report } = {},
): Promise<Run> {
  await t.clock.advance(hours * HOUR_MS);
  expect(await runPass(t, poolOf(backends), { clock: t.clock, report })).toMatchObject({ begun: 1, failed: 0 });
  const [run] = await t.state.runs.list({ limit: 1 });
  assert(run);
  return run;
}

export const NO_JOBS = { waiting: 0, running: 0, done: 0, skipped: 0, gone: 0, failed: 0 };

/** The run has no open jobs, its jobs ended as given, and no message is left. */
export async function expectEnded(t: TestService, run: string, counts: Partial<typeof NO_JOBS>): Promise<void> {
  const { jobs, endedAtMs } = await t.run(run);
  expect(jobs).toEqual({ ...NO_JOBS, ...counts });
  expect(endedAtMs).toBeDefined();
  expect(t.queue.bodies).toEqual([]);
}

/** No worker holds the lease of any of them. */
export async function expectFree(t: TestService, ...destinations: readonly string[]): Promise<void> {
  for (const destination of destinations) {
    const lease = await t.state.destinations.lock(destinationKey(destination), 60);
    expect(lease, `${destination} is held`).toBeDefined();
    await lease?.[Symbol.asyncDispose]();
  }
}

/** Reason and body of every dead letter. */
export async function deadLettersOf(
  t: TestService,
): Promise<readonly { readonly reason: string; readonly body: string }[]> {
  const deadLetters = await t.deadLetters.receive(10, { waitSeconds: 0 });
  for (const deadLetter of deadLetters) await deadLetter.settle({ type: 'again', seconds: 0 });
  return deadLetters.map(({ reason = '', body }) => ({ reason, body }));
}

export function mirrorJob(from: string, ...to: readonly string[]): Pick<CopyJob, 'from' | 'to'> & { kind: 'mirror' } {
  return { kind: 'mirror', from, to };
}

function testWorker(context: WorkContext, queue: MemoryQueue, clock: ManualClock): TestWorker {
  const next: TestWorker['next'] = async (options = {}) => {
    const [delivery] = await context.service.queue.receive(1, { waitSeconds: 0 });
    if (delivery === undefined) return undefined;
    const outcome = await work(delivery, context, { signal: options.signal ?? new AbortController().signal });
    await delivery.settle(outcome);
    return { outcome, delivery };
  };
  return {
    context,
    next,
    drain: async () => {
      for (let rounds = 0; rounds < 1000; rounds++) {
        if ((await next()) !== undefined) continue;
        if (queue.bodies.length === 0) return;
        await clock.advance(10_000);
      }
      throw new Error(`it does not end: ${queue.bodies.join('\n')}`);
    },
  };
}

/** The clock, except that short waits, such as between the attempts of a request, take no time. */
function impatient(clock: ManualClock): Clock {
  return {
    now: () => clock.now(),
    random: () => clock.random(),
    sleep: async (ms, options) => {
      if (ms > 30_000) return clock.sleep(ms, options);
      checkAborted(options);
      return Promise.resolve();
    },
  };
}
