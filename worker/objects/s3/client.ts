import { S3Client, type StorageClass } from '@aws-sdk/client-s3';
import { isIP } from 'node:net';
import { aborted, type Abortable } from '../../util/abort.ts';
import { systemClock, type Clock } from '../../util/clock.ts';
import { Failure } from '../../util/failure.ts';
import type { Report } from '../../util/events.ts';
import { proxiedAgent, type Proxies } from '../../util/proxies.ts';
import { renewingCredentials } from '../../util/renew-credentials.ts';
import { retry } from '../../util/retry.ts';
import type { ObjectInfo, WriteOptions } from '../objects.ts';
import { isS3Error, s3Failure } from './failure.ts';

export interface BucketOptions {
  readonly bucket: string;
  /** The account that must own the bucket; DENIED when it is another's. */
  readonly expectedBucketOwner?: string | undefined;
  /** Storage class of objects that are written. Default: STANDARD. */
  readonly storageClass?: StorageClass | undefined;
  /** Encrypts what is written with this KMS key. Default: as the bucket is set. */
  readonly kmsKeyId?: string | undefined;
  /** Default: one with region, endpoint and credentials of the SDK's own environment. The given one is not closed. */
  readonly client?: S3Client | undefined;
  readonly clock?: Clock | undefined;
  readonly report?: Report | undefined;
  /** Default: none. */
  readonly proxies?: Proxies | undefined;
}

/** One request to S3, for messages. */
export interface S3Request {
  /** `read`, `write`, … */
  readonly doing: string;
  readonly key: string;
  /** The IAM action that it takes. */
  readonly action: string;
  /** S3's codes of failures that no repetition of this very request helps. */
  readonly final?: readonly string[];
  /** True for a HEAD, whose refusals have no code. Default false. */
  readonly withoutBody?: boolean;
}

interface InBucket {
  readonly Bucket: string;
  readonly ExpectedBucketOwner: string | undefined;
}

/** How a new object is to be stored, as S3 takes it. */
interface NewObject {
  readonly Metadata: Record<string, string>;
  readonly ContentType: string | undefined;
  readonly StorageClass: StorageClass | undefined;
  readonly ServerSideEncryption?: 'aws:kms';
  readonly SSEKMSKeyId?: string;
}

const MAX_SOCKETS = 64;
const CONNECT_TIMEOUT_MS = 10_000;
/** Without a byte in either direction. S3 sends spaces while it works on a long Complete. */
const STALL_TIMEOUT_MS = 60_000;
const BODY_COMMANDS: ReadonlySet<string> = new Set(['PutObjectCommand', 'UploadPartCommand']);

/**
 * A bucket and the client that asks for it. What fails on the way, and what S3 refuses for the moment, is repeated by the one table of
 * `util/retry.ts`; the SDK repeats nothing.
 */
export class Bucket implements AsyncDisposable {
  readonly #options: BucketOptions;
  readonly #client: S3Client;
  readonly #clock: Clock;
  #configured: Promise<void> | undefined;

