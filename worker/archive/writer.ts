import type { Bytes, Target } from '../content/content.ts';
import type { ObjectInfo, ObjectStore, Upload, WriteOptions } from '../objects/objects.ts';
import { partMemoryOf, type PartBuffer, type PartMemory } from '../objects/part-memory.ts';
import { PartsInFlight } from '../objects/parts-in-flight.ts';
import { shortDigest, type Digest } from '../oci/digest.ts';
import type { Descriptor } from '../oci/manifest.ts';
import { anyOf, checkAborted, type Abortable } from '../util/abort.ts';
import { systemClock, type Clock } from '../util/clock.ts';
import { Failure, toFailure } from '../util/failure.ts';
import { partWithin, type KnownBlobs } from './known-blobs.ts';
import { rangedMetadataOf, type ArchiveNotes } from './metadata.ts';
import { blobPath, endOf, type ArchiveLayout, type BlobEntry, type LayoutEntry } from './plan.ts';
import { END_BYTES } from './tar.ts';

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
  /** The parts of an interrupted upload that were there and were right, so far; undefined where there were none. */
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
    ...(options.partSize === undefined ? {} : { partSize: options.partSize }),
    signal: options.signal,
  });
  const memory = options.memory ?? partMemoryOf(store, upload.partSize);
  const archive = new Archive(layout, upload, store.describe(key), { ...options, memory });
  try {
    await archive.begin(options);
    return archive;
  } catch (error) {
    archive[Symbol.dispose]();
    throw error;
  }
}

/** Where a blob is in the archive, from its header to its padding, and its parts. */
class BlobSlot {
  readonly entry: BlobEntry;
  /** The parts that hold its first and its last byte. */
  readonly first: number;
  readonly last: number;
  /** The parts that are held back until it is complete: the last, and the first where that begins with something else. */
  readonly heldParts: readonly number[];
  /** Verified to its end, and every part that it has for itself is stored. */
  complete = false;
  /** The put that is under way. */
  filling: Promise<void> | undefined;

  constructor(entry: BlobEntry, partSize: number) {
    this.entry = entry;
    this.first = Math.floor(entry.offset / partSize) + 1;
    this.last = Math.floor((endOf(entry) - 1) / partSize) + 1;
    const startsPart = entry.offset % partSize === 0;
    this.heldParts = this.first === this.last || startsPart ? [this.last] : [this.first, this.last];
  }
}

/** A part that is sent when all blobs in it are complete. */
interface HeldPart {
  incomplete: number;
  /** Absent until the first byte of a blob arrives. */
  buffer: PartBuffer | undefined;
}

class Archive implements ArchiveTarget {
  readonly inOrder = true;
  readonly #layout: ArchiveLayout;
  readonly #upload: Upload;
  readonly #name: string;
  readonly #paths: ReadonlySet<string>;
  readonly #slots: ReadonlyMap<Digest, BlobSlot>;
  readonly #held = new Map<number, HeldPart>();
  readonly #memory: PartMemory;
  /** Bytes of the buffer for a part: those of a whole one, or of the archive where that is smaller. */
  readonly #bufferBytes: number;
  readonly #stop = new AbortController();
  /** The parts that were stored before and have not been sent again. */
  readonly #reused: Set<number>;
  readonly #known: KnownBlobs | undefined;
  copiedBytes = 0;
  #failed: Failure | undefined;

