import { openImage, type ArchivedImage } from '../archive/reader.ts';
import type { Readable, Source } from '../content/content.ts';
import type { Root } from '../content/graph.ts';
import { atVersion } from '../objects/at-version.ts';
import type { ObjectInfo, ObjectStore } from '../objects/objects.ts';
import { isCompressed } from '../oci/archive-key.ts';
import type { Digest } from '../oci/digest.ts';
import type { Descriptor } from '../oci/manifest.ts';
import { contentOf, type ExpandedReferrer } from '../store/expanded.ts';
import type { SnapshotArchive } from '../store/snapshot.ts';
import type { StateImage } from '../store/state.ts';
import { checkAborted } from '../util/abort.ts';
import { atSide, describeFailure, Failure, isFailure } from '../util/failure.ts';
import type { Limit } from '../util/limit.ts';
import type { Backends, OperationOptions } from './backends.ts';

/** Where the images of snapshots are. */
export interface SnapshotPlace {
  /** Where the keys of archives are. */
  readonly store: ObjectStore;
  /** The blobs and manifests of a store. Absent: a place of archives. */
  readonly blobs?: Readable | undefined;
}

/** An image as a snapshot lists it. */
export interface ListedSnapshotImage {
  /** The host of the registry that was backed up. */
  readonly registry: string;
  readonly repository: string;
  readonly image: Omit<StateImage, 'snapshot'>;
}

/** An image of a snapshot, opened to be read. Disposing of it closes its archive. */
export interface OpenedSnapshotImage extends AsyncDisposable {
  /** The image alone, with what refers to it: `referrers` and cosign's tags are as the snapshot lists them. */
  readonly source: Source;
  /** The image, with all its tags. */
  readonly root: Root;
}

/** How compressed archives are read: unpacked to a disk, or by passes over them. */
type Unpacking = Pick<Backends, 'temporary'> | { readonly passes: Limit };

/**
 * Opens an image of a snapshot, wherever it is. Of archives: the object with the recorded ETag, at the key or in the recorded version; or what is at
 * the key now, where that holds the same image. NOT_FOUND where the object is gone and CONFLICT where it holds another image, naming it.
 * UNSUPPORTED for an image that was listed without being backed up. Failures carry the side `source`.
 */
export async function openSnapshotImage(
  place: SnapshotPlace,
  listed: ListedSnapshotImage,
  backends: Unpacking,
  options: OperationOptions,
): Promise<OpenedSnapshotImage> {
  const { image } = listed;
  const name = `${listed.registry}/${listed.repository}@${image.digest}`;
  const root = { descriptor: descriptorOf(image), tags: image.tags };
  try {
    if (image.archived === true)
      throw new Failure(
        'UNSUPPORTED',
        `${name} was in the archive storage class of ECR and was not backed up: back it up with --include-archived`,
      );
    if (image.kind === 'archives') {
      const archive = await openArchived(place.store, listed, backends, options);
      return {
        source: snapshotSource(archive, listed),
        root,
        [Symbol.asyncDispose]: async () => archive[Symbol.asyncDispose](),
      };
    }
    if (place.blobs === undefined)
      throw new Failure('INVALID', `the snapshot of ${name} is one of a store, and it is not in one`);
    return { source: snapshotSource(place.blobs, listed), root, [Symbol.asyncDispose]: async () => undefined };
  } catch (error) {
    throw atSide('source', error);
  }
}

/** The digests of every manifest that the snapshot lists for the image: its own, those below it, and what refers to it. */
export function manifestsOf(image: ListedSnapshotImage['image']): readonly Digest[] {
  const own = contentOf(image).flatMap(({ digest, mediaType }) => (mediaType === undefined ? [] : [digest]));
  return [...new Set([image.digest, ...own, ...image.referrers.map(({ digest }) => digest)])];
}

