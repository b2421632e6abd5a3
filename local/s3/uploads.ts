import { createHash } from 'node:crypto';
import { claimedChecksum } from './body.ts';
import { CHECKSUM_ALGORITHMS, checksumOfParts, supportsType, type ChecksumType } from './checksum.ts';
import { S3Error } from './error.ts';
import { copySource, digest, parseAlgorithm } from './copy.ts';
import { checksumElements, DEFAULT_ALGORITHM, parsePartNumber } from './objects.ts';
import {
  checkWriteCondition,
  countOf,
  createId,
  describe,
  ENCRYPTED,
  etagOf,
  isoTime,
  newVersionId,
  ownerOf,
  readDocument,
  requireProtection,
  storeBody,
  versionHeader,
  type S3Answer,
  type S3Request,
} from './request.ts';
import { slice } from './data.ts';
import type { Checksum, CompletedUpload, ObjectVersion, Part, Upload, UploadStart } from './records.ts';
import { renderXml, type XmlElements, type XmlNode } from './xml.ts';

const MAX_PARTS = 10_000;
/** https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html */
const MAX_PART_BYTES = 5 * 1024 ** 3;
const MAX_OBJECT_BYTES = 50_000_000_000_000;

export function createMultipartUpload(request: S3Request): S3Answer {
  const nowMs = Date.now();
  const { algorithm, checksumType, isDeclared } = chosenChecksum(request);
  const upload: UploadStart = {
    ...describe(request, nowMs),
    id: createId(),
    key: request.key,
    order: request.store.nextOrder(),
    startedMs: nowMs,
    algorithm,
    checksumType,
    isDeclared,
  };
  request.store.bucket(request.bucket);
  request.store.commit({ type: 'upload', bucket: request.bucket, upload });
  return {
    headers: {
      ...ENCRYPTED,
      'x-amz-checksum-algorithm': isDeclared ? algorithm : undefined,
      'x-amz-checksum-type': isDeclared ? checksumType : undefined,
    },
    document: renderXml('InitiateMultipartUploadResult', {
      Bucket: request.bucket,
      Key: request.key,
      UploadId: upload.id,
    }),
  };
}

function chosenChecksum(request: S3Request): Pick<UploadStart, 'algorithm' | 'checksumType' | 'isDeclared'> {
  const name = request.headers.get('x-amz-checksum-algorithm');
  const type = request.headers.get('x-amz-checksum-type');
  if (name === undefined && type !== undefined)
    throw new S3Error(
      'InvalidRequest',
      'The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.',
    );
  const algorithm = name === undefined ? DEFAULT_ALGORITHM : parseAlgorithm(name);
  const checksumType = type === undefined ? (algorithm === 'CRC64NVME' ? 'FULL_OBJECT' : 'COMPOSITE') : parseType(type);
  if (!supportsType(algorithm, checksumType))
    throw new S3Error(
      'InvalidRequest',
      `The ${checksumType} checksum type cannot be used with the ${algorithm.toLowerCase()} checksum algorithm.`,
    );
  return { algorithm, checksumType, isDeclared: name !== undefined };
}

function parseType(type: string): ChecksumType {
  if (type === 'FULL_OBJECT' || type === 'COMPOSITE') return type;
  throw new S3Error('InvalidRequest', 'Value for x-amz-checksum-type header is invalid.');
}

function findUpload(request: S3Request): Upload {
  const upload = request.store.bucket(request.bucket).uploads.get(request.query.get('uploadId') ?? '');
  if (upload?.key === request.key) return upload;
  throw new S3Error('NoSuchUpload', { elements: { UploadId: request.query.get('uploadId') ?? '' } });
}

