import { DescribeTimeToLiveCommand, DynamoDBClient, GetItemCommand, PutItemCommand } from '@aws-sdk/client-dynamodb';
import { GetQueueAttributesCommand, SendMessageCommand, SQSClient } from '@aws-sdk/client-sqs';
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished, test } from 'vitest';
import { startStack } from '../stack.ts';

test('the environment of the stack leads to its queues and its table, and the folder keeps the table', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'transship-stack-'));
  onTestFinished(async () => rm(folder, { recursive: true, force: true }));
  const Key = { pk: { S: 'a' }, sk: { S: 'b' } };
  for (const run of ['first', 'second']) {
    await using stack = await startStack({ folder });
    const environment = new Map(Object.entries(stack.environment));
    const get = (name: string): string => environment.get(name) ?? assert.fail(`no ${name}`);
    const region = get('AWS_REGION');
    const credentials = { accessKeyId: get('AWS_ACCESS_KEY_ID'), secretAccessKey: get('AWS_SECRET_ACCESS_KEY') };

    const sqs = new SQSClient({ endpoint: get('AWS_ENDPOINT_URL_SQS'), region, credentials });
    const [QueueUrl, dead] = [get('TRANSSHIP_QUEUE_URL'), get('TRANSSHIP_DEAD_LETTER_QUEUE_URL')];
    assert.deepEqual([QueueUrl, dead], [stack.queueUrl, stack.deadLetterQueueUrl]);
    const attributesOf = async (url: string): Promise<Record<string, string | undefined>> =>
      (await sqs.send(new GetQueueAttributesCommand({ QueueUrl: url, AttributeNames: ['All'] }))).Attributes ?? {};
    const queue = await attributesOf(QueueUrl);
    const { QueueArn, ...others } = await attributesOf(dead);
    assert.deepEqual(JSON.parse(queue['RedrivePolicy'] ?? ''), { deadLetterTargetArn: QueueArn, maxReceiveCount: 20 });
    assert.equal(queue['VisibilityTimeout'], '120');
    for (const { MessageRetentionPeriod } of [queue, others]) assert.equal(MessageRetentionPeriod, '1209600');
    assert.equal(queue['ApproximateNumberOfMessages'], '0');
    await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: 'not kept' }));
    sqs.destroy();

    const dynamodb = new DynamoDBClient({ endpoint: get('AWS_ENDPOINT_URL_DYNAMODB'), region, credentials });
    const TableName = get('TRANSSHIP_TABLE');
    const { TimeToLiveDescription } = await dynamodb.send(new DescribeTimeToLiveCommand({ TableName }));
    assert.equal(TimeToLiveDescription?.AttributeName, 'ttl');
    if (run === 'first') await dynamodb.send(new PutItemCommand({ TableName, Item: Key }));
    assert.deepEqual((await dynamodb.send(new GetItemCommand({ TableName, Key }))).Item, Key);
    dynamodb.destroy();
  }
});
