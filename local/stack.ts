import { createServer, request, type Server } from 'node:http';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { Failure } from '../worker/util/failure.ts';
import { startDynamoDb, type LocalDynamoDb } from './dynamodb/dynamodb.ts';
import { startRegistry, type LocalRegistry } from './registry/registry.ts';
import { startS3, type LocalS3 } from './s3/s3.ts';
import { startSqs, type LocalSqs } from './sqs/sqs.ts';

export interface StackOptions {
  /** Where everything is kept; another process on the same folder goes on with it. */
  readonly folder: string;
  /** What `Stack.pushEvents` is at first. Default false. */
  readonly pushEvents?: boolean;
}

/** S3, SQS, DynamoDB, two registries that behave as Amazon ECR does and a plain OCI registry, in this process, on ports that were free. */
export interface Stack extends AsyncDisposable {
  readonly s3: LocalS3;
  readonly ecr: LocalRegistry;
  /** Of another account in another region. */
  readonly otherEcr: LocalRegistry;
  readonly registry: LocalRegistry;
  /** A bucket, with versions, that is there already. */
  readonly bucket: string;
  readonly sqs: LocalSqs;
  readonly dynamodb: LocalDynamoDb;
  /** Of a queue that is there already, and is empty at every start: SQS is not kept in the folder. */
  readonly queueUrl: string;
  /** Where the queue's messages go that were received twenty times and never deleted. */
  readonly deadLetterQueueUrl: string;
  /** A table, with the keys `pk` and `sk` and expiry by `ttl`, that is there already. */
  readonly table: string;
  /** Whether every push to `ecr` is told to the queue from now on, as a rule of EventBridge does it. */
  pushEvents: boolean;
  /** What a process needs in its environment to reach all of it. */
  readonly environment: Readonly<Record<string, string>>;
  /** Deletes a repository of `ecr` with all its images, as an operator's slip would. */
  deleteRepository(name: string): Promise<void>;
}

const HOME = { account: '111111111111', region: 'us-east-1' };
const ABROAD = { account: '222222222222', region: 'eu-west-1' };
const BUCKET = 'transship-backups';
const TABLE = { name: 'transship', hashKey: 'pk', rangeKey: 'sk', ttlAttribute: 'ttl' };
const RETENTION_SECONDS = 14 * 24 * 60 * 60;
const DEAD_LETTERS = { name: 'transship-dead', retentionSeconds: RETENTION_SECONDS };
const QUEUE = {
  name: 'transship',
  visibilitySeconds: 120,
  retentionSeconds: RETENTION_SECONDS,
  // beyond what a worker tries by itself: only for messages that kill whoever takes them
  deadLetters: { queue: DEAD_LETTERS.name, maxReceiveCount: 20 },
};
const CREDENTIALS = { accessKeyId: 'local', secretAccessKey: 'local-secret' };

