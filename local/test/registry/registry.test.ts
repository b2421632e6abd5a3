import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setImmediate } from 'node:timers/promises';
import { request } from 'undici';
import { test } from 'vitest';
import { startRegistry } from '../../registry/registry.ts';
import { digestOf } from '../../../worker/oci/digest.ts';
import { MEDIA_TYPE, type Descriptor } from '../../../worker/oci/manifest.ts';
import { seededBytes } from '../../../test/support/images.ts';
import { chunk, errorOf, imageOf, locationOf, nextOf, withDigest } from '../../../test/support/raw-registry.ts';
import { folder, raw, registry, restart, useRegistry } from './lab.ts';

useRegistry();

// ---- chunks

test('chunks in order make a blob; each answer has the Location for the next', async () => {
  const blob = seededBytes('chunked', 2500);
  const digest = digestOf(blob);
  let location = await raw.startUpload('app');
  for (const [from, to] of [
    [0, 1000],
    [1000, 2000],
  ] as const) {
    const answer = await raw.call('PATCH', location, chunk(blob, from, to));
    assert.equal(answer.status, 202);
    assert.equal(answer.headers['range'], `0-${to - 1}`);
    location = locationOf(answer);
  }
  const done = await raw.call('PUT', withDigest(location, digest), chunk(blob, 2000, 2500));
  assert.equal(done.status, 201);
  assert.ok((await raw.call('GET', `/v2/app/blobs/${digest}`)).body.equals(blob));
});

test('one streamed PATCH without Content-Range and an empty PUT make a blob', async () => {
  const blob = seededBytes('streamed', 300_000);
  const digest = digestOf(blob);
  const answer = await raw.call('PATCH', await raw.startUpload('app'), { body: blob });
  assert.equal(answer.status, 202);
  const done = await raw.call('PUT', withDigest(locationOf(answer), digest));
  assert.equal(done.status, 201);
  assert.ok((await raw.call('GET', `/v2/app/blobs/${digest}`)).body.equals(blob));
});

test('a chunk out of order is 416, and the upload reports its offset and continues', async () => {
  const blob = seededBytes('disorder', 3000);
  const location = locationOf(await raw.call('PATCH', await raw.startUpload('app'), chunk(blob, 0, 1000)));
  assert.deepEqual(errorOf(await raw.call('PATCH', location, chunk(blob, 2000, 3000))), [416, 'BLOB_UPLOAD_INVALID']);
  assert.deepEqual(errorOf(await raw.call('PATCH', location, chunk(blob, 0, 1000))), [416, 'BLOB_UPLOAD_INVALID']);
  const status = await raw.call('GET', location);
  assert.equal(status.status, 204);
  assert.equal(status.headers['range'], '0-999');
  const rest = await raw.call('PUT', withDigest(locationOf(status), digestOf(blob)), chunk(blob, 1000, 3000));
  assert.equal(rest.status, 201);
});

test('a superseded Location only returns the newest one', async () => {
  const blob = seededBytes('stale', 2000);
  const first = await raw.startUpload('app');
  await raw.call('PATCH', first, chunk(blob, 0, 1000));
  assert.deepEqual(errorOf(await raw.call('PATCH', first, chunk(blob, 1000, 2000))), [416, 'BLOB_UPLOAD_INVALID']);
  const status = await raw.call('GET', first);
  assert.equal(status.status, 204);
  assert.equal((await raw.call('PATCH', locationOf(status), chunk(blob, 1000, 2000))).status, 202);
});

test('a Location without its query, or under another repository, is refused', async () => {
  const location = await raw.startUpload('app');
  await raw.startUpload('other');
  const bare = location.slice(0, location.indexOf('?'));
  assert.deepEqual(errorOf(await raw.call('PATCH', bare, { body: Buffer.from('x') })), [400, 'BLOB_UPLOAD_INVALID']);
  const moved = location.replace('/app/', '/other/');
  assert.deepEqual(errorOf(await raw.call('PATCH', moved, { body: Buffer.from('x') })), [404, 'BLOB_UPLOAD_UNKNOWN']);
});

