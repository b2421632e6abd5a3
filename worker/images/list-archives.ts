import { posix } from 'node:path';
import { openImage } from '../archive/reader.ts';
import { rootIn, sourceIn } from '../archive/metadata.ts';
import { unseenOf, walk } from '../content/graph.ts';
import type { ObjectInfo, ObjectStore } from '../objects/objects.ts';
import { archiveKindOf } from '../oci/archive-key.ts';
import { cosignSubject } from '../oci/derived-tag.ts';
import { isDigest } from '../oci/digest.ts';
import { matchesRepository, matchingTags } from '../oci/image-filter.ts';
import { artifactTypeOf } from '../oci/manifest.ts';
import type { Place } from '../oci/place.ts';
import { ifReference } from '../oci/reference.ts';
import { describeFailure, ifFound, isFailure } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import type { Backends } from './backends.ts';
import { heldIn, tagsOfKey, writtenMs } from './inventory-archives.ts';
import { archiveName, noArchiveBelow, storeAndPrefix } from './open-place.ts';
import type { ListOptions, PlaceEntry } from './place-entry.ts';

type ArchivesPlace = Extract<Place, { kind: 'archives' }>;

/** Archives that are asked what they hold before the first of them is handed on. */
const WINDOW = 256;
const AT_ONCE = 8;

/** What `listPlace` gives of archives as they are now. NOT_FOUND where no archive exists. */
export async function* listArchives(
  place: ArchivesPlace,
  backends: Backends,
  options: ListOptions,
): AsyncGenerator<PlaceEntry, void, undefined> {
  const { store } = storeAndPrefix(place.root, backends);
  let window: ObjectInfo[] = [];
  let isEmpty = true;
  for await (const info of store.list(place.root.prefix, options)) {
    if (archiveKindOf(info.key) === undefined) continue;
    isEmpty = false;
    window.push(info);
    if (window.length < WINDOW) continue;
    yield* entriesIn(window, place, store, options);
    window = [];
  }
  yield* entriesIn(window, place, store, options);
  if (isEmpty) throw await noArchiveBelow(place.text, { store, prefix: place.root.prefix }, undefined, options);
}

async function* entriesIn(
  window: readonly ObjectInfo[],
  place: ArchivesPlace,
  store: ObjectStore,
  options: ListOptions,
): AsyncGenerator<PlaceEntry, void, undefined> {
  const found = new Map<string, readonly PlaceEntry[]>();
  await forEachOf(
    window,
    options.concurrency ?? AT_ONCE,
    async (info, { signal }) => {
      found.set(info.key, await entriesOf(info, place, store, { ...options, signal }));
    },
    options,
  );
  for (const { key } of window) yield* found.get(key) ?? [];
}

/** The image of an archive, and what it holds that refers to it. Empty where it is gone by now, or not asked for. */
async function entriesOf(
  listed: ObjectInfo,
  place: ArchivesPlace,
  store: ObjectStore,
  options: ListOptions,
): Promise<readonly PlaceEntry[]> {
  const { key } = listed;
  const info = await ifFound(store.stat(key, options));
  if (info === undefined) return [];
  const isDescribed = sourceIn(info.metadata) !== undefined;
  const held = isDescribed ? undefined : await heldIn(store, key, options);
  const digest = rootIn(info.metadata) ?? held?.digest;
  const image = ifReference(sourceIn(info.metadata) ?? held?.image);
  const folder = posix.dirname(key.slice(place.root.prefix.length));
  const { registry, repository, tag } = image ?? { repository: folder, tag: tagsOfKey(key)[0], registry: undefined };
  const about = tag === undefined ? undefined : cosignSubject(tag);
  const { only = [], referrers, untagged } = options;
  const tags = tag === undefined ? [] : [tag];
  if (!matchesRepository(only, repository) || matchingTags(only, repository, tags) === undefined) return [];
  if ((tag === undefined && untagged !== true) || (about !== undefined && referrers === undefined)) return [];
  const entry: PlaceEntry = {
    registry,
    repository,
    tag,
    digest: isDigest(digest) ? digest : undefined,
    size: info.size,
    pushedAt: new Date(writtenMs(info)).toISOString(),
    subject: about,
    where: archiveName(place.root, store, key),
  };
  return referrers === 'all' ? withReferrers(entry, store, key, options) : [entry];
}

/** The entry, and those of what the archive holds that refers to its image: reads its manifests. */
async function withReferrers(
  entry: PlaceEntry,
  store: ObjectStore,
  key: string,
  { signal, clock, report }: ListOptions,
): Promise<readonly PlaceEntry[]> {
  if (archiveKindOf(key) !== 'tar')
    return [{ ...entry, unchecked: 'it is compressed, so what it holds that refers to the image was not listed' }];
  try {
    await using archive = await openImage(store, key, { signal });
    const graph = await walk(archive, [archive.root], { signal, clock, report });
    const [unchecked] = unseenOf(graph);
    const { registry, repository, where } = entry;
    const referrers = graph.referrers.flatMap(({ descriptor: { digest }, tags }): readonly PlaceEntry[] => {
      const node = graph.manifests.get(digest);
      if (node === undefined) return [];
      const { mediaType } = node.descriptor;
      const of = { registry, repository, digest, mediaType, artifactType: artifactTypeOf(node.manifest), where };
      return tags.length === 0
        ? [{ ...of, subject: node.manifest.subject?.digest }]
        : tags.map((tag) => ({ ...of, tag, subject: cosignSubject(tag) }));
    });
    return [unchecked === undefined ? entry : { ...entry, unchecked }, ...referrers];
  } catch (error) {
    if (!isFailure(error, 'INVALID', 'CORRUPT', 'UNSUPPORTED', 'NOT_FOUND')) throw error;
    return [{ ...entry, unchecked: `what refers to the image cannot be listed: ${describeFailure(error)}` }];
  }
}
