import { claimedChecksum } from './body.ts';
import { S3Error } from './error.ts';
import {
  checkWriteCondition,
  countOf,
  describe,
  ENCRYPTED,
  etagOf,
  findObject,
  httpTime,
  isoTime,
  newVersionId,
  preconditionFailed,
  refuseArchived,
  requireProtection,
  sameEtag,
  storeBody,
  versionHeader,
  type S3Answer,
  type S3Request,
} from './request.ts';
import type { Checksum, ObjectVersion, PartSummary } from './records.ts';
import { renderXml, type XmlElements } from './xml.ts';

/** What S3 computes for itself when a client names no algorithm. */
export const DEFAULT_ALGORITHM = 'CRC64NVME';

export async function putObject(request: S3Request): Promise<S3Answer> {
  const description = describe(request, Date.now());
  requireProtection(request, description);
  const algorithm = claimedChecksum(request.headers)?.algorithm ?? DEFAULT_ALGORITHM;
  return storeBody(request, [algorithm], (segments, { bytes, md5, checksums }) => {
    const etag = etagOf(request, md5);
    checkWriteCondition(request);
    const version: ObjectVersion = {
      ...description,
      kind: 'object',
      versionId: newVersionId(request.store, request.bucket),
      order: request.store.nextOrder(),
      modifiedMs: Date.now(),
      bytes,
      etag,
      checksum: { algorithm, type: 'FULL_OBJECT', value: checksums.get(algorithm) ?? '' },
      segments,
    };
    request.store.commit({ type: 'version', bucket: request.bucket, key: request.key, version });
    return {
      headers: {
        ...ENCRYPTED,
        ...versionHeader(request.store, request.bucket, version.versionId),
        ...checksumHeaders(version.checksum),
        etag: `"${etag}"`,
      },
    };
  });
}

function checksumHeaders(checksum: Checksum | undefined): Record<string, string> {
  if (checksum === undefined) return {};
  return {
    [`x-amz-checksum-${checksum.algorithm.toLowerCase()}`]: checksum.value,
    'x-amz-checksum-type': checksum.type,
  };
}

export function checksumElements(checksum: Checksum | undefined): XmlElements {
  if (checksum === undefined) return {};
  return { [`Checksum${checksum.algorithm}`]: checksum.value, ChecksumType: checksum.type };
}

export function getObject(request: S3Request): S3Answer {
  const object = findObject(request.store, request.bucket, request.key, request.query.get('versionId'));
  checkReadCondition(request, object);
  refuseArchived(object);
  const { offset, bytes, ...answer } = describeRead(request, object);
  return { ...answer, content: request.store.read(object.segments, offset, bytes) };
}

export function headObject(request: S3Request): S3Answer {
  const object = findObject(request.store, request.bucket, request.key, request.query.get('versionId'));
  checkReadCondition(request, object);
  const { status, headers } = describeRead(request, object);
  return { status, headers };
}

interface Read {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | number | undefined>>;
  readonly offset: number;
  readonly bytes: number;
}

const OVERRIDES = {
  'response-cache-control': 'cache-control',
  'response-content-disposition': 'content-disposition',
  'response-content-encoding': 'content-encoding',
  'response-content-language': 'content-language',
  'response-content-type': 'content-type',
  'response-expires': 'expires',
} as const;