test('an upload that its client broke off continues at its offset', async () => {
  const blob = seededBytes('broken', 300_000);
  const location = await raw.startUpload('app');
  const received = (): number | undefined => registry.requests.find((r) => r.kind === 'upload-patch')?.receivedBytes;
  const breaking = async function* (): AsyncGenerator<Uint8Array> {
    yield blob.subarray(0, 100_000);
    while (received() !== 100_000) await setImmediate();
    throw new Error('broken off');
  };
  const headers = { 'content-length': '300000' };
  const body = Readable.from(breaking());
  await assert.rejects(request(new URL(location, registry.url), { method: 'PATCH', headers, body }));
  const status = await raw.call('GET', location);
  assert.equal(status.headers['range'], '0-99999');
  const rest = withDigest(locationOf(status), digestOf(blob));
  assert.equal((await raw.call('PUT', rest, chunk(blob, 100_000, 300_000))).status, 201);
});

test('requests to one upload take turns', async () => {
  const blob = seededBytes('turns', 100_000);
  const location = await raw.startUpload('app');
  const halting = async function* (): AsyncGenerator<Uint8Array> {
    yield blob.subarray(0, 50_000);
    while (!registry.requests.some((r) => r.kind === 'upload-get')) await setImmediate();
    yield blob.subarray(50_000);
  };
  const headers = { 'content-length': '100000' };
  const url = new URL(location, registry.url);
  const patched = request(url, { method: 'PATCH', headers, body: Readable.from(halting()) });
  while (registry.requests.find((r) => r.kind === 'upload-patch')?.receivedBytes !== 50_000) await setImmediate();
  const status = await raw.call('GET', location);
  assert.equal(status.headers['range'], '0-99999');
  assert.equal((await patched).statusCode, 202);
});

test.each([
  ['bytes 0-9', 10, 'BLOB_UPLOAD_INVALID'],
  ['0-', 10, 'BLOB_UPLOAD_INVALID'],
  ['9-0', 10, 'BLOB_UPLOAD_INVALID'],
  ['0-10', 10, 'SIZE_INVALID'],
  ['0-8', 10, 'SIZE_INVALID'],
])('a chunk with Content-Range %s and %i bytes is refused', async (range, bytes, code) => {
  const refused = await raw.call('PATCH', await raw.startUpload('app'), {
    body: seededBytes('c', bytes),
    headers: { 'content-range': range },
  });
  assert.deepEqual(errorOf(refused), [400, code]);
});

test('a deleted upload is unknown', async () => {
  const location = await raw.startUpload('app');
  assert.equal((await raw.call('DELETE', location)).status, 204);
  assert.deepEqual(errorOf(await raw.call('GET', location)), [404, 'BLOB_UPLOAD_UNKNOWN']);
  assert.deepEqual(errorOf(await raw.call('PUT', withDigest(location, digestOf(Buffer.from(''))))), [
    404,
    'BLOB_UPLOAD_UNKNOWN',
  ]);
});

// ---- mounts

test('a blob is mounted from a repository that has it; otherwise an upload begins', async () => {
  const digest = await raw.pushBlob('from', seededBytes('mounted', 5000));
  const mounted = await raw.call('POST', `/v2/to/blobs/uploads/?mount=${digest}&from=from`);
  assert.equal(mounted.status, 201);
  assert.equal(mounted.headers['location'], `/v2/to/blobs/${digest}`);
  assert.equal((await raw.call('HEAD', `/v2/to/blobs/${digest}`)).status, 200);
  const missing = digestOf(Buffer.from('not there'));
  for (const query of [`mount=${missing}&from=from`, `mount=${digest}&from=nowhere`, `mount=${digest}`]) {
    const begun = await raw.call('POST', `/v2/third/blobs/uploads/?${query}`);
    assert.equal(begun.status, 202);
    const done = await raw.call('PUT', withDigest(locationOf(begun), missing), { body: Buffer.from('not there') });
    assert.equal(done.status, 201);
  }
});

