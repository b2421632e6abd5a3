import { shortDigest } from '../oci/digest.ts';
import type { Descriptor } from '../oci/manifest.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { systemClock, type Clock } from '../util/clock.ts';
import type { Report } from '../util/events.ts';
import { describeFailure, Failure, toFailure } from '../util/failure.ts';
import type { Limit } from '../util/limit.ts';
import { MAX_RETRY_AFTER_MS, retryDelayMs } from '../util/retry.ts';
import type { ByteRange, Bytes, Readable } from './content.ts';
import { readAhead } from './read-ahead.ts';
import { DONE, Watchers, type BodyWatcher, type WatchableBytes } from './watch.ts';

export interface ReadOptions extends Abortable {
  readonly clock?: Clock | undefined;
  readonly report?: Report | undefined;
  /**
   * Bytes that all reads sharing it may hold ahead of their consumers. With it, a large blob of a source that serves several ranges at once
   * is read by several connections. Absent: one connection.
   */
  readonly ahead?: Limit | undefined;
}

/** Which bytes a reading is of, and what is done with them. */
interface ReadingOptions {
  /** What messages call the content. Default: its digest, shortened. */
  readonly name?: string;
  /** Which bytes. What the source gives beyond them is cut off. Absent: all; then a source that gives more is CORRUPT. */
  readonly part?: Required<ByteRange>;
  /** Called with each chunk before it is handed out. */
  readonly take?: (chunk: Uint8Array) => void;
  /** Called when all bytes have come, before the last chunk is handed out. Throws where they are wrong. */
  readonly finish?: () => void;
  /** The failure of content of another size, given what is wrong with it. */
  readonly wrongSize: (what: string, cause?: unknown) => Failure;
}

/**
 * Failures in a row, without one new byte between them, until the read gives up. Bodies that are too slow count apart, since each brings some
 * bytes.
 */
const ATTEMPTS = 6;
/** A body that brings less than this while its reader waits for it is too slow. */
const LEAST_BYTES_PER_SECOND = 1024;
const RATE_SECONDS = 300;

/**
 * Bytes without gaps: what was delivered is never asked for again, unless the source cannot start in the middle. Chunks are those of the source,
 * lent on. An iterator written by hand instead of generators around each other: a chunk costs one promise here.
 */
export class Reading implements WatchableBytes {
  readonly #source: Readable;
  readonly #descriptor: Descriptor;
  readonly #options: ReadOptions;
  readonly #reading: ReadingOptions;
  readonly #name: string;
  readonly #clock: Clock;
  readonly #rate: Rate;
  readonly #watchers = new Watchers();
  /** Where the next bytes are. */
  #offset: number;
  readonly #to: number;
  #body: AsyncIterator<Uint8Array> | undefined;
  /** Why the body was broken off here; undefined where it failed by itself. */
  #fault: 'slow' | 'ended' | undefined;
  #failures = 0;
  #slow = 0;
  /** Whether the source can start in the middle, as far as is known. */
  #ranges = true;
  #isOver = false;

  constructor(source: Readable, descriptor: Descriptor, options: ReadOptions, reading: ReadingOptions) {
    this.#source = source;
    this.#descriptor = descriptor;
    this.#options = options;
    this.#reading = reading;
    this.#name = reading.name ?? shortDigest(descriptor.digest);
    this.#clock = options.clock ?? systemClock;
    this.#rate = new Rate(this.#clock);
    this.#offset = reading.part?.from ?? 0;
    this.#to = reading.part?.to ?? descriptor.size;
  }

