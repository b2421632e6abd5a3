// Rules that publish, through planner, queue, workers and state, over the embedded S3 and ECR.
import assert from 'node:assert/strict';
import { afterAll, describe, expect, test } from 'vitest';
import { connectService } from '../../worker/main/wire.ts';
import { readSettings } from '../../worker/main/settings.ts';
import { consume } from '../../worker/queue/consume.ts';
import type { ObjectStore } from '../../worker/objects/objects.ts';
import type { Message, Queue } from '../../worker/queue/queue.ts';
import { formatRule } from '../../worker/rules/config.ts';
import { publishedAt } from '../../worker/rules/destinations.ts';
import type { PublishRule } from '../../worker/rules/rule.ts';
import { openBackendPool } from '../../worker/service/backend-pool.ts';
import { status } from '../../worker/service/admin/status.ts';
import { redrive } from '../../worker/service/admin/redrive.ts';
import { enqueueRule } from '../../worker/service/admin/enqueue.ts';
import { gatherObject } from '../../worker/service/planner/push-event.ts';
import { runPass } from '../../worker/service/planner/pass.ts';
import { work as workOn } from '../../worker/service/worker/work.ts';
import type { Run } from '../../worker/state/state.ts';
import { systemClock } from '../../worker/util/clock.ts';
import type { Event } from '../../worker/util/events.ts';
import { Failure } from '../../worker/util/failure.ts';
import { forEachOf } from '../../worker/util/limit.ts';
import { hexOf, digestOf } from '../../worker/oci/digest.ts';
import { parseObjectPlace } from '../../worker/oci/object-place.ts';
import { listingOf } from '../../worker/images/publish.ts';
import { replaceBackends } from '../support/backends.ts';
import { eventually } from '../support/eventually.ts';
import { crashingTable } from '../support/faulty-table.ts';
import { CrashPoints } from '../support/crash.ts';
import { openLab, requestsDuring, type Session } from '../support/lab.ts';
import {
  deadLettersOf,
  expectEnded,
  expectFree,
  HOUR_MS,
  planRun,
  poolOf,
  testService,
  type TestService,
} from '../support/test-service.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { bucket, ecr, s3 } = lab.stack;

/** A rule that publishes its own prefix, and the service that runs it. */
interface Published {
  readonly t: TestService;
  readonly rule: PublishRule;
  readonly session: Session;
  readonly worker: ReturnType<TestService['worker']>;
  put(key: string, text: string): Promise<void>;
  /** A pass of the planner, so many hours later; returns the run that it began. */
  pass(hours?: number): Promise<Run>;
  /** The latest run of the rule. */
  latest(): Promise<Run>;
  /** The tags of the repository, with one name for all snapshots. */
  tags(): Promise<readonly string[]>;
}

let rules = 0;
async function published(change: Partial<PublishRule> = {}): Promise<Published> {
  const name = `files-${++rules}`;
  const rule: PublishRule = {
    kind: 'publish',
    name,
    from: `s3://${bucket}/${name}/`,
    to: `${ecr.registryHost}/${name}`,
    schedule: { cron: '0 * * * *', timeZone: 'UTC' },
    onPush: false,
    ...change,
  };
  const t = testService();
  await t.state.rules.put({ name, document: formatRule(rule) }, 0);
  const session = lab.session();
  const store = session.backends.bucket(bucket);
  const latest = async (): Promise<Run> => {
    const [run] = await t.state.runs.list({ rule: name, limit: 1 });
    assert(run);
    return run;
  };
  return {
    t,
    rule,
    session,
    worker: t.worker(session.backends),
    put: async (key, text) => void (await store.write(`${name}/${key}`, Buffer.from(text))),
    pass: async (hours = 0) => planRun(t, session.backends, { hours }),
    latest,
    tags: async () => {
      const tags = await Array.fromAsync(lab.view(ecr, name).tags());
      return tags.map((tag) => tag.replace(/^snapshot-.*/, 'snapshot')).toSorted();
    },
  };
}

const tagOf = (text: string): string => hexOf(digestOf(Buffer.from(text)));

