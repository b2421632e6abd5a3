import type * as Sdk from '@aws-sdk/client-ecr';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import { describeFailure, Failure, ifFound, isFailure } from '../../util/failure.ts';
import { append } from '../../util/lists.ts';
import { optional } from '../../util/optional.ts';
import { compareStrings } from '../../util/text.ts';
import type { EcrClient } from './client.ts';
import type { RegistrySettings } from './parse-registry-settings.ts';
import { REGISTRY_MEMBERS, type RegistryMember } from './registry-settings.ts';

/** https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAccountSetting.html */
const ACCOUNT_SETTINGS = ['BASIC_SCAN_TYPE_VERSION', 'BLOB_MOUNTING', 'REGISTRY_POLICY_SCOPE'];
/** The most rows that the lists of templates, rules and exclusions return at once. */
const PAGE = 1000;

/**
 * All settings of a registry. A member that may not be read is named in `unread`, with a sentence that names the missing permission. DENIED
 * where none may be read; UNSUPPORTED where the credentials are of another account: ECR returns these settings of the caller's own registry
 * alone, whatever host was meant.
 */
export async function readRegistrySettings(client: EcrClient, options: Abortable): Promise<RegistrySettings> {
  const settings: RegistrySettings = {};
  const unread: Record<string, string> = {};
  let denied: Failure | undefined;
  let isOwn = false;
  const read = async <M extends RegistryMember>(
    member: M,
    work: (members: Reading) => Promise<RegistrySettings[M]>,
  ): Promise<void> => {
    try {
      const value = await work({ client, options, own: () => (isOwn = true) });
      if (value !== undefined) settings[member] = value;
    } catch (error) {
      checkAborted(options);
      // an old Region, or a stand-in for ECR, may lack a call that is newer than it
      if (!isFailure(error, 'DENIED', 'INVALID')) throw error;
      if (error.code === 'DENIED') denied ??= error;
      unread[member] = describeFailure(error);
    }
  };
  // first: it proves whose registry the others are about
  await read('replication', replication);
  await read('scanning', scanning);
  await read('repositoryCreationTemplates', creationTemplates);
  await read('pullThroughCacheRules', pullThroughCacheRules);
  await read('signing', signing);
  await read('registryPolicy', registryPolicy);
  if (isOwn) {
    await read('accountSettings', accountSettings);
    await read('pullTimeUpdateExclusions', pullTimeUpdateExclusions);
  } else {
    const why = `${whatOf(client)}: no answer proves that the credentials are of account ${client.registryId}; the caller needs ecr:DescribeRegistry`;
    unread['accountSettings'] = why;
    unread['pullTimeUpdateExclusions'] = why;
  }
  if (denied !== undefined && Object.keys(unread).length === REGISTRY_MEMBERS.length) throw denied;
  return Object.keys(unread).length === 0 ? settings : { ...settings, unread };
}

/** UNSUPPORTED unless the credentials are of the registry's account: ECR changes these settings of the caller's own registry alone. */
export async function checkOwnRegistry(client: EcrClient, options: Abortable): Promise<void> {
  await replication({ client, options, own: () => undefined });
}

interface Reading {
  readonly client: EcrClient;
  readonly options: Abortable;
  /** Called once an answer is of the registry that was meant. */
  readonly own: () => void;
}

async function replication(reading: Reading): Promise<RegistrySettings['replication']> {
  const answer = await called(reading, 'ecr:DescribeRegistry', async (ecr, sdkOptions) =>
    ecr.describeRegistry({}, sdkOptions),
  );
  const rules = answer.replicationConfiguration?.rules ?? [];
  return filled(rules.map(replicationRuleOf));
}

