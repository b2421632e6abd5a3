import type { Source } from '../content/content.ts';
import { MAX_REFERRERS } from '../content/graph.ts';
import { cosignTags } from '../oci/derived-tag.ts';
import { MEDIA_TYPE } from '../oci/manifest.ts';
import type { Digest } from '../oci/digest.ts';
import { canonicalHost } from '../oci/ecr-host.ts';
import { isPattern, matchesPattern, type ImagePattern } from '../oci/location.ts';
import { contentOf, expandImage, type ExpandedImage } from '../store/expanded.ts';
import type { Snapshot, SnapshotImage } from '../store/snapshot.ts';
import type { Snapshots } from '../store/snapshots.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { describeFailure, ifFound, isFailure } from '../util/failure.ts';
import type { OperationOptions } from './backends.ts';
import { listedReferrers } from './listed-source.ts';
import type { RepositoryListing } from './repository-listing.ts';

/** Snapshots that are read at most: what none of them knows is read from the registry. */
const MAX_SNAPSHOTS = 50;

interface KnownImage {
  readonly snapshot: Pick<Snapshot, 'content'>;
  readonly image: SnapshotImage;
}

/** What earlier backups into a store found of a registry: what an image is made of needs no second look. */
export interface KnownImages {
  /** The image with this digest, as the newest snapshot has it that lists it in that repository. */
  find(repository: string, digest: Digest): ExpandedImage | undefined;
}

/**
 * Reads the snapshots of the registry, from the newest until each repository that `pattern` matches was seen whole. Only a saving: a snapshot
 * that cannot be read is reported and passed over.
 */
export async function readKnownImages(
  snapshots: Snapshots,
  pattern: ImagePattern,
  options: OperationOptions,
): Promise<KnownImages> {
  const known = new Map<string, Map<Digest, KnownImage>>();
  const whole = new Set<string>();
  const names = await snapshots.list(options);
  for (const name of names.toReversed().slice(0, MAX_SNAPSHOTS)) {
    try {
      const { snapshot } = await snapshots.read(name, options);
      if (snapshot.kind !== 'store' || snapshot.registry.host !== canonicalHost(pattern.registry)) continue;
      addAll(snapshot, pattern.repository, known, whole);
      const { listed, repositories } = snapshot.scope;
      const isCovered = isPattern(pattern.repository)
        ? listed && (repositories === '*' || repositories === pattern.repository)
        : whole.has(pattern.repository);
      if (isCovered) break;
    } catch (error) {
      checkAborted(options);
      if (!isFailure(error)) throw error;
      options.report?.({ type: 'warning', message: `a snapshot is passed over: ${describeFailure(error)}` });
    }
  }
  return {
    find: (repository, digest) => {
      const found = known.get(repository)?.get(digest);
      return found === undefined ? undefined : expandImage(found.snapshot, found.image);
    },
  };
}

/** Adds what newer snapshots did not say. */
function addAll(
  snapshot: Snapshot,
  pattern: string,
  known: Map<string, Map<Digest, KnownImage>>,
  whole: Set<string>,
): void {
  for (const { name, images, complete } of snapshot.repositories) {
    if (whole.has(name) || !matchesPattern(pattern, name)) continue;
    const ofRepository = known.get(name) ?? new Map<Digest, KnownImage>();
    known.set(name, ofRepository);
    for (const image of images) {
      if (image.archived !== true && !ofRepository.has(image.digest))
        ofRepository.set(image.digest, { snapshot, image });
    }
    if (complete) whole.add(name);
  }
}

/** Whether everything of the image is there: by a list of what is, without a request. */
export function isPresent(image: ExpandedImage, present: ReadonlyMap<Digest, number>): boolean {
  return contentOf(image).every(({ digest, size }) => present.get(digest) === size);
}

/** Whether what the listing says refers to the image is what did when it was backed up. False where the listing does not say. */
export function hasListedReferrers(image: ExpandedImage, listing: RepositoryListing): boolean {
  if (listing.bySubject === undefined || image.unchecked !== undefined) return false;
  const found = new Referrers(image);
  for (const subject of found.subjects) {
    for (const [digest, tags] of listedReferrers(listing, subject))
      if (listing.manifests.get(digest)?.isArchived === false) found.add(digest, tags);
  }
  return found.areThoseOf(image);
}

/** As `hasListedReferrers`, by asking the source what refers to each manifest. False too where it cannot be asked. */
export async function hasSameReferrers(image: ExpandedImage, source: Source, options: Abortable): Promise<boolean> {
  if (image.unchecked !== undefined) return false;
  const found = new Referrers(image);
  let isWhole = true;
  const onRefused = (): void => void (isWhole = false);
  try {
    for (const subject of found.subjects) {
      const descriptor = { digest: subject, mediaType: MEDIA_TYPE.ociManifest, size: 0 };
      for await (const { digest } of source.referrers(descriptor, { ...options, onRefused })) found.add(digest, []);
      for (const tag of cosignTags(subject)) {
        const referrer = await ifFound(source.resolve(tag, options));
        if (referrer !== undefined) found.add(referrer.digest, [tag]);
      }
      if (!isWhole || found.subjects.size > MAX_REFERRERS) return false;
    }
  } catch (error) {
    checkAborted(options);
    if (!isFailure(error)) throw error;
    return false;
  }
  return found.areThoseOf(image);
}

/** What was found to refer to an image, and to be asked about in turn. */
class Referrers {
  /** What is added while it is walked is walked too. */
  readonly subjects: Set<Digest>;
  readonly #tags = new Map<Digest, Set<string>>();

  constructor(image: ExpandedImage) {
    this.subjects = manifestsOf(image);
  }

  add(digest: Digest, tags: readonly string[]): void {
    const all = this.#tags.get(digest) ?? new Set();
    this.#tags.set(digest, all);
    for (const tag of tags) all.add(tag);
    this.subjects.add(digest);
  }

  areThoseOf({ referrers }: ExpandedImage): boolean {
    return (
      this.#tags.size === referrers.length &&
      referrers.every(({ digest, tags }) => {
        const now = this.#tags.get(digest);
        return now?.size === tags.length && tags.every((tag) => now.has(tag));
      })
    );
  }
}

/** The digests of the image's own manifests, and of those of what refers to it. */
function manifestsOf(image: ExpandedImage): Set<Digest> {
  return new Set(contentOf(image).flatMap(({ digest, mediaType }) => (mediaType === undefined ? [] : [digest])));
}
