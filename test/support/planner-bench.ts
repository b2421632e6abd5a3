import assert from 'node:assert/strict';
import type { PushEvent } from '../../worker/queue/events.ts';
import { parseMessage, type CopyJob, type Job, type SettingsJob } from '../../worker/queue/job.ts';
import type { Queue } from '../../worker/queue/queue.ts';
import type { Digest } from '../../worker/oci/digest.ts';
import type { OperationOptions } from '../../worker/images/backends.ts';
import { storeSettings } from '../../worker/images/store-settings.ts';
import { copyImage } from '../../worker/images/copy-image.ts';
import type { BackendPool } from '../../worker/service/backend-pool.ts';
import { continuePlan } from '../../worker/service/planner/plan-scheduled.ts';
import { gatherPush } from '../../worker/service/planner/push-event.ts';
import type { PlanResult } from '../../worker/service/planner/plan-run.ts';
import type { Service } from '../../worker/service/service.ts';
import { runPass, type PassOptions, type PassResult } from '../../worker/service/planner/pass.ts';
import { formatRule } from '../../worker/rules/config.ts';
import { choicesKey, destinationKey } from '../../worker/rules/destinations.ts';
import { rememberedManifests } from '../../worker/service/planner/plan-jobs.ts';
import { parseLocation } from '../../worker/oci/location.ts';
import { parseRepository } from '../../worker/oci/reference.ts';
import type { CopyRule, Rule } from '../../worker/rules/rule.ts';
import { memoryTable } from '../../worker/state/memory.ts';
import type { Run, StateStore, SyncRecord } from '../../worker/state/state.ts';
import { stateOver } from '../../worker/state/store.ts';
import type { Table } from '../../worker/state/table.ts';
import { parseDigest } from '../../worker/oci/digest.ts';
import { Failure } from '../../worker/util/failure.ts';
import type { Event } from '../../worker/util/events.ts';
import { manualClock, type ManualClock } from './clock.ts';
import type { Session } from './lab.ts';
import { MemoryQueue } from './memory-queue.ts';

/** Planners, and workers that do their jobs, over a state and a queue in memory. */
export interface PlannerBench extends Service {
  readonly clock: ManualClock;
  readonly queue: MemoryQueue;
  readonly table: Table;
  /** What planners reported. */
  readonly events: readonly Event[];
  /** Forgets them. */
  forget(): void;
  readonly backends: Pick<BackendPool, 'use'>;
  apply(...rules: readonly Rule[]): Promise<void>;
  pass(options?: Partial<PassOptions> & { readonly service?: Service }): Promise<PassResult>;
  /** Gathers the push, plans its runs at once, and returns the result of each. */
  push(event: PushDraft): Promise<{ readonly runs: readonly (PlanResult & { readonly run: string })[] }>;
  /** Jobs in the queue. */
  readonly jobs: readonly Job[];
  /** Does all jobs, and returns the images that were copied. `copies` false: only records the copies. */
  work(options?: { readonly copies?: boolean }): Promise<readonly CopyJob[]>;
  /** Records that everything in a group was copied before. */
  remember(rule: CopyRule, group: string, digests: ReadonlyMap<string, Digest>): Promise<void>;
  run(rule: string): Promise<Run>;
  of<T extends Event['type']>(type: T): readonly Extract<Event, { type: T }>[];
}

type PushDraft = Partial<PushEvent> & Pick<PushEvent, 'repository' | 'digest'>;

/** Later than anything that the test does to registries, which only know the real time. */
const START_MS = Date.UTC(2030, 0, 1);

