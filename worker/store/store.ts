import type { Readable, Target } from '../content/content.ts';
import type { Digest } from '../oci/digest.ts';
import type { Abortable } from '../util/abort.ts';
import type { Snapshot } from './snapshot.ts';
import type { SnapshotName, Snapshots } from './snapshots.ts';

/** Many images in one place, each blob once: an OCI image layout with snapshots. docs/store-format.md is normative. */
export interface ImageStore {
  /** For people and logs: `store:s3://bucket/prefix/`, `store:folder`. */
  readonly location: string;
  readonly snapshots: Snapshots;

  /** Reads blobs and manifests. */
  readonly content: Readable;

  /** The size of every blob and manifest that is there: a LIST page for a thousand. */
  blobs(options?: Abortable): Promise<ReadonlyMap<Digest, number>>;

  /**
   * Begins a backup: until it ends, garbage collection deletes nothing. Creates the store where it does not exist. Waits up to ten minutes for a
   * garbage collection, then UNAVAILABLE. UNSUPPORTED for a store of a newer format; CONFLICT where the place is an OCI layout of another program.
   */
  begin(options?: Abortable): Promise<StoreBackup>;
}

/**
 * One backup into a store, from `begin` on; may be used by many copies at once, which together put each digest once. Reports `bytes-sent`. Closing it
 * without `finish` gives up: what was stored stays, for the next one.
 */
export interface StoreBackup extends AsyncDisposable {
  /** What was there when it began, and what was put since: `has` asks for nothing. `tag` does nothing: snapshots name images. */
  readonly target: Target;
  /** Digests that are there, with their sizes. */
  readonly present: ReadonlyMap<Digest, number>;
  /** What this backup stored so far, for `Snapshot.added`. */
  readonly added: { readonly blobs: number; readonly bytes: number };

  /**
   * Writes the snapshot, then brings index.json up to date, then ends. CONFLICT, and no snapshot, where something that the snapshot names is not
   * there: then run the backup again. UNAVAILABLE, and no snapshot, where this process was suspended at the last moment.
   */
  finish(snapshot: Snapshot, options?: Abortable): Promise<SnapshotName>;
}
