// A worker that is stopped in the middle of a backup of 1 GiB: what it costs in time and in bytes.
import { join } from 'node:path';
import { afterAll, expect, onTestFinished, test, vi } from 'vitest';
import { writeSampleImage } from '../../local/sample-image.ts';
import { enqueueImage } from '../../worker/service/admin/enqueue.ts';
import { countMessages } from '../../worker/service/service.ts';
import { readSettings } from '../../worker/main/settings.ts';
import { systemClock } from '../../worker/util/clock.ts';
import { connectService } from '../../worker/main/wire.ts';
import { openLab } from '../support/lab.ts';
import { startWorker, type WorkerProcess } from '../support/worker-process.ts';

const MIB = 1024 * 1024;
const LAYERS = 4;
const PART_BYTES = 8 * MIB;
/** Blobs of one job at once. */
const CONCURRENCY = 4;

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

test('exits within 10 seconds of SIGTERM in the middle of 1 GiB with the job visible again, and the next worker sends only what is missing', async () => {
  const folder = join(lab.folder, 'image');
  const layerBytes = Array.from({ length: LAYERS }, () => 256 * MIB);
  const platforms = [{ os: 'linux', architecture: 'amd64' }];
  const { bytes } = await writeSampleImage(folder, { tag: '1', platforms, layerBytes, version: '1', compression: 0 });
  const from = `docker://${ecr.registryHost}/large/app:1`;
  await lab.session().copy(`oci:${folder}:1`, from);
  const parts = () => s3.requests.filter((r) => r.operation === 'UploadPart' && r.status === 200);
  const sent = () => parts().reduce((sum, { receivedBytes }) => sum + receivedBytes, 0);

  const run = await enqueueImage({ from, to: `s3://${bucket}/large.tar` }, service, { clock: systemClock });
  const first = worker();
  await vi.waitFor(() => expect(sent()).toBeGreaterThan(bytes / 3), { timeout: 60_000, interval: 20 });
  const stoppedMs = systemClock.now();
  first.kill('SIGTERM');
  expect(await first.ended, first.stderr).toBe(0);
  const tookMs = systemClock.now() - stoppedMs;
  expect(tookMs).toBeLessThan(10_000);
  expect(await countMessages(service)).toMatchObject({ visible: 1, inFlight: 0 });
  const before = sent();

  worker();
  await vi.waitFor(async () => expect((await service.state.runs.get(run.id))?.jobs.done).toBe(1), {
    timeout: 120_000,
    interval: 100,
  });
  const twice = sent() - bytes;
  process.stdout.write(
    `ended after ${(tookMs / 1000).toFixed(1)} s with ${Math.round(before / MIB)} of ${Math.round(bytes / MIB)} MiB sent; sent twice, with what the tar adds: ${(twice / MIB).toFixed(1)} MiB\n`,
  );
  expect(twice).toBeLessThanOrEqual(CONCURRENCY * PART_BYTES + MIB);
});
