import { crc32 } from 'node:zlib';
import type { Bytes } from '../../content/content.ts';
import { anyOf, checkAborted, type Abortable } from '../../util/abort.ts';
import { Failure } from '../../util/failure.ts';
import type { ObjectInfo, WriteOptions } from '../objects.ts';
import { PartMemory, type PartBuffer } from '../part-memory.ts';
import { PartsInFlight } from '../parts-in-flight.ts';
import { isRefusal, refused } from './failure.ts';
import { dropQuietly, wholeOf, type Multipart, type MultipartCalls, type StoredPart } from './multipart.ts';
import { DEFAULT_PART_BYTES, MAX_PART_BYTES, MAX_PARTS, MIB } from './part-size.ts';

/** Bytes of parts in memory. Compressed bytes come slower than a bucket takes four parts at once. */
const MEMORY_BYTES = 4 * DEFAULT_PART_BYTES;

/** Stores a body of unknown length in parts of growing size, several of which are sent at once. A short one is handed to `write`. */
export async function streamToS3(
  calls: MultipartCalls,
  key: string,
  body: Bytes,
  options: WriteOptions,
  write: (bytes: Uint8Array) => Promise<ObjectInfo>,
): Promise<ObjectInfo> {
  const parts = new PartsInFlight(new PartMemory(MEMORY_BYTES));
  const pieces = piecesOf(body, parts, options);
  try {
    const first = await pieces.next();
    if (first.done === true) return await write(new Uint8Array());
    if (first.value.length < DEFAULT_PART_BYTES) return await write(first.value.bytes.subarray(0, first.value.length));
    if (options.condition !== undefined) await calls.tryConditions(key, options);
    const multipart = await calls.begin(key, options);
    try {
      const sending = new StreamedParts(calls, multipart, parts, options);
      sending.launch(first.value);
      const stored = await sending.sendAll(pieces);
      return await calls.complete(multipart, stored, wholeOf(stored, options.condition), options);
    } catch (error) {
      await dropQuietly(calls, multipart);
      throw isRefusal(error) ? refused(calls.describe(key), error) : error;
    }
  } finally {
    await pieces.return();
  }
}

/** Memory that holds `length` bytes of the body. The caller that takes it gives it back. */
interface Piece extends PartBuffer {
  readonly length: number;
  /** The CRC-32 of these bytes. */
  readonly crc: number;
}

/**
 * The body in pieces of at least 8 MiB, or a thousandth of what came before: 8 GB in small parts, 19 TB in 10,000. Only the last piece may be
 * smaller.
 */
async function* piecesOf(
  body: Bytes,
  parts: PartsInFlight,
  options: Abortable,
): AsyncGenerator<Piece, void, undefined> {
  let sent = 0;
  let filling: PartBuffer | undefined;
  let filled = 0;
  let crc = 0;
  try {
    for await (const chunk of body) {
      checkAborted(options);
      for (let from = 0; from < chunk.byteLength;) {
        const wanted = Math.max(DEFAULT_PART_BYTES, Math.ceil(sent / 1000 / MIB) * MIB);
        filling ??= await parts.buffer(Math.min(wanted, MAX_PART_BYTES));
        const { bytes } = filling;
        const taken = chunk.subarray(from, from + bytes.byteLength - filled);
        bytes.set(taken, filled);
        // while the chunk is still in the processor's cache: the part is not, once it is full
        crc = crc32(taken, crc);
        filled += taken.byteLength;
        from += taken.byteLength;
        if (filled < bytes.byteLength) continue;
        const full = filling;
        filling = undefined;
        sent += filled;
        filled = 0;
        const piece = { ...full, length: bytes.byteLength, crc };
        crc = 0;
        yield piece;
      }
    }
    if (filling === undefined) return;
    const last = filling;
    filling = undefined;
    yield { ...last, length: filled, crc };
  } finally {
    filling?.giveBack();
  }
}

/** Sends pieces as the parts of one upload. */
class StreamedParts {
  readonly #calls: MultipartCalls;
  readonly #multipart: Multipart;
  readonly #parts: PartsInFlight;
  readonly #onSent: WriteOptions['onSent'];
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  readonly #stored: StoredPart[] = [];
  #count = 0;

  constructor(calls: MultipartCalls, multipart: Multipart, parts: PartsInFlight, options: WriteOptions) {
    this.#calls = calls;
    this.#multipart = multipart;
    this.#parts = parts;
    this.#onSent = options.onSent;
    this.#signal = anyOf(options.signal, this.#stop.signal);
  }

  /** Sends `pieces`, and waits for all that are launched. The first failure stops the others, and is thrown when none is being sent any more. */
  async sendAll(pieces: AsyncIterable<Piece>): Promise<readonly StoredPart[]> {
    try {
      for await (const piece of pieces) this.launch(piece);
      await this.#parts.stored();
    } catch (error) {
      this.#stop.abort(error);
      await this.#parts.ended();
      throw error;
    }
    return this.#stored.sort((a, b) => a.number - b.number);
  }

  /** Sends a piece, without waiting. */
  launch(piece: Piece): void {
    const number = ++this.#count;
    this.#parts.launch(piece, async () => {
      try {
        if (number > MAX_PARTS)
          throw new Failure(
            'INVALID',
            `upload ${this.#calls.describe(this.#multipart.key)}: the body is too long for an object`,
          );
        const bytes = piece.bytes.subarray(0, piece.length);
        const sending = { signal: this.#signal, onSent: this.#onSent };
        this.#stored.push(await this.#calls.send(this.#multipart, number, bytes, piece.crc, sending));
      } catch (error) {
        this.#stop.abort(error);
        throw error;
      }
    });
  }
}
