import assert from 'node:assert/strict';
import { BatchDeleteImageCommand, DescribeImagesCommand, UpdateImageStorageClassCommand } from '@aws-sdk/client-ecr';
import { test } from 'vitest';
import { digestOf } from '../../../worker/oci/digest.ts';
import { MEDIA_TYPE } from '../../../worker/oci/manifest.ts';
import { errorOf, imageOf, indexOf, messageOf } from '../../../test/support/raw-registry.ts';
import { clock, create, ecr, raw, restart, signIn, useEcr } from './lab.ts';

useEcr();

test('an index whose images are missing is refused as ECR does', async () => {
  await create('app');
  await create('other');
  const { descriptor, bytes } = await raw.pushImage('other', 'v1');
  const index = await raw.putManifest('app', 'v1', indexOf([descriptor]), MEDIA_TYPE.ociIndex);
  assert.deepEqual(errorOf(index), [400, 'MANIFEST_BLOB_UNKNOWN']);
  assert.equal(
    messageOf(index),
    `Images with digests '[${descriptor.digest}]' required for pushing image into repository with name 'app' in the registry with id '111111111111' do not exist`,
  );
  const image = await raw.putManifest('app', 'v1', bytes);
  assert.deepEqual(errorOf(image), [400, 'MANIFEST_BLOB_UNKNOWN']);
  assert.match(messageOf(image), /^Layers with digests /);
});

test('a media type with parameters is 405', async () => {
  await create('app');
  const config = { digest: await raw.pushBlob('app', Buffer.from('{}')), size: 2 };
  for (const manifest of [
    imageOf(config, [], { artifactType: 'application/vnd.dev.sigstore.bundle+json;version=0.2' }),
    imageOf({ ...config, mediaType: 'application/vnd.example;v=1' }, []),
    imageOf(config, [{ ...config, mediaType: 'application/vnd.dev.sigstore.bundle+json;version=0.2' }]),
  ]) {
    assert.deepEqual(errorOf(await raw.putManifest('app', digestOf(manifest), manifest)), [405, 'UNSUPPORTED']);
  }
});

test('too many manifests in a second are 429', async () => {
  await create('app');
  await restart({ putImagesPerSecond: 2 });
  const { bytes } = await raw.pushImage('app', 'v1');
  assert.equal((await raw.putManifest('app', 'v2', bytes)).status, 201);
  assert.deepEqual(errorOf(await raw.putManifest('app', 'v3', bytes)), [429, 'TOOMANYREQUESTS']);
  await clock.sleep(500);
  assert.equal((await raw.putManifest('app', 'v3', bytes)).status, 201);
  assert.equal((await raw.putManifest('app', 'v4', bytes)).status, 429);
  // unused capacity is not saved up
  await clock.sleep(60_000);
  for (const status of [201, 201, 429]) assert.equal((await raw.putManifest('app', 'v4', bytes)).status, status);
});

test('an archived image counts as missing until it is restored or pushed again', async () => {
  await restart({ restoreSeconds: 600 });
  await create('app');
  const { bytes, layer, descriptor } = await raw.pushImage('app', 'v1');
  const store = async (targetStorageClass: 'ARCHIVE' | 'STANDARD'): Promise<string | undefined> => {
    const id = { repositoryName: 'app', imageId: { imageTag: 'v1' } };
    return (await ecr.send(new UpdateImageStorageClassCommand({ ...id, targetStorageClass }))).imageStatus;
  };
  assert.equal(await store('ARCHIVE'), 'ARCHIVED');
  assert.deepEqual(errorOf(await raw.call('GET', '/v2/app/manifests/v1')), [404, 'MANIFEST_UNKNOWN']);
  assert.equal((await raw.call('HEAD', `/v2/app/manifests/${descriptor.digest}`)).status, 404);
  assert.deepEqual(errorOf(await raw.call('GET', `/v2/app/blobs/${layer}`)), [404, 'BLOB_UNKNOWN']);
  assert.equal(await store('STANDARD'), 'ACTIVATING');
  assert.equal((await raw.call('GET', '/v2/app/manifests/v1')).status, 404);
  await clock.sleep(600_000);
  assert.equal((await raw.call('GET', '/v2/app/manifests/v1')).status, 200);
  await store('ARCHIVE');
  assert.equal((await raw.putManifest('app', 'v1', bytes)).status, 201);
  assert.equal((await raw.call('GET', '/v2/app/manifests/v1')).status, 200);
});

