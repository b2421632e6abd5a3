import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { PlanJob } from '../../worker/queue/job.ts';
import type { Queue } from '../../worker/queue/queue.ts';
import type { PlanResult } from '../../worker/service/planner/plan-run.ts';
import { planScheduled } from '../../worker/service/planner/plan-scheduled.ts';
import { parseConfig } from '../../worker/rules/config.ts';
import type { CopyRule } from '../../worker/rules/rule.ts';
import type { JobRecord, StateStore } from '../../worker/state/state.ts';
import { checkAborted } from '../../worker/util/abort.ts';
import type { Clock } from '../../worker/util/clock.ts';
import { openLab, type Lab } from '../support/lab.ts';
import { mortal, planner, type PlannerBench } from '../support/planner-bench.ts';
import { rule } from '../support/rules.ts';
import { seededDigest, seedRegistry } from '../support/seeded-registry.ts';

const ACCOUNT = '333333333333';
const REGION = 'eu-central-1';
const ECR = `${ACCOUNT}.dkr.ecr.${REGION}.amazonaws.com`;
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

let lab: Lab;
let folder: string;

beforeAll(async () => {
  lab = await openLab();
  folder = join(lab.folder, 'seeded');
  await mkdir(folder);
  await seedRegistry(folder, [
    { repository: 'few/a', tags: ['v1', 'v2'] },
    { repository: 'few/b', tags: ['v3'] },
    { repository: 'many/a', tags: numbered(1200) },
    { repository: 'many/b', tags: numbered(3) },
    { repository: 'many/b/c', tags: [] },
    { repository: 'many/c', tags: numbered(700) },
    { repository: 'copies/many/a', tags: numbered(600) },
  ]);
});
afterAll(async () => lab[Symbol.asyncDispose]());
beforeEach(async () => {
  await lab.registry({ mode: 'ecr', folder, account: ACCOUNT, region: REGION });
});

function numbered(count: number): readonly string[] {
  return Array.from({ length: count }, (_, i) => `v${i}`);
}

const FEW = rule({ name: 'few', from: [`${ECR}/few/*`], to: [`${ECR}/copies/{repository}`] });
const MANY = rule({ name: 'many', from: [`${ECR}/many/*`], to: [`${ECR}/copies/{repository}`] });

async function jobsOf(state: StateStore, run: string): Promise<readonly JobRecord[]> {
  return Array.fromAsync(state.runs.jobs(run));
}

async function begun(of: CopyRule): Promise<PlannerBench> {
  const bench = planner(lab.session());
  await bench.apply(of);
  return bench;
}

