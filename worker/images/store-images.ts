import type { Source, Target } from '../content/content.ts';
import { walk } from '../content/graph.ts';
import { onlyPlatforms } from '../content/only-platforms.ts';
import { copy } from '../copy/copy.ts';
import { isDerivedTag, isReferrersTag } from '../oci/derived-tag.ts';
import type { Digest } from '../oci/digest.ts';
import { matchesPattern } from '../oci/location.ts';
import { isIndexType, parsePlatform } from '../oci/manifest.ts';
import type { ExpandedImage } from '../store/expanded.ts';
import type { BackedUpImage, SnapshotBuilder } from '../store/snapshot-builder.ts';
import { checkAborted } from '../util/abort.ts';
import { reportAbout } from '../util/events.ts';
import { describeFailure, isFailure, onSide, toFailure, type Failure } from '../util/failure.ts';
import { forEachOf, type Limit } from '../util/limit.ts';
import { compareStrings } from '../util/text.ts';
import type { ArchivedImages } from './archived-images.ts';
import type { OperationOptions, Registry } from './backends.ts';
import { describeArchived, describeImage } from './describe-image.ts';
import { hasListedReferrers, hasSameReferrers, isPresent, type KnownImages } from './known-images.ts';
import { isListOfReferrers } from './list-of-referrers.ts';
import { listedSource, readListedManifests } from './listed-source.ts';
import { chosenImages, type SelectImages } from './select-images.ts';
import { listedAs, type ListedManifest, type RepositoryListing } from './repository-listing.ts';

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
  /** A pattern of tags. Undefined: every one, those of cosign that come along with no image too. */
  readonly tags: string | undefined;
  readonly platforms: readonly string[];
  readonly referrers: boolean;
  readonly untagged: boolean;
  /** Which of these. Undefined: all of them. */
  readonly select: SelectImages | undefined;
  readonly counts: ImageCounts;
  /** Whether nothing is written: what would be stored is reported as planned. */
  readonly dryRun: boolean;
  /** Called with the cause of each failure in the snapshot. */
  readonly onFailure: (failure: Failure) => void;
  /** Called for each archived image that is not restored yet, and is left for the next call. Undefined: they are waited for. */
  readonly onRestoring: (() => void) | undefined;
}

/** What a repository has. */
export interface ListedRepository {
  readonly listing: RepositoryListing;
  /** Its images in ECR's archive storage class. Undefined: they are listed without being backed up. */
  readonly archived: ArchivedImages | undefined;
}

/** Images by what became of them. */
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
 * nothing new refers to, cost no request. One that fails is among the failures of the snapshot, and the others go on. Throws ABORTED alone.
 */
export async function storeImages(
  run: StoreRun,
  repository: string,
  of: ListedRepository,
  options: OperationOptions,
): Promise<void> {
  const session = new RepositorySession(run, repository, of, options);
  const { listing } = of;
  const { tags: pattern, referrers, untagged, select } = run;
  const chosen = select === undefined ? undefined : chosenImages(select, [...listing.manifests.values()]);
  const tagged = Array.from(listing.manifests.values(), (listed) => ({
    listed,
    tags: listed.tags.filter(
      (tag) =>
        (chosen === undefined ? !isDerivedTag(tag) : chosen.tags.has(tag)) &&
        (pattern === undefined || matchesPattern(pattern, tag)),
    ),
  }));
  await session.store(tagged.filter(({ tags }) => tags.length > 0));
  if (pattern === undefined && chosen === undefined && referrers) await session.store(await session.leftTags());
  if (untagged) await session.storeUntagged(chosen?.untagged);
}

class RepositorySession {
  readonly #run: StoreRun;
  readonly #repository: string;
  readonly #listing: RepositoryListing;
  readonly #archived: ArchivedImages | undefined;
  readonly #options: OperationOptions;
  readonly #source: Source;
  /** Manifests that belong to an image that was stored or has failed; gathered where `untagged` depends on it. */
  readonly #covered = new Set<Digest>();
  readonly #counted = new Set<Digest>();
  /** Whether an archived image is left for the next call. */
  #isRestoring = false;
  /** Tags of cosign that came along with an image, or have failed. */
  readonly #tagsDone = new Set<string>();

