import { once } from '../content/bytes.ts';
import type { Bytes } from '../content/content.ts';
import type { ObjectInfo, ObjectStore, ReadOptions } from '../objects/objects.ts';
import type { Abortable } from '../util/abort.ts';
import { Failure, isFailure } from '../util/failure.ts';
import type { Limit } from '../util/limit.ts';
import { FIRST_READ_BYTES, HEADER_READ_BYTES } from './archive-files.ts';
import { NEEDS_WINDOW, unpacked, type Compression } from './compressed-writer.ts';
import { scanTar, type ReadAt } from './tar.ts';
import { lookedAt, type UnpackLimit } from './unpack.ts';

/** What is kept of one archive, so that its headers and documents need no pass of their own. */
const MAX_KEPT_BYTES = 4 * 1024 * 1024;

interface Kept {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

interface PackedTar {
  readonly store: ObjectStore;
  readonly info: ObjectInfo;
  readonly compression: Compression;
  readonly limit: UnpackLimit;
  /** How many passes there are at once, over all archives. */
  readonly passes: Limit;
}

/** A compressed tar as what it unpacks to. */
export interface PackedObject extends Pick<ObjectStore, 'read'> {
  /** That of the object, but with the size of what it unpacks to. */
  readonly info: ObjectInfo;
}

/**
 * The window of a pass that shares the memory with others, as the logarithm of its bytes: 8 MiB, as all levels of zstd have it but `--ultra`. An
 * archive with a larger one, of `--long`, is read in passes that exclude all others.
 */
const SHARED_WINDOW_LOG = 23;

/**
 * Reads a compressed tar without a disk and in little memory: each range is a pass over the object, from its first byte to the end of the range.
 * Opening it is one whole pass, which keeps the headers and what follows them. A read waits while as many passes as are allowed are under way.
 * CORRUPT where the compressed data is damaged or cut off; the limit's failure where it unpacks to more.
 */
export async function openPacked(tar: PackedTar, options: Abortable): Promise<PackedObject> {
  try {
    return await openWith({ ...tar, windowLog: SHARED_WINDOW_LOG }, options);
  } catch (error) {
    if (!isFailure(error) || error.context[NEEDS_WINDOW] !== true) throw error;
    return openWith({ ...tar, windowLog: undefined }, options);
  }
}

interface OpenedTar extends PackedTar {
  /** Absent: the largest. */
  readonly windowLog: number | undefined;
}

async function openWith(tar: OpenedTar, options: Abortable): Promise<PackedObject> {
  const { info, compression, limit, windowLog } = tar;
  const giveBack = await takePass(tar, options);
  try {
    const body = await tar.store.read(info.key, { signal: options.signal, ifMatch: info.etag });
    const { size, kept } = await indexOf(lookedAt(unpacked(body, compression, { windowLog }), limit));
    return { info: { ...info, size }, read: async (_key, range) => rangeOf(tar, kept, { size, ...range }) };
  } finally {
    giveBack();
  }
}

async function takePass({ passes, windowLog }: OpenedTar, options: Abortable): Promise<() => void> {
  return passes.take(windowLog === undefined ? passes.capacity : 1, options);
}

async function rangeOf(
  tar: OpenedTar,
  kept: readonly Kept[],
  { offset = 0, size, length = size - offset, ifMatch, signal }: ReadOptions & { readonly size: number },
): Promise<Bytes> {
  const at = kept.find((one) => one.offset <= offset && offset + length <= one.offset + one.bytes.byteLength);
  if (at !== undefined) return once(at.bytes.subarray(offset - at.offset, offset - at.offset + length));
  return passTo(tar, offset, offset + length, { ifMatch, signal });
}

/** The bytes from `from` to `to`. It holds its place among the passes until its reader has the last of them. */
async function* passTo(
  tar: OpenedTar,
  from: number,
  to: number,
  options: Pick<ReadOptions, 'ifMatch' | 'signal'>,
): Bytes {
  const { store, info, compression, windowLog } = tar;
  const giveBack = await takePass(tar, options);
  try {
    let at = 0;
    for await (const chunk of unpacked(await store.read(info.key, options), compression, { windowLog })) {
      const [start, end] = [Math.max(0, from - at), Math.min(chunk.byteLength, to - at)];
      if (start < end) yield chunk.subarray(start, end);
      at += chunk.byteLength;
      if (at >= to) return;
    }
  } finally {
    giveBack();
  }
}

/** How long `tar` is, with its beginning and what the search for its headers reads. */
async function indexOf(tar: Bytes): Promise<{ readonly size: number; readonly kept: readonly Kept[] }> {
  const chunks = tar[Symbol.asyncIterator]();
  const kept: Kept[] = [];
  let keptBytes = 0;
  /** What is held, and where it begins. */
  let held: Uint8Array = new Uint8Array();
  let start = 0;
  let broken: unknown;
  const pull = async (): Promise<boolean> => {
    const next = await chunks.next().catch((error: unknown) => {
      broken = error;
      throw error;
    });
    if (next.done === true) return false;
    held = Buffer.concat([held, next.value]);
    return true;
  };
  const skipTo = async (offset: number): Promise<void> => {
    for (;;) {
      const some = Math.min(offset - start, held.byteLength);
      held = held.subarray(some);
      start += some;
      if (start >= offset || !(await pull())) return;
    }
  };
  const readAt: ReadAt = async (offset, length) => {
    await skipTo(offset);
    const window = offset === 0 ? FIRST_READ_BYTES : HEADER_READ_BYTES;
    while (held.byteLength < Math.max(length, window) && (await pull()));
    if (held.byteLength < length) throw new Failure('CORRUPT', 'the tar is cut off in a header');
    const last = kept.at(-1);
    const isKept = last !== undefined && offset + length <= last.offset + last.bytes.byteLength;
    if (!isKept && keptBytes < MAX_KEPT_BYTES) {
      const bytes = Uint8Array.from(held.subarray(0, window));
      kept.push({ offset, bytes });
      keptBytes += bytes.byteLength;
    }
    return held.subarray(0, length);
  };
  try {
    try {
      const entries = scanTar(readAt, Number.MAX_SAFE_INTEGER);
      while ((await entries.next()).done !== true);
    } catch (error) {
      // the reader of the tar reports what is wrong with it
      if (error === broken || !isFailure(error)) throw error;
    }
    await skipTo(Infinity);
    return { size: start, kept };
  } finally {
    await chunks.return?.();
  }
}
