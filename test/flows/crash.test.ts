import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { createArchive } from '../../worker/archive/archive.ts';
import { openImage } from '../../worker/archive/image.ts';
import { planArchive } from '../../worker/archive/layout.ts';
import { walk } from '../../worker/content/graph.ts';
import { copy } from '../../worker/copy/copy.ts';
import { startS3, type LocalS3 } from '../../worker/local/s3.ts';
import { openFiles } from '../../worker/objects/files.ts';
import type { ObjectStore } from '../../worker/objects/objects.ts';
import { openS3 } from '../../worker/objects/s3.ts';
import { Failure } from '../../worker/util/failure.ts';
import { Crash, crashing } from '../support/faulty-objects.ts';
import { collect } from '../support/chunks.ts';
import { makeImage, type MadeImage } from '../support/images.ts';
import { expectSameImage } from '../support/same-image.ts';

const CONCURRENCY = 3;
/** Hundreds of lives. */
const LONG = { timeout: 120_000 };

/** One life of a process that backs the image up, and is killed at a write of its store. */
async function life(image: MadeImage, store: ObjectStore, key: string, partSize: number): Promise<void> {
  const graph = await walk(image.content, [image.root]);
  const layout = planArchive(graph, { tag: 'v1', repository: 'example.test/app' });
  const archive = await createArchive(store, key, layout, {
    partSize,
    partsAtOnce: CONCURRENCY,
    condition: { ifAbsent: true },
  });
  await copy(image.content, archive, [image.root], { graph, strict: true, concurrency: CONCURRENCY });
  await archive.commit();
}

async function stands(store: ObjectStore, key: string): Promise<boolean> {
  return store.stat(key).then(
    () => true,
    (error: unknown) => {
      assert.ok(error instanceof Failure && error.code === 'NOT_FOUND');
      return false;
    },
  );
}

interface Place {
  /** A store as a new process opens it. */
  open(): ObjectStore;
}

function crashTests(
  name: string,
  partSize: number,
  recipe: Parameters<typeof makeImage>[0],
  make: () => Promise<Place>,
): void {
  describe(`a backup to ${name}`, () => {
    test('killed at every write, once, and gone on with by a new process, ends in the same bytes', LONG, async () => {
      const image = await makeImage(recipe);
      const place = await make();
      await life(image, place.open(), 'whole.tar', partSize);
      const whole = await collect(await place.open().read('whole.tar'));

      let points = 0;
      for (let at = 1; ; at++) {
        const key = `killed-${at}.tar`;
        const dying = crashing(place.open(), at);
        const died = await life(image, dying.store, key, partSize).then(
          () => false,
          (error: unknown) => {
            if (!isCrash(error)) throw error;
            return true;
          },
        );
        if (!died) break;
        points++;
        if (!(await stands(place.open(), key))) {
          const second = crashing(place.open(), Number.POSITIVE_INFINITY);
          await life(image, second.store, key, partSize);
          const twice = dying.bytesSent() + second.bytesSent() - whole.byteLength;
          const allowed = (CONCURRENCY + 1) * partSize;
          assert.ok(twice <= allowed, `killed at ${at}: ${twice} bytes were sent twice, ${allowed} are allowed`);
        }
        const bytes = await collect(await place.open().read(key));
        assert.ok(bytes.equals(whole), `killed at ${at}: other bytes`);
      }
      assert.ok(points > 100, `${points} points`);
    });

    test('killed again and again, a little further each time, ends in the same bytes', async () => {
      const image = await makeImage(recipe);
      const place = await make();
      await life(image, place.open(), 'whole.tar', partSize);
      const whole = await collect(await place.open().read('whole.tar'));
      let sent = 0;
      let deaths = 0;
      for (; !(await stands(place.open(), 'killed.tar')); deaths++) {
        assert.ok(deaths < 1000, 'it never ends');
        // far enough that something new is stored in each life: all that is sent at once has begun, and some of it ended
        const dying = crashing(place.open(), 14 + (deaths % 5));
        await life(image, dying.store, 'killed.tar', partSize).catch((error: unknown) => {
          if (!isCrash(error)) throw error;
        });
        sent += dying.bytesSent();
      }
      const bytes = await collect(await place.open().read('killed.tar'));
      assert.ok(bytes.equals(whole));
      assert.ok(deaths > 5, `${deaths} deaths`);
      const allowed = deaths * (CONCURRENCY + 1) * partSize;
      assert.ok(
        sent - whole.byteLength <= allowed,
        `${sent} bytes were sent for ${whole.byteLength}, ${deaths} deaths`,
      );
      await using restored = await openImage(place.open(), 'killed.tar');
      await expectSameImage(image.content, restored, image.root);
    });
  });
}

/** The crash itself, or a failure that wraps it. */
function isCrash(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) if (at instanceof Crash) return true;
  return false;
}

let folder: string;
let s3: LocalS3;
let client: S3Client;
let buckets = 0;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'transship-crash-'));
  s3 = await startS3({ dir: join(folder, 's3'), minPartBytes: 4096 });
  client = new S3Client({
    endpoint: s3.endpoint,
    region: s3.region,
    credentials: s3.credentials,
    forcePathStyle: true,
  });
});

afterAll(async () => {
  client.destroy();
  await s3.close();
  await rm(folder, { recursive: true, force: true });
});

crashTests('files', 8192, { signed: true, layers: [3000, 150_000, 100_000] }, async () => {
  const root = await mkdtemp(join(folder, 'files-'));
  return { open: () => openFiles(root) };
});

crashTests('S3', 16 * 1024, { signed: true, layers: [3000, 250_000, 200_000] }, async () => {
  const bucket = `backups-${++buckets}`;
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  return { open: () => openS3({ bucket, client, minPartBytes: 4096 }) };
});
