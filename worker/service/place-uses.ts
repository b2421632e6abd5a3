import { folderOf } from '../images/inventory-archives.ts';
import {
  isPattern,
  matchesPattern,
  parseDestination,
  parseImagePattern,
  parseLocation,
  withoutTransport,
  type Location,
} from '../oci/location.ts';
import { isPlace, parsePlace } from '../oci/place.ts';
import { parseRepository } from '../oci/reference.ts';
import type { Job } from '../queue/job.ts';
import type { ManyImages } from '../queue/many-images.ts';
import { registryName } from '../rules/sources.ts';
import type { StateStore } from '../state/state.ts';
import type { Abortable } from '../util/abort.ts';
import { isFailure } from '../util/failure.ts';

// Cleaners and workers keep apart by place: a repository, or a folder of archives. A Cleaner locks a place, then looks for jobs that run there. A
// worker marks its job as running, then looks whether its places are locked. So at least one of the two sees the other.

/** What a job reads or writes at a place. */
export interface PlaceUse {
  /** `host/repository` by the canonical name of its registry, or `s3://bucket/folder` with `{date}` for each day in it. */
  readonly place: string;
  /** Whether the repository is a pattern: every place that matches is used. Default false. */
  readonly isPattern?: true;
  readonly role: 'source' | 'destination';
  /** The tag, the digest or the key. Absent: not known, or no image. */
  readonly name?: string | undefined;
}

/** The canonical name of a place, from how an inventory names it; a store as rules name it. */
export function placeName(place: string): string {
  if (place.startsWith('s3://') || place.startsWith('store:')) return place;
  const slash = place.indexOf('/');
  return `${registryName(place.slice(0, slash))}${place.slice(slash)}`;
}

/** What a job uses. Empty for one that reads and writes no content, and for one whose places cannot be read: it is refused. */
export function usesOf(job: Job): readonly PlaceUse[] {
  try {
    switch (job.kind) {
      case 'mirror':
      case 'backup':
        return [source(job.from), ...job.to.map(destination)];
      case 'restore':
        return [source(job.from), destination(job.to)];
      case 'verify':
        return [...verifiedUses(job.from), ...(job.against === undefined ? [] : [source(job.against)])];
      case 'settings':
        return [destination(job.to)];
      case 'publish':
        return [repositoryUse(job.to)];
      case 'backup-store':
        return manyUses(job);
      // an archive that goes while a snapshot is written is missing from the snapshot
      case 'snapshot':
      case 'plan':
        return [];
      default:
        return job satisfies never;
    }
  } catch (error) {
    if (!isFailure(error, 'INVALID')) throw error;
    return [];
  }
}

/** What a backup into a store reads. The store itself keeps its writers and its garbage collection apart. */
function manyUses({ from, only }: ManyImages): readonly PlaceUse[] {
  return from.flatMap((one): readonly PlaceUse[] => {
    const { registry, repository } = parseImagePattern(one);
    const place = `${registryName(registry)}/${repository}`;
    if (only !== undefined) return only.map(({ tag, digest }) => ({ place, role: 'source', name: tag ?? digest }));
    return [{ place, role: 'source', ...(isPattern(repository) ? { isPattern: true } : {}) }];
  });
}

/** What a verification reads. Of archives and stores nothing: what is deleted meanwhile does not count. */
function verifiedUses(from: string): readonly PlaceUse[] {
  if (!isPlace(from)) return [source(from)];
  const place = parsePlace(from);
  if (place.kind !== 'registry') return [];
  const { registry, repository } = place.pattern;
  return [
    {
      place: `${registryName(registry)}/${repository}`,
      role: 'source',
      ...(isPattern(repository) ? { isPattern: true } : {}),
    },
  ];
}

/** Whether the use is of this place. */
export function isUseOf(use: PlaceUse, place: string): boolean {
  return use.isPattern === true ? matchesPattern(use.place, place) : use.place === place;
}

/** What a copy uses that is shown as `from → to, to`. Undefined where the title does not show all of it. */
export function usesOfTitle(title: string): readonly PlaceUse[] | undefined {
  const [, from = '', to = ''] = /^(\S.*) → (docker:\/\/[^\s,]+(?:, docker:\/\/[^\s,]+)*)$/.exec(title) ?? [];
  if (from === '' || title.length >= SHOWN_TITLE) return undefined;
  try {
    return [source(from), ...to.split(', ').map(destination)];
  } catch (error) {
    if (!isFailure(error, 'INVALID')) throw error;
    return undefined;
  }
}

/** The state cuts longer titles. */
const SHOWN_TITLE = 2000;

function source(text: string): PlaceUse {
  return useOf(parseLocation(text), 'source');
}

function destination(text: string): PlaceUse {
  const name = withoutTransport(text);
  // a restore to a repository takes the tag that the archive names
  const isNamed = text.startsWith('s3://') || /[:@]/.test(name.slice(name.lastIndexOf('/') + 1));
  return isNamed ? useOf(parseDestination(text), 'destination') : repositoryUse(text);
}

function repositoryUse(text: string): PlaceUse {
  const { registry, repository } = parseRepository(withoutTransport(text));
  return { place: `${registryName(registry)}/${repository}`, role: 'destination' };
}

function useOf(location: Location, role: PlaceUse['role']): PlaceUse {
  if (location.transport === 's3')
    return { place: `s3://${location.bucket}/${folderOf(location.key)}`, role, name: location.key };
  if (location.transport !== 'docker') return { place: '', role };
  const { registry, repository, tag, digest } = location.reference;
  return { place: `${registryName(registry)}/${repository}`, role, name: tag ?? digest };
}

/** The name of the lock that a Cleaner holds while it deletes at a place. */
export function pruneLock(place: string): string {
  return `prune/${placeName(place)}`;
}

/**
 * Finds a place of the job where a Cleaner is deleting at this moment. One read for all places. Patterns are left out: a Cleaner that starts
 * later sees the job, and an image that a Cleaner deleted before is missing from the backup.
 */
export async function prunedPlace(
  job: Job,
  state: Pick<StateStore, 'findLocked'>,
  options: Abortable,
): Promise<string | undefined> {
  const places = usesOf(job).flatMap((use) => (use.isPattern === true ? [] : [use.place]));
  const byLock = new Map(places.map((place) => [pruneLock(place), place]));
  const locked = byLock.size === 0 ? undefined : await state.findLocked([...byLock.keys()], options);
  return locked === undefined ? undefined : byLock.get(locked);
}
