import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  BatchDeleteImageCommand,
  BatchGetImageCommand,
  CreateRepositoryCommand,
  DeleteRepositoryCommand,
  DescribeImagesCommand,
  DescribeRegistryCommand,
  DescribeRepositoriesCommand,
  ECRClient,
  GetAccountSettingCommand,
  GetAuthorizationTokenCommand,
  GetLifecyclePolicyCommand,
  GetRepositoryPolicyCommand,
  ListImagesCommand,
  ListTagsForResourceCommand,
  PutAccountSettingCommand,
  PutImageScanningConfigurationCommand,
  PutImageTagMutabilityCommand,
  PutLifecyclePolicyCommand,
  paginateDescribeImages,
  paginateDescribeRepositories,
  paginateListImages,
  SetRepositoryPolicyCommand,
  StartImageScanCommand,
  TagResourceCommand,
  UpdateImageStorageClassCommand,
  type ImageIdentifier,
} from '@aws-sdk/client-ecr';
import { request } from 'undici';
import { afterEach, beforeEach, test } from 'vitest';
import { startRegistry, type EcrServerOptions, type LocalRegistry } from '../../registry/registry.ts';
import { digestOf } from '../../../worker/oci/digest.ts';
import { MEDIA_TYPE } from '../../../worker/oci/manifest.ts';
import { fakeClock, type FakeClock } from '../../../test/support/clock.ts';
import { RawRegistry } from '../../../test/support/raw-registry.ts';

const ACCOUNT = { account: '111111111111', region: 'us-east-1' };
const HOST = '111111111111.dkr.ecr.us-east-1.amazonaws.com';

let folder: string;
let clock: FakeClock;
let registry: LocalRegistry;
let ecr: ECRClient;
let raw: RawRegistry;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ecr-'));
  clock = fakeClock();
  await start({});
});

afterEach(async () => {
  ecr.destroy();
  await registry.close();
  await rm(folder, { recursive: true });
});

// ---- access

test('an authorization token says when it ends and where it is good', async () => {
  const { authorizationData } = await ecr.send(new GetAuthorizationTokenCommand({}));
  const [data] = authorizationData ?? [];
  assert.equal(data?.proxyEndpoint, `https://${HOST}`);
  assert.equal(data.expiresAt?.getTime(), clock.now() + 12 * 3600 * 1000);
  assert.match(Buffer.from(data.authorizationToken ?? '', 'base64').toString(), /^AWS:./);
  assert.equal(registry.registryHost, HOST);
});

test('requests must be signed, for this service and region', async () => {
  const send = async (headers: Record<string, string>): Promise<unknown> => {
    const target = { 'x-amz-target': 'AmazonEC2ContainerRegistry_V20150921.DescribeRepositories' };
    const answer = await request(registry.url, { method: 'POST', body: '{}', headers: { ...target, ...headers } });
    const { __type } = (await answer.body.json()) as { __type: string };
    assert.equal(answer.headers['x-amzn-errortype'], __type);
    return [answer.statusCode, __type];
  };
  assert.deepEqual(await send({}), [403, 'MissingAuthenticationTokenException']);
  assert.deepEqual(await send({ authorization: 'Basic QVdTOng=' }), [403, 'IncompleteSignatureException']);
  const abroad = client({ region: 'eu-west-1' });
  await assert.rejects(abroad.send(new DescribeRepositoriesCommand({})), { name: 'InvalidSignatureException' });
  abroad.destroy();
});

test('what IAM does not allow is refused with its sentence', async () => {
  await restart({ deny: ['ecr:CreateRepository', 'ecr:GetAuthorizationToken'] });
  await assert.rejects(create('app'), (error: Error) => {
    assert.equal(error.name, 'AccessDeniedException');
    assert.equal(
      error.message,
      'User: arn:aws:sts::111111111111:assumed-role/transship/local is not authorized to perform: ecr:CreateRepository on resource: arn:aws:ecr:us-east-1:111111111111:repository/app because no identity-based policy allows the ecr:CreateRepository action',
    );
    return true;
  });
  await assert.rejects(ecr.send(new GetAuthorizationTokenCommand({})), /on resource: \* because/);
});

