import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { openLab, requestsDuring, type Lab } from '../support/lab.ts';
import { planner } from '../support/planner-bench.ts';
import { rule } from '../support/rules.ts';
import { seededDigest, seedRegistry, type Seed } from '../support/seeded-registry.ts';

let lab: Lab;

beforeAll(async () => {
  lab = await openLab();
});
afterAll(async () => lab[Symbol.asyncDispose]());

const ACCOUNT = '333333333333';
const ECR = `${ACCOUNT}.dkr.ecr.eu-central-1.amazonaws.com`;

async function seeded(name: string, mode: 'oci' | 'ecr', seeds: readonly Seed[]): Promise<LocalRegistry> {
  const folder = join(lab.folder, name);
  await mkdir(folder, { recursive: true });
  await seedRegistry(folder, seeds);
  return lab.registry(mode === 'oci' ? { mode, folder } : { mode, folder, account: ACCOUNT, region: 'eu-central-1' });
}

function numbered(count: number): readonly string[] {
  return Array.from({ length: count }, (_, i) => `v${String(i).padStart(5, '0')}`);
}

test('10,000 unchanged tags of a repository of ECR cost at most 25 calls of ECR, and no message', async () => {
  const tags = numbered(10_000);
  const ecr = await seeded('ecr-10000', 'ecr', [
    { repository: 'app', tags },
    { repository: 'copies/app', tags },
  ]);
  const bench = planner(lab.session());
  const keep = rule({ name: 'keep', from: [`${ECR}/app`], to: [`${ECR}/copies/{repository}`] });
  await bench.apply(keep);
  await bench.remember(keep, `docker://${ECR}/copies/app`, new Map(tags.map((tag) => [tag, seededDigest(tag)])));
  const counts = await requestsDuring(ecr, async () => {
    expect(await bench.pass()).toMatchObject({ begun: 1, failed: 0 });
  });
  expect(Object.keys(counts)).toEqual(['api']);
  expect(counts['api']).toBeLessThanOrEqual(25);
  expect(await bench.run('keep')).toMatchObject({ unchanged: 10_000, endedAtMs: expect.any(Number) });
  expect(bench.queue.calls.filter((call) => call.startsWith('Send'))).toEqual([]);
});

test('1,000 unchanged tags of a registry that is not ECR cost at most one HEAD each', async () => {
  const tags = numbered(1000);
  const plain = await seeded('plain-1000', 'oci', [
    { repository: 'app', tags },
    { repository: 'copies/app', tags },
  ]);
  const bench = planner(lab.session());
  const host = plain.registryHost;
  const keep = rule({ name: 'keep', from: [`${host}/app`], to: [`${host}/copies/{repository}`] });
  await bench.apply(keep);
  await bench.remember(keep, `docker://${host}/copies/app`, new Map(tags.map((tag) => [tag, seededDigest(tag)])));
  const counts = await requestsDuring(plain, async () => {
    expect(await bench.pass()).toMatchObject({ begun: 1, failed: 0 });
  });
  // of the source and of the destination; one more request follows a full page without a Link
  expect(counts).toEqual({ 'tags-list': 4, 'manifest-head': 1000 });
  expect(await bench.run('keep')).toMatchObject({ unchanged: 1000, endedAtMs: expect.any(Number) });
});
