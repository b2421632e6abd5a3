// The settings of a registry as a whole, over the SDK: read from one ECR, restored to another, compared.
import { afterAll, expect, test } from 'vitest';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import type { Registry } from '../../worker/images/backends.ts';
import { collectFaults } from '../../worker/images/faults.ts';
import {
  restoreRegistrySettings,
  type RegistrySettingsRestore,
} from '../../worker/images/restore-registry-settings.ts';
import { ecrHost } from '../../worker/oci/ecr-host.ts';
import { callEcr } from '../support/call-ecr.ts';
import { failureOf, openLab, sentenceOf } from '../support/lab.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());

let regions = 0;
/** A new ECR. The SDK reaches the one that was started last. */
async function newEcr(options: { readonly deny?: readonly `ecr:${string}`[] } = {}): Promise<LocalRegistry> {
  const number = ++regions;
  return lab.registry({ mode: 'ecr', account: '222222222222', region: `eu-north-${number}`, ...options });
}

function registryOf({ registryHost }: LocalRegistry): Registry {
  return lab.session().backends.registry(registryHost, 'target');
}

async function put(registry: LocalRegistry, operation: string, input: object): Promise<void> {
  await callEcr(registry.url, ecrHost(registry.registryHost)?.region ?? '', operation, input);
}

const POLICY = {
  Version: '2012-10-17',
  Statement: [
    {
      Sid: 'replicate',
      Effect: 'Allow',
      Principal: { AWS: 'arn:aws:iam::222222222222:root' },
      Action: ['ecr:ReplicateImage', 'ecr:CreateRepository'],
      Resource: '*',
    },
  ],
};

/** Every member, as an operator sets them. */
async function configure(registry: LocalRegistry): Promise<void> {
  await put(registry, 'PutAccountSetting', { name: 'BLOB_MOUNTING', value: 'ENABLED' });
  await put(registry, 'PutReplicationConfiguration', {
    replicationConfiguration: {
      rules: [
        {
          destinations: [{ region: 'eu-west-3', registryId: '222222222222' }],
          repositoryFilters: [{ filter: 'team/', filterType: 'PREFIX_MATCH' }],
        },
      ],
    },
  });
  await put(registry, 'PutRegistryScanningConfiguration', {
    scanType: 'ENHANCED',
    rules: [{ scanFrequency: 'CONTINUOUS_SCAN', repositoryFilters: [{ filter: '*', filterType: 'WILDCARD' }] }],
  });
  await put(registry, 'PutRegistryPolicy', { policyText: JSON.stringify(POLICY, undefined, 2) });
  await put(registry, 'PutSigningConfiguration', {
    signingConfiguration: {
      rules: [{ signingProfileArn: 'arn:aws:signer:eu-north-1:222222222222:/signing-profiles/images' }],
    },
  });
  for (const prefix of ['team', 'ROOT'])
    await put(registry, 'CreateRepositoryCreationTemplate', {
      prefix,
      description: `of ${prefix}`,
      appliedFor: ['REPLICATION', 'CREATE_ON_PUSH'],
      imageTagMutability: 'IMMUTABLE',
      resourceTags: [
        { Key: 'b', Value: '2' },
        { Key: 'a', Value: '1' },
      ],
      lifecyclePolicy: '{"rules": []}',
    });
  await put(registry, 'CreatePullThroughCacheRule', {
    ecrRepositoryPrefix: 'hub',
    upstreamRegistryUrl: 'registry-1.docker.io',
    upstreamRegistry: 'docker-hub',
    credentialArn: 'arn:aws:secretsmanager:eu-north-1:222222222222:secret:ecr-pullthroughcache/hub',
  });
  await put(registry, 'RegisterPullTimeUpdateExclusion', { principalArn: 'arn:aws:iam::222222222222:role/backup' });
}

async function restore(
  to: LocalRegistry,
  settings: Readonly<Record<string, unknown>>,
  more: Partial<RegistrySettingsRestore> = {},
): Promise<{ readonly faults: readonly string[]; readonly notes: readonly string[] }> {
  const { backends, options, events } = lab.session();
  const faults = collectFaults(undefined);
  await restoreRegistrySettings({ settings, to: to.registryHost, ...more }, backends, faults, options);
  const notes = events.flatMap((event) => (event.type === 'note' ? [event.message] : []));
  return { faults: faults.messages, notes };
}

