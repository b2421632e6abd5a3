import { createHash, randomBytes } from 'node:crypto';
import { claimedChecksum, receive, receiveDocument, type Digests, type IncomingBody } from './body.ts';
import type { ChecksumAlgorithm } from './checksum.ts';
import { S3Error } from './error.ts';
import type { DataReader, Segment } from './data.ts';
import type { Description, ObjectVersion, Retention, Version } from './records.ts';
import type { S3Quirks } from './quirks.ts';
import type { S3Store } from './store.ts';
import { parseXml, type XmlNode } from './xml.ts';

export interface S3Settings {
  readonly region: string;
  readonly accountId: string;
  /** The least size of every part but the last, and of the source of a ranged copy. */
  readonly minPartBytes: number;
  readonly quirks: S3Quirks;
  /** Prefixes of keys that cannot be deleted. */
  readonly undeletable: readonly string[];
  readonly kmsKeys: ReadonlySet<string>;
}

/** One authenticated request to one operation. */
export interface S3Request {
  /** Empty for operations on the service. */
  readonly bucket: string;
  /** Empty for operations on a bucket. */
  readonly key: string;
  readonly query: ReadonlyMap<string, string>;
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: IncomingBody;
  readonly store: S3Store;
  readonly settings: S3Settings;
}

export interface S3Answer {
  /** Default 200. */
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string | number | undefined>>;
  readonly document?: string;
  /** The body, disposed of by the code that sends it. */
  readonly content?: DataReader;
}

/** Every object of this server is encrypted with S3's own keys, as every new one of AWS is. */
export const ENCRYPTED = { 'x-amz-server-side-encryption': 'AES256' } as const;

const STORAGE_CLASSES = new Set([
  'STANDARD',
  'REDUCED_REDUNDANCY',
  'STANDARD_IA',
  'ONEZONE_IA',
  'INTELLIGENT_TIERING',
  'GLACIER_IR',
  'GLACIER',
  'DEEP_ARCHIVE',
]);
const ARCHIVED = new Set(['GLACIER', 'DEEP_ARCHIVE']);
const KEPT_HEADERS = new Set([
  'cache-control',
  'content-disposition',
  'content-encoding',
  'content-language',
  'content-type',
  'expires',
]);
/** https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html */
const MAX_METADATA_BYTES = 2048;
const MAX_TAGS = 10;
const DAY_MS = 86_400_000;

/** An unguessable id in the form of a version's or an upload's. */
export function createId(): string {
  return randomBytes(24).toString('base64url');
}

/** In whole seconds, as S3 keeps its times. */
export function isoTime(ms: number): string {
  return new Date(Math.floor(ms / 1000) * 1000).toISOString();
}

export function httpTime(ms: number): string {
  return new Date(ms).toUTCString();
}

/** The document a request carries. Requests that must protect it and do not are refused. */
export async function readDocument(
  request: S3Request,
  root: string,
  options: { mustBeProtected?: boolean } = {},
): Promise<XmlNode> {
  if (
    options.mustBeProtected === true &&
    claimedChecksum(request.headers) === undefined &&
    !request.headers.has('content-md5')
  )
    throw new S3Error('InvalidRequest', 'Missing required header for this request: Content-MD5 OR x-amz-checksum-*');
  return parseXml(await receiveDocument(request.body), root);
}

/** Stores the content of the request as a data file, and hands it to `keep`, which commits it. Unless that succeeds the file goes again. */
export async function storeBody<T>(
  request: S3Request,
  wanted: readonly ChecksumAlgorithm[],
  keep: (segments: readonly Segment[], digests: Digests) => T,
): Promise<T> {
  const writer = await request.store.create();
  try {
    const digests = await receive(request.body, writer, wanted);
    const segment = await writer.finish();
    if (segment.bytes === 0) await writer.discard();
    return keep(segment.bytes === 0 ? [] : [segment], digests);
  } catch (error) {
    await writer.discard();
    throw error;
  }
}

/** What the headers of a request that begins an object say about it. */
export function describe(request: S3Request, nowMs: number): Description {
  refuseAccessLists(request);
  checkEncryption(request);
  return {
    headers: describedHeaders(request.headers),
    storageClass: storageClassOf(request.headers),
    tags: parseTagging(request.headers.get('x-amz-tagging') ?? ''),
    retention: retentionOf(request, nowMs),
    legalHold: legalHoldOf(request),
  };
}

function checkEncryption({ headers, settings }: S3Request): void {
  const encryption = headers.get('x-amz-server-side-encryption') ?? 'AES256';
  const key = headers.get('x-amz-server-side-encryption-aws-kms-key-id');
  if (encryption === 'AES256') return;
  if (encryption !== 'aws:kms' || key === undefined)
    throw new S3Error('NotImplemented', `Encryption ${encryption} is not implemented by this server.`);
  if (!settings.kmsKeys.has(key)) throw new S3Error('KMS.NotFoundException', `Invalid keyId '${key}'`);
}

