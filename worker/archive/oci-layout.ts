import { createHash } from 'node:crypto';
import type { ByteRange, Bytes, Source } from '../content/content.ts';
import { walk, type ManifestNode, type Root } from '../content/graph.ts';
import { digestOf, parseDigest, type Digest } from '../oci/digest.ts';
import {
  ANNOTATION,
  artifactTypeOf,
  isManifestType,
  MAX_MANIFEST_BYTES,
  MEDIA_TYPE,
  mediaTypeOf,
  parseManifest,
  type Descriptor,
  type Manifest,
} from '../oci/manifest.ts';
import { formatReference, formatRepository, isTag, parseReference } from '../oci/reference.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { Failure, isFailure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { isRecord } from '../util/record.ts';
import { retry } from '../util/retry.ts';
import { readFile, type ArchiveFiles, type ContentsOptions } from './archive-files.ts';
import { blobPath, REFERRERS_ANNOTATION } from './plan.ts';
import { safeName } from './tar.ts';

/** An image in a layout or archive, and what it is called there. */
export interface NamedImage {
  readonly descriptor: Descriptor;
  /** Everything that it can be asked for by: as written, and whole references also as docker completes them. */
  readonly names: readonly string[];
  readonly tags: readonly string[];
  /** `registry/repository`, where one of the names says it. */
  readonly repository?: string;
}

/** What was found in files: the images, and a Source of everything in them. */
export interface FoundImages {
  readonly source: Source;
  readonly images: readonly NamedImage[];
}

/** What was found in an OCI layout. */
export interface OciImages extends FoundImages {
  readonly index: LayoutIndex;
  /** What refers to the images, as an archive of ours lists it. */
  readonly referrers: readonly Root[];
  readonly manifests: ReadonlyMap<Digest, ManifestNode>;
}

export type LayoutIndex = Extract<Manifest, { kind: 'index' }>;

/** Of a layout's `index.json` and of docker's `manifest.json`, which list images, and of configs. */
const MAX_DOCUMENT_BYTES = MAX_MANIFEST_BYTES;
/** What tells compressed layers from plain ones. */
const MAGIC = {
  gzip: [0x1f, 0x8b],
  zstd: [0x28, 0xb5, 0x2f, 0xfd],
  xz: [0xfd, 0x37, 0x7a, 0x58],
  bzip2: [0x42, 0x5a, 0x68],
};
export const MAGIC_BYTES = 4;
/** Tags that cosign and registries without the referrers API make; they name no images. */
const DERIVED_TAG = /^sha(?:256|512)-[0-9a-f]{32,128}(?:\.\w+)?$/;

/**
 * The images of an OCI image layout: the entries of `index.json`, without what only refers to others. Manifests that are listed but not
 * there are left to whoever asks for them. https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md
 */
export async function readOciLayout(contents: ArchiveFiles, options: ContentsOptions): Promise<OciImages> {
  const index = await readLayoutIndex(contents, options);
  const referrers = await readReferrers(contents, index, options);
  const bare = filesSource({ contents, manifests: new Map(), tags: new Map(), pathOf: blobPath });
  const manifests = new Map<Digest, ManifestNode>();
  const tags = new Map<string, Descriptor>();
  for (const descriptor of [...index.manifests, ...referrers.map((root) => root.descriptor)]) {
    tags.set(descriptor.digest, descriptor);
    if (!isManifestType(descriptor.mediaType)) continue;
    try {
      const graph = await walk(bare, [{ descriptor, tags: [] }], { ...options, referrers: false });
      for (const [digest, node] of graph.manifests) manifests.set(digest, node);
    } catch (error) {
      // one image of several that is not all there (docker saves only the platforms that it has), or of a kind that is not carried
      if (!isFailure(error, 'NOT_FOUND', 'INVALID', 'UNSUPPORTED')) throw error;
    }
  }
  for (const root of referrers) for (const tag of root.tags) tags.set(tag, root.descriptor);
  const images = new Map<Digest, NamedImage>();
  for (const descriptor of index.manifests) {
    const name = descriptor.annotations?.[ANNOTATION.refName];
    if (name !== undefined) tags.set(name, descriptor);
    const refers =
      name === undefined ? manifests.get(descriptor.digest)?.manifest.subject !== undefined : DERIVED_TAG.test(name);
    if (!refers)
      images.set(
        descriptor.digest,
        named(descriptor, [name, descriptor.annotations?.[ANNOTATION.imageName]], images.get(descriptor.digest)),
      );
  }
  for (const image of images.values()) for (const tag of image.tags) tags.set(tag, image.descriptor);
  const source = filesSource({ contents, manifests, tags, pathOf: blobPath });
  return { source, images: [...images.values()], index, referrers, manifests };
}