export async function uploadPart(request: S3Request): Promise<S3Answer> {
  const number = parsePartNumber(request.query.get('partNumber') ?? '');
  const upload = findUpload(request);
  requireProtection(request, upload);
  const claimed = claimedChecksum(request.headers)?.algorithm;
  // a part of an undeclared upload may carry a checksum, which is verified and forgotten
  const mustMatch = upload.isDeclared && (upload.checksumType === 'COMPOSITE' || claimed !== undefined);
  if (mustMatch && claimed !== upload.algorithm)
    throw new S3Error(
      'InvalidRequest',
      `Checksum Type mismatch occurred, expected checksum Type: ${upload.algorithm.toLowerCase()}, actual checksum Type: ${claimed?.toLowerCase() ?? 'null'}`,
    );
  return storeBody(request, [upload.algorithm], (segments, { bytes, md5, checksums }) => {
    const checksum = checksums.get(upload.algorithm);
    const etag = etagOf(request, md5);
    keepPart(request, { number, bytes, etag, checksum, modifiedMs: Date.now(), segments });
    const answered = upload.isDeclared ? upload.algorithm : claimed;
    return {
      headers: {
        ...ENCRYPTED,
        etag: `"${etag}"`,
        ...(answered && { [`x-amz-checksum-${answered.toLowerCase()}`]: checksums.get(answered) }),
      },
    };
  });
}

/** The upload may have ended while the part was on its way. */
function keepPart(request: S3Request, part: Part): void {
  request.store.commit({ type: 'part', bucket: request.bucket, uploadId: findUpload(request).id, part });
}

export async function uploadPartCopy(request: S3Request): Promise<S3Answer> {
  const number = parsePartNumber(request.query.get('partNumber') ?? '');
  const upload = findUpload(request);
  const source = copySource(request);
  const { offset, bytes } = copiedRange(request, source);
  if (bytes > MAX_PART_BYTES) throw new S3Error('EntityTooLarge');
  using reader = request.store.read(source.segments, offset, bytes);
  const { md5, checksum } = await digest(reader, upload.algorithm);
  const modifiedMs = Date.now();
  keepPart(request, {
    number,
    bytes,
    etag: md5,
    checksum,
    modifiedMs,
    segments: slice(source.segments, offset, bytes),
  });
  return {
    headers: {
      ...ENCRYPTED,
      'x-amz-copy-source-version-id': versionHeader(request.store, source.bucket, source.versionId)['x-amz-version-id'],
    },
    document: renderXml('CopyPartResult', {
      ETag: `"${md5}"`,
      LastModified: isoTime(modifiedMs),
      [`Checksum${upload.algorithm}`]: upload.isDeclared ? checksum : undefined,
    }),
  };
}

/** https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html: ranges have both ends, lie inside, and need a large source. */
function copiedRange(request: S3Request, source: ObjectVersion): { readonly offset: number; readonly bytes: number } {
  const range = request.headers.get('x-amz-copy-source-range');
  if (range === undefined) return { offset: 0, bytes: source.bytes };
  const [, first, last] = /^bytes=(\d{1,15})-(\d{1,15})$/.exec(range) ?? [];
  const invalid = (why: string): S3Error =>
    new S3Error('InvalidArgument', {
      message: why,
      elements: { ArgumentName: 'x-amz-copy-source-range', ArgumentValue: range },
    });
  if (first === undefined || last === undefined || Number(last) < Number(first))
    throw invalid(
      'The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy',
    );
  if (Number(last) >= source.bytes)
    throw invalid(`Range specified is not valid for source object of size: ${source.bytes}`);
  if (source.bytes <= request.settings.minPartBytes)
    throw new S3Error('InvalidRequest', 'The specified copy source is not supported as a byte-range copy source');
  return { offset: Number(first), bytes: Number(last) - Number(first) + 1 };
}

export function abortMultipartUpload(request: S3Request): S3Answer {
  request.store.commit({ type: 'upload-removed', bucket: request.bucket, uploadId: findUpload(request).id });
  return { status: 204 };
}

export function listParts(request: S3Request): S3Answer {
  const upload = findUpload(request);
  const marker = Number(request.query.get('part-number-marker') ?? 0);
  const most = countOf(request, 'max-parts');
  const all = [...upload.parts.values()].sort((a, b) => a.number - b.number);
  const countsIndex = request.settings.quirks.has('counts-from-marker');
  const after = countsIndex ? all.slice(marker) : all.filter((part) => part.number > marker);
  const showsChecksums = upload.isDeclared && !request.settings.quirks.has('lists-no-checksums');
  const page = after.slice(0, most);
  return {
    document: renderXml('ListPartsResult', {
      Bucket: request.bucket,
      Key: request.key,
      UploadId: upload.id,
      Initiator: ownerOf(request.settings),
      Owner: ownerOf(request.settings),
      StorageClass: upload.storageClass,
      PartNumberMarker: marker,
      NextPartNumberMarker: page.at(-1)?.number ?? 0,
      MaxParts: most,
      IsTruncated: after.length > page.length,
      ChecksumAlgorithm: upload.isDeclared ? upload.algorithm : undefined,
      ChecksumType: upload.isDeclared ? upload.checksumType : undefined,
      Part: page.map((part) => ({
        PartNumber: part.number,
        LastModified: isoTime(part.modifiedMs),
        ETag: `"${part.etag}"`,
        Size: part.bytes,
        [`Checksum${upload.algorithm}`]: showsChecksums ? part.checksum : undefined,
      })),
    }),
  };
}

