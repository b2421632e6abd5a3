import { basename, dirname } from 'node:path';
import { openTarObjects } from '../archive/tar-objects.ts';
import type { ObjectStore } from '../objects/objects.ts';
import type { Location } from '../oci/location.ts';
import { isOneFile, type ObjectRoot } from '../oci/place.ts';
import { isStore } from '../store/format.ts';
import { openImageStore } from '../store/image-store.ts';
import type { StorePlace } from '../store/place.ts';
import type { SnapshotsPlace } from '../store/snapshots.ts';
import type { ImageStore } from '../store/store.ts';
import { Failure, onSide, type Side } from '../util/failure.ts';
import type { Backends, OperationOptions } from './backends.ts';

export interface OpenStoreOptions extends OperationOptions {
  /** True: a store that does not exist yet is opened too; the first backup creates it. Default false: NOT_FOUND. */
  readonly create?: boolean | undefined;
  /** The side that failures carry. Default: none. */
  readonly side?: Side | undefined;
}

/** The part of the backends that opens a place. */
export type PlaceBackends = Pick<Backends, 'bucket' | 'folder' | 'snapshotKeys'>;

/** The objects of a place, what all their keys begin with, and the keys of its snapshots. No request is sent yet. */
export function storeAndPrefix(root: ObjectRoot, backends: PlaceBackends): SnapshotsPlace {
  const { prefix } = root;
  const keys = backends.snapshotKeys;
  if ('bucket' in root) return { store: backends.bucket(root.bucket), prefix, keys };
  const { folder } = root;
  const store = isOneFile(folder)
    ? openTarObjects(backends.folder(dirname(folder)), basename(folder))
    : backends.folder(folder);
  return { store, prefix, keys };
}

/** `s3://bucket/prefix/`, or the path of the folder. */
export function formatRoot(root: ObjectRoot): string {
  return 'bucket' in root ? `s3://${root.bucket}/${root.prefix}` : root.folder;
}

/** A store of images at `root`. No request is sent yet. */
export function storePlace(root: ObjectRoot, backends: PlaceBackends): StorePlace {
  return { ...storeAndPrefix(root, backends), location: `store:${formatRoot(root)}` };
}

/** The archive with this key, which begins below the folder where `root` is one. */
export function archiveAt(root: ObjectRoot, key: string): Location {
  return 'bucket' in root
    ? { transport: 's3', bucket: root.bucket, key }
    : { transport: 'archive', path: `${root.folder}${key}` };
}

/** The location of the archive with this key in `store`, which is that of `root`: what `copy` and `restore` take. */
export function archiveName(root: ObjectRoot, store: Pick<ObjectStore, 'describe'>, key: string): string {
  return 'bucket' in root ? store.describe(key) : `oci-archive:${store.describe(key)}`;
}

/** The failure of a place of which no snapshot has an image at the moment that was asked for. */
export function noImageOfThatTime(text: string): Failure {
  return new Failure(
    'NOT_FOUND',
    `there is no image of that time in ${text}: \`transship snapshots list ${text}\` prints the times that there are`,
  );
}

/** The failure of a place below which there is no archive: NOT_FOUND, on this side. A store that was named without `store:` is recognized. */
export async function noArchiveBelow(
  text: string,
  { store, prefix }: SnapshotsPlace,
  side: Side | undefined,
  options: OperationOptions,
): Promise<Failure> {
  const what = (await isStore({ store, prefix, location: text }, options))
    ? `${text} is a store, not a prefix of archives: write store:${text}`
    : `there is no archive (*.tar) below ${text}`;
  return new Failure('NOT_FOUND', what, side === undefined ? {} : { context: { side } });
}

/**
 * Opens a store of images. One request: its format is checked. NOT_FOUND where there is no store, unless `create`; UNSUPPORTED for one of a newer
 * format; INVALID for a `transship-store.json` that is something else.
 */
export async function openStore(
  root: ObjectRoot,
  backends: PlaceBackends,
  { create, side, clock, report, signal }: OpenStoreOptions,
): Promise<ImageStore> {
  const opening = openImageStore(storePlace(root, backends), { clock, report, signal, create });
  return side === undefined ? opening : onSide(side, opening);
}
