import type { DeletableStore, Doomed, NotRemoved } from '../objects/deletable.ts';
import type { Policy } from '../retention/policy.ts';
import { anyOf, type Abortable } from '../util/abort.ts';
import { deadline } from '../util/deadline.ts';
import { Failure } from '../util/failure.ts';
import { append } from '../util/lists.ts';
import { isStore } from './format.ts';
import { judgeSnapshots, type JudgedSnapshot } from './judge-snapshots.ts';
import { writeLayoutIndex } from './layout-index.ts';
import { StoreLock, type LockOptions } from './lock.ts';
import type { StorePlace } from './place.ts';
import { signatureKey } from './snapshot-key.ts';
import { openSnapshots, type Snapshots } from './snapshots.ts';
import { planSweep, type Sweep, type SweptObject } from './sweep.ts';

/** How long a collection waits for running backups, and how often it looks. */
const WAIT_MS = 10 * 60_000;
const LOOK_MS = 15_000;
/** https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html */
const BATCH = 1000;
/** A batch is stopped after so long, well before its lock could be taken for a crashed one's. */
const BATCH_MS = 5 * 60_000;
export const DEFAULT_GRACE_MS = 7 * 24 * 60 * 60_000;

export interface CollectionRequest {
  /** Which snapshots stay: the rules about time. Without one, every snapshot stays. */
  readonly policy?: Policy | undefined;
  /** Unreferenced objects younger than this stay. Default 7 days. */
  readonly graceMs?: number | undefined;
  /** Whether to collect in a store without any snapshot too, where nothing shows what is needed. Default false. */
  readonly allowEmpty?: boolean | undefined;
}

/** What a collection deletes, and what stays. */
export interface CollectionPlan {
  readonly location: string;
  /** From the newest to the oldest. */
  readonly snapshots: readonly JudgedSnapshot[];
  readonly sweep: Sweep;
}

/** What a collection did. */
export interface CollectionResult extends CollectionPlan {
  readonly deleted: { readonly snapshots: number; readonly blobs: number; readonly bytes: number };
  /** Objects that stay although they should go, and why: DENIED for a locked one. They go in a later collection. */
  readonly notDeleted: readonly NotRemoved[];
}

/**
 * What `collect` would do now. Writes nothing. NOT_FOUND without a store; CORRUPT, INVALID or UNSUPPORTED where a snapshot cannot be read or
 * is not named as one: what it needs is not known then, so nothing may be deleted. CONFLICT where blobs would go and there is no snapshot.
 */
export async function planCollection(
  place: StorePlace,
  request: CollectionRequest,
  options: LockOptions,
): Promise<CollectionPlan> {
  await checkStore(place, options);
  const nowMs = options.clock.now();
  const stored = openSnapshots(place);
  await checkNames(place, stored, options);
  const snapshots = await judgeSnapshots(stored, request.policy, { ...options, nowMs });
  const kept = snapshots.flatMap(({ action, name }) => (action === 'keep' ? [name] : []));
  const sweep = await planSweep(place, kept, { ...options, nowMs, graceMs: request.graceMs ?? DEFAULT_GRACE_MS });
  checkLoss(place, kept.length, sweep, request);
  return { location: place.location, snapshots, sweep };
}

/**
 * Deletes the snapshots that the policy does not keep, then what no snapshot needs that is older than the grace period. Waits up to ten minutes for
 * running backups, then UNAVAILABLE; those that begin meanwhile wait for it. UNAVAILABLE too while another collection runs, and where this process
 * was suspended. Order: snapshots, index.json, blobs, old locks; stopped anywhere, the next one goes on. Failures as `planCollection`.
 */
export async function collect(
  place: StorePlace,
  deletable: DeletableStore,
  request: CollectionRequest,
  options: LockOptions,
): Promise<CollectionResult> {
  await checkStore(place, options);
  const lock = await StoreLock.take(place, 'collect', options);
  try {
    await untilAlone(place, lock, options);
    lock.keep();
    return await new Collection(place, deletable, lock, options).run(request);
  } finally {
    await lock.end();
  }
}

class Collection {
  readonly #place: StorePlace;
  readonly #deletable: DeletableStore;
  readonly #lock: StoreLock;
  readonly #options: LockOptions;
  readonly #notDeleted: NotRemoved[] = [];

  constructor(place: StorePlace, deletable: DeletableStore, lock: StoreLock, options: LockOptions) {
    this.#place = place;
    this.#deletable = deletable;
    this.#lock = lock;
    this.#options = options;
  }

