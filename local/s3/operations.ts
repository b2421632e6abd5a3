import {
  createBucket,
  deleteBucket,
  deleteBucketLifecycle,
  getBucketLifecycle,
  getBucketLocation,
  getBucketVersioning,
  getObjectLockConfiguration,
  headBucket,
  listBuckets,
  putBucketLifecycle,
  putBucketVersioning,
  putObjectLockConfiguration,
} from './buckets.ts';
import { CHECKSUM_ALGORITHMS } from './checksum.ts';
import { S3Error } from './error.ts';
import { listMultipartUploads, listObjectsV2, listObjectVersions } from './lists.ts';
import {
  deleteObjectTagging,
  getObjectLegalHold,
  getObjectRetention,
  getObjectTagging,
  putObjectLegalHold,
  putObjectRetention,
  putObjectTagging,
} from './locks-and-tags.ts';
import { copyObject } from './copy.ts';
import { deleteObject, deleteObjects } from './delete.ts';
import { getObject, getObjectAttributes, headObject, putObject } from './objects.ts';
import type { S3Answer, S3Request } from './request.ts';
import {
  abortMultipartUpload,
  completeMultipartUpload,
  createMultipartUpload,
  listParts,
  uploadPart,
  uploadPartCopy,
} from './uploads.ts';

interface Operation {
  readonly on: `${'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE'} ${'service' | 'bucket' | 'object'}`;
  /** The query that distinguishes it from others of its method. */
  readonly needs?: readonly string[];
  /** The header that does. */
  readonly needsHeader?: string;
  readonly query?: readonly string[];
  /** Headers with a meaning that it knows, beside those that every operation does; a trailing `*` stands for any ending. */
  readonly headers?: readonly string[];
  readonly handle: (request: S3Request) => S3Answer | Promise<S3Answer>;
}

const CONTENT = [
  ...CHECKSUM_ALGORITHMS.map((algorithm) => `x-amz-checksum-${algorithm.toLowerCase()}`),
  'x-amz-sdk-checksum-algorithm',
  'x-amz-trailer',
  'x-amz-decoded-content-length',
];
const DESCRIPTION = [
  'x-amz-meta-*',
  'x-amz-storage-class',
  'x-amz-tagging',
  'x-amz-acl',
  'x-amz-server-side-encryption',
  'x-amz-server-side-encryption-aws-kms-key-id',
  'x-amz-object-lock-mode',
  'x-amz-object-lock-retain-until-date',
  'x-amz-object-lock-legal-hold',
];
const SOURCE = [
  'x-amz-copy-source',
  'x-amz-copy-source-if-match',
  'x-amz-copy-source-if-none-match',
  'x-amz-copy-source-if-modified-since',
  'x-amz-copy-source-if-unmodified-since',
  'x-amz-source-expected-bucket-owner',
];
const WRITE_CONDITIONS = ['if-match', 'if-none-match'];
const READ = {
  query: [
    'versionId',
    'partNumber',
    'response-cache-control',
    'response-content-disposition',
    'response-content-encoding',
    'response-content-language',
    'response-content-type',
    'response-expires',
  ],
  headers: ['range', 'if-match', 'if-none-match', 'if-modified-since', 'if-unmodified-since', 'x-amz-checksum-mode'],
} as const;
const LIST = ['prefix', 'delimiter', 'encoding-type'];

