import { generateKeyPairSync } from 'node:crypto';
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { blobPath } from '../../worker/archive/plan.ts';
import { blobsOf, walk } from '../../worker/content/graph.ts';
import { openStore } from '../../worker/images/open-place.ts';
import { backupToStore } from '../../worker/images/backup-store.ts';
import { sampleOf } from '../../worker/util/sample.ts';
import { verifyPlace } from '../../worker/images/verify.ts';
import type { PlaceRequest, PlaceResult } from '../../worker/images/verify-result.ts';
import type { Descriptor } from '../../worker/oci/manifest.ts';
import { parsePlace } from '../../worker/oci/place.ts';
import { openSnapshots } from '../../worker/store/snapshots.ts';
import { systemClock } from '../../worker/util/clock.ts';
import { collect } from '../support/chunks.ts';
import { backedUpToStore } from '../support/backed-up.ts';
import { makeImage, type MadeImage } from '../support/images.ts';
import { failureOf, openLab, requestsDuring, type Session } from '../support/lab.ts';
import { makeSnapshot, snapshotImage, SNAPSHOT_FACTS } from '../support/snapshots.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, registry, bucket } = lab.stack;

async function run(
  at: string,
  choices: Omit<PlaceRequest, 'place'> = {},
  { backends, options }: Session = lab.session(),
): Promise<PlaceResult> {
  return verifyPlace({ place: parsePlace(at), ...choices }, backends, options);
}

const kinds = ({ findings }: PlaceResult): readonly string[] => findings.map(({ kind }) => kind);

/** An image of 800 bytes. */
async function small(seed: number, tag = 'v1'): Promise<MadeImage> {
  const image = await makeImage({ seed, platforms: ['linux/amd64'], layers: [800] });
  return { ...image, root: { ...image.root, tags: [tag] } };
}

async function blobsIn(image: MadeImage): Promise<readonly Descriptor[]> {
  return blobsOf(await walk(image.content, [image.root])).toSorted((a, b) => b.size - a.size);
}

async function largestOf(image: MadeImage): Promise<Descriptor> {
  const [largest] = await blobsIn(image);
  if (largest === undefined) throw new Error('the image has no blobs');
  return largest;
}

async function flip(file: string, at: number): Promise<void> {
  const bytes = await readFile(file);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  await writeFile(file, bytes);
}

