import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { DynamoDBClient } from '@aws-sdk/client-dynamodb';
import { SQSClient } from '@aws-sdk/client-sqs';
import { expect, onTestFinished, test } from 'vitest';
import { formatJob } from '../../../../worker/queue/job.ts';
import { openSqs } from '../../../../worker/queue/sqs.ts';
import { openDynamo } from '../../../../worker/state/dynamo.ts';
import { systemClock } from '../../../../worker/util/clock.ts';
import { enqueueRule } from '../../../../worker/service/admin/enqueue.ts';
import { describeStatus } from '../../../../worker/commands/status.ts';
import type { JobEnd } from '../../../../worker/state/state.ts';
import { status } from '../../../../worker/service/admin/status.ts';
import { formatRule } from '../../../../worker/rules/config.ts';
import { rule } from '../../../support/rules.ts';
import { testService, type TestService } from '../../../support/test-service.ts';

/** A rule with one run, whose only job ended as given. */
async function ran(t: TestService, state: 'done' | 'failed'): Promise<void> {
  const name = 'hourly';
  const hourly = rule({ name, from: ['a.example/app'], to: ['b.example/{repository}'] });
  await t.state.rules.put({ name, document: formatRule(hourly) }, 0);
  await t.state.runs.beginScheduled({ id: 'run', rule: name, scheduledAtMs: t.clock.now() });
  await t.state.runs.addJobs('run', [{ id: 'job', title: 'list docker://a.example/app', rule: name }]);
  await t.state.runs.planned('run');
  await t.state.runs.endJob('run', 'job', state === 'done' ? { state } : { state, code: 'DENIED', reason: 'no' });
}

test('a rule whose last run failed is a fault, also without a dead letter', async () => {
  const t = testService();
  await ran(t, 'failed');
  const found = await status(t, { clock: t.clock });
  expect(found.rules).toMatchObject([{ faults: [expect.stringMatching(/last run had failures/)] }]);
  expect(found.faulty).toBe(true);
});

test('a rule whose last run was a good one is not a fault', async () => {
  const t = testService();
  await ran(t, 'done');
  const found = await status(t, { clock: t.clock });
  expect(found.rules).toMatchObject([{ faults: [], ageSeconds: 0 }]);
  expect(found.faulty).toBe(false);
});

/** A run of the same rule at its next scheduled time, with one job. */
async function beginNext(t: TestService, id: string, fault?: string): Promise<void> {
  await t.clock.advance(3_600_000);
  await t.state.runs.beginScheduled({ id, rule: 'hourly', scheduledAtMs: t.clock.now() });
  const jobs = ['1', '2'].map((job) => ({ id: job, title: `job ${job}`, rule: 'hourly', fault }));
  await t.state.runs.addJobs(id, jobs);
  await t.state.runs.planned(id);
}

test('a rule whose last ended run failed is a fault while the next run is under way', async () => {
  const t = testService();
  await ran(t, 'failed');
  await beginNext(t, 'next');
  const found = await status(t, { clock: t.clock });
  expect(found.rules).toMatchObject([
    { current: { id: 'next' }, faults: [expect.stringMatching(/last run had failures/)] },
  ]);
  expect(found.faulty).toBe(true);
  for (const job of ['1', '2']) await t.state.runs.endJob('next', job, { state: 'done' });
  expect(await status(t, { clock: t.clock })).toMatchObject({ faulty: false, rules: [{ faults: [] }] });
});

test('a failure in the current run is a fault at once, also after a good run', async () => {
  const t = testService();
  await ran(t, 'done');
  await beginNext(t, 'next');
  expect(await status(t, { clock: t.clock })).toMatchObject({ faulty: false });
  await t.state.runs.endJob('next', '1', { state: 'failed', code: 'DENIED', reason: 'no' });
  const found = await status(t, { clock: t.clock });
  expect(found.rules).toMatchObject([{ faults: ['1 of the jobs of its run under way failed'] }]);
  expect(found.faulty).toBe(true);
});

test('a run that was declared dead is a fault while the next one is under way', async () => {
  const t = testService();
  await ran(t, 'done');
  await beginNext(t, 'dead');
  await t.state.runs.declareDead('dead');
  await beginNext(t, 'next');
  expect(await status(t, { clock: t.clock })).toMatchObject({
    rules: [{ faults: [expect.stringMatching(/did not end; the last good one began at/)] }],
  });
});

