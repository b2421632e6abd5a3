import type { Source } from '../content/content.ts';
import type { Root } from '../content/graph.ts';
import type { ObjectStore } from '../objects/objects.ts';
import type { SnapshotContent, SnapshotImage } from '../store/snapshot.ts';
import { Failure } from '../util/failure.ts';
import type { Backends, OperationOptions } from './backends.ts';

/** Where the images of snapshots are: the objects that their keys name, or those of an image store. */
export interface SnapshotPlace {
  readonly store: ObjectStore;
  /** Of a store: its prefix. Of archives: keys are from the root of `store`. */
  readonly prefix: string;
}

/** An image as a snapshot lists it. */
export interface ListedSnapshotImage {
  readonly kind: 'store' | 'archives';
  /** The host of the registry that was backed up. */
  readonly registry: string;
  readonly repository: string;
  readonly image: SnapshotImage;
  /** `Snapshot.content` of its snapshot, in which the image's places are. */
  readonly content: readonly SnapshotContent[];
}

export interface OpenedSnapshotImage extends AsyncDisposable {
  /** The image alone, with what refers to it: `referrers` and cosign's tags are as the snapshot lists them. */
  readonly source: Source;
  /** The image, with all its tags. */
  readonly root: Root;
}

/**
 * Opens an image of a snapshot, wherever it is. Of archives: the object at the recorded key and version, or what is at the key now where that
 * holds the same image. NOT_FOUND, CONFLICT or INVALID, naming the object, where it is gone or holds another image. UNSUPPORTED for an image that
 * was listed without being backed up.
 */
export async function openSnapshotImage(
  place: SnapshotPlace,
  listed: ListedSnapshotImage,
  backends: Backends,
  options: OperationOptions,
): Promise<OpenedSnapshotImage> {
  void [place, listed, backends, options];
  throw new Failure('UNSUPPORTED', 'images of snapshots cannot be read yet');
}