/** `index.json`. INVALID when it is not an index. */
export async function readLayoutIndex(contents: ArchiveFiles, options: ContentsOptions): Promise<LayoutIndex> {
  const bytes = await readFile(contents, 'index.json', MAX_DOCUMENT_BYTES, options);
  return parseLayoutIndex(bytes, contents.describe('index.json'));
}

/** The bytes of an `index.json`, which `where` names. INVALID when it is not an index. */
export function parseLayoutIndex(bytes: Uint8Array, where: string): LayoutIndex {
  return inDocument(where, () => parseIndex(bytes));
}

/** What an archive of ours, packed as it was or unpacked, says to refer to its image. Empty for all others. */
async function readReferrers(
  contents: ArchiveFiles,
  index: LayoutIndex,
  options: ContentsOptions,
): Promise<readonly Root[]> {
  const annotation = index.annotations?.[REFERRERS_ANNOTATION];
  if (annotation === undefined) return [];
  const digest = inDocument(contents.describe('index.json'), () => parseDigest(annotation));
  const bytes = await readFile(contents, blobPath(digest), MAX_DOCUMENT_BYTES, options);
  if (digestOf(bytes) !== digest) {
    throw new Failure('CORRUPT', `${contents.describe(blobPath(digest))} has other bytes than its digest says`);
  }
  const listing = inDocument(contents.describe(blobPath(digest)), () => parseIndex(bytes));
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

/**
 * The images of a tar that `docker save` made, old or new, or another tool after its example: `manifest.json` names a config and layers,
 * plain or compressed, and no digests of what is stored. A manifest is made for each, the same for the same files. Digests of the registry
 * the images came from are lost in such archives.
 */
export async function readDockerArchive(contents: ArchiveFiles, options: ContentsOptions): Promise<FoundImages> {
  const where = contents.describe('manifest.json');
  const document = parseJson(await readFile(contents, 'manifest.json', MAX_DOCUMENT_BYTES, options), where);
  if (!Array.isArray(document) || document.length === 0) throw new Failure('INVALID', `${where} lists no images`);
  const reader = new DockerReader(contents, options);
  const manifests = new Map<Digest, ManifestNode>();
  const tags = new Map<string, Descriptor>();
  const images = new Map<Digest, NamedImage>();
  for (const [index, item] of document.entries()) {
    const node = await reader.read(item, `image ${index + 1} in ${where}`);
    const { descriptor } = node;
    manifests.set(descriptor.digest, node);
    const repoTags = isRecord(item) ? strings(item['RepoTags']) : [];
    const image = named(descriptor, repoTags, images.get(descriptor.digest));
    images.set(descriptor.digest, image);
    for (const name of [...image.names, ...image.tags]) tags.set(name, descriptor);
  }
  const pathOf = (digest: Digest): string | undefined => reader.paths.get(digest);
  return { source: filesSource({ contents, manifests, tags, pathOf }), images: [...images.values()] };
}

/** The one image that `wanted`, a tag or name, stands for; without it, the only one. INVALID, with the names there are, otherwise. */
export function chooseImage(found: readonly NamedImage[], wanted: string | undefined, where: string): NamedImage {
  const matching =
    wanted === undefined
      ? found
      : found.filter(
          (image) => image.names.includes(wanted) || image.tags.includes(wanted) || image.descriptor.digest === wanted,
        );
  const [only, ...others] = matching;
  if (only !== undefined && others.length === 0) return only;
  if (found.length === 0) throw new Failure('INVALID', `${where} holds no image`);
  const list = found.map((image) => image.names[0] ?? image.descriptor.digest);
  const there = list.slice(0, 20).join(', ') + (list.length > 20 ? ', …' : '');
  if (wanted === undefined) {
    throw new Failure('INVALID', `${where} holds ${found.length} images, say which one by its tag: it has ${there}`);
  }
  const problem = only === undefined ? `no image ${quote(wanted)}` : `several images ${quote(wanted)}`;
  throw new Failure(only === undefined ? 'NOT_FOUND' : 'INVALID', `${where} holds ${problem}: it has ${there}`);
}

interface FilesSourceParts {
  readonly contents: ArchiveFiles;
  /** Those that are known already; others are read where `pathOf` says. */
  readonly manifests: ReadonlyMap<Digest, ManifestNode>;
  /** By tags, and by whatever else an image is asked for. */
  readonly tags: ReadonlyMap<string, Descriptor>;
  readonly pathOf: (digest: Digest) => string | undefined;
}

/** Files as a Source. Referrers are the known manifests that have a subject. */
export function filesSource({ contents, manifests, tags, pathOf }: FilesSourceParts): Source {
  return {
    ...(contents.rangesAtOnce === undefined ? {} : { rangesAtOnce: contents.rangesAtOnce }),
    resolve: async (reference, options) => {
      checkAborted(options);
      const descriptor = tags.get(reference) ?? manifests.get(reference as Digest)?.descriptor;
      if (descriptor === undefined) throw contents.missing(reference);
      return withoutNames(descriptor);
    },
    open: async (descriptor: Descriptor, options: Abortable & ByteRange = {}): Promise<Bytes> => {
      checkAborted(options);
      const node = manifests.get(descriptor.digest);
      if (node !== undefined) return once(node.bytes.subarray(options.from ?? 0, options.to));
      const path = pathOf(descriptor.digest);
      if (path === undefined || (await contents.size(path, options)) === undefined)
        throw contents.missing(descriptor.digest);
      return contents.open(path, options);
    },
    referrers: async function* (d, options) {
      checkAborted(options);
      for (const { descriptor, manifest } of manifests.values()) {
        if (manifest.subject?.digest !== d.digest) continue;
        const artifactType = artifactTypeOf(manifest);
        const { annotations } = manifest;
        yield {
          ...withoutNames(descriptor),
          ...(artifactType === undefined ? {} : { artifactType }),
          ...(annotations === undefined ? {} : { annotations }),
        };
      }
    },
    tags: async function* (options) {
      checkAborted(options);
      yield* [...tags.keys()].filter(isTag);
    },
  };
}

class DockerReader {
  /** Where the bytes of each digest are. */
  readonly paths = new Map<Digest, string>();
  readonly #contents: ArchiveFiles;
  readonly #options: ContentsOptions;
  /** Layers that images share are looked at once. */
  readonly #layers = new Map<string, Descriptor>();

  constructor(contents: ArchiveFiles, options: ContentsOptions) {
    this.#contents = contents;
    this.#options = options;
  }

  async read(item: unknown, where: string): Promise<ManifestNode> {
    if (!isRecord(item) || typeof item['Config'] !== 'string') throw new Failure('INVALID', `${where} names no config`);
    const configPath = safeName(item['Config']);
    const configBytes = await this.#document(configPath, where);
    const config = { mediaType: MEDIA_TYPE.ociConfig, digest: digestOf(configBytes), size: configBytes.byteLength };
    this.paths.set(config.digest, configPath);
    const diffIds = diffIdsOf(parseJson(configBytes, this.#contents.describe(configPath)), configPath);
    const layerPaths = strings(item['Layers']).map(safeName);
    if (diffIds.length !== layerPaths.length) {
      throw new Failure(
        'INVALID',
        `${where} has ${layerPaths.length} layers, but its config tells of ${diffIds.length}`,
      );
    }
    const layers: Descriptor[] = [];
    for (const [i, diffId] of diffIds.entries()) layers.push(await this.#layer(layerPaths[i] ?? '', diffId, where));
    const manifest = { schemaVersion: 2, mediaType: MEDIA_TYPE.ociManifest, config, layers };
    const bytes = Buffer.from(JSON.stringify(manifest));
    const descriptor = { mediaType: MEDIA_TYPE.ociManifest, digest: digestOf(bytes), size: bytes.byteLength };
    return { descriptor, bytes, manifest: parseManifest(bytes, MEDIA_TYPE.ociManifest) };
  }

  /**
   * A plain layer is its diff id, which reading verifies. Of a compressed one the digest is in the name, where it is named as a layout names
   * blobs; otherwise it is read once for it.
   */
  async #layer(path: string, diffId: Digest, where: string): Promise<Descriptor> {
    const key = `${path} ${diffId}`;
    const known = this.#layers.get(key);
    if (known !== undefined) return known;
    const size = await this.#contents.size(path, this.#options);
    if (size === undefined) throw new Failure('INVALID', `${where} names the layer ${quote(path)}, which is not there`);
    const compression = await this.#compressionOf(path);
    const layer: Descriptor =
      compression === undefined
        ? { mediaType: MEDIA_TYPE.ociLayer, digest: diffId, size }
        : { mediaType: `${MEDIA_TYPE.ociLayer}+${compression}`, digest: await this.#digestOf(path), size };
    this.#layers.set(key, layer);
    this.paths.set(layer.digest, path);
    return layer;
  }

  async #compressionOf(path: string): Promise<'gzip' | 'zstd' | undefined> {
    const start: number[] = [];
    await this.#again(path, async () => {
      start.length = 0;
      for await (const chunk of await this.#contents.open(path, {
        signal: this.#options.signal,
        from: 0,
        to: MAGIC_BYTES,
      })) {
        start.push(...chunk);
      }
    });
    const compression = compressionOf(Uint8Array.from(start));
    if (compression === 'gzip' || compression === 'zstd' || compression === undefined) return compression;
    throw new Failure(
      'UNSUPPORTED',
      `${this.#contents.describe(path)} is compressed with ${compression}, which images are not`,
    );
  }

  /** The one place where bytes are hashed without a digest to hold them against: there is none in such archives. */
  async #digestOf(path: string): Promise<Digest> {
    const name = /^blobs\/(sha256|sha512)\/([0-9a-f]+)$/.exec(path);
    if (name !== null) return parseDigest(`${name[1]}:${name[2]}`);
    return this.#again(path, async () => {
      const hash = createHash('sha256');
      for await (const chunk of await this.#contents.open(path, { signal: this.#options.signal })) hash.update(chunk);
      return `sha256:${hash.digest('hex')}` as const;
    });
  }

  async #document(path: string, where: string): Promise<Uint8Array> {
    if ((await this.#contents.size(path, this.#options)) === undefined) {
      throw new Failure('INVALID', `${where} names the config ${quote(path)}, which is not there`);
    }
    return readFile(this.#contents, path, MAX_DOCUMENT_BYTES, this.#options);
  }

  async #again<T>(path: string, work: () => Promise<T>): Promise<T> {
    return retry(`read ${this.#contents.describe(path)}`, work, this.#options);
  }
}

