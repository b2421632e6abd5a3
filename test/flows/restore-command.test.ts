// restore as a person types it: the commands of docs/restore.md, its exit codes and its report.
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { commandLine } from '../support/command-line.ts';
import { backedUpToArchives, backedUpToStore } from '../support/backed-up.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, otherEcr, bucket, environment } = lab.stack;
const home = join(lab.folder, 'home');
await mkdir(home);

const transship = commandLine({ ...environment, HOME: home });

const small = { layers: [900], platforms: ['linux/amd64'], sharedLayerBytes: 0 };
const store = `store:s3://${bucket}/docs`;
let made: Promise<string> | undefined;

/** Backs the registry up, once for all tests. Returns the id of the snapshot. */
async function backedUp(): Promise<string> {
  made ??= (async () => {
    for (const [seed, name] of ['product/app', 'product/web', 'base/node'].entries())
      for (const tag of ['1.0', '2.0'])
        await lab.push(await makeImage({ ...small, seed: seed * 2 + Number(tag), tag }), ecr, name);
    const from = `docker://${ecr.registryHost}`;
    await backedUpToArchives(from, `s3://${bucket}/docs-archives/`, lab.session());
    return backedUpToStore(from, store, lab.session());
  })();
  return made;
}

describe('transship restore', () => {
  test('runs the commands of docs/restore.md with their documented results', async () => {
    const id = await backedUp();
    const text = await readFile('docs/restore.md', 'utf8');
    const commands = [...text.matchAll(/^transship .*$/gm)].map(([line]) => line.replace(/\s+#.*$/, ''));
    expect(commands.length).toBeGreaterThan(12);
    const values: Readonly<Record<string, string>> = {
      $STORE: store,
      $ARCHIVES: `s3://${bucket}/docs-archives/`,
      $OTHER: otherEcr.registryHost,
      $ECR: ecr.registryHost,
      $ID: id,
      'app.tar': join(lab.folder, 'app.tar'),
      // the backup of this test is younger than a day
      '--as-of 1d': '--as-of 0s',
    };
    for (const command of commands) {
      let line = command;
      for (const [name, value] of Object.entries(values)) line = line.replaceAll(name, value);
      const args = [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain = '']) => quoted ?? plain);
      const ended = await transship(...args.slice(1));
      expect(ended, `${command}\n${ended.stdout}${ended.stderr}`).toMatchObject({ code: 0 });
    }
  });

  test('prints a table by repository and the comparison, and the same as JSON', async () => {
    await backedUp();
    const to = `docker://${otherEcr.registryHost}/report`;
    const text = await transship('restore', store, to);
    expect(text.code).toBe(0);
    expect(text.stdout).toMatch(/^\S+\/product\/app +\S+\/report\/product\/app +2 +2 +0 +0 +0 +[\d.]+ \w+ +2$/m);
    expect(text.stdout).toMatch(/^6 images in 3 repositories: 6 copied, 0 unchanged, 0 failed, .* sent.* in /m);
    expect(text.stdout).toMatch(
      /^compared with the snapshot: 6 of 6 images equal, 0 digests or tags missing, 0 different$/m,
    );
    const json = JSON.parse((await transship('restore', store, to, '--json')).stdout) as object;
    expect(json).toMatchObject({ failures: [], faults: [], absent: [], repositories: [{ unchanged: 2 }, {}, {}] });
  });

  test('exits 3 for a difference and 1 for a failure, and names each', async () => {
    await backedUp();
    const other = await makeImage({ ...small, seed: 99, tag: '1.0' });
    await lab.push(other, otherEcr, 'taken/product/app');
    const args = ['restore', store, `docker://${otherEcr.registryHost}/taken`] as const;
    const failed = await transship(...args);
    expect(failed).toMatchObject({
      code: 1,
      stdout: expect.stringMatching(
        /^failed: \S+\/product\/app:1\.0: target: the tag stands for .* pass --on-existing/m,
      ),
    });
    const skipped = await transship(...args, '--on-existing', 'skip');
    expect(skipped).toMatchObject({
      code: 3,
      stdout: expect.stringMatching(/^different: \S+\/taken\/product\/app:1\.0: the tag 1\.0 stands for /m),
    });
    expect(skipped.stdout).not.toContain('failed:');
  });

  test.each([
    [['--platform', 'linux/amd64'], /--platform is for archives without snapshots/],
    [['--as-of', 'tomorrow'], /"tomorrow" is not a time/],
    [['--only', 'UPPER'], /matches no image/],
    [['--map', 'a=b=c'], /maps no repositories/],
    [['--snapshot', 'latest', '--as-of', '1d'], /cannot be used with/],
    [['--snapshot', 'zz'], /is not a snapshot/],
    [['--no-create', '--settings', 'replace'], /pass one of the two/],
  ] as const)('refuses %j in one sentence', async (flags, expected) => {
    await backedUp();
    const { code, stderr } = await transship('restore', store, `docker://${otherEcr.registryHost}`, ...flags);
    expect(code).toBeGreaterThan(0);
    expect(stderr).toMatch(expected);
  });

  test('restores one image of a store where the store has it, and otherwise names the next step', async () => {
    await backedUp();
    const to = `docker://${otherEcr.registryHost}/single/app`;
    const digest = (await lab.view(ecr, 'product/app').resolve('2.0')).digest;
    expect(await transship('copy', `${store}:product/app@${digest}`, `${to}:by-digest`)).toMatchObject({ code: 0 });
    expect((await lab.view(otherEcr, 'single/app').resolve('by-digest')).digest).toBe(digest);
    expect(await transship('copy', `${store}:product/app:9.9`, to)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/no snapshot has .*product\/app:9\.9.*transship list/),
    });
    expect(await transship('copy', `${store}:nothing:1.0`, to)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/no snapshot of .* has the repository nothing/),
    });
  });
});
