// A compressed tar that is read in passes, without a disk.
import { buffer } from 'node:stream/consumers';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { describe, expect, test } from 'vitest';
import { openTar } from '../../../worker/archive/archive-files.ts';
import { openPacked, type PackedObject } from '../../../worker/archive/packed-object.ts';
import { unpackLimit } from '../../../worker/archive/unpack.ts';
import type { ReadOptions } from '../../../worker/objects/objects.ts';
import { Limit } from '../../../worker/util/limit.ts';
import { collect } from '../../support/chunks.ts';
import { failureOf } from '../../support/lab.ts';
import { MemoryObjects } from '../../support/memory-objects.ts';

const LARGE = 3 * 1024 * 1024;
const FILES: readonly (readonly [name: string, size: number])[] = [
  ['first.json', 700],
  ['large-1', LARGE],
  ['small', 10_000],
  ['large-2', LARGE],
  ['index.json', 300],
];

/** Bytes that repeat after a prime number of them, so that another offset has other bytes. */
function bytesOf(size: number, seed: number): Buffer {
  const period = Uint8Array.from({ length: 251 }, (_, at) => (at * at + seed) % 256);
  return Buffer.alloc(size, period);
}

const tar = pack();
for (const [seed, [name, size]] of FILES.entries()) tar.entry({ name }, bytesOf(size, seed));
tar.finalize();
const TAR = await buffer(tar);

/** An object whose passes are counted. */
class CountedObjects extends MemoryObjects {
  passes = 0;
  override async read(key: string, options?: ReadOptions): ReturnType<MemoryObjects['read']> {
    this.passes++;
    return super.read(key, options);
  }
}

async function open(
  bytes: Buffer,
  compression: 'gzip' | 'zstd',
  more: { readonly passes?: Limit; readonly maxBytes?: number } = {},
): Promise<{ readonly store: CountedObjects; readonly packed: PackedObject }> {
  const store = new CountedObjects();
  const info = await store.write('archive', bytes);
  const limit = unpackLimit(info.size, undefined, more.maxBytes);
  const packed = await openPacked({ store, info, compression, limit, passes: more.passes ?? new Limit(2) }, {});
  return { store, packed };
}

describe.each([
  ['gzip', gzipSync],
  ['zstd', zstdCompressSync],
] as const)('a tar that is compressed with %s', (compression, compress) => {
  const packedTar = compress(TAR);

  test('serves every range as it unpacks', async () => {
    const { packed } = await open(packedTar, compression);
    expect(packed.info.size).toBe(TAR.byteLength);
    for (const [offset, length] of [
      [0, TAR.byteLength],
      [511, 1026],
      [LARGE, LARGE],
      [TAR.byteLength - 1, 1],
    ] as const)
      expect(
        (await collect(await packed.read('', { offset, length }))).equals(TAR.subarray(offset, offset + length)),
      ).toBe(true);
  });

  test('costs one pass to open and to find its files, and one for each large file', async () => {
    const { store, packed } = await open(packedTar, compression);
    const opened = await openTar(packed, packed.info, { name: 'archive' });
    for (const [seed, [name, size]] of FILES.entries()) {
      if (size === LARGE) continue;
      expect((await collect(await opened.open(name))).equals(bytesOf(size, seed))).toBe(true);
    }
    expect(store.passes).toBe(1);
    expect((await collect(await opened.open('large-2'))).equals(bytesOf(LARGE, 3))).toBe(true);
    expect(store.passes).toBe(2);
  });

  test('is refused where it is damaged, truncated, or unpacks to more than is allowed', async () => {
    await failureOf(open(packedTar.subarray(0, packedTar.byteLength - 100), compression), 'CORRUPT');
    await failureOf(open(packedTar, compression, { maxBytes: LARGE }), 'INVALID');
  });

  test('delays no more passes than are allowed, and frees them when a reader leaves', async () => {
    const passes = new Limit(1);
    const { packed } = await open(packedTar, compression, { passes });
    const first = (await packed.read('', { offset: 0, length: 2 * LARGE }))[Symbol.asyncIterator]();
    await first.next();
    let isRead = false;
    const second = collect(await packed.read('', { offset: 100, length: 2 * LARGE })).then(() => (isRead = true));
    await first.next();
    expect(isRead).toBe(false);
    await first.return?.();
    await second;
    expect(passes.tryTake()).toBeDefined();
  });
});