test('creating a repository with tags takes two permissions', async () => {
  await restart({ deny: ['ecr:TagResource'] });
  await create('app');
  const tagged = new CreateRepositoryCommand({ repositoryName: 'other', tags: [{ Key: 'a', Value: '1' }] });
  await assert.rejects(ecr.send(tagged), { name: 'AccessDeniedException', message: /perform: ecr:TagResource on/ });
});

test('an operation that is not there is refused aloud', async () => {
  await create('app');
  const scan = new StartImageScanCommand({ repositoryName: 'app', imageId: { imageTag: 'v1' } });
  await assert.rejects(ecr.send(scan), (error: Error & { $metadata?: { httpStatusCode?: number } }) => {
    assert.equal(error.$metadata?.httpStatusCode, 501);
    assert.match(error.message, /does not know StartImageScan/);
    return true;
  });
});

test('faults strike single operations', async () => {
  registry.faults.add({ operation: 'DescribeRegistry' }, { kind: 'answer', status: 429 });
  await ecr.send(new DescribeRepositoriesCommand({}));
  await assert.rejects(ecr.send(new DescribeRegistryCommand({})), { name: 'ThrottlingException' });
  assert.equal(registry.faults.pending, 0);
  assert.equal((await ecr.send(new DescribeRegistryCommand({}))).registryId, ACCOUNT.account);
  assert.deepEqual(registry.requests.map((r) => [r.operation, r.status]).slice(-3), [
    ['DescribeRepositories', 200],
    ['DescribeRegistry', 429],
    ['DescribeRegistry', 200],
  ]);
});

// ---- repositories

test('a repository is created with the settings given, and described with them', async () => {
  const { repository } = await ecr.send(
    new CreateRepositoryCommand({
      repositoryName: 'team/app',
      imageTagMutability: 'IMMUTABLE_WITH_EXCLUSION',
      imageTagMutabilityExclusionFilters: [{ filterType: 'WILDCARD', filter: 'latest*' }],
      imageScanningConfiguration: { scanOnPush: true },
      encryptionConfiguration: { encryptionType: 'KMS', kmsKey: 'alias/mine' },
      tags: [{ Key: 'team', Value: 'a' }],
    }),
  );
  const expected = {
    repositoryArn: 'arn:aws:ecr:us-east-1:111111111111:repository/team/app',
    registryId: ACCOUNT.account,
    repositoryName: 'team/app',
    repositoryUri: `${HOST}/team/app`,
    createdAt: new Date(clock.now()),
    imageTagMutability: 'IMMUTABLE_WITH_EXCLUSION',
    imageTagMutabilityExclusionFilters: [{ filterType: 'WILDCARD', filter: 'latest*' }],
    imageScanningConfiguration: { scanOnPush: true },
    encryptionConfiguration: { encryptionType: 'KMS', kmsKey: 'alias/mine' },
  };
  assert.deepEqual(repository, expected);
  const described = await ecr.send(new DescribeRepositoriesCommand({ repositoryNames: ['team/app'] }));
  assert.deepEqual(described.repositories, [expected]);
  await restart({});
  assert.deepEqual((await ecr.send(new DescribeRepositoriesCommand({}))).repositories, [expected]);
});

test('a repository has defaults, and is created once', async () => {
  const { repository } = await create('app');
  assert.equal(repository?.imageTagMutability, 'MUTABLE');
  assert.deepEqual(repository?.imageScanningConfiguration, { scanOnPush: false });
  assert.deepEqual(repository?.encryptionConfiguration, { encryptionType: 'AES256' });
  await assert.rejects(create('app'), {
    name: 'RepositoryAlreadyExistsException',
    message: "The repository with name 'app' already exists in the registry with id '111111111111'",
  });
});

test.each(['', 'a', 'App', 'a//b', '-a', 'a'.repeat(257)])('%j can not be the name of a repository', async (name) => {
  await assert.rejects(create(name), { name: 'InvalidParameterException' });
});

