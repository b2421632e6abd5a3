import { toFailure, type Failure } from '../util/failure.ts';
import type { PartBuffer, PartMemory } from './part-memory.ts';

/**
 * The parts of one body: while one is being filled, those before it are sent, as many as there is memory for. The body always has memory for one
 * part of its own, so bodies never wait for each other.
 */
export class PartsInFlight {
  readonly #memory: PartMemory;
  readonly #flying = new Set<Promise<void>>();
  #failed: Failure | undefined;

  constructor(memory: PartMemory) {
    this.#memory = memory;
  }

  /** Memory for the next part. Where all is taken, waits until a part has been sent. Throws the failure of a part. */
  async buffer(size: number): Promise<PartBuffer> {
    for (;;) {
      if (this.#failed !== undefined) throw this.#failed;
      const buffer = this.#flying.size === 0 ? this.#memory.takeNow(size) : this.#memory.tryTake(size);
      if (buffer !== undefined) return buffer;
      await Promise.race(this.#flying);
    }
  }

  /** Sends a part that is full, without waiting. Its memory is given back afterwards. */
  launch(buffer: PartBuffer, send: () => Promise<void>): void {
    const sending = this.#send(buffer, send).finally(() => this.#flying.delete(sending));
    this.#flying.add(sending);
  }

  /** Resolves when no part is being sent any more. */
  async ended(): Promise<void> {
    await Promise.all(this.#flying);
  }

  /** Resolves when every part is stored. Throws the first failure, when no part is being sent any more. */
  async stored(): Promise<void> {
    await this.ended();
    if (this.#failed !== undefined) throw this.#failed;
  }

  /** Never rejects. */
  async #send(buffer: PartBuffer, send: () => Promise<void>): Promise<void> {
    try {
      await send();
    } catch (error) {
      this.#failed ??= toFailure(error);
    } finally {
      buffer.giveBack();
    }
  }
}
