import type { Bytes, Target } from '../content/content.ts';
import type { ObjectInfo, ObjectStore, Upload, WriteOptions } from '../objects/objects.ts';
import { partMemoryOf, type PartMemory } from '../objects/part-memory.ts';
import { shortDigest, type Digest } from '../oci/digest.ts';
import type { Descriptor } from '../oci/manifest.ts';
import { anyOf, checkAborted, type Abortable } from '../util/abort.ts';
import { systemClock, type Clock } from '../util/clock.ts';
import { Failure, toFailure } from '../util/failure.ts';
import { BlobPlace, type ArchiveBytes, type ArchiveBytesOptions } from './archive-bytes.ts';
import { InPlaceBytes } from './in-place-bytes.ts';
import type { KnownBlobs } from './known-blobs.ts';
import { rangedMetadataOf, type ArchiveNotes } from './metadata.ts';
import { PartBytes } from './part-bytes.ts';
import { blobPath, type ArchiveLayout } from './plan.ts';

export interface CreateArchiveOptions extends Abortable, ArchiveNotes {
  /** When the archive may become visible. */
  readonly condition?: WriteOptions['condition'];
  readonly onSent?: WriteOptions['onSent'];
  /** Bytes of a part. Default: what the store chooses. */
  readonly partSize?: number | undefined;
  /** Blobs that the store has in other archives: parts within one are copied there instead of being sent. Default: none. */
  readonly known?: KnownBlobs | undefined;
  /** The memory for parts. Default: what all writes of this process to the store share. */
  readonly memory?: PartMemory | undefined;
  readonly clock?: Clock | undefined;
}

/** What an interrupted upload had stored of an archive: `parts` of `total`, with so many `bytes`. */
export interface ResumedParts {
  readonly parts: number;
  /** How many parts the archive has. */
  readonly total: number;
  readonly bytes: number;
}

/**
 * An archive being filled. Nothing is visible before commit; one that is neither committed nor aborted can be taken up again. Disposing it gives back
 * its memory when nothing is being written any more, and leaves what is stored as it is.
 */
export interface ArchiveTarget extends Target, Disposable {
  readonly inOrder: true;
  /** The parts of an interrupted upload that were found and are right, so far; undefined where no part was found. */
  readonly resumed: ResumedParts | undefined;
  /** Bytes of parts that the store copied from other archives, so far. */
  readonly copiedBytes: number;
  /** Makes the archive visible. BUG unless every planned byte arrived and was found right; CONFLICT when the condition does not hold. */
  commit(options?: Abortable): Promise<ObjectInfo>;
  /** Throws away what was stored. Idempotent. */
  abort(): Promise<void>;
}

/**
 * Begins the planned archive at `key`, or goes on with one that was begun with the same layout, in this process or another. It is a Target
 * of the blobs planned: what the plan knows (the JSON documents, manifests, headers, padding) it writes itself.
 *
 * The archive is stored in parts of equal size, whatever the borders of files in it. There are two kinds. The own part of a blob lies inside the
 * blob and does not hold its last byte. It is sent as soon as it is full, while the next ones are filled and sent. All others, those with the
 * beginning or the end of a blob, are held back until every blob with bytes in them is complete: verified to its end, and each of its own parts
 * stored. So when an upload is taken up again,
 *
 * - a stored held part is right, because it was sent after everything in it was verified;
 * - a blob whose parts are all stored is right, and it is not read again. Its last part is a held one, sent after all the others were stored: in
 *   whatever order several own parts at once are stored, a crash between them leaves a blob without its last part;
 * - a stored own part may hold unverified bytes, since the process may have crashed before the blob's end. The blob is read again from its start, as
 *   its digest can be verified over the whole only, and the part is sent again if its CRC-32 is another.
 *
 * When the process crashes, a part is stored or on its way, or was never sent. So what is sent twice is at most the parts that were on their way, and
 * they are in memory: at most the memory for parts, for one large blob and for many small ones.
 *
 * That memory is a budget for all parts that are filled, held back or sent. A blob has one own part whatever the others have, and held parts never
 * wait, since two blobs could wait for each other. So a blob waits for nothing but its source and its own parts. The budget is exceeded by at most
 * two parts for each further blob in flight, one own part and one held part, as long as blobs are started in the order of the layout.
 *
 * Where the store writes at any place, there is no memory for parts, and nothing that is stored is trusted: it is compared or hashed before it counts
 * (docs/decisions/0035-files-are-written-in-place.md).
 */
