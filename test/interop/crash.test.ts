import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CreateBucketCommand } from '@aws-sdk/client-s3';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { openImage } from '../../worker/archive/reader.ts';
import { openFiles } from '../../worker/objects/files/store.ts';
import type { ObjectStore } from '../../worker/objects/objects.ts';
import { openS3 } from '../../worker/objects/s3/store.ts';
import { forEachOf } from '../../worker/util/limit.ts';
import { collect } from '../support/chunks.ts';
import { makeImage, type ImageRecipe } from '../support/images.ts';
import { attempt, createWorkspace, succeeded, type Environment } from '../support/interop-process.ts';
import { openLab } from '../support/lab.ts';
import type { ProcessOrder, StoreOrder } from '../support/killed-process.ts';
import type { ProcessRun } from '../support/process-run.ts';
import { openS3 as startS3 } from '../support/local-s3.ts';
import { expectNothingHalf, expectSameImage } from '../support/same-image.ts';

/** The script of one process that may be killed. */
const PROCESS = fileURLToPath(new URL('../support/killed-process.ts', import.meta.url));
/** For two cores, which the servers share. */
const PROCESSES_AT_ONCE = 3;
const MIN_PART_BYTES = 4096;

// hundreds of processes: two minutes on two idle cores
vi.setConfig({ testTimeout: 600_000 });

const work = await createWorkspace();
const s3 = await startS3({ minPartBytes: MIN_PART_BYTES });
const lab = await openLab();
afterAll(async () => {
  await lab[Symbol.asyncDispose]();
  await s3[Symbol.asyncDispose]();
  await work[Symbol.asyncDispose]();
});
const s3Environment = {
  AWS_ACCESS_KEY_ID: s3.s3.credentials.accessKeyId,
  AWS_SECRET_ACCESS_KEY: s3.s3.credentials.secretAccessKey,
  AWS_REGION: s3.s3.region,
  AWS_ENDPOINT_URL_S3: s3.s3.endpoint,
};

/** Runs a new process, until it has ended or is killed as ordered. Returns what is known of it. */
async function runProcess(order: ProcessOrder, env: Environment = {}): Promise<ProcessRun> {
  const ended = await attempt(process.execPath, [PROCESS, JSON.stringify(order)], { env: { ...work.env, ...env } });
  const stdout = ended.signal === 'SIGKILL' ? ended.stdout : succeeded(ended);
  const run = JSON.parse(stdout.toString()) as ProcessRun;
  expect(run.wasKilled).toBe(ended.signal === 'SIGKILL');
  return run;
}

/** Plays every crash point of a process that has so many, some of them at once. */
async function atEvery(points: number, check: (at: number) => Promise<void>): Promise<void> {
  await forEachOf(
    Array.from({ length: points }, (_, i) => i + 1),
    PROCESSES_AT_ONCE,
    check,
  );
}

async function filesPlace(): Promise<{ order: StoreOrder; open: () => ObjectStore }> {
  const folder = join(work.folder, 'backups');
  await mkdir(folder);
  return { order: { folder }, open: () => openFiles(folder) };
}

async function s3Place(): Promise<{ order: StoreOrder; open: () => ObjectStore }> {
  const order = { bucket: 'backups', minPartBytes: MIN_PART_BYTES };
  await s3.client.send(new CreateBucketCommand({ Bucket: order.bucket }));
  return { order, open: () => openS3({ ...order, client: s3.client }) };
}

describe.each([
  ['files', 8 * 1024, { signed: true, layers: [3000, 150_000, 100_000] }, filesPlace],
  ['S3', 8 * 1024, { signed: true, layers: [3000, 100_000, 85_000] }, s3Place],
] as const)('a backup to %s', (_, partSize, recipe: ImageRecipe, makePlace) => {
  test('ends in the same bytes when its process is killed at every write and another process resumes it', async () => {
    const place = await makePlace();
    const backup = (key: string, at?: number): Promise<ProcessRun> =>
      runProcess({ recipe, store: place.order, key, partSize, at }, s3Environment);
    const { points } = await backup('whole.tar');
    expect(points).toBeGreaterThan(100);
    const whole = await collect(await place.open().read('whole.tar'));
    let mostInFlight = 0;
    await atEvery(points, async (at) => {
      const key = `killed-${at}.tar`;
      const first = await backup(key, at);
      expect(first).toMatchObject({ wasKilled: true, points: at });
      mostInFlight = Math.max(mostInFlight, first.writesInFlight);
      const second = await backup(key);
      const sentTwice = first.bytesSent + second.bytesSent - whole.byteLength;
      expect(sentTwice, `killed at ${at}`).toBeLessThanOrEqual(first.bytesInFlight);
      const bytes = await collect(await place.open().read(key));
      expect(bytes.equals(whole), `the bytes are the same when killed at ${at}`).toBe(true);
    });
    expect(mostInFlight).toBeGreaterThan(1);
    const image = await makeImage(recipe);
    await using archived = await openImage(place.open(), `killed-${points}.tar`);
    await expectSameImage(image.content, archived, image.root);
  });
});

describe.each([
  ['a signed image to the plain registry', lab.stack.registry, { signed: true, platforms: ['linux/amd64'] }, 35],
  ['an image of two platforms to ECR', lab.stack.ecr, {}, 20],
] as const)('a mirror of %s', (_, where, more, least) => {
  test('shows nothing before its parts when its process is killed at every write, and another process completes it', async () => {
    const recipe = { ...more, layers: [20_000], sharedLayerBytes: 0 };
    const image = await makeImage(recipe);
    const mirror = (repository: string, at?: number): Promise<ProcessRun> =>
      runProcess({ recipe, registry: where.registryHost, repository, at }, lab.stack.environment);
    const { points } = await mirror('whole');
    expect(points).toBeGreaterThan(least);
    const client = lab.client(where);
    await atEvery(points, async (at) => {
      const repository = `killed/at-${at}`;
      expect(await mirror(repository, at)).toMatchObject({ wasKilled: true, points: at });
      const view = client.repository(repository);
      await expectNothingHalf(image.content, view, image.root);
      expect(await mirror(repository)).toMatchObject({ wasKilled: false });
      await expectSameImage(image.content, view, image.root);
    });
  });
});
