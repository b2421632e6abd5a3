import type { Descriptor } from '../oci/manifest.ts';
import { anyOf, checkAborted, type Abortable } from '../util/abort.ts';
import { systemClock, type Clock } from '../util/clock.ts';
import { Failure } from '../util/failure.ts';
import type { Limit } from '../util/limit.ts';
import type { Bytes, Readable } from './content.ts';
import { Piece } from './piece.ts';
import { DONE } from './watch.ts';
import { Width, type Progress } from './width.ts';

/** One connection reads this much at a time while others read what comes after it. */
const PIECE_BYTES = 3 * 1024 * 1024;
/** A further connection is opened only where at least this much of a blob is left. */
const LEAST_BYTES = 12 * 1024 * 1024;
/**
 * How long a stream that has reached the first piece waits for it. It occupies a connection meanwhile: where the readings have all allowed
 * connections, and each waits for one more, none becomes free.
 */
const OPENS_MS = 5000;

/** What the readings with one budget share. */
interface Shared {
  /** Buffers of a piece that are free. */
  readonly idle: Buffer[];
  /** How much came over all connections. */
  bytes: number;
}

const sharedOf = new WeakMap<Limit, Shared>();

/**
 * The raw bytes of `descriptor` from `offset` on. They are read over one connection. Where that turns out to be too slow for its reader, further ones
 * read what comes next, up to `source.rangesAtOnce` in all: `Width` decides that. What they bring waits in memory taken from `budget`, never more
 * than that. Where none is left, one connection goes on. Where the source gives no ranges, that costs one request.
 */
export function readAhead(
  source: Readable,
  descriptor: Descriptor,
  offset: number,
  budget: Limit,
  options: Abortable & { readonly clock?: Clock | undefined },
): Bytes {
  return { [Symbol.asyncIterator]: () => new ReadAhead(source, descriptor, offset, budget, options) };
}

/** Written by hand instead of as generators around each other: a chunk costs one promise here. */
class ReadAhead implements AsyncIterator<Uint8Array, undefined> {
  readonly #source: Readable;
  readonly #descriptor: Descriptor;
  readonly #budget: Limit;
  readonly #clock: Clock;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  readonly #shared: Shared;
  readonly #width: Width;
  /** The connection whose bytes are handed out as they come, and where it ends: at the blob's end, or where the pieces begin. */
  #stream: AsyncIterator<Uint8Array> | undefined;
  #streamEnd: number;
  readonly #pieces: { readonly piece: Piece; readonly drop: () => Promise<void> }[] = [];
  /** Stops the pieces that there are. */
  #stopPieces = new AbortController();
  /** The next byte to hand out. */
  #position: number;
  /** The first byte that no connection reads. */
  #planned: number;
  /** The position from which a stream that is alone may be split again. */
  #splitAt = 0;
  #bytes = 0;
  #waitedMs = 0;
  #isOver = false;

