import {
  DeleteObjectCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
  type ListObjectVersionsCommandOutput,
} from '@aws-sdk/client-s3';
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { BUCKET, codeOf, openS3, refusal, sendRaw, signed, type OpenS3 } from '../../../test/support/local-s3.ts';

async function openWith(keys: readonly string[]): Promise<OpenS3> {
  const open = await openS3();
  for (const Key of keys) await open.client.send(new PutObjectCommand({ Bucket: BUCKET, Key, Body: Key }));
  return open;
}

/** Keys and common prefixes of each page. */
async function pages(open: OpenS3, o: object): Promise<string[][]> {
  const found: string[][] = [];
  let token: string | undefined;
  do {
    const page = await open.client.send(
      new ListObjectsV2Command({ Bucket: BUCKET, ...o, ...(token !== undefined && { ContinuationToken: token }) }),
    );
    const keys = (page.Contents ?? []).map(({ Key = '' }) => Key);
    const prefixes = (page.CommonPrefixes ?? []).map(({ Prefix = '' }) => Prefix);
    assert.equal(page.KeyCount, keys.length + prefixes.length);
    assert.equal(page.IsTruncated, page.NextContinuationToken !== undefined);
    found.push([...prefixes, ...keys]);
    token = page.NextContinuationToken;
  } while (token !== undefined);
  return found;
}

const TREE = ['a', 'b/1', 'b/2', 'b/c/3', 'c/1', 'd', 'ü', '\u{ff5e}', '\u{1f600}'];

describe('a list of objects', () => {
  test('is in the order of UTF-8 bytes, with the description of each object', async () => {
    await using open = await openWith(TREE.toReversed());
    assert.deepEqual(await pages(open, {}), [TREE]);
    const { Contents = [] } = await open.client.send(new ListObjectsV2Command({ Bucket: BUCKET, MaxKeys: 2 }));
    const [, second] = Contents;
    assert.deepEqual(
      [second?.Key, second?.Size, second?.StorageClass, second?.Owner],
      ['b/1', 3, 'STANDARD', undefined],
    );
    assert.match(second?.ETag ?? '', /^"[0-9a-f]{32}"$/);
    const owned = await open.client.send(new ListObjectsV2Command({ Bucket: BUCKET, FetchOwner: true }));
    assert.match(owned.Contents?.[0]?.Owner?.ID ?? '', /^[0-9a-f]{64}$/);
  });

  test.each([
    ['everything by threes', { MaxKeys: 3 }, [TREE.slice(0, 3), TREE.slice(3, 6), TREE.slice(6)]],
    ['a prefix', { Prefix: 'b/' }, [['b/1', 'b/2', 'b/c/3']]],
    ['a prefix that is part of a name', { Prefix: 'b' }, [['b/1', 'b/2', 'b/c/3']]],
    ['a prefix by ones', { Prefix: 'b/', MaxKeys: 1 }, [['b/1'], ['b/2'], ['b/c/3']]],
    ['nothing', { Prefix: 'bb' }, [[]]],
    ['a level', { Delimiter: '/' }, [['b/', 'c/', 'a', 'd', ...TREE.slice(6)]]],
    ['a level by twos', { Delimiter: '/', MaxKeys: 2 }, [['b/', 'a'], ['c/', 'd'], TREE.slice(6, 8), TREE.slice(8)]],
    ['a level below', { Prefix: 'b/', Delimiter: '/' }, [['b/c/', 'b/1', 'b/2']]],
    ['with a delimiter of its own', { Delimiter: '/c' }, [['b/c', 'a', 'b/1', 'b/2', 'c/1', 'd', ...TREE.slice(6)]]],
    ['what comes after a key', { StartAfter: 'c/1' }, [['d', ...TREE.slice(6)]]],
    ['what comes after no key', { StartAfter: 'b/20', MaxKeys: 2 }, [['b/c/3', 'c/1'], ['d', 'ü'], TREE.slice(7)]],
    ['no keys at all', { MaxKeys: 0 }, [[]]],
  ])('finds %s', async (_, o, expected) => {
    await using open = await openWith(TREE);
    assert.deepEqual(await pages(open, o), expected);
  });

  test('continues after the last key, whatever is added or removed meanwhile', async () => {
    await using open = await openWith(['a', 'b', 'c', 'd']);
    const first = await open.client.send(new ListObjectsV2Command({ Bucket: BUCKET, MaxKeys: 2 }));
    await open.client.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: 'b' }));
    await open.client.send(new PutObjectCommand({ Bucket: BUCKET, Key: 'aa', Body: 'x' }));
    await open.client.send(new PutObjectCommand({ Bucket: BUCKET, Key: 'cc', Body: 'x' }));
    const ContinuationToken = first.NextContinuationToken;
    const rest = await open.client.send(new ListObjectsV2Command({ Bucket: BUCKET, ContinuationToken }));
    assert.deepEqual(rest.Contents?.map(({ Key }) => Key), ['c', 'cc', 'd']); // prettier-ignore
  });

  test('percent-encodes keys that XML cannot express, on request', async () => {
    const key = 'a b/\u0001+&/ü';
    await using open = await openWith([key]);
    const page = await open.client.send(
      new ListObjectsV2Command({ Bucket: BUCKET, EncodingType: 'url', Prefix: 'a b' }),
    );
    assert.deepEqual([page.Contents?.[0]?.Key, page.Prefix], ['a%20b/%01%2B%26/%C3%BC', 'a%20b']);
  });

  test('refuses malformed tokens, counts and encodings', async () => {
    await using open = await openWith([]);
    const list = (o: object): Promise<string> =>
      refusal(open.client.send(new ListObjectsV2Command({ Bucket: BUCKET, ...o })));
    assert.equal(await list({ ContinuationToken: 'made up' }), '400 InvalidArgument');
    assert.equal(await list({ MaxKeys: -1 }), '400 InvalidArgument');
    assert.equal(await list({ EncodingType: 'base64' }), '400 InvalidArgument');
    assert.equal(await list({ Bucket: 'none' }), '404 NoSuchBucket');
  });

  test('has at most a thousand keys, whatever the request allows', async () => {
    await using open = await openS3();
    const names = Array.from({ length: 1001 }, (_, i) => String(i).padStart(4, '0'));
    for (let at = 0; at < names.length; at += 50) {
      const some = names.slice(at, at + 50);
      await Promise.all(
        some.map((name) => sendRaw(open.s3, signed(open.s3, { method: 'PUT', path: `/${BUCKET}/${name}`, body: 'x' }))),
      );
    }
    assert.deepEqual(await pages(open, { MaxKeys: 5000 }), [names.slice(0, 1000), names.slice(1000)]);
  });

  test('of version 1 answers NotImplemented', async () => {
    await using open = await openS3();
    assert.equal(codeOf(await sendRaw(open.s3, signed(open.s3, { path: `/${BUCKET}` }))), '501 NotImplemented');
  });
});

