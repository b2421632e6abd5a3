// A store in one file: written once by a backup, then verified, listed, restored, copied and served.
import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { Source, Target } from '../../worker/content/content.ts';
import { backupToBundle } from '../../worker/images/backup-bundle.ts';
import type { StoreBackupResult } from '../../worker/images/backup-store.ts';
import { openServedPlace } from '../../worker/images/serve-place.ts';
import { listPlace } from '../../worker/images/list-place.ts';
import { parsePlace } from '../../worker/oci/place.ts';
import { systemClock } from '../../worker/util/clock.ts';
import { Failure } from '../../worker/util/failure.ts';
import { commandLine } from '../support/command-line.ts';
import { replaceBackends } from '../support/backends.ts';
import type { MadeImage } from '../support/images.ts';
import { openLab, sentenceOf, type Session } from '../support/lab.ts';
import { expectSameImage } from '../support/same-image.ts';
import { serveForTest } from '../support/served.ts';
import { stockRegistry } from '../support/stocked-registry.ts';

const lab = await openLab();
const { ecr, otherEcr, environment } = lab.stack;
afterAll(async () => lab[Symbol.asyncDispose]());
const from = `${ecr.registryHost}/carried/*`;

let stocked: Promise<readonly MadeImage[]> | undefined;
let files = 0;

/** The images that every test backs up. */
async function stock(): Promise<readonly MadeImage[]> {
  return (stocked ??= stockRegistry(lab, ecr, { repositories: 4, tags: 2, prefix: 'carried' }));
}

function newFile(): string {
  return join(lab.folder, `bundle-${++files}.tar`);
}

async function backUp(
  file: string,
  { backends, options }: Pick<Session, 'backends' | 'options'> = lab.session(),
): Promise<StoreBackupResult> {
  await stock();
  const request = { from, to: `store:${file}`, tool: 'transship test' };
  return backupToBundle(request, backends, { ...options, clock: systemClock });
}

const transship = commandLine({ ...environment, HOME: lab.folder }, { columns: 200 });