export async function createArchive(
  store: ObjectStore,
  key: string,
  layout: ArchiveLayout,
  options: CreateArchiveOptions = {},
): Promise<ArchiveTarget> {
  const upload = await store.upload(key, layout.size, {
    fingerprint: layout.digest,
    contentType: 'application/x-tar',
    metadata: rangedMetadataOf(layout, (options.clock ?? systemClock).now(), options),
    condition: options.condition,
    onSent: options.onSent,
    exclusive: true,
    ...(options.partSize === undefined ? {} : { partSize: options.partSize }),
    signal: options.signal,
  });
  const memory = options.memory ?? partMemoryOf(store, upload.partSize);
  const archive = new Archive(layout, upload, store.describe(key), { known: options.known, memory });
  try {
    await archive.begin(options);
    return archive;
  } catch (error) {
    archive[Symbol.dispose]();
    throw error;
  }
}

/** A blob of the archive, and how far it is. */
interface BlobSlot {
  readonly place: BlobPlace;
  /** Verified to its end, and every part that it has for itself is stored. */
  complete: boolean;
  /** The put that is under way. */
  filling: Promise<void> | undefined;
}

class Archive implements ArchiveTarget {
  readonly inOrder = true;
  readonly #layout: ArchiveLayout;
  readonly #upload: Upload;
  readonly #name: string;
  readonly #paths: ReadonlySet<string>;
  readonly #slots: ReadonlyMap<Digest, BlobSlot>;
  readonly #bytes: ArchiveBytes;
  /** The parts that are held back, each with how many blobs in it are not complete. */
  readonly #held = new Map<number, number>();
  readonly #stop = new AbortController();
  /** The parts that were stored before and have not been sent again. */
  readonly #reused: Set<number>;
  #failed: Failure | undefined;

  constructor(
    layout: ArchiveLayout,
    upload: Upload,
    name: string,
    { known, memory }: { readonly known: KnownBlobs | undefined; readonly memory: PartMemory },
  ) {
    this.#layout = layout;
    this.#upload = upload;
    this.#name = name;
    this.#reused = new Set(upload.done.keys());
    this.#paths = new Set(layout.entries.map((entry) => entry.name));
    const slots = layout.entries
      .filter((entry) => entry.descriptor !== undefined)
      .map((entry) => ({ place: new BlobPlace(entry, upload.partSize), complete: false, filling: undefined }));
    this.#slots = new Map(slots.map((slot) => [slot.place.entry.descriptor.digest, slot]));
    const shared: ArchiveBytesOptions = {
      layout,
      upload,
      reused: this.#reused,
      check: (options) => this.#check(options),
      fail: (error, signal) => this.#fail(error, signal),
    };
    this.#bytes =
      upload.openInPlace === undefined ? new PartBytes({ ...shared, memory, known }) : new InPlaceBytes(shared);
  }

  get copiedBytes(): number {
    return this.#bytes.copiedBytes;
  }