test('filters of tag mutability go with an exclusion only, five at most, of known characters', async () => {
  const put = async (mutability: string, filters: readonly string[]): Promise<unknown> =>
    ecr.send(
      new PutImageTagMutabilityCommand({
        repositoryName: 'app',
        imageTagMutability: mutability as 'MUTABLE',
        imageTagMutabilityExclusionFilters: filters.map((filter) => ({ filterType: 'WILDCARD', filter })),
      }),
    );
  await create('app');
  await put('MUTABLE_WITH_EXCLUSION', ['v*', 'release']);
  for (const [mutability, filters] of [
    ['IMMUTABLE', ['v*']],
    ['IMMUTABLE_WITH_EXCLUSION', []],
    ['IMMUTABLE_WITH_EXCLUSION', ['a', 'b', 'c', 'd', 'e', 'f']],
    ['IMMUTABLE_WITH_EXCLUSION', ['v?']],
    ['SOMETIMES', []],
  ] as const) {
    await assert.rejects(put(mutability, filters), { name: 'InvalidParameterException' });
  }
  const { repositories } = await ecr.send(new DescribeRepositoriesCommand({}));
  assert.equal(repositories?.[0]?.imageTagMutability, 'MUTABLE_WITH_EXCLUSION');
});

test('repositories come by pages, or by name', async () => {
  for (const name of ['b', 'c', 'a']) await create(`app/${name}`);
  const names: (string | undefined)[][] = [];
  for await (const page of paginateDescribeRepositories({ client: ecr, pageSize: 2 }, {})) {
    names.push((page.repositories ?? []).map((r) => r.repositoryName));
  }
  assert.deepEqual(names, [['app/a', 'app/b'], ['app/c']]);
  const missing = new DescribeRepositoriesCommand({ repositoryNames: ['app/a', 'app/x'] });
  await assert.rejects(ecr.send(missing), {
    name: 'RepositoryNotFoundException',
    message: "The repository with name 'app/x' does not exist in the registry with id '111111111111'",
  });
  const both = new DescribeRepositoriesCommand({ repositoryNames: ['app/a'], maxResults: 1 });
  await assert.rejects(ecr.send(both), { name: 'InvalidParameterException' });
  const forged = new DescribeRepositoriesCommand({ nextToken: 'app/a' });
  await assert.rejects(ecr.send(forged), { name: 'InvalidParameterException' });
  const many = new DescribeRepositoriesCommand({ maxResults: 1001 });
  await assert.rejects(ecr.send(many), { name: 'InvalidParameterException' });
});

test('a repository of another account is not found', async () => {
  await create('app');
  const abroad = new DescribeImagesCommand({ registryId: '222222222222', repositoryName: 'app' });
  await assert.rejects(ecr.send(abroad), { name: 'RepositoryNotFoundException' });
});

test('a repository with images is deleted only by force, with all that is in it', async () => {
  await create('app');
  const { layer } = await raw.pushImage('app', 'v1');
  const repositoryName = 'app';
  await assert.rejects(ecr.send(new DeleteRepositoryCommand({ repositoryName })), {
    name: 'RepositoryNotEmptyException',
  });
  const { repository } = await ecr.send(new DeleteRepositoryCommand({ repositoryName, force: true }));
  assert.equal(repository?.repositoryName, 'app');
  assert.equal((await raw.call('GET', '/v2/app/manifests/v1')).status, 404);
  await create('app');
  assert.equal((await raw.call('HEAD', `/v2/app/blobs/${layer}`)).status, 404);
});

