import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  ListMultipartUploadsCommand,
  ListPartsCommand,
  UploadPartCommand,
  UploadPartCopyCommand,
  type CompleteMultipartUploadCommandInput,
  type ListMultipartUploadsCommandInput,
  type ListMultipartUploadsOutput,
  type MultipartUpload,
} from '@aws-sdk/client-s3';
import { append } from '../../util/lists.ts';
import type { Abortable } from '../../util/abort.ts';
import { crc32Combine } from '../../util/crc32.ts';
import { Failure, isFailure, toFailure } from '../../util/failure.ts';
import type { Condition, ObjectInfo, PartSource, WriteOptions } from '../objects.ts';
import type { Bucket } from './client.ts';
import type { Takes } from './dialect.ts';
import { isRefusal, isS3Error, isUnsupported } from './failure.ts';
import { checkCondition, findSent, statIfThere } from './read.ts';
import { base64Of, crcOf, decoded, etagOfParts, headersOf, integrityOf } from './values.ts';

/** A part as S3 has it. */
export interface StoredPart {
  readonly number: number;
  readonly size: number;
  readonly etag: string;
  /** Undefined when the upload was begun without CRC-32, or the server forgets it. */
  readonly crc: number | undefined;
}

/** A multipart upload of S3. */
export interface Multipart {
  readonly key: string;
  readonly id: string;
}

/** The object that the parts of an upload make. */
export interface WholeObject {
  readonly size: number;
  /** Undefined where that of a part is not known. */
  readonly crc: number | undefined;
  readonly condition: Condition | undefined;
}

type SendOptions = Pick<WriteOptions, 'signal' | 'onSent'>;

/** What uploads in parts ask of S3: one call each, repeated where that helps. Failures carry S3's code. */
export interface MultipartCalls {
  /** `s3://bucket/key` */
  describe(key: string): string;
  /** Reports a warning. */
  warn(message: string): void;
  /** Whether answers have arrived, and all of them from other servers than Amazon's. */
  readonly isForeign: boolean;
  /** Whether it is known already if uploads can be taken up again. */
  triedTakingUp: boolean;
  /** Whether Complete has to list every part that is stored: then an upload cannot have a marker. */
  readonly countsParts: boolean;
  /** The object; undefined where it does not exist, or our permissions do not show that. */
  stat(key: string, options: Abortable): Promise<ObjectInfo | undefined>;
  /** Before the first byte: finds out whether a server that is not Amazon's takes conditional writes. Reports a warning where it does not. */
  tryConditions(key: string, options: Abortable): Promise<void>;
  /** Begins an upload. */
  begin(key: string, options: WriteOptions): Promise<Multipart>;
  /** The unfinished uploads of exactly this key, the one begun last first. */
  unfinished(key: string, options: Abortable): Promise<readonly Multipart[]>;
  /** The parts whose numbers are greater than `after`, in their order. */
  storedParts(upload: Multipart, after: number, options: Abortable): Promise<readonly StoredPart[]>;
  /** Whether a copy may still work: no server without checksums, and none that has refused one or did not report a CRC-32. */
  readonly copies: boolean;
  /** Stores a part by a copy of `length` bytes. Undefined where the server does not copy, or the object is gone or another. */
  copy(
    upload: Multipart,
    number: number,
    from: PartSource,
    length: number,
    options: Abortable,
  ): Promise<StoredPart | undefined>;
  /** Stores a part. */
  send(upload: Multipart, number: number, bytes: Uint8Array, crc: number, options: SendOptions): Promise<StoredPart>;
  /**
   * Completes the upload from `parts`, numbered from 1 without gaps. CORRUPT when S3 put together other bytes. When the answer is lost, looks
   * whether the object is there.
   */
  complete(
    upload: Multipart,
    parts: readonly StoredPart[],
    whole: WholeObject,
    options: Abortable,
  ): Promise<ObjectInfo>;
  /** Aborts the upload. Success when it does not exist. */
  drop(upload: Multipart): Promise<void>;
}