  get resumed(): ResumedParts | undefined {
    if (this.#reused.size === 0) return undefined;
    const { partSize, parts } = this.#upload;
    const bytes = [...this.#reused].map((number) => Math.min(partSize, this.#layout.size - (number - 1) * partSize));
    return { parts: bytes.length, total: parts, bytes: bytes.reduce((sum, length) => sum + length, 0) };
  }

  /** Finds out what is stored already, and sends the parts that the plan alone fills. */
  async begin(options: Abortable): Promise<void> {
    const { done, parts } = this.#upload;
    await this.#bytes.begin(options);
    const planned: number[] = [];
    let next = 1;
    for (const slot of this.#slots.values()) {
      const { first, last, heldParts } = slot.place;
      for (; next < first; next++) planned.push(next);
      slot.complete = await this.#bytes.isStored(slot.place, options);
      next = Math.max(next, last + 1);
      if (slot.complete) continue;
      for (const number of heldParts) if (!done.has(number)) this.#held.set(number, (this.#held.get(number) ?? 0) + 1);
    }
    for (; next <= parts; next++) planned.push(next);
    for (const number of planned) {
      if (done.has(number)) continue;
      this.#held.set(number, 0);
      await this.#storeHeld(number, options);
    }
  }

  async has(descriptor: Descriptor, options?: Abortable): Promise<boolean> {
    checkAborted(options);
    return this.#slots.get(descriptor.digest)?.complete === true;
  }

  async put(descriptor: Descriptor, open: () => Bytes, options: Abortable = {}): Promise<void> {
    this.#check(options);
    const slot = this.#slots.get(descriptor.digest);
    if (slot === undefined) return this.#checkPlanned(descriptor);
    if (descriptor.size !== slot.place.entry.size) {
      throw new Failure(
        'INVALID',
        `${descriptor.digest} is named with two sizes, ${descriptor.size} and ${slot.place.entry.size} bytes: the image is broken where it was pushed`,
      );
    }
    if (slot.complete) return undefined;
    if (slot.filling !== undefined) return slot.filling;
    slot.filling = this.#fill(slot, open, options);
    try {
      return await slot.filling;
    } finally {
      slot.filling = undefined;
    }
  }

  async tag(name: string, descriptor: Descriptor, _: () => Bytes, options?: Abortable): Promise<void> {
    this.#check(options);
    this.#checkPlanned(descriptor);
    if (this.#layout.tags.get(name) === descriptor.digest) return;
    throw new Failure(
      'BUG',
      `write ${this.#name}: the tag ${name} of ${shortDigest(descriptor.digest)} is not in the plan`,
    );
  }

  async commit(options: Abortable = {}): Promise<ObjectInfo> {
    this.#check(options);
    const missing = [...this.#slots.values()].filter((slot) => !slot.complete);
    if (missing.length > 0) {
      const some = missing.slice(0, 3).map((slot) => shortDigest(slot.place.entry.descriptor.digest));
      const list = some.join(', ') + (missing.length > some.length ? ', …' : '');
      throw new Failure(
        'BUG',
        `write ${this.#name}: ${missing.length} of ${this.#slots.size} blobs have not arrived (${list})`,
      );
    }
    // only those are left whose sending was stopped together with the put that they were complete with
    for (const number of this.#held.keys()) await this.#storeHeld(number, options);
    return this.#upload.commit(options);
  }

  async abort(): Promise<void> {
    const stopped = new Failure('ABORTED', `writing ${this.#name} was given up`);
    this.#failed ??= stopped;
    this.#stop.abort(stopped);
    await Promise.allSettled([...this.#slots.values()].map(async (slot) => slot.filling));
    await this.#upload.abort();
  }

  [Symbol.dispose](): void {
    this.#failed ??= new Failure('BUG', `write ${this.#name}: it was disposed before`);
    this.#bytes[Symbol.dispose]();
    this.#upload.release?.();
  }

  async #fill(slot: BlobSlot, open: () => Bytes, options: Abortable): Promise<void> {
    const signal = anyOf(options.signal, this.#stop.signal);
    await this.#bytes.fill(slot.place, open, { signal });
    slot.complete = true;
    await this.#releaseHeld(slot, { signal });
  }

  /** Stores the parts that waited for this blob alone, one after the other. */
  async #releaseHeld({ place }: BlobSlot, options: Abortable): Promise<void> {
    const ready: number[] = [];
    for (const number of place.heldParts) {
      const incomplete = this.#held.get(number);
      if (incomplete === undefined) continue;
      this.#held.set(number, incomplete - 1);
      if (incomplete === 1) ready.push(number);
    }
    for (const number of ready) await this.#storeHeld(number, options);
  }

  async #storeHeld(number: number, options: Abortable): Promise<void> {
    if (!this.#held.has(number)) return;
    await this.#bytes.store(number, options);
    this.#held.delete(number);
  }

  #checkPlanned(descriptor: Descriptor): void {
    if (this.#paths.has(blobPath(descriptor.digest))) return;
    throw new Failure('BUG', `write ${this.#name}: ${descriptor.digest} is not in the plan`);
  }

  #check(options?: Abortable): void {
    if (this.#failed !== undefined) throw this.#failed;
    checkAborted(options);
  }

  /** What the store does not take ends the archive; that a caller stopped does not. */
  #fail(error: unknown, signal: AbortSignal | undefined): Failure {
    const failure = toFailure(error);
    if (signal?.aborted === true || failure.code === 'ABORTED') return failure;
    this.#failed ??= failure;
    this.#stop.abort(failure);
    return failure;
  }
}
