import {
  CopyObjectCommand,
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  DeleteObjectTaggingCommand,
  GetBucketLocationCommand,
  GetObjectAttributesCommand,
  GetObjectCommand,
  GetObjectTaggingCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListBucketsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  PutObjectTaggingCommand,
  type ChecksumAlgorithm,
  type S3Client,
} from '@aws-sdk/client-s3';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { describe, test } from 'vitest';
import { BUCKET, clientOf, openS3, randomBytes, refusal } from '../../../test/support/local-s3.ts';
import { get, put } from './objects.ts';

describe('buckets', () => {
  test('are created, listed, found and deleted', async () => {
    await using open = await openS3();
    const { client } = open;
    await client.send(new CreateBucketCommand({ Bucket: 'another.bucket' }));
    const { Buckets = [] } = await client.send(new ListBucketsCommand({}));
    assert.deepEqual(Buckets.map(({ Name }) => Name), ['another.bucket', BUCKET]); // prettier-ignore
    const head = await client.send(new HeadBucketCommand({ Bucket: BUCKET }));
    assert.equal(head.BucketRegion, 'us-east-1');
    await client.send(new DeleteBucketCommand({ Bucket: BUCKET }));
    assert.equal(await refusal(client.send(new HeadBucketCommand({ Bucket: BUCKET }))), '404 NotFound');
    assert.equal(await refusal(client.send(new DeleteBucketCommand({ Bucket: BUCKET }))), '404 NoSuchBucket');
  });

  test('can be created twice in us-east-1 without losing anything, and nowhere else', async () => {
    await using east = await openS3();
    await put(east, 'k', 'v');
    await east.client.send(new CreateBucketCommand({ Bucket: BUCKET }));
    assert.equal((await get(east, 'k')).bytes.toString(), 'v');
    await using west = await openS3({ dir: join(east.dir, 'west'), region: 'eu-west-1' });
    const create = (LocationConstraint: 'eu-west-1' | 'eu-west-2'): CreateBucketCommand =>
      new CreateBucketCommand({ Bucket: BUCKET, CreateBucketConfiguration: { LocationConstraint } });
    assert.equal(await refusal(west.client.send(create('eu-west-2'))), '400 InvalidLocationConstraint');
    await west.client.send(create('eu-west-1'));
    assert.equal(await refusal(west.client.send(create('eu-west-1'))), '409 BucketAlreadyOwnedByYou');
    const location = await west.client.send(new GetBucketLocationCommand({ Bucket: BUCKET }));
    assert.equal(location.LocationConstraint, 'eu-west-1');
    const none = await east.client.send(new GetBucketLocationCommand({ Bucket: BUCKET }));
    assert.equal(none.LocationConstraint, undefined);
  });

  test('with objects in them cannot be deleted', async () => {
    await using open = await openS3();
    await put(open, 'k', 'v');
    assert.equal(await refusal(open.client.send(new DeleteBucketCommand({ Bucket: BUCKET }))), '409 BucketNotEmpty');
  });

  test.each(['ab', 'Upper', 'under_score', '-dash', 'two..dots', '10.0.0.1', 'x'.repeat(64)])(
    'cannot be called %s',
    async (name) => {
      await using open = await openS3();
      assert.equal(await refusal(open.client.send(new CreateBucketCommand({ Bucket: name }))), '400 InvalidBucketName');
    },
  );
});

