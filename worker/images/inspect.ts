import { readSnapshot, type Snapshot, type SnapshotFacts } from '../artifacts/snapshot.ts';
import type { Source } from '../content/content.ts';
import { blobsOf, foreignOf, walk, type Graph } from '../content/graph.ts';
import { readAll } from '../content/read.ts';
import { artifactTypeOf, formatPlatform, MAX_MANIFEST_BYTES, type Descriptor, type Manifest } from '../oci/manifest.ts';
import { checkAborted } from '../util/abort.ts';
import { describeFailure, Failure, isFailure, onSide } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import { optional } from '../util/optional.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { isImageConfig, readImageConfig, type ImageConfig } from './image-config.ts';
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
  /** The kind of artifact that the manifest states; absent for images. */
  readonly artifactType?: string;
  /** The annotations of the manifest that the reference leads to. */
  readonly annotations?: Readonly<Record<string, string>>;
  /** The facts of a snapshot that `publish` made; absent otherwise. */
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
  readonly layerBlobs: readonly Pick<Descriptor, 'digest' | 'mediaType' | 'size'>[];
  /** The annotations of its own manifest, where the reference leads to an index. */
  readonly annotations?: Readonly<Record<string, string>>;
  /** Absent for what is not a container image. */
  readonly config?: ImageConfig;
  /** Why the config could not be read. */
  readonly configFault?: string;
}

const CONFIGS_AT_ONCE = 4;

/** What an image consists of, from its manifests and configs: no layer is read. */
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
  const { artifactType, annotations } = top.manifest;
  const snapshot = readSnapshot(top.manifest);
  const size = (all: readonly Descriptor[]): number => all.reduce((sum, one) => sum + one.size, 0);
  return {
    at: formatLocation(location),
    repository: image.repository,
    tags: image.root.tags,
    digest: descriptor.digest,
    mediaType: descriptor.mediaType,
    ...(artifactType === undefined ? {} : { artifactType }),
    ...optional('annotations', annotations),
    ...(snapshot === undefined ? {} : { snapshot: factsOf(snapshot) }),
    totalBytes: size(blobsOf(graph)) + size([...graph.manifests.values()].map((node) => node.descriptor)),
    images: await imagesOf(children, graph, image.source, options),
    referrers: graph.referrers.map((root) => {
      const node = graph.manifests.get(root.descriptor.digest);
      return { digest: root.descriptor.digest, artifactType: node && artifactTypeOf(node.manifest), tags: root.tags };
    }),
    foreign: foreignOf(graph).map(({ digest }) => digest),
  };
}

async function imagesOf(
  children: readonly Descriptor[],
  graph: Graph,
  source: Source,
  options: OperationOptions,
): Promise<readonly InspectedImage[]> {
  const found = children.flatMap((child) => {
    const manifest = graph.manifests.get(child.digest)?.manifest;
    return manifest?.kind === 'image' ? [{ child, manifest }] : [];
  });
  const configs = new Map<string, Pick<InspectedImage, 'config' | 'configFault'>>();
  await forEachOf(
    found,
    CONFIGS_AT_ONCE,
    async ({ child, manifest: { config } }, { signal }) => {
      if (!isImageConfig(config)) return;
      try {
        configs.set(child.digest, { config: await readImageConfig(source, config, { ...options, signal }) });
      } catch (error) {
        checkAborted(options);
        if (!isFailure(error)) throw error;
        configs.set(child.digest, { configFault: describeFailure(error) });
      }
    },
    options,
  );
  return found.map(({ child, manifest }) => {
    const isTop = graph.roots[0]?.descriptor.digest === child.digest;
    return describeOne(child, manifest, configs.get(child.digest), isTop ? undefined : manifest.annotations);
  });
}

function describeOne(
  { digest, platform }: Descriptor,
  { config, layers }: Extract<Manifest, { readonly kind: 'image' }>,
  read: Pick<InspectedImage, 'config' | 'configFault'> | undefined,
  annotations: Manifest['annotations'],
): InspectedImage {
  return {
    digest,
    platform: platform === undefined ? undefined : formatPlatform(platform),
    layers: layers.length,
    bytes: layers.reduce((sum, one) => sum + one.size, config.size),
    layerBlobs: layers.map(({ digest: blob, mediaType, size }) => ({ digest: blob, mediaType, size })),
    ...optional('annotations', annotations),
    ...read,
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