function replicationRuleOf({
  destinations = [],
  repositoryFilters = [],
}: Sdk.ReplicationRule): NonNullable<RegistrySettings['replication']>[number] {
  const filters = repositoryFilters.map(({ filter = '' }) => ({ filter, filterType: 'PREFIX_MATCH' as const }));
  return {
    destinations: destinations.map(({ region = '', registryId = '' }) => ({ region, registryId })),
    ...optional('repositoryFilters', filled(filters)),
  };
}

async function scanning(reading: Reading): Promise<RegistrySettings['scanning']> {
  const answer = await called(reading, 'ecr:GetRegistryScanningConfiguration', async (ecr, sdkOptions) =>
    ecr.getRegistryScanningConfiguration({}, sdkOptions),
  );
  const { scanType, rules = [] } = answer.scanningConfiguration ?? {};
  if (scanType === undefined) return undefined;
  return {
    scanType,
    rules: rules.map(({ scanFrequency = 'MANUAL', repositoryFilters = [] }) => ({
      scanFrequency,
      repositoryFilters: repositoryFilters.map(({ filter = '' }) => ({ filter, filterType: 'WILDCARD' as const })),
    })),
  };
}

async function creationTemplates(reading: Reading): Promise<RegistrySettings['repositoryCreationTemplates']> {
  const templates = await pages(async (nextToken) => {
    const page = await called(reading, 'ecr:DescribeRepositoryCreationTemplates', async (ecr, sdkOptions) =>
      ecr.describeRepositoryCreationTemplates({ maxResults: PAGE, nextToken }, sdkOptions),
    );
    return { rows: page.repositoryCreationTemplates, nextToken: page.nextToken };
  });
  return filled(templates.map(templateOf).toSorted((a, b) => compareStrings(a.prefix, b.prefix)));
}

function templateOf(
  row: Sdk.RepositoryCreationTemplate,
): NonNullable<RegistrySettings['repositoryCreationTemplates']>[number] {
  const { encryptionType, kmsKey } = row.encryptionConfiguration ?? {};
  const exclusions = (row.imageTagMutabilityExclusionFilters ?? []).map(({ filter = '' }) => ({
    filter,
    filterType: 'WILDCARD' as const,
  }));
  const tags = (row.resourceTags ?? []).map(({ Key = '', Value = '' }) => ({ Key, Value }));
  return {
    prefix: row.prefix ?? '',
    ...optional('description', row.description),
    ...optional(
      'encryptionConfiguration',
      encryptionType === undefined ? undefined : { encryptionType, ...optional('kmsKey', kmsKey) },
    ),
    ...optional('resourceTags', filled(tags.toSorted((a, b) => compareStrings(a.Key, b.Key)))),
    ...optional('imageTagMutability', row.imageTagMutability),
    ...optional('imageTagMutabilityExclusionFilters', filled(exclusions)),
    ...optional('repositoryPolicy', row.repositoryPolicy || undefined),
    ...optional('lifecyclePolicy', row.lifecyclePolicy || undefined),
    appliedFor: (row.appliedFor ?? []).toSorted(compareStrings),
    ...optional('customRoleArn', row.customRoleArn),
  };
}

async function pullThroughCacheRules(reading: Reading): Promise<RegistrySettings['pullThroughCacheRules']> {
  const { registryId } = reading.client;
  const rules = await pages(async (nextToken) => {
    const page = await called(reading, 'ecr:DescribePullThroughCacheRules', async (ecr, sdkOptions) =>
      ecr.describePullThroughCacheRules({ registryId, maxResults: PAGE, nextToken }, sdkOptions),
    );
    return { rows: page.pullThroughCacheRules, nextToken: page.nextToken };
  });
  const all = rules.map(cacheRuleOf);
  return filled(all.toSorted((a, b) => compareStrings(a.ecrRepositoryPrefix, b.ecrRepositoryPrefix)));
}