test('reads every setting of a registry, and restores them to an empty one with the same result', async () => {
  const source = await newEcr();
  await configure(source);
  const settings = await registryOf(source).registrySettings();
  expect(settings).toMatchObject({
    accountSettings: { BLOB_MOUNTING: 'ENABLED', REGISTRY_POLICY_SCOPE: 'V2', BASIC_SCAN_TYPE_VERSION: 'AWS_NATIVE' },
    replication: [{ destinations: [{ region: 'eu-west-3', registryId: '222222222222' }] }],
    scanning: { scanType: 'ENHANCED' },
    repositoryCreationTemplates: [
      { prefix: 'ROOT' },
      { prefix: 'team', appliedFor: ['CREATE_ON_PUSH', 'REPLICATION'], resourceTags: [{ Key: 'a' }, { Key: 'b' }] },
    ],
    pullThroughCacheRules: [{ ecrRepositoryPrefix: 'hub', upstreamRegistry: 'docker-hub' }],
    signing: [{ signingProfileArn: 'arn:aws:signer:eu-north-1:222222222222:/signing-profiles/images' }],
    pullTimeUpdateExclusions: ['arn:aws:iam::222222222222:role/backup'],
    registryPolicy: JSON.stringify(POLICY, undefined, 2),
  });
  const stored = JSON.parse(JSON.stringify(settings)) as Record<string, unknown>;

  const target = await newEcr();
  expect(await restore(target, stored, { dryRun: true })).toMatchObject({ faults: [] });
  expect(await registryOf(target).registrySettings()).not.toHaveProperty('replication');
  const { faults, notes } = await restore(target, stored);
  expect(faults).toEqual([]);
  expect(notes).toContainEqual(expect.stringContaining('pullThroughCacheRules hub: nothing → '));
  expect(await registryOf(target).registrySettingsChanges(stored)).toEqual([]);
  // they are applied in this order: the policy may deny what comes after it
  expect(notes.at(-1)).toContain('registryPolicy');
  // again: nothing changes
  expect(await restore(target, stored, { mode: 'replace' })).toEqual({ faults: [], notes: [] });
});

test('leaves existing settings alone unless it replaces, and then removes nothing', async () => {
  const target = await newEcr();
  await configure(target);
  const wanted = {
    scanning: { scanType: 'BASIC', rules: [] },
    repositoryCreationTemplates: [
      { prefix: 'team', description: 'new', appliedFor: ['CREATE_ON_PUSH'] },
      { prefix: 'other', appliedFor: ['REPLICATION'] },
    ],
  };
  const { notes } = await restore(target, wanted);
  expect(notes.at(-1)).toMatch(/kept its scanning, repositoryCreationTemplates team; pass --settings replace/);
  const templates = async (): Promise<unknown> =>
    (await registryOf(target).registrySettings())?.['repositoryCreationTemplates'];
  expect(await templates()).toMatchObject([
    { prefix: 'ROOT' },
    { prefix: 'other' },
    { prefix: 'team', description: 'of team' },
  ]);
  await restore(target, wanted, { mode: 'replace' });
  expect(await templates()).toMatchObject([
    { prefix: 'ROOT', description: 'of ROOT' },
    { prefix: 'other' },
    { prefix: 'team', description: 'new' },
  ]);
});

test('changes the credentials of a cache rule, and reports that its upstream stays', async () => {
  const target = await newEcr();
  await configure(target);
  const rule = {
    ecrRepositoryPrefix: 'hub',
    upstreamRegistryUrl: 'registry-1.docker.io',
    upstreamRegistry: 'docker-hub',
  };
  const credentialArn = 'arn:aws:secretsmanager:eu-north-1:222222222222:secret:ecr-pullthroughcache/new';
  await registryOf(target).applyRegistrySettings({ pullThroughCacheRules: [{ ...rule, credentialArn }] });
  expect(await registryOf(target).registrySettings()).toMatchObject({ pullThroughCacheRules: [{ credentialArn }] });
  const { backends, events } = lab.session();
  await backends
    .registry(target.registryHost, 'target')
    .applyRegistrySettings({ pullThroughCacheRules: [{ ...rule, upstreamRegistryUrl: 'quay.io' }] });
  expect(events).toContainEqual({
    type: 'warning',
    side: 'target',
    message: expect.stringContaining('which ECR does not change to quay.io'),
  });
  expect(await registryOf(target).registrySettings()).toMatchObject({ pullThroughCacheRules: [{ credentialArn }] });
});

