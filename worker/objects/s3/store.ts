import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  ListPartsCommand,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
  type MultipartUpload,
  type StorageClass,
} from '@aws-sdk/client-s3';
import { isIP } from 'node:net';
import { Readable } from 'node:stream';
import { crc32 } from 'node:zlib';
import type { Bytes } from '../../content/content.ts';
import { aborted, checkAborted, type Abortable } from '../../util/abort.ts';
import { systemClock, type Clock } from '../../util/clock.ts';
import { Failure, isFailure } from '../../util/failure.ts';
import type { Report } from '../../util/events.ts';
import { retry } from '../../util/retry.ts';
import type { Condition, ObjectInfo, ObjectStore, Upload, UploadOptions, WriteOptions } from '../objects.ts';
import { Parts } from '../parts.ts';
import { isS3Error, s3Failure } from './failure.ts';
import {
  isRefusal,
  openS3Upload,
  partSizeFor,
  refused,
  streamToS3,
  type Multipart,
  type MultipartCalls,
  type StoredPart,
  type WholeObject,
} from './upload.ts';

export interface S3StoreOptions {
  readonly bucket: string;
  /** The account that must own the bucket; DENIED when it is another's. */
  readonly expectedBucketOwner?: string | undefined;
  /** Of objects that are written. Default: STANDARD. */
  readonly storageClass?: StorageClass | undefined;
  /** Encrypts what is written with this KMS key. Default: as the bucket is set. */
  readonly kmsKeyId?: string | undefined;
  /** The least part size that the endpoint takes, in bytes. Default 5 MiB, that of S3. */
  readonly minPartBytes?: number | undefined;
  /** Default: one with region, endpoint and credentials of the SDK's own environment. The given one is not closed. */
  readonly client?: S3Client | undefined;
  readonly clock?: Clock | undefined;
  readonly report?: Report | undefined;
}

/** One S3 connection gives 80 to 100 MB/s: https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-design-patterns.html */
const RANGES_AT_ONCE = 4;
const MAX_SOCKETS = 64;
const CONNECT_TIMEOUT_MS = 10_000;
/** Without a byte in either direction. S3 sends spaces while it works on a long Complete. */
const STALL_TIMEOUT_MS = 60_000;
const BODY_COMMANDS: ReadonlySet<string> = new Set(['PutObjectCommand', 'UploadPartCommand']);

/**
 * The objects of an S3 bucket. What fails on the way, and what S3 refuses for the moment, is repeated by the one table of `util/retry.ts`;
 * the SDK repeats nothing. Bytes are sent with their CRC-32, which S3 checks, and hashed by nobody else.
 *
 * An upload can be taken up again without state anywhere else. Each has a marker as part number 10,000, which tells its fingerprint, size and
 * part size. A part cannot be read, but ListParts gives its length and CRC-32, and they are compared with those of the marker that the wanted
 * upload would have. Complete does not list the marker, so S3 drops it. Of several, the one begun last is taken up; its parts of the right
 * length count as stored. Unfinished uploads of others are never touched: a lifecycle rule of the bucket (AbortIncompleteMultipartUpload)
 * clears away what nobody comes back for. Why so: docs/decisions/0002-resumable-uploads-without-state.md.
 *
 * IAM actions: s3:GetObject, s3:PutObject, s3:ListBucket (else what is missing shows as DENIED), s3:AbortMultipartUpload, and
 * s3:ListBucketMultipartUploads with s3:ListMultipartUploadParts, without which a warning is reported and every upload begins anew.
 */
export function openS3(options: S3StoreOptions): ObjectStore & AsyncDisposable {
  return new S3Store(options);
}

class S3Store implements ObjectStore, MultipartCalls, AsyncDisposable {
  readonly rangesAtOnce = RANGES_AT_ONCE;
  readonly #options: S3StoreOptions;
  readonly #client: S3Client;
  readonly #clock: Clock;
  #configured: Promise<void> | undefined;

