import type * as Sdk from '@aws-sdk/client-sqs';
import type { Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import { Failure, isFailure } from '../util/failure.ts';
import { Batches } from '../util/batches.ts';
import { forEachOf } from '../util/limit.ts';
import type { Report } from '../util/events.ts';
import { proxiedAgent, type Proxies } from '../util/proxies.ts';
import { renewingCredentials } from '../util/renew-credentials.ts';
import { retry } from '../util/retry.ts';
import { calling } from '../util/sdk-failure.ts';
import { quote, redacted } from '../util/text.ts';
import {
  MAX_MESSAGE_BYTES,
  type Delivery,
  type Message,
  type Outcome,
  type Queue,
  type QueueCount,
  type ReceiveOptions,
} from './queue.ts';

export interface SqsOptions {
  /** As AWS names it: `https://sqs.us-east-1.amazonaws.com/111111111111/transship`. */
  readonly queueUrl: string;
  readonly clock: Clock;
  readonly report?: Report | undefined;
  /** Default: one with endpoint and credentials of the SDK's own environment. The given one is not closed. */
  readonly client?: Sdk.SQSClient | undefined;
  /** Default: none. */
  readonly proxies?: Proxies | undefined;
}

// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
const MAX_BATCH = 10;
const MAX_BATCH_BYTES = MAX_MESSAGE_BYTES;
const MAX_DELAY_SECONDS = 900;
const MAX_VISIBILITY_SECONDS = 43_200;
/** https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html */
const MAX_WAIT_SECONDS = 20;

const BATCHES_AT_ONCE = 4;
const MAX_REASON = 1000;
const REASON = 'reason';
const RECEIVE_ATTEMPTS = 3;
const CONNECT_TIMEOUT_MS = 5000;
/** Without a byte, beyond the longest wait for messages. */
const STALL_TIMEOUT_MS = (MAX_WAIT_SECONDS + 10) * 1000;

/**
 * A standard queue of SQS. What fails on the way, and what SQS refuses for the moment, is repeated by the one table of `util/retry.ts`; the SDK
 * repeats nothing. A call about a delivery that another consumer holds fails with CONFLICT.
 *
 * A queue of AWS is reached in the region of its URL, at the SDK's endpoint; any other at the endpoint of the SDK's environment
 * (AWS_ENDPOINT_URL_SQS), or else at the host of its URL.
 *
 * IAM actions: sqs:ReceiveMessage, sqs:DeleteMessage, sqs:ChangeMessageVisibility, sqs:SendMessage, sqs:GetQueueAttributes. INVALID for what is not a
 * URL.
 */
export function openSqs(options: SqsOptions): Queue & AsyncDisposable {
  return new SqsQueue(options);
}

class SqsQueue implements Queue, AsyncDisposable {
  readonly name: string;
  readonly #options: SqsOptions;
  readonly #url: URL;
  #client: Promise<Sdk.SQSClient> | undefined;
  /** The handles of messages to delete: those that are done at the same time share a request. */
  readonly #deletes = new Batches<string, string | undefined>(MAX_BATCH, async (handles) => this.#deleteBatch(handles));

  constructor(options: SqsOptions) {
    const url = URL.parse(options.queueUrl);
    if (url === null) {
      const given = quote(redacted(options.queueUrl));
      throw new Failure('INVALID', `open a queue: ${given} is not a URL: expected https://sqs.…/account/name`);
    }
    this.#options = options;
    this.#url = url;
    this.name = url.pathname.split('/').at(-1) ?? '';
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#options.client !== undefined) return;
    const client = await this.#client?.catch(() => undefined);
    client?.destroy();
  }

  async receive(max: number, options: ReceiveOptions = {}): Promise<readonly Delivery[]> {
    const { waitSeconds = MAX_WAIT_SECONDS, visibilitySeconds } = options;
    const input = {
      QueueUrl: this.#options.queueUrl,
      MaxNumberOfMessages: max,
      WaitTimeSeconds: waitSeconds,
      ...(visibilitySeconds === undefined ? {} : { VisibilityTimeout: visibilitySeconds }),
      MessageSystemAttributeNames: ['ApproximateReceiveCount', 'ApproximateFirstReceiveTimestamp', 'SentTimestamp'],
      MessageAttributeNames: [REASON],
    } satisfies Sdk.ReceiveMessageCommandInput;
    const { Messages = [] } = await this.#call(
      `receive from queue ${this.name}`,
      'sqs:ReceiveMessage',
      // the consumer waits for messages without end, and counts and reports the failures itself
      { signal: options.signal, attempts: RECEIVE_ATTEMPTS, isQuiet: true },
      async (client, sdk, http) => client.send(new sdk.ReceiveMessageCommand(input), http),
    );
    return Messages.map((message) => this.#delivery(message));
  }

  async send(messages: readonly Message[], options: Abortable = {}): Promise<void> {
    const batches = inBatches(messages.map((message, index) => this.#entry(message, index)));
    await forEachOf(
      batches,
      BATCHES_AT_ONCE,
      async (batch, taskOptions) => this.#sendBatch(batch, taskOptions),
      options,
    );
  }

  async count(options: Abortable = {}): Promise<QueueCount> {
    const { Attributes = {} } = await this.#call(
      `count the messages of queue ${this.name}`,
      'sqs:GetQueueAttributes',
      options,
      async (client, sdk, http) =>
        client.send(
          new sdk.GetQueueAttributesCommand({
            QueueUrl: this.#options.queueUrl,
            AttributeNames: [
              'ApproximateNumberOfMessages',
              'ApproximateNumberOfMessagesNotVisible',
              'ApproximateNumberOfMessagesDelayed',
            ],
          }),
          http,
        ),
    );
    return {
      visible: Number(Attributes.ApproximateNumberOfMessages ?? 0),
      inFlight: Number(Attributes.ApproximateNumberOfMessagesNotVisible ?? 0),
      delayed: Number(Attributes.ApproximateNumberOfMessagesDelayed ?? 0),
    };
  }

  #delivery(message: Sdk.Message): Delivery {
    const { MessageId: id = '', Body: body = '', ReceiptHandle: handle = '', Attributes = {} } = message;
    const nowMs = this.#options.clock.now();
    return {
      id,
      body,
      receiveCount: Number(Attributes.ApproximateReceiveCount ?? 1),
      sentAtMs: Number(Attributes.SentTimestamp ?? nowMs),
      firstReceivedAtMs: Number(Attributes.ApproximateFirstReceiveTimestamp ?? nowMs),
      reason: message.MessageAttributes?.[REASON]?.StringValue,
      extend: async (seconds, options = {}) => this.#changeVisibility(id, handle, seconds, options),
      settle: async (outcome) => this.#settle(id, handle, outcome),
    };
  }

  async #settle(id: string, handle: string, outcome: Outcome): Promise<void> {
    switch (outcome.type) {
      case 'done': {
        const refused = await this.#deletes.add(handle);
        if (refused !== undefined)
          throw new Failure('INVALID', `delete message ${id} of queue ${this.name}: SQS refuses it: ${refused}`);
        return;
      }
      case 'again':
        try {
          await this.#changeVisibility(id, handle, outcome.seconds, {});
        } catch (error) {
          // it is visible already, or deleted
          if (!isFailure(error, 'CONFLICT')) throw error;
        }
        return;
      default:
        outcome satisfies never;
    }
  }

  /**
   * Deletes messages. Returns why SQS refuses to delete each of them, undefined where it was deleted. Only what SQS refuses for the moment is sent
   * again.
   */
  async #deleteBatch(handles: readonly string[]): Promise<readonly (string | undefined)[]> {
    const count = handles.length === 1 ? 'a message' : `${handles.length} messages`;
    const doing = `delete ${count} of queue ${this.name}`;
    const refused = new Map<string, string>();
    let left = handles.map((ReceiptHandle, index) => ({ Id: String(index), ReceiptHandle }));
    await this.#call(doing, 'sqs:DeleteMessage', {}, async (client, sdk, http) => {
      const input = { QueueUrl: this.#options.queueUrl, Entries: left };
      const { Failed = [] } = await client.send(new sdk.DeleteMessageBatchCommand(input), http);
      for (const { Id = '', SenderFault, Message, Code } of Failed)
        if (SenderFault === true) refused.set(Id, Message ?? Code ?? 'no reason');
      const again = new Set(Failed.flatMap(({ Id = '' }) => (refused.has(Id) ? [] : [Id])));
      left = left.filter(({ Id }) => again.has(Id));
      if (left.length > 0)
        throw new Failure(
          'UNAVAILABLE',
          `${doing}: ${left.length} were not deleted (${Failed[0]?.Code ?? 'no reason'})`,
        );
    });
    return handles.map((_, index) => refused.get(String(index)));
  }

  async #changeVisibility(id: string, handle: string, seconds: number, options: Abortable): Promise<void> {
    const doing = `set the visibility of message ${id} of queue ${this.name}`;
    const input = {
      QueueUrl: this.#options.queueUrl,
      ReceiptHandle: handle,
      VisibilityTimeout: Math.min(Math.max(0, Math.ceil(seconds)), MAX_VISIBILITY_SECONDS),
    };
    try {
      await this.#call(doing, 'sqs:ChangeMessageVisibility', options, async (client, sdk, http) =>
        client.send(new sdk.ChangeMessageVisibilityCommand(input), http),
      );
    } catch (error) {
      // what we ask for is well formed: SQS answers INVALID for a handle that has expired, and at the end of the twelve hours
      if (!isFailure(error, 'CONFLICT', 'INVALID')) throw error;
      throw new Failure('CONFLICT', `${doing}: another consumer holds it now`, { cause: error });
    }
  }

  #entry({ body, delaySeconds, reason }: Message, index: number): Entry {
    const attribute = reason === undefined ? '' : cut(reason);
    const bytes = Buffer.byteLength(body) + (attribute === '' ? 0 : Buffer.byteLength(`${REASON}String${attribute}`));
    const doing = `send message ${index + 1} to queue ${this.name}`;
    if (bytes > MAX_MESSAGE_BYTES) {
      throw new Failure('INVALID', `${doing}: it has ${bytes} bytes, a queue takes ${MAX_MESSAGE_BYTES} at most`);
    }
    if (delaySeconds !== undefined && !(delaySeconds >= 0 && delaySeconds <= MAX_DELAY_SECONDS)) {
      throw new Failure(
        'INVALID',
        `${doing}: delayed for ${delaySeconds} seconds, a queue allows ${MAX_DELAY_SECONDS}`,
      );
    }
    return {
      bytes,
      request: {
        Id: String(index),
        MessageBody: body,
        ...(delaySeconds === undefined ? {} : { DelaySeconds: Math.ceil(delaySeconds) }),
        ...(attribute === ''
          ? {}
          : { MessageAttributes: { [REASON]: { DataType: 'String', StringValue: attribute } } }),
      },
    };
  }

  /** What SQS refuses for the moment is sent again, and only that. */
  async #sendBatch(batch: readonly Sdk.SendMessageBatchRequestEntry[], options: Abortable): Promise<void> {
    const doing = `send ${batch.length === 1 ? 'a message' : `${batch.length} messages`} to queue ${this.name}`;
    let left = batch;
    await this.#call(doing, 'sqs:SendMessage', options, async (client, sdk, http) => {
      const input = { QueueUrl: this.#options.queueUrl, Entries: [...left] };
      const { Failed = [] } = await client.send(new sdk.SendMessageBatchCommand(input), http);
      const fault = Failed.find(({ SenderFault }) => SenderFault === true);
      if (fault !== undefined)
        throw new Failure('INVALID', `${doing}: SQS does not take one of them: ${fault.Message ?? fault.Code}`);
      const failed = new Set(Failed.map(({ Id }) => Id));
      left = left.filter(({ Id }) => failed.has(Id));
      if (left.length > 0)
        throw new Failure('UNAVAILABLE', `${doing}: ${left.length} were not taken (${Failed[0]?.Code ?? 'no reason'})`);
    });
  }

  /** One request, repeated as long as that helps. Failures are reported. */
  async #call<T>(
    doing: string,
    action: string,
    options: Abortable & { readonly attempts?: number; readonly isQuiet?: boolean },
    request: (client: Sdk.SQSClient, sdk: typeof Sdk, http: { readonly abortSignal?: AbortSignal }) => Promise<T>,
  ): Promise<T> {
    const { signal, attempts, isQuiet = false } = options;
    const { clock, report } = this.#options;
    try {
      return await retry(
        doing,
        async () =>
          calling(doing, action, { signal }, async (http) => request(await this.#connected(), await loadSdk(), http)),
        { signal, clock, report: isQuiet ? undefined : report, ...(attempts === undefined ? {} : { attempts }) },
      );
    } catch (error) {
      if (!isFailure(error, 'NOT_FOUND')) throw error;
      const { cause, context } = error;
      const hint = 'check its URL and the account, or create it';
      throw new Failure('NOT_FOUND', `${doing}: there is no such queue: ${hint}`, { cause, context });
    }
  }

  async #connected(): Promise<Sdk.SQSClient> {
    const connecting = (this.#client ??= this.#connect().then((client) => renewingCredentials(client)));
    connecting.catch(() => {
      if (this.#client === connecting) this.#client = undefined;
    });
    return connecting;
  }

  async #connect(): Promise<Sdk.SQSClient> {
    const { client, proxies } = this.#options;
    if (client !== undefined) return client;
    const sdk = await loadSdk();
    const region = regionOf(this.#url.hostname);
    if (region !== undefined) return newClient(sdk, { region }, proxies);
    const found = newClient(sdk, {}, proxies);
    if ((await found.config.serviceConfiguredEndpoint?.()) !== undefined) return found;
    found.destroy();
    return newClient(sdk, { endpoint: this.#url.origin }, proxies);
  }
}

interface Entry {
  readonly request: Sdk.SendMessageBatchRequestEntry;
  readonly bytes: number;
}

function inBatches(entries: readonly Entry[]): readonly (readonly Sdk.SendMessageBatchRequestEntry[])[] {
  const batches: Sdk.SendMessageBatchRequestEntry[][] = [];
  let batch: Sdk.SendMessageBatchRequestEntry[] = [];
  let batchBytes = 0;
  for (const { request, bytes } of entries) {
    if (batch.length === MAX_BATCH || batchBytes + bytes > MAX_BATCH_BYTES) batch = [];
    if (batch.length === 0) {
      batches.push(batch);
      batchBytes = 0;
    }
    batch.push(request);
    batchBytes += bytes;
  }
  return batches;
}

/** With the first call: commands without a queue do not pay for it. */
async function loadSdk(): Promise<typeof Sdk> {
  return import('@aws-sdk/client-sqs');
}

function newClient(sdk: typeof Sdk, options: Sdk.SQSClientConfig, proxies: Proxies | undefined): Sdk.SQSClient {
  return new sdk.SQSClient({
    ...options,
    maxAttempts: 1,
    // else a queue's URL wins over the endpoint that the environment names
    useQueueUrlAsEndpoint: false,
    requestHandler: {
      connectionTimeout: CONNECT_TIMEOUT_MS,
      socketTimeout: STALL_TIMEOUT_MS,
      httpAgent: proxiedAgent(proxies),
      httpsAgent: proxiedAgent(proxies),
    },
  });
}

/** The region in the host of a queue of AWS; undefined for any other. */
function regionOf(host: string): string | undefined {
  const [, region, legacy] =
    /^(?:sqs(?:-fips)?\.([a-z0-9-]+)|([a-z0-9-]+)\.queue)\.(?:amazonaws\.com(?:\.cn)?|api\.aws|api\.amazonwebservices\.com\.cn)$/.exec(
      host,
    ) ?? [];
  return region ?? legacy;
}

/** As much of a reason as is kept, without the characters that SQS does not take. */
function cut(reason: string): string {
  // eslint-disable-next-line no-control-regex
  const plain = reason.toWellFormed().replace(/[^\t\n\r\u0020-\uFFFD\u{10000}-\u{10FFFF}]/gu, '\uFFFD');
  return plain.slice(0, MAX_REASON).toWellFormed();
}
