import { basename, dirname } from 'node:path';
import { openImage, type ArchivedImage } from '../archive/reader.ts';
import type { ResolveOptions } from '../content/content.ts';
import type { Root } from '../content/graph.ts';
import type { ObjectStore } from '../objects/objects.ts';
import { formatRepository } from '../oci/reference.ts';
import { atSide, type Side } from '../util/failure.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { withNearestTags } from './missing-tag.ts';
import type { OpenedImage } from './opened-image.ts';
import { isStandardInput, type Location } from '../oci/location.ts';

/** Finds the image at `location`. Failures carry `side`. */
export async function openLocation(
  backends: Backends,
  location: Location,
  side: Side,
  options: OperationOptions & Pick<ResolveOptions, 'willRead'>,
): Promise<OpenedImage> {
  try {
    if (location.transport === 'docker') {
      const { registry, repository, tag, digest } = location.reference;
      const source = backends.registry(registry, side).repository(repository);
      const descriptor = await source.resolve(digest ?? tag ?? 'latest', options).catch(async (error: unknown) => {
        throw await withNearestTags(error, location.reference, source, options);
      });
      const root: Root = { descriptor, tags: tag === undefined ? [] : [tag] };
      return {
        source,
        root,
        repository: formatRepository(location.reference),
        [Symbol.asyncDispose]: async () => undefined,
      };
    }
    if (location.transport === 'store') {
      const { openStoredImage } = await import('./open-stored-image.ts');
      return await openStoredImage(location, backends, options);
    }
    const { store, key } =
      location.transport === 'archive' && isStandardInput(location.path)
        ? await backends.standardStreams.input(options)
        : storeOf(backends, location);
    return fromArchive(
      await openImage(store, key, { ...options, tag: location.tag, temporary: () => backends.temporary() }),
    );
  } catch (error) {
    throw atSide(side, error);
  }
}

/** The store and key of an archive or layout folder. */
export function storeOf(
  backends: Pick<Backends, 'bucket' | 'folder'>,
  location: Exclude<Location, { transport: 'docker' | 'store' }>,
): { readonly store: ObjectStore; readonly key: string } {
  switch (location.transport) {
    case 's3':
      return { store: backends.bucket(location.bucket), key: location.key };
    case 'archive':
      return { store: backends.folder(dirname(location.path)), key: basename(location.path) };
    case 'oci':
      return { store: backends.folder(location.folder), key: '' };
    default:
      return location satisfies never;
  }
}

export function fromArchive(image: ArchivedImage): OpenedImage {
  return {
    source: image,
    root: image.root,
    repository: image.repository,
    settingsDigest: image.settingsDigest,
    layoutDigest: image.layoutDigest,
    compare: async (options) => image.compare(options),
    [Symbol.asyncDispose]: () => image[Symbol.asyncDispose](),
  };
}