/** The same repository, with bodies from `open`. */
function opening(inner: Source & Target, open: Source['open']): Source & Target {
  return new Proxy(inner, {
    get: (target, name) => {
      if (name === 'open') return open;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** Files whose names begin with that of `file`, including hidden ones. */
async function beside(file: string): Promise<readonly string[]> {
  return (await readdir(lab.folder)).filter((name) => name.includes(basename(file)));
}

test('a backup into one file is verified, listed and restored like a store', async () => {
  const [image] = await stock();
  const file = newFile();
  const { code, stderr } = await transship('backup', from, `store:${file}`, '--quiet');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(await beside(file)).toEqual([basename(file)]);
  expect(await transship('verify', `store:${file}`, '--depth', 'bytes')).toMatchObject({ code: 0 });
  const listed = await transship('list', `store:${file}`);
  expect(listed.stdout).toMatch(/^8 images in 4 repositories$/m);
  const restored = await transship('restore', `store:${file}`, `docker://${otherEcr.registryHost}`, '--quiet');
  expect({ code: restored.code, stderr: restored.stderr }).toEqual({ code: 0, stderr: '' });
  expect(await transship('diff', from, `${otherEcr.registryHost}/carried/*`)).toMatchObject({ code: 0 });
  const { digest } = await lab.view(otherEcr, 'carried/app-00').resolve('v0');
  assert(image);
  expect(digest).toBe(image.root.descriptor.digest);
});

test('one image of a store in one file can be copied', async () => {
  const file = newFile();
  await backUp(file);
  const name = `${ecr.registryHost}/carried/app-00:v0`;
  const copied = await transship('copy', `store:${file}:${name}`, `oci:${join(lab.folder, 'layout')}`, '--quiet');
  expect(copied).toMatchObject({ code: 0, stderr: '' });
});

test('a file that exists is not replaced, and nothing writes to one', async () => {
  const file = newFile();
  await backUp(file);
  const before = await readFile(file);
  expect(await sentenceOf(backUp(file), 'CONFLICT')).toMatch(
    /the file exists, and a store in one file is written once/,
  );
  const commands = [
    ['copy', `${ecr.registryHost}/carried/app-00:v0`, `store:${file}:${ecr.registryHost}/carried/app-00:v0`],
    ['prune', `store:${file}`, '--keep-last', '1', '--yes'],
  ];
  for (const command of commands)
    expect(await transship(...command)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('is a store in one file, which a backup writes once'),
    });
  expect(await readFile(file)).toEqual(before);
});

test('a backup into one file that was stopped leaves no file, and resumes', async () => {
  const file = newFile();
  const session = lab.session();
  const stopped = new AbortController();
  let read = 0;
  const stopping = replaceBackends(session.backends, {
    repository: (inner) =>
      opening(inner, async (...args) => {
        if (++read === 20) stopped.abort(new Failure('ABORTED', 'stopped'));
        return inner.open(...args);
      }),
  });
  const options = { ...session.options, signal: stopped.signal };
  await sentenceOf(backUp(file, { backends: stopping as Session['backends'], options }), 'ABORTED');
  expect(await beside(file)).toEqual([`.${basename(file)}.unfinished`]);
  const whole = newFile();
  const { added } = await backUp(whole);
  const rest = await backUp(file);
  expect(rest.added.blobs).toBeLessThan(added.blobs);
  expect(rest.added.blobs).toBeGreaterThan(0);
  expect(await beside(file)).toEqual([basename(file)]);
  expect(await transship('verify', `store:${file}`, '--depth', 'bytes')).toMatchObject({ code: 0 });
});

test('a backup into one file that fails for one image holds the others', async () => {
  const file = newFile();
  const { backends, options } = lab.session();
  const broken = replaceBackends(backends, {
    repository: (inner, _, name) =>
      name === 'carried/app-03'
        ? opening(inner, async () => Promise.reject(new Failure('CORRUPT', 'the layer is broken')))
        : inner,
  });
  const { failures } = await backUp(file, { backends: broken as Session['backends'], options });
  expect(failures.map(({ repository }) => repository)).toEqual(['carried/app-03', 'carried/app-03']);
  const { backends: now } = lab.session();
  const entries = await Array.fromAsync(listPlace(parsePlace(`store:${file}`), now, options));
  expect(entries).toHaveLength(6);
});

test.each([
  ['is cut off', 1, (tar: Buffer) => tar.subarray(0, tar.byteLength - 1024), /it was cut off/],
  ['is cut off in the middle', 1, (tar: Buffer) => tar.subarray(0, 5000), /the tar is cut off|it was cut off/],
  ['is not a tar', 2, () => Buffer.from('what?'.repeat(1000)), /it is not a tar/],
])('a file that %s is refused', async (_, code, damage, message) => {
  const file = newFile();
  await backUp(file);
  await writeFile(file, damage(await readFile(file)));
  expect(await transship('verify', `store:${file}`)).toMatchObject({ code, stderr: expect.stringMatching(message) });
});

test('verify finds a flipped bit in a store in one file', async () => {
  const file = newFile();
  await backUp(file);
  const tar = await readFile(file);
  const layer = tar.lastIndexOf(Buffer.from('blobs/')) + 512;
  tar.writeUInt8((tar[layer] ?? 0) ^ 1, layer);
  await writeFile(file, tar);
  expect(await transship('verify', `store:${file}`, '--depth', 'bytes')).toMatchObject({ code: 3 });
});

test('a store in one file is served', async () => {
  const [image] = await stock();
  const file = newFile();
  await backUp(file);
  const { backends } = lab.session();
  const images = await openServedPlace(parsePlace(`store:${file}`), backends, { clock: systemClock });
  const { repository } = await serveForTest(images);
  assert(image);
  await expectSameImage(lab.view(ecr, 'carried/app-00'), repository('carried/app-00'), image.root);
});

test('a dry run into one file writes nothing', async () => {
  await stock();
  const file = newFile();
  expect(await transship('backup', from, `store:${file}`, '--dry-run')).toMatchObject({ code: 0 });
  expect(await beside(file)).toEqual([]);
  expect(await transship('list', `store:${file}`)).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/there is no store at /),
  });
});
