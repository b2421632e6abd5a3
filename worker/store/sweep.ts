import type { ObjectInfo } from '../objects/objects.ts';
import type { Digest } from '../oci/digest.ts';
import type { Abortable } from '../util/abort.ts';
import { ifFound } from '../util/failure.ts';
import { layoutIndexOf } from './layout-index.ts';
import { isLockKey } from './lock.ts';
import { listBlobs, type StorePlace } from './place.ts';
import { signatureKey } from './snapshot-key.ts';
import type { SnapshotName } from './snapshots.ts';
import { openSnapshots } from './snapshots.ts';
import { wholeFold } from './state.ts';

/** An object that is deleted, as it was listed. */
export type SweptObject = Pick<ObjectInfo, 'key' | 'etag' | 'size'>;

/** What of a store no snapshot needs. */
export interface Sweep {
  /** Blobs and manifests that go. */
  readonly blobs: readonly SweptObject[];
  /** Locks that ended, or were left by crashed processes, and signatures without their snapshot, that go. */
  readonly others: readonly SweptObject[];
  /** Blobs and manifests that a snapshot needs. */
  readonly needed: Tally;
  /** Those that no snapshot needs and that are too young to go: of a backup that was stopped, perhaps. */
  readonly young: Tally;
}

interface Tally {
  readonly count: number;
  readonly bytes: number;
}

export interface SweepOptions extends Abortable {
  /** By the clock of the store. */
  readonly nowMs: number;
  readonly graceMs: number;
  /** The key of an object that stays: the lock of the collection itself. */
  readonly except?: string | undefined;
}

/** What goes when these snapshots are all that there is. Marks everything that they list, then lists all that is there. */
export async function planSweep(
  place: StorePlace,
  kept: readonly SnapshotName[],
  { nowMs, graceMs, except, signal }: SweepOptions,
): Promise<Sweep> {
  const options = { signal };
  const marked = await markedBy(place, kept, options);
  const isOld = ({ modified }: ObjectInfo): boolean => nowMs - modified.getTime() > graceMs;
  const [needed, young] = [new Counter(), new Counter()];
  const blobs: SweptObject[] = [];
  for await (const { digest, info } of listBlobs(place, options)) {
    if (marked.has(digest)) needed.add(info);
    else if (isOld(info)) blobs.push(info);
    else young.add(info);
  }
  const others: SweptObject[] = [];
  for await (const info of place.store.list(`${place.prefix}locks/`, options))
    if (info.key !== except && isLockKey(place.prefix, info.key) && isOld(info)) others.push(info);
  const signatures = new Set(kept.map(({ key }) => signatureKey(key)));
  for await (const info of place.store.list(`${place.prefix}snapshots/`, options))
    if (info.key.endsWith(signatureKey('.json.zst')) && !signatures.has(info.key) && isOld(info)) others.push(info);
  return { blobs, others, needed, young };
}

/** Everything that the snapshots list, and the lists of referrers that index.json has of them. One snapshot is held in memory at a time. */
async function markedBy(
  place: StorePlace,
  kept: readonly SnapshotName[],
  options: Abortable,
): Promise<ReadonlySet<Digest>> {
  const snapshots = openSnapshots(place);
  const marked = new Set<Digest>();
  const fold = wholeFold();
  for (const name of [...kept].sort((a, b) => (a.key < b.key ? 1 : -1))) {
    const named = await ifFound(snapshots.read(name, options));
    if (named === undefined) continue;
    for (const { digest } of named.snapshot.content) marked.add(digest);
    fold.add(named);
  }
  for (const digest of layoutIndexOf(fold.state()).lists.keys()) marked.add(digest);
  return marked;
}

class Counter implements Tally {
  count = 0;
  bytes = 0;

  add({ size }: { readonly size: number }): void {
    this.count++;
    this.bytes += size;
  }
}
