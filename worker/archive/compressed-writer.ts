import type { Transform } from 'node:stream';
import { constants, createGunzip, createGzip, createZstdCompress, createZstdDecompress } from 'node:zlib';
import { bodyAt } from '../content/bytes.ts';
import type { Bytes, Source } from '../content/content.ts';
import { progressOf } from '../content/paced.ts';
import { read } from '../content/read.ts';
import { watched } from '../content/watch.ts';
import type { ObjectInfo, ObjectStore, WriteOptions } from '../objects/objects.ts';
import { archiveKindOf } from '../oci/archive-key.ts';
import type { Descriptor } from '../oci/manifest.ts';
import type { Abortable } from '../util/abort.ts';
import { systemClock, type Clock } from '../util/clock.ts';
import { Failure, isFailure } from '../util/failure.ts';
import type { Report } from '../util/events.ts';
import { metadataOf, type ArchiveNotes } from './metadata.ts';
import type { ArchiveLayout } from './plan.ts';
import { END_BYTES, paddingOf } from './tar.ts';

export type Compression = 'gzip' | 'zstd';

export interface UnpackOptions {
  /** Called for each frame of zstd after the first, with the byte at which it begins. */
  readonly onNextFrame?: (offset: number) => void;
  /** The largest window of zstd, which is kept in memory, as the logarithm of its bytes. Default: 27, as `zstd --long` writes. */
  readonly windowLog?: number | undefined;
}

/** The context of the failure of an archive with a larger window than was allowed. */
export const NEEDS_WINDOW = 'needsWindow';
const MAX_WINDOW_LOG = 27;

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
  return store.stream(key, compression === 'gzip' ? fromNowhere(body) : body, {
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
 * `body` unpacked, without a bound. CORRUPT when it is damaged or cut off, UNSUPPORTED for a larger window; messages call it `it`.
 */
export async function* unpacked(body: Bytes, compression: Compression, options: UnpackOptions = {}): Bytes {
  const { windowLog = MAX_WINDOW_LOG, onNextFrame } = options;
  try {
    const plain = compression === 'zstd' ? unzstd(body, { windowLog, onNextFrame }) : through(body, createGunzip());
    for await (const chunk of plain) yield chunk;
  } catch (error) {
    if (isFailure(error)) throw error;
    if (error instanceof Error && 'code' in error && error.code === 'ZSTD_error_frameParameter_windowTooLarge')
      throw new Failure(
        'UNSUPPORTED',
        `its zstd data needs a window of more than ${2 ** (windowLog - 20)} MiB in memory: compress it again without --long`,
        { cause: error, context: { [NEEDS_WINDOW]: true } },
      );
    throw new Failure('CORRUPT', `its ${compression} data is damaged or cut off`, { cause: error });
  }
}

/** The planned archive, from its first byte to its last. Fails unless every blob is verified. */
export async function* archiveBytes(layout: ArchiveLayout, source: Source, options: StreamArchiveOptions): Bytes {
  const { report } = options;
  const blobs = layout.entries.filter((entry) => entry.bytes === undefined);
  const bytes = blobs.reduce((sum, entry) => sum + entry.size, 0);
  report?.({ type: 'planned', blobs: blobs.length, manifests: layout.entries.length - blobs.length, bytes });
  for (const entry of layout.entries) {
    yield entry.header;
    if (entry.bytes !== undefined) yield entry.bytes;
    else {
      const { digest, size } = entry.descriptor;
      report?.({ type: 'blob-started', digest, bytes: size });
      for await (const chunk of contentOf(entry.descriptor, source, options)) yield chunk;
      report?.({ type: 'blob-done', digest, bytes: size, outcome: 'copied' });
    }
    yield new Uint8Array(paddingOf(entry.size));
  }
  yield new Uint8Array(END_BYTES);
}

function contentOf(blob: Descriptor, source: Source, options: StreamArchiveOptions): Bytes {
  const body = bodyAt('source', read(source, blob, options));
  return watched(body, progressOf(blob, options.report, options.clock ?? systemClock));
}

/** What comes out of `transform` when `body` goes in. Fails as either of them does; leaving it closes both. */
async function* through(body: Bytes, transform: Transform): Bytes {
  const feeding = feed(body, transform);
  try {
    for await (const chunk of transform) yield chunk as Uint8Array;
  } finally {
    transform.destroy();
    await feeding;
  }
}

/** Gives all of `body` to `transform`, and the next chunk when it has used the one before. A failure of the body destroys the transform. Never rejects. */
async function feed(body: Bytes, transform: Transform): Promise<void> {
  let used = (): void => undefined;
  // a transform that is destroyed may never report that it has used a chunk
  transform.once('close', () => used());
  try {
    for await (const chunk of body) {
      if (transform.destroyed) return;
      if (chunk.byteLength === 0) continue;
      const { promise, resolve } = Promise.withResolvers<void>();
      used = resolve;
      transform.write(chunk, () => resolve());
      await promise;
      if (transform.destroyed) return;
    }
    transform.end();
  } catch (error) {
    transform.destroy(error instanceof Error ? error : new Error(String(error)));
  }
}

/** Reads every frame. Node's decompressor ends with the first frame and does not report what follows it; pzstd and cat make files of many. */
async function* unzstd(
  body: Bytes,
  { windowLog, onNextFrame }: { readonly windowLog: number; readonly onNextFrame: UnpackOptions['onNextFrame'] },
): Bytes {
  const chunks = body[Symbol.asyncIterator]();
  const pull = async (): Promise<Uint8Array | undefined> => {
    const next = await chunks.next();
    return next.done === true ? undefined : next.value;
  };
  let offset = 0;
  try {
    let current = await pull();
    do {
      const frame = createZstdDecompress({ params: { [constants.ZSTD_d_windowLogMax]: windowLog } });
      // where the current chunk begins in what the frame was given
      let start = 0;
      const rest = async function* (): Bytes {
        while (current !== undefined) {
          yield current;
          // it has used the chunk, or has ended within it
          if (frame.bytesWritten < start + current.byteLength) return;
          start += current.byteLength;
          current = await pull();
        }
      };
      for await (const chunk of through(rest(), frame)) yield chunk;
      offset += frame.bytesWritten;
      // a frame may end where a chunk does: only the next chunk shows whether there is another
      if (current !== undefined) current = current.subarray(frame.bytesWritten - start);
      if (current?.byteLength === 0) current = await pull();
      if (current !== undefined) onNextFrame?.(offset);
    } while (current !== undefined);
  } finally {
    await chunks.return?.();
  }
}

/** Sets the byte that names the operating system to "unknown", so that the same archive is the same file everywhere. */
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
