// A compressed tar that is read in passes, without a disk.
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { constants, createZstdCompress, gzipSync, zstdCompressSync } from 'node:zlib';
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

describe('a tar that is compressed with zstd --long', () => {
  /** As a program writes it that does not know how long its input is: a frame with a size needs no larger window than that. */
  const long = async (windowLog: number): Promise<Buffer> => {
    const params = { [constants.ZSTD_c_windowLog]: windowLog, [constants.ZSTD_c_enableLongDistanceMatching]: 1 };
    return buffer(Readable.from([TAR.subarray(0, 1000), TAR.subarray(1000)]).pipe(createZstdCompress({ params })));
  };

  test('is read in one pass at a time, since each takes 128 MiB', async () => {
    const passes = new Limit(4);
    const { packed } = await open(await long(27), 'zstd', { passes });
    const reading = (await packed.read('', { offset: 0, length: 2 * LARGE }))[Symbol.asyncIterator]();
    await reading.next();
    expect(passes.tryTake()).toBeUndefined();
    await reading.return?.();
    expect((await collect(await packed.read('', { offset: 511, length: LARGE }))).byteLength).toBe(LARGE);
    expect(passes.tryTake(4)).toBeDefined();
  });

  test('shares the passes where its window is small', async () => {
    const passes = new Limit(2);
    const { packed } = await open(await long(23), 'zstd', { passes });
    const reading = (await packed.read('', { offset: 0, length: 2 * LARGE }))[Symbol.asyncIterator]();
    await reading.next();
    expect(passes.tryTake()).toBeDefined();
    await reading.return?.();
  });

  test('is refused with what to do where its window is larger still', async () => {
    await expect(open(await long(28), 'zstd')).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/more than 128 MiB in memory: compress it again without --long$/),
    });
  });
});
