import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'vitest';
import { digestOf } from '../../../worker/oci/digest.ts';
import { seededBytes } from '../../../test/support/images.ts';
import { errorOf, withDigest } from '../../../test/support/raw-registry.ts';
import { folder, raw, useRegistry } from './lab.ts';

useRegistry();

test('a blob that was pushed with POST and PUT is served with its digest and length', async () => {
  const blob = seededBytes('blob', 3_000_000);
  const digest = digestOf(blob);
  const done = await raw.call('PUT', withDigest(await raw.startUpload('app'), digest), { body: blob });
  assert.equal(done.status, 201);
  assert.equal(done.headers['location'], `/v2/app/blobs/${digest}`);
  assert.equal(done.headers['docker-content-digest'], digest);
  const head = await raw.call('HEAD', `/v2/app/blobs/${digest}`);
  assert.equal(head.status, 200);
  assert.equal(head.headers['content-length'], '3000000');
  assert.equal(head.headers['docker-content-digest'], digest);
  assert.equal(head.body.byteLength, 0);
  const got = await raw.call('GET', `/v2/app/blobs/${digest}`);
  assert.equal(got.status, 200);
  assert.ok(got.body.equals(blob));
});

test('a digest may come with its colon encoded', async () => {
  const digest = await raw.pushBlob('app', seededBytes('encoded', 10));
  assert.equal((await raw.call('HEAD', `/v2/app/blobs/${encodeURIComponent(digest)}`)).status, 200);
});

test('a single POST with the digest stores a blob', async () => {
  const blob = seededBytes('single', 1000);
  const digest = digestOf(blob);
  const done = await raw.call('POST', `/v2/app/blobs/uploads/?digest=${digest}`, { body: blob });
  assert.equal(done.status, 201);
  assert.ok((await raw.call('GET', `/v2/app/blobs/${digest}`)).body.equals(blob));
});

test('an empty blob, and one named by its sha512, are stored', async () => {
  for (const [bytes, algorithm] of [
    [0, 'sha256'],
    [0, 'sha512'],
    [70_000, 'sha512'],
  ] as const) {
    const blob = seededBytes('odd', bytes);
    const digest = await raw.pushBlob('app', blob, digestOf(blob, algorithm));
    const got = await raw.call('GET', `/v2/app/blobs/${digest}`);
    assert.equal(got.status, 200);
    assert.equal(got.headers['content-length'], String(bytes));
    assert.ok(got.body.equals(blob));
  }
});

test('bytes that do not match the digest are refused, and none of them stays', async () => {
  const wrong = digestOf(seededBytes('another', 10));
  const refused = await raw.call('PUT', withDigest(await raw.startUpload('app'), wrong), {
    body: seededBytes('x', 10),
  });
  assert.deepEqual(errorOf(refused), [400, 'DIGEST_INVALID']);
  assert.equal((await raw.call('HEAD', `/v2/app/blobs/${wrong}`)).status, 404);
  assert.deepEqual(await readdir(join(folder, 'uploads')), []);
  assert.deepEqual(await readdir(join(folder, 'blobs', 'sha256')), []);
});

test('a closing PUT without a digest, or with one that is malformed, is refused', async () => {
  assert.deepEqual(errorOf(await raw.call('PUT', await raw.startUpload('app'))), [400, 'DIGEST_INVALID']);
  assert.deepEqual(errorOf(await raw.call('PUT', withDigest(await raw.startUpload('app'), 'sha256:12'))), [
    400,
    'DIGEST_INVALID',
  ]);
});

test('a blob of another repository, or of a repository that does not exist, is unknown', async () => {
  const digest = await raw.pushBlob('app', seededBytes('b', 10));
  await raw.startUpload('other');
  assert.deepEqual(errorOf(await raw.call('GET', `/v2/other/blobs/${digest}`)), [404, 'BLOB_UNKNOWN']);
  assert.deepEqual(errorOf(await raw.call('GET', `/v2/nowhere/blobs/${digest}`)), [404, 'NAME_UNKNOWN']);
});

test.each([
  ['bytes=0-9', 0, 10],
  ['bytes=10-', 10, 1000],
  ['bytes=999-', 999, 1000],
  ['bytes=990-5000', 990, 1000],
  ['bytes=-1', 999, 1000],
  ['bytes=-5000', 0, 1000],
])('the range %s of a blob of 1000 bytes is 206', async (range, from, to) => {
  const blob = seededBytes('ranged', 1000);
  const digest = await raw.pushBlob('app', blob);
  const got = await raw.call('GET', `/v2/app/blobs/${digest}`, { headers: { range } });
  assert.equal(got.status, 206);
  assert.equal(got.headers['content-range'], `bytes ${from}-${to - 1}/1000`);
  assert.equal(got.headers['content-length'], String(to - from));
  assert.ok(got.body.equals(blob.subarray(from, to)));
});

test.each(['bytes=1000-', 'bytes=1000-1001', 'bytes=-0'])('the range %s of 1000 bytes is 416', async (range) => {
  const digest = await raw.pushBlob('app', seededBytes('ranged', 1000));
  const got = await raw.call('GET', `/v2/app/blobs/${digest}`, { headers: { range } });
  assert.equal(got.status, 416);
  assert.equal(got.headers['content-range'], 'bytes */1000');
});

test.each(['bytes=0-1,4-5', 'bytes=5-1', 'bytes=-', 'lines=0-1'])('the range %s is ignored', async (range) => {
  const digest = await raw.pushBlob('app', seededBytes('ranged', 1000));
  const got = await raw.call('GET', `/v2/app/blobs/${digest}`, { headers: { range } });
  assert.equal(got.status, 200);
  assert.equal(got.body.byteLength, 1000);
});

test('a range is served only while If-Range is the ETag of the blob', async () => {
  const digest = await raw.pushBlob('app', seededBytes('ranged', 1000));
  const get = async (ifRange: string): Promise<number> =>
    (await raw.call('GET', `/v2/app/blobs/${digest}`, { headers: { range: 'bytes=5-', 'if-range': ifRange } })).status;
  assert.equal(await get(`"${digest}"`), 206);
  assert.equal(await get('"something else"'), 200);
});