describe('an object', () => {
  test('is returned as it was put, with its description', async () => {
    await using open = await openS3();
    const body = randomBytes(100_000);
    const etag = await put(open, 'k', body, {
      ContentType: 'text/x-test',
      CacheControl: 'no-store',
      ContentDisposition: 'attachment',
      ContentEncoding: 'gzip',
      ContentLanguage: 'en',
      Metadata: { 'Mixed-Case': 'a value', digest: 'sha256:00' },
    });
    assert.equal(etag, `"${createHash('md5').update(body).digest('hex')}"`);
    const got = await get(open, 'k');
    assert.ok(got.bytes.equals(body));
    assert.equal(got.ContentLength, 100_000);
    assert.equal(got.ETag, etag);
    assert.deepEqual(
      [got.ContentType, got.CacheControl, got.ContentDisposition, got.ContentEncoding, got.ContentLanguage],
      ['text/x-test', 'no-store', 'attachment', 'gzip', 'en'],
    );
    assert.deepEqual(got.Metadata, { 'mixed-case': 'a value', digest: 'sha256:00' });
    assert.equal(got.ServerSideEncryption, 'AES256');
    assert.equal(got.VersionId, undefined);
    assert.ok(got.LastModified !== undefined && Math.abs(got.LastModified.getTime() - Date.now()) < 60_000);
    const { Contents = [] } = await open.client.send(new ListObjectsV2Command({ Bucket: BUCKET }));
    assert.deepEqual(Contents[0]?.LastModified, got.LastModified);
  });

  test('may be empty', async () => {
    await using open = await openS3();
    await put(open, 'k', new Uint8Array());
    const got = await get(open, 'k');
    assert.equal(got.bytes.length, 0);
    assert.equal(got.ETag, '"d41d8cd98f00b204e9800998ecf8427e"');
    assert.deepEqual(await readdir(join(open.dir, 'data')), []);
  });

  test('sent as a stream, in aws-chunked framing, is stored without the framing', async () => {
    await using open = await openS3();
    const body = randomBytes(3_000_000);
    const pieces = [body.subarray(0, 8192), body.subarray(8192, 700_001), body.subarray(700_001)];
    await put(open, 'k', Readable.from(pieces), { ContentLength: body.length, ContentEncoding: 'gzip' });
    const got = await get(open, 'k');
    assert.ok(got.bytes.equals(body));
    assert.equal(got.ContentEncoding, 'gzip');
  });

  test('sent as a stream of chunks under 8 KiB is refused, as S3 does', async () => {
    await using open = await openS3();
    const body = randomBytes(20_000);
    const pieces = (): Readable => Readable.from([body.subarray(0, 8191), body.subarray(8191)]);
    const stream = (client: S3Client): Promise<unknown> =>
      client.send(new PutObjectCommand({ Bucket: BUCKET, Key: 'k', Body: pieces(), ContentLength: body.length }));
    assert.equal(await refusal(stream(open.client)), '403 InvalidChunkSizeError');
    await stream(clientOf(open.s3, { requestStreamBufferSize: 65_536 }));
    assert.ok((await get(open, 'k')).bytes.equals(body));
  });

  test.each(['a b', 'a+b', 'a%2Fb', 'ü/日本/😀', 'x//y', '/lead', 'a/./b/../c', "!'()*~", '&<>"', 'a?b#c'])(
    'may be called %s',
    async (key) => {
      await using open = await openS3();
      await put(open, key, 'content');
      assert.equal((await get(open, key)).bytes.toString(), 'content');
      assert.equal(open.s3.requests.at(-1)?.key, key);
    },
  );

  test('may be called x beside one that is called x/y', async () => {
    await using open = await openS3();
    await put(open, 'x', '1');
    await put(open, 'x/y', '2');
    assert.equal((await get(open, 'x')).bytes.toString() + (await get(open, 'x/y')).bytes.toString(), '12');
  });

  test('with a key over 1,024 bytes, or metadata over 2 KiB, is refused', async () => {
    await using open = await openS3();
    await put(open, 'ü'.repeat(512), 'v');
    assert.equal(await refusal(put(open, 'ü'.repeat(513), 'v')), '400 KeyTooLongError');
    await put(open, 'k', 'v', { Metadata: { a: 'x'.repeat(2047) } });
    assert.equal(await refusal(put(open, 'k', 'v', { Metadata: { a: 'x'.repeat(2048) } })), '400 MetadataTooLarge');
  });

  test('has its own errors when it or its bucket does not exist', async () => {
    await using open = await openS3();
    const { client } = open;
    assert.equal(await refusal(get(open, 'none')), '404 NoSuchKey');
    assert.equal(await refusal(client.send(new HeadObjectCommand({ Bucket: BUCKET, Key: 'none' }))), '404 NotFound');
    assert.equal(await refusal(client.send(new GetObjectCommand({ Bucket: 'none', Key: 'k' }))), '404 NoSuchBucket');
    const into = client.send(new PutObjectCommand({ Bucket: 'none', Key: 'k', Body: 'v' }));
    assert.equal(await refusal(into), '404 NoSuchBucket');
  });

  test('keeps its storage class, and is not read from an archive class', async () => {
    await using open = await openS3();
    await put(open, 'ia', 'v', { StorageClass: 'STANDARD_IA' });
    assert.equal((await get(open, 'ia')).StorageClass, 'STANDARD_IA');
    await put(open, 'instant', 'v', { StorageClass: 'GLACIER_IR' });
    assert.equal((await get(open, 'instant')).bytes.toString(), 'v');
    for (const StorageClass of ['GLACIER', 'DEEP_ARCHIVE']) {
      await put(open, 'cold', 'v', { StorageClass });
      assert.equal(await refusal(get(open, 'cold')), '403 InvalidObjectState');
      const head = await open.client.send(new HeadObjectCommand({ Bucket: BUCKET, Key: 'cold' }));
      assert.equal(head.StorageClass, StorageClass);
      const copy = new CopyObjectCommand({ Bucket: BUCKET, Key: 'copy', CopySource: `${BUCKET}/cold` });
      assert.equal(await refusal(open.client.send(copy)), '403 InvalidObjectState');
    }
    assert.equal(await refusal(put(open, 'k', 'v', { StorageClass: 'WARM' })), '400 InvalidStorageClass');
  });

  test('has tags, set with it or later', async () => {
    await using open = await openS3();
    const { client } = open;
    const at = { Bucket: BUCKET, Key: 'k' };
    await put(open, 'k', 'v', { Tagging: 'a=1&b=x%20y' });
    assert.equal((await get(open, 'k')).TagCount, 2);
    const before = await client.send(new GetObjectTaggingCommand(at));
    assert.deepEqual(before.TagSet, [{ Key: 'a', Value: '1' }, { Key: 'b', Value: 'x y' }]); // prettier-ignore
    const TagSet = [{ Key: '<c>', Value: '&' }];
    await client.send(new PutObjectTaggingCommand({ ...at, Tagging: { TagSet } }));
    assert.deepEqual((await client.send(new GetObjectTaggingCommand(at))).TagSet, TagSet);
    assert.equal((await get(open, 'k')).bytes.toString(), 'v');
    await client.send(new DeleteObjectTaggingCommand(at));
    assert.deepEqual((await client.send(new GetObjectTaggingCommand(at))).TagSet, []);
    const eleven = Array.from({ length: 11 }, (_, i) => ({ Key: String(i), Value: '' }));
    const many = client.send(new PutObjectTaggingCommand({ ...at, Tagging: { TagSet: eleven } }));
    assert.equal(await refusal(many), '400 InvalidTag');
    assert.equal(await refusal(put(open, 'k', 'v', { Tagging: 'a=1&a=2' })), '400 InvalidTag');
  });

  test('answers with other headers on request', async () => {
    await using open = await openS3();
    await put(open, 'k', 'v');
    const got = await get(open, 'k', { ResponseContentType: 'text/plain', ResponseCacheControl: 'no-cache' });
    assert.deepEqual([got.ContentType, got.CacheControl], ['text/plain', 'no-cache']);
  });
});

