// prune of stores, as a person types it, over S3 and over a folder.
import { mkdir, readdir, readFile, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { backupToStore } from '../../worker/images/backup-store.ts';
import { commandLine } from '../support/command-line.ts';
import { workClock } from '../support/clock.ts';
import { makeImage, type MadeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { registry, bucket, environment } = lab.stack;
const home = join(lab.folder, 'home');
await mkdir(home);
const DAY_SECONDS = 24 * 60 * 60;

const transship = commandLine({ ...environment, HOME: home });

async function succeed(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await transship(...args);
  expect({ code, stderr }).toMatchObject({ code: 0 });
  return stdout;
}

const imageOf = async (seed: number): Promise<MadeImage> =>
  makeImage({ seed, layers: [300], platforms: ['linux/amd64'], signed: true });

/** Every file of a folder. */
async function filesIn(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

/** Ages everything by so many days. */
async function age(folder: string, days: number): Promise<void> {
  for (const file of await filesIn(folder)) {
    const { mtimeMs } = await stat(file);
    await utimes(file, mtimeMs / 1000, mtimeMs / 1000 - days * DAY_SECONDS);
  }
}

describe('prune of a store in a folder', () => {
  test('plans, then deletes old snapshots and what only they needed; the rest can be restored', async () => {
    const folder = join(lab.folder, 'pruned');
    const from = `${registry.host}/prune-store/app`;
    const [first, second] = [await imageOf(1), await imageOf(2)];
    await lab.push(first, registry, 'prune-store/app');
    // snapshots are ordered by their times
    const { backends, options } = lab.session();
    const clock = workClock({ startMs: Date.UTC(2026, 0, 1) });
    await backupToStore({ from, to: `store:${folder}`, tool: 'transship test' }, backends, { ...options, clock });
    await age(folder, 8);
    await lab.push(second, registry, 'prune-store/app');
    await succeed('backup', from, `store:${folder}`);
    const before = await filesIn(folder);

    const planned = await succeed('prune', `store:${folder}`, '--keep-last', '1');
    expect(planned).toMatch(/^delete +[0-9a-f]{12} .* not in keepLast 1$/m);
    expect(planned).toMatch(
      /^would delete 1 snapshot and \d+ blobs of .*\nnothing was deleted: pass --yes to delete$/m,
    );
    expect(await filesIn(folder)).toEqual(before);

    const json = JSON.parse(await succeed('prune', `store:${folder}`, '--keep-last', '1', '--json')) as {
      readonly unreferenced: { readonly count: number };
    };
    expect(json).toMatchObject({ place: `store:${folder}`, snapshots: [{ action: 'keep' }, { action: 'delete' }] });
    const deleted = await succeed('prune', `store:${folder}`, '--keep-last', '1', '--yes');
    expect(deleted).toContain(`deleted 1 snapshot and ${json.unreferenced.count} blobs of`);
    expect(await succeed('prune', `store:${folder}`, '--keep-last', '1')).toContain('there is nothing to delete');
    await succeed('copy', `store:${folder}:${from}:v1`, `docker://${registry.host}/prune-store/back:v1`);
    const back = lab.view(registry, 'prune-store/back');
    expect((await back.resolve('v1')).digest).toBe(second.root.descriptor.digest);
  });

  test('refuses flags about images, additional places, and what is not a store', async () => {
    const folder = join(lab.folder, 'no-store');
    await mkdir(folder);
    const refused = async (...args: readonly string[]): Promise<string> => {
      const { code, stderr } = await transship('prune', ...args);
      expect(code).toBeGreaterThan(0);
      return stderr;
    };
    expect(await refused(`store:${folder}`)).toContain('there is no store at');
    expect(await refused(`store:${folder}`, '--keep-tags', 'v*')).toContain('keepTags chooses images');
    expect(await refused(`store:${folder}`, '--plan-out', 'x')).toContain('--plan-out is not for stores');
    expect(await refused(`store:${folder}`, `${registry.host}/x`)).toContain('stores are pruned alone');
    expect(await refused('./x/', '--grace-days', '3')).toContain('--grace-days is for stores');
    await writeFile(join(folder, 'transship-store.json'), '{"format":"transship-store","version":2}');
    expect(await refused(`store:${folder}`)).toMatch(/has the format 2 of stores.*install a newer Transship/);
    const theirs = join(lab.folder, 'layout');
    await succeed('copy', `${registry.host}/prune-store/app:v1`, `oci:${theirs}:v1`);
    const { code, stderr } = await transship('backup', `${registry.host}/prune-store/app`, `store:${theirs}`);
    expect({ code: code > 0, stderr }).toMatchObject({
      code: true,
      stderr: expect.stringContaining('is an OCI image layout of another program'),
    });
    expect(await readFile(join(theirs, 'index.json'), 'utf8')).toContain('"v1"');
  });
});

describe('prune of a store in S3', () => {
  test('keeps young snapshots, and index.json matches the remaining ones', async () => {
    const place = `store:s3://${bucket}/prune-store/`;
    const from = `${registry.host}/prune-store/s3`;
    await lab.push(await imageOf(3), registry, 'prune-store/s3');
    await succeed('backup', from, place);
    const { backends } = lab.session();
    const objects = backends.bucket(bucket);
    await objects.write('prune-store/index.json', Buffer.from('{"schemaVersion":2,"manifests":[]}'));
    await objects.write(`prune-store/blobs/sha256/${'0'.repeat(64)}`, Buffer.from('of a stopped backup'));
    const done = await succeed('prune', place, '--keep-daily', '7', '--yes');
    expect(done).toMatch(/unreferenced: 0 blobs of 0 B; unreferenced and too young to delete: 1 blob of 19 B/);
    expect(done).toContain('deleted 0 snapshots and 0 blobs of 0 B');
    const index = await Array.fromAsync(await objects.read('prune-store/index.json'));
    expect(Buffer.concat(index).toString()).toContain(`"${from}:v1"`);
  });
});
