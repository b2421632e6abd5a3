import assert from 'node:assert/strict';
import {
  CreateRepositoryCommand,
  DeleteRepositoryCommand,
  DescribeImagesCommand,
  DescribeRegistryCommand,
  DescribeRepositoriesCommand,
  GetAccountSettingCommand,
  GetAuthorizationTokenCommand,
  GetLifecyclePolicyCommand,
  GetRepositoryPolicyCommand,
  ListTagsForResourceCommand,
  PutAccountSettingCommand,
  PutImageScanningConfigurationCommand,
  PutImageTagMutabilityCommand,
  PutLifecyclePolicyCommand,
  paginateDescribeRepositories,
  SetRepositoryPolicyCommand,
  StartImageScanCommand,
  TagResourceCommand,
} from '@aws-sdk/client-ecr';
import { request } from 'undici';
import { test } from 'vitest';
import { ACCOUNT, client, clock, create, ecr, HOST, raw, registry, restart, useEcr } from './lab.ts';

useEcr();

// ---- access

test('an authorization token has its expiry and the endpoint that accepts it', async () => {
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

test('a request that IAM does not allow is refused with the sentence of IAM', async () => {
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

test('an unknown operation is refused with an error', async () => {
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

test('repositories are listed by pages, or by name', async () => {
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

test('a repository with images is deleted only by force, with everything in it', async () => {
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

test('policies that are not JSON, and settings that do not exist, are refused', async () => {
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

test('blob mounting is off until it is turned on', async () => {
  assert.equal((await ecr.send(new GetAccountSettingCommand({ name: 'BLOB_MOUNTING' }))).value, 'DISABLED');
});
