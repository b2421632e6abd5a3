// `transship cost` as a person types it: from settings alone, and from the content of a registry.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { computeCosts } from '../../worker/costs/costs.ts';
import { commandLine } from '../support/command-line.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const run = commandLine({ ...lab.stack.environment, HOME: lab.folder });

let files = 0;
async function settings(more = ''): Promise<string> {
  const path = join(lab.folder, `infra-${++files}.yaml`);
  await writeFile(path, `version: 1\naccount: '111111111111'\nregion: us-east-1\n${more}`);
  return path;
}

interface Printed {
  readonly assumptions: Readonly<Record<string, number>>;
  readonly lines: readonly { readonly what: string; readonly dollars: number }[];
  readonly monthly: number;
  readonly growth: number;
  readonly inventory?: object;
}

async function json(...args: readonly string[]): Promise<Printed> {
  const { code, stdout, stderr } = await run('cost', ...args, '--json');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const printed: Printed = JSON.parse(stdout);
  return printed;
}

describe('cost', () => {
  test('shows each part, the sum, and its growth', async () => {
    const { code, stdout } = await run('cost', '-f', await settings());
    expect(code).toBe(0);
    expect(stdout).toContain('assumed: 10 repositories with 20 images each of 0.5 GiB, 0.5 changes a day in each');
    expect(stdout).toMatch(/^archives in S3 Standard +21$/m);
    expect(stdout).toMatch(/^all +130$/m);
    expect(stdout).toContain(
      'no prune rule deletes archives: S3 costs 1.55 more with each month; S3 Standard after 1, 2 and 3 years: 21, 40, 59',
    );
  });

  test('prints the sums of docs/deployment.md for the default settings, and for 2,000 repositories', async () => {
    const file = await settings();
    const sizes = { repositories: 2000, rules: 20, wakeups: 100, busy: 1, first: 0.5 };
    const assume = Object.entries(sizes).flatMap(([name, value]) => ['--assume', `${name}=${value}`]);
    expect((await json('-f', file)).monthly).toBeCloseTo(computeCosts({}).own);
    expect((await json('-f', file, ...assume)).monthly).toBeCloseTo(computeCosts(sizes).own);
  });

  test('reads from the settings how often the planner passes, restore tests run, and workers run on demand', async () => {
    const assumed = async (more: string): Promise<Printed['assumptions']> =>
      (await json('-f', await settings(more))).assumptions;
    expect(await assumed('')).toMatchObject({ passes: 8640, keys: 1, first: 1, tests: 4.3 });
    expect(await assumed('planEveryMinutes: 15')).toMatchObject({ passes: 2880 });
    expect(await assumed('encryption: create')).toMatchObject({ keys: 2 });
    const key = 'arn:aws:kms:us-east-1:111111111111:key/0a000000-0000-4000-8000-000000000000';
    expect(await assumed(`notifications: { key: '${key}' }`)).toMatchObject({ keys: 0 });
    expect(await assumed('worker: { onDemandBase: 0 }')).toMatchObject({ first: 0 });
    expect(await assumed('worker: { onDemandBase: 0, onDemandWeight: 1, spotWeight: 3 }')).toMatchObject({
      first: 0.25,
    });
    expect(await assumed('worker: { onDemandBase: 4, maxTasks: 4 }')).toMatchObject({ first: 1 });
    const tested = async (cron: string): Promise<number | undefined> =>
      (await assumed(`vault: { restoreTest: { cron: '${cron}' } }`))['tests'];
    expect(await tested('0 8 ? * SUN *')).toBeCloseTo(52 / 12);
    expect(await tested('0 8 * * ? *')).toBeCloseTo(365 / 12);
    expect(await tested('0 8 1 * ? *')).toBe(1);
    expect(await tested('0 8 L 3,9 ? *')).toBeCloseTo(2 / 12);
  });

  test('refuses a rules file, and text that is no schedule, with a sentence', async () => {
    const path = join(lab.folder, 'rules-for-cost.yaml');
    await writeFile(path, 'version: 1\nrules: []\n');
    const refused = await run('cost', '-f', path);
    expect(refused).toMatchObject({ code: 2, stdout: '' });
    expect(refused.stderr).toContain('it is a rules file, which has no price by itself: name the settings');
    const odd = await run('cost', '-f', await settings("vault: { restoreTest: { cron: '0 8 * *' } }"));
    expect(odd.stderr).toContain('"vault.restoreTest.cron": "0 8 * *" is not a schedule');
  });

  test('counts what the settings add and save', async () => {
    const what = async (more: string): Promise<readonly string[]> =>
      (await json('-f', await settings(more))).lines.map((line) => line.what).slice(5);
    expect(await what('network: { type: own, natGateways: 0 }')).toEqual(['interface endpoints']);
    expect(await what('network: { type: existing }')).toEqual([]);
    expect(await what('network: { type: public }\nbucket: { storageClass: GLACIER_IR }')).toEqual([
      'public addresses of workers',
      'Glacier Instant Retrieval after 30 days',
    ]);
    const all = `network: { type: public }
largeJobs: {}
alarms: { pullsPerFiveMinutes: 1000 }
prune: { prefixes: [/] }
vault: { restoreTest: {} }`;
    expect(await what(all)).toEqual([
      'public addresses of workers',
      'large workers',
      'alarm of unusual pulls',
      'Cleaner',
      'prune rules that keep as many images as at the beginning',
      'vault and its copy',
      'restore tests of the whole bucket',
    ]);
    expect((await json('-f', await settings(all))).growth).toBe(0);
    const cold = await json('-f', await settings('bucket: { storageClass: GLACIER_IR }'));
    expect(cold.growth).toBeCloseTo((computeCosts({}).growth * 0.004) / 0.023);
  });

  test('counts a vault, and restore tests, of what prune rules leave in the bucket', async () => {
    const dollars = async (more: string, ...assume: readonly string[]): Promise<readonly number[]> =>
      (await json('-f', await settings(more), ...assume)).lines
        .filter(({ what }) => /^(?:prune rules|vault|restore)/.test(what))
        .map((line) => line.dollars);
    const vault = 'vault: { account: "222222222222", region: eu-west-1, restoreTest: {} }\n';
    const prune = 'prune: { prefixes: [/] }\n';
    const [whole = 0, wholeTest = 0] = await dollars(vault);
    const [saved = 0, kept = 0, keptTest = 0] = await dollars(vault + prune);
    expect(saved).toBeLessThan(0);
    // 100 GiB of images, and 225 of old versions
    expect(kept).toBeCloseTo((2 * 325 + (75 * 125) / 30) * 0.05 + 75 * 0.02 + 2 + 0.0051);
    // a test each Sunday, verified by a Lambda of 3 GiB within 15 minutes
    expect(keptTest).toBeCloseTo((100 * (0.02 + 0.023 / 30) + 2700 * 0.000_013_333_4) * (52 / 12));
    expect(kept).toBeLessThan(whole);
    expect(keptTest).toBeLessThan(wholeTest / 8.8);
    // after a month nothing that was pruned is gone: old versions are kept for three
    const [young = 0, ofYoung = 0] = await dollars(vault + prune, '--assume', 'months=1');
    expect(young).toBeCloseTo(0);
    expect(ofYoung).toBeCloseTo((await dollars(vault, '--assume', 'months=1'))[0] ?? 0);
  });

  test('counts a write to S3 for each 8 MiB of an image', async () => {
    const requests = async (gib: number): Promise<number> =>
      (await json('-f', await settings(), '--assume', `image_gib=${gib}`)).lines[1]?.dollars ?? 0;
    // 150 images a month of 64 parts, and 640, and 16 other requests each
    expect(await requests(0.5)).toBeCloseTo((150 * (64 + 16) * 0.005) / 1000, 6);
    expect(await requests(5)).toBeCloseTo((150 * (640 + 16) * 0.005) / 1000, 6);
  });

  test('counts the images of ECR by its lists, each child of an index by itself, and their pushes', async () => {
    const image = await makeImage({ seed: 1, tag: 'v1', platforms: ['linux/amd64', 'linux/arm64'] });
    await lab.push(image, lab.stack.ecr, 'cost/app');
    const before = lab.stack.ecr.requests.length;
    const { assumptions, inventory } = await json(
      '-f',
      await settings(),
      '--registry',
      `${lab.stack.ecr.registryHost}/cost/*`,
    );
    expect(inventory).toMatchObject({ repositories: 1, tags: 1, pushedTags: 1 });
    expect(assumptions).toMatchObject({ repositories: 1, images: 1, changes: 1 / 30 });
    // the size of each image includes the layer that both have
    const GIB = 1024 ** 3;
    const bytes = Math.round((assumptions['image_gib'] ?? 0) * GIB);
    expect(bytes).toBeGreaterThanOrEqual(2 * (3000 + 70_000 + 5000));
    expect(bytes).toBeLessThan(2 * (3000 + 70_000 + 5000) + 20_000);
    expect(lab.stack.ecr.requests.slice(before).filter(({ operation }) => operation === 'blob-get')).toEqual([]);
  });

  test('assumes a rate of changes for a registry that does not report when tags were pushed', async () => {
    await lab.push(await makeImage({ seed: 2, tag: 'v1' }), lab.stack.registry, 'cost/plain');
    const { code, stdout, stderr } = await run(
      'cost',
      '-f',
      await settings(),
      '--registry',
      `${lab.stack.registry.host}/cost/plain`,
    );
    expect(stderr).toBe('');
    expect(code).toBe(0);
    expect(stdout).toContain(
      'assumed: 0.5 changes a day in each, since the registry does not say when tags were pushed',
    );
  });

  test.each([
    [['--assume', 'wishes=3'], /--assume "wishes=3": expected NAME=NUMBER with one of repositories, images,/],
    [['--assume', 'changes=-1'], /expected NAME=NUMBER/],
    [['--registry', 's3://bucket/'], /--registry "s3:\/\/bucket\/" is not a registry/],
  ])('refuses %j', async (args, why) => {
    expect(await run('cost', '-f', await settings(), ...args)).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(why),
    });
  });

  test('refuses a file without settings, and a missing file', async () => {
    const broken = join(lab.folder, 'broken.yaml');
    await writeFile(broken, 'rules: [');
    expect(await run('cost', '-f', broken)).toMatchObject({ code: 2 });
    await writeFile(broken, 'kind: Secret');
    expect(await run('cost', '-f', broken)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('expected version: 1, as settings of a deployment have'),
    });
    expect(await run('cost', '-f', join(lab.folder, 'none.yaml'))).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('it cannot be read: name the settings of a deployment'),
    });
  });
});
