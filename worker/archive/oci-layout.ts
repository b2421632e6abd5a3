import { walk, type ManifestNode, type Root } from '../content/graph.ts';
import { digestOf, parseDigest, type Digest } from '../oci/digest.ts';
import {
  ANNOTATION,
  isManifestType,
  MEDIA_TYPE,
  mediaTypeOf,
  parseManifest,
  type Descriptor,
  type Manifest,
} from '../oci/manifest.ts';
import { Failure, isFailure } from '../util/failure.ts';
import { failureIn, readFile, type ArchiveFiles, type ArchiveFilesOptions } from './archive-files.ts';
import {
  filesSource,
  inDocument,
  MAX_DOCUMENT_BYTES,
  withNames,
  withoutNames,
  type FoundImages,
  type NamedImage,
} from './found-images.ts';
import { blobPath, REFERRERS_ANNOTATION } from './plan.ts';

/** What was found in an OCI layout. */
export interface OciImages extends FoundImages {
  readonly index: LayoutIndex;
  /** The referrers of the images, as an archive of Transship lists them. */
  readonly referrers: readonly Root[];
  readonly manifests: ReadonlyMap<Digest, ManifestNode>;
  /** As `Graph` has it. */
  readonly foreignAtSource: ReadonlySet<Digest>;
}

export type LayoutIndex = Extract<Manifest, { kind: 'index' }>;

/** Tags that cosign and registries without the referrers API make; they name no images. */
const DERIVED_TAG = /^sha(?:256|512)-[0-9a-f]{32,128}(?:\.\w+)?$/;

/**
 * The images of an OCI image layout: the entries of `index.json`, without what only refers to others. A manifest that is listed but missing
 * fails when it is read. https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md
 */
export async function readOciLayout(files: ArchiveFiles, options: ArchiveFilesOptions): Promise<OciImages> {
  const index = await readLayoutIndex(files, options);
  const referrers = await readReferrers(files, index, options);
  const bare = filesSource({ files, manifests: new Map(), tags: new Map(), pathOf: blobPath });
  const manifests = new Map<Digest, ManifestNode>();
  const foreignAtSource = new Set<Digest>();
  const tags = new Map<string, Descriptor>();
  for (const descriptor of [...index.manifests, ...referrers.map((root) => root.descriptor)]) {
    tags.set(descriptor.digest, descriptor);
    if (!isManifestType(descriptor.mediaType)) continue;
    try {
      const graph = await walk(bare, [{ descriptor, tags: [] }], { ...options, referrers: false });
      for (const [digest, node] of graph.manifests) manifests.set(digest, node);
      for (const digest of graph.foreignAtSource ?? []) foreignAtSource.add(digest);
    } catch (error) {
      // one image of several that is not all there (docker saves only the platforms that it has), or of a kind that is not carried
      if (!isFailure(error, 'NOT_FOUND', 'INVALID', 'UNSUPPORTED')) throw error;
    }
  }
  for (const root of referrers) for (const tag of root.tags) tags.set(tag, root.descriptor);
  const images = new Map<Digest, NamedImage>();
  for (const [place, descriptor] of index.manifests.entries()) {
    const name = descriptor.annotations?.[ANNOTATION.refName];
    if (name !== undefined) tags.set(name, descriptor);
    const refers =
      name === undefined ? manifests.get(descriptor.digest)?.manifest.subject !== undefined : DERIVED_TAG.test(name);
    if (!refers)
      images.set(
        descriptor.digest,
        withNames(
          descriptor,
          place,
          [name, descriptor.annotations?.[ANNOTATION.imageName]],
          images.get(descriptor.digest),
        ),
      );
  }
  for (const image of images.values()) for (const tag of image.tags) tags.set(tag, image.descriptor);
  const source = filesSource({ files, manifests, tags, pathOf: blobPath });
  const parts = partsOf(manifests.values());
  const marked = Array.from(images.values(), (image) =>
    image.names.length === 0 && parts.has(image.descriptor.digest) ? { ...image, isPart: true as const } : image,
  );
  return { source, images: marked, index, referrers, manifests, foreignAtSource };
}

/** What the indexes among these name: oras lists the platforms of an image beside the image. */
function partsOf(nodes: Iterable<ManifestNode>): ReadonlySet<Digest> {
  const parts = new Set<Digest>();
  for (const { manifest } of nodes) {
    if (manifest.kind === 'index') for (const { digest } of manifest.manifests) parts.add(digest);
  }
  return parts;
}

/** UNSUPPORTED for a layout of another version than 1, NOT_FOUND for one without `oci-layout`. */
export async function checkLayoutVersion(files: ArchiveFiles, options: ArchiveFilesOptions): Promise<void> {
  const text = Buffer.from(await readFile(files, 'oci-layout', MAX_DOCUMENT_BYTES, options)).toString();
  if (!/"imageLayoutVersion"\s*:\s*"1\./.test(text)) {
    throw new Failure('UNSUPPORTED', `${files.describe('oci-layout')} is not of version 1 of OCI image layouts`);
  }
}

/** `index.json`. INVALID when it is not an index. */
export async function readLayoutIndex(files: ArchiveFiles, options: ArchiveFilesOptions): Promise<LayoutIndex> {
  const bytes = await readFile(files, 'index.json', MAX_DOCUMENT_BYTES, options);
  return parseLayoutIndex(bytes, files);
}

/** The `index.json` of `files`, of which these are the bytes. INVALID when it is not an index. */
export function parseLayoutIndex(bytes: Uint8Array, files: ArchiveFiles): LayoutIndex {
  return inDocument(files.describe('index.json'), files.describe(), () => parseIndex(bytes));
}

/** The referrers that an archive of ours lists for its image, whether it is packed or unpacked. Empty for all others. */
async function readReferrers(
  files: ArchiveFiles,
  index: LayoutIndex,
  options: ArchiveFilesOptions,
): Promise<readonly Root[]> {
  const annotation = index.annotations?.[REFERRERS_ANNOTATION];
  if (annotation === undefined) return [];
  const digest = inDocument(files.describe('index.json'), files.describe(), () => parseDigest(annotation));
  const path = blobPath(digest);
  if ((await files.size(path, options)) === undefined) {
    const missing = `${files.describe('index.json')} names ${path} as the list of referrers, which is missing`;
    throw failureIn(files, 'CORRUPT', missing);
  }
  const bytes = await readFile(files, path, MAX_DOCUMENT_BYTES, options);
  if (digestOf(bytes) !== digest) {
    throw failureIn(files, 'CORRUPT', `${files.describe(path)} has other bytes than its digest states`);
  }
  const listing = inDocument(files.describe(path), files.describe(), () => parseIndex(bytes));
  return listing.manifests.map((descriptor) => {
    const tag = descriptor.annotations?.[ANNOTATION.refName];
    return { descriptor: withoutNames(descriptor), tags: tag === undefined ? [] : [tag] };
  });
}

function parseIndex(bytes: Uint8Array): LayoutIndex {
  const index = parseManifest(bytes, mediaTypeOf(bytes) ?? MEDIA_TYPE.ociIndex);
  if (index.kind !== 'index') throw new Failure('INVALID', 'this is not an index of images');
  return index;
}
