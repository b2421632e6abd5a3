import {
  AddPermissionCommand,
  ChangeMessageVisibilityBatchCommand,
  CreateQueueCommand,
  DeleteMessageBatchCommand,
  GetQueueAttributesCommand,
  GetQueueUrlCommand,
  ListDeadLetterSourceQueuesCommand,
  ListMessageMoveTasksCommand,
  ListQueuesCommand,
  PurgeQueueCommand,
  QueueDoesNotExist,
  SendMessageBatchCommand,
  SendMessageCommand,
  SetQueueAttributesCommand,
  StartMessageMoveTaskCommand,
  type MessageAttributeValue,
} from '@aws-sdk/client-sqs';
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { describe, test } from 'vitest';
import { eventually } from '../../../test/support/eventually.ts';
import { ACCOUNT, ARN, bodies, extend, HANDLE, handleOf, open, pass, refusal, remove, type Open } from './lab.ts';

describe('queues', () => {
  test('have URLs that lead to the front, and ARNs of their account', async () => {
    const { sqs, client } = await open();
    const { QueueUrl } = await client.send(new CreateQueueCommand({ QueueName: 'more' }));
    assert.equal(QueueUrl, `${sqs.endpoint}/${ACCOUNT}/more`);
    assert.equal((await client.send(new GetQueueUrlCommand({ QueueName: 'more' }))).QueueUrl, QueueUrl);
    const { QueueUrls } = await client.send(new ListQueuesCommand({}));
    assert.deepEqual(
      QueueUrls,
      ['dead', 'jobs', 'more'].map((name) => sqs.queueUrl(name)),
    );
    const asked = new GetQueueAttributesCommand({ QueueUrl: sqs.queueUrl('jobs'), AttributeNames: ['All'] });
    const { Attributes } = await client.send(asked);
    assert.equal(Attributes?.QueueArn, `${ARN}:jobs`);
    assert.deepEqual(JSON.parse(Attributes?.RedrivePolicy ?? ''), {
      deadLetterTargetArn: `${ARN}:dead`,
      maxReceiveCount: 2,
    });
    assert.equal(Attributes?.VisibilityTimeout, '30');
  });

  test('are refused when they do not exist or belong to another account', async () => {
    const { sqs, client } = await open();
    const send = async (QueueUrl: string): Promise<unknown> =>
      client.send(new SendMessageCommand({ QueueUrl, MessageBody: 'x' }));
    await assert.rejects(send(sqs.queueUrl('none')), QueueDoesNotExist);
    await assert.rejects(send(`${sqs.endpoint}/222222222222/jobs`), QueueDoesNotExist);
    assert.equal(await refusal(client.send(new GetQueueUrlCommand({ QueueName: 'none' }))), 'QueueDoesNotExist');
  });

  test('name existing dead-letter queues', async () => {
    const { client, QueueUrl } = await open();
    const policy = (queue: string): { RedrivePolicy: string } => ({
      RedrivePolicy: JSON.stringify({ deadLetterTargetArn: `${ARN}:${queue}`, maxReceiveCount: '3' }),
    });
    const create = async (queue: string): Promise<unknown> =>
      client.send(new CreateQueueCommand({ QueueName: 'more', Attributes: policy(queue) }));
    const set = async (queue: string): Promise<unknown> =>
      client.send(new SetQueueAttributesCommand({ QueueUrl, Attributes: policy(queue) }));
    assert.equal(await refusal(create('none')), 'InvalidParameterValue');
    assert.equal(await refusal(set('none')), 'InvalidParameterValue');
    await create('dead');
    await set('dead');
  });

  test('loudly refuse unknown parameters', async () => {
    const { client, QueueUrl, sqs } = await open();
    const command = new AddPermissionCommand({ QueueUrl, Label: 'l', AWSAccountIds: [ACCOUNT], Actions: ['*'] });
    assert.equal(await refusal(client.send(command)), 'NotImplemented');
    assert.deepEqual(sqs.calls.at(-1), { action: 'AddPermission', status: 501 });
  });

  test('count visible, in-flight and delayed messages, without a receive', async () => {
    const it = await open();
    await it.send('a', 'b');
    const MessageBody = 'later';
    await it.client.send(new SendMessageCommand({ QueueUrl: it.QueueUrl, MessageBody, DelaySeconds: 10 }));
    await it.receive();
    assert.deepEqual(await it.counts(), [1, 1, 1]);
    pass(11);
    assert.deepEqual(await it.counts(), [2, 1, 0]);
    pass(20);
    assert.deepEqual(await it.counts(), [3, 0, 0]);
    await it.client.send(new PurgeQueueCommand({ QueueUrl: it.QueueUrl }));
    assert.deepEqual(await it.counts(), [0, 0, 0]);
  });
});

