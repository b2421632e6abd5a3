import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { backup, type BackupRequest, type BackupResult } from '../../worker/images/backup.ts';
import { backupToStore } from '../../worker/images/backup-store.ts';
import { systemClock } from '../../worker/util/clock.ts';
import { openSnapshots } from '../../worker/store/snapshots.ts';
import type { Snapshot, SnapshotImage } from '../../worker/store/snapshot.ts';
import { Failure } from '../../worker/util/failure.ts';
import { openImage } from '../../worker/archive/reader.ts';
import { replaceBackends } from '../support/backends.ts';
import { workClock } from '../support/clock.ts';
import { corrupting } from '../support/faulty-content.ts';
import { beforeWrites } from '../support/faulty-objects.ts';
import { makeImage } from '../support/images.ts';
import { openLab, sentenceOf } from '../support/lab.ts';
import { expectSameImage } from '../support/same-image.ts';

const lab = await openLab();
const { ecr, registry, bucket } = lab.stack;
afterAll(async () => lab[Symbol.asyncDispose]());

let runs = 0;

async function run(r: Pick<BackupRequest, 'from' | 'to'> & Partial<BackupRequest>): Promise<BackupResult> {
  const { backends, options } = lab.session();
  const clock = workClock({ startMs: Date.UTC(2026, 0, 1, 0, runs++) });
  return backup({ snapshotBy: 'transship test', ...r }, backends, { ...options, clock });
}

async function snapshotBelow(prefix: string, { snapshot: name }: BackupResult): Promise<Snapshot> {
  assert.ok(name !== undefined);
  const { snapshot } = await openSnapshots({ store: lab.session().backends.bucket(bucket), prefix }).read(name);
  return snapshot;
}

test('a backup into archives ends with a snapshot that lists each image with its object, including unchanged ones', async () => {
  const [image, other] = [await makeImage({ signed: true, seed: 61 }), await makeImage({ seed: 62, tag: 'v2' })];
  await lab.push(image, ecr, 'listed/app');
  await lab.push(other, ecr, 'listed/app');
  const r = { from: `${ecr.registryHost}/listed/*`, to: `s3://${bucket}/listed/` };
  const first = await snapshotBelow('listed/', await run(r));
  expect(first).toMatchObject({
    kind: 'archives',
    tool: 'transship test',
    registry: { host: ecr.registryHost, account: '111111111111', region: 'us-east-1' },
    scope: { repositories: 'listed/*', listed: true, untagged: false, referrers: true },
    failures: [],
    added: { blobs: 2 },
  });
  const [repository] = first.repositories;
  expect(repository).toMatchObject({ name: 'listed/app', complete: true, settings: expect.any(Object) });
  const [v1, v2] = repository?.images ?? [];
  expect(v1).toMatchObject({ tags: ['v1'], digest: image.root.descriptor.digest, pushedAt: expect.any(String) });
  expect(v1?.referrers).toHaveLength(5);
  expect(v2?.referrers).toEqual([]);
  const store = lab.session().backends.bucket(bucket);
  const key = 'listed/us-east-1/listed/app/v1.tar';
  const { size, etag, version } = await store.stat(key);
  expect(v1?.archives).toEqual([{ tag: 'v1', key, size, etag, version }]);
  const second = await snapshotBelow('listed/', await run(r));
  expect(second.added).toEqual({ blobs: 0, bytes: 0 });
  expect(second.repositories).toEqual(first.repositories);
});

test('a backup of one tag writes a small snapshot, or none when none is requested', async () => {
  await lab.push(await makeImage({ seed: 63 }), registry, 'small/app');
  const r = { from: `${registry.registryHost}/small/app:v1`, to: `s3://${bucket}/small/{repository}/{tag}.tar` };
  expect((await run({ ...r, snapshotBy: undefined })).snapshot).toBeUndefined();
  expect((await run({ ...r, dryRun: true })).snapshot).toBeUndefined();
  const snapshot = await snapshotBelow('small/', await run(r));
  expect(snapshot.scope).toMatchObject({ repositories: 'small/app', tags: 'v1', listed: false });
  expect(snapshot.repositories).toMatchObject([{ name: 'small/app', complete: false, images: [{ tags: ['v1'] }] }]);
});

test('a backup of which every image fails writes no snapshot', async () => {
  await lab.push(await makeImage({ seed: 68 }), registry, 'fruitless/app');
  const { snapshot, items } = await run({
    from: `${registry.registryHost}/fruitless/app:v9`,
    to: `s3://${bucket}/fruitless/{tag}.tar`,
  });
  expect(items).toMatchObject([{ outcome: 'failed' }]);
  expect(snapshot).toBeUndefined();
});