  constructor(
    layout: ArchiveLayout,
    upload: Upload,
    name: string,
    { known, memory }: { readonly known?: KnownBlobs | undefined; readonly memory: PartMemory },
  ) {
    this.#known = known;
    this.#memory = memory;
    this.#bufferBytes = Math.min(upload.partSize, layout.size);
    this.#layout = layout;
    this.#upload = upload;
    this.#name = name;
    this.#reused = new Set(upload.done.keys());
    this.#paths = new Set(layout.entries.map((entry) => entry.name));
    const blobs = layout.entries.filter((entry) => entry.descriptor !== undefined);
    this.#slots = new Map(blobs.map((entry) => [entry.descriptor.digest, new BlobSlot(entry, upload.partSize)]));
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
    const planned: number[] = [];
    let next = 1;
    for (const slot of this.#slots.values()) {
      for (; next < slot.first; next++) planned.push(next);
      slot.complete = true;
      for (let number = slot.first; number <= slot.last && slot.complete; number++) slot.complete = done.has(number);
      next = Math.max(next, slot.last + 1);
      if (slot.complete) continue;
      for (const number of slot.heldParts) {
        if (done.has(number)) continue;
        const held = this.#held.get(number);
        if (held === undefined) this.#held.set(number, { incomplete: 1, buffer: undefined });
        else held.incomplete++;
      }
    }
    for (; next <= parts; next++) planned.push(next);
    for (const number of planned) {
      if (done.has(number)) continue;
      this.#held.set(number, { incomplete: 0, buffer: undefined });
      await this.#sendHeld(number, options);
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
    if (descriptor.size !== slot.entry.size) {
      throw new Failure(
        'INVALID',
        `${descriptor.digest} is named with two sizes, ${descriptor.size} and ${slot.entry.size} bytes: the image is broken where it was pushed`,
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
      const some = missing.slice(0, 3).map((slot) => shortDigest(slot.entry.descriptor.digest));
      const list = some.join(', ') + (missing.length > some.length ? ', …' : '');
      throw new Failure(
        'BUG',
        `write ${this.#name}: ${missing.length} of ${this.#slots.size} blobs have not arrived (${list})`,
      );
    }
    // only those are left whose sending was stopped together with the put that they were complete with
    for (const number of this.#held.keys()) await this.#sendHeld(number, options);
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
    for (const held of this.#held.values()) held.buffer?.giveBack();
    this.#held.clear();
  }

  /** Header, content and padding into the parts of the slot. Its own parts are sent while the next ones are filled. */
  async #fill(slot: BlobSlot, open: () => Bytes, options: Abortable): Promise<void> {
    const { entry } = slot;
    const signal = anyOf(options.signal, this.#stop.signal);
    const { partSize } = this.#upload;
    const contentEnd = entry.offset + entry.header.byteLength + entry.size;
    const own = new PartsInFlight(this.#memory);
    let position = entry.offset;
    let filling: PartBuffer | undefined;
    const write = async (bytes: Uint8Array): Promise<void> => {
      this.#check({ signal });
      for (let from = 0; from < bytes.byteLength;) {
        const number = Math.floor(position / partSize) + 1;
        const offset = position % partSize;
        const piece = bytes.subarray(from, from + partSize - offset);
        if (slot.heldParts.includes(number)) {
          this.#bufferOf(number)?.bytes.set(piece, offset);
        } else {
          filling ??= await own.buffer(this.#bufferBytes);
          filling.bytes.set(piece, offset);
          if (offset + piece.byteLength === partSize) {
            const full = filling;
            filling = undefined;
            own.launch(full, async () => this.#sendOwn(number, full.bytes, entry, signal));
          }
        }
        from += piece.byteLength;
        position += piece.byteLength;
      }
    };
    try {
      await write(entry.header);
      for await (const chunk of open()) {
        if (position + chunk.byteLength > contentEnd) throw wrongSize(entry, 'more');
        await write(chunk);
      }
      if (position !== contentEnd) throw wrongSize(entry, 'fewer');
      await write(new Uint8Array(endOf(entry) - contentEnd));
    } finally {
      filling?.giveBack();
      await own.ended();
    }
    await own.stored();
    slot.complete = true;
    await this.#releaseHeld(slot, { signal });
  }

  /** Sends the parts that waited for this blob alone, one after the other. */
  async #releaseHeld(slot: BlobSlot, options: Abortable): Promise<void> {
    const ready: number[] = [];
    for (const number of slot.heldParts) {
      const held = this.#held.get(number);
      if (held !== undefined && --held.incomplete === 0) ready.push(number);
    }
    for (const number of ready) await this.#sendHeld(number, options);
  }

  async #sendOwn(number: number, bytes: Buffer, entry: BlobEntry, signal: AbortSignal): Promise<void> {
    try {
      if (this.#upload.holds(number, bytes)) return;
      this.#reused.delete(number);
      if (!(await this.#copyKnown(number, bytes, entry, signal))) await this.#upload.part(number, bytes, { signal });
    } catch (error) {
      throw this.#fail(error, signal);
    }
  }

  /** Whether the store has copied the part from another archive, byte for byte by its CRC-32. The bytes were read all the same: they prove the blob. */
  async #copyKnown(number: number, bytes: Buffer, entry: BlobEntry, signal: AbortSignal): Promise<boolean> {
    const { digest } = entry.descriptor;
    const known = this.#known?.find(digest);
    if (known === undefined) return false;
    const start = (number - 1) * this.#upload.partSize;
    const from = partWithin(entry, known, { start, length: bytes.byteLength });
    if (from === undefined) return false;
    if ((await this.#upload.copyPart?.(number, bytes, from, { signal })) !== true) {
      this.#known?.drop(digest);
      return false;
    }
    this.copiedBytes += bytes.byteLength;
    return true;
  }

  async #sendHeld(number: number, options: Abortable): Promise<void> {
    const buffer = this.#bufferOf(number);
    if (buffer === undefined) return;
    const start = (number - 1) * this.#upload.partSize;
    const bytes = buffer.bytes.subarray(0, Math.min(this.#bufferBytes, this.#layout.size - start));
    this.#writePlanned(start, bytes);
    try {
      await this.#upload.part(number, bytes, options);
    } catch (error) {
      throw this.#fail(error, options.signal);
    }
    this.#held.delete(number);
    buffer.giveBack();
  }

  /** Puts what the plan knows into the part that starts at `start`: documents, manifests, and the blocks that end the tar. */
  #writePlanned(start: number, part: Buffer): void {
    const end = start + part.byteLength;
    const { entries } = this.#layout;
    for (let index = firstEndingAfter(entries, start); index < entries.length; index++) {
      const entry = entries[index];
      if (entry === undefined || entry.offset >= end) return;
      if (entry.bytes === undefined) continue;
      const content = entry.offset + entry.header.byteLength;
      overlay(part, start, entry.offset, entry.header);
      overlay(part, start, content, entry.bytes);
      part.fill(0, within(content + entry.size - start, part), within(endOf(entry) - start, part));
    }
    part.fill(0, within(this.#layout.size - END_BYTES - start, part));
  }

  /** The buffer of a part that is held back; undefined when the part is stored. */
  #bufferOf(number: number): PartBuffer | undefined {
    const held = this.#held.get(number);
    if (held === undefined) return undefined;
    held.buffer ??= this.#memory.takeNow(this.#bufferBytes);
    return held.buffer;
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

/** Copies `bytes`, which lie at `offset` of the archive, into the part that starts at `start`, as far as they lie in it. */
function overlay(part: Buffer, start: number, offset: number, bytes: Uint8Array): void {
  const from = Math.max(0, start - offset);
  const to = Math.min(bytes.byteLength, start + part.byteLength - offset);
  if (from < to) part.set(bytes.subarray(from, to), offset + from - start);
}

function within(position: number, part: Buffer): number {
  return Math.min(Math.max(position, 0), part.byteLength);
}

function firstEndingAfter(entries: readonly LayoutEntry[], offset: number): number {
  let [low, high] = [0, entries.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    const entry = entries[middle];
    if (entry !== undefined && endOf(entry) <= offset) low = middle + 1;
    else high = middle;
  }
  return low;
}

function wrongSize(entry: BlobEntry, what: string): Failure {
  return new Failure('BUG', `${entry.descriptor.digest} was handed over with ${what} than its ${entry.size} bytes`);
}
