import type { Target } from '../content/content.ts';
import type { ObjectStore } from '../objects/objects.ts';
import type { Digest } from '../oci/digest.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { Failure } from '../util/failure.ts';
import { warnOfOrder } from './clock-order.ts';
import { tryLayoutIndex } from './layout-index.ts';
import { StoreLock, type HeldLock, type LockOptions } from './lock.ts';
import { readableSizesOf, sizesOf, type StorePlace } from './place.ts';
import type { Snapshot } from './snapshot.ts';
import { openSnapshots, type SnapshotName, type Snapshots } from './snapshots.ts';
import type { StoreBackup } from './store.ts';
import { StoreTarget } from './target.ts';

/** How long a backup waits for a garbage collection, and how often it looks. */
const WAIT_MS = 10 * 60_000;
const LOOK_MS = 15_000;

/** Begins a backup, as `ImageStore.begin`, of a store that exists. */
export async function beginBackup(place: StorePlace, snapshots: Snapshots, options: LockOptions): Promise<StoreBackup> {
  const lock = await StoreLock.take(place, 'backup', options);
  try {
    await untilHeld(place, lock, options);
    // listed after the lock was seen to hold: from here on no collection deletes
    const present = await readableSizesOf(place, options);
    lock.keep();
    return new Backup(place, snapshots, lock, present, options);
  } catch (error) {
    await lock.end();
    throw error;
  }
}

/** Resolves when `lock` is held and no garbage collection is running. UNAVAILABLE where one does not end in time. */
async function untilHeld(place: StorePlace, lock: StoreLock, options: LockOptions): Promise<void> {
  const { clock, report } = options;
  const untilMs = clock.now() + WAIT_MS;
  let collection = await collectionBeside(lock, options);
  if (collection !== undefined)
    report?.({ type: 'note', message: `${place.location}: waits for a garbage collection (${collection.key})` });
  while (collection !== undefined) {
    // the collection waits for backups that were there before it
    await lock.end();
    if (clock.now() >= untilMs)
      throw new Failure(
        'UNAVAILABLE',
        `back up to ${place.location}: a garbage collection is running, whose lock ${collection.key} was written at ${collection.refreshedAt.toISOString()}: try again when it has ended`,
      );
    await clock.sleep(LOOK_MS, options);
    collection = await collectionBeside(lock, options);
    if (collection !== undefined) continue;
    await lock.renew(options);
    collection = await collectionBeside(lock, options);
  }
}

async function collectionBeside(lock: StoreLock, options: Abortable): Promise<HeldLock | undefined> {
  return (await lock.others(options)).find(({ kind }) => kind === 'collect');
}

class Backup implements StoreBackup {
  readonly #place: StorePlace;
  readonly #snapshots: Snapshots;
  readonly #lock: StoreLock;
  readonly #present: Map<Digest, number>;
  readonly #target: StoreTarget;
  readonly #options: LockOptions;

  constructor(
    place: StorePlace,
    snapshots: Snapshots,
    lock: StoreLock,
    present: Map<Digest, number>,
    { clock, report }: LockOptions,
  ) {
    this.#place = place;
    this.#snapshots = snapshots;
    this.#lock = lock;
    this.#present = present;
    this.#target = new StoreTarget(place, present, report);
    this.#options = { clock, report };
  }

  get target(): Target {
    return this.#target;
  }

  get present(): ReadonlyMap<Digest, number> {
    return this.#present;
  }

  get added(): { readonly blobs: number; readonly bytes: number } {
    return this.#target.added;
  }

  async finish(snapshot: Snapshot, { signal }: Abortable = {}): Promise<SnapshotName> {
    const options = { ...this.#options, signal };
    checkAborted(options);
    this.#checkNamed(snapshot);
    await this.#lock.refresh(options);
    if (this.#lock.hasLapsed) await this.#lookAgain(snapshot, options);
    const checked = { ...this.#place, store: checkedWrites(this.#place.store, () => this.#lock.check()) };
    const name = await openSnapshots(checked).write(snapshot, options);
    await warnOfOrder(this.#snapshots, name, options);
    await tryLayoutIndex(this.#place, this.#snapshots, options);
    await this.#lock.end();
    return name;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#lock.end();
  }

  /** This process was suspended for longer than its lock lasts: what it counted on may have been collected. */
  async #lookAgain(snapshot: Snapshot, options: LockOptions): Promise<void> {
    await this.#lock.end();
    await this.#lock.renew(options);
    await untilHeld(this.#place, this.#lock, options);
    this.#lock.keep();
    const now = await sizesOf(this.#place, options);
    this.#present.clear();
    for (const [digest, size] of now) this.#present.set(digest, size);
    this.#checkNamed(snapshot);
  }

  #checkNamed({ content }: Snapshot): void {
    const missing = content.filter(({ digest, size }) => this.#present.get(digest) !== size);
    const [first] = missing;
    if (first === undefined) return;
    throw new Failure(
      'CONFLICT',
      `back up to ${this.#place.location}: ${missing.length} of ${content.length} manifests and layers of the snapshot are not there, such as ${first.digest}: a garbage collection deleted them while this process was suspended, or another program did: run the backup again`,
    );
  }
}

/** `store`, whose small writes are each checked right before they are sent. */
function checkedWrites(store: ObjectStore, check: () => void): ObjectStore {
  return {
    describe: (key) => store.describe(key),
    stat: async (key, options) => store.stat(key, options),
    read: async (key, options) => store.read(key, options),
    list: (prefix, options) => store.list(prefix, options),
    stream: async (key, body, options) => store.stream(key, body, options),
    upload: async (key, size, options) => store.upload(key, size, options),
    write: async (key, body, options) => {
      check();
      return store.write(key, body, options);
    },
  };
}