  constructor(options: S3StoreOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#client = options.client ?? newClient();
    leaveBodiesUnsigned(this.#client);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#options.client === undefined) this.#client.destroy();
  }

  describe(key: string): string {
    return `s3://${this.#options.bucket}/${key}`;
  }

  warn(message: string): void {
    this.#options.report?.({ type: 'warning', message });
  }

  async stat(key: string, options: Abortable = {}): Promise<ObjectInfo> {
    try {
      return (await this.#head(key, {}, options)).info;
    } catch (error) {
      if (!isFailure(error, 'DENIED', 'INVALID', 'UNAUTHENTICATED')) throw error;
      // no body tells why a HEAD was refused: ask again in a way that has one
      const body = await this.read(key, { signal: options.signal, offset: 0, length: 1 });
      for await (const _ of body) break;
      throw error;
    }
  }

  async read(
    key: string,
    options: Abortable & { offset?: number; length?: number; ifMatch?: string | undefined } = {},
  ): Promise<Bytes> {
    const { offset = 0, length, ifMatch } = options;
    if (length === 0) return this.#readNothing(key, offset, options);
    const whole = offset === 0 && length === undefined;
    const range = `bytes=${offset}-${length === undefined ? '' : offset + length - 1}`;
    try {
      const answer = await this.#call('read', key, 's3:GetObject', options, async (http) =>
        this.#client.send(
          new GetObjectCommand({ ...this.#at(key), ...(whole ? {} : { Range: range }), IfMatch: ifMatch }),
          http,
        ),
      );
      const { Body: body, ContentLength: bytes = 0, ContentRange: sent = 'the whole' } = answer;
      if (!(body instanceof Readable)) throw new Failure('BUG', `read ${this.describe(key)}: the SDK gave no stream`);
      if (!whole && !isRange(sent, offset, bytes, length)) {
        body.destroy();
        throw new Failure('UNSUPPORTED', `read ${this.describe(key)}: asked for ${range}, the endpoint sent ${sent}`);
      }
      return bytesOf(body, bytes, `read ${this.describe(key)}`, options);
    } catch (error) {
      // S3 has no way to say that the range begins right at the end
      if (isS3Error(error, 'InvalidRange')) return this.#readNothing(key, offset, options);
      throw error;
    }
  }

  async write(key: string, body: Uint8Array, options: WriteOptions = {}): Promise<ObjectInfo> {
    const crc = crc32(body);
    const put = {
      ...this.#at(key),
      ...this.#stored(options),
      ...headersOf(options.condition),
      Body: body,
      ContentLength: body.byteLength,
      ChecksumCRC32: base64Of(crc),
    };
    let attempts = 0;
    try {
      const { ETag: etag = '', VersionId: version } = await this.#call(
        'write',
        key,
        's3:PutObject',
        options,
        async (http) => {
          attempts++;
          return this.#client.send(new PutObjectCommand(put), http);
        },
      );
      return this.#written(key, body.byteLength, { etag, version }, options);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      const ours = attempts > 1 ? await this.#find(key, body.byteLength, crc, options) : undefined;
      if (ours === undefined) throw refused(this, key, error);
      return ours;
    }
  }

  async stream(key: string, body: Bytes, options: WriteOptions = {}): Promise<ObjectInfo> {
    checkAborted(options);
    return streamToS3(this, key, body, options, async (bytes) => this.write(key, bytes, options));
  }

  async *list(prefix: string, options: Abortable = {}): AsyncIterable<ObjectInfo> {
    let token: string | undefined;
    do {
      const page = await this.#call('list', prefix, 's3:ListBucket', options, async (http) =>
        this.#client.send(
          // url: keys may have characters that XML cannot
          new ListObjectsV2Command({ ...this.#in, Prefix: prefix, ContinuationToken: token, EncodingType: 'url' }),
          http,
        ),
      );
      for (const { Key = '', Size: size = 0, ETag: etag = '', LastModified: modified } of page.Contents ?? [])
        yield { key: decoded(Key), size, etag, modified: modified ?? new Date(0), metadata: {} };
      token = page.NextContinuationToken;
    } while (token !== undefined);
  }

  async upload(key: string, size: number, options: UploadOptions): Promise<Upload> {
    checkAborted(options);
    const { minPartBytes } = this.#options;
    const parts = new Parts(size, partSizeFor(size, { partSize: options.partSize, minPartBytes }));
    return openS3Upload(this, key, parts, options);
  }

  // the calls of an upload in parts

  async begin(key: string, options: WriteOptions): Promise<Multipart> {
    const begun = {
      ...this.#at(key),
      ...this.#stored(options),
      ChecksumAlgorithm: 'CRC32',
      ChecksumType: 'FULL_OBJECT',
    } as const;
    const { UploadId: id = '' } = await this.#call('begin the upload of', key, 's3:PutObject', options, async (http) =>
      this.#client.send(new CreateMultipartUploadCommand(begun), http),
    );
    return { key, id };
  }