function describeRead(request: S3Request, object: ObjectVersion): Read {
  const extent = chosenExtent(request, object);
  const tags = Object.keys(object.tags).length;
  const overrides = Object.entries(OVERRIDES).map(
    ([parameter, header]) => [header, request.query.get(parameter)] as const,
  );
  return {
    status: extent.isPartial ? 206 : 200,
    offset: extent.offset,
    bytes: extent.bytes,
    headers: {
      ...ENCRYPTED,
      ...object.headers,
      ...Object.fromEntries(overrides.filter(([, value]) => value !== undefined)),
      ...versionHeader(request.store, request.bucket, object.versionId),
      ...(request.headers.get('x-amz-checksum-mode') === 'ENABLED' ? checksumHeaders(extent.checksum) : {}),
      etag: `"${object.etag}"`,
      'last-modified': httpTime(object.modifiedMs),
      'accept-ranges': 'bytes',
      'content-length': extent.bytes,
      'content-range': extent.isPartial
        ? `bytes ${extent.offset}-${extent.offset + extent.bytes - 1}/${object.bytes}`
        : undefined,
      'x-amz-storage-class': object.storageClass === 'STANDARD' ? undefined : object.storageClass,
      'x-amz-tagging-count': tags === 0 ? undefined : tags,
      'x-amz-mp-parts-count': extent.partsCount,
      'x-amz-object-lock-mode': object.retention?.mode,
      'x-amz-object-lock-retain-until-date':
        object.retention === undefined ? undefined : isoTime(object.retention.untilMs),
      'x-amz-object-lock-legal-hold': object.legalHold ? 'ON' : undefined,
    },
  };
}

interface Extent {
  readonly offset: number;
  readonly bytes: number;
  readonly isPartial: boolean;
  /** The checksum of exactly these bytes, or of the whole object in its own way. */
  readonly checksum?: Checksum | undefined;
  readonly partsCount?: number | undefined;
}

/** The bytes that `partNumber` or `Range` choose. */
function chosenExtent(request: S3Request, object: ObjectVersion): Extent {
  const range = request.headers.get('range');
  const partNumber = request.query.get('partNumber');
  if (partNumber !== undefined) {
    if (range !== undefined)
      throw new S3Error('InvalidRequest', 'Cannot specify both Range header and partNumber query parameter');
    return extentOfPart(object, parsePartNumber(partNumber));
  }
  const chosen = range === undefined ? undefined : parseRange(range, object.bytes);
  if (chosen !== undefined) return { ...chosen, isPartial: true };
  return { offset: 0, bytes: object.bytes, isPartial: false, checksum: object.checksum };
}

function extentOfPart(object: ObjectVersion, number: number): Extent {
  const parts: readonly PartSummary[] = object.parts ?? [{ number: 1, bytes: object.bytes }];
  const part = parts[number - 1];
  if (part === undefined)
    throw new S3Error('InvalidPartNumber', {
      elements: { ActualPartCount: parts.length, PartNumberRequested: number },
    });
  const offset = parts.slice(0, number - 1).reduce((sum, before) => sum + before.bytes, 0);
  return {
    offset,
    bytes: part.bytes,
    isPartial: part.bytes > 0,
    checksum:
      parts.length === 1 && object.checksum?.type === 'FULL_OBJECT' ? object.checksum : checksumOfPart(object, part),
    partsCount: object.parts?.length,
  };
}

/** S3 keeps the checksums of parts only where the object's is made from them. */
function checksumOfPart(object: ObjectVersion, part: PartSummary): Checksum | undefined {
  if (object.checksum?.type !== 'COMPOSITE' || part.checksum === undefined) return undefined;
  return { ...object.checksum, value: part.checksum };
}

export function parsePartNumber(text: string): number {
  const number = Number(text);
  if (/^\d{1,5}$/.test(text) && number >= 1 && number <= 10_000) return number;
  throw new S3Error('InvalidArgument', {
    message: 'Part number must be an integer between 1 and 10000, inclusive',
    elements: { ArgumentName: 'partNumber', ArgumentValue: text },
  });
}

/** One range; `undefined` for what is not a range of bytes, which HTTP reads over. */
function parseRange(range: string, size: number): { offset: number; bytes: number } | undefined {
  if (range.includes(','))
    throw new S3Error('NotImplemented', {
      elements: { Header: 'Range' },
    });
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(range.trim());
  const [, first = '', last = ''] = match ?? [];
  if (match === null || (first === '' && last === '') || (first !== '' && last !== '' && Number(last) < Number(first)))
    return undefined;
  const offset = first === '' ? Math.max(0, size - Number(last)) : Number(first);
  const end = first === '' || last === '' ? size : Math.min(size, Number(last) + 1);
  if (offset >= size || (first === '' && Number(last) === 0))
    throw new S3Error('InvalidRange', {
      elements: { RangeRequested: range, ActualObjectSize: size },
      headers: { 'content-range': `bytes */${size}` },
    });
  return { offset, bytes: end - offset };
}

