import type { Source } from '../content/content.ts';
import { unseenOf, walk } from '../content/graph.ts';
import { cosignSubject, isReferrersTag } from '../oci/derived-tag.ts';
import type { Digest } from '../oci/digest.ts';
import { matchesRepository, matchingTags } from '../oci/image-filter.ts';
import { formatLocation, matchesPattern } from '../oci/location.ts';
import { artifactTypeOf, type Descriptor } from '../oci/manifest.ts';
import type { Place } from '../oci/place.ts';
import { describeFailure, isFailure } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import { compareStrings } from '../util/text.ts';
import type { Backends, ListedImage } from './backends.ts';
import type { ListOptions, PlaceEntry } from './place-entry.ts';
import { repositoriesOf } from './list-repositories.ts';

type RegistryPlace = Extract<Place, { kind: 'registry' }>;

/** Which names of one repository are asked for. */
interface Listing {
  readonly host: string;
  readonly repository: string;
  /** Whether a tag is one of those that are asked for. */
  readonly isWanted: (tag: string) => boolean;
  readonly options: ListOptions;
}

/** Tags that are asked for before the first of them is handed on. */
const WINDOW = 256;
const AT_ONCE = 8;

/** What `listPlace` gives of a registry. */
export async function* listRegistry(
  place: RegistryPlace,
  backends: Backends,
  options: ListOptions,
): AsyncGenerator<PlaceEntry, void, undefined> {
  const { registry: host, tag: tags } = place.pattern;
  const { only = [], side = 'source' } = options;
  const registry = backends.registry(host, side);
  for (const repository of await repositoriesOf(place, backends, { ...options, side })) {
    if (!matchesRepository(only, repository)) continue;
    const isWanted = (tag: string): boolean =>
      (tags === undefined || matchesPattern(tags, tag)) && matchingTags(only, repository, [tag])?.length === 1;
    // an untagged image is asked for where no tags are named
    const untagged =
      options.untagged === true && tags === undefined && matchingTags(only, repository, []) !== undefined;
    const listing = { host, repository, isWanted, options: { ...options, untagged } };
    yield* registry.images === undefined
      ? taggedIn(registry.repository(repository), listing)
      : rowsOf(registry.images(repository, options), listing);
  }
}

/** What ECR lists of a repository, by the first tags. */
async function* rowsOf(
  images: AsyncIterable<ListedImage>,
  listing: Listing,
): AsyncGenerator<PlaceEntry, void, undefined> {
  const rows: ListedImage[] = [];
  for await (const row of images) rows.push({ ...row, tags: [...row.tags].sort(compareStrings) });
  rows.sort((a, b) => compareStrings(a.tags[0] ?? '', b.tags[0] ?? '') || compareStrings(a.digest, b.digest));
  const { untagged, referrers } = listing.options;
  for (const row of rows) {
    const { digest, subject } = row;
    const of = {
      digest,
      mediaType: row.mediaType,
      size: row.sizeBytes,
      ...(row.pushedAt === undefined ? {} : { pushedAt: row.pushedAt.toISOString() }),
      ...(row.status === 'ACTIVE' ? {} : { archived: true as const }),
    };
    for (const entry of entriesOf(of, row.tags, subject, listing)) yield entry;
    const isNameless = row.tags.length === 0;
    if (isNameless && (subject === undefined ? untagged === true : referrers !== undefined))
      yield entryOf({ ...of, subject }, listing);
  }
}

/** What the tags of a repository lead to, in the order of the tags. */
async function* taggedIn(source: Source, listing: Listing): AsyncGenerator<PlaceEntry, void, undefined> {
  const { options, isWanted } = listing;
  const tags: string[] = [];
  for await (const tag of source.tags({ ...options, all: true }))
    if (isWanted(tag) && !isReferrersTag(tag)) tags.push(tag);
  tags.sort(compareStrings);
  const seen = new Set<Digest>();
  for (let at = 0; at < tags.length; at += WINDOW) {
    const window = tags.slice(at, at + WINDOW);
    const found = new Map<string, Descriptor>();
    await forEachOf(
      window,
      options.concurrency ?? AT_ONCE,
      async (tag, { signal }) => {
        try {
          found.set(tag, await source.resolve(tag, { signal }));
        } catch (error) {
          // deleted since it was listed
          if (!isFailure(error, 'NOT_FOUND')) throw error;
        }
      },
      options,
    );
    for (const tag of window) {
      const descriptor = found.get(tag);
      if (descriptor === undefined) continue;
      const { digest, mediaType } = descriptor;
      const entries = entriesOf({ digest, mediaType }, [tag], undefined, listing);
      if (options.referrers !== 'all' || seen.has(digest) || cosignSubject(tag) !== undefined) yield* entries;
      else yield* await withReferrers(source, descriptor, entries, listing);
      seen.add(digest);
    }
  }
}

/** The entries of an image, and those of what refers to it or its children by `subject`: reads every manifest of it. */
async function withReferrers(
  source: Source,
  descriptor: Descriptor,
  entries: readonly PlaceEntry[],
  listing: Listing,
): Promise<readonly PlaceEntry[]> {
  const { signal, clock, report } = listing.options;
  const graph = await walk(source, [{ descriptor, tags: [] }], { signal, clock, report });
  const [unchecked] = [
    ...unseenOf(graph),
    ...graph.unreadable.map(({ failure }) => `what refers to the image cannot be read: ${describeFailure(failure)}`),
  ];
  const referrers = graph.referrers.flatMap(({ descriptor: { digest }, tags }) => {
    const node = graph.manifests.get(digest);
    // tags of cosign are listed as such
    if (node === undefined || tags.length > 0) return [];
    const { mediaType } = node.descriptor;
    const artifactType = artifactTypeOf(node.manifest);
    return [entryOf({ digest, mediaType, artifactType, subject: node.manifest.subject?.digest }, listing)];
  });
  return [...(unchecked === undefined ? entries : entries.map((entry) => ({ ...entry, unchecked }))), ...referrers];
}

type Found = Omit<PlaceEntry, 'registry' | 'repository' | 'where'>;

/** One entry for each tag that is asked for. */
function entriesOf(
  found: Found,
  tags: readonly string[],
  subject: Digest | undefined,
  listing: Listing,
): readonly PlaceEntry[] {
  return tags.flatMap((tag) => {
    const about = subject ?? cosignSubject(tag);
    if (!listing.isWanted(tag) || isReferrersTag(tag)) return [];
    if (about !== undefined && listing.options.referrers === undefined) return [];
    return [entryOf({ ...found, tag, ...(about === undefined ? {} : { subject: about }) }, listing)];
  });
}

function entryOf(found: Found, { host, repository }: Listing): PlaceEntry {
  const { tag, digest } = found;
  const name = tag === undefined ? { digest } : { tag };
  const where = formatLocation({ transport: 'docker', reference: { registry: host, repository, ...name } });
  return { registry: host, repository, ...found, where };
}