  constructor(run: StoreRun, repository: string, of: ListedRepository, options: OperationOptions) {
    this.#run = run;
    this.#repository = repository;
    this.#listing = of.listing;
    this.#archived = of.archived;
    this.#options = options;
    this.#source = run.registry.repository(repository);
  }

  async store(wanted: readonly Wanted[]): Promise<void> {
    this.#options.report?.({ type: 'images-planned', images: wanted.length });
    const changed = wanted.filter((one) => !this.#isDone(one));
    const isArchived = ({ listed }: Wanted): boolean => this.#archived?.isArchived(listed.digest) === true;
    const archived = changed.filter(isArchived);
    if (archived.length > 0) await this.#storeArchived(archived);
    const active = archived.length === 0 ? changed : changed.filter((one) => !isArchived(one));
    for (let at = 0; at < active.length; at += CHUNK) await this.#storeChunk(active.slice(at, at + CHUNK), CHUNK);
  }

  /** Those of `chosen` (default: all) that belong to no image that was stored. One after the other, because each may be part of the one before. */
  async storeUntagged(chosen?: ReadonlySet<Digest>): Promise<void> {
    // an index is pushed after what it lists, and what refers to an image mostly after that
    const rank = ({ mediaType = '', subject }: ListedManifest): number =>
      isIndexType(mediaType) ? 0 : subject === undefined ? 1 : 2;
    const listed = [...this.#listing.manifests.values()]
      .filter(({ digest, tags }) => tags.length === 0 && (chosen === undefined || chosen.has(digest)))
      .sort((a, b) => rank(a) - rank(b) || newestFirst(a, b));
    for (let at = 0; at < listed.length; at += CHUNK) {
      // those that are part of one before are left out as they come up
      const chunk = listed.slice(at, at + CHUNK).map((one) => ({ listed: one, tags: [] }));
      const isArchived = ({ listed: { digest } }: Wanted): boolean => this.#archived?.isArchived(digest) === true;
      for (const one of chunk.filter(isArchived)) {
        if (this.#isCovered(one) || this.#isDone(one)) continue;
        // it may be part of one that is restored
        if (this.#isRestoring) this.#leave(one);
        else await this.#storeArchived([one]);
      }
      await this.#storeChunk(
        chunk.filter((one) => !isArchived(one)),
        1,
      );
    }
  }

  /** Tags of cosign that came along with no image, and tags of lists of referrers that list none: those are images of their own. */
  async leftTags(): Promise<readonly Wanted[]> {
    const { tags, manifests } = this.#listing;
    const found = new Map<Digest, { readonly listed: ListedManifest; readonly tags: string[] }>();
    const left = [...(tags ?? [])].filter(([tag]) => isDerivedTag(tag) && !this.#tagsDone.has(tag));
    await forEachOf(
      left,
      TAGS_AT_ONCE,
      async ([tag, known], { signal }) => {
        try {
          const digest = known ?? (await this.#source.resolve(tag, { signal })).digest;
          const listed = manifests.get(digest) ?? listedAs(await this.#source.resolve(digest, { signal }), [tag]);
          const has = (subject: Digest): boolean => manifests.has(subject);
          if (isReferrersTag(tag) && (await isListOfReferrers(tag, listed, this.#source, { has, signal }))) return;
          const before = found.get(digest);
          if (before === undefined) found.set(digest, { listed, tags: [tag] });
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
    const changed = wanted.filter((one) => one.tags.length > 0 || (!this.#isCovered(one) && !this.#isDone(one)));
    if (changed.length === 0) return;
    const read = await readListedManifests(
      this.#run.registry,
      this.#repository,
      changed.map(({ listed }) => listed.digest),
      { listing: this.#listing, referrers: this.#run.referrers },
      this.#options,
    );
    const source = listedSource(this.#source, this.#listing, { read, archived: false });
    await forEachOf(
      changed,
      Math.min(atOnce, this.#run.atOnce.capacity),
      async (one, { signal }) => {
        const options = { ...this.#options, signal };
        if (this.#isCovered(one)) return;
        await this.#run.atOnce.run(async () => this.#storeOne(one, source, options), options);
      },
      this.#options,
    );
  }

  /** Whether it has no tag and is part of an image that was stored. */
  #isCovered({ listed, tags }: Wanted): boolean {
    return tags.length === 0 && this.#covered.has(listed.digest);
  }

  /** Restored all at once, because that takes minutes; stored as they come, or by the next call. */
  async #storeArchived(archived: readonly Wanted[]): Promise<void> {
    const wanted = this.#run.onRestoring === undefined ? archived : await this.#readyOf(archived);
    const source = listedSource(this.#source, this.#listing, { read: new Map(), archived: true });
    await forEachOf(
      wanted,
      CHUNK,
      async (one, { signal }) => {
        const options = { ...this.#options, signal };
        try {
          await this.#archived?.during(one.listed.digest, async () =>
            this.#run.atOnce.run(async () => this.#storeOne(one, source, options), options),
          );
        } catch (error) {
          checkAborted(options);
          this.#fail(one.tags, one.listed.digest, toFailure(error));
        }
      },
      this.#options,
    );
  }

  /** Those that can be read now. The others are asked for, and left for the next call. */
  async #readyOf(archived: readonly Wanted[]): Promise<readonly Wanted[]> {
    const ready: Wanted[] = [];
    // one after the other: each begins only where those before it leave room
    for (const one of archived) {
      try {
        if ((await this.#archived?.isReady(one.listed.digest)) === true) ready.push(one);
        else this.#leave(one);
      } catch (error) {
        checkAborted(this.#options);
        this.#fail(one.tags, one.listed.digest, toFailure(error));
      }
    }
    return ready;
  }

  /** Lists an archived image that the next call stores. */
  #leave({ listed, tags }: Wanted): void {
    this.#isRestoring = true;
    this.#add(describeArchived(listed, tags));
    this.#count('archived', listed.digest);
    this.#run.onRestoring?.();
  }

  /** Adds what needs no request: what did not change by the listing, and archived images that are only listed. */
  #isDone({ listed, tags }: Wanted): boolean {
    const known = this.#known(listed.digest);
    if (known !== undefined && (!this.#run.referrers || hasListedReferrers(known, this.#listing))) {
      this.#addUnchanged(known, listed, tags);
      return true;
    }
    if (listed.status === 'ACTIVE' || this.#archived !== undefined) return false;
    this.#add(describeArchived(listed, tags));
    this.#count('archived', listed.digest);
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
    const { digest, mediaType, size, artifactType, content, referrers, foreign, unchecked } = image;
    this.#add({
      digest,
      mediaType,
      size,
      content,
      referrers,
      ...(artifactType === undefined ? {} : { artifactType }),
      ...(foreign === undefined ? {} : { foreign }),
      ...(unchecked === undefined ? {} : { unchecked }),
      ...factsOf(listed, tags),
    });
    this.#count('unchanged', image.digest);
    this.#settled(tags, image.digest, { outcome: 'unchanged', bytesSent: 0 });
  }

  async #storeOne(wanted: Wanted, source: Source, options: OperationOptions, isMoved = false): Promise<void> {
    const { listed, tags } = wanted;
    try {
      const known = this.#listing.bySubject === undefined ? this.#known(listed.digest) : undefined;
      if (known !== undefined && (!this.#run.referrers || (await hasSameReferrers(known, source, options)))) {
        this.#addUnchanged(known, listed, tags);
        return;
      }
      const report = reportAbout(options.report, { image: this.#nameOf(tags, listed.digest) });
      const { image, bytesSent } = await this.#copy(listed.digest, source, { ...options, report });
      this.#add({ ...image, ...factsOf(listed, tags) });
      this.#count('stored', image.digest);
      const how = this.#run.dryRun
        ? ({ outcome: 'planned', bytesSent: 0 } as const)
        : ({ outcome: 'copied', bytesSent } as const);
      this.#settled(tags, image.digest, how);
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
    const moved = new Map<Digest, string[]>();
    const found = new Map<Digest, ListedManifest>();
    for (const reference of tags.length === 0 ? [listed.digest] : tags) {
      const own = tags.length === 0 ? [] : [reference];
      try {
        const now = await this.#source.resolve(reference, options);
        found.set(now.digest, listedAs(now, own));
        moved.set(now.digest, [...(moved.get(now.digest) ?? []), ...own]);
      } catch (error) {
        checkAborted(options);
        if (!isFailure(error)) throw error;
        if (error.code === 'NOT_FOUND') this.#warn(own, listed.digest, 'it was deleted while it was backed up');
        else this.#fail(own, listed.digest, failure);
      }
    }
    for (const [digest, now] of found) {
      const own = moved.get(digest) ?? [];
      if (digest === listed.digest) this.#fail(own, digest, failure);
      else await this.#storeOne({ listed: now, tags: own }, this.#source, options, true);
    }
  }

  async #copy(
    digest: Digest,
    from: Source,
    options: OperationOptions,
  ): Promise<{ readonly image: BackedUpImage; readonly bytesSent: number }> {
    const { platforms, referrers, target } = this.#run;
    const source = platforms.length === 0 ? from : onlyPlatforms(from, platforms.map(parsePlatform));
    const descriptor = await onSide('source', source.resolve(digest, options));
    const { signal, report, clock } = options;
    const graph = await onSide(
      'source',
      walk(source, [{ descriptor, tags: [] }], { signal, report, clock, referrers }),
    );
    const copied = await copy(source, target, graph.roots, { ...options, graph, strict: true });
    for (const { root, failure } of graph.unreadable) {
      // what a list names and the registry does not have may yet come
      if (failure.code !== 'NOT_FOUND') this.#fail(root.tags, root.descriptor.digest, failure, true);
    }
    return { image: describeImage(graph, { tags: [] }, copied.foreign), bytesSent: copied.tallies.copied.bytes };
  }

  /** `isBeside`: it is not an image, but refers to one. */
  #fail(tags: readonly string[], digest: Digest | undefined, failure: Failure, isBeside = false): void {
    const reason = describeFailure(failure);
    const { snapshot, counts, onFailure } = this.#run;
    onFailure(failure);
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

  #warn(tags: readonly string[], digest: Digest | undefined, what: string): void {
    this.#options.report?.({ type: 'warning', message: `${this.#nameOf(tags, digest)}: ${what}` });
  }

  #nameOf([tag]: readonly string[], digest: Digest | undefined): string {
    return `${this.#run.host}/${this.#repository}${tag === undefined ? `@${digest}` : `:${tag}`}`;
  }

  /** Reports what became of an image. */
  #settled(
    tags: readonly string[],
    digest: Digest,
    how: { readonly outcome: 'copied' | 'planned' | 'unchanged'; readonly bytesSent: number },
  ): void {
    this.#options.report?.({ type: 'image-done', image: this.#nameOf(tags, digest), digest, ...how });
  }

  /** Once for each image: one that is met again by a tag of cosign is the same. */
  #count(outcome: keyof ImageCounts, digest: Digest): void {
    if (this.#counted.has(digest)) return;
    this.#counted.add(digest);
    this.#run.counts[outcome]++;
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

function factsOf({ pushedAt }: ListedManifest, tags: readonly string[]): Pick<BackedUpImage, 'tags' | 'pushedAt'> {
  return { tags, ...(pushedAt === undefined ? {} : { pushedAt: pushedAt.toISOString() }) };
}

function newestFirst(a: ListedManifest, b: ListedManifest): number {
  return (b.pushedAt?.getTime() ?? 0) - (a.pushedAt?.getTime() ?? 0) || compareStrings(a.digest, b.digest);
}