test('names unreadable members with the missing permission, and reads the others', async () => {
  const registry = await newEcr({ deny: ['ecr:GetRegistryPolicy', 'ecr:ListPullTimeUpdateExclusions'] });
  await put(registry, 'PutAccountSetting', { name: 'BLOB_MOUNTING', value: 'ENABLED' });
  const settings = await registryOf(registry).registrySettings();
  expect(settings).toMatchObject({
    accountSettings: { BLOB_MOUNTING: 'ENABLED' },
    unread: {
      registryPolicy: expect.stringContaining('the caller needs ecr:GetRegistryPolicy'),
      pullTimeUpdateExclusions: expect.stringContaining('the caller needs ecr:ListPullTimeUpdateExclusions'),
    },
  });
  const { faults } = await restore(await newEcr(), settings ?? {});
  expect(faults.toSorted()).toEqual([
    expect.stringContaining('pullTimeUpdateExclusions is not in the backup: '),
    expect.stringContaining('registryPolicy is not in the backup: '),
  ]);
});

test('is DENIED where no setting may be read', async () => {
  const registry = await newEcr({
    deny: [
      'ecr:DescribeRegistry',
      'ecr:GetRegistryScanningConfiguration',
      'ecr:DescribeRepositoryCreationTemplates',
      'ecr:DescribePullThroughCacheRules',
      'ecr:GetSigningConfiguration',
      'ecr:GetRegistryPolicy',
    ],
  });
  const sentence = await sentenceOf(registryOf(registry).registrySettings(), 'DENIED');
  expect(sentence).toContain('the caller needs ecr:DescribeRegistry');
});

test('takes no settings of another account for those of the registry', async () => {
  const { ecr } = lab.stack;
  // the credentials decide whose settings ECR returns: here those of the account of `ecr`
  const host = ecr.registryHost.replace('111111111111', '333333333333');
  expect(host).not.toBe(ecr.registryHost);
  const registry = lab.session().backends.registry(host, 'target');
  await failureOf(registry.registrySettings(), 'UNSUPPORTED');
  const sentence = await sentenceOf(
    registry.applyRegistrySettings({ accountSettings: { BLOB_MOUNTING: 'ENABLED' } }),
    'UNSUPPORTED',
  );
  expect(sentence).toContain('use credentials of account 333333333333');
  expect(await registryOf(ecr).registrySettings()).toMatchObject({ accountSettings: { BLOB_MOUNTING: 'DISABLED' } });
});

test('refuses a policy that would lock the caller out, and restores it where that is allowed', async () => {
  const deny = { Effect: 'Deny', Principal: '*', Action: 'ecr:PutRegistryPolicy', Resource: '*' };
  const registryPolicy = JSON.stringify({ Version: '2012-10-17', Statement: [deny] });
  const target = await newEcr();
  const { faults } = await restore(target, { registryPolicy });
  expect(faults).toEqual([
    `settings of the registry ${target.registryHost}: the policy was left out: it denies "ecr:PutRegistryPolicy" to "*"; pass --allow-lockout to restore it`,
  ]);
  expect(await registryOf(target).registrySettings()).not.toHaveProperty('registryPolicy');
  expect(await restore(target, { registryPolicy }, { allowLockout: true })).toMatchObject({ faults: [] });
  // it locks the caller out
  const after = await restore(target, { registryPolicy: JSON.stringify(POLICY) }, { mode: 'replace' });
  expect(after.faults).toEqual([expect.stringContaining('explicit deny')]);
});

test('continues after a setting that is refused', async () => {
  const source = await newEcr();
  await configure(source);
  const settings = (await registryOf(source).registrySettings()) ?? {};
  const target = await newEcr({ deny: ['ecr:PutSigningConfiguration'] });
  const { faults } = await restore(target, settings);
  expect(faults).toEqual([
    expect.stringMatching(/signing was not restored: .*the caller needs ecr:PutSigningConfiguration/),
  ]);
  expect(await registryOf(target).registrySettings()).toHaveProperty('replication');
});

test('has no settings for a registry that is not ECR', async () => {
  const { registry } = lab.stack;
  expect(await registryOf(registry).registrySettings()).toBeUndefined();
  expect(await restore(registry, { replication: [] })).toEqual({ faults: [], notes: [] });
});

test.each([
  [{ replication: [{ destinations: 'all' }] }, '"replication.0.destinations": expected a list'],
  [{ registryPolicy: 3 }, '"registryPolicy": expected a string'],
  [{ mood: 'good' }, 'Unrecognized key: "mood"'],
])('refuses invalid settings: %j', async (settings, message) => {
  const sentence = await sentenceOf(registryOf(lab.stack.ecr).applyRegistrySettings(settings), 'INVALID');
  expect(sentence).toBe(`the settings of a registry: ${message}`);
});
