import { appendFile, mkdtemp, open, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openImage } from '../../../worker/archive/reader.ts';
import { createArchive } from '../../../worker/archive/writer.ts';
import { endOf, type ArchiveLayout, type BlobEntry } from '../../../worker/archive/plan.ts';
import { END_BYTES } from '../../../worker/archive/tar.ts';
import { blobsOf, walk } from '../../../worker/content/graph.ts';
import { read } from '../../../worker/content/read.ts';
import { openFiles } from '../../../worker/objects/files/store.ts';
import type { ObjectStore } from '../../../worker/objects/objects.ts';
import { targetSuite } from '../../contracts/target.ts';
import { archiveImage, planOf } from '../../support/archives.ts';
import { CHUNK_SIZES } from '../../support/chunks.ts';
import { corrupting, counting, rechunked } from '../../support/faulty-content.ts';
import { crashing } from '../../support/faulty-objects.ts';
import { makeImage, type MadeImage } from '../../support/images.ts';
import { MemoryObjects } from '../../support/memory-objects.ts';

const KEY = 'v1.tar';
const PART_BYTES = 1024;

targetSuite(
  'an archive in a file',
  async ({ content, root }) => {
    const folder = await mkdtemp(join(tmpdir(), 'transship-in-place-'));
    const store = openFiles(folder);
    const target = await createArchive(store, KEY, await planOf(content, root), { partSize: 100_000 });
    return {
      target,
      view: async () => openImage(store, KEY),
      commit: async () => target.commit(),
      close: async () => rm(folder, { recursive: true }),
    };
  },
  { ordered: false, planned: true },
);

describe('an archive that is written in place', () => {
  let folder: string;
  let image: MadeImage;
  let layout: ArchiveLayout;
  let tar: Uint8Array;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'transship-in-place-'));
    image = await makeImage({ platforms: ['linux/amd64'], layers: [900, 20_000] });
    layout = await planOf(image.content, image.root);
    const memory = new MemoryObjects();
    await archiveImage(image.content, image.root, memory, KEY);
    tar = memory.bytesOf(KEY);
  });
  afterEach(async () => rm(folder, { recursive: true }));

  const fill = async (store: ObjectStore = openFiles(folder), content = image.content): Promise<void> =>
    void (await archiveImage(content, image.root, store, KEY, { partSize: PART_BYTES }));
  const written = async (): Promise<Buffer> => readFile(join(folder, KEY));
  /** Writes all blobs, and abandons the archive before it becomes visible. */
  const interrupt = async (): Promise<void> => {
    const archive = await createArchive(openFiles(folder), KEY, layout, { partSize: PART_BYTES });
    for (const blob of blobsOf(await walk(image.content, [image.root])))
      await archive.put(blob, () => read(image.content, blob));
    archive[Symbol.dispose]();
  };
  const own = async (extension: string): Promise<string> => {
    const name = (await readdir(folder)).find((file) => file.endsWith(extension)) ?? expect.unreachable();
    return join(folder, name);
  };
  /** Another byte than the one that was written, as after a power loss before all is on the disk. */
  const lose = async (position: number): Promise<void> => {
    const file = await open(await own('.partial'), 'r+');
    await file.write(Buffer.from([(tar[position] ?? 0) ^ 1]), 0, 1, position);
    await file.close();
  };

  test.each(CHUNK_SIZES)('has the bytes of the plan when blobs come in chunks of %i bytes', async (chunkBytes) => {
    await fill(openFiles(folder), rechunked(image.content, chunkBytes));
    expect(Buffer.compare(await written(), tar)).toBe(0);
    expect(await readdir(folder)).toEqual([KEY]);
  });

  test('is not written again, nor is a blob read again, where all of it was stored', async () => {
    await interrupt();
    const { end, counts } = counting(image.content);
    const store = crashing(openFiles(folder), Infinity);
    await fill(store.store, end);
    expect(store.bytesSent()).toBe(0);
    const manifests = new Set(layout.entries.flatMap(({ descriptor }) => descriptor?.digest ?? []));
    expect(counts.opened.filter(({ digest }) => manifests.has(digest))).toEqual([]);
    expect(Buffer.compare(await written(), tar)).toBe(0);
  });

  test('is right although its journal outlived bytes: of content, a header, padding, a document or the end', async () => {
    const layer = blobEntries(layout).at(-1) ?? expect.unreachable();
    const document = layout.entries.find(({ bytes }) => bytes !== undefined) ?? expect.unreachable();
    const content = layer.offset + layer.header.byteLength;
    const places = [
      content,
      content + 10_000,
      content + layer.size - 1,
      layer.offset,
      endOf(layer) - 1,
      document.offset + document.header.byteLength,
      layout.size - END_BYTES + 7,
    ];
    for (const place of places) {
      await interrupt();
      await lose(place);
      await fill();
      expect(Buffer.compare(await written(), tar), `byte ${place}`).toBe(0);
      await rm(join(folder, KEY));
    }
  });

  test('is right although its journal names parts that were never written', async () => {
    (await createArchive(openFiles(folder), KEY, layout, { partSize: PART_BYTES }))[Symbol.dispose]();
    const all = Array.from({ length: Math.ceil(layout.size / PART_BYTES) }, (_, i) => `${i + 1}\n`);
    await appendFile(await own('.parts'), all.join(''));
    await fill();
    expect(Buffer.compare(await written(), tar)).toBe(0);
  });

  test('is taken as it is where another process completes it while this one looks at what is stored', async () => {
    const begun = await createArchive(openFiles(folder), KEY, layout, { partSize: PART_BYTES });
    const layer = blobEntries(layout).at(-1) ?? expect.unreachable();
    await begun.put(layer.descriptor, () => read(image.content, layer.descriptor));
    begun[Symbol.dispose]();
    const files = openFiles(folder);
    const slow: ObjectStore = Object.assign(openFiles(folder), {
      upload: async (...of: Parameters<ObjectStore['upload']>) => {
        const upload = await files.upload(...of);
        await fill();
        return upload;
      },
    });
    await fill(slow);
    expect(Buffer.compare(await written(), tar)).toBe(0);
    expect(await readdir(folder)).toEqual([KEY]);
  });

  test('is right where another process with a broken source writes the same archive', async () => {
    const layer = blobEntries(layout).at(-1) ?? expect.unreachable();
    const options = { partSize: PART_BYTES };
    using good = await createArchive(openFiles(folder), KEY, layout, options);
    using other = await createArchive(openFiles(folder), KEY, layout, options);
    for (const blob of blobsOf(await walk(image.content, [image.root])))
      await good.put(blob, () => read(image.content, blob));
    const bad = corrupting(image.content, layer.descriptor.digest, 15_000);
    await expect(other.put(layer.descriptor, () => read(bad, layer.descriptor))).rejects.toMatchObject({
      code: 'CORRUPT',
    });
    await good.commit();
    expect(Buffer.compare(await written(), tar)).toBe(0);
  });

  test('keeps no byte of a blob that failed verification', async () => {
    const layer = blobEntries(layout).at(-1) ?? expect.unreachable();
    const bad = corrupting(image.content, layer.descriptor.digest, 15_000);
    await expect(fill(openFiles(folder), rechunked(bad, 700))).rejects.toMatchObject({ code: 'CORRUPT' });
    await expect(openFiles(folder).stat(KEY)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await fill();
    expect(Buffer.compare(await written(), tar)).toBe(0);
  });
});

function blobEntries(layout: ArchiveLayout): readonly BlobEntry[] {
  return layout.entries.filter((entry) => entry.descriptor !== undefined);
}
