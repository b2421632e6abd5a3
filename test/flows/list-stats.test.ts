import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { PlaceEntry } from '../../worker/images/place-entry.ts';
import { placeStats, type PlaceStats } from '../../worker/images/place-stats.ts';
import type { ObjectStore } from '../../worker/objects/objects.ts';
import { parsePlace } from '../../worker/oci/place.ts';
import { fakeClock } from '../support/clock.ts';
import { beforeWrites } from '../support/faulty-objects.ts';
import { openFiles } from '../../worker/objects/files/store.ts';
import { blobsOf, walk } from '../../worker/content/graph.ts';
import { commandLine } from '../support/command-line.ts';
import { makeImage, type MadeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { storeImages } from '../support/served.ts';

const lab = await openLab();
const { ecr, bucket, environment } = lab.stack;
afterAll(() => lab[Symbol.asyncDispose]());

/** Two images that share a layer: the first also under another tag. */
const one = await makeImage({ seed: 1, signed: true });
const two = await makeImage({ seed: 1, tag: 'v2', platforms: ['linux/amd64'] });
const alias: MadeImage = { ...one, root: { ...one.root, tags: ['latest'] } };

const transship = commandLine({ ...environment, HOME: lab.folder }, { columns: 200 });

async function jsonOf<T>(...args: readonly string[]): Promise<T> {
  const { code, stdout, stderr } = await transship(...args, '--json');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return JSON.parse(stdout) as T;
}

/** Bytes of all blobs of the image and of `others`, each blob once. */
async function bytesOf(referrers: boolean, ...images: readonly MadeImage[]): Promise<number> {
  const sizes = new Map<string, number>();
  for (const { content, root } of images) {
    const graph = await walk(content, [root], { referrers });
    for (const { descriptor } of graph.manifests.values()) sizes.set(descriptor.digest, descriptor.size);
    for (const { digest, size } of blobsOf(graph)) sizes.set(digest, size);
  }
  return [...sizes.values()].reduce((a, b) => a + b, 0);
}

async function inRegistry(base: string): Promise<string> {
  for (const image of [one, alias]) await lab.push(image, ecr, `${base}/app`);
  await lab.push(two, ecr, `${base}/other`);
  return `${ecr.registryHost}/${base}/*`;
}

async function inStore(): Promise<string> {
  const folder = await mkdtemp(join(lab.folder, 'store-'));
  const both: MadeImage = { ...one, root: { ...one.root, tags: ['v1', 'latest'] } };
  await storeImages(openFiles(folder), '', [
    { repository: 'app', image: both },
    { repository: 'other', image: two },
  ]);
  return `store:${folder}`;
}

test('list prints every tag of a registry with its digest', async () => {
  const place = await inRegistry('listed');
  const { code, stdout } = await transship('ls', place, '--digests');
  const lines = stdout.split('\n');
  expect(code).toBe(0);
  expect(lines[0]).toMatch(/^image +digest +pushed +size$/);
  expect(lines.slice(1, 4).map((line) => line.split(/ +/).slice(0, 2))).toEqual([
    ['listed/app:latest', one.root.descriptor.digest],
    ['listed/app:v1', one.root.descriptor.digest],
    ['listed/other:v2', two.root.descriptor.digest],
  ]);
  expect(stdout).toMatch(/\n3 images in 2 repositories\n$/);
});

test('list prints a store with hosts, sizes and referrers of images, as JSON too', async () => {
  const place = await inStore();
  const entries = await jsonOf<readonly PlaceEntry[]>('list', place, '--only', 'app:v*', '--referrers');
  expect(entries[0]).toMatchObject({
    registry: 'registry.example.com',
    repository: 'app',
    tag: 'v1',
    digest: one.root.descriptor.digest,
    size: await bytesOf(true, one),
  });
  expect(entries.filter(({ subject }) => subject !== undefined).length).toBeGreaterThan(2);
  expect((await transship('list', place)).stdout).toContain('registry.example.com/app:latest  sha256:');
});

test.each(['list', 'list --json', 'stats', 'snapshots show'])(
  '%s fails where --only matches nothing',
  async (words) => {
    const command = words.split(' ');
    const place = await inStore();
    const id = command.includes('show') ? ['latest'] : [];
    const { code, stdout, stderr } = await transship(...command, place, ...id, '--only', 'ap');
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/--only ap matches no image of /);
  },
);

test('list names the pattern that matches nothing', async () => {
  const { code, stderr } = await transship('list', `${ecr.registryHost}/nothing/*`);
  expect([code, stderr]).toEqual([1, expect.stringContaining('nothing/*')]);
});

test('stats counts the blobs of a store once, and the size of archives of the same images', async () => {
  const place = await inStore();
  const stats = await jsonOf<PlaceStats>('stats', place, '--days', '9999');
  const unique = await bytesOf(true, one, two);
  expect(stats).toMatchObject({ images: 2, tags: 3, uniqueBytes: unique, savedByStore: 0 });
  // the store also has the lists of referrers that other tools read
  expect(stats.storedBytes - unique).toSatisfy((more: number) => more >= 0 && more < 2000);
  expect(stats.archiveBytes).toBe(2 * (await bytesOf(true, one)) + (await bytesOf(true, two)));
  expect(stats.growth).toEqual([{ day: '2026-05-31', snapshots: 1, addedBytes: unique }]);
  expect(stats.repositories.map(({ repository, images, tags }) => [repository, images, tags])).toEqual([
    ['app', 1, 2],
    ['other', 1, 1],
  ]);
  // the shared layer, and the platform that both have
  expect(stats.shared.map(({ repositories }) => repositories)).toContain(2);
  const { stdout } = await transship('stats', place);
  expect(stdout).toMatch(/^images +2 with 3 tags in 2 repositories$/m);
  expect(stdout).toMatch(/^saved +\d/m);
});

test('stats reads each snapshot once, for its images and for the growth', async () => {
  const place = await inStore();
  const root = `${place.slice('store:'.length)}/`;
  const store = openFiles(root);
  const reads: string[] = [];
  const watched: ObjectStore = {
    ...beforeWrites(store, () => undefined),
    read: async (key, options) => {
      if (key.startsWith('snapshots/')) reads.push(key);
      return store.read(key, options);
    },
  };
  const { backends, options } = lab.session();
  const clock = fakeClock({ startMs: Date.UTC(2026, 5, 1) });
  const stats = await placeStats(parsePlace(place), { ...backends, folder: () => watched }, { ...options, clock });
  expect(stats.growth).toHaveLength(1);
  expect(reads).toHaveLength(1);
});

test('stats compares the size of a store with that of a registry, and of archives', async () => {
  const place = await inRegistry('counted');
  const unique = await bytesOf(false, one, two);
  const registry = await jsonOf<PlaceStats>('stats', place);
  expect(registry).toMatchObject({ images: 2, tags: 3, uniqueBytes: unique, unread: [] });
  expect(registry.savedByStore).toBe(registry.repositoryBytes - unique);
  expect(registry.savedByStore).toBeGreaterThan(0);

  expect((await transship('backup', place, `s3://${bucket}/counted/`)).code).toBe(0);
  const archives = await jsonOf<PlaceStats>('stats', `s3://${bucket}/counted/`);
  expect(archives).toMatchObject({ images: 2, tags: 3, uniqueBytes: await bytesOf(true, one, two) });
  // tars have headers
  expect(archives.storedBytes).toBeGreaterThan(archives.archiveBytes);
  expect(archives.savedByStore).toBe(archives.storedBytes - archives.uniqueBytes);
});
