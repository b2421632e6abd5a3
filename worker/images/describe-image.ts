import { foreignOf, blobsOf, manifestsBelow, unseenOf, type Graph, type Root } from '../content/graph.ts';
import { cosignSubject } from '../oci/derived-tag.ts';
import type { Digest } from '../oci/digest.ts';
import { artifactTypeOf, childrenOf, type Descriptor } from '../oci/manifest.ts';
import type { ExpandedReferrer } from '../store/expanded.ts';
import type { SnapshotArchive, SnapshotContent } from '../store/snapshot.ts';
import type { BackedUpImage } from '../store/snapshot-builder.ts';
import { describeFailure } from '../util/failure.ts';
import { optional } from '../util/optional.ts';
import { compareStrings } from '../util/text.ts';
import type { ListedImage } from './backends.ts';

/** The entry in a snapshot of an image that was backed up whole. `graph` has one root; `foreign` are layers that were not carried. */
export function describeImage(
  graph: Graph,
  facts: Pick<BackedUpImage, 'tags' | 'pushedAt' | 'archives'>,
  foreign: readonly Descriptor[] = foreignOf(graph),
): BackedUpImage {
  const [root] = graph.roots;
  const node = root === undefined ? undefined : graph.manifests.get(root.descriptor.digest);
  if (node === undefined) throw new TypeError('a graph has one root at least');
  const left = new Set(foreign.map(({ digest }) => digest));
  const carried = new Set(blobsOf(graph).map(({ digest }) => digest));
  const isCarried = ({ digest }: Descriptor): boolean => carried.has(digest) && !left.has(digest);
  const { descriptor, manifest } = node;
  const artifactType = manifest.artifactType;
  const unchecked = [...unseenOf(graph), ...lostReferrers(graph)];
  return {
    digest: descriptor.digest,
    mediaType: descriptor.mediaType,
    size: descriptor.size,
    ...facts,
    ...(artifactType === undefined ? {} : { artifactType }),
    content: contentBelow(graph, descriptor.digest, isCarried),
    referrers: graph.referrers.flatMap((referrer) => referrerIn(graph, referrer, isCarried)),
    ...(left.size === 0 ? {} : { foreign: [...left].sort(compareStrings) }),
    ...(unchecked.length === 0 ? {} : { unchecked }),
  };
}

/** The entry in a snapshot of an image in ECR's archive storage class that was not backed up: that it exists, under these tags. */
export function describeArchived(
  { digest, mediaType = 'application/octet-stream', pushedAt }: ListedImage,
  tags: readonly string[],
): BackedUpImage {
  const nothing = { size: 0, bytes: 0, content: [], referrers: [], archived: true } as const;
  return { digest, mediaType, tags, ...nothing, ...optional('pushedAt', pushedAt?.toISOString()) };
}

/** What a snapshot records of the archive of an image: where it is, and the tag that it stands for. `pushedAt` is an ISO time. */
export function archiveFacts(
  { tag, key, size, etag, version }: SnapshotArchive,
  pushedAt: string | undefined,
): Pick<BackedUpImage, 'tags' | 'archives' | 'pushedAt'> {
  const archive = { ...optional('tag', tag), key, size, etag, ...optional('version', version) };
  return { tags: tag === undefined ? [] : [tag], archives: [archive], ...optional('pushedAt', pushedAt) };
}

/** The manifests from `root` down, then their blobs, each once. */
function contentBelow(
  graph: Graph,
  root: Digest,
  isCarried: (blob: Descriptor) => boolean,
): readonly SnapshotContent[] {
  const nodes = manifestsBelow(graph, root).toReversed();
  const found = new Map<Digest, SnapshotContent>();
  for (const { descriptor } of nodes) {
    const { digest, size, mediaType } = descriptor;
    found.set(digest, { digest, size, mediaType });
  }
  for (const { manifest } of nodes) {
    for (const child of childrenOf(manifest)) {
      const { digest, size } = child;
      if (!found.has(digest) && isCarried(child)) found.set(digest, { digest, size });
    }
  }
  return [...found.values()];
}

function referrerIn(
  graph: Graph,
  { descriptor, tags }: Root,
  isCarried: (blob: Descriptor) => boolean,
): ExpandedReferrer[] {
  const manifest = graph.manifests.get(descriptor.digest)?.manifest;
  const [tag] = tags;
  const subject = manifest?.subject?.digest ?? (tag === undefined ? undefined : cosignSubject(tag));
  if (manifest === undefined || subject === undefined) return [];
  const artifactType = artifactTypeOf(manifest);
  return [
    {
      digest: descriptor.digest,
      mediaType: descriptor.mediaType,
      size: descriptor.size,
      ...(artifactType === undefined ? {} : { artifactType }),
      subject,
      tags: tags.toSorted(compareStrings),
      content: contentBelow(graph, descriptor.digest, isCarried),
    },
  ];
}

/** What is listed to refer to the image, and could not be read. */
function lostReferrers({ unreadable }: Graph): readonly string[] {
  return unreadable.map(
    ({ root, failure }) =>
      `${root.tags[0] ?? root.descriptor.digest} refers to it and could not be read: ${describeFailure(failure)}`,
  );
}