test('settings can be changed and read back, after a restart too', async () => {
  await create('app');
  const repositoryName = 'app';
  const lifecyclePolicyText = JSON.stringify({ rules: [{ rulePriority: 1 }] });
  const policyText = JSON.stringify({ Version: '2012-10-17', Statement: [] });
  const resourceArn = 'arn:aws:ecr:us-east-1:111111111111:repository/app';
  await assert.rejects(ecr.send(new GetLifecyclePolicyCommand({ repositoryName })), {
    name: 'LifecyclePolicyNotFoundException',
  });
  await assert.rejects(ecr.send(new GetRepositoryPolicyCommand({ repositoryName })), {
    name: 'RepositoryPolicyNotFoundException',
  });
  await ecr.send(new PutLifecyclePolicyCommand({ repositoryName, lifecyclePolicyText }));
  await ecr.send(new SetRepositoryPolicyCommand({ repositoryName, policyText }));
  await ecr.send(new TagResourceCommand({ resourceArn, tags: [{ Key: 'a', Value: '1' }] }));
  await ecr.send(new TagResourceCommand({ resourceArn, tags: [{ Key: 'b', Value: '2' }] }));
  const imageScanningConfiguration = { scanOnPush: true };
  await ecr.send(new PutImageScanningConfigurationCommand({ repositoryName, imageScanningConfiguration }));
  await ecr.send(new PutImageTagMutabilityCommand({ repositoryName, imageTagMutability: 'IMMUTABLE' }));
  await ecr.send(new PutAccountSettingCommand({ name: 'BLOB_MOUNTING', value: 'ENABLED' }));
  await restart({});
  const lifecycle = await ecr.send(new GetLifecyclePolicyCommand({ repositoryName }));
  assert.equal(lifecycle.lifecyclePolicyText, lifecyclePolicyText);
  assert.equal((await ecr.send(new GetRepositoryPolicyCommand({ repositoryName }))).policyText, policyText);
  const { tags } = await ecr.send(new ListTagsForResourceCommand({ resourceArn }));
  assert.deepEqual(tags, [
    { Key: 'a', Value: '1' },
    { Key: 'b', Value: '2' },
  ]);
  const { repositories } = await ecr.send(new DescribeRepositoriesCommand({}));
  assert.equal(repositories?.[0]?.imageTagMutability, 'IMMUTABLE');
  assert.deepEqual(repositories?.[0]?.imageScanningConfiguration, imageScanningConfiguration);
  assert.equal((await ecr.send(new GetAccountSettingCommand({ name: 'BLOB_MOUNTING' }))).value, 'ENABLED');
});

test('policies that are no JSON, and settings that do not exist, are refused', async () => {
  await create('app');
  const repositoryName = 'app';
  const invalid = { name: 'InvalidParameterException' };
  await assert.rejects(ecr.send(new SetRepositoryPolicyCommand({ repositoryName, policyText: '{' })), invalid);
  for (const lifecyclePolicyText of ['{', '[]', '{"rule":[]}']) {
    await assert.rejects(ecr.send(new PutLifecyclePolicyCommand({ repositoryName, lifecyclePolicyText })), invalid);
  }
  await assert.rejects(ecr.send(new PutAccountSettingCommand({ name: 'BLOB_MOUNTING', value: 'MAYBE' })), invalid);
  await assert.rejects(ecr.send(new GetAccountSettingCommand({ name: 'BLOB_COUNTING' })), invalid);
  const resourceArn = 'arn:aws:ecr:eu-west-1:111111111111:repository/app';
  await assert.rejects(ecr.send(new ListTagsForResourceCommand({ resourceArn })), invalid);
});

test('blob mounting is off until it is put on', async () => {
  assert.equal((await ecr.send(new GetAccountSettingCommand({ name: 'BLOB_MOUNTING' }))).value, 'DISABLED');
});

// ---- images

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

test('images come by pages of 100, or as many as asked for up to 1000', async () => {
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

test('images are described by id; one that is not there is an error', async () => {
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

test('archived images are left out unless they are asked for', async () => {
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

test('manifests are given byte for byte, and what is not there is named', async () => {
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

test('deleting by tag takes the tag, by digest or with the last tag the image', async () => {
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

// ---- tools

function client(o: { readonly region: string }): ECRClient {
  const credentials = { accessKeyId: 'local', secretAccessKey: 'local' };
  return new ECRClient({ endpoint: registry.url, region: o.region, credentials, maxAttempts: 1 });
}

async function start(o: Omit<EcrServerOptions, 'folder' | 'mode' | 'clock' | 'account' | 'region'>): Promise<void> {
  registry = await startRegistry({ folder, mode: 'ecr', clock, ...ACCOUNT, ...o });
  ecr = client(ACCOUNT);
  if (o.deny?.includes('ecr:GetAuthorizationToken') === true) return;
  const { authorizationData } = await ecr.send(new GetAuthorizationTokenCommand({}));
  raw = new RawRegistry(registry.url, { authorization: `Basic ${authorizationData?.[0]?.authorizationToken ?? ''}` });
}

async function restart(o: Parameters<typeof start>[0]): Promise<void> {
  ecr.destroy();
  await registry.close();
  await start(o);
}

async function create(repositoryName: string) {
  return ecr.send(new CreateRepositoryCommand({ repositoryName }));
}

async function remove(imageIds: ImageIdentifier[]) {
  const { imageIds: removed = [], failures = [] } = await ecr.send(
    new BatchDeleteImageCommand({ repositoryName: 'app', imageIds }),
  );
  return { imageIds: removed, failures };
}
