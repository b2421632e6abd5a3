import { LRUCache } from 'lru-cache';
import { openImage } from '../archive/reader.ts';
import type { Bytes, ByteRange, Source } from '../content/content.ts';
import { blobsOf, walk, type Graph } from '../content/graph.ts';
import { isCompressed } from '../oci/archive-key.ts';
import { isDerivedTag, cosignSubject } from '../oci/derived-tag.ts';
import type { Digest } from '../oci/digest.ts';
import { parseLocation } from '../oci/location.ts';
import { isManifestType, referrerEntry, type Descriptor } from '../oci/manifest.ts';
import { isRepositoryName } from '../oci/reference.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { describeFailure, Failure, isFailure, type Failure as AnyFailure } from '../util/failure.ts';
import { forEachOf, type Limit } from '../util/limit.ts';
import type { Backends, OperationOptions } from './backends.ts';
import type { PlaceEntry } from './list-place.ts';
import { storeOf } from './open-location.ts';
import type { ServedRepository } from './served-images.ts';

/** Archives that are kept open, over all repositories. One holds its manifests in memory. */
const OPEN_ARCHIVES = 64;
/** Archives of a repository that are opened at once to find a digest. */
const AT_ONCE = 8;

export interface ServingOptions extends OperationOptions {
  /** How many passes over compressed archives there are at once. */
  readonly passes: Limit;
}

/** An archive as it was listed. Of several for one tag, the newest. */
interface ListedArchive {
  readonly where: string;
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
  readonly pushedAt: string;
}

/**
 * The repositories of archives, as a list of them names them. An archive is opened when its tag is asked for, and all of a repository are opened when
 * a digest is asked for that no opened one has. Reports what no client could ask for.
 */
export async function servedArchives(
  entries: AsyncIterable<PlaceEntry>,
  backends: Pick<Backends, 'bucket' | 'folder'>,
  options: ServingOptions,
): Promise<ServedRepository[]> {
  const opened = new LRUCache<string, Promise<Source & { readonly graph: Graph }>>({ max: OPEN_ARCHIVES });
  const repositories = new Map<string, ListedRepository>();
  let unnamed = 0;
  let compressed = 0;
  for await (const entry of entries) {
    const { registry, repository, tag, digest, where, pushedAt = '' } = entry;
    if (!isRepositoryName(repository)) {
      unnamed++;
      continue;
    }
    if (isCompressed(where)) compressed++;
    const name = `${registry ?? ''}/${repository}`;
    const known = repositories.get(name) ?? { entry, archives: new Map<string, ListedArchive>() };
    repositories.set(name, known);
    const id = tag ?? digest ?? where;
    if ((known.archives.get(id)?.pushedAt ?? '') <= pushedAt) known.archives.set(id, { where, tag, digest, pushedAt });
  }
  reportCompressed(compressed, options);
  if (unnamed > 0)
    options.report?.({
      type: 'warning',
      message: `${unnamed} archives are not served: neither they nor their keys name a repository`,
    });
  joinUnnamed(repositories);
  return [...repositories.values()].map(
    ({ entry, archives }) => new ArchivedRepository(entry, [...archives.values()], { backends, opened, options }),
  );
}

/** The archives of a repository, with the entry that was listed first. */
interface ListedRepository {
  readonly entry: PlaceEntry;
  readonly archives: Map<string, ListedArchive>;
}

/**
 * Archives that do not say their registry, as compressed files do not, belong to the only registry that has a repository of that name here. What that
 * has comes first.
 */
function joinUnnamed(repositories: Map<string, ListedRepository>): void {
  for (const [name, { entry, archives }] of repositories) {
    if (entry.registry !== undefined) continue;
    const named = [...repositories.values()].filter(
      (other) => other.entry.registry !== undefined && other.entry.repository === entry.repository,
    );
    const [only] = named;
    if (only === undefined || named.length > 1) continue;
    for (const [id, archive] of archives) if (!only.archives.has(id)) only.archives.set(id, archive);
    repositories.delete(name);
  }
}

