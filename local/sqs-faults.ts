import { FaultQueue, type Occasions } from './call-faults.ts';

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

  constructor(o: { readonly seed?: number } = {}) {
    this.#queue = new FaultQueue(o.seed ?? 1);
  }

  /** Delivers messages twice: each has a copy, with the same id and a receipt handle of its own, that is visible at once. */
  duplicate(o: Occasions = {}): void {
    this.#queue.add({ kind: 'duplicate' }, o);
  }

  /** Puts messages behind all others when it is their turn, each once at most. A share of 0.5 mixes a queue well. */
  reorder(o: Occasions = {}): void {
    this.#queue.add({ kind: 'reorder' }, o);
  }

  /**
   * Makes messages visible again `afterSeconds` (default 0; fractions are fine) after their delivery. Until then extending is accepted
   * and does nothing; then the delivery is not in flight any more, and deleting by its handle has no effect.
   */
  reappear(o: Occasions & { readonly afterSeconds?: number } = {}): void {
    this.#queue.add({ kind: 'reappear', afterSeconds: o.afterSeconds ?? 0 }, o);
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
