import { etagOf, modifiedOf, type Listed } from '../artifacts/listing.ts';
import type { ObjectStore } from '../objects/objects.ts';
import { formatObjectPlace, type ObjectPlace } from '../oci/object-place.ts';
import type { Abortable } from '../util/abort.ts';
import { atSide } from '../util/failure.ts';
import type { Backends } from './backends.ts';

/** A place of objects that can be read and written. */
export interface OpenedPlace {
  readonly store: ObjectStore;
  /** What the keys of all its objects start with. */
  readonly prefix: string;
  /** What snapshots call it: `s3://bucket/prefix/`. All folders are `folder`, because their paths mean nothing elsewhere. */
  readonly name: string;
}

const FOLDER = 'folder';

export function openPlace(place: ObjectPlace, backends: Backends): OpenedPlace {
  return place.transport === 's3'
    ? { store: backends.bucket(place.bucket), prefix: place.prefix, name: formatObjectPlace(place) }
    : { store: backends.folder(place.path), prefix: '', name: FOLDER };
}

/** All that the place lists. Failures carry `source`. */
export async function* listedIn({ store, prefix }: OpenedPlace, options: Abortable): AsyncIterable<Listed> {
  try {
    for await (const { key, size, etag, modified } of store.list(prefix, { signal: options.signal }))
      yield { key, size, etag: etagOf(etag), modified: modifiedOf(modified) };
  } catch (error) {
    throw atSide('source', error);
  }
}
