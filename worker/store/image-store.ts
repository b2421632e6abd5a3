import type { ObjectStore } from '../objects/objects.ts';
import type { Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import type { Report } from '../util/events.ts';
import { Failure } from '../util/failure.ts';
import type { ImageStore } from './store.ts';

/** Where a store is. */
export interface StorePlace {
  readonly store: ObjectStore;
  /** What all its keys begin with: empty, or ends in `/`. */
  readonly prefix: string;
  /** For people: `store:s3://bucket/prefix/`. */
  readonly location: string;
}

export interface ImageStoreOptions extends Abortable {
  readonly clock: Clock;
  readonly report?: Report | undefined;
  /** True: a store that does not exist yet is opened too; the first backup creates it. Default false: NOT_FOUND. */
  readonly create?: boolean | undefined;
}

/** Opens the store at `place`. NOT_FOUND without one, unless `create`; UNSUPPORTED for a newer format. */
export async function openImageStore(place: StorePlace, _options: ImageStoreOptions): Promise<ImageStore> {
  throw new Failure('UNSUPPORTED', `open ${place.location}: not built yet`);
}
