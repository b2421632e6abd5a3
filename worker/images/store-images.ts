import type { Source, Target } from '../content/content.ts';
import { walk } from '../content/graph.ts';
import { onlyPlatforms } from '../content/only-platforms.ts';
import { copy } from '../copy/copy.ts';
import { cosignSubject, isDerivedTag } from '../oci/derived-tag.ts';
import type { Digest } from '../oci/digest.ts';
import { isIndexType, parsePlatform } from '../oci/manifest.ts';
import type { ExpandedImage } from '../store/expanded.ts';
import type { BackedUpImage, SnapshotBuilder } from '../store/snapshot-builder.ts';
import { checkAborted } from '../util/abort.ts';
import { describeFailure, Failure, isFailure, onSide, toFailure } from '../util/failure.ts';
import { forEachOf, type Limit } from '../util/limit.ts';
import { compareStrings } from '../util/text.ts';
import type { OperationOptions, Registry } from './backends.ts';
import { describeImage } from './describe-image.ts';
import { hasListedReferrers, hasSameReferrers, isPresent, type KnownImages } from './known-images.ts';
import { listedSource, readListedManifests } from './listed-source.ts';
import type { ListedManifest, RepositoryListing } from './repository-listing.ts';

/** Images whose manifests are read together. */
const CHUNK = 100;
const TAGS_AT_ONCE = 8;

/** One backup into a store, as far as its repositories share it. */
export interface StoreRun {
  readonly registry: Registry;
  readonly host: string;
  readonly target: Target;
  /** Digests that are there, with their sizes. */
  readonly present: ReadonlyMap<Digest, number>;
  readonly known: KnownImages;
  readonly snapshot: SnapshotBuilder;
  /** Images at once, over all repositories. */
  readonly atOnce: Limit;
  readonly platforms: readonly string[];
  readonly referrers: boolean;
  readonly untagged: boolean;
  /** Whether every tag is meant: also those of cosign that come along with no image. */
  readonly everyTag: boolean;
  readonly counts: ImageCounts;
}

export interface ImageCounts {
  stored: number;
  unchanged: number;
  archived: number;
  failed: number;
}

/** An image of the listing, with the tags that it is backed up under. */
interface Wanted {
  readonly listed: ListedManifest;
  readonly tags: readonly string[];
}

/**
 * Stores the images of one repository and adds them to the snapshot, which has the repository. Images that earlier backups stored, and that
 * nothing new refers to, cost no request. One that fails is among the failures of the snapshot, and the others go on. Throws only ABORTED.
 */
export async function storeImages(
  run: StoreRun,
  repository: string,
  listing: RepositoryListing,
  options: OperationOptions,
): Promise<void> {
  const session = new RepositorySession(run, repository, listing, options);
  const tagged = Array.from(listing.manifests.values(), (listed) => ({
    listed,
    tags: listed.tags.filter((tag) => !isDerivedTag(tag)),
  }));
  await session.store(tagged.filter(({ tags }) => tags.length > 0));
  if (run.everyTag && run.referrers) await session.store(await session.leftTags());
  if (!run.untagged) return;
  // an index is pushed after what it lists, and what refers to an image mostly after that
  const untagged = [...listing.manifests.values()].filter(({ tags }) => tags.length === 0).sort(newestFirst);
  const isIndex = ({ mediaType = '' }: ListedManifest): boolean => isIndexType(mediaType);
  const inOrder = [
    ...untagged.filter(isIndex),
    ...untagged.filter((one) => !isIndex(one) && one.subject === undefined),
    ...untagged.filter((one) => !isIndex(one) && one.subject !== undefined),
  ];
  await session.storeUncovered(inOrder);
}

class RepositorySession {
  readonly #run: StoreRun;
  readonly #repository: string;
  readonly #listing: RepositoryListing;
  readonly #options: OperationOptions;
  readonly #source: Source;
  /** Manifests that belong to an image that was stored or has failed; kept only where something depends on it. */
  readonly #covered = new Set<Digest>();
  /** Tags of cosign that came along with an image. */
  readonly #tagsDone = new Set<string>();

  constructor(run: StoreRun, repository: string, listing: RepositoryListing, options: OperationOptions) {
    this.#run = run;
    this.#repository = repository;
    this.#listing = listing;
    this.#options = options;
    this.#source = run.registry.repository(repository);
  }

  async store(wanted: readonly Wanted[]): Promise<void> {
    for (let at = 0; at < wanted.length; at += CHUNK) await this.#storeChunk(wanted.slice(at, at + CHUNK), CHUNK);
  }

