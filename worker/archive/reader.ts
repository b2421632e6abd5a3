import type { Source } from '../content/content.ts';
import type { Graph, ManifestNode, Root } from '../content/graph.ts';
import { openFiles } from '../objects/files/store.ts';
import type { ObjectInfo, ObjectStore } from '../objects/objects.ts';
import type { Digest } from '../oci/digest.ts';
import { ANNOTATION, type Descriptor } from '../oci/manifest.ts';
import { Failure, isFailure } from '../util/failure.ts';
import { retry } from '../util/retry.ts';
import { unpacked, type Compression } from './compressed-writer.ts';
import { folderFiles, openTar, type ArchiveFiles, type ArchiveFilesOptions, type TarFiles } from './archive-files.ts';
import { readDockerArchive } from './docker-archive.ts';
import { chooseImage, type FoundImages, type NamedImage } from './found-images.ts';
import { compressionOf, MAGIC_BYTES } from './magic.ts';
import { readOciLayout, type OciImages } from './oci-layout.ts';
import {
  blobPath,
  endOf,
  imageName,
  planArchive,
  type ArchiveLayout,
  type ArchiveNames,
  type LayoutEntry,
} from './plan.ts';
import type { TarEntry } from './tar.ts';

/** An image in an archive or folder, and a Source of everything that is there. */
export interface ArchivedImage extends Source, AsyncDisposable {
  /** The image that was asked for, with the tags that it calls itself. */
  readonly root: Root;
  /** `registry/repository`, as it calls itself; undefined when it does not say. */
  readonly repository: string | undefined;
  /** The digest of the layout of an archive in our own format: an equal layout makes the same archive. Undefined for all others. */
  readonly layoutDigest: Digest | undefined;
  /** Every image there. */
  readonly images: readonly NamedImage[];
}

export interface OpenImageOptions extends ArchiveFilesOptions {
  /** Which image, by its tag, name or `@index`. Default: the only one. */
  readonly tag?: string | undefined;
  /** A folder for as long as it is held. Compressed archives cannot be read in place: without it they are UNSUPPORTED. */
  readonly temporary?: (() => Promise<{ readonly path: string } & AsyncDisposable>) | undefined;
  /** The most that a compressed archive may unpack to. Default 256 GiB. */
  readonly maxUnpackedBytes?: number | undefined;
}

const DEFAULT_MAX_UNPACKED_BYTES = 256 * 1024 ** 3;

/**
 * Opens the image in the object at `key`, whatever made it: an archive of this program, an OCI archive, what `docker save` made, any of them
 * compressed with gzip or zstd; or, where `key` is empty, in the OCI layout folder that `store` is. Of an archive of ours one range is read,
 * of others the headers only. Contents are not verified here: reading them does that.
 *
 * NOT_FOUND when there is nothing, or no image of the tag; INVALID for what is no archive of an image, or one that could mislead; CORRUPT
 * for one that is cut off or damaged; UNSUPPORTED for forms that are not read. Each names the archive.
 */
export async function openImage(
  store: ObjectStore,
  key: string,
  options: OpenImageOptions = {},
): Promise<ArchivedImage> {
  if (key === '') {
    const files = folderFiles(store);
    return choose(await readOciLayout(files, options), files, undefined, options);
  }
  const info = await store.stat(key, options);
  const location = store.describe(key);
  try {
    const tar = await openTar(store, info, { ...options, name: location });
    const compression = await compressionIn(tar);
    if (compression === undefined) return await openPlain(tar, options);
    if (options.temporary === undefined) {
      throw new Failure(
        'UNSUPPORTED',
        `it is compressed with ${compression}, so it cannot be read in place: unpack it first`,
      );
    }
    const folder = await options.temporary();
    try {
      const folderStore = openFiles(folder.path);
      const limit = options.maxUnpackedBytes ?? DEFAULT_MAX_UNPACKED_BYTES;
      const unpack = async (): Promise<ObjectInfo> => {
        const body = await store.read(key, { signal: options.signal, ifMatch: info.etag });
        return folderStore.stream('archive.tar', unpacked(body, compression, limit), { signal: options.signal });
      };
      const plain = await retry(`unpack ${location}`, unpack, options);
      return await openPlain(await openTar(folderStore, plain, { ...options, name: location }), options, folder);
    } catch (error) {
      await folder[Symbol.asyncDispose]();
      throw error;
    }
  } catch (error) {
    if (!isFailure(error) || error.context.location === location) throw error;
    const context = { ...error.context, location };
    throw new Failure(error.code, `open ${location}: ${error.message}`, { cause: error.cause, context });
  }
}

