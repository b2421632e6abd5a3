// Rules that include images of ECR's archive storage class: their jobs hold no slot while ECR restores, and archive again what they restored.
import assert from 'node:assert/strict';
import { afterAll, expect, test } from 'vitest';
import type { Backends } from '../../worker/images/backends.ts';
import { RestoredImages } from '../../worker/images/restored-images.ts';
import { digestOf, type Digest } from '../../worker/oci/digest.ts';
import { formatRule } from '../../worker/rules/config.ts';
import { openSnapshots } from '../../worker/store/snapshots.ts';
import type { Snapshot } from '../../worker/store/snapshot.ts';
import { Failure } from '../../worker/util/failure.ts';
import { callEcr } from '../support/call-ecr.ts';
import { beforeWrites } from '../support/faulty-objects.ts';
import { makeImage } from '../support/images.ts';
import { openLab, type Session } from '../support/lab.ts';
import { hourlyRule } from '../support/rules.ts';
import {
  deadLettersOf,
  expectEnded,
  HOUR_MS,
  planRun,
  poolOf,
  testService,
  type TestService,
} from '../support/test-service.ts';
import { enqueueStore } from '../../worker/service/admin/enqueue.ts';
import { runPass } from '../../worker/service/planner/pass.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { bucket } = lab.stack;

interface Kept {
  readonly t: TestService;
  /** What the rule backs up, and where. */
  readonly from: string;
  readonly to: string;
  readonly session: Session;
  /** Pushes an image, signed where it is an index. */
  push(tag: string, seed: number, platforms?: readonly string[]): Promise<void>;
  archiveAll(): Promise<void>;
  /** The statuses of everything in the repository, each listed once. */
  statuses(): Promise<ReadonlySet<string>>;
  newest(): Promise<Snapshot | undefined>;
  /** How many images are noted as restored. */
  noted(): Promise<number>;
  /** Notes images as restored. */
  note(digests: readonly Digest[]): Promise<void>;
}

let regions = 0;
const RESTORE_SECONDS = 900;

/** An ECR that restores in 15 minutes, and a rule that backs up one of its repositories. */
async function kept(): Promise<Kept> {
  const region = `eu-north-${++regions}`;
  const t = testService();
  const ecr = await lab.registry({
    mode: 'ecr',
    account: '333333333333',
    region,
    clock: t.clock,
    restoreSeconds: RESTORE_SECONDS,
  });
  const host = ecr.registryHost;
  const [from, to] = [`${host}/team/*`, `store:s3://${bucket}/${region}/`];
  const words = `{ from: '${from}', to: '${to}', includeArchived: true }`;
  const rule = hourlyRule(region, `backup: ${words}`);
  assert(rule.kind === 'backup');
  await t.state.rules.put({ name: region, document: formatRule(rule) }, 0);
  const session = lab.session();
  const prefix = `${region}/`;
  const store = session.backends.bucket(bucket);
  const rows = (): AsyncIterable<{ readonly digest: string; readonly status: string }> =>
    session.backends.registry(host, 'source').images?.('team/app') ?? assert.fail();
  return {
    t,
    from,
    to,
    session,
    push: async (tag, seed, platforms = ['linux/amd64']) => {
      const image = await makeImage({ seed, tag, platforms, layers: [300], signed: platforms.length > 1 });
      await lab.push(image, ecr, 'team/app');
    },
    archiveAll: async () => {
      for await (const { digest } of rows())
        await callEcr(ecr.url, region, 'UpdateImageStorageClass', {
          repositoryName: 'team/app',
          imageId: { imageDigest: digest },
          targetStorageClass: 'ARCHIVE',
        });
    },
    statuses: async () => new Set((await Array.fromAsync(rows())).map(({ status }) => status)),
    newest: async () => {
      const place = openSnapshots({ store, prefix });
      const last = (await place.list()).at(-1);
      return last === undefined ? undefined : (await place.read(last)).snapshot;
    },
    note: async (digests) =>
      new RestoredImages({ store, prefix, registry: host }).add('team/app', digests, { atMs: t.clock.now() }),
    noted: async () => (await new RestoredImages({ store, prefix, registry: host }).of('team/app')).size,
  };
}