  constructor(options: BucketOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#client = renewingCredentials(options.client ?? newClient(options.proxies));
    leaveBodiesUnsigned(this.#client);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#options.client === undefined) this.#client.destroy();
  }

  /** `s3://bucket/key` */
  describe(key: string): string {
    return `s3://${this.#options.bucket}/${key}`;
  }

  warn(message: string): void {
    this.#options.report?.({ type: 'warning', message });
  }

  /** The members of every request to this bucket. */
  get location(): InBucket {
    return { Bucket: this.#options.bucket, ExpectedBucketOwner: this.#options.expectedBucketOwner };
  }

  /** The members of every request for this object. */
  object(key: string): InBucket & { readonly Key: string } {
    return { ...this.location, Key: key };
  }

  /** The members of a request that makes an object. INVALID for metadata that headers cannot carry. */
  newObject(options: WriteOptions): NewObject {
    const { storageClass, kmsKeyId } = this.#options;
    return {
      Metadata: headersOfMetadata(options.metadata ?? {}),
      ContentType: options.contentType,
      StorageClass: storageClass,
      ...(kmsKeyId === undefined ? {} : { ServerSideEncryption: 'aws:kms', SSEKMSKeyId: kmsKeyId }),
    };
  }

  /** What was just written. S3 does not say when it stored something; its clock and ours differ by little. */
  written(key: string, size: number, stored: Pick<ObjectInfo, 'etag' | 'version'>, options: WriteOptions): ObjectInfo {
    return { key, size, ...stored, modified: new Date(this.#clock.now()), metadata: options.metadata ?? {} };
  }

  /** Sends one request, and repeats it as long as that helps. Failures carry S3's code and name the action that is missing. */
  async call<T>(
    { doing, key, action, withoutBody, final = [] }: S3Request,
    request: (client: S3Client, http: { readonly abortSignal?: AbortSignal }) => Promise<T>,
    options: Abortable,
  ): Promise<T> {
    const url = this.describe(key);
    const { signal } = options;
    const outcome = await retry(
      `${doing} ${url}`,
      async () => {
        try {
          await (this.#configured ??= configure(this.#client));
          return { value: await request(this.#client, signal === undefined ? {} : { abortSignal: signal }) };
        } catch (error) {
          if (signal?.aborted === true) throw aborted(signal);
          const failure = s3Failure(error, { doing, url, bucket: this.#options.bucket, action, withoutBody });
          if (isS3Error(failure, 'NoSuchUpload', ...final)) return { failure };
          throw failure;
        }
      },
      { signal, clock: this.#clock, report: this.#options.report },
    );
    if ('failure' in outcome) throw outcome.failure;
    return outcome.value;
  }
}

function newClient(proxies: Proxies | undefined): S3Client {
  const agent = { keepAlive: true, maxSockets: MAX_SOCKETS, ...proxiedAgent(proxies) };
  return new S3Client({
    maxAttempts: 1,
    // parts and small objects carry a CRC-32 of ours, and the caller hashes what is read
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // the SDK opens a connection of its own for each request that waits for 100 Continue
    expectContinueHeader: false,
    requestHandler: {
      connectionTimeout: CONNECT_TIMEOUT_MS,
      socketTimeout: STALL_TIMEOUT_MS,
      httpAgent: agent,
      httpsAgent: agent,
    },
  });
}

/** Endpoints that have no names for buckets below their own are asked by path. */
async function configure(client: S3Client): Promise<void> {
  const { endpoint, serviceConfiguredEndpoint } = client.config;
  const given = await endpoint?.();
  const host = given?.hostname ?? hostOf(await serviceConfiguredEndpoint?.());
  if (host !== undefined && (isIP(host) !== 0 || !host.includes('.') || host.endsWith('.localhost')))
    client.config.forcePathStyle = true;
}

function hostOf(url: string | undefined): string | undefined {
  return url === undefined ? undefined : new URL(url).hostname.replace(/^\[(.*)\]$/u, '$1');
}

/** Bodies are not hashed for the signature: their CRC-32 is in a header, and the header is signed. */
function leaveBodiesUnsigned(client: S3Client): void {
  client.middlewareStack.add(
    (next, { commandName = '' }) =>
      async (args) => {
        const { headers } = args.request as { headers: Record<string, string> };
        if (BODY_COMMANDS.has(commandName)) headers['x-amz-content-sha256'] = 'UNSIGNED-PAYLOAD';
        return next(args);
      },
    { step: 'build', name: 'leaveBodiesUnsigned', override: true },
  );
}

/** INVALID for what headers cannot carry. */
function headersOfMetadata(metadata: Readonly<Record<string, string>>): Record<string, string> {
  for (const [name, value] of Object.entries(metadata))
    if (!/^[\x20-\x7e]*$/u.test(value) || !/^[a-z0-9._-]+$/u.test(name))
      throw new Failure(
        'INVALID',
        `metadata ${JSON.stringify(name)}: S3 keeps lower case names and plain ASCII values`,
      );
  return { ...metadata };
}
