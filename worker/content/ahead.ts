import type { Descriptor } from '../oci/manifest.ts';
import type { Abortable } from '../util/abort.ts';
import { Failure, toFailure } from '../util/failure.ts';
import type { Limit } from '../util/limit.ts';
import type { Bytes, Source } from './content.ts';

/** One connection reads this much at a time while others read what comes after it. */
const PIECE_BYTES = 4 * 1024 * 1024;
/** While there is no memory to read ahead with, one connection goes on for this long before asking again. */
const RUN_BYTES = 32 * 1024 * 1024;

/**
 * The raw bytes of `d` from `offset` on, read by up to `source.rangesAtOnce` connections in a window: the first piece is handed out as it
 * arrives, those after it wait in memory taken from `budget`, never more than that. One S3 connection gives 80 to 100 MB/s whatever the
 * machine could do: https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-design-patterns.html
 */
export async function* readAhead(source: Source, d: Descriptor, offset: number, budget: Limit, o: Abortable): Bytes {
  const stop = new AbortController();
  const signal = o.signal === undefined ? stop.signal : AbortSignal.any([o.signal, stop.signal]);
  const pieces: Piece[] = [];
  let planned = offset;
  const plan = (bytes: number, giveBack: () => void): void => {
    const to = Math.min(planned + bytes, d.size);
    pieces.push(new Piece(source, d, planned, to, giveBack, signal));
    planned = to;
  };
  try {
    while (planned < d.size || pieces.length > 0) {
      while (planned < d.size && pieces.length < (source.rangesAtOnce ?? 1)) {
        // a blob that is nearly done is not worth another connection
        if (pieces.length > 0 && d.size - planned < PIECE_BYTES / 4) break;
        const giveBack = budget.tryTake(PIECE_BYTES);
        if (giveBack !== undefined) plan(PIECE_BYTES, giveBack);
        else if (pieces.length === 0) {
          yield* direct(source, d, planned, Math.min(planned + RUN_BYTES, d.size), signal);
          planned = Math.min(planned + RUN_BYTES, d.size);
        } else break;
      }
      if (pieces.length === 0 && planned < d.size) {
        yield* direct(source, d, planned, d.size, signal);
        planned = d.size;
      }
      const first = pieces[0];
      if (first === undefined) continue;
      yield* first.chunks();
      pieces.shift();
    }
  } finally {
    stop.abort(new Failure('ABORTED', 'reading ahead was given up'));
    await Promise.all(pieces.map((piece) => piece.ended));
  }
}

/** Exactly the bytes `from` to `to`; UNAVAILABLE when fewer come, the surplus cut off when more do. */
async function* direct(source: Source, d: Descriptor, from: number, to: number, signal: AbortSignal): Bytes {
  let left = to - from;
  // the last piece is asked for to the end, so that bytes beyond the size show
  for await (const chunk of await source.open(d, { signal, from, ...(to === d.size ? {} : { to }) })) {
    yield chunk.byteLength > left && to !== d.size ? chunk.subarray(0, left) : chunk;
    left -= chunk.byteLength;
    if (left <= 0 && to !== d.size) return;
  }
  if (left > 0)
    throw new Failure('UNAVAILABLE', `the range ${from}-${to - 1} of ${d.digest} ended ${left} bytes early`);
}

/** A range on its way: fetched into memory at once, handed out in order when its turn comes. */
class Piece {
  /** Resolves, never rejects, when nothing of this piece runs any more. */
  readonly ended: Promise<void>;
  readonly #waiting: Uint8Array[] = [];
  readonly #giveBack: () => void;
  #done = false;
  #failed: Failure | undefined;
  #wake: (() => void) | undefined;

  constructor(source: Source, d: Descriptor, from: number, to: number, giveBack: () => void, signal: AbortSignal) {
    this.#giveBack = giveBack;
    this.ended = this.#fetch(source, d, from, to, signal);
  }

  async *chunks(): Bytes {
    try {
      for (;;) {
        const chunk = this.#waiting.shift();
        if (chunk !== undefined) yield chunk;
        else if (this.#failed !== undefined) throw this.#failed;
        else if (this.#done) return;
        else await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    } finally {
      this.#giveBack();
    }
  }

  async #fetch(source: Source, d: Descriptor, from: number, to: number, signal: AbortSignal): Promise<void> {
    try {
      for await (const chunk of direct(source, d, from, to, signal)) {
        this.#waiting.push(chunk);
        this.#wake?.();
      }
    } catch (error) {
      this.#failed = toFailure(error);
    } finally {
      this.#done = true;
      if (signal.aborted) {
        this.#waiting.length = 0;
        this.#giveBack();
      }
      this.#wake?.();
    }
  }
}
