import { Failure } from '../../util/failure.ts';

export const MIB = 1024 * 1024;
// as archives have it at most: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
const MAX_OBJECT_BYTES = 50e12;
export const MAX_PART_BYTES = 5 * 1024 * MIB;
const MIN_PART_BYTES = 5 * MIB;
export const MAX_PARTS = 10_000;
export const DEFAULT_PART_BYTES = 8 * MIB;

/** Bytes of every part of an upload of `size` bytes but the last. INVALID when S3 cannot store it so. */
export function partSizeFor(
  size: number,
  options: { readonly partSize?: number | undefined; readonly minPartBytes?: number | undefined } = {},
): number {
  const { partSize, minPartBytes = MIN_PART_BYTES } = options;
  const most = MAX_PARTS - 1;
  if (!Number.isSafeInteger(size) || size < 1) throw new Failure('INVALID', `${size} bytes cannot be uploaded`);
  if (size > MAX_OBJECT_BYTES)
    throw new Failure('INVALID', `${size} bytes cannot be uploaded: an object in S3 has 50 TB at most`);
  if (partSize === undefined) return Math.max(DEFAULT_PART_BYTES, Math.ceil(size / most / MIB) * MIB);
  if (!Number.isSafeInteger(partSize) || partSize < minPartBytes || partSize > MAX_PART_BYTES)
    throw new Failure('INVALID', `S3 takes parts of ${minPartBytes} to ${MAX_PART_BYTES} bytes, not ${partSize}`);
  if (partSize * most < size)
    throw new Failure('INVALID', `${size} bytes in parts of ${partSize} are more than ${most} parts: use larger ones`);
  return partSize;
}
