import type { ObjectStore } from '../objects/objects.ts';
import type { Abortable } from '../util/abort.ts';
import type { Snapshot } from './snapshot.ts';

/** A snapshot, as its key names it: nothing of it was read. */
export interface SnapshotName {
  /** The SHA-256 of the document, 64 hex digits: it proves what is read. */
  readonly id: string;
  readonly key: string;
  /** When it was finished, to the second, by the clock of the process that wrote it. */
  readonly finishedAtMs: number;
  /** Bytes of the compressed object. */
  readonly size: number;
}

/** The snapshots below a prefix: `<prefix>snapshots/<YYYYMMDD>T<hhmmss>Z-<id>.json.zst`. */
export interface Snapshots {
  /** From the oldest to the newest, by keys alone. Keys that are no snapshots are passed over. */
  list(options?: Abortable): Promise<readonly SnapshotName[]>;

  /**
   * The one with this id, or whose id begins so (at least 4 digits), or `latest`. NOT_FOUND without one; INVALID where several begin so, and for a
   * snapshot of a newer format; CORRUPT where the bytes are not those that the id names.
   */
  read(id: string, options?: Abortable): Promise<{ readonly name: SnapshotName; readonly snapshot: Snapshot }>;

  /** Stores a snapshot. Idempotent: the same document has the same key. */
  write(snapshot: Snapshot, options?: Abortable): Promise<SnapshotName>;
}

/** The snapshots of the store or of the archives below `prefix`. Nothing is asked of it yet. */
export type OpenSnapshots = (place: { readonly store: ObjectStore; readonly prefix: string }) => Snapshots;
