import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { afterAll, describe, expect, onTestFinished, test } from 'vitest';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { backupToStore, type StoreBackupRequest, type StoreBackupResult } from '../../worker/images/backup-store.ts';
import type { Backends, OperationOptions } from '../../worker/images/backends.ts';
import { diffPlaces } from '../../worker/images/diff-places.ts';
import { diffSnapshots } from '../../worker/images/diff-snapshots.ts';
import type { BackupPlace } from '../../worker/images/open-backups.ts';
import { openStore } from '../../worker/images/open-place.ts';
import { isDerivedTag } from '../../worker/oci/derived-tag.ts';
import { algorithmOf, digestOf, type Digest } from '../../worker/oci/digest.ts';
import { parsePlace } from '../../worker/oci/place.ts';
import { expandImage, type ExpandedImage } from '../../worker/store/expanded.ts';
import { readState } from '../../worker/store/read-state.ts';
import type { Snapshot } from '../../worker/store/snapshot.ts';
import type { ImageStore } from '../../worker/store/store.ts';
import { replaceBackends } from '../support/backends.ts';
import { collect } from '../support/chunks.ts';
import { workClock } from '../support/clock.ts';
import { clientOf } from '../support/local-s3.ts';
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { corrupting, failing } from '../support/faulty-content.ts';
import { makeImage } from '../support/images.ts';
import { openLab, requestsDuring, sentenceOf } from '../support/lab.ts';
import { stockImage, stockRegistry, stockRepository } from '../support/stocked-registry.ts';

const lab = await openLab();
const { s3, bucket } = lab.stack;
afterAll(async () => lab[Symbol.asyncDispose]());

const ACCOUNT = '333333333333';
let runs = 0;

const IMMUTABLE = { tagMutability: 'IMMUTABLE', scanOnPush: true, tags: { team: 'web' } };
const stocked = lab.stack.ecr;
let stocking: Promise<unknown> | undefined;

/** The host of a registry that tests only read: the first of them fills it. */
async function stock(): Promise<string> {
  stocking ??= (async () => {
    const { backends } = lab.session();
    await backends.registry(stocked.registryHost, 'target').createRepository(stockRepository(1), IMMUTABLE);
    await stockRegistry(lab, stocked, { repositories: 5, tags: 2 });
  })();
  await stocking;
  return stocked.registryHost;
}

async function startEcr(): Promise<LocalRegistry> {
  return lab.registry({ mode: 'ecr', account: ACCOUNT, region: 'eu-central-1' });
}

/** A place for a store that no other test uses. */
function newPlace(): string {
  return `store:s3://${bucket}/${randomUUID()}/`;
}

async function run(
  from: string,
  to: string,
  more: Partial<StoreBackupRequest> = {},
  session: { readonly backends: Backends; readonly options: OperationOptions } = lab.session(),
): Promise<StoreBackupResult> {
  // snapshots are ordered by their times
  const options = { ...session.options, clock: workClock({ startMs: Date.UTC(2026, 0, 1, 0, runs++) }) };
  return backupToStore({ from, to, tool: 'transship test', ...more }, session.backends, options);
}

async function open(to: string): Promise<ImageStore> {
  const { backends, options } = lab.session();
  const [, name = '', prefix = ''] = /^store:s3:\/\/([^/]+)\/(.*)$/.exec(to) ?? [];
  return openStore({ bucket: name, prefix }, backends, options);
}

async function snapshotOf(to: string, { snapshot: name }: StoreBackupResult): Promise<Snapshot> {
  assert.ok(name !== undefined);
  const { snapshot } = await (await open(to)).snapshots.read(name);
  return snapshot;
}

