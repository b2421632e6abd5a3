import { expect, test } from 'vitest';
import { enqueueRule } from '../../../../worker/service/admin/enqueue.ts';
import { status } from '../../../../worker/service/admin/status.ts';
import { formatRule } from '../../../../worker/rules/config.ts';
import { rule } from '../../../support/rules.ts';
import { testService, type TestService } from '../../../support/test-service.ts';

/** A rule with one run, whose only job ended so. */
async function ran(t: TestService, state: 'done' | 'failed'): Promise<void> {
  const name = 'hourly';
  const hourly = rule({ name, from: ['a.example/app'], to: ['b.example/{repository}'] });
  await t.state.rules.put({ name, document: formatRule(hourly) }, 0);
  await t.state.runs.beginScheduled({ id: 'run', rule: name, scheduledAtMs: t.clock.now() });
  await t.state.runs.addJobs('run', [{ id: 'job', title: 'list docker://a.example/app', rule: name }]);
  await t.state.runs.planned('run');
  await t.state.runs.endJob('run', 'job', state === 'done' ? { state } : { state, code: 'DENIED', reason: 'no' });
}

test('a rule whose last run was no good one is a fault, also where it left no dead letter', async () => {
  const t = testService();
  await ran(t, 'failed');
  const found = await status(t, { clock: t.clock });
  expect(found.rules).toMatchObject([{ faults: [expect.stringMatching(/last run had failures/)] }]);
  expect(found.faulty).toBe(true);
});

test('a rule whose last run was a good one is none', async () => {
  const t = testService();
  await ran(t, 'done');
  const found = await status(t, { clock: t.clock });
  expect(found.rules).toMatchObject([{ faults: [], ageSeconds: 0 }]);
  expect(found.faulty).toBe(false);
});

/** A run of the same rule on its next scheduled time, with one job. */
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

test('a failure in the run under way is a fault at once, after a good run too', async () => {
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

test('what a run under way found wrong at its destinations is a fault of its rule until that is put right', async () => {
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
    rules: [{ faults: [expect.stringMatching(/no planner began the run of/)] }],
  });
});

test.each([
  ['well', 'done', 0, []],
  ['with a failure', 'failed', undefined, [expect.stringMatching(/there was no good one yet/)]],
] as const)('a run that was asked for and ended %s counts as one on schedule', async (_, state, ageSeconds, faults) => {
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

test('a run of a part of a rule is no good copy of it', async () => {
  const t = testService();
  await ran(t, 'failed');
  await t.clock.advance(60_000);
  await t.state.runs.begin({ id: 'part', rule: 'hourly', trigger: 'push' });
  await t.state.runs.planned('part');
  expect(await status(t, { clock: t.clock })).toMatchObject({ faulty: true, rules: [{ ageSeconds: undefined }] });
});
