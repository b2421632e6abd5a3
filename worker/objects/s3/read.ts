import { GetObjectCommand, HeadObjectCommand } from '@aws-sdk/client-s3';
import { Readable } from 'node:stream';
import { nothing } from '../../content/bytes.ts';
import type { Bytes } from '../../content/content.ts';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import { sameEtag } from '../../util/etag.ts';
import { Failure, isFailure, type Code } from '../../util/failure.ts';
import type { Condition, ObjectInfo, ReadOptions, VersionOptions } from '../objects.ts';
import type { Bucket } from './client.ts';
import { isS3Error } from './failure.ts';
import { lentBodyOf } from './lent-bodies.ts';
import { crcOf, holds } from './values.ts';

const WRITTEN = 'another process wrote it in the meantime';

/** As `ObjectStore.stat`. */
export async function statObject(bucket: Bucket, key: string, options: VersionOptions = {}): Promise<ObjectInfo> {
  try {
    return (await headObject(bucket, key, {}, options)).info;
  } catch (error) {
    if (!isFailure(error, 'DENIED', 'INVALID', 'UNAUTHENTICATED')) throw error;
    // the answer to a HEAD has no body with the reason: ask again by a request whose answer has one
    const body = await readObject(bucket, key, {
      signal: options.signal,
      version: options.version,
      offset: 0,
      length: 1,
    });
    for await (const _ of body) break;
    // the object can be read, so a proxy refused the HEAD, or S3 refused credentials that have been renewed since
    return (await headObject(bucket, key, {}, options)).info;
  }
}

/** As `ObjectStore.read`. */
export async function readObject(bucket: Bucket, key: string, options: ReadOptions = {}): Promise<Bytes> {
  const { offset = 0, length, ifMatch, version } = options;
  if (length === 0) return readNothing(bucket, key, offset, options);
  const location = bucket.describe(key);
  const whole = offset === 0 && length === undefined;
  const range = `bytes=${offset}-${length === undefined ? '' : offset + length - 1}`;
  try {
    const answer = await bucket.call(
      { doing: 'read', key, action: readAction(version) },
      async (client, http) =>
        client.send(
          new GetObjectCommand({
            ...bucket.object(key),
            ...(whole ? {} : { Range: range }),
            IfMatch: ifMatch,
            VersionId: version,
          }),
          http,
        ),
      options,
    );
    const { Body: body, ContentLength: bytes, ContentRange: sent = 'the whole', ETag: etag } = answer;
    if (!(body instanceof Readable)) throw readFailure(location, 'BUG', 'the SDK gave no stream');
    // some servers ignore the condition
    if (ifMatch !== undefined && etag !== undefined && !sameEtag(etag, ifMatch)) {
      body.destroy();
      throw readFailure(location, 'CONFLICT', WRITTEN);
    }
    if (!whole && !isRange(sent, offset, bytes, length)) {
      body.destroy();
      throw readFailure(location, 'UNSUPPORTED', `asked for ${range}, the endpoint sent ${sent}`);
    }
    const [first = 0, last] = parseRange(sent) ?? [];
    return bytesOf(body, bytes ?? (last === undefined ? undefined : last - first + 1), location, options);
  } catch (error) {
    // S3 has no way to say that the range begins right at the end
    if (isS3Error(error, 'InvalidRange')) return readNothing(bucket, key, offset, options);
    throw error;
  }
}

/** What proves that an object has the bytes that were sent: its CRC-32 or, where the server keeps none, its ETag. */
interface SentObject {
  readonly size: number;
  readonly crc: number | undefined;
  readonly etag: string | undefined;
}

/** After an answer that may have been lost: the object, if it has the bytes that were sent. */
export async function findSent(
  bucket: Bucket,
  key: string,
  { size, crc, etag }: SentObject,
  options: Abortable,
): Promise<ObjectInfo | undefined> {
  try {
    const mode = bucket.dialect.takes.checksums ? ({ ChecksumMode: 'ENABLED' } as const) : {};
    const there = await headObject(bucket, key, mode, options);
    const isSame = (crc !== undefined && there.crc === crc) || (etag !== undefined && sameEtag(there.info.etag, etag));
    return there.info.size === size && isSame ? there.info : undefined;
  } catch (error) {
    if (isFailure(error, 'NOT_FOUND', 'DENIED')) return undefined;
    throw error;
  }
}

/** Does what a server without conditional writes cannot do: throws CONFLICT, as S3 would answer, unless `condition` holds at this moment. */
export async function checkCondition(
  bucket: Bucket,
  key: string,
  condition: Condition,
  options: Abortable,
): Promise<void> {
  const there = await statIfThere(bucket, key, options);
  if (holds(condition, there)) return;
  const error = there === undefined ? 'NoSuchKey' : 'PreconditionFailed';
  const location = bucket.describe(key);
  throw new Failure('CONFLICT', `write ${location}: another process changed it in the meantime`, {
    context: { location, error },
  });
}

