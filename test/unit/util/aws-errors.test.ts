import { DynamoDBClient } from '@aws-sdk/client-dynamodb';
import { S3Client } from '@aws-sdk/client-s3';
import { SQSClient } from '@aws-sdk/client-sqs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openS3 } from '../../../worker/objects/s3/store.ts';
import { s3Failure } from '../../../worker/objects/s3/failure.ts';
import { openSqs } from '../../../worker/queue/sqs.ts';
import { openDynamo } from '../../../worker/state/dynamo.ts';
import type { Code } from '../../../worker/util/failure.ts';
import { calling } from '../../../worker/util/sdk-failure.ts';
import { fakeClock } from '../../support/clock.ts';

/** The names of errors of AWS, and our code for each. Without `Exception`, with which most of them end. */
const NAMED: Readonly<Partial<Record<Code, readonly string[]>>> = {
  UNAVAILABLE: [
    'RequestExpired',
    'RequestInTheFuture',
    'RequestTimeTooSkewed',
    'RequestAborted',
    'RequestTimeout',
    'TimeoutError',
    'InternalFailure',
    'InternalError',
    'InternalServerError',
    'ServiceUnavailable',
    'ReplicatedWriteConflict',
    'TransactionConflict',
    'BadDigest',
    'IncompleteBody',
    'NoSuchUpload',
    'ConditionalRequestConflict',
    'OperationAborted',
    'KMS.Internal',
    'KMS.KMSInternal',
    'KMS.DependencyTimeout',
  ],
  THROTTLED: [
    'Throttling',
    'Throttled',
    'TooManyRequests',
    'RequestLimitExceeded',
    'RequestThrottled',
    'BandwidthLimitExceeded',
    'PriorRequestNotComplete',
    'EC2Throttled',
    'SlowDown',
    'TransactionInProgress',
    'ProvisionedThroughputExceeded',
    'KmsThrottled',
    'KMS.Throttling',
    'OverLimit',
  ],
  DENIED: [
    'AccessDenied',
    'UnauthorizedOperation',
    'OptInRequired',
    'KmsAccessDenied',
    'BlockedByOrganizationPolicy',
    'AllAccessDisabled',
    'AccountProblem',
    'Forbidden',
  ],
  UNAUTHENTICATED: [
    'ExpiredToken',
    'TokenRefreshRequired',
    'CredentialsProviderError',
    'TokenProviderError',
    'UnrecognizedClient',
    'InvalidClientTokenId',
    'IncompleteSignature',
    'MissingAuthenticationToken',
    'NotAuthorized',
    'InvalidSignature',
    'InvalidAccessKeyId',
    'InvalidToken',
    'SignatureDoesNotMatch',
  ],
  NOT_FOUND: ['NoSuchBucket', 'NoSuchKey', 'NotFound', 'RepositoryNotFound', 'QueueDoesNotExist'],
  CONFLICT: ['PreconditionFailed', 'RepositoryAlreadyExists', 'MessageNotInflight'],
  UNSUPPORTED: ['InvalidObjectState', 'LimitExceeded'],
  INVALID: [
    'PermanentRedirect',
    'TemporaryRedirect',
    'IllegalLocationConstraint',
    'AuthorizationHeaderMalformed',
    'EntityTooLarge',
    'EntityTooSmall',
    'MetadataTooLarge',
    'KeyTooLongError',
    'InvalidBucketName',
    'Validation',
    'InvalidParameterValue',
    'Serialization',
    'InvalidTagParameter',
    'TooManyTags',
    'KmsDisabled',
    'KMS.NotFound',
    'KMS.Disabled',
    'KMS.InvalidState',
    'SomethingNew',
  ],
};

const ROWS = Object.entries(NAMED).flatMap(([code, names]) => names.map((name) => [name, code] as const));

describe('an error that AWS names', () => {
  const CALL = { doing: 'read', bucket: 'b', url: 's3://b/k', action: 's3:GetObject' };

  test.each(ROWS)('%s is %s for every service', async (name, code) => {
    for (const ending of ['', 'Exception']) {
      const error = Object.assign(new Error('no'), { name: name + ending, $metadata: { httpStatusCode: 400 } });
      const work = async (): Promise<never> => Promise.reject(error);
      await expect(calling('list x', 'sqs:SendMessage', {}, work)).rejects.toMatchObject({ code });
      expect(s3Failure(error, CALL)).toMatchObject({ code });
    }
  });
});

describe('an answer without a code of AWS', () => {
  let server: Server;
  let answer: { readonly status: number; readonly body: string };
  let asked: number;
  let endpoint: string;

  beforeAll(async () => {
    server = createServer((request, response) => {
      asked++;
      request.resume().on('end', () => {
        response.writeHead(answer.status, { 'content-type': 'text/html' });
        response.end(request.method === 'HEAD' ? '' : answer.body);
      });
    });
    await new Promise<void>((done) => void server.listen(0, '127.0.0.1', done));
    endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  beforeEach(() => {
    asked = 0;
  });
  afterAll(() => server.close());

  const PAGE = '<html><body>no</body></html>';
  test.each([
    [400, '', 'UNAVAILABLE'],
    [403, '', 'UNAVAILABLE'],
    [403, PAGE, 'UNAVAILABLE'],
    [404, '', 'UNAVAILABLE'],
    [404, PAGE, 'UNAVAILABLE'],
    [407, PAGE, 'UNAVAILABLE'],
    [408, '', 'UNAVAILABLE'],
    [425, '', 'UNAVAILABLE'],
    [429, '', 'THROTTLED'],
    [429, PAGE, 'THROTTLED'],
    [503, '', 'UNAVAILABLE'],
  ] as const)('%i %j is retried, and %s then, from S3, SQS and DynamoDB alike', async (status, body, code) => {
    answer = { status, body };
    const clock = fakeClock();
    const options = {
      endpoint,
      region: 'us-east-1',
      credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
      maxAttempts: 1,
    };
    const clients = [new S3Client(options), new SQSClient(options), new DynamoDBClient(options)] as const;
    const bucket = openS3({ bucket: 'b', client: clients[0], clock });
    const queue = openSqs({ queueUrl: `${endpoint}/111111111111/jobs`, client: clients[1], clock });
    const state = openDynamo({ table: 't', client: clients[2], clock });
    for (const [times, call] of [
      [6, async () => bucket.read('k')],
      [6, async () => queue.send([{ body: 'x' }])],
      [8, async () => state.rules.list()],
    ] as const) {
      asked = 0;
      const message = expect.stringContaining(`HTTP ${status}`);
      await expect(call()).rejects.toMatchObject(status === 503 ? { code } : { code, message });
      expect(asked).toBe(times);
    }
    for (const client of clients) client.destroy();
  });
});