/** The requests of S3 and ECR while `work` runs. */
async function costOf(work: () => Promise<unknown>): Promise<Readonly<Record<string, number>>> {
  const before = s3.requests.length;
  const counts = { ...(await requestsDuring(ecr, work)) };
  for (const { operation = '' } of s3.requests.slice(before)) counts[operation] = (counts[operation] ?? 0) + 1;
  return counts;
}

/** Its objects are published, and it has the snapshots `latest` and one or more by time. */
async function expectTags(p: Published, ...texts: readonly string[]): Promise<void> {
  expect([...new Set(await p.tags())]).toEqual([...texts.map(tagOf), 'latest', 'snapshot'].toSorted());
}

describe('a rule that publishes', () => {
  test('publishes what is new, once for equal bytes, and costs one LIST where nothing changed', async () => {
    const p = await published();
    await p.put('a.txt', 'one');
    await p.put('b/ü.txt', 'one');
    await p.put('c.txt', 'two');
    const first = await p.pass();
    await p.worker.drain();
    await expectEnded(p.t, first.id, { done: 1 });
    await expectTags(p, 'one', 'two');
    expect(p.t.events).toContainEqual(expect.objectContaining({ type: 'object-published', bytes: 3 }));
    expect(p.t.events.find(({ type }) => type === 'job-done')).toMatchObject({
      objects: { published: 3, unchanged: 0, removed: 0, failed: 0 },
    });

    expect(await costOf(async () => p.pass(1))).toEqual({ ListObjectsV2: 1 });
    expect(await p.latest()).toMatchObject({ unchanged: 1, unseen: 0, endedAtMs: expect.any(Number) });
    expect(p.t.queue.bodies).toEqual([]);

    await p.put('c.txt', 'three');
    const changed = await p.pass(1);
    const cost = await costOf(async () => p.worker.drain());
    await expectEnded(p.t, changed.id, { done: 1 });
    await expectTags(p, 'one', 'two', 'three');
    expect(cost).toMatchObject({ ListObjectsV2: 1, GetObject: 1 });
    const found = await status({ ...p.t }, { clock: p.t.clock });
    expect(found).toMatchObject({ faulty: false, rules: [{ name: p.rule.name, kind: 'publish', faults: [] }] });
  });

  test('costs two LISTs for 1,001 objects where nothing changed, and no other request', async () => {
    const p = await published();
    const keys = Array.from({ length: 1001 }, (_, i) => `${i}.txt`);
    await forEachOf(keys, 16, async (key) => p.put(key, 'same'));
    const { location, ...key } = publishedAt(p.rule.to);
    const sourceDigest = await listingOf(parseObjectPlace(p.rule.from), p.session.backends, {});
    const common = { source: p.rule.from, digest: sourceDigest, choices: 'all', bytes: 1, run: 'before' };
    await using lease = await p.t.state.destinations.lock(key, 60);
    assert(lease, location);
    await p.t.state.destinations.record({ ...key, ...common, sourceDigest, atMs: p.t.clock.now() }, lease);
    expect(await costOf(async () => p.pass())).toEqual({ ListObjectsV2: 2 });
    expect(await p.latest()).toMatchObject({ unchanged: 1, endedAtMs: expect.any(Number) });
  });

  test('asks once a day whether its snapshot still exists, and publishes again where it does not', async () => {
    const p = await published();
    await p.put('a.txt', 'one');
    await p.pass();
    await p.worker.drain();
    expect(await costOf(async () => p.pass(23))).toEqual({ ListObjectsV2: 1, 'manifest-head': 1 });
    expect(await costOf(async () => p.pass(1))).toEqual({ ListObjectsV2: 1 });
    await lab.stack.deleteRepository(p.rule.name);
    const again = await p.pass(24);
    await p.worker.drain();
    await expectEnded(p.t, again.id, { done: 1 });
    await expectTags(p, 'one');
  });

  test('asks whether its snapshot still exists when a run is requested by name, however recent the last look is', async () => {
    const p = await published();
    await p.put('a.txt', 'one');
    await p.pass();
    await p.worker.drain();
    await lab.stack.deleteRepository(p.rule.name);
    await enqueueRule(p.rule.name, p.t, { clock: p.t.clock });
    await p.worker.drain();
    await expectTags(p, 'one');
  });

  test('trusts its record while the registry does not answer, and reports that', async () => {
    const p = await published();
    await p.put('a.txt', 'one');
    await p.pass();
    await p.worker.drain();
    ecr.faults.add({ operation: 'manifest-head', times: 20 }, { kind: 'answer', status: 503 });
    const run = await p.pass(24);
    ecr.faults.clear();
    expect(run).toMatchObject({ unchanged: 1, unseen: 1, jobs: { failed: 0 } });
  });

  test('has a failed job where its objects cannot be listed', async () => {
    const p = await published({ from: 's3://no-such-bucket/x/' });
    const run = await p.pass();
    await expectEnded(p.t, run.id, { failed: 1 });
    const [job] = await Array.fromAsync(p.t.state.runs.jobs(run.id));
    expect(job).toMatchObject({ code: 'NOT_FOUND', title: 'list s3://no-such-bucket/x/' });
    expect(await deadLettersOf(p.t)).toEqual([]);
  });

  test('is run at once by its name, and leaves the listing to the job when the planner is out of time', async () => {
    const p = await published();
    await p.put('a.txt', 'one');
    const asked = await enqueueRule(p.rule.name, p.t, { clock: p.t.clock });
    await p.worker.drain();
    await expectEnded(p.t, asked.id, { done: 2 });
    const options = { clock: p.t.clock, untilMs: p.t.clock.now() };
    await p.t.clock.advance(HOUR_MS);
    await runPass(p.t, poolOf(p.session.backends), options);
    const late = await p.latest();
    await p.worker.drain();
    await expectEnded(p.t, late.id, { skipped: 1 });
  });

  test('has a dead letter that names the objects that cannot be read, and publishes the others', async () => {
    const p = await published();
    for (const name of ['a', 'b', 'c', 'd', 'e']) await p.put(`${name}.txt`, name);
    for (const name of ['a', 'b', 'c', 'd'])
      s3.faults.add(
        { operation: 'GetObject', key: `${p.rule.name}/${name}.txt`, times: 100 },
        { kind: 'answer', status: 403, code: 'AccessDenied' },
      );
    const first = await p.pass();
    await p.worker.drain();
    await expectEnded(p.t, first.id, { failed: 1 });
    await expectTags(p, 'e');
    const [letter] = await deadLettersOf(p.t);
    expect(letter?.reason).toMatch(
      /^DENIED: publish s3:.*: 4 of 5 objects failed, the others are published: .*a\.txt.*b\.txt.*c\.txt.*; and 1 more$/,
    );
    // the next run fails as well: one letter reports it, and what was published is not read again
    const second = await p.pass(1);
    const cost = await costOf(async () => p.worker.drain());
    await expectEnded(p.t, second.id, { failed: 1 });
    expect(cost).toMatchObject({ GetObject: 4 });
    expect(await deadLettersOf(p.t)).toHaveLength(1);
    s3.faults.clear();
    // a waiting receive would wait for the clock
    const impatient = new Proxy(p.t.deadLetters, {
      get: (queue, name) =>
        name === 'receive'
          ? async (most: number) => queue.receive(most, { waitSeconds: 0 })
          : (Reflect.get(queue, name, queue) as unknown),
    });
    expect(await redrive({}, { ...p.t, deadLetters: impatient }, {})).toMatchObject({ redriven: 1, left: 0 });
    await p.worker.drain();
    await expectEnded(p.t, first.id, { done: 1 });
    await expectTags(p, 'a', 'b', 'c', 'd', 'e');
    expect(await deadLettersOf(p.t)).toEqual([]);
    expect(await p.pass(1)).toMatchObject({ unchanged: 1 });
  });

  test('is retried where S3 is too busy for an object', async () => {
    const p = await published();
    await p.put('a.txt', 'one');
    await p.put('b.txt', 'two');
    const key = `${p.rule.name}/b.txt`;
    s3.faults.add({ operation: 'GetObject', key, times: 1000 }, { kind: 'answer', status: 503, code: 'SlowDown' });
    const run = await p.pass();
    await p.worker.next();
    expect(p.t.events.find(({ type }) => type === 'job-failed')).toMatchObject({ again: true });
    await expectTags(p, 'one');
    s3.faults.clear();
    await p.worker.drain();
    await expectEnded(p.t, run.id, { done: 1 });
    await expectTags(p, 'one', 'two');
  });

  test('returns to the queue when its worker stops, and continues with what is missing', async () => {
    const p = await published();
    await p.put('a.txt', 'one');
    await p.put('b.txt', 'two');
    const run = await p.pass();
    const stop = new AbortController();
    const bucketOf = (store: ObjectStore): ObjectStore => ({
      describe: (key) => store.describe(key),
      stat: async (key, o) => store.stat(key, o),
      list: (prefix, o) => store.list(prefix, o),
      read: async (key, o) => {
        if (key.endsWith('b.txt')) stop.abort(new Failure('ABORTED', 'the worker stops'));
        return store.read(key, o);
      },
      write: async (key, body, o) => store.write(key, body, o),
      stream: async (key, body, o) => store.stream(key, body, o),
      upload: async (key, size, o) => store.upload(key, size, o),
    });
    const stopped = p.t.worker(replaceBackends(p.session.backends, { bucket: bucketOf }));
    expect(await stopped.next({ signal: stop.signal })).toMatchObject({ outcome: { type: 'again', seconds: 0 } });
    expect(await Array.fromAsync(p.t.state.runs.jobs(run.id))).toMatchObject([{ state: 'waiting', attempts: 0 }]);
    await expectFree(p.t, publishedAt(p.rule.to).location);
    await p.worker.drain();
    await expectEnded(p.t, run.id, { done: 1 });
    await expectTags(p, 'one', 'two');
  });

  test('is done once when two workers receive it at once', async () => {
    const p = await published();
    for (const name of ['a', 'b', 'c']) await p.put(`${name}.txt`, name);
    const run = await p.pass();
    const asked = await enqueueRule(p.rule.name, p.t, { clock: p.t.clock });
    await p.worker.next();
    const other = p.t.worker(lab.session().backends);
    await Promise.all([p.worker.next(), other.next()]);
    await Promise.all([p.worker.drain(), other.drain()]);
    const runs = [await p.t.run(run.id), await p.t.run(asked.id)];
    expect(runs.map(({ jobs }) => jobs.failed)).toEqual([0, 0]);
    expect(runs.every(({ endedAtMs }) => endedAtMs !== undefined)).toBe(true);
    expect(p.t.events.filter(({ type }) => type === 'snapshot-published')).toHaveLength(1);
    await expectTags(p, 'a', 'b', 'c');
  });
});

