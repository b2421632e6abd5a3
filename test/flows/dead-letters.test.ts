// What becomes of images that cannot be copied, run after run: planner, workers and people over one state and its queues.
import assert from 'node:assert/strict';
import { afterAll, describe, expect, test } from 'vitest';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import type { Queue } from '../../worker/queue/queue.ts';
import { formatRule } from '../../worker/rules/config.ts';
import type { CopyRule } from '../../worker/rules/rule.ts';
import { runPass } from '../../worker/service/planner/pass.ts';
import { discard, redrive } from '../../worker/service/admin/redrive.ts';
import { status } from '../../worker/service/admin/status.ts';
import type { Run } from '../../worker/state/state.ts';
import type { Service } from '../../worker/service/service.ts';
import { alteringFront } from '../support/altering-front.ts';
import { callEcr } from '../support/call-ecr.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { rule } from '../support/rules.ts';
import type { Report } from '../../worker/util/events.ts';
import { deadLettersOf, NO_JOBS, testService, type TestService } from '../support/test-service.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, otherEcr, registry } = lab.stack;

let seeds = 0;

/** Another image under the same tag. */
async function push(repository: string, tag = 'v1'): Promise<void> {
  await lab.push(await makeImage({ seed: ++seeds, tag, platforms: ['linux/amd64'] }), registry, repository);
}

async function remove(where: LocalRegistry, repositoryName: string, imageTag = 'v1'): Promise<void> {
  const region = where === ecr ? 'us-east-1' : 'eu-west-1';
  await callEcr(where.url, region, 'BatchDeleteImage', { repositoryName, imageIds: [{ imageTag }] });
}

/** A rule that mirrors a repository of `registry` to ECR, into repositories whose tags cannot be moved. */
async function immutable(repository: string, ...to: readonly LocalRegistry[]): Promise<TestService> {
  const t = testService();
  await apply(
    t,
    rule({
      name: 'hourly',
      from: [`${registry.registryHost}/${repository}`],
      to: to.map((where) => `${where.registryHost}/{repository}`),
      create: { tagMutability: 'IMMUTABLE' },
    }),
  );
  return t;
}

async function apply(t: TestService, one: CopyRule): Promise<void> {
  await t.state.rules.put({ name: one.name, document: formatRule(one) }, 0);
}

async function plan(t: TestService): Promise<void> {
  await t.clock.advance(3_600_000);
  const { context } = t.worker(lab.session().backends);
  await runPass(context.service, context.backends, { clock: t.clock });
}

/** The next run of the rule, done by a worker. */
async function run(t: TestService): Promise<Run> {
  await plan(t);
  await t.worker(lab.session().backends).drain();
  return latest(t);
}

async function latest(t: TestService): Promise<Run> {
  const [last] = await t.state.runs.list({ limit: 1 });
  assert(last);
  return last;
}

test('a tag that is deleted between plan and copy is gone, and neither a failure nor a dead letter', async () => {
  const t = await immutable('gone/app', ecr, otherEcr);
  await push('gone/app', 'stays');
  await push('gone/app', 'leaves');
  await plan(t);
  const answer = await fetch(`${registry.url}/v2/gone/app/manifests/leaves`, { method: 'DELETE' });
  assert(answer.ok, await answer.text());
  await t.worker(lab.session().backends).drain();
  expect(await latest(t)).toMatchObject({ jobs: { ...NO_JOBS, done: 1, gone: 1 }, endedAtMs: expect.any(Number) });
  expect(t.deadLetters.bodies).toEqual([]);
  expect(t.events).toContainEqual(expect.objectContaining({ type: 'job-done', unchanged: false, gone: true }));
  expect(await status(t, { clock: t.clock })).toMatchObject({ faulty: false, rules: [{ faults: [] }] });
});

test('a tag that moves while its image is copied, and whose old image is deleted, is copied as it is now', async () => {
  let old: string | undefined;
  let isLookedFor = false;
  const front = await alteringFront(registry.url, (line, answer) => {
    if (old === undefined || isLookedFor) return answer;
    isLookedFor = line.endsWith(old);
    if (!line.endsWith('/manifests/v1')) return answer;
    return { ...answer, headers: { ...answer.headers, 'docker-content-digest': old } };
  });
  const t = testService();
  await apply(
    t,
    rule({ name: 'hourly', from: [`${front}/moved/app`], to: [`${ecr.registryHost}/{repository}`], create: {} }),
  );
  const digestOf = async (): Promise<string> => {
    const head = await fetch(`${registry.url}/v2/moved/app/manifests/v1`, { method: 'HEAD' });
    return head.headers.get('docker-content-digest') ?? '';
  };
  await push('moved/app');
  await plan(t);
  const before = await digestOf();
  await push('moved/app');
  const deleted = await fetch(`${registry.url}/v2/moved/app/manifests/${before}`, { method: 'DELETE' });
  assert(deleted.ok, await deleted.text());
  old = before;
  await t.worker(lab.session().backends).drain();
  expect(isLookedFor).toBe(true);
  expect(t.deadLetters.bodies).toEqual([]);
  expect(await latest(t)).toMatchObject({ jobs: { ...NO_JOBS, done: 1 } });
});

