import type { Readable } from '../content/content.ts';
import type { Digest } from '../oci/digest.ts';
import type { Descriptor } from '../oci/manifest.ts';
import type { Abortable } from '../util/abort.ts';

/** The images of a backup, as a registry gives them out. Never changes what it reads. */
export interface ServedImages extends AsyncDisposable {
  /** For people and logs: the place, and which state of it. */
  readonly description: string;
  /** In any order; of one registry each name once. */
  readonly repositories: readonly ServedRepository[];
  /** The repositories as they are now; undefined where nothing was written since the last call. Absent: they never change. */
  again?(): Promise<readonly ServedRepository[] | undefined>;
}

/** One repository of a backup. Calls may run at once. */
export interface ServedRepository extends Pick<Readable, 'open'> {
  /** The host of the registry that was backed up. Undefined for archives that do not say. */
  readonly registry: string | undefined;
  /** As its registry names it. */
  readonly name: string;

  /** Every tag, in any order, each once. */
  tags(options?: Abortable): Promise<readonly string[]>;

  /** The manifest that a tag or a digest stands for. NOT_FOUND without one. */
  manifest(reference: string, options?: Abortable): Promise<Descriptor>;

  /** A config or layer of an image that is here. NOT_FOUND without one. */
  blob(digest: Digest, options?: Abortable): Promise<Descriptor>;

  /** The manifests whose subject is `digest`, each once, as entries of a list of referrers. Empty where no manifest refers to it. */
  referrers(digest: Digest, options?: Abortable): Promise<readonly Descriptor[]>;

  /** Whether reading a blob that is here waits for its turn among the passes over compressed archives, of which there are few. Absent: never. */
  isPacked?(digest: Digest): boolean;

  /**
   * A URL by which a client may read all of a blob by itself for a while: a secret, never logged. Absent where blobs are not objects of their
   * own in S3.
   */
  readonly presigned?: ((blob: Descriptor, options?: Abortable) => Promise<string>) | undefined;
}
