import { collect } from '../content/bytes.ts';
import type { Condition } from '../objects/objects.ts';
import { referrersTag } from '../oci/derived-tag.ts';
import { digestOf, type Digest } from '../oci/digest.ts';
import { ANNOTATION, MEDIA_TYPE } from '../oci/manifest.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import type { Report } from '../util/events.ts';
import { describeFailure, Failure, ifFound, isFailure } from '../util/failure.ts';
import { compareStrings } from '../util/text.ts';
import { blobKey, type StorePlace } from './place.ts';
import { readIndexState, writeCheckpoint } from './index-checkpoint.ts';
import type { IndexState } from './index-fold.ts';
import type { Snapshots } from './snapshots.ts';

/** What other tools read of a store. */
export interface LayoutIndex {
  /** What `index.json` contains. */
  readonly bytes: Uint8Array;
  /** The lists that fallback tags of subjects name, by digest: blobs that no snapshot lists. */
  readonly lists: ReadonlyMap<Digest, Uint8Array>;
}

/** Several backups may end at the same time: each of them wins once. */
const ATTEMPTS = 20;
/** What is larger is not written in one request. */
const MAX_WRITE_BYTES = 64 * 1024 * 1024;

/** An entry of an index. https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md */
interface Entry {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

/**
 * `index.json` of this state: every image under each of its names, `host/repository:tag`, or without one. A referrer is listed without a name, as
 * oras has it, and in the list that the fallback tag of its subject names, as regctl has it; cosign's under their tags. Pure: an equal state gives equal bytes.
 */
export function layoutIndexOf(state: IndexState): LayoutIndex {
  const entries = new Map<string, Entry>();
  const referrers = new Map<Digest, Map<Digest, Entry>>();
  const add = (entry: Entry, name?: string): void => {
    const annotations = name === undefined ? {} : { annotations: { [ANNOTATION.refName]: name } };
    entries.set(`${name ?? ''} ${entry.digest}`, { ...entry, ...annotations });
  };
  for (const { registry, name: repository, images } of state.repositories) {
    for (const image of images) {
      if (image.kind !== 'store' || image.archived === true) continue;
      const named = [image, ...image.referrers];
      for (const one of named) {
        if (one.tags.length === 0) add(entryOf(one));
        for (const tag of one.tags) add(entryOf(one), `${registry.host}/${repository}:${tag}`);
      }
      for (const referrer of image.referrers) {
        if (referrer.tags.length > 0) continue;
        const { artifactType } = referrer;
        const list = referrers.get(referrer.subject) ?? new Map<Digest, Entry>();
        list.set(referrer.digest, { ...entryOf(referrer), ...(artifactType === undefined ? {} : { artifactType }) });
        referrers.set(referrer.subject, list);
      }
    }
  }
  const lists = new Map<Digest, Uint8Array>();
  for (const [subject, list] of referrers) {
    const bytes = indexBytes([...list.values()].sort((a, b) => compareStrings(a.digest, b.digest)));
    const digest = digestOf(bytes);
    lists.set(digest, bytes);
    add({ mediaType: MEDIA_TYPE.ociIndex, digest, size: bytes.byteLength }, referrersTag(subject));
  }
  const sorted = [...entries].sort(([a], [b]) => compareStrings(a, b)).map(([, entry]) => entry);
  return { bytes: indexBytes(sorted), lists };
}

function entryOf({ mediaType, digest, size }: Entry): Entry {
  return { mediaType, digest, size };
}

function indexBytes(manifests: readonly Entry[]): Uint8Array {
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests }));
}

export interface WriteIndexOptions extends Abortable {
  /** Called right before each write. What it throws ends the work. */
  readonly check?: (() => void) | undefined;
  /** Whether every snapshot is read, and the checkpoint is not used. Default false. */
  readonly readsAll?: boolean | undefined;
}

/**
 * Brings `index.json` up to date with the snapshots, whatever was there, and returns what it is now. CONFLICT where others write it all the time;
 * CORRUPT, INVALID or UNSUPPORTED where a snapshot cannot be read.
 */
export async function writeLayoutIndex(
  place: StorePlace,
  snapshots: Snapshots,
  options: WriteIndexOptions = {},
): Promise<LayoutIndex> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await replaceIndex(place, snapshots, options);
    } catch (error) {
      if (!isFailure(error, 'CONFLICT') || attempt === ATTEMPTS) throw error;
    }
  }
}

/** As `writeLayoutIndex`, after a snapshot that is complete without it: a failure is a warning, and the next backup writes it. */
export async function tryLayoutIndex(
  place: StorePlace,
  snapshots: Snapshots,
  { report, signal }: Abortable & { readonly report?: Report | undefined },
): Promise<void> {
  try {
    await writeLayoutIndex(place, snapshots, { signal });
  } catch (error) {
    checkAborted({ signal });
    if (!isFailure(error)) throw error;
    const message = `${place.location}: index.json stays as it was, so other tools do not see this backup yet: ${describeFailure(error)}`;
    report?.({ type: 'warning', message });
  }
}

async function replaceIndex(
  place: StorePlace,
  snapshots: Snapshots,
  { check, readsAll, signal }: WriteIndexOptions,
): Promise<LayoutIndex> {
  const options = { signal };
  const { store } = place;
  const key = `${place.prefix}index.json`;
  // looked at before the snapshots are listed: what another backup writes in between is a CONFLICT
  const there = await ifFound(store.stat(key, options));
  const { state, checkpoint } = await readIndexState(place, snapshots, { readsAll, signal });
  const index = layoutIndexOf(state);
  // before the index: the checkpoint is right even where another writer replaces the index first
  if (checkpoint !== undefined) {
    check?.();
    await writeCheckpoint(place, checkpoint, options);
  }
  if (there?.size === index.bytes.byteLength && (await holdsIndex(place, index, options))) return index;
  for (const [digest, bytes] of index.lists) {
    check?.();
    await writeList(place, digest, bytes, options);
  }
  check?.();
  const condition: Condition = there === undefined ? { ifAbsent: true } : { ifMatch: there.etag };
  const writing = { ...options, condition, contentType: MEDIA_TYPE.ociIndex };
  if (index.bytes.byteLength <= MAX_WRITE_BYTES) await store.write(key, index.bytes, writing);
  else await store.stream(key, chunksOf(index.bytes), writing);
  return index;
}

async function writeList(place: StorePlace, digest: Digest, bytes: Uint8Array, options: Abortable): Promise<void> {
  try {
    await place.store.write(blobKey(place, digest), bytes, { ...options, condition: { ifAbsent: true } });
  } catch (error) {
    if (!isFailure(error, 'CONFLICT')) throw error;
  }
}

/** Whether `index.json` is what the snapshots say, to the byte. False where it does not exist. */
export async function holdsIndex(
  { store, prefix }: StorePlace,
  { bytes }: LayoutIndex,
  options: Abortable,
): Promise<boolean> {
  const body = await ifFound(store.read(`${prefix}index.json`, options));
  if (body === undefined) return false;
  const longer = new Failure('CONFLICT', 'index.json is longer than it should be');
  try {
    return bytes.byteLength === 0 || Buffer.compare(await collect(body, bytes.byteLength, () => longer), bytes) === 0;
  } catch (error) {
    if (error === longer) return false;
    throw error;
  }
}

async function* chunksOf(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = 0; at < bytes.byteLength; at += MAX_WRITE_BYTES / 8) yield bytes.subarray(at, at + MAX_WRITE_BYTES / 8);
}