test('a list of versions is paged, with markers among the versions', async () => {
  await using open = await openS3();
  const { client } = open;
  await client.send(new PutBucketVersioningCommand({ Bucket: BUCKET, VersioningConfiguration: { Status: 'Enabled' } }));
  const expected: string[] = [];
  for (const Key of ['a', 'b/1', 'b/1', 'b/1', 'c']) {
    const { VersionId = '' } = await client.send(new PutObjectCommand({ Bucket: BUCKET, Key, Body: 'v' }));
    expected.push(`${Key} ${VersionId}`);
  }
  const marker = await client.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: 'c' }));
  expected.push(`c ${marker.VersionId ?? ''} deleted`);
  const [a, b1, b2, b3, c1, c2] = expected;
  const ordered = [a, b3, b2, b1, c2, c1];
  for (const MaxKeys of [1, 2, 3, 1000]) {
    const found: string[] = [];
    let markers: object | undefined = {};
    while (markers !== undefined) {
      const page: ListObjectVersionsCommandOutput = await client.send(
        new ListObjectVersionsCommand({ Bucket: BUCKET, MaxKeys, ...markers }),
      );
      for (const { Key = '', VersionId = '' } of page.DeleteMarkers ?? []) found.push(`${Key} ${VersionId} deleted`);
      for (const { Key = '', VersionId = '' } of page.Versions ?? []) found.push(`${Key} ${VersionId}`);
      const { NextKeyMarker: KeyMarker, NextVersionIdMarker: VersionIdMarker } = page;
      markers = page.IsTruncated === true ? { KeyMarker, VersionIdMarker } : undefined;
    }
    // within one page the client separates markers from versions, and loses their order
    assert.deepEqual(MaxKeys === 1 ? found : found.sort(), MaxKeys === 1 ? ordered : expected.toSorted());
  }
  const level = await client.send(new ListObjectVersionsCommand({ Bucket: BUCKET, Delimiter: '/' }));
  assert.deepEqual(level.CommonPrefixes?.map(({ Prefix }) => Prefix), ['b/']); // prettier-ignore
  assert.deepEqual(level.Versions?.map(({ Key, IsLatest }) => [Key, IsLatest]), [['a', true], ['c', false]]); // prettier-ignore
  const orphan = client.send(new ListObjectVersionsCommand({ Bucket: BUCKET, VersionIdMarker: 'x' }));
  assert.equal(await refusal(orphan), '400 InvalidArgument');
});
