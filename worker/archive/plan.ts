import type { Graph, ManifestNode } from '../content/graph.ts';
import { blobsOf } from '../content/graph.ts';
import { digestOf, hexOf, algorithmOf, type Digest } from '../oci/digest.ts';
import {
  ANNOTATION,
  artifactTypeOf,
  isForeign,
  MAX_MANIFEST_BYTES,
  MEDIA_TYPE,
  type Descriptor,
} from '../oci/manifest.ts';
import { Failure } from '../util/failure.ts';
import { encodeHeader, END_BYTES, paddingOf } from './tar.ts';

/** The version of docs/archive-format.md that is written here. */
export const FORMAT_VERSION = '1';
/** The annotation of `index.json` that names the index of everything that refers to the image. */
export const REFERRERS_ANNOTATION = 'dev.transship.referrers';

/** What a folder or tar with an OCI image layout is known by. https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md#oci-layout-file */
export const OCI_LAYOUT: Uint8Array = json({ imageLayoutVersion: '1.0.0' });

/**
 * The largest object of S3, 50 TB (https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html). The 48.8 TiB of
 * https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html are more.
 */
const MAX_ARCHIVE_BYTES = 50e12;
/** Layers that `docker load` unpacks: plain, gzip or zstd, and not encrypted. */
const LOADABLE_LAYER =
  /^application\/vnd\.(?:oci\.image\.layer\.v1\.tar(?:\+gzip|\+zstd)?|docker\.image\.rootfs\.diff\.tar(?:\.gzip|\.zstd)?)$/;

/** One file of the archive. */
export type LayoutEntry = KnownEntry | BlobEntry;

interface EntrySlot {
  /** Path in the tar. */
  readonly name: string;
  /** The header: 512 bytes, or more when the name or the size need a pax header. */
  readonly header: Uint8Array;
  /** Where the header starts. The content follows it, padded to 512. */
  readonly offset: number;
  /** Bytes of the content. */
  readonly size: number;
}

/** A file whose content is known when planning. */
interface KnownEntry extends EntrySlot {
  readonly bytes: Uint8Array;
  readonly descriptor?: undefined;
}

/** A blob that is still to come. */
export interface BlobEntry extends EntrySlot {
  readonly bytes?: undefined;
  readonly descriptor: Descriptor;
}

/** What an archive calls its image. */
export interface ArchiveNames {
  /** The image's tag; absent for one that has a digest only. */
  readonly tag?: string | undefined;
  /** `registry/repository`. */
  readonly repository: string;
}

/** A planned archive: every byte of it but the content of blobs. */
export interface ArchiveLayout {
  /** In the order of the tar, without gaps. */
  readonly entries: readonly LayoutEntry[];
  /** Bytes of the whole archive, the closing two blocks included. */
  readonly size: number;
  /** Bytes up to the first layer: one range read of them lists the archive. */
  readonly headSize: number;
  /** The image. */
  readonly root: Descriptor;
  readonly names: ArchiveNames;
  /** What the archive tags: the image, and what refers to it by cosign's tags. */
  readonly tags: ReadonlyMap<string, Digest>;
  /** Digest of everything that is planned: names, sizes, order and the content of what is known. Equal layouts give equal archives. */
  readonly digest: Digest;
}

/**
 * The archive of the one image of `graph`, with everything that refers to it, byte for byte but for the blobs' own bytes: descriptors carry
 * sizes, so every header and offset is known before any blob is fetched. Pure; the same graph and names give the same layout. The format is
 * docs/archive-format.md. INVALID when there is not exactly one image, or when the archive would be larger than an object can be.
 */
export function planArchive(graph: Graph, names: ArchiveNames): ArchiveLayout {
  const [root, ...others] = graph.roots;
  if (root === undefined || others.length > 0) {
    throw new Failure(
      'INVALID',
      `an archive holds one image, ${graph.roots.length} were given: archive each by itself`,
    );
  }
  const planner = new Planner();
  const image: Descriptor = {
    mediaType: root.descriptor.mediaType,
    digest: root.descriptor.digest,
    size: root.descriptor.size,
  };
  const listing = graph.referrers.length === 0 ? undefined : referrersIndex(graph);
  const docker = dockerManifest(graph, image, names);
  planner.add('oci-layout', OCI_LAYOUT);
  planner.add('index.json', imageIndex(image, names, listing));
  if (docker !== undefined) planner.add('manifest.json', docker);
  if (listing !== undefined) planner.add(blobPath(digestOf(listing)), listing);
  for (const node of graph.manifests.values()) planner.add(blobPath(node.descriptor.digest), node.bytes);

  const configs = configsOf(graph);
  let headSize: number | undefined;
  for (const descriptor of blobsOf(graph)) {
    if (!configs.has(descriptor.digest)) headSize ??= planner.size;
    planner.addBlob(descriptor);
  }
  headSize ??= planner.size;
  const size = planner.size + END_BYTES;
  if (size > MAX_ARCHIVE_BYTES) {
    throw new Failure(
      'INVALID',
      `the archive would have ${size} bytes; an object in S3 has ${MAX_ARCHIVE_BYTES} at most`,
    );
  }
  const tags = new Map(
    graph.referrers.flatMap((referrer) => referrer.tags.map((tag) => [tag, referrer.descriptor.digest] as const)),
  );
  if (names.tag !== undefined) tags.set(names.tag, image.digest);
  const { entries } = planner;
  return { entries, size, headSize, root: image, names, tags, digest: digestOfPlan(entries) };
}

