import type { SnapshotFailure } from '../store/snapshot.ts';
import type { SnapshotName } from '../store/snapshots.ts';
import { Failure } from '../util/failure.ts';
import type { Backends, OperationOptions } from './backends.ts';

export interface StoreBackupRequest {
  /** `[docker://]HOST` for a whole registry, `HOST/pattern[:tags]`, a repository, or one image `HOST/repository:tag`. */
  readonly from: string;
  /** `store:s3://bucket/prefix/` or `store:folder`. */
  readonly to: string;
  /** The program that writes the snapshot, such as `transship 0.1.0`. */
  readonly tool: string;
  /** `os/architecture[/variant]`; empty for all. */
  readonly platforms?: readonly string[] | undefined;
  /** Whether signatures, SBOMs and whatever else refers to the images come along. Default true. */
  readonly referrers?: boolean | undefined;
  /** Also images without a tag that no index names and that refer to nothing. Default false. */
  readonly untagged?: boolean | undefined;
  /**
   * Chooses from the images of one repository: called once for each, with one candidate for each tag (what refers to an image has none) and,
   * with `untagged`, for each image without one. What it leaves out is not stored, and the repository does not count as complete. Default: all.
   */
  readonly select?: ((images: readonly SelectableImage[]) => readonly SelectableImage[]) | undefined;
  /** False: settings of repositories and of the registry are not stored. Default: they are. */
  readonly settings?: boolean | undefined;
  /** Reports what would be stored, and writes nothing. Default false. */
  readonly dryRun?: boolean | undefined;
  /** The rule and the run of the service, for the snapshot. Absent for a command. */
  readonly rule?: string | undefined;
  readonly run?: string | undefined;
}

/** An image of a repository, before it is chosen. */
export interface SelectableImage {
  /** Absent: an image without one. */
  readonly tag: string | undefined;
  /** Known where the list of the registry has it (ECR). */
  readonly digest: string | undefined;
  readonly pushedAtMs: number | undefined;
}

/** What a backup into a store came to. Sizes are bytes. */
export interface StoreBackupResult {
  readonly from: string;
  readonly to: string;
  /** Absent for a dry run. */
  readonly snapshot?: SnapshotName;
  readonly repositories: number;
  /** By what became of them. `stored`: new, or changed since the last snapshot; in a dry run what would be stored. */
  readonly images: {
    readonly stored: number;
    readonly unchanged: number;
    readonly archived: number;
    readonly failed: number;
  };
  /** What was sent, or would be: blobs and manifests that the store did not have. */
  readonly added: { readonly blobs: number; readonly bytes: number };
  /** Bytes of everything that the images name, each digest once. */
  readonly bytes: number;
  /** The same with the content of each image counted for itself, as archives store it. */
  readonly imageBytes: number;
  /** As the snapshot has them. */
  readonly failures: readonly SnapshotFailure[];
  /** The failures behind `failures`, for callers that decide whether to try again. */
  readonly causes: readonly Failure[];
}

/**
 * Stores every image that `from` stands for, with the settings of its repository and of the registry, in a store, and writes a snapshot of
 * it. Sends only content that the store does not have. One image or repository that fails is among the failures, and the others go on.
 * Idempotent: one that was stopped anywhere leaves what it sent for the next one. Throws INVALID for malformed input, NOT_FOUND where nothing
 * matches, and what keeps the store from being opened or the snapshot from being written.
 */
export async function backupToStore(
  request: StoreBackupRequest,
  _backends: Backends,
  _options: OperationOptions,
): Promise<StoreBackupResult> {
  throw new Failure('UNSUPPORTED', `backup into ${request.to} is being built`);
}