/** Starts everything; closing it ends everything, and keeps the folder. */
export async function startStack({ folder, pushEvents = false }: StackOptions): Promise<Stack> {
  await using starting = new AsyncDisposableStack();
  const s3 = starting.use(
    await startS3({ dir: join(folder, 's3'), region: HOME.region, credentials: CREDENTIALS, buckets: [BUCKET] }),
  );
  const sqs = starting.use(await startSqs({ ...HOME, queues: [DEAD_LETTERS, QUEUE] }));
  const queueUrl = sqs.queueUrl(QUEUE.name);
  const events = { on: pushEvents };
  const ecr = starting.use(
    await startRegistry({
      mode: 'ecr',
      folder: join(folder, 'ecr'),
      ...HOME,
      onPush: (event) => void (events.on && sendEvent(sqs, queueUrl, event)),
    }),
  );
  const otherEcr = starting.use(await startRegistry({ mode: 'ecr', folder: join(folder, 'other-ecr'), ...ABROAD }));
  const registry = starting.use(await startRegistry({ mode: 'oci', folder: join(folder, 'registry') }));
  const api = starting.use(
    await startApi(
      new Map([
        [HOME.region, ecr.url],
        [ABROAD.region, otherEcr.url],
      ]),
    ),
  );
  const dynamodb = starting.use(await startDynamoDb({ folder: join(folder, 'dynamodb'), ...HOME, tables: [TABLE] }));
  const deadLetterQueueUrl = sqs.queueUrl(DEAD_LETTERS.name);
  const endpoints = [ecr, otherEcr].map(({ registryHost, url }) => `${registryHost}=${url}`);
  const running = starting.move();
  return {
    s3,
    ecr,
    otherEcr,
    registry,
    sqs,
    dynamodb,
    bucket: BUCKET,
    queueUrl,
    deadLetterQueueUrl,
    table: TABLE.name,
    get pushEvents() {
      return events.on;
    },
    set pushEvents(on) {
      events.on = on;
    },
    environment: {
      AWS_ACCESS_KEY_ID: CREDENTIALS.accessKeyId,
      AWS_SECRET_ACCESS_KEY: CREDENTIALS.secretAccessKey,
      AWS_REGION: HOME.region,
      AWS_ENDPOINT_URL_S3: s3.endpoint,
      AWS_ENDPOINT_URL_ECR: api.url,
      AWS_ENDPOINT_URL_SQS: sqs.endpoint,
      AWS_ENDPOINT_URL_DYNAMODB: dynamodb.endpoint,
      TRANSSHIP_REGISTRY_ENDPOINTS: endpoints.join(','),
      TRANSSHIP_BUCKET: BUCKET,
      TRANSSHIP_QUEUE_URL: queueUrl,
      TRANSSHIP_DEAD_LETTER_QUEUE_URL: deadLetterQueueUrl,
      TRANSSHIP_TABLE: TABLE.name,
    },
    deleteRepository: (name) => deleteRepository(ecr, name),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

/** As EventBridge, with its best effort: an event that the queue does not take is lost. */
async function sendEvent({ endpoint }: LocalSqs, queueUrl: string, event: string): Promise<void> {
  const answer = await fetch(endpoint, {
    method: 'POST',
    headers: {
      'content-type': 'application/x-amz-json-1.0',
      'x-amz-target': 'AmazonSQS.SendMessage',
      authorization: `AWS4-HMAC-SHA256 Credential=local/20260101/${HOME.region}/sqs/aws4_request, SignedHeaders=host, Signature=0`,
    },
    body: JSON.stringify({ QueueUrl: queueUrl, MessageBody: event }),
  }).catch(() => undefined);
  await answer?.body?.cancel();
}

async function deleteRepository(ecr: LocalRegistry, repositoryName: string): Promise<void> {
  const answer = await fetch(ecr.url, {
    method: 'POST',
    headers: {
      'content-type': 'application/x-amz-json-1.1',
      'x-amz-target': 'AmazonEC2ContainerRegistry_V20150921.DeleteRepository',
      // nobody checks it, but ECR refuses a request without one
      authorization: `AWS4-HMAC-SHA256 Credential=local/20260101/${HOME.region}/ecr/aws4_request, SignedHeaders=host, Signature=0`,
    },
    body: JSON.stringify({ repositoryName, force: true }),
  });
  if (!answer.ok) throw new Failure('NOT_FOUND', `delete ${repositoryName}: ${await answer.text()}`);
}

/**
 * ECR's JSON API of several regions behind one address, since the SDK takes one: the region that a request was signed for decides, as the
 * region's host name does at AWS.
 */
async function startApi(regions: ReadonlyMap<string, string>): Promise<{ readonly url: string } & AsyncDisposable> {
  const server = createServer((from, to) => {
    const region = /Credential=[^/]+\/[0-9]{8}\/([a-z0-9-]+)\/ecr\//.exec(from.headers.authorization ?? '')?.[1];
    const url = regions.get(region ?? '');
    if (url === undefined) {
      to.writeHead(501, { 'content-type': 'text/plain' }).end(`there is no ECR in ${region ?? 'no region'} here\n`);
      return;
    }
    const there = request(new URL(from.url ?? '/', url), { method: from.method, headers: from.headers }, (answer) => {
      to.writeHead(answer.statusCode ?? 502, answer.headers);
      pipeline(answer, to).catch(() => to.destroy());
    });
    pipeline(from, there).catch(() => to.destroy());
  });
  const port = await listen(server);
  return {
    url: `http://127.0.0.1:${port}`,
    [Symbol.asyncDispose]: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Failure('BUG', 'listen on 127.0.0.1: no port');
  return address.port;
}