  constructor(
    source: Readable,
    descriptor: Descriptor,
    offset: number,
    budget: Limit,
    { signal, clock = systemClock }: Abortable & { readonly clock?: Clock | undefined },
  ) {
    this.#source = source;
    this.#descriptor = descriptor;
    this.#budget = budget;
    this.#clock = clock;
    this.#signal = anyOf(signal, this.#stop.signal);
    this.#shared = sharedOf.get(budget) ?? { idle: [], bytes: 0 };
    sharedOf.set(budget, this.#shared);
    this.#position = offset;
    this.#planned = descriptor.size;
    this.#streamEnd = descriptor.size;
    const isLarge = descriptor.size - offset >= LEAST_BYTES && budget.capacity >= PIECE_BYTES;
    this.#width = new Width(isLarge ? (source.rangesAtOnce ?? 1) : 1, this.#progress(clock.now()));
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    if (this.#isOver) return DONE;
    try {
      const askedAtMs = this.#clock.now();
      const chunk = await this.#take();
      if (chunk === undefined) return await this.return();
      const nowMs = this.#clock.now();
      this.#waitedMs += nowMs - askedAtMs;
      this.#position += chunk.byteLength;
      this.#widen(nowMs);
      return { done: false, value: chunk };
    } catch (error) {
      await this.return().catch(() => undefined);
      throw error;
    }
  }

  async return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#isOver = true;
    this.#stop.abort(new Failure('ABORTED', 'reading ahead was given up'));
    try {
      await this.#closeStream();
    } finally {
      await this.#dropPieces();
    }
    return DONE;
  }

  /** The next bytes. Undefined where they end: at the end of the blob, or where a connection brought fewer than it was asked for. */
  async #take(): Promise<Uint8Array | undefined> {
    const { size } = this.#descriptor;
    for (;;) {
      checkAborted({ signal: this.#signal });
      const [first] = this.#pieces;
      if (this.#stream !== undefined) {
        if (this.#isAlone || this.#position < this.#streamEnd) return this.#fromStream(this.#stream);
        // the chunk that it lent last is not needed any more
        await this.#closeStream();
        this.#fetchMore();
      } else if (first !== undefined) {
        const chunk = await first.piece.next();
        if (chunk !== undefined) return chunk;
        this.#pieces.shift();
        await first.drop();
        if (!first.piece.isComplete || this.#position >= size) return undefined;
        this.#fetchMore();
      } else {
        this.#stream = (await this.#open(this.#position))[Symbol.asyncIterator]();
        this.#streamEnd = size;
        this.#planned = size;
      }
    }
  }

  /**
   * The next bytes of the stream, up to where the pieces begin. There it waits until the first of them has begun to come: where the source turns out to
   * give no ranges, or no further connection, the stream goes on.
   */
  async #fromStream(stream: AsyncIterator<Uint8Array>): Promise<Uint8Array | undefined> {
    const { done, value: chunk } = await stream.next();
    if (done === true) {
      this.#stream = undefined;
      return undefined;
    }
    this.#arrived(chunk.byteLength);
    const left = this.#streamEnd - this.#position;
    if (this.#isAlone || chunk.byteLength < left) return chunk;
    if (await this.#firstOpens()) return chunk.subarray(0, left);
    checkAborted({ signal: this.#signal });
    this.#stopPieces.abort(new Failure('ABORTED', 'the stream goes on alone'));
    this.#stopPieces = new AbortController();
    this.#width.stayAtOne();
    this.#streamEnd = this.#descriptor.size;
    this.#planned = this.#descriptor.size;
    await this.#dropPieces();
    return chunk;
  }

  /** Whether the first piece begins to come in time. */
  async #firstOpens(): Promise<boolean> {
    const opens = this.#pieces[0]?.piece.opens() ?? Promise.resolve(false);
    const waited = new AbortController();
    const signal = anyOf(this.#signal, waited.signal);
    const late = async (): Promise<boolean> => {
      await this.#clock.sleep(OPENS_MS, { signal }).catch(() => undefined);
      return false;
    };
    try {
      return await Promise.race([opens, late()]);
    } finally {
      waited.abort();
    }
  }

  async #closeStream(): Promise<void> {
    const stream = this.#stream;
    this.#stream = undefined;
    await stream?.return?.();
  }

  /** Opens more connections where one turns out to be too slow, and there is memory for what they bring. */
  #widen(nowMs: number): void {
    if (this.#width.isDue(nowMs) && this.#pieces.every(({ piece }) => piece.hasBytes) && this.#hasMemory()) {
      this.#width.look(this.#progress(nowMs));
      this.#fetchMore();
    }
    if (this.#width.current > 1 && this.#isAlone && this.#position >= this.#splitAt) this.#split();
  }

  /** Whether one stream reads all that is left. */
  get #isAlone(): boolean {
    return this.#stream !== undefined && this.#streamEnd === this.#descriptor.size;
  }

  /** Begins pieces after the stream, which goes on for as long as a piece takes. */
  #split(): void {
    const { size } = this.#descriptor;
    const end = this.#position + PIECE_BYTES;
    this.#splitAt = end;
    if (size - this.#position < LEAST_BYTES) return;
    this.#planned = end;
    this.#fetchMore();
    if (this.#pieces.length > 0) this.#streamEnd = end;
    else this.#planned = size;
  }

  /** Begins as many pieces as there should be connections, and as there is memory for. */
  #fetchMore(): void {
    const { size } = this.#descriptor;
    // one connection alone needs no memory
    if (this.#width.current === 1) return;
    while (this.#planned < size && this.#connections < this.#width.current) {
      const giveBack = this.#budget.tryTake(PIECE_BYTES);
      if (giveBack === undefined) return;
      const from = this.#planned;
      const to = Math.min(from + PIECE_BYTES, size);
      this.#planned = to;
      const buffer = this.#shared.idle.pop() ?? Buffer.allocUnsafeSlow(PIECE_BYTES);
      const signal = anyOf(this.#signal, this.#stopPieces.signal);
      const piece = new Piece(async () => this.#open(from, to, signal), buffer, {
        length: to - from,
        showsExcess: to === size,
        signal,
        onBytes: (bytes) => this.#arrived(bytes),
      });
      const drop = async (): Promise<void> => {
        await piece.ended();
        this.#shared.idle.push(buffer);
        giveBack();
      };
      this.#pieces.push({ piece, drop });
    }
  }

  get #connections(): number {
    return this.#pieces.length + (this.#stream === undefined ? 0 : 1);
  }

  #hasMemory(): boolean {
    const giveBack = this.#budget.tryTake(PIECE_BYTES);
    giveBack?.();
    return giveBack !== undefined;
  }

  async #open(from: number, to = this.#descriptor.size, signal = this.#signal): Promise<Bytes> {
    const end = to === this.#descriptor.size ? {} : { to };
    return this.#source.open(this.#descriptor, { signal, from, ...end });
  }

  async #dropPieces(): Promise<void> {
    await Promise.all(this.#pieces.splice(0).map(({ drop }) => drop()));
  }

  #arrived(bytes: number): void {
    this.#bytes += bytes;
    this.#shared.bytes += bytes;
  }

  #progress(nowMs: number): Progress {
    return {
      nowMs,
      bytes: this.#bytes,
      allBytes: this.#shared.bytes,
      waitedMs: this.#waitedMs,
      idleMs: this.#clock.idleMs?.(),
    };
  }
}
