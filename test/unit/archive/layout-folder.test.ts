import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openFolderTarget } from '../../../worker/archive/layout-folder.ts';
import { openImage } from '../../../worker/archive/reader.ts';
import { blobsOf, walk } from '../../../worker/content/graph.ts';
import { copy } from '../../../worker/copy/copy.ts';
import { openFiles } from '../../../worker/objects/files/store.ts';
import type { ObjectStore } from '../../../worker/objects/objects.ts';
import { digestOf } from '../../../worker/oci/digest.ts';
import { referrersTag } from '../../../worker/oci/derived-tag.ts';
import { MEDIA_TYPE, type Descriptor } from '../../../worker/oci/manifest.ts';
import { corrupting } from '../../support/faulty-content.ts';
import { makeImage } from '../../support/images.ts';
import { MemoryObjects } from '../../support/memory-objects.ts';
import { expectSameImage } from '../../support/same-image.ts';
import { sourceSuite } from '../../contracts/source.ts';
import { targetSuite } from '../../contracts/target.ts';

targetSuite('an OCI layout folder', async () => {
  const store = new MemoryObjects();
  const target = await openFolderTarget(store);
  return { target, view: async () => openFolderTarget(store) };
});
sourceSuite('an OCI layout folder that was written by us', async ({ content, root }) => {
  const store = new MemoryObjects();
  const target = await openFolderTarget(store);
  await copy(content, target, [root]);
  return { source: target };
});
sourceSuite('an image opened in an OCI layout folder', async ({ content, root }) => {
  const store = new MemoryObjects();
  await copy(content, await openFolderTarget(store), [root]);
  return { source: await openImage(store, '') };
});

interface Manifests {
  readonly manifests: unknown[];
}

/** In an order that does not depend on which referrer was written first. */
function sorted(lists: Readonly<Record<string, readonly unknown[]>>): Record<string, string[]> {
  return Object.fromEntries(
    Object.entries(lists).map(([name, list]) => [name, list.map((entry) => JSON.stringify(entry)).toSorted()]),
  );
}

