import { CHECKSUM_ALGORITHMS, createHasher, type ChecksumAlgorithm } from './checksum.ts';
import type { DataReader } from './data.ts';
import { S3Error } from './error.ts';
import { checksumElements, DEFAULT_ALGORITHM } from './objects.ts';
import {
  checkWriteCondition,
  describe,
  ENCRYPTED,
  findObject,
  isoTime,
  newVersionId,
  parseTagging,
  preconditionFailed,
  refuseArchived,
  sameEtag,
  storageClassOf,
  versionHeader,
  type S3Answer,
  type S3Request,
} from './request.ts';
import type { Description, ObjectVersion } from './records.ts';
import { renderXml } from './xml.ts';

/** The largest source of one CopyObject: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html */
const MAX_COPY_BYTES = 5 * 1024 ** 3;

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
