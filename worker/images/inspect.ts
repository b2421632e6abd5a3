import { readSnapshot, type Snapshot, type SnapshotFacts } from '../artifacts/snapshot.ts';
import { blobsOf, foreignOf, walk } from '../content/graph.ts';
import { readAll } from '../content/read.ts';
import { artifactTypeOf, formatPlatform, MAX_MANIFEST_BYTES, type Descriptor } from '../oci/manifest.ts';
import { Failure, onSide } from '../util/failure.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { openLocation } from './open-location.ts';
import { formatLocation, parseLocation } from '../oci/location.ts';

/** What `inspect` found. */
export interface Inspected {
  readonly at: string;
  /** `registry/repository`, as the image calls itself. */
  readonly repository: string | undefined;
  readonly tags: readonly string[];
  readonly digest: string;
  readonly mediaType: string;
  /** What kind of artifact it says it is; images do not. */
  readonly artifactType?: string;
  /** Of a snapshot that `publish` made. */
  readonly snapshot?: SnapshotFacts;
  /** Bytes of all blobs and manifests, each once, with what refers to the image. */
  readonly totalBytes: number;
  /** The images below the index, or the one there is. */
  readonly images: readonly InspectedImage[];
  readonly referrers: readonly {
    readonly digest: string;
    readonly artifactType: string | undefined;
    readonly tags: readonly string[];
  }[];
  readonly foreign: readonly string[];
}

interface InspectedImage {
  readonly digest: string;
  readonly platform: string | undefined;
  readonly layers: number;
  /** Bytes of its config and layers, as they are stored. */
  readonly bytes: number;
}

/** What an image consists of, from its manifests alone. */
export async function inspect(reference: string, backends: Backends, options: OperationOptions): Promise<Inspected> {
  const location = parseLocation(reference);
  await using image = await openLocation(backends, location, 'source', options);
  const graph = await onSide('source', walk(image.source, [image.root], options));
  const { descriptor } = graph.roots[0] ?? image.root;
  const top = graph.manifests.get(descriptor.digest);
  if (top === undefined) {
    throw new Failure('UNSUPPORTED', `${descriptor.mediaType} is not a manifest that can be inspected`, {
      context: { side: 'source' },
    });
  }
  const children = top.manifest.kind === 'index' ? top.manifest.manifests : [descriptor];
  const { artifactType } = top.manifest;
  const snapshot = readSnapshot(top.manifest);
  const size = (all: readonly Descriptor[]): number => all.reduce((sum, one) => sum + one.size, 0);
  return {
    at: formatLocation(location),
    repository: image.repository,
    tags: image.root.tags,
    digest: descriptor.digest,
    mediaType: descriptor.mediaType,
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(snapshot === undefined ? {} : { snapshot: factsOf(snapshot) }),
    totalBytes: size(blobsOf(graph)) + size([...graph.manifests.values()].map((node) => node.descriptor)),
    images: children.flatMap((child) => {
      const node = graph.manifests.get(child.digest);
      if (node?.manifest.kind !== 'image') return [];
      const { config, layers } = node.manifest;
      const platform = child.platform === undefined ? undefined : formatPlatform(child.platform);
      return [{ digest: child.digest, platform, layers: layers.length, bytes: size([config, ...layers]) }];
    }),
    referrers: graph.referrers.map((root) => {
      const node = graph.manifests.get(root.descriptor.digest);
      return { digest: root.descriptor.digest, artifactType: node && artifactTypeOf(node.manifest), tags: root.tags };
    }),
    foreign: foreignOf(graph).map(({ digest }) => digest),
  };
}

function factsOf({ source, created, objects, bytes, failed, listing }: Snapshot): SnapshotFacts {
  return { source, created, objects, bytes, failed, listing };
}

/** The manifest of an image, byte for byte. */
export async function rawManifest(
  reference: string,
  backends: Backends,
  options: OperationOptions,
): Promise<Uint8Array> {
  await using image = await openLocation(backends, parseLocation(reference), 'source', options);
  return await onSide('source', readAll(image.source, image.root.descriptor, MAX_MANIFEST_BYTES, options));
}
