import {
  MAX_MESSAGE_BYTES,
  type Delivery,
  type Message,
  type Outcome,
  type Queue,
  type QueueCount,
  type ReceiveOptions,
} from '../../worker/queue/queue.ts';
import { Faults, type DeliveryFaults, type RequestFault } from '../../local/faults.ts';
import { checkAborted, orAborted, type Abortable } from '../../worker/util/abort.ts';
import type { Clock } from '../../worker/util/clock.ts';
import { Failure, isFailure } from '../../worker/util/failure.ts';

export interface MemoryQueueOptions {
  /** The clock that messages use. */
  readonly clock: Clock;
  /** Default `memory`. */
  readonly name?: string;
  /** The visibility timeout of receives that name none. Default 30. */
  readonly visibilitySeconds?: number;
  /** The dead-letter queue, and after how many receives a message is moved there. */
  readonly deadLetters?: { readonly queue: MemoryQueue; readonly maxReceiveCount: number };
}

interface Stored {
  readonly id: string;
  readonly body: string;
  readonly reason: string | undefined;
  readonly sentAtMs: number;
  visibleAtMs: number;
  receiveCount: number;
  firstReceivedAtMs: number | undefined;
  /** The delivery that holds the message. */
  holder: { readonly receivedAtMs: number; readonly isDoomed: boolean } | undefined;
  readonly isCopy: boolean;
}

const MAX_HELD_MS = 12 * 60 * 60 * 1000;

/** Faults that are possible without a network. */
type CallFault = Extract<RequestFault, { kind: 'answer' | 'cut-request' | 'lose-answer' }>;

/** A queue in memory, with the faults of the embedded SQS; faults of calls use the names of SQS. */
export class MemoryQueue implements Queue {
  readonly name: string;
  /** Faults of calls. */
  readonly faults = new Faults<string, CallFault>();
  /** Faults of messages. */
  readonly deliveryFaults: DeliveryFaults = new Faults();
  /** The calls, in order: `ReceiveMessage 3`, `ChangeMessageVisibility 120`, `DeleteMessage`, … */
  readonly calls: string[] = [];
  readonly #options: MemoryQueueOptions;
  #messages: Stored[] = [];
  #sent = 0;
  readonly #wakers = new Set<() => void>();

  constructor(options: MemoryQueueOptions) {
    this.#options = options;
    this.name = options.name ?? 'memory';
  }

  /** The bodies of all messages in the queue, visible or not. */
  get bodies(): readonly string[] {
    return this.#messages.map(({ body }) => body);
  }

  async receive(max: number, options: ReceiveOptions = {}): Promise<readonly Delivery[]> {
    const { clock } = this.#options;
    const { waitSeconds = 20, visibilitySeconds = this.#options.visibilitySeconds ?? 30 } = options;
    const endMs = clock.now() + waitSeconds * 1000;
    return this.#call(`ReceiveMessage ${max}`, options, async () => {
      for (;;) {
        this.#checkThere('ReceiveMessage');
        const taken = this.#take(max, visibilitySeconds);
        const nowMs = clock.now();
        if (taken.length > 0 || nowMs >= endMs) return taken;
        const nextMs = Math.min(endMs, ...this.#messages.map(({ visibleAtMs }) => visibleAtMs));
        await this.#changedOrAfter(nextMs - nowMs, options);
      }
    });
  }