describe('messages', () => {
  test('have their attributes on request', async () => {
    const { client, QueueUrl, receive } = await open();
    const MessageAttributes = {
      a: { DataType: 'String', StringValue: '1' },
      b: { DataType: 'Number', StringValue: '2' },
    };
    await client.send(new SendMessageCommand({ QueueUrl, MessageBody: 'x', MessageAttributes }));
    const [plain] = await receive({ VisibilityTimeout: 0 });
    assert.deepEqual(
      [plain?.Body, plain?.MessageAttributes, plain?.MD5OfMessageAttributes],
      ['x', undefined, undefined],
    );
    const [full] = await receive({ MessageAttributeNames: ['b'], MessageSystemAttributeNames: ['All'] });
    assert.deepEqual(full?.MessageAttributes, { b: MessageAttributes.b });
    assert.equal(full?.Attributes?.ApproximateReceiveCount, '2');
  });

  test('with more than ten attributes are refused, alone and in a batch', async () => {
    const { client, QueueUrl, receive } = await open();
    const attribute: MessageAttributeValue = { DataType: 'String', StringValue: 'v' };
    const attributes = (count: number): Record<string, MessageAttributeValue> =>
      Object.fromEntries(Array.from({ length: count }, (_, at) => [`a${at}`, attribute]));
    const message = (
      count: number,
    ): { MessageBody: string; MessageAttributes: Record<string, MessageAttributeValue> } => ({
      MessageBody: `with ${count}`,
      MessageAttributes: attributes(count),
    });
    assert.equal(
      await refusal(client.send(new SendMessageCommand({ QueueUrl, ...message(11) }))),
      'InvalidParameterValue',
    );
    const Entries = [10, 11].map((count) => Object.assign(message(count), { Id: `e${count}` }));
    const { Successful, Failed } = await client.send(new SendMessageBatchCommand({ QueueUrl, Entries }));
    assert.deepEqual(Successful?.map(({ Id }) => Id), ['e10']); // prettier-ignore
    assert.deepEqual(Failed?.map(({ Id, Code }) => [Id, Code]), [['e11', 'InvalidParameterValue']]); // prettier-ignore
    assert.deepEqual(bodies(await receive({ MaxNumberOfMessages: 10 })), ['with 10']);
  });

  test('of a batch that is wrong as a whole are all refused', async () => {
    const { client, QueueUrl, counts } = await open();
    const batch = async (ids: readonly string[]): Promise<unknown> =>
      client.send(
        new DeleteMessageBatchCommand({ QueueUrl, Entries: ids.map((Id) => ({ Id, ReceiptHandle: 'bad' })) }),
      );
    assert.equal(await refusal(batch([])), 'EmptyBatchRequest');
    assert.equal(await refusal(batch(['a', 'a'])), 'BatchEntryIdsNotDistinct');
    assert.equal(await refusal(batch(Array.from({ length: 11 }, (_, at) => `${at}`))), 'TooManyEntriesInBatchRequest');
    assert.deepEqual(await counts(), [0, 0, 0]);
  });

  test('go to the dead-letter queue after their last delivery, and return when they are moved', async () => {
    const it = await open();
    const { client, sqs } = it;
    const dead = sqs.queueUrl('dead');
    await it.client.send(
      new SendMessageCommand({
        QueueUrl: it.QueueUrl,
        MessageBody: 'poison',
        MessageAttributes: { why: { DataType: 'String', StringValue: 'because' } },
      }),
    );
    for (const _ of [1, 2]) assert.equal((await it.receive({ VisibilityTimeout: 0 })).length, 1);
    assert.deepEqual(await it.receive(), []);
    assert.deepEqual([await it.counts(), await it.counts('dead')], [[0, 0, 0], [1, 0, 0]]); // prettier-ignore

    const { queueUrls } = await client.send(new ListDeadLetterSourceQueuesCommand({ QueueUrl: dead }));
    assert.deepEqual(queueUrls, [it.QueueUrl]);
    assert.deepEqual(
      (await client.send(new ListDeadLetterSourceQueuesCommand({ QueueUrl: it.QueueUrl }))).queueUrls,
      [],
    );

    const move = async (SourceArn: string, DestinationArn?: string): Promise<unknown> =>
      client.send(new StartMessageMoveTaskCommand({ SourceArn, DestinationArn }));
    await move(`${ARN}:dead`);
    assert.deepEqual([await it.counts(), await it.counts('dead')], [[1, 0, 0], [0, 0, 0]]); // prettier-ignore
    const asked = { MessageAttributeNames: ['All'], MessageSystemAttributeNames: ['All' as const] };
    const [back] = await it.receive({ ...asked, VisibilityTimeout: 0 });
    assert.equal(back?.MessageAttributes?.['why']?.StringValue, 'because');
    assert.equal(back?.Attributes?.ApproximateReceiveCount, '1');
    const { Results } = await client.send(new ListMessageMoveTasksCommand({ SourceArn: `${ARN}:dead` }));
    assert.deepEqual(Results?.map((task) => [task.Status, task.ApproximateNumberOfMessagesMoved]), [['COMPLETED', 1]]); // prettier-ignore

    assert.equal(await refusal(move(`${ARN}:jobs`)), 'InvalidParameterValue');
    assert.equal(await refusal(move(`${ARN}:none`)), 'ResourceNotFoundException');
    assert.equal(await refusal(move(`${ARN}:dead`, `${ARN}:none`)), 'ResourceNotFoundException');
  });

  test('in flight are not moved, and the others are moved to the given queue', async () => {
    const it = await open();
    const { client, sqs } = it;
    const QueueUrl = sqs.queueUrl('dead');
    await client.send(new CreateQueueCommand({ QueueName: 'other' }));
    for (const MessageBody of ['held', 'x', 'y']) await client.send(new SendMessageCommand({ QueueUrl, MessageBody }));
    assert.deepEqual(bodies(await it.receive({ QueueUrl })), ['held']);
    const [SourceArn, DestinationArn] = [`${ARN}:dead`, `${ARN}:other`];
    await client.send(new StartMessageMoveTaskCommand({ SourceArn, DestinationArn }));
    assert.deepEqual([await it.counts('dead'), await it.counts('other')], [[0, 1, 0], [2, 0, 0]]); // prettier-ignore
  });
});