test('a backup whose snapshot cannot be written keeps its archives, and reports the fault', async () => {
  await lab.push(await makeImage({ seed: 69 }), registry, 'unlisted/app');
  const { backends, options } = lab.session();
  const refusing = replaceBackends(backends, {
    bucket: (store) =>
      beforeWrites(store, (key) => {
        if (key.includes('/snapshots/')) throw new Failure('DENIED', 'write: no');
      }),
  });
  const { items, faults, snapshot } = await backup(
    {
      from: `${registry.registryHost}/unlisted/app:v1`,
      to: `s3://${bucket}/unlisted/{tag}.tar`,
      snapshotBy: 'transship test',
    },
    refusing,
    options,
  );
  expect(items).toMatchObject([{ outcome: 'copied' }]);
  expect(faults).toEqual([expect.stringContaining('no snapshot was written')]);
  expect(snapshot).toBeUndefined();
});

test('a backup into files keeps its snapshots in the folder, with keys relative to it', async () => {
  await lab.push(await makeImage({ seed: 64 }), registry, 'infiles/app');
  const folder = join(lab.folder, 'infiles');
  const { snapshot: name } = await run({
    from: `${registry.registryHost}/infiles/*`,
    to: `oci-archive:${folder}/{repository}/{tag}.tar`,
  });
  expect((await readdir(folder)).sort()).toEqual(['infiles', 'snapshots']);
  assert.ok(name !== undefined);
  const store = lab.session().backends.folder(folder);
  const { snapshot } = await openSnapshots({ store, prefix: '' }).read(name);
  const key = snapshot.repositories[0]?.images[0]?.archives?.[0]?.key;
  expect(key).toBe('infiles/app/v1.tar');
});

test('a backup that fails for one image names it in the snapshot, with the others', async () => {
  const [good, bad] = [await makeImage({ seed: 65 }), await makeImage({ seed: 66, tag: 'v2' })];
  await lab.push(good, registry, 'half/app');
  await lab.push(bad, registry, 'half/app');
  const { backends, options } = lab.session();
  const broken = replaceBackends(backends, { repository: (inner) => corrupting(inner, bad.root.descriptor.digest) });
  const result = await backup(
    { from: `${registry.registryHost}/half/*`, to: `s3://${bucket}/half/{repository}/{tag}.tar`, snapshotBy: 'test' },
    broken,
    { ...options, clock: workClock() },
  );
  expect(result.items.map(({ outcome }) => outcome).sort()).toEqual(['copied', 'failed']);
  const snapshot = await snapshotBelow('half/', result);
  expect(snapshot.failures).toMatchObject([{ repository: 'half/app', tag: 'v2', reason: expect.any(String) }]);
  expect(snapshot.repositories).toMatchObject([{ complete: true, images: [{ tags: ['v1'] }] }]);
});

test('with archived images included each is restored, copied and archived again, and only when it changed', async () => {
  const own = await lab.registry({ mode: 'ecr', account: '444444444444', region: 'eu-west-3' });
  const [warm, cold] = [
    await makeImage({ seed: 78 }),
    await makeImage({ seed: 79, tag: 'cold', platforms: ['linux/amd64'], signed: true }),
  ];
  for (const image of [warm, cold]) await lab.push(image, own, 'frozen/app');
  const { storageClasses } = lab.session().backends.registry(own.registryHost, 'source');
  const { digest } = cold.root.descriptor;
  await storageClasses?.moveToStorageClass('frozen/app', digest, 'ARCHIVE');
  const statusOf = async (): Promise<string | undefined> =>
    (await storageClasses?.imageStatuses('frozen/app', [digest]))?.get(digest);
  const r = { from: `${own.registryHost}/frozen/*`, to: `s3://${bucket}/frozen/`, includeArchived: true };
  const outcomesOf = (result: BackupResult): readonly string[] => result.items.map(({ outcome }) => outcome);
  const imageIn = async (result: BackupResult): Promise<SnapshotImage | undefined> =>
    (await snapshotBelow('frozen/', result)).repositories[0]?.images.find(({ tags }) => tags.includes('cold'));
  const movesDuring = async (request: Partial<BackupRequest> & typeof r): Promise<[number, BackupResult]> => {
    let moves = 0;
    const { backends, options } = lab.session();
    const counting = replaceBackends(backends, {
      storageClasses: (inner) => ({
        imageStatuses: async (...args) => inner.imageStatuses(...args),
        moveToStorageClass: async (...args) => {
          moves++;
          return inner.moveToStorageClass(...args);
        },
      }),
    });
    const clock = workClock({ startMs: Date.UTC(2026, 0, 1, 0, runs++) });
    const result = await backup({ snapshotBy: 'test', ...request }, counting, { ...options, clock });
    return [moves, result];
  };

  const [first, copied] = await movesDuring(r);
  expect([first, outcomesOf(copied)]).toEqual([2, ['copied', 'copied']]);
  expect(await statusOf()).toBe('ARCHIVED');
  const listed = await imageIn(copied);
  expect(listed).toMatchObject({ digest, archives: [{ tag: 'cold' }] });
  expect(listed?.archived).toBeUndefined();
  await using archive = await openImage(lab.session().backends.bucket(bucket), 'frozen/eu-west-3/frozen/app/cold.tar');
  await expectSameImage(cold.content, archive, cold.root);

  const [second, unchanged] = await movesDuring(r);
  expect([second, outcomesOf(unchanged)]).toEqual([0, ['unchanged', 'unchanged']]);
  expect(await imageIn(unchanged)).toEqual(listed);

  const tag = `${digest.replace(':', '-')}.att`;
  await lab.push(await makeImage({ seed: 80, tag, layers: [50] }), own, 'frozen/app');
  const [third, signed] = await movesDuring({ ...r, from: `${own.registryHost}/frozen/app:cold` });
  expect([third, outcomesOf(signed)]).toEqual([2, ['copied']]);
  expect((await imageIn(signed))?.referrers.length).toBe((listed?.referrers.length ?? 0) + 1);
  expect(await statusOf()).toBe('ARCHIVED');
});

