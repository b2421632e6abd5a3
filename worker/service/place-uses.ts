import { folderOf } from '../images/inventory-archives.ts';
import { parseDestination, parseLocation, withoutTransport, type Location } from '../oci/location.ts';
import { parseRepository } from '../oci/reference.ts';
import type { Job } from '../queue/job.ts';
import { registryName } from '../rules/sources.ts';
import type { StateStore } from '../state/state.ts';
import type { Abortable } from '../util/abort.ts';
import { isFailure } from '../util/failure.ts';

// Cleaners and workers keep apart by place: a repository, or a folder of archives. A Cleaner locks a place, then looks for jobs that run there. A
// worker marks its job as running, then looks whether its places are locked. So at least one of the two sees the other.

/** What a job reads or writes at a place. */
export interface PlaceUse {
  /** `host/repository` by the one name of its registry, or `s3://bucket/folder` with `{date}` for each day in it. */
  readonly place: string;
  readonly role: 'source' | 'destination';
  /** The tag, the digest or the key. Absent: not known, or no image. */
  readonly name?: string | undefined;
}

/** A place by its one name, from how an inventory names it. */
export function placeName(place: string): string {
  if (place.startsWith('s3://')) return place;
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
        return [source(job.from), ...(job.against === undefined ? [] : [source(job.against)])];
      case 'settings':
        return [destination(job.to)];
      case 'publish':
        return [repositoryUse(job.to)];
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

/** A place of the job where a Cleaner is deleting at this moment. Undefined where there is none. Asks once for each place. */
export async function prunedPlace(
  job: Job,
  state: Pick<StateStore, 'isLocked'>,
  options: Abortable,
): Promise<string | undefined> {
  for (const place of new Set(usesOf(job).map((use) => use.place)))
    if (await state.isLocked(pruneLock(place), options)) return place;
  return undefined;
}
