import type { Digest } from '../oci/digest.ts';
import { matchesRepository, matchingTags } from '../oci/image-filter.ts';
import { formatLocation } from '../oci/location.ts';
import { isManifestType } from '../oci/manifest.ts';
import type { ExpandedReferrer } from '../store/expanded.ts';
import { readCovered } from '../store/index-checkpoint.ts';
import { readState, type ReadStateOptions } from '../store/read-state.ts';
import type { State, StateImage, StateRepository } from '../store/state.ts';
import type { Backends } from './backends.ts';
import type { ListOptions, PlaceEntry } from './place-entry.ts';
import { openBackups, type BackupPlace } from './open-backups.ts';
import { archiveName, formatRoot, noImageOfThatTime, storeAndPrefix } from './open-place.ts';

export type { BackupPlace } from './open-backups.ts';

/** What `listPlace` gives of a store, and of archives as their snapshots list them. NOT_FOUND for archives without snapshots. */
export async function* listState(
  place: BackupPlace,
  backends: Backends,
  options: ListOptions,
): AsyncGenerator<PlaceEntry, void, undefined> {
  const { snapshots } = await openBackups(place, backends, options);
  const { store, prefix, keys } = storeAndPrefix(place.root, backends);
  // a checkpoint is not signed: where snapshots are, all of them are read
  const isCovered = place.kind === 'store' && keys?.trusted === undefined;
  const covered: ReadStateOptions['covered'] = async (names) =>
    readCovered({ store, prefix }, names, { signal: options.signal });
  const state = await readState(snapshots, { ...options, ...(isCovered ? { covered } : {}) });
  if (state.repositories.length === 0 && (place.kind === 'archives' || options.asOfMs !== undefined))
    throw noImageOfThatTime(place.text);
  yield* entriesIn(state, place, backends, options);
}

/** The entries of a state, by registry, repository and tag. Pure. */
function* entriesIn(
  state: State,
  place: BackupPlace,
  backends: Pick<Backends, 'bucket' | 'folder'>,
  options: Pick<ListOptions, 'only' | 'untagged' | 'referrers'>,
): Generator<PlaceEntry, void, undefined> {
  const { store } = storeAndPrefix(place.root, backends);
  const locate = (repository: StateRepository, image: StateImage, tag: string | undefined): string => {
    const archive = image.archives?.find((one) => one.tag === tag) ?? image.archives?.[0];
    if (archive !== undefined) return archiveName(place.root, store, archive.key);
    const name = { registry: repository.registry.host, repository: repository.name, tag, digest: image.digest };
    return formatLocation({ transport: 'store', place: formatRoot(place.root), image: name });
  };
  for (const repository of state.repositories) {
    if (!matchesRepository(options.only ?? [], repository.name)) continue;
    const named = namedIn(repository);
    for (const image of repository.images) {
      const tags = matchingTags(options.only ?? [], repository.name, image.tags);
      if (tags === undefined) continue;
      yield* entriesOf(image, tags, { repository, named, locate, options });
    }
  }
}

interface Listing {
  readonly repository: StateRepository;
  /** What has a tag of its own. */
  readonly named: ReadonlySet<Digest>;
  readonly locate: (repository: StateRepository, image: StateImage, tag: string | undefined) => string;
  readonly options: Pick<ListOptions, 'untagged' | 'referrers'>;
}

function* entriesOf(
  image: StateImage,
  tags: readonly string[],
  { repository, named, locate, options }: Listing,
): Generator<PlaceEntry, void, undefined> {
  const of = { registry: repository.registry.host, repository: repository.name };
  const { digest, mediaType, artifactType, pushedAt, archived } = image;
  const [unchecked] = image.unchecked ?? [];
  const entry = {
    ...of,
    digest,
    mediaType,
    artifactType,
    size: image.bytes,
    pushedAt,
    archived,
    unchecked: options.referrers === undefined ? undefined : unchecked,
  };
  for (const tag of tags) yield { ...entry, tag, where: locate(repository, image, tag) };
  if (options.untagged === true) {
    if (tags.length === 0 && image.tags.length === 0) yield { ...entry, where: locate(repository, image, undefined) };
    const children = image.content.filter(
      (one) => one.digest !== digest && isManifestType(one.mediaType ?? '') && !named.has(one.digest),
    );
    for (const child of children) yield { ...of, ...child, isChild: true, where: locate(repository, image, undefined) };
  }
  if (options.referrers === undefined) return;
  for (const referrer of image.referrers) {
    const where = locate(repository, image, undefined);
    for (const tag of referrer.tags.length === 0 ? [undefined] : referrer.tags)
      yield { ...of, ...namesOf(referrer), tag, where };
  }
}

function namedIn({ images }: StateRepository): ReadonlySet<Digest> {
  const all = images.flatMap((image) => [image, ...image.referrers]);
  return new Set(all.flatMap(({ digest, tags }) => (tags.length === 0 ? [] : digest)));
}

function namesOf({
  digest,
  mediaType,
  size,
  artifactType,
  subject,
}: ExpandedReferrer): Omit<PlaceEntry, 'repository' | 'where'> {
  return { digest, mediaType, size, artifactType, subject };
}
