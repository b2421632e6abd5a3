import { S3Error } from './error.ts';
import { countOf, isoTime, ownerOf, type S3Answer, type S3Request } from './request.ts';
import { encodeStrictly } from './signature.ts';
import { compareKeys, firstAfter } from './keys.ts';
import type { Bucket, ObjectVersion, Upload, Version } from './records.ts';
import { uploadElements } from './uploads.ts';
import { renderXml, type XmlElements } from './xml.ts';

interface Listed {
  readonly key: string;
}

interface Page<T extends Listed> {
  readonly items: readonly T[];
  readonly prefixes: readonly string[];
  readonly isTruncated: boolean;
  /** The last item or common prefix of the page. */
  readonly last: T | string | undefined;
}

/** What all lists share: entries in the order of keys, rolled up to common prefixes, a page at a time. */
function pageOf<T extends Listed>(request: S3Request, entries: Iterable<T>, after: string, most: number): Page<T> {
  const prefix = request.query.get('prefix') ?? '';
  const delimiter = request.query.get('delimiter') ?? '';
  const items: T[] = [];
  const prefixes: string[] = [];
  let last: T | string | undefined;
  for (const entry of entries) {
    if (!entry.key.startsWith(prefix)) {
      if (compareKeys(entry.key, prefix) > 0) break;
      continue;
    }
    const end = delimiter === '' ? -1 : entry.key.indexOf(delimiter, prefix.length);
    const group = end < 0 ? undefined : entry.key.slice(0, end + delimiter.length);
    // a group that the page before ended with, or passed
    if (group !== undefined && (group === prefixes.at(-1) || compareKeys(group, after) <= 0)) continue;
    if (items.length + prefixes.length >= most) return { items, prefixes, isTruncated: most > 0, last };
    if (group === undefined) items.push(entry);
    else prefixes.push(group);
    last = group ?? entry;
  }
  return { items, prefixes, isTruncated: false, last };
}

/** What the answers of all lists begin with, and how they write keys. */
function commonElements(
  request: S3Request,
  page: Page<Listed>,
): { elements: XmlElements; write: (key: string) => string } {
  const encoding = request.query.get('encoding-type');
  if (encoding !== undefined && encoding !== 'url')
    throw new S3Error('InvalidArgument', {
      message: 'Invalid Encoding Method specified in Request',
      elements: { ArgumentName: 'encoding-type', ArgumentValue: encoding },
    });
  const encodes = encoding === 'url' && !request.settings.quirks.has('lists-raw-keys');
  const write = (key: string): string => (encodes ? encodeStrictly(key).replaceAll('%2F', '/') : key);
  const delimiter = request.query.get('delimiter');
  const elements = {
    Prefix: write(request.query.get('prefix') ?? ''),
    Delimiter: delimiter === undefined ? undefined : write(delimiter),
    EncodingType: encodes ? encoding : undefined,
    IsTruncated: page.isTruncated,
    CommonPrefixes: page.prefixes.map((prefix) => ({ Prefix: write(prefix) })),
  };
  return { elements, write };
}

function keyOf(entry: Listed | string | undefined): string {
  return typeof entry === 'object' ? entry.key : (entry ?? '');
}

export function listObjectsV2(request: S3Request): S3Answer {
  if (request.query.get('list-type') !== '2')
    throw new S3Error('InvalidArgument', 'Invalid List Type specified in Request');
  const bucket = request.store.bucket(request.bucket);
  const token = request.query.get('continuation-token');
  const startAfter = request.query.get('start-after');
  const after = token === undefined ? (startAfter ?? '') : decodeToken(token);
  const most = countOf(request, 'max-keys');
  const page = pageOf(request, currentObjects(bucket, after, request.query.get('prefix') ?? ''), after, most);
  const { elements, write } = commonElements(request, page);
  return {
    document: renderXml('ListBucketResult', {
      Name: request.bucket,
      ...elements,
      MaxKeys: most,
      KeyCount: page.items.length + page.prefixes.length,
      ContinuationToken: token,
      NextContinuationToken:
        page.isTruncated && !request.settings.quirks.has('loses-tokens') ? encodeToken(keyOf(page.last)) : undefined,
      StartAfter: startAfter === undefined ? undefined : write(startAfter),
      Contents: page.items.map(({ key, object }) => ({
        Key: write(key),
        LastModified: isoTime(object.modifiedMs),
        ETag: `"${object.etag}"`,
        ChecksumAlgorithm: object.checksum?.algorithm,
        ChecksumType: object.checksum?.type,
        Size: object.bytes,
        Owner: request.query.get('fetch-owner') === 'true' ? ownerOf(request.settings) : undefined,
        StorageClass: object.storageClass,
      })),
    }),
  };
}

function* keysFrom(bucket: Bucket, after: string, prefix: string): Generator<string> {
  const start = compareKeys(after, prefix) >= 0 ? firstAfter(bucket.keys, after) : firstNotBefore(bucket.keys, prefix);
  for (let index = start; index < bucket.keys.length; index++) yield bucket.keys[index] ?? '';
}

function firstNotBefore(keys: readonly string[], key: string): number {
  const after = firstAfter(keys, key);
  return keys[after - 1] === key ? after - 1 : after;
}

