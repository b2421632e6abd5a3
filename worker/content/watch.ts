import type { Bytes } from './content.ts';

/** Observes a body while it is read. */
export interface BodyWatcher {
  /** Called with the size of each chunk, before it is handed out. */
  taken?(bytes: number): void;
  /** Called with the failure that ends the body. Returns the one that is thrown instead. */
  failed?(error: unknown): unknown;
  /** Called once when the body is over: read to its end, failed or left early. */
  ended?(): void;
}

/** A body that calls its watchers itself. Wrapping it in another iterator would cost a promise for each chunk. */
export interface WatchableBytes extends AsyncIterableIterator<Uint8Array, undefined> {
  /** Adds a watcher. To be called before the first chunk is asked for. */
  watch(watcher: BodyWatcher): void;
}

/** What an iterator of a body returns once it is over. */
export const DONE: IteratorResult<Uint8Array, undefined> = { done: true, value: undefined };

/** The same body, watched. Watchers that were added earlier are called earlier. */
export function watched(body: Bytes, watcher: BodyWatcher): Bytes {
  const watchable = isWatchable(body) ? body : new WatchedBytes(body);
  watchable.watch(watcher);
  return watchable;
}

function isWatchable(body: Bytes): body is WatchableBytes {
  return 'watch' in body && typeof body.watch === 'function' && 'next' in body;
}

/** The watchers of one body. */
export class Watchers {
  readonly #all: BodyWatcher[] = [];
  #isOver = false;

  add(watcher: BodyWatcher): void {
    this.#all.push(watcher);
  }

  taken(bytes: number): void {
    for (const watcher of this.#all) watcher.taken?.(bytes);
  }

  /** Returns the failure to throw. */
  failed(error: unknown): unknown {
    let current = error;
    for (const watcher of this.#all) if (watcher.failed !== undefined) current = watcher.failed(current);
    this.ended();
    return current;
  }

  ended(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    for (const watcher of this.#all) watcher.ended?.();
  }
}

/** Watches a body that does not do so itself. */
class WatchedBytes implements WatchableBytes {
  readonly #body: Bytes;
  readonly #watchers = new Watchers();
  #chunks: AsyncIterator<Uint8Array> | undefined;
  #isOver = false;

  constructor(body: Bytes) {
    this.#body = body;
  }

  watch(watcher: BodyWatcher): void {
    this.#watchers.add(watcher);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    if (this.#isOver) return DONE;
    let next: IteratorResult<Uint8Array, unknown>;
    try {
      this.#chunks ??= this.#body[Symbol.asyncIterator]();
      next = await this.#chunks.next();
    } catch (error) {
      this.#isOver = true;
      throw this.#watchers.failed(error);
    }
    if (next.done === true) {
      this.#isOver = true;
      this.#watchers.ended();
      return DONE;
    }
    this.#watchers.taken(next.value.byteLength);
    return next;
  }

  async return(): Promise<IteratorResult<Uint8Array, undefined>> {
    if (!this.#isOver) {
      this.#isOver = true;
      try {
        await this.#chunks?.return?.();
      } finally {
        this.#watchers.ended();
      }
    }
    return DONE;
  }
}
