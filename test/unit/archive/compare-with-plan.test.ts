import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { holdsPlanned } from '../../../worker/archive/compressed-check.ts';
import { streamArchive } from '../../../worker/archive/compressed-writer.ts';
import { planArchive } from '../../../worker/archive/plan.ts';
import { openImage } from '../../../worker/archive/reader.ts';
import { scanTar } from '../../../worker/archive/tar.ts';
import { walk } from '../../../worker/content/graph.ts';
import type { Backends } from '../../../worker/images/backends.ts';
import { verify, type VerifyResult } from '../../../worker/images/verify.ts';
import { systemClock } from '../../../worker/util/clock.ts';
import { archiveImage } from '../../support/archives.ts';
import { makeImage } from '../../support/images.ts';
import { MemoryObjects } from '../../support/memory-objects.ts';
import { makeTar } from '../../support/tars.ts';

const golden = await readFile(fileURLToPath(new URL('../../fixtures/archive-v1.tar', import.meta.url)));
/** Bits that are flipped anywhere, in addition to one in each byte of a header. */
const SAMPLE = 2000;

async function verifyIn(store: MemoryObjects, key: string): Promise<VerifyResult> {
  const unexpected = (): never => expect.unreachable('an archive needs only its folder');
  const backends: Backends = {
    registry: unexpected,
    bucket: unexpected,
    temporary: async () => {
      const path = await mkdtemp(join(tmpdir(), 'transship-verify-'));
      return { path, [Symbol.asyncDispose]: async () => rm(path, { recursive: true }) };
    },
    removeUnfinished: unexpected,
    standardStreams: { input: unexpected, output: unexpected },
    folder: () => store,
  };
  const [result] = await verify({ at: `oci-archive:/${key}` }, backends, { clock: systemClock });
  return result ?? expect.unreachable('verify gave no result');
}

async function verifyBytes(bytes: Uint8Array, metadata: Readonly<Record<string, string>> = {}): Promise<VerifyResult> {
  const store = new MemoryObjects();
  await store.write('x.tar', bytes, { metadata });
  return verifyIn(store, 'x.tar');
}

/** Every byte of every header that is not zero, with one of its bits: zeros are padding, of which the sample has enough. */
async function* headerBits(): AsyncGenerator<readonly [number, number]> {
  const readAt = async (offset: number, length: number): Promise<Uint8Array> =>
    golden.subarray(offset, offset + length);
  for await (const entry of scanTar(readAt, golden.byteLength)) {
    for (let offset = entry.headerOffset; offset < entry.offset; offset++)
      if (golden[offset] !== 0) yield [offset, offset % 8];
  }
}

test('verify finds the golden archive whole, and every flipped bit in it', async () => {
  expect(await verifyBytes(golden)).toMatchObject({ complete: true, faults: [] });
  const flips = await Array.fromAsync(headerBits());
  let state = 1;
  for (let count = 0; count < SAMPLE; count++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    flips.push([state % golden.byteLength, (state >>> 24) % 8]);
  }
  const missed: (readonly [number, number])[] = [];
  const bytes = Buffer.from(golden);
  for (const [offset, bit] of flips) {
    const before = bytes[offset] ?? 0;
    bytes[offset] = before ^ (1 << bit);
    const { complete, faults } = await verifyBytes(bytes);
    if (!complete || faults.length === 0) missed.push([offset, bit]);
    bytes[offset] = before;
  }
  expect(missed).toEqual([]);
});

test('verify finds a flipped bit in any character of the documents of an archive, including the bit of its case', async () => {
  const end = golden.indexOf('blobs/sha256/');
  const bytes = Buffer.from(golden);
  const missed: (readonly [number, number])[] = [];
  for (let offset = 0; offset < end; offset++) {
    const before = bytes[offset] ?? 0;
    // the lowest bit, or the bit of a letter's case; zeros are padding, of which the other test has a sample
    for (const bit of before === 0 ? [] : [offset % 2 === 0 ? 0 : 5]) {
      bytes[offset] = before ^ (1 << bit);
      const { complete, faults } = await verifyBytes(bytes);
      if (!complete || faults.length === 0) missed.push([offset, bit]);
    }
    bytes[offset] = before;
  }
  expect(missed).toEqual([]);
});

test('verify names the byte and the file of a flipped bit that only other readers notice', async () => {
  const bytes = Buffer.from(golden);
  const place = bytes.indexOf('RepoTags');
  bytes[place] = (bytes[place] ?? 0) ^ 1;
  expect((await verifyBytes(bytes)).faults).toEqual([
    `manifest.json of memory://x.tar differs from the plan at byte ${place}`,
  ]);
});

test('verify finds bytes that were appended to an archive', async () => {
  const { faults } = await verifyBytes(Buffer.concat([golden, Buffer.alloc(512)]));
  expect(faults).toEqual(['512 bytes follow the end of memory://x.tar']);
});

