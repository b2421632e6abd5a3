// A worker is stopped in the middle of a backup of 1 GiB, and another goes on with the parts that are missing.
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, expect, onTestFinished, test, vi } from 'vitest';
import { writeSampleImage } from '../../worker/local/sample-image.ts';
import { enqueueImage } from '../../worker/operations/enqueue.ts';
import { openLocation } from '../../worker/operations/image.ts';
import { parseLocation } from '../../worker/plan/location.ts';
import { readSettings } from '../../worker/settings.ts';
import { systemClock } from '../../worker/util/clock.ts';
import { connectService } from '../../worker/wire.ts';
import { openLab } from '../support/lab.ts';
import { expectSameImage } from '../support/same-image.ts';
import { startWorker, type WorkerProcess } from '../support/worker-process.ts';

const MIB = 1024 * 1024;
const PART_BYTES = 8 * MIB;
const LAYERS = Array.from({ length: 4 }, () => 256 * MIB);
/** Parts that may have been on their way when it was stopped. */
const AT_ONCE = 8;

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, s3, bucket, environment } = lab.stack;
const service = connectService(readSettings(environment));
afterAll(async () => service[Symbol.asyncDispose]());

function worker(): WorkerProcess {
  const started = startWorker({ ...environment, TRANSSHIP_LOG_LEVEL: 'info' });
  onTestFinished(async () => started[Symbol.asyncDispose]());
  return started;
}

test('stopped in the middle of a backup of 1 GiB: it ends within 10 seconds, the job is visible, and no stored part is sent again', async () => {
  const folder = join(lab.folder, 'large');
  const made = await writeSampleImage(folder, {
    tag: 'v1',
    platforms: [{ os: 'linux', architecture: 'amd64' }],
    layerBytes: LAYERS,
    version: 'large',
    compression: 0,
  });
  const from = `docker://${ecr.registryHost}/large:v1`;
  await lab.session().copy(`oci:${folder}:v1`, from);
  await rm(folder, { recursive: true });
  const key = 'stopped/large.tar';
  const run = await enqueueImage({ from, to: `s3://${bucket}/${key}` }, service, { clock: systemClock });
  const parts = (): readonly number[] =>
    s3.requests
      .filter((r) => r.operation === 'UploadPart' && r.key === key && r.status === 200)
      .map(({ receivedBytes }) => receivedBytes);
  const received = (): number =>
    s3.requests.filter((r) => r.key === key).reduce((sum, { receivedBytes }) => sum + receivedBytes, 0);
  const whole = (sizes: readonly number[]): number => sizes.filter((bytes) => bytes === PART_BYTES).length;

  const first = worker();
  await vi.waitFor(() => expect(whole(parts())).toBeGreaterThan(50), { timeout: 120_000, interval: 10 });
  const stoppedMs = systemClock.now();
  first.kill('SIGTERM');
  expect(await first.ended, first.stderr).toBe(0);
  const endedMs = systemClock.now() - stoppedMs;
  expect(endedMs).toBeLessThan(10_000);
  expect(await service.queue.count()).toMatchObject({ visible: 1, inFlight: 0 });
  const stored = whole(parts());
  expect(stored, 'it was not in the middle').toBeLessThan(110);
  const before = received();

  const second = worker();
  await vi.waitFor(async () => expect((await service.state.runs.get(run.id))?.endedAtMs).toBeDefined(), {
    timeout: 120_000,
    interval: 200,
  });
  second.kill('SIGTERM');
  expect(await second.ended, second.stderr).toBe(0);
  expect((await service.state.runs.get(run.id))?.jobs).toMatchObject({ done: 1, failed: 0 });

  const { ends, o } = lab.session();
  const { size } = await ends.bucket(bucket).stat(key);
  expect(size).toBeGreaterThan(1024 * MIB);
  const sentAgain = received() - before;
  // all that was missing, and nothing else
  expect(sentAgain).toBeLessThan(size - stored * PART_BYTES + MIB);
  expect(received()).toBeLessThan(size + AT_ONCE * PART_BYTES + MIB);
  process.stdout.write(
    `stopped backup: ended after ${endedMs} ms; ${stored} parts were stored; of ${size} bytes ${received() - size} were sent twice\n`,
  );
  await using image = await openLocation(ends, parseLocation(`s3://${bucket}/${key}`), 'source', o);
  expect(image.root.descriptor.digest).toBe(made.root.digest);
  await expectSameImage(lab.view(ecr, 'large'), image.source, { descriptor: made.root, tags: [] });
});
