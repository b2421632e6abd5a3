import { once } from 'node:events';
import { Readable, type Transform } from 'node:stream';
import { createGunzip, createGzip, createZstdCompress, createZstdDecompress } from 'node:zlib';
import type { Bytes, Source } from '../content/content.ts';
import { read } from '../content/read.ts';
import type { ObjectInfo, ObjectStore, WriteOptions } from '../objects/objects.ts';
import { archiveKindOf } from '../oci/archive-key.ts';
import type { Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import { atSide, Failure, isFailure } from '../util/failure.ts';
import type { Report } from '../util/events.ts';
import { metadataOf, type ArchiveNotes } from './metadata.ts';
import type { ArchiveLayout, LayoutEntry } from './plan.ts';
import { END_BYTES, paddingOf } from './tar.ts';

export type Compression = 'gzip' | 'zstd';
type OnNextFrame = (offset: number) => void;

/** A frame that unpacks to nothing. Node's compressor adds it where its input ended before the last of it was taken. */
export const EMPTY_FRAME: Uint8Array = Buffer.from('28b52ffd2000010000', 'hex');

export interface StreamArchiveOptions extends Abortable, ArchiveNotes {
  readonly condition?: WriteOptions['condition'];
  readonly onSent?: WriteOptions['onSent'];
  readonly clock?: Clock | undefined;
  readonly report?: Report | undefined;
}

/**
 * How every gzip file of ours begins: no name, no time, no flags, and no file system. Programs that unpack it accept other values, so only a
 * comparison finds damage here. https://www.rfc-editor.org/rfc/rfc1952#section-2.3.1
 */
export const GZIP_HEADER = Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255);

/** The file system that it was made on: 255 is "unknown". */
const GZIP_OS_OFFSET = 9;

/**
 * Writes the planned archive compressed, from its first byte to its last: zstd for keys that end in `.tar.zst`, gzip otherwise. What is inside is
 * byte for byte the plain archive. It cannot be read in ranges or resumed, and the layers inside are compressed already, so the plain form is
 * the better one. Nothing is visible unless every blob was verified.
 */
export async function streamArchive(
  store: ObjectStore,
  key: string,
  layout: ArchiveLayout,
  source: Source,
  options: StreamArchiveOptions = {},
): Promise<ObjectInfo> {
  const compression = compressionFor(key);
  const compressor = compression === 'zstd' ? createZstdCompress() : createGzip();
  const body = through(archiveBytes(layout, source, options), compressor);
  return store.stream(key, compression === 'gzip' ? fromNowhere(body) : inOneFrame(body), {
    signal: options.signal,
    contentType: `application/${compression}`,
    metadata: metadataOf(layout, options),
    condition: options.condition,
    onSent: options.onSent,
  });
}

/** How the archive at `key` is written. */
export function compressionFor(key: string): Compression {
  return archiveKindOf(key) === 'tar.zst' ? 'zstd' : 'gzip';
}

/**
 * `body` unpacked, without a bound. CORRUPT when it is damaged or cut off; messages call it `it`. `onNextFrame` is called for each frame of zstd
 * after the first, with the byte at which it begins.
 */
export async function* unpacked(body: Bytes, compression: Compression, onNextFrame?: OnNextFrame): Bytes {
  try {
    yield* compression === 'zstd' ? unzstd(body, onNextFrame) : through(body, createGunzip());
  } catch (error) {
    if (isFailure(error)) throw error;
    throw new Failure('CORRUPT', `its ${compression} data is damaged or cut off`, { cause: error });
  }
}

/** The planned archive, from its first byte to its last. Fails unless every blob is verified. */
export async function* archiveBytes(layout: ArchiveLayout, source: Source, options: StreamArchiveOptions): Bytes {
  const blobs = layout.entries.filter((entry) => entry.bytes === undefined);
  const bytes = blobs.reduce((sum, entry) => sum + entry.size, 0);
  options.report?.({ type: 'planned', blobs: blobs.length, manifests: layout.entries.length - blobs.length, bytes });
  for (const entry of layout.entries) {
    yield entry.header;
    yield* contentOf(entry, source, options);
    yield new Uint8Array(paddingOf(entry.size));
  }
  yield new Uint8Array(END_BYTES);
}

