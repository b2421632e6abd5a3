import type { Source } from '../content/content.ts';
import type { Root } from '../content/graph.ts';
import { openFiles } from '../objects/files/store.ts';
import type { ObjectInfo, ObjectStore } from '../objects/objects.ts';
import type { Digest } from '../oci/digest.ts';
import type { Abortable } from '../util/abort.ts';
import type { Limit } from '../util/limit.ts';
import { Failure, isFailure } from '../util/failure.ts';
import { retry } from '../util/retry.ts';
import { hasGzipHeader, hasGzipSize, isOneFrame } from './compressed-check.ts';
import { unpacked, type Compression } from './compressed-writer.ts';
import { folderFiles, openTar, type ArchiveFiles, type ArchiveFilesOptions, type TarFiles } from './archive-files.ts';
import { compareWithPlan, hasPlannedHead, planFound, type ArchiveComparison } from './compare-with-plan.ts';
import { openPacked, type PackedObject } from './packed-object.ts';
import { readDockerArchive } from './docker-archive.ts';
import { chooseImage, type FoundImages, type NamedImage } from './found-images.ts';
import { compressionOf, MAGIC_BYTES } from './magic.ts';
import { hasPlanMetadata, isUnlisted, settingsDigestIn } from './metadata.ts';
import { checkLayoutVersion, readOciLayout } from './oci-layout.ts';
import type { ArchiveLayout, LayoutEntry } from './plan.ts';
import type { TarEntry } from './tar.ts';
import { lookedAt, unpackLimit, type TemporaryFolder } from './unpack.ts';

/** An image in an archive or folder, and a Source of everything that is there. */
export interface ArchivedImage extends Source, AsyncDisposable {
  /** The image that was asked for, with the tags that it calls itself. */
  readonly root: Root;
  /** `registry/repository`, as it calls itself; undefined when it does not name itself. */
  readonly repository: string | undefined;
  /** The digest of the layout of an archive in our own format: an equal layout makes the same archive. Undefined for all others. */
  readonly layoutDigest: Digest | undefined;
  /** The layout of an archive in our own format, where the object holds it as it is: offsets are those of the object. Undefined for all others. */
  readonly layout: ArchiveLayout | undefined;
  /** The digest of the `repository.json` that it was written with, from its metadata; undefined when the metadata does not name it. */
  readonly settingsDigest: string | undefined;
  /** Every image there. */
  readonly images: readonly NamedImage[];
  /** Compares an archive, apart from the content of its manifests and blobs, with its plan. In a folder it checks `oci-layout`. */
  compare(options?: Abortable): Promise<ArchiveComparison>;
}

export interface OpenImageOptions extends ArchiveFilesOptions {
  /** Which image, by its tag, name or `@index`. Default: the only one. */
  readonly tag?: string | undefined;
  /** Compressed archives cannot be read in place: without `temporary` or `passes` they are UNSUPPORTED. */
  readonly temporary?: (() => Promise<TemporaryFolder>) | undefined;
  /** How many passes over compressed archives there are at once, for readers that unpack none to a disk: each range of one is a pass. */
  readonly passes?: Limit | undefined;
  /** The most that a compressed archive may unpack to, whatever its size. Default 256 GiB. */
  readonly maxUnpackedBytes?: number | undefined;
}

/**
 * Opens the image in the object at `key`, whatever made it: an archive of this program, an OCI archive, what `docker save` made, any of them
 * compressed with gzip or zstd; or, where `key` is empty, in the OCI layout folder that `store` is. For an archive of ours one range is read, for
 * others the headers only. Contents are not verified here: reading them does that.
 *
 * NOT_FOUND when there is nothing, or no image of the tag; INVALID for what is not an archive of an image, or one that could mislead; CORRUPT for one
 * that is cut off or damaged; UNSUPPORTED for forms that are not read. Each names the archive.
 */