test('an image that was requested by hand and does not exist is a failure', async () => {
  const t = testService();
  const from = `docker://${registry.registryHost}/gone/never:v1`;
  const id = await t.enqueue({ kind: 'mirror', from, to: [`docker://${ecr.registryHost}/gone/never:v1`] });
  await t.worker(lab.session().backends).drain();
  expect((await t.run(id)).jobs).toEqual({ ...NO_JOBS, failed: 1 });
});

/** The rule `hourly` whose one image was moved after it was mirrored: its destinations refuse the new one. */
async function stuck(repository: string, ...to: readonly LocalRegistry[]): Promise<TestService> {
  const t = await immutable(repository, ...to);
  await push(repository);
  expect((await run(t)).jobs).toMatchObject({ done: 1 });
  await push(repository);
  return t;
}

describe('a destination that cannot be written', () => {
  test('is one dead letter, however many runs fail', async () => {
    const t = await stuck('one/app', ecr);
    for (let i = 0; i < 4; i++) expect((await run(t)).jobs).toEqual({ ...NO_JOBS, failed: 1 });
    expect(t.deadLetters.bodies).toHaveLength(1);
    expect(await status(t, { clock: t.clock })).toMatchObject({ faulty: true, deadLetters: 1 });
  });

  test('is a dead letter of its own, beside those of the other destinations of the job', async () => {
    const t = await immutable('two/app', ecr, otherEcr);
    await push('two/app');
    await run(t);
    await push('two/app');
    await remove(otherEcr, 'two/app');
    expect((await run(t)).jobs).toMatchObject({ failed: 1 });
    expect(await deadLettersOf(t)).toMatchObject([{ reason: expect.stringMatching(/^CONFLICT: 1 of 2 destinations/) }]);
    await push('two/app');
    for (let i = 0; i < 2; i++) await run(t);
    expect(t.deadLetters.bodies).toHaveLength(2);
  });

  test('is another dead letter for another cause', async () => {
    const t = await stuck('causes/app', ecr);
    await run(t);
    registry.faults.add({ operation: 'manifest-get', times: 1000 }, { kind: 'answer', status: 403 });
    for (let i = 0; i < 2; i++) await run(t);
    registry.faults.clear();
    await run(t);
    expect(await deadLettersOf(t)).toMatchObject([
      { reason: expect.stringMatching(/^CONFLICT/) },
      { reason: expect.stringMatching(/^DENIED/) },
    ]);
  });

  test.each(['the next pass of a planner', 'status', 'redrive'])(
    'has no dead letter any more once it was written and %s finds the letter',
    async (meets) => {
      const repository = `mended/${meets.replaceAll(' ', '-')}`;
      const t = await stuck(repository, ecr);
      await run(t);
      await remove(ecr, repository);
      expect((await run(t)).jobs).toEqual({ ...NO_JOBS, done: 1 });
      expect(t.deadLetters.bodies).toHaveLength(1);
      if (meets === 'redrive')
        expect(await redrive({}, impatient(t), {})).toMatchObject({ done: 1, redriven: 0, left: 0 });
      else if (meets === 'status') {
        const found = await status(t, { clock: t.clock });
        expect(found).toMatchObject({ faulty: false, deadLetters: 0, dead: [] });
      } else await plan(t);
      expect(t.deadLetters.bodies).toEqual([]);
      // the next failure is a new letter
      await push(repository);
      await run(t);
      expect(t.deadLetters.bodies).toHaveLength(1);
    },
  );

  test('has no dead letter any more once its source is the previous image again', async () => {
    const t = await immutable('back/app', ecr);
    await push('back/app');
    await run(t);
    const seed = seeds;
    await push('back/app');
    await run(t);
    expect(t.deadLetters.bodies).toHaveLength(1);
    seeds = seed - 1;
    await push('back/app');
    expect((await run(t)).jobs).toEqual({ ...NO_JOBS, skipped: 1 });
    await plan(t);
    expect(t.deadLetters.bodies).toEqual([]);
    expect((await latest(t)).unchanged).toBe(1);
  });

  test('gets a new dead letter when the earlier one was purged, or is about to expire', async () => {
    const t = await stuck('purged/app', ecr);
    await run(t);
    for (const letter of await t.deadLetters.receive(10)) await letter.settle({ type: 'done' });
    for (let i = 0; i < 2; i++) await run(t);
    expect(t.deadLetters.bodies).toHaveLength(1);
    await t.clock.advance(13 * 24 * 3_600_000);
    for (let i = 0; i < 2; i++) await run(t);
    expect(t.deadLetters.bodies).toHaveLength(2);
  });
});