describe('planning in pieces', () => {
  /** Late after so many questions. */
  const lateAfter = (asked: number): Pick<Clock, 'now'> => {
    let left = asked;
    return { now: () => (left-- > 0 ? 0 : 1) };
  };

  /** All jobs of a run that is planned in pieces of these sizes, and then to the end. */
  async function planned(pieces: readonly number[]): Promise<{
    readonly ids: readonly string[];
    readonly unchanged: number;
    readonly pieces: number;
  }> {
    const bench = await begun(MANY);
    const half = numbered(600);
    await bench.remember(MANY, `docker://${ECR}/copies/many/a`, new Map(half.map((tag) => [tag, seededDigest(tag)])));
    const run = await bench.state.runs.begin({ id: 'run', rule: 'many', trigger: 'request' });
    let after: PlanJob['after'] | undefined;
    let count = 0;
    for (;;) {
      const asked = pieces[count++];
      const clock = { ...bench.clock, ...lateAfter(asked ?? Infinity) };
      const result: PlanResult | undefined = await planScheduled(
        { rule: MANY, run, after },
        bench,
        lab.session().backends,
        {
          clock,
          untilMs: 1,
        },
      );
      assert(result);
      const next = bench.jobs.find((job) => job.kind === 'plan');
      assert.equal(result.continued, next !== undefined);
      if (next?.kind !== 'plan') break;
      after = next.after;
      const before = bench.queue.bodies;
      await drain(bench);
      await bench.queue.send(before.filter((body) => !body.includes('"kind":"plan"')).map((body) => ({ body })));
    }
    const ids = bench.jobs.map(({ id }) => id);
    const { unchanged = 0, plannedAtMs } = (await bench.state.runs.get('run')) ?? {};
    expect(plannedAtMs).toBeDefined();
    return { ids: ids.toSorted(), unchanged, pieces: count };
  }

  async function drain(bench: PlannerBench): Promise<void> {
    for (;;) {
      const deliveries = await bench.queue.receive(10, { waitSeconds: 0 });
      if (deliveries.length === 0) return;
      for (const delivery of deliveries) await delivery.settle({ type: 'done' });
    }
  }

  test('plans the same as at once, wherever it is cut', async () => {
    const whole = await planned([]);
    expect(new Set(whole.ids).size).toBe(1303);
    expect(whole).toMatchObject({ unchanged: 600, pieces: 1 });
    let most = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat({ max: 2 }), { maxLength: 6 }), async (pieces) => {
        const cut = await planned(pieces);
        most = Math.max(most, cut.pieces);
        expect(cut.ids).toEqual(whole.ids);
        expect(cut.unchanged).toBe(whole.unchanged);
      }),
      { numRuns: 8 },
    );
    expect(most).toBeGreaterThan(3);
  });

  test('leaves everything to a worker when no time is left', async () => {
    const bench = await begun(MANY);
    expect(await bench.pass({ untilMs: bench.clock.now() })).toMatchObject({ begun: 1, failed: 0 });
    expect(bench.jobs).toMatchObject([{ kind: 'plan', rule: 'many', after: { repository: '', name: '' } }]);
    expect(bench.of('run-planned')).toMatchObject([{ jobs: 0, continued: true }]);
    await bench.clock.advance(MINUTE_MS);
    // the worker will plan: no other process does
    await bench.pass();
    expect(bench.jobs).toHaveLength(1);
    expect(await bench.work({ copies: false })).toHaveLength(1903);
    expect(await bench.run('many')).toMatchObject({ jobs: { done: 1904, failed: 0 }, endedAtMs: expect.any(Number) });
  });

  test('ends the run of a rule that is gone with what there is', async () => {
    const bench = await begun(MANY);
    await bench.pass({ untilMs: bench.clock.now() });
    await bench.state.rules.remove('many', 1);
    await expect(bench.work()).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(await bench.run('many')).toMatchObject({ plannedAtMs: expect.any(Number) });
  });
});

test('a planner that is killed after any of its writes leaves nothing that the next passes do not repair', async () => {
  const whole = await begun(FEW);
  await whole.pass();
  const run = await whole.run('few');
  const ids = (await jobsOf(whole.state, run.id)).map(({ id }) => id).toSorted();
  expect(ids).toHaveLength(3);

  let deaths = 0;
  for (let writes = 1; ; writes++) {
    const bench = await begun(FEW);
    const dying = mortal(bench, writes);
    await bench.pass({ service: dying.service });
    if (!dying.dead) break;
    deaths++;
    // a pass that follows at once finds the run held
    await bench.pass();
    // the lock of the killed planner has expired by then
    await bench.clock.advance(3 * MINUTE_MS);
    await bench.pass();
    await bench.clock.advance(20 * MINUTE_MS);
    await bench.pass();
    await bench.work({ copies: false });
    await bench.clock.advance(MINUTE_MS);
    await bench.pass();
    const after = await bench.run('few');
    expect(after, `after ${writes} writes`).toMatchObject({ id: run.id, endedAtMs: expect.any(Number) });
    const jobs = await jobsOf(bench.state, run.id);
    expect(jobs.map(({ id }) => id).toSorted()).toEqual(ids);
    expect(jobs.map(({ state }) => state)).toEqual(['done', 'done', 'done']);
    // and the rule continues
    await bench.clock.advance(HOUR_MS);
    expect(await bench.pass()).toMatchObject({ begun: 1, late: 0 });
  }
  expect(deaths).toBeGreaterThan(8);
});