/** Warns of compressed archives: each blob of one is a pass over it, from its beginning. */
export function reportCompressed(count: number, { report }: OperationOptions): void {
  if (count === 0) return;
  const what = count === 1 ? 'one archive is' : `${count} archives are`;
  const message = `${what} compressed, so each pull unpacks from the beginning: archives that end in .tar are served faster`;
  report?.({ type: 'warning', message });
}

interface Reading {
  readonly backends: Pick<Backends, 'bucket' | 'folder'>;
  readonly opened: LRUCache<string, Promise<Source & { readonly graph: Graph }>>;
  readonly options: ServingOptions;
}

/** What is known of one digest. */
interface Held {
  readonly descriptor: Descriptor;
  readonly archive: ListedArchive;
}

class ArchivedRepository implements ServedRepository {
  readonly registry: string | undefined;
  readonly name: string;
  readonly #archives: readonly ListedArchive[];
  readonly #tags: ReadonlyMap<string, ListedArchive>;
  readonly #reading: Reading;
  /** What the archives hold that were opened so far; what it takes is some 200 bytes a digest. */
  readonly #held = new Map<Digest, Held>();
  readonly #roots = new Map<ListedArchive, Descriptor | AnyFailure>();
  readonly #cosign = new Map<string, Descriptor>();
  readonly #referrers = new Map<Digest, Map<Digest, Descriptor>>();

  constructor({ registry, repository }: PlaceEntry, archives: readonly ListedArchive[], reading: Reading) {
    this.registry = registry;
    this.name = repository;
    this.#archives = archives;
    this.#tags = new Map(archives.flatMap((archive) => (archive.tag === undefined ? [] : [[archive.tag, archive]])));
    this.#reading = reading;
  }

