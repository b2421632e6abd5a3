import { checkAborted } from '../../worker/util/abort.ts';
import { systemClock, type Clock } from '../../worker/util/clock.ts';
import { Failure } from '../../worker/util/failure.ts';
import { isRecord } from '../../worker/util/record.ts';
import { Faults, type DeliveryFault } from '../faults.ts';
import { FAUXQS_ACCOUNT, startFauxqs, type Fauxqs } from './fauxqs.ts';
import {
  CallRefusal,
  checkThere,
  openFront,
  unknownAction,
  type Call,
  type CallAnswer,
  type CallRecord,
} from '../http/json-front.ts';

export interface SqsOptions {
  /** On 127.0.0.1. Default 0: one that is free. */
  readonly port?: number | undefined;
  /** Default us-east-1. */
  readonly region?: string;
  /** The account that owns everything. Default 000000000000. */
  readonly account?: string;
  /** Made at the start, in this order: dead-letter queues first. Default none. */
  readonly queues?: readonly QueueSetup[];
  /** Of the front: waits, and what it knows of deliveries. fauxqs itself goes by the machine's clock. */
  readonly clock?: Clock;
  readonly faults?: Faults;
  readonly deliveryFaults?: Faults<never, DeliveryFault>;
}

interface QueueSetup {
  readonly name: string;
  /** Default 30. */
  readonly visibilitySeconds?: number;
  /** Default 345,600: four days. Kept and never acted upon. */
  readonly retentionSeconds?: number;
  /** Where messages go when they were received too often. */
  readonly deadLetters?: { readonly queue: string; readonly maxReceiveCount: number };
}

/** Standard SQS queues in this process, until they are closed: nothing is kept on disk. Signatures are not looked at. */
export interface LocalSqs extends AsyncDisposable {
  /** `http://127.0.0.1:port`. */
  readonly endpoint: string;
  /** What goes wrong with calls. */
  readonly faults: Faults;
  /** What goes wrong with messages. */
  readonly deliveryFaults: Faults<never, DeliveryFault>;
  /** In the order they came; of the newest 10,000. */
  readonly calls: readonly CallRecord[];
  /** The URL that a queue of this name has, whether it is there or not. */
  queueUrl(name: string): string;
  close(): Promise<void>;
}

type Fields = Readonly<Record<string, unknown>>;

/** https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html: message visibility timeout */
const MAX_VISIBILITY_MS = 43_200_000;
/** https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html */
const MAX_WAIT_SECONDS = 20;
/** https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html */
const MAX_ATTRIBUTES = 10;
const MAX_BATCH = 10;
/** How often a long poll looks for what became visible by itself. */
const POLL_MS = 200;
/** Deliveries that are remembered before those that have expired are forgotten. */
const MANY_DELIVERIES = 1000;
const MAKES_NEWS = new Set([
  'ChangeMessageVisibility',
  'ChangeMessageVisibilityBatch',
  'SendMessage',
  'SendMessageBatch',
  'StartMessageMoveTask',
]);
const HANDLE = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const COUNTS = [
  'ApproximateNumberOfMessages',
  'ApproximateNumberOfMessagesNotVisible',
  'ApproximateNumberOfMessagesDelayed',
];

/**
 * fauxqs behind a front that mends what workers depend on: a receive whose client has gone gives back what it took, long polls end with a
 * message or with their time, expired and invalid receipt handles are refused, twelve hours are the most a delivery lasts, counts are
 * right at any time, message attributes come when they are asked for, redrive policies name a queue that is there, dead letters can be
 * moved back. Calls that neither knows are refused with 501.
 */
