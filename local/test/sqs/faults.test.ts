import { SendMessageCommand, SQSClient, type Message } from '@aws-sdk/client-sqs';
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { Faults } from '../../faults.ts';
import { bodies, extend, handleOf, open, pass, refusal, remove } from './lab.ts';

describe('faults', () => {
  test('strike only when requested', async () => {
    const it = await open();
    const sent = Array.from({ length: 50 }, (_, at) => `${at}`);
    await it.send(...sent);
    const received: Message[] = [];
    for (let more = await it.receive({ MaxNumberOfMessages: 10 }); more.length > 0;) {
      received.push(...more);
      more = await it.receive({ MaxNumberOfMessages: 10 });
    }
    assert.deepEqual(bodies(received), sent);
    assert.equal(it.sqs.faults.pending + it.sqs.deliveryFaults.pending, 0);
  });

  test('throttle as SQS does, and the SDK retries', async () => {
    const it = await open();
    it.sqs.faults.add({ operation: 'SendMessage' }, { kind: 'answer' });
    assert.equal(await refusal(it.send('x')), 'RequestThrottled');
    const credentials = { accessKeyId: 'local', secretAccessKey: 'local-secret' };
    const patient = new SQSClient({ endpoint: it.sqs.endpoint, region: 'eu-west-1', credentials });
    it.sqs.faults.add({ operation: 'SendMessage' }, { kind: 'answer' });
    await patient.send(new SendMessageCommand({ QueueUrl: it.QueueUrl, MessageBody: 'x' }));
    patient.destroy();
    assert.deepEqual(await it.counts(), [1, 0, 0]);
  });

  test('lose the answer to a send that happened', async () => {
    const faults = new Faults();
    faults.add({ operation: 'SendMessage' }, { kind: 'lose-answer' });
    const it = await open({ faults });
    await assert.rejects(it.send('x'));
    assert.deepEqual(bodies(await it.receive()), ['x']);
  });

  test('lose the answer to a receive, which holds the message until its visibility timeout ends', async () => {
    const it = await open();
    await it.send('x');
    it.sqs.faults.add({ operation: 'ReceiveMessage' }, { kind: 'lose-answer' });
    await assert.rejects(it.receive());
    assert.deepEqual(await it.counts(), [0, 1, 0]);
    pass(31);
    assert.deepEqual(bodies(await it.receive()), ['x']);
  });

  test('deliver a message twice, with one id and two handles', async () => {
    const it = await open();
    const { client, QueueUrl } = it;
    const MessageAttributes = { a: { DataType: 'String', StringValue: '1' } };
    await client.send(new SendMessageCommand({ QueueUrl, MessageBody: 'x', MessageAttributes }));
    it.sqs.deliveryFaults.add({}, { kind: 'duplicate' });
    const asked = { MessageAttributeNames: ['All'], MaxNumberOfMessages: 10 };
    const [one] = await it.receive(asked);
    const [two] = await it.receive(asked);
    const { ReceiptHandle: first, ...message } = one ?? {};
    const { ReceiptHandle: second, ...again } = two ?? {};
    assert.deepEqual(again, message);
    assert.equal(message.Body, 'x');
    assert.notEqual(first, second);
    await remove(it, handleOf(one));
    assert.deepEqual(await it.counts(), [0, 1, 0]);
    await remove(it, handleOf(two));
    assert.deepEqual([await it.receive(), it.sqs.deliveryFaults.pending], [[], 0]);
  });

  test('deliver a share of messages twice, each twice at most', async () => {
    const it = await open();
    await it.send(...Array.from({ length: 40 }, (_, at) => `${at}`));
    it.sqs.deliveryFaults.add({ share: 0.5 }, { kind: 'duplicate' });
    const times = new Map<string, number>();
    for (let more = await it.receive(); more.length > 0; more = await it.receive())
      for (const { MessageId = '' } of more) times.set(MessageId, (times.get(MessageId) ?? 0) + 1);
    assert.equal(times.size, 40);
    const twice = [...times.values()].filter((count) => count === 2).length;
    assert.ok(twice > 5 && twice < 35, `${twice} twice`);
    assert.ok([...times.values()].every((count) => count <= 2));
  });

  test('shuffle the order, with the same count and messages, the same with the same seed', async () => {
    const sent = Array.from({ length: 30 }, (_, at) => `${at}`);
    const orderOf = async (seed: number): Promise<readonly string[]> => {
      const it = await open({ deliveryFaults: new Faults({ seed }) });
      await it.send(...sent);
      it.sqs.deliveryFaults.add({ share: 0.5 }, { kind: 'reorder' });
      const received: Message[] = [];
      const asked = { MaxNumberOfMessages: 3, MessageSystemAttributeNames: ['All' as const] };
      for (let more = await it.receive(asked); more.length > 0; more = await it.receive(asked)) received.push(...more);
      assert.ok(received.every(({ Attributes }) => Attributes?.ApproximateReceiveCount === '1'));
      return bodies(received);
    };
    const order = await orderOf(3);
    assert.deepEqual([...order].sort(), [...sent].sort());
    assert.notDeepEqual(order, sent);
    assert.deepEqual(await orderOf(3), order);
    assert.notDeepEqual(await orderOf(4), order);
  });

  test('make a message visible early, although it was extended, and its delivery invalid', async () => {
    const it = await open();
    await it.send('x');
    it.sqs.deliveryFaults.add({}, { kind: 'reappear', afterSeconds: 10 });
    const handle = handleOf((await it.receive())[0]);
    await extend(it, handle, 60);
    assert.deepEqual(await it.receive(), []);
    pass(11);
    assert.equal(await refusal(extend(it, handle, 60)), 'MessageNotInflight');
    assert.equal((await it.receive()).length, 1);
    await remove(it, handle);
    assert.deepEqual(await it.counts(), [0, 1, 0]);
  });

  test('make a message visible at once', async () => {
    const it = await open();
    await it.send('x');
    it.sqs.deliveryFaults.add({}, { kind: 'reappear' });
    assert.deepEqual(bodies([...(await it.receive()), ...(await it.receive())]), ['x', 'x']);
  });
});
