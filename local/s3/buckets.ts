import { S3Error } from './error.ts';
import { isoTime, ownerOf, readDocument, refuseAccessLists, type S3Answer, type S3Request } from './request.ts';
import type { BucketSettings } from './records.ts';
import { renderXml, type XmlNode } from './xml.ts';

export function listBuckets(request: S3Request): S3Answer {
  const buckets = request.store.buckets.map(({ name, createdMs }) => ({
    Name: name,
    CreationDate: isoTime(createdMs),
  }));
  return {
    document: renderXml('ListAllMyBucketsResult', { Owner: ownerOf(request.settings), Buckets: { Bucket: buckets } }),
  };
}

export async function createBucket(request: S3Request): Promise<S3Answer> {
  refuseAccessLists(request);
  checkBucketName(request.bucket);
  if ((request.headers.get('x-amz-object-ownership') ?? 'BucketOwnerEnforced') !== 'BucketOwnerEnforced')
    throw new S3Error('NotImplemented', 'Access lists are not implemented by this server.');
  await checkLocation(request);
  const headers = { location: `/${request.bucket}` };
  if (request.store.findBucket(request.bucket) !== undefined) {
    // https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html: only in us-east-1 is the second time a success
    if (request.settings.region === 'us-east-1') return { headers };
    throw new S3Error('BucketAlreadyOwnedByYou', { elements: { BucketName: request.bucket } });
  }
  const hasObjectLock = request.headers.get('x-amz-bucket-object-lock-enabled')?.toLowerCase() === 'true';
  request.store.commit({
    type: 'bucket',
    name: request.bucket,
    createdMs: Date.now(),
    settings: { hasObjectLock, versioning: hasObjectLock ? 'Enabled' : undefined },
  });
  return { headers };
}

/** https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html */
function checkBucketName(name: string): void {
  const isPlain = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(name) && !name.includes('..');
  if (!isPlain || /^\d+\.\d+\.\d+\.\d+$/.test(name))
    throw new S3Error('InvalidBucketName', { elements: { BucketName: name } });
}

async function checkLocation(request: S3Request): Promise<void> {
  const { region } = request.settings;
  let location: string | undefined;
  if ((request.headers.get('content-length') ?? '0') !== '0') {
    const document = await readDocument(request, 'CreateBucketConfiguration');
    location = document.allow('LocationConstraint').textOf('LocationConstraint');
  }
  if (location === undefined && region !== 'us-east-1') throw new S3Error('IllegalLocationConstraintException');
  if (location !== undefined && (location !== region || region === 'us-east-1'))
    throw new S3Error('InvalidLocationConstraint', {
      elements: { LocationConstraint: location },
    });
}

export function headBucket(request: S3Request): S3Answer {
  request.store.bucket(request.bucket);
  return { headers: { 'x-amz-bucket-region': request.settings.region, 'x-amz-access-point-alias': 'false' } };
}

export function deleteBucket(request: S3Request): S3Answer {
  if (request.store.bucket(request.bucket).versions.size > 0)
    throw new S3Error('BucketNotEmpty', {
      elements: { BucketName: request.bucket },
    });
  request.store.commit({ type: 'bucket-removed', name: request.bucket });
  return { status: 204 };
}

export function getBucketLocation(request: S3Request): S3Answer {
  request.store.bucket(request.bucket);
  const { region } = request.settings;
  const empty = renderXml('LocationConstraint', {});
  return { document: empty.replace('></', `>${region === 'us-east-1' ? '' : region}</`) };
}

export function getBucketVersioning(request: S3Request): S3Answer {
  const { versioning } = request.store.bucket(request.bucket).settings;
  return { document: renderXml('VersioningConfiguration', { Status: versioning }) };
}

export async function putBucketVersioning(request: S3Request): Promise<S3Answer> {
  const document = await readDocument(request, 'VersioningConfiguration');
  const status = document.allow('Status').textOf('Status');
  if (status !== 'Enabled' && status !== 'Suspended') throw new S3Error('MalformedXML');
  if (status === 'Suspended' && request.store.bucket(request.bucket).settings.hasObjectLock)
    throw new S3Error(
      'InvalidBucketState',
      'An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.',
    );
  return change(request, { versioning: status });
}

function change(request: S3Request, settings: Partial<BucketSettings>, status = 200): S3Answer {
  const before = request.store.bucket(request.bucket).settings;
  request.store.commit({ type: 'bucket-settings', name: request.bucket, settings: { ...before, ...settings } });
  return { status };
}

export function getObjectLockConfiguration(request: S3Request): S3Answer {
  const { hasObjectLock, defaultRetention } = request.store.bucket(request.bucket).settings;
  if (!hasObjectLock)
    throw new S3Error('ObjectLockConfigurationNotFoundError', { elements: { BucketName: request.bucket } });
  return {
    document: renderXml('ObjectLockConfiguration', {
      ObjectLockEnabled: 'Enabled',
      Rule: defaultRetention && {
        DefaultRetention: {
          Mode: defaultRetention.mode,
          Days: defaultRetention.days,
          Years: defaultRetention.years,
        },
      },
    }),
  };
}

export async function putObjectLockConfiguration(request: S3Request): Promise<S3Answer> {
  const document = await readDocument(request, 'ObjectLockConfiguration', { mustBeProtected: true });
  document.allow('ObjectLockEnabled', 'Rule');
  if (document.textOf('ObjectLockEnabled') !== 'Enabled') throw new S3Error('MalformedXML');
  if (request.store.bucket(request.bucket).settings.versioning !== 'Enabled')
    throw new S3Error(
      'InvalidBucketState',
      "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration",
    );
  const rule = document.one('Rule')?.allow('DefaultRetention').one('DefaultRetention');
  return change(request, { hasObjectLock: true, defaultRetention: rule && parseDefaultRetention(rule) });
}

function parseDefaultRetention(rule: XmlNode): NonNullable<BucketSettings['defaultRetention']> {
  const mode = rule.allow('Mode', 'Days', 'Years').textOf('Mode');
  if (mode !== 'GOVERNANCE' && mode !== 'COMPLIANCE') throw new S3Error('MalformedXML');
  const days = rule.textOf('Days');
  const years = rule.textOf('Years');
  const period = Number(days ?? years);
  if ((days === undefined) === (years === undefined) || !Number.isInteger(period)) throw new S3Error('MalformedXML');
  if (period < 1) throw new S3Error('InvalidArgument', 'Default retention period must be a positive integer value.');
  return { mode, ...(days === undefined ? { years: period } : { days: period }) };
}

export function getBucketLifecycle(request: S3Request): S3Answer {
  const { lifecycle } = request.store.bucket(request.bucket).settings;
  if (lifecycle !== undefined) return { document: lifecycle };
  throw new S3Error('NoSuchLifecycleConfiguration', {
    elements: { BucketName: request.bucket },
  });
}

/** Stored and returned; no rule is ever applied. */
export async function putBucketLifecycle(request: S3Request): Promise<S3Answer> {
  const document = await readDocument(request, 'LifecycleConfiguration', { mustBeProtected: true });
  if (document.all('Rule').length === 0) throw new S3Error('MalformedXML');
  return change(request, { lifecycle: renderXml('LifecycleConfiguration', document.toElements()) });
}

export function deleteBucketLifecycle(request: S3Request): S3Answer {
  return change(request, { lifecycle: undefined }, 204);
}