describe('checksums of an object', () => {
  const body = randomBytes(200_000);

  test.each(['CRC32', 'CRC32C', 'CRC64NVME', 'SHA1', 'SHA256'] as const)(
    '%s is verified, kept, and returned on request',
    async (algorithm) => {
      await using open = await openS3();
      const field = `Checksum${algorithm}` as const;
      await put(open, 'k', body, { ChecksumAlgorithm: algorithm });
      const got = await get(open, 'k', { ChecksumMode: 'ENABLED' });
      assert.ok(got.bytes.equals(body)); // the client has verified it too
      assert.equal(got.ChecksumType, 'FULL_OBJECT');
      const value = got[field];
      assert.ok(value);
      if (algorithm.startsWith('SHA')) assert.equal(value, createHash(algorithm).update(body).digest('base64'));
      const plain = clientOf(open.s3, { responseChecksumValidation: 'WHEN_REQUIRED' });
      const silent = await plain.send(new HeadObjectCommand({ Bucket: BUCKET, Key: 'k' }));
      assert.equal(silent[field], undefined);
      const other = Buffer.from(value, 'base64');
      other[0] = (other[0] ?? 0) ^ 1;
      assert.equal(await refusal(put(open, 'wrong', body, { [field]: other.toString('base64') })), '400 BadDigest');
      assert.equal(await refusal(put(open, 'wrong', body, { [field]: 'AAA=' })), '400 InvalidRequest');
      assert.equal(await refusal(get(open, 'wrong')), '404 NoSuchKey');
    },
  );

  test('are CRC64NVME where the client sends none', async () => {
    await using open = await openS3();
    const bare = clientOf(open.s3, { requestChecksumCalculation: 'WHEN_REQUIRED' });
    await bare.send(new PutObjectCommand({ Bucket: BUCKET, Key: 'k', Body: '123456789' }));
    const head = await open.client.send(new HeadObjectCommand({ Bucket: BUCKET, Key: 'k', ChecksumMode: 'ENABLED' }));
    assert.equal(head.ChecksumCRC64NVME, Buffer.from('ae8b14860a799888', 'hex').toString('base64'));
  });

  test('are not sent with a part of the object', async () => {
    await using open = await openS3();
    await put(open, 'k', body);
    const got = await get(open, 'k', { Range: 'bytes=1-5', ChecksumMode: 'ENABLED' });
    assert.equal(got.ChecksumCRC32, undefined);
  });

  test('in Content-MD5 are verified', async () => {
    await using open = await openS3();
    const md5 = createHash('md5').update(body).digest('base64');
    await put(open, 'k', body, { ContentMD5: md5 });
    const other = createHash('md5').update('other').digest('base64');
    assert.equal(await refusal(put(open, 'k', body, { ContentMD5: other })), '400 BadDigest');
    assert.equal(await refusal(put(open, 'k', body, { ContentMD5: 'short' })), '400 InvalidDigest');
  });
});

