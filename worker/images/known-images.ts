import type { Source } from '../content/content.ts';
import { MAX_REFERRERS } from '../content/graph.ts';
import { cosignTags } from '../oci/derived-tag.ts';
import { MEDIA_TYPE } from '../oci/manifest.ts';
import type { Digest } from '../oci/digest.ts';
import { contentOf, type ExpandedImage } from '../store/expanded.ts';
import { readState } from '../store/read-state.ts';
import type { Snapshots } from '../store/snapshots.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { describeFailure, ifFound, isFailure } from '../util/failure.ts';
import type { OperationOptions } from './backends.ts';
import { listedReferrers } from './listed-source.ts';
import type { RepositoryListing } from './repository-listing.ts';

/** What earlier backups recorded of a registry, so that the content of an image is not looked up again. */
export interface KnownImages {
  /** The image with this digest, as the state of the place has it in that repository. */
  find(repository: string, digest: Digest): ExpandedImage | undefined;
}

export const NOTHING_KNOWN: KnownImages = { find: () => undefined };

/**
 * Reads what earlier backups have of a registry: at least of the repositories `names`, or of all. It only saves requests, so a snapshot that cannot be
 * read is reported and passed over.
 */
export async function readKnownImages(
  snapshots: Snapshots,
  registry: string,
  names: readonly string[] | undefined,
  options: OperationOptions,
): Promise<KnownImages> {
  const { repositories } = await readState(snapshots, {
    signal: options.signal,
    registry,
    repositories: names,
    onBroken: (_, failure) => {
      const message = `a snapshot is passed over: ${describeFailure(failure)}`;
      options.report?.({ type: 'warning', message });
    },
  });
  const known = new Map<string, ReadonlyMap<Digest, ExpandedImage>>();
  for (const { name, images } of repositories) known.set(name, new Map(images.map((image) => [image.digest, image])));
  return {
    find: (repository, digest) => {
      const found = known.get(repository)?.get(digest);
      return found?.archived === true ? undefined : found;
    },
  };
}

/** Whether everything of the image is there: by a list of what is, without a request. */
export function isPresent(image: ExpandedImage, present: ReadonlyMap<Digest, number>): boolean {
  return contentOf(image).every(({ digest, size }) => present.get(digest) === size);
}

/**
 * Whether the referrers that the listing has for the image are those that it had when it was backed up; archived referrers that were not backed up do
 * not count. False where the listing does not include referrers.
 */
export function hasListedReferrers(image: ExpandedImage, listing: RepositoryListing): boolean {
  if (listing.bySubject === undefined || image.unchecked !== undefined) return false;
  const known = new Set(image.referrers.map(({ digest }) => digest));
  const found = new Referrers(image);
  for (const subject of found.subjects) {
    for (const [digest, tags] of listedReferrers(listing, subject))
      if (known.has(digest) || listing.manifests.get(digest)?.status === 'ACTIVE') found.add(digest, tags);
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