test('what a current run found wrong at its destinations is a fault of its rule until that is repaired', async () => {
  const t = testService();
  await ran(t, 'done');
  await beginNext(t, 'next', 's3://b/k: archive changed since it was written: 9 bytes instead of 10');
  const found = await status(t, { clock: t.clock });
  expect(found.rules).toMatchObject([{ faults: Array(2).fill(expect.stringContaining('9 bytes instead of 10')) }]);
  for (const job of ['1', '2']) await t.state.runs.endJob('next', job, { state: 'done' });
  expect(await status(t, { clock: t.clock })).toMatchObject({ faulty: false, rules: [{ faults: [] }] });
});

test('a rule is not late for a time before it was applied', async () => {
  const t = testService();
  const name = 'nightly';
  const nightly = rule({
    name,
    from: ['a.example/app'],
    to: ['b.example/{repository}'],
    schedule: { cron: '0 2 * * *', timeZone: 'UTC' },
  });
  const nowMs = t.clock.now();
  const atMs = Math.ceil(nowMs / 86_400_000) * 86_400_000 + (17 * 60 + 14) * 60_000;
  await t.clock.advance(atMs - nowMs);
  await t.state.rules.put({ name, document: formatRule(nightly) }, 0);
  await t.clock.advance(60 * 60_000);
  expect(await status(t, { clock: t.clock })).toMatchObject({ faulty: false, rules: [{ faults: [] }] });
  await t.clock.advance(9 * 3_600_000);
  expect(await status(t, { clock: t.clock })).toMatchObject({
    rules: [{ faults: [expect.stringMatching(/was not planned at its scheduled time/)] }],
  });
});

test.each([
  ['well', 'done', 0, []],
  ['with a failure', 'failed', undefined, [expect.stringMatching(/there was no good one yet/)]],
] as const)('a requested run that ended %s counts like a scheduled one', async (_, state, ageSeconds, faults) => {
  const t = testService();
  const name = 'monthly';
  const monthly = rule({ name, from: ['a.example/app'], to: ['b.example/{repository}'] });
  await t.state.rules.put({ name, document: formatRule(monthly) }, 0);
  const { id } = await enqueueRule(name, t, { clock: t.clock });
  for await (const job of t.state.runs.jobs(id))
    await t.state.runs.endJob(id, job.id, state === 'done' ? { state } : { state, code: 'DENIED', reason: 'no' });
  await t.state.runs.planned(id);
  expect(await status(t, { clock: t.clock })).toMatchObject({ rules: [{ ageSeconds, faults }] });
});

test('a run of a part of a rule is not a good copy of it', async () => {
  const t = testService();
  await ran(t, 'failed');
  await t.clock.advance(60_000);
  await t.state.runs.begin({ id: 'part', rule: 'hourly', trigger: 'push' });
  await t.state.runs.planned('part');
  expect(await status(t, { clock: t.clock })).toMatchObject({ faulty: true, rules: [{ ageSeconds: undefined }] });
});

test('a rule whose last run is one of pushes that could not be planned is a fault until a later run', async () => {
  const t = testService();
  await ran(t, 'done');
  const push = async (id: string, end: JobEnd): Promise<void> => {
    await t.clock.advance(60_000);
    await t.state.runs.begin({ id, rule: 'hourly', trigger: 'push' });
    await t.state.runs.addJobs(id, [{ id: 'job', title: 'list docker://a.example/app', rule: 'hourly' }]);
    await t.state.runs.planned(id);
    await t.state.runs.endJob(id, 'job', end);
  };
  await push('push-1', { state: 'failed', code: 'DENIED', reason: 'no' });
  expect(await status(t, { clock: t.clock })).toMatchObject({
    faulty: true,
    rules: [{ faults: ['its last run, of pushes, had failures: see run push-1'] }],
  });
  await push('push-2', { state: 'skipped' });
  expect(await status(t, { clock: t.clock })).toMatchObject({ faulty: false, rules: [{ faults: [] }] });
});

