import { BUFFER_BYTES, giveBackBuffer, takeBuffer } from './buffers.ts';

/** A buffer with less room than this is full: a record of TLS has this many bytes, and would be split. */
const LEAST_ROOM = 16 * 1024;
/** This many bytes are handed on as soon as the socket has no more for the moment. */
const WORTH_BYTES = 64 * 1024;
/** How long fewer bytes wait for more: each chunk costs its reader the same, however small it is. */
const GATHER_MS = 5;

/** What the reader of a body asks of its source. */
export interface BodySource {
  /** There is room again. */
  readonly resume: () => void;
  /** The rest is not wanted. */
  readonly leave: () => void;
}

interface Chunk {
  readonly buffer: Buffer;
  readonly bytes: Uint8Array;
  /** Whether nothing more is filled into the buffer. */
  isLast: boolean;
}

/**
 * A body on its way from a socket to its reader. The socket fills buffers in place, and the reader is lent what was filled: a chunk is valid
 * until `next` or `return` is called; then its buffer may be filled again. Of the three buffers of a body, one is with the reader, one is
 * full, and one is being filled.
 *
 * A socket keeps the place that it was given until it has filled it. So a buffer stays the one that is filled until it is full or the body
 * is complete, also while a part of it is lent, and one that the socket may still fill is never given back.
 */
export class LentBody implements AsyncIterableIterator<Uint8Array, undefined> {
  readonly #source: BodySource;
  #lent: Chunk | undefined;
  readonly #ready: Chunk[] = [];
  #filling: Buffer | undefined;
  /** The bytes of the buffer that is being filled that are not in a chunk yet. */
  #from = 0;
  #to = 0;
  #end: 'complete' | 'left' | Error | undefined;
  #waiting: PromiseWithResolvers<IteratorResult<Uint8Array, undefined>> | undefined;
  #turn: NodeJS.Immediate | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(source: BodySource) {
    this.#source = source;
  }

  /** Where the next bytes go: at least 16 KiB. */
  room(): Buffer {
    this.#filling ??= takeBuffer();
    return this.#filling.subarray(this.#to);
  }

  /** Takes over bytes that were filled into `room`. Returns whether more should be read. */
  filled(bytes: number): boolean {
    this.#to += bytes;
    if (this.#to > BUFFER_BYTES - LEAST_ROOM) this.#cut(true);
    this.#hand();
    return this.#ready.length === 0;
  }

  /** The body is whole. Bytes that came are read first. Called only while the socket has no place of this body. */
  complete(): void {
    if (this.#end !== undefined) return;
    this.#cut(true);
    this.#finish('complete');
  }

  /** The body broke. Bytes that came are read first, unless `when` is `at once`. */
  fail(error: Error, when: 'at once' | 'at the end'): void {
    if (this.#end !== undefined) return;
    if (when === 'at once') this.#drop();
    else this.#cut(false);
    this.#finish(error);
  }

  /** Gives up the rest. A chunk that is lent stays valid. */
  leave(): void {
    this.#drop();
    if (this.#end !== undefined) return;
    this.#finish('left');
    this.#source.leave();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#giveBack();
    const chunk = this.#ready.shift();
    if (chunk !== undefined) {
      this.#lent = chunk;
      if (this.#ready.length === 0 && this.#end === undefined) this.#source.resume();
      return { done: false, value: chunk.bytes };
    }
    if (this.#end instanceof Error) throw this.#end;
    if (this.#end !== undefined) return { done: true, value: undefined };
    this.#waiting = Promise.withResolvers();
    const { promise } = this.#waiting;
    this.#hand();
    return promise;
  }

  async return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#giveBack();
    this.leave();
    return { done: true, value: undefined };
  }

  #finish(end: 'complete' | 'left' | Error): void {
    this.#end = end;
    clearImmediate(this.#turn);
    clearTimeout(this.#timer);
    this.#filling = undefined;
    this.#hand();
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (end instanceof Error) waiting?.reject(end);
    else waiting?.resolve({ done: true, value: undefined });
  }

  /** Makes a chunk of the bytes that are not in one yet; with `isLast`, of the last ones of their buffer. */
  #cut(isLast: boolean): void {
    const buffer = this.#filling;
    if (buffer === undefined) return;
    if (this.#to > this.#from) this.#ready.push({ buffer, bytes: buffer.subarray(this.#from, this.#to), isLast });
    else if (isLast && this.#lent?.buffer === buffer) this.#lent.isLast = true;
    else if (isLast) giveBackBuffer(buffer);
    this.#from = isLast ? 0 : this.#to;
    if (!isLast) return;
    this.#filling = undefined;
    this.#to = 0;
  }

  /** Hands a chunk to the reader that waits for one: at once where one is ready, else when the socket has no more for the moment. */
  #hand(): void {
    const waiting = this.#waiting;
    if (waiting === undefined) return;
    const chunk = this.#ready.shift();
    if (chunk !== undefined) {
      this.#waiting = undefined;
      this.#lent = chunk;
      waiting.resolve({ done: false, value: chunk.bytes });
    } else if (this.#to > this.#from) {
      this.#turn ??= setImmediate(() => {
        this.#turn = undefined;
        if (this.#to - this.#from >= WORTH_BYTES) this.#handRest();
        else this.#timer ??= setTimeout(() => this.#handRest(), GATHER_MS);
      });
    }
  }

  #handRest(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#waiting === undefined || this.#to === this.#from) return;
    this.#cut(false);
    this.#hand();
  }

  #giveBack(): void {
    if (this.#lent?.isLast === true) giveBackBuffer(this.#lent.buffer);
    this.#lent = undefined;
  }

  #drop(): void {
    for (const { buffer, isLast } of this.#ready.splice(0)) if (isLast) giveBackBuffer(buffer);
    this.#from = this.#to;
  }
}
