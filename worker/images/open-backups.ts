import type { Place } from '../oci/place.ts';
import { openSnapshots, type Snapshots } from '../store/snapshots.ts';
import { onSide } from '../util/failure.ts';
import type { OperationOptions } from './backends.ts';
import { openStore, storeAndPrefix, type PlaceBackends } from './open-place.ts';
import type { SnapshotPlace } from './snapshot-image.ts';

/** A place that has snapshots: a store, or archives. */
export type BackupPlace = Exclude<Place, { kind: 'registry' }>;

/** A place of backups, opened: its snapshots, and where the images are that they name. */
export interface OpenedBackups {
  readonly snapshots: Snapshots;
  readonly images: SnapshotPlace;
}

/** Opens a store, or the archives below a prefix. Of a store one request: its format is checked. Failures as `openStore`, on the side `source`. */
export async function openBackups(
  place: BackupPlace,
  backends: PlaceBackends,
  options: OperationOptions,
): Promise<OpenedBackups> {
  const objects = storeAndPrefix(place.root, backends);
  const { store } = objects;
  if (place.kind === 'archives') return { snapshots: openSnapshots(objects), images: { store } };
  const { snapshots, content } = await onSide('source', openStore(place.root, backends, options));
  return { snapshots, images: { store, blobs: content } };
}