describe('a range', () => {
  test.each([
    ['bytes=100-199', 100, 200],
    ['bytes=0-0', 0, 1],
    ['bytes=-500', 9500, 10_000],
    ['bytes=-20000', 0, 10_000],
    ['bytes=9000-', 9000, 10_000],
    ['bytes=9990-99999', 9990, 10_000],
  ])('%s is answered with 206', async (Range, from, to) => {
    await using open = await openS3();
    const body = randomBytes(10_000);
    await put(open, 'k', body);
    const got = await get(open, 'k', { Range });
    assert.equal(got.$metadata.httpStatusCode, 206);
    assert.equal(got.ContentRange, `bytes ${from}-${to - 1}/10000`);
    assert.equal(got.ContentLength, to - from);
    assert.ok(got.bytes.equals(body.subarray(from, to)));
    const head = await open.client.send(new HeadObjectCommand({ Bucket: BUCKET, Key: 'k', Range }));
    assert.equal(head.ContentLength, to - from);
  });

  test.each(['bytes=10000-', 'bytes=20000-20001', 'bytes=-0'])('%s is refused with 416', async (Range) => {
    await using open = await openS3();
    await put(open, 'k', randomBytes(10_000));
    await put(open, 'empty', new Uint8Array());
    assert.equal(await refusal(get(open, 'k', { Range })), '416 InvalidRange');
    assert.equal(await refusal(get(open, 'empty', { Range: 'bytes=0-' })), '416 InvalidRange');
  });

  test('is ignored when malformed, and refused when there are several', async () => {
    await using open = await openS3();
    await put(open, 'k', '0123456789');
    for (const Range of ['bytes=5-2', 'lines=1-2', 'bytes=-'])
      assert.equal((await get(open, 'k', { Range })).bytes.toString(), '0123456789');
    assert.equal(await refusal(get(open, 'k', { Range: 'bytes=0-1,3-4' })), '501 NotImplemented');
  });
});