function* currentObjects(bucket: Bucket, after: string, prefix: string): Generator<Listed & { object: ObjectVersion }> {
  for (const key of keysFrom(bucket, after, prefix)) {
    const object = bucket.versions.get(key)?.[0];
    if (object?.kind === 'object') yield { key, object };
  }
}

/** Opaque to clients. */
function encodeToken(after: string): string {
  return `1${Buffer.from(after).toString('base64url')}`;
}

function decodeToken(token: string): string {
  const key = Buffer.from(token.slice(1), 'base64url').toString();
  if (token === encodeToken(key)) return key;
  throw new S3Error('InvalidArgument', {
    message: 'The continuation token provided is incorrect',
    elements: { ArgumentName: 'continuation-token' },
  });
}

export function listObjectVersions(request: S3Request): S3Answer {
  const bucket = request.store.bucket(request.bucket);
  if (request.settings.quirks.has('misses-uploads') && bucket.uploads.size === 0) throw new S3Error('NoSuchUpload');
  const keyMarker = request.query.get('key-marker') ?? '';
  const idMarker = request.query.get('version-id-marker') ?? '';
  if (idMarker !== '' && keyMarker === '')
    throw new S3Error('InvalidArgument', {
      message: 'A version-id marker cannot be specified without a key marker.',
      elements: { ArgumentName: 'version-id-marker', ArgumentValue: idMarker },
    });
  const most = countOf(request, 'max-keys');
  const entries = allVersions(bucket, keyMarker, idMarker, request.query.get('prefix') ?? '');
  const page = pageOf(request, entries, idMarker === '' ? keyMarker : '', most);
  const { elements, write } = commonElements(request, page);
  const render = ({ key, version, isLatest }: ListedVersion): XmlElements => ({
    Key: write(key),
    VersionId: version.versionId,
    IsLatest: isLatest,
    LastModified: isoTime(version.modifiedMs),
    Owner: ownerOf(request.settings),
    ...(version.kind === 'object' && {
      ETag: `"${version.etag}"`,
      ChecksumAlgorithm: version.checksum?.algorithm,
      ChecksumType: version.checksum?.type,
      Size: version.bytes,
      StorageClass: version.storageClass,
    }),
  });
  const last = page.isTruncated ? page.last : undefined;
  const head = {
    Name: request.bucket,
    ...elements,
    KeyMarker: write(keyMarker),
    VersionIdMarker: idMarker,
    NextKeyMarker: last === undefined ? undefined : write(keyOf(last)),
    NextVersionIdMarker: typeof last === 'object' ? last.version.versionId : undefined,
    MaxKeys: most,
  };
  const items = page.items.map((item) =>
    item.version.kind === 'object' ? { Version: render(item) } : { DeleteMarker: render(item) },
  );
  return { document: renderXml('ListVersionsResult', head, ...items) };
}

interface ListedVersion extends Listed {
  readonly version: Version;
  readonly isLatest: boolean;
}

/** After the given version of the key `after`, or after all of them when no id is given. */
function* allVersions(bucket: Bucket, after: string, afterId: string, prefix: string): Generator<ListedVersion> {
  const of = (key: string): ListedVersion[] =>
    (bucket.versions.get(key) ?? []).map((version, index) => ({ key, version, isLatest: index === 0 }));
  if (afterId !== '') {
    const versions = of(after);
    const offset = versions.findIndex(({ version }) => version.versionId === afterId);
    if (offset < 0) throw new S3Error('InvalidArgument', 'Invalid version id specified');
    yield* versions.slice(offset + 1);
  }
  for (const key of keysFrom(bucket, after, prefix)) yield* of(key);
}

export function listMultipartUploads(request: S3Request): S3Answer {
  const bucket = request.store.bucket(request.bucket);
  const keyMarker = request.query.get('key-marker') ?? '';
  const idMarker = keyMarker === '' ? '' : (request.query.get('upload-id-marker') ?? '');
  const most = countOf(request, 'max-uploads');
  const sorted = [...bucket.uploads.values()].sort((a, b) => compareKeys(a.key, b.key) || a.order - b.order);
  const marked = idMarker === '' ? undefined : bucket.uploads.get(idMarker);
  const isAfter = (upload: Upload): boolean => {
    const order = compareKeys(upload.key, keyMarker);
    return order > 0 || (order === 0 && marked !== undefined && upload.order > marked.order) || keyMarker === '';
  };
  const page = pageOf(request, sorted.filter(isAfter), idMarker === '' ? keyMarker : '', most);
  const { elements, write } = commonElements(request, page);
  return {
    document: renderXml('ListMultipartUploadsResult', {
      Bucket: request.bucket,
      ...elements,
      KeyMarker: write(keyMarker),
      UploadIdMarker: idMarker,
      NextKeyMarker: page.isTruncated ? write(keyOf(page.last)) : undefined,
      NextUploadIdMarker: page.isTruncated && typeof page.last === 'object' ? page.last.id : undefined,
      MaxUploads: most,
      Upload: page.items.map((upload) => uploadElements(request, upload, write(upload.key))),
    }),
  };
}
