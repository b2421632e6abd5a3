import assert from 'node:assert/strict';
import {
  CreatePullThroughCacheRuleCommand,
  CreateRepositoryCreationTemplateCommand,
  DescribePullThroughCacheRulesCommand,
  DescribeRegistryCommand,
  DescribeRepositoriesCommand,
  DescribeRepositoryCreationTemplatesCommand,
  GetRegistryPolicyCommand,
  GetRegistryScanningConfigurationCommand,
  GetSigningConfigurationCommand,
  ListPullTimeUpdateExclusionsCommand,
  PutRegistryPolicyCommand,
  PutRegistryScanningConfigurationCommand,
  PutReplicationConfigurationCommand,
  PutSigningConfigurationCommand,
  RegisterPullTimeUpdateExclusionCommand,
  UpdatePullThroughCacheRuleCommand,
  UpdateRepositoryCreationTemplateCommand,
} from '@aws-sdk/client-ecr';
import { test } from 'vitest';
import { ecr, restart, useEcr } from './lab.ts';

useEcr();

const registryId = '111111111111';

test('a new registry has no settings', async () => {
  const registry = await ecr.send(new DescribeRegistryCommand({}));
  assert.deepEqual(registry.replicationConfiguration, { rules: [] });
  assert.equal(registry.registryId, registryId);
  const { scanningConfiguration } = await ecr.send(new GetRegistryScanningConfigurationCommand({}));
  assert.deepEqual(scanningConfiguration, { scanType: 'BASIC', rules: [] });
  await assert.rejects(ecr.send(new GetRegistryPolicyCommand({})), { name: 'RegistryPolicyNotFoundException' });
  await assert.rejects(ecr.send(new GetSigningConfigurationCommand({})), {
    name: 'SigningConfigurationNotFoundException',
  });
  const templates = await ecr.send(new DescribeRepositoryCreationTemplatesCommand({}));
  assert.deepEqual(templates.repositoryCreationTemplates, []);
  assert.deepEqual((await ecr.send(new ListPullTimeUpdateExclusionsCommand({}))).pullTimeUpdateExclusions, []);
});

test('settings survive a restart', async () => {
  const replicationConfiguration = { rules: [{ destinations: [{ region: 'eu-west-1', registryId }] }] };
  await ecr.send(new PutReplicationConfigurationCommand({ replicationConfiguration }));
  const rules = [{ signingProfileArn: 'arn:aws:signer:us-east-1:111111111111:/signing-profiles/p' }];
  await ecr.send(new PutSigningConfigurationCommand({ signingConfiguration: { rules } }));
  const principalArn = 'arn:aws:iam::111111111111:role/backup';
  await ecr.send(new RegisterPullTimeUpdateExclusionCommand({ principalArn }));
  await assert.rejects(ecr.send(new RegisterPullTimeUpdateExclusionCommand({ principalArn })), {
    name: 'ExclusionAlreadyExistsException',
  });
  await restart({});
  const registry = await ecr.send(new DescribeRegistryCommand({}));
  assert.deepEqual(registry.replicationConfiguration, replicationConfiguration);
  const signing = await ecr.send(new GetSigningConfigurationCommand({}));
  assert.deepEqual(signing.signingConfiguration, { rules });
  const { pullTimeUpdateExclusions } = await ecr.send(new ListPullTimeUpdateExclusionsCommand({}));
  assert.deepEqual(pullTimeUpdateExclusions, [principalArn]);
});

test('templates are created once, changed, and listed by pages', async () => {
  for (const prefix of ['b', 'a', 'c'])
    await ecr.send(new CreateRepositoryCreationTemplateCommand({ prefix, appliedFor: ['CREATE_ON_PUSH'] }));
  await assert.rejects(
    ecr.send(new CreateRepositoryCreationTemplateCommand({ prefix: 'a', appliedFor: ['REPLICATION'] })),
    { name: 'TemplateAlreadyExistsException' },
  );
  await ecr.send(new UpdateRepositoryCreationTemplateCommand({ prefix: 'a', description: 'new' }));
  await assert.rejects(ecr.send(new UpdateRepositoryCreationTemplateCommand({ prefix: 'd' })), {
    name: 'TemplateNotFoundException',
  });
  const first = await ecr.send(new DescribeRepositoryCreationTemplatesCommand({ maxResults: 2 }));
  const { nextToken } = first;
  const second = await ecr.send(new DescribeRepositoryCreationTemplatesCommand({ maxResults: 2, nextToken }));
  const all = [first, second].flatMap(({ repositoryCreationTemplates = [] }) => repositoryCreationTemplates);
  assert.deepEqual(
    all.map(({ prefix, description }) => [prefix, description]),
    [
      ['a', 'new'],
      ['b', undefined],
      ['c', undefined],
    ],
  );
  assert.ok(all[0]?.createdAt instanceof Date);
});

test('a cache rule keeps its upstream', async () => {
  const rule = { ecrRepositoryPrefix: 'hub', upstreamRegistryUrl: 'registry-1.docker.io' };
  await ecr.send(new CreatePullThroughCacheRuleCommand(rule));
  await assert.rejects(ecr.send(new CreatePullThroughCacheRuleCommand(rule)), {
    name: 'PullThroughCacheRuleAlreadyExistsException',
  });
  const credentialArn = 'arn:aws:secretsmanager:us-east-1:111111111111:secret:ecr-pullthroughcache/hub';
  await ecr.send(new UpdatePullThroughCacheRuleCommand({ ecrRepositoryPrefix: 'hub', credentialArn }));
  const found = await ecr.send(new DescribePullThroughCacheRulesCommand({ ecrRepositoryPrefixes: ['hub'] }));
  assert.equal(found.pullThroughCacheRules?.[0]?.upstreamRegistryUrl, 'registry-1.docker.io');
  assert.equal(found.pullThroughCacheRules?.[0]?.credentialArn, credentialArn);
  await assert.rejects(ecr.send(new DescribePullThroughCacheRulesCommand({ ecrRepositoryPrefixes: ['no'] })), {
    name: 'PullThroughCacheRuleNotFoundException',
  });
});

test('invalid settings are refused', async () => {
  const invalid = { name: 'InvalidParameterException' };
  const rules = [{ destinations: [{ region: 'us-east-1', registryId }] }];
  await assert.rejects(
    ecr.send(new PutReplicationConfigurationCommand({ replicationConfiguration: { rules } })),
    invalid,
  );
  const scanning = { scanFrequency: 'CONTINUOUS_SCAN' as const, repositoryFilters: [] };
  await assert.rejects(
    ecr.send(new PutRegistryScanningConfigurationCommand({ scanType: 'BASIC', rules: [scanning] })),
    invalid,
  );
  await assert.rejects(ecr.send(new PutRegistryPolicyCommand({ policyText: 'no' })), invalid);
  await assert.rejects(ecr.send(new RegisterPullTimeUpdateExclusionCommand({ principalArn: 'me' })), invalid);
});

test('a policy that denies applies to every request', async () => {
  const statement = { Effect: 'Deny', Principal: '*', Action: 'ecr:Describe*', Resource: '*' };
  const policyText = JSON.stringify({ Version: '2012-10-17', Statement: [statement] });
  await ecr.send(new PutRegistryPolicyCommand({ policyText }));
  await assert.rejects(ecr.send(new DescribeRepositoriesCommand({})), { name: 'AccessDeniedException' });
  assert.equal((await ecr.send(new GetRegistryPolicyCommand({}))).policyText, policyText);
});