/** What `start`, the first bytes of a file, says that it is compressed with. */
export function compressionOf(start: Uint8Array): keyof typeof MAGIC | undefined {
  for (const [name, magic] of Object.entries(MAGIC)) {
    if (magic.every((byte, i) => start[i] === byte)) return name as keyof typeof MAGIC;
  }
  return undefined;
}

/** `descriptor` under these names, and those that it had `before`. A name may be a tag, or a whole reference. */
function named(d: Descriptor, names: readonly (string | undefined)[], before: NamedImage | undefined): NamedImage {
  const all = new Set(before?.names);
  const tags = new Set(before?.tags);
  let repository = before?.repository;
  for (const name of names) {
    if (name === undefined) continue;
    all.add(name);
    if (isTag(name)) {
      tags.add(name);
      continue;
    }
    try {
      const reference = parseReference(name);
      all.add(formatReference(reference));
      if (reference.tag !== undefined) tags.add(reference.tag);
      repository ??= formatRepository(reference);
    } catch (error) {
      // a name that means something to whoever wrote it
      if (!isFailure(error, 'INVALID')) throw error;
    }
  }
  const descriptor = withoutNames(d);
  return { descriptor, names: [...all], tags: [...tags], ...(repository === undefined ? {} : { repository }) };
}

/** The descriptor as a registry has it: how a layout annotates it is the layout's affair. */
function withoutNames({ mediaType, digest, size }: Descriptor): Descriptor {
  return { mediaType, digest, size };
}

function diffIdsOf(config: unknown, path: string): readonly Digest[] {
  const rootfs = isRecord(config) ? config['rootfs'] : undefined;
  const diffIds = isRecord(rootfs) ? rootfs['diff_ids'] : undefined;
  if (diffIds === undefined || diffIds === null) return [];
  return inDocument(path, () => strings(diffIds).map(parseDigest));
}

function parseJson(bytes: Uint8Array, where: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new Failure('INVALID', `${where} is not JSON`, { cause });
  }
}

function inDocument<T>(where: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!isFailure(error)) throw error;
    throw new Failure(error.code, `${where}: ${error.message}`, { cause: error });
  }
}

function strings(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
  if (bytes.byteLength > 0) yield bytes;
}
