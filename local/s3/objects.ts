import { claimedChecksum } from './body.ts';
import { CHECKSUM_ALGORITHMS, createHasher, type ChecksumAlgorithm } from './checksum.ts';
import { S3Error } from './error.ts';
import {
  checkVersionId,
  checkWriteCondition,
  countOf,
  createId,
  describe,
  ENCRYPTED,
  findObject,
  httpTime,
  isoTime,
  newVersionId,
  noSuchKey,
  parseTagging,
  preconditionFailed,
  readDocument,
  refuseArchived,
  requireProtection,
  sameEtag,
  storageClassOf,
  storeBody,
  versionHeader,
  type S3Answer,
  type S3Request,
} from './request.ts';
import type { DataReader } from './data.ts';
import type { Change, Checksum, Description, ObjectVersion, PartSummary, Version } from './store.ts';
import { renderXml, type XmlElements } from './xml.ts';

/** What S3 computes for itself when a client names no algorithm. */
export const DEFAULT_ALGORITHM = 'CRC64NVME';
/** Of the source of one CopyObject: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html */
const MAX_COPY_BYTES = 5 * 1024 ** 3;
const MAX_DELETES = 1000;

export async function putObject(request: S3Request): Promise<S3Answer> {
  const description = describe(request, Date.now());
  requireProtection(request, description);
  const algorithm = claimedChecksum(request.headers)?.algorithm ?? DEFAULT_ALGORITHM;
  return storeBody(request, [algorithm], (segments, { bytes, md5, checksums }) => {
    checkWriteCondition(request);
    const version: ObjectVersion = {
      ...description,
      kind: 'object',
      versionId: newVersionId(request.store, request.bucket),
      order: request.store.nextOrder(),
      modifiedMs: Date.now(),
      bytes,
      etag: md5,
      checksum: { algorithm, type: 'FULL_OBJECT', value: checksums.get(algorithm) ?? '' },
      segments,
    };
    request.store.commit({ type: 'version', bucket: request.bucket, key: request.key, version });
    return {
      headers: {
        ...ENCRYPTED,
        ...versionHeader(request.store, request.bucket, version.versionId),
        ...checksumHeaders(version.checksum),
        etag: `"${md5}"`,
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
  /** Of exactly these bytes, or of the whole object in its own way. */
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

export function deleteObject(request: S3Request): S3Answer {
  const versionId = request.query.get('versionId');
  const deletion = planDeletion(request, request.key, versionId, request.headers.get('if-match'));
  request.store.commit(...deletion.changes);
  return {
    status: 204,
    headers: {
      'x-amz-delete-marker': deletion.isMarker ? 'true' : undefined,
      'x-amz-version-id': deletion.versionId,
    },
  };
}

interface Deletion {
  readonly changes: readonly Change[];
  /** The version that was removed, or the marker that was added. */
  readonly versionId: string | undefined;
  readonly isMarker: boolean;
}

/** Without a version id nothing is lost in a bucket with versions: a delete marker goes on top. */
function planDeletion(
  request: S3Request,
  key: string,
  versionId: string | undefined,
  ifMatch: string | undefined,
): Deletion {
  const { bucket, store } = request;
  const { versioning } = store.bucket(bucket).settings;
  const versions = store.bucket(bucket).versions.get(key) ?? [];
  if (versionId !== undefined) checkVersionId(versionId);
  if (ifMatch !== undefined) checkDeleteCondition(key, versions[0], ifMatch);
  if (versionId !== undefined || versioning === undefined) {
    const id = versionId ?? 'null';
    const version = versions.find((candidate) => candidate.versionId === id);
    if (version?.kind === 'object') refuseLocked(request, version);
    return {
      changes: version === undefined ? [] : [{ type: 'version-removed', bucket, key, versionId: id }],
      versionId,
      isMarker: version?.kind === 'marker',
    };
  }
  const marker: Version = {
    kind: 'marker',
    versionId: versioning === 'Enabled' ? createId() : 'null',
    order: store.nextOrder(),
    modifiedMs: Date.now(),
  };
  const changes: Change[] = [{ type: 'version', bucket, key, version: marker }];
  return { changes, versionId: marker.versionId, isMarker: true };
}

function checkDeleteCondition(key: string, current: Version | undefined, ifMatch: string): void {
  if (current === undefined) throw noSuchKey(key);
  if (current.kind !== 'object' || (ifMatch !== '*' && !sameEtag(ifMatch, current.etag)))
    throw preconditionFailed('If-Match');
}

function refuseLocked(request: S3Request, version: ObjectVersion): void {
  const { retention } = version;
  const isRetained = retention !== undefined && retention.untilMs > Date.now();
  const mayBypass =
    retention?.mode === 'GOVERNANCE' &&
    request.headers.get('x-amz-bypass-governance-retention')?.toLowerCase() === 'true';
  if (version.legalHold || (isRetained && !mayBypass))
    throw new S3Error('AccessDenied', 'Access Denied because object protected by object lock.');
}

export async function deleteObjects(r: S3Request): Promise<S3Answer> {
  const request = await readDocument(r, 'Delete', { mustBeProtected: true });
  request.allow('Object', 'Quiet');
  const objects = request.all('Object');
  if (objects.length === 0 || objects.length > MAX_DELETES) throw new S3Error('MalformedXML');
  r.store.bucket(r.bucket);
  const deleted: XmlElements[] = [];
  const failed: XmlElements[] = [];
  for (const object of objects) {
    object.allow('Key', 'VersionId', 'ETag');
    const key = object.textOf('Key');
    const versionId = object.textOf('VersionId');
    if (key === undefined || key === '') throw new S3Error('MalformedXML');
    try {
      const deletion = planDeletion(r, key, versionId, object.textOf('ETag'));
      r.store.commit(...deletion.changes);
      deleted.push({
        Key: key,
        VersionId: versionId,
        DeleteMarker: deletion.isMarker ? true : undefined,
        DeleteMarkerVersionId: deletion.isMarker ? deletion.versionId : undefined,
      });
    } catch (error) {
      if (!(error instanceof S3Error)) throw error;
      failed.push({ Key: key, VersionId: versionId, Code: error.code, Message: error.message });
    }
  }
  const isQuiet = request.textOf('Quiet') === 'true';
  return { document: renderXml('DeleteResult', { Deleted: isQuiet ? [] : deleted, Error: failed }) };
}

/** The object that `x-amz-copy-source` names, once its conditions hold. */
export function copySource(request: S3Request): ObjectVersion & { readonly bucket: string; readonly key: string } {
  const header = request.headers.get('x-amz-copy-source') ?? '';
  const [path = '', query = ''] = header.split('?', 2);
  const [, bucket, key] = /^\/?([^/]+)\/(.+)$/s.exec(decodeSource(path)) ?? [];
  if (bucket === undefined || key === undefined) throw invalidSource();
  const versionId = new URLSearchParams(query).get('versionId') ?? undefined;
  if (query !== '' && versionId === undefined) throw invalidSource();
  const object = findObject(request.store, bucket, key, versionId);
  const ifMatch = request.headers.get('x-amz-copy-source-if-match');
  const ifNoneMatch = request.headers.get('x-amz-copy-source-if-none-match');
  const since = (name: string): number => Date.parse(request.headers.get(`x-amz-copy-source-if-${name}`) ?? '') / 1000;
  const modifiedSeconds = Math.floor(object.modifiedMs / 1000);
  if (ifMatch === undefined ? modifiedSeconds > since('unmodified-since') : !sameEtag(ifMatch, object.etag))
    throw preconditionFailed('x-amz-copy-source-If-Match');
  if (ifNoneMatch === undefined ? modifiedSeconds <= since('modified-since') : sameEtag(ifNoneMatch, object.etag))
    throw preconditionFailed('x-amz-copy-source-If-None-Match');
  refuseArchived(object);
  return { ...object, bucket, key };
}

function decodeSource(path: string): string {
  try {
    return decodeURIComponent(path.replaceAll('+', ' '));
  } catch {
    throw invalidSource();
  }
}

function invalidSource(): S3Error {
  return new S3Error('InvalidArgument', {
    message: 'Copy Source must mention the source bucket and key: sourcebucket/sourcekey',
    elements: { ArgumentName: 'x-amz-copy-source' },
  });
}

/** A copy shares the bytes of its source; they are read once, for their digests, as S3 gives a copy an ETag and checksum of its own. */
export async function copyObject(request: S3Request): Promise<S3Answer> {
  const source = copySource(request);
  const description = describeCopy(request, source);
  if (source.bytes > MAX_COPY_BYTES)
    throw new S3Error(
      'InvalidRequest',
      `The specified copy source is larger than the maximum allowable size for a copy source: ${MAX_COPY_BYTES}`,
    );
  const algorithm = copyAlgorithm(request.headers) ?? source.checksum?.algorithm ?? DEFAULT_ALGORITHM;
  using reader = request.store.read(source.segments, 0, source.bytes);
  const { md5, checksum } = await digest(reader, algorithm);
  checkWriteCondition(request);
  const version: ObjectVersion = {
    ...description,
    kind: 'object',
    versionId: newVersionId(request.store, request.bucket),
    order: request.store.nextOrder(),
    modifiedMs: Date.now(),
    bytes: source.bytes,
    etag: md5,
    checksum: { algorithm, type: 'FULL_OBJECT', value: checksum },
    segments: source.segments,
  };
  request.store.commit({ type: 'version', bucket: request.bucket, key: request.key, version });
  return {
    headers: {
      ...ENCRYPTED,
      ...versionHeader(request.store, request.bucket, version.versionId),
      'x-amz-copy-source-version-id': versionHeader(request.store, source.bucket, source.versionId)['x-amz-version-id'],
    },
    document: renderXml('CopyObjectResult', {
      ETag: `"${md5}"`,
      LastModified: isoTime(version.modifiedMs),
      ...checksumElements(version.checksum),
    }),
  };
}

/** By default metadata and tags come along; class, retention and hold never do. */
function describeCopy(
  request: S3Request,
  source: ObjectVersion & { readonly bucket: string; readonly key: string },
): Description {
  const asked = describe(request, Date.now());
  const replaces = (what: 'metadata' | 'tagging'): boolean => {
    const directive = request.headers.get(`x-amz-${what}-directive`) ?? 'COPY';
    if (directive === 'COPY' || directive === 'REPLACE') return directive === 'REPLACE';
    throw new S3Error('InvalidArgument', {
      message: `Unknown ${what} directive.`,
      elements: { ArgumentValue: directive },
    });
  };
  const replacesMetadata = replaces('metadata');
  const replacesTags = replaces('tagging');
  const isInPlace =
    source.bucket === request.bucket &&
    source.key === request.key &&
    !request.headers.get('x-amz-copy-source')?.includes('?');
  const isSame = !replacesMetadata && !replacesTags && storageClassOf(request.headers) === source.storageClass;
  if (isInPlace && isSame)
    throw new S3Error(
      'InvalidRequest',
      "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.",
    );
  return {
    ...asked,
    headers: replacesMetadata ? asked.headers : source.headers,
    tags: replacesTags ? parseTagging(request.headers.get('x-amz-tagging') ?? '') : source.tags,
  };
}

function copyAlgorithm(headers: ReadonlyMap<string, string>): ChecksumAlgorithm | undefined {
  const name = headers.get('x-amz-checksum-algorithm');
  return name === undefined ? undefined : parseAlgorithm(name);
}

export function parseAlgorithm(name: string): ChecksumAlgorithm {
  const algorithm = CHECKSUM_ALGORITHMS.find((known) => known === name.toUpperCase());
  if (algorithm !== undefined) return algorithm;
  throw new S3Error('NotImplemented', `Checksum algorithm ${name} is not implemented by this server.`);
}

/** MD5 (hex) and checksum (base64) of what is there already. */
export async function digest(
  reader: DataReader,
  algorithm: ChecksumAlgorithm,
): Promise<{ readonly md5: string; readonly checksum: string }> {
  const md5 = createHasher('MD5');
  const hasher = createHasher(algorithm);
  for await (const chunk of reader) {
    md5.update(chunk);
    hasher.update(chunk);
  }
  return { md5: md5.digest().toString('hex'), checksum: hasher.digest().toString('base64') };
}
