import type { Bytes } from '../content/content.ts';
import type { ObjectInfo, ObjectStore } from '../objects/objects.ts';
import { isFailure } from '../util/failure.ts';
import { openTar, type ArchiveFilesOptions, type TarFiles } from './archive-files.ts';
import { plannedPieces } from './compare-with-plan.ts';
import { compressionFor, EMPTY_FRAME, GZIP_HEADER, unpacked } from './compressed-writer.ts';
import type { ArchiveLayout } from './plan.ts';

/** Read at once, and kept in memory. */
const STEP_BYTES = 8 * 1024 ** 2;
/** The size before compression, modulo 2³², at the end of gzip: https://www.rfc-editor.org/rfc/rfc1952#section-2.3.1 */
const GZIP_SIZE_BYTES = 4;

/**
 * Whether the compressed archive that `info` describes holds the archive of `layout`. For gzip, a few ranges are read, and its header, the head
 * inside and the size at its end are compared with the plan. The end of zstd does not state a size, so the whole archive is unpacked in memory, and
 * everything but the content of blobs is compared. CONFLICT when the object was replaced since `info`.
 */
export async function holdsPlanned(
  store: ObjectStore,
  info: ObjectInfo,
  layout: ArchiveLayout,
  options: ArchiveFilesOptions,
): Promise<boolean> {
  const compression = compressionFor(info.key);
  if (info.size < GZIP_HEADER.byteLength + GZIP_SIZE_BYTES) return false;
  const packed = await openTar(store, info, { ...options, name: store.describe(info.key) });
  if (compression === 'gzip' && !((await hasGzipHeader(packed)) && (await hasGzipSize(packed, layout.size))))
    return false;
  try {
    const end = compression === 'gzip' ? layout.headSize : layout.size;
    const nextFrames: number[] = [];
    const tar = unpacked(bytesOf(packed), compression, { onNextFrame: (offset) => nextFrames.push(offset) });
    return (await isPlannedUpTo(end, tar, layout)) && (await isOneFrame(packed, nextFrames));
  } catch (error) {
    // no archive of Transship needs a larger window than is read
    if (isFailure(error, 'CORRUPT', 'UNSUPPORTED')) return false;
    throw error;
  }
}

/** Whether a gzip file begins as every one that `streamArchive` writes. */
export async function hasGzipHeader(packed: TarFiles): Promise<boolean> {
  return Buffer.compare(await packed.readAt(0, GZIP_HEADER.byteLength), GZIP_HEADER) === 0;
}

/** Whether a gzip file ends with the size that it unpacks to. False where zeros or empty members, which unpack to nothing, follow the data. */
export async function hasGzipSize(packed: TarFiles, size: number): Promise<boolean> {
  const end = Buffer.from(await packed.readAt(packed.length - GZIP_SIZE_BYTES, GZIP_SIZE_BYTES));
  return end.readUInt32LE() === size % 2 ** 32;
}

/** Whether a file of zstd is one frame, given where the others begin. `EMPTY_FRAME` may follow, as in some archives of earlier versions. */
export async function isOneFrame(packed: TarFiles, nextFrames: readonly number[]): Promise<boolean> {
  const place = packed.length - EMPTY_FRAME.byteLength;
  if (nextFrames.length === 0) return true;
  if (nextFrames.length > 1 || nextFrames[0] !== place) return false;
  return Buffer.compare(await packed.readAt(place, EMPTY_FRAME.byteLength), EMPTY_FRAME) === 0;
}

async function* bytesOf(packed: TarFiles): Bytes {
  for (let offset = 0; offset < packed.length; offset += STEP_BYTES)
    yield await packed.readAt(offset, Math.min(STEP_BYTES, packed.length - offset));
}

/** Whether `tar` is as planned up to `end`, apart from the content of blobs. At the end of the layout, the tar has to end too. */
async function isPlannedUpTo(end: number, tar: Bytes, layout: ArchiveLayout): Promise<boolean> {
  const pieces = plannedPieces(layout);
  let piece = pieces.next();
  let offset = 0;
  for await (const chunk of tar) {
    const chunkEnd = offset + chunk.byteLength;
    while (piece.done !== true && piece.value.offset < chunkEnd) {
      const { offset: start, bytes } = piece.value;
      const from = Math.max(start, offset);
      const to = Math.min(start + bytes.byteLength, chunkEnd);
      const found = chunk.subarray(from - offset, to - offset);
      if (Buffer.compare(found, bytes.subarray(from - start, to - start)) !== 0) return false;
      if (to < start + bytes.byteLength) break;
      piece = pieces.next();
    }
    offset = chunkEnd;
    if (offset > layout.size) return false;
    if (offset >= end && end < layout.size) return true;
  }
  return offset === layout.size;
}
