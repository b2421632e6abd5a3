import { SQSClient } from '@aws-sdk/client-sqs';
import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Delivery } from '../../../worker/queue/queue.ts';
import { openSqs, type SqsOptions } from '../../../worker/queue/sqs.ts';
import { startSqs, type LocalSqs } from '../../../local/sqs/sqs.ts';
import { systemClock } from '../../../worker/util/clock.ts';
import type { Event } from '../../../worker/util/events.ts';
import { fakeClock, type FakeClock } from '../../support/clock.ts';
import { scriptedServer } from '../../support/scripted-server.ts';
import { queueSuite } from '../../contracts/queue.ts';

const QUEUES = [{ name: 'jobs', visibilitySeconds: 30 }];
const CREDENTIALS = { accessKeyId: 'local', secretAccessKey: 'local-secret' };

function clientOf(sqs: LocalSqs): SQSClient {
  return new SQSClient({
    endpoint: sqs.endpoint,
    region: 'us-east-1',
    credentials: CREDENTIALS,
    maxAttempts: 1,
  });
}

queueSuite('SQS', async () => {
  const sqs = await startSqs({ queues: QUEUES });
  const client = clientOf(sqs);
  const events: Event[] = [];
  const queue = openSqs({
    queueUrl: sqs.queueUrl('jobs'),
    clock: systemClock,
    client,
    report: (event) => events.push(event),
  });
  return {
    queue,
    now: () => Date.now(),
    pass: async (seconds) => delay(seconds * 1000),
    [Symbol.asyncDispose]: async () => {
      client.destroy();
      await queue[Symbol.asyncDispose]();
      await sqs.close();
      // no test of the contract may need a retry
      expect(events).toEqual([]);
    },
  };
});

test.each([
  ['jobs', /^open a queue: "jobs" is not a URL: expected https:\/\/sqs\.…\/account\/name$/],
  [
    'https://ann:secret@sqs.example:port/jobs?token=secret',
    /^open a queue: "https:\/\/…@sqs.example:port\/jobs" is not a URL/,
  ],
])('names an invalid URL of a queue, without its secrets: %s', (queueUrl, message) => {
  expect(() => openSqs({ queueUrl, clock: systemClock })).toThrow(message);
});

