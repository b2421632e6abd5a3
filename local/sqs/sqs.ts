import { checkAborted } from '../../worker/util/abort.ts';
import { systemClock, type Clock } from '../../worker/util/clock.ts';
import { Faults, type DeliveryFaults } from '../faults.ts';
import { Deliveries } from './deliveries.ts';
import { FAUXQS_ACCOUNT, startFauxqs, type Fauxqs } from './fauxqs.ts';
import {
  attributesRefused,
  handleRefused,
  invalid,
  nameOf,
  recordOf,
  recordsOf,
  textOf,
  throwIf,
  type Fields,
} from './fields.ts';
import { Moves } from './moves.ts';
import { Queues, type QueueSetup } from './queues.ts';
import {
  type CallRefusal,
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
  /** The clock of the front: for waits, and for what it knows of deliveries. fauxqs itself goes by the machine's clock. */
  readonly clock?: Clock;
  readonly faults?: Faults;
  readonly deliveryFaults?: DeliveryFaults;
}

/** Standard SQS queues in this process, until they are closed: nothing is kept on disk. Signatures are not looked at. */
export interface LocalSqs extends AsyncDisposable {
  /** `http://127.0.0.1:port`. */
  readonly endpoint: string;
  /** What goes wrong with calls. */
  readonly faults: Faults;
  /** What goes wrong with messages. */
  readonly deliveryFaults: DeliveryFaults;
  /** In the order they came; of the newest 10,000. */
  readonly calls: readonly CallRecord[];
  /** The URL that a queue of this name has, whether it is there or not. */
  queueUrl(name: string): string;
  close(): Promise<void>;
}

/** https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html */
const MAX_WAIT_SECONDS = 20;
const MAX_BATCH = 10;
/** How often a long poll looks for messages whose delay or visibility timeout ended. */
const POLL_MS = 200;
const MAKES_NEWS = new Set([
  'ChangeMessageVisibility',
  'ChangeMessageVisibilityBatch',
  'SendMessage',
  'SendMessageBatch',
  'StartMessageMoveTask',
]);
const PASSED_ON = new Set(['DeleteQueue', 'PurgeQueue', 'TagQueue', 'UntagQueue', 'ListQueueTags']);

/**
 * fauxqs behind a front that fixes what workers depend on: a receive whose client has gone gives back what it took, long polls end with a
 * message or with their time, expired and invalid receipt handles are refused, twelve hours are the most a delivery lasts, counts are
 * right at any time, message attributes come when they are asked for, redrive policies name a queue that is there, dead letters can be
 * moved back. Calls that neither knows are refused with 501.
 */
export async function startSqs(options: SqsOptions = {}): Promise<LocalSqs> {
  await using starting = new AsyncDisposableStack();
  const { region = 'us-east-1', account = FAUXQS_ACCOUNT, clock = systemClock } = options;
  const { faults = new Faults(), deliveryFaults = new Faults() } = options;
  const fauxqs = starting.use(await startFauxqs(region));
  const queues = new Queues(fauxqs, { region, account, origin: () => front.url });
  const sqs = new Sqs(fauxqs, queues, { clock, faults, deliveryFaults });
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
  for (const queue of options.queues ?? []) await queues.setUp(queue);
  const running = starting.move();
  return {
    endpoint: front.url,
    faults,
    deliveryFaults,
    calls: front.calls,
    queueUrl: (name) => queues.url(name),
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
  readonly clock: Clock;
  readonly faults: Faults;
  readonly deliveryFaults: DeliveryFaults;
}

class Sqs {
  readonly #fauxqs: Fauxqs;
  readonly #options: Settings;
  readonly #queues: Queues;
  readonly #deliveries: Deliveries;
  readonly #moves: Moves;
  /** Fires when there may be something to receive; then there is another. */
  #news = new AbortController();

  constructor(fauxqs: Fauxqs, queues: Queues, options: Settings) {
    this.#fauxqs = fauxqs;
    this.#options = options;
    this.#queues = queues;
    this.#deliveries = new Deliveries(fauxqs, queues, { clock: options.clock, faults: options.deliveryFaults });
    this.#moves = new Moves(fauxqs, queues);
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
    if (PASSED_ON.has(action)) return { body: await this.#queues.forward(action, input) };
    switch (action) {
      case 'ReceiveMessage':
        return this.#receive(input, call);
      case 'CreateQueue':
        return { body: await this.#queues.create(input) };
      case 'GetQueueUrl':
        await this.#fauxqs.call(action, input);
        return { body: { QueueUrl: this.#queues.url(textOf(input, 'QueueName')) } };
      case 'ListQueues':
        return { body: await this.#queues.list(input) };
      case 'GetQueueAttributes':
        return { body: await this.#queues.attributes(input) };
      case 'SetQueueAttributes':
        return {
          body: await this.#queues.forward(action, {
            ...input,
            Attributes: await this.#queues.toFauxqs(input['Attributes']),
          }),
        };
      case 'SendMessage':
        throwIf(attributesRefused(input));
        return { body: await this.#queues.forward(action, input) };
      case 'SendMessageBatch':
        return { body: await this.#batch(action, input, attributesRefused) };
      case 'DeleteMessage':
        throwIf(handleRefused(input));
        return { body: await this.#queues.forward(action, input) };
      case 'DeleteMessageBatch':
        return { body: await this.#batch(action, input, handleRefused) };
      case 'ChangeMessageVisibility':
        throwIf(this.#deliveries.changeRefused(input));
        await this.#queues.forward(action, input);
        await this.#deliveries.changed(input);
        return { body: {} };
      case 'ChangeMessageVisibilityBatch':
        return {
          body: await this.#batch(
            action,
            input,
            (entry) => this.#deliveries.changeRefused(entry),
            async (entry) => this.#deliveries.changed(entry),
          ),
        };
      case 'ListDeadLetterSourceQueues':
        return {
          body: { queueUrls: (await this.#queues.sourcesOf(nameOf(input))).map((name) => this.#queues.url(name)) },
        };
      case 'StartMessageMoveTask':
        return { body: await this.#moves.start(input) };
      case 'ListMessageMoveTasks':
        return { body: { Results: this.#moves.list(input['SourceArn']) } };
      default:
        throw unknownAction(`${action} of SQS`);
    }
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
    // errors of the whole batch come first, and fauxqs reports them
    const isWhole = entries.length <= MAX_BATCH && new Set(entries.map(({ Id }) => Id)).size === entries.length;
    if (isWhole && failed.length > 0 && passed.length === 0) return { Successful: [], Failed: failed };
    const answer = await this.#queues.forward(action, isWhole ? { ...input, Entries: passed } : input);
    const successful = new Set(recordsOf(answer['Successful']).map(({ Id }) => Id));
    if (done !== undefined) for (const entry of passed) if (successful.has(entry['Id'])) await done(entry);
    return { ...answer, Failed: [...recordsOf(answer['Failed']), ...failed] };
  }

  async #receive(input: Fields, call: Call): Promise<CallAnswer> {
    const queue = nameOf(input);
    const AttributeNames = ['VisibilityTimeout', 'ReceiveMessageWaitTimeSeconds'];
    const settings = recordOf(
      (await this.#queues.forward('GetQueueAttributes', { ...input, AttributeNames }))['Attributes'],
    );
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
      const messages = await this.#deliveries.take(queue, input, visibilitySeconds);
      const undo = async (): Promise<void> => {
        await this.#deliveries.giveBack(queue, messages);
        this.#ring();
      };
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
}
