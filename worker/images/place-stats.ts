import { openImage } from '../archive/reader.ts';
import { blobsOf, walk } from '../content/graph.ts';
import { archiveKindOf } from '../oci/archive-key.ts';
import type { Digest } from '../oci/digest.ts';
import { matchesNothing, matchesRepository, matchingTags } from '../oci/image-filter.ts';
import { parseLocation } from '../oci/location.ts';
import type { Place } from '../oci/place.ts';
import { contentOf } from '../store/expanded.ts';
import { readState } from '../store/read-state.ts';
import { openSnapshots, type NamedSnapshot, type Snapshots } from '../store/snapshots.ts';
import { describeFailure, Failure, isFailure } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import type { Backends } from './backends.ts';
import { ContentCount, type ContentStats, type CountedContent } from './content-count.ts';
import { listPlace, namesMoment } from './list-place.ts';
import { openBackups, type BackupPlace } from './open-backups.ts';
import { noImageOfThatTime, openStore, storeAndPrefix } from './open-place.ts';
import { storeOf } from './open-location.ts';
import type { ListOptions, PlaceEntry } from './place-entry.ts';

export interface StatsOptions extends Omit<ListOptions, 'untagged' | 'referrers'> {
  /** How many days of growth are read from snapshots, today's among them. Default 30. */
  readonly days?: number | undefined;
}

/** What backups of one day, in UTC, added. */
interface DayOfGrowth {
  readonly day: string;
  readonly snapshots: number;
  readonly addedBytes: number;
}

/** The content of a place in figures, with its growth where snapshots record it. */
export interface PlaceStats extends ContentStats {
  readonly place: string;
  readonly kind: Place['kind'];
  /**
   * What the place holds: the objects of a store's blobs or of archives; of a registry each blob once for every repository. More than what the images
   * are made of where something else is there: older images of a store, referrers of a registry.
   */
  readonly storedBytes: number;
  /** What a store would hold less than this place. 0 for a store. */
  readonly savedByStore: number;
  /** By day, the oldest first. Empty for a registry, and where there are no snapshots. */
  readonly growth: readonly DayOfGrowth[];
  /** What could not be counted, a sentence each. */
  readonly unread: readonly string[];
}

const DAY_MS = 86_400_000;
const DAYS = 30;
const AT_ONCE = 8;

/**
 * Counts what the images of a place are made of. A store, and archives at a moment: their snapshots, and one listing. Archives now: the head of each.
 * A registry: every manifest, once a repository; what refers to images is not read. Memory grows with the distinct digests. Fails as
 * `listPlace` does, and with NOT_FOUND where `only` chooses nothing; an image that cannot be read is among `unread`.
 */
export async function placeStats(place: Place, backends: Backends, options: StatsOptions): Promise<PlaceStats> {
  const count = new ContentCount();
  const unread: string[] = [];
  const isOfSnapshots = place.kind === 'store' || (place.kind === 'archives' && namesMoment(options));
  const growth = new Growth(options);
  const listed =
    place.kind !== 'registry' && isOfSnapshots
      ? await countState(place, backends, options, { count, growth })
      : await countEntries(place, backends, options, { count, unread });
  const stats = count.stats();
  const { only = [] } = options;
  if (only.length > 0 && stats.images + unread.length === 0) throw matchesNothing(only, place.text);
  const storedBytes =
    place.kind === 'registry'
      ? stats.repositoryBytes
      : place.kind === 'archives'
        ? listed
        : await storeBytes(place, backends, options);
  return {
    place: place.text,
    kind: place.kind,
    storedBytes,
    savedByStore: place.kind === 'store' ? 0 : Math.max(0, storedBytes - stats.uniqueBytes),
    ...stats,
    growth:
      place.kind === 'registry' ? [] : await growth.read(openSnapshots(storeAndPrefix(place.root, backends)), options),
    unread,
  };
}

/** Counts the images of a state. Returns the bytes of their archives. */
async function countState(
  place: BackupPlace,
  backends: Backends,
  options: StatsOptions,
  { count, growth }: { readonly count: ContentCount; readonly growth: Growth },
): Promise<number> {
  const { snapshots } = await openBackups(place, backends, options);
  const { snapshot, asOfMs, signal, only = [] } = options;
  const state = await readState(snapshots, { snapshot, asOfMs, signal, onRead: (read) => growth.add(read) });
  if (state.repositories.length === 0) throw noImageOfThatTime(place.text);
  const archives = new Map<string, number>();
  for (const { registry, name, images } of state.repositories) {
    if (!matchesRepository(only, name)) continue;
    count.repository(registry.host, name);
    for (const image of images) {
      const tags = matchingTags(only, name, image.tags);
      if (tags === undefined || image.archived === true) continue;
      count.image(tags.length, contentOf(image));
      for (const { key, size } of image.archives ?? []) archives.set(key, size);
    }
  }
  return [...archives.values()].reduce((sum, size) => sum + size, 0);
}

