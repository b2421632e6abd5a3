import { join } from 'node:path';
import { Failure } from '../worker/util/failure.ts';
import { startDynamoDb, type LocalDynamoDb } from './dynamodb/dynamodb.ts';
import { startEcrRegions } from './ecr/regions.ts';
import type { Address } from './http/listen.ts';
import { startRegistry, type LocalRegistry } from './registry/registry.ts';
import { startS3, type LocalS3 } from './s3/s3.ts';
import { startSqs, type LocalSqs } from './sqs/sqs.ts';

export interface StackOptions {
  /** Where everything is kept; another process on the same folder goes on with it. */
  readonly folder: string;
  /** The port of the first of its servers, 1 to MAX_PORT; the others follow, in the order of SERVERS. Default: ports that are free. */
  readonly port?: number | undefined;
  /** What `Stack.pushEvents` is at first. Default false. */
  readonly pushEvents?: boolean;
}

/** S3, SQS, DynamoDB, two registries that behave as Amazon ECR does and a plain OCI registry, in this process, on 127.0.0.1. */
export interface Stack extends AsyncDisposable {
  readonly s3: LocalS3;
  readonly ecr: LocalRegistry;
  /** An ECR of another account in another region. */
  readonly otherEcr: LocalRegistry;
  readonly registry: LocalRegistry;
  /** The name of a bucket with versions that exists from the start. */
  readonly bucket: string;
  readonly sqs: LocalSqs;
  readonly dynamodb: LocalDynamoDb;
  /** The URL of a queue that exists from the start, and is empty then: SQS is not kept in the folder. */
  readonly queueUrl: string;
  /** The URL of the queue for messages that were received twenty times and never deleted. */
  readonly deadLetterQueueUrl: string;
  /** The name of a table that exists from the start, with the keys `pk` and `sk` and expiry by `ttl`. */
  readonly table: string;
  /** Whether every push to `ecr` and every change in `s3` sends an event to the queue from now on, as rules of EventBridge do. */
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
  // more than a worker attempts by itself: only for messages that crash every worker
  deadLetters: { queue: DEAD_LETTERS.name, maxReceiveCount: 20 },
};
const REQUESTS = { ...QUEUE, name: 'transship-requests' };
const CREDENTIALS = { accessKeyId: 'local', secretAccessKey: 'local-secret' };

/** What listens, in the order of the ports that `StackOptions.port` gives them. */
export const SERVERS = [
  's3',
  'sqs',
  'dynamodb',
  'ecr',
  'otherEcr',
  'registry',
  'ecrApi',
  'ecrLayers',
  'otherEcrLayers',
] as const;

/** The highest port that `StackOptions.port` can be. */
export const MAX_PORT = 65_535 - (SERVERS.length - 1);

type Ports = Readonly<Partial<Record<(typeof SERVERS)[number], number>>>;