test('unreadable settings are a failure of their repository, also where none are written beside its archives', async () => {
  const [one, two] = [await makeImage({ seed: 75 }), await makeImage({ seed: 76 })];
  await lab.push(one, ecr, 'unread-a');
  await lab.push(two, ecr, 'unread-b');
  const { backends, options } = lab.session();
  const failing = replaceBackends(backends, {
    settings: async (repository, inner) => {
      if (repository === 'unread-a') return inner.settings(repository);
      throw new Failure('UNAVAILABLE', 'GetLifecyclePolicy: no answer');
    },
  });
  // one place for the settings of both
  const to = `s3://${bucket}/unread/{repository}_{tag}.tar`;
  const request = { from: `${ecr.registryHost}/unread-*`, to, snapshotBy: 'test' };
  const result = await backup(request, failing, { ...options, clock: workClock() });
  const { failures } = await snapshotBelow('unread/', result);
  expect(failures).toContainEqual({
    repository: 'unread-b',
    reason: expect.stringMatching(/^settings of unread-b were not backed up: .*no answer/),
  });
});

test('archives are not written into a store', async () => {
  await lab.push(await makeImage({ seed: 77 }), registry, 'mixed/app');
  const { backends, options } = lab.session();
  const from = `${registry.registryHost}/mixed/app:v1`;
  await backupToStore({ from, to: `store:s3://${bucket}/mixed/`, tool: 'test' }, backends, {
    ...options,
    clock: systemClock,
  });
  expect(await sentenceOf(run({ from, to: `s3://${bucket}/mixed/{tag}.tar` }), 'INVALID')).toMatch(
    /is in a store: write store:s3:.*\/mixed\/ to back up into it/,
  );
});

test('a backup of a whole ECR registry includes untagged images, and lists archived ones', async () => {
  const own = await lab.registry({ mode: 'ecr', account: '333333333333', region: 'eu-central-1' });
  const [old, now, cold] = await Promise.all([
    makeImage({ seed: 67 }),
    makeImage({ seed: 68, signed: true }),
    makeImage({ seed: 69, tag: 'cold', platforms: ['linux/amd64'] }),
  ]);
  for (const image of [old, now, cold]) await lab.push(image, own, 'whole/app');
  const { storageClasses } = lab.session().backends.registry(own.registryHost, 'source');
  await storageClasses?.moveToStorageClass('whole/app', cold.root.descriptor.digest, 'ARCHIVE');
  const result = await run({ from: own.registryHost, to: `s3://${bucket}/whole/`, untagged: true });
  expect(result.items.map(({ outcome }) => outcome)).toEqual(['copied', 'copied']);
  const snapshot = await snapshotBelow('whole/', result);
  const images = snapshot.repositories[0]?.images ?? [];
  expect(images.map(({ tags, archived }) => [tags, archived])).toEqual([
    [['cold'], true],
    [['v1'], undefined],
    [[], undefined],
  ]);
  expect(snapshot.registry.settings).toBeDefined();
  const key = images[2]?.archives?.[0]?.key ?? '';
  expect(key).toMatch(/^whole\/eu-central-1\/whole\/app\/sha256-[0-9a-f]{64}\.tar$/);
  await using archive = await openImage(lab.session().backends.bucket(bucket), key);
  await expectSameImage(old.content, archive, { ...old.root, tags: [] });
});