  /** Those of the archives. Tags of cosign are in them, and are found when they are asked for. */
  async tags(): Promise<readonly string[]> {
    return [...this.#tags.keys()];
  }

  async manifest(reference: string, options: Abortable = {}): Promise<Descriptor> {
    const archive = this.#tags.get(reference);
    if (archive !== undefined) {
      await this.#look(archive);
      checkAborted(options);
      const root = this.#roots.get(archive);
      if (root === undefined || root instanceof Failure) throw root ?? this.#missing(reference);
      return root;
    }
    const subject = cosignSubject(reference);
    if (isDerivedTag(reference) && subject !== undefined) {
      await this.#find(subject, options);
      const found = this.#cosign.get(reference);
      if (found !== undefined) return found;
    }
    const held = await this.#find(reference as Digest, options);
    if (held === undefined || !isManifestType(held.descriptor.mediaType)) throw this.#missing(reference);
    return held.descriptor;
  }

  async blob(digest: Digest, options: Abortable = {}): Promise<Descriptor> {
    const held = await this.#find(digest, options);
    if (held === undefined || isManifestType(held.descriptor.mediaType)) throw this.#missing(digest);
    return held.descriptor;
  }

  isPacked(digest: Digest): boolean {
    return isCompressed(this.#held.get(digest)?.archive.where ?? '');
  }

  async referrers(digest: Digest, options: Abortable = {}): Promise<readonly Descriptor[]> {
    const ofImage = this.#archives.filter((archive) => archive.digest === digest);
    await this.#lookAtAll(ofImage, options);
    await this.#find(digest, options);
    return [...(this.#referrers.get(digest)?.values() ?? [])];
  }

  async open(descriptor: Descriptor, options: Abortable & ByteRange = {}): Promise<Bytes> {
    const held = await this.#find(descriptor.digest, options);
    if (held === undefined) throw this.#missing(descriptor.digest);
    const { archive } = held;
    try {
      return await (await this.#source(archive)).open(descriptor, options);
    } catch (error) {
      if (!isFailure(error, 'CONFLICT')) throw error;
      this.#forget(archive);
      throw new Failure('UNAVAILABLE', `${archive.where} was written again while it was read`, { cause: error });
    }
  }

  /** The digest, in whichever archive. Archives that were not opened yet are, until one has it. */
  async #find(digest: Digest, options: Abortable): Promise<Held | undefined> {
    const isNew = (archive: ListedArchive): boolean => !this.#roots.has(archive);
    if (!this.#held.has(digest))
      await this.#lookAtAll(
        this.#archives.filter((one) => one.digest === digest),
        options,
      );
    for (let rest = this.#archives.filter(isNew); !this.#held.has(digest) && rest.length > 0;) {
      await this.#lookAtAll(rest.slice(0, AT_ONCE), options);
      rest = rest.slice(AT_ONCE).filter(isNew);
    }
    return this.#held.get(digest);
  }

  async #lookAtAll(archives: readonly ListedArchive[], options: Abortable): Promise<void> {
    await forEachOf(archives, AT_ONCE, async (archive) => this.#look(archive), options);
  }

  /** Notes what the archive holds, once. An archive that is broken is reported, and holds nothing. */
  async #look(archive: ListedArchive): Promise<void> {
    if (this.#roots.has(archive)) return;
    try {
      const { graph } = await this.#source(archive);
      this.#note(archive, graph);
    } catch (error) {
      if (!isFailure(error, 'INVALID', 'CORRUPT', 'UNSUPPORTED', 'NOT_FOUND')) throw error;
      this.#roots.set(archive, error);
      const message = `${archive.where} cannot be served: ${describeFailure(error)}`;
      this.#reading.options.report?.({ type: 'warning', message });
    }
  }

  #note(archive: ListedArchive, graph: Graph): void {
    for (const { descriptor, manifest } of graph.manifests.values()) {
      this.#held.set(descriptor.digest, { descriptor, archive });
      if (manifest.subject === undefined) continue;
      const known = this.#referrers.get(manifest.subject.digest) ?? new Map<Digest, Descriptor>();
      this.#referrers.set(manifest.subject.digest, known);
      known.set(descriptor.digest, referrerEntry(descriptor, manifest));
    }
    for (const descriptor of blobsOf(graph)) this.#held.set(descriptor.digest, { descriptor, archive });
    for (const { descriptor, tags } of graph.referrers) for (const tag of tags) this.#cosign.set(tag, descriptor);
    const [root] = graph.roots;
    if (root !== undefined) this.#roots.set(archive, root.descriptor);
  }

  /** It is another archive by now. */
  #forget(archive: ListedArchive): void {
    this.#reading.opened.delete(archive.where);
    this.#roots.delete(archive);
    for (const [digest, held] of this.#held) if (held.archive === archive) this.#held.delete(digest);
  }

  async #source({ where }: ListedArchive): Promise<Source & { readonly graph: Graph }> {
    const { backends, opened, options } = this.#reading;
    const known = opened.get(where);
    if (known !== undefined) return known;
    // without the signal of the request that is first: others wait for it too
    const { clock, report, passes } = options;
    const opening = openArchive(where, backends, { clock, report, passes });
    opened.set(where, opening);
    opening.catch(() => opened.delete(where));
    return opening;
  }

  #missing(what: string): Failure {
    return new Failure('NOT_FOUND', `the archives of ${this.name} do not have ${what}`);
  }
}

async function openArchive(
  where: string,
  backends: Pick<Backends, 'bucket' | 'folder'>,
  { passes, ...options }: ServingOptions,
): Promise<Source & { readonly graph: Graph }> {
  const location = parseLocation(where);
  if (location.transport !== 's3' && location.transport !== 'archive')
    throw new Failure('BUG', `serve ${where}: it is not an archive`);
  const { store, key } = storeOf(backends, location);
  const image = await openImage(store, key, { ...options, passes });
  return { ...image, graph: await walk(image, [image.root], options) };
}
