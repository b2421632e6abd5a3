import { LRUCache } from 'lru-cache';
import type { ObjectStore, PartSource } from '../objects/objects.ts';
import type { Digest } from '../oci/digest.ts';
import type { ArchiveLayout, BlobEntry } from './plan.ts';

/** Where a store has the bytes of a blob: inside an archive that this process has read the plan of, or written. */
export interface KnownBlob {
  readonly key: string;
  /** The ETag of the archive when it was read or written: its bytes are copied only while it has that. */
  readonly etag: string;
  /** Where the blob's first byte is in the archive. */
  readonly offset: number;
  readonly size: number;
}

/** Smaller ones hold no whole part: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html */
const LEAST_BYTES = 5 * 1024 * 1024;
const MOST_BLOBS = 20_000;

/** The blobs in archives of one store, the newest place of each. It proves nothing of their bytes. */
export class KnownBlobs {
  readonly #blobs = new LRUCache<Digest, KnownBlob>({ max: MOST_BLOBS });
  readonly #leastBytes: number;

  /** @param leastBytes of a blob that is kept. Default 5 MiB, the least part of S3 */
  constructor(leastBytes = LEAST_BYTES) {
    this.#leastBytes = leastBytes;
  }

  /** Adds the blobs of an archive in our own format that is not compressed. */
  add({ key, etag }: { readonly key: string; readonly etag: string }, layout: ArchiveLayout): void {
    for (const { descriptor, offset, header, size } of layout.entries)
      if (descriptor !== undefined && size >= this.#leastBytes)
        this.#blobs.set(descriptor.digest, { key, etag, offset: offset + header.byteLength, size });
  }

  find(digest: Digest): KnownBlob | undefined {
    return this.#blobs.get(digest);
  }

  /** Forgets a place that no longer has its blob. */
  drop(digest: Digest): void {
    this.#blobs.delete(digest);
  }
}

const ALL = new WeakMap<ObjectStore, KnownBlobs>();

/** The known blobs of a store, for as long as it is open. */
export function knownBlobsOf(store: ObjectStore): KnownBlobs {
  const found = ALL.get(store) ?? new KnownBlobs();
  ALL.set(store, found);
  return found;
}

/**
 * Where the bytes of a part are in a known archive: `length` bytes from `start` of the archive that has `entry`. Undefined unless all of them are
 * content of the blob, which headers and padding are not. Pure. The borders of parts of the two archives need not agree.
 */
export function partWithin(
  entry: BlobEntry,
  known: KnownBlob,
  { start, length }: { readonly start: number; readonly length: number },
): PartSource | undefined {
  const from = start - (entry.offset + entry.header.byteLength);
  if (known.size !== entry.size || from < 0 || from + length > entry.size) return undefined;
  const { key, etag, offset } = known;
  return { key, etag, offset: offset + from };
}
