import {
  BatchWriteItemCommand,
  ConditionalCheckFailedException,
  CreateTableCommand,
  DeleteItemCommand,
  DeleteTableCommand,
  DescribeTableCommand,
  DescribeTimeToLiveCommand,
  DynamoDBClient,
  ExecuteStatementCommand,
  GetItemCommand,
  ListTablesCommand,
  PutItemCommand,
  QueryCommand,
  ResourceNotFoundException,
  TransactionCanceledException,
  TransactWriteItemsCommand,
  UpdateItemCommand,
  UpdateTableCommand,
  UpdateTimeToLiveCommand,
  type AttributeValue,
  type CreateTableCommandInput,
} from '@aws-sdk/client-dynamodb';
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, onTestFinished, test } from 'vitest';
import { Faults } from '../../faults.ts';
import { startDynamoDb, type DynamoDbOptions, type LocalDynamoDb } from '../../dynamodb/dynamodb.ts';
import { fakeClock } from '../../../test/support/clock.ts';

const TableName = 'jobs';
const KEY = { pk: { S: 'a' }, sk: { S: 'b' } };

interface Open {
  readonly dynamodb: LocalDynamoDb;
  readonly client: DynamoDBClient;
}

async function open(options: DynamoDbOptions = {}): Promise<Open> {
  const tables = [{ name: TableName, hashKey: 'pk', rangeKey: 'sk', ttlAttribute: 'ttl' }];
  const dynamodb = await startDynamoDb({ region: 'eu-west-1', account: '111111111111', tables, ...options });
  const credentials = { accessKeyId: 'local', secretAccessKey: 'local-secret' };
  const client = new DynamoDBClient({ endpoint: dynamodb.endpoint, region: 'eu-west-1', credentials, maxAttempts: 1 });
  onTestFinished(async () => {
    client.destroy();
    await dynamodb.close();
  });
  return { dynamodb, client };
}

async function folderOf(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'transship-dynamodb-'));
  onTestFinished(async () => rm(folder, { recursive: true, force: true }));
  return join(folder, 'made');
}