/** Reads everything that the snapshot names. Returns its images by `repository:tag` or `repository@digest`. */
async function expectWhole(to: string, snapshot: Snapshot): Promise<ReadonlyMap<string, ExpandedImage>> {
  const store = await open(to);
  for (const { digest, size, mediaType = '' } of snapshot.content) {
    const bytes = await collect(await store.content.open({ digest, size, mediaType }));
    assert.equal(digestOf(bytes, algorithmOf(digest)), digest);
    assert.equal(bytes.byteLength, size);
  }
  const images = new Map<string, ExpandedImage>();
  for (const { name, images: all } of snapshot.repositories)
    for (const image of all)
      for (const tag of image.tags.length === 0 ? [`@${image.digest}`] : image.tags.map((one) => `:${one}`))
        images.set(`${name}${tag}`, expandImage(snapshot, image));
  return images;
}

/** Every tag and digest that ECR lists of a repository, except those of cosign. */
async function tagsOf(registry: LocalRegistry, repository: string): Promise<ReadonlyMap<string, Digest>> {
  const rows = lab.session().backends.registry(registry.registryHost, 'source').images?.(repository);
  const tags = new Map<string, Digest>();
  for await (const { digest, tags: own } of rows ?? [])
    for (const tag of own) if (!isDerivedTag(tag)) tags.set(`${repository}:${tag}`, digest);
  return tags;
}