/** Starts everything; closing it ends everything, and keeps the folder. INVALID if a port is taken: then nothing runs. */
export async function startStack({ folder, port, pushEvents = false }: StackOptions): Promise<Stack> {
  const ports = portsFrom(port);
  await using starting = new AsyncDisposableStack();
  const sqs = starting.use(await startSqs({ ...HOME, port: ports.sqs, queues: [DEAD_LETTERS, QUEUE, REQUESTS] }));
  const dynamodb = starting.use(
    await startDynamoDb({ folder: join(folder, 'dynamodb'), port: ports.dynamodb, ...HOME, tables: [TABLE] }),
  );
  const queueUrl = sqs.queueUrl(QUEUE.name);
  const events = { on: pushEvents };
  const onEvent = (event: string): void => {
    if (events.on) void sendEvent(sqs, queueUrl, event);
  };
  const s3 = starting.use(
    await startS3({
      dir: join(folder, 's3'),
      port: ports.s3,
      region: HOME.region,
      credentials: CREDENTIALS,
      buckets: [BUCKET],
      onEvent,
    }),
  );
  const registries = await startRegistries(folder, ports, starting, onEvent);
  const running = starting.move();
  return {
    s3,
    sqs,
    dynamodb,
    ecr: registries.ecr,
    otherEcr: registries.otherEcr,
    registry: registries.registry,
    bucket: BUCKET,
    queueUrl,
    deadLetterQueueUrl: sqs.queueUrl(DEAD_LETTERS.name),
    table: TABLE.name,
    get pushEvents() {
      return events.on;
    },
    set pushEvents(on) {
      events.on = on;
    },
    environment: environmentOf({ s3, sqs, dynamodb, ...registries }),
    deleteRepository: (name) => deleteRepository(registries.ecr, name),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

function portsFrom(port: number | undefined): Ports {
  if (port === undefined) return {};
  if (!Number.isInteger(port) || port < 1 || port > MAX_PORT) {
    const why = `expected a whole number from 1 to ${MAX_PORT}, since it takes ${SERVERS.length} ports`;
    throw new Failure('INVALID', `start the embedded stack on port ${port}: ${why}`);
  }
  return Object.fromEntries(SERVERS.map((server, index) => [server, port + index]));
}

interface Registries {
  readonly ecr: LocalRegistry;
  readonly otherEcr: LocalRegistry;
  readonly registry: LocalRegistry;
  readonly ecrApi: Address;
}

async function startRegistries(
  folder: string,
  ports: Ports,
  starting: AsyncDisposableStack,
  onPush: (event: string) => void,
): Promise<Registries> {
  const ecr = starting.use(
    await startRegistry({
      mode: 'ecr',
      folder: join(folder, 'ecr'),
      port: ports.ecr,
      layersPort: ports.ecrLayers,
      ...HOME,
      onPush,
    }),
  );
  const otherEcr = starting.use(
    await startRegistry({
      mode: 'ecr',
      folder: join(folder, 'other-ecr'),
      port: ports.otherEcr,
      layersPort: ports.otherEcrLayers,
      ...ABROAD,
    }),
  );
  const registry = starting.use(
    await startRegistry({ mode: 'oci', folder: join(folder, 'registry'), port: ports.registry }),
  );
  const regions = new Map([
    [HOME.region, ecr.url],
    [ABROAD.region, otherEcr.url],
  ]);
  const ecrApi = starting.use(await startEcrRegions(regions, { port: ports.ecrApi }));
  return { ecr, otherEcr, registry, ecrApi };
}

function environmentOf(servers: Registries & Pick<Stack, 's3' | 'sqs' | 'dynamodb'>): Readonly<Record<string, string>> {
  const { s3, sqs, dynamodb, ecr, otherEcr, registry, ecrApi } = servers;
  return {
    AWS_ACCESS_KEY_ID: CREDENTIALS.accessKeyId,
    AWS_SECRET_ACCESS_KEY: CREDENTIALS.secretAccessKey,
    AWS_REGION: HOME.region,
    AWS_ENDPOINT_URL_S3: s3.endpoint,
    AWS_ENDPOINT_URL_ECR: ecrApi.url,
    AWS_ENDPOINT_URL_SQS: sqs.endpoint,
    AWS_ENDPOINT_URL_DYNAMODB: dynamodb.endpoint,
    TRANSSHIP_REGISTRY_ENDPOINTS: [ecr, otherEcr].map(({ registryHost, url }) => `${registryHost}=${url}`).join(','),
    TRANSSHIP_BUCKET: BUCKET,
    TRANSSHIP_QUEUE_URL: sqs.queueUrl(QUEUE.name),
    TRANSSHIP_REQUEST_QUEUE_URL: sqs.queueUrl(REQUESTS.name),
    TRANSSHIP_DEAD_LETTER_QUEUE_URL: sqs.queueUrl(DEAD_LETTERS.name),
    TRANSSHIP_TABLE: TABLE.name,
    TRANSSHIP_ALLOW: [HOME.account, ABROAD.account, registry.host, `s3://${BUCKET}`].join(','),
  };
}

/** Sends an event as EventBridge does, by best effort: one that the queue does not take is lost. */
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
      // it is not checked, but ECR refuses a request without one
      authorization: `AWS4-HMAC-SHA256 Credential=local/20260101/${HOME.region}/ecr/aws4_request, SignedHeaders=host, Signature=0`,
    },
    body: JSON.stringify({ repositoryName, force: true }),
  });
  if (!answer.ok) throw new Failure('NOT_FOUND', `delete ${repositoryName}: ${await answer.text()}`);
}
