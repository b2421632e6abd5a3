import type { Digest } from '../oci/digest.ts';
import type { ImageFilter } from '../oci/image-filter.ts';
import type { Place } from '../oci/place.ts';
import { Failure, type Side } from '../util/failure.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { listArchives } from './list-archives.ts';
import { listRegistry } from './list-registry.ts';
import { listState } from './list-state.ts';

/**
 * One name of an image in a place: an image with three tags is three entries, one without a tag is one entry. What refers to an image is an entry
 * too, with its `subject`.
 */
export interface PlaceEntry {
  /** The host of the registry that the image is in, or was in when it was backed up. Absent: an archive that does not say. */
  readonly registry?: string | undefined;
  /** As its registry names it. For an archive that does not say: the folder of its key below the place. */
  readonly repository: string;
  /** Absent: untagged. */
  readonly tag?: string | undefined;
  /** Absent: an archive whose metadata does not say. */
  readonly digest?: Digest | undefined;
  readonly mediaType?: string | undefined;
  /**
   * Bytes, as the place states them: of an archive its object; in a snapshot everything that the image and its referrers name, each once; in ECR
   * the layers (of an index, those of its largest image). Absent: the place does not say.
   */
  readonly size?: number | undefined;
  /** ISO 8601, UTC. When it was pushed; of an archive that does not say, when it was written. Absent: the registry does not say. */
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

/**
 * Everything in a place; memory holds the names of one repository at a time. ECR: pages of DescribeImages alone. Other registries: the list of tags
 * and one HEAD a tag, by repository and tag. Archives: one listing and one HEAD an archive, in the order of keys; with `snapshot` or `asOfMs` the
 * snapshots alone. A store: its state. INVALID for `snapshot` and `asOfMs` of a registry; NOT_FOUND where a pattern matches no repository, or
 * there is no such snapshot.
 */
export async function* listPlace(
  place: Place,
  backends: Backends,
  options: ListOptions,
): AsyncGenerator<PlaceEntry, void, undefined> {
  if (place.kind === 'registry') {
    checkNoMoment(place, options);
    yield* listRegistry(place, backends, options);
  } else if (place.kind === 'archives' && !namesMoment(options)) yield* listArchives(place, backends, options);
  else yield* listState(place, backends, options);
}

/** Whether the options name a snapshot or a time. */
export function namesMoment({ snapshot, asOfMs }: ListOptions): boolean {
  return snapshot !== undefined || asOfMs !== undefined;
}

/** INVALID for a registry at another time than now. */
export function checkNoMoment({ text }: Place, options: ListOptions): void {
  if (namesMoment(options))
    throw new Failure(
      'INVALID',
      `${text} is a registry, which has no snapshots: leave out --snapshot and --as-of, or name the store or the archives that it was backed up to`,
    );
}
