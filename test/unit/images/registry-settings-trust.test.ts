import { describe, expect, test } from 'vitest';
import { withoutForeignParts } from '../../../worker/images/registry-settings-trust.ts';
import type { SettingsDocument } from '../../../worker/images/write-settings.ts';

const HERE = { account: '222222222222', region: 'eu-west-1' };
const OTHER = '111111111111';

function restorable(
  settings: SettingsDocument,
  allowForeign = false,
): { readonly kept: SettingsDocument; readonly leftOut: readonly string[] } {
  const leftOut: string[] = [];
  const kept = withoutForeignParts(settings, HERE, allowForeign, (what, why) => void leftOut.push(`${what}: ${why}`));
  return { kept, leftOut };
}

describe('without a choice, restoring the settings of a registry leaves out', () => {
  test.each<[string, SettingsDocument]>([
    [
      'replication to another account',
      { replication: [{ destinations: [{ region: 'eu-west-1', registryId: OTHER }] }] },
    ],
    [
      'a signing profile of another account',
      { signing: [{ signingProfileArn: `arn:aws:signer:eu-west-1:${OTHER}:/x` }] },
    ],
    [
      'a cache rule with the secret of another account',
      {
        pullThroughCacheRules: [
          { ecrRepositoryPrefix: 'a', credentialArn: `arn:aws:secretsmanager:eu-west-1:${OTHER}:secret:x` },
        ],
      },
    ],
    [
      'a template with a role of another account',
      { repositoryCreationTemplates: [{ prefix: 'a', customRoleArn: `arn:aws:iam::${OTHER}:role/x` }] },
    ],
    ['a principal of another account', { pullTimeUpdateExclusions: [`arn:aws:iam::${OTHER}:role/x`] }],
    [
      'a policy that grants access to another account',
      { registryPolicy: JSON.stringify({ Statement: { Effect: 'Allow', Principal: { AWS: OTHER }, Action: '*' } }) },
    ],
  ])('%s', (_, settings) => {
    const { kept, leftOut } = restorable(settings);
    expect(kept).toEqual({});
    expect(leftOut).toEqual([expect.stringContaining('; pass --allow-foreign-grants to restore it')]);
    expect(restorable(settings, true)).toEqual({ kept: settings, leftOut: [] });
  });

  test('a policy that is malformed', () => {
    expect(restorable({ registryPolicy: '{' })).toEqual({
      kept: {},
      leftOut: ['the policy was left out: the policy is not JSON'],
    });
  });
});

test('a registry that replicated to its replacement does not make it replicate to itself', () => {
  const elsewhere = { region: 'eu-west-2', registryId: HERE.account };
  const replication = [
    { destinations: [{ region: HERE.region, registryId: HERE.account }, elsewhere] },
    { destinations: [{ region: HERE.region, registryId: HERE.account }] },
  ];
  const { kept, leftOut } = restorable({ replication }, true);
  expect(kept).toEqual({ replication: [{ destinations: [elsewhere] }] });
  expect(leftOut).toHaveLength(2);
});

test('a template keeps what it can: neither the key of another Region, nor a policy for other accounts', () => {
  const template = {
    prefix: 'a',
    appliedFor: ['CREATE_ON_PUSH'],
    encryptionConfiguration: { encryptionType: 'KMS', kmsKey: `arn:aws:kms:us-east-1:${HERE.account}:key/x` },
    repositoryPolicy: JSON.stringify({ Statement: { Effect: 'Allow', Principal: '*', Action: 'ecr:*' } }),
  };
  const { kept, leftOut } = restorable({ repositoryCreationTemplates: [template] });
  expect(kept).toEqual({
    repositoryCreationTemplates: [
      { prefix: 'a', appliedFor: ['CREATE_ON_PUSH'], encryptionConfiguration: { encryptionType: 'KMS' } },
    ],
  });
  expect(leftOut).toHaveLength(2);
  const own = {
    ...template,
    encryptionConfiguration: { encryptionType: 'KMS', kmsKey: `arn:aws:kms:eu-west-1:${HERE.account}:key/x` },
  };
  expect(restorable({ repositoryCreationTemplates: [own] }, true)).toEqual({
    kept: { repositoryCreationTemplates: [own] },
    leftOut: [],
  });
});

test('malformed settings stay unchanged, so that applying them reports what is wrong', () => {
  const settings = { replication: 'all', signing: [3], registryPolicy: 4, mood: 'good' };
  expect(restorable(settings)).toEqual({ kept: settings, leftOut: [] });
});