async function* contentOf(entry: LayoutEntry, source: Source, options: StreamArchiveOptions): Bytes {
  if (entry.bytes !== undefined) {
    yield entry.bytes;
    return;
  }
  const { digest, size } = entry.descriptor;
  options.report?.({ type: 'blob-started', digest, bytes: size });
  try {
    for await (const chunk of read(source, entry.descriptor, options)) {
      options.report?.({ type: 'blob-progress', digest, bytes: chunk.byteLength });
      yield chunk;
    }
  } catch (error) {
    throw atSide('source', error);
  }
  options.report?.({ type: 'blob-done', digest, bytes: size, outcome: 'copied' });
}

/** What comes out of `transform` when `body` goes in. Fails as either of them does; leaving it closes both. */
async function* through(body: Bytes, transform: Transform): Bytes {
  const input = Readable.from(body, { objectMode: false });
  input.on('error', (error) => transform.destroy(error));
  input.pipe(transform);
  try {
    for await (const chunk of transform) yield chunk as Uint8Array;
  } finally {
    transform.destroy();
    const closed = once(input, 'close');
    // what it failed with, it has failed the transform with
    input.destroy();
    if (!input.closed) await closed.catch(() => undefined);
  }
}

/** Node's decompressor ends with the first frame and says nothing of what comes after it; pzstd and cat make files of many. */
async function* unzstd(body: Bytes, onNextFrame?: OnNextFrame): Bytes {
  let offset = 0;
  const chunks = body[Symbol.asyncIterator]();
  // given to a decompressor, and not known to be used by it
  let pending: Uint8Array[] = [];
  const feed = async function* (again: readonly Uint8Array[]): Bytes {
    yield* again;
    for (let next = await chunks.next(); next.done !== true; next = await chunks.next()) {
      pending.push(next.value);
      yield next.value;
    }
  };
  try {
    do {
      const frame = createZstdDecompress();
      let used = 0;
      for await (const chunk of through(feed(pending.slice()), frame)) {
        for (
          let [first] = pending;
          first !== undefined && used + first.byteLength <= frame.bytesWritten;
          [first] = pending
        ) {
          used += first.byteLength;
          pending.shift();
        }
        yield chunk;
      }
      pending = [Buffer.concat(pending).subarray(frame.bytesWritten - used)];
      // a frame may end where a chunk does: only the next chunk tells whether there is another
      if (pending[0]?.byteLength === 0) {
        const next = await chunks.next();
        pending = next.done === true ? [] : [next.value];
      }
      offset += frame.bytesWritten;
      if (pending.length > 0) onNextFrame?.(offset);
    } while (pending.length > 0);
  } finally {
    await chunks.return?.();
  }
}

/** Without the empty frame after the data, so that the same archive is the same file every time. */
async function* inOneFrame(zstd: Bytes): Bytes {
  let end = Buffer.alloc(0);
  for await (const chunk of zstd) {
    const bytes = Buffer.concat([end, chunk]);
    const given = Math.max(bytes.byteLength - EMPTY_FRAME.byteLength, 0);
    if (given > 0) yield bytes.subarray(0, given);
    end = bytes.subarray(given);
  }
  if (Buffer.compare(end, EMPTY_FRAME) !== 0) yield end;
}

/** Without the byte that tells which system the file was made on, so that the same archive is the same file everywhere. */
async function* fromNowhere(gzip: Bytes): Bytes {
  let offset = 0;
  for await (const chunk of gzip) {
    if (offset <= GZIP_OS_OFFSET && offset + chunk.byteLength > GZIP_OS_OFFSET) {
      const header = Uint8Array.from(chunk);
      header[GZIP_OS_OFFSET - offset] = 255;
      yield header;
    } else yield chunk;
    offset += chunk.byteLength;
  }
}