test('a mounted blob outlives the repository entry it came from', async () => {
  const digest = await raw.pushBlob('from', seededBytes('mounted', 5000));
  await raw.call('POST', `/v2/to/blobs/uploads/?mount=${digest}&from=from`);
  assert.equal((await raw.call('DELETE', `/v2/from/blobs/${digest}`)).status, 202);
  assert.equal((await raw.call('HEAD', `/v2/from/blobs/${digest}`)).status, 404);
  assert.equal((await raw.call('GET', `/v2/to/blobs/${digest}`)).status, 200);
  assert.equal((await raw.call('DELETE', `/v2/to/blobs/${digest}`)).status, 202);
  assert.deepEqual(await readdir(join(folder, 'blobs', 'sha256')), []);
});

// ---- lists

test('tags are listed in lexical order, by pages that only the Link leads through', async () => {
  const { bytes } = await raw.pushImage('app', 'b');
  for (const tag of ['C', 'a', 'd', '0']) await raw.putManifest('app', tag, bytes);
  assert.deepEqual((await raw.list('/v2/app/tags/list')).items, ['0', 'a', 'b', 'C', 'd']);
  assert.deepEqual((await raw.list('/v2/app/tags/list?n=0')).items, []);
  assert.deepEqual((await raw.list('/v2/app/tags/list?last=b')).items, ['C', 'd']);
  assert.deepEqual((await raw.list('/v2/app/tags/list?n=1&last=aa')).items, ['b', 'C', 'd']);
  const pages = await raw.list('/v2/app/tags/list?n=2');
  assert.deepEqual(pages.items, ['0', 'a', 'b', 'C', 'd']);
  assert.equal(pages.requests, 3);
  assert.deepEqual(errorOf(await raw.call('GET', '/v2/app/tags/list?n=2&next=Zm9v')), [400, 'UNSUPPORTED']);
  assert.deepEqual(errorOf(await raw.call('GET', '/v2/app/tags/list?n=-1')), [400, 'UNSUPPORTED']);
  assert.deepEqual(errorOf(await raw.call('GET', '/v2/nowhere/tags/list')), [404, 'NAME_UNKNOWN']);
});

test('the catalog lists repositories by pages', async () => {
  for (const name of ['b/c', 'a', 'b']) await raw.startUpload(name);
  const pages = await raw.list('/v2/_catalog?n=2');
  assert.deepEqual(pages.items, ['a', 'b', 'b/c']);
  assert.equal(pages.requests, 2);
});

test('referrers are listed with type and annotations, filtered where asked for', async () => {
  const { descriptor } = await raw.pushImage('app', 'v1');
  const sbom = await raw.pushReferrer('app', descriptor, 'application/spdx+json');
  const signature = await raw.pushReferrer('app', descriptor, 'application/vnd.example.sig');
  assert.equal(sbom.answer.headers['oci-subject'], descriptor.digest);
  const all = await raw.call('GET', `/v2/app/referrers/${descriptor.digest}`);
  assert.equal(all.status, 200);
  assert.equal(all.headers['content-type'], MEDIA_TYPE.ociIndex);
  assert.equal(all.headers['oci-filters-applied'], undefined);
  const index = JSON.parse(all.body.toString()) as { schemaVersion: number; manifests: Descriptor[] };
  assert.equal(index.schemaVersion, 2);
  const byDigest = (a: Descriptor, b: Descriptor): number => (a.digest < b.digest ? -1 : 1);
  assert.deepEqual(index.manifests, [sbom.descriptor, signature.descriptor].sort(byDigest));
  const some = await raw.call('GET', `/v2/app/referrers/${descriptor.digest}?artifactType=application/spdx%2Bjson`);
  assert.equal(some.headers['oci-filters-applied'], 'artifactType');
  assert.deepEqual((JSON.parse(some.body.toString()) as { manifests: unknown }).manifests, [sbom.descriptor]);
});