  watch(watcher: BodyWatcher): void {
    this.#watchers.add(watcher);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    if (this.#isOver) return DONE;
    const isPart = this.#reading.part !== undefined;
    // what follows a part is not looked at
    if (isPart && this.#offset === this.#to) return this.return();
    this.#rate.asked();
    // a copy of the last chunk: asking the source for its end takes the chunk back
    let last: Uint8Array | undefined;
    try {
      for (;;) {
        let chunk: Uint8Array | undefined;
        try {
          checkAborted(this.#options);
          this.#body ??= (await this.#open())[Symbol.asyncIterator]();
          const next = await this.#body.next();
          checkAborted(this.#options); // a body may have been on its way already, or not listen
          if (next.done === true) this.#bodyEnded();
          else if (next.value.byteLength === 0) continue;
          else chunk = this.#arrived(next.value);
        } catch (error) {
          await this.#recover(error);
          if (this.#offset < this.#to) continue;
        }
        if (chunk === undefined) return this.#ended(last);
        if (this.#offset > this.#to)
          throw this.#reading.wrongSize(`has more than the ${this.#to} bytes that its descriptor states`);
        this.#reading.take?.(chunk);
        if (this.#offset < this.#to || isPart) return this.#given(chunk);
        last = Uint8Array.from(chunk);
      }
    } catch (error) {
      this.#isOver = true;
      await this.#close().catch(() => undefined);
      throw this.#watchers.failed(error);
    }
  }

  async return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#isOver = true;
    try {
      await this.#close();
    } finally {
      this.#watchers.ended();
    }
    return DONE;
  }

  #given(chunk: Uint8Array): IteratorResult<Uint8Array, undefined> {
    this.#watchers.taken(chunk.byteLength);
    return { done: false, value: chunk };
  }

  /** All bytes have come. */
  #ended(last: Uint8Array | undefined): IteratorResult<Uint8Array, undefined> {
    this.#reading.finish?.();
    this.#isOver = true;
    const result = last === undefined ? DONE : this.#given(last);
    this.#watchers.ended();
    return result;
  }

  /** Throws where bytes are missing. */
  #bodyEnded(): void {
    this.#body = undefined;
    if (this.#offset >= this.#to) return;
    this.#fault = 'ended';
    const what = `the body ended after ${this.#offset} of ${this.#descriptor.size} bytes`;
    throw new Failure('UNAVAILABLE', `reading ${this.#name}: ${what}`);
  }

  /** Counts bytes that arrived. Those beyond the end of a part are cut off. */
  #arrived(chunk: Uint8Array): Uint8Array {
    const pace = this.#rate.arrived(chunk.byteLength);
    if (pace === 'slow') {
      this.#fault = 'slow';
      throw tooSlow(this.#name);
    }
    if (pace === 'fast') this.#slow = 0;
    this.#failures = 0;
    const wanted = this.#reading.part === undefined ? chunk : chunk.subarray(0, this.#to - this.#offset);
    this.#offset += wanted.byteLength;
    return wanted;
  }

  /** Waits until the body may be opened again. Throws where opening it again cannot help. */
  async #recover(thrown: unknown): Promise<void> {
    const fault = this.#fault;
    this.#fault = undefined;
    await this.#close().catch(() => undefined);
    checkAborted(this.#options);
    const failure = toFailure(thrown);
    if (failure.code === 'UNSUPPORTED' && this.#ranges && this.#offset > 0) {
      this.#ranges = false;
      return;
    }
    if (!failure.retryable) throw failure;
    // what broke after its last byte brought all of them
    if (this.#offset >= this.#to) return;
    const attempt = fault === 'slow' ? ++this.#slow : ++this.#failures;
    if (attempt >= ATTEMPTS) {
      if (fault !== 'ended') throw failure;
      throw this.#reading.wrongSize(`ends after ${this.#offset} of ${this.#descriptor.size} bytes`, failure);
    }
    await this.#wait(failure, attempt);
  }

  /** Waits before a body is opened again. Throws `failure` where the source asks for more time than a read may take. */
  async #wait(failure: Failure, attempt: number): Promise<void> {
    const delayMs = retryDelayMs(failure, attempt, this.#clock);
    if (delayMs > MAX_RETRY_AFTER_MS) throw failure;
    const what = `read ${this.#name}`;
    const { report, signal } = this.#options;
    report?.({
      type: 'retry',
      side: 'source',
      what,
      attempt,
      delayMs,
      code: failure.code,
      message: describeFailure(failure),
    });
    await this.#clock.sleep(delayMs, { signal });
  }

  /** The body from where the reading is. */
  async #open(): Promise<Bytes> {
    const [source, descriptor, from, to] = [this.#source, this.#descriptor, this.#offset, this.#to];
    const { ahead, signal } = this.#options;
    if (!this.#ranges) return skipping(await source.open(descriptor, { signal }), from);
    const isToEnd = to === descriptor.size;
    if (ahead !== undefined && isToEnd && (source.rangesAtOnce ?? 1) > 1)
      return readAhead(source, descriptor, from, ahead, this.#options);
    return source.open(descriptor, { signal, ...(from === 0 ? {} : { from }), ...(isToEnd ? {} : { to }) });
  }

  async #close(): Promise<void> {
    const body = this.#body;
    this.#body = undefined;
    await body?.return?.();
  }
}

/** How fast a source delivers bytes. The time that the reader takes to use them does not count. */
class Rate {
  readonly #clock: Clock;
  #askedAtMs: number;
  #waitedMs = 0;
  #bytes = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#askedAtMs = clock.now();
  }

  /** The reader waits for the next bytes. */
  asked(): void {
    this.#askedAtMs = this.#clock.now();
  }

  /** Counts bytes that arrived. Returns how fast the source was once the reader has waited `RATE_SECONDS`, and begins anew; undefined before. */
  arrived(bytes: number): 'slow' | 'fast' | undefined {
    const nowMs = this.#clock.now();
    this.#waitedMs += nowMs - this.#askedAtMs;
    this.#askedAtMs = nowMs;
    this.#bytes += bytes;
    if (this.#waitedMs < RATE_SECONDS * 1000) return undefined;
    const isSlow = this.#bytes < LEAST_BYTES_PER_SECOND * RATE_SECONDS;
    this.#waitedMs = 0;
    this.#bytes = 0;
    return isSlow ? 'slow' : 'fast';
  }
}

function tooSlow(name: string): Failure {
  const minutes = RATE_SECONDS / 60;
  const least = `less than ${LEAST_BYTES_PER_SECOND} bytes a second for ${minutes} minutes`;
  return new Failure('UNAVAILABLE', `reading ${name}: the body brought ${least}`);
}

/** `body` without its first `count` bytes. */
async function* skipping(body: Bytes, count: number): Bytes {
  let left = count;
  for await (const chunk of body) {
    if (left >= chunk.byteLength) {
      left -= chunk.byteLength;
      continue;
    }
    yield left === 0 ? chunk : chunk.subarray(left);
    left = 0;
  }
}
