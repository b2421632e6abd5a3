import { S3Error } from './s3-error.ts';
import { isoTime, ownerOf, readDocument, refuseAccessLists, type S3Answer, type S3Request } from './s3-request.ts';
import type { BucketSettings } from './s3-store.ts';
import { renderXml, type XmlNode } from './s3-xml.ts';

export function listBuckets(r: S3Request): S3Answer {
  const buckets = r.store.buckets.map(({ name, createdMs }) => ({ Name: name, CreationDate: isoTime(createdMs) }));
  return {
    document: renderXml('ListAllMyBucketsResult', { Owner: ownerOf(r.settings), Buckets: { Bucket: buckets } }),
  };
}

export async function createBucket(r: S3Request): Promise<S3Answer> {
  refuseAccessLists(r);
  checkBucketName(r.bucket);
  if ((r.headers.get('x-amz-object-ownership') ?? 'BucketOwnerEnforced') !== 'BucketOwnerEnforced')
    throw new S3Error('NotImplemented', 'Access lists are not implemented by this server.');
  await checkLocation(r);
  const headers = { location: `/${r.bucket}` };
  if (r.store.findBucket(r.bucket) !== undefined) {
    // https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html: only in us-east-1 is the second time a success
    if (r.settings.region === 'us-east-1') return { headers };
    throw new S3Error('BucketAlreadyOwnedByYou', { elements: { BucketName: r.bucket } });
  }
  const hasObjectLock = r.headers.get('x-amz-bucket-object-lock-enabled')?.toLowerCase() === 'true';
  r.store.commit({
    type: 'bucket',
    name: r.bucket,
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

async function checkLocation(r: S3Request): Promise<void> {
  const { region } = r.settings;
  let location: string | undefined;
  if ((r.headers.get('content-length') ?? '0') !== '0') {
    const request = await readDocument(r, 'CreateBucketConfiguration');
    location = request.allow('LocationConstraint').textOf('LocationConstraint');
  }
  if (location === undefined && region !== 'us-east-1') throw new S3Error('IllegalLocationConstraintException');
  if (location !== undefined && (location !== region || region === 'us-east-1'))
    throw new S3Error('InvalidLocationConstraint', {
      elements: { LocationConstraint: location },
    });
}

export function headBucket(r: S3Request): S3Answer {
  r.store.bucket(r.bucket);
  return { headers: { 'x-amz-bucket-region': r.settings.region, 'x-amz-access-point-alias': 'false' } };
}

export function deleteBucket(r: S3Request): S3Answer {
  if (r.store.bucket(r.bucket).versions.size > 0)
    throw new S3Error('BucketNotEmpty', {
      elements: { BucketName: r.bucket },
    });
  r.store.commit({ type: 'bucket-removed', name: r.bucket });
  return { status: 204 };
}

export function getBucketLocation(r: S3Request): S3Answer {
  r.store.bucket(r.bucket);
  const { region } = r.settings;
  const empty = renderXml('LocationConstraint', {});
  return { document: empty.replace('></', `>${region === 'us-east-1' ? '' : region}</`) };
}

export function getBucketVersioning(r: S3Request): S3Answer {
  const { versioning } = r.store.bucket(r.bucket).settings;
  return { document: renderXml('VersioningConfiguration', { Status: versioning }) };
}

export async function putBucketVersioning(r: S3Request): Promise<S3Answer> {
  const request = await readDocument(r, 'VersioningConfiguration');
  const status = request.allow('Status').textOf('Status');
  if (status !== 'Enabled' && status !== 'Suspended') throw new S3Error('MalformedXML');
  if (status === 'Suspended' && r.store.bucket(r.bucket).settings.hasObjectLock)
    throw new S3Error(
      'InvalidBucketState',
      'An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.',
    );
  return change(r, { versioning: status });
}

function change(r: S3Request, settings: Partial<BucketSettings>, status = 200): S3Answer {
  const before = r.store.bucket(r.bucket).settings;
  r.store.commit({ type: 'bucket-settings', name: r.bucket, settings: { ...before, ...settings } });
  return { status };
}

export function getObjectLockConfiguration(r: S3Request): S3Answer {
  const { hasObjectLock, defaultRetention } = r.store.bucket(r.bucket).settings;
  if (!hasObjectLock) throw new S3Error('ObjectLockConfigurationNotFoundError', { elements: { BucketName: r.bucket } });
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

export async function putObjectLockConfiguration(r: S3Request): Promise<S3Answer> {
  const request = await readDocument(r, 'ObjectLockConfiguration', { mustBeProtected: true });
  request.allow('ObjectLockEnabled', 'Rule');
  if (request.textOf('ObjectLockEnabled') !== 'Enabled') throw new S3Error('MalformedXML');
  if (r.store.bucket(r.bucket).settings.versioning !== 'Enabled')
    throw new S3Error(
      'InvalidBucketState',
      "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration",
    );
  const rule = request.one('Rule')?.allow('DefaultRetention').one('DefaultRetention');
  return change(r, { hasObjectLock: true, defaultRetention: rule && parseDefaultRetention(rule) });
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

export function getBucketLifecycle(r: S3Request): S3Answer {
  const { lifecycle } = r.store.bucket(r.bucket).settings;
  if (lifecycle !== undefined) return { document: lifecycle };
  throw new S3Error('NoSuchLifecycleConfiguration', {
    elements: { BucketName: r.bucket },
  });
}

/** Kept and given back; no rule is ever run. */
export async function putBucketLifecycle(r: S3Request): Promise<S3Answer> {
  const request = await readDocument(r, 'LifecycleConfiguration', { mustBeProtected: true });
  if (request.all('Rule').length === 0) throw new S3Error('MalformedXML');
  return change(r, { lifecycle: renderXml('LifecycleConfiguration', request.toElements()) });
}

export function deleteBucketLifecycle(r: S3Request): S3Answer {
  return change(r, { lifecycle: undefined }, 204);
}