describe('a change of an object', () => {
  test('is published within the window, by one run for all of them', async () => {
    const p = await published({ onPush: true });
    const other = await published({ onPush: true });
    await p.t.state.rules.put({ name: other.rule.name, document: formatRule(other.rule) }, 0);
    for (let i = 0; i < 20; i++) {
      await p.put(`${i}.txt`, `text ${i}`);
      const event = { id: `event-${i}`, bucket, key: `${p.rule.name}/${i}.txt` };
      expect(await gatherObject(event, p.t, { clock: p.t.clock })).toHaveLength(1);
    }
    expect(await gatherObject({ id: 'elsewhere', bucket, key: 'elsewhere' }, p.t, { clock: p.t.clock })).toEqual([]);
    expect(p.t.queue.bodies).toHaveLength(1);
    await p.t.clock.advance(30_000);
    await p.worker.drain();
    const run = await p.latest();
    expect(run).toMatchObject({ trigger: 'push', endedAtMs: expect.any(Number), jobs: { done: 2, failed: 0 } });
    await expectTags(p, ...Array.from({ length: 20 }, (_, i) => `text ${i}`));
    // when it is redelivered after its run, a new run finds nothing to do
    const again = await gatherObject({ id: 'event-3', bucket, key: `${p.rule.name}/3.txt` }, p.t, { clock: p.t.clock });
    await p.t.clock.advance(30_000);
    const cost = await costOf(async () => p.worker.drain());
    expect(cost).toEqual({ ListObjectsV2: 1 });
    expect(await p.t.run(again[0] ?? '')).toMatchObject({ unchanged: 1, jobs: { done: 1 } });
  });

  test('gets a run of its own when the gathering run is already listing', async () => {
    const p = await published({ onPush: true });
    const event = (id: string) => ({ id, bucket, key: `${p.rule.name}/a.txt` });
    const [first = ''] = await gatherObject(event('first'), p.t, { clock: p.t.clock });
    await p.t.state.runs.closePushes(first);
    const [second = ''] = await gatherObject(event('second'), p.t, { clock: p.t.clock });
    expect(second).toBe(`push-second-${p.rule.name}`);
    expect(await gatherObject(event('third'), p.t, { clock: p.t.clock })).toEqual([second]);
  });

  test('is parsed by a worker in the format of EventBridge', async () => {
    const p = await published({ onPush: true });
    await p.put('a b+ü.txt', 'one');
    const body = JSON.stringify({
      version: '0',
      id: 'event',
      'detail-type': 'Object Created',
      source: 'aws.s3',
      detail: { bucket: { name: bucket }, object: { key: `${p.rule.name}/a b+ü.txt`, size: 3 } },
    });
    await p.t.queue.send([{ body }]);
    await p.worker.drain();
    await expectTags(p, 'one');
  });
});

