import type { DeletableStore } from '../objects/deletable.ts';
import type { Digest } from '../oci/digest.ts';
import type { ObjectRoot } from '../oci/place.ts';
import type { Abortable } from '../util/abort.ts';
import type { Failure } from '../util/failure.ts';
import type { Backends } from './backends.ts';

/**
 * What can delete. Only commands that prune, `verify --restore-to` and the Cleaner are given it: workers and planners, which read images that
 * others made, cannot delete anything.
 */
export interface Deletions {
  /** A repository of the registry at `host`, with the credentials of the target. No request is sent yet. */
  images(host: string, repository: string): ImageDeletions;
  /** An S3 bucket. */
  bucket(name: string): DeletableStore;
  /** The files in a folder. */
  folder(path: string): DeletableStore;
}

export interface DeletingBackends extends Backends {
  readonly deletions: Deletions;
}

/** The objects of a place, to delete some of them. */
export function deletableAt(root: ObjectRoot, { deletions }: Pick<DeletingBackends, 'deletions'>): DeletableStore {
  return 'bucket' in root ? deletions.bucket(root.bucket) : deletions.folder(root.folder);
}

/** What was not deleted, and why. */
export interface NotDeleted {
  readonly id: string;
  readonly failure: Failure;
}

/**
 * Deletes from one repository. Calls are idempotent: what is gone already counts as deleted. A call resolves to what was not deleted, an entry each.
 * It fails where the registry deletes nothing at all: UNSUPPORTED where it does not allow deleting, DENIED, naming the permission, where it does not
 * allow it to us.
 */
export interface ImageDeletions {
  /** Deletes manifests, with every tag that they have. CONFLICT for one that an index still names, where the registry looks. */
  deleteImages(digests: readonly Digest[], options?: Abortable): Promise<readonly NotDeleted[]>;
  /**
   * Removes these tags from images that keep others: the caller has just seen that they have them, because some registries delete an image with its
   * last tag. UNSUPPORTED where tags alone cannot be removed.
   */
  removeTags(tags: readonly TagOf[], options?: Abortable): Promise<readonly NotDeleted[]>;
  /** Deletes the repository itself. Absent where a repository is not a resource of its own, as in all registries but ECR. */
  readonly whole?: RepositoryDeletion | undefined;
}

/** The repository as a resource of ECR. */
interface RepositoryDeletion {
  /** The tags of the resource. Undefined where the repository does not exist. */
  tags(options?: Abortable): Promise<Readonly<Record<string, string>> | undefined>;
  /** Deletes it with every image in it. Success where it does not exist. */
  remove(options?: Abortable): Promise<void>;
}

/** A tag to remove. */
export interface TagOf {
  readonly tag: string;
  /** What it stands for. */
  readonly digest: Digest;
  /** The tags of the same image that stay. */
  readonly others: readonly string[];
}