export async function completeMultipartUpload(request: S3Request): Promise<S3Answer> {
  const uploadId = request.query.get('uploadId') ?? '';
  // the checksum of this request's headers is the object's, not the document's
  const headers = new Map([...request.headers].filter(([name]) => !name.startsWith('x-amz-checksum-')));
  const document = await readDocument({ ...request, body: { ...request.body, headers } }, 'CompleteMultipartUpload');
  const completed = request.store.completed(uploadId);
  if (completed?.bucket === request.bucket && completed.key === request.key) return answerCompleted(request, completed);
  const upload = findUpload(request);
  const parts = listedParts(request, upload, document.allow('Part').all('Part'));
  const checksum: Checksum = {
    algorithm: upload.algorithm,
    type: upload.checksumType,
    value: checksumOfParts(
      upload.algorithm,
      upload.checksumType,
      parts.map(({ bytes, checksum: value }) => ({ bytes, checksum: value ?? '' })),
    ),
  };
  const bytes = parts.reduce((sum, part) => sum + part.bytes, 0);
  checkClaims(request, upload, checksum, bytes);
  checkWriteCondition(request);
  const etag = createHash('md5');
  for (const part of parts) etag.update(part.etag, 'hex');
  const version: ObjectVersion = {
    kind: 'object',
    headers: upload.headers,
    storageClass: upload.storageClass,
    tags: upload.tags,
    retention: upload.retention,
    legalHold: upload.legalHold,
    versionId: newVersionId(request.store, request.bucket),
    // https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html: with versions, the upload that began last is the current one
    order: upload.order,
    modifiedMs: upload.startedMs,
    bytes,
    etag: `${etag.digest('hex')}-${parts.length}`,
    checksum,
    segments: parts.flatMap((part) => part.segments),
    parts: parts.map((part, index) => ({ number: index + 1, bytes: part.bytes, checksum: part.checksum })),
  };
  const done: CompletedUpload = {
    uploadId,
    bucket: request.bucket,
    key: request.key,
    versionId: version.versionId,
    etag: version.etag,
    checksum,
  };
  request.store.commit(
    { type: 'version', bucket: request.bucket, key: request.key, version },
    { type: 'upload-removed', bucket: request.bucket, uploadId },
    { type: 'upload-completed', completed: done },
  );
  return answerCompleted(request, done);
}

function answerCompleted(request: S3Request, completed: CompletedUpload): S3Answer {
  return {
    headers: { ...ENCRYPTED, ...versionHeader(request.store, request.bucket, completed.versionId) },
    document: renderXml('CompleteMultipartUploadResult', {
      Location: `http://${request.headers.get('host') ?? ''}/${request.bucket}/${encodeURIComponent(request.key)}`,
      Bucket: request.bucket,
      Key: request.key,
      ETag: `"${completed.etag}"`,
      ...checksumElements(completed.checksum),
    }),
  };
}

