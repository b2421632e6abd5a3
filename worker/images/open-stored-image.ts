import type { Digest } from '../oci/digest.ts';
import { formatLocation, type StoreLocation } from '../oci/location.ts';
import { isManifestType } from '../oci/manifest.ts';
import { parseStoreRoot } from '../oci/place.ts';
import { formatRepository } from '../oci/reference.ts';
import { contentOf } from '../store/expanded.ts';
import { readState } from '../store/read-state.ts';
import type { State, StateImage, StateRepository } from '../store/state.ts';
import { Failure } from '../util/failure.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { openBackups } from './open-backups.ts';
import type { PlaceBackends } from './open-place.ts';
import type { OpenedImage } from './opened-image.ts';
import { openSnapshotImage } from './snapshot-image.ts';

/**
 * Opens one image of a store, as the newest snapshots have it: by its tag, or by the digest of any manifest that they list. NOT_FOUND without it;
 * INVALID where the name leaves out its registry and the store has that repository of several.
 */
export async function openStoredImage(
  location: StoreLocation,
  backends: PlaceBackends & Pick<Backends, 'temporary'>,
  options: OperationOptions,
): Promise<OpenedImage> {
  const { place, image: name } = location;
  const text = `store:${place}`;
  const root = parseStoreRoot(place, text);
  const { snapshots, images } = await openBackups({ kind: 'store', text, root }, backends, options);
  const { registry, tag, digest } = name;
  const { signal } = options;
  const state = await readState(snapshots, { registry, repositories: [name.repository], signal });
  const repository = repositoryIn(state, location);
  const found = digest === undefined ? byTag(repository, tag ?? 'latest') : byDigest(repository, digest);
  if (found === undefined)
    throw new Failure(
      'NOT_FOUND',
      `no snapshot has ${formatLocation(location)}: \`transship list ${text}\` prints what the store has`,
      { context: { location: formatLocation(location) } },
    );
  const host = repository.registry.host;
  const opened = await openSnapshotImage(
    images,
    { registry: host, repository: repository.name, image: found },
    backends,
    options,
  );
  const tags = digest === undefined ? [tag ?? 'latest'] : tag === undefined ? [] : [tag];
  const wanted = digest ?? found.digest;
  return {
    source: opened.source,
    root: { descriptor: await opened.source.resolve(wanted, options), tags },
    repository: formatRepository({ registry: host, repository: repository.name }),
    [Symbol.asyncDispose]: async () => opened[Symbol.asyncDispose](),
  };
}

function repositoryIn({ repositories }: State, { place, image }: StoreLocation): StateRepository {
  const named = repositories.filter(
    ({ name, registry: { host } }) => name === image.repository && (image.registry ?? host) === host,
  );
  const [found, ...others] = named;
  const name = image.registry === undefined ? image.repository : `${image.registry}/${image.repository}`;
  if (found === undefined)
    throw new Failure(
      'NOT_FOUND',
      `no snapshot of store:${place} has the repository ${name}: \`transship list store:${place}\` prints those that there are`,
    );
  if (others.length === 0) return found;
  const hosts = named.map(({ registry }) => registry.host);
  throw new Failure(
    'INVALID',
    `store:${place} has ${name} of ${hosts.length} registries: write store:${place}:HOST/${name} with one of ${hosts.join(', ')}`,
  );
}

function byTag({ images }: StateRepository, tag: string): StateImage | undefined {
  for (const image of images) {
    if (image.tags.includes(tag)) return image;
    const referrer = image.referrers.find(({ tags }) => tags.includes(tag));
    // a signature counts as an image if it is the one requested
    if (referrer !== undefined) return { ...image, ...referrer, tags: [tag], referrers: [] };
  }
  return undefined;
}

/** The image with this digest, or the one that a manifest with this digest belongs to. */
function byDigest({ images }: StateRepository, digest: Digest): StateImage | undefined {
  const isManifest = (image: StateImage): boolean =>
    contentOf(image).some((one) => one.digest === digest && isManifestType(one.mediaType ?? ''));
  return images.find((image) => image.digest === digest) ?? images.find(isManifest);
}
