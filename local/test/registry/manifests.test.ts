import assert from 'node:assert/strict';
import { test } from 'vitest';
import { digestOf } from '../../../worker/oci/digest.ts';
import { MEDIA_TYPE } from '../../../worker/oci/manifest.ts';
import { errorOf, imageOf, indexOf, type RawAnswer } from '../../../test/support/raw-registry.ts';
import { raw, useRegistry } from './lab.ts';

useRegistry();

test('a manifest is served byte for byte, by tag and by digest', async () => {
  const { bytes, descriptor } = await raw.pushImage('app', 'v1');
  for (const reference of ['v1', descriptor.digest]) {
    const got = await raw.call('GET', `/v2/app/manifests/${reference}`);
    assert.equal(got.status, 200);
    assert.equal(got.headers['content-type'], MEDIA_TYPE.ociManifest);
    assert.equal(got.headers['docker-content-digest'], descriptor.digest);
    assert.ok(got.body.equals(bytes));
    const head = await raw.call('HEAD', `/v2/app/manifests/${reference}`);
    assert.equal(head.status, 200);
    assert.equal(head.headers['docker-content-digest'], descriptor.digest);
    assert.equal(head.headers['content-length'], String(bytes.byteLength));
  }
  assert.deepEqual(errorOf(await raw.call('GET', '/v2/app/manifests/v2')), [404, 'MANIFEST_UNKNOWN']);
  assert.deepEqual(errorOf(await raw.call('GET', '/v2/nowhere/manifests/v1')), [404, 'NAME_UNKNOWN']);
});

test('a manifest is not served as a blob, nor a blob as a manifest', async () => {
  const { descriptor, config } = await raw.pushImage('app', 'v1');
  assert.equal((await raw.call('GET', `/v2/app/blobs/${descriptor.digest}`)).status, 404);
  assert.equal((await raw.call('GET', `/v2/app/manifests/${config}`)).status, 404);
});

test('a manifest is withheld from a client that does not accept its type', async () => {
  await raw.pushImage('app', 'v1');
  const get = async (accept: string): Promise<number> =>
    (await raw.call('GET', '/v2/app/manifests/v1', { headers: { accept } })).status;
  assert.equal(await get(MEDIA_TYPE.dockerManifest), 404);
  assert.equal(await get(`${MEDIA_TYPE.dockerManifest}, ${MEDIA_TYPE.ociManifest};q=0.5`), 200);
  assert.equal(await get('*/*'), 200);
});

test('a manifest that has not changed is not sent again', async () => {
  const { descriptor } = await raw.pushImage('app', 'v1');
  const again = await raw.call('GET', '/v2/app/manifests/v1', {
    headers: { 'if-none-match': `"${descriptor.digest}"` },
  });
  assert.equal(again.status, 304);
});

test('malformed manifests are refused', async () => {
  const { config, bytes } = await raw.pushImage('app', 'v1');
  const good = JSON.parse(bytes.toString()) as Record<string, unknown>;
  const put = async (body: string, type: string = MEDIA_TYPE.ociManifest, reference = 'bad'): Promise<unknown> =>
    errorOf(
      await raw.call('PUT', `/v2/app/manifests/${reference}`, {
        body: Buffer.from(body),
        headers: { 'content-type': type },
      }),
    );
  assert.deepEqual(await put('{'), [400, 'MANIFEST_INVALID']);
  assert.deepEqual(await put('[]'), [400, 'MANIFEST_INVALID']);
  assert.deepEqual(await put(JSON.stringify(good), MEDIA_TYPE.dockerManifest), [400, 'MANIFEST_INVALID']);
  assert.deepEqual(await put(JSON.stringify(good), 'application/json'), [400, 'MANIFEST_INVALID']);
  assert.deepEqual(await put(JSON.stringify({ ...good, manifests: [] })), [400, 'MANIFEST_INVALID']);
  assert.deepEqual(await put(JSON.stringify({ ...good, schemaVersion: 1 })), [400, 'MANIFEST_INVALID']);
  assert.deepEqual(await put(JSON.stringify(good), MEDIA_TYPE.ociManifest, config), [400, 'DIGEST_INVALID']);
  assert.deepEqual(await put(JSON.stringify(good), MEDIA_TYPE.ociManifest, 'sha256:abc'), [400, 'DIGEST_INVALID']);
  assert.deepEqual(await put(JSON.stringify(good), MEDIA_TYPE.ociManifest, '.dot'), [400, 'MANIFEST_INVALID']);
  assert.equal((await raw.call('HEAD', '/v2/app/manifests/bad')).status, 404);
});

