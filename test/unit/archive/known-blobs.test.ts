import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { KnownBlobs, partWithin } from '../../../worker/archive/known-blobs.ts';
import type { ArchiveLayout, BlobEntry } from '../../../worker/archive/plan.ts';
import { createArchive } from '../../../worker/archive/writer.ts';
import { walk } from '../../../worker/content/graph.ts';
import { copy } from '../../../worker/copy/copy.ts';
import type { ObjectStore } from '../../../worker/objects/objects.ts';
import { MEDIA_TYPE } from '../../../worker/oci/manifest.ts';
import { archiveImage, planOf } from '../../support/archives.ts';
import { crashing } from '../../support/faulty-objects.ts';
import { makeImage, seededBytes, type MadeImage } from '../../support/images.ts';
import { MemoryObjects } from '../../support/memory-objects.ts';

const OLD = 'app/v1.tar';
const KEY = 'app/v2.tar';
const PART = 1000;

test('a part is copied from a known blob exactly where all its bytes are content of the blob', () => {
  const shape = fc.record({
    size: fc.integer({ min: 0, max: 400 }),
    offset: fc.integer({ min: 0, max: 300 }),
    header: fc.integer({ min: 0, max: 60 }),
    after: fc.integer({ min: 0, max: 200 }),
    knownOffset: fc.integer({ min: 0, max: 300 }),
    partSize: fc.integer({ min: 1, max: 120 }),
  });
  fc.assert(
    fc.property(shape, ({ size, offset, header, after, knownOffset, partSize }) => {
      const content = Buffer.from(seededBytes('content', size));
      const fresh = Buffer.concat([Buffer.alloc(offset + header, 'n'), content, Buffer.alloc(after, 'n')]);
      const old = Buffer.concat([Buffer.alloc(knownOffset, 'o'), content, Buffer.alloc(30, 'o')]);
      const descriptor = { mediaType: MEDIA_TYPE.ociLayer, digest: `sha256:${'a'.repeat(64)}`, size } as const;
      const entry: BlobEntry = { name: 'blob', header: new Uint8Array(header), offset, size, descriptor };
      const known = { key: OLD, etag: 'e', offset: knownOffset, size };
      for (let start = 0; start < fresh.byteLength; start += partSize) {
        const length = Math.min(partSize, fresh.byteLength - start);
        const from = partWithin(entry, known, { start, length });
        const isWithin = start >= offset + header && start + length <= offset + header + size;
        expect(from !== undefined).toBe(isWithin);
        if (from === undefined) continue;
        expect(from).toMatchObject({ key: OLD, etag: 'e' });
        expect(old.subarray(from.offset, from.offset + length).equals(fresh.subarray(start, start + length))).toBe(
          true,
        );
      }
      expect(partWithin(entry, { ...known, size: size + 1 }, { start: offset + header, length: 0 })).toBeUndefined();
    }),
  );
});

/** Two states of a tag, which share a layer and nothing else. */
async function states(): Promise<{ readonly before: MadeImage; readonly after: MadeImage }> {
  const recipe = { platforms: ['linux/amd64'], sharedLayerBytes: 0 };
  const shared = await makeImage({ ...recipe, seed: 1, layers: [900, 30_500], tag: 'v1' });
  const after = await makeImage({ ...recipe, seed: 1, layers: [40, 30_500, 2000], tag: 'v2' });
  return { before: shared, after };
}

async function knownIn(store: MemoryObjects, layout: ArchiveLayout, key = OLD): Promise<KnownBlobs> {
  const blobs = new KnownBlobs(1);
  blobs.add(await store.stat(key), layout);
  return blobs;
}

/** The number of parts inside a layer that both states share. */
function partsIn(layout: ArchiveLayout, other: ArchiveLayout): number {
  const blobs = new Set(other.entries.map(({ descriptor }) => descriptor?.digest));
  let count = 0;
  for (const { descriptor, offset, header, size } of layout.entries)
    if (descriptor !== undefined && blobs.has(descriptor.digest)) {
      const from = offset + header.byteLength;
      count += Math.max(0, Math.floor((from + size) / PART) - Math.ceil(from / PART));
    }
  return count;
}

async function written(image: MadeImage): Promise<Uint8Array> {
  const store = new MemoryObjects({ partSize: PART });
  await archiveImage(image.content, image.root, store, KEY);
  return store.bytesOf(KEY);
}

async function fill(image: MadeImage, store: ObjectStore, blobs: KnownBlobs): Promise<number> {
  const graph = await walk(image.content, [image.root]);
  const layout = await planOf(image.content, image.root);
  const archive = await createArchive(store, KEY, layout, { known: blobs });
  await copy(image.content, archive, [image.root], { graph, strict: true, concurrency: 2 });
  await archive.commit();
  return archive.copiedBytes;
}

describe('an archive whose layers are in another one', () => {
  test('is the same byte for byte, and only what the store lacks is sent', async () => {
    const { before, after } = await states();
    const store = new MemoryObjects({ partSize: PART });
    await archiveImage(before.content, before.root, store, OLD);
    const layouts = [await planOf(after.content, after.root), await planOf(before.content, before.root)] as const;
    const counted = crashing(store, Infinity);
    const parts = partsIn(...layouts);
    expect(parts).toBeGreaterThan(25);
    expect(await fill(after, counted.store, await knownIn(store, layouts[1]))).toBe(parts * PART);
    expect(store.copied).toHaveLength(parts);
    expect(counted.bytesSent()).toBe(layouts[0].size - parts * PART);
    expect(Buffer.compare(store.bytesOf(KEY), await written(after))).toBe(0);
  });

  test.each([
    ['was replaced meanwhile', true],
    ['does not match its plan', false],
  ])('is sent where the other %s', async (_, isReplaced) => {
    const { before, after } = await states();
    const store = new MemoryObjects({ partSize: PART });
    await archiveImage(before.content, before.root, store, OLD);
    const blobs = await knownIn(store, await planOf(before.content, before.root));
    if (isReplaced) await store.write(OLD, Buffer.from('another'));
    else store.bytesOf(OLD).fill(7);
    expect(await fill(after, store, blobs)).toBe(0);
    expect(store.copied).toEqual([]);
    expect(Buffer.compare(store.bytesOf(KEY), await written(after))).toBe(0);
  });

  test('ends in the identical bytes wherever the previous process was killed', async () => {
    const { before, after } = await states();
    const old = await planOf(before.content, before.root);
    const tar = await written(after);
    const disk = async (): Promise<MemoryObjects> => {
      const store = new MemoryObjects({ partSize: PART });
      await archiveImage(before.content, before.root, store, OLD);
      return store;
    };
    const whole = await disk();
    const points = crashing(whole, Infinity);
    await fill(after, points.store, await knownIn(whole, old));
    expect(points.writes()).toBeGreaterThan(50);
    for (let point = 1; point <= points.writes(); point++) {
      const store = await disk();
      const blobs = await knownIn(store, old);
      // in one life the other archive is damaged: none of its bytes may be copied
      const original = Buffer.from(store.bytesOf(OLD));
      if (point % 3 === 0) store.bytesOf(OLD).fill(9);
      await expect(fill(after, crashing(store, point).store, blobs)).rejects.toThrow('crashed');
      original.copy(store.bytesOf(OLD));
      await fill(after, store, await knownIn(store, old));
      expect(Buffer.compare(store.bytesOf(KEY), tar)).toBe(0);
    }
  });
});