/** The stored parts that a Complete lists, after everything that it lists about them was checked. */
function listedParts(request: S3Request, upload: Upload, listed: readonly XmlNode[]): readonly Part[] {
  if (listed.length === 0 || listed.length > MAX_PARTS) throw new S3Error('MalformedXML');
  const numbers = listed.map((node) => Number(node.textOf('PartNumber') ?? Number.NaN));
  if (numbers.some((number) => !Number.isSafeInteger(number))) throw new S3Error('MalformedXML');
  if (numbers.some((number, index) => number <= (numbers[index - 1] ?? -Infinity)))
    throw new S3Error('InvalidPartOrder', { elements: { UploadId: upload.id } });
  if (request.settings.quirks.has('counts-parts') && upload.parts.size !== listed.length)
    throw new S3Error('InvalidPart');
  const forgets = request.settings.quirks.has('forgets-checksums');
  const parts = listed.map((node, index) => listedPart(upload, node, numbers[index] ?? 0, forgets));
  const small = parts.slice(0, -1).find((part) => part.bytes < request.settings.minPartBytes);
  if (small !== undefined) {
    const { number: PartNumber, etag: ETag, bytes: ProposedSize } = small;
    const elements = { ProposedSize, MinSizeAllowed: request.settings.minPartBytes, PartNumber, ETag };
    throw new S3Error('EntityTooSmall', { elements });
  }
  // https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html: with checksums, numbers have no gaps, or S3 answers 500
  if (upload.isDeclared && numbers.some((number, index) => number !== index + 1)) throw new S3Error('InternalError');
  return parts;
}

function listedPart(upload: Upload, node: XmlNode, number: number, forgetsChecksums: boolean): Part {
  node.allow('PartNumber', 'ETag', ...CHECKSUM_ALGORITHMS.map((algorithm) => `Checksum${algorithm}`));
  const algorithm = upload.algorithm.toLowerCase();
  const etag = node.textOf('ETag');
  if (etag === undefined) throw new S3Error('MalformedXML');
  const checksums = CHECKSUM_ALGORITHMS.filter((name) => node.one(`Checksum${name}`) !== undefined);
  if (upload.isDeclared && upload.checksumType === 'COMPOSITE' && checksums.length === 0)
    throw new S3Error(
      'InvalidRequest',
      `The upload was created using a ${algorithm} checksum. The complete request must include the checksum for each part. It was missing for part ${number} in the request.`,
    );
  const part = upload.parts.get(number);
  const isTrue =
    part?.etag === etag.replaceAll('"', '') &&
    (forgetsChecksums ||
      checksums.every((name) => name === upload.algorithm && node.textOf(`Checksum${name}`) === part.checksum));
  if (part !== undefined && isTrue) return part;
  throw new S3Error('InvalidPart', { elements: { UploadId: upload.id, PartNumber: number, ETag: etag } });
}

/** What the headers of a Complete say of the whole object. */
function checkClaims(request: S3Request, upload: Upload, checksum: Checksum, bytes: number): void {
  // a composite value may come with its number of parts, or without
  const claim = claimedChecksum(
    new Map([...request.headers].map(([name, value]) => [name, value.replace(/-\d+$/, '')])),
  );
  const type = request.headers.get('x-amz-checksum-type');
  if (upload.isDeclared && (type ?? (claim === undefined ? upload.checksumType : 'COMPOSITE')) !== upload.checksumType)
    throw new S3Error(
      'InvalidRequest',
      `The upload was created using the ${upload.checksumType} checksum mode. The complete request must use the same checksum mode.`,
    );
  if (
    claim !== undefined &&
    (claim.algorithm !== checksum.algorithm || claim.value !== checksum.value.replace(/-\d+$/, ''))
  )
    throw new S3Error(
      'BadDigest',
      `The ${claim.algorithm.toLowerCase()} you specified did not match the calculated checksum.`,
    );
  const size = request.headers.get('x-amz-mp-object-size');
  if (size !== undefined && Number(size) !== bytes)
    throw new S3Error(
      'InvalidRequest',
      `The provided 'x-amz-mp-object-size' header value ${size} does not match what was computed: ${bytes}`,
    );
  if (bytes > MAX_OBJECT_BYTES)
    throw new S3Error('EntityTooLarge', 'Your proposed upload exceeds the maximum allowed object size.');
}

/** For the list of uploads. */
export function uploadElements(request: S3Request, upload: Upload, key: string): XmlElements {
  return {
    Key: key,
    UploadId: upload.id,
    Initiator: ownerOf(request.settings),
    Owner: ownerOf(request.settings),
    StorageClass: upload.storageClass,
    Initiated: isoTime(upload.startedMs),
    ChecksumAlgorithm: upload.isDeclared ? upload.algorithm : undefined,
    ChecksumType: upload.isDeclared ? upload.checksumType : undefined,
  };
}
