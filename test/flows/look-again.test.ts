// Destinations in registries that list only names, unlike ECR: each run lists their tags, and asks for each tag once a day.
import assert from 'node:assert/strict';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import type { CopyRule } from '../../worker/rules/rule.ts';
import { makeImage, type MadeImage } from '../support/images.ts';
import { openLab, requestsDuring, type Lab } from '../support/lab.ts';
import { planner, type PlannerBench } from '../support/planner-bench.ts';
import { RawRegistry } from '../support/raw-registry.ts';
import { rule } from '../support/rules.ts';

const HOME = '111111111111.dkr.ecr.us-east-1.amazonaws.com';
const HOUR_MS = 3_600_000;

let lab: Lab;

beforeAll(async () => {
  lab = await openLab();
});
afterAll(async () => lab[Symbol.asyncDispose]());

let made = 0;
async function makeOne(tag: string): Promise<MadeImage> {
  return makeImage({ seed: 9000 + ++made, tag, platforms: ['linux/amd64'], layers: [100], sharedLayerBytes: 0 });
}

interface Mirrored {
  readonly bench: PlannerBench;
  readonly there: LocalRegistry;
  readonly raw: RawRegistry;
  /** In both registries. */
  readonly repository: string;
  /** Plans due runs so many hours later, and returns the requests to the destination. */
  pass(hours: number): Promise<Readonly<Record<string, number>>>;
  /** The tags of the jobs in the queue. */
  queued(): readonly string[];
  /** What the planner reported in the last pass. */
  warnings(): readonly string[];
}

let repositories = 0;
/** A repository of ECR with these tags, mirrored once to another registry. */
async function mirrored(
  tags: readonly string[],
  options: Partial<CopyRule> & { readonly deny?: readonly 'tags-list'[]; readonly more?: readonly string[] } = {},
): Promise<Mirrored> {
  const { deny = [], more = [], ...choices } = options;
  const there = await lab.registry({ mode: 'oci', deny });
  const bench = planner(lab.session());
  const names = [`look-${++repositories}`, ...more.map((name) => `look-${repositories}-${name}`)];
  const [repository = ''] = names;
  for (const name of names) for (const tag of tags) await lab.push(await makeOne(tag), lab.stack.ecr, name);
  const from = names.map((name) => `${HOME}/${name}`);
  await bench.apply(rule({ name: 'keep', from, to: [`${there.registryHost}/{repository}`], ...choices }));
  await bench.pass();
  expect(await bench.work()).toHaveLength(tags.length * names.length);
  return {
    bench,
    there,
    raw: new RawRegistry(there.url),
    repository,
    pass: async (hours) => {
      await bench.clock.advance(hours * HOUR_MS);
      bench.forget();
      return requestsDuring(there, async () => {
        expect(await bench.pass()).toMatchObject({ begun: 1, failed: 0, incomplete: 0 });
      });
    },
    queued: () =>
      bench.jobs.flatMap((job) => (job.kind === 'mirror' ? (job.from.split(':').at(-1) ?? '') : [])).toSorted(),
    warnings: () => bench.of('warning').map(({ message }) => message),
  };
}

async function expectEqual({ there, repository }: Mirrored, tag: string): Promise<void> {
  const [source, target] = [lab.view(lab.stack.ecr, repository), lab.view(there, repository)];
  expect((await target.resolve(tag)).digest).toBe((await source.resolve(tag)).digest);
}

test('copies a tag again that was deleted at a destination in a registry that is not ECR', async () => {
  const m = await mirrored(['v1', 'v2']);
  assert.equal((await m.raw.call('DELETE', `/v2/${m.repository}/manifests/v1`)).status, 202);
  await m.pass(1);
  expect(m.queued()).toEqual(['v1']);
  await m.bench.work();
  await expectEqual(m, 'v1');
  await m.pass(1);
  expect(m.queued()).toEqual([]);
});

test('copies everything again when the repository is gone at a destination in a registry that is not ECR', async () => {
  const m = await mirrored(['v1', 'v2']);
  for (const tag of ['v1', 'v2']) {
    const { digest } = await lab.view(m.there, m.repository).resolve(tag);
    await m.raw.call('DELETE', `/v2/${m.repository}/manifests/${digest}`);
  }
  m.there.faults.add({ operation: 'tags-list' }, { kind: 'answer', status: 404, code: 'NAME_UNKNOWN' });
  expect(await m.pass(1)).toEqual({ 'tags-list': 1, 'manifest-head': 1 });
  expect(m.queued()).toEqual(['v1', 'v2']);
});

test('copies a tag again within a day that was moved at a destination in a registry that is not ECR', async () => {
  const m = await mirrored(['v1', 'v2']);
  await lab.push(await makeOne('v2'), m.there, m.repository);
  await m.pass(24);
  expect(m.queued()).toEqual(['v2']);
  await m.bench.work();
  await expectEqual(m, 'v2');
});

test('lists the tags of a registry that is not ECR once a run, and asks for each of them once a day', async () => {
  const m = await mirrored(['v1', 'v2', 'v3']);
  expect(await m.pass(1)).toEqual({ 'tags-list': 1 });
  expect(await m.pass(22)).toEqual({ 'tags-list': 1, 'manifest-head': 3 });
  expect(await m.pass(1)).toEqual({ 'tags-list': 1 });
  expect(await m.pass(23)).toEqual({ 'tags-list': 1, 'manifest-head': 3 });
  expect(m.queued()).toEqual([]);
  expect(await m.bench.run('keep')).toMatchObject({ unchanged: 3, unseen: 0, endedAtMs: expect.any(Number) });
});

test('asks once a day for tags of a registry that does not allow listing tags', async () => {
  const m = await mirrored(['v1', 'v2'], { deny: ['tags-list'] });
  await m.raw.call('DELETE', `/v2/${m.repository}/manifests/v1`);
  expect(await m.pass(1)).toEqual({ 'tags-list': 1 });
  expect(await m.pass(23)).toEqual({ 'tags-list': 1, 'manifest-head': 2 });
  expect(m.queued()).toEqual(['v1']);
});

test.each([
  ['tags-list', 429],
  ['tags-list', 401],
  ['manifest-head', 429],
  ['manifest-head', 503],
] as const)('a failed look at a destination (%s: %d) counts its images as not looked at', async (operation, status) => {
  const m = await mirrored(['v1', 'v2'], { more: ['b'] });
  await lab.push(await makeOne('v1'), m.there, m.repository);
  m.there.faults.add({ operation, times: 100 }, { kind: 'answer', status });
  const asked = await m.pass(24);
  // the registry counts as unavailable: its second repository is not requested
  expect(asked['tags-list']).toBeLessThanOrEqual(operation === 'tags-list' ? 6 : 1);
  expect(m.warnings()).toEqual([
    expect.stringMatching(
      /^docker:\/\/\S+: its tags count as they were when they were last looked at: .*(429|401|503)/,
    ),
  ]);
  const ended = { jobs: { failed: 0 }, endedAtMs: expect.any(Number) };
  expect(await m.bench.run('keep')).toMatchObject({ ...ended, unchanged: 4, unseen: 4 });

  // the next run asks for what was not looked at
  m.there.faults.clear();
  expect(await m.pass(1)).toMatchObject({ 'tags-list': 2 });
  expect(m.queued()).toEqual(['v1']);
  expect(await m.bench.run('keep')).toMatchObject({ unchanged: 3, unseen: 0 });
});
