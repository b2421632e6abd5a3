import { createHash } from 'node:crypto';
import type { ManifestNode } from '../content/graph.ts';
import { digestOf, parseDigest, type Digest } from '../oci/digest.ts';
import { MEDIA_TYPE, parseManifest, type Descriptor } from '../oci/manifest.ts';
import { append } from '../util/lists.ts';
import { isRecord } from '../util/record.ts';
import { retry } from '../util/retry.ts';
import { quote } from '../util/text.ts';
import { failureIn, readFile, type ArchiveFiles, type ArchiveFilesOptions } from './archive-files.ts';
import {
  filesSource,
  inDocument,
  MAX_DOCUMENT_BYTES,
  withNames,
  type FoundImages,
  type NamedImage,
} from './found-images.ts';
import { compressionOf, MAGIC_BYTES } from './magic.ts';
import { safeName } from './tar.ts';

/**
 * The images of a tar that `docker save` made, old or new, or another tool that imitates it: `manifest.json` names a config and layers, plain or
 * compressed, and no digests of what is stored. A manifest is made for each, the same for the same files. Digests of the registry the images came
 * from are lost in such archives.
 */
export async function readDockerArchive(files: ArchiveFiles, options: ArchiveFilesOptions): Promise<FoundImages> {
  const where = files.describe('manifest.json');
  const document = parseJson(
    await readFile(files, 'manifest.json', MAX_DOCUMENT_BYTES, options),
    files,
    'manifest.json',
  );
  if (!Array.isArray(document) || document.length === 0) throw failureIn(files, 'INVALID', `${where} lists no images`);
  const reader = new DockerReader(files, options);
  const manifests = new Map<Digest, ManifestNode>();
  const tags = new Map<string, Descriptor>();
  const images = new Map<Digest, NamedImage>();
  for (const [index, item] of document.entries()) {
    const node = await reader.read(item, `image ${index + 1} in ${where}`);
    const { descriptor } = node;
    manifests.set(descriptor.digest, node);
    const repoTags = isRecord(item) ? strings(item['RepoTags']) : [];
    const image = withNames(descriptor, index, repoTags, images.get(descriptor.digest));
    images.set(descriptor.digest, image);
    for (const name of [...image.names, ...image.tags]) tags.set(name, descriptor);
  }
  const pathOf = (digest: Digest): string | undefined => reader.paths.get(digest);
  return { source: filesSource({ files, manifests, tags, pathOf }), images: [...images.values()] };
}

class DockerReader {
  /** Where the bytes of each digest are. */
  readonly paths = new Map<Digest, string>();
  readonly #files: ArchiveFiles;
  readonly #options: ArchiveFilesOptions;
  /** Layers that images share are looked at once. */
  readonly #layers = new Map<string, Descriptor>();

  constructor(files: ArchiveFiles, options: ArchiveFilesOptions) {
    this.#files = files;
    this.#options = options;
  }

  async read(item: unknown, where: string): Promise<ManifestNode> {
    if (!isRecord(item) || typeof item['Config'] !== 'string')
      throw failureIn(this.#files, 'INVALID', `${where} names no config`);
    const configPath = safeName(item['Config']);
    const configBytes = await this.#document(configPath, where);
    const config = { mediaType: MEDIA_TYPE.ociConfig, digest: digestOf(configBytes), size: configBytes.byteLength };
    this.paths.set(config.digest, configPath);
    const diffIds = diffIdsOf(parseJson(configBytes, this.#files, configPath), configPath);
    const layerPaths = strings(item['Layers']).map(safeName);
    if (diffIds.length !== layerPaths.length) {
      throw failureIn(
        this.#files,
        'INVALID',
        `${where} has ${layerPaths.length} layers, but its config names ${diffIds.length}`,
      );
    }
    const layers: Descriptor[] = [];
    for (const [index, diffId] of diffIds.entries())
      layers.push(await this.#layer(layerPaths[index] ?? '', diffId, where));
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
    const size = await this.#files.size(path, this.#options);
    if (size === undefined)
      throw failureIn(this.#files, 'INVALID', `${where} names the layer ${quote(path)}, which is not there`);
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
      for await (const chunk of await this.#files.open(path, {
        signal: this.#options.signal,
        from: 0,
        to: MAGIC_BYTES,
      })) {
        append(start, chunk);
      }
    });
    const compression = compressionOf(Uint8Array.from(start));
    if (compression === 'gzip' || compression === 'zstd' || compression === undefined) return compression;
    throw failureIn(
      this.#files,
      'UNSUPPORTED',
      `${this.#files.describe(path)} is compressed with ${compression}, which images are not`,
    );
  }

  /** The only code that hashes bytes without a digest to compare with: docker archives do not contain digests. */
  async #digestOf(path: string): Promise<Digest> {
    const name = /^blobs\/(sha256|sha512)\/([0-9a-f]+)$/.exec(path);
    if (name !== null) return parseDigest(`${name[1]}:${name[2]}`);
    return this.#again(path, async () => {
      const hash = createHash('sha256');
      for await (const chunk of await this.#files.open(path, { signal: this.#options.signal })) hash.update(chunk);
      return `sha256:${hash.digest('hex')}` as const;
    });
  }

  async #document(path: string, where: string): Promise<Uint8Array> {
    if ((await this.#files.size(path, this.#options)) === undefined) {
      throw failureIn(this.#files, 'INVALID', `${where} names the config ${quote(path)}, which is not there`);
    }
    return readFile(this.#files, path, MAX_DOCUMENT_BYTES, this.#options);
  }

  async #again<T>(path: string, work: () => Promise<T>): Promise<T> {
    return retry(`read ${this.#files.describe(path)}`, work, this.#options);
  }
}

function diffIdsOf(config: unknown, path: string): readonly Digest[] {
  const rootfs = isRecord(config) ? config['rootfs'] : undefined;
  const diffIds = isRecord(rootfs) ? rootfs['diff_ids'] : undefined;
  if (diffIds === undefined || diffIds === null) return [];
  return inDocument(path, undefined, () => strings(diffIds).map(parseDigest));
}

function parseJson(bytes: Uint8Array, files: ArchiveFiles, name: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw failureIn(files, 'INVALID', `${files.describe(name)} is not JSON`, { cause });
  }
}

function strings(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}