test('a manifest over 4 MiB is 413, and one of exactly 4 MiB is accepted', async () => {
  const { bytes } = await raw.pushImage('app', 'v1');
  const good = JSON.parse(bytes.toString()) as Record<string, unknown>;
  const padded = (size: number): Buffer => {
    const empty = JSON.stringify({ ...good, annotations: { padding: '' } }).length;
    return Buffer.from(JSON.stringify({ ...good, annotations: { padding: 'x'.repeat(size - empty) } }));
  };
  const put = async (size: number): Promise<RawAnswer> =>
    raw.call('PUT', '/v2/app/manifests/big', {
      body: padded(size),
      headers: { 'content-type': MEDIA_TYPE.ociManifest },
    });
  assert.deepEqual(errorOf(await put(4 * 1024 * 1024 + 1)), [413, 'SIZE_INVALID']);
  assert.equal((await put(4 * 1024 * 1024)).status, 201);
});

test('a refusal reaches a client that sends far too much', async () => {
  await raw.startUpload('app');
  const huge = Buffer.alloc(64 * 1024 * 1024);
  assert.deepEqual(errorOf(await raw.putManifest('app', 'huge', huge)), [413, 'SIZE_INVALID']);
  const nowhere = '/v2/app/blobs/uploads/none?digest=none';
  assert.deepEqual(errorOf(await raw.call('PUT', nowhere, { body: huge })), [404, 'BLOB_UPLOAD_UNKNOWN']);
  assert.equal((await raw.call('GET', '/v2/')).status, 200);
});

test('an image whose blobs are missing, and an index whose images are missing, are refused', async () => {
  const { descriptor, bytes } = await raw.pushImage('app', 'v1');
  await raw.startUpload('other');
  const image = await raw.putManifest('other', 'v1', bytes);
  assert.deepEqual(errorOf(image), [404, 'MANIFEST_BLOB_UNKNOWN']);
  const index = indexOf([descriptor]);
  const type = MEDIA_TYPE.ociIndex;
  assert.deepEqual(errorOf(await raw.putManifest('other', 'v1', index, type)), [404, 'MANIFEST_BLOB_UNKNOWN']);
  assert.equal((await raw.putManifest('app', 'multi', index, type)).status, 201);
  assert.equal((await raw.call('HEAD', '/v2/other/manifests/v1')).status, 404);
});

test('layers that stay elsewhere need not exist', async () => {
  const config = await raw.pushBlob('app', Buffer.from('{}'));
  const foreign = {
    mediaType: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
    digest: digestOf(Buffer.from('elsewhere')),
    size: 9,
    urls: ['https://example.com/layer'],
  };
  const pushed = await raw.putManifest('app', 'windows', imageOf({ digest: config, size: 2 }, [foreign]));
  assert.equal(pushed.status, 201);
});

test('deleting a tag leaves the manifest, deleting the manifest deletes its tags', async () => {
  const { descriptor } = await raw.pushImage('app', 'v1');
  await raw.pushImage('app', 'v2');
  assert.equal((await raw.call('DELETE', '/v2/app/manifests/v1')).status, 202);
  assert.equal((await raw.call('HEAD', '/v2/app/manifests/v1')).status, 404);
  assert.equal((await raw.call('HEAD', `/v2/app/manifests/${descriptor.digest}`)).status, 200);
  assert.equal((await raw.call('DELETE', `/v2/app/manifests/${descriptor.digest}`)).status, 202);
  assert.deepEqual(errorOf(await raw.call('GET', '/v2/app/manifests/v2')), [404, 'MANIFEST_UNKNOWN']);
  assert.deepEqual(errorOf(await raw.call('DELETE', '/v2/app/manifests/v2')), [404, 'MANIFEST_UNKNOWN']);
});
