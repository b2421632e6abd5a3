import {
  ChangeMessageVisibilityCommand,
  DeleteMessageCommand,
  GetQueueAttributesCommand,
  ReceiveMessageCommand,
  SendMessageCommand,
  SQSClient,
  type Message,
  type ReceiveMessageCommandInput,
} from '@aws-sdk/client-sqs';
import assert from 'node:assert/strict';
import { onTestFinished, vi } from 'vitest';
import { startSqs, type LocalSqs, type SqsOptions } from '../../sqs/sqs.ts';

export const ACCOUNT = '111111111111';
export const ARN = `arn:aws:sqs:eu-west-1:${ACCOUNT}`;
export const HANDLE = '00000000-0000-4000-8000-000000000000';

export interface Open {
  readonly sqs: LocalSqs;
  readonly client: SQSClient;
  /** The queue `jobs`: visibility 30 s, dead letters to `dead` after the second delivery. */
  readonly QueueUrl: string;
  readonly send: (...bodies: readonly string[]) => Promise<void>;
  readonly receive: (o?: Partial<ReceiveMessageCommandInput> & { signal?: AbortSignal }) => Promise<readonly Message[]>;
  /** Visible, in flight, delayed. */
  readonly counts: (queue?: string) => Promise<readonly number[]>;
}

export async function open(options: SqsOptions = {}): Promise<Open> {
  const sqs = await startSqs({
    region: 'eu-west-1',
    account: ACCOUNT,
    queues: [
      { name: 'dead' },
      { name: 'jobs', visibilitySeconds: 30, deadLetters: { queue: 'dead', maxReceiveCount: 2 } },
    ],
    ...options,
  });
  const credentials = { accessKeyId: 'local', secretAccessKey: 'local-secret' };
  const client = new SQSClient({ endpoint: sqs.endpoint, region: 'eu-west-1', credentials, maxAttempts: 1 });
  onTestFinished(async () => {
    client.destroy();
    await sqs.close();
  });
  const QueueUrl = sqs.queueUrl('jobs');
  return {
    sqs,
    client,
    QueueUrl,
    send: async (...bodies) => {
      for (const MessageBody of bodies) await client.send(new SendMessageCommand({ QueueUrl, MessageBody }));
    },
    receive: async ({ signal, ...input } = {}) => {
      const command = new ReceiveMessageCommand({ QueueUrl, ...input });
      const { Messages } = await client.send(command, signal === undefined ? {} : { abortSignal: signal });
      return Messages ?? [];
    },
    counts: async (queue = 'jobs') => {
      const kinds = ['', 'NotVisible', 'Delayed'] as const;
      const names = kinds.map((kind) => `ApproximateNumberOfMessages${kind}` as const);
      const asked = new GetQueueAttributesCommand({ QueueUrl: sqs.queueUrl(queue), AttributeNames: names });
      const { Attributes = {} } = await client.send(asked);
      return names.map((name) => Number(Attributes[name]));
    },
  };
}

/** Advances time by so many seconds, for the queue and every client. From here on time stands still in this test. */
export function pass(seconds: number): void {
  const nowMs = Date.now();
  vi.useFakeTimers({ toFake: ['Date'], now: nowMs + seconds * 1000 });
  onTestFinished(() => void vi.useRealTimers());
}

export const handleOf = (message: Message | undefined): string => message?.ReceiptHandle ?? assert.fail('no message');
export const bodies = (messages: readonly Message[]): readonly string[] => messages.map(({ Body }) => Body ?? '');

export async function refusal(work: Promise<unknown>): Promise<string> {
  const error: unknown = await work.then(
    () => assert.fail('it was not refused'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof Error);
  return error.name;
}

export const extend = async (
  { client, QueueUrl }: Open,
  ReceiptHandle: string,
  VisibilityTimeout: number,
): Promise<unknown> => client.send(new ChangeMessageVisibilityCommand({ QueueUrl, ReceiptHandle, VisibilityTimeout }));
export const remove = async ({ client, QueueUrl }: Open, ReceiptHandle: string): Promise<unknown> =>
  client.send(new DeleteMessageCommand({ QueueUrl, ReceiptHandle }));