test('referrers are listed, except archived ones', async () => {
  await create('app');
  const { descriptor } = await raw.pushImage('app', 'v1');
  const { answer, descriptor: referrer } = await raw.pushReferrer('app', descriptor, 'application/spdx+json');
  assert.equal(answer.headers['oci-subject'], descriptor.digest);
  const listed = async (): Promise<unknown> =>
    JSON.parse((await raw.call('GET', `/v2/app/referrers/${descriptor.digest}`)).body.toString()).manifests;
  assert.deepEqual(await listed(), [referrer]);
  await ecr.send(
    new UpdateImageStorageClassCommand({
      repositoryName: 'app',
      imageId: { imageDigest: referrer.digest },
      targetStorageClass: 'ARCHIVE',
    }),
  );
  assert.deepEqual(await listed(), []);
});

test('an image is deleted with its last tag, and so are layers that no image has any more', async () => {
  await create('app');
  const { bytes, descriptor, layer, config } = await raw.pushImage('app', 'v1');
  await raw.putManifest('app', 'v2', bytes);
  const sharing = imageOf({ digest: config, size: 31 }, [], { annotations: { other: 'image' } });
  await raw.putManifest('app', 'other', sharing);
  assert.equal((await raw.call('DELETE', '/v2/app/manifests/v1')).status, 202);
  assert.equal((await raw.call('HEAD', `/v2/app/manifests/${descriptor.digest}`)).status, 200);
  assert.equal((await raw.call('DELETE', '/v2/app/manifests/v2')).status, 202);
  assert.equal((await raw.call('HEAD', `/v2/app/manifests/${descriptor.digest}`)).status, 404);
  assert.equal((await raw.call('HEAD', `/v2/app/blobs/${layer}`)).status, 404);
  assert.equal((await raw.call('HEAD', `/v2/app/blobs/${config}`)).status, 200);
});

test('an image that an index names cannot be deleted', async () => {
  await create('app');
  const { descriptor } = await raw.pushImage('app', 'v1');
  const index = await raw.pushIndex('app', 'multi', [descriptor]);
  assert.equal((await raw.call('DELETE', `/v2/app/manifests/${descriptor.digest}`)).status, 400);
  assert.equal((await raw.call('DELETE', '/v2/app/manifests/v1')).status, 400);
  await ecr.send(new BatchDeleteImageCommand({ repositoryName: 'app', imageIds: [{ imageDigest: index.digest }] }));
  assert.equal((await raw.call('DELETE', `/v2/app/manifests/${descriptor.digest}`)).status, 202);
});

test('a GET of a manifest counts as a pull once a day, a HEAD does not', async () => {
  await create('app');
  await raw.pushImage('app', 'v1');
  const pulledAt = async (): Promise<number | undefined> => {
    const { imageDetails } = await ecr.send(new DescribeImagesCommand({ repositoryName: 'app' }));
    return imageDetails?.[0]?.lastRecordedPullTime?.getTime();
  };
  await raw.call('HEAD', '/v2/app/manifests/v1');
  assert.equal(await pulledAt(), undefined);
  await raw.call('GET', '/v2/app/manifests/v1');
  const first = clock.now();
  await clock.sleep(3600 * 1000);
  await raw.call('GET', '/v2/app/manifests/v1');
  assert.equal(await pulledAt(), first);
  await clock.sleep(24 * 3600 * 1000);
  await signIn();
  await raw.call('GET', '/v2/app/manifests/v1');
  assert.equal(await pulledAt(), clock.now());
});