export async function openImage(
  store: ObjectStore,
  key: string,
  options: OpenImageOptions = {},
): Promise<ArchivedImage> {
  if (key === '') {
    const files = folderFiles(store);
    const compare = async (compareOptions: Abortable = {}): Promise<ArchiveComparison> => ({
      complete: true,
      faults: await layoutFaults(files, compareOptions),
    });
    return choose({ found: await readOciLayout(files, options), files, compare }, options);
  }
  const info = await store.stat(key, options);
  const location = store.describe(key);
  try {
    const tar = await openTar(store, info, { ...options, name: location });
    const compression = await compressionIn(tar);
    if (compression === undefined) return await openPlain(tar, info, options);
    return await openCompressed({ store, tar, info, compression }, options);
  } catch (error) {
    if (!isFailure(error) || error.context.location === location) throw error;
    const context = { ...error.context, location };
    throw new Failure(error.code, `open ${location}: ${error.message}`, { cause: error.cause, context });
  }
}

interface CompressedTar {
  readonly store: ObjectStore;
  /** The object as it is. */
  readonly tar: TarFiles;
  readonly info: ObjectInfo;
  readonly compression: Compression;
}

/** Opens a compressed archive by passes over it, or unpacked to a disk. UNSUPPORTED where neither is given. */
async function openCompressed(of: CompressedTar, options: OpenImageOptions): Promise<ArchivedImage> {
  const { store, tar, info, compression } = of;
  const { passes, temporary } = options;
  const name = tar.describe();
  if (passes !== undefined) {
    const limit = unpackLimit(info.size, undefined, options.maxUnpackedBytes);
    const open = async (): Promise<PackedObject> => openPacked({ store, info, compression, limit, passes }, options);
    const packed = await retry(`read ${name}`, open, options);
    return openPlain(await openTar(packed, packed.info, { ...options, name }), info, options, { faults: [] });
  }
  if (temporary === undefined)
    throw new Failure(
      'UNSUPPORTED',
      `it is compressed with ${compression}, so it cannot be read in place: unpack it first`,
    );
  const folder = await temporary();
  try {
    return await openUnpacked(of, folder, options);
  } catch (error) {
    await folder[Symbol.asyncDispose]();
    throw error;
  }
}

/** Unpacks it to `folder`, which the image keeps. */
async function openUnpacked(
  { store, tar, info, compression }: CompressedTar,
  folder: TemporaryFolder,
  options: OpenImageOptions,
): Promise<ArchivedImage> {
  const name = tar.describe();
  const folderStore = openFiles(folder.path);
  const limit = unpackLimit(info.size, folder, options.maxUnpackedBytes);
  const nextFrames: number[] = [];
  const unpack = async (): Promise<ObjectInfo> => {
    nextFrames.length = 0;
    const body = await store.read(info.key, { signal: options.signal, ifMatch: info.etag });
    const looked = lookedAt(unpacked(body, compression, { onNextFrame: (offset) => nextFrames.push(offset) }), limit);
    return folderStore.stream('archive.tar', looked, { signal: options.signal });
  };
  const plain = await retry(`unpack ${name}`, unpack, options);
  const unpackedTar = await openTar(folderStore, plain, { ...options, name });
  return openPlain(unpackedTar, info, options, {
    folder,
    faults: hasPlanMetadata(info.metadata) ? await packedFaults(tar, compression, nextFrames, plain.size) : [],
  });
}

/** What is wrong with the compressed form of an archive of ours, which unpacks all the same. Other programs write other headers, and several frames. */
async function packedFaults(
  tar: TarFiles,
  compression: Compression,
  nextFrames: readonly number[],
  unpackedBytes: number,
): Promise<readonly string[]> {
  if (compression === 'zstd')
    return (await isOneFrame(tar, nextFrames)) ? [] : [`more than one frame is in the zstd data of ${tar.describe()}`];
  const faults: string[] = [];
  if (!(await hasGzipHeader(tar)))
    faults.push(`the gzip header of ${tar.describe()} is not the one that every archive of Transship has`);
  if (!(await hasGzipSize(tar, unpackedBytes)))
    faults.push(`bytes follow the end of the gzip data of ${tar.describe()}`);
  return faults;
}

