import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { request } from 'undici';
import { afterEach, beforeEach, test } from 'vitest';
import { startRegistry, type LocalRegistry } from '../../registry/registry.ts';
import { digestOf } from '../../../worker/oci/digest.ts';
import { fakeClock, type FakeClock } from '../../../test/support/clock.ts';
import { seededBytes } from '../../../test/support/images.ts';
import { errorOf, locationOf, RawRegistry, withDigest } from '../../../test/support/raw-registry.ts';

const blob = seededBytes('faults', 2_000_000);
const digest = digestOf(blob);
const path = `/v2/app/blobs/${digest}`;

let folder: string;
let clock: FakeClock;
let registry: LocalRegistry;
let raw: RawRegistry;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'registry-'));
  clock = fakeClock();
  registry = await startRegistry({ folder, mode: 'oci', clock });
  raw = new RawRegistry(registry.url);
  await raw.pushBlob('app', blob);
});

afterEach(async () => {
  await registry.close();
  await rm(folder, { recursive: true });
});

test.each([0, 1, 70_000, 1_999_999])('a body is cut after %i bytes', async (afterBytes) => {
  registry.faults.add({ operation: 'blob-get' }, { kind: 'cut-answer', afterBytes });
  const received: Uint8Array[] = [];
  await assert.rejects(raw.stream(path, received));
  assert.ok(Buffer.concat(received).equals(blob.subarray(0, afterBytes)));
  assert.equal(registry.requests.at(-1)?.sentBytes, afterBytes);
  assert.ok((await raw.call('GET', path)).body.equals(blob));
});

test('a cut after zero bytes happens after the head', async () => {
  registry.faults.add({ operation: 'blob-get' }, { kind: 'cut-answer', afterBytes: 0 });
  const { statusCode, headers, body } = await request(new URL(path, registry.url));
  assert.equal(statusCode, 200);
  assert.equal(headers['content-length'], '2000000');
  await assert.rejects(body.bytes());
});

test('an answer without a body is cut before it begins', async () => {
  registry.faults.add({ operation: 'blob-head' }, { kind: 'cut-answer', afterBytes: 10 });
  await assert.rejects(raw.call('HEAD', path));
  assert.equal(registry.faults.pending, 0);
});

test('a cut counts from the start of the range', async () => {
  registry.faults.add({ operation: 'blob-get' }, { kind: 'cut-answer', afterBytes: 10 });
  const received: Uint8Array[] = [];
  await assert.rejects(raw.stream(path, received, { range: 'bytes=1000-' }));
  assert.ok(Buffer.concat(received).equals(blob.subarray(1000, 1010)));
});

test('a status is answered with the requested Retry-After', async () => {
  registry.faults.add({ operation: 'manifest-get' }, { kind: 'answer', status: 429, retryAfterSeconds: 7 });
  const answer = await raw.call('GET', '/v2/app/manifests/v1');
  assert.deepEqual(errorOf(answer), [429, 'TOOMANYREQUESTS']);
  assert.equal(answer.headers['retry-after'], '7');
  assert.equal((await raw.call('GET', '/v2/app/manifests/v1')).status, 404);
});

test('faults strike in their order, each as often as requested, and leave others alone', async () => {
  const other = await raw.pushBlob('app', Buffer.from('other'));
  registry.faults.add({ operation: 'blob-get', digest, skip: 1, times: 2 }, { kind: 'answer', status: 503 });
  registry.faults.add({ operation: 'blob-get', digest }, { kind: 'answer', status: 500 });
  const statuses: number[] = [];
  for (let i = 0; i < 5; i++) {
    statuses.push((await raw.call('GET', path)).status);
    assert.equal((await raw.call('GET', `/v2/app/blobs/${other}`)).status, 200);
    assert.equal((await raw.call('HEAD', path)).status, 200);
  }
  // the second fault waits for any request, so it takes the one that the first lets pass
  assert.deepEqual(statuses, [500, 503, 503, 200, 200]);
  assert.equal(registry.faults.pending, 0);
});

