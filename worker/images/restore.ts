import { posix } from 'node:path';
import type { ObjectStore } from '../objects/objects.ts';
import { archiveKindOf, SETTINGS_NAME } from '../oci/archive-key.ts';
import type { Digest } from '../oci/digest.ts';
import { parseRepository, type Reference } from '../oci/reference.ts';
import { checkAborted } from '../util/abort.ts';
import { atSide, describeFailure, Failure, isFailure } from '../util/failure.ts';
import { isNamedByKey } from './archive-name.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { collectFaults, type Faults } from './faults.ts';
import { noArchiveBelow } from './open-place.ts';
import { openLocation } from './open-location.ts';
import {
  formatLocation,
  parseDestination,
  parseLocation,
  parseRegistryTarget,
  parseS3,
  type Location,
  type RegistryTarget,
} from '../oci/location.ts';
import type { ImageChoices, ImageCopyRequest } from './copy-image.ts';
import { copyImages, type BatchResult } from './copy-images.ts';
import {
  SettingsRestore,
  type MissingSettings,
  type SettingsChoices,
  type StoredSettings,
} from './restore-settings.ts';

export interface RestoreRequest extends Omit<ImageChoices, 'force' | 'keepExisting'>, SettingsChoices {
  /** An archive, or a prefix ending in `/` (also `s3://bucket`) for every archive below it. */
  readonly from: string;
  /** `docker://host/repository[:tag]` for one archive; `docker://host[/prefix]` to keep the names that the images had. */
  readonly to: string;
  /** Also restores archives below a prefix whose keys do not name the image that they hold. Default false. */
  readonly trustNames?: boolean | undefined;
}

/** An image to restore. */
interface Wanted extends Omit<Destination, 'to'> {
  readonly request: ImageCopyRequest;
  /** The key of the settings beside the archive, where some are. */
  readonly settings: string | undefined;
}

/**
 * Puts archived images into a registry, digests unchanged, from the archives alone: the settings of the repositories that it creates first,
 * then each image with what refers to it. What is there already costs no layer. One failure does not stop the others.
 */