/** The service as `redrive` sees it: no time passes while it waits for dead letters. */
function impatient(t: TestService, sent?: () => Promise<void>): Service {
  const over = (queue: Queue): Queue => ({
    name: queue.name,
    receive: async (max, options) => queue.receive(max, { ...options, waitSeconds: 0 }),
    count: async (options) => queue.count(options),
    send: async (messages, options) => {
      await queue.send(messages, options);
      await sent?.();
    },
  });
  return { state: t.state, queue: over(t.queue), deadLetters: over(t.deadLetters) };
}

describe('redrive', () => {
  test('counts a dead letter at once that fails again', async () => {
    const t = await stuck('again/app', ecr);
    await run(t);
    // a worker does the job while redrive looks for more
    const service = impatient(t, async () => t.worker(lab.session().backends).drain());
    expect(await redrive({}, service, {})).toEqual({ redriven: 1, failedAgain: 1, done: 0, left: 0 });
    expect(t.deadLetters.bodies).toHaveLength(1);
    expect((await latest(t)).jobs).toEqual({ ...NO_JOBS, failed: 1 });
  });

  test('does a job again of which only one destination had failed', async () => {
    const t = await immutable('half/app', ecr, otherEcr);
    await push('half/app');
    await run(t);
    await push('half/app');
    await remove(otherEcr, 'half/app');
    await run(t);
    await remove(ecr, 'half/app');
    expect(await redrive({}, impatient(t), {})).toMatchObject({ redriven: 1, left: 0 });
    await t.worker(lab.session().backends).drain();
    expect(t.deadLetters.bodies).toEqual([]);
    expect((await latest(t)).jobs).toEqual({ ...NO_JOBS, done: 1 });
  });

  test('leaves alone a dead letter that claims to be a job and asks for something else, and the job', async () => {
    const t = await stuck('forged/app', ecr);
    await run(t);
    const [body = ''] = t.deadLetters.bodies;
    for (const letter of await t.deadLetters.receive(10)) await letter.settle({ type: 'done' });
    await t.deadLetters.send([{ body: body.replaceAll('forged/app', 'other/app') }]);
    const warnings: string[] = [];
    const report: Report = (event) => void (event.type === 'warning' && warnings.push(event.message));
    expect(await redrive({}, impatient(t), { report })).toEqual({ redriven: 0, failedAgain: 0, done: 0, left: 1 });
    expect(warnings).toEqual([
      expect.stringMatching(/^dead letter \S+ stays: mirror job .* differs from the job that the state has/),
    ]);
    expect((await latest(t)).jobs).toEqual({ ...NO_JOBS, failed: 1 });
  });

  test('continues with the others and discards a letter that names an impossible destination', async () => {
    const t = await stuck('poison/app', ecr);
    await run(t);
    const from = `docker://${registry.registryHost}/poison/app:v1`;
    for (const [kind, to] of [
      ['mirror', 'docker://127.0.0.1:5000/UPPER/App:1'],
      ['backup', 's3://bucket/x.tar/'],
    ])
      await t.deadLetters.send([{ body: JSON.stringify({ version: 1, kind, from, to: [to] }) }]);
    const [real = ''] = t.deadLetters.bodies;
    const forged = { ...(JSON.parse(real) as object), to: ['docker://127.0.0.1:5000/UPPER/App:1'] };
    await t.deadLetters.send([{ body: JSON.stringify(forged) }]);
    await plan(t);
    const service = impatient(t);
    expect(await redrive({ run: 'none' }, service, {})).toMatchObject({ redriven: 0, left: 4 });
    const poison = (await status(t, { clock: t.clock })).dead.filter(({ body }) => body.includes('UPPER'));
    for (const { id } of poison) expect(await discard(id, {}, service, {})).toMatchObject({ discarded: 1 });
    // the destination still remembers the real letter
    await run(t);
    expect(t.deadLetters.bodies).toHaveLength(2);
    expect(await discard('all', {}, service, {})).toEqual({ discarded: 2, left: 0 });
  });

  test('discards the dead letter with an id, or all of a rule; a later failure is a dead letter again', async () => {
    const t = await stuck('discard/app', ecr, otherEcr);
    await run(t);
    await t.deadLetters.send([{ body: 'restart the machine' }]);
    const service = impatient(t);
    const [letter] = (await status(t, { clock: t.clock })).dead;
    await expect(discard('other', {}, service, {})).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(await discard(letter?.id ?? '', {}, service, {})).toEqual({ discarded: 1, left: 1 });
    expect(t.deadLetters.bodies).toEqual(['restart the machine']);
    for (let i = 0; i < 2; i++) await run(t);
    expect(t.deadLetters.bodies).toHaveLength(2);
    expect(await discard('all', { rule: 'hourly' }, service, {})).toEqual({ discarded: 1, left: 1 });
    expect(await discard('all', {}, service, {})).toEqual({ discarded: 1, left: 0 });
    expect(t.deadLetters.bodies).toEqual([]);
  });
});
