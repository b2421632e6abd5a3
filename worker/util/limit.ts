import { aborted, anyOf, checkAborted, type Abortable } from './abort.ts';
import { Failure } from './failure.ts';

/**
 * A bounded quantity that is taken and given back: requests at once, or bytes of memory. First come, first served, so a large request is never
 * starved by small ones. Take it around leaf I/O only; taking twice in one call stack can deadlock.
 */
export class Limit {
  /** What there is in all. */
  readonly capacity: number;
  #free: number;
  readonly #waiting: { readonly amount: number; readonly grant: () => void }[] = [];

  constructor(capacity: number) {
    if (!(capacity >= 1)) throw new Failure('BUG', `a limit of ${capacity} would never let anything pass`);
    this.capacity = capacity;
    this.#free = capacity;
  }

  /** Takes `amount` (default 1) and returns the function that gives it back; calling that twice is harmless. An amount over the capacity counts as the whole capacity. */
  async take(amount = 1, options?: Abortable): Promise<() => void> {
    checkAborted(options);
    const wanted = this.#wanted(amount);
    if (this.#waiting.length === 0 && this.#free >= wanted) return this.#granted(wanted);
    const { promise, resolve, reject } = Promise.withResolvers<() => void>();
    const waiter = { amount: wanted, grant: () => resolve(this.#granted(wanted)) };
    const signal = options?.signal;
    const onAbort = (): void => {
      const index = this.#waiting.indexOf(waiter);
      if (index === -1) return; // served in this very turn: the caller gets it
      this.#waiting.splice(index, 1);
      this.#wake();
      if (signal !== undefined) reject(aborted(signal));
    };
    this.#waiting.push(waiter);
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      return await promise;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** As `take`, but `undefined` instead of waiting. */
  tryTake(amount = 1): (() => void) | undefined {
    const wanted = this.#wanted(amount);
    return this.#waiting.length === 0 && this.#free >= wanted ? this.#granted(wanted) : undefined;
  }

  /** As `take`, but at once, even where less is free: callers that wait go on waiting until as much was given back. For work that must never wait. */
  takeNow(amount = 1): () => void {
    return this.#granted(this.#wanted(amount));
  }

  /** Runs `work` while holding `1`. */
  async run<T>(work: () => Promise<T>, options?: Abortable): Promise<T> {
    const giveBack = await this.take(1, options);
    try {
      return await work();
    } finally {
      giveBack();
    }
  }

  #wanted(amount: number): number {
    if (!(amount >= 0)) throw new Failure('BUG', `${amount} cannot be taken from a limit`);
    return Math.min(amount, this.capacity);
  }

  #granted(amount: number): () => void {
    this.#free -= amount;
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#free += amount;
      this.#wake();
    };
  }

  #wake(): void {
    for (let next = this.#waiting[0]; next !== undefined && this.#free >= next.amount; next = this.#waiting[0]) {
      this.#waiting.shift();
      next.grant();
    }
  }
}

/**
 * Runs `work` for every item, at most `width` at once, starting in order. The first failure stops new starts, aborts the signal that
 * running work was given, waits until all of it has ended, and is thrown.
 */
export async function forEachOf<T>(
  items: Iterable<T>,
  width: number,
  work: (item: T, options: { readonly signal: AbortSignal }) => Promise<void>,
  options: Abortable = {},
): Promise<void> {
  if (!(width >= 1)) throw new Failure('BUG', `work of width ${width} would never be done`);
  const stop = new AbortController();
  const signal = anyOf(options.signal, stop.signal);
  const failed: unknown[] = [];
  const iterator = items[Symbol.iterator]();
  const runner = async (): Promise<void> => {
    try {
      while (!signal.aborted) {
        const next = iterator.next();
        if (next.done === true) return;
        await work(next.value, { signal });
      }
    } catch (error) {
      failed.push(error);
      stop.abort(error);
    }
  };
  await Promise.all(Array.from({ length: width }, runner));
  if (signal.aborted) iterator.return?.();
  if (failed.length > 0) throw failed[0];
  checkAborted(options);
}
