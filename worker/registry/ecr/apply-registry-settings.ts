import type * as Sdk from '@aws-sdk/client-ecr';
import type { Abortable } from '../../util/abort.ts';
import { isFailure } from '../../util/failure.ts';
import type { EcrClient } from './client.ts';
import { checkOwnRegistry } from './read-registry-settings.ts';
import type { RegistrySettings } from './parse-registry-settings.ts';
import { REGISTRY_MEMBERS, type RegistryMember } from './registry-settings.ts';
import type { Warn } from './repositories.ts';

type Options = Abortable & { readonly warn: Warn };

/**
 * Makes the registry have these settings. Replication, scanning, signing and the policy are replaced; templates, cache rules, account settings
 * and exclusions are added or replaced one by one. What is absent stays as it is: nothing is removed. Idempotent. UNSUPPORTED where the
 * credentials are of another account; DENIED names the missing action. Of a cache rule that exists, ECR changes the credentials and the role
 * alone.
 */
export async function applyRegistrySettings(
  client: EcrClient,
  settings: RegistrySettings,
  options: Options,
): Promise<void> {
  const wanted = REGISTRY_MEMBERS.filter((member) => settings[member] !== undefined);
  if (wanted.length === 0) return;
  await checkOwnRegistry(client, options);
  for (const member of wanted) await APPLY[member](new Calls(client, options), settings);
}

/** Calls that change a registry. */
class Calls {
  readonly registryId: string;
  readonly #client: EcrClient;
  readonly #options: Options;

  constructor(client: EcrClient, options: Options) {
    this.registryId = client.registryId;
    this.#client = client;
    this.#options = options;
  }

  async send<T>(
    action: string,
    send: (client: Sdk.ECR, sdkOptions: { abortSignal?: AbortSignal }) => Promise<T>,
  ): Promise<T> {
    return this.#client.call(`set the registry ${this.#client.host}`, action, this.#options, send);
  }

  warn(message: string): void {
    this.#options.warn(`set the registry ${this.#client.host}: ${message}`);
  }
}

const APPLY: Readonly<Record<RegistryMember, (calls: Calls, settings: RegistrySettings) => Promise<void>>> = {
  accountSettings: async (calls, { accountSettings = {} }) => {
    for (const [name, value] of Object.entries(accountSettings))
      await calls.send('ecr:PutAccountSetting', async (ecr, sdkOptions) =>
        ecr.putAccountSetting({ name, value }, sdkOptions),
      );
  },
  scanning: async (calls, { scanning }) => {
    await calls.send('ecr:PutRegistryScanningConfiguration', async (ecr, sdkOptions) =>
      ecr.putRegistryScanningConfiguration({ ...scanning }, sdkOptions),
    );
  },
  signing: async (calls, { signing = [] }) => {
    await calls.send('ecr:PutSigningConfiguration', async (ecr, sdkOptions) =>
      ecr.putSigningConfiguration({ signingConfiguration: { rules: signing } }, sdkOptions),
    );
  },
  repositoryCreationTemplates: async (calls, { repositoryCreationTemplates = [] }) => {
    for (const template of repositoryCreationTemplates) {
      try {
        await calls.send('ecr:CreateRepositoryCreationTemplate', async (ecr, sdkOptions) =>
          ecr.createRepositoryCreationTemplate(template, sdkOptions),
        );
      } catch (error) {
        if (!isFailure(error, 'CONFLICT')) throw error;
        await calls.send('ecr:UpdateRepositoryCreationTemplate', async (ecr, sdkOptions) =>
          ecr.updateRepositoryCreationTemplate(template, sdkOptions),
        );
      }
    }
  },
  pullThroughCacheRules: async (calls, { pullThroughCacheRules = [] }) => {
    for (const rule of pullThroughCacheRules) await applyCacheRule(calls, rule);
  },
  pullTimeUpdateExclusions: async (calls, { pullTimeUpdateExclusions = [] }) => {
    for (const principalArn of pullTimeUpdateExclusions) {
      try {
        await calls.send('ecr:RegisterPullTimeUpdateExclusion', async (ecr, sdkOptions) =>
          ecr.registerPullTimeUpdateExclusion({ principalArn }, sdkOptions),
        );
      } catch (error) {
        if (!isFailure(error, 'CONFLICT')) throw error;
      }
    }
  },
  replication: async (calls, { replication = [] }) => {
    await calls.send('ecr:PutReplicationConfiguration', async (ecr, sdkOptions) =>
      ecr.putReplicationConfiguration({ replicationConfiguration: { rules: replication } }, sdkOptions),
    );
  },
  registryPolicy: async (calls, { registryPolicy: policyText }) => {
    await calls.send('ecr:PutRegistryPolicy', async (ecr, sdkOptions) =>
      ecr.putRegistryPolicy({ policyText }, sdkOptions),
    );
  },
};

type CacheRule = NonNullable<RegistrySettings['pullThroughCacheRules']>[number];

async function applyCacheRule(calls: Calls, rule: CacheRule): Promise<void> {
  const { registryId } = calls;
  const { ecrRepositoryPrefix, credentialArn, customRoleArn } = rule;
  try {
    await calls.send('ecr:CreatePullThroughCacheRule', async (ecr, sdkOptions) =>
      ecr.createPullThroughCacheRule(
        { ...rule, registryId, upstreamRegistry: rule.upstreamRegistry as Sdk.UpstreamRegistry | undefined },
        sdkOptions,
      ),
    );
    return;
  } catch (error) {
    if (!isFailure(error, 'CONFLICT')) throw error;
  }
  const { pullThroughCacheRules: [found] = [] } = await calls.send(
    'ecr:DescribePullThroughCacheRules',
    async (ecr, sdkOptions) =>
      ecr.describePullThroughCacheRules({ registryId, ecrRepositoryPrefixes: [ecrRepositoryPrefix] }, sdkOptions),
  );
  if (
    found?.upstreamRegistryUrl !== rule.upstreamRegistryUrl ||
    found.upstreamRepositoryPrefix !== rule.upstreamRepositoryPrefix
  ) {
    calls.warn(
      `the cache rule ${ecrRepositoryPrefix} is of ${found?.upstreamRegistryUrl}, which ECR does not change to ${rule.upstreamRegistryUrl}; delete it first`,
    );
    return;
  }
  if (found.credentialArn === credentialArn && found.customRoleArn === customRoleArn) return;
  await calls.send('ecr:UpdatePullThroughCacheRule', async (ecr, sdkOptions) =>
    ecr.updatePullThroughCacheRule({ registryId, ecrRepositoryPrefix, credentialArn, customRoleArn }, sdkOptions),
  );
}
