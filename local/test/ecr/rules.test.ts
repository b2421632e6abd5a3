import assert from 'node:assert/strict';
import { PutAccountSettingCommand } from '@aws-sdk/client-ecr';
import { test } from 'vitest';
import { digestOf } from '../../../worker/oci/digest.ts';
import { seededBytes } from '../../../test/support/images.ts';
import {
  chunk,
  errorOf,
  locationOf,
  messageOf,
  nextOf,
  RawRegistry,
  withDigest,
} from '../../../test/support/raw-registry.ts';
import { basic, clock, create, ecr, raw, registry, restart, signIn, useEcr } from './lab.ts';

const MIB = 1024 * 1024;

useEcr();

// Where /v2/ of ECR differs from the specification. ../registry/ tests what is the same.

// ---- access

test('without credentials it is 401 with a Basic challenge', async () => {
  const answer = await new RawRegistry(registry.url).call('GET', '/v2/');
  assert.equal(answer.status, 401);
  const challenge = 'Basic realm="https://111111111111.dkr.ecr.us-east-1.amazonaws.com/",service="ecr.amazonaws.com"';
  assert.equal(answer.headers['www-authenticate'], challenge);
});

test('a token lets in until it expires, which is 403 and no JSON', async () => {
  assert.equal((await raw.call('GET', '/v2/')).status, 200);
  await clock.sleep(12 * 3600 * 1000 - 1);
  assert.equal((await raw.call('GET', '/v2/')).status, 200);
  await clock.sleep(1);
  const answer = await raw.call('GET', '/v2/');
  assert.equal(answer.status, 403);
  assert.equal(answer.body.toString(), 'Your authorization token has expired. Reauthenticate and try again.');
});

test('tokens can be made to expire at once, or by the request that a fault strikes', async () => {
  registry.expireTokens();
  assert.equal((await raw.call('GET', '/v2/')).status, 403);
  await signIn();
  registry.faults.add({ operation: 'base' }, { kind: 'expire-token' });
  assert.equal((await raw.call('GET', '/v2/')).status, 403);
  assert.equal((await raw.call('GET', '/v2/')).status, 403);
  await signIn();
  assert.equal((await raw.call('GET', '/v2/')).status, 200);
});

test('a token of another registry is 400', async () => {
  const token = Buffer.from((await basic()).slice('Basic '.length), 'base64').toString();
  for (const credentials of ['AWS:nonsense', token.replace('AWS:', 'me:')]) {
    const authorization = `Basic ${Buffer.from(credentials).toString('base64')}`;
    assert.equal((await new RawRegistry(registry.url, { authorization }).call('GET', '/v2/')).status, 400);
  }
});

test('what IAM does not allow is 403, and the message names the action', async () => {
  await create('app');
  const image = await raw.pushImage('app', 'v1');
  await restart({ deny: ['ecr:InitiateLayerUpload', 'ecr:PutImage', 'ecr:GetDownloadUrlForLayer'] });
  const denied = await raw.call('POST', '/v2/app/blobs/uploads/');
  assert.deepEqual(errorOf(denied), [403, 'DENIED']);
  assert.equal(
    messageOf(denied),
    'User: arn:aws:sts::111111111111:assumed-role/transship/local is not authorized to perform: ecr:InitiateLayerUpload on resource: arn:aws:ecr:us-east-1:111111111111:repository/app because no identity-based policy allows the ecr:InitiateLayerUpload action',
  );
  assert.deepEqual(errorOf(await raw.putManifest('app', 'v2', image.bytes)), [403, 'DENIED']);
  assert.deepEqual(errorOf(await raw.call('GET', `/v2/app/blobs/${image.layer}`)), [403, 'DENIED']);
  assert.equal((await raw.call('GET', '/v2/app/manifests/v1')).status, 200);
});

test('sending parts needs one permission, completing the upload another', async () => {
  await create('app');
  await restart({ deny: ['ecr:UploadLayerPart'] });
  const blob = Buffer.from('part');
  const location = await raw.startUpload('app');
  assert.deepEqual(errorOf(await raw.call('PATCH', location, { body: blob })), [403, 'DENIED']);
  const whole = withDigest(location, digestOf(blob));
  assert.deepEqual(errorOf(await raw.call('PUT', whole, { body: blob })), [403, 'DENIED']);
  assert.deepEqual(errorOf(await raw.call('PUT', whole)), [400, 'BLOB_UPLOAD_INVALID']);
  await restart({ deny: ['ecr:CompleteLayerUpload'] });
  const patched = await raw.call('PATCH', await raw.startUpload('app'), { body: blob });
  assert.equal(patched.status, 201);
  const closed = await raw.call('PUT', withDigest(locationOf(patched), digestOf(blob)));
  assert.deepEqual(errorOf(closed), [403, 'DENIED']);
});