test('the referrers of an unknown digest are an empty list, and of a malformed digest an error', async () => {
  await raw.pushImage('app', 'v1');
  const none = await raw.call('GET', `/v2/app/referrers/${digestOf(Buffer.from('never pushed'))}`);
  assert.equal(none.status, 200);
  assert.deepEqual((JSON.parse(none.body.toString()) as { manifests: unknown }).manifests, []);
  assert.deepEqual(errorOf(await raw.call('GET', '/v2/app/referrers/v1')), [400, 'DIGEST_INVALID']);
});

test('a subject may be pushed after its referrers', async () => {
  const { bytes } = await raw.pushImage('elsewhere', 'v1');
  const subject = { mediaType: MEDIA_TYPE.ociManifest, digest: digestOf(bytes), size: bytes.byteLength };
  const { descriptor } = await raw.pushReferrer('app', subject, 'application/spdx+json');
  const listed = await raw.call('GET', `/v2/app/referrers/${subject.digest}`);
  assert.deepEqual((JSON.parse(listed.body.toString()) as { manifests: unknown }).manifests, [descriptor]);
});

test('without the referrers API there is no OCI-Subject header either', async () => {
  await restart({ referrersApi: false });
  const { descriptor } = await raw.pushImage('app', 'v1');
  const { answer } = await raw.pushReferrer('app', descriptor, 'application/spdx+json');
  assert.equal(answer.status, 201);
  assert.equal(answer.headers['oci-subject'], undefined);
  assert.equal((await raw.call('GET', `/v2/app/referrers/${descriptor.digest}`)).status, 404);
});

test('referrers are listed by pages where there are many', async () => {
  await restart({ pageSize: 2 });
  const { descriptor } = await raw.pushImage('app', 'v1');
  for (const i of [1, 2, 3, 4, 5]) await raw.pushReferrer('app', descriptor, `application/x${i}`);
  let path: string | undefined = `/v2/app/referrers/${descriptor.digest}`;
  const types: (string | undefined)[] = [];
  for (; path !== undefined;) {
    const page = await raw.call('GET', path);
    const { manifests } = JSON.parse(page.body.toString()) as { manifests: Descriptor[] };
    assert.ok(manifests.length <= 2);
    types.push(...manifests.map((m) => m.artifactType));
    path = nextOf(page);
  }
  assert.deepEqual(new Set(types), new Set([1, 2, 3, 4, 5].map((i) => `application/x${i}`)));
});

// ---- the rest

test('the base answers, and a path outside the API is refused with an error', async () => {
  const base = await raw.call('GET', '/v2/');
  assert.equal(base.status, 200);
  assert.equal(base.headers['docker-distribution-api-version'], 'registry/2.0');
  assert.deepEqual(errorOf(await raw.call('GET', '/v2/app/unheard/of')), [404, 'UNSUPPORTED']);
  assert.deepEqual(errorOf(await raw.call('POST', '/v2/app/tags/list')), [405, 'UNSUPPORTED']);
  assert.deepEqual(errorOf(await raw.call('GET', '/v2/App/tags/list')), [400, 'NAME_INVALID']);
});

test('a request target that is not a path is refused like any other', async () => {
  const { port } = new URL(registry.url);
  const socket = connect(Number(port), '127.0.0.1');
  socket.end('GET *%zz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n');
  assert.match((await buffer(socket)).toString(), /^HTTP\/1\.1 404 /);
});

test('a port that is taken is reported', async () => {
  const port = Number(new URL(registry.url).port);
  const other = startRegistry({ folder: join(folder, 'other'), mode: 'oci', port });
  await assert.rejects(other, { code: 'INVALID', message: new RegExp(`port ${port}`) });
  // and no socket stays open
  await (await startRegistry({ folder: join(folder, 'other'), mode: 'oci' })).close();
});

