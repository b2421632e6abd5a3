import type { ObjectStore } from '../objects/objects.ts';
import type { ObjectRoot } from '../oci/place.ts';
import { openImageStore } from '../store/image-store.ts';
import type { ImageStore } from '../store/store.ts';
import { onSide, type Side } from '../util/failure.ts';
import type { Backends, OperationOptions } from './backends.ts';

export interface OpenStoreOptions extends OperationOptions {
  /** True: a store that does not exist yet is opened too; the first backup creates it. Default false: NOT_FOUND. */
  readonly create?: boolean | undefined;
  /** The side that failures carry. Default: none. */
  readonly side?: Side | undefined;
}

/** The objects of a place, and what all their keys begin with. Nothing is asked of it yet. */
export function storeAndPrefix(
  root: ObjectRoot,
  backends: Pick<Backends, 'bucket' | 'folder'>,
): { readonly store: ObjectStore; readonly prefix: string } {
  return 'bucket' in root
    ? { store: backends.bucket(root.bucket), prefix: root.prefix }
    : { store: backends.folder(root.folder), prefix: root.prefix };
}

/** `s3://bucket/prefix/`, or the path of the folder. */
export function formatRoot(root: ObjectRoot): string {
  return 'bucket' in root ? `s3://${root.bucket}/${root.prefix}` : root.folder;
}

/**
 * Opens a store of images. One request: its format is checked. NOT_FOUND where there is no store, unless `create`; UNSUPPORTED for one of a newer
 * format; INVALID for a `transship-store.json` that is something else.
 */
export async function openStore(
  root: ObjectRoot,
  backends: Pick<Backends, 'bucket' | 'folder'>,
  { create, side, clock, report, signal }: OpenStoreOptions,
): Promise<ImageStore> {
  const place = { ...storeAndPrefix(root, backends), location: `store:${formatRoot(root)}` };
  const opening = openImageStore(place, { clock, report, signal, create });
  return side === undefined ? opening : onSide(side, opening);
}
