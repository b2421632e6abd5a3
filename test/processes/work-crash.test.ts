import { afterAll, describe, expect, test } from 'vitest';
import { openImage } from '../../worker/archive/reader.ts';
import type { Source, Target } from '../../worker/content/content.ts';
import type { Delivery, Message, Queue } from '../../worker/queue/queue.ts';
import type { Backends } from '../../worker/images/backends.ts';
import { digestOf, hexOf } from '../../worker/oci/digest.ts';
import { dropDone } from '../../worker/service/dead-letters.ts';
import { work } from '../../worker/service/worker/work.ts';
import type { Side } from '../../worker/util/failure.ts';
import { CrashPoints } from '../support/crash.ts';
import { replaceBackends } from '../support/backends.ts';
import { crashing } from '../support/faulty-objects.ts';
import { crashingTable } from '../support/faulty-table.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { expectSameImage } from '../support/same-image.ts';
import {
  deadLettersOf,
  expectEnded,
  expectFree,
  testService,
  type JobDraft,
  type TestService,
} from '../support/test-service.ts';

// A worker is killed at each of its writes, to the table, to the queues and to the destinations; another receives the message again.

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, registry, bucket } = lab.stack;

/** One delivery to a worker that is killed at `at`. Returns how many points it passed. */
async function life(t: TestService, backends: Backends, at: number): Promise<number> {
  const points = new CrashPoints(at);
  const { table } = crashingTable(t.table, points);
  const [queue, deadLetters] = [crashingQueue(t.queue, points), crashingQueue(t.deadLetters, points)];
  const { context } = t.worker(dying(backends, points), { table, queue, deadLetters });
  const [d] = await queue.receive(1, { waitSeconds: 0 });
  if (d === undefined) throw new Error('there is no message');
  const outcome = await work(d, context, { signal: new AbortController().signal });
  // a killed worker settles nothing
  await d.settle(outcome).catch(() => undefined);
  return points.count;
}

/** A backend as a process sees it that is killed at one of `points`. */
function dying(backends: Backends, points: CrashPoints): Backends {
  const write = async <T>(effect: () => Promise<T>): Promise<T> => {
    points.point();
    const result = await effect();
    points.point();
    return result;
  };
  const repository = (end: Source & Target, side: Side): Source & Target => {
    if (side === 'source') return end;
    return {
      resolve: async (name, o) => end.resolve(name, o),
      open: async (d, o) => end.open(d, o),
      referrers: (d, o) => end.referrers(d, o),
      tags: (o) => end.tags(o),
      has: async (d, o) => {
        points.alive();
        return end.has(d, o);
      },
      put: async (d, open, o) => write(async () => end.put(d, open, o)),
      tag: async (name, d, open, o) => write(async () => end.tag(name, d, open, o)),
    };
  };
  return replaceBackends(backends, { repository, bucket: (store) => crashing(store, points).store });
}

function crashingQueue(queue: Queue, points: CrashPoints): Queue {
  const write = async (effect: () => Promise<void>): Promise<void> => {
    points.point();
    await effect();
    points.point();
  };
  const delivery = (d: Delivery): Delivery => ({
    ...d,
    settle: async (outcome) => write(async () => d.settle(outcome)),
  });
  return {
    name: queue.name,
    receive: async (max, o) => {
      points.alive();
      return (await queue.receive(max, o)).map(delivery);
    },
    send: async (messages: readonly Message[], o) => write(async () => queue.send(messages, o)),
    count: async (o) => queue.count(o),
  };
}

const image = await makeImage({ platforms: ['linux/amd64'], layers: [2000], sharedLayerBytes: 0 });
const from = `docker://${registry.registryHost}/crash/app:v1`;

/** The service with one job whose worker is killed at `at`, and which another worker then does. */
async function killedAt(
  at: number,
  job: JobDraft,
): Promise<{ readonly t: TestService; readonly run: string; readonly points: number }> {
  const t = testService();
  const run = await t.enqueue(job);
  const points = await life(t, lab.session().backends, at);
  // until its leases have expired, and its message is visible again
  await t.clock.advance(200_000);
  await t.worker(lab.session().backends).drain();
  return { t, run, points };
}

const nameOf = (at: number): string => (at === Infinity ? 'whole' : String(at));

/** Kills a worker at every write. */
async function atEveryWrite(check: (at: number) => Promise<number>): Promise<void> {
  const whole = await check(Infinity);
  expect(whole).toBeGreaterThanOrEqual(10);
  for (let at = 1; at <= whole; at++) expect(await check(at), `killed at ${at}`).toBe(at);
}

