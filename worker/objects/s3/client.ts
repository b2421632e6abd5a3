import { S3Client, type StorageClass } from '@aws-sdk/client-s3';
import { aborted, type Abortable } from '../../util/abort.ts';
import { systemClock, type Clock } from '../../util/clock.ts';
import { Failure } from '../../util/failure.ts';
import type { Report } from '../../util/events.ts';
import { preferredCiphers } from '../../util/http/ciphers.ts';
import { proxiedAgent, type Proxies } from '../../util/proxies.ts';
import { renewingCredentials } from '../../util/renew-credentials.ts';
import { retry, retryDelayMs } from '../../util/retry.ts';
import { quote } from '../../util/text.ts';
import type { ObjectInfo, WriteOptions } from '../objects.ts';
import { Dialect, type Feature } from './dialect.ts';
import { isS3Error, s3Failure } from './failure.ts';
import { lendBodies } from './lent-bodies.ts';

/** How buckets are reached, and how objects are stored in them. */
export interface BucketSettings {
  /** Whether buckets are asked for by path instead of by host name. Default: of Amazon by name, of others by path. */
  readonly pathStyle?: boolean | undefined;
  /**
   * Writes carry no conditions. Instead, Transship looks right before it writes; of two writers at the same moment, the last one wins. Default
   * false: conditions are left out, with a warning, only where the server refuses them.
   */
  readonly noConditions?: boolean | undefined;
  /** Encrypts what is written with this KMS key. Default: as the bucket is set. */
  readonly kmsKeyId?: string | undefined;
  /** Requests state that we pay for them, as buckets of the kind "requester pays" demand. Default false. */
  readonly requesterPays?: boolean | undefined;
}

export interface BucketOptions extends BucketSettings {
  readonly bucket: string;
  /** The account that must own the bucket; DENIED when it is another's. */
  readonly expectedBucketOwner?: string | undefined;
  /** Storage class of objects that are written. Default: STANDARD. */
  readonly storageClass?: StorageClass | undefined;
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
  /** S3's codes of failures that repeating this very request cannot help. */
  readonly final?: readonly string[];
  /** True for a HEAD, whose refusals have no code. Default false. */
  readonly withoutBody?: boolean;
  /** Tries in all. Default: as many as the table of retries has. */
  readonly attempts?: number;
}

interface InBucket {
  readonly Bucket: string;
  readonly ExpectedBucketOwner: string | undefined;
  readonly RequestPayer?: 'requester';
}

/** How S3 stores a new object, in the words of its API. */
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
/** Endpoints where every bucket has a host name of its own. Most others lack the names and certificates for that. */
const AMAZON = /(?:^|\.)(?:amazonaws\.com(?:\.cn)?|api\.aws)$/u;
const REFUSED: Readonly<Record<Feature, string>> = {
  checksums:
    'this S3 refuses checksums: Transship sends Content-MD5 instead; set AWS_REQUEST_CHECKSUM_CALCULATION=WHEN_REQUIRED to send no checksums from the start',
  conditions:
    'this S3 refuses conditional writes: Transship looks right before it writes instead, so of two writers of one key at the same moment the last one wins; set --s3-no-conditions or TRANSSHIP_S3_NO_CONDITIONS=true to accept that',
};
const BODY_COMMANDS: ReadonlySet<string> = new Set(['PutObjectCommand', 'UploadPartCommand']);

/**
 * A bucket and the client that asks for it. What fails on the way, and what S3 refuses for the moment, is repeated by the one table of
 * `util/retry.ts`; the SDK repeats nothing.
 */
export class Bucket implements AsyncDisposable {
  readonly #options: BucketOptions;
  readonly #client: S3Client;
  readonly #clock: Clock;
  readonly #dialect: Dialect;
  #configured: Promise<void> | undefined;