/** RFC 9110 §13.2.2: the conditions on the entity tag outrank those on the time. */
function checkReadCondition(request: S3Request, object: ObjectVersion): void {
  const matches = (list: string): boolean =>
    list.split(',').some((tag) => tag.trim() === '*' || sameEtag(tag, object.etag));
  const ifMatch = request.headers.get('if-match');
  const ifNoneMatch = request.headers.get('if-none-match');
  const since = (name: string): number => Date.parse(request.headers.get(name) ?? '');
  const modifiedSeconds = Math.floor(object.modifiedMs / 1000);
  if (ifMatch === undefined) {
    if (modifiedSeconds > since('if-unmodified-since') / 1000) throw preconditionFailed('If-Unmodified-Since');
  } else if (!matches(ifMatch)) throw preconditionFailed('If-Match');
  const isUnchanged =
    ifNoneMatch === undefined ? modifiedSeconds <= since('if-modified-since') / 1000 : matches(ifNoneMatch);
  if (isUnchanged)
    throw new S3Error('NotModified', {
      headers: { etag: `"${object.etag}"`, 'last-modified': httpTime(object.modifiedMs) },
    });
}

export function getObjectAttributes(request: S3Request): S3Answer {
  const object = findObject(request.store, request.bucket, request.key, request.query.get('versionId'));
  const known = new Set(['ETag', 'Checksum', 'ObjectParts', 'StorageClass', 'ObjectSize']);
  const asked = (request.headers.get('x-amz-object-attributes') ?? '').split(',').map((name) => name.trim());
  if (asked.some((name) => !known.has(name)))
    throw new S3Error('InvalidArgument', {
      message: 'Invalid attribute name specified.',
      elements: { ArgumentName: 'x-amz-object-attributes' },
    });
  const { checksum } = object;
  const parts = asked.includes('ObjectParts') && object.parts !== undefined ? object.parts : undefined;
  return {
    headers: {
      ...versionHeader(request.store, request.bucket, object.versionId),
      'last-modified': httpTime(object.modifiedMs),
    },
    document: renderXml('GetObjectAttributesResponse', {
      ETag: asked.includes('ETag') ? object.etag : undefined,
      Checksum: asked.includes('Checksum')
        ? checksumElements(checksum && { ...checksum, value: checksum.value.replace(/-\d+$/, '') })
        : undefined,
      ObjectParts: parts && attributesOfParts(request, object, parts),
      StorageClass: asked.includes('StorageClass') ? object.storageClass : undefined,
      ObjectSize: asked.includes('ObjectSize') ? object.bytes : undefined,
    }),
  };
}

function attributesOfParts(request: S3Request, object: ObjectVersion, parts: readonly PartSummary[]): XmlElements {
  if (object.checksum?.type !== 'COMPOSITE') return { PartsCount: parts.length };
  const marker = Number(request.headers.get('x-amz-part-number-marker') ?? 0);
  const most = countOf(request, 'max-parts');
  const after = parts.filter((part) => part.number > marker);
  const page = after.slice(0, most);
  return {
    PartsCount: parts.length,
    PartNumberMarker: marker,
    NextPartNumberMarker: page.at(-1)?.number ?? 0,
    MaxParts: most,
    IsTruncated: after.length > page.length,
    Part: page.map((part) => {
      const checksum = checksumOfPart(object, part);
      return {
        [`Checksum${checksum?.algorithm ?? ''}`]: checksum?.value,
        PartNumber: part.number,
        Size: part.bytes,
      };
    }),
  };
}