const archivedIn = (snapshot: Snapshot | undefined): readonly string[] =>
  (snapshot?.repositories ?? []).flatMap(({ images }) =>
    images.flatMap(({ archived, tags }) => (archived === true ? tags.filter((tag) => tag.startsWith('old')) : [])),
  );

test('a job hands its message back while ECR restores images, then stores them and archives them again', async () => {
  const k = await kept();
  await k.push('old', 1, ['linux/amd64', 'linux/arm64']);
  await k.push('older', 2);
  await k.archiveAll();
  await k.push('new', 3);
  const run = await planRun(k.t, k.session.backends);
  const worker = k.t.worker(k.session.backends);
  const before = k.t.clock.now();
  const first = await worker.next();
  // the worker waits for nothing
  expect(k.t.clock.now()).toBe(before);
  expect(first?.outcome).toEqual({ type: 'again', seconds: 300 });
  expect(await k.statuses()).toEqual(new Set(['ACTIVE', 'ACTIVATING', 'ARCHIVED']));
  // active images are stored at once
  expect(archivedIn(await k.newest())).toEqual(['old', 'older']);
  expect((await k.newest())?.run).toBe(run.id);
  await worker.drain();
  await expectEnded(k.t, run.id, { done: 1 });
  expect(archivedIn(await k.newest())).toEqual([]);
  expect((await k.newest())?.repositories[0]?.images.map(({ tags }) => tags)).toEqual([['new'], ['old'], ['older']]);
  expect([...(await k.statuses())].toSorted()).toEqual(['ACTIVE', 'ARCHIVED']);
  expect(await k.noted()).toBe(0);
  // two passes stored images; those that only waited wrote no snapshot
  const written = k.t.events.filter(({ type }) => type === 'snapshot-written');
  expect(written.length).toBeLessThanOrEqual(3);
  const [job] = await Array.fromAsync(k.t.state.runs.jobs(run.id, {}));
  expect(job).toMatchObject({ attempts: 1 });

  // nothing that is stored already is restored
  const again = await planRun(k.t, k.session.backends, { hours: 1 });
  expect((await worker.next())?.outcome).toEqual({ type: 'done' });
  await expectEnded(k.t, again.id, { skipped: 1 });
});

test('a job whose message is lost while ECR restores images is sent again, and archives them again', async () => {
  const k = await kept();
  await k.push('old', 11);
  await k.archiveAll();
  const run = await planRun(k.t, k.session.backends);
  const worker = k.t.worker(k.session.backends);
  expect((await worker.next())?.outcome).toMatchObject({ type: 'again' });
  expect(await k.noted()).toBe(1);
  await k.t.clock.advance(RESTORE_SECONDS * 1000);
  const [lost] = await k.t.queue.receive(1, { waitSeconds: 0 });
  await lost?.settle({ type: 'done' });
  await k.t.clock.advance(HOUR_MS);
  expect(await runPass(k.t, poolOf(k.session.backends), { clock: k.t.clock })).toMatchObject({ resent: 1 });
  await worker.drain();
  await expectEnded(k.t, run.id, { done: 1 });
  expect(await k.statuses()).toEqual(new Set(['ARCHIVED']));
  expect(await k.noted()).toBe(0);
});

