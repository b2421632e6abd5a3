import { ListObjectsV2Command, PutObjectCommand } from '@aws-sdk/client-s3';
import { crc32 } from 'node:zlib';
import type { Bytes } from '../../content/content.ts';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import { Failure } from '../../util/failure.ts';
import type { DeletableStore, Doomed, NotRemoved } from '../deletable.ts';
import type {
  ObjectInfo,
  ObjectStore,
  ReadOptions,
  Upload,
  UploadOptions,
  VersionOptions,
  WriteOptions,
} from '../objects.ts';
import { Parts } from '../parts.ts';
import { Bucket, type BucketOptions } from './client.ts';
import { removeObjects } from './delete.ts';
import { isRefusal, refused } from './failure.ts';
import { multipartCalls, type MultipartCalls } from './multipart.ts';
import { partSizeFor } from './part-size.ts';
import { presignedUrl } from './presign.ts';
import { RANGES_AT_ONCE } from './ranges-at-once.ts';
import { checkCondition, findSent, readObject, statObject } from './read.ts';
import { streamToS3 } from './stream.ts';
import { openS3Upload } from './upload.ts';
import { decoded, etagOf, headersOf, integrityOf } from './values.ts';

export interface S3StoreOptions extends BucketOptions {
  /** The least part size that the endpoint takes, in bytes. Default 5 MiB, that of S3. */
  readonly minPartBytes?: number | undefined;
}

/**
 * The objects of an S3 bucket. Bytes are sent with their CRC-32, or with their MD5 where the server refuses that, which S3 checks.
 *
 * IAM actions: s3:GetObject, s3:PutObject, s3:ListBucket (without it, a missing object is DENIED), s3:AbortMultipartUpload, and
 * s3:ListBucketMultipartUploads with s3:ListMultipartUploadParts, without which a warning is reported and every upload begins anew. To delete:
 * s3:DeleteObject with s3:GetObject.
 */
export function openS3(
  options: S3StoreOptions,
): ObjectStore & DeletableStore & AsyncDisposable & Required<Pick<ObjectStore, 'presigned'>> {
  return new S3Store(options);
}

/** https://docs.aws.amazon.com/AmazonS3/latest/userguide/archived-objects.html */
const FROZEN: ReadonlySet<string> = new Set(['GLACIER', 'DEEP_ARCHIVE']);

class S3Store implements ObjectStore, DeletableStore, AsyncDisposable {
  readonly rangesAtOnce = RANGES_AT_ONCE;
  readonly #bucket: Bucket;
  readonly #multipart: MultipartCalls;
  readonly #minPartBytes: number | undefined;

  constructor(options: S3StoreOptions) {
    this.#bucket = new Bucket(options);
    this.#multipart = multipartCalls(this.#bucket);
    this.#minPartBytes = options.minPartBytes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#bucket[Symbol.asyncDispose]();
  }

  describe(key: string): string {
    return this.#bucket.describe(key);
  }

  async stat(key: string, options: VersionOptions = {}): Promise<ObjectInfo> {
    return statObject(this.#bucket, key, options);
  }

  async read(key: string, options: ReadOptions = {}): Promise<Bytes> {
    return readObject(this.#bucket, key, options);
  }

  async presigned(key: string, options: Abortable & { readonly seconds: number }): Promise<string> {
    return presignedUrl(this.#bucket, key, options);
  }

  async write(key: string, body: Uint8Array, options: WriteOptions = {}): Promise<ObjectInfo> {
    const bucket = this.#bucket;
    const crc = crc32(body);
    const { condition } = options;
    const put = {
      ...bucket.object(key),
      ...bucket.newObject(options),
      Body: body,
      ContentLength: body.byteLength,
    };
    let attempts = 0;
    try {
      const carried = condition === undefined ? (['checksums'] as const) : (['checksums', 'conditions'] as const);
      const { ETag: etag = '', VersionId: version } = await bucket.dialect.send(carried, async (takes) => {
        if (condition !== undefined && !takes.conditions) await checkCondition(bucket, key, condition, options);
        const headers = {
          ...(takes.conditions ? headersOf(condition) : {}),
          ...integrityOf(body, crc, takes.checksums),
        };
        return bucket.call(
          { doing: 'write', key, action: 's3:PutObject' },
          async (client, http) => {
            attempts++;
            options.onSent?.(body.byteLength);
            return client.send(new PutObjectCommand({ ...put, ...headers }), http);
          },
          options,
        );
      });
      return bucket.written(key, body.byteLength, { etag, version }, options);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      const sent = { size: body.byteLength, crc, etag: etagOf(body) };
      const ours = attempts > 1 ? await findSent(bucket, key, sent, options) : undefined;
      if (ours === undefined) throw refused(this.describe(key), error);
      return ours;
    }
  }

  async stream(key: string, body: Bytes, options: WriteOptions = {}): Promise<ObjectInfo> {
    checkAborted(options);
    return streamToS3(this.#multipart, key, body, options, async (bytes) => this.write(key, bytes, options));
  }

  async *list(prefix: string, options: Abortable = {}): AsyncIterable<ObjectInfo> {
    let token: string | undefined;
    do {
      const page = { ...this.#bucket.location, Prefix: prefix, ContinuationToken: token };
      const answer = await this.#bucket.call(
        { doing: 'list', key: prefix, action: 's3:ListBucket' },
        // url: keys may have characters that XML cannot
        async (client, http) => client.send(new ListObjectsV2Command({ ...page, EncodingType: 'url' }), http),
        options,
      );
      for (const { Key = '', Size: size = 0, ETag: etag = '', LastModified, StorageClass = '' } of answer.Contents ??
        []) {
        const [key, modified] = [decoded(Key, answer.EncodingType), LastModified ?? new Date(0)];
        const info = { key, size, etag, modified, metadata: {} };
        yield FROZEN.has(StorageClass) ? Object.assign(info, { frozenIn: StorageClass }) : info;
      }
      token = answer.NextContinuationToken;
      if (answer.IsTruncated === true && (token === undefined || token === ''))
        throw new Failure(
          'UNSUPPORTED',
          `list ${this.describe(prefix)}: the answer states that there is more, but not how to ask for it`,
        );
    } while (token !== undefined);
  }

  async upload(key: string, size: number, options: UploadOptions): Promise<Upload> {
    checkAborted(options);
    const minPartBytes = this.#minPartBytes;
    const parts = new Parts(size, partSizeFor(size, { partSize: options.partSize, minPartBytes }));
    return openS3Upload(this.#multipart, key, parts, options);
  }

  async remove(items: readonly Doomed[], options: Abortable = {}): Promise<readonly NotRemoved[]> {
    return removeObjects(this.#bucket, items, options);
  }
}
