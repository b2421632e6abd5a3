import type { Digest } from '../oci/digest.ts';
import type { ImageFilter } from '../oci/image-filter.ts';
import type { Side } from '../util/failure.ts';
import type { OperationOptions } from './backends.ts';

/**
 * One name of an image in a place: an image with three tags is three entries, one without a tag is one entry. What refers to an image is an entry
 * too, with its `subject`.
 */
export interface PlaceEntry {
  /** The host of the registry that the image is in, or was in when it was backed up. Absent: an archive that does not name it.  */
  readonly registry?: string | undefined;
  /** As its registry names it. For an archive that does not name it: the folder of its key below the place. */
  readonly repository: string;
  /** Absent: untagged. */
  readonly tag?: string | undefined;
  /** Absent: an archive whose metadata does not state it. */
  readonly digest?: Digest | undefined;
  readonly mediaType?: string | undefined;
  /**
   * Bytes, as the place states them: for an archive its object; in a snapshot everything that the image and its referrers name, each once; in ECR the
   * layers (for an index, those of its largest image). Absent: the place does not state them.
   */
  readonly size?: number | undefined;
  /** ISO 8601, UTC. When it was pushed; for an archive that does not state that, when it was written. Absent: the registry does not state it. */
  readonly pushedAt?: string | undefined;
  /** The manifest that it refers to, by its `subject` or its tag of cosign. Absent: an image. */
  readonly subject?: Digest | undefined;
  readonly artifactType?: string | undefined;
  /** True: it is in ECR's archive storage class, and cannot be pulled. */
  readonly archived?: true | undefined;
  /** True: an index of the place lists it, and it has no tag. Absent: it is not known, or an image by itself. */
  readonly isChild?: true | undefined;
  /** Why more may refer to it than was listed. Absent: nothing more, or it was not asked for. */
  readonly unchecked?: string | undefined;
  /** Where it can be read: `docker://host/repository:tag`, `s3://bucket/key.tar`, `store:place:host/repository@sha256:…`. */
  readonly where: string;
}

export interface ListOptions extends OperationOptions {
  /** Exactly this snapshot (an id, its beginning, or `latest`) of a store or of archives. */
  readonly snapshot?: string | undefined;
  /** The state of a store, or of archives with snapshots, at this time. */
  readonly asOfMs?: number | undefined;
  /** Absent: all. */
  readonly only?: readonly ImageFilter[] | undefined;
  /** Also untagged images, and children of indexes where the registry lists them (ECR). Default false. */
  readonly untagged?: boolean | undefined;
  /**
   * Also what refers to images. `listed`: where the place lists it without reading images: ECR, snapshots, and tags of cosign everywhere. `all`:
   * everywhere, at the price of reading every manifest where the place has no list. Default: none.
   */
  readonly referrers?: 'listed' | 'all' | undefined;
  /** Whose credentials a registry gets. Default `source`. */
  readonly side?: Side | undefined;
}