  async send(messages: readonly Message[], options: Abortable = {}): Promise<void> {
    if (messages.some(({ body }) => Buffer.byteLength(body) > MAX_MESSAGE_BYTES))
      throw new Failure('INVALID', `send to ${this.name}: a message over the size`);
    await this.#call(`SendMessageBatch ${messages.length}`, options, async () => {
      const sentAtMs = this.#options.clock.now();
      for (const { body, delaySeconds = 0, reason } of messages) {
        this.#messages.push({
          id: `message-${++this.#sent}`,
          body,
          reason: reason === undefined || reason === '' ? undefined : reason.slice(0, 1000),
          sentAtMs,
          visibleAtMs: sentAtMs + delaySeconds * 1000,
          receiveCount: 0,
          firstReceivedAtMs: undefined,
          holder: undefined,
          isCopy: false,
        });
      }
      this.#wake();
    });
  }

  async count(options: Abortable = {}): Promise<QueueCount> {
    return this.#call('GetQueueAttributes', options, async () => {
      const hidden = this.#messages.filter(({ visibleAtMs }) => visibleAtMs > this.#options.clock.now());
      const delayed = hidden.filter(({ receiveCount }) => receiveCount === 0).length;
      return { visible: this.#messages.length - hidden.length, inFlight: hidden.length - delayed, delayed };
    });
  }

  #take(max: number, visibilitySeconds: number): readonly Delivery[] {
    const { clock, deadLetters } = this.#options;
    const nowMs = clock.now();
    const taken: Delivery[] = [];
    const visible = this.#messages.filter(({ visibleAtMs }) => visibleAtMs <= nowMs);
    for (let message = visible.shift(); message !== undefined && taken.length < max; message = visible.shift()) {
      if (deadLetters !== undefined && message.receiveCount >= deadLetters.maxReceiveCount) {
        this.#remove(message);
        deadLetters.queue.#adopt(message, nowMs);
        continue;
      }
      const fault = message.isCopy ? undefined : this.deliveryFaults.take({ operations: [] });
      if (fault?.kind === 'duplicate') this.#messages.push({ ...message, isCopy: true, holder: undefined });
      if (fault?.kind === 'reorder') {
        this.#remove(message);
        const behind = { ...message, isCopy: true };
        this.#messages.push(behind);
        visible.push(behind);
        continue;
      }
      const seconds = fault?.kind === 'reappear' ? (fault.afterSeconds ?? 0) : visibilitySeconds;
      message.holder = { receivedAtMs: nowMs, isDoomed: fault?.kind === 'reappear' };
      message.visibleAtMs = nowMs + seconds * 1000;
      message.receiveCount++;
      message.firstReceivedAtMs ??= nowMs;
      taken.push(this.#delivery(message, message.firstReceivedAtMs));
    }
    return taken;
  }

  #delivery(message: Stored, firstReceivedAtMs: number): Delivery {
    const { id, body, receiveCount, sentAtMs, reason, holder } = message;
    const isOurs = (): boolean => message.holder === holder && this.#messages.includes(message);
    const hide = (seconds: number): void => {
      const nowMs = this.#options.clock.now();
      const untilMs = nowMs + Math.max(0, Math.ceil(seconds)) * 1000;
      const isHeld = isOurs() && message.visibleAtMs > nowMs;
      if (!isHeld || (seconds > 0 && untilMs > (holder?.receivedAtMs ?? 0) + MAX_HELD_MS))
        throw new Failure('CONFLICT', `set the visibility of ${id} of ${this.name}: another consumer holds it now`);
      if (holder?.isDoomed !== true || seconds === 0) message.visibleAtMs = untilMs;
      if (seconds === 0) message.holder = undefined;
      this.#wake();
    };
    return {
      id,
      body,
      receiveCount,
      sentAtMs,
      firstReceivedAtMs,
      reason,
      extend: async (seconds, options = {}) =>
        this.#call(`ChangeMessageVisibility ${Math.ceil(seconds)}`, options, async () => hide(seconds)),
      settle: async (outcome: Outcome) => {
        if (outcome.type === 'done') {
          return this.#call('DeleteMessage', {}, async () => {
            if (isOurs()) this.#remove(message);
          });
        }
        const { seconds } = outcome;
        return this.#call(`ChangeMessageVisibility ${Math.ceil(seconds)}`, {}, async () => {
          try {
            hide(seconds);
          } catch (error) {
            if (!isFailure(error, 'CONFLICT')) throw error;
          }
        });
      },
    };
  }

  #adopt(message: Stored, nowMs: number): void {
    this.#messages.push({ ...message, visibleAtMs: nowMs, holder: undefined });
    this.#wake();
  }

  #remove(message: Stored): void {
    this.#messages = this.#messages.filter((other) => other !== message);
  }

  async #call<T>(call: string, options: Abortable, work: () => Promise<T>): Promise<T> {
    checkAborted(options);
    this.calls.push(call);
    const [action = ''] = call.split(' ');
    this.#checkThere(action);
    const fault = this.faults.take({ operations: [action] });
    if (fault?.kind === 'answer') throw new Failure('THROTTLED', `${action} of ${this.name}: throttled`);
    if (fault?.kind === 'cut-request') throw new Failure('UNAVAILABLE', `${action} of ${this.name}: cut before`);
    const result = await work();
    if (fault?.kind === 'lose-answer') throw new Failure('UNAVAILABLE', `${action} of ${this.name}: cut after`);
    return result;
  }

  #checkThere(action: string): void {
    if (this.faults.away !== undefined)
      throw new Failure('UNAVAILABLE', `${action} of ${this.name}: the queue is unreachable`);
  }

  #wake(): void {
    for (const wake of this.#wakers) wake();
  }

  async #changedOrAfter(ms: number, options: Abortable): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const changed = new AbortController();
    this.#wakers.add(resolve);
    const slept = this.#options.clock.sleep(ms, { signal: changed.signal }).catch(() => undefined);
    try {
      await orAborted(Promise.race([promise, slept]), options);
    } finally {
      this.#wakers.delete(resolve);
      changed.abort();
    }
  }
}