/** Where a blob or manifest is in an OCI image layout. https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md#blobs */
export function blobPath(digest: Digest): string {
  return `blobs/${algorithmOf(digest)}/${hexOf(digest)}`;
}

/** The name that the archive gives the image: `registry/repository:tag`, or with its digest where it has no tag. */
export function imageName(names: ArchiveNames, digest: Digest): string {
  return names.tag === undefined ? `${names.repository}@${digest}` : `${names.repository}:${names.tag}`;
}

/** Where the entry ends, padding included. */
export function endOf(entry: LayoutEntry): number {
  return entry.offset + entry.header.byteLength + entry.size + paddingOf(entry.size);
}

class Planner {
  readonly entries: LayoutEntry[] = [];
  size = 0;

  add(name: string, bytes: Uint8Array): void {
    this.#push({ ...this.#slot(name, bytes.byteLength), bytes });
  }

  addBlob(descriptor: Descriptor): void {
    this.#push({ ...this.#slot(blobPath(descriptor.digest), descriptor.size), descriptor });
  }

  #slot(name: string, size: number): EntrySlot {
    return { name, header: encodeHeader(name, size), offset: this.size, size };
  }

  #push(entry: LayoutEntry): void {
    this.entries.push(entry);
    this.size = endOf(entry);
  }
}

/** One line for each file, with the content of those whose name does not determine it. */
function digestOfPlan(entries: readonly LayoutEntry[]): Digest {
  const lines = entries.map(({ name, size, bytes }) => {
    const content = bytes === undefined || name.startsWith('blobs/') ? '' : ` ${digestOf(bytes)}`;
    return `${name} ${size}${content}\n`;
  });
  return digestOf(Buffer.from(`transship archive ${FORMAT_VERSION}\n${lines.join('')}`));
}

function imageIndex(image: Descriptor, names: ArchiveNames, listing: Uint8Array | undefined): Uint8Array {
  const annotations = {
    ...(names.tag === undefined ? {} : { [ANNOTATION.refName]: names.tag }),
    [ANNOTATION.imageName]: imageName(names, image.digest),
  };
  return json({
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.ociIndex,
    manifests: [{ ...image, annotations }],
    ...(listing === undefined ? {} : { annotations: { [REFERRERS_ANNOTATION]: digestOf(listing) } }),
  });
}

/** Everything that refers to the image or to its children; what has cosign's tags once for each. */
function referrersIndex(graph: Graph): Uint8Array {
  const manifests = graph.referrers.flatMap(({ descriptor, tags }) => {
    const { mediaType, digest, size } = descriptor;
    const node = graph.manifests.get(digest);
    const artifactType = node === undefined ? undefined : artifactTypeOf(node.manifest);
    const listed = { mediaType, digest, size, ...(artifactType === undefined ? {} : { artifactType }) };
    return tags.length === 0
      ? [listed]
      : tags.map((tag) => ({ ...listed, annotations: { [ANNOTATION.refName]: tag } }));
  });
  const bytes = json({ schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests });
  if (bytes.byteLength > MAX_MANIFEST_BYTES) {
    throw new Failure('UNSUPPORTED', `${manifests.length} manifests refer to the image, more than an archive can list`);
  }
  return bytes;
}

/** What `docker load` reads: one platform, since that is all it can hold. Undefined for what is not an image that runs. */
function dockerManifest(graph: Graph, image: Descriptor, names: ArchiveNames): Uint8Array | undefined {
  const candidates = [...runnableImages(graph, image, new Set())];
  const chosen =
    candidates.find(({ platform }) => platform?.os === 'linux' && platform.architecture === 'amd64') ?? candidates[0];
  if (chosen === undefined) return undefined;
  return json([
    {
      Config: blobPath(chosen.config.digest),
      RepoTags: names.tag === undefined ? [] : [imageName(names, image.digest)],
      Layers: chosen.layers.map((layer) => blobPath(layer.digest)),
    },
  ]);
}

type Runnable = Pick<Descriptor, 'platform'> &
  Pick<Extract<ManifestNode['manifest'], { kind: 'image' }>, 'config' | 'layers'>;

/** The images at and below `descriptor` that an engine can run, in the order of the indexes. */
function* runnableImages(graph: Graph, descriptor: Descriptor, seen: Set<Digest>): Iterable<Runnable> {
  const manifest = graph.manifests.get(descriptor.digest)?.manifest;
  if (manifest === undefined || seen.has(descriptor.digest)) return;
  seen.add(descriptor.digest);
  if (manifest.kind === 'index') {
    for (const child of manifest.manifests) yield* runnableImages(graph, child, seen);
  } else if (manifest.kind === 'image') {
    const { config, layers } = manifest;
    const runs = config.mediaType === MEDIA_TYPE.ociConfig || config.mediaType === MEDIA_TYPE.dockerConfig;
    if (!runs || !layers.every((layer) => LOADABLE_LAYER.test(layer.mediaType))) return;
    yield descriptor.platform === undefined ? { config, layers } : { platform: descriptor.platform, config, layers };
  }
}

function configsOf(graph: Graph): ReadonlySet<Digest> {
  const images = [...graph.manifests.values()].flatMap(({ manifest }) => (manifest.kind === 'image' ? [manifest] : []));
  return new Set(
    images
      .map(({ config }) => config)
      .filter((config) => !isForeign(config))
      .map(({ digest }) => digest),
  );
}

/** Without spaces, fields in the order in which they were written down: the same value gives the same bytes. */
function json(value: object): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}