describe('conditions', () => {
  test('on reading', async () => {
    await using open = await openS3();
    const etag = await put(open, 'k', 'v');
    const past = new Date(Date.now() - 60_000);
    const future = new Date(Date.now() + 60_000);
    assert.equal((await get(open, 'k', { IfMatch: etag })).bytes.toString(), 'v');
    assert.equal(await refusal(get(open, 'k', { IfMatch: '"other"' })), '412 PreconditionFailed');
    assert.match(await refusal(get(open, 'k', { IfNoneMatch: etag })), /^304 /);
    assert.equal((await get(open, 'k', { IfNoneMatch: '"other"' })).bytes.toString(), 'v');
    assert.equal(await refusal(get(open, 'k', { IfUnmodifiedSince: past })), '412 PreconditionFailed');
    assert.equal((await get(open, 'k', { IfMatch: etag, IfUnmodifiedSince: past })).bytes.toString(), 'v');
    assert.match(await refusal(get(open, 'k', { IfModifiedSince: future })), /^304 /);
    assert.equal((await get(open, 'k', { IfNoneMatch: '"other"', IfModifiedSince: future })).bytes.toString(), 'v');
  });

  test('on writing', async () => {
    await using open = await openS3();
    const etag = await put(open, 'k', '1', { IfNoneMatch: '*' });
    assert.equal(await refusal(put(open, 'k', '2', { IfNoneMatch: '*' })), '412 PreconditionFailed');
    assert.equal(await refusal(put(open, 'k', '2', { IfMatch: '"other"' })), '412 PreconditionFailed');
    assert.equal(await refusal(put(open, 'none', '2', { IfMatch: etag })), '404 NoSuchKey');
    assert.equal(await refusal(put(open, 'k', '2', { IfNoneMatch: etag })), '501 NotImplemented');
    assert.equal((await get(open, 'k')).bytes.toString(), '1');
    await put(open, 'k', '2', { IfMatch: etag });
    assert.equal((await get(open, 'k')).bytes.toString(), '2');
    assert.equal((await readdir(join(open.dir, 'data'))).length, 1);
  });

  test('on deleting', async () => {
    await using open = await openS3();
    const etag = await put(open, 'k', '1');
    const remove = (Key: string, IfMatch: string): Promise<unknown> =>
      open.client.send(new DeleteObjectCommand({ Bucket: BUCKET, Key, IfMatch }));
    assert.equal(await refusal(remove('k', '"other"')), '412 PreconditionFailed');
    assert.equal(await refusal(remove('none', etag)), '404 NoSuchKey');
    await remove('k', etag);
    assert.equal(await refusal(get(open, 'k')), '404 NoSuchKey');
  });

  test('let exactly one of ten racing writers win', async () => {
    await using open = await openS3();
    const writers = Array.from({ length: 10 }, (_, i) => put(open, 'k', randomBytes(50_000, i), { IfNoneMatch: '*' }));
    const results = await Promise.allSettled(writers);
    const winners = results.filter((result) => result.status === 'fulfilled');
    assert.equal(winners.length, 1);
    assert.equal((await get(open, 'k')).ETag, winners[0]?.value);
    assert.equal((await readdir(join(open.dir, 'data'))).length, 1);
  });
});