export function planner(session: Session): PlannerBench {
  const clock = manualClock(START_MS);
  const table = memoryTable();
  const queue = new MemoryQueue({ clock });
  const deadLetters = new MemoryQueue({ clock, name: 'dead' });
  let events: Event[] = [];
  const report = (event: Event): void => void events.push(event);
  const state = stateOver(table, clock, { report });
  const backends: Pick<BackendPool, 'use'> = { use: async (work) => work(session.backends) };
  const service: Service = { state, queue, deadLetters };
  let revision = 0;

  const bench: PlannerBench = {
    ...service,
    queue,
    clock,
    table,
    backends,
    get events() {
      return events;
    },
    forget: () => {
      events = [];
    },
    apply: async (...rules) => {
      for (const rule of rules) {
        const found = (await state.rules.list()).find(({ name }) => name === rule.name);
        await state.rules.put({ name: rule.name, document: formatRule(rule) }, found?.revision ?? 0);
      }
    },
    pass: async ({ service: other, ...options } = {}) =>
      runPass(other ?? service, backends, { clock, report, ...options }),
    push: async (draft) => {
      const at = new Date(clock.now()).toISOString();
      const event = { id: `event-${++revision}`, account: '111111111111', region: 'us-east-1', at, ...draft };
      const runs: (PlanResult & { readonly run: string })[] = [];
      for (const run of await gatherPush(event, service, { clock, report, windowSeconds: 0 }))
        for (const result of await planNow(run, service, backends, { clock, report })) runs.push({ ...result, run });
      return { runs };
    },
    get jobs() {
      return queue.bodies.map(jobOf);
    },
    work: async ({ copies = true } = {}) => workAll(service, { session, backends, clock, report, copies }),
    remember: async (rule, group, digests) => rememberAll(state, rule, group, digests),
    run: async (rule) => {
      const [run] = await state.runs.list({ rule, limit: 1 });
      assert(run, `the rule ${rule} has no run`);
      return run;
    },
    of: <T extends Event['type']>(type: T) =>
      events.filter((event): event is Extract<Event, { type: T }> => event.type === type),
  };
  return bench;
}

interface WorkOptions extends PassOptions {
  readonly session: Session;
  readonly backends: Pick<BackendPool, 'use'>;
  readonly copies: boolean;
}

async function workAll(service: Service, options: WorkOptions): Promise<readonly CopyJob[]> {
  const { queue, state } = service;
  const done: CopyJob[] = [];
  for (;;) {
    const deliveries = await queue.receive(10, { waitSeconds: 0 });
    if (deliveries.length === 0) return done;
    for (const delivery of deliveries) {
      const job = jobOf(delivery.body);
      if (await state.runs.startJob(job.run, job.id)) {
        if (job.kind === 'plan') assert(await continuePlan(job, service, options.backends, options));
        else if (job.kind === 'mirror' || job.kind === 'backup') {
          await copyAll(job, state, options.session, options.copies);
          done.push(job);
        } else if (job.kind === 'settings') await settle(job, options.session);
        else assert.fail(`a planner made a job to ${job.kind}`);
        await state.runs.endJob(job.run, job.id, { state: 'done' });
      }
      await delivery.settle({ type: 'done' });
    }
  }
}

/** Does the jobs in the queue that plan the run. A failed job becomes visible again. */
async function planNow(
  run: string,
  service: Service,
  backends: Pick<BackendPool, 'use'>,
  options: PassOptions,
): Promise<readonly PlanResult[]> {
  const results: PlanResult[] = [];
  const deliveries = await service.queue.receive(10, { waitSeconds: 0 });
  for (const delivery of deliveries) {
    const job = jobOf(delivery.body);
    if (job.kind !== 'plan' || job.run !== run) {
      await delivery.settle({ type: 'again', seconds: 0 });
      continue;
    }
    try {
      if ((await service.state.runs.startJob(run, job.id)) !== undefined) {
        const result = await continuePlan(job, service, backends, options);
        if (result === undefined) throw new Failure('UNAVAILABLE', 'another planner is planning this run');
        results.push(result);
        await service.state.runs.endJob(run, job.id, { state: 'done' });
      }
      await delivery.settle({ type: 'done' });
    } catch (error) {
      await delivery.settle({ type: 'again', seconds: 0 });
      throw error;
    }
  }
  return results;
}

