import {
  CopyObjectCommand,
  CompleteMultipartUploadCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteBucketCommand,
  DeleteBucketLifecycleCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetBucketLifecycleConfigurationCommand,
  GetBucketVersioningCommand,
  GetObjectCommand,
  GetObjectLegalHoldCommand,
  GetObjectLockConfigurationCommand,
  GetObjectRetentionCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  PutBucketLifecycleConfigurationCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
  PutObjectLegalHoldCommand,
  PutObjectLockConfigurationCommand,
  PutObjectRetentionCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { BUCKET, codeOf, openS3, refusal, sendRaw, signed, type OpenS3 } from '../../../test/support/local-s3.ts';

const at = { Bucket: BUCKET, Key: 'k' };
const LOCKED = { Bucket: 'locked', Key: 'k' };
const HOUR_MS = 3_600_000;

async function version({ client }: OpenS3, Status: 'Enabled' | 'Suspended'): Promise<void> {
  await client.send(new PutBucketVersioningCommand({ Bucket: BUCKET, VersioningConfiguration: { Status } }));
}

async function openVersioned(): Promise<OpenS3> {
  const open = await openS3();
  await version(open, 'Enabled');
  return open;
}

async function put({ client }: OpenS3, Body: string, o: object = {}): Promise<string> {
  const { VersionId } = await client.send(new PutObjectCommand({ ...at, Body, ...o }));
  return VersionId ?? 'none';
}

async function get({ client }: OpenS3, o: object = {}): Promise<string> {
  const { Body } = await client.send(new GetObjectCommand({ ...at, ...o }));
  return (await Body?.transformToString()) ?? '';
}

async function remove({ client }: OpenS3, o: object = {}): Promise<readonly [marker: unknown, version: unknown]> {
  const { DeleteMarker, VersionId } = await client.send(new DeleteObjectCommand({ ...at, ...o }));
  return [DeleteMarker, VersionId];
}

describe('versions', () => {
  test('are off, on, then suspended, and never off again', async () => {
    await using open = await openS3();
    const status = async (): Promise<unknown> =>
      (await open.client.send(new GetBucketVersioningCommand({ Bucket: BUCKET }))).Status;
    assert.equal(await status(), undefined);
    await version(open, 'Enabled');
    assert.equal(await status(), 'Enabled');
    await version(open, 'Suspended');
    assert.equal(await status(), 'Suspended');
  });

  test('are kept, each readable by its id, the newest without one', async () => {
    await using open = await openVersioned();
    const [first, second] = [await put(open, '1'), await put(open, '2')];
    assert.notEqual(first, second);
    assert.deepEqual([await get(open), await get(open, { VersionId: first })], ['2', '1']);
    const head = await open.client.send(new HeadObjectCommand({ ...at, VersionId: first }));
    assert.equal(head.VersionId, first);
    const listed = await open.client.send(new ListObjectVersionsCommand({ Bucket: BUCKET }));
    assert.deepEqual(
      listed.Versions?.map(({ VersionId, IsLatest }) => [VersionId, IsLatest]),
      [[second, true], [first, false]], // prettier-ignore
    );
    const objects = await open.client.send(new ListObjectsV2Command({ Bucket: BUCKET }));
    assert.equal(objects.Contents?.length, 1);
  });

  test('deleted without an id get a marker, which hides them and can be deleted', async () => {
    await using open = await openVersioned();
    const first = await put(open, '1');
    const [isMarker, marker] = await remove(open);
    assert.equal(isMarker, true);
    assert.equal(await refusal(get(open)), '404 NoSuchKey');
    assert.equal(await refusal(get(open, { VersionId: marker })), '405 MethodNotAllowed');
    assert.equal(await get(open, { VersionId: first }), '1');
    assert.equal((await open.client.send(new ListObjectsV2Command({ Bucket: BUCKET }))).Contents, undefined);
    assert.equal(await refusal(open.client.send(new DeleteBucketCommand({ Bucket: BUCKET }))), '409 BucketNotEmpty');
    const raw = await sendRaw(open.s3, signed(open.s3, { path: `/${BUCKET}/k` }));
    assert.deepEqual([raw.status, raw.headers['x-amz-delete-marker']], [404, 'true']);
    assert.deepEqual(await remove(open, { VersionId: marker }), [true, marker]);
    assert.equal(await get(open), '1');
  });

  test('deleted by id are deleted permanently, and the previous one becomes current', async () => {
    await using open = await openVersioned();
    const [first, second] = [await put(open, '1'), await put(open, '2')];
    assert.deepEqual(await remove(open, { VersionId: second }), [undefined, second]);
    assert.equal(await get(open), '1');
    assert.equal(await refusal(get(open, { VersionId: second })), '404 NoSuchVersion');
    await remove(open, { VersionId: first });
    await open.client.send(new DeleteBucketCommand({ Bucket: BUCKET }));
  });

  test('have ids of an opaque form', async () => {
    await using open = await openVersioned();
    await put(open, '1');
    assert.equal(await refusal(get(open, { VersionId: 'made up' })), '400 InvalidArgument');
    assert.equal(await refusal(get(open, { VersionId: 'null' })), '404 NoSuchVersion');
    assert.equal(await refusal(remove(open, { VersionId: 'made up' })), '400 InvalidArgument');
  });

  test('begun while versioning is off or suspended are one, called null', async () => {
    await using open = await openS3();
    assert.equal(await put(open, 'before'), 'none');
    await version(open, 'Enabled');
    await put(open, 'between');
    assert.equal(await get(open, { VersionId: 'null' }), 'before');
    await version(open, 'Suspended');
    assert.equal(await put(open, 'after'), 'null');
    assert.deepEqual([await get(open), await get(open, { VersionId: 'null' })], ['after', 'after']);
    assert.deepEqual(await remove(open), [true, 'null']);
    assert.equal(await refusal(get(open)), '404 NoSuchKey');
    const listed = await open.client.send(new ListObjectVersionsCommand({ Bucket: BUCKET }));
    assert.deepEqual([listed.Versions?.length, listed.DeleteMarkers?.length], [1, 1]);
  });

  test('make a marker count as nothing in conditions', async () => {
    await using open = await openVersioned();
    await put(open, '1');
    assert.equal(await refusal(put(open, '2', { IfNoneMatch: '*' })), '412 PreconditionFailed');
    await remove(open);
    await put(open, '2', { IfNoneMatch: '*' });
    assert.equal(await get(open), '2');
  });

  test('can be copied by id', async () => {
    await using open = await openVersioned();
    const first = await put(open, '1');
    await put(open, '2');
    const CopySource = `${BUCKET}/k?versionId=${first}`;
    const copied = await open.client.send(new CopyObjectCommand({ ...at, CopySource }));
    assert.deepEqual([await get(open), copied.CopySourceVersionId], ['1', first]);
  });

  test('can be deleted many at a time', async () => {
    await using open = await openVersioned();
    const first = await put(open, '1');
    const Delete = { Objects: [{ Key: 'k', VersionId: first }, { Key: 'new' }] };
    const { Deleted = [] } = await open.client.send(new DeleteObjectsCommand({ Bucket: BUCKET, Delete }));
    assert.deepEqual(Deleted[0], { Key: 'k', VersionId: first });
    assert.deepEqual([Deleted[1]?.Key, Deleted[1]?.DeleteMarker], ['new', true]);
  });

  test('uploaded in parts are in the order the uploads began, not ended', async () => {
    await using open = await openVersioned();
    const begin = async (): Promise<string> =>
      (await open.client.send(new CreateMultipartUploadCommand(at))).UploadId ?? '';
    const finish = async (UploadId: string, Body: string): Promise<void> => {
      const { ETag } = await open.client.send(new UploadPartCommand({ ...at, UploadId, PartNumber: 1, Body }));
      const MultipartUpload = { Parts: [{ PartNumber: 1, ETag }] };
      await open.client.send(new CompleteMultipartUploadCommand({ ...at, UploadId, MultipartUpload }));
    };
    const [first, second] = [await begin(), await begin()];
    await finish(second, 'second');
    await finish(first, 'first');
    assert.equal(await get(open), 'second');
  });
});

async function openLocked(): Promise<OpenS3> {
  const open = await openS3();
  await open.client.send(new CreateBucketCommand({ Bucket: LOCKED.Bucket, ObjectLockEnabledForBucket: true }));
  return open;
}

async function putLocked({ client }: OpenS3, o: object = {}): Promise<string> {
  return (await client.send(new PutObjectCommand({ ...LOCKED, Body: 'v', ...o }))).VersionId ?? '';
}

const later = (hours: number): Date => new Date(Math.floor(Date.now() / 1000) * 1000 + hours * HOUR_MS);

describe('object lock', () => {
  test('turns versioning on permanently', async () => {
    await using open = await openLocked();
    const { Status } = await open.client.send(new GetBucketVersioningCommand({ Bucket: LOCKED.Bucket }));
    assert.equal(Status, 'Enabled');
    const suspend = { Bucket: LOCKED.Bucket, VersioningConfiguration: { Status: 'Suspended' as const } };
    assert.equal(await refusal(open.client.send(new PutBucketVersioningCommand(suspend))), '409 InvalidBucketState');
  });

  test('is configured on a bucket with versions, and gives new objects a retention', async () => {
    await using open = await openS3();
    const { client } = open;
    const Rule = { DefaultRetention: { Mode: 'GOVERNANCE' as const, Days: 2 } };
    const configuration = { ObjectLockEnabled: 'Enabled' as const, Rule };
    const configure = new PutObjectLockConfigurationCommand({ Bucket: BUCKET, ObjectLockConfiguration: configuration });
    const ask = new GetObjectLockConfigurationCommand({ Bucket: BUCKET });
    assert.equal(await refusal(client.send(ask)), '404 ObjectLockConfigurationNotFoundError');
    assert.equal(await refusal(client.send(configure)), '409 InvalidBucketState');
    await version(open, 'Enabled');
    await client.send(configure);
    assert.deepEqual((await client.send(ask)).ObjectLockConfiguration, configuration);
    await put(open, 'v');
    const head = await client.send(new HeadObjectCommand(at));
    assert.equal(head.ObjectLockMode, 'GOVERNANCE');
    const days = ((head.ObjectLockRetainUntilDate?.getTime() ?? 0) - Date.now()) / (24 * HOUR_MS);
    assert.ok(days > 1.99 && days <= 2, String(days));
  });

  test.each(['GOVERNANCE', 'COMPLIANCE'] as const)('in mode %s keeps a version from being deleted', async (Mode) => {
    await using open = await openLocked();
    const { client } = open;
    const until = later(1);
    const VersionId = await putLocked(open, { ObjectLockMode: Mode, ObjectLockRetainUntilDate: until });
    const { Retention } = await client.send(new GetObjectRetentionCommand(LOCKED));
    assert.deepEqual(Retention, { Mode, RetainUntilDate: until });
    const gone = new DeleteObjectCommand({ ...LOCKED, VersionId });
    assert.equal(await refusal(client.send(gone)), '403 AccessDenied');
    const many = { Bucket: LOCKED.Bucket, Delete: { Objects: [{ Key: 'k', VersionId }] } };
    const { Errors = [] } = await client.send(new DeleteObjectsCommand(many));
    assert.deepEqual(Errors.map(({ Code }) => Code), ['AccessDenied']); // prettier-ignore
    const marked = await client.send(new DeleteObjectCommand(LOCKED));
    assert.equal(marked.DeleteMarker, true);
    await client.send(new GetObjectCommand({ ...LOCKED, VersionId }));
    const bypass = new DeleteObjectCommand({ ...LOCKED, VersionId, BypassGovernanceRetention: true });
    if (Mode === 'COMPLIANCE') assert.equal(await refusal(client.send(bypass)), '403 AccessDenied');
    else await client.send(bypass);
  });

  test('can be extended; only governance can be shortened, with a bypass', async () => {
    await using open = await openLocked();
    const { client } = open;
    await putLocked(open);
    assert.equal(
      await refusal(client.send(new GetObjectRetentionCommand(LOCKED))),
      '404 NoSuchObjectLockConfiguration',
    );
    const retain = (Mode: 'GOVERNANCE' | 'COMPLIANCE', hours: number, o: object = {}): PutObjectRetentionCommand =>
      new PutObjectRetentionCommand({ ...LOCKED, Retention: { Mode, RetainUntilDate: later(hours) }, ...o });
    await client.send(retain('GOVERNANCE', 2));
    await client.send(retain('GOVERNANCE', 3));
    assert.equal(await refusal(client.send(retain('GOVERNANCE', 1))), '403 AccessDenied');
    await client.send(retain('GOVERNANCE', 1, { BypassGovernanceRetention: true }));
    await client.send(retain('COMPLIANCE', 2));
    assert.equal(await refusal(client.send(retain('COMPLIANCE', 1))), '403 AccessDenied');
    const bypass = { BypassGovernanceRetention: true };
    assert.equal(await refusal(client.send(retain('GOVERNANCE', 3, bypass))), '403 AccessDenied');
    assert.equal(await refusal(client.send(retain('COMPLIANCE', -1))), '400 InvalidArgument');
    assert.equal(await (await client.send(new GetObjectCommand(LOCKED))).Body?.transformToString(), 'v');
  });

  test('as a legal hold lasts until it is removed', async () => {
    await using open = await openLocked();
    const { client } = open;
    const VersionId = await putLocked(open, { ObjectLockLegalHoldStatus: 'ON' });
    const status = async (): Promise<unknown> =>
      (await client.send(new GetObjectLegalHoldCommand(LOCKED))).LegalHold?.Status;
    assert.equal(await status(), 'ON');
    const gone = new DeleteObjectCommand({ ...LOCKED, VersionId, BypassGovernanceRetention: true });
    assert.equal(await refusal(client.send(gone)), '403 AccessDenied');
    await client.send(new PutObjectLegalHoldCommand({ ...LOCKED, LegalHold: { Status: 'OFF' } }));
    assert.equal(await status(), 'OFF');
    await client.send(gone);
  });

  test('is refused on a bucket without object lock, and leaves the object as it was', async () => {
    await using open = await openS3();
    await put(open, 'v');
    const retention = { Mode: 'GOVERNANCE' as const, RetainUntilDate: later(1) };
    const retain = new PutObjectRetentionCommand({ ...at, Retention: retention });
    assert.equal(await refusal(open.client.send(retain)), '400 InvalidRequest');
    const hold = new PutObjectLegalHoldCommand({ ...at, LegalHold: { Status: 'ON' } });
    assert.equal(await refusal(open.client.send(hold)), '400 InvalidRequest');
    assert.equal(await refusal(put(open, 'w', { ObjectLockLegalHoldStatus: 'ON' })), '400 InvalidRequest');
    assert.equal(await get(open), 'v');
  });

  test('demands a digest of the object that it protects', async () => {
    await using open = await openLocked();
    const headers = { 'x-amz-object-lock-legal-hold': 'ON' };
    const raw = { method: 'PUT', path: `/${LOCKED.Bucket}/k`, headers, body: 'v' };
    assert.equal(codeOf(await sendRaw(open.s3, signed(open.s3, raw))), '400 InvalidRequest');
    const md5 = { ...headers, 'content-md5': 'nk4BI6jQoxoK8d7jeiuFRg==' };
    assert.equal(codeOf(await sendRaw(open.s3, signed(open.s3, { ...raw, headers: md5 }))), '400 BadDigest');
  });

  test('protects what is uploaded in parts', async () => {
    await using open = await openLocked();
    const { client } = open;
    const lock = { ObjectLockMode: 'COMPLIANCE' as const, ObjectLockRetainUntilDate: later(1) };
    const { UploadId } = await client.send(new CreateMultipartUploadCommand({ ...LOCKED, ...lock }));
    const { ETag } = await client.send(new UploadPartCommand({ ...LOCKED, UploadId, PartNumber: 1, Body: 'v' }));
    const MultipartUpload = { Parts: [{ PartNumber: 1, ETag }] };
    const done = await client.send(new CompleteMultipartUploadCommand({ ...LOCKED, UploadId, MultipartUpload }));
    const gone = new DeleteObjectCommand({ ...LOCKED, VersionId: done.VersionId });
    assert.equal(await refusal(client.send(gone)), '403 AccessDenied');
  });
});

test('a lifecycle configuration is returned as it was put', async () => {
  await using open = await openS3();
  const ask = new GetBucketLifecycleConfigurationCommand({ Bucket: BUCKET });
  assert.equal(await refusal(open.client.send(ask)), '404 NoSuchLifecycleConfiguration');
  const Rules = [1, 2].map((n) => ({
    ID: `rule ${n}`,
    Status: 'Enabled' as const,
    Filter: { Prefix: '<tmp>/' },
    AbortIncompleteMultipartUpload: { DaysAfterInitiation: n },
  }));
  const LifecycleConfiguration = { Rules };
  await open.client.send(new PutBucketLifecycleConfigurationCommand({ Bucket: BUCKET, LifecycleConfiguration }));
  assert.deepEqual((await open.client.send(ask)).Rules, Rules);
  await open.client.send(new DeleteBucketLifecycleCommand({ Bucket: BUCKET }));
  assert.equal(await refusal(open.client.send(ask)), '404 NoSuchLifecycleConfiguration');
});