/** `readable` as the source of one image: what its names stand for, and what refers to it, is as the snapshot lists it. */
function snapshotSource(readable: Readable, { image, registry, repository }: ListedSnapshotImage): Source {
  const named = new Map<string, Descriptor>();
  for (const { digest, size, mediaType } of contentOf(image))
    if (mediaType !== undefined) named.set(digest, { digest, size, mediaType });
  for (const one of [image, ...image.referrers])
    for (const name of [one.digest, ...one.tags]) named.set(name, descriptorOf(one));
  return {
    ...(readable.rangesAtOnce === undefined ? {} : { rangesAtOnce: readable.rangesAtOnce }),
    open: async (descriptor, options) => readable.open(descriptor, options),
    resolve: async (reference, options) => {
      checkAborted(options);
      const found = named.get(reference);
      if (found !== undefined) return found;
      throw new Failure('NOT_FOUND', `the snapshot of ${registry}/${repository} has no ${reference} with this image`);
    },
    referrers: async function* ({ digest }, options) {
      checkAborted(options);
      const [unchecked] = image.unchecked ?? [];
      if (unchecked !== undefined) options?.onRefused?.(unchecked);
      for (const referrer of image.referrers)
        if (referrer.subject === digest && referrer.tags.length === 0) yield descriptorOf(referrer);
    },
    tags: async function* (options) {
      checkAborted(options);
      for (const { tags } of [image, ...image.referrers]) yield* tags;
    },
  };
}

function descriptorOf(one: Pick<ExpandedReferrer, 'digest' | 'mediaType' | 'size' | 'artifactType'>): Descriptor {
  const { digest, mediaType, size, artifactType } = one;
  return { digest, mediaType, size, ...(artifactType === undefined ? {} : { artifactType }) };
}

/** The first of the image's archives that still holds it, plain ones before compressed ones. The failure of the first, where none does. */
async function openArchived(
  store: ObjectStore,
  { image, registry, repository }: ListedSnapshotImage,
  backends: Unpacking,
  options: OperationOptions,
): Promise<ArchivedImage> {
  let first: Failure | undefined;
  const isPacked = ({ key }: SnapshotArchive): number => Number(isCompressed(key));
  for (const archive of (image.archives ?? []).toSorted((a, b) => isPacked(a) - isPacked(b))) {
    try {
      return await openArchive(store, archive, image.digest, backends, options);
    } catch (error) {
      checkAborted(options);
      if (!isFailure(error)) throw error;
      first ??= error;
    }
  }
  if (first !== undefined) throw first;
  throw new Failure(
    'INVALID',
    `the snapshot names no archive of ${registry}/${repository}@${image.digest}: it is broken`,
  );
}

async function openArchive(
  store: ObjectStore,
  archive: SnapshotArchive,
  digest: Digest,
  backends: Unpacking,
  options: OperationOptions,
): Promise<ArchivedImage> {
  const { key, version, etag } = archive;
  const open = async (from: ObjectStore): Promise<ArchivedImage> => {
    const opened = await openImage(from, key, {
      ...options,
      ...('passes' in backends ? backends : { temporary: () => backends.temporary() }),
    });
    if (opened.root.descriptor.digest === digest) return opened;
    await opened[Symbol.asyncDispose]();
    throw new Failure(
      'CONFLICT',
      `${from.describe(key)} was changed since the snapshot: it holds ${opened.root.descriptor.digest}, not ${digest}`,
      { context: { location: from.describe(key) } },
    );
  };
  let current: ObjectInfo | undefined;
  let gone: Failure | undefined;
  try {
    current = await store.stat(key, options);
  } catch (error) {
    if (!isFailure(error, 'NOT_FOUND')) throw error;
    gone = new Failure('NOT_FOUND', `${store.describe(key)} was deleted since the snapshot, which names it`, {
      cause: error,
      context: error.context,
    });
  }
  // the current object needs no permission for versions
  if (current !== undefined && (current.etag === etag || version === undefined)) return open(store);
  if (version === undefined) throw gone ?? new Failure('BUG', `${store.describe(key)} is neither there nor gone`);
  try {
    return await open(atVersion(store, version));
  } catch (error) {
    checkAborted(options);
    if (!isFailure(error)) throw error;
    // written again since, perhaps with the same image
    if (current !== undefined) return open(store);
    throw new Failure(error.code, `${gone?.message}; ${describeFailure(error)}`, {
      cause: error,
      context: error.context,
    });
  }
}
