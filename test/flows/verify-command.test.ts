// verify and diff as a person types them. They run in this process.
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { commandLine } from '../support/command-line.ts';
import { backedUpToStore } from '../support/backed-up.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, registry, environment } = lab.stack;

const run = commandLine({ ...environment, HOME: lab.folder });

async function push(where: typeof ecr, repository: string, tag: string, seed: number): Promise<void> {
  const image = await makeImage({ seed, platforms: ['linux/amd64'], layers: [500] });
  await lab.push({ ...image, root: { ...image.root, tags: [tag] } }, where, repository);
}

describe('verify PLACE', () => {
  test('prints once what was not checked, with the number of images, or the name of a single one', async () => {
    await push(ecr, 'noted/app', 'v1', 1);
    const one = await run('verify', `${ecr.registryHost}/noted/*`, '-q');
    expect(one.stdout).toContain(`note: docker://${ecr.registryHost}/noted/app:v1: its blobs are there`);
    await push(ecr, 'noted/app', 'v2', 2);
    const two = await run('verify', `${ecr.registryHost}/noted/*`, '-q');
    expect(two.stdout.match(/^note: .*$/gm)).toEqual([expect.stringContaining('note: 2 images: its blobs are there')]);
  });

  test('reports that an image equals the one it is compared with, and exits 3 where it does not', async () => {
    await push(ecr, 'compared/app', 'v1', 1);
    await push(ecr, 'compared/app', 'v2', 2);
    const [v1, v2] = [`${ecr.registryHost}/compared/app:v1`, `${ecr.registryHost}/compared/app:v2`];
    const same = await run('verify', v1, '--against', v1);
    expect(same.code).toBe(0);
    expect(same.stdout).toMatch(new RegExp(`^equal to ${v1}$`, 'm'));
    const other = await run('verify', v1, '--against', v2);
    expect(other.code).toBe(3);
    expect(other.stdout).not.toContain('equal to');
  });

  test('reports a store as whole at depth bytes, part of it with a sample, and exits 3 for what is missing', async () => {
    await push(ecr, 'typed/app', 'v1', 1);
    const folder = join(lab.folder, 'typed');
    await backedUpToStore(`${ecr.registryHost}/typed/*`, `store:${folder}`, lab.session());
    const whole = await run('verify', `store:${folder}`, '--depth', 'bytes', '-q');
    expect(whole.stdout).toMatch(
      /^whole store:.*: depth bytes, 1 of 1 names, \d+ of \d+ blobs, 1 of 1 snapshots, .* 0 findings$/m,
    );
    expect(whole.code).toBe(0);
    const part = await run('verify', `store:${folder}`, '--deep', '--sample', '3/20', '-q');
    expect(part.stdout).toMatch(/^partly whole .*, sample 3\/20, /m);
    await rm(join(folder, 'blobs'), { recursive: true });
    const lost = await run('verify', `store:${folder}`, '--json', '-q');
    expect(lost.code).toBe(3);
    expect(JSON.parse(lost.stdout)).toMatchObject({ complete: false, findings: [{ kind: 'missing' }, {}, {}, {}] });
  });

  test('refuses flags of places for one image, and an invalid sample', async () => {
    const one = await run('verify', `${ecr.registryHost}/typed/app:v1`, '--sample', '5%');
    expect(one).toMatchObject({ code: 2, stderr: expect.stringContaining('is one image: leave out --sample') });
    const half = await run('verify', `${ecr.registryHost}/typed/*`, '--sample', 'half');
    expect(half).toMatchObject({ code: 2, stderr: expect.stringContaining('is not a sample') });
    const past = await run('verify', `${ecr.registryHost}/typed/*`, '--snapshot', 'latest');
    expect(past).toMatchObject({ code: 2, stderr: expect.stringContaining('has no snapshots') });
  });

  test('exits 3 and names a file that is not an archive', async () => {
    const folder = join(lab.folder, 'not-archives');
    await push(ecr, 'tars/app', 'v1', 1);
    await lab.session().copy(`docker://${ecr.registryHost}/tars/app:v1`, `oci-archive:${folder}/eu/tars/app/v1.tar`);
    await writeFile(join(folder, 'eu/tars/app/v2.tar'), Buffer.alloc(2048));
    const { code, stdout } = await run('verify', `oci-archive:${folder}/`, '-q');
    expect(code).toBe(3);
    expect(stdout).toMatch(/^faulty: oci-archive:.*v2\.tar: /m);
  });
});

describe('diff A B', () => {
  test('exits 0 for equal places, and 3 with a row for each difference', async () => {
    for (const where of [ecr, registry]) await push(where, 'same/app', 'v1', 1);
    await push(ecr, 'same/app', 'v2', 2);
    const [a, b] = [`${ecr.registryHost}/same/*`, `${registry.registryHost}/same/*`];
    const equal = await run('diff', a, b, '--only', 'same/app:v1', '-q');
    expect(equal).toMatchObject({
      code: 0,
      stdout: expect.stringContaining(`compared tags of ${a} with ${b}: 1 equal, 0 missing, 0 different, 0 extra`),
    });
    const found = await run('diff', a, b, '-q');
    expect(found.code).toBe(3);
    expect(found.stdout).toMatch(/^missing +same\/app:v2 /m);
    const { code, stdout } = await run('diff', b, a, '--json', '-q');
    expect({ code, value: JSON.parse(stdout) as unknown }).toMatchObject({
      code: 3,
      value: { equal: 1, differences: [{ kind: 'extra', repository: 'same/app', tag: 'v2' }] },
    });
  });

  test('compares a store at an earlier time with the registry as it is', async () => {
    await push(ecr, 'past/app', 'v1', 1);
    const folder = join(lab.folder, 'past');
    await backedUpToStore(`${ecr.registryHost}/past/*`, `store:${folder}`, lab.session());
    const registryNow = `${ecr.registryHost}/past/*`;
    expect((await run('diff', `store:${folder}#latest`, registryNow, '-q')).code).toBe(0);
    await push(ecr, 'past/app', 'v1', 2);
    const moved = await run('diff', `store:${folder}#latest`, registryNow, '-q');
    expect(moved.code).toBe(3);
    expect(moved.stdout).toMatch(/^different +past\/app:v1 /m);
    const wrong = await run('diff', `${registryNow}#latest`, registryNow, '-q');
    expect(wrong).toMatchObject({ code: 2, stderr: expect.stringContaining('a registry has no snapshots') });
  });
});
