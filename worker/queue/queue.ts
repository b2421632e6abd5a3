import type { Abortable } from '../util/abort.ts';

/**
 * The limit of one message, and of all messages in a request.
 * https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
 */
export const MAX_MESSAGE_BYTES = 1024 * 1024;

/** A queue that delivers each message at least once, in any order. */
export interface Queue {
  /**
   * Waits up to `waitSeconds` (default 20) for messages, and takes up to `max` (1 to 10) of them: others do not see them until their
   * visibility ends, `visibilitySeconds` from now (default: as the queue has it). An empty list when none came. When the signal fires, no
   * message is lost: what was on its way is visible again later.
   */
  receive(max: number, options?: ReceiveOptions): Promise<readonly Delivery[]>;
  /** Sends all, in batches. A failure may leave some sent: sending again may make duplicates, never losses. INVALID for one over the size. */
  send(messages: readonly Message[], options?: Abortable): Promise<void>;
  /** About how many messages there are. */
  count(options?: Abortable): Promise<QueueCount>;
  /** For logs and people. */
  readonly name: string;
}

export interface ReceiveOptions extends Abortable {
  readonly waitSeconds?: number;
  readonly visibilitySeconds?: number;
}

export interface Message {
  readonly body: string;
  /** Seconds until it can be received, 900 at most. Default 0. */
  readonly delaySeconds?: number | undefined;
  /** Why it is in a dead-letter queue, beside the body, for people and `status`. Cut to 1,000 characters. */
  readonly reason?: string | undefined;
}

export interface QueueCount {
  readonly visible: number;
  /** Received, not settled yet. */
  readonly inFlight: number;
  readonly delayed: number;
}

/** One delivery of one message. It belongs to the receiver until its visibility ends. */
export interface Delivery {
  /** The same for each delivery of one message. */
  readonly id: string;
  readonly body: string;
  /** Times that it was delivered, this one included. */
  readonly receiveCount: number;
  /** When the message was sent, in milliseconds since 1970. */
  readonly sentAtMs: number;
  /** When it was received first: its visibility ends 12 hours later and cannot be extended. */
  readonly firstReceivedAtMs: number;
  readonly reason: string | undefined;
  /** Keeps it for `seconds` from now. CONFLICT when another consumer holds it now. */
  extend(seconds: number, options?: Abortable): Promise<void>;
  /** Ends this delivery. It takes no signal: what is done must be recorded. Safe to repeat. */
  settle(outcome: Outcome): Promise<void>;
}

export type Outcome =
  /** It is never redelivered. */
  | { readonly type: 'done' }
  /** It is redelivered to any worker in `seconds`. */
  | { readonly type: 'again'; readonly seconds: number };
