import { DynamoDBClient } from '@aws-sdk/client-dynamodb';
import { SQSClient } from '@aws-sdk/client-sqs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { startDynamoDb, type LocalDynamoDb } from '../../../local/dynamodb/dynamodb.ts';
import { startSqs, type LocalSqs } from '../../../local/sqs/sqs.ts';
import { openS3 } from '../../../worker/objects/s3/store.ts';
import { openSqs } from '../../../worker/queue/sqs.ts';
import { openDynamo } from '../../../worker/state/dynamo.ts';
import { BUCKET, clientOf, openS3 as startBucket, type OpenS3 } from '../../support/local-s3.ts';
import { fakeClock } from '../../support/clock.ts';

const TABLE = { name: 'transship', hashKey: 'pk', rangeKey: 'sk', ttlAttribute: 'ttl' };

interface Keys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

describe('credentials that expire without an expiry date', () => {
  let s3: OpenS3;
  let sqs: LocalSqs;
  let dynamodb: LocalDynamoDb;
  /** Which credentials were handed out, in order. */
  let given: string[];

  beforeEach(async () => {
    s3 = await startBucket();
    sqs = await startSqs({ queues: [{ name: 'jobs', visibilitySeconds: 30 }] });
    dynamodb = await startDynamoDb({ tables: [TABLE] });
    given = [];
  });
  afterEach(async () => {
    await Promise.all([s3[Symbol.asyncDispose](), sqs.close(), dynamodb.close()]);
  });

  /** The first ones are useless. */
  const rotating = (good: Keys) => async (): Promise<Keys> => {
    const keys = given.length === 0 ? { accessKeyId: 'old', secretAccessKey: 'old' } : good;
    given.push(keys.accessKeyId);
    return keys;
  };

  const expire = (times: number): void => {
    s3.s3.faults.add({ times }, { kind: 'answer', status: 400, code: 'ExpiredToken' });
    sqs.faults.add({ times }, { kind: 'answer', status: 403, code: 'ExpiredTokenException' });
    dynamodb.faults.add({ times }, { kind: 'answer', status: 400, code: 'ExpiredTokenException' });
  };

  const LOCAL = { accessKeyId: 'local', secretAccessKey: 'local-secret' };
  const services = {
    S3: async () => {
      const client = clientOf(s3.s3, { credentials: rotating(s3.s3.credentials) });
      await openS3({ bucket: BUCKET, client, clock: fakeClock() }).write('k', Buffer.from('bytes'));
    },
    SQS: async () => {
      const credentials = rotating(LOCAL);
      const client = new SQSClient({ endpoint: sqs.endpoint, region: 'us-east-1', credentials, maxAttempts: 1 });
      await openSqs({ queueUrl: sqs.queueUrl('jobs'), client, clock: fakeClock() }).send([{ body: 'x' }]);
    },
    DynamoDB: async () => {
      const credentials = rotating(LOCAL);
      const { endpoint } = dynamodb;
      const client = new DynamoDBClient({ endpoint, region: 'us-east-1', credentials, maxAttempts: 1 });
      await openDynamo({ table: TABLE.name, client, clock: fakeClock() }).rules.list();
    },
  };

  test.each(['S3', 'SQS', 'DynamoDB'] as const)('are renewed once, and the request of %s succeeds', async (name) => {
    expire(1);
    await services[name]();
    expect(given).toHaveLength(2);
  });

  test('are renewed for a HEAD too, whose answer is only 400', async () => {
    await openS3({ bucket: BUCKET, client: s3.client }).write('k', Buffer.from('bytes'));
    expire(2);
    const client = clientOf(s3.s3, { credentials: rotating(s3.s3.credentials) });
    await expect(openS3({ bucket: BUCKET, client }).stat('k')).resolves.toMatchObject({ size: 5 });
    expect(given).toHaveLength(2);
  });

  test.each(['S3', 'SQS', 'DynamoDB'] as const)(
    'are UNAUTHENTICATED with %s while the new ones have expired as well',
    async (name) => {
      expire(100);
      await expect(services[name]()).rejects.toMatchObject({
        code: 'UNAUTHENTICATED',
        context: { expiredCredentials: true },
      });
      expect(given).toHaveLength(2);
    },
  );
});