test('names may contain the words of the API', async () => {
  const blob = seededBytes('tricky', 100);
  const digest = await raw.pushBlob('a/blobs/uploads/b/manifests', blob);
  assert.ok((await raw.call('GET', `/v2/a/blobs/uploads/b/manifests/blobs/${digest}`)).body.equals(blob));
});

test('a denied request is 403', async () => {
  await restart({ deny: ['DELETE', 'manifest-put'] });
  const digest = await raw.pushBlob('app', Buffer.from('{}'));
  assert.deepEqual(errorOf(await raw.call('DELETE', `/v2/app/blobs/${digest}`)), [403, 'DENIED']);
  assert.deepEqual(errorOf(await raw.putManifest('app', 'v1', imageOf({ digest, size: 2 }, []))), [403, 'DENIED']);
});

test('starting an upload does not create a repository', async () => {
  assert.deepEqual(errorOf(await raw.call('GET', '/v2/app/blobs/uploads/none')), [404, 'NAME_UNKNOWN']);
  assert.equal((await raw.putManifest('app', 'v1', Buffer.from('{'))).status, 400);
  assert.deepEqual((await raw.list('/v2/_catalog')).items, []);
});

test('everything survives a restart, and a second one', async () => {
  const { bytes, descriptor } = await raw.pushImage('app', 'v1');
  const referrer = await raw.pushReferrer('app', descriptor, 'application/spdx+json');
  await raw.putManifest('app', 'gone', bytes);
  await raw.call('DELETE', '/v2/app/manifests/gone');
  const open = await raw.startUpload('app');
  for (let i = 0; i < 2; i++) {
    await restart({});
    assert.ok((await raw.call('GET', '/v2/app/manifests/v1')).body.equals(bytes));
    assert.deepEqual((await raw.list('/v2/app/tags/list')).items, ['v1']);
    const listed = await raw.call('GET', `/v2/app/referrers/${descriptor.digest}`);
    assert.deepEqual((JSON.parse(listed.body.toString()) as { manifests: unknown }).manifests, [referrer.descriptor]);
    for (const child of Object.values(JSON.parse(bytes.toString()) as Record<string, unknown>).filter(Array.isArray)) {
      for (const d of child as Descriptor[])
        assert.equal((await raw.call('HEAD', `/v2/app/blobs/${d.digest}`)).status, 200);
    }
  }
  assert.equal((await raw.call('GET', open)).status, 404);
});

test('requests are recorded with their kind, status, bytes, and whether they were authorized', async () => {
  const digest = await raw.pushBlob('app', seededBytes('counted', 1000));
  await raw.call('GET', `/v2/app/blobs/${digest}`, { headers: { range: 'bytes=0-9', authorization: 'Basic eDp5' } });
  assert.deepEqual(
    registry.requests.map((r) => [r.kind, r.status, r.receivedBytes, r.sentBytes, r.authorized]),
    [
      ['upload-post', 202, 0, 0, false],
      ['upload-put', 201, 1000, 0, false],
      ['blob-get', 206, 0, 10, true],
    ],
  );
});

// ---- deletions

test.each([
  ['tags', { byTag: 202, byDigest: 202, tag: 404, image: 200 }],
  ['digests', { byTag: 400, byDigest: 202, tag: 200, image: 200 }],
  ['images', { byTag: 202, byDigest: 404, tag: 404, image: 404 }],
  ['none', { byTag: 405, byDigest: 405, tag: 200, image: 200 }],
] as const)('a registry that deletes %s answers as it should', async (deletes, expected) => {
  await restart({ deletes });
  const { digest } = (await raw.pushImage('app', 'v1')).descriptor;
  const status = async (method: 'DELETE' | 'HEAD', reference: string): Promise<number> =>
    (await raw.call(method, `/v2/app/manifests/${reference}`)).status;
  const byTag = await status('DELETE', 'v1');
  const [tag, image] = [await status('HEAD', 'v1'), await status('HEAD', digest)];
  assert.deepEqual({ byTag, byDigest: await status('DELETE', digest), tag, image }, expected);
});