/** Requests to the bucket while `work` runs, as `ListObjectsV2`, `PutObject blobs`. */
async function storageDuring(work: () => Promise<unknown>): Promise<Readonly<Record<string, number>>> {
  const from = s3.requests.length;
  await work();
  const counts: Record<string, number> = {};
  for (const { operation, key } of s3.requests.slice(from)) {
    const folder = /\/(blobs|snapshots|locks)\//.exec(key)?.[1];
    const kind = folder === undefined ? `${operation}` : `${operation} ${folder}`;
    counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return counts;
}

const ofBlobs = (counts: Readonly<Record<string, number>>): readonly string[] =>
  Object.keys(counts).filter((kind) => kind.endsWith(' blobs'));

describe('a backup of a whole registry of ECR', () => {
  test('stores every image, its referrers, and the settings, each blob once', async () => {
    const host = await stock();
    const place = newPlace();
    let result: StoreBackupResult | undefined;
    const reads = await requestsDuring(stocked, async () => (result = await run(host, place)));
    assert.ok(result !== undefined);
    expect(result.failures).toEqual([]);
    const snapshot = await snapshotOf(place, result);
    const images = await expectWhole(place, snapshot);
    for (const { name, complete } of snapshot.repositories) {
      expect(complete).toBe(true);
      for (const [tag, digest] of await tagsOf(stocked, name)) expect(images.get(tag)?.digest, tag).toBe(digest);
    }
    expect(snapshot.repositories.find(({ name }) => name === stockRepository(1))?.settings).toMatchObject(IMMUTABLE);
    expect(snapshot.registry).toMatchObject({
      host: stocked.registryHost,
      account: '111111111111',
      region: 'us-east-1',
    });
    expect(snapshot.registry.settings).toBeDefined();
    const signed = images.get(`${stockRepository(0)}:v1`);
    expect(signed?.referrers.map(({ tags }) => tags.length).sort()).toEqual([0, 0, 1]);
    // each blob is read once, although most are in every repository
    expect(reads['blob-get']).toBe(snapshot.content.filter(({ mediaType }) => mediaType === undefined).length);
    expect(result.added).toEqual({ blobs: snapshot.content.length, bytes: result.bytes });
    expect(result.imageBytes).toBeGreaterThan(1.5 * result.bytes);
  });

  test('lists the registry when nothing has changed, and requests no blob and no manifest', async () => {
    const host = await stock();
    const place = newPlace();
    const first = await run(host, place, { untagged: true });
    let second: StoreBackupResult | undefined;
    const from = stocked.requests.length;
    const storage = await storageDuring(async () => {
      second = await run(host, place, { untagged: true });
    });
    assert.ok(second !== undefined);
    const total = first.images.stored;
    expect(second.images).toEqual({ stored: 0, unchanged: total, archived: 0, failed: 0 });
    expect(second.added).toEqual({ blobs: 0, bytes: 0 });
    const operations = Map.groupBy(stocked.requests.slice(from), ({ kind, operation }) => operation ?? kind);
    expect(operations.get('DescribeImages')).toHaveLength(5);
    expect([...operations.keys()].filter((name) => /manifest|blob|tags|BatchGetImage/.test(name))).toEqual([]);
    expect(ofBlobs(storage)).toEqual([]);
    // one lists blobs; the others list snapshots and locks
    expect(storage['ListObjectsV2']).toBeLessThanOrEqual(8);
    const [one, two] = [await snapshotOf(place, first), await snapshotOf(place, second)];
    expect(two.repositories).toEqual(one.repositories);
    expect(two.content).toEqual(one.content);
  });

  test('sends only the bytes of images that changed', async () => {
    const ecr = await startEcr();
    await stockRegistry(lab, ecr, { repositories: 3, tags: 2 });
    const place = newPlace();
    await run(ecr.registryHost, place);
    const moved = stockImage({ repositories: 3, seed: 'moved', isIndex: true, isSigned: false, tag: 'v1' });
    await lab.push(moved, ecr, stockRepository(2));
    const reads = await requestsDuring(ecr, async () => {
      const result = await run(ecr.registryHost, place);
      expect(result.images).toEqual({ stored: 1, unchanged: 5, archived: 0, failed: 0 });
      // an index, two manifests, their configs and their own layers
      expect(result.added.blobs).toBe(7);
      const images = await expectWhole(place, await snapshotOf(place, result));
      expect(images.get(`${stockRepository(2)}:v1`)?.digest).toBe(moved.root.descriptor.digest);
    });
    expect(reads['blob-get']).toBe(4);
  });

  test('stores a signature, by subject or by tag, that was added to an image since', async () => {
    const ecr = await startEcr();
    const parts = { repositories: 1, seed: 'later', isIndex: true, tag: 'v1' };
    await lab.push(stockImage({ ...parts, isSigned: false }), ecr, 'signed/later');
    const place = newPlace();
    await run(ecr.registryHost, place);
    await lab.push(stockImage({ ...parts, isSigned: true }), ecr, 'signed/later');
    const result = await run(ecr.registryHost, place);
    expect(result.images).toMatchObject({ stored: 1, unchanged: 0 });
    const images = await expectWhole(place, await snapshotOf(place, result));
    expect(images.get('signed/later:v1')?.referrers).toHaveLength(3);
    expect((await run(ecr.registryHost, place)).images).toMatchObject({ stored: 0, unchanged: 1 });
  });

  test('stores untagged images on request, but none that belong to others', async () => {
    const host = await stock();
    const place = newPlace();
    const snapshot = await snapshotOf(place, await run(host, place, { untagged: true }));
    expect(snapshot.scope.untagged).toBe(true);
    await expectWhole(place, snapshot);
    const untagged = snapshot.repositories.map(({ images }) => images.filter(({ tags }) => tags.length === 0).length);
    expect(untagged).toEqual([1, 0, 1, 1, 1]);
    const tagged = await snapshotOf(place, await run(host, place));
    expect(tagged.repositories.flatMap(({ images }) => images.filter(({ tags }) => tags.length === 0))).toEqual([]);
  });

  test('lists an archived image without its content, with its content where the store has it, and restores it on request', async () => {
    const ecr = await startEcr();
    await stockRegistry(lab, ecr, { repositories: 2, tags: 2 });
    const { storageClasses } = lab.session().backends.registry(ecr.registryHost, 'source');
    const repository = stockRepository(1);
    const digest = (await tagsOf(ecr, repository)).get(`${repository}:v1`);
    assert.ok(digest !== undefined && storageClasses !== undefined);
    const known = newPlace();
    await run(ecr.registryHost, known);
    await storageClasses.moveToStorageClass(repository, digest, 'ARCHIVE');
    const place = newPlace();
    const imageIn = async (where: string, result: StoreBackupResult): Promise<ExpandedImage | undefined> =>
      (await expectWhole(where, await snapshotOf(where, result))).get(`${repository}:v1`);
    const listed = await run(ecr.registryHost, place);
    expect(listed.images).toMatchObject({ stored: 3, archived: 1, failed: 0 });
    expect(await imageIn(place, listed)).toMatchObject({ digest, archived: true, content: [] });
    const held = await run(ecr.registryHost, known);
    expect(held.images).toMatchObject({ unchanged: 4, archived: 0 });
    expect((await imageIn(known, held))?.content).not.toEqual([]);
    const restored = await run(ecr.registryHost, place, { includeArchived: true });
    expect(restored.images).toEqual({ stored: 1, unchanged: 3, archived: 0, failed: 0 });
    expect((await imageIn(place, restored))?.content).not.toEqual([]);
    expect((await storageClasses.imageStatuses(repository, [digest])).get(digest)).toBe('ARCHIVED');
  });

  test('stores a cosign tag whose image is gone as an image of its own', async () => {
    const ecr = await startEcr();
    const [gone, kept] = [await makeImage({ seed: 41, tag: 'gone' }), await makeImage({ seed: 42 })];
    await lab.push(kept, ecr, 'orphans');
    const tag = `${gone.root.descriptor.digest.replace(':', '-')}.sig`;
    await lab.push({ ...gone, root: { ...gone.root, tags: [tag] } }, ecr, 'orphans');
    const place = newPlace();
    const images = await expectWhole(place, await snapshotOf(place, await run(ecr.registryHost, place)));
    expect([...images.keys()].sort()).toEqual([`orphans:${tag}`, 'orphans:v1']);
  });

  test('leaves out no tag that only resembles the tag of a list of referrers', async () => {
    const registry = await lab.registry({ mode: 'oci' });
    const [kept, other, own, gone] = [
      await makeImage({ seed: 43 }),
      await makeImage({ seed: 44 }),
      await makeImage({ seed: 45 }),
      await makeImage({ seed: 46 }),
    ];
    await lab.push(kept, registry, 'app');
    const tagOf = ({ root }: typeof kept): string => root.descriptor.digest.replace(':', '-');
    const wrong = tagOf(gone);
    await lab.push({ ...other, root: { ...other.root, tags: [wrong] } }, registry, 'app');
    // the image of v1 by another name is counted once
    await lab.push({ ...kept, root: { ...kept.root, tags: [`${wrong}.sig`] } }, registry, 'app');
    const byDigest = tagOf(own);
    await lab.push({ ...own, root: { ...own.root, tags: [byDigest] } }, registry, 'app');
    const place = newPlace();
    const result = await run(`${registry.registryHost}/*`, place);
    const images = await expectWhole(place, await snapshotOf(place, result));
    expect([...images.keys()].sort()).toEqual([`app:${wrong}`, `app:${wrong}.sig`, `app:${byDigest}`, 'app:v1'].sort());
    expect(result.images).toEqual({ stored: 3, unchanged: 0, archived: 0, failed: 0 });
    const { backends, options } = lab.session();
    const [a, b] = [parsePlace(`${registry.registryHost}/*`), parsePlace(place)];
    const diff = await diffPlaces({ a: { place: a }, b: { place: b } }, backends, options);
    expect(diff).toMatchObject({ equal: 1, differences: [] });
    const now = await diffSnapshots({ place: b as BackupPlace, a: 'latest', b: 'now' }, backends, options);
    expect(now).toMatchObject({ changes: [], same: 1 });
  });

  test('reports in a dry run what it would send, and writes nothing', async () => {
    const host = await stock();
    const place = newPlace();
    let planned: StoreBackupResult | undefined;
    const storage = await storageDuring(async () => (planned = await run(host, place, { dryRun: true })));
    expect(Object.keys(storage).filter((kind) => /^(?:Put|Create|Upload|Complete)/.test(kind))).toEqual([]);
    const done = await run(host, place);
    expect(planned).toMatchObject({ images: done.images, added: done.added, bytes: done.bytes });
    expect(planned?.snapshot).toBeUndefined();
  });
});

describe('a backup of another registry', () => {
  test.each([true, false])(
    'with a referrers API: %s, requests nothing from the store for unchanged images',
    async (referrersApi) => {
      const registry = await lab.registry({ mode: 'oci', referrersApi });
      await stockRegistry(lab, registry, { repositories: 2, tags: 2 });
      const place = newPlace();
      const first = await run(`${registry.registryHost}/*`, place);
      expect(first.failures).toEqual([]);
      const images = await expectWhole(place, await snapshotOf(place, first));
      expect(images.get(`${stockRepository(0)}:v0`)?.referrers).toHaveLength(3);
      let second: StoreBackupResult | undefined;
      const storage = await storageDuring(async () => (second = await run(`${registry.registryHost}/*`, place)));
      expect(second?.images).toEqual({ stored: 0, unchanged: first.images.stored, archived: 0, failed: 0 });
      expect(ofBlobs(storage)).toEqual([]);
    },
  );

  test('without a referrers API, is asked once for each tag, and for no tag that it does not list', async () => {
    const registry = await lab.registry({ mode: 'oci', referrersApi: false });
    for (const seed of [45, 46, 47]) await lab.push(await makeImage({ seed, tag: `v${seed}` }), registry, 'plain/app');
    const place = newPlace();
    const from = `${registry.registryHost}/plain/app`;
    const plain = await run(from, place);
    expect(plain.images).toMatchObject({ stored: 3 });
    const asked = await requestsDuring(registry, async () => void (await run(from, place)));
    expect(asked).toEqual({ 'tags-list': 2, 'manifest-head': 3, 'referrers-list': 1 });
  });

  test('of tags by a pattern, or of one tag, leaves the others out of the snapshot', async () => {
    const registry = await lab.registry({ mode: 'oci' });
    await stockRegistry(lab, registry, { repositories: 2, tags: 3 });
    const place = newPlace();
    const some = await snapshotOf(place, await run(`${registry.registryHost}/team/*:v{1,2}`, place));
    expect(some.scope).toMatchObject({ repositories: 'team/*', tags: 'v{1,2}', listed: true });
    expect(some.repositories.map(({ images }) => images.flatMap(({ tags }) => tags))).toEqual([
      ['v1', 'v2'],
      ['v1', 'v2'],
    ]);
    const one = await snapshotOf(place, await run(`${registry.registryHost}/${stockRepository(1)}:v0`, place));
    expect(one.repositories).toMatchObject([{ name: stockRepository(1), complete: false, images: [{ tags: ['v0'] }] }]);
    expect(one.scope.listed).toBe(false);
  });

  test('of one platform stores an index of that platform', async () => {
    const registry = await lab.registry({ mode: 'oci' });
    await lab.push(await makeImage({ seed: 51 }), registry, 'platforms/app');
    const place = newPlace();
    const result = await run(`${registry.registryHost}/platforms/app`, place, { platforms: ['linux/arm64'] });
    const images = await expectWhole(place, await snapshotOf(place, result));
    const manifests = images.get('platforms/app:v1')?.content.filter(({ mediaType }) => mediaType !== undefined);
    expect(manifests).toHaveLength(2);
  });
});

describe('a backup of a registry that is not well', () => {
  test('passes over a repository that is listed and missing, and keeps what older snapshots have of it', async () => {
    const registry = await lab.registry({ mode: 'oci' });
    await stockRegistry(lab, registry, { repositories: 2, tags: 1 });
    const gone = stockRepository(1);
    const place = newPlace();
    await run(`${registry.registryHost}/*`, place);
    const session = lab.session();
    const backends = replaceBackends(session.backends, {
      repository: (inner, _, name) => (name === gone ? failing(inner, { tags: [1, 'NOT_FOUND'] }) : inner),
    });
    const warnings: string[] = [];
    const report: OperationOptions['report'] = (event) => event.type === 'warning' && warnings.push(event.message);
    const options = { ...session.options, report };
    const result = await run(`${registry.registryHost}/*`, place, {}, { backends, options });
    expect(result.failures).toEqual([]);
    expect(warnings).toContainEqual(expect.stringMatching(new RegExp(`${gone}: it is listed and not there`)));
    expect((await snapshotOf(place, result)).repositories.map(({ complete }) => complete)).toEqual([true, false]);
    const state = await readState((await open(place)).snapshots);
    expect(state.repositories.map(({ name, images }) => [name, images.length])).toEqual([
      [stockRepository(0), 1],
      [gone, 1],
    ]);
    // one that was requested by name is a failure
    await expect(run(`${registry.registryHost}/no/such`, place)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test('continues without an image that is broken and a repository that cannot be listed, and names them', async () => {
    const registry = await lab.registry({ mode: 'oci' });
    await stockRegistry(lab, registry, { repositories: 3, tags: 2 });
    const [first, second] = [stockRepository(0), stockRepository(1)];
    const broken = await lab.view(registry, first).resolve('v1');
    const session = lab.session();
    const backends = replaceBackends(session.backends, {
      repository: (inner, _, name) =>
        name === second
          ? failing(inner, { tags: [1, 'DENIED'] })
          : name === first
            ? corrupting(inner, broken.digest)
            : inner,
    });
    const place = newPlace();
    const result = await run(`${registry.registryHost}/*`, place, {}, { ...session, backends });
    const snapshot = await snapshotOf(place, result);
    expect(result.failures).toMatchObject([
      { repository: first, tag: 'v1', digest: broken.digest },
      { repository: second },
    ]);
    expect(snapshot.repositories.map(({ name, complete, images }) => [name, complete, images.length])).toEqual([
      // with the signature of the failed image, which a cosign tag names
      [first, true, 2],
      [second, false, 0],
      [stockRepository(2), true, 2],
    ]);
    await expectWhole(place, snapshot);
  });

  test.each([
    ['oci-archive:x', 'INVALID', /is not a store/],
    ['store:', 'INVALID', /a store is store:s3:\/\/bucket\/prefix\/ or store:folder/],
    ['store:s3://x', 'INVALID', /expected s3:\/\/bucket\/key/],
  ] as const)('into %s is refused', async (to, code, sentence) => {
    expect(await sentenceOf(run('127.0.0.1:1/*', to), code)).toMatch(sentence);
  });
});

test('a store whose blobs a lifecycle rule moved to GLACIER is refused, with advice', async () => {
  const place = newPlace();
  const ecr = await startEcr();
  await lab.push(await makeImage({ seed: 901, tag: 'v1' }), ecr, 'app');
  await run(`${ecr.registryHost}/*`, place);
  const prefix = place.slice(`store:s3://${bucket}/`.length);
  const [blob] = await Array.fromAsync(lab.session().backends.bucket(bucket).list(`${prefix}blobs/`));
  assert.ok(blob !== undefined);
  const client = clientOf(s3);
  onTestFinished(() => client.destroy());
  await client.send(new PutObjectCommand({ Bucket: bucket, Key: blob.key, Body: 'moved', StorageClass: 'GLACIER' }));
  const sentence = await sentenceOf(run(`${ecr.registryHost}/*`, place), 'UNSUPPORTED');
  expect(sentence).toContain(`${place} has blobs that no restore can read (1 in GLACIER): take the store out of`);
});
