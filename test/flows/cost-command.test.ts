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
    expect(stdout).toMatch(/^all +128$/m);
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
alarms: { pullsPerFiveMinutes: 1000 }
prune: { prefixes: [/] }
vault: { restoreTest: {} }`;
    expect(await what(all)).toEqual([
      'public addresses of workers',
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
    await writeFile(broken, 'rules: []');
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