export async function startSqs(options: SqsOptions = {}): Promise<LocalSqs> {
  await using starting = new AsyncDisposableStack();
  const { region = 'us-east-1', account = FAUXQS_ACCOUNT, clock = systemClock } = options;
  const { faults = new Faults(), deliveryFaults = new Faults() } = options;
  const fauxqs = starting.use(await startFauxqs(region));
  const sqs = new Sqs(fauxqs, { region, account, clock, faults, deliveryFaults, url: () => front.url });
  const front = await openFront({
    name: 'SQS',
    port: options.port,
    target: 'AmazonSQS',
    namespace: 'com.amazonaws.sqs',
    faults,
    throttled: { status: 403, code: 'RequestThrottled' },
    errorHeaders: ({ code, status }) => ({
      'x-amzn-query-error': `${QUERY_CODES.get(code) ?? code};${status < 500 ? 'Sender' : 'Receiver'}`,
    }),
    answer: (call) => sqs.answer(call),
  });
  starting.defer(() => front.close());
  for (const queue of options.queues ?? []) await sqs.createQueue(queue);
  const running = starting.move();
  return {
    endpoint: front.url,
    faults,
    deliveryFaults,
    calls: front.calls,
    queueUrl: (name) => sqs.queueUrl(name),
    close: () => running.disposeAsync(),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

/** The codes that errors had in the protocol before, which the SDK still goes by: the traits `awsQueryError` in the model of SQS. */
const QUERY_CODES = new Map([
  ['QueueDoesNotExist', 'AWS.SimpleQueueService.NonExistentQueue'],
  ['QueueNameExists', 'QueueAlreadyExists'],
  ...[
    'BatchEntryIdsNotDistinct',
    'BatchRequestTooLong',
    'EmptyBatchRequest',
    'InvalidBatchEntryId',
    'MessageNotInflight',
    'TooManyEntriesInBatchRequest',
    'UnsupportedOperation',
  ].map((code) => [code, `AWS.SimpleQueueService.${code}`] as const),
]);

interface Settings {
  readonly region: string;
  readonly account: string;
  readonly clock: Clock;
  readonly faults: Faults;
  readonly deliveryFaults: Faults<never, DeliveryFault>;
  readonly url: () => string;
}

/** A message in somebody's hands. */
interface Delivery {
  readonly queue: string;
  readonly receivedMs: number;
  deadlineMs: number;
  /** A fault decided when it ends: extending it does nothing. */
  readonly isDoomed: boolean;
}

interface MoveTask {
  readonly SourceArn: string;
  readonly DestinationArn?: string;
  readonly Status: 'COMPLETED';
  readonly ApproximateNumberOfMessagesMoved: number;
  readonly ApproximateNumberOfMessagesToMove: number;
  readonly StartedTimestamp: number;
}

class Sqs {
  readonly #fauxqs: Fauxqs;
  readonly #options: Settings;
  /** By receipt handle. What has expired may be missing. */
  readonly #deliveries = new Map<string, Delivery>();
  /** By the id of a copy that a fault made: that of the message it is a copy of. */
  readonly #originals = new Map<string, string>();
  readonly #moves: MoveTask[] = [];
  /** Fires when there may be something to receive; then there is another. */
  #news = new AbortController();

  constructor(fauxqs: Fauxqs, options: Settings) {
    this.#fauxqs = fauxqs;
    this.#options = options;
  }

  queueUrl(name: string): string {
    return `${this.#options.url()}/${this.#options.account}/${name}`;
  }

  async createQueue(setup: QueueSetup): Promise<void> {
    const { name, visibilitySeconds, retentionSeconds, deadLetters } = setup;
    const attributes: Record<string, string> = {};
    if (visibilitySeconds !== undefined) attributes['VisibilityTimeout'] = String(visibilitySeconds);
    if (retentionSeconds !== undefined) attributes['MessageRetentionPeriod'] = String(retentionSeconds);
    if (deadLetters !== undefined) {
      const { queue, maxReceiveCount } = deadLetters;
      attributes['RedrivePolicy'] = JSON.stringify({ deadLetterTargetArn: this.#arn(queue), maxReceiveCount });
    }
    await this.#create({ QueueName: name, Attributes: attributes });
  }

  async answer(call: Call): Promise<CallAnswer> {
    try {
      return await this.#perform(call);
    } finally {
      if (MAKES_NEWS.has(call.action)) this.#ring();
    }
  }

  #ring(): void {
    this.#news.abort();
    this.#news = new AbortController();
  }

  async #perform(call: Call): Promise<CallAnswer> {
    const { action, input } = call;
    switch (action) {
      case 'ReceiveMessage':
        return this.#receive(input, call);
      case 'CreateQueue':
        return { body: await this.#create(input) };
      case 'GetQueueUrl':
        await this.#fauxqs.call(action, input);
        return { body: { QueueUrl: this.queueUrl(textOf(input, 'QueueName')) } };
      case 'ListQueues':
        return { body: await this.#list(input) };
      case 'GetQueueAttributes':
        return { body: await this.#attributes(input) };
      case 'SetQueueAttributes':
        return {
          body: await this.#forward(action, { ...input, Attributes: await this.#toFauxqs(input['Attributes']) }),
        };
      case 'SendMessage':
        throwIf(attributesRefused(input));
        return { body: await this.#forward(action, input) };
      case 'SendMessageBatch':
        return { body: await this.#batch(action, input, attributesRefused) };
      case 'DeleteMessage':
        throwIf(handleRefused(input));
        return { body: await this.#forward(action, input) };
      case 'DeleteMessageBatch':
        return { body: await this.#batch(action, input, handleRefused) };
      case 'ChangeMessageVisibility':
        throwIf(this.#changeRefused(input));
        await this.#forward(action, input);
        await this.#changed(input);
        return { body: {} };
      case 'ChangeMessageVisibilityBatch':
        return { body: await this.#batch(action, input, (entry) => this.#changeRefused(entry), this.#changed) };
      case 'ListDeadLetterSourceQueues':
        return { body: { queueUrls: (await this.#sourcesOf(nameOf(input))).map((name) => this.queueUrl(name)) } };
      case 'StartMessageMoveTask':
        return { body: await this.#move(input) };
      case 'ListMessageMoveTasks':
        return { body: { Results: this.#moves.filter((task) => task.SourceArn === input['SourceArn']).toReversed() } };
      case 'DeleteQueue':
      case 'PurgeQueue':
      case 'TagQueue':
      case 'UntagQueue':
      case 'ListQueueTags':
        return { body: await this.#forward(action, input) };
      default:
        throw unknownAction(`${action} of SQS`);
    }
  }

  async #forward(action: string, input: Fields): Promise<Fields> {
    const { pathname } = urlOf(input);
    if (pathname !== `/${this.#options.account}/${nameOf(input)}`) throw noQueue();
    return this.#fauxqs.call(action, input);
  }

  /** A call about several messages: what fauxqs would take and SQS does not fails here. */
  async #batch(
    action: string,
    input: Fields,
    refused: (entry: Fields) => CallRefusal | undefined,
    done?: (entry: Fields) => Promise<void>,
  ): Promise<Fields> {
    const entries = recordsOf(input['Entries']);
    const failed: Fields[] = [];
    const passed = entries.filter((entry) => {
      const refusal = refused(entry);
      if (refusal === undefined) return true;
      failed.push({ Id: entry['Id'], SenderFault: true, Code: refusal.code, Message: refusal.message });
      return false;
    });
    // what is wrong with the batch as a whole comes first, and is for fauxqs to say
    const isWhole = entries.length <= MAX_BATCH && new Set(entries.map(({ Id }) => Id)).size === entries.length;
    if (isWhole && failed.length > 0 && passed.length === 0) return { Successful: [], Failed: failed };
    const answer = await this.#forward(action, isWhole ? { ...input, Entries: passed } : input);
    const successful = new Set(recordsOf(answer['Successful']).map(({ Id }) => Id));
    if (done !== undefined) for (const entry of passed) if (successful.has(entry['Id'])) await done(entry);
    return { ...answer, Failed: [...recordsOf(answer['Failed']), ...failed] };
  }

  async #receive(input: Fields, call: Call): Promise<CallAnswer> {
    const queue = nameOf(input);
    const AttributeNames = ['VisibilityTimeout', 'ReceiveMessageWaitTimeSeconds'];
    const settings = recordOf((await this.#forward('GetQueueAttributes', { ...input, AttributeNames }))['Attributes']);
    const waitSeconds = input['WaitTimeSeconds'] ?? Number(settings['ReceiveMessageWaitTimeSeconds']);
    if (!(typeof waitSeconds === 'number' && waitSeconds >= 0 && waitSeconds <= MAX_WAIT_SECONDS)) {
      throw invalid(
        `Value ${JSON.stringify(waitSeconds)} for parameter WaitTimeSeconds is invalid. Reason: Must be >= 0 and <= 20`,
      );
    }
    const visibilitySeconds = Number(input['VisibilityTimeout'] ?? settings['VisibilityTimeout']);
    const { clock, faults } = this.#options;
    const endMs = clock.now() + waitSeconds * 1000;
    for (;;) {
      checkAborted(call);
      checkThere(faults);
      const news = this.#news.signal;
      const messages = await this.#take(queue, input, visibilitySeconds);
      const undo = async (): Promise<void> => this.#giveBack(queue, messages);
      const leftMs = endMs - clock.now();
      if (messages.length === 0 && leftMs > 0) {
        const signal = AbortSignal.any([call.signal, news]);
        await clock.sleep(Math.min(POLL_MS, leftMs), { signal }).catch(() => checkAborted(call));
        continue;
      }
      if (!call.signal.aborted) return { body: messages.length === 0 ? {} : { Messages: messages }, undo };
      await undo();
    }
  }

  /** What is visible now, at most as many as asked for. */
  async #take(queue: string, input: Fields, visibilitySeconds: number): Promise<readonly Fields[]> {
    const receivedMs = this.#options.clock.now();
    this.#forgetExpired(receivedMs);
    const answer = await this.#fauxqs.call('ReceiveMessage', { ...input, WaitTimeSeconds: 0 });
    const taken: Fields[] = [];
    for (const message of recordsOf(answer['Messages'])) {
      const ReceiptHandle = textOf(message, 'ReceiptHandle');
      const messageId = textOf(message, 'MessageId');
      const original = this.#originals.get(messageId);
      const fault = original === undefined ? this.#options.deliveryFaults.take({ operations: [] }) : undefined;
      const QueueUrl = this.queueUrl(queue);
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
    // all that were there were put behind others, which are to be had now
    return taken.length === 0 && answer['Messages'] !== undefined ? this.#take(queue, input, visibilitySeconds) : taken;
  }

  /** Puts a copy of a message that was received behind the others. */
  async #copy(queue: string, messageId: string): Promise<void> {
    const { inflight, ready } = await this.#fauxqs.inspect(queue);
    const held = [...inflight.map(({ message }) => message), ...ready];
    const message = held.find((other) => other.messageId === messageId);
    if (message === undefined) throw new Failure('BUG', `copy message ${messageId} of ${queue}: it is not there`);
    const { body: MessageBody, messageAttributes: MessageAttributes } = message;
    const QueueUrl = this.queueUrl(queue);
    const sent = await this.#fauxqs.call('SendMessage', { QueueUrl, MessageBody, MessageAttributes, DelaySeconds: 0 });
    this.#originals.set(textOf(sent, 'MessageId'), messageId);
  }

  /** Of messages that nobody got. */
  async #giveBack(queue: string, messages: readonly Fields[]): Promise<void> {
    for (const message of messages) {
      const ReceiptHandle = textOf(message, 'ReceiptHandle');
      this.#deliveries.delete(ReceiptHandle);
      const input = { QueueUrl: this.queueUrl(queue), ReceiptHandle, VisibilityTimeout: 0 };
      await this.#fauxqs.call('ChangeMessageVisibility', input).catch((error: unknown) => {
        // its time may be over already
        if (!(error instanceof CallRefusal && error.code === 'MessageNotInflight')) throw error;
      });
    }
    this.#ring();
  }

  #changeRefused(entry: Fields): CallRefusal | undefined {
    const refusal = handleRefused(entry);
    if (refusal !== undefined) return refusal;
    const delivery = this.#deliveries.get(textOf(entry, 'ReceiptHandle'));
    const nowMs = this.#options.clock.now();
    if (delivery === undefined || delivery.deadlineMs <= nowMs) {
      const why = 'it is not available for visibility timeout change';
      return new CallRefusal(400, 'MessageNotInflight', `Reason: Message does not exist or ${why}.`);
    }
    const seconds = Number(entry['VisibilityTimeout']);
    return seconds > 0 && nowMs + seconds * 1000 > delivery.receivedMs + MAX_VISIBILITY_MS
      ? invalid(`Total VisibilityTimeout for the message is beyond the limit [${MAX_VISIBILITY_MS / 1000} seconds]`)
      : undefined;
  }

  readonly #changed = async (entry: Fields): Promise<void> => {
    const ReceiptHandle = textOf(entry, 'ReceiptHandle');
    const seconds = Number(entry['VisibilityTimeout']);
    const delivery = this.#deliveries.get(ReceiptHandle);
    const nowMs = this.#options.clock.now();
    if (delivery === undefined) return;
    if (seconds === 0) this.#deliveries.delete(ReceiptHandle);
    else if (!delivery.isDoomed) delivery.deadlineMs = nowMs + seconds * 1000;
    else {
      const VisibilityTimeout = Math.max(0, delivery.deadlineMs - nowMs) / 1000;
      const QueueUrl = this.queueUrl(delivery.queue);
      await this.#fauxqs.call('ChangeMessageVisibility', { QueueUrl, ReceiptHandle, VisibilityTimeout });
    }
  };

  #forgetExpired(nowMs: number): void {
    if (this.#deliveries.size < MANY_DELIVERIES) return;
    for (const [handle, { deadlineMs }] of this.#deliveries) if (deadlineMs <= nowMs) this.#deliveries.delete(handle);
  }

  async #create(input: Fields): Promise<Fields> {
    await this.#fauxqs.call('CreateQueue', { ...input, Attributes: await this.#toFauxqs(input['Attributes']) });
    return { QueueUrl: this.queueUrl(textOf(input, 'QueueName')) };
  }

  async #list(input: Fields): Promise<Fields> {
    const answer = await this.#fauxqs.call('ListQueues', input);
    const urls: unknown = answer['QueueUrls'];
    const names = Array.isArray(urls) ? urls.map((url) => nameOf({ QueueUrl: url })) : [];
    return { ...answer, QueueUrls: names.map((name) => this.queueUrl(name)) };
  }

  async #attributes(input: Fields): Promise<Fields> {
    const answer = await this.#forward('GetQueueAttributes', input);
    const attributes: Record<string, unknown> = { ...recordOf(answer['Attributes']) };
    for (const name of ['QueueArn', 'RedrivePolicy', 'RedriveAllowPolicy'])
      if (name in attributes) attributes[name] = swapAccount(attributes[name], FAUXQS_ACCOUNT, this.#options.account);
    if (COUNTS.some((name) => name in attributes)) {
      const counts = await this.#counts(nameOf(input));
      for (const [index, name] of COUNTS.entries()) if (name in attributes) attributes[name] = String(counts[index]);
    }
    return { Attributes: attributes };
  }

  /** Of messages that are visible, in flight and delayed, in the order of COUNTS. fauxqs goes by the machine's clock, so these do. */
  async #counts(queue: string): Promise<readonly [number, number, number]> {
    const { ready, inflight, delayed } = await this.#fauxqs.inspect(queue);
    const nowMs = Date.now();
    const notVisible = inflight.filter((held) => held.visibilityDeadline > nowMs).length;
    const waiting = delayed.filter((held) => held.delayUntil > nowMs).length;
    const all = ready.length + inflight.length + delayed.length;
    return [all - notVisible - waiting, notVisible, waiting];
  }

  /** The attributes of a queue as fauxqs has them. A policy has to name a queue that is there. */
  async #toFauxqs(attributes: unknown): Promise<Fields> {
    const { RedrivePolicy, ...others } = recordOf(attributes);
    if (RedrivePolicy === undefined || RedrivePolicy === '') return recordOf(attributes);
    const { deadLetterTargetArn, maxReceiveCount } = parseRecord(RedrivePolicy);
    const target = String(deadLetterTargetArn);
    const times = Number(maxReceiveCount);
    if (!Number.isInteger(times) || times < 1 || times > 1000 || !target.startsWith(this.#arn('')))
      throw invalid(`Value ${JSON.stringify(RedrivePolicy)} for parameter RedrivePolicy is invalid.`);
    const isThere = (await this.#queueNames()).includes(target.slice(this.#arn('').length));
    if (!isThere)
      throw invalid(
        `Value ${JSON.stringify(RedrivePolicy)} for parameter RedrivePolicy is invalid. Reason: Dead letter target does not exist.`,
      );
    return { ...others, RedrivePolicy: swapAccount(RedrivePolicy, this.#options.account, FAUXQS_ACCOUNT) };
  }

  #arn(name: string): string {
    return `arn:aws:sqs:${this.#options.region}:${this.#options.account}:${name}`;
  }

  async #queueNames(): Promise<readonly string[]> {
    const { QueueUrls } = await this.#fauxqs.call('ListQueues', {});
    return Array.isArray(QueueUrls) ? QueueUrls.map((url) => nameOf({ QueueUrl: url })) : [];
  }

  /** The queues whose dead letters go to this one. */
  async #sourcesOf(name: string): Promise<readonly string[]> {
    const sources: string[] = [];
    await this.#forward('GetQueueAttributes', { QueueUrl: this.queueUrl(name) });
    for (const other of await this.#queueNames()) {
      const { Attributes } = await this.#attributes({
        QueueUrl: this.queueUrl(other),
        AttributeNames: ['RedrivePolicy'],
      });
      const { RedrivePolicy } = recordOf(Attributes);
      if (RedrivePolicy !== undefined && parseRecord(RedrivePolicy)['deadLetterTargetArn'] === this.#arn(name))
        sources.push(other);
    }
    return sources;
  }

  /** Moves dead letters that are visible, all before it answers. They are new messages where they come to, as at AWS. */
  async #move(input: Fields): Promise<Fields> {
    const SourceArn = textOf(input, 'SourceArn');
    const names = await this.#queueNames();
    const name = names.find((other) => this.#arn(other) === SourceArn);
    if (name === undefined)
      throw new CallRefusal(
        400,
        'ResourceNotFoundException',
        "The resource that you specified for the SourceArn parameter doesn't exist.",
      );
    const sources = await this.#sourcesOf(name);
    if (sources.length === 0) throw invalid('Source queue must be configured as a Dead Letter Queue.');
    const DestinationArn = input['DestinationArn'] === undefined ? undefined : textOf(input, 'DestinationArn');
    const to = DestinationArn === undefined ? sources[0] : names.find((other) => this.#arn(other) === DestinationArn);
    if (to === undefined)
      throw new CallRefusal(
        400,
        'ResourceNotFoundException',
        "The resource that you specified for the DestinationArn parameter doesn't exist.",
      );
    // fauxqs does not know where a dead letter comes from
    if (DestinationArn === undefined && sources.length > 1)
      throw unknownAction('StartMessageMoveTask without a DestinationArn for dead letters of several queues');
    const [from, QueueUrl] = [this.queueUrl(name), this.queueUrl(to)];
    const [visible] = await this.#counts(name);
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
    this.#moves.push({
      SourceArn,
      ...(DestinationArn === undefined ? {} : { DestinationArn }),
      Status: 'COMPLETED',
      ApproximateNumberOfMessagesMoved: moved,
      ApproximateNumberOfMessagesToMove: visible,
      StartedTimestamp: Date.now(),
    });
    return { TaskHandle: Buffer.from(`${SourceArn}/${this.#moves.length}`).toString('base64') };
  }
}

function noQueue(): CallRefusal {
  return new CallRefusal(400, 'QueueDoesNotExist', 'The specified queue does not exist.');
}

function invalid(message: string): CallRefusal {
  return new CallRefusal(400, 'InvalidParameterValue', message);
}

function throwIf(refusal: CallRefusal | undefined): void {
  if (refusal !== undefined) throw refusal;
}

function attributesRefused(entry: Fields): CallRefusal | undefined {
  const count = Object.keys(recordOf(entry['MessageAttributes'])).length;
  return count > MAX_ATTRIBUTES
    ? invalid(`Number of message attributes [${count}] exceeds the allowed maximum [${MAX_ATTRIBUTES}].`)
    : undefined;
}

function handleRefused(entry: Fields): CallRefusal | undefined {
  const handle = textOf(entry, 'ReceiptHandle');
  return HANDLE.test(handle)
    ? undefined
    : new CallRefusal(
        400,
        'ReceiptHandleIsInvalid',
        `The input receipt handle "${handle}" is not a valid receipt handle.`,
      );
}

/** A message as it is given to a client that asked for it so. */
function shown(message: Fields, input: Fields): Fields {
  const { MessageAttributeNames } = input;
  if (Array.isArray(MessageAttributeNames) && MessageAttributeNames.length > 0) return message;
  const { MessageAttributes: _, MD5OfMessageAttributes: __, ...rest } = message;
  return rest;
}

function nameOf(input: Fields): string {
  return urlOf(input).pathname.split('/').at(-1) ?? '';
}

function urlOf(input: Fields): URL {
  const url = URL.parse(textOf(input, 'QueueUrl'));
  if (url === null) throw noQueue();
  return url;
}

function swapAccount(arn: unknown, from: string, to: string): string {
  return String(arn).replaceAll(/(arn:aws:sqs:[a-z0-9-]+:)([0-9]{12}):/g, (whole, start: string, account) =>
    account === from ? `${start}${to}:` : whole,
  );
}

function textOf(input: Fields, name: string): string {
  const value = input[name];
  if (typeof value === 'string') return value;
  throw new CallRefusal(400, 'MissingParameter', `The request must contain the parameter ${name}.`);
}

function recordOf(value: unknown): Fields {
  return isRecord(value) ? value : {};
}

function recordsOf(value: unknown): readonly Fields[] {
  return Array.isArray(value) ? value.filter(isRecord) : [];
}

function parseRecord(text: unknown): Fields {
  try {
    return recordOf(JSON.parse(String(text)));
  } catch {
    return {};
  }
}