test('the next run archives images again whose job was given up after it restored them', async () => {
  const k = await kept();
  await k.push('old', 31);
  await k.archiveAll();
  const run = await planRun(k.t, k.session.backends);
  const worker = k.t.worker(k.session.backends);
  await worker.next();
  const [job] = await Array.fromAsync(k.t.state.runs.jobs(run.id, {}));
  await k.t.state.runs.endJob(run.id, job?.id ?? '', { state: 'failed', code: 'UNAVAILABLE', reason: 'given up' });
  await k.t.clock.advance(RESTORE_SECONDS * 1000);
  await worker.drain();
  expect(await k.statuses()).toEqual(new Set(['ACTIVE']));
  const next = await planRun(k.t, k.session.backends, { hours: 1 });
  await worker.drain();
  await expectEnded(k.t, next.id, { done: 1 });
  expect(await k.statuses()).toEqual(new Set(['ARCHIVED']));
  expect(await k.noted()).toBe(0);
  expect(archivedIn(await k.newest())).toEqual([]);
});

test('restores archived images though a hundred notes are left of images that were archived again or deleted', async () => {
  const k = await kept();
  await k.push('old', 41);
  await k.archiveAll();
  // a worker that is killed after it archived images again has not taken them off the note yet
  const gone = Array.from({ length: 100 }, (_, i) => digestOf(Buffer.from(`gone ${i}`)));
  await k.note(gone);
  const run = await planRun(k.t, k.session.backends);
  await k.t.worker(k.session.backends).drain();
  await expectEnded(k.t, run.id, { done: 1 });
  expect(archivedIn(await k.newest())).toEqual([]);
  expect(await k.statuses()).toEqual(new Set(['ARCHIVED']));
});

test('an image whose copy fails is archived again', async () => {
  const k = await kept();
  await k.push('old', 21);
  await k.archiveAll();
  const run = await planRun(k.t, k.session.backends);
  const full = beforeWrites(k.session.backends.bucket(bucket), (key) => {
    if (key.includes('blobs/')) throw new Failure('DENIED', `write ${key}: the bucket does not allow it`);
  });
  const backends: Backends = { ...k.session.backends, bucket: () => full };
  await k.t.worker(backends).drain();
  await expectEnded(k.t, run.id, { failed: 1 });
  expect(await k.statuses()).toEqual(new Set(['ARCHIVED']));
  expect(await k.noted()).toBe(0);
  expect((await deadLettersOf(k.t))[0]?.reason).toContain('the bucket does not allow it');
});

test('an image that cannot be stored fails the job only when the archived ones are restored and stored', async () => {
  const k = await kept();
  await k.push('old', 51);
  await k.archiveAll();
  await k.push('new', 52);
  const run = await planRun(k.t, k.session.backends);
  const refused = new Set<string>();
  let isFirst = true;
  const full = beforeWrites(k.session.backends.bucket(bucket), (key) => {
    if (!key.includes('blobs/') || !(isFirst || refused.has(key))) return;
    refused.add(key);
    throw new Failure('DENIED', `write ${key}: the bucket does not allow it`);
  });
  const worker = k.t.worker({ ...k.session.backends, bucket: () => full });
  expect((await worker.next())?.outcome).toEqual({ type: 'again', seconds: 300 });
  isFirst = false;
  await worker.drain();
  await expectEnded(k.t, run.id, { failed: 1 });
  const images = (await k.newest())?.repositories[0]?.images.map(({ tags, archived }) => ({ tags, archived }));
  expect(images).toEqual([{ tags: ['old'], archived: undefined }]);
  expect((await deadLettersOf(k.t)).map(({ reason }) => reason)).toEqual([
    expect.stringContaining('1 failed, 1 image is stored'),
  ]);
  expect([...(await k.statuses())].toSorted()).toEqual(['ACTIVE', 'ARCHIVED']);
  expect(await k.noted()).toBe(0);
});

test('a request includes archived images where it asks for them', async () => {
  const k = await kept();
  await k.push('old', 61);
  await k.archiveAll();
  const asked = { from: k.from, to: k.to, includeArchived: true };
  const run = await enqueueStore(asked, k.t, { clock: k.t.clock });
  await k.t.worker(k.session.backends).drain();
  await expectEnded(k.t, run.id, { done: 1 });
  expect(archivedIn(await k.newest())).toEqual([]);
  expect(await k.statuses()).toEqual(new Set(['ARCHIVED']));
});