export async function restore(
  request: RestoreRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<BatchResult> {
  // input that can never work fails once, before anything is listed
  if (registryTargetOf(request.to, prefixOf(request.from, backends) !== undefined) === undefined)
    parseDestination(request.to);
  if (prefixOf(request.from, backends) === undefined) checkOneArchive(request);
  const found = await archivesOf(request.from, backends, options);
  const wanted: Wanted[] = [];
  const faults = collectFaults(options.report);
  for (const { location: from, settings } of found.archives) {
    try {
      const { to, ...image } = await destinationOf(from, request.to, found.prefix, backends, options);
      if (image.calledItself !== undefined && found.prefix !== undefined && request.trustNames !== true)
        checkNamedByKey(from, found.prefix.path, image.calledItself);
      wanted.push({ request: { ...request, from, to }, ...image, settings });
    } catch (error) {
      checkAborted(options);
      if (!isFailure(error) || found.prefix === undefined) throw error;
      faults.add(`${formatLocation(from)}: ${describeFailure(error)}`);
    }
  }
  if (found.prefix !== undefined) {
    const settings = new SettingsRestore(request, backends, faults, options);
    const { stored, missing } = settingsOf(wanted, found.prefix.store);
    for (const one of missing) await settings.warnOfMissing(one);
    for (const one of stored) await settings.apply(one);
    settings.finish();
  }
  const items = await copyImages(withoutRivals(wanted, faults), backends, options);
  return { items, faults: faults.messages };
}

/** INVALID for choices about settings, which lie beside the archives of a prefix and are not restored with one archive. */
function checkOneArchive({ from, settings, allowForeignGrants }: RestoreRequest): void {
  if (settings !== 'replace' && allowForeignGrants !== true) return;
  const flag = settings === 'replace' ? '--settings replace' : '--allow-foreign-grants';
  throw new Failure(
    'INVALID',
    `${from} is one archive, of which no settings are restored: leave out ${flag}, or restore the prefix that it is in`,
  );
}

/**
 * The settings beside archives, with what the archives say of them: those of each repository that is restored to, the last where it has several,
 * which `{date}` makes the newest. `missing`: repositories without any whose archives name some.
 */
function settingsOf(
  wanted: readonly Wanted[],
  store: ObjectStore,
): { readonly stored: readonly StoredSettings[]; readonly missing: readonly MissingSettings[] } {
  const stored: StoredSettings[] = [];
  const missing: MissingSettings[] = [];
  const byRepository = Map.groupBy(wanted, ({ request: { to } }) =>
    to.transport === 'docker' ? to.reference.repository : '',
  );
  for (const archives of byRepository.values()) {
    const beside = Map.groupBy(archives, ({ settings }) => settings);
    const key = [...beside.keys()].findLast((one) => one !== undefined);
    const of = (key === undefined ? archives : beside.get(key)) ?? [];
    const named = of.flatMap(({ settingsDigest }) => settingsDigest ?? []);
    const [first] = of;
    if (first?.calledItself === undefined || first.request.to.transport !== 'docker') continue;
    const to = first.request.to.reference;
    const places = beside.size - (beside.has(undefined) ? 1 : 0);
    if (key !== undefined) stored.push({ store, key, to, calledItself: first.calledItself, named, places });
    else if (named.length > 0) missing.push({ to, named });
  }
  return { stored, missing };
}

/** Leaves out archives that hold different images of one name: only the caller knows which one is meant. */
function withoutRivals(wanted: readonly Wanted[], faults: Faults): readonly ImageCopyRequest[] {
  const requests: ImageCopyRequest[] = [];
  for (const [name, rivals] of Map.groupBy(wanted, ({ request: { to } }) => formatLocation(to))) {
    if (new Set(rivals.map(({ digest }) => digest)).size === 1)
      for (const { request } of rivals) requests.push(request);
    else {
      const all = rivals.map((rival) => formatLocation(rival.request.from)).join(', ');
      faults.add(`${name} was not restored: ${all} hold different images of that name; restore the one that is meant`);
    }
  }
  return requests;
}

interface FoundArchives {
  /** Each with the key of the settings that lie beside it, where some do. */
  readonly archives: readonly { readonly location: Location; readonly settings?: string | undefined }[];
  /** The prefix that was asked for; undefined for one archive. */
  readonly prefix: Prefix | undefined;
}

/** Every archive below a place. */
interface Prefix {
  readonly store: ObjectStore;
  /** The prefix of keys within the store. */
  readonly key: string;
  /** What the path or key of each of its locations begins with. */
  readonly path: string;
  readonly locate: (key: string) => Location;
}

/** The archives that `from` stands for. NOT_FOUND where it stands for none. */
async function archivesOf(from: string, backends: Backends, options: OperationOptions): Promise<FoundArchives> {
  const prefix = prefixOf(from, backends);
  if (prefix === undefined) {
    const location = parseLocation(from);
    if (location.transport === 'docker') {
      throw new Failure('INVALID', `${from} is an image of a registry, not an archive; use transship copy for that`, {
        context: { side: 'source' },
      });
    }
    return { archives: [{ location }], prefix: undefined };
  }
  const archives: string[] = [];
  const settings = new Set<string>();
  try {
    for await (const { key } of prefix.store.list(prefix.key, options)) {
      if (archiveKindOf(key) !== undefined) archives.push(key);
      else if (key === SETTINGS_NAME || key.endsWith(`/${SETTINGS_NAME}`)) settings.add(key);
    }
  } catch (error) {
    throw atSide('source', error);
  }
  if (archives.length === 0) {
    throw await noArchiveBelow(from, { store: prefix.store, prefix: prefix.key }, 'source', options);
  }
  return {
    archives: archives.map((key) => {
      const beside = posix.join(posix.dirname(key), SETTINGS_NAME);
      return { location: prefix.locate(key), settings: settings.has(beside) ? beside : undefined };
    }),
    prefix,
  };
}

function prefixOf(from: string, backends: Backends): Prefix | undefined {
  if (from.startsWith('s3://')) {
    const { bucket, key } = parseS3(from);
    if (key !== '' && !key.endsWith('/')) return undefined;
    return {
      store: backends.bucket(bucket),
      key,
      path: key,
      locate: (found) => ({ transport: 's3', bucket, key: found }),
    };
  }
  const folder = /^(?:oci-archive:|(?=\.{0,2}\/))(.*\/)$/.exec(from)?.[1];
  if (folder === undefined) return undefined;
  return {
    store: backends.folder(folder),
    key: '',
    path: folder,
    locate: (found) => ({ transport: 'archive', path: `${folder}${found}` }),
  };
}

interface Destination {
  readonly to: Location;
  /** The image as the archive names it; absent where one archive alone is restored under a name that the caller gives. */
  readonly calledItself?: Reference;
  readonly digest?: Digest;
  /** The digest of the settings that the archive names. */
  readonly settingsDigest?: string | undefined;
}

async function destinationOf(
  from: Location,
  to: string,
  prefix: Prefix | undefined,
  backends: Backends,
  options: OperationOptions,
): Promise<Destination> {
  const target = registryTargetOf(to, prefix !== undefined);
  if (target === undefined) return { to: parseDestination(to) };
  await using image = await openLocation(backends, from, 'source', options);
  if (image.repository === undefined) {
    throw new Failure(
      'INVALID',
      `${formatLocation(from)} does not say what its image was called: restore it alone, to docker://host/repository:tag`,
    );
  }
  const { digest } = image.root.descriptor;
  const [tag] = image.root.tags;
  const calledItself = { ...parseRepository(image.repository), ...(tag === undefined ? { digest } : { tag }) };
  const { repository } = calledItself;
  const name = target.prefix === '' ? repository : `${target.prefix}/${repository}`;
  const reference = { ...calledItself, registry: target.registry, repository: name };
  return { to: { transport: 'docker', reference }, calledItself, digest, settingsDigest: image.settingsDigest };
}

/** INVALID for an archive below a prefix whose key is not the one that a backup gives to an image of its name. */
function checkNamedByKey(from: Location, prefix: string, image: Reference): void {
  if (isNamedByKey(from, prefix, image)) return;
  const name = image.tag === undefined ? `${image.repository}@${image.digest}` : `${image.repository}:${image.tag}`;
  throw new Failure(
    'INVALID',
    `it was not restored: it holds ${name}, which its key does not name; restore it by its whole key, or pass --trust-names`,
  );
}

/** `to` as a registry to keep names in; undefined where it names the image itself. */
function registryTargetOf(to: string, whole: boolean): RegistryTarget | undefined {
  const bare = to.replace(/^docker:\/\//, '').replace(/\/+$/, '');
  return whole || (to.startsWith('docker://') && !bare.includes('/')) ? parseRegistryTarget(to) : undefined;
}