// ---- repositories and tags

test('a push does not create the repository', async () => {
  const answer = await raw.call('POST', '/v2/app/blobs/uploads/');
  assert.deepEqual(errorOf(answer), [404, 'NAME_UNKNOWN']);
  const message = "The repository with name 'app' does not exist in the registry with id '111111111111'";
  assert.equal(messageOf(answer), message);
});

test('an immutable tag is refused even for the image that it stands for', async () => {
  await create('app', { imageTagMutability: 'IMMUTABLE' });
  const { bytes, descriptor } = await raw.pushImage('app', 'v1');
  assert.deepEqual(errorOf(await raw.putManifest('app', 'v1', bytes)), [400, 'TAG_INVALID']);
  assert.equal((await raw.putManifest('app', descriptor.digest, bytes)).status, 201);
  assert.equal((await raw.putManifest('app', 'v2', bytes)).status, 201);
});

test.each([
  ['IMMUTABLE_WITH_EXCLUSION', 'latest', 201],
  ['IMMUTABLE_WITH_EXCLUSION', 'dev-1', 201],
  ['IMMUTABLE_WITH_EXCLUSION', 'v1', 400],
  ['IMMUTABLE_WITH_EXCLUSION', '1.2.9', 201],
  ['IMMUTABLE_WITH_EXCLUSION', '1x2x9', 400],
  ['IMMUTABLE_WITH_EXCLUSION', 'my-dev-1', 400],
  ['MUTABLE_WITH_EXCLUSION', 'latest', 400],
  ['MUTABLE_WITH_EXCLUSION', 'v1', 201],
] as const)(
  'with %s of "latest", "dev-*" and "1.2.*", pushing %s again is %i',
  async (imageTagMutability, tag, status) => {
    const imageTagMutabilityExclusionFilters = ['latest', 'dev-*', '1.2.*'].map((filter) => ({
      filterType: 'WILDCARD' as const,
      filter,
    }));
    await create('app', { imageTagMutability, imageTagMutabilityExclusionFilters });
    const { bytes } = await raw.pushImage('app', tag);
    assert.equal((await raw.putManifest('app', tag, bytes)).status, status);
  },
);

test('tags are listed by pages of 100, whose cursor is not a tag; more than 1000 at once are 405', async () => {
  await create('app');
  const { bytes } = await raw.pushImage('app', undefined);
  for (let i = 0; i < 101; i++) await raw.putManifest('app', `t${i}`, bytes);
  const all = await raw.list('/v2/app/tags/list');
  assert.equal(all.items.length, 101);
  assert.equal(all.requests, 2);
  const next = nextOf(await raw.call('GET', '/v2/app/tags/list?n=2'));
  assert.match(next ?? '', /[?&]last=/);
  assert.equal((await raw.list('/v2/app/tags/list?n=1000')).requests, 1);
  for (const n of ['1001', '0', 'many']) {
    assert.deepEqual(errorOf(await raw.call('GET', `/v2/app/tags/list?n=${n}`)), [405, 'UNSUPPORTED']);
  }
  assert.deepEqual(errorOf(await raw.call('GET', '/v2/app/tags/list?last=t1')), [405, 'UNSUPPORTED']);
});

// ---- uploads

test('a blob is uploaded with POST and PUT; Locations are absolute', async () => {
  await create('app');
  const location = await raw.startUpload('app');
  assert.ok(location.startsWith(`${registry.url}/v2/app/blobs/uploads/`));
  const blob = seededBytes('whole', 6 * MIB);
  const done = await raw.call('PUT', withDigest(location, digestOf(blob)), { body: blob });
  assert.equal(done.status, 201);
  assert.equal(locationOf(done), `${registry.url}/v2/app/blobs/${digestOf(blob)}`);
});

test('one POST with the digest begins an upload instead of ending one', async () => {
  await create('app');
  const blob = seededBytes('single', 1000);
  const begun = await raw.call('POST', `/v2/app/blobs/uploads/?digest=${digestOf(blob)}`, { body: blob });
  assert.equal(begun.status, 202);
  const done = await raw.call('PUT', withDigest(locationOf(begun), digestOf(blob)), { body: blob });
  assert.equal(done.status, 201);
});

