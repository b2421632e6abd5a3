import { blobPath } from '../archive/plan.ts';
import type { ObjectInfo, ObjectStore } from '../objects/objects.ts';
import { isDigest, type Digest } from '../oci/digest.ts';
import type { Abortable } from '../util/abort.ts';
import { Failure } from '../util/failure.ts';
import type { SnapshotKeys } from './signature.ts';

/** Where a store is. */
export interface StorePlace {
  readonly store: ObjectStore;
  /** What all its keys begin with: empty, or ends in `/`. */
  readonly prefix: string;
  /** For people: `store:s3://bucket/prefix/`. */
  readonly location: string;
  /** Default: snapshots are not signed, and signatures are not looked at. */
  readonly keys?: SnapshotKeys | undefined;
}

/** The key of a blob or manifest. */
export function blobKey({ prefix }: Pick<StorePlace, 'prefix'>, digest: Digest): string {
  return `${prefix}${blobPath(digest)}`;
}

/** A blob or manifest as it is listed. */
export interface ListedBlob {
  readonly digest: Digest;
  readonly info: ObjectInfo;
}

/** Every blob and manifest, as keys name them. What is not a blob is passed over. */
export async function* listBlobs({ store, prefix }: StorePlace, options?: Abortable): AsyncIterable<ListedBlob> {
  const folder = `${prefix}blobs/`;
  for await (const info of store.list(folder, options)) {
    const digest = info.key.slice(folder.length).replace('/', ':');
    if (isDigest(digest)) yield { digest, info };
  }
}

/** The size of every blob and manifest of a store. */
export async function sizesOf(place: StorePlace, options?: Abortable): Promise<Map<Digest, number>> {
  const sizes = new Map<Digest, number>();
  for await (const { digest, info } of listBlobs(place, options)) sizes.set(digest, info.size);
  return sizes;
}

/** As `sizesOf`. UNSUPPORTED where blobs were moved to a storage class from which no restore can read them. */
export async function readableSizesOf(place: StorePlace, options?: Abortable): Promise<Map<Digest, number>> {
  const sizes = new Map<Digest, number>();
  const frozen = new Map<string, number>();
  for await (const { digest, info } of listBlobs(place, options)) {
    sizes.set(digest, info.size);
    if (info.frozenIn !== undefined) frozen.set(info.frozenIn, (frozen.get(info.frozenIn) ?? 0) + 1);
  }
  if (frozen.size === 0) return sizes;
  const named = Array.from(frozen, ([name, count]) => `${count} in ${name}`).join(' and ');
  throw new Failure(
    'UNSUPPORTED',
    `${place.location} has blobs that no restore can read (${named}): take the store out of the lifecycle rule that moves them, restore them (aws s3api restore-object), and copy them back to STANDARD`,
    { context: { location: place.location } },
  );
}
