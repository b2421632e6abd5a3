import {
  CopyObjectCommand,
  CreateBucketCommand,
  DeleteObjectCommand,
  HeadObjectCommand,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'vitest';
import { BUCKET, openS3, randomBytes, refusal, type OpenS3 } from '../../../test/support/local-s3.ts';
import { get, put } from './objects.ts';

describe('copying', () => {
  const copy = (open: OpenS3, source: string, key: string, o: object = {}): Promise<unknown> =>
    open.client.send(new CopyObjectCommand({ Bucket: BUCKET, Key: key, CopySource: source, ...o }));

  test('copies metadata and tags, or replaces them', async () => {
    await using open = await openS3();
    await open.client.send(new CreateBucketCommand({ Bucket: 'source' }));
    const key = 'dir/a: b+ü%.txt';
    const body = randomBytes(70_000);
    await open.client.send(
      new PutObjectCommand({ Bucket: 'source', Key: key, Body: body, Metadata: { a: '1' }, Tagging: 't=1', ContentType: 'x/y' }), // prettier-ignore
    );
    const source = `source/${encodeURIComponent(key)}`;
    await copy(open, source, 'same');
    const same = await get(open, 'same');
    assert.ok(same.bytes.equals(body));
    assert.deepEqual([same.Metadata, same.ContentType, same.TagCount], [{ a: '1' }, 'x/y', 1]);
    await copy(open, source, 'new', {
      MetadataDirective: 'REPLACE',
      Metadata: { b: '2' },
      TaggingDirective: 'REPLACE',
      StorageClass: 'STANDARD_IA',
    });
    const other = await get(open, 'new');
    assert.deepEqual([other.Metadata, other.TagCount, other.StorageClass], [{ b: '2' }, undefined, 'STANDARD_IA']);
  });

  test('shares the bytes until no object needs them', async () => {
    await using open = await openS3();
    const files = async (): Promise<number> => (await readdir(join(open.dir, 'data'))).length;
    await put(open, 'a', randomBytes(70_000));
    await copy(open, `${BUCKET}/a`, 'b');
    assert.equal(await files(), 1);
    await open.client.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: 'a' }));
    assert.ok((await get(open, 'b')).bytes.equals(randomBytes(70_000)));
    await open.client.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: 'b' }));
    await open.s3.close();
    assert.equal(await files(), 0);
  });

  test('returns the requested checksum', async () => {
    await using open = await openS3();
    const body = randomBytes(70_000);
    await put(open, 'a', body);
    await copy(open, `${BUCKET}/a`, 'b', { ChecksumAlgorithm: 'SHA256' });
    const head = await open.client.send(new HeadObjectCommand({ Bucket: BUCKET, Key: 'b', ChecksumMode: 'ENABLED' }));
    assert.equal(head.ChecksumSHA256, createHash('sha256').update(body).digest('base64'));
  });

  test('has conditions on both sides', async () => {
    await using open = await openS3();
    const etag = await put(open, 'a', 'v');
    await put(open, 'there', 'old');
    const source = `${BUCKET}/a`;
    assert.equal(await refusal(copy(open, source, 'b', { CopySourceIfMatch: '"other"' })), '412 PreconditionFailed');
    assert.equal(await refusal(copy(open, source, 'b', { CopySourceIfNoneMatch: etag })), '412 PreconditionFailed');
    assert.equal(await refusal(copy(open, source, 'there', { IfNoneMatch: '*' })), '412 PreconditionFailed');
    assert.equal((await get(open, 'there')).bytes.toString(), 'old');
    await copy(open, source, 'b', { CopySourceIfMatch: etag, IfNoneMatch: '*' });
    assert.equal((await get(open, 'b')).bytes.toString(), 'v');
  });

  test('refuses missing sources, and a copy onto itself without a change', async () => {
    await using open = await openS3();
    await put(open, 'a', 'v');
    assert.equal(await refusal(copy(open, `${BUCKET}/none`, 'b')), '404 NoSuchKey');
    assert.equal(await refusal(copy(open, 'none/a', 'b')), '404 NoSuchBucket');
    assert.equal(await refusal(copy(open, BUCKET, 'b')), '400 InvalidArgument');
    assert.equal(await refusal(copy(open, `${BUCKET}/a`, 'a')), '400 InvalidRequest');
    await copy(open, `${BUCKET}/a`, 'a', { MetadataDirective: 'REPLACE', Metadata: { x: 'y' } });
    assert.deepEqual((await get(open, 'a')).Metadata, { x: 'y' });
  });
});