/** The calls for the multipart uploads of a bucket. */
export function multipartCalls(bucket: Bucket): MultipartCalls {
  return new BucketMultipart(bucket);
}

/** The object is gone or another; or a copy is not allowed, or not known. The part is sent instead. */
const COPY_REFUSALS = ['NOT_FOUND', 'CONFLICT', 'DENIED', 'INVALID', 'UNSUPPORTED'] as const;

class BucketMultipart implements MultipartCalls {
  readonly #bucket: Bucket;
  triedTakingUp = false;
  #refusedCopy = false;
  #triedConditions = false;

  constructor(bucket: Bucket) {
    this.#bucket = bucket;
  }

  describe(key: string): string {
    return this.#bucket.describe(key);
  }

  warn(message: string): void {
    this.#bucket.warn(message);
  }

  get isForeign(): boolean {
    return this.#bucket.dialect.isForeign;
  }

  get countsParts(): boolean {
    return this.#bucket.dialect.countsParts;
  }

  async stat(key: string, options: Abortable): Promise<ObjectInfo | undefined> {
    return statIfThere(this.#bucket, key, options);
  }

  async tryConditions(key: string, options: Abortable): Promise<void> {
    if (this.#triedConditions || !this.isForeign) return;
    // for an upload that does not exist: it changes nothing, whatever the server makes of the condition
    const nothing: CompleteMultipartUploadCommandInput = {
      ...this.#bucket.object(key),
      UploadId: 'transship-asks-for-conditions',
      IfNoneMatch: '*',
      MultipartUpload: { Parts: [{ PartNumber: 1, ETag: '"00000000000000000000000000000000"' }] },
    };
    await this.#bucket.dialect.send(['conditions'], async ({ conditions }) => {
      if (!conditions) return;
      try {
        await this.#bucket.call(
          { doing: 'ask for conditional writes of', key, action: 's3:PutObject', attempts: 1 },
          async (client, http) => client.send(new CompleteMultipartUploadCommand(nothing), http),
          options,
        );
      } catch (error) {
        // any other refusal is of the upload, which does not exist
        if (isUnsupported(error) || isFailure(error, 'ABORTED')) throw error;
      }
    });
    this.#triedConditions = true;
  }

  async begin(key: string, options: WriteOptions): Promise<Multipart> {
    const begun = { ...this.#bucket.object(key), ...this.#bucket.newObject(options) };
    const { UploadId: id = '' } = await this.#bucket.dialect.send(['checksums'], async ({ checksums }) => {
      const declared = checksums ? ({ ChecksumAlgorithm: 'CRC32', ChecksumType: 'FULL_OBJECT' } as const) : {};
      return this.#bucket.call(
        { doing: 'begin the upload of', key, action: 's3:PutObject' },
        async (client, http) => client.send(new CreateMultipartUploadCommand({ ...begun, ...declared }), http),
        options,
      );
    });
    return { key, id };
  }

  async unfinished(key: string, options: Abortable): Promise<readonly Multipart[]> {
    const found: MultipartUpload[] = [];
    let after: { KeyMarker?: string | undefined; UploadIdMarker?: string | undefined } | undefined = {};
    while (after !== undefined) {
      const input = { ...this.#bucket.location, Prefix: key, ...after, EncodingType: 'url' } as const;
      const page = await this.#uploadsPage(key, input, options);
      const uploads = page.Uploads ?? [];
      const exact = uploads.filter((upload) => decoded(upload.Key ?? '', page.EncodingType) === key);
      append(found, exact);
      // they come in the order of their keys, and the key itself is the first that begins with it
      const { NextKeyMarker: next = '' } = page;
      const more = page.IsTruncated === true && exact.length === uploads.length && next !== '';
      after = more
        ? { KeyMarker: decoded(next, page.EncodingType), UploadIdMarker: page.NextUploadIdMarker }
        : undefined;
    }
    const begun = (upload: MultipartUpload): number => upload.Initiated?.getTime() ?? 0;
    // S3 lists the uploads of a key in the order in which they began, which `Initiated` has only to the second:
    // https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html
    return found
      .toReversed()
      .sort((a, b) => begun(b) - begun(a))
      .map((upload) => ({ key, id: upload.UploadId ?? '' }));
  }

  async #uploadsPage(
    key: string,
    input: ListMultipartUploadsCommandInput,
    options: Abortable,
  ): Promise<ListMultipartUploadsOutput> {
    try {
      return await this.#bucket.call(
        { doing: 'find unfinished uploads of', key, action: 's3:ListBucketMultipartUploads' },
        async (client, http) => client.send(new ListMultipartUploadsCommand(input), http),
        options,
      );
    } catch (error) {
      // some servers answer so when a bucket has no unfinished upload
      if (isS3Error(error, 'NoSuchUpload')) return {};
      throw error;
    }
  }

  async storedParts(upload: Multipart, after: number, options: Abortable): Promise<readonly StoredPart[]> {
    const found: StoredPart[] = [];
    let marker: string | undefined = String(after);
    while (marker !== undefined) {
      const input: ConstructorParameters<typeof ListPartsCommand>[0] = {
        ...this.#request(upload),
        PartNumberMarker: marker,
      };
      const page = await this.#bucket.call(
        { doing: 'list the parts of', key: upload.key, action: 's3:ListMultipartUploadParts' },
        async (client, http) => client.send(new ListPartsCommand(input), http),
        options,
      );
      for (const { PartNumber: number = 0, Size: size = 0, ETag: etag = '', ChecksumCRC32 } of page.Parts ?? [])
        found.push({ number, size, etag, crc: crcOf(ChecksumCRC32) });
      marker = page.IsTruncated === true ? page.NextPartNumberMarker : undefined;
    }
    return found;
  }

  get copies(): boolean {
    return !this.#refusedCopy && this.#bucket.dialect.takes.checksums;
  }

  async copy(
    upload: Multipart,
    number: number,
    { key, etag, offset }: PartSource,
    length: number,
    options: Abortable,
  ): Promise<StoredPart | undefined> {
    const { Bucket: bucket, Key: name } = this.#bucket.object(key);
    const input = {
      ...this.#request(upload),
      PartNumber: number,
      CopySource: `${bucket}/${name.split('/').map(encodeURIComponent).join('/')}`,
      CopySourceIfMatch: etag,
      CopySourceRange: `bytes=${offset}-${offset + length - 1}`,
    };
    try {
      const { CopyPartResult: copied = {} } = await this.#bucket.call(
        { doing: `copy part ${number} of`, key: upload.key, action: 's3:PutObject' },
        async (client, http) => client.send(new UploadPartCopyCommand(input), http),
        options,
      );
      const crc = crcOf(copied.ChecksumCRC32);
      // what was copied cannot be compared
      if (crc === undefined) this.#refusedCopy = true;
      return { number, size: length, etag: copied.ETag ?? '', crc };
    } catch (error) {
      if (isS3Error(error, 'NoSuchUpload') || !isFailure(error, ...COPY_REFUSALS)) throw error;
      if (!isFailure(error, 'NOT_FOUND', 'CONFLICT')) this.#refusedCopy = true;
      return undefined;
    }
  }

  async send(
    upload: Multipart,
    number: number,
    bytes: Uint8Array,
    crc: number,
    options: SendOptions,
  ): Promise<StoredPart> {
    const { byteLength: size } = bytes;
    const part = { ...this.#request(upload), PartNumber: number, Body: bytes, ContentLength: size };
    const { ETag: etag = '' } = await this.#bucket.dialect.send(['checksums'], async ({ checksums }) =>
      this.#bucket.call(
        { doing: `send part ${number} of`, key: upload.key, action: 's3:PutObject' },
        async (client, http) => {
          options.onSent?.(size);
          return client.send(new UploadPartCommand({ ...part, ...integrityOf(bytes, crc, checksums) }), http);
        },
        options,
      ),
    );
    return { number, size, etag, crc };
  }

  async complete(
    upload: Multipart,
    parts: readonly StoredPart[],
    whole: WholeObject,
    options: Abortable,
  ): Promise<ObjectInfo> {
    const { key } = upload;
    const { size, crc, condition } = whole;
    let attempts = 0;
    try {
      const carried = condition === undefined ? (['checksums'] as const) : (['checksums', 'conditions'] as const);
      const done = await this.#bucket.dialect.send(carried, async (takes) => {
        if (condition !== undefined && !takes.conditions) await checkCondition(this.#bucket, key, condition, options);
        const request = this.#completion(upload, parts, whole, takes);
        return this.#bucket.call(
          {
            doing: 'finish the upload of',
            key,
            action: 's3:PutObject',
            final: ['ConditionalRequestConflict', 'BadDigest'],
          },
          async (client, http) => {
            attempts++;
            return client.send(new CompleteMultipartUploadCommand(request), http);
          },
          options,
        );
      });
      const got = crcOf(done.ChecksumCRC32);
      if (crc !== undefined && got !== undefined && got !== crc)
        throw new Failure(
          'CORRUPT',
          `upload ${this.describe(key)}: S3 computed the CRC-32 ${got}, and ${crc} was expected`,
        );
      return this.#bucket.written(key, size, { etag: done.ETag ?? '', version: done.VersionId }, {});
    } catch (error) {
      if (isS3Error(error, 'BadDigest'))
        throw new Failure('CORRUPT', `upload ${this.describe(key)}: S3 holds other bytes than were sent: start again`, {
          cause: error,
        });
      const lost = attempts > 1 && (isRefusal(error) || isS3Error(error, 'NoSuchUpload'));
      const sent = { size, crc, etag: etagOfParts(parts.map((part) => part.etag)) };
      const ours = lost ? await findSent(this.#bucket, key, sent, options) : undefined;
      if (ours === undefined) throw error;
      return ours;
    }
  }

  #completion(
    upload: Multipart,
    parts: readonly StoredPart[],
    { size, crc, condition }: WholeObject,
    takes: Takes,
  ): CompleteMultipartUploadCommandInput {
    const checksums = takes.checksums && crc !== undefined;
    const all = parts.map((part) => ({
      PartNumber: part.number,
      ETag: part.etag,
      ...(checksums && part.crc !== undefined ? { ChecksumCRC32: base64Of(part.crc) } : {}),
    }));
    return {
      ...this.#request(upload),
      ...(takes.conditions ? headersOf(condition) : {}),
      MultipartUpload: { Parts: all },
      ...(checksums ? { MpuObjectSize: size, ChecksumCRC32: base64Of(crc), ChecksumType: 'FULL_OBJECT' } : {}),
    };
  }

  async drop(upload: Multipart): Promise<void> {
    try {
      await this.#bucket.call(
        { doing: 'abort the upload of', key: upload.key, action: 's3:AbortMultipartUpload' },
        async (client, http) => client.send(new AbortMultipartUploadCommand(this.#request(upload)), http),
        {},
      );
    } catch (error) {
      if (!isS3Error(error, 'NoSuchUpload')) throw error;
    }
  }

  #request(upload: Multipart): ReturnType<Bucket['object']> & { readonly UploadId: string } {
    return { ...this.#bucket.object(upload.key), UploadId: upload.id };
  }
}

/** Aborts an upload that is of no use any more. Reports a warning where that fails. */
export async function dropQuietly(calls: MultipartCalls, multipart: Multipart): Promise<void> {
  try {
    await calls.drop(multipart);
  } catch (error) {
    calls.warn(`an unfinished upload stays behind: ${toFailure(error).message}`);
  }
}

/** The object that these parts, in their order, make. */
export function wholeOf(stored: readonly StoredPart[], condition: Condition | undefined): WholeObject {
  return {
    size: stored.reduce((sum, part) => sum + part.size, 0),
    crc: stored.reduce<number | undefined>(
      (crc, part) => (crc === undefined || part.crc === undefined ? undefined : crc32Combine(crc, part.crc, part.size)),
      0,
    ),
    condition,
  };
}
