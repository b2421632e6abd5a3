// What becomes of images that cannot be copied, run after run: planner, workers and people over one state and its queues.
import assert from 'node:assert/strict';
import { afterAll, expect, test } from 'vitest';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { formatRule } from '../../worker/rules/config.ts';
import type { CopyRule } from '../../worker/rules/rule.ts';
import { runPass } from '../../worker/service/planner/pass.ts';
import { status } from '../../worker/service/admin/status.ts';
import type { Run } from '../../worker/state/state.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { rule } from '../support/rules.ts';
import { NO_JOBS, testService, type TestService } from '../support/test-service.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, otherEcr, registry } = lab.stack;

let seeds = 0;

/** Another image under the same tag. */
async function push(repository: string, tag = 'v1'): Promise<void> {
  await lab.push(await makeImage({ seed: ++seeds, tag, platforms: ['linux/amd64'] }), registry, repository);
}

async function remove(where: LocalRegistry, repository: string, tag = 'v1'): Promise<void> {
  const answer = await fetch(`${where.url}/v2/${repository}/manifests/${tag}`, { method: 'DELETE' });
  assert(answer.ok, await answer.text());
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
  await remove(registry, 'gone/app', 'leaves');
  await t.worker(lab.session().backends).drain();
  expect(await latest(t)).toMatchObject({ jobs: { ...NO_JOBS, done: 1, gone: 1 }, endedAtMs: expect.any(Number) });
  expect(t.deadLetters.bodies).toEqual([]);
  expect(t.events).toContainEqual(expect.objectContaining({ type: 'job-done', unchanged: false, gone: true }));
  expect(await status(t, { clock: t.clock })).toMatchObject({ faulty: false, rules: [{ faults: [] }] });
});

test('an image that was asked for by hand and is not there is a failure', async () => {
  const t = testService();
  const from = `docker://${registry.registryHost}/gone/never:v1`;
  const id = await t.enqueue({ kind: 'mirror', from, to: [`docker://${ecr.registryHost}/gone/never:v1`] });
  await t.worker(lab.session().backends).drain();
  expect((await t.run(id)).jobs).toEqual({ ...NO_JOBS, failed: 1 });
});