  /** One after the other: each may be part of the one before. */
  async storeUncovered(listed: readonly ListedManifest[]): Promise<void> {
    for (let at = 0; at < listed.length; at += CHUNK) {
      const chunk = listed.slice(at, at + CHUNK).filter(({ digest }) => !this.#covered.has(digest));
      await this.#storeChunk(
        chunk.map((one) => ({ listed: one, tags: [] })),
        1,
      );
    }
  }

  /** Tags of cosign that came along with no image: those are images of their own. */
  async leftTags(): Promise<readonly Wanted[]> {
    const { tags, manifests } = this.#listing;
    const found = new Map<Digest, { readonly listed: ListedManifest; readonly tags: string[] }>();
    const left = [...(tags ?? [])].filter(([tag]) => cosignSubject(tag) !== undefined && !this.#tagsDone.has(tag));
    await forEachOf(
      left,
      TAGS_AT_ONCE,
      async ([tag, listed], { signal }) => {
        try {
          const { digest, mediaType, size } =
            listed === undefined ? await this.#source.resolve(tag, { signal }) : { digest: listed };
          const manifest = manifests.get(digest) ?? { digest, mediaType, size, tags: [], isArchived: false };
          const before = found.get(digest);
          if (before === undefined) found.set(digest, { listed: manifest, tags: [tag] });
          else before.tags.push(tag);
        } catch (error) {
          checkAborted(this.#options);
          if (!isFailure(error)) throw error;
          if (error.code !== 'NOT_FOUND') this.#fail([tag], undefined, error);
        }
      },
      this.#options,
    );
    return [...found.values()];
  }

  async #storeChunk(wanted: readonly Wanted[], atOnce: number): Promise<void> {
    const changed = wanted.filter((one) => !this.#isDone(one));
    if (changed.length === 0) return;
    const read = await readListedManifests(
      this.#run.registry,
      this.#repository,
      changed.map(({ listed }) => listed.digest),
      { listing: this.#listing, referrers: this.#run.referrers },
      this.#options,
    );
    const source = listedSource(this.#source, this.#listing, read);
    await forEachOf(
      changed,
      Math.min(atOnce, this.#run.atOnce.capacity),
      async (one, { signal }) => {
        // part of the one before
        if (one.tags.length === 0 && this.#covered.has(one.listed.digest)) return;
        await this.#run.atOnce.run(async () => this.#storeOne(one, source, { ...this.#options, signal }), { signal });
      },
      this.#options,
    );
  }

  /** Adds what needs no request: archived images, and those that did not change by the listing. */
  #isDone({ listed, tags }: Wanted): boolean {
    if (listed.isArchived) {
      const { digest, mediaType = 'application/octet-stream' } = listed;
      const nothing = { size: 0, bytes: 0, content: [], referrers: [], archived: true } as const;
      this.#add({ digest, mediaType, ...nothing, ...factsOf(listed, tags) });
      this.#run.counts.archived++;
      return true;
    }
    const known = this.#known(listed.digest);
    if (known === undefined) return false;
    if (this.#run.referrers && !hasListedReferrers(known, this.#listing)) return false;
    this.#addUnchanged(known, listed, tags);
    return true;
  }

  /** The image as an earlier backup found it, if all of it is there. */
  #known(digest: Digest): ExpandedImage | undefined {
    const { known, present, platforms, referrers } = this.#run;
    if (platforms.length > 0) return undefined;
    const found = known.find(this.#repository, digest);
    if (found === undefined) return undefined;
    const image = referrers ? found : { ...found, referrers: [] };
    return isPresent(image, present) ? image : undefined;
  }

  #addUnchanged(image: ExpandedImage, listed: ListedManifest, tags: readonly string[]): void {
    const { pushedAt: _pushed, bytes: _bytes, ...same } = image;
    this.#add({ ...same, ...factsOf(listed, tags) });
    this.#run.counts.unchanged++;
  }

  async #storeOne(wanted: Wanted, source: Source, options: OperationOptions, isMoved = false): Promise<void> {
    const { listed, tags } = wanted;
    try {
      const known = this.#listing.bySubject === undefined ? this.#known(listed.digest) : undefined;
      if (known !== undefined && (!this.#run.referrers || (await hasSameReferrers(known, source, options))))
        return this.#addUnchanged(known, listed, tags);
      const image = await this.#copy(listed.digest, source, options);
      this.#add({ ...image, ...factsOf(listed, tags) });
      this.#run.counts.stored++;
    } catch (error) {
      checkAborted(options);
      const failure = toFailure(error);
      const isLost = failure.code === 'NOT_FOUND' && failure.context.side === 'source' && !isMoved;
      if (isLost) await this.#storeMoved(wanted, failure, options);
      else this.#fail(tags, listed.digest, failure);
    }
  }

  /** Stores what the tags of an image stand for now that is not there any more. Those that were deleted stand for nothing. */
  async #storeMoved({ listed, tags }: Wanted, failure: Failure, options: OperationOptions): Promise<void> {
    const moved = new Map<Digest, { readonly listed: ListedManifest; readonly tags: string[] }>();
    for (const reference of tags.length === 0 ? [listed.digest] : tags) {
      const own = reference === listed.digest ? [] : [reference];
      try {
        const { digest, mediaType, size } = await this.#source.resolve(reference, options);
        const before = moved.get(digest);
        if (before === undefined)
          moved.set(digest, { listed: { digest, mediaType, size, tags: own, isArchived: false }, tags: own });
        else before.tags.push(...own);
      } catch (error) {
        checkAborted(options);
        if (!isFailure(error)) throw error;
        if (error.code === 'NOT_FOUND') this.#warn(own, listed.digest, 'it was deleted while it was backed up');
        else this.#fail(own, listed.digest, failure);
      }
    }
    for (const [digest, wanted] of moved) {
      if (digest === listed.digest) this.#fail(wanted.tags, digest, failure);
      else await this.#storeOne(wanted, this.#source, options, true);
    }
  }

  async #copy(digest: Digest, from: Source, options: OperationOptions): Promise<BackedUpImage> {
    const { platforms, referrers, target } = this.#run;
    const source = platforms.length === 0 ? from : onlyPlatforms(from, platforms.map(parsePlatform));
    const descriptor = await onSide('source', source.resolve(digest, options));
    const graph = await onSide(
      'source',
      walk(source, [{ descriptor, tags: [] }], { ...options, concurrency: undefined, referrers }),
    );
    const copied = await copy(source, target, graph.roots, { ...options, graph, strict: true });
    for (const { root, failure } of graph.unreadable) {
      // what a list names and the registry does not have may yet come
      if (failure.code !== 'NOT_FOUND') this.#fail(root.tags, root.descriptor.digest, failure, true);
    }
    return describeImage(graph, { tags: [] }, copied.foreign);
  }

  /** `isBeside`: it is not an image, but refers to one. */
  #fail(tags: readonly string[], digest: Digest | undefined, failure: Failure, isBeside = false): void {
    const reason = describeFailure(failure);
    const { snapshot, counts } = this.#run;
    for (const tag of tags.length === 0 ? [undefined] : tags) {
      snapshot.failure({
        repository: this.#repository,
        ...(tag === undefined ? {} : { tag }),
        ...(digest === undefined ? {} : { digest }),
        reason,
      });
      if (tag !== undefined) this.#tagsDone.add(tag);
    }
    this.#warn(tags, digest, reason);
    if (digest !== undefined) this.#covered.add(digest);
    if (!isBeside) counts.failed++;
  }

  #warn([tag]: readonly string[], digest: Digest | undefined, what: string): void {
    const name = `${this.#run.host}/${this.#repository}${tag === undefined ? `@${digest}` : `:${tag}`}`;
    this.#options.report?.({ type: 'warning', message: `${name}: ${what}` });
  }

  #add(image: BackedUpImage): void {
    this.#run.snapshot.image(this.#repository, image);
    for (const { tags } of image.referrers) for (const tag of tags) this.#tagsDone.add(tag);
    if (!this.#run.untagged) return;
    for (const { content } of [image, ...image.referrers])
      for (const { digest, mediaType } of content) if (mediaType !== undefined) this.#covered.add(digest);
    this.#covered.add(image.digest);
  }
}

function factsOf(listed: ListedManifest, tags: readonly string[]): Pick<BackedUpImage, 'tags' | 'pushedAt'> {
  const { pushedAt } = listed;
  return { tags, ...(pushedAt === undefined ? {} : { pushedAt: pushedAt.toISOString() }) };
}

function newestFirst(a: ListedManifest, b: ListedManifest): number {
  return (b.pushedAt?.getTime() ?? 0) - (a.pushedAt?.getTime() ?? 0) || compareStrings(a.digest, b.digest);
}
