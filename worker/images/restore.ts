import { posix } from 'node:path';
import { collect } from '../content/bytes.ts';
import type { ObjectStore } from '../objects/objects.ts';
import { archiveKindOf } from '../oci/archive-key.ts';
import type { Digest } from '../oci/digest.ts';
import { parseRepository } from '../oci/reference.ts';
import { checkAborted } from '../util/abort.ts';
import { atSide, describeFailure, Failure, isFailure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { isRecord } from '../util/record.ts';
import { SETTINGS_NAME } from './backup.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { collectFaults, type Faults } from './faults.ts';
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

export interface RestoreRequest extends Omit<ImageChoices, 'force' | 'keepExisting'> {
  /** An archive, or a prefix ending in `/` (also `s3://bucket`) for every archive below it. */
  readonly from: string;
  /** `docker://host/repository[:tag]` for one archive; `docker://host[/prefix]` to keep the names that the images had. */
  readonly to: string;
}

/** ECR's policies have 30,720 characters at most: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_PutLifecyclePolicy.html */
const MAX_SETTINGS_BYTES = 1024 * 1024;

/**
 * Puts archived images into a registry, digests unchanged, from the archives alone: the settings of their repositories first, then each image
 * with what refers to it. What is there already costs no layer. One failure does not stop the others.
 */
export async function restore(
  request: RestoreRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<BatchResult> {
  // input that can never work fails once, before anything is listed
  if (registryTargetOf(request.to, prefixOf(request.from, backends) !== undefined) === undefined)
    parseDestination(request.to);
  const found = await archivesOf(request.from, backends, options);
  const wanted: { readonly request: ImageCopyRequest; readonly digest: Digest | undefined }[] = [];
  const faults = collectFaults(options.report);
  const ready = new Set<string>();
  for (const { location: from, settings: key } of found.archives) {
    try {
      const { to, calledItself, digest } = await destinationOf(from, request.to, found.whole, backends, options);
      if (
        request.dryRun !== true &&
        key !== undefined &&
        to.transport === 'docker' &&
        !ready.has(to.reference.repository)
      ) {
        ready.add(to.reference.repository);
        await applySettings(found.store, key, { to, calledItself }, backends, faults, options);
      }
      wanted.push({ request: { ...request, from, to }, digest });
    } catch (error) {
      checkAborted(options);
      if (!isFailure(error) || !found.whole) throw error;
      faults.add(`${formatLocation(from)}: ${describeFailure(error)}`);
    }
  }
  const requests: ImageCopyRequest[] = [];
  for (const [name, rivals] of Map.groupBy(wanted, ({ request: { to } }) => formatLocation(to))) {
    if (new Set(rivals.map(({ digest }) => digest)).size === 1) requests.push(...rivals.map((rival) => rival.request));
    else {
      const all = rivals.map((rival) => formatLocation(rival.request.from)).join(', ');
      faults.add(`${name} was not restored: ${all} hold different images of that name; restore the one that is meant`);
    }
  }
  return { items: await copyImages(requests, backends, options), faults: faults.messages };
}

interface FoundArchives {
  /** Each with the key of the settings that lie beside it, where some do. */
  readonly archives: readonly { readonly location: Location; readonly settings?: string | undefined }[];
  readonly store: ObjectStore | undefined;
  /** Whether a prefix was asked for, not one archive. */
  readonly whole: boolean;
}

/** The archives that `from` stands for. NOT_FOUND when there is none. */
export async function archivesOf(from: string, backends: Backends, options: OperationOptions): Promise<FoundArchives> {
  const prefix = prefixOf(from, backends);
  if (prefix === undefined) {
    const location = parseLocation(from);
    if (location.transport === 'docker') {
      throw new Failure('INVALID', `${from} is an image of a registry, not an archive; use transship copy for that`, {
        context: { side: 'source' },
      });
    }
    return { archives: [{ location }], store: undefined, whole: false };
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
    throw new Failure('NOT_FOUND', `there is no archive (*.tar) below ${from}`, {
      context: { side: 'source' },
    });
  }
  return {
    archives: archives.map((key) => {
      const beside = posix.join(posix.dirname(key), SETTINGS_NAME);
      return { location: prefix.locate(key), settings: settings.has(beside) ? beside : undefined };
    }),
    store: prefix.store,
    whole: true,
  };
}

function prefixOf(
  from: string,
  backends: Backends,
): { store: ObjectStore; key: string; locate: (key: string) => Location } | undefined {
  if (from.startsWith('s3://')) {
    const { bucket, key } = parseS3(from);
    if (key !== '' && !key.endsWith('/')) return undefined;
    return { store: backends.bucket(bucket), key, locate: (found) => ({ transport: 's3', bucket, key: found }) };
  }
  const folder = /^oci-archive:(.*\/)$/.exec(from)?.[1];
  if (folder === undefined) return undefined;
  return {
    store: backends.folder(folder),
    key: '',
    locate: (found) => ({ transport: 'archive', path: `${folder}${found}` }),
  };
}

interface Destination<L extends Location = Location> {
  readonly to: L;
  /** The repository that the image was in. */
  readonly calledItself?: string | undefined;
  /** Of the image; absent where one archive alone is restored. */
  readonly digest?: Digest | undefined;
}

async function destinationOf(
  from: Location,
  to: string,
  whole: boolean,
  backends: Backends,
  options: OperationOptions,
): Promise<Destination> {
  const target = registryTargetOf(to, whole);
  if (target === undefined) return { to: parseDestination(to) };
  await using image = await openLocation(backends, from, 'source', options);
  if (image.repository === undefined) {
    throw new Failure(
      'INVALID',
      `${formatLocation(from)} does not say what its image was called: restore it alone, to docker://host/repository:tag`,
    );
  }
  const { repository } = parseRepository(image.repository);
  const name = target.prefix === '' ? repository : `${target.prefix}/${repository}`;
  const [tag] = image.root.tags;
  const reference = {
    registry: target.registry,
    repository: name,
    ...(tag === undefined ? { digest: image.root.descriptor.digest } : { tag }),
  };
  return { to: { transport: 'docker', reference }, calledItself: repository, digest: image.root.descriptor.digest };
}

/** `to` as a registry to keep names in; undefined where it names the image itself. */
function registryTargetOf(to: string, whole: boolean): RegistryTarget | undefined {
  const bare = to.replace(/^docker:\/\//, '').replace(/\/+$/, '');
  return whole || (to.startsWith('docker://') && !bare.includes('/')) ? parseRegistryTarget(to) : undefined;
}

async function applySettings(
  store: ObjectStore | undefined,
  key: string,
  { to, calledItself }: Destination<Extract<Location, { transport: 'docker' }>>,
  backends: Backends,
  faults: Faults,
  options: OperationOptions,
): Promise<void> {
  if (store === undefined) return;
  const { registry, repository } = to.reference;
  try {
    const document: unknown = JSON.parse((await readSettings(store, key, options)).toString());
    if (!isRecord(document) || document['format'] !== 1 || !isRecord(document['settings'])) {
      throw new Failure('INVALID', `${store.describe(key)} holds no repository settings that this version reads`);
    }
    // archives of several repositories in one folder: settings say who may pull, so they are nobody else's
    if (document['repository'] !== calledItself) {
      throw new Failure('INVALID', `${store.describe(key)} holds those of ${quote(document['repository'])}`);
    }
    await backends.registry(registry, 'target').applySettings(repository, document['settings'], options);
  } catch (error) {
    checkAborted(options);
    faults.add(`settings of ${repository} were not restored: ${describeFailure(error)}`);
  }
}

async function readSettings(store: ObjectStore, key: string, options: OperationOptions): Promise<Buffer> {
  return collect(
    await store.read(key, options),
    MAX_SETTINGS_BYTES,
    () =>
      new Failure('INVALID', `${store.describe(key)} has more than the ${MAX_SETTINGS_BYTES} bytes of any settings`),
  );
}