/** Everything this server does. What a request has beyond this table is refused with 501, never ignored. */
const OPERATIONS = {
  ListBuckets: { on: 'GET service', handle: listBuckets },

  CreateBucket: {
    on: 'PUT bucket',
    headers: [...CONTENT, 'x-amz-acl', 'x-amz-bucket-object-lock-enabled', 'x-amz-object-ownership'],
    handle: createBucket,
  },
  HeadBucket: { on: 'HEAD bucket', handle: headBucket },
  DeleteBucket: { on: 'DELETE bucket', handle: deleteBucket },
  GetBucketLocation: { on: 'GET bucket', needs: ['location'], handle: getBucketLocation },
  GetBucketVersioning: { on: 'GET bucket', needs: ['versioning'], handle: getBucketVersioning },
  PutBucketVersioning: { on: 'PUT bucket', needs: ['versioning'], headers: CONTENT, handle: putBucketVersioning },
  GetObjectLockConfiguration: { on: 'GET bucket', needs: ['object-lock'], handle: getObjectLockConfiguration },
  PutObjectLockConfiguration: {
    on: 'PUT bucket',
    needs: ['object-lock'],
    headers: CONTENT,
    handle: putObjectLockConfiguration,
  },
  GetBucketLifecycleConfiguration: { on: 'GET bucket', needs: ['lifecycle'], handle: getBucketLifecycle },
  PutBucketLifecycleConfiguration: {
    on: 'PUT bucket',
    needs: ['lifecycle'],
    headers: CONTENT,
    handle: putBucketLifecycle,
  },
  DeleteBucketLifecycle: { on: 'DELETE bucket', needs: ['lifecycle'], handle: deleteBucketLifecycle },
  ListObjectsV2: {
    on: 'GET bucket',
    needs: ['list-type'],
    query: [...LIST, 'continuation-token', 'start-after', 'max-keys', 'fetch-owner'],
    handle: listObjectsV2,
  },
  ListObjectVersions: {
    on: 'GET bucket',
    needs: ['versions'],
    query: [...LIST, 'key-marker', 'version-id-marker', 'max-keys'],
    handle: listObjectVersions,
  },
  ListMultipartUploads: {
    on: 'GET bucket',
    needs: ['uploads'],
    query: [...LIST, 'key-marker', 'upload-id-marker', 'max-uploads'],
    handle: listMultipartUploads,
  },
  DeleteObjects: {
    on: 'POST bucket',
    needs: ['delete'],
    headers: [...CONTENT, 'x-amz-bypass-governance-retention'],
    handle: deleteObjects,
  },

  GetObject: { on: 'GET object', ...READ, handle: getObject },
  HeadObject: { on: 'HEAD object', ...READ, handle: headObject },
  PutObject: { on: 'PUT object', headers: [...CONTENT, ...DESCRIPTION, ...WRITE_CONDITIONS], handle: putObject },
  CopyObject: {
    on: 'PUT object',
    needsHeader: 'x-amz-copy-source',
    headers: [
      ...DESCRIPTION,
      ...SOURCE,
      ...WRITE_CONDITIONS,
      'x-amz-metadata-directive',
      'x-amz-tagging-directive',
      'x-amz-checksum-algorithm',
    ],
    handle: copyObject,
  },
  DeleteObject: {
    on: 'DELETE object',
    query: ['versionId'],
    headers: ['if-match', 'x-amz-bypass-governance-retention'],
    handle: deleteObject,
  },
  GetObjectAttributes: {
    on: 'GET object',
    needs: ['attributes'],
    query: ['versionId'],
    headers: ['x-amz-object-attributes', 'x-amz-max-parts', 'x-amz-part-number-marker'],
    handle: getObjectAttributes,
  },
  GetObjectTagging: { on: 'GET object', needs: ['tagging'], query: ['versionId'], handle: getObjectTagging },
  PutObjectTagging: {
    on: 'PUT object',
    needs: ['tagging'],
    query: ['versionId'],
    headers: CONTENT,
    handle: putObjectTagging,
  },
  DeleteObjectTagging: { on: 'DELETE object', needs: ['tagging'], query: ['versionId'], handle: deleteObjectTagging },
  GetObjectRetention: { on: 'GET object', needs: ['retention'], query: ['versionId'], handle: getObjectRetention },
  PutObjectRetention: {
    on: 'PUT object',
    needs: ['retention'],
    query: ['versionId'],
    headers: [...CONTENT, 'x-amz-bypass-governance-retention'],
    handle: putObjectRetention,
  },
  GetObjectLegalHold: { on: 'GET object', needs: ['legal-hold'], query: ['versionId'], handle: getObjectLegalHold },
  PutObjectLegalHold: {
    on: 'PUT object',
    needs: ['legal-hold'],
    query: ['versionId'],
    headers: CONTENT,
    handle: putObjectLegalHold,
  },

  CreateMultipartUpload: {
    on: 'POST object',
    needs: ['uploads'],
    headers: [...DESCRIPTION, 'x-amz-checksum-algorithm', 'x-amz-checksum-type'],
    handle: createMultipartUpload,
  },
  UploadPart: { on: 'PUT object', needs: ['uploadId', 'partNumber'], headers: CONTENT, handle: uploadPart },
  UploadPartCopy: {
    on: 'PUT object',
    needs: ['uploadId', 'partNumber'],
    needsHeader: 'x-amz-copy-source',
    headers: [...SOURCE, 'x-amz-copy-source-range'],
    handle: uploadPartCopy,
  },
  ListParts: { on: 'GET object', needs: ['uploadId'], query: ['part-number-marker', 'max-parts'], handle: listParts },
  CompleteMultipartUpload: {
    on: 'POST object',
    needs: ['uploadId'],
    headers: [...CONTENT, ...WRITE_CONDITIONS, 'x-amz-checksum-type', 'x-amz-mp-object-size'],
    handle: completeMultipartUpload,
  },
  AbortMultipartUpload: { on: 'DELETE object', needs: ['uploadId'], handle: abortMultipartUpload },
} as const satisfies Record<string, Operation>;

