import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { constants, zstdCompress, zstdDecompress } from 'node:zlib';
import { z } from 'zod';
import { collect } from '../content/bytes.ts';
import { isDigest, type Digest } from '../oci/digest.ts';
import type { Abortable } from '../util/abort.ts';
import { Failure, ifFound, isFailure } from '../util/failure.ts';
import { IndexFold, type CountedImages, type IndexState } from './index-fold.ts';
import type { StorePlace } from './place.ts';
import { readSnapshots, type Covered } from './read-state.ts';
import type { SnapshotName, Snapshots } from './snapshots.ts';

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

const KEY = 'index-checkpoint.json.zst';
/**
 * A checkpoint is written where more snapshots than `MOST` are not in one. It leaves out the newest, `LEFT_OUT`:
 * another backup may still write a snapshot that comes before one of them.
 */
const MOST = { snapshots: 64, bytes: 4 * 1024 * 1024 };
const LEFT_OUT = { snapshots: 16, bytes: 1024 * 1024 };
/** A larger checkpoint is neither written nor read. */
const MAX_BYTES = 64 * 1024 * 1024;
const MAX_JSON_BYTES = 512 * 1024 * 1024;

/** What the oldest snapshots of a store mean for `index.json`, so that a backup need not read them. It may be deleted or replaced at any time. */
export interface IndexCheckpoint {
  /** How many of the oldest snapshots it stands for, and the SHA-256 of their keys, each followed by a line feed. */
  readonly snapshots: number;
  readonly keys: string;
  readonly images: CountedImages;
}

const text = z.string().min(1);
const digest = z.custom<Digest>(isDigest, 'expected a digest');
const facts = { digest, mediaType: text, size: z.int().nonnegative() };
const referrer = z.object({
  ...facts,
  artifactType: z.string().exactOptional(),
  subject: digest,
  tags: z.array(text),
});
const image = z.object({
  ...facts,
  kind: z.enum(['store', 'archives']),
  archived: z.literal(true).exactOptional(),
  referrers: z.array(referrer),
});
const counted = z.object({ image, tags: z.array(text), isUntagged: z.boolean() });
const document = z.object({
  version: z.literal(1),
  snapshots: z.int().positive(),
  keys: z.string(),
  images: z.array(z.tuple([text, z.array(z.tuple([text, z.array(counted)]))])),
});

/**
 * Reads the state that `index.json` is made of: from the checkpoint and the snapshots that are not in it, or from all snapshots with `readsAll`.
 * Returns the next checkpoint too, where one is due. Fails as `readState` does.
 */
export async function readIndexState(
  place: StorePlace,
  snapshots: Snapshots,
  { readsAll = false, signal }: Abortable & { readonly readsAll?: boolean | undefined },
): Promise<{ readonly state: IndexState; readonly checkpoint: IndexCheckpoint | undefined }> {
  const names = await snapshots.list({ signal });
  // a store of few snapshots has no checkpoint
  const known = readsAll || isFew(names, MOST) ? undefined : await readCheckpoint(place, { signal });
  const isCovered = known !== undefined && known.keys === keysOf(names.slice(0, known.snapshots));
  const covered = isCovered ? known.snapshots : 0;
  const rest = names.slice(covered);
  const noted = isFew(rest, MOST) ? covered : names.length - fewest(rest, LEFT_OUT);
  const recent = new IndexFold();
  const older = new IndexFold({ gathers: true });
  const from = rest.toReversed();
  let isWhole = true;
  let left = names.length - noted;
  for await (const found of readSnapshots(snapshots, from, { signal })) {
    const fold = left-- > 0 ? recent : older;
    if (found.failure === undefined) fold.add(found);
    else if (found.failure.code === 'NOT_FOUND') isWhole = false;
    else throw found.failure;
  }
  if (noted === covered) {
    if (isCovered) recent.addOlder(known.images);
    return { state: recent.state(), checkpoint: undefined };
  }
  if (isCovered) older.addOlder(known.images);
  recent.addOlder(older.counted);
  const keys = keysOf(names.slice(0, noted));
  // a snapshot that was deleted meanwhile is still among the keys
  const checkpoint = isWhole ? { snapshots: noted, keys, images: older.counted } : undefined;
  return { state: recent.state(), checkpoint };
}

/** Undefined where there is no checkpoint of these snapshots, which are all that there are, from the oldest to the newest. */
export async function readCovered(
  place: Pick<StorePlace, 'store' | 'prefix'>,
  names: readonly SnapshotName[],
  options: Abortable,
): Promise<Covered | undefined> {
  if (isFew(names, MOST)) return undefined;
  const known = await readCheckpoint(place, options);
  if (known === undefined || known.keys !== keysOf(names.slice(0, known.snapshots))) return undefined;
  return { snapshots: known.snapshots, hosts: [...known.images.keys()] };
}

/** Writes the checkpoint. One that is too large, or that the place refuses, is not written: it only saves reads. */
export async function writeCheckpoint(
  { store, prefix }: StorePlace,
  { snapshots, keys, images }: IndexCheckpoint,
  { signal }: Abortable,
): Promise<void> {
  const registries = Array.from(images, ([host, repositories]) => [host, [...repositories]]);
  const json = Buffer.from(JSON.stringify({ version: 1, snapshots, keys, images: registries }));
  if (json.byteLength > MAX_JSON_BYTES) return;
  const bytes = await compress(json, { params: { [constants.ZSTD_c_checksumFlag]: 1 } });
  if (bytes.byteLength > MAX_BYTES) return;
  try {
    await store.write(`${prefix}${KEY}`, bytes, { signal, contentType: 'application/zstd' });
  } catch (error) {
    if (!isFailure(error) || error.code === 'ABORTED') throw error;
  }
}

/** Undefined where there is no checkpoint that can be read. */
async function readCheckpoint(
  { store, prefix }: Pick<StorePlace, 'store' | 'prefix'>,
  options: Abortable,
): Promise<IndexCheckpoint | undefined> {
  const body = await ifFound(store.read(`${prefix}${KEY}`, options));
  if (body === undefined) return undefined;
  const tooLong = new Failure('UNSUPPORTED', 'the checkpoint is too long');
  try {
    const bytes = await collect(body, MAX_BYTES, () => tooLong);
    const json = await decompress(bytes, { maxOutputLength: MAX_JSON_BYTES });
    const { snapshots, keys, images } = document.parse(JSON.parse(json.toString()));
    return { snapshots, keys, images: new Map(images.map(([host, some]) => [host, new Map(some)])) };
  } catch (error) {
    if (isFailure(error) && error !== tooLong) throw error;
    // changed, damaged, or of another version: the snapshots have everything
    return undefined;
  }
}

/** Whether there are at most so many snapshots and bytes. */
function isFew(names: readonly SnapshotName[], most: typeof MOST): boolean {
  return fewest(names, most) === names.length;
}

/** How many of the newest snapshots come to at most so many snapshots and bytes. */
function fewest(names: readonly SnapshotName[], most: typeof MOST): number {
  let bytes = 0;
  let count = 0;
  for (const { size } of names.toReversed()) {
    bytes += size;
    if (count === most.snapshots || bytes > most.bytes) break;
    count++;
  }
  return count;
}

function keysOf(names: readonly SnapshotName[]): string {
  const hash = createHash('sha256');
  for (const { key } of names) hash.update(`${key}\n`);
  return hash.digest('hex');
}
