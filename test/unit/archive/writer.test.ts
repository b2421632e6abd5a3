import { setImmediate as turn } from 'node:timers/promises';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createArchive } from '../../../worker/archive/writer.ts';
import { openImage } from '../../../worker/archive/reader.ts';
import { endOf, planArchive, type ArchiveLayout, type BlobEntry } from '../../../worker/archive/plan.ts';
import type { Bytes, Source } from '../../../worker/content/content.ts';
import { blobsOf, walk, type Graph, type Root } from '../../../worker/content/graph.ts';
import { read } from '../../../worker/content/read.ts';
import { copy } from '../../../worker/copy/copy.ts';
import type { ObjectStore } from '../../../worker/objects/objects.ts';
import { PartMemory } from '../../../worker/objects/part-memory.ts';
import type { Descriptor } from '../../../worker/oci/manifest.ts';
import { Failure, isFailure } from '../../../worker/util/failure.ts';
import { forEachOf } from '../../../worker/util/limit.ts';
import { archiveImage, planOf, REPOSITORY } from '../../support/archives.ts';
import { CHUNK_SIZES, chunked, collect, lent } from '../../support/chunks.ts';
import { corrupting, counting, rechunked, type Counts } from '../../support/faulty-content.ts';
import { crashing } from '../../support/faulty-objects.ts';
import { makeImage, type MadeImage } from '../../support/images.ts';
import { MemoryObjects } from '../../support/memory-objects.ts';
import { expectSameImage } from '../../support/same-image.ts';
import { targetSuite } from '../../contracts/target.ts';

const KEY = 'app/v1.tar';

for (const partSize of [1000, 1024 * 1024]) {
  targetSuite(
    `an archive in parts of ${partSize} bytes`,
    async ({ content, root }) => {
      const store = new MemoryObjects({ partSize });
      const target = await createArchive(store, KEY, await planOf(content, root));
      return { target, view: async () => openImage(store, KEY), commit: async () => target.commit() };
    },
    { ordered: false, planned: true },
  );
}

describe('the bytes of an archive', () => {
  test('are those of the plan, whatever the size of parts, the order and number of concurrent blobs', async () => {
    const image = await makeImage({ signed: true, layers: [0, 1, 3000, 70_000] });
    const { layout, tar } = await expected(image);
    for (const partSize of [512, 700, 4096, 10_000, 65_536, layout.size - 1, layout.size, layout.size + 1]) {
      for (const order of [(all: readonly Descriptor[]) => all, (all: readonly Descriptor[]) => all.toReversed()]) {
        const store = new MemoryObjects({ partSize });
        const archive = await createArchive(store, KEY, layout);
        const blobs = order(blobsOf(await walk(image.content, [image.root])));
        await Promise.all(blobs.map(async (d) => archive.put(d, () => read(image.content, d))));
        await archive.commit();
        expect(Buffer.compare(store.bytesOf(KEY), tar)).toBe(0);
      }
    }
  });

  test.each(CHUNK_SIZES)('are the same when blobs come in chunks of %i bytes', async (chunkBytes) => {
    const image = await makeImage({ layers: [1500, 9000] });
    const { tar } = await expected(image);
    const store = new MemoryObjects({ partSize: 2000 });
    await archiveImage(rechunked(image.content, chunkBytes), image.root, store, KEY);
    expect(Buffer.compare(store.bytesOf(KEY), tar)).toBe(0);
  });

  test('have metadata that describes them', async () => {
    const { content, root } = await makeImage({ signed: true });
    const layout = await planOf(content, root);
    const store = new MemoryObjects();
    const { metadata } = await archiveImage(content, root, store, KEY, {
      clock: { now: () => Date.UTC(2026, 10, 20), sleep: async () => undefined, random: () => 0 },
    });
    expect(metadata).toEqual({
      'transship-format': '1',
      'transship-root': root.descriptor.digest,
      'transship-source': `${REPOSITORY}:v1`,
      'transship-layout': layout.digest,
      'transship-head': String(layout.headSize),
      'transship-created': '2026-11-20T00:00:00.000Z',
    });
  });

  test('are all sent at once when the plan knows them all', async () => {
    const { content, root } = await makeImage();
    const graph = await walk(content, [root]);
    const [child] = graph.manifests.keys();
    const node = child === undefined ? undefined : graph.manifests.get(child);
    if (node === undefined) throw new Error('the image has manifests');
    // an empty index
    const bytes = Buffer.from('{"schemaVersion":2,"manifests":[]}');
    const empty: Graph = {
      roots: [root],
      referrers: [],
      unreadable: [],
      manifests: new Map([
        [
          root.descriptor.digest,
          {
            ...node,
            descriptor: root.descriptor,
            bytes,
            manifest: { kind: 'index', mediaType: root.descriptor.mediaType, manifests: [] },
          },
        ],
      ]),
    };
    const store = new MemoryObjects({ partSize: 600 });
    const layout = planArchive(empty, { tag: 'v1', repository: REPOSITORY });
    const archive = await createArchive(store, KEY, layout);
    expect(store.stored).toHaveLength(Math.ceil(layout.size / 600));
    await archive.commit();
    expect(Buffer.compare(store.bytesOf(KEY), known(layout))).toBe(0);
  });
});

