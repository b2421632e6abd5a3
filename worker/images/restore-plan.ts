import { formatImageFilters, matchesRepository, matchingTags, type ImageFilter } from '../oci/image-filter.ts';
import type { RegistryTarget } from '../oci/location.ts';
import { mapRepository, type RepositoryMap } from '../oci/repository-map.ts';
import { formatRepository, parseRepository, type Repository } from '../oci/reference.ts';
import type { SnapshotFailure } from '../store/snapshot.ts';
import type { State, StateImage, StateRepository } from '../store/state.ts';
import { Failure } from '../util/failure.ts';
import { compareStrings, quote } from '../util/text.ts';
import type { SettingsDocument } from './write-settings.ts';

/** Which repositories are restored, and under which names. */
export interface RestoreSelection {
  readonly only: readonly ImageFilter[];
  readonly maps: readonly RepositoryMap[];
  /** Only what was in this registry. Absent: in any. */
  readonly registry?: string | undefined;
  readonly to: RegistryTarget;
}

/** A repository to restore. */
export interface PlannedRepository {
  readonly from: Repository;
  readonly to: Repository;
  readonly settings: SettingsDocument | undefined;
  /** Those that were backed up, the oldest push first: a lifecycle policy counts them in the order of their push. */
  readonly images: readonly StateImage[];
  /** What was there and was not backed up, or is older than it was there. */
  readonly absent: readonly SnapshotFailure[];
}

/**
 * What of a state is restored, by the names that it gets. Pure. NOT_FOUND where nothing is selected; INVALID where two repositories would get one
 * name, and for a map that matches no repository.
 */
export function planRestore(state: State, selection: RestoreSelection): readonly PlannedRepository[] {
  const used = new Set<RepositoryMap>();
  const planned: PlannedRepository[] = [];
  const names = new Map<string, PlannedRepository>();
  for (const repository of state.repositories) {
    if (selection.registry !== undefined && repository.registry.host !== selection.registry) continue;
    const images = imagesOf(repository, selection.only);
    if (images === undefined) continue;
    const { name, by } = mapRepository(selection.maps, repository.name);
    if (by !== undefined) used.add(by);
    const { registry, prefix } = selection.to;
    // the name with its prefix may be too long
    const to = parseRepository(`${registry}/${prefix === '' ? '' : `${prefix}/`}${name}`);
    const one: PlannedRepository = {
      from: { registry: repository.registry.host, repository: repository.name },
      to,
      settings: repository.settings,
      images: images.filter(({ archived }) => archived !== true).sort(byPush),
      absent: absentOf(repository, images, selection.only),
    };
    const rival = names.get(to.repository);
    if (rival !== undefined) throw clash(rival, one);
    names.set(to.repository, one);
    planned.push(one);
  }
  if (planned.length === 0) throw nothingSelected(state, selection);
  const unused = selection.maps.find((map) => !used.has(map));
  if (unused !== undefined)
    throw new Failure('INVALID', `--map ${quote(unused.text)} matches none of the repositories that are restored`);
  return planned;
}

/** The images that the filters choose, with the tags that they choose. Undefined where the repository is not chosen. */
function imagesOf(repository: StateRepository, only: readonly ImageFilter[]): readonly StateImage[] | undefined {
  if (!matchesRepository(only, repository.name)) return undefined;
  const images = repository.images.flatMap((image) => {
    const tags = matchingTags(only, repository.name, image.tags);
    return tags === undefined ? [] : [{ ...image, tags }];
  });
  // a repository of which no image was asked for by its tags
  const isWhole = matchingTags(only, repository.name, []) !== undefined;
  return images.length === 0 && !isWhole ? undefined : images;
}

function absentOf(
  { name, failures }: StateRepository,
  images: readonly StateImage[],
  only: readonly ImageFilter[],
): readonly SnapshotFailure[] {
  const isChosen = ({ tag }: SnapshotFailure): boolean =>
    matchingTags(only, name, tag === undefined ? [] : [tag]) !== undefined;
  const archived = images.filter((image) => image.archived === true);
  return [
    ...failures.filter(isChosen),
    ...archived.map(({ digest, tags: [tag] }) => {
      const reason = 'it was in the archive storage class of ECR, and was listed without being backed up';
      return tag === undefined ? { repository: name, digest, reason } : { repository: name, tag, digest, reason };
    }),
  ];
}

/** Without the time of its push an image comes first. */
function byPush(a: StateImage, b: StateImage): number {
  return compareStrings(a.pushedAt ?? '', b.pushedAt ?? '');
}

function clash({ from: a, to }: PlannedRepository, { from: b }: PlannedRepository): Failure {
  const advice =
    a.registry === b.registry
      ? 'give them different names with --map'
      : `restore one registry at a time: --registry ${a.registry}`;
  return new Failure(
    'INVALID',
    `${formatRepository(a)} and ${formatRepository(b)} would both be restored to ${formatRepository(to)}: ${advice}`,
  );
}

function nothingSelected({ repositories }: State, { only, registry }: RestoreSelection): Failure {
  if (repositories.length === 0)
    return new Failure(
      'NOT_FOUND',
      'no snapshot of that time has a repository: `transship snapshots list` prints them',
    );
  const hosts = [...new Set(repositories.map((one) => one.registry.host))];
  if (registry !== undefined && !hosts.includes(registry))
    return new Failure(
      'NOT_FOUND',
      `no snapshot is of the registry ${registry}: there are those of ${hosts.join(', ')}`,
    );
  return new Failure('NOT_FOUND', `${formatImageFilters(only)} matches nothing that was backed up`);
}
