import { createHash } from 'node:crypto';
import type { ObjectStore } from '../objects/objects.ts';
import type { ImageFilter } from '../oci/image-filter.ts';
import { isCompressed } from '../oci/archive-key.ts';
import type { Place } from '../oci/place.ts';
import { blobKey } from '../store/place.ts';
import { readState } from '../store/read-state.ts';
import { SNAPSHOTS_FOLDER } from '../store/snapshot-key.ts';
import type { SnapshotName } from '../store/snapshots.ts';
import { describeFailure, Failure } from '../util/failure.ts';
import { Limit } from '../util/limit.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { listPlace, namesMoment } from './list-place.ts';
import { openBackups, type BackupPlace } from './open-backups.ts';
import { storeAndPrefix } from './open-place.ts';
import { reportCompressed, servedArchives, type ServingOptions } from './served-archives.ts';
import type { ServedImages, ServedRepository } from './served-images.ts';
import { servedState } from './served-state.ts';

/** Which state of a place is served. */
export interface ServePlaceOptions extends OperationOptions {
  /** Exactly this snapshot (an id, its beginning, or `latest`). */
  readonly snapshot?: string | undefined;
  /** The state at this time. Default: now. */
  readonly asOfMs?: number | undefined;
  /** Absent: all. */
  readonly only?: readonly ImageFilter[] | undefined;
}

/**
 * Passes over compressed archives at once. One takes a core while its client keeps up, and some MiB of memory (128 where it was made by `zstd --long`,
 * and then it excludes all others); others wait, so a server of compressed
 * archives is as slow as that, and no slower for what else it serves.
 */
const PASSES_AT_ONCE = 4;

/** How long a client may use a URL that it was redirected to: also for a large layer over a slow line, since S3 asks when a download begins. */
const PRESIGNED_SECONDS = 20 * 60;

/**
 * The images of a store, or of archives, as they are now or as snapshots list them, to be served. What is written later is served when it is read
 * `again`, unless a snapshot or a time is named. NOT_FOUND where there is nothing, or no such snapshot; INVALID for a registry. A
 * snapshot that cannot be read is reported and passed over, unless it is the one that was asked for.
 */
export async function openServedPlace(
  place: Place,
  backends: Backends,
  options: ServePlaceOptions,
): Promise<ServedImages> {
  if (place.kind === 'registry')
    throw new Failure(
      'INVALID',
      `${place.text} is a registry, which serves its images itself: name a store or archives (store:s3://bucket/prefix/, s3://bucket/prefix/)`,
    );
  const serving = { ...options, passes: new Limit(PASSES_AT_ONCE) };
  const isOfSnapshots = place.kind === 'store' || namesMoment(options);
  const read = async (): Promise<readonly ServedRepository[]> =>
    isOfSnapshots
      ? ofSnapshots(place, backends, serving)
      : servedArchives(listPlace(place, backends, { ...options, untagged: true }), backends, serving);
  // before the first read: what is written during it is noticed by the next look
  const { store, prefix } = storeAndPrefix(place.root, backends);
  const watched = isOfSnapshots ? `${prefix}${SNAPSHOTS_FOLDER}` : prefix;
  let seen = await objectsBelow(watched, store, options);
  const repositories = await read();
  if (repositories.length === 0)
    throw new Failure('NOT_FOUND', `there is no image to serve in ${place.text}: check the name, the time and --only`);
  const again = async (): Promise<readonly ServedRepository[] | undefined> => {
    const now = await objectsBelow(watched, store, options);
    if (now === seen) return undefined;
    const found = await read();
    seen = now;
    return found;
  };
  const isFixed = namesMoment(options);
  return {
    description: place.text,
    repositories,
    ...(isFixed ? {} : { again }),
    [Symbol.asyncDispose]: async () => undefined,
  };
}

/** A digest of the objects below a prefix: it changes when one of them is written or deleted. */
async function objectsBelow(prefix: string, store: ObjectStore, { signal }: OperationOptions): Promise<string> {
  const hash = createHash('sha256');
  for await (const { key, etag } of store.list(prefix, { signal })) hash.update(`${key}\n${etag}\n`);
  return hash.digest('hex');
}

async function ofSnapshots(
  place: BackupPlace,
  backends: Backends,
  options: ServePlaceOptions & ServingOptions,
): Promise<readonly ServedRepository[]> {
  const { report, snapshot, asOfMs, signal } = options;
  const { store, prefix, keys } = storeAndPrefix(place.root, backends);
  const { snapshots, images } = await openBackups(place, backends, options);
  const onBroken = (name: SnapshotName, failure: Failure): void =>
    report?.({
      type: 'warning',
      message: `${store.describe(name.key)} is passed over, so older images may be served: ${describeFailure(failure)}`,
    });
  // a user that names the key of a backup does not want what is older than the newest snapshot that it signed
  const isTrusted = keys?.trusted !== undefined;
  const state = await readState(snapshots, { snapshot, asOfMs, signal, ...(isTrusted ? {} : { onBroken }) });
  const packed = state.repositories.flatMap((one) =>
    one.images.filter(({ archives }) => archives?.every(({ key }) => isCompressed(key)) === true),
  );
  reportCompressed(packed.length, options);
  const presign = store.presigned?.bind(store);
  const presigned: ServedRepository['presigned'] =
    presign === undefined || place.kind !== 'store'
      ? undefined
      : async ({ digest }, o) => presign(blobKey({ prefix }, digest), { ...o, seconds: PRESIGNED_SECONDS });
  return servedState(state, images, { ...options, presigned });
}
