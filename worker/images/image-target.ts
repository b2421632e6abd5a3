import type { ResumedParts } from '../archive/writer.ts';
import type { Source } from '../content/content.ts';
import type { Graph } from '../content/graph.ts';
import type { CopyResult } from '../copy/copy.ts';
import type { Digest } from '../oci/digest.ts';
import type { Descriptor } from '../oci/manifest.ts';

/** An image, ready to be written: everything that belongs to it is known. */
export interface WholeImage {
  /** Where its content is read. */
  readonly source: Source;
  /** Its one root is the image, with the tags that it gets. */
  readonly graph: Graph;
  /** `registry/repository`, as the image calls itself; undefined for files that do not name it. */
  readonly repository: string | undefined;
}

/** Where one image is written, opened: an archive, or a repository of a registry or of a layout folder. */
export interface ImageTarget extends AsyncDisposable {
  /** What is there now, where reading manifests from it may spare the source. */
  readonly current: Source | undefined;
  /** Called with each manifest that was read from `current`. Absent: the target does not need it. */
  readonly onShown?: ((digest: Digest) => void) | undefined;
  /** Whether the target is trusted to have all of an image that it shows, so that the manifests of platforms need not be read. Default false. */
  readonly isTrusted?: boolean | undefined;
  /** Makes the target equal to `image`. Idempotent. CONFLICT for an archive that another process wrote since it was opened. */
  write(image: WholeImage): Promise<WrittenImage>;
}

/** An object as its store describes it: a change of its content changes one of the two. */
export interface StoredObject {
  readonly size: number;
  readonly etag: string;
}

/** Bytes of an image that a write did not have to send. */
export interface UnsentBytes {
  /** Bytes that a registry took from a repository of its own, or that an interrupted upload had stored. */
  readonly bytesReused: number;
  /** Bytes of blobs, manifests or a whole archive that were there before. */
  readonly bytesSkipped: number;
  /** The most that a write would send. Only in a dry run. */
  readonly bytesToSend?: number | undefined;
  /** The parts of an interrupted upload that were there. Absent where none were. */
  readonly resumed?: ResumedParts | undefined;
}

/** The result of writing an image. */
export interface WrittenImage extends UnsentBytes {
  readonly outcome: 'copied' | 'unchanged' | 'planned';
  /** As `CopyResult` has it. */
  readonly manifests: readonly Digest[];
  /** Foreign layers that were not carried, because the source does not have them or the target did not take them. */
  readonly foreign: readonly Descriptor[];
  /** The version of the archive's object, where its bucket keeps versions. */
  readonly version?: string | undefined;
  /** The archive's object, by which a later change of it is found. Absent for other targets and for a dry run. */
  readonly object?: StoredObject | undefined;
  /** Absent where nothing had to be looked at. */
  readonly copied?: CopyResult | undefined;
}
