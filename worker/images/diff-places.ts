import { isDerivedTag, isReferrersTag } from '../oci/derived-tag.ts';
import { matchesPattern } from '../oci/location.ts';
import { mapRepository, type RepositoryMap } from '../oci/repository-map.ts';
import type { Place } from '../oci/place.ts';
import { formatImageFilters, matchesRepository, matchingTags, type ImageFilter } from '../oci/image-filter.ts';
import { Failure, onSide, type Side } from '../util/failure.ts';
import { compareStrings } from '../util/text.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { compareEntries, indexEntries, type CompareBy, type Difference } from './compare-entries.ts';
import { listPlace } from './list-place.ts';
import type { ListOptions, PlaceEntry } from './place-entry.ts';

/** A place as it is now, or as it was when a snapshot of it was made. */
export interface PlaceMoment {
  readonly place: Place;
  /** Exactly this snapshot. */
  readonly snapshot?: string | undefined;
  readonly asOfMs?: number | undefined;
}

/** Two places, each now or at an earlier time, and how they are compared. */
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

/** How place `b` differs from place `a`. */
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
  const { a, b, by = 'name', untagged = false, only = [], maps = [] } = request;
  const sides = [a, b];
  if (untagged) for (const side of sides) checkListsUntagged(side, backends);
  const listing = { ...options, untagged, referrers: referrersCompared(request, backends) };
  const back = maps.map(({ from, to, text }) => ({ from: to, to: from, text }));
  const left = await collect(a, 'source', { ...listing, only }, backends, (entry) =>
    isIn(b.place, a.place, { ...entry, repository: mapRepository(maps, entry.repository).name }),
  );
  const right = await collect(b, 'target', listing, backends, (entry) => {
    const named = { ...entry, repository: mapRepository(back, entry.repository).name };
    return isIn(a.place, b.place, named) && isChosen(only, named);
  });
  if (only.length > 0 && left.length + right.length === 0)
    throw new Failure('NOT_FOUND', `${formatImageFilters(only)} matches nothing in either place: nothing was compared`);
  const [theirs, others] = ofOneRegistry(a.place, left, b.place, right);
  const withRegistry = [theirs, others].some(
    (entries) => new Set(entries.flatMap(({ registry }) => registry ?? [])).size > 1,
  );
  const mapped = theirs.map((entry) => ({ ...entry, repository: mapRepository(maps, entry.repository).name }));
  return {
    a: describeMoment(a),
    b: describeMoment(b),
    compared: { by, referrers: listing.referrers !== undefined, untagged },
    ...compareEntries(indexEntries(mapped, by, withRegistry), indexEntries(others, by, withRegistry), withRegistry),
    unchecked: [...theirs, ...others].flatMap(uncheckedOf),
  };
}

/** `PLACE`, with `#` and its snapshot, or the time, where one is named. */
function describeMoment({ place, snapshot, asOfMs }: PlaceMoment): string {
  const moment = snapshot ?? (asOfMs === undefined ? undefined : new Date(asOfMs).toISOString());
  return moment === undefined ? place.text : `${place.text}#${moment}`;
}

async function collect(
  { place, snapshot, asOfMs }: PlaceMoment,
  side: Side,
  options: ListOptions,
  backends: Backends,
  isWanted: (entry: PlaceEntry) => boolean,
): Promise<readonly PlaceEntry[]> {
  const entries: PlaceEntry[] = [];
  const read = async (): Promise<void> => {
    for await (const entry of listPlace(place, backends, { ...options, snapshot, asOfMs, side }))
      if (isCompared(entry, options) && isWanted(entry)) entries.push(entry);
  };
  await onSide(side, read());
  return entries;
}

/** A backup has tags of cosign whose image is gone as images; a registry lists those with what refers to images, and lists of referrers never. */
function isCompared({ tag, subject }: PlaceEntry, { referrers }: ListOptions): boolean {
  if (tag === undefined || subject !== undefined || !isDerivedTag(tag)) return true;
  return referrers !== undefined && !isReferrersTag(tag);
}

/** Whether the pattern of a registry chooses what another place, a store or archives, has under a name. Two registries have patterns of their own. */
function isIn(chooser: Place, other: Place, { repository, tag }: PlaceEntry): boolean {
  if (chooser.kind !== 'registry' || other.kind === 'registry') return true;
  const { pattern } = chooser;
  return (
    matchesPattern(pattern.repository, repository) &&
    (pattern.tag === undefined || (tag !== undefined && matchesPattern(pattern.tag, tag)))
  );
}

function isChosen(only: readonly ImageFilter[], { repository, tag }: PlaceEntry): boolean {
  return (
    matchesRepository(only, repository) && matchingTags(only, repository, tag === undefined ? [] : [tag]) !== undefined
  );
}

/** What a place has of the registry that it is compared with; all that it has, where that is one registry. */
function ofOneRegistry(
  a: Place,
  left: readonly PlaceEntry[],
  b: Place,
  right: readonly PlaceEntry[],
): readonly [readonly PlaceEntry[], readonly PlaceEntry[]] {
  if (a.kind === 'registry' && b.kind !== 'registry') return [left, inRegistry(a.pattern.registry, b, right)];
  if (b.kind === 'registry' && a.kind !== 'registry') return [inRegistry(b.pattern.registry, a, left), right];
  return [left, right];
}

function inRegistry(host: string, place: Place, entries: readonly PlaceEntry[]): readonly PlaceEntry[] {
  const hosts = new Set(entries.flatMap(({ registry }) => registry ?? []));
  if (hosts.size <= 1) return entries;
  if (hosts.has(host)) return entries.filter(({ registry }) => registry === undefined || registry === host);
  throw new Failure(
    'INVALID',
    `${place.text} has images of ${hosts.size} registries (${[...hosts].sort(compareStrings).join(', ')}), and none of ${host}: compare with one of those, or choose images with --only`,
  );
}

/** Undefined: what refers to images is not compared. What has no tag of its own cannot be chosen by tags. */
function referrersCompared({ a, b, only = [], referrers }: DiffRequest, backends: Backends): ListOptions['referrers'] {
  const choosesTags =
    only.some(({ tags }) => tags !== undefined) ||
    [a, b].some(({ place }) => place.kind === 'registry' && place.pattern.tag !== undefined);
  if (choosesTags && referrers !== undefined)
    throw new Failure(
      'INVALID',
      'referrers are compared in whole repositories: name no tags, or leave out --referrers',
    );
  if (choosesTags) return undefined;
  return referrers ?? ([a, b].every((side) => listsReferrers(side, backends)) ? 'listed' : undefined);
}

/** Whether a place lists what refers to images, and images without tags, without reading any. */
function listsReferrers({ place, snapshot, asOfMs }: PlaceMoment, backends: Backends): boolean {
  if (place.kind === 'registry') return backends.registry(place.pattern.registry, 'source').images !== undefined;
  return place.kind === 'store' || snapshot !== undefined || asOfMs !== undefined;
}

function checkListsUntagged(side: PlaceMoment, backends: Backends): void {
  if (listsReferrers(side, backends)) return;
  throw new Failure(
    'UNSUPPORTED',
    `${side.place.text} does not list images without tags: leave out --untagged, or compare ECR, stores and snapshots`,
  );
}

function uncheckedOf({ where, digest, unchecked }: PlaceEntry): readonly string[] {
  if (digest === undefined) return [`${where} does not say which image it holds: verify reads it`];
  return unchecked === undefined ? [] : [`${where}: ${unchecked}`];
}