test('publishes an object by the event of its PUT, over SQS and DynamoDB', async () => {
  await using service = connectService(readSettings(lab.stack.environment));
  const { session, rule, ...files } = await published({ onPush: true });
  await service.state.rules.put({ name: rule.name, document: formatRule(rule) }, 0);
  const stopping = new AbortController();
  const events: Event[] = [];
  const report = (event: Event): void => void events.push(event);
  const connected = { ...session.backends, [Symbol.asyncDispose]: async () => undefined };
  const clock = systemClock;
  await using backends = openBackendPool({ rules: service.state.rules, connect: () => connected, clock });
  const context = { service, backends, clock, reportOf: () => report, pushWindowSeconds: 1 };
  const { signal } = stopping;
  const options = { slots: 2, visibilitySeconds: 30, stopping: signal, signal, clock, report };
  const consuming = consume(service.queue, async (delivery, o) => workOn(delivery, context, o), options);
  try {
    lab.stack.pushEvents = true;
    await files.put('a.txt', 'one');
    lab.stack.pushEvents = false;
    const key = publishedAt(rule.to);
    await eventually(async () => expect(await service.state.destinations.get(key)).toBeDefined());
  } finally {
    lab.stack.pushEvents = false;
    stopping.abort();
    await consuming;
  }
  expect(events.filter(({ type }) => type === 'object-published')).toMatchObject([{ bytes: 3, outcome: 'copied' }]);
});

