import { crc32 } from 'node:zlib';
import type { Bytes } from '../content/content.ts';
import type { Upload } from '../objects/objects.ts';
import type { PartBuffer, PartMemory } from '../objects/part-memory.ts';
import { PartsInFlight } from '../objects/parts-in-flight.ts';
import type { Abortable } from '../util/abort.ts';
import { writeBlob, type ArchiveBytes, type ArchiveBytesOptions, type BlobPlace } from './archive-bytes.ts';
import { partWithin, type KnownBlobs } from './known-blobs.ts';
import { endOf, type ArchiveLayout, type BlobEntry, type LayoutEntry } from './plan.ts';
import { END_BYTES } from './tar.ts';

interface PartBytesOptions extends ArchiveBytesOptions {
  readonly memory: PartMemory;
  readonly known: KnownBlobs | undefined;
}

/** A part with all its bytes. */
interface FullPart {
  readonly number: number;
  readonly bytes: Buffer;
  readonly crc: number;
}

/** Gathers the bytes of an archive in parts, which are sent whole. Parts that are stored already are known by their CRC-32. */
export class PartBytes implements ArchiveBytes {
  readonly #options: PartBytesOptions;
  readonly #layout: ArchiveLayout;
  readonly #upload: Upload;
  readonly #memory: PartMemory;
  /** Bytes of the buffer for a part: those of a whole one, or of the archive where that is smaller. */
  readonly #bufferBytes: number;
  /** The buffers of parts that are held back, from the first byte of a blob on. */
  readonly #held = new Map<number, PartBuffer>();
  copiedBytes = 0;

  constructor(options: PartBytesOptions) {
    this.#options = options;
    this.#layout = options.layout;
    this.#upload = options.upload;
    this.#memory = options.memory;
    this.#bufferBytes = Math.min(options.upload.partSize, options.layout.size);
  }

  async begin(): Promise<void> {
    // the store has looked at what is there
  }

  async isStored(blob: BlobPlace): Promise<boolean> {
    return blob.parts.every((number) => this.#upload.done.has(number));
  }

  /** The own parts of the blob are sent while the next ones are filled. */
  async fill(blob: BlobPlace, open: () => Bytes, options: Abortable): Promise<void> {
    const { partSize } = this.#upload;
    const own = new PartsInFlight(this.#memory);
    let filling: PartBuffer | undefined;
    let crc = 0;
    const write = async (bytes: Uint8Array, start: number): Promise<void> => {
      this.#options.check(options);
      for (let from = 0; from < bytes.byteLength;) {
        const position = start + from;
        const number = Math.floor(position / partSize) + 1;
        const offset = position % partSize;
        const piece = bytes.subarray(from, from + partSize - offset);
        if (blob.heldParts.includes(number)) {
          // a part that is stored already takes no more bytes
          if (!this.#upload.done.has(number)) this.#bufferOf(number).bytes.set(piece, offset);
        } else {
          filling ??= await own.buffer(this.#bufferBytes);
          filling.bytes.set(piece, offset);
          // while the piece is still in the processor's cache: the part is not, once it is full
          crc = crc32(piece, crc);
          if (offset + piece.byteLength === partSize) {
            const full = { number, bytes: filling.bytes, crc };
            own.launch(filling, async () => this.#sendOwn(full, blob.entry, options));
            filling = undefined;
            crc = 0;
          }
        }
        from += piece.byteLength;
      }
    };
    try {
      await writeBlob(blob.entry, open(), write);
    } finally {
      filling?.giveBack();
      await own.ended();
    }
    await own.stored();
  }

  async store(number: number, options: Abortable): Promise<void> {
    const buffer = this.#bufferOf(number);
    const start = (number - 1) * this.#upload.partSize;
    const bytes = buffer.bytes.subarray(0, Math.min(this.#bufferBytes, this.#layout.size - start));
    this.#writePlanned(start, bytes);
    try {
      await this.#upload.part(number, bytes, options);
    } catch (error) {
      throw this.#options.fail(error, options.signal);
    }
    this.#held.delete(number);
    buffer.giveBack();
  }

  [Symbol.dispose](): void {
    for (const buffer of this.#held.values()) buffer.giveBack();
    this.#held.clear();
  }

  async #sendOwn(part: FullPart, entry: BlobEntry, { signal }: Abortable): Promise<void> {
    const { number, bytes, crc } = part;
    try {
      if (this.#upload.holds(number, bytes, crc)) return;
      this.#options.reused.delete(number);
      if (!(await this.#copyKnown(part, entry, { signal }))) await this.#upload.part(number, bytes, { signal, crc });
    } catch (error) {
      throw this.#options.fail(error, signal);
    }
  }

  /** Whether the store has copied the part from another archive, byte for byte by its CRC-32. The bytes were read all the same: they prove the blob. */
  async #copyKnown({ number, bytes, crc }: FullPart, entry: BlobEntry, { signal }: Abortable): Promise<boolean> {
    const { known } = this.#options;
    const { digest } = entry.descriptor;
    const found = known?.find(digest);
    if (found === undefined) return false;
    const start = (number - 1) * this.#upload.partSize;
    const from = partWithin(entry, found, { start, length: bytes.byteLength });
    if (from === undefined) return false;
    if ((await this.#upload.copyPart?.(number, bytes, from, { signal, crc })) !== true) {
      known?.drop(digest);
      return false;
    }
    this.copiedBytes += bytes.byteLength;
    return true;
  }

  #bufferOf(number: number): PartBuffer {
    const buffer = this.#held.get(number) ?? this.#memory.takeNow(this.#bufferBytes);
    this.#held.set(number, buffer);
    return buffer;
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
