import { LRUCache } from 'lru-cache';
import type { Bytes, ByteRange, Source } from '../content/content.ts';
import { isCompressed } from '../oci/archive-key.ts';
import type { Digest } from '../oci/digest.ts';
import { matchesRepository, matchingTags, type ImageFilter } from '../oci/image-filter.ts';
import { isManifestType, type Descriptor } from '../oci/manifest.ts';
import { contentOf } from '../store/expanded.ts';
import type { State, StateImage, StateRepository } from '../store/state.ts';
import type { Abortable } from '../util/abort.ts';
import { Failure, isFailure } from '../util/failure.ts';
import type { ServingOptions } from './served-archives.ts';
import type { ServedRepository } from './served-images.ts';
import { openSnapshotImage, type SnapshotPlace } from './snapshot-image.ts';

export interface ServedStateOptions extends ServingOptions {
  /** Absent: all. */
  readonly only?: readonly ImageFilter[] | undefined;
  /** As `ServedRepository` has it. */
  readonly presigned?: ServedRepository['presigned'];
}

/** Archives that are kept open, over all repositories. One holds its manifests in memory. */
const OPEN_ARCHIVES = 64;

/** The repositories of a state of snapshots, with what of them was backed up. Nothing is read before a repository is asked for. */
export function servedState(state: State, place: SnapshotPlace, options: ServedStateOptions): ServedRepository[] {
  const opened = new LRUCache<string, Promise<Source>>({ max: OPEN_ARCHIVES });
  const { only = [] } = options;
  return state.repositories
    .filter(({ name }) => matchesRepository(only, name))
    .map((repository) => new StateRepositoryImages(repository, place, opened, options));
}

/** What is known of one digest. */
interface Listed {
  readonly descriptor: Descriptor;
  /** The image that it belongs to. */
  readonly image: StateImage;
}

interface Listing {
  readonly tags: ReadonlyMap<string, Listed>;
  readonly digests: ReadonlyMap<Digest, Listed>;
  /** By subject. */
  readonly referrers: ReadonlyMap<Digest, readonly Descriptor[]>;
}

class StateRepositoryImages implements ServedRepository {
  readonly registry: string;
  readonly name: string;
  readonly presigned: ServedRepository['presigned'];
  readonly #repository: StateRepository;
  readonly #place: SnapshotPlace;
  readonly #opened: LRUCache<string, Promise<Source>>;
  readonly #options: ServedStateOptions;
  #listing: Listing | undefined;

  constructor(
    repository: StateRepository,
    place: SnapshotPlace,
    opened: LRUCache<string, Promise<Source>>,
    options: ServedStateOptions,
  ) {
    this.registry = repository.registry.host;
    this.name = repository.name;
    this.presigned = options.presigned;
    this.#repository = repository;
    this.#place = place;
    this.#opened = opened;
    this.#options = options;
  }

  async tags(): Promise<readonly string[]> {
    return [...this.#listed().tags.keys()];
  }

  async manifest(reference: string): Promise<Descriptor> {
    const { tags, digests } = this.#listed();
    const { descriptor } = tags.get(reference) ?? digests.get(reference as Digest) ?? {};
    if (descriptor === undefined || !isManifestType(descriptor.mediaType)) throw this.#missing(reference);
    return descriptor;
  }

  async blob(digest: Digest): Promise<Descriptor> {
    const found = this.#listed().digests.get(digest);
    if (found === undefined || isManifestType(found.descriptor.mediaType)) throw this.#missing(digest);
    return found.descriptor;
  }

  isPacked(digest: Digest): boolean {
    const { archives = [] } = this.#listed().digests.get(digest)?.image ?? {};
    return archives.length > 0 && archives.every(({ key }) => isCompressed(key));
  }

  async referrers(digest: Digest): Promise<readonly Descriptor[]> {
    return this.#listed().referrers.get(digest) ?? [];
  }

  async open(descriptor: Descriptor, options: Abortable & ByteRange = {}): Promise<Bytes> {
    const found = this.#listed().digests.get(descriptor.digest);
    if (found === undefined) throw this.#missing(descriptor.digest);
    const { image } = found;
    if (image.kind === 'store' && this.#place.blobs !== undefined) return this.#place.blobs.open(descriptor, options);
    const key = `${this.registry}/${this.name}@${image.digest}`;
    try {
      return await (await this.#source(key, image)).open(descriptor, options);
    } catch (error) {
      // what is at the key now is another object: it is looked for again
      if (isFailure(error, 'CONFLICT')) this.#opened.delete(key);
      throw error;
    }
  }

  async #source(key: string, image: StateImage): Promise<Source> {
    const known = this.#opened.get(key);
    if (known !== undefined) return known;
    const { clock, report, passes } = this.#options;
    const listed = { registry: this.registry, repository: this.name, image };
    // without the signal of the request that is first: others wait for it too
    const opening = openSnapshotImage(this.#place, listed, { passes }, { clock, report });
    const source = opening.then((opened) => opened.source);
    this.#opened.set(key, source);
    source.catch(() => this.#opened.delete(key));
    return source;
  }

  #listed(): Listing {
    this.#listing ??= listingOf(this.#repository, this.#options.only ?? []);
    return this.#listing;
  }

  #missing(what: string): Failure {
    return new Failure('NOT_FOUND', `the backup of ${this.registry}/${this.name} does not have ${what}`);
  }
}

function listingOf(repository: StateRepository, only: readonly ImageFilter[]): Listing {
  const tags = new Map<string, Listed>();
  const digests = new Map<Digest, Listed>();
  const referrers = new Map<Digest, Descriptor[]>();
  for (const image of repository.images) {
    const wanted = matchingTags(only, repository.name, image.tags);
    // in the archive storage class of ECR: listed, and not backed up
    if (wanted === undefined || image.archived === true) continue;
    for (const { digest, size, mediaType = 'application/octet-stream' } of contentOf(image))
      digests.set(digest, { descriptor: { digest, size, mediaType }, image });
    for (const tag of wanted) tags.set(tag, { descriptor: descriptorOf(image), image });
    for (const referrer of image.referrers) {
      const descriptor = descriptorOf(referrer);
      digests.set(referrer.digest, { descriptor, image });
      for (const tag of referrer.tags) tags.set(tag, { descriptor, image });
      if (referrer.tags.length > 0) continue;
      const known = referrers.get(referrer.subject) ?? [];
      referrers.set(referrer.subject, known);
      if (!known.some(({ digest }) => digest === referrer.digest)) known.push(descriptor);
    }
  }
  return { tags, digests, referrers };
}

function descriptorOf(one: {
  readonly digest: Digest;
  readonly size: number;
  readonly mediaType: string;
  readonly artifactType?: string;
}): Descriptor {
  const { digest, size, mediaType, artifactType } = one;
  return { mediaType, digest, size, ...(artifactType === undefined ? {} : { artifactType }) };
}
