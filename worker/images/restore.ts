import { posix } from 'node:path';
import type { ObjectStore } from '../objects/objects.ts';
import type { Digest } from '../oci/digest.ts';
import { parseRepository } from '../oci/reference.ts';
import { checkAborted } from '../util/abort.ts';
import { atSide, Failure, isFailure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { isRecord } from '../util/record.ts';
import { SETTINGS_NAME } from './backup.ts';
import type { Ends, OperationOptions } from './backends.ts';
import { openLocation } from './open-location.ts';
import {
  formatLocation,
  parseDestination,
  parseLocation,
  parseRegistryPlace,
  parseS3,
  type Location,
  type RegistryPlace,
} from '../oci/location.ts';
import type { ImageChoices, MirrorRequest } from './copy-image.ts';
import { mirrorAll, type BatchResult } from './copy-images.ts';

export interface RestoreRequest extends Omit<ImageChoices, 'force'> {
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
export async function restore(r: RestoreRequest, ends: Ends, o: OperationOptions): Promise<BatchResult> {
  // what cannot be is told once, before anything is listed
  if (placeOf(r.to, prefixOf(r.from, ends) !== undefined) === undefined) parseDestination(r.to);
  const found = await archivesOf(r.from, ends, o);
  const wanted: { readonly request: MirrorRequest; readonly digest: Digest | undefined }[] = [];
  const faults: string[] = [];
  const ready = new Set<string>();
  for (const { location: from, settings: key } of found.archives) {
    try {
      const { to, calledItself, digest } = await destinationOf(from, r.to, found.whole, ends, o);
      if (r.dryRun !== true && key !== undefined && to.transport === 'docker' && !ready.has(to.reference.repository)) {
        ready.add(to.reference.repository);
        await applySettings(found.store, key, { to, calledItself }, ends, faults, o);
      }
      wanted.push({ request: { ...r, from, to }, digest });
    } catch (error) {
      checkAborted(o);
      if (!isFailure(error) || !found.whole) throw error;
      faults.push(`${formatLocation(from)}: ${error.message}`);
      o.report?.({ type: 'warning', message: faults.at(-1) ?? '' });
    }
  }
  const requests: MirrorRequest[] = [];
  for (const [name, rivals] of Map.groupBy(wanted, ({ request }) => formatLocation(request.to))) {
    if (new Set(rivals.map(({ digest }) => digest)).size === 1) requests.push(...rivals.map(({ request }) => request));
    else {
      const all = rivals.map(({ request }) => formatLocation(request.from)).join(', ');
      faults.push(`${name} was not restored: ${all} hold different images of that name; restore the one that is meant`);
      o.report?.({ type: 'warning', message: faults.at(-1) ?? '' });
    }
  }
  return { items: await mirrorAll(requests, ends, o), faults };
}

interface Found {
  /** Each with the key of the settings that lie beside it, where some do. */
  readonly archives: readonly { readonly location: Location; readonly settings?: string | undefined }[];
  readonly store: ObjectStore | undefined;
  /** Whether a prefix was asked for, not one archive. */
  readonly whole: boolean;
}

/** The archives that `from` stands for. NOT_FOUND when there is none. */
export async function archivesOf(from: string, ends: Ends, o: OperationOptions): Promise<Found> {
  const prefix = prefixOf(from, ends);
  if (prefix === undefined) {
    const location = parseLocation(from);
    if (location.transport === 'docker') {
      throw new Failure(
        'INVALID',
        `source: ${from} is an image of a registry, not an archive; use transship copy for that`,
      );
    }
    return { archives: [{ location }], store: undefined, whole: false };
  }
  const archives: string[] = [];
  const settings = new Set<string>();
  try {
    for await (const { key } of prefix.store.list(prefix.key, o)) {
      if (/\.tar(?:\.gz|\.zst)?$/.test(key)) archives.push(key);
      else if (key === SETTINGS_NAME || key.endsWith(`/${SETTINGS_NAME}`)) settings.add(key);
    }
  } catch (error) {
    throw atSide('source', error);
  }
  if (archives.length === 0) {
    throw new Failure('NOT_FOUND', `source: there is no archive (*.tar) below ${from}`, {
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
  ends: Ends,
): { store: ObjectStore; key: string; locate: (key: string) => Location } | undefined {
  if (from.startsWith('s3://')) {
    const { bucket, key } = parseS3(from);
    if (key !== '' && !key.endsWith('/')) return undefined;
    return { store: ends.bucket(bucket), key, locate: (found) => ({ transport: 's3', bucket, key: found }) };
  }
  const folder = /^oci-archive:(.*\/)$/.exec(from)?.[1];
  if (folder === undefined) return undefined;
  return {
    store: ends.folder(folder),
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
  ends: Ends,
  o: OperationOptions,
): Promise<Destination> {
  const place = placeOf(to, whole);
  if (place === undefined) return { to: parseDestination(to) };
  await using image = await openLocation(ends, from, 'source', o);
  if (image.repository === undefined) {
    throw new Failure(
      'INVALID',
      `${formatLocation(from)} does not say what its image was called: restore it alone, to docker://host/repository:tag`,
    );
  }
  const { repository } = parseRepository(image.repository);
  const name = place.prefix === '' ? repository : `${place.prefix}/${repository}`;
  const [tag] = image.root.tags;
  const reference = {
    registry: place.registry,
    repository: name,
    ...(tag === undefined ? { digest: image.root.descriptor.digest } : { tag }),
  };
  return { to: { transport: 'docker', reference }, calledItself: repository, digest: image.root.descriptor.digest };
}

/** `to` as a registry to keep names in; undefined where it names the image itself. */
function placeOf(to: string, whole: boolean): RegistryPlace | undefined {
  const bare = to.replace(/^docker:\/\//, '').replace(/\/+$/, '');
  return whole || (to.startsWith('docker://') && !bare.includes('/')) ? parseRegistryPlace(to) : undefined;
}

async function applySettings(
  store: ObjectStore | undefined,
  key: string,
  { to, calledItself }: Destination<Extract<Location, { transport: 'docker' }>>,
  ends: Ends,
  faults: string[],
  o: OperationOptions,
): Promise<void> {
  if (store === undefined) return;
  const { registry, repository } = to.reference;
  try {
    const document: unknown = JSON.parse((await readSettings(store, key, o)).toString());
    if (!isRecord(document) || document['format'] !== 1 || !isRecord(document['settings'])) {
      throw new Failure('INVALID', `${store.describe(key)} holds no repository settings that this version reads`);
    }
    // archives of several repositories in one folder: settings say who may pull, so they are nobody else's
    if (document['repository'] !== calledItself) {
      throw new Failure('INVALID', `${store.describe(key)} holds those of ${quote(document['repository'])}`);
    }
    await ends.registry(registry, 'target').applySettings(repository, document['settings'], o);
  } catch (error) {
    checkAborted(o);
    const why = error instanceof Error ? error.message : String(error);
    faults.push(`settings of ${repository} were not restored: ${why}`);
    o.report?.({ type: 'warning', message: faults.at(-1) ?? '' });
  }
}

async function readSettings(store: ObjectStore, key: string, o: OperationOptions): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of await store.read(key, o)) {
    size += chunk.byteLength;
    if (size > MAX_SETTINGS_BYTES) {
      throw new Failure(
        'INVALID',
        `${store.describe(key)} has more than the ${MAX_SETTINGS_BYTES} bytes of any settings`,
      );
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