test('verify finds every flipped bit in the gzip header of a .tar.gz and bytes after it, and accepts what others compressed', async () => {
  const image = await makeImage({ platforms: ['linux/amd64'] });
  const graph = await walk(image.content, [image.root]);
  const layout = planArchive(graph, { tag: 'v1', repository: 'registry.test/app' });
  const store = new MemoryObjects();
  await streamArchive(store, 'a.tar.gz', layout, image.content);
  const { metadata } = await store.stat('a.tar.gz');
  expect(await verifyIn(store, 'a.tar.gz')).toMatchObject({ complete: true, faults: [] });
  const missed: (readonly [number, number])[] = [];
  for (let place = 0; place < 80; place++) {
    const bytes = Buffer.from(store.bytesOf('a.tar.gz'));
    const [offset, bit] = [Math.floor(place / 8), place % 8];
    bytes[offset] = (bytes[offset] ?? 0) ^ (1 << bit);
    await store.write('x.tar.gz', bytes, { metadata });
    const { faults } = await verifyIn(store, 'x.tar.gz');
    if (faults.length === 0) missed.push([offset, bit]);
  }
  expect(missed).toEqual([]);
  // gzip itself accepts both as a part of the file that unpacks to nothing
  for (const more of [Buffer.alloc(512), gzipSync(Buffer.alloc(0))]) {
    await store.write('x.tar.gz', Buffer.concat([store.bytesOf('a.tar.gz'), more]), { metadata });
    expect((await verifyIn(store, 'x.tar.gz')).faults).toEqual([
      expect.stringContaining('bytes follow the end of the gzip'),
    ]);
  }
  await store.write('theirs.tar.gz', gzipSync(gunzipSync(store.bytesOf('a.tar.gz'))));
  expect(await verifyIn(store, 'theirs.tar.gz')).toMatchObject({ complete: true, faults: [] });
});

test('verify finds a frame that unpacks to nothing in a .tar.zst, and accepts what others compressed', async () => {
  const image = await makeImage({ platforms: ['linux/amd64'] });
  const layout = planArchive(await walk(image.content, [image.root]), { tag: 'v1', repository: 'registry.test/app' });
  const store = new MemoryObjects();
  await streamArchive(store, 'a.tar.zst', layout, image.content);
  const { metadata } = await store.stat('a.tar.zst');
  expect(await verifyIn(store, 'a.tar.zst')).toMatchObject({ complete: true, faults: [] });
  expect(await holdsPlanned(store, await store.stat('a.tar.zst'), layout, {})).toBe(true);
  const bytes = store.bytesOf('a.tar.zst');
  // https://github.com/facebook/zstd/blob/v1.5.7/doc/zstd_compression_format.md#skippable-frames
  const skippable = Buffer.from('502a4d18040000006d6f7265', 'hex');
  const empty = zstdCompressSync(Buffer.alloc(0));
  // the writer removes what Node adds at times: the same archive is the same file
  expect(bytes.subarray(-empty.byteLength)).not.toEqual(empty);
  // which earlier archives have
  await store.write('before.tar.zst', Buffer.concat([bytes, empty]), { metadata });
  expect((await verifyIn(store, 'before.tar.zst')).faults).toEqual([]);
  for (const parts of [
    [bytes, skippable],
    [bytes, empty, empty],
    [bytes, empty, skippable, empty],
    [empty, bytes],
  ]) {
    await store.write('x.tar.zst', Buffer.concat(parts), { metadata });
    expect((await verifyIn(store, 'x.tar.zst')).faults).toEqual([expect.stringContaining('more than one frame')]);
    expect(await holdsPlanned(store, await store.stat('x.tar.zst'), layout, {})).toBe(false);
    await store.write('theirs.tar.zst', Buffer.concat(parts));
    expect(await verifyIn(store, 'theirs.tar.zst')).toMatchObject({ complete: true, faults: [] });
  }
});

test('verify finds metadata that belongs to another archive', async () => {
  const image = await makeImage();
  const store = new MemoryObjects();
  await archiveImage(image.content, image.root, store, 'a.tar');
  expect(await verifyIn(store, 'a.tar')).toMatchObject({ complete: true, faults: [] });
  const { metadata } = await store.stat('a.tar');
  const { faults } = await verifyBytes(golden, metadata);
  expect(faults.map((fault) => fault.split(' ')[2])).toEqual([
    'transship-root',
    'transship-source',
    'transship-layout',
    'transship-head',
  ]);
});

test('verify calls an archive that another tool packed whole as far as its blobs, never more', async () => {
  const image = await makeImage({ signed: true });
  const store = new MemoryObjects();
  await archiveImage(image.content, image.root, store, 'a.tar');
  const whole = store.bytesOf('a.tar');
  const entries = await Array.fromAsync(
    scanTar(async (offset, length) => whole.subarray(offset, offset + length), whole.byteLength),
  );
  const packed = await makeTar(
    entries.map(({ name, offset, size }) => ({ name, content: whole.subarray(offset, offset + size) })),
  );
  expect(await verifyBytes(packed)).toMatchObject({ complete: false, faults: [] });
  // according to its metadata, this program wrote it
  const { metadata } = await store.stat('a.tar');
  expect((await verifyBytes(packed, metadata)).faults).not.toEqual([]);
});

test('an archive with a flipped bit in the header of a layer can still be restored', async () => {
  const entries = await Array.fromAsync(
    scanTar(async (offset, length) => golden.subarray(offset, offset + length), golden.byteLength),
  );
  const bytes = Buffer.from(golden);
  const last = entries.at(-1)?.headerOffset ?? 0;
  bytes[last + 100] = (bytes[last + 100] ?? 0) ^ 1;
  const store = new MemoryObjects();
  await store.write('x.tar', bytes);
  const opened = await openImage(store, 'x.tar');
  expect(opened.layoutDigest).toBeDefined();
});