function cacheRuleOf(rule: Sdk.PullThroughCacheRule): NonNullable<RegistrySettings['pullThroughCacheRules']>[number] {
  return {
    ecrRepositoryPrefix: rule.ecrRepositoryPrefix ?? '',
    upstreamRegistryUrl: rule.upstreamRegistryUrl ?? '',
    ...optional('upstreamRegistry', rule.upstreamRegistry),
    ...optional('upstreamRepositoryPrefix', rule.upstreamRepositoryPrefix),
    ...optional('credentialArn', rule.credentialArn),
    ...optional('customRoleArn', rule.customRoleArn),
  };
}

async function signing(reading: Reading): Promise<RegistrySettings['signing']> {
  const answer = await ifFound(
    called(reading, 'ecr:GetSigningConfiguration', async (ecr, sdkOptions) =>
      ecr.getSigningConfiguration({}, sdkOptions),
    ),
  );
  const rules = answer?.signingConfiguration?.rules ?? [];
  return filled(rules.map(signingRuleOf));
}

function signingRuleOf({
  signingProfileArn = '',
  repositoryFilters = [],
}: Sdk.SigningRule): NonNullable<RegistrySettings['signing']>[number] {
  const filters = repositoryFilters.map(({ filter = '' }) => ({ filter, filterType: 'WILDCARD_MATCH' as const }));
  return { signingProfileArn, ...optional('repositoryFilters', filled(filters)) };
}

async function registryPolicy(reading: Reading): Promise<RegistrySettings['registryPolicy']> {
  const answer = await ifFound(
    called(reading, 'ecr:GetRegistryPolicy', async (ecr, sdkOptions) => ecr.getRegistryPolicy({}, sdkOptions)),
  );
  return answer?.policyText;
}

async function accountSettings(reading: Reading): Promise<RegistrySettings['accountSettings']> {
  const values: [string, string][] = [];
  for (const name of ACCOUNT_SETTINGS) {
    const { value } = await called(reading, 'ecr:GetAccountSetting', async (ecr, sdkOptions) =>
      ecr.getAccountSetting({ name }, sdkOptions),
    );
    if (value !== undefined) values.push([name, value]);
  }
  return values.length === 0 ? undefined : Object.fromEntries(values);
}

async function pullTimeUpdateExclusions(reading: Reading): Promise<RegistrySettings['pullTimeUpdateExclusions']> {
  const principals = await pages(async (nextToken) => {
    const page = await called(reading, 'ecr:ListPullTimeUpdateExclusions', async (ecr, sdkOptions) =>
      ecr.listPullTimeUpdateExclusions({ nextToken }, sdkOptions),
    );
    return { rows: page.pullTimeUpdateExclusions, nextToken: page.nextToken };
  });
  return filled(principals.toSorted(compareStrings));
}

async function called<T extends object>(
  { client, options, own }: Reading,
  action: string,
  send: Parameters<typeof client.call<T>>[3],
): Promise<T> {
  const answer = await client.call(whatOf(client), action, options, send);
  const { registryId } = answer as { readonly registryId?: string | undefined };
  if (registryId === undefined) return answer;
  if (registryId === client.registryId) {
    own();
    return answer;
  }
  throw new Failure(
    'UNSUPPORTED',
    `${whatOf(client)}: the credentials are of account ${registryId}, and ECR keeps these settings for the caller's own account; use credentials of account ${client.registryId}`,
  );
}

function whatOf(client: EcrClient): string {
  return `settings of the registry ${client.host}`;
}

async function pages<T>(
  read: (nextToken: string | undefined) => Promise<{
    readonly rows: readonly T[] | undefined;
    readonly nextToken: string | undefined;
  }>,
): Promise<readonly T[]> {
  const all: T[] = [];
  let nextToken: string | undefined;
  do {
    const page = await read(nextToken);
    append(all, page.rows ?? []);
    ({ nextToken } = page);
  } while (nextToken !== undefined);
  return all;
}

/** Undefined for an empty list. */
function filled<T>(list: readonly T[]): T[] | undefined {
  return list.length === 0 ? undefined : [...list];
}