export type S3Operation = keyof typeof OPERATIONS;

/** What every request may carry: its signature, and the name that SDKs give the operation. */
const COMMON_QUERY = new Set([
  'x-id',
  'X-Amz-Algorithm',
  'X-Amz-Credential',
  'X-Amz-Date',
  'X-Amz-Expires',
  'X-Amz-SignedHeaders',
  'X-Amz-Signature',
  'X-Amz-Content-Sha256',
]);
const COMMON_HEADERS = new Set([
  'x-amz-date',
  'x-amz-content-sha256',
  'x-amz-user-agent',
  'x-amz-expected-bucket-owner',
  'x-amz-request-payer',
]);
/** Headers outside `x-amz-` that change what a request means. */
const CONDITIONAL_HEADERS = new Set([
  'range',
  'if-match',
  'if-none-match',
  'if-modified-since',
  'if-unmodified-since',
  'if-range',
]);

export interface Asked {
  readonly method: string;
  readonly bucket: string;
  readonly key: string;
  readonly query: ReadonlyMap<string, string>;
  readonly headers: ReadonlyMap<string, string>;
}

/** The operation a request means: the one that needs most of what is there. `undefined` if no operation matches. */
export function findOperation(asked: Asked): S3Operation | undefined {
  const on = asked.bucket === '' ? 'service' : asked.key === '' ? 'bucket' : 'object';
  let best: { name: S3Operation; weight: number } | undefined;
  for (const [name, operation] of Object.entries<Operation>(OPERATIONS)) {
    const { needs = [], needsHeader } = operation;
    if (operation.on !== `${asked.method} ${on}`) continue;
    if (!needs.every((parameter) => asked.query.has(parameter))) continue;
    if (needsHeader !== undefined && !asked.headers.has(needsHeader)) continue;
    const weight = needs.length + (needsHeader === undefined ? 0 : 1);
    if (best === undefined || weight > best.weight) best = { name: name as S3Operation, weight };
  }
  return best?.name;
}

/** Runs the operation. 501 when the request has anything that the operation does not know. */
export async function perform(name: S3Operation, request: S3Request): Promise<S3Answer> {
  const operation: Operation = OPERATIONS[name];
  const { needs = [], query = [], headers = [] } = operation;
  for (const parameter of request.query.keys())
    if (!COMMON_QUERY.has(parameter) && !needs.includes(parameter) && !query.includes(parameter))
      throw notImplemented(name, `parameter ${parameter}`);
  for (const header of request.headers.keys()) {
    const hasMeaning = header.startsWith('x-amz-') ? !COMMON_HEADERS.has(header) : CONDITIONAL_HEADERS.has(header);
    const isKnown = (known: string): boolean =>
      known === header || (known.endsWith('*') && header.startsWith(known.slice(0, -1)));
    if (hasMeaning && !headers.some(isKnown)) throw notImplemented(name, `header ${header}`);
  }
  return operation.handle(request);
}

function notImplemented(name: S3Operation, what: string): S3Error {
  return new S3Error('NotImplemented', `${name} with the ${what} is not implemented by this server.`);
}