describe('overwriting', () => {
  test('by forty writers at once leaves the object of one of them, whole', async () => {
    await using open = await openS3();
    const bodies = Array.from({ length: 40 }, (_, i) => randomBytes(20_000, i));
    await Promise.all(bodies.map((body) => put(open, 'k', body)));
    const { bytes } = await get(open, 'k');
    assert.ok(bodies.some((body) => body.equals(bytes)));
    assert.equal((await readdir(join(open.dir, 'data'))).length, 1);
  });

  test('and deleting do not touch a read that has begun', async () => {
    await using open = await openS3();
    const first = randomBytes(8_000_000, 1); // more than the sockets can buffer
    await put(open, 'k', first);
    const reading = await open.client.send(new GetObjectCommand({ Bucket: BUCKET, Key: 'k' }));
    await put(open, 'k', randomBytes(1000, 2));
    await open.client.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: 'k' }));
    const bytes = Buffer.from((await reading.Body?.transformToByteArray()) ?? []);
    assert.ok(bytes.equals(first));
    assert.equal(await refusal(get(open, 'k')), '404 NoSuchKey');
  });
});

describe('deleting', () => {
  test('of an object succeeds whether the object exists or not', async () => {
    await using open = await openS3();
    await put(open, 'k', 'v');
    for (const Key of ['k', 'k', 'none']) {
      const answer = await open.client.send(new DeleteObjectCommand({ Bucket: BUCKET, Key }));
      assert.equal(answer.$metadata.httpStatusCode, 204);
    }
    assert.equal(await refusal(get(open, 'k')), '404 NoSuchKey');
  });

  test('of many reports each, and may be quiet about those that succeeded', async () => {
    await using open = await openS3();
    const keys = ['a', 'b & <c>', 'none'];
    await put(open, 'a', 'v');
    await put(open, 'b & <c>', 'v');
    const remove = (Quiet: boolean, Objects: { Key: string; ETag?: string }[]): DeleteObjectsCommand =>
      new DeleteObjectsCommand({ Bucket: BUCKET, Delete: { Quiet, Objects } });
    const held = await open.client.send(remove(false, [{ Key: 'a', ETag: '"other"' }]));
    assert.deepEqual(held.Errors?.map(({ Key, Code }) => [Key, Code]), [['a', 'PreconditionFailed']]); // prettier-ignore
    const loud = await open.client.send(remove(false, keys.map((Key) => ({ Key })))); // prettier-ignore
    assert.deepEqual(loud.Deleted?.map(({ Key }) => Key), keys); // prettier-ignore
    assert.equal(await refusal(get(open, 'a')), '404 NoSuchKey');
    const quiet = await open.client.send(remove(true, [{ Key: 'a' }]));
    assert.equal(quiet.Deleted, undefined);
    const tooMany = Array.from({ length: 1001 }, (_, i) => ({ Key: String(i) }));
    assert.equal(await refusal(open.client.send(remove(true, tooMany))), '400 MalformedXML');
  });
});

test('attributes of an object are returned, its entity tag without quotes', async () => {
  await using open = await openS3();
  const etag = await put(open, 'k', 'value', { ChecksumAlgorithm: 'SHA256' satisfies ChecksumAlgorithm });
  const ask = (ObjectAttributes: string[]): GetObjectAttributesCommand =>
    new GetObjectAttributesCommand({ Bucket: BUCKET, Key: 'k', ObjectAttributes: ObjectAttributes as ['ETag'] });
  const all = await open.client.send(ask(['ETag', 'Checksum', 'ObjectParts', 'StorageClass', 'ObjectSize']));
  assert.equal(`"${all.ETag ?? ''}"`, etag);
  assert.deepEqual([all.ObjectSize, all.StorageClass, all.ObjectParts], [5, 'STANDARD', undefined]);
  assert.equal(all.Checksum?.ChecksumSHA256, createHash('sha256').update('value').digest('base64'));
  const one = await open.client.send(ask(['ObjectSize']));
  assert.deepEqual([one.ETag, one.ObjectSize], [undefined, 5]);
  assert.equal(await refusal(open.client.send(ask(['Colour']))), '400 InvalidArgument');
});
