import { hashFor, type Digest } from '../oci/digest.ts';
import type { Descriptor } from '../oci/manifest.ts';
import { Failure } from '../util/failure.ts';
import type { ByteRange, Readable } from './content.ts';
import { Reading, type ReadOptions } from './reading.ts';
import type { WatchableBytes } from './watch.ts';

/**
 * The bytes of `descriptor`, verified: exactly its size, exactly its digest, or the iteration throws CORRUPT. The last chunk is handed out only after
 * the digest was found right, so a caller that has all bytes has the right ones. A body that breaks is reopened where it broke. The one place that
 * hashes.
 */
export function read(source: Readable, descriptor: Descriptor, options: ReadOptions = {}): WatchableBytes {
  const hash = hashFor(descriptor.digest);
  return new Reading(source, descriptor, options, {
    take: (chunk) => void hash.update(chunk),
    finish: () => {
      const got = hash.digest('hex');
      if (descriptor.digest.endsWith(`:${got}`)) return;
      throw corrupt(descriptor, `has other bytes than its digest states (they hash to ${got.slice(0, 12)}…)`);
    },
    wrongSize: (what, cause) => corrupt(descriptor, what, cause),
  });
}

/**
 * The bytes from `from` up to `to` of `descriptor`, exactly so many, not hashed: a part has no digest. A body that breaks is reopened where it
 * broke. CORRUPT where there are fewer.
 */
export function readPart(
  source: Readable,
  descriptor: Descriptor,
  part: Required<ByteRange>,
  options: ReadOptions = {},
): WatchableBytes {
  return new Reading(source, descriptor, options, {
    part,
    wrongSize: (what, cause) => corrupt(descriptor, what, cause),
  });
}

/** Content that has no digest yet. */
interface Unnamed {
  /** What messages call it. */
  readonly name: string;
  readonly size: number;
  /** The bytes are returned too where they are not more than this; they are held in memory. */
  readonly keep: number;
}

/**
 * Reads content that no descriptor names yet, once, for its sha256: all of the `size` bytes that `source` gives for any descriptor. A body that
 * breaks is reopened where it broke. CORRUPT where there are fewer or more bytes.
 */
export async function readUnnamed(
  source: Readable,
  { name, size, keep }: Unnamed,
  options: ReadOptions = {},
): Promise<{ readonly digest: Digest; readonly bytes: Uint8Array | undefined }> {
  const descriptor: Descriptor = { mediaType: 'application/octet-stream', digest: UNKNOWN, size };
  const hash = hashFor(UNKNOWN);
  const bytes = size <= keep ? Buffer.allocUnsafe(size) : undefined;
  const body = new Reading(source, descriptor, options, {
    name,
    take: (chunk) => void hash.update(chunk),
    wrongSize: (_, cause) =>
      new Failure('CORRUPT', `read ${name}: it does not have the ${size} bytes that it should`, { cause }),
  });
  let received = 0;
  for await (const chunk of body) {
    bytes?.set(chunk, received);
    received += chunk.byteLength;
  }
  return { digest: `sha256:${hash.digest('hex')}`, bytes };
}

/** Stands for a digest that is not known. */
const UNKNOWN: Digest = `sha256:${'0'.repeat(64)}`;

/** All of `descriptor` in one piece, verified. For manifests and configs: more than `limit` bytes is INVALID before anything is fetched. */
export async function readAll(
  source: Readable,
  descriptor: Descriptor,
  limit: number,
  options: ReadOptions = {},
): Promise<Uint8Array> {
  if (descriptor.size > limit)
    throw new Failure(
      'INVALID',
      `${descriptor.digest} has ${descriptor.size} bytes, more than the ${limit} allowed for what it is`,
    );
  const bytes = Buffer.allocUnsafe(descriptor.size);
  let received = 0;
  for await (const chunk of read(source, descriptor, options)) {
    bytes.set(chunk, received);
    received += chunk.byteLength;
  }
  return bytes;
}

function corrupt(descriptor: Descriptor, what: string, cause?: unknown): Failure {
  return new Failure('CORRUPT', `${descriptor.digest} ${what}`, { cause, context: { digest: descriptor.digest } });
}