/** The bytes of every blob that a store has, of older images too. */
async function storeBytes(
  place: Extract<Place, { kind: 'store' }>,
  backends: Backends,
  options: StatsOptions,
): Promise<number> {
  const store = await openStore(place.root, backends, options);
  let bytes = 0;
  for (const size of (await store.blobs(options)).values()) bytes += size;
  return bytes;
}

interface Counting {
  readonly count: ContentCount;
  readonly unread: string[];
}

/** Counts what a list names, one repository after the other. Returns the sum of the sizes that it states. */
async function countEntries(
  place: Place,
  backends: Backends,
  options: StatsOptions,
  counting: Counting,
): Promise<number> {
  const repositories = new Map<string, PlaceEntry[]>();
  let listed = 0;
  for await (const entry of listPlace(place, backends, options)) {
    listed += entry.size ?? 0;
    const key = `${entry.registry ?? ''}/${entry.repository}`;
    const known = repositories.get(key);
    if (known === undefined) repositories.set(key, [entry]);
    else known.push(entry);
  }
  for (const entries of repositories.values()) {
    const [first] = entries;
    if (first === undefined) continue;
    counting.count.repository(first.registry, first.repository);
    await countRepository(entries, backends, options, counting);
  }
  return listed;
}

async function countRepository(
  entries: readonly PlaceEntry[],
  backends: Backends,
  options: StatsOptions,
  { count, unread }: Counting,
): Promise<void> {
  const images = Map.groupBy(entries, ({ digest, where }) => digest ?? where);
  await forEachOf(
    images.values(),
    options.concurrency ?? AT_ONCE,
    async ([first, ...others], { signal }) => {
      if (first === undefined) return;
      try {
        count.image(others.length + 1, await contentAt(first, backends, { ...options, signal }));
      } catch (error) {
        if (!isFailure(error, 'NOT_FOUND', 'INVALID', 'CORRUPT', 'UNSUPPORTED')) throw error;
        unread.push(`${first.where}: ${describeFailure(error)}`);
      }
    },
    options,
  );
}

/** What the image of an entry is made of, and in an archive what refers to it: by its manifests alone. */
async function contentAt(
  { where, registry, repository, digest }: PlaceEntry,
  backends: Backends,
  options: StatsOptions,
): Promise<Iterable<CountedContent>> {
  const { signal, clock, report } = options;
  const contents = new Map<Digest, CountedContent>();
  const location = parseLocation(where);
  if (location.transport === 's3' || location.transport === 'archive') {
    const { store, key } = storeOf(backends, location);
    if (archiveKindOf(key) !== 'tar')
      throw new Failure('UNSUPPORTED', 'it is compressed, so its manifests are not read');
    await using image = await openImage(store, key, { signal, clock, report });
    const graph = await walk(image, [image.root], { signal, clock, report });
    for (const { descriptor } of graph.manifests.values()) contents.set(descriptor.digest, descriptor);
    for (const blob of blobsOf(graph)) contents.set(blob.digest, blob);
    return contents.values();
  }
  const source = backends.registry(registry ?? '', options.side ?? 'source').repository(repository);
  const descriptor = await source.resolve(digest ?? '', { signal });
  const graph = await walk(source, [{ descriptor, tags: [] }], { signal, clock, report, referrers: false });
  for (const node of graph.manifests.values()) contents.set(node.descriptor.digest, node.descriptor);
  for (const blob of blobsOf(graph)) contents.set(blob.digest, blob);
  return contents.values();
}

/** What backups of the last days added, by the snapshots that they wrote. */
class Growth {
  readonly #firstMs: number;
  /** The bytes that each snapshot of these days added, by its id, for those that were read. */
  readonly #added = new Map<string, number>();

  constructor({ days = DAYS, clock }: StatsOptions) {
    this.#firstMs = Math.floor(clock.now() / DAY_MS) * DAY_MS - (days - 1) * DAY_MS;
  }

  add({ name, snapshot }: NamedSnapshot): void {
    if (name.finishedAtMs >= this.#firstMs) this.#added.set(name.id, snapshot.added.bytes);
  }

  /** The days, the oldest first. Reads the snapshots that were not added. */
  async read(snapshots: Snapshots, { signal, concurrency }: StatsOptions): Promise<readonly DayOfGrowth[]> {
    const names = (await snapshots.list({ signal })).filter(({ finishedAtMs }) => finishedAtMs >= this.#firstMs);
    await forEachOf(
      names.filter(({ id }) => !this.#added.has(id)),
      concurrency ?? AT_ONCE,
      async (name, options) => this.add(await snapshots.read(name, options)),
      { signal },
    );
    const days = Map.groupBy(names, ({ finishedAtMs }) => dayOf(finishedAtMs));
    return Array.from(days, ([day, some]) => ({
      day,
      snapshots: some.length,
      addedBytes: some.reduce((sum, { id }) => sum + (this.#added.get(id) ?? 0), 0),
    }));
  }
}

/** In UTC: `2026-05-31`. */
function dayOf(timeMs: number): string {
  return new Date(timeMs).toISOString().slice(0, 10);
}
