import type { Place } from '../oci/place.ts';
import { Failure } from '../util/failure.ts';
import type { Backends } from './backends.ts';
import { listArchives } from './list-archives.ts';
import { listRegistry } from './list-registry.ts';
import { listState } from './list-state.ts';
import type { ListOptions, PlaceEntry } from './place-entry.ts';

export type { ListOptions, PlaceEntry } from './place-entry.ts';

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
function checkNoMoment({ text }: Place, options: ListOptions): void {
  if (namesMoment(options))
    throw new Failure(
      'INVALID',
      `${text} is a registry, which has no snapshots: leave out --snapshot and --as-of, or name the store or the archives that it was backed up to`,
    );
}