describe('a delivery', () => {
  test('is extended, and is visible again when it is let go', async () => {
    const it = await open();
    await it.send('x');
    const handle = handleOf((await it.receive())[0]);
    await extend(it, handle, 60);
    pass(31);
    assert.deepEqual(await it.receive(), []);
    await extend(it, handle, 0);
    assert.deepEqual(bodies(await it.receive()), ['x']);
  });

  test('cannot be extended once it has expired, received again or not', async () => {
    const it = await open();
    await it.send('x');
    const handle = handleOf((await it.receive())[0]);
    pass(31);
    assert.equal(await refusal(extend(it, handle, 30)), 'MessageNotInflight');
    const Entries = [{ Id: 'e', ReceiptHandle: handle, VisibilityTimeout: 30 }];
    const { Successful, Failed } = await it.client.send(
      new ChangeMessageVisibilityBatchCommand({ QueueUrl: it.QueueUrl, Entries }),
    );
    assert.deepEqual([Successful, Failed?.map(({ Code }) => Code)], [[], ['MessageNotInflight']]);
    assert.deepEqual(await it.counts(), [1, 0, 0]);
    assert.equal((await it.receive()).length, 1);
    assert.equal(await refusal(extend(it, handle, 30)), 'MessageNotInflight');
    assert.equal(await refusal(extend(it, HANDLE, 30)), 'MessageNotInflight');
  });

  test('can be deleted after it has expired, until another consumer receives the message', async () => {
    const it = await open();
    await it.send('x');
    const handle = handleOf((await it.receive())[0]);
    pass(31);
    const second = handleOf((await it.receive())[0]);
    await remove(it, handle);
    assert.deepEqual(await it.counts(), [0, 1, 0]);
    pass(31);
    await remove(it, second);
    assert.deepEqual(await it.counts(), [0, 0, 0]);
  });

  test('lasts twelve hours at most', async () => {
    const it = await open();
    await it.send('x');
    const handle = handleOf((await it.receive({ VisibilityTimeout: 40_000 }))[0]);
    pass(30_000);
    assert.equal(await refusal(extend(it, handle, 43_200)), 'InvalidParameterValue');
    await extend(it, handle, 13_190);
    pass(13_000);
    assert.equal(await refusal(extend(it, handle, 201)), 'InvalidParameterValue');
    await extend(it, handle, 190);
  });

  test('has a handle that SQS issued', async () => {
    const it = await open();
    await it.send('x');
    const ReceiptHandle = handleOf((await it.receive())[0]);
    assert.equal(await refusal(extend(it, 'garbage', 30)), 'ReceiptHandleIsInvalid');
    assert.equal(await refusal(remove(it, 'garbage')), 'ReceiptHandleIsInvalid');
    const entry = { VisibilityTimeout: 5 };
    const Entries = [
      { Id: 'good', ReceiptHandle, ...entry },
      { Id: 'bad', ReceiptHandle: 'garbage', ...entry },
    ];
    const { client, QueueUrl } = it;
    for (const Command of [ChangeMessageVisibilityBatchCommand, DeleteMessageBatchCommand]) {
      const { Successful, Failed } = await client.send(new Command({ QueueUrl, Entries }));
      assert.deepEqual(Successful, [{ Id: 'good' }]);
      assert.deepEqual(Failed?.map(({ Id, Code }) => [Id, Code]), [['bad', 'ReceiptHandleIsInvalid']]); // prettier-ignore
    }
    assert.deepEqual(await it.counts(), [0, 0, 0]);
  });

  test('is extended by a batch', async () => {
    const it = await open();
    await it.send('x');
    const ReceiptHandle = handleOf((await it.receive())[0]);
    const Entries = [{ Id: 'e', ReceiptHandle, VisibilityTimeout: 60 }];
    await it.client.send(new ChangeMessageVisibilityBatchCommand({ QueueUrl: it.QueueUrl, Entries }));
    pass(50);
    await extend(it, ReceiptHandle, 30);
    assert.deepEqual(await it.counts(), [0, 1, 0]);
  });
});

