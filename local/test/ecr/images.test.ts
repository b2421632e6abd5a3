import assert from 'node:assert/strict';
import {
  BatchDeleteImageCommand,
  BatchGetImageCommand,
  DescribeImagesCommand,
  ListImagesCommand,
  paginateDescribeImages,
  paginateListImages,
  UpdateImageStorageClassCommand,
  type ImageIdentifier,
} from '@aws-sdk/client-ecr';
import { test } from 'vitest';
import { digestOf } from '../../../worker/oci/digest.ts';
import { MEDIA_TYPE } from '../../../worker/oci/manifest.ts';
import { ACCOUNT, clock, create, ecr, raw, useEcr } from './lab.ts';

useEcr();

test('images are described with tags, sizes, times and types', async () => {
  await create('app');
  const image = await raw.pushImage('app', 'v1');
  await raw.putManifest('app', 'latest', image.bytes);
  const index = await raw.pushIndex('app', 'multi', [image.descriptor]);
  const { descriptor: sbom } = await raw.pushReferrer('app', index, 'application/spdx+json');
  const { imageDetails } = await ecr.send(new DescribeImagesCommand({ repositoryName: 'app' }));
  const common = {
    registryId: ACCOUNT.account,
    repositoryName: 'app',
    imagePushedAt: new Date(clock.now()),
    imageStatus: 'ACTIVE',
  };
  const byDigest = (a: { imageDigest?: string }, b: { imageDigest?: string }): number =>
    (a.imageDigest ?? '') < (b.imageDigest ?? '') ? -1 : 1;
  const imageSizeInBytes = 20_000 + JSON.stringify({ os: 'linux', seed: 'image' }).length;
  assert.deepEqual(
    imageDetails,
    [
      {
        ...common,
        imageDigest: image.descriptor.digest,
        imageTags: ['latest', 'v1'],
        imageSizeInBytes,
        imageManifestMediaType: MEDIA_TYPE.ociManifest,
        artifactMediaType: MEDIA_TYPE.ociConfig,
      },
      {
        ...common,
        imageDigest: index.digest,
        imageTags: ['multi'],
        imageSizeInBytes,
        imageManifestMediaType: MEDIA_TYPE.ociIndex,
      },
      {
        ...common,
        imageDigest: sbom.digest,
        imageSizeInBytes: 2,
        imageManifestMediaType: MEDIA_TYPE.ociManifest,
        artifactMediaType: 'application/spdx+json',
        subjectManifestDigest: index.digest,
      },
    ].sort(byDigest),
  );
});

test('images are listed by pages of 100, or of as many as requested up to 1000', async () => {
  await create('app');
  for (let i = 0; i < 101; i++) await raw.pushImage('app', i % 2 === 0 ? `t${i}` : undefined, `image ${i}`);
  const sizes = async (pageSize?: number): Promise<number[]> => {
    const pages: number[] = [];
    const config = { client: ecr, ...(pageSize === undefined ? {} : { pageSize }) };
    for await (const page of paginateDescribeImages(config, { repositoryName: 'app' })) {
      pages.push(page.imageDetails?.length ?? 0);
    }
    return pages;
  };
  assert.deepEqual(await sizes(), [100, 1]);
  assert.deepEqual(await sizes(40), [40, 40, 21]);
  assert.deepEqual(await sizes(1000), [101]);
  await assert.rejects(sizes(1001), { name: 'InvalidParameterException' });
  const tagged = await ecr.send(
    new DescribeImagesCommand({ repositoryName: 'app', filter: { tagStatus: 'TAGGED' }, maxResults: 1000 }),
  );
  assert.equal(tagged.imageDetails?.length, 51);
  const listed: ImageIdentifier[] = [];
  const untagged = { repositoryName: 'app', filter: { tagStatus: 'UNTAGGED' } } as const;
  for await (const page of paginateListImages({ client: ecr, pageSize: 20 }, untagged)) {
    listed.push(...(page.imageIds ?? []));
  }
  assert.equal(new Set(listed.map((id) => id.imageDigest)).size, 50);
});

test('images are described by id; an id that does not exist is an error', async () => {
  await create('app');
  const { descriptor } = await raw.pushImage('app', 'v1');
  const describe = async (imageIds: ImageIdentifier[]): Promise<(string | undefined)[]> => {
    const { imageDetails } = await ecr.send(new DescribeImagesCommand({ repositoryName: 'app', imageIds }));
    return (imageDetails ?? []).map((image) => image.imageDigest);
  };
  assert.deepEqual(await describe([{ imageTag: 'v1' }]), [descriptor.digest]);
  assert.deepEqual(await describe([{ imageDigest: descriptor.digest }]), [descriptor.digest]);
  await assert.rejects(describe([{ imageTag: 'v1' }, { imageTag: 'v2' }]), {
    name: 'ImageNotFoundException',
    message:
      "The image with imageId {imageDigest:'null', imageTag:'v2'} does not exist within the repository with name 'app' in the registry with id '111111111111'",
  });
});