/** A queue as a process sees it that is killed at one of `points`. */
function dyingQueue(queue: Queue, points: CrashPoints): Queue {
  return {
    name: queue.name,
    receive: async (max, o) => {
      points.alive();
      return queue.receive(max, o);
    },
    send: async (messages: readonly Message[], o) => {
      points.point();
      await queue.send(messages, o);
      points.point();
    },
    count: async (o) => queue.count(o),
  };
}

test('ends the run of a planner that was killed at any write', async () => {
  for (let at = 1; ; at++) {
    const p = await published();
    await p.put('a.txt', 'one');
    const points = new CrashPoints(at);
    const { table } = crashingTable(p.t.table, points);
    const { service } = p.t.worker(p.session.backends, { table, queue: dyingQueue(p.t.queue, points) }).context;
    const pool = poolOf(p.session.backends);
    await runPass(service, pool, { clock: p.t.clock }).catch(() => undefined);
    // until its leases have expired, and lost messages are sent again
    for (let round = 0; round < 3; round++) {
      await p.t.clock.advance(HOUR_MS / 3);
      await runPass(p.t, pool, { clock: p.t.clock });
      await p.worker.drain();
    }
    expect(await p.latest(), `killed at ${at}`).toMatchObject({ endedAtMs: expect.any(Number), jobs: { failed: 0 } });
    await expectTags(p, 'one');
    await expectFree(p.t, publishedAt(p.rule.to).location);
    expect(await deadLettersOf(p.t)).toEqual([]);
    if (points.count < at) break;
  }
});