describe('a queue of SQS', () => {
  let sqs: LocalSqs;
  let client: SQSClient;
  let clock: FakeClock;
  let events: Event[];
  let queue: ReturnType<typeof openSqs>;

  beforeEach(async () => {
    sqs = await startSqs({ queues: QUEUES });
    client = clientOf(sqs);
    clock = fakeClock();
    events = [];
    queue = open({});
  });
  afterEach(async () => {
    vi.unstubAllEnvs();
    client.destroy();
    expect(sqs.faults.pending).toBe(0);
    await sqs.close();
  });

  const open = (o: Partial<SqsOptions>): ReturnType<typeof openSqs> =>
    openSqs({ queueUrl: sqs.queueUrl('jobs'), clock, client, report: (event) => events.push(event), ...o });
  const callsOf = (action: string): number => sqs.calls.filter((call) => call.action === action).length;
  const receiveOne = async (): Promise<Delivery> => {
    const [delivery] = await queue.receive(1, { waitSeconds: 0 });
    if (delivery === undefined) throw new Error('no message came');
    return delivery;
  };

  test('sends ten messages in one call, and batches below the limit of SQS', async () => {
    await queue.send(Array.from({ length: 21 }, (_, n) => ({ body: `${n}` })));
    expect(callsOf('SendMessageBatch')).toBe(3);
    // two of them and their reasons would be a byte too much
    const half = 'x'.repeat(512 * 1024 - 'reasonString12'.length);
    const messages = [half, half, `${half}x`, half, half].map((body) => ({ body, reason: '12' }));
    await queue.send(messages);
    expect(callsOf('SendMessageBatch')).toBe(6);
    expect(await queue.count()).toMatchObject({ visible: 26 });
    expect(events).toEqual([]);
  });

  test('sends only the rejected entries of a batch again', async () => {
    const bodies = Array.from({ length: 10 }, (_, n) => `m${n}`);
    await using partial = await scriptedServer();
    const seen: string[][] = [];
    const answer = (failing: readonly number[], isSender: boolean) => (request: { readonly body: Buffer }) => {
      const { Entries } = JSON.parse(request.body.toString()) as { Entries: { Id: string; MessageBody: string }[] };
      seen.push(Entries.map(({ MessageBody }) => MessageBody));
      const failed = Entries.filter(({ Id }) => failing.includes(Number(Id)));
      const body = {
        Successful: Entries.filter((entry) => !failed.includes(entry)).map(({ Id, MessageBody }) => ({
          Id,
          MessageId: Id,
          MD5OfMessageBody: createHash('md5').update(MessageBody).digest('hex'),
        })),
        Failed: failed.map(({ Id }) => ({ Id, Code: 'InternalError', SenderFault: isSender, Message: 'not this one' })),
      };
      const headers = { 'content-type': 'application/x-amz-json-1.0' };
      return { status: 200, headers, body: JSON.stringify(body) };
    };
    partial.expect({ 'POST /': [answer([3, 7], false), answer([7], false), answer([], false), answer([1], true)] });
    stubAws();
    await using there = openSqs({ queueUrl: `${partial.url}/000000000000/jobs`, clock });
    await there.send(bodies.map((body) => ({ body })));
    expect(seen).toEqual([bodies, ['m3', 'm7'], ['m7']]);
    await expect(there.send([{ body: 'a' }, { body: '\u0001' }])).rejects.toMatchObject({
      code: 'INVALID',
      message: 'send 2 messages to queue jobs: SQS does not take one of them: not this one',
    });
  });

  test('waits and retries after a throttle or a broken connection', async () => {
    sqs.faults.add({ operation: 'SendMessageBatch' }, { kind: 'answer' });
    sqs.faults.add({ operation: 'SendMessageBatch' }, { kind: 'cut-request' });
    await queue.send([{ body: 'a' }]);
    expect(events).toMatchObject([
      { type: 'retry', what: 'send a message to queue jobs', attempt: 1, code: 'THROTTLED' },
      { type: 'retry', attempt: 2, code: 'UNAVAILABLE' },
    ]);
    sqs.faults.add({ operation: 'DeleteMessageBatch' }, { kind: 'answer' });
    sqs.faults.add({ operation: 'ChangeMessageVisibility' }, { kind: 'lose-answer' });
    const delivery = await receiveOne();
    await delivery.extend(60);
    await delivery.settle({ type: 'done' });
    expect(await queue.count()).toEqual({ visible: 0, inFlight: 0, delayed: 0 });
  });

  test('makes a duplicate, never a loss, of a send whose answer is lost', async () => {
    sqs.faults.add({ operation: 'SendMessageBatch' }, { kind: 'lose-answer' });
    await queue.send([{ body: 'a' }]);
    expect((await queue.receive(10, { waitSeconds: 0 })).map(({ body }) => body)).toEqual(['a', 'a']);
  });

  test('redelivers the messages of a receive whose answer is lost, and retries silently', async () => {
    await queue.send([{ body: 'a' }, { body: 'b' }]);
    sqs.faults.add({ operation: 'ReceiveMessage' }, { kind: 'lose-answer' });
    expect(await queue.receive(1, { waitSeconds: 0 })).toMatchObject([{ body: 'b', receiveCount: 1 }]);
    expect(events).toEqual([]);
  });

  test('is UNAVAILABLE after a long outage', async () => {
    for (const how of ['reset', 'unavailable'] as const) {
      sqs.faults.goAway(how);
      await expect(queue.receive(1)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
      await expect(queue.send([{ body: 'a' }])).rejects.toMatchObject({ code: 'UNAVAILABLE' });
      sqs.faults.comeBack();
    }
    await queue.send([{ body: 'a' }]);
  });

  test('reports that a late delivery is no longer held', async () => {
    sqs.deliveryFaults.add({}, { kind: 'reappear' });
    await queue.send([{ body: 'a' }]);
    const delivery = await receiveOne();
    await expect(delivery.extend(60)).rejects.toMatchObject({
      code: 'CONFLICT',
      message: `set the visibility of message ${delivery.id} of queue jobs: another consumer holds it now`,
    });
  });

  test('extends no delivery beyond twelve hours', async () => {
    await queue.send([{ body: 'a' }]);
    const delivery = await receiveOne();
    await expect(delivery.extend(43_200)).rejects.toMatchObject({ code: 'CONFLICT' });
    await delivery.settle({ type: 'again', seconds: 43_200 });
    await delivery.extend(60);
  });

  test('is NOT_FOUND when it does not exist, and INVALID without a name', async () => {
    await expect(open({ queueUrl: sqs.queueUrl('none') }).receive(1)).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringContaining('receive from queue none'),
    });
    expect(() => open({ queueUrl: 'jobs' })).toThrow(expect.objectContaining({ code: 'INVALID' }));
  });

  test('names the missing action when it is denied', async () => {
    sqs.faults.add({ operation: 'SendMessageBatch' }, { kind: 'answer', code: 'AccessDeniedException' });
    await expect(queue.send([{ body: 'a' }])).rejects.toMatchObject({
      code: 'DENIED',
      message: expect.stringContaining('the caller needs sqs:SendMessage'),
    });
    // the credentials are renewed once
    sqs.faults.add({ operation: 'ReceiveMessage', times: 2 }, { kind: 'answer', code: 'ExpiredTokenException' });
    await expect(queue.receive(1)).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    expect(events).toEqual([]);
  });

  test('refuses a delay that SQS does not have as INVALID', async () => {
    await expect(queue.send([{ body: 'a', delaySeconds: 901 }])).rejects.toMatchObject({ code: 'INVALID' });
    expect(sqs.calls).toEqual([]);
  });

  test('removes characters that SQS refuses from a reason', async () => {
    await queue.send([{ body: 'a', reason: `\u0007\u001b[31m\uFFFF\uD800 ${'x'.repeat(990)}😀😀` }]);
    const { reason = '' } = await receiveOne();
    expect(reason).toHaveLength(1000);
    expect(reason.startsWith('\uFFFD\uFFFD[31m\uFFFD\uFFFD xxx')).toBe(true);
    expect(reason.isWellFormed()).toBe(true);
  });

  describe('found by the environment', () => {
    const elsewhere = '/000000000000/jobs';

    test('uses the endpoint in the environment, not the host of the URL', async () => {
      stubAws({ AWS_ENDPOINT_URL_SQS: sqs.endpoint });
      for (const host of ['http://jobs.invalid:1', 'https://sqs.us-east-1.amazonaws.com']) {
        await using there = open({ queueUrl: `${host}${elsewhere}`, client: undefined });
        await there.send([{ body: host }]);
      }
      expect(callsOf('SendMessageBatch')).toBe(2);
    });

    test('asks a queue elsewhere at the host of its URL', async () => {
      stubAws();
      await using there = open({ client: undefined });
      await there.send([{ body: 'a' }]);
      expect(callsOf('SendMessageBatch')).toBe(1);
    });
  });
});

/** The SDK's environment, and nothing else of this machine. */
function stubAws(more: Readonly<Record<string, string>> = {}): void {
  const environment = {
    AWS_ACCESS_KEY_ID: CREDENTIALS.accessKeyId,
    AWS_SECRET_ACCESS_KEY: CREDENTIALS.secretAccessKey,
    AWS_REGION: 'us-east-1',
    AWS_ENDPOINT_URL: undefined,
    AWS_ENDPOINT_URL_SQS: undefined,
    ...more,
  };
  for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value);
}