describe('an OCI layout folder', () => {
  let folder: string;
  let store: ObjectStore;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'transship-folder-'));
    store = openFiles(folder);
  });
  afterEach(async () => rm(folder, { recursive: true }));

  const indexOf = async (): Promise<Record<string, unknown>> =>
    JSON.parse(await readFile(join(folder, 'index.json'), 'utf8')) as Record<string, unknown>;
  const namesIn = async (): Promise<readonly (string | undefined)[]> => {
    const { manifests } = (await indexOf()) as { manifests: { annotations?: Record<string, string> }[] };
    return manifests.map((entry) => entry.annotations?.['org.opencontainers.image.ref.name']);
  };

  test('keeps the other images that it holds, and unknown members of index.json', async () => {
    const one = await makeImage({ tag: 'one' });
    await copy(one.content, await openFolderTarget(store), [one.root]);
    await writeFile(
      join(folder, 'index.json'),
      JSON.stringify({ ...(await indexOf()), annotations: { who: 'me' }, 'x-more': [1] }),
    );
    const two = await makeImage({ tag: 'two', seed: 2 });
    await copy(two.content, await openFolderTarget(store), [two.root]);
    expect(await namesIn()).toEqual(['one', 'two']);
    expect(await indexOf()).toMatchObject({ annotations: { who: 'me' }, 'x-more': [1] });
    for (const { content, root } of [one, two]) {
      await expectSameImage(content, await openImage(store, '', { tag: root.tags[0] }), root);
    }
  });

  test('finds a manifest of sha512 by its digest, though index.json does not list it', async () => {
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests: [] }));
    const d = { mediaType: MEDIA_TYPE.ociIndex, digest: digestOf(bytes, 'sha512'), size: bytes.byteLength };
    const target = await openFolderTarget(store);
    await target.put(d, async function* () {
      yield bytes;
    });
    expect(await target.resolve(d.digest)).toEqual(d);
  });

  test('moves a tag from one image to another, and leaves the first without a name', async () => {
    const one = await makeImage();
    const two = await makeImage({ seed: 2 });
    await copy(one.content, await openFolderTarget(store), [one.root]);
    await copy(two.content, await openFolderTarget(store), [two.root]);
    expect(await namesIn()).toEqual(['v1']);
    expect((await openImage(store, '')).root).toEqual(two.root);
  });

  test('lists an image without a tag, once', async () => {
    const { content, root } = await makeImage();
    const target = await openFolderTarget(store);
    await copy(content, target, [{ ...root, tags: [] }]);
    await target.list(root.descriptor);
    await target.list(root.descriptor);
    expect(await namesIn()).toEqual([undefined]);
    expect((await openImage(store, '')).root).toEqual({ ...root, tags: [] });
    // and reuses the entry when the image gets a tag
    await copy(content, target, [root]);
    expect(await namesIn()).toEqual(['v1']);
  });

  test('holds the image as the only one without its tag, with its signatures beside it', async () => {
    const image = await makeImage({ signed: true });
    await copy(image.content, await openFolderTarget(store), [image.root]);
    const opened = await openImage(store, '');
    expect(opened.root).toEqual(image.root);
    await expectSameImage(image.content, opened, image.root);
  });

  /** What the fallback tag of each subject names. */
  const fallbackLists = async (): Promise<Record<string, unknown[]>> => {
    const { manifests } = (await indexOf()) as { manifests: (Descriptor & { annotations?: Record<string, string> })[] };
    const lists: Record<string, unknown[]> = {};
    for (const { digest, mediaType, annotations } of manifests) {
      const name = annotations?.['org.opencontainers.image.ref.name'] ?? '';
      if (!/^sha256-[0-9a-f]{64}$/.test(name)) continue;
      expect(mediaType).toBe(MEDIA_TYPE.ociIndex);
      const list = JSON.parse(await readFile(join(folder, 'blobs', digest.replace(':', '/')), 'utf8')) as Manifests;
      lists[name] = list.manifests;
    }
    return lists;
  };

  test('names referrers of an image by the fallback tag of its subject, where regctl looks for them', async () => {
    const image = await makeImage({ signed: true });
    await copy(image.content, await openFolderTarget(store), [image.root]);
    const expected: Record<string, unknown[]> = {};
    const graph = await walk(image.content, [image.root]);
    for (const { descriptor } of graph.manifests.values()) {
      const referrers = await Array.fromAsync(image.content.referrers(descriptor));
      if (referrers.length > 0) expected[referrersTag(descriptor.digest)] = referrers;
    }
    expect(Object.keys(expected)).not.toEqual([]);
    expect(sorted(await fallbackLists())).toEqual(sorted(expected));
  });

  test('names a referrer that an earlier copy wrote and did not list', async () => {
    const image = await makeImage({ signed: true });
    await copy(image.content, await openFolderTarget(store), [image.root]);
    const before = await fallbackLists();
    const { manifests, ...rest } = (await indexOf()) as unknown as Manifests;
    const tagged = manifests.filter((entry) => JSON.stringify(entry).includes('"v1"'));
    await writeFile(join(folder, 'index.json'), JSON.stringify({ ...rest, manifests: tagged }));
    await copy(image.content, await openFolderTarget(store), [image.root]);
    expect(sorted(await fallbackLists())).toEqual(sorted(before));
  });

  test('loses no tag when many are written at once, by several writers', async () => {
    const { content, root } = await makeImage();
    const writers = [
      await openFolderTarget(store),
      await openFolderTarget(store),
      await openFolderTarget(openFiles(folder)),
    ];
    await copy(content, await openFolderTarget(store), [root]);
    const tags = Array.from({ length: 12 }, (_, i) => `t${i}`);
    await Promise.all(
      tags.map(async (tag, i) => {
        await writers[i % writers.length]?.tag(tag, root.descriptor, () => expect.unreachable('it is there'));
      }),
    );
    expect(new Set(await namesIn())).toEqual(new Set([...tags, 'v1']));
    expect(await namesIn()).toHaveLength(13);
  });

  test('shows nothing before the image is complete', async () => {
    const { content, root } = await makeImage({ platforms: ['linux/amd64'], layers: [5000, 6000] });
    const layer = blobsOf(await walk(content, [root])).at(-1) ?? expect.unreachable();
    const writing = copy(corrupting(content, layer.digest, 100), await openFolderTarget(store), [root]);
    await expect(writing).rejects.toMatchObject({ code: 'CORRUPT' });
    expect(await readdir(folder)).not.toContain('index.json');
    await expect(openImage(store, '')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test.each<[string, Readonly<Record<string, string>>, string, RegExp]>([
    ['of another version', { 'oci-layout': '{"imageLayoutVersion":"2.0.0"}' }, 'UNSUPPORTED', /not of version 1/],
    [
      'whose index is not JSON',
      { 'oci-layout': '{"imageLayoutVersion":"1.0.0"}', 'index.json': '{' },
      'INVALID',
      /index\.json.*not JSON/,
    ],
    ['whose index is not an object', { 'index.json': '[]' }, 'INVALID', /index\.json/],
  ])('%s is left alone', async (_, files, code, message) => {
    for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
    const { content, root } = await makeImage();
    const writing = openFolderTarget(store).then(async (target) => copy(content, target, [root]));
    await expect(writing).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    for (const [name, text] of Object.entries(files)) expect(await readFile(join(folder, name), 'utf8')).toBe(text);
  });

  test('is NOT_FOUND when it does not exist', async () => {
    await expect(openImage(store, '')).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringContaining(folder),
    });
  });
});
