import { CallRefusal, unknownAction } from '../http/json-front.ts';
import type { Fauxqs } from './fauxqs.ts';
import { invalid, recordsOf, textOf, type Fields } from './fields.ts';
import type { Queues } from './queues.ts';

interface MoveTask {
  readonly SourceArn: string;
  readonly DestinationArn?: string;
  readonly Status: 'COMPLETED';
  readonly ApproximateNumberOfMessagesMoved: number;
  readonly ApproximateNumberOfMessagesToMove: number;
  readonly StartedTimestamp: number;
}

/** https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html */
const MAX_BATCH = 10;

/** The tasks that move dead letters back. */
export class Moves {
  readonly #fauxqs: Fauxqs;
  readonly #queues: Queues;
  readonly #tasks: MoveTask[] = [];

  constructor(fauxqs: Fauxqs, queues: Queues) {
    this.#fauxqs = fauxqs;
    this.#queues = queues;
  }

  /** Newest first. */
  list(sourceArn: unknown): readonly MoveTask[] {
    return this.#tasks.filter((task) => task.SourceArn === sourceArn).toReversed();
  }

  /** Moves dead letters that are visible, all before it answers. They are new messages where they come to, as at AWS. */
  async start(input: Fields): Promise<Fields> {
    const SourceArn = textOf(input, 'SourceArn');
    const names = await this.#queues.names();
    const name = names.find((other) => this.#queues.arn(other) === SourceArn);
    if (name === undefined)
      throw new CallRefusal(
        400,
        'ResourceNotFoundException',
        "The resource that you specified for the SourceArn parameter doesn't exist.",
      );
    const sources = await this.#queues.sourcesOf(name);
    if (sources.length === 0) throw invalid('Source queue must be configured as a Dead Letter Queue.');
    const DestinationArn = input['DestinationArn'] === undefined ? undefined : textOf(input, 'DestinationArn');
    const to =
      DestinationArn === undefined ? sources[0] : names.find((other) => this.#queues.arn(other) === DestinationArn);
    if (to === undefined)
      throw new CallRefusal(
        400,
        'ResourceNotFoundException',
        "The resource that you specified for the DestinationArn parameter doesn't exist.",
      );
    // fauxqs does not know where a dead letter comes from
    if (DestinationArn === undefined && sources.length > 1)
      throw unknownAction('StartMessageMoveTask without a DestinationArn for dead letters of several queues');
    const [from, QueueUrl] = [this.#queues.url(name), this.#queues.url(to)];
    const [visible] = await this.#queues.counts(name);
    let moved = 0;
    while (moved < visible) {
      const answer = await this.#fauxqs.call('ReceiveMessage', {
        QueueUrl: from,
        MaxNumberOfMessages: Math.min(MAX_BATCH, visible - moved),
        MessageAttributeNames: ['All'],
      });
      const messages = recordsOf(answer['Messages']);
      if (messages.length === 0) break;
      for (const { Body: MessageBody, MessageAttributes, ReceiptHandle } of messages) {
        await this.#fauxqs.call('SendMessage', { QueueUrl, MessageBody, MessageAttributes });
        await this.#fauxqs.call('DeleteMessage', { QueueUrl: from, ReceiptHandle });
        moved++;
      }
    }
    this.#tasks.push({
      SourceArn,
      ...(DestinationArn === undefined ? {} : { DestinationArn }),
      Status: 'COMPLETED',
      ApproximateNumberOfMessagesMoved: moved,
      ApproximateNumberOfMessagesToMove: visible,
      StartedTimestamp: Date.now(),
    });
    return { TaskHandle: Buffer.from(`${SourceArn}/${this.#tasks.length}`).toString('base64') };
  }
}
