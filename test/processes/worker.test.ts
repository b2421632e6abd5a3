// A worker as a process of its own, by the entry point of its image, over the embedded stack.
import { PurgeQueueCommand, SQSClient } from '@aws-sdk/client-sqs';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { enqueueImage } from '../../worker/service/admin/enqueue.ts';
import { countMessages, type Service } from '../../worker/service/service.ts';
import { jobId, type CopyJob } from '../../worker/queue/job.ts';
import { newJob } from '../../worker/service/planner/run-jobs.ts';
import { readSettings } from '../../worker/main/settings.ts';
import type { Run } from '../../worker/state/state.ts';
import { systemClock } from '../../worker/util/clock.ts';
import { connectService } from '../../worker/main/wire.ts';
import { eventually } from '../support/eventually.ts';
import { makeImage, type MadeImage } from '../support/images.ts';
import { startGate } from '../support/interop-gate.ts';
import { openLab } from '../support/lab.ts';
import { expectSameImage } from '../support/same-image.ts';
import { scriptedServer } from '../support/scripted-server.ts';
import { startWorker, type Line, type WorkerProcess } from '../support/worker-process.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { registry, ecr, s3, bucket, environment } = lab.stack;
const MIB = 1024 * 1024;
const CREDENTIALS = { accessKeyId: 'local', secretAccessKey: 'local-secret' };

let service: Service & AsyncDisposable;
beforeAll(() => {
  service = connectService(readSettings(environment));
});
afterAll(async () => service[Symbol.asyncDispose]());

/** An image at the plain registry. */
async function pushed(name: string, layerBytes: number): Promise<MadeImage> {
  const image = await makeImage({ seed: name.length, platforms: ['linux/amd64'], layers: [layerBytes] });
  await lab.push(image, registry, name);
  return image;
}

function worker(more: Readonly<Record<string, string>> = {}): WorkerProcess {
  const started = startWorker({ ...environment, ...more });
  onTestFinished(async () => started[Symbol.asyncDispose]());
  return started;
}

/** The run once it has ended. */
async function ended({ id }: Run): Promise<Run> {
  return eventually(
    async () => {
      const run = await service.state.runs.get(id);
      if (run?.endedAtMs === undefined) throw new Error(`run ${id} goes on: ${JSON.stringify(run?.jobs)}`);
      return run;
    },
    { intervalMs: 100 },
  );
}

const metrics = (lines: readonly Line[]): readonly Line[] => lines.filter((line) => line['_aws'] !== undefined);

test('a worker does a job, reports it, and exits with 0 on SIGTERM', async () => {
  const image = await pushed('worker/plain', 100_000);
  const from = `docker://${registry.host}/worker/plain:v1`;
  const run = await enqueueImage({ from, to: `docker://${ecr.registryHost}/worker/plain:v1` }, service, {
    clock: systemClock,
  });
  const process = worker();
  expect((await ended(run)).jobs).toMatchObject({ done: 1, failed: 0 });
  const done = await process.event('job-done');
  process.kill('SIGTERM');
  expect(await process.ended, process.stderr).toBe(0);
  expect(process.stderr).toBe('');

  await expectSameImage(image.content, lab.view(ecr, 'worker/plain'), image.root);
  expect(done).toMatchObject({ level: 'info', run: run.id, kind: 'mirror', unchanged: false });
  expect(done['reference']).toContain(from);
  const blobs = process.lines.filter(({ event }) => event === 'blob-done');
  expect(blobs.length).toBeGreaterThan(0);
  expect(blobs.every((line) => line['level'] === 'debug' && line['job'] === done['job'])).toBe(true);
  const copied = metrics(process.lines).reduce((sum, line) => sum + Number(line['BytesCopied'] ?? 0), 0);
  expect(copied).toBeGreaterThan(100_000);
  expect(metrics(process.lines).some((line) => line['ImagesCopied'] === 1)).toBe(true);
  expect(process.lines.at(-1)).toMatchObject({ event: 'note', message: 'worker stopped' });
});

test('hands its job back when it is stopped in the middle of a backup, and another worker sends the missing parts', async () => {
  await pushed('worker/large', 64 * MIB);
  await using gate = await startGate(registry.host);
  // up to eight connections fetch 3 MiB each, enough for two parts before the first gap, in whatever order they arrive
  const passed = gate.closeAfter(48 * MIB);
  const key = 'worker/large.tar';
  const run = await enqueueImage(
    { from: `docker://${gate.host}/worker/large:v1`, to: `s3://${bucket}/${key}` },
    service,
    { clock: systemClock },
  );
  const first = worker();
  await passed;
  const stored = (): typeof s3.requests =>
    s3.requests.filter((r) => r.operation === 'UploadPart' && r.key === key && r.status === 200);
  // the marker, and at least one full part that holds only the layer
  await eventually(() => expect(stored().length).toBeGreaterThanOrEqual(2));
  first.kill('SIGTERM');
  expect(await first.ended, first.stderr).toBe(0);
  expect(await first.event('job-handed-back')).toMatchObject({ run: run.id });
  expect(await countMessages(service)).toMatchObject({ visible: 1, inFlight: 0 });

  gate.open();
  const second = worker();
  expect((await ended(run)).jobs).toMatchObject({ done: 1 });
  expect(await second.event('resumed')).toMatchObject({ level: 'info', total: 9, parts: expect.any(Number) });
  const done = await second.event('job-done');
  // nine parts, the last of them short; those in transit when the first worker was stopped may be sent again
  const bytes = stored().reduce((sum, { receivedBytes }) => sum + receivedBytes, 0);
  expect(bytes).toBeLessThan(64 * MIB + 16 * MIB);
  const { size } = await lab.session().backends.bucket(bucket).stat(key);
  expect(done['bytesReused']).toBeGreaterThanOrEqual(8 * MIB);
  expect(Number(done['bytesSent']) + Number(done['bytesReused'])).toBe(size);
  second.kill('SIGTERM');
  expect(await second.ended, second.stderr).toBe(0);
});