/** The object; undefined where it does not exist, or our permissions do not show that. */
export async function statIfThere(bucket: Bucket, key: string, options: Abortable): Promise<ObjectInfo | undefined> {
  try {
    return await statObject(bucket, key, options);
  } catch (error) {
    if (isFailure(error, 'NOT_FOUND', 'DENIED')) return undefined;
    throw error;
  }
}

/** What S3 reports of an object, with its CRC-32 where `ChecksumMode` asks for it. */
async function headObject(
  bucket: Bucket,
  key: string,
  more: { ChecksumMode?: 'ENABLED' },
  options: VersionOptions,
): Promise<{ info: ObjectInfo; crc: number | undefined }> {
  const request = { ...bucket.object(key), ...more, VersionId: options.version };
  const head = await bucket.call(
    { doing: 'look at', key, action: readAction(options.version), withoutBody: true },
    async (client, http) => client.send(new HeadObjectCommand(request), http),
    options,
  );
  const { ETag: etag = '', LastModified: modified = new Date(0), Metadata, VersionId: version } = head;
  const size = head.ContentLength ?? (await sizeOf(bucket, key, options));
  // an empty type counts as absent: a write with an empty type gets the default of the server
  const contentType = head.ContentType === '' ? undefined : head.ContentType;
  const info = { key, size, etag, modified, metadata: Metadata ?? {}, version, contentType };
  return { info, crc: crcOf(head.ChecksumCRC32) };
}

/** How large an object is whose HEAD was answered without a length, as proxies that compress do it. */
async function sizeOf(bucket: Bucket, key: string, options: VersionOptions): Promise<number> {
  const first = { ...bucket.object(key), Range: 'bytes=0-0', VersionId: options.version };
  try {
    const { Body: body, ContentRange: sent = '' } = await bucket.call(
      { doing: 'look at', key, action: readAction(options.version) },
      async (client, http) => client.send(new GetObjectCommand(first), http),
      options,
    );
    if (body instanceof Readable) body.destroy();
    const [, , total] = parseRange(sent) ?? [];
    if (total !== undefined) return total;
  } catch (error) {
    if (isS3Error(error, 'InvalidRange')) return 0;
    throw error;
  }
  throw readFailure(bucket.describe(key), 'UNSUPPORTED', 'the endpoint does not say how many bytes it has');
}

/** https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html#API_GetObject_Permissions */
function readAction(version: string | undefined): string {
  return version === undefined ? 's3:GetObject' : 's3:GetObjectVersion';
}

/** The result of a read of no bytes: S3 has no empty ranges. */
async function readNothing(bucket: Bucket, key: string, offset: number, options: ReadOptions): Promise<Bytes> {
  const { size, etag } = await statObject(bucket, key, { signal: options.signal, version: options.version });
  const location = bucket.describe(key);
  if (options.ifMatch !== undefined && !sameEtag(options.ifMatch, etag))
    throw readFailure(location, 'CONFLICT', WRITTEN);
  if (offset > size) throw readFailure(location, 'INVALID', `it has ${size} bytes, so there is nothing at ${offset}`);
  return nothing();
}

/** Whether `sent` is what was asked for. `bytes`: how long the body is, where the endpoint gives that. */
function isRange(sent: string, offset: number, bytes: number | undefined, length: number | undefined): boolean {
  const [first, last, total] = parseRange(sent) ?? [];
  if (first === undefined || last === undefined || first !== offset) return false;
  if (bytes !== undefined && last !== offset + bytes - 1) return false;
  return last - first + 1 === length || last + 1 === total;
}

/** The first byte, the last byte, and the size of the whole, of a Content-Range. */
function parseRange(sent: string): readonly number[] | undefined {
  return /^bytes (\d+)-(\d+)\/(\d+)$/u.exec(sent)?.slice(1).map(Number);
}

/** `bytes`: how many have to come; undefined where only the end of the body shows it. */
async function* bytesOf(body: Readable, bytes: number | undefined, location: string, options: Abortable): Bytes {
  let received = 0;
  try {
    for await (const chunk of lentBodyOf(body) ?? (body as AsyncIterable<Uint8Array>)) {
      received += chunk.byteLength;
      yield chunk;
    }
  } catch (error) {
    checkAborted(options);
    const all = bytes === undefined ? '' : `of ${bytes} `;
    throw readFailure(location, 'UNAVAILABLE', `the connection broke after ${received} ${all}bytes`, { cause: error });
  }
  if (bytes !== undefined && received !== bytes)
    throw readFailure(location, 'UNAVAILABLE', `the body ended after ${received} of ${bytes} bytes`);
}

function readFailure(location: string, code: Code, what: string, options: { readonly cause?: unknown } = {}): Failure {
  return new Failure(code, `read ${location}: ${what}`, { ...options, context: { location } });
}
