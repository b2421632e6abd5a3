import type { Source, Target } from '../content/content.ts';
import { shortDigest, type Digest } from '../oci/digest.ts';
import { isManifestType, type Descriptor } from '../oci/manifest.ts';
import { contentOf } from '../store/expanded.ts';
import type { StateImage } from '../store/state.ts';
import type { Abortable } from '../util/abort.ts';
import { ifFound, isFailure, onSide } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import { append } from '../util/lists.ts';
import type { ListedImage, Registry } from './backends.ts';

/** What a repository has that it should have, image by image. */
export interface RepositoryComparison {
  /** Images that are there whole: every tag, every manifest, and what refers to them. */
  readonly equal: number;
  readonly differences: readonly Difference[];
}

/** Something of an image of the snapshot that is not there, or is something else there. */
interface Difference {
  readonly kind: 'missing' | 'different';
  /** The image in the snapshot. */
  readonly image: Digest;
  /** The tag that is missing, or stands for something else. Absent: a manifest. */
  readonly tag?: string;
  /** The digest in the snapshot. */
  readonly digest: Digest;
  /** The digest at the target, where a tag stands for something else. */
  readonly found?: Digest;
  /** One sentence. */
  readonly reason: string;
}

export interface CompareOptions extends Abortable {
  /** Whether what refers to the images is compared too. Default true. */
  readonly referrers?: boolean | undefined;
}

/** What is looked at: of ECR a list, of other registries one request each. */
interface TargetView {
  tagged(tag: string): Promise<Digest | undefined>;
  /** What is wrong with the manifest; undefined where it is there. */
  fault(manifest: Descriptor): Promise<Pick<Difference, 'kind' | 'reason'> | undefined>;
  /** The digests of what refers to the manifest; undefined where the registry does not list them. */
  referrers(subject: Descriptor): Promise<ReadonlySet<Digest> | undefined>;
}

const AT_ONCE = 8;

/**
 * Compares a repository with the images that a snapshot has of it: every tag, the digest of every manifest, and what refers to it. What else is there
 * does not count. Reads no blob: registries take no manifest without what it names. For ECR pages of DescribeImages; for others a HEAD for each tag
 * and manifest.
 */
export async function compareRepository(
  images: readonly StateImage[],
  registry: Registry,
  repository: string,
  options: CompareOptions,
): Promise<RepositoryComparison> {
  const view = await onSide(
    'target',
    registry.images === undefined
      ? Promise.resolve(askedView(registry.repository(repository), options))
      : listedView(registry.images(repository, options)),
  );
  const found = new Map<StateImage, readonly Difference[]>();
  await forEachOf(
    images,
    AT_ONCE,
    async (image) => void found.set(image, await onSide('target', compareImage(image, view, options))),
    options,
  );
  const all = images.map((image) => found.get(image) ?? []);
  return { equal: all.filter((one) => one.length === 0).length, differences: all.flat() };
}

async function compareImage(
  image: StateImage,
  view: TargetView,
  { referrers = true }: CompareOptions,
): Promise<readonly Difference[]> {
  const differences: Difference[] = [];
  const of = { image: image.digest };
  const parts = referrers ? [image, ...image.referrers] : [image];
  for (const { digest, tags } of parts)
    for (const tag of tags) {
      const found = await view.tagged(tag);
      if (found === digest) continue;
      differences.push(
        found === undefined
          ? { kind: 'missing', ...of, tag, digest, reason: `the tag ${shortTag(tag)} does not exist` }
          : {
              kind: 'different',
              ...of,
              tag,
              digest,
              found,
              reason: `the tag ${shortTag(tag)} stands for ${shortDigest(found)}`,
            },
      );
    }
  const manifests = new Map<Digest, Descriptor>();
  for (const { digest, mediaType, size } of referrers ? contentOf(image) : image.content)
    if (mediaType !== undefined && isManifestType(mediaType)) manifests.set(digest, { digest, mediaType, size });
  for (const { digest, mediaType, size } of parts) manifests.set(digest, { digest, mediaType, size });
  for (const manifest of manifests.values()) {
    const fault = await view.fault(manifest);
    if (fault !== undefined) differences.push({ ...of, digest: manifest.digest, ...fault });
  }
  if (referrers) append(differences, await compareReferrers(image, manifests, view));
  return differences;
}

/** Whether the registry lists what refers to an image by its subject. */
async function compareReferrers(
  image: StateImage,
  manifests: ReadonlyMap<Digest, Descriptor>,
  view: TargetView,
): Promise<readonly Difference[]> {
  const differences: Difference[] = [];
  const untagged = image.referrers.filter(({ tags }) => tags.length === 0);
  for (const [digest, ofSubject] of Map.groupBy(untagged, ({ subject }) => subject)) {
    const subject = manifests.get(digest);
    const listed = subject === undefined ? undefined : await view.referrers(subject);
    if (listed === undefined) continue;
    for (const referrer of ofSubject) {
      if (listed.has(referrer.digest)) continue;
      const reason = `it is not listed as a referrer of ${shortDigest(digest)}`;
      differences.push({ kind: 'missing', image: image.digest, digest: referrer.digest, reason });
    }
  }
  return differences;
}

/** A view of what ECR lists. A repository that does not exist has nothing. */
async function listedView(rows: AsyncIterable<ListedImage>): Promise<TargetView> {
  const manifests = new Map<Digest, ListedImage>();
  const tags = new Map<string, Digest>();
  const subjects = new Map<Digest, Set<Digest>>();
  const read = async (): Promise<void> => {
    for await (const row of rows) {
      manifests.set(row.digest, row);
      for (const tag of row.tags) tags.set(tag, row.digest);
      if (row.subject === undefined) continue;
      const listed = subjects.get(row.subject) ?? new Set();
      subjects.set(row.subject, listed.add(row.digest));
    }
  };
  await ifFound(read());
  return {
    tagged: async (tag) => tags.get(tag),
    fault: async ({ digest }) => {
      const row = manifests.get(digest);
      if (row === undefined) return { kind: 'missing', reason: 'it does not exist' };
      return row.status === 'ACTIVE'
        ? undefined
        : { kind: 'different', reason: 'it is in the archive storage class of ECR, and cannot be pulled' };
    },
    referrers: async ({ digest }) => subjects.get(digest) ?? new Set(),
  };
}

/** A view that asks for each. */
function askedView(repository: Source & Target, options: Abortable): TargetView {
  return {
    tagged: async (tag) => (await ifFound(repository.resolve(tag, options)))?.digest,
    fault: async (manifest) =>
      (await repository.has(manifest, options)) ? undefined : { kind: 'missing', reason: 'it does not exist' },
    referrers: async (subject) => {
      let isRefused = false;
      const found = new Set<Digest>();
      try {
        const listing = repository.referrers(subject, { ...options, onRefused: () => (isRefused = true) });
        for await (const { digest } of listing) found.add(digest);
      } catch (error) {
        // the subject is missing, which is a difference of its own
        if (!isFailure(error, 'NOT_FOUND')) throw error;
      }
      return isRefused ? undefined : found;
    },
  };
}

/** Tags of cosign are digests: their beginning is enough for a person. */
function shortTag(tag: string): string {
  const [, algorithm = '', hex = '', suffix = ''] = /^(sha(?:256|512))-([0-9a-f]{64})(\.\w+)?$/.exec(tag) ?? [];
  return hex === '' ? tag : `${algorithm}-${hex.slice(0, 12)}…${suffix}`;
}