describe('verify of a store', () => {
  /** A store in a folder, with two images that were backed up into it. */
  async function stored(name: string): Promise<{ folder: string; at: string; images: readonly MadeImage[] }> {
    const images = [await small(1, 'v1'), await small(2, 'v2')];
    for (const image of images) await lab.push(image, ecr, `${name}/app`);
    const folder = join(lab.folder, name);
    await backedUpToStore(`${ecr.registryHost}/${name}/*`, `store:${folder}`, lab.session());
    return { folder, at: `store:${folder}`, images };
  }

  async function snapshotFile(folder: string): Promise<string> {
    const name = (await readdir(join(folder, 'snapshots'))).find((one) => one.endsWith('.zst'));
    return join(folder, 'snapshots', name ?? '');
  }

  test('of one snapshot counts and reads the blobs that it names, and no others', async () => {
    const { at } = await stored('store-one-snapshot');
    await lab.push(await small(3, 'v3'), ecr, 'store-one-snapshot/app');
    const id = await backedUpToStore(`${ecr.registryHost}/store-one-snapshot/app:v3`, at, lab.session());
    const all = await run(at, { depth: 'bytes' });
    for (const depth of ['bytes', 'blobs'] as const) {
      const { blobs, names, findings } = await run(at, { depth, snapshot: id });
      // a manifest, a config and layers of one platform
      expect({ names, findings }).toEqual({ names: { checked: 1, of: 1 }, findings: [] });
      expect(blobs?.checked).toBe(blobs?.of);
      expect(blobs?.of).toBeLessThan(all.blobs?.of ?? 0);
    }
  });

  test('finds it whole, reads each blob once, and claims no more than its depth proves', async () => {
    const { at, folder } = await stored('store-whole');
    const result = await run(at, { depth: 'bytes' });
    expect(result).toMatchObject({ findings: [], unchecked: [], complete: true });
    const files = await readdir(join(folder, 'blobs/sha256'));
    expect(result).toMatchObject({
      names: { checked: 2, of: 2 },
      blobs: { checked: files.length, of: files.length },
      snapshots: { checked: 1, of: 1 },
    });
    expect(result.hashedBytes).toBeGreaterThan(1600);
    for (const depth of ['tags', 'blobs'] as const)
      expect(await run(at, { depth })).toMatchObject({ findings: [], hashedBytes: 0, complete: false });
  });

  test('finds a flipped bit where bytes are read', async () => {
    const { at, folder, images } = await stored('store-flipped');
    const { digest } = await largestOf(images[0] ?? (await small(1)));
    await flip(join(folder, blobPath(digest)), 300);
    expect(kinds(await run(at, { depth: 'blobs' }))).toEqual([]);
    const { findings } = await run(at, { depth: 'bytes' });
    expect(findings).toEqual([{ kind: 'faulty', at: digest, message: expect.stringContaining('has other bytes') }]);
  });

  test('finds a missing blob and a truncated one, and names the images that need them', async () => {
    const { at, folder, images } = await stored('store-missing');
    const [first, second] = await Promise.all(images.map(largestOf));
    await rm(join(folder, blobPath(first?.digest ?? 'sha256:')));
    await writeFile(join(folder, blobPath(second?.digest ?? 'sha256:')), 'cut');
    const { findings } = await run(at);
    expect(findings).toEqual([
      {
        kind: 'missing',
        at: `${ecr.registryHost}/store-missing/app:v1`,
        message: `${first?.digest} (${first?.size} bytes) is missing`,
      },
      {
        kind: 'faulty',
        at: `${ecr.registryHost}/store-missing/app:v2`,
        message: `${second?.digest} has 3 bytes, not ${second?.size}`,
      },
    ]);
  });

  test('finds what is missing for an older snapshot only', async () => {
    const { at, folder, images } = await stored('store-older');
    const gone = images[1] ?? (await small(2));
    const lost = await largestOf(gone);
    const { deletions } = lab.session().backends;
    await deletions.images(ecr.registryHost, 'store-older/app').deleteImages([gone.root.descriptor.digest]);
    const session = lab.session();
    const clock = { ...systemClock, now: () => systemClock.now() + 60_000 };
    const request = { from: `${ecr.registryHost}/store-older/*`, to: at, tool: 'test' };
    await backupToStore(request, session.backends, { ...session.options, clock });
    expect(kinds(await run(at))).toEqual([]);
    await rm(join(folder, blobPath(lost.digest)));
    const { findings } = await run(at);
    expect(findings).toEqual([
      { kind: 'missing', at: expect.stringMatching(/^snapshots\//), message: expect.stringContaining(lost.digest) },
    ]);
  });

  test('finds an edited snapshot, and one that was renamed', async () => {
    const { at, folder } = await stored('store-edited');
    const file = await snapshotFile(folder);
    await flip(file, 40);
    const { findings } = await run(at);
    expect(findings).toMatchObject([{ kind: 'snapshot', at: expect.stringMatching(/^snapshots\/.*zst$/) }]);
    await flip(file, 40);
    await rename(file, file.replace(/\d{8}T/, '20200101T'));
    expect((await run(at)).findings).toMatchObject([{ kind: 'snapshot', message: expect.stringContaining('renamed') }]);
  });

  test('finds a snapshot that is not signed by the key that must have signed it', async () => {
    const { at } = await stored('store-unsigned');
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const file = join(lab.folder, 'key.pem');
    await writeFile(file, publicKey.export({ type: 'spki', format: 'pem' }));
    const { findings } = await run(at, {}, lab.session({ snapshotKeys: { verifyKey: file } }));
    expect(findings).toMatchObject([{ kind: 'snapshot', message: expect.stringContaining('is not signed') }]);
    const missing = lab.session({ snapshotKeys: { verifyKey: join(lab.folder, 'no-such.pem') } });
    await failureOf(run(at, {}, missing), 'INVALID');
  });

  test('finds an index.json that another program changed', async () => {
    const { at, folder } = await stored('store-index');
    const file = join(folder, 'index.json');
    await writeFile(file, (await readFile(file, 'utf8')).replace(':v1"', ':v9"'));
    expect((await run(at)).findings).toMatchObject([{ kind: 'index', at: 'index.json' }]);
  });

  test('advises to copy index.json too where a later copy of a store brought only files that are new', async () => {
    const { at, folder } = await stored('store-carried');
    const file = join(folder, 'index.json');
    const older = await readFile(file);
    await lab.push(await small(3, 'v3'), ecr, 'store-carried/app');
    await backedUpToStore(`${ecr.registryHost}/store-carried/*`, at, lab.session());
    await writeFile(file, older);
    expect((await run(at)).findings).toMatchObject([
      { kind: 'index', message: expect.stringContaining('copy index.json too, with overwriting') },
    ]);
  });

  test('does not report an index.json that a running backup is about to write', async () => {
    const { at, folder } = await stored('store-busy');
    const { backends, options } = lab.session();
    const file = join(folder, 'index.json');
    await writeFile(file, (await readFile(file, 'utf8')).replace(':v1"', ':v9"'));
    const store = await openStore({ folder, prefix: '' }, backends, { ...options, clock: systemClock });
    {
      await using _ = await store.begin();
      const { findings, unchecked } = await run(at);
      expect(findings).toEqual([]);
      expect(unchecked.join()).toContain('index.json was not compared');
    }
    expect(kinds(await run(at))).toEqual(['index']);
  });

  test('reads every blob once in as many runs as a sample has slices', async () => {
    const { at } = await stored('store-sampled');
    const whole = await run(at, { depth: 'bytes' });
    let hashedBytes = 0;
    let checked = 0;
    for (const [slice] of Array.from({ length: 20 }).entries()) {
      const part = await run(at, { depth: 'bytes', sample: sampleOf(5, slice) });
      expect(part).toMatchObject({ findings: [], complete: false, sample: { slice, slices: 20 } });
      hashedBytes += part.hashedBytes;
      checked += part.blobs?.checked ?? 0;
    }
    expect({ hashedBytes, checked }).toEqual({ hashedBytes: whole.hashedBytes, checked: whole.blobs?.of });
  });
});

describe('verify of archives', () => {
  /** Archives of the default template in their own folder. */
  async function archived(name: string, seeds: readonly number[]): Promise<{ folder: string; at: string }> {
    const folder = join(lab.folder, name);
    for (const seed of seeds) {
      await lab.push(await small(seed, `v${seed}`), ecr, `${name}/app`);
      const path = `${folder}/${name}/app/v${seed}.tar`;
      await lab.session().copy(`docker://${ecr.registryHost}/${name}/app:v${seed}`, `oci-archive:${path}`);
    }
    return { folder, at: `oci-archive:${folder}/` };
  }

  test('finds them whole, by their bytes, and their heads as planned', async () => {
    const { at } = await archived('tars-whole', [1, 2]);
    expect(await run(at)).toMatchObject({ findings: [], complete: true, names: { checked: 2, of: 2 } });
    const heads = await run(at, { depth: 'blobs' });
    expect(heads).toMatchObject({ findings: [], complete: false, images: [{ faults: [] }, { faults: [] }] });
    expect(heads.hashedBytes).toBeLessThan(2 * 2 * 800);
    expect(await run(at, { depth: 'tags' })).toMatchObject({ findings: [], images: [], names: { checked: 2, of: 2 } });
  });

  test.each(['blobs', 'bytes'] as const)('finds a truncated archive at depth %s', async (depth) => {
    const { at, folder } = await archived(`tars-cut-${depth}`, [1, 2]);
    const file = join(folder, `tars-cut-${depth}/app/v1.tar`);
    const whole = await readFile(file);
    await writeFile(file, whole.subarray(0, whole.length - 1024));
    const { findings } = await run(at, { depth });
    expect(findings).toMatchObject([{ kind: 'faulty', message: expect.stringContaining('cut off') }]);
    expect(findings[0]?.at).toContain('v1.tar');
  });

  test('finds a flipped bit of a layer where bytes are read', async () => {
    const { at, folder } = await archived('tars-flipped', [1]);
    const file = join(folder, 'tars-flipped/app/v1.tar');
    const { digest } = await largestOf(await small(1, 'v1'));
    // manifest.json names it too, before its header
    const start = (await readFile(file)).lastIndexOf(blobPath(digest)) + 512;
    await flip(file, start + 300);
    expect((await run(at, { depth: 'blobs' })).findings).toEqual([]);
    expect(kinds(await run(at, { depth: 'bytes' }))).toEqual(['faulty']);
  });

  test.each(['tags', 'blobs', 'bytes'] as const)('finds two swapped archives at depth %s', async (depth) => {
    const { at, folder } = await archived(`tars-swapped-${depth}`, [1, 2]);
    const [first, second] = [1, 2].map((seed) => join(folder, `tars-swapped-${depth}/app/v${seed}.tar`));
    await rename(first ?? '', join(folder, 'aside'));
    await rename(second ?? '', first ?? '');
    await rename(join(folder, 'aside'), second ?? '');
    const { findings } = await run(at, { depth });
    expect(findings).toMatchObject([
      { kind: 'moved', message: expect.stringContaining('app:v2, which its key does not name') },
      { kind: 'moved', message: expect.stringContaining('app:v1, which its key does not name') },
    ]);
  });

  test('finds archives of its snapshot missing and changed, and another archive beside them', async () => {
    const name = 'tars-listed';
    const keys = ['v1', 'v2', 'v3', 'v4'].map((tag) => `${name}/eu/app/${tag}.tar`);
    const store = lab.session().backends.bucket(bucket);
    const images = [];
    for (const [index, key] of keys.entries()) {
      const image = await small(index + 1, `v${index + 1}`);
      await lab.push(image, ecr, `${name}/app`);
      await lab.session().copy(`docker://${ecr.registryHost}/${name}/app:v${index + 1}`, `s3://${bucket}/${key}`);
      const { etag, size } = await store.stat(key);
      const { digest } = image.root.descriptor;
      const tag = `v${index + 1}`;
      const entry = snapshotImage(digest, [tag], { digest, archives: [{ tag, key, size, etag }] });
      const [own, ...others] = entry.content;
      if (own === undefined) throw new Error('an image has content');
      images.push({ ...entry, content: [{ ...own, digest }, ...others] });
    }
    const snapshot = makeSnapshot({
      ...SNAPSHOT_FACTS,
      kind: 'archives',
      repositories: { [`${name}/app`]: { images: images.slice(0, 3) } },
    });
    const { id } = await openSnapshots({ store, prefix: `${name}/` }).write(snapshot);
    const place = `s3://${bucket}/${name}/`;
    const choices = { depth: 'tags', snapshot: id } as const;
    expect((await run(place, choices)).findings).toMatchObject([{ kind: 'extra', message: 'no snapshot names it' }]);
    // without a requested snapshot, more archives may be there
    expect(await run(place, { depth: 'bytes' })).toMatchObject({ findings: [], names: { checked: 4, of: 4 } });
    await store.write(keys[0] ?? '', await collect(await store.read(keys[3] ?? '')));
    const { findings } = await run(place, choices);
    expect(findings).toMatchObject([
      { kind: 'moved', at: `s3://${bucket}/${keys[0]}`, message: expect.stringContaining('changed or swapped') },
      { kind: 'extra', at: `s3://${bucket}/${keys[3]}` },
    ]);
    const [other] = await lab
      .session()
      .backends.deletions.bucket(bucket)
      .remove([await store.stat(keys[1] ?? '')]);
    expect(other).toBeUndefined();
    const gone = (await run(place, { ...choices, depth: 'bytes' })).findings;
    expect(gone.filter(({ kind }) => kind === 'missing')).toMatchObject([{ at: `s3://${bucket}/${keys[1]}` }]);
    await failureOf(run(place, { snapshot: 'ffffffff' }), 'NOT_FOUND');
    await failureOf(run(place, { asOfMs: 0 }), 'NOT_FOUND');
  });
});

describe('verify of a registry', () => {
  test('reads shared blobs of images once, and asks each repository for them', async () => {
    const [one, two] = [await small(1, 'v1'), await small(2, 'v2')];
    await lab.push(one, registry, 'shared/app');
    await lab.push({ ...one, root: { ...one.root, tags: ['again'] } }, registry, 'shared/app');
    await lab.push(one, registry, 'shared/other');
    await lab.push(two, registry, 'shared/app');
    const requests = await requestsDuring(registry, async () => {
      const result = await run(`${registry.registryHost}/shared/*`, { depth: 'bytes' });
      expect(result).toMatchObject({ findings: [], complete: true, names: { checked: 4, of: 4 } });
    });
    const distinct = new Set([...(await blobsIn(one)), ...(await blobsIn(two))].map(({ digest }) => digest));
    expect(requests['blob-get']).toBe(distinct.size);
    expect(requests['blob-head']).toBe((await blobsIn(one)).length);
  });

  test('also opens untagged images of ECR, and names a missing blob', async () => {
    const [old, current] = [await small(1, 'v1'), await small(2, 'v1')];
    await lab.push(old, ecr, 'untagged/app');
    await lab.push(current, ecr, 'untagged/app');
    const place = `${ecr.registryHost}/untagged/*`;
    expect(await run(place)).toMatchObject({ findings: [], names: { checked: 2, of: 2 }, complete: false });
    const { digest } = await largestOf(old);
    ecr.faults.add({ operation: 'layer-get', digest, times: 9 }, { kind: 'lie-digest' });
    const { findings } = await run(place, { depth: 'bytes' });
    ecr.faults.clear();
    expect(findings).toMatchObject([
      { kind: 'faulty', at: `docker://${place.replace('/*', '/app')}@${old.root.descriptor.digest}` },
    ]);
  });

  test('finds moved, missing and extra tags, beside the place that it is compared with', async () => {
    for (const [tag, seed] of Object.entries({ v1: 1, v2: 2, v3: 3 }))
      await lab.push(await small(seed, tag), ecr, 'compared/app');
    for (const [tag, seed] of Object.entries({ v1: 1, v2: 9, v4: 4 }))
      await lab.push(await small(seed, tag), registry, 'compared/app');
    const against = { place: parsePlace(`${ecr.registryHost}/compared/*`) };
    const { findings } = await run(`${registry.registryHost}/compared/*`, { depth: 'tags', against });
    const at = `docker://${registry.registryHost}/compared/app`;
    expect(findings).toMatchObject([
      { kind: 'moved', at: `${at}:v2` },
      { kind: 'missing', at: 'compared/app:v3' },
      { kind: 'extra', at: `${at}:v4` },
    ]);
  });

  test('reads only the images of a sample', async () => {
    for (const seed of [1, 2, 3, 4]) await lab.push(await small(seed, `v${seed}`), registry, 'sampled/app');
    const place = `${registry.registryHost}/sampled/*`;
    const opened: string[] = [];
    for (const slice of [0, 1, 2, 3]) {
      const part = await run(place, { depth: 'bytes', sample: { slice, slices: 4 } });
      expect(part).toMatchObject({ complete: false, names: { checked: part.images.length, of: 4 } });
      opened.push(...part.images.map(({ at }) => at.slice(-2)));
    }
    expect(opened.sort()).toEqual(['v1', 'v2', 'v3', 'v4']);
  });
});