async function openPlain(tar: TarFiles, options: OpenImageOptions, space?: AsyncDisposable): Promise<ArchivedImage> {
  if (tar.length === 0) throw new Failure('INVALID', 'it is empty, not an archive of an image');
  if ((await tar.size('index.json', options)) !== undefined) {
    const found = await readOciLayout(tar, options);
    const layout = await plannedAs(found, tar);
    if (layout !== undefined) tar.replaceEntries(layout.entries.map(toTarEntry));
    return choose(found, tar, layout, options, space);
  }
  if ((await tar.size('manifest.json', options)) !== undefined) {
    return choose(await readDockerArchive(tar, options), tar, undefined, options, space);
  }
  if ((await tar.size('repositories', options)) !== undefined) {
    throw new Failure(
      'UNSUPPORTED',
      'it was made by a docker before 1.10, which is not read: load it into docker and save it again',
    );
  }
  throw new Failure(
    'INVALID',
    'it is a tar, but not an archive of an image: it has neither index.json nor manifest.json',
  );
}

function choose(
  found: FoundImages,
  files: ArchiveFiles,
  layout: ArchiveLayout | undefined,
  options: OpenImageOptions,
  space?: AsyncDisposable,
): ArchivedImage {
  const { source, images } = found;
  const image = chooseImage(images, options.tag, files);
  return {
    ...source,
    root: { descriptor: image.descriptor, tags: image.tags },
    repository: image.repository,
    layoutDigest: layout?.digest,
    images,
    [Symbol.asyncDispose]: async () => space?.[Symbol.asyncDispose](),
  };
}

/**
 * The layout by which this program would have made the tar, when it did: what the plan knows is there byte for byte, and the size is the
 * planned one. Then the plan says where everything is. Undefined for a tar made otherwise; CORRUPT when the end of one of ours is missing.
 */
async function plannedAs(
  { index, referrers, manifests }: OciImages,
  tar: TarFiles,
): Promise<ArchiveLayout | undefined> {
  const [entry, ...others] = index.manifests;
  const names = entry === undefined ? undefined : namesOf(entry);
  if (entry === undefined || names === undefined || others.length > 0) return undefined;
  const placed: { readonly node: ManifestNode; readonly offset: number }[] = [];
  for (const node of manifests.values()) {
    const file = await tar.find(blobPath(node.descriptor.digest));
    if (file === undefined) return undefined;
    placed.push({ node, offset: file.headerOffset });
  }
  placed.sort((a, b) => a.offset - b.offset);
  const graph: Graph = {
    roots: [{ descriptor: entry, tags: [] }],
    referrers,
    unreadable: [],
    manifests: new Map(placed.map(({ node }) => [node.descriptor.digest, node])),
  };
  const layout = planArchive(graph, names);
  for (const planned of layout.entries) {
    if (planned.offset >= layout.headSize) break;
    // of configs, which are in the head too, the contents are verified when they are read
    const expected =
      planned.bytes === undefined
        ? planned.header
        : Buffer.concat([planned.header, planned.bytes], endOf(planned) - planned.offset);
    if (planned.offset + expected.byteLength > tar.length) break;
    if (Buffer.compare(await tar.readAt(planned.offset, expected.byteLength), expected) !== 0) return undefined;
  }
  if (tar.length < layout.size) {
    throw new Failure('CORRUPT', `it is cut off: it has ${tar.length} of ${layout.size} bytes`);
  }
  return tar.length === layout.size ? layout : undefined;
}

/** What the archive was planned with, from the one entry of its index. Undefined for an index that is not written so. */
function namesOf(entry: Descriptor): ArchiveNames | undefined {
  const tag = entry.annotations?.[ANNOTATION.refName];
  const name = entry.annotations?.[ANNOTATION.imageName];
  const end = imageName({ tag, repository: '' }, entry.digest);
  return name?.endsWith(end) === true ? { tag, repository: name.slice(0, -end.length) } : undefined;
}

async function compressionIn(tar: TarFiles): Promise<Compression | undefined> {
  const compression = compressionOf(await tar.readAt(0, Math.min(MAGIC_BYTES, tar.length)));
  if (compression === undefined || compression === 'gzip' || compression === 'zstd') return compression;
  throw new Failure('UNSUPPORTED', `it is compressed with ${compression}: unpack it first`);
}

function toTarEntry(entry: LayoutEntry): TarEntry {
  const { name, size } = entry;
  return {
    name,
    kind: 'file',
    headerOffset: entry.offset,
    offset: entry.offset + entry.header.byteLength,
    size,
    linkName: '',
  };
}