test('a PATCH is 201, and its Range stays at the end of the first chunk while the bytes are stored', async () => {
  await create('app');
  const blob = seededBytes('chunks', 11 * MIB);
  const location = await raw.startUpload('app');
  for (const from of [0, 5 * MIB]) {
    const answer = await raw.call('PATCH', location, chunk(blob, from, from + 5 * MIB));
    assert.equal(answer.status, 201);
    assert.equal(answer.headers['range'], `0-${5 * MIB - 1}`);
  }
  const done = await raw.call('PUT', withDigest(location, digestOf(blob)), chunk(blob, 10 * MIB, 11 * MIB));
  assert.equal(done.status, 201);
  assert.equal((await raw.call('HEAD', `/v2/app/blobs/${digestOf(blob)}`)).headers['content-length'], `${11 * MIB}`);
});

test('a chunk that does not continue where the last one ended is 416; so is sending the whole blob again', async () => {
  await create('app');
  const blob = seededBytes('chunks', 6 * MIB);
  const location = await raw.startUpload('app');
  await raw.call('PATCH', location, chunk(blob, 0, 5 * MIB));
  for (const again of [chunk(blob, 0, 5 * MIB), { body: blob }]) {
    const refused = await raw.call('PATCH', location, again);
    assert.deepEqual(errorOf(refused), [416, 'BLOB_UPLOAD_INVALID']);
    assert.equal(messageOf(refused), `First byte of the layer part is 0 instead of ${5 * MIB}`);
  }
  const replayed = await raw.call('PUT', withDigest(location, digestOf(blob)), { body: blob });
  assert.deepEqual(errorOf(replayed), [416, 'BLOB_UPLOAD_INVALID']);
});

test('one streamed PATCH of any size and an empty PUT make a blob', async () => {
  await create('app');
  for (const bytes of [10, 6 * MIB]) {
    const blob = seededBytes('streamed', bytes);
    const patched = await raw.call('PATCH', await raw.startUpload('app'), { body: blob });
    assert.equal(patched.status, 201);
    assert.equal((await raw.call('PUT', withDigest(locationOf(patched), digestOf(blob)))).status, 201);
  }
});

test('parts under 5 MiB are refused, except the last', async () => {
  await create('app');
  const blob = seededBytes('small', 6 * MIB);
  const location = await raw.startUpload('app');
  await raw.call('PATCH', location, chunk(blob, 0, 5 * MIB - 1));
  const done = await raw.call('PUT', withDigest(location, digestOf(blob)), chunk(blob, 5 * MIB - 1, 6 * MIB));
  assert.deepEqual(errorOf(done), [400, 'BLOB_UPLOAD_INVALID']);
});

test('an empty blob is refused, and so are bytes of another digest', async () => {
  await create('app');
  const empty = await raw.putBlob('app', Buffer.alloc(0));
  assert.deepEqual(errorOf(empty), [400, 'BLOB_UPLOAD_INVALID']);
  assert.match(messageOf(empty), /cannot be completed because it does not have any parts/);
  const other = await raw.putBlob('app', Buffer.from('a'), digestOf(Buffer.from('b')));
  assert.deepEqual(errorOf(other), [400, 'BLOB_UPLOAD_INVALID']);
});

test('a blob cannot be deleted', async () => {
  await create('app');
  const digest = await raw.pushBlob('app', Buffer.from('{}'));
  assert.deepEqual(errorOf(await raw.call('DELETE', `/v2/app/blobs/${digest}`)), [405, 'UNSUPPORTED']);
});

// ---- mounts

test('a blob is mounted where mounting is on and an image has it; otherwise an upload begins', async () => {
  await create('from');
  await create('to');
  const { layer } = await raw.pushImage('from', 'v1');
  const loose = await raw.pushBlob('from', seededBytes('loose', 1000));
  const mount = async (digest: string, to = 'to', from = 'from'): Promise<number> =>
    (await raw.call('POST', `/v2/${to}/blobs/uploads/?mount=${digest}&from=${from}`)).status;
  assert.equal(await mount(layer), 202);
  await ecr.send(new PutAccountSettingCommand({ name: 'BLOB_MOUNTING', value: 'ENABLED' }));
  assert.equal(await mount(loose), 202);
  assert.equal(await mount(layer), 201);
  const encrypted = async (name: string, kmsKey: string): Promise<unknown> =>
    create(name, { encryptionConfiguration: { encryptionType: 'KMS', kmsKey } });
  await encrypted('mine', 'alias/mine');
  assert.equal(await mount(layer, 'mine'), 202);
  await encrypted('mine/too', 'alias/mine');
  await encrypted('yours', 'alias/yours');
  await raw.pushImage('mine', 'v1');
  assert.equal(await mount(layer, 'yours', 'mine'), 202);
  assert.equal(await mount(layer, 'mine/too', 'mine'), 201);
  await restart({ deny: ['ecr:GetDownloadUrlForLayer'] });
  await create('third');
  assert.equal(await mount(layer, 'third'), 202);
});