describe('messages that are lost', () => {
  async function lose(bench: PlannerBench, count: number): Promise<void> {
    for (const delivery of await bench.queue.receive(count, { waitSeconds: 0 }))
      await delivery.settle({ type: 'done' });
  }

  test('are sent again when nothing else arrives for a while', async () => {
    const bench = await begun(FEW);
    await bench.pass();
    const before = bench.queue.bodies.toSorted();
    await lose(bench, 3);
    await bench.clock.advance(10 * MINUTE_MS);
    expect(await bench.pass()).toMatchObject({ resent: 0 });
    await bench.clock.advance(6 * MINUTE_MS);
    expect(await bench.pass()).toMatchObject({ resent: 3 });
    expect(bench.queue.bodies.toSorted()).toEqual(before);
    // they have arrived now
    expect(await bench.pass()).toMatchObject({ resent: 0 });
    await bench.work({ copies: false });
    expect(await bench.run('few')).toMatchObject({ jobs: { done: 3 }, endedAtMs: expect.any(Number) });
  });

  test('are not sent again while others wait in the queue that were sent before', async () => {
    const bench = await begun(FEW);
    await bench.pass();
    await lose(bench, 2);
    await bench.clock.advance(16 * MINUTE_MS);
    expect(await bench.pass()).toMatchObject({ resent: 0 });
  });

  /** A job of another rule that has begun, and one more that keeps the queue from being empty. */
  async function traffic(bench: PlannerBench): Promise<void> {
    const run = `traffic-${bench.clock.now()}`;
    await bench.state.runs.begin({ id: run, trigger: 'push' });
    await bench.state.runs.addJobs(run, [{ id: 'job', title: 'other' }]);
    await bench.state.runs.startJob(run, 'job');
    await bench.state.runs.endJob(run, 'job', { state: 'done' });
    await bench.state.runs.planned(run);
    await bench.queue.send([{ body: 'another' }]);
  }

  test('are sent again in a service whose queue is never empty', async () => {
    const bench = await begun(FEW);
    await bench.pass();
    const before = bench.queue.bodies.toSorted();
    await lose(bench, 3);
    await bench.clock.advance(14 * MINUTE_MS);
    await traffic(bench);
    expect(await bench.pass()).toMatchObject({ resent: 0 });
    await bench.clock.advance(4 * MINUTE_MS);
    await traffic(bench);
    expect(await bench.pass()).toMatchObject({ resent: 3 });
    expect(bench.queue.bodies.filter((body) => body !== 'another').toSorted()).toEqual(before);
  });

  test('do not count as lost when a request by hand overtakes them', async () => {
    const bench = await begun(FEW);
    await bench.pass();
    await bench.clock.advance(20 * MINUTE_MS);
    await bench.state.runs.begin({ id: 'by hand', trigger: 'request' });
    await bench.state.runs.addJobs('by hand', [{ id: 'job', title: 'other' }]);
    await bench.state.runs.startJob('by hand', 'job');
    expect(await bench.pass()).toMatchObject({ resent: 0 });
  });

  test('do not count as lost because a Cleaner pruned meanwhile', async () => {
    const bench = await begun(FEW);
    await bench.pass();
    await bench.clock.advance(20 * MINUTE_MS);
    const [clean] = parseConfig(
      `{"version":1,"rules":[{"name":"clean","prune":{"at":"${ECR}/few/*","keepLast":1}}]}`,
    ).rules;
    assert(clean);
    await bench.apply(clean);
    await bench.state.runs.begin({ id: 'pruned', rule: 'clean', trigger: 'schedule' });
    await bench.state.runs.addJobs('pruned', [{ id: 'job', title: 'prune few/a' }]);
    await bench.state.runs.startJob('pruned', 'job');
    expect(await bench.pass()).toMatchObject({ resent: 0 });
  });

  test('are sent again at most four times an hour, however many planners look', async () => {
    const bench = await begun(FEW);
    await bench.pass();
    let resent = 0;
    for (let minute = 0; minute < 60; minute++) {
      await lose(bench, 10);
      await bench.clock.advance(MINUTE_MS);
      const passes = await Promise.all([bench.pass(), bench.pass(), bench.pass()]);
      resent += passes.reduce((sum, pass) => sum + pass.resent, 0);
    }
    expect(resent).toBe(3 * 4);
  });

  test('of a job that waits for its retry are not sent again before its time', async () => {
    const bench = await begun(FEW);
    await bench.pass();
    const run = await bench.run('few');
    await lose(bench, 3);
    for (const { id } of await jobsOf(bench.state, run.id)) {
      await bench.state.runs.startJob(run.id, id);
      const dueAtMs = bench.clock.now() + 30 * MINUTE_MS;
      await bench.state.runs.retryJob(run.id, id, { code: 'UNAVAILABLE', reason: 'later', dueAtMs });
    }
    await bench.clock.advance(44 * MINUTE_MS);
    expect(await bench.pass()).toMatchObject({ resent: 0 });
    await bench.clock.advance(2 * MINUTE_MS);
    expect(await bench.pass()).toMatchObject({ resent: 3 });
  });

  test('of a push are sent again though a hundred runs began after it', async () => {
    const bench = await begun({ ...FEW, onPush: true });
    await bench.push({ account: ACCOUNT, region: REGION, repository: 'few/b', digest: seededDigest('v3'), tag: 'v3' });
    await lose(bench, 1);
    await bench.state.rules.remove('few', 1);
    for (let i = 0; i < 150; i++) {
      await bench.clock.advance(10_000);
      await bench.state.runs.begin({ id: `later-${i}`, trigger: 'push' });
      await bench.state.runs.planned(`later-${i}`);
    }
    expect(await bench.pass()).toMatchObject({ resent: 1 });
  });

  test('are sent again for runs without a schedule too', async () => {
    const bench = await begun({ ...FEW, onPush: true });
    await bench.push({ account: ACCOUNT, region: REGION, repository: 'few/b', digest: seededDigest('v3'), tag: 'v3' });
    await lose(bench, 1);
    await bench.clock.advance(16 * MINUTE_MS);
    await bench.state.rules.remove('few', 1);
    expect(await bench.pass()).toMatchObject({ rules: 0, resent: 1 });
  });
});