  constructor(options: BucketOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#client = renewingCredentials(options.client ?? newClient(options.proxies));
    this.#dialect = new Dialect({ checksums: true, conditions: options.noConditions !== true }, (feature) =>
      this.warn(`s3://${options.bucket}: ${REFUSED[feature]}`),
    );
    leaveBodiesUnsigned(this.#client);
    hearAnswers(this.#client, this.#dialect);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#options.client === undefined) this.#client.destroy();
  }

  /** `s3://bucket/key` */
  describe(key: string): string {
    return `s3://${this.#options.bucket}/${key}`;
  }

  /** What the server is known to take. */
  get dialect(): Dialect {
    return this.#dialect;
  }

  warn(message: string): void {
    this.#options.report?.({ type: 'warning', message });
  }

  /** The members of every request to this bucket. */
  get location(): InBucket {
    const { bucket, expectedBucketOwner, requesterPays } = this.#options;
    return {
      Bucket: bucket,
      ExpectedBucketOwner: expectedBucketOwner,
      ...(requesterPays === true ? { RequestPayer: 'requester' } : {}),
    };
  }

  /** The members of every request for this object. */
  object(key: string): InBucket & { readonly Key: string } {
    return { ...this.location, Key: key };
  }

  /** The members of a request that makes an object. INVALID for metadata and content types that headers cannot carry. */
  newObject(options: WriteOptions): NewObject {
    const { storageClass, kmsKeyId } = this.#options;
    return {
      Metadata: headersOfMetadata(options.metadata ?? {}),
      ContentType: headerOfType(options.contentType),
      StorageClass: storageClass,
      ...(kmsKeyId === undefined ? {} : { ServerSideEncryption: 'aws:kms', SSEKMSKeyId: kmsKeyId }),
    };
  }

  /** What was just written. S3 does not report when it stored something; its clock and ours differ by little. */
  written(key: string, size: number, stored: Pick<ObjectInfo, 'etag' | 'version'>, options: WriteOptions): ObjectInfo {
    const { metadata = {}, contentType } = options;
    return { key, size, ...stored, modified: new Date(this.#clock.now()), metadata, contentType };
  }

  /** Sends one request, and repeats it as long as that helps. Failures carry S3's code and name the action that is missing. */
  async call<T>(
    { doing, key, action, withoutBody, attempts, final = [] }: S3Request,
    request: (client: S3Client, http: { readonly abortSignal?: AbortSignal }) => Promise<T>,
    options: Abortable,
  ): Promise<T> {
    const url = this.describe(key);
    const { signal } = options;
    const outcome = await retry(
      `${doing} ${url}`,
      async () => {
        try {
          await (this.#configured ??= this.#configure());
          return { value: await request(this.#client, signal === undefined ? {} : { abortSignal: signal }) };
        } catch (error) {
          if (signal?.aborted === true) throw aborted(signal);
          const { bucket, kmsKeyId, requesterPays } = this.#options;
          const failure = s3Failure(error, { doing, url, bucket, action, withoutBody, kmsKeyId, requesterPays });
          if (isS3Error(failure, 'NoSuchUpload', ...final)) return { failure };
          throw failure;
        }
      },
      { signal, clock: this.#clock, report: this.#options.report, ...(attempts === undefined ? {} : { attempts }) },
    );
    if ('failure' in outcome) throw outcome.failure;
    return outcome.value;
  }

  /** Waits before a part of a request that S3 refused with `failure` is asked for again, after `attempt` times. */
  async backOff(failure: Failure, attempt: number, options: Abortable): Promise<void> {
    await this.#clock.sleep(retryDelayMs(failure, attempt, this.#clock), options);
  }

  /** Sets what depends on the SDK's own environment: how buckets are addressed, and whether checksums are wanted. */
  async #configure(): Promise<void> {
    const { config } = this.#client;
    const given = await config.endpoint?.();
    const host = given?.hostname ?? hostOf(await config.serviceConfiguredEndpoint?.());
    if (this.#options.pathStyle ?? (host !== undefined && !AMAZON.test(host))) config.forcePathStyle = true;
    // https://docs.aws.amazon.com/sdkref/latest/guide/feature-dataintegrity.html
    if (this.#options.client === undefined && (await config.requestChecksumCalculation()) === 'WHEN_REQUIRED')
      this.#dialect.leaveOut('checksums');
    // parts and small objects carry a CRC-32 of ours
    config.requestChecksumCalculation = async () => 'WHEN_REQUIRED';
    // the caller hashes what it reads, and the SDK would put a stream of its own around the lent body to do so
    config.responseChecksumValidation = async () => 'WHEN_REQUIRED';
  }
}

function newClient(proxies: Proxies | undefined): S3Client {
  const agent = { keepAlive: true, maxSockets: MAX_SOCKETS, ...proxiedAgent(proxies) };
  const client = new S3Client({
    maxAttempts: 1,
    // the SDK opens a connection of its own for each request that waits for 100 Continue
    expectContinueHeader: false,
    requestHandler: {
      connectionTimeout: CONNECT_TIMEOUT_MS,
      socketTimeout: STALL_TIMEOUT_MS,
      httpAgent: agent,
      httpsAgent: { ...agent, ciphers: preferredCiphers() },
    },
  });
  const [connectTimeoutMs, stallTimeoutMs] = [CONNECT_TIMEOUT_MS, STALL_TIMEOUT_MS];
  return lendBodies(client, { proxies, concurrency: MAX_SOCKETS, connectTimeoutMs, stallTimeoutMs });
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

/** Lets `dialect` learn from the headers of every answer. */
function hearAnswers(client: S3Client, dialect: Dialect): void {
  client.middlewareStack.add(
    (next) => async (args) => {
      const result = await next(args);
      dialect.hear((result.response as { headers: Record<string, string> }).headers);
      return result;
    },
    // nearer to the network than what reads the answer
    { step: 'deserialize', priority: 'low' },
  );
}

/** INVALID for what a header cannot carry. */
function headerOfType(contentType: string | undefined): string | undefined {
  if (contentType === undefined || /^[\t\x20-\x7e\x80-\xff]*$/u.test(contentType)) return contentType;
  throw new Failure('INVALID', `content type ${quote(contentType)}: a header cannot carry it`);
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