test('the upload that a refused mount began can be used', async () => {
  await create('from');
  await create('to');
  const blob = seededBytes('image', 20_000);
  const { layer } = await raw.pushImage('from', 'v1');
  const begun = await raw.call('POST', `/v2/to/blobs/uploads/?mount=${layer}&from=from`);
  assert.equal((await raw.call('PUT', withDigest(locationOf(begun), layer), { body: blob })).status, 201);
});

// ---- layers

test('a layer is served from another address, to a GET without credentials, whole or by range', async () => {
  await create('app');
  const { layer } = await raw.pushImage('app', 'v1');
  const blob = seededBytes('image', 20_000);
  const redirect = await raw.call('GET', `/v2/app/blobs/${layer}`);
  assert.equal(redirect.status, 307);
  const address = locationOf(redirect);
  assert.notEqual(new URL(address).host, registry.host);
  const bucket = new RawRegistry(address);
  const whole = await bucket.call('GET', address);
  assert.equal(whole.status, 200);
  assert.ok(whole.body.equals(blob));
  const part = await bucket.call('GET', address, { headers: { range: 'bytes=100-199' } });
  assert.equal(part.status, 206);
  assert.equal(part.headers['content-range'], 'bytes 100-199/20000');
  assert.ok(part.body.equals(blob.subarray(100, 200)));
  assert.equal((await bucket.call('GET', address, { headers: { range: 'bytes=20000-' } })).status, 416);
});

test('the address of a layer refuses credentials, a HEAD, a write and a late request', async () => {
  await create('app');
  const { layer, config } = await raw.pushImage('app', 'v1');
  const address = locationOf(await raw.call('GET', `/v2/app/blobs/${layer}`));
  const bucket = new RawRegistry(address);
  const both = await bucket.call('GET', address, { headers: { authorization: 'Basic QVdTOng=' } });
  assert.equal(both.status, 400);
  assert.match(both.body.toString(), /<Message>Only one auth mechanism allowed/);
  assert.equal((await bucket.call('HEAD', address)).status, 403);
  const forged = await bucket.call('GET', address.replace(layer, config));
  assert.match(forged.body.toString(), /<Code>SignatureDoesNotMatch<\/Code>/);
  const bare = await bucket.call('GET', address.slice(0, address.indexOf('?')));
  assert.match(bare.body.toString(), /<Code>AccessDenied<\/Code>/);
  await clock.sleep(3600 * 1000 - 1);
  assert.equal((await bucket.call('GET', address)).status, 200);
  await clock.sleep(1);
  const late = await bucket.call('GET', address);
  assert.equal(late.status, 403);
  assert.match(late.body.toString(), /Request has expired/);
});

test('faults of the bucket are those of S3', async () => {
  await create('app');
  const { layer } = await raw.pushImage('app', 'v1');
  const address = locationOf(await raw.call('GET', `/v2/app/blobs/${layer}`));
  registry.faults.add({ operation: 'layer-get', digest: layer }, { kind: 'answer', status: 503 });
  registry.faults.add({ operation: 'layer-get' }, { kind: 'cut-answer', afterBytes: 7000 });
  const bucket = new RawRegistry(address);
  assert.match((await bucket.call('GET', address)).body.toString(), /<Code>SlowDown<\/Code>/);
  const received: Uint8Array[] = [];
  await assert.rejects(bucket.stream(address, received));
  assert.equal(Buffer.concat(received).byteLength, 7000);
  const served = registry.requests.filter((r) => r.kind === 'layer-get');
  assert.deepEqual(
    served.map((r) => [r.status, r.authorized]),
    [
      [503, false],
      [200, false],
    ],
  );
  assert.equal(served[1]?.sentBytes, 7000);
});

test('a HEAD of a layer returns its size; its bytes are only served once an image has it', async () => {
  await create('app');
  const digest = await raw.pushBlob('app', seededBytes('loose', 1234));
  const head = await raw.call('HEAD', `/v2/app/blobs/${digest}`);
  assert.equal(head.status, 200);
  assert.equal(head.headers['content-length'], '1234');
  assert.deepEqual(errorOf(await raw.call('GET', `/v2/app/blobs/${digest}`)), [404, 'BLOB_UNKNOWN']);
});