async function failure(work: Promise<unknown>): Promise<Error> {
  const error: unknown = await work.then(
    () => assert.fail('it did not fail'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof Error);
  return error;
}

async function nameOf(work: Promise<unknown>): Promise<string> {
  return (await failure(work)).name;
}

type Item = Record<string, AttributeValue>;
const put = async ({ client }: Open, more: Item = {}): Promise<unknown> =>
  client.send(new PutItemCommand({ TableName, Item: { ...KEY, ...more } }));
const get = async ({ client }: Open, Key: Item = KEY): Promise<Item | undefined> =>
  (await client.send(new GetItemCommand({ TableName, Key, ConsistentRead: true }))).Item;

describe('a table', () => {
  test('exists from the start, on demand, with its keys, in its region and account', async () => {
    const { client } = await open();
    const { Table } = await client.send(new DescribeTableCommand({ TableName }));
    assert.equal(Table?.TableStatus, 'ACTIVE');
    assert.equal(Table.TableArn, 'arn:aws:dynamodb:eu-west-1:111111111111:table/jobs');
    assert.equal(Table.BillingModeSummary?.BillingMode, 'PAY_PER_REQUEST');
    assert.deepEqual(Table.KeySchema, [
      { AttributeName: 'pk', KeyType: 'HASH' },
      { AttributeName: 'sk', KeyType: 'RANGE' },
    ]);
    await assert.rejects(
      client.send(new DescribeTableCommand({ TableName: 'none' })),
      (error) => error instanceof ResourceNotFoundException && error.message !== '',
    );
  });

  test('stores items and returns them', async () => {
    const it = await open();
    await put(it, { n: { N: '12345678901234567890123456789012345678' } });
    const PutRequest = { Item: { ...KEY, sk: { S: 'c' } } };
    await it.client.send(new BatchWriteItemCommand({ RequestItems: { [TableName]: [{ PutRequest }] } }));
    const { Items } = await it.client.send(
      new QueryCommand({ TableName, KeyConditionExpression: 'pk = :pk', ExpressionAttributeValues: { ':pk': KEY.pk } }),
    );
    assert.deepEqual(Items?.map(({ sk, n }) => [sk?.S, n?.N]), [['b', '12345678901234567890123456789012345678'], ['c', undefined]]); // prettier-ignore
  });

  test('cannot be deleted while it is protected', async () => {
    const { client } = await open();
    const protect = async (DeletionProtectionEnabled: boolean): Promise<boolean | undefined> => {
      const updated = await client.send(new UpdateTableCommand({ TableName, DeletionProtectionEnabled }));
      return updated.TableDescription?.DeletionProtectionEnabled;
    };
    assert.equal(await protect(true), true);
    const remove = async (): Promise<unknown> => client.send(new DeleteTableCommand({ TableName }));
    assert.equal(await nameOf(remove()), 'ValidationException');
    assert.equal((await client.send(new DescribeTableCommand({ TableName }))).Table?.DeletionProtectionEnabled, true);
    assert.equal(await protect(false), false);
    await remove();
    assert.deepEqual((await client.send(new ListTablesCommand({}))).TableNames, []);
  });

  test('is protected from its creation on request', async () => {
    const { client } = await open();
    const table: CreateTableCommandInput = {
      TableName: 'other',
      BillingMode: 'PAY_PER_REQUEST',
      AttributeDefinitions: [{ AttributeName: 'id', AttributeType: 'S' }],
      KeySchema: [{ AttributeName: 'id', KeyType: 'HASH' }],
    };
    const make = async (more: Partial<CreateTableCommandInput>): Promise<unknown> =>
      client.send(new CreateTableCommand({ ...table, ...more }));
    await make({ DeletionProtectionEnabled: true });
    assert.equal(await nameOf(client.send(new DeleteTableCommand({ TableName: 'other' }))), 'ValidationException');
    assert.equal(await nameOf(make({})), 'ResourceInUseException');
    const streams = { StreamEnabled: true, StreamViewType: 'NEW_IMAGE' } as const;
    assert.equal(await nameOf(make({ TableName: 'third', StreamSpecification: streams })), 'NotImplemented');
  });

  test('refuses loudly what the embedded DynamoDB does not implement', async () => {
    const { client, dynamodb } = await open();
    const Put = { TableName, Item: KEY };
    // of updates alone
    const transaction = new TransactWriteItemsCommand({ TransactItems: [{ Put }] });
    assert.equal(await nameOf(client.send(transaction)), 'NotImplemented');
    assert.deepEqual(dynamodb.calls.at(-1), { action: 'TransactWriteItems', status: 501 });
    const statement = new ExecuteStatementCommand({ Statement: `SELECT * FROM ${TableName}` });
    assert.equal(await nameOf(client.send(statement)), 'NotImplemented');
  });

  test('applies all updates of a transaction or none, and reports whose condition failed', async () => {
    const it = await open();
    await put(it, { v: { S: 'before' } });
    const update = (sk: string, condition: string, value: string) => ({
      Update: {
        TableName,
        Key: { pk: { S: 'a' }, sk: { S: sk } },
        UpdateExpression: 'SET v = :v',
        ConditionExpression: condition,
        ExpressionAttributeValues: { ':v': { S: value } },
      },
    });
    const transact = async (ClientRequestToken: string, ...TransactItems: ReturnType<typeof update>[]) =>
      it.client.send(new TransactWriteItemsCommand({ ClientRequestToken, TransactItems }));
    const [absent, there] = ['attribute_not_exists(pk)', 'attribute_exists(pk)'];
    const error = await failure(
      transact('1', update('c', absent, 'x'), update('b', there, 'x'), update('d', there, 'x')),
    );
    assert.ok(error instanceof TransactionCanceledException);
    assert.deepEqual(
      error.CancellationReasons?.map(({ Code }) => Code),
      ['None', 'None', 'ConditionalCheckFailed'],
    );
    assert.equal(await get(it, { pk: { S: 'a' }, sk: { S: 'c' } }), undefined);
    assert.equal((await get(it))?.['v']?.S, 'before');
    await transact('2', update('c', absent, 'new'), update('b', there, 'changed'));
    // the same request again, as after a lost answer
    await transact('2', update('c', absent, 'new'), update('b', there, 'changed'));
    assert.equal((await get(it, { pk: { S: 'a' }, sk: { S: 'c' } }))?.['v']?.S, 'new');
    assert.equal((await get(it))?.['v']?.S, 'changed');
    assert.equal(await nameOf(transact('3', update('b', there, 'x'), update('b', there, 'y'))), 'ValidationException');
  });

  test('is the same after a restart: items, expiry and protection', async () => {
    const folder = await folderOf();
    const before = await open({ folder });
    await put(before, { v: { S: 'kept' } });
    await before.client.send(new UpdateTableCommand({ TableName, DeletionProtectionEnabled: true }));
    await before.dynamodb.close();
    const after = await open({ folder });
    assert.equal((await get(after))?.['v']?.S, 'kept');
    const { TimeToLiveDescription } = await after.client.send(new DescribeTimeToLiveCommand({ TableName }));
    assert.deepEqual(TimeToLiveDescription, { TimeToLiveStatus: 'ENABLED', AttributeName: 'ttl' });
    assert.equal(await nameOf(after.client.send(new DeleteTableCommand({ TableName }))), 'ValidationException');
  });
});

describe('a condition that fails', () => {
  const unlessThere = {
    TableName,
    ConditionExpression: 'v <> :v',
    ExpressionAttributeValues: { ':v': { S: 'there' } },
    ReturnValuesOnConditionCheckFailure: 'ALL_OLD',
  } as const;
  const { ConditionExpression: _, ...asked } = unlessThere;

  test.each([
    ['a put', async ({ client }: Open) => client.send(new PutItemCommand({ ...unlessThere, Item: KEY }))],
    ['a delete', async ({ client }: Open) => client.send(new DeleteItemCommand({ ...unlessThere, Key: KEY }))],
    [
      'an update',
      async ({ client }: Open) =>
        client.send(new UpdateItemCommand({ ...unlessThere, Key: KEY, UpdateExpression: 'SET v = :v' })),
    ],
  ])('of %s comes with the item', async (_what, write: (it: Open) => Promise<unknown>) => {
    const it = await open();
    await put(it, { v: { S: 'there' } });
    const error = await failure(write(it));
    assert.ok(error instanceof ConditionalCheckFailedException);
    assert.deepEqual(error.Item, { ...KEY, v: { S: 'there' } });
    assert.deepEqual(await get(it), error.Item);
  });

  test('returns no item when the item does not exist, or when the request did not ask for it', async () => {
    const it = await open();
    const mustBeThere = { TableName, Key: KEY, ConditionExpression: 'attribute_exists(pk)' };
    const missing = await failure(
      it.client.send(new DeleteItemCommand({ ...mustBeThere, ReturnValuesOnConditionCheckFailure: 'ALL_OLD' })),
    );
    assert.ok(missing instanceof ConditionalCheckFailedException && missing.Item === undefined);
    await put(it);
    const unasked = await failure(
      it.client.send(new PutItemCommand({ TableName, Item: KEY, ConditionExpression: 'attribute_not_exists(pk)' })),
    );
    assert.ok(unasked instanceof ConditionalCheckFailedException && unasked.Item === undefined);
  });

  test('returns the item that it failed on, even while others write', async () => {
    const it = await open();
    await put(it, { n: { N: '0' } });
    let failed = 0;
    const bump = async (from: number): Promise<void> => {
      const values = { ':from': { N: `${from}` }, ':to': { N: `${(from + 1) % 3}` } };
      const update = new UpdateItemCommand({
        ...asked,
        Key: KEY,
        ConditionExpression: 'n = :from',
        UpdateExpression: 'SET n = :to',
        ExpressionAttributeValues: values,
      });
      try {
        await it.client.send(update);
      } catch (error) {
        assert.ok(error instanceof ConditionalCheckFailedException);
        assert.notEqual(error.Item?.['n']?.N, `${from}`);
        failed++;
      }
    };
    await Promise.all(Array.from({ length: 300 }, async (_each, at) => bump(at % 3)));
    assert.ok(failed > 0 && failed < 300, `${failed} failed`);
  });

  test('lets one of many writers win', async () => {
    const { client } = await open();
    const take = async (owner: string): Promise<string> => {
      const ConditionExpression = 'attribute_not_exists(pk)';
      const Item = { ...KEY, owner: { S: owner } };
      const lease = { TableName, Item, ConditionExpression, ReturnValuesOnConditionCheckFailure: 'ALL_OLD' } as const;
      try {
        await client.send(new PutItemCommand(lease));
        return owner;
      } catch (error) {
        assert.ok(error instanceof ConditionalCheckFailedException);
        return error.Item?.['owner']?.S ?? 'nobody';
      }
    };
    const owners = await Promise.all(Array.from({ length: 20 }, async (_each, at) => take(`${at}`)));
    assert.equal(new Set(owners).size, 1);
  });
});

describe('expiry', () => {
  test('keeps expired items until they are swept', async () => {
    const clock = fakeClock();
    const it = await open({ clock });
    const nowSeconds = clock.now() / 1000;
    const item = (sk: string, ttl?: number): Item => ({
      sk: { S: sk },
      ...(ttl === undefined ? {} : { ttl: { N: `${ttl}` } }),
    });
    for (const more of [item('old', nowSeconds - 1), item('new', nowSeconds + 60), item('ever')]) await put(it, more);
    assert.ok(await get(it, { ...KEY, sk: { S: 'old' } }));
    assert.equal(await it.dynamodb.sweep(), 1);
    const left = await Promise.all(['old', 'new', 'ever'].map(async (sk) => get(it, { ...KEY, sk: { S: sk } })));
    assert.deepEqual(left.map((found) => found !== undefined), [false, true, true]); // prettier-ignore
    await clock.sleep(61_000);
    assert.deepEqual([await it.dynamodb.sweep(), await it.dynamodb.sweep()], [1, 0]);
  });

  test('is switched off and on', async () => {
    const clock = fakeClock();
    const it = await open({ clock });
    const { client, dynamodb } = it;
    await put(it, { ttl: { N: '1' }, other: { N: '1' } });
    const update = async (AttributeName: string, Enabled: boolean): Promise<unknown> =>
      client.send(new UpdateTimeToLiveCommand({ TableName, TimeToLiveSpecification: { AttributeName, Enabled } }));
    const described = async (): Promise<unknown> =>
      (await client.send(new DescribeTimeToLiveCommand({ TableName }))).TimeToLiveDescription;
    assert.equal(await nameOf(update('ttl', true)), 'ValidationException');
    await update('ttl', false);
    assert.deepEqual(await described(), { TimeToLiveStatus: 'DISABLED' });
    assert.equal(await dynamodb.sweep(), 0);
    await update('other', true);
    assert.deepEqual(await described(), { TimeToLiveStatus: 'ENABLED', AttributeName: 'other' });
    assert.equal(await dynamodb.sweep(), 1);
    const none = new DescribeTimeToLiveCommand({ TableName: 'none' });
    assert.equal(await nameOf(client.send(none)), 'ResourceNotFoundException');
  });
});

describe('faults', () => {
  test('throttle, as DynamoDB names it for reads and writes, or otherwise', async () => {
    const it = await open();
    it.dynamodb.faults.add({ operation: 'PutItem' }, { kind: 'answer' });
    assert.equal(await nameOf(put(it)), 'ProvisionedThroughputExceededException');
    it.dynamodb.faults.add({ operation: 'PutItem' }, { kind: 'answer', code: 'ThrottlingException' });
    assert.equal(await nameOf(put(it)), 'ThrottlingException');
    await put(it);
    it.dynamodb.faults.add({ share: 0.5 }, { kind: 'answer' });
    const answers = await Promise.allSettled(Array.from({ length: 100 }, async () => put(it)));
    const refused = answers.filter(({ status }) => status === 'rejected').length;
    assert.ok(refused > 30 && refused < 70, `${refused} refused`);
  });

  test('lose the answer to a write that happened', async () => {
    const faults = new Faults();
    const it = await open({ faults });
    faults.add({ operation: 'PutItem' }, { kind: 'lose-answer' });
    await assert.rejects(put(it, { v: { S: 'written' } }));
    assert.equal((await get(it))?.['v']?.S, 'written');
  });

  test('make the service unavailable, then available again with everything in it', async () => {
    const it = await open();
    await put(it);
    it.dynamodb.faults.goAway();
    await assert.rejects(get(it));
    it.dynamodb.faults.goAway('unavailable');
    assert.equal(await nameOf(get(it)), 'ServiceUnavailable');
    it.dynamodb.faults.comeBack();
    assert.deepEqual(await get(it), KEY);
  });

  test('strike only when requested', async () => {
    const it = await open();
    await Promise.all(Array.from({ length: 100 }, async () => put(it)));
    assert.ok(it.dynamodb.calls.every(({ status }) => status === 200));
  });
});