function describedHeaders(headers: ReadonlyMap<string, string>): Readonly<Record<string, string>> {
  const kept: Record<string, string> = { 'content-type': 'binary/octet-stream' };
  let metadataBytes = 0;
  for (const [name, value] of headers) {
    if (name.startsWith('x-amz-meta-')) metadataBytes += name.length - 'x-amz-meta-'.length + value.length;
    else if (!KEPT_HEADERS.has(name)) continue;
    kept[name] = value;
  }
  if (metadataBytes > MAX_METADATA_BYTES)
    throw new S3Error('MetadataTooLarge', { elements: { Size: metadataBytes, MaxSizeAllowed: MAX_METADATA_BYTES } });
  const encoding = (kept['content-encoding'] ?? '').split(',').map((coding) => coding.trim());
  const lasting = encoding.filter((coding) => coding !== '' && coding !== 'aws-chunked');
  if (lasting.length > 0) kept['content-encoding'] = lasting.join(',');
  else delete kept['content-encoding'];
  return kept;
}

export function storageClassOf(headers: ReadonlyMap<string, string>): string {
  const name = headers.get('x-amz-storage-class') ?? 'STANDARD';
  if (STORAGE_CLASSES.has(name)) return name;
  throw new S3Error('InvalidStorageClass');
}

/** Buckets made today have access lists switched off. */
export function refuseAccessLists(request: S3Request): void {
  const allowed = request.key === '' ? 'private' : 'bucket-owner-full-control';
  if ((request.headers.get('x-amz-acl') ?? allowed) !== allowed) throw new S3Error('AccessControlListNotSupported');
}

/** Tags in the form of a query. */
export function parseTagging(query: string): Readonly<Record<string, string>> {
  return checkTags([...new URLSearchParams(query)]);
}

/** https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html */
export function checkTags(pairs: readonly (readonly [string, string])[]): Readonly<Record<string, string>> {
  const tags = Object.fromEntries(pairs);
  if (Object.keys(tags).length !== pairs.length)
    throw new S3Error('InvalidTag', 'Cannot provide multiple Tags with the same key');
  if (pairs.length > MAX_TAGS) throw new S3Error('InvalidTag', `Object tags cannot be greater than ${MAX_TAGS}`);
  for (const [name, value] of pairs) {
    if (name.length < 1 || name.length > 128)
      throw new S3Error('InvalidTag', 'The TagKey you have provided is invalid');
    if (value.length > 256) throw new S3Error('InvalidTag', 'The TagValue you have provided is invalid');
  }
  return tags;
}

/** The retention that the request asks for, or else the bucket's own for new objects. */
function retentionOf(request: S3Request, nowMs: number): Retention | undefined {
  const mode = request.headers.get('x-amz-object-lock-mode');
  const until = request.headers.get('x-amz-object-lock-retain-until-date');
  if (mode === undefined && until === undefined) {
    const standard = request.store.bucket(request.bucket).settings.defaultRetention;
    if (standard === undefined) return undefined;
    const days = standard.days ?? (standard.years ?? 0) * 365;
    return { mode: standard.mode, untilMs: nowMs + days * DAY_MS };
  }
  if (mode === undefined || until === undefined)
    throw new S3Error(
      'InvalidArgument',
      'x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied',
    );
  requireObjectLock(request);
  return parseRetention(mode, until, nowMs);
}

export function parseRetention(mode: string, until: string, nowMs: number): Retention {
  if (mode !== 'GOVERNANCE' && mode !== 'COMPLIANCE')
    throw new S3Error('InvalidArgument', { message: 'Unknown wormMode directive.', elements: { ArgumentValue: mode } });
  const untilMs = Date.parse(until);
  if (!(untilMs > nowMs)) throw new S3Error('InvalidArgument', 'The retain until date must be in the future!');
  return { mode, untilMs };
}

function legalHoldOf(request: S3Request): boolean {
  const hold = request.headers.get('x-amz-object-lock-legal-hold');
  if (hold === undefined) return false;
  requireObjectLock(request);
  if (hold === 'ON' || hold === 'OFF') return hold === 'ON';
  throw new S3Error('InvalidArgument', 'Legal Hold must be either of "ON" or "OFF"');
}

export function requireObjectLock(request: S3Request): void {
  if (!request.store.bucket(request.bucket).settings.hasObjectLock)
    throw new S3Error('InvalidRequest', 'Bucket is missing Object Lock Configuration');
}

/** https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html: objects under a lock must not be damaged on the way. */
export function requireProtection(request: S3Request, description: Pick<Description, 'retention' | 'legalHold'>): void {
  if (description.retention === undefined && !description.legalHold) return;
  if (request.headers.has('content-md5') || claimedChecksum(request.headers) !== undefined) return;
  throw new S3Error(
    'InvalidRequest',
    'Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters',
  );
}