describe('an archive that is being filled', () => {
  test('requires every blob before it becomes visible, and names what is missing', async () => {
    const { content, root } = await makeImage();
    const store = new MemoryObjects();
    const layout = await planOf(content, root);
    const archive = await createArchive(store, KEY, layout);
    const [first, ...others] = blobEntries(layout);
    if (first === undefined) throw new Error('the image has blobs');
    for (const { descriptor } of others) await archive.put(descriptor, () => read(content, descriptor));
    await expect(archive.commit()).rejects.toMatchObject({
      code: 'BUG',
      message: `write memory://${KEY}: 1 of ${others.length + 1} blobs have not arrived (${first.descriptor.digest.slice(0, 19)})`,
    });
    await expect(store.stat(KEY)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test('never becomes visible with a blob that failed verification', async () => {
    const { content, root } = await makeImage({ platforms: ['linux/amd64'], layers: [5000] });
    for (const { descriptor } of blobEntries(await planOf(content, root))) {
      const store = new MemoryObjects({ partSize: 512 });
      const bad = corrupting(content, descriptor.digest, descriptor.size - 1);
      await expect(archiveImage(bad, root, store, KEY)).rejects.toMatchObject({ code: 'CORRUPT' });
      await expect(store.stat(KEY)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    }
  });

  test('accepts nothing that was not planned', async () => {
    const { content, root } = await makeImage();
    const other = await makeImage({ seed: 2 });
    const archive = await createArchive(new MemoryObjects(), KEY, await planOf(content, root));
    const nothing = (): Bytes => expect.unreachable('nothing is read');
    await expect(archive.put(other.root.descriptor, nothing)).rejects.toMatchObject({ code: 'BUG' });
    await expect(archive.tag('v1', other.root.descriptor, nothing)).rejects.toMatchObject({ code: 'BUG' });
    await expect(archive.tag('v2', root.descriptor, nothing)).rejects.toMatchObject({
      code: 'BUG',
      message: expect.stringContaining('the tag v2'),
    });
    await archive.tag('v1', root.descriptor, nothing);
  });

  test('accepts no blob of another size than planned', async () => {
    const { content, root } = await makeImage();
    const layout = await planOf(content, root);
    const archive = await createArchive(new MemoryObjects({ partSize: 700 }), KEY, layout);
    const d = blobEntries(layout).at(-1)?.descriptor ?? expect.unreachable();
    const bytes = await collect(read(content, d));
    await expect(archive.put({ ...d, size: d.size + 1 }, () => read(content, d))).rejects.toMatchObject({
      code: 'INVALID',
    });
    for (const wrong of [bytes.subarray(1), Buffer.concat([bytes, Buffer.from('x')])]) {
      await expect(archive.put(d, () => chunked(wrong, 100))).rejects.toMatchObject({ code: 'BUG' });
    }
    await archive.put(d, () => read(content, d));
    expect(await archive.has(d)).toBe(true);
  });

  test('leaves an upload that can be aborted', async () => {
    const { content, root } = await makeImage();
    const store = new MemoryObjects({ partSize: 700 });
    const layout = await planOf(content, root);
    const archive = await createArchive(store, KEY, layout);
    const [first] = blobEntries(layout);
    await archive.put(first?.descriptor ?? expect.unreachable(), () =>
      read(content, first?.descriptor ?? root.descriptor),
    );
    await archive.abort();
    await archive.abort();
    await expect(archive.commit()).rejects.toMatchObject({ code: 'ABORTED' });
    const sent = store.stored.length;
    await archiveImage(content, root, store, KEY);
    expect(store.stored.length - sent).toBe(Math.ceil(layout.size / 700));
  });

  test('is CONFLICT where another archive took its place, and replaces the archive that its condition names', async () => {
    const { content, root } = await makeImage();
    const store = new MemoryObjects();
    const { etag } = await archiveImage(content, root, store, KEY, { condition: { ifAbsent: true } });
    const other = await makeImage({ seed: 2 });
    const again = archiveImage(other.content, other.root, store, KEY, { condition: { ifAbsent: true } });
    await expect(again).rejects.toMatchObject({ code: 'CONFLICT' });
    await archiveImage(other.content, other.root, store, KEY, { condition: { ifMatch: etag } });
    expect((await openImage(store, KEY)).root.descriptor).toEqual(other.root.descriptor);
  });

  test.each(['DENIED', 'ABORTED'] as const)(
    'fails with the first part that the store refuses (%s), and resumes later',
    async (code) => {
      const image = await makeImage({ layers: [3000, 70_000] });
      const { layout, tar } = await expected(image);
      const parts = Math.ceil(layout.size / 4096);
      for (let n = 1; n <= parts; n++) {
        let broken = true;
        const store = new MemoryObjects({
          partSize: 4096,
          onPart: (part) => {
            if (part === n && broken) throw new Failure(code, `part ${n} was made to fail`);
          },
        });
        const writing = archiveImage(image.content, image.root, store, KEY);
        await expect(writing).rejects.toMatchObject({
          code,
          message: expect.stringContaining(`part ${n} was made to fail`),
        });
        broken = false;
        await archiveImage(image.content, image.root, store, KEY);
        expect(Buffer.compare(store.bytesOf(KEY), tar)).toBe(0);
        expect(store.stored.toSorted((x, y) => x - y)).toEqual(Array.from({ length: parts }, (_, i) => i + 1));
      }
    },
  );

  test('holds no more parts in memory than its budget, however many there are', async () => {
    const layers = Array.from({ length: 20 }, (_, i) => 10_000 + i);
    const image = await makeImage({ platforms: ['linux/amd64'], layers });
    const concurrency = 2;
    // what the blobs in transit need: their own part each, and the parts that they share with their neighbours
    const least = concurrency + (concurrency + 1);
    for (const budget of [1, 8]) {
      const disk = new MemoryObjects({ partSize: 1000 });
      // buffers are reused: there are as many as were ever held at once
      const buffers = new Set<ArrayBufferLike>();
      const store: ObjectStore = Object.assign(Object.create(disk) as ObjectStore, {
        upload: async (...args: Parameters<ObjectStore['upload']>) => {
          const upload = await disk.upload(...args);
          const part: typeof upload.part = async (n, bytes, o) => {
            buffers.add(bytes.buffer);
            await turn();
            await upload.part(n, bytes, o);
          };
          return { ...upload, part };
        },
      });
      const graph = await walk(image.content, [image.root]);
      const layout = planArchive(graph, { tag: 'v1', repository: REPOSITORY });
      const archive = await createArchive(store, KEY, layout, { memory: new PartMemory(budget * 1000) });
      await copy(rechunked(image.content, 300), archive, [image.root], { graph, concurrency });
      await archive.commit();
      expect(disk.stored.length).toBeGreaterThan(200);
      // a blob that begins gets its parts at once, and waits for no other blob to release memory
      expect(buffers.size).toBeLessThanOrEqual(Math.max(least, budget + 2 * (concurrency - 1)));
      expect(buffers.size).toBeGreaterThanOrEqual(Math.min(least, budget));
    }
  });

  test('sends as many parts of a blob at once as there is memory for, while the next is being filled', async () => {
    const partSize = 4096;
    for (const [blobs, budget, atOnce] of [
      [1, 1, 1],
      [1, 6, 5], // one is shared with the previous bytes
      [3, 1, 3],
    ] as const) {
      const layers = Array.from({ length: blobs }, () => 200_000);
      const image = await makeImage({ platforms: ['linux/amd64'], layers, sharedLayerBytes: 0 });
      const layout = await planOf(image.content, image.root);
      const { end, counts } = counting(rechunked(image.content, 1000));
      let [sending, most, readMeanwhile] = [0, 0, 0];
      const store = new MemoryObjects({
        partSize,
        onPart: async () => {
          most = Math.max(most, ++sending);
          const before = bytesRead(counts);
          for (let i = 0; i < 50; i++) await turn();
          readMeanwhile = Math.max(readMeanwhile, bytesRead(counts) - before);
          sending--;
        },
      });
      const archive = await createArchive(store, KEY, layout, { memory: new PartMemory(budget * partSize) });
      const large = blobEntries(layout).filter((entry) => entry.size > 100_000);
      expect(large).toHaveLength(blobs);
      await Promise.all(large.map(async ({ descriptor }) => archive.put(descriptor, () => read(end, descriptor))));
      expect(most).toBe(atOnce);
      if (budget > 1) expect(readMeanwhile).toBeGreaterThan(partSize / 2);
    }
  });

  test('releases its memory, however it ends', async () => {
    const image = await makeImage({ layers: [50_000] });
    const layout = await planOf(image.content, image.root);
    for (const crashAt of [3, 20, Infinity]) {
      const { store } = crashing(new MemoryObjects({ partSize: 1000 }), crashAt);
      const memory = new PartMemory(8000);
      const writing = async (): Promise<void> => {
        using archive = await createArchive(store, KEY, layout, { memory });
        await copy(image.content, archive, [image.root]);
        await archive.commit();
      };
      await writing().catch(() => undefined);
      expect(memory.tryTake(8000)).toBeDefined();
    }
  });

  test('continues with every blob while the source of another is stalled', async () => {
    const image = await makeImage({ platforms: ['linux/amd64'], layers: [50_000, 50_000, 50_000] });
    const { layout, tar } = await expected(image);
    const store = new MemoryObjects({ partSize: 1000 });
    const archive = await createArchive(store, KEY, layout, { memory: new PartMemory(1) });
    const [still, ...others] = blobEntries(layout).filter((entry) => entry.size > 50_000);
    if (still === undefined) throw new Error('the image has layers');
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    const waiting = archive.put(still.descriptor, async function* () {
      for await (const chunk of read(rechunked(image.content, 3000), still.descriptor)) {
        yield chunk;
        await released;
      }
    });
    for (const { descriptor } of others) await archive.put(descriptor, () => read(image.content, descriptor));
    release();
    await waiting;
    for (const { descriptor } of blobEntries(layout))
      await archive.put(descriptor, () => read(image.content, descriptor));
    await archive.commit();
    expect(Buffer.compare(store.bytesOf(KEY), tar)).toBe(0);
  });

  test('ends in the bytes of the plan, or fails, whatever the chunks, orders and failures', async () => {
    const image = await makeImage({ signed: true, layers: [0, 900, 30_000] });
    const { layout, tar } = await expected(image);
    const blobs = blobsOf(await walk(image.content, [image.root]));
    await fc.assert(
      fc.asyncProperty(
        fc.shuffledSubarray([...blobs], { minLength: blobs.length }),
        fc.constantFrom(1, 7, 511, 16_384, 262_144),
        fc.integer({ min: 512, max: 9000 }),
        fc.integer({ min: 1, max: 10 }),
        fc.integer({ min: 1, max: 5 }),
        fc.array(fc.tuple(fc.integer({ min: 1, max: 60 }), fc.constantFrom('part', 'body')), { maxLength: 2 }),
        async (order, chunkBytes, partSize, budget, width, faults) => {
          let parts = 0;
          const disk = new MemoryObjects({
            partSize,
            onPart: async () => {
              const n = ++parts;
              for (let i = 0; i < (n * 7) % 4; i++) await turn();
              if (faults.some(([at, what]) => what === 'part' && at === n)) throw new Failure('UNAVAILABLE', 'part');
            },
          });
          let opened = 0;
          const bodyOf = (d: Descriptor): Bytes => {
            const breaks = faults.some(([at, what]) => what === 'body' && at === opened);
            opened++;
            const source = rechunked(
              breaks ? corrupting(image.content, d.digest, d.size - 1) : image.content,
              chunkBytes,
            );
            return lent(read(source, d));
          };
          for (let life = 0; ; life++) {
            try {
              const archive = await createArchive(disk, KEY, layout, { memory: new PartMemory(budget * partSize) });
              await forEachOf(order, width, async (d, o) => archive.put(d, () => bodyOf(d), o));
              await archive.commit();
              break;
            } catch (error) {
              if (!isFailure(error, 'UNAVAILABLE', 'CORRUPT')) throw error;
              if (life > faults.length) throw error;
              await expect(disk.stat(KEY)).rejects.toMatchObject({ code: 'NOT_FOUND' });
            }
          }
          expect(Buffer.compare(disk.bytesOf(KEY), tar)).toBe(0);
        },
      ),
      { numRuns: 25 },
    );
  });

  test('stops when it is aborted, with nothing left running, and resumes later', async () => {
    const image = await makeImage({ layers: [70_000] });
    const { tar } = await expected(image);
    const stop = new AbortController();
    let running = 0;
    const store = new MemoryObjects({
      partSize: 4096,
      onPart: async (n) => {
        running++;
        if (n === 5) stop.abort();
        await turn();
        running--;
      },
    });
    const graph = await walk(image.content, [image.root]);
    const layout = planArchive(graph, { tag: 'v1', repository: REPOSITORY });
    const archive = await createArchive(store, KEY, layout, stop);
    await expect(copy(image.content, archive, [image.root], { graph, signal: stop.signal })).rejects.toMatchObject({
      code: 'ABORTED',
    });
    expect(running).toBe(0);
    // in the same process: a caller that aborts does not break the archive
    await copy(image.content, archive, [image.root], { graph });
    await archive.commit();
    expect(Buffer.compare(store.bytesOf(KEY), tar)).toBe(0);
  });
});

describe('an archive that is resumed', () => {
  test.each([1, 4, 12])(
    'ends in the identical bytes wherever the previous process was killed (%i parts)',
    async (budget) => {
      const image = await makeImage({ signed: true, layers: [900, 20_000] });
      const partSize = 2048;
      const concurrency = 2;
      const memory = budget * partSize;
      const { tar, layout } = await expected(image);
      const whole = crashing(new MemoryObjects({ partSize }), Infinity);
      await fill(image, whole.store, concurrency, memory);
      expect(whole.writes()).toBeGreaterThan(50);
      for (let point = 1; point <= whole.writes(); point++) {
        const disk = new MemoryObjects({ partSize });
        const first = crashing(disk, point);
        await expect(fill(image, first.store, concurrency, memory)).rejects.toThrow('crashed');
        const second = crashing(disk, Infinity);
        await fill(image, second.store, concurrency, memory);
        expect(Buffer.compare(disk.bytesOf(KEY), tar)).toBe(0);
        // what was passed to the store and lost, or sent before it could be known to be wrong
        const twice = first.bytesSent() + second.bytesSent() - layout.size;
        expect(twice).toBeLessThanOrEqual(Math.max(memory, concurrency * partSize));
      }
    },
  );

  test('ends in the identical bytes when every process is killed at its third write', async () => {
    const image = await makeImage({ signed: true, layers: [900, 20_000] });
    const { tar } = await expected(image);
    const disk = new MemoryObjects({ partSize: 2048 });
    let lives = 0;
    for (; ; lives++) {
      // upload, a part, and the point before its caller learns of it
      const life = crashing(disk, 5);
      try {
        await fill(image, life.store, 2);
        break;
      } catch (error) {
        if (!String(error).includes('crashed')) throw error;
      }
      if (lives > 200) throw new Error('it makes no progress');
    }
    expect(lives).toBeGreaterThan(10);
    expect(Buffer.compare(disk.bytesOf(KEY), tar)).toBe(0);
  });

  test('reads nothing of blobs whose parts are all stored', async () => {
    const image = await makeImage({ platforms: ['linux/amd64'], layers: [20_000, 20_000, 20_000] });
    const layout = await planOf(image.content, image.root);
    const store = new MemoryObjects({ partSize: 1000 });
    const first = await createArchive(store, KEY, layout);
    const entries = blobEntries(layout);
    for (const { descriptor } of entries.slice(0, -1))
      await first.put(descriptor, () => read(image.content, descriptor));

    const { end, counts } = counting(image.content);
    const again = await createArchive(store, KEY, layout);
    const stored = [];
    for (const { descriptor } of entries) if (await again.has(descriptor)) stored.push(descriptor.digest);
    // all except the last, and the previous one, which shares a part with the last
    expect(stored).toEqual(entries.slice(0, -2).map((entry) => entry.descriptor.digest));
    for (const { descriptor } of entries) await again.put(descriptor, () => read(end, descriptor));
    expect(counts.opened.map((opened) => opened.digest)).toEqual(
      entries.slice(-2).map((entry) => entry.descriptor.digest),
    );
    await again.commit();
  });

  test('sends a part again that holds unverified bytes, and only that', async () => {
    const image = await makeImage({ platforms: ['linux/amd64'], layers: [20_000], sharedLayerBytes: 0 });
    const { layout, tar } = await expected(image);
    const layer = blobEntries(layout).at(-1) ?? expect.unreachable();
    const partSize = 1024;
    const store = new MemoryObjects({ partSize });
    const offset = 5000;
    const first = await createArchive(store, KEY, layout);
    const bad = rechunked(corrupting(image.content, layer.descriptor.digest, offset), 700);
    await expect(first.put(layer.descriptor, () => read(bad, layer.descriptor))).rejects.toMatchObject({
      code: 'CORRUPT',
    });
    const wrong = Math.floor((layer.offset + layer.header.byteLength + offset) / partSize) + 1;
    expect(store.stored).toContain(wrong);
    const before = store.stored.length;

    await fill(image, store, 1);
    expect(Buffer.compare(store.bytesOf(KEY), tar)).toBe(0);
    const again = store.stored.slice(before).filter((n) => store.stored.slice(0, before).includes(n));
    expect(again).toEqual([wrong]);
  });

  test('holds back the shared parts of a blob until its own are all stored', async () => {
    // otherwise a crash in between would leave a blob that looks complete, with a wrong part inside
    const image = await makeImage({ platforms: ['linux/amd64'], layers: [20_000], sharedLayerBytes: 0 });
    const layout = await planOf(image.content, image.root);
    const layer = blobEntries(layout).at(-1) ?? expect.unreachable();
    const partSize = 1024;
    const last = Math.floor((endOf(layer) - 1) / partSize) + 1;
    const slow = last - 3;
    const order: string[] = [];
    const { promise, resolve } = Promise.withResolvers<void>();
    const store = new MemoryObjects({
      partSize,
      onPart: async (n) => {
        if (n === slow) {
          await promise;
          order.push('own');
        } else if (n === last) order.push('shared');
      },
    });
    const writing = fill(image, store, 4);
    for (let i = 0; i < 50; i++) await turn();
    expect(order).toEqual([]);
    resolve();
    await writing;
    expect(order[0]).toBe('own');
  });

  test('begins anew when the image is another one', async () => {
    const image = await makeImage({ layers: [20_000] });
    const other = await makeImage({ layers: [20_000], seed: 2 });
    const disk = new MemoryObjects({ partSize: 1024 });
    await expect(fill(image, crashing(disk, 30).store, 1)).rejects.toThrow('crashed');
    await fill(other, disk, 1);
    await expectSameImage(other.content, await openImage(disk, KEY), other.root);
  });
});

function bytesRead(counts: Counts): number {
  return counts.opened.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** Does what a backup does, with so many blobs at once. */
async function fill(
  { content, root }: MadeImage,
  store: ObjectStore,
  concurrency: number,
  memory?: number,
): Promise<void> {
  const graph = await walk(content, [root]);
  const layout = planArchive(graph, { tag: 'v1', repository: REPOSITORY });
  if ((await layoutAt(store)) === layout.digest) return;
  const options = memory === undefined ? {} : { memory: new PartMemory(memory) };
  const archive = await createArchive(store, KEY, layout, options);
  await copy(content, archive, [root], { graph, strict: true, concurrency });
  await archive.commit();
}

/** Which archive exists already. */
async function layoutAt(store: ObjectStore): Promise<string | undefined> {
  try {
    return (await openImage(store, KEY)).layoutDigest;
  } catch (error) {
    if (isFailure(error, 'NOT_FOUND')) return undefined;
    throw error;
  }
}

/** The archive according to its plan, assembled without any of the code that fills one. */
async function expected({
  content,
  root,
}: {
  content: Source;
  root: Root;
}): Promise<{ layout: ArchiveLayout; tar: Buffer }> {
  const layout = await planOf(content, root);
  const tar = known(layout);
  for (const { descriptor, offset, header } of blobEntries(layout)) {
    tar.set(header, offset);
    tar.set(await collect(read(content, descriptor)), offset + header.byteLength);
  }
  return { layout, tar };
}

function known(layout: ArchiveLayout): Buffer {
  const tar = Buffer.alloc(layout.size);
  for (const { offset, header, bytes } of layout.entries) {
    if (bytes === undefined) continue;
    tar.set(header, offset);
    tar.set(bytes, offset + header.byteLength);
  }
  return tar;
}

function blobEntries(layout: ArchiveLayout): readonly BlobEntry[] {
  return layout.entries.filter((entry) => entry.descriptor !== undefined);
}
