import type { Readable } from '../content/content.ts';
import type { Digest } from '../oci/digest.ts';
import type { Abortable } from '../util/abort.ts';
import { Failure, isFailure } from '../util/failure.ts';
import { beginBackup } from './backup.ts';
import { createStore, isStore } from './format.ts';
import type { LockOptions } from './lock.ts';
import { blobKey, sizesOf, type StorePlace } from './place.ts';
import { openSnapshots, type Snapshots } from './snapshots.ts';
import type { ImageStore, StoreBackup } from './store.ts';

export interface ImageStoreOptions extends LockOptions {
  /** True: a store that does not exist yet is opened too; the first backup creates it. Default false: NOT_FOUND. */
  readonly create?: boolean | undefined;
}

/** Opens the store at `place`. NOT_FOUND without one, unless `create`; UNSUPPORTED for a newer format; INVALID where its description is wrong. */
export async function openImageStore(place: StorePlace, options: ImageStoreOptions): Promise<ImageStore> {
  const exists = await isStore(place, options);
  if (!exists && options.create !== true)
    throw new Failure(
      'NOT_FOUND',
      `there is no store at ${place.location}: check the name; the first backup creates one`,
      { context: { location: place.location } },
    );
  return new ObjectImageStore(place, options);
}

class ObjectImageStore implements ImageStore {
  readonly location: string;
  readonly snapshots: Snapshots;
  readonly content: Readable;
  readonly #place: StorePlace;
  readonly #options: LockOptions;

  constructor(place: StorePlace, { clock, report }: LockOptions) {
    this.location = place.location;
    this.snapshots = openSnapshots(place);
    this.content = contentOf(place);
    this.#place = place;
    this.#options = { clock, report };
  }

  async blobs(options?: Abortable): Promise<ReadonlyMap<Digest, number>> {
    return sizesOf(this.#place, options);
  }

  async begin({ signal }: Abortable = {}): Promise<StoreBackup> {
    await createStore(this.#place, { signal });
    return beginBackup(this.#place, this.snapshots, { ...this.#options, signal });
  }
}

function contentOf(place: StorePlace): Readable {
  const { store, location } = place;
  return {
    ...(store.rangesAtOnce === undefined ? {} : { rangesAtOnce: store.rangesAtOnce }),
    open: async ({ digest }, { from = 0, to, signal } = {}) => {
      const length = to === undefined ? {} : { length: to - from };
      try {
        return await store.read(blobKey(place, digest), { signal, offset: from, ...length });
      } catch (error) {
        if (!isFailure(error, 'NOT_FOUND')) throw error;
        throw new Failure('NOT_FOUND', `${digest} is not in ${location}`, { cause: error, context: error.context });
      }
    },
  };
}