async function rememberAll(
  state: StateStore,
  rule: CopyRule,
  group: string,
  digests: ReadonlyMap<string, Digest>,
): Promise<void> {
  for (const [name, digest] of digests) {
    await record(state, {
      group,
      name,
      source: '',
      sourceDigest: digest,
      digest,
      choices: choicesKey(rule),
      manifests: rememberedManifests([digest]),
      bytes: 1,
      atMs: START_MS,
      run: 'before',
    });
  }
}

function jobOf(body: string): Job {
  const message = parseMessage(body);
  assert(message.type === 'job');
  return message.job;
}

async function copyAll(job: CopyJob, state: StateStore, session: Session, copies: boolean): Promise<void> {
  for (const to of job.to) {
    const known = parseDigest(job.digest);
    const result = copies
      ? await copyOne(job, to, session.options, session)
      : { digest: known, manifests: [known], copied: undefined };
    await record(state, {
      ...destinationKey(to),
      source: job.from,
      sourceDigest: parseDigest('originalDigest' in result ? result.originalDigest : result.digest),
      digest: parseDigest(result.digest),
      choices: choicesKey(job),
      manifests: rememberedManifests(result.manifests, result.copied),
      bytes: 1,
      atMs: START_MS,
      run: job.run,
      rule: job.rule,
    });
  }
}

/** Does a job of settings. */
async function settle({ from, to }: SettingsJob, { backends, options }: Session): Promise<void> {
  const { registry, repository } = parseRepository(from.slice('docker://'.length));
  const location = parseLocation(to);
  assert(location.transport === 's3');
  await storeSettings({ repository: { registry, repository }, to: location }, backends, options);
}

async function copyOne(
  job: CopyJob,
  to: string,
  options: OperationOptions,
  session: Session,
): Promise<Awaited<ReturnType<typeof copyImage>>> {
  const { platforms, referrers } = job;
  return copyImage(
    { from: parseLocation(job.from), to: parseLocation(to), platforms, referrers },
    session.backends,
    options,
  );
}

async function record(state: StateStore, what: SyncRecord): Promise<void> {
  await using lease = await state.destinations.lock(what, 60);
  assert(lease);
  await state.destinations.record(what, lease);
}

/**
 * A process that ends right after its `writes`th write to the state or the queue, without cleaning up. `writes` undefined: it runs on, and
 * counts its writes.
 */
export function mortal(
  bench: PlannerBench,
  writes?: number,
): { readonly service: Service; readonly written: number; readonly dead: boolean } {
  let written = 0;
  const death = new Failure('BUG', 'the process is dead');
  const check = (): void => {
    if (writes !== undefined && written >= writes) throw death;
  };
  const counted = async <T>(write: () => Promise<T>): Promise<T> => {
    check();
    written++;
    const result = await write();
    check();
    return result;
  };
  const table: Table = {
    get: async (key, options) => {
      check();
      return bench.table.get(key, options);
    },
    getEach: async (keys, options) => {
      check();
      return bench.table.getEach(keys, options);
    },
    updateAll: async (changes, options) => counted(async () => bench.table.updateAll(changes, options)),
    update: async (key, change, expected, options) =>
      counted(async () => bench.table.update(key, change, expected, options)),
    async *query(pk, options) {
      check();
      yield* bench.table.query(pk, options);
    },
  };
  const queue: Queue = {
    name: 'mortal',
    receive: async (max, options) => bench.queue.receive(max, options),
    count: async (options) => {
      check();
      return bench.queue.count(options);
    },
    send: async (messages, options) => counted(async () => bench.queue.send(messages, options)),
  };
  return {
    service: { state: stateOver(table, bench.clock), queue, deadLetters: bench.deadLetters },
    get written() {
      return written;
    },
    get dead() {
      return writes !== undefined && written >= writes;
    },
  };
}
