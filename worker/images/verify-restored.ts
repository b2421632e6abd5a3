import type { ObjectStore } from '../objects/objects.ts';
import { archiveKindOf } from '../oci/archive-key.ts';
import { parsePlace } from '../oci/place.ts';
import { isInSample, type Sample } from '../util/sample.ts';
import { checkAborted } from '../util/abort.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { verifyPlace } from './verify.ts';
import type { PlaceResult } from './verify-result.ts';

export interface RestoredRequest {
  /** The bucket that a backup was restored to. */
  readonly bucket: string;
  /** About how many bytes may be read. With more, a sample is read, and another one each day. */
  readonly budgetBytes: number;
}

/** What was verified in a restored bucket. Empty: it has no archive and no store. */
export interface RestoredResult {
  readonly places: readonly PlaceResult[];
}

const STORE_DOCUMENT = 'transship-store.json';
const SNAPSHOT = /^(.*\/)?snapshots\/[^/]+\.json\.zst$/;
const BLOB = /^(.*\/)?blobs\/[^/]+\/([0-9a-f]{64})$/;
const DAY_MS = 24 * 60 * 60 * 1000;
const DAYS_IN_WEEK = 7;
/** Enough names to find a slice that is not empty: a bucket may have millions. */
const MAX_NAMES = 10_000;

/** What a bucket has, by its keys. */
interface Held {
  /** The prefixes of stores. */
  readonly stores: Set<string>;
  /** The prefixes of archives with snapshots. */
  readonly snapshots: Set<string>;
  /** The first names by which samples are chosen: keys of archives and digests of blobs. */
  readonly names: string[];
  /** Whether there is an archive. */
  archives: boolean;
  bytes: number;
}

/**
 * Verifies a bucket that holds what another bucket held: every store, and every archive. The names of all are compared with their snapshots; of the
 * bytes at most about `budgetBytes` are read. It only reads.
 */
export async function verifyRestored(
  { bucket, budgetBytes }: RestoredRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<RestoredResult> {
  const held = await look(backends.bucket(bucket), options);
  const sample = sampleOfDay(held, budgetBytes, options.clock.now());
  const places: PlaceResult[] = [];
  const verify = async (text: string, depth: 'bytes' | 'tags'): Promise<void> => {
    checkAborted(options);
    const choices = depth === 'bytes' ? { depth, sample } : { depth };
    places.push(await verifyPlace({ place: parsePlace(text), ...choices }, backends, options));
  };
  // snapshots at the root show what is missing, also where every archive is
  if (held.archives || (held.snapshots.has('') && !held.stores.has(''))) await verify(`s3://${bucket}/`, 'bytes');
  for (const prefix of held.snapshots)
    if (prefix !== '' && !held.stores.has(prefix)) await verify(`s3://${bucket}/${prefix}`, 'tags');
  for (const prefix of held.stores) await verify(`store:s3://${bucket}/${prefix}`, 'bytes');
  return { places };
}

async function look(store: ObjectStore, options: OperationOptions): Promise<Held> {
  const held: Held = { stores: new Set(), snapshots: new Set(), names: [], archives: false, bytes: 0 };
  for await (const { key, size } of store.list('', options)) {
    if (key === STORE_DOCUMENT || key.endsWith(`/${STORE_DOCUMENT}`))
      held.stores.add(key.slice(0, -STORE_DOCUMENT.length));
    const snapshot = SNAPSHOT.exec(key);
    if (snapshot !== null) held.snapshots.add(snapshot[1] ?? '');
    const digest = BLOB.exec(key)?.[2];
    const isArchive = archiveKindOf(key) !== undefined;
    if (!isArchive && digest === undefined) continue;
    held.archives ||= isArchive;
    if (held.names.length < MAX_NAMES) held.names.push(isArchive ? key : `sha256:${digest}`);
    held.bytes += size;
  }
  return held;
}

/**
 * Equal slices that fit into the budget, and the slice of the day; with few names the next slice that has one. Tests are daily or weekly, so the
 * number of slices is no multiple of seven: otherwise weekly tests would never read the others. Undefined: everything fits.
 */
function sampleOfDay({ names, bytes }: Held, budgetBytes: number, nowMs: number): Sample | undefined {
  const needed = Math.ceil(bytes / budgetBytes);
  if (needed <= 1) return undefined;
  const slices = needed % DAYS_IN_WEEK === 0 ? needed + 1 : needed;
  const today = Math.floor(nowMs / DAY_MS);
  for (let i = 0; i < slices; i++) {
    const sample = { slice: (today + i) % slices, slices };
    if (names.some((name) => isInSample(sample, name))) return sample;
  }
  return undefined;
}