  async unfinished(key: string, options: Abortable): Promise<readonly Multipart[]> {
    const found: MultipartUpload[] = [];
    let after: { KeyMarker?: string | undefined; UploadIdMarker?: string | undefined } | undefined = {};
    while (after !== undefined) {
      const input: ConstructorParameters<typeof ListMultipartUploadsCommand>[0] = {
        ...this.#in,
        Prefix: key,
        ...after,
      };
      const page = await this.#call(
        'find unfinished uploads of',
        key,
        's3:ListBucketMultipartUploads',
        options,
        async (http) => this.#client.send(new ListMultipartUploadsCommand({ ...input, EncodingType: 'url' }), http),
      );
      const uploads = page.Uploads ?? [];
      const exact = uploads.filter((upload) => decoded(upload.Key ?? '') === key);
      found.push(...exact);
      // they come in the order of their keys, and the key itself is the first that begins with it
      const more = page.IsTruncated === true && exact.length === uploads.length;
      after = more
        ? { KeyMarker: decoded(page.NextKeyMarker ?? ''), UploadIdMarker: page.NextUploadIdMarker }
        : undefined;
    }
    const begun = (upload: MultipartUpload): number => upload.Initiated?.getTime() ?? 0;
    // of a key in the order of their beginning, which Initiated tells to the second only:
    // https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html
    return found
      .toReversed()
      .sort((a, b) => begun(b) - begun(a))
      .map((upload) => ({ key, id: upload.UploadId ?? '' }));
  }

  async storedParts(upload: Multipart, after: number, options: Abortable): Promise<readonly StoredPart[]> {
    const found: StoredPart[] = [];
    let marker: string | undefined = String(after);
    while (marker !== undefined) {
      const input: ConstructorParameters<typeof ListPartsCommand>[0] = {
        ...this.#of(upload),
        PartNumberMarker: marker,
      };
      const page = await this.#call(
        'list the parts of',
        upload.key,
        's3:ListMultipartUploadParts',
        options,
        async (http) => this.#client.send(new ListPartsCommand(input), http),
      );
      for (const { PartNumber: n = 0, Size: size = 0, ETag: etag = '', ChecksumCRC32 } of page.Parts ?? [])
        found.push({ n, size, etag, crc: crcOf(ChecksumCRC32) });
      marker = page.IsTruncated === true ? page.NextPartNumberMarker : undefined;
    }
    return found;
  }

  async send(upload: Multipart, n: number, bytes: Uint8Array, crc: number, options: Abortable): Promise<StoredPart> {
    const { byteLength: size } = bytes;
    const part = {
      ...this.#of(upload),
      PartNumber: n,
      Body: bytes,
      ContentLength: size,
      ChecksumCRC32: base64Of(crc),
    };
    const { ETag: etag = '' } = await this.#call(
      `send part ${n} of`,
      upload.key,
      's3:PutObject',
      options,
      async (http) => this.#client.send(new UploadPartCommand(part), http),
    );
    return { n, size, etag, crc };
  }

  async complete(
    upload: Multipart,
    parts: readonly StoredPart[],
    { size, crc, condition }: WholeObject,
    options: Abortable,
  ): Promise<ObjectInfo> {
    const { key } = upload;
    const all = parts.map((part) => ({
      PartNumber: part.n,
      ETag: part.etag,
      ChecksumCRC32: base64Of(part.crc ?? 0),
    }));
    const whole = {
      ...this.#of(upload),
      ...headersOf(condition),
      MultipartUpload: { Parts: all },
      MpuObjectSize: size,
      ChecksumCRC32: base64Of(crc),
      ChecksumType: 'FULL_OBJECT',
    } as const;
    let attempts = 0;
    try {
      const done = await this.#call(
        'finish the upload of',
        key,
        's3:PutObject',
        options,
        async (http) => {
          attempts++;
          return this.#client.send(new CompleteMultipartUploadCommand(whole), http);
        },
        // a repetition would meet the same again
        ['ConditionalRequestConflict', 'BadDigest'],
      );
      const got = crcOf(done.ChecksumCRC32) ?? crc;
      if (got !== crc)
        throw new Failure('CORRUPT', `upload ${this.describe(key)}: S3 says the CRC-32 is ${got}, it must be ${crc}`);
      return this.#written(key, size, { etag: done.ETag ?? '', version: done.VersionId }, {});
    } catch (error) {
      if (isS3Error(error, 'BadDigest'))
        throw new Failure('CORRUPT', `upload ${this.describe(key)}: S3 holds other bytes than were sent: start again`, {
          cause: error,
        });
      const lost = attempts > 1 && (isRefusal(error) || isS3Error(error, 'NoSuchUpload'));
      const ours = lost ? await this.#find(key, size, crc, options) : undefined;
      if (ours === undefined) throw error;
      return ours;
    }
  }

  async drop(upload: Multipart): Promise<void> {
    try {
      await this.#call('abort the upload of', upload.key, 's3:AbortMultipartUpload', {}, async (http) =>
        this.#client.send(new AbortMultipartUploadCommand(this.#of(upload)), http),
      );
    } catch (error) {
      if (!isS3Error(error, 'NoSuchUpload')) throw error;
    }
  }

  get #in(): { Bucket: string; ExpectedBucketOwner: string | undefined } {
    return { Bucket: this.#options.bucket, ExpectedBucketOwner: this.#options.expectedBucketOwner };
  }

  #at(key: string): { Bucket: string; ExpectedBucketOwner: string | undefined; Key: string } {
    return { ...this.#in, Key: key };
  }

  #of(upload: Multipart): { Bucket: string; ExpectedBucketOwner: string | undefined; Key: string; UploadId: string } {
    return { ...this.#at(upload.key), UploadId: upload.id };
  }

  /** How a new object is to be stored. */
  #stored(options: WriteOptions): {
    Metadata: Record<string, string>;
    ContentType: string | undefined;
    StorageClass: StorageClass | undefined;
    ServerSideEncryption?: 'aws:kms';
    SSEKMSKeyId?: string;
  } {
    const { storageClass, kmsKeyId } = this.#options;
    return {
      Metadata: headersOfMetadata(options.metadata ?? {}),
      ContentType: options.contentType,
      StorageClass: storageClass,
      ...(kmsKeyId === undefined ? {} : { ServerSideEncryption: 'aws:kms', SSEKMSKeyId: kmsKeyId }),
    };
  }

  /** S3 does not say when it stored something; its clock and ours differ by little. */
  #written(key: string, size: number, stored: Pick<ObjectInfo, 'etag' | 'version'>, options: WriteOptions): ObjectInfo {
    return { key, size, ...stored, modified: new Date(this.#clock.now()), metadata: options.metadata ?? {} };
  }

  async #head(
    key: string,
    more: { ChecksumMode?: 'ENABLED' },
    options: Abortable,
  ): Promise<{ info: ObjectInfo; crc: number | undefined }> {
    const head = await this.#call('look at', key, 's3:GetObject', options, async (http) =>
      this.#client.send(new HeadObjectCommand({ ...this.#at(key), ...more }), http),
    );
    const { ContentLength: size = 0, ETag: etag = '', LastModified: modified = new Date(0), Metadata } = head;
    const info = { key, size, etag, modified, metadata: Metadata ?? {}, version: head.VersionId };
    return { info, crc: crcOf(head.ChecksumCRC32) };
  }

  /** After an answer that may have been lost: the object, if it has the bytes that were sent. */
  async #find(key: string, size: number, crc: number, options: Abortable): Promise<ObjectInfo | undefined> {
    try {
      const there = await this.#head(key, { ChecksumMode: 'ENABLED' }, options);
      return there.info.size === size && there.crc === crc ? there.info : undefined;
    } catch (error) {
      if (isFailure(error, 'NOT_FOUND', 'DENIED')) return undefined;
      throw error;
    }
  }

  /** What a read of no bytes comes to: S3 has no empty ranges. */
  async #readNothing(
    key: string,
    offset: number,
    options: Abortable & { ifMatch?: string | undefined },
  ): Promise<Bytes> {
    const { size, etag } = await this.stat(key, { signal: options.signal });
    const doing = `read ${this.describe(key)}`;
    if (options.ifMatch !== undefined && options.ifMatch !== etag)
      throw new Failure('CONFLICT', `${doing}: it was written by somebody else in the meantime`);
    if (offset > size) throw new Failure('INVALID', `${doing}: it has ${size} bytes, so there is nothing at ${offset}`);
    return nothing();
  }

  /** One request, repeated as long as that helps, its failures told. `final`: what no repetition of this very request helps. */
  async #call<T>(
    doing: string,
    key: string,
    action: string,
    options: Abortable,
    request: (http: { readonly abortSignal?: AbortSignal }) => Promise<T>,
    final: readonly string[] = [],
  ): Promise<T> {
    const url = this.describe(key);
    const { signal } = options;
    const outcome = await retry(
      `${doing} ${url}`,
      async () => {
        try {
          await (this.#configured ??= configure(this.#client));
          return { value: await request(signal === undefined ? {} : { abortSignal: signal }) };
        } catch (error) {
          if (signal?.aborted === true) throw aborted(signal);
          const failure = s3Failure(error, { doing, url, bucket: this.#options.bucket, action });
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

function newClient(): S3Client {
  return new S3Client({
    maxAttempts: 1,
    // parts and small objects carry a CRC-32 of ours, and what is read is hashed by who asked for it
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // the SDK opens a connection of its own for each request that waits for 100 Continue
    expectContinueHeader: false,
    requestHandler: {
      connectionTimeout: CONNECT_TIMEOUT_MS,
      socketTimeout: STALL_TIMEOUT_MS,
      httpAgent: { keepAlive: true, maxSockets: MAX_SOCKETS },
      httpsAgent: { keepAlive: true, maxSockets: MAX_SOCKETS },
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

function headersOf(condition: Condition | undefined): { IfNoneMatch?: string; IfMatch?: string } {
  if (condition === undefined) return {};
  return 'ifAbsent' in condition ? { IfNoneMatch: '*' } : { IfMatch: condition.ifMatch };
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

/** As S3 writes it: the four bytes, the highest first, in base64. */
function base64Of(crc: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(crc);
  return bytes.toString('base64');
}

/** Undefined for anything but the CRC-32 of a whole (a composite one ends in `-` and the number of parts). */
function crcOf(base64: string | undefined): number | undefined {
  if (base64 === undefined || !/^[A-Za-z0-9+/]{6}==$/u.test(base64)) return undefined;
  return Buffer.from(base64, 'base64').readUInt32BE();
}

function decoded(key: string): string {
  return decodeURIComponent(key.replaceAll('+', ' '));
}

function isRange(sent: string, offset: number, bytes: number, length: number | undefined): boolean {
  const [, first, last, total] = /^bytes (\d+)-(\d+)\/(\d+)$/u.exec(sent) ?? [];
  if (Number(first) !== offset || Number(last) !== offset + bytes - 1) return false;
  return bytes === length || Number(last) + 1 === Number(total);
}

async function* bytesOf(body: Readable, bytes: number, doing: string, options: Abortable): Bytes {
  let received = 0;
  try {
    for await (const chunk of body as AsyncIterable<Uint8Array>) {
      received += chunk.byteLength;
      yield chunk;
    }
  } catch (error) {
    checkAborted(options);
    throw new Failure('UNAVAILABLE', `${doing}: the connection broke after ${received} of ${bytes} bytes`, {
      cause: error,
    });
  }
  if (received !== bytes)
    throw new Failure('UNAVAILABLE', `${doing}: the body ended after ${received} of ${bytes} bytes`);
}

async function* nothing(): Bytes {}