describe('a worker that is killed at any write loses nothing', () => {
  test('of a mirror to two registries', async () => {
    await lab.push(image, registry, 'crash/app');
    await atEveryWrite(async (at) => {
      const to = [registry, ecr].map((where) => `docker://${where.registryHost}/crash/mirror-${nameOf(at)}:v1`);
      const { t, run, points } = await killedAt(at, { kind: 'mirror', from, to });
      const { jobs } = await t.run(run);
      await expectEnded(t, run, jobs.skipped === 1 ? { skipped: 1 } : { done: 1 });
      await expectFree(t, ...to);
      for (const where of [registry, ecr])
        await expectSameImage(image.content, lab.view(where, `crash/mirror-${nameOf(at)}`), image.root);
      expect(await deadLettersOf(t)).toEqual([]);
      return points;
    });
  });

  test('of a backup', async () => {
    await lab.push(image, registry, 'crash/app');
    await atEveryWrite(async (at) => {
      const key = `crash/backup-${nameOf(at)}.tar`;
      const to = `s3://${bucket}/${key}`;
      const { t, run, points } = await killedAt(at, { kind: 'backup', from, to: [to] });
      const { jobs } = await t.run(run);
      await expectEnded(t, run, jobs.skipped === 1 ? { skipped: 1 } : { done: 1 });
      await expectFree(t, to);
      await using archived = await openImage(lab.session().backends.bucket(bucket), key);
      await expectSameImage(image.content, archived, image.root);
      return points;
    });
  });

  test('of objects that are published', async () => {
    const objects = lab.session().backends.bucket(bucket);
    for (const text of ['one', 'two']) await objects.write(`crash/objects/${text}`, Buffer.from(text));
    await atEveryWrite(async (at) => {
      const repository = `crash/objects-${nameOf(at)}`;
      const to = `docker://${ecr.registryHost}/${repository}`;
      const { t, run, points } = await killedAt(at, { kind: 'publish', from: `s3://${bucket}/crash/objects/`, to });
      const { jobs } = await t.run(run);
      await expectEnded(t, run, jobs.skipped === 1 ? { skipped: 1 } : { done: 1 });
      await expectFree(t, `${to}:latest`);
      const tags = await Array.fromAsync(lab.view(ecr, repository).tags());
      const artifacts = ['one', 'two'].map((text) => hexOf(digestOf(Buffer.from(text))));
      expect(tags.filter((tag) => !tag.startsWith('snapshot-')).toSorted()).toEqual(
        [...artifacts, 'latest'].toSorted(),
      );
      expect(await deadLettersOf(t)).toEqual([]);
      return points;
    });
  });

  test('of a job that cannot be done', async () => {
    await atEveryWrite(async (at) => {
      const repository = `crash/gone-${nameOf(at)}`;
      const gone = `docker://${registry.registryHost}/${repository}:v1`;
      const to = `docker://${ecr.registryHost}/${repository}:v1`;
      const job: JobDraft = { kind: 'mirror', from: gone, to: [to] };
      const { t, run, points } = await killedAt(at, job);
      await expectEnded(t, run, { failed: 1 });
      await expectFree(t, to);
      // killed between the two it is there twice, but never missing
      const deadLetters = await deadLettersOf(t);
      expect([1, 2]).toContain(deadLetters.length);
      // it is there until the work is done, and no longer
      await dropDone(t, {});
      expect(await deadLettersOf(t)).toEqual(deadLetters);
      await lab.push(image, registry, repository);
      await t.enqueue(job);
      await t.worker(lab.session().backends).drain();
      await dropDone(t, {});
      expect(await deadLettersOf(t)).toEqual([]);
      return points;
    });
  });

  test('of a job that is retried', async () => {
    await lab.push(image, registry, 'crash/app');
    await atEveryWrite(async (at) => {
      registry.faults.add({ operation: 'manifest-get', times: 6 }, { kind: 'answer', status: 500 });
      const to = `docker://${ecr.registryHost}/crash/again-${nameOf(at)}:v1`;
      const { t, run, points } = await killedAt(at, { kind: 'mirror', from, to: [to] });
      registry.faults.clear();
      await expectEnded(t, run, { done: 1 });
      await expectSameImage(image.content, lab.view(ecr, `crash/again-${nameOf(at)}`), image.root);
      return points;
    });
  });
});
