// The Cleaner as it is started: as a long-running process, and as a Lambda. Neither has a queue.
import { afterAll, expect, onTestFinished, test } from 'vitest';
import { readSettings } from '../../worker/main/settings.ts';
import { connectState } from '../../worker/main/wire.ts';
import { formatRule, parseConfig } from '../../worker/rules/config.ts';
import { eventually } from '../support/eventually.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { startWorker } from '../support/worker-process.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr } = lab.stack;
const QUEUES = ['TRANSSHIP_QUEUE_URL', 'TRANSSHIP_REQUEST_QUEUE_URL', 'TRANSSHIP_DEAD_LETTER_QUEUE_URL'];
const environment = Object.fromEntries(
  Object.entries(lab.stack.environment).filter(([name]) => !QUEUES.includes(name)),
);
const state = connectState(readSettings(environment));
afterAll(async () => state[Symbol.asyncDispose]());

/** A repository of two images, and a rule that deletes one of them. */
async function store(name: string): Promise<void> {
  for (const [seed, tag] of ['keep', 'pr-1'].entries())
    await lab.push(await makeImage({ seed, tag, layers: [100] }), ecr, name);
  const prune = { at: `${ecr.registryHost}/${name}`, deleteTags: 'pr-*' };
  const [rule] = parseConfig(JSON.stringify({ version: 1, rules: [{ name, prune, schedule: '* * * * * *' }] })).rules;
  if (rule === undefined) throw new Error('no rule');
  const { revision } = await state.rules.put({ name, document: formatRule(rule) }, 0);
  onTestFinished(async () => state.rules.remove(name, revision));
}

async function expectPruned(name: string): Promise<void> {
  const view = lab.view(ecr, name);
  await expect(view.resolve('pr-1')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  expect((await view.resolve('keep')).digest).toBeDefined();
}

test('runs until it is stopped, and reports deletions in logs and metrics', async () => {
  await store('forever');
  await using cleaner = startWorker(environment, ['cleaner', '--every', '1s']);
  expect(await cleaner.event('pruned')).toMatchObject({
    rule: 'forever',
    level: 'info',
    place: `${ecr.registryHost}/forever`,
    tags: ['pr-1'],
    reason: 'deleteTags pr-*',
  });
  await cleaner.event('run-ended');
  cleaner.kill('SIGTERM');
  expect(await cleaner.ended).toBe(0);
  expect(cleaner.stderr).toBe('');
  const metrics = cleaner.lines.find((line) => '_aws' in line && line['PrunedImages'] !== undefined);
  // an index and its two images
  expect(metrics).toMatchObject({ rule: 'forever', PrunedImages: 3 });
  await expectPruned('forever');
});

test('exits at once where the table does not exist', async () => {
  const wrong = { ...environment, TRANSSHIP_TABLE: 'no-such-table' };
  await using cleaner = startWorker(wrong, ['cleaner']);
  expect(await cleaner.ended).toBe(1);
  expect(cleaner.stderr).toContain('there is no such table: check its');
});

test('as a Lambda begins nothing in its last minute, and prunes in the next call', async () => {
  await store('lambda');
  for (const name of QUEUES) delete process.env[name];
  Object.assign(process.env, environment);
  const { handler } = await import('../../worker/main/cleaner.lambda.ts');
  let leftMs = 0;
  const context = { getRemainingTimeInMillis: () => leftMs };
  await expect(handler({}, context)).rejects.toMatchObject({ code: 'ABORTED' });
  leftMs = 60_000;
  // a new rule waits for the next second
  await eventually(async () => {
    expect(await handler({}, context)).toMatchObject({ rules: 1, failed: 0, open: 0, places: { failed: 0 } });
    await expectPruned('lambda');
  });
});
