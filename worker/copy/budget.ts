import { PROCESS_AHEAD } from '../content/ahead.ts';
import type { Digest } from '../oci/digest.ts';
import { orAborted, type Abortable } from '../util/abort.ts';
import { Limit } from '../util/limit.ts';

const DEFAULT_CONCURRENCY = 4;

/** What copies that run at once share: many of them take no more memory and connections than one, and send no blob twice to one place. */
export class CopyBudget {
  /** Blobs at once. */
  readonly blobs: Limit;
  /** Bytes that are read ahead. Copies with a budget of their own share these too. */
  readonly ahead: Limit = PROCESS_AHEAD;
  readonly #underway = new Map<string, Promise<unknown>>();

  constructor(concurrency = DEFAULT_CONCURRENCY) {
    this.blobs = new Limit(concurrency);
  }

  /**
   * Sends a blob to a place, after other copies that send it there. `isLater` is whether there was one, so that `send` asks the place first.
   * Without a place no other copy writes there, and the blob waits for none.
   */
  async inTurn(
    place: string | undefined,
    digest: Digest,
    send: (isLater: boolean) => Promise<void>,
    options: Abortable,
  ): Promise<void> {
    if (place === undefined) return this.blobs.run(async () => send(false), options);
    const key = `${place} ${digest}`;
    const before = this.#underway.get(key);
    const sending = this.#after(before, send, options);
    // a copy that is stopped while it waits does not end the one before it
    const ended = Promise.allSettled([before, sending]);
    this.#underway.set(key, ended);
    try {
      await sending;
    } finally {
      void ended.then(() => this.#underway.get(key) === ended && this.#underway.delete(key));
    }
  }

  async #after(
    before: Promise<unknown> | undefined,
    send: (isLater: boolean) => Promise<void>,
    options: Abortable,
  ): Promise<void> {
    await orAborted(before ?? Promise.resolve(), options);
    await this.blobs.run(async () => send(before !== undefined), options);
  }
}
