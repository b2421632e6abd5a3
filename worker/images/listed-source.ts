import { abilitiesOf } from '../content/abilities.ts';
import { once } from '../content/bytes.ts';
import type { Source } from '../content/content.ts';
import { cosignSubject, cosignTags } from '../oci/derived-tag.ts';
import type { Digest } from '../oci/digest.ts';
import {
  childrenOf,
  isManifestType,
  MEDIA_TYPE,
  mediaTypeByBytes,
  parseManifest,
  type Descriptor,
} from '../oci/manifest.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { Failure, isFailure, onSide } from '../util/failure.ts';
import type { Registry } from './backends.ts';
import type { RepositoryListing } from './repository-listing.ts';

/** Bytes of manifests that are held at once. What is more is read one by one. */
const HELD_BYTES = 64 * 1024 * 1024;

/** Manifests that were read by many, by digest, verified. */
export type ReadManifests = ReadonlyMap<Digest, Uint8Array>;

/**
 * The manifests of images, of what their indexes list, and of what refers to any of them, as far as the registry gives many in one answer.
 * Empty where it does not, and not complete where some are gone or there are too many: `listedSource` reads those one by one.
 */
export async function readListedManifests(
  registry: Registry,
  repository: string,
  roots: Iterable<Digest>,
  { listing, referrers }: { readonly listing: RepositoryListing; readonly referrers: boolean },
  options: Abortable,
): Promise<ReadManifests> {
  const found = new Map<Digest, Uint8Array>();
  const { manifests: readMany } = registry;
  if (readMany === undefined || listing.bySubject === undefined) return found;
  const asked = new Set<Digest>(roots);
  let wanted: readonly Digest[] = [...asked];
  let held = 0;
  try {
    while (wanted.length > 0) {
      const next: Digest[] = [];
      for await (const { digest, bytes } of readMany(repository, wanted, options)) {
        held += bytes.byteLength;
        if (held > HELD_BYTES) return found;
        found.set(digest, bytes);
        const below = manifestsIn(bytes, listing.manifests.get(digest)?.mediaType);
        for (const led of referrers ? [...below, ...listedReferrers(listing, digest).keys()] : below) {
          if (asked.has(led) || listing.manifests.get(led)?.status !== 'ACTIVE') continue;
          asked.add(led);
          next.push(led);
        }
      }
      wanted = next;
    }
  } catch (error) {
    checkAborted(options);
    // read one by one, each image fails for itself
    if (!isFailure(error)) throw error;
  }
  return found;
}

/** The manifests that an index lists. None for what is not an index, or cannot be read: the image fails with the reason. */
function manifestsIn(bytes: Uint8Array, said: string | undefined): readonly Digest[] {
  try {
    const manifest = parseManifest(bytes, mediaTypeByBytes(bytes, said ?? MEDIA_TYPE.ociManifest));
    if (manifest.kind !== 'index') return [];
    return childrenOf(manifest).flatMap(({ digest, mediaType }) => (isManifestType(mediaType) ? [digest] : []));
  } catch (error) {
    if (!isFailure(error)) throw error;
    return [];
  }
}

/** What refers to a manifest by the listing: by its subject, and by tags of cosign. With the tags by which it does. */
export function listedReferrers(listing: RepositoryListing, subject: Digest): ReadonlyMap<Digest, readonly string[]> {
  const found = new Map<Digest, readonly string[]>();
  for (const digest of listing.bySubject?.get(subject) ?? []) found.set(digest, []);
  for (const tag of cosignTags(subject)) {
    const digest = listing.tags?.get(tag);
    if (digest !== undefined) found.set(digest, [...(found.get(digest) ?? []), tag]);
  }
  return found;
}

export interface ListedSourceOptions {
  readonly read: ReadManifests;
  /** Whether what was listed as archived can be read now. */
  readonly archived: boolean;
}

/**
 * `source`, answered from what its repository listed and from manifests that were read, where those know the answer: what refers to what, which
 * tags of cosign there are, and manifests.
 */
export function listedSource(
  source: Source,
  listing: RepositoryListing,
  { read, archived }: ListedSourceOptions,
): Source {
  const resolve = async (reference: string, options?: Abortable): Promise<Descriptor> => {
    const digest = listing.tags?.has(reference) === true ? listing.tags.get(reference) : undefined;
    if (listing.tags !== undefined && digest === undefined && isAbsent(listing, reference))
      throw new Failure('NOT_FOUND', `the registry lists no tag ${reference}`);
    const known = digest ?? (reference as Digest);
    const bytes = read.get(known);
    const { mediaType: listed, size } = listing.manifests.get(known) ?? {};
    if (bytes === undefined && listed !== undefined && size !== undefined)
      return { digest: known, mediaType: listed, size };
    if (bytes === undefined) return source.resolve(digest ?? reference, options);
    const mediaType = mediaTypeByBytes(bytes, listed ?? MEDIA_TYPE.ociManifest);
    return { digest: known, mediaType, size: bytes.byteLength };
  };
  return {
    ...abilitiesOf(source),
    resolve,
    open: async (descriptor, options) => {
      const bytes = read.get(descriptor.digest);
      if (bytes === undefined) return source.open(descriptor, options);
      return once(bytes.subarray(options?.from ?? 0, options?.to));
    },
    referrers: async function* (descriptor, options) {
      if (listing.bySubject === undefined)
        yield* source.referrers(descriptor, { ...options, listedTags: listing.tags });
      for (const digest of listing.bySubject?.get(descriptor.digest) ?? []) {
        if (!archived && listing.manifests.get(digest)?.status !== 'ACTIVE') continue;
        try {
          yield await onSide('source', resolve(digest, options));
        } catch (error) {
          // deleted since it was listed
          if (!isFailure(error, 'NOT_FOUND')) throw error;
        }
      }
    },
    tags: (options) => source.tags(options),
  };
}

/** Whether the reference is a tag of cosign that the repository does not have. */
function isAbsent(listing: RepositoryListing, reference: string): boolean {
  return cosignSubject(reference) !== undefined && listing.tags?.has(reference) === false;
}
