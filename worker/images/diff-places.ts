import { matchesPattern } from '../oci/location.ts';
import { mapRepository, type RepositoryMap } from '../oci/repository-map.ts';
import type { Place } from '../oci/place.ts';
import type { ImageFilter } from '../oci/image-filter.ts';
import { Failure, onSide, type Side } from '../util/failure.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { compareEntries, indexEntries, type CompareBy, type Difference } from './compare-entries.ts';
import { listPlace, namesMoment, type PlaceEntry } from './list-place.ts';

/** A place as it is now, or as a snapshot of it says that it was. */
export interface PlaceMoment {
  readonly place: Place;
  /** Exactly this snapshot. */
  readonly snapshot?: string | undefined;
  readonly asOfMs?: number | undefined;
}

export interface DiffRequest {
  readonly a: PlaceMoment;
  readonly b: PlaceMoment;
  /** Default `name`. */
  readonly by?: CompareBy | undefined;
  /** Which images are compared, as the first place names them. Default: all. */
  readonly only?: readonly ImageFilter[] | undefined;
  /** What repositories of the first place are called in the second. */
  readonly maps?: readonly RepositoryMap[] | undefined;
  /** Also images without tags. UNSUPPORTED where a place does not list them. Default false. */
  readonly untagged?: boolean | undefined;
  /** `all`: what refers to images, everywhere, at the price of reading manifests. Default: where both places list it. */
  readonly referrers?: 'all' | undefined;
}

export interface PlacesDiff {
  readonly a: string;
  readonly b: string;
  /** What was compared besides tags. */
  readonly compared: { readonly by: CompareBy; readonly referrers: boolean; readonly untagged: boolean };
  /** Names that stand for the same image in both. */
  readonly equal: number;
  readonly differences: readonly Difference[];
  /** What could not be compared, a sentence each. */
  readonly unchecked: readonly string[];
}

/**
 * Compares two places by what their names stand for: which images the second lacks, which are others there, and which it has beside them. Reads no
 * layer. A pattern of a registry chooses also what counts of a store or of archives on the other side. Names of one registry are compared with
 * those of one other without their hosts. Failures carry the side: the first place is the source.
 *
 * INVALID where a place of several registries is compared with a registry that it does not have. UNSUPPORTED for `untagged` where a place does not
 * list images without tags. As `listPlace` otherwise.
 */
export async function diffPlaces(
  request: DiffRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<PlacesDiff> {
  const { a, b, by = 'name', untagged = false } = request;
  const sides = [a, b];
  if (untagged) for (const side of sides) checkListsUntagged(side, backends);
  const listed = sides.every((side) => listsAll(side, backends)) ? 'listed' : undefined;
  const referrers = request.referrers ?? listed;
  const more = { untagged, referrers };
  const wantedOfA = wantedBy(a, b, request.maps ?? [], request.only);
  const wantedOfB = wantedBy(b, a, invert(request.maps ?? []));
  const theirs = await collect(a, 'source', { ...options, ...more, only: request.only }, backends, wantedOfA);
  const others = await collect(b, 'target', { ...options, ...more }, backends, (entry) =>
    wantedOfB(entry) && isChosen(request, entry),
  );
  const [left, right] = sameRegistry(a, b, theirs, others);
  const hosts = [left, right].map((entries) => new Set(entries.map(({ registry }) => registry ?? '')));
  const withRegistry = hosts.some((names) => names.size > 1);
  const mapped = left.map((entry) => ({
    ...entry,
    repository: mapRepository(request.maps ?? [], entry.repository).name,
  }));
  const { equal, differences } = compareEntries(
    indexEntries(mapped, by, withRegistry),
    indexEntries(right, by, withRegistry),
    withRegistry,
  );
  const unchecked = [...left, ...right].flatMap(uncheckedOf);
  const compared = { by, referrers: referrers !== undefined, untagged };
  return { a: describeMoment(a), b: describeMoment(b), compared, equal, differences, unchecked };
}
