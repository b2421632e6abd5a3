import { checkAborted } from '../util/abort.ts';
import { toFailure, type Failure } from '../util/failure.ts';
import type { Bytes } from './content.ts';

/** A piece is handed out in chunks of this size, so that one stays in the processor's cache while it is hashed and written. */
const CHUNK_BYTES = 256 * 1024;

interface PieceOptions {
  /** How many bytes the range has. */
  readonly length: number;
  /** Whether to hand out a byte that the source gives after the range, which shows that a blob is too long. Otherwise it is cut off. */
  readonly showsExcess: boolean;
  readonly signal: AbortSignal;
  /** Called with the number of bytes that arrived. */
  readonly onBytes: (bytes: number) => void;
}

/** The bytes of a range on their way into memory, from which they are handed out in order when its turn comes. */
export class Piece {
  /** How many bytes the range has. */
  readonly length: number;
  readonly #buffer: Buffer;
  readonly #opened = Promise.withResolvers<boolean>();
  /** Resolves, never rejects, when nothing writes to the buffer any more. */
  readonly #ended: Promise<void>;
  readonly #onBytes: (bytes: number) => void;
  #filled = 0;
  #given = 0;
  readonly #showsExcess: boolean;
  /** The first byte after the range, kept to prove that the source gives more than the range. */
  #excess: Uint8Array | undefined;
  #isOver = false;
  #failed: Failure | undefined;
  #wake: (() => void) | undefined;

  /** Begins to fetch at once. `buffer` is the piece's until `ended` resolves. */
  constructor(open: () => Promise<Bytes>, buffer: Buffer, options: PieceOptions) {
    this.length = options.length;
    this.#buffer = buffer;
    this.#onBytes = options.onBytes;
    this.#showsExcess = options.showsExcess;
    this.#ended = this.#fetch(open, options.signal);
  }

  /** Whether any byte has arrived. */
  get hasBytes(): boolean {
    return this.#filled > 0;
  }

  /** Resolves to whether the source gives this range: true with its first byte, false when it failed or ended before. */
  async opens(): Promise<boolean> {
    return this.#opened.promise;
  }

  /** The next bytes. Undefined after the last. Throws where the source failed, after the bytes that it gave before. */
  async next(): Promise<Uint8Array | undefined> {
    for (;;) {
      if (this.#given < this.#filled) {
        const from = this.#given;
        this.#given = Math.min(this.#filled, from + CHUNK_BYTES);
        return this.#buffer.subarray(from, this.#given);
      }
      if (this.#isOver) {
        const excess = this.#excess;
        this.#excess = undefined;
        if (excess === undefined && this.#failed !== undefined) throw this.#failed;
        return excess;
      }
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** Whether every byte of the range has arrived. */
  get isComplete(): boolean {
    return this.#filled === this.length;
  }

  /** Resolves when nothing writes to the buffer any more. The signal makes that soon. */
  async ended(): Promise<void> {
    await this.#ended;
  }

  async #fetch(open: () => Promise<Bytes>, signal: AbortSignal): Promise<void> {
    try {
      for await (const chunk of await open()) {
        checkAborted({ signal });
        if (chunk.byteLength === 0) continue;
        const taken = Math.min(chunk.byteLength, this.length - this.#filled);
        this.#buffer.set(taken === chunk.byteLength ? chunk : chunk.subarray(0, taken), this.#filled);
        this.#filled += taken;
        this.#onBytes(taken);
        this.#opened.resolve(true);
        this.#wake?.();
        if (taken === chunk.byteLength) continue;
        if (this.#showsExcess) this.#excess = Uint8Array.from(chunk.subarray(taken, taken + 1));
        break;
      }
    } catch (error) {
      // after its last byte nothing is missing
      if (!this.isComplete) this.#failed = toFailure(error);
    }
    this.#isOver = true;
    this.#opened.resolve(false);
    this.#wake?.();
  }
}