test('faults that were taken back do not strike', async () => {
  registry.faults.add({ operation: 'blob-get', times: 3 }, { kind: 'answer', status: 500 });
  assert.equal(registry.faults.pending, 3);
  registry.faults.clear();
  assert.equal((await raw.call('GET', path)).status, 200);
});

test('a delayed request is served after its delay', async () => {
  registry.faults.add({ operation: 'blob-get' }, { kind: 'delay', ms: 5000 });
  assert.equal((await raw.call('GET', path)).status, 200);
  assert.deepEqual(clock.sleeps, [5000]);
});

test('a false digest fault serves other bytes of the right length', async () => {
  registry.faults.add({ operation: 'blob-get' }, { kind: 'lie-digest' });
  const answer = await raw.call('GET', path);
  assert.equal(answer.headers['docker-content-digest'], digest);
  assert.equal(answer.body.byteLength, blob.byteLength);
  assert.notEqual(digestOf(answer.body), digest);
  assert.equal(digestOf((await raw.call('GET', path)).body), digest);
});

test.each([-1, -1_999_999, 1, 700_000])(
  'a false size fault answers HEAD and GET with the size off by %i bytes',
  async (byBytes) => {
    registry.faults.add({ operation: 'blob-head' }, { kind: 'lie-size', byBytes });
    registry.faults.add({ operation: 'blob-get' }, { kind: 'lie-size', byBytes });
    const length = blob.byteLength + byBytes;
    assert.equal((await raw.call('HEAD', path)).headers['content-length'], String(length));
    const { body } = await raw.call('GET', path);
    assert.equal(body.byteLength, length);
    assert.ok(body.subarray(0, blob.byteLength).equals(blob.subarray(0, length)));
  },
);

test('an upload can be accepted and its answer lost: the blob is stored', async () => {
  const another = seededBytes('another', 300_000);
  const location = withDigest(await raw.startUpload('app'), digestOf(another));
  registry.faults.add({ operation: 'upload-put', digest: digestOf(another) }, { kind: 'lose-answer' });
  await assert.rejects(raw.call('PUT', location, { body: another }));
  assert.equal(registry.requests.at(-1)?.receivedBytes, 300_000);
  assert.equal((await raw.call('HEAD', `/v2/app/blobs/${digestOf(another)}`)).status, 200);
});

test('an upload can be cut: received bytes are kept, and the upload reports how many they are', async () => {
  const another = seededBytes('another', 300_000);
  const location = await raw.startUpload('app');
  registry.faults.add({ operation: 'upload-patch' }, { kind: 'cut-request', afterBytes: 100_000 });
  await assert.rejects(raw.call('PATCH', location, { body: another }));
  const status = await raw.call('GET', location);
  assert.equal(status.headers['range'], '0-99999');
  const rest = { body: another.subarray(100_000), headers: { 'content-range': '100000-299999' } };
  const done = await raw.call('PUT', withDigest(locationOf(status), digestOf(another)), rest);
  assert.equal(done.status, 201);
});

test('a closing server ends a request that is being delayed', async () => {
  await registry.close();
  const { promise: sleeping, resolve } = Promise.withResolvers<void>();
  registry = await startRegistry({
    folder,
    mode: 'oci',
    clock: {
      ...clock,
      sleep: async (_, o) => {
        resolve();
        const { promise, reject } = Promise.withResolvers<never>();
        o?.signal?.addEventListener('abort', () => reject(new Error('stopped')));
        await promise;
      },
    },
  });
  registry.faults.add({ operation: 'base' }, { kind: 'delay', ms: 60_000 });
  const answer = new RawRegistry(registry.url).call('GET', '/v2/');
  answer.catch(() => undefined);
  await sleeping;
  await registry.close();
  await assert.rejects(answer);
});