test('a run without a schedule that never ends is declared dead', async () => {
  const bench = planner(lab.session());
  await bench.state.runs.begin({ id: 'left behind', rule: 'gone', trigger: 'push' });
  await bench.clock.advance(25 * HOUR_MS);
  await bench.pass();
  expect(await bench.state.runs.get('left behind')).toMatchObject({ dead: true });
  await bench.state.runs.begin({ id: 'by hand', trigger: 'request' });
  await bench.clock.advance(25 * HOUR_MS);
  await bench.pass();
  expect(bench.of('run-late')).toMatchObject([
    { run: 'left behind', rule: 'gone', dead: true },
    { run: 'by hand', rule: undefined, dead: true },
  ]);
});

test('a run of a rule that expired meanwhile is declared dead like others', async () => {
  const bench = await begun({ ...FEW, expiresAtMs: Date.UTC(2030, 0, 1, 1) });
  await bench.pass();
  await bench.clock.advance(25 * HOUR_MS);
  await bench.pass();
  expect(bench.of('rule-expired')).toHaveLength(1);
  expect(await bench.run('few')).toMatchObject({ dead: true });
});

test('a planner that is stopped releases its leases', async () => {
  const bench = await begun(FEW);
  const stop = new AbortController();
  const queue: Queue = {
    name: 'stopping',
    receive: async (max, o) => bench.queue.receive(max, o),
    count: async (o) => bench.queue.count(o),
    send: async (_, o) => {
      stop.abort();
      checkAborted(o);
    },
  };
  const stopping = { state: bench.state, queue, deadLetters: bench.deadLetters };
  await expect(bench.pass({ service: stopping, signal: stop.signal })).rejects.toMatchObject({ code: 'ABORTED' });
  await bench.pass();
  expect(bench.jobs).toHaveLength(3);
});