test('a request by hand is done before 500 queued jobs of pushes while every slot is busy', async () => {
  await pushed('worker/bulk', 2 * MIB);
  const image = await pushed('worker/asked', 1000);
  await using gate = await startGate(registry.host);
  const passed = gate.closeAfter(MIB);
  const run = 'push-bulk';
  await service.state.runs.begin({ id: run, trigger: 'push' });
  const jobs = Array.from({ length: 500 }, (_, i): CopyJob => {
    const to = [`docker://${ecr.registryHost}/worker/bulk-${i}:v1`];
    const common = { version: 1, kind: 'mirror', run, at: '2026-01-01T00:00:00Z' } as const;
    return { ...common, id: jobId(run, String(i)), from: `docker://${gate.host}/worker/bulk:v1`, to };
  });
  const made = jobs.map((job) => newJob(job, { title: job.id }));
  await service.state.runs.addJobs(
    run,
    made.map(({ record }) => record),
  );
  await service.queue.send(made.map(({ message }) => message));
  const process = worker({ TRANSSHIP_SLOTS: '2' });
  await passed;

  const request = {
    from: `docker://${registry.host}/worker/asked:v1`,
    to: `docker://${ecr.registryHost}/worker/asked:v1`,
  };
  expect((await ended(await enqueueImage(request, service, { clock: systemClock }))).jobs).toMatchObject({ done: 1 });
  await expectSameImage(image.content, lab.view(ecr, 'worker/asked'), image.root);
  expect((await countMessages(service)).visible).toBeGreaterThan(490);
  process.kill('SIGKILL');
  await process.ended;
  gate.open();
  // later tests have an empty queue
  const messages = new SQSClient({ endpoint: lab.stack.sqs.endpoint, region: 'us-east-1', credentials: CREDENTIALS });
  await messages.send(new PurgeQueueCommand({ QueueUrl: lab.stack.queueUrl }));
  messages.destroy();
});

test('a second signal ends it at once', async () => {
  await pushed('worker/held', MIB);
  await using gate = await startGate(registry.host);
  const passed = gate.closeAfter(1000);
  const from = `docker://${gate.host}/worker/held:v1`;
  await enqueueImage({ from, to: `s3://${bucket}/worker/held.tar` }, service, { clock: systemClock });
  // the agent does not answer the end of protection, which delays the exit of the worker
  await using agent = await scriptedServer({
    'PUT /task-protection/v1/state': [
      { status: 200, body: '{"protection":{}}' },
      { status: 200, hang: true },
    ],
  });
  const process = worker({ ECS_AGENT_URI: agent.url });
  await passed;
  await eventually(() => expect(agent.requests).toHaveLength(1));
  process.kill('SIGTERM');
  await eventually(() => expect(agent.requests).toHaveLength(2));
  // a signal that follows at once may be the same one, forwarded by the parent of the process
  const again = setInterval(() => process.kill('SIGTERM'), 100);
  onTestFinished(() => clearInterval(again));
  expect(await process.ended).toBe(130);
  for (const left of (await service.requests?.receive(10)) ?? []) await left.settle({ type: 'done' });
});

const NO_QUEUE = 'there is no such queue: check its URL';

describe('a worker that cannot start', () => {
  test('names the missing environment variable', async () => {
    const { TRANSSHIP_TABLE: _, ...rest } = environment;
    const process = startWorker(rest);
    expect(await process.ended).toBe(2);
    expect(process.stderr).toContain('needs TRANSSHIP_TABLE: set it to');
  });

  test.each([
    ['a missing table', { TRANSSHIP_TABLE: 'other' }, 'there is no such table: check its name'],
    ['a missing queue', { TRANSSHIP_QUEUE_URL: `${environment['TRANSSHIP_QUEUE_URL']}-other` }, NO_QUEUE],
    [
      'a missing dead-letter queue',
      { TRANSSHIP_DEAD_LETTER_QUEUE_URL: `${environment['TRANSSHIP_DEAD_LETTER_QUEUE_URL']}-other` },
      NO_QUEUE,
    ],
    ['an empty region', { AWS_REGION: '' }, 'none that can be: set AWS_REGION'],
  ])('names %s, and exits at once', async (_, wrong, message) => {
    const process = startWorker({ ...environment, ...wrong });
    expect(await process.ended).toBe(1);
    expect(process.stderr).toContain(message);
  });

  test('names an invalid option', async () => {
    const process = startWorker(environment, ['worker', '--slots', '0']);
    expect(await process.ended).toBe(2);
    expect(process.stderr).toContain('a whole number from 1 to 64 is expected');
  });
});
