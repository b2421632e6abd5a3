import type { Descriptor } from '../oci/manifest.ts';
import { anyOf, checkAborted, type Abortable } from '../util/abort.ts';
import { Failure, toFailure } from '../util/failure.ts';
import type { Limit } from '../util/limit.ts';
import type { Bytes, Readable } from './content.ts';

/** One connection reads this much at a time while others read what comes after it. */
const PIECE_BYTES = 4 * 1024 * 1024;
/** While there is no memory to read ahead with, one connection goes on for this long before asking again. */
const RUN_BYTES = 32 * 1024 * 1024;

/** Raw bytes in order; in the end, whether all came that were asked for. */
type ByteStream = AsyncGenerator<Uint8Array, boolean, undefined>;

/**
 * The raw bytes of `descriptor` from `offset` on, read by up to `source.rangesAtOnce` connections in a window: the first piece is handed out as it
 * arrives, those after it wait in memory taken from `budget`, never more than that. Small blobs, and those for which there is no memory,
 * come over one connection. One S3 connection gives 80 to 100 MB/s whatever the machine could do:
 * https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-design-patterns.html
 */
export async function* readAhead(
  source: Readable,
  descriptor: Descriptor,
  offset: number,
  budget: Limit,
  options: Abortable,
): Bytes {
  if (descriptor.size - offset <= PIECE_BYTES || budget.capacity < PIECE_BYTES) {
    yield* readRange(source, descriptor, offset, descriptor.size, options.signal);
    return;
  }
  const stop = new AbortController();
  const signal = anyOf(options.signal, stop.signal);
  const pieces: Piece[] = [];
  let planned = offset;
  try {
    for (;;) {
      while (planned < descriptor.size && pieces.length < (source.rangesAtOnce ?? 1)) {
        // a blob that is nearly done is not worth another connection
        if (pieces.length > 0 && descriptor.size - planned < PIECE_BYTES / 4) break;
        const giveBack = budget.tryTake(PIECE_BYTES);
        if (giveBack === undefined) break;
        const to = Math.min(planned + PIECE_BYTES, descriptor.size);
        pieces.push(new Piece(readRange(source, descriptor, planned, to, signal), giveBack));
        planned = to;
      }
      const first = pieces[0];
      if (first !== undefined) {
        if (!(yield* first.chunks())) return;
        await first.drop();
        pieces.shift();
      } else if (planned < descriptor.size) {
        const to = Math.min(planned + RUN_BYTES, descriptor.size);
        if (!(yield* readRange(source, descriptor, planned, to, signal))) return;
        planned = to;
      } else return;
    }
  } finally {
    stop.abort(new Failure('ABORTED', 'reading ahead was given up'));
    await Promise.all(pieces.map((piece) => piece.drop()));
  }
}

/** The bytes `from` to `to` over one connection. More than those are cut off; at the end of the blob one chunk too many shows that there are. */
async function* readRange(
  source: Readable,
  descriptor: Descriptor,
  from: number,
  to: number,
  signal: AbortSignal | undefined,
): ByteStream {
  const last = to === descriptor.size;
  let left = to - from;
  for await (const chunk of await source.open(descriptor, { signal, from, ...(last ? {} : { to }) })) {
    checkAborted({ signal });
    yield last ? chunk : chunk.subarray(0, left);
    left -= chunk.byteLength;
    if (left < 0 || (left === 0 && !last)) return true;
  }
  return left <= 0;
}

/** A range on its way: fetched into memory at once, handed out in order when its turn comes. */
class Piece {
  /** Resolves, never rejects, when nothing of this piece runs any more. */
  readonly #ended: Promise<void>;
  readonly #giveBack: () => void;
  readonly #waiting: Uint8Array[] = [];
  #complete: boolean | undefined;
  #failed: Failure | undefined;
  #wake: (() => void) | undefined;

  constructor(bytes: ByteStream, giveBack: () => void) {
    this.#giveBack = giveBack;
    this.#ended = this.#fetch(bytes);
  }

  async *chunks(): ByteStream {
    for (;;) {
      const chunk = this.#waiting.shift();
      if (chunk !== undefined) yield chunk;
      else if (this.#failed !== undefined) throw this.#failed;
      else if (this.#complete !== undefined) return this.#complete;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** Waits until the piece has ended, which its signal hastens, and gives its memory back. */
  async drop(): Promise<void> {
    await this.#ended;
    this.#waiting.length = 0;
    this.#giveBack();
  }

  async #fetch(bytes: ByteStream): Promise<void> {
    try {
      let next = await bytes.next();
      for (; next.done !== true; next = await bytes.next()) {
        this.#waiting.push(Buffer.from(next.value));
        this.#wake?.();
      }
      this.#complete = next.value;
    } catch (error) {
      this.#failed = toFailure(error);
    }
    this.#wake?.();
  }
}
