import { FaultQueue, type Occasions } from '../http/call-faults.ts';

export type DeliveryFault =
  /** The message is there a second time, with the same id. */
  | { readonly kind: 'duplicate' }
  /** The message goes behind the others instead. */
  | { readonly kind: 'reorder' }
  /** The message is visible again after so many seconds, whatever the timeout, and however it is extended. */
  | { readonly kind: 'reappear'; readonly afterSeconds: number };

/** What standard queues may do to messages and fauxqs never does. One fault at most happens to a delivery. Without a request: none. */
export class DeliveryFaults {
  readonly #queue: FaultQueue<DeliveryFault>;

  constructor(options: { readonly seed?: number } = {}) {
    this.#queue = new FaultQueue(options.seed ?? 1);
  }

  /** Delivers messages twice: each has a copy, with the same id and a receipt handle of its own, that is visible at once. */
  duplicate(options: Occasions = {}): void {
    this.#queue.add({ kind: 'duplicate' }, options);
  }

  /** Puts messages behind all others when it is their turn, each once at most. A share of 0.5 mixes a queue well. */
  reorder(options: Occasions = {}): void {
    this.#queue.add({ kind: 'reorder' }, options);
  }

  /**
   * Makes messages visible again `afterSeconds` (default 0; fractions are fine) after their delivery. Until then extending is accepted
   * and does nothing; then the delivery is not in flight any more, and deleting by its handle has no effect.
   */
  reappear(options: Occasions & { readonly afterSeconds?: number } = {}): void {
    this.#queue.add({ kind: 'reappear', afterSeconds: options.afterSeconds ?? 0 }, options);
  }

  /** How many queued faults have not all happened yet. */
  get pending(): number {
    return this.#queue.pending;
  }

  clear(): void {
    this.#queue.clear();
  }

  /** The fault of one delivery. A copy is left in peace, so that each message has one at most. */
  take(): DeliveryFault | undefined {
    return this.#queue.take(() => true);
  }
}
