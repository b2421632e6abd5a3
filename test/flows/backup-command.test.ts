// The command as a person types it, in this process; cli.test.ts shows for all commands that the program runs them.
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { commandLine } from '../support/command-line.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, registry, bucket, environment } = lab.stack;
const home = join(lab.folder, 'home');
await mkdir(home);

const transship = commandLine({ ...environment, HOME: home });

test('every command of docs/backup.md succeeds', async () => {
  await lab.push(await makeImage({ signed: true }), ecr, 'team/app');
  const document = await readFile(new URL('../../docs/backup.md', import.meta.url), 'utf8');
  const [, block = ''] = /^```sh\n(.*?)^```$/ms.exec(document) ?? [];
  const lines = block.trimEnd().split('\n');
  expect(lines.length).toBeGreaterThan(4);
  for (const line of lines) {
    const [program, ...args] = line
      .replaceAll('111122223333.dkr.ecr.eu-west-1.amazonaws.com', ecr.registryHost)
      .replaceAll('my-backups', bucket)
      .replaceAll("'", '')
      .split(' ');
    expect(program).toBe('transship');
    const { code, stderr } = await transship(...args);
    expect(code, `${line}\n${stderr}`).toBe(0);
  }
});

test('prints what was stored, what a second backup found unchanged, and the snapshot', async () => {
  await lab.push(await makeImage({ seed: 71, signed: true }), registry, 'printed/app');
  const folder = join(lab.folder, 'printed');
  const args = ['backup', `${registry.registryHost}/printed/*`, `store:${folder}`];
  const first = await transship(...args);
  expect(first.stdout).toMatch(/^snapshot [0-9a-f]{64} in store:/);
  expect(first.stdout).toMatch(
    /^1 image of 1 repository: 1 stored, 0 unchanged, 0 failed\nsent [\d.]+ KiB in \d+ blobs/m,
  );
  const second = await transship(...args, '--json');
  expect(JSON.parse(second.stdout)).toMatchObject({
    snapshot: { id: expect.stringMatching(/^[0-9a-f]{64}$/), key: expect.stringMatching(/^snapshots\//) },
    images: { stored: 0, unchanged: 1, archived: 0, failed: 0 },
    added: { blobs: 0, bytes: 0 },
    failures: [],
  });
});

test('exits 1 and names the image that cannot be read, with the others in the snapshot', async () => {
  await lab.push(await makeImage({ seed: 72 }), registry, 'partly/app');
  await lab.push(await makeImage({ seed: 73 }), registry, 'partly/bad');
  const bad = await lab.view(registry, 'partly/bad').resolve('v1');
  const match = { operation: 'manifest-get', digest: bad.digest, times: Infinity } as const;
  const undo = registry.faults.add(match, { kind: 'answer', status: 403, code: 'DENIED' });
  const run = await transship('backup', `${registry.registryHost}/partly/*`, `store:${join(lab.folder, 'partly')}`);
  undo();
  expect(run.code).toBe(1);
  expect(run.stdout).toMatch(/^failed: partly\/bad:v1: source: .*/m);
  expect(run.stdout).toMatch(/^2 images of 2 repositories: 1 stored, 0 unchanged, 1 failed$/m);
});

test('leaves a prefix of archives with its snapshot that can be verified, pruned and restored like one without', async () => {
  await lab.push(await makeImage({ seed: 74 }), registry, 'beside/app');
  const place = `s3://${bucket}/beside/`;
  const written = await transship('backup', `${registry.registryHost}/beside/*`, place);
  expect(written.stdout).toMatch(/^snapshot [0-9a-f]{64}$/m);
  const verified = await transship('verify', place, '--json');
  expect(verified.code, verified.stdout).toBe(0);
  const pruned = await transship('prune', place, '--keep-last', '1');
  expect(pruned.code, pruned.stderr).toBe(0);
  expect(pruned.stdout).not.toContain('snapshots/');
  const restored = await transship('restore', place, `docker://${registry.registryHost}/again`);
  expect(restored.code, restored.stderr).toBe(0);
  const { digest } = await lab.view(registry, 'again/beside/app').resolve('v1');
  expect(digest).toBe((await lab.view(registry, 'beside/app').resolve('v1')).digest);
});

test.each([
  [['--force'], 2, /--force does not go with a backup into a store/],
  [['--no-snapshot'], 2, /--no-snapshot does not go with a backup into a store/],
])('with %j into a store is refused', async (flags, code, sentence) => {
  const run = await transship('backup', `${registry.registryHost}/x/*`, `store:${lab.folder}/refused`, ...flags);
  expect(run.code).toBe(code);
  expect(run.stderr).toMatch(sentence);
});