/** Where a compressed archive was unpacked, unless it is read by passes, and what is wrong with its compressed form. */
interface Unpacked {
  readonly folder?: AsyncDisposable;
  readonly faults: readonly string[];
}

/** `info` describes the object, from which `tar` may have been unpacked. */
async function openPlain(
  tar: TarFiles,
  info: ObjectInfo,
  options: OpenImageOptions,
  from?: Unpacked,
): Promise<ArchivedImage> {
  const space = from?.folder;
  const compared = async (plan: ArchiveLayout | undefined, compareOptions?: Abortable): Promise<ArchiveComparison> => {
    const { complete, faults } = await compareWithPlan(plan, tar, info.metadata, compareOptions);
    return { complete, faults: [...(from?.faults ?? []), ...faults] };
  };
  if (tar.length === 0) throw new Failure('INVALID', 'it is empty, not an archive of an image');
  if ((await tar.size('index.json', options)) !== undefined) {
    const found = await readOciLayout(tar, options);
    const plan = await planFound(found, tar);
    const isPlanned = plan !== undefined && (await hasPlannedHead(plan, tar));
    if (isPlanned) tar.replaceEntries(plan.entries.map(toTarEntry));
    const compare: ArchivedImage['compare'] = async (compareOptions) => compared(plan, compareOptions);
    const layout = isPlanned ? plan : undefined;
    return choose(
      { found, files: tar, layout, isPacked: from !== undefined, metadata: info.metadata, space, compare },
      options,
    );
  }
  if ((await tar.size('manifest.json', options)) !== undefined) {
    const compare: ArchivedImage['compare'] = async (compareOptions) => compared(undefined, compareOptions);
    return choose({ found: await readDockerArchive(tar, options), files: tar, space, compare }, options);
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

/** An archive or folder that was opened. */
interface Opened {
  readonly found: FoundImages;
  readonly files: ArchiveFiles;
  readonly layout?: ArchiveLayout | undefined;
  /** Whether the object holds it compressed. */
  readonly isPacked?: boolean;
  readonly metadata?: ObjectInfo['metadata'] | undefined;
  /** The folder that it was unpacked to. */
  readonly space?: AsyncDisposable | undefined;
  readonly compare: ArchivedImage['compare'];
}

function choose(
  { found, files, layout, isPacked = false, metadata, space, compare }: Opened,
  options: OpenImageOptions,
): ArchivedImage {
  const { source, images } = found;
  const image = chooseImage(images, options.tag, files);
  return {
    ...(metadata !== undefined && isUnlisted(metadata) ? refusing(source) : source),
    root: { descriptor: image.descriptor, tags: image.tags },
    repository: image.repository,
    layoutDigest: layout?.digest,
    layout: isPacked ? undefined : layout,
    settingsDigest: metadata === undefined ? undefined : settingsDigestIn(metadata),
    images,
    compare,
    [Symbol.asyncDispose]: async () => space?.[Symbol.asyncDispose](),
  };
}

/** `source` of an archive whose own source did not list all that may refer to the image. */
function refusing(source: Source): Source {
  return {
    ...source,
    referrers: (descriptor, options) => {
      options?.onRefused?.('when the archive was written, its source did not list all of it, or there was too much');
      return source.referrers(descriptor, options);
    },
  };
}

/** What is wrong with the `oci-layout` of a folder: no digest covers that file, and no reader needs it. */
async function layoutFaults(files: ArchiveFiles, options: Abortable): Promise<readonly string[]> {
  try {
    await checkLayoutVersion(files, options);
    return [];
  } catch (error) {
    if (!isFailure(error, 'NOT_FOUND', 'INVALID', 'UNSUPPORTED')) throw error;
    return [error.message];
  }
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