  async run(request: CollectionRequest): Promise<CollectionResult> {
    const { policy, graceMs = DEFAULT_GRACE_MS } = request;
    const options = this.#options;
    const snapshots = openSnapshots(this.#place);
    await checkNames(this.#place, snapshots, options);
    const judged = await judgeSnapshots(snapshots, policy, { ...options, nowMs: options.clock.now() });
    const goneSnapshots = await this.#removeSnapshots(judged);
    await writeLayoutIndex(this.#place, snapshots, { ...options, readsAll: true, check: () => this.#lock.check() });
    // whatever is there by now stays whole, also a snapshot that was to go and is locked
    const kept = await snapshots.list(options);
    const sweep = await planSweep(this.#place, kept, {
      ...options,
      nowMs: this.#lock.refreshedAt.getTime(),
      graceMs,
      except: this.#lock.key,
    });
    checkLoss(this.#place, kept.length, sweep, request);
    const goneBlobs = await this.#remove(sweep.blobs);
    await this.#remove(sweep.others);
    return {
      location: this.#place.location,
      snapshots: judged,
      sweep,
      deleted: {
        snapshots: goneSnapshots,
        blobs: goneBlobs.length,
        bytes: goneBlobs.reduce((sum, { size }) => sum + size, 0),
      },
      notDeleted: this.#notDeleted,
    };
  }

  /** Deletes them with their signatures, and returns how many are gone. */
  async #removeSnapshots(judged: readonly JudgedSnapshot[]): Promise<number> {
    const doomed = new Set(judged.flatMap(({ action, name }) => (action === 'delete' ? [name.key] : [])));
    if (doomed.size === 0) return 0;
    const signed = new Set([...doomed].map(signatureKey));
    const [keys, signatures]: [SweptObject[], SweptObject[]] = [[], []];
    for await (const object of this.#place.store.list(`${this.#place.prefix}snapshots/`, this.#options)) {
      if (doomed.has(object.key)) keys.push(object);
      else if (signed.has(object.key)) signatures.push(object);
    }
    const gone = await this.#remove(keys);
    const unsigned = new Set(gone.map(({ key }) => signatureKey(key)));
    await this.#remove(signatures.filter(({ key }) => unsigned.has(key)));
    return gone.length;
  }

  /** Deletes objects under the lock. Returns those that are gone. */
  async #remove(objects: readonly SweptObject[]): Promise<readonly SweptObject[]> {
    const { clock, signal } = this.#options;
    const failed = new Set<string>();
    for (let at = 0; at < objects.length; at += BATCH) {
      const batch: readonly Doomed[] = objects.slice(at, at + BATCH).map(({ key, etag }) => ({ key, etag }));
      await this.#lock.refresh({ signal });
      const late = (): Failure => new Failure('UNAVAILABLE', `${this.#place.location}: deleting took too long`);
      await using end = deadline(BATCH_MS, late, clock);
      this.#lock.check();
      const notRemoved = await this.#deletable.remove(batch, { signal: anyOf(signal, end.signal) });
      for (const { key } of notRemoved) failed.add(key);
      append(this.#notDeleted, notRemoved);
    }
    return objects.filter(({ key }) => !failed.has(key));
  }
}

/** Resolves when no backup is running. */
async function untilAlone(place: StorePlace, lock: StoreLock, options: LockOptions): Promise<void> {
  const { clock, report } = options;
  const untilMs = clock.now() + WAIT_MS;
  const reported = new Set<string>();
  for (;;) {
    const others = await lock.others(options);
    const rival = others.find(({ kind, key }) => kind === 'collect' && key < lock.key);
    if (rival !== undefined)
      throw new Failure(
        'UNAVAILABLE',
        `prune ${place.location}: another garbage collection is running (${rival.key}): try again when it has ended`,
      );
    const backup = others.find(({ kind }) => kind === 'backup');
    if (backup === undefined) return;
    if (clock.now() >= untilMs)
      throw new Failure(
        'UNAVAILABLE',
        `prune ${place.location}: a backup is running, whose lock ${backup.key} was written at ${backup.refreshedAt.toISOString()}: try again when it has ended`,
      );
    if (!reported.has(backup.key))
      report?.({ type: 'note', message: `${place.location}: waits for a running backup (${backup.key})` });
    reported.add(backup.key);
    await clock.sleep(LOOK_MS, options);
    // others compare their age with its time
    await lock.refresh(options);
  }
}

/** A snapshot that was renamed still needs its blobs. */
async function checkNames({ store, location }: StorePlace, snapshots: Snapshots, options: Abortable): Promise<void> {
  const [first, ...others] = await snapshots.misnamed(options);
  if (first === undefined) return;
  throw new Failure(
    'INVALID',
    `prune ${location}: ${store.describe(first)} ${others.length === 0 ? 'is' : `and ${others.length} more are`} not named as a snapshot is, so what it needs is not known: give it its name back, or delete it`,
  );
}

/** Snapshots are lost by accident sooner than a store is left without one. */
function checkLoss({ location }: StorePlace, kept: number, { blobs }: Sweep, request: CollectionRequest): void {
  if (kept > 0 || blobs.length === 0 || request.allowEmpty === true) return;
  throw new Failure(
    'CONFLICT',
    `prune ${location}: there is no snapshot, so all that is older than the grace period would go, ${blobs.length} blobs: bring the snapshots back, make a backup, or pass --allow-empty`,
  );
}

async function checkStore(place: StorePlace, options: Abortable): Promise<void> {
  if (await isStore(place, options)) return;
  throw new Failure('NOT_FOUND', `there is no store at ${place.location}: check the name`, {
    context: { location: place.location },
  });
}
