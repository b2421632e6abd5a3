import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CreateBucketCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { openImage } from '../../worker/archive/reader.ts';
import { openFiles } from '../../worker/objects/files/store.ts';
import type { ObjectStore } from '../../worker/objects/objects.ts';
import { openS3 } from '../../worker/objects/s3/store.ts';
import { collect } from '../support/chunks.ts';
import { makeImage, type ImageRecipe } from '../support/images.ts';
import { runBackup } from '../support/process-run.ts';
import { openS3 as startS3, type OpenS3 } from '../support/local-s3.ts';
import { expectSameImage } from '../support/same-image.ts';

// Every process here is simulated within this one. test/interop/crash.test.ts does the same with real processes.

interface Place {
  /** A store as a new process opens it. */
  open(): ObjectStore;
}

function crashTests(name: string, partSize: number, recipe: ImageRecipe, make: () => Promise<Place>): void {
  describe(`a backup to ${name}`, () => {
    test('killed at every write, once, and resumed by a new process, ends in the same bytes', async () => {
      const image = await makeImage(recipe);
      const place = await make();
      const { points } = await runBackup(image, place.open(), 'whole.tar', { partSize });
      const whole = await collect(await place.open().read('whole.tar'));
      assert.ok(points > 100, `${points} points`);
      for (let at = 1; at <= points; at++) {
        const key = `killed-${at}.tar`;
        const first = await runBackup(image, place.open(), key, { partSize, at });
        assert.ok(first.wasKilled, `it was not killed at ${at}`);
        const second = await runBackup(image, place.open(), key, { partSize });
        const twice = first.bytesSent + second.bytesSent - whole.byteLength;
        const allowed = first.bytesInFlight;
        assert.ok(twice <= allowed, `killed at ${at}: ${twice} bytes were sent twice, ${allowed} are allowed`);
        const bytes = await collect(await place.open().read(key));
        assert.ok(bytes.equals(whole), `killed at ${at}: other bytes`);
      }
    });

    test('killed again and again, a little further each time, ends in the same bytes', async () => {
      const image = await makeImage(recipe);
      const place = await make();
      await runBackup(image, place.open(), 'whole.tar', { partSize });
      const whole = await collect(await place.open().read('whole.tar'));
      let [sent, allowed, kills] = [0, whole.byteLength, 0];
      for (; ; kills++) {
        assert.ok(kills < 1000, 'it never ends');
        // far enough to store something new in each run: everything that is sent at once has begun, and some of it has ended
        const run = await runBackup(image, place.open(), 'killed.tar', { partSize, at: 14 + (kills % 5) });
        sent += run.bytesSent;
        if (!run.wasKilled) break;
        allowed += run.bytesInFlight;
      }
      const bytes = await collect(await place.open().read('killed.tar'));
      assert.ok(bytes.equals(whole));
      assert.ok(kills > 5, `${kills} kills`);
      assert.ok(sent <= allowed, `${sent} bytes were sent for ${whole.byteLength}, ${kills} kills`);
      await using restored = await openImage(place.open(), 'killed.tar');
      await expectSameImage(image.content, restored, image.root);
    });
  });
}

let folder: string;
let s3: OpenS3;
let buckets = 0;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'transship-crash-'));
  s3 = await startS3({ minPartBytes: 4096 });
});

afterAll(async () => {
  await s3[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

crashTests('files', 8192, { signed: true, layers: [3000, 150_000, 100_000] }, async () => {
  const root = await mkdtemp(join(folder, 'files-'));
  return { open: () => openFiles(root) };
});

crashTests('S3', 8192, { signed: true, layers: [3000, 100_000, 85_000] }, async () => {
  const bucket = `backups-${++buckets}`;
  const { client } = s3;
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  return { open: () => openS3({ bucket, client, minPartBytes: 4096 }) };
});
