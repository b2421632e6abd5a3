import type { Abortable } from '../util/abort.ts';
import { isFailure, type Failure } from '../util/failure.ts';
import { wholeFold, type State } from './state.ts';
import type { NamedSnapshot, SnapshotName, Snapshots } from './snapshots.ts';

/** What a checkpoint shows of the oldest snapshots, so that they need not be read to know it. */
export interface Covered {
  /** How many of the oldest snapshots. */
  readonly snapshots: number;
  /** The hosts of the registries that have images in them. */
  readonly hosts: readonly string[];
}

export interface ReadStateOptions extends Abortable {
  /** The state of exactly this snapshot, as `Snapshots.read` finds it. Not together with `asOfMs`. */
  readonly snapshot?: string | undefined;
  /** The state at this time. Default: now, which is the end of the list. */
  readonly asOfMs?: number | undefined;
  /** Only this registry, by its host: fewer snapshots are read. */
  readonly registry?: string | undefined;
  /** Only these repositories of `registry` are needed: fewer snapshots are read, and other repositories may be missing. */
  readonly repositories?: readonly string[] | undefined;
  /**
   * Finds out which registries the oldest snapshots have, so that none of these is read which adds nothing. It counts for the state of now, of all
   * registries. Absent: every snapshot is read.
   */
  readonly covered?: ((names: readonly SnapshotName[]) => Promise<Covered | undefined>) | undefined;
  /** Called for each snapshot that is read, also of other registries. */
  readonly onRead?: ((read: NamedSnapshot) => void) | undefined;
  /** Called for a snapshot that cannot be read, which is then passed over. Absent: the call fails with what is wrong. */
  readonly onBroken?: ((name: SnapshotName, failure: Failure) => void) | undefined;
}

/** A snapshot that was read, or why it is not one: it is gone, changed, not signed, or of a newer format. */
export type ReadSnapshot =
  | (NamedSnapshot & { readonly failure?: undefined })
  | { readonly name: SnapshotName; readonly snapshot?: undefined; readonly failure: Failure };

/** Snapshots that are read ahead whatever their size. Each one that was taken adds one more, so a reader that soon has enough causes few useless reads. */
const AT_ONCE = 4;
/** The most that are read ahead, and of how many bytes: for years of small ones from pushes the time of each request counts. */
const MOST_AT_ONCE = 32;
const MOST_BYTES = 2 * 1024 * 1024;

/**
 * The state of a place of backups, from its newest snapshot to the oldest one that counts. A place without snapshots has a state without
 * repositories. A snapshot that is deleted meanwhile does not count. INVALID and CORRUPT as `Snapshots.read`.
 */
export async function readState(snapshots: Snapshots, options: ReadStateOptions = {}): Promise<State> {
  const fold = wholeFold();
  if (options.snapshot !== undefined) {
    fold.add(await snapshots.read(options.snapshot, options));
    return fold.state();
  }
  const names = await snapshots.list(options);
  const counted = names.filter(({ finishedAtMs }) => finishedAtMs <= (options.asOfMs ?? Infinity)).toReversed();
  const isOfAll = options.asOfMs === undefined && options.registry === undefined;
  const covered = isOfAll ? await options.covered?.(names) : undefined;
  const hosts = new Set(covered?.hosts);
  let left = counted.length;
  for await (const found of readSnapshots(snapshots, counted, options)) {
    left--;
    if (found.failure !== undefined) {
      if (found.failure.code === 'NOT_FOUND') continue;
      if (options.onBroken === undefined) throw found.failure;
      options.onBroken(found.name, found.failure);
      continue;
    }
    options.onRead?.(found);
    if ((options.registry ?? found.snapshot.registry.host) === found.snapshot.registry.host) {
      fold.add(found);
      if (options.registry !== undefined && fold.isWhole(options.registry, options.repositories)) break;
    }
    hosts.add(found.snapshot.registry.host);
    if (covered !== undefined && left <= covered.snapshots && [...hosts].every((host) => fold.isWhole(host))) break;
  }
  return fold.state();
}

/** Reads snapshots in this order, some ahead. Fails only where the place cannot be read. */
export async function* readSnapshots(
  snapshots: Snapshots,
  names: readonly SnapshotName[],
  { signal }: Abortable = {},
): AsyncGenerator<ReadSnapshot, void, undefined> {
  const reading: Promise<ReadSnapshot>[] = [];
  let bytes = 0;
  try {
    for (const [index, { size }] of names.entries()) {
      const most = Math.min(AT_ONCE + index, MOST_AT_ONCE);
      for (const name of names.slice(index + reading.length, index + most)) {
        if (reading.length >= AT_ONCE && bytes + name.size > MOST_BYTES) break;
        const read = readOne(snapshots, name, { signal });
        // its turn comes later
        read.catch(() => undefined);
        reading.push(read);
        bytes += name.size;
      }
      const next = await reading.shift();
      bytes -= size;
      if (next !== undefined) yield next;
    }
  } finally {
    await Promise.allSettled(reading);
  }
}

async function readOne(snapshots: Snapshots, name: SnapshotName, options: Abortable): Promise<ReadSnapshot> {
  try {
    return await snapshots.read(name, options);
  } catch (error) {
    if (isFailure(error, 'NOT_FOUND', 'CORRUPT', 'INVALID', 'UNSUPPORTED')) return { name, failure: error };
    throw error;
  }
}
