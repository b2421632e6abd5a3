import type { Clock } from '../../worker/util/clock.ts';
import { Failure } from '../../worker/util/failure.ts';
import type { DeliveryFaults } from '../faults.ts';
import { CallRefusal } from '../http/json-front.ts';
import type { Fauxqs } from './fauxqs.ts';
import { handleRefused, invalid, recordsOf, shown, textOf, type Fields } from './fields.ts';
import type { Queues } from './queues.ts';

/** A message that was received. */
interface Delivery {
  readonly queue: string;
  readonly receivedMs: number;
  deadlineMs: number;
  /** A fault set its end, so extending it has no effect. */
  readonly isDoomed: boolean;
}

/** https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html: message visibility timeout */
const MAX_VISIBILITY_MS = 43_200_000;
/** Deliveries that are remembered before those that have expired are forgotten. */
const MANY_DELIVERIES = 1000;

/** What was received and is not settled yet, with what faults make of it. */
export class Deliveries {
  readonly #fauxqs: Fauxqs;
  readonly #queues: Queues;
  readonly #clock: Clock;
  readonly #faults: DeliveryFaults;
  /** By receipt handle. What has expired may be missing. */
  readonly #deliveries = new Map<string, Delivery>();
  /** The id of the original message, by the id of a copy that a fault made. */
  readonly #originals = new Map<string, string>();

  constructor(fauxqs: Fauxqs, queues: Queues, options: { readonly clock: Clock; readonly faults: DeliveryFaults }) {
    this.#fauxqs = fauxqs;
    this.#queues = queues;
    this.#clock = options.clock;
    this.#faults = options.faults;
  }

  /** What is visible now, at most as many as asked for. */
  async take(queue: string, input: Fields, visibilitySeconds: number): Promise<readonly Fields[]> {
    const receivedMs = this.#clock.now();
    this.#forgetExpired(receivedMs);
    const answer = await this.#fauxqs.call('ReceiveMessage', { ...input, WaitTimeSeconds: 0 });
    const taken: Fields[] = [];
    for (const message of recordsOf(answer['Messages'])) {
      const ReceiptHandle = textOf(message, 'ReceiptHandle');
      const messageId = textOf(message, 'MessageId');
      const original = this.#originals.get(messageId);
      const fault = original === undefined ? this.#faults.take({ operations: [] }) : undefined;
      const QueueUrl = this.#queues.url(queue);
      if (fault?.kind === 'duplicate' || fault?.kind === 'reorder') await this.#copy(queue, messageId);
      if (fault?.kind === 'reorder') {
        await this.#fauxqs.call('DeleteMessage', { QueueUrl, ReceiptHandle });
        continue;
      }
      const seconds = fault?.kind === 'reappear' ? (fault.afterSeconds ?? 0) : visibilitySeconds;
      const deadlineMs = receivedMs + seconds * 1000;
      if (fault?.kind === 'reappear')
        await this.#fauxqs.call('ChangeMessageVisibility', { QueueUrl, ReceiptHandle, VisibilityTimeout: seconds });
      const isDoomed = fault?.kind === 'reappear';
      this.#deliveries.set(ReceiptHandle, { queue, receivedMs, deadlineMs, isDoomed });
      taken.push(shown({ ...message, MessageId: original ?? messageId }, input));
    }
    // all messages that were there were put after others, which are available now
    return taken.length === 0 && answer['Messages'] !== undefined ? this.take(queue, input, visibilitySeconds) : taken;
  }

  /** Appends a copy of a received message to the queue. */
  async #copy(queue: string, messageId: string): Promise<void> {
    const { inflight, ready } = await this.#fauxqs.inspect(queue);
    const held = [...inflight.map(({ message }) => message), ...ready];
    const message = held.find((other) => other.messageId === messageId);
    if (message === undefined) throw new Failure('BUG', `copy message ${messageId} of ${queue}: it does not exist`);
    const { body: MessageBody, messageAttributes: MessageAttributes } = message;
    const QueueUrl = this.#queues.url(queue);
    const sent = await this.#fauxqs.call('SendMessage', { QueueUrl, MessageBody, MessageAttributes, DelaySeconds: 0 });
    this.#originals.set(textOf(sent, 'MessageId'), messageId);
  }

  /** Makes messages visible again that no client got. */
  async giveBack(queue: string, messages: readonly Fields[]): Promise<void> {
    for (const message of messages) {
      const ReceiptHandle = textOf(message, 'ReceiptHandle');
      this.#deliveries.delete(ReceiptHandle);
      const input = { QueueUrl: this.#queues.url(queue), ReceiptHandle, VisibilityTimeout: 0 };
      await this.#fauxqs.call('ChangeMessageVisibility', input).catch((error: unknown) => {
        // its time may be over already
        if (!(error instanceof CallRefusal && error.code === 'MessageNotInflight')) throw error;
      });
    }
  }

  /** The reason why the visibility of a delivery cannot be changed to this value. Undefined: it can. */
  changeRefused(entry: Fields): CallRefusal | undefined {
    const refusal = handleRefused(entry);
    if (refusal !== undefined) return refusal;
    const delivery = this.#deliveries.get(textOf(entry, 'ReceiptHandle'));
    const nowMs = this.#clock.now();
    if (delivery === undefined || delivery.deadlineMs <= nowMs) {
      const why = 'it is not available for visibility timeout change';
      return new CallRefusal(400, 'MessageNotInflight', `Reason: Message does not exist or ${why}.`);
    }
    const seconds = Number(entry['VisibilityTimeout']);
    return seconds > 0 && nowMs + seconds * 1000 > delivery.receivedMs + MAX_VISIBILITY_MS
      ? invalid(`Total VisibilityTimeout for the message is beyond the limit [${MAX_VISIBILITY_MS / 1000} seconds]`)
      : undefined;
  }

  /** Remembers that the visibility of a delivery was changed. */
  async changed(entry: Fields): Promise<void> {
    const ReceiptHandle = textOf(entry, 'ReceiptHandle');
    const seconds = Number(entry['VisibilityTimeout']);
    const delivery = this.#deliveries.get(ReceiptHandle);
    const nowMs = this.#clock.now();
    if (delivery === undefined) return;
    if (seconds === 0) this.#deliveries.delete(ReceiptHandle);
    else if (!delivery.isDoomed) delivery.deadlineMs = nowMs + seconds * 1000;
    else {
      const VisibilityTimeout = Math.max(0, delivery.deadlineMs - nowMs) / 1000;
      const QueueUrl = this.#queues.url(delivery.queue);
      await this.#fauxqs.call('ChangeMessageVisibility', { QueueUrl, ReceiptHandle, VisibilityTimeout });
    }
  }

  #forgetExpired(nowMs: number): void {
    if (this.#deliveries.size < MANY_DELIVERIES) return;
    for (const [handle, { deadlineMs }] of this.#deliveries) if (deadlineMs <= nowMs) this.#deliveries.delete(handle);
  }
}