describe('a long poll', () => {
  const waitingFor = async ({ sqs }: Open, count: number): Promise<void> => {
    const waiting = (): number =>
      sqs.calls.filter((call) => call.action === 'ReceiveMessage' && call.status === 0).length;
    await eventually(() => assert.equal(waiting(), count));
  };

  test('ends with its wait time when no message arrives', async () => {
    const it = await open();
    const before = performance.now();
    assert.deepEqual(await it.receive({ WaitTimeSeconds: 1 }), []);
    const ms = performance.now() - before;
    assert.ok(ms >= 990, `${ms} ms`);
    for (const WaitTimeSeconds of [21, -1])
      assert.equal(await refusal(it.receive({ WaitTimeSeconds })), 'InvalidParameterValue');
  });

  test('takes its wait time from the queue by default', async () => {
    const it = await open();
    const { client, QueueUrl } = it;
    await client.send(new SetQueueAttributesCommand({ QueueUrl, Attributes: { ReceiveMessageWaitTimeSeconds: '20' } }));
    const polled = it.receive();
    await waitingFor(it, 1);
    await it.send('x');
    assert.deepEqual(bodies(await polled), ['x']);
  });

  test('continues when another one received the message', async () => {
    const it = await open();
    const polls = [1, 2, 3].map(async () => it.receive({ WaitTimeSeconds: 20 }));
    await waitingFor(it, 3);
    await it.send('a');
    await Promise.race(polls);
    await it.send('b', 'c');
    assert.deepEqual((await Promise.all(polls)).flatMap(bodies).sort(), ['a', 'b', 'c']);
  });

  test('takes nothing when its client has gone', async () => {
    const it = await open();
    const leaving = new AbortController();
    const polled = assert.rejects(it.receive({ WaitTimeSeconds: 20, signal: leaving.signal }));
    await waitingFor(it, 1);
    leaving.abort();
    await polled;
    await it.send('x');
    const asked = { MessageSystemAttributeNames: ['ApproximateReceiveCount' as const] };
    const [message] = await it.receive({ WaitTimeSeconds: 2, ...asked });
    assert.equal(message?.Attributes?.ApproximateReceiveCount, '1');
  });

  test('returns what it received for a client that disconnected at that very moment', async () => {
    const it = await open({ queues: [{ name: 'jobs' }] });
    await it.send('x');
    const url = new URL(it.sqs.endpoint);
    const body = JSON.stringify({ QueueUrl: it.QueueUrl });
    const head = `POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: AmazonSQS.ReceiveMessage\r\ncontent-length: ${body.length}`;
    for (let at = 0; at < 20; at++) {
      const socket = connect(Number(url.port), url.hostname);
      socket.on('error', () => undefined);
      await new Promise<void>((resolve) => {
        socket.write(`${head}\r\n\r\n${body}`, () => resolve());
      });
      socket.resetAndDestroy();
      await eventually(async () => assert.deepEqual(await it.counts(), [1, 0, 0]));
    }
  });

  test('ends when the server closes', async () => {
    const it = await open();
    const polled = assert.rejects(it.receive({ WaitTimeSeconds: 20 }));
    await waitingFor(it, 1);
    await it.sqs.close();
    await polled;
  });

  test('ends when the service becomes unavailable', async () => {
    const it = await open();
    const polled = assert.rejects(it.receive({ WaitTimeSeconds: 20 }));
    await waitingFor(it, 1);
    it.sqs.faults.goAway();
    await polled;
    await assert.rejects(it.send('x'));
    it.sqs.faults.comeBack();
    await it.send('x');
  });
});