test('archived images are listed only on request', async () => {
  await create('app');
  const { descriptor } = await raw.pushImage('app', 'v1');
  await raw.pushImage('app', 'v2', 'another');
  const move = async (targetStorageClass: 'ARCHIVE' | 'STANDARD'): Promise<unknown> =>
    ecr.send(
      new UpdateImageStorageClassCommand({ repositoryName: 'app', imageId: { imageTag: 'v1' }, targetStorageClass }),
    );
  await assert.rejects(move('STANDARD'), { name: 'ImageStorageClassUpdateNotSupportedException' });
  await move('ARCHIVE');
  await assert.rejects(move('ARCHIVE'), { name: 'ImageStorageClassUpdateNotSupportedException' });
  const tags = async (imageStatus?: 'ANY' | 'ARCHIVED' | 'ACTIVE'): Promise<(string | undefined)[]> => {
    const filter = imageStatus === undefined ? {} : { filter: { imageStatus } };
    const { imageDetails } = await ecr.send(new DescribeImagesCommand({ repositoryName: 'app', ...filter }));
    const { imageIds } = await ecr.send(new ListImagesCommand({ repositoryName: 'app', ...filter }));
    const described = (imageDetails ?? []).flatMap((image) => image.imageTags ?? []);
    const listed = (imageIds ?? []).map((id) => id.imageTag);
    assert.deepEqual(new Set(listed), new Set(described));
    return described.sort((a, b) => (a < b ? -1 : 1));
  };
  assert.deepEqual(await tags(), ['v2']);
  assert.deepEqual(await tags('ACTIVE'), ['v2']);
  assert.deepEqual(await tags('ARCHIVED'), ['v1']);
  assert.deepEqual(await tags('ANY'), ['v1', 'v2']);
  const { failures } = await ecr.send(
    new BatchGetImageCommand({ repositoryName: 'app', imageIds: [{ imageDigest: descriptor.digest }] }),
  );
  assert.equal(failures?.[0]?.failureCode, 'ImageNotFound');
});

test('manifests are returned byte for byte, and missing ones are named', async () => {
  await create('app');
  const { bytes, descriptor } = await raw.pushImage('app', 'v1');
  const other = digestOf(Buffer.from('other'));
  const { images, failures } = await ecr.send(
    new BatchGetImageCommand({
      repositoryName: 'app',
      imageIds: [
        { imageTag: 'v1' },
        { imageTag: 'v2' },
        { imageDigest: 'sha256:short' },
        { imageTag: 'v1', imageDigest: other },
        {},
      ],
    }),
  );
  assert.deepEqual(images, [
    {
      registryId: ACCOUNT.account,
      repositoryName: 'app',
      imageId: { imageTag: 'v1', imageDigest: descriptor.digest },
      imageManifest: bytes.toString(),
      imageManifestMediaType: MEDIA_TYPE.ociManifest,
    },
  ]);
  assert.deepEqual(
    failures?.map((failure) => failure.failureCode),
    ['ImageNotFound', 'InvalidImageDigest', 'ImageTagDoesNotMatchDigest', 'MissingDigestAndTag'],
  );
});

test('deleting by tag removes the tag; deleting by digest or the last tag removes the image', async () => {
  await create('app');
  const { bytes, descriptor } = await raw.pushImage('app', 'v1');
  const imageDigest = descriptor.digest;
  for (const tag of ['v2', 'v3']) await raw.putManifest('app', tag, bytes);
  assert.deepEqual(await remove([{ imageTag: 'v1' }]), {
    imageIds: [{ imageDigest, imageTag: 'v1' }],
    failures: [],
  });
  assert.equal((await raw.call('HEAD', '/v2/app/manifests/v2')).status, 200);
  assert.deepEqual(await remove([{ imageDigest }, { imageTag: 'v9' }]), {
    imageIds: [
      { imageDigest, imageTag: 'v2' },
      { imageDigest, imageTag: 'v3' },
    ],
    failures: [
      { imageId: { imageTag: 'v9' }, failureCode: 'ImageNotFound', failureReason: 'Requested image not found' },
    ],
  });
  await raw.pushImage('app', 'v4');
  assert.deepEqual((await remove([{ imageTag: 'v4' }])).imageIds, [{ imageDigest, imageTag: 'v4' }]);
  assert.equal((await raw.call('HEAD', `/v2/app/manifests/${imageDigest}`)).status, 404);
});

test('an image that a list names is deleted only after the list', async () => {
  await create('app');
  const { descriptor } = await raw.pushImage('app', undefined);
  const index = await raw.pushIndex('app', 'multi', [descriptor]);
  const both = [{ imageDigest: index.digest }, { imageDigest: descriptor.digest }];
  const first = await remove(both);
  assert.deepEqual(first.imageIds, [{ imageDigest: index.digest, imageTag: 'multi' }]);
  assert.equal(first.failures[0]?.failureCode, 'ImageReferencedByManifestList');
  assert.deepEqual((await remove([{ imageDigest: descriptor.digest }])).imageIds, [{ imageDigest: descriptor.digest }]);
});

test('more than 100 images at once, or none, are refused', async () => {
  await create('app');
  for (const count of [0, 101]) {
    const imageIds = Array.from({ length: count }, (_, i) => ({ imageTag: `t${i}` }));
    await assert.rejects(remove(imageIds), { name: 'InvalidParameterException' });
  }
});

async function remove(imageIds: ImageIdentifier[]) {
  const { imageIds: removed = [], failures = [] } = await ecr.send(
    new BatchDeleteImageCommand({ repositoryName: 'app', imageIds }),
  );
  return { imageIds: removed, failures };
}