test('pushes that needed no job are counted, and push no other run off the list', async () => {
  const t = testService();
  await ran(t, 'done');
  const push = async (id: string, end?: JobEnd): Promise<void> => {
    await t.clock.advance(1000);
    await t.state.runs.begin({ id, rule: 'hourly', trigger: 'push' });
    const ends = new Map<string, JobEnd>([['plan', { state: 'done' }]]);
    if (end !== undefined) ends.set('copy', end);
    for (const job of ends.keys()) await t.state.runs.addJobs(id, [{ id: job, title: job, rule: 'hourly' }]);
    await t.state.runs.planned(id);
    for (const [job, how] of ends) await t.state.runs.endJob(id, job, how);
  };
  for (let i = 0; i < 20; i++) await push(`push-${i}`, i % 2 === 0 ? { state: 'skipped' } : undefined);
  await push('copied', { state: 'done' });
  await push('last');
  const found = await status(t, { clock: t.clock });
  expect(found.runs.map(({ id }) => id)).toEqual(['copied', 'run']);
  expect(found.uneventfulPushes).toBe(21);
  expect(describeStatus(found, t.clock.now())).toContain('runs of pushes that needed nothing: 21\n');
});

test('a part that fails does not hide the others', async () => {
  const t = testService();
  await ran(t, 'failed');
  await t.deadLetters.send([{ body: 'a dead letter' }]);
  t.queue.faults.goAway();
  const found = await status(t, { clock: t.clock });
  expect(found).toMatchObject({
    unanswered: [{ part: 'queue', failure: { code: 'UNAVAILABLE' } }],
    queue: undefined,
    deadLetters: 1,
    rules: [{ name: 'hourly' }],
    runs: [{ id: 'run' }],
  });
  expect(describeStatus(found, t.clock.now())).toMatch(/queue: unknown; dead letters: 1\n\ncould not read queue: /);
});

/** A server that accepts requests and never answers. */
async function hanging(): Promise<{ readonly url: string; asked(times: number): Promise<void> } & AsyncDisposable> {
  const seen: unknown[] = [];
  const server = createServer((request) => void seen.push(request)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    asked: async (times) => {
      while (seen.length < times) await once(server, 'request');
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

const LETTER = formatJob({
  version: 1,
  kind: 'mirror',
  id: 'job',
  run: 'run',
  at: '2026-01-01T00:00:00Z',
  from: 'docker://a.example/app:v1',
  to: ['docker://b.example/app:v1'],
});
const SDK = { region: 'us-east-1', credentials: { accessKeyId: 'a', secretAccessKey: 'b' }, maxAttempts: 1 };
const SILENT = { code: 'UNAVAILABLE', message: 'there was no answer within 10 seconds' };

test('a table that accepts and never answers delays only its own parts, and no longer than ten seconds', async () => {
  const t = testService();
  await t.deadLetters.send([{ body: LETTER, reason: 'DENIED: no' }]);
  await using server = await hanging();
  const client = new DynamoDBClient({ ...SDK, endpoint: server.url });
  onTestFinished(() => client.destroy());
  await using state = openDynamo({ table: 'transship', clock: systemClock, client });
  const finding = status({ ...t, state }, { clock: t.clock });
  // for the rules, for the runs, and for the job of the dead letter
  await server.asked(3);
  await t.clock.advance(5000);
  await t.clock.advance(5000);
  expect(await finding).toMatchObject({
    unanswered: [
      { part: 'rules', failure: SILENT },
      { part: 'runs', failure: SILENT },
    ],
    queue: { visible: 0 },
    deadLetters: 1,
    dead: [{ reason: 'DENIED: no' }],
    faulty: true,
  });
});

test('queues that accept and never answer delay only their own parts, and no longer than ten seconds', async () => {
  const t = testService();
  await ran(t, 'failed');
  await using server = await hanging();
  const client = new SQSClient({ ...SDK, endpoint: server.url, useQueueUrlAsEndpoint: false });
  onTestFinished(() => client.destroy());
  const open = (name: string) =>
    openSqs({ queueUrl: `${server.url}/111111111111/${name}`, clock: systemClock, client });
  await using queue = open('jobs');
  await using deadLetters = open('dead');
  const finding = status({ ...t, queue, deadLetters }, { clock: t.clock });
  await server.asked(2);
  await t.clock.advance(10_000);
  expect(await finding).toMatchObject({
    unanswered: [
      { part: 'queue', failure: SILENT },
      { part: 'dead letters', failure: SILENT },
    ],
    queue: undefined,
    deadLetters: undefined,
    rules: [{ name: 'hourly', faults: [expect.stringContaining('last run had failures')] }],
    runs: [{ id: 'run' }],
    faulty: true,
  });
});