/** Throws 412 or 404 unless the object may become the current version. Right before the commit, with no await in between. */
export function checkWriteCondition(request: S3Request): void {
  const ifNoneMatch = request.headers.get('if-none-match');
  const ifMatch = request.headers.get('if-match');
  if (ifNoneMatch === undefined && ifMatch === undefined) return;
  if ((ifNoneMatch ?? '*') !== '*' || ifMatch === '*' || (ifNoneMatch !== undefined && ifMatch !== undefined))
    throw new S3Error('NotImplemented', {
      elements: { Header: ifNoneMatch === undefined ? 'If-Match' : 'If-None-Match' },
    });
  const current = request.store.current(request.bucket, request.key);
  if (ifMatch === undefined) {
    if (current?.kind === 'object') throw preconditionFailed('If-None-Match');
    return;
  }
  if (current?.kind !== 'object') throw noSuchKey(request.key);
  if (!sameEtag(ifMatch, current.etag)) throw preconditionFailed('If-Match');
}

export function preconditionFailed(condition: string): S3Error {
  return new S3Error('PreconditionFailed', { elements: { Condition: condition } });
}

/** The ETag of what has this MD5. */
export function etagOf({ settings }: S3Request, md5: string): string {
  return settings.quirks.has('opaque-etags') ? createHash('md5').update(md5).digest('hex') : md5;
}

export function sameEtag(given: string, etag: string): boolean {
  return given.trim().replaceAll('"', '') === etag;
}

export function noSuchKey(key: string, headers: Readonly<Record<string, string>> = {}): S3Error {
  return new S3Error('NoSuchKey', { elements: { Key: key }, headers });
}

/** The version that a request names, or the current one. */
function findVersion(store: S3Store, bucket: string, key: string, versionId: string | undefined): Version {
  const versions = store.bucket(bucket).versions.get(key) ?? [];
  if (versionId === undefined) {
    const [current] = versions;
    if (current !== undefined) return current;
    throw noSuchKey(key);
  }
  checkVersionId(versionId);
  const version = versions.find((candidate) => candidate.versionId === versionId);
  if (version !== undefined) return version;
  throw new S3Error('NoSuchVersion', { elements: { Key: key, VersionId: versionId } });
}

/** Throws unless it has the form that this server gives its ids. */
export function checkVersionId(versionId: string): void {
  if (versionId === 'null' || /^[\w-]{32}$/.test(versionId)) return;
  throw new S3Error('InvalidArgument', {
    message: 'Invalid version id specified',
    elements: { ArgumentName: 'versionId', ArgumentValue: versionId },
  });
}

/** As `findVersion`, but a delete marker is an absent object: 404 as the current version, 405 when it was named. */
export function findObject(store: S3Store, bucket: string, key: string, versionId: string | undefined): ObjectVersion {
  const version = findVersion(store, bucket, key, versionId);
  if (version.kind === 'object') return version;
  const headers = { 'x-amz-delete-marker': 'true', 'x-amz-version-id': version.versionId };
  if (versionId === undefined) throw noSuchKey(key, headers);
  throw new S3Error('MethodNotAllowed', {
    elements: { Method: 'GET', ResourceType: 'DeleteMarker' },
    headers: { ...headers, allow: 'DELETE', 'last-modified': httpTime(version.modifiedMs) },
  });
}

/** Archived objects have to be restored before they are read, which this server cannot do. */
export function refuseArchived(object: ObjectVersion): void {
  if (ARCHIVED.has(object.storageClass))
    throw new S3Error('InvalidObjectState', { elements: { StorageClass: object.storageClass } });
}

/** The version id as a header, where the bucket has, or once had, versions. */
export function versionHeader(store: S3Store, bucket: string, versionId: string): Record<string, string | undefined> {
  return { 'x-amz-version-id': store.bucket(bucket).settings.versioning === undefined ? undefined : versionId };
}

/** The id that a new version in the bucket gets. */
export function newVersionId(store: S3Store, bucket: string): string {
  return store.bucket(bucket).settings.versioning === 'Enabled' ? createId() : 'null';
}

/** A count in a query, with S3's default and bounds. */
export function countOf(request: S3Request, name: string, most = 1000): number {
  const text = request.query.get(name) ?? request.headers.get(`x-amz-${name}`);
  if (text === undefined) return most;
  if (/^\d{1,10}$/.test(text) && Number(text) <= 2_147_483_647) return Math.min(Number(text), most);
  throw new S3Error('InvalidArgument', {
    message: `Provided ${name} not an integer or within integer range`,
    elements: { ArgumentName: name, ArgumentValue: text },
  });
}

/** The owner of every bucket and object. */
export function ownerOf(settings: S3Settings): { readonly ID: string; readonly DisplayName: string } {
  return { ID: createHash('sha256').update(settings.accountId).digest('hex'), DisplayName: settings.accountId };
}
