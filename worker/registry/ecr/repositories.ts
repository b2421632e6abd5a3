import type * as Sdk from '@aws-sdk/client-ecr';
import type { Abortable } from '../../util/abort.ts';
import { Failure, ifFound, isFailure } from '../../util/failure.ts';
import { compareStrings } from '../../util/text.ts';
import { ACTIONS } from './actions.ts';
import type { EcrClient } from './client.ts';
import type { RepositorySettings } from './repository-settings.ts';

/** Receives a message about a setting that was not applied as asked. */
export type Warn = (message: string) => void;

/** https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeRepositories.html */
const PAGE = 1000;

/** The names of the repositories that start with `prefix`. */
export async function* listRepositories(client: EcrClient, prefix: string, options: Abortable): AsyncIterable<string> {
  const what = `list repositories of ${client.host}`;
  const { registryId } = client;
  let nextToken: string | undefined;
  do {
    const input = { registryId, maxResults: PAGE, nextToken };
    const page = await client.call(what, ACTIONS['list-repositories'], options, async (ecr, sdkOptions) =>
      ecr.describeRepositories(input, sdkOptions),
    );
    for (const { repositoryName: name } of page.repositories ?? []) if (name?.startsWith(prefix) === true) yield name;
    ({ nextToken } = page);
  } while (nextToken !== undefined);
}

/** All settings of a repository. NOT_FOUND without it; DENIED names the missing action. */
export async function readSettings(client: EcrClient, name: string, options: Abortable): Promise<RepositorySettings> {
  const what = `read the settings of ${client.host}/${name}`;
  const found = await describeRepository(client, name, options);
  const tags = await tagsOf(client, found, what, options);
  const lifecycle = await ifFound(
    client.call(what, 'ecr:GetLifecyclePolicy', options, async (ecr, sdkOptions) =>
      ecr.getLifecyclePolicy(client.idOf(name), sdkOptions),
    ),
  );
  const policy = await ifFound(
    client.call(what, 'ecr:GetRepositoryPolicy', options, async (ecr, sdkOptions) =>
      ecr.getRepositoryPolicy(client.idOf(name), sdkOptions),
    ),
  );
  const exclusions = found.imageTagMutabilityExclusionFilters?.map(({ filter = '' }) => filter) ?? [];
  const { encryptionType: type, kmsKey: key } = found.encryptionConfiguration ?? {};
  return {
    tagMutability: found.imageTagMutability,
    tagMutabilityExclusions: exclusions.length === 0 ? undefined : exclusions,
    scanOnPush: found.imageScanningConfiguration?.scanOnPush,
    encryption: type === undefined ? undefined : { type, key },
    tags: Object.keys(tags).length === 0 ? undefined : tags,
    lifecyclePolicy: lifecycle?.lifecyclePolicyText,
    repositoryPolicy: policy?.policyText,
  };
}

/** The tags of a repository as a resource. NOT_FOUND without it. */
export async function repositoryTags(
  client: EcrClient,
  name: string,
  options: Abortable,
): Promise<Readonly<Record<string, string>>> {
  const what = `read the tags of ${client.host}/${name}`;
  return tagsOf(client, await describeRepository(client, name, options), what, options);
}

/** In one order, so that equal settings are equal documents. */
async function tagsOf(
  client: EcrClient,
  { repositoryArn: resourceArn }: Sdk.Repository,
  what: string,
  options: Abortable,
): Promise<Readonly<Record<string, string>>> {
  const { tags = [] } = await client.call(what, 'ecr:ListTagsForResource', options, async (ecr, sdkOptions) =>
    ecr.listTagsForResource({ resourceArn }, sdkOptions),
  );
  const sorted = tags.toSorted((a, b) => compareStrings(a.Key ?? '', b.Key ?? ''));
  return Object.fromEntries(sorted.map(({ Key = '', Value = '' }) => [Key, Value]));
}

/** Whether the repository exists. */
export async function hasRepository(client: EcrClient, name: string, options: Abortable): Promise<boolean> {
  return (await ifFound(describeRepository(client, name, options))) !== undefined;
}

/** Creates the repository with these settings. Success when it exists already: its settings then stay as they are. */
export async function createRepository(
  client: EcrClient,
  name: string,
  settings: RepositorySettings,
  options: Abortable & { readonly warn: Warn },
): Promise<void> {
  const { tagMutability, tagMutabilityExclusions, scanOnPush, tags } = settings;
  const encryption = encryptionHere(client, name, settings.encryption, options.warn);
  const input = {
    ...client.idOf(name),
    imageTagMutability: tagMutability,
    imageTagMutabilityExclusionFilters: exclusionFilters(tagMutabilityExclusions),
    imageScanningConfiguration: scanOnPush === undefined ? undefined : { scanOnPush },
    encryptionConfiguration:
      encryption === undefined ? undefined : { encryptionType: encryption.type, kmsKey: encryption.key },
    tags: tagList(tags),
  };
  const what = `create repository ${client.host}/${name}`;
  try {
    await client.call(what, 'ecr:CreateRepository', options, async (ecr, sdkOptions) =>
      ecr.createRepository(input, sdkOptions),
    );
  } catch (error) {
    if (isFailure(error, 'CONFLICT')) return;
    throw error;
  }
  await applyPolicies(client, name, settings, options);
}

/** Makes the repository exist with these settings. Settings that are absent stay as they are. Idempotent. */
export async function applySettings(
  client: EcrClient,
  name: string,
  settings: RepositorySettings,
  options: Abortable & { readonly warn: Warn },
): Promise<void> {
  const found = await ifFound(describeRepository(client, name, options));
  if (found === undefined) return createRepository(client, name, settings, options);
  const what = `set repository ${client.host}/${name}`;
  const { tagMutability, scanOnPush, encryption } = settings;
  if (tagMutability !== undefined) {
    const filters = exclusionFilters(settings.tagMutabilityExclusions);
    const mutability = { imageTagMutability: tagMutability, imageTagMutabilityExclusionFilters: filters };
    await client.call(what, 'ecr:PutImageTagMutability', options, async (ecr, sdkOptions) =>
      ecr.putImageTagMutability({ ...client.idOf(name), ...mutability }, sdkOptions),
    );
  }
  if (scanOnPush !== undefined) {
    const scanning = { imageScanningConfiguration: { scanOnPush } };
    await client.call(what, 'ecr:PutImageScanningConfiguration', options, async (ecr, sdkOptions) =>
      ecr.putImageScanningConfiguration({ ...client.idOf(name), ...scanning }, sdkOptions),
    );
  }
  const tags = tagList(settings.tags);
  if (tags !== undefined) {
    await client.call(what, 'ecr:TagResource', options, async (ecr, sdkOptions) =>
      ecr.tagResource({ resourceArn: found.repositoryArn, tags }, sdkOptions),
    );
  }
  const encrypted = found.encryptionConfiguration?.encryptionType ?? 'AES256';
  if (encryption !== undefined && encryption.type !== encrypted)
    options.warn(`${what}: it is encrypted with ${encrypted}, which cannot be changed to ${encryption.type} any more`);
  await applyPolicies(client, name, settings, options);
}

async function describeRepository(client: EcrClient, name: string, options: Abortable): Promise<Sdk.Repository> {
  const what = `read the settings of ${client.host}/${name}`;
  const { registryId } = client;
  const { repositories = [] } = await client.call(
    what,
    ACTIONS['list-repositories'],
    options,
    async (ecr, sdkOptions) => ecr.describeRepositories({ registryId, repositoryNames: [name] }, sdkOptions),
  );
  const [found] = repositories;
  if (found === undefined) throw new Failure('NOT_FOUND', `${what}: there is no such repository`);
  return found;
}

async function applyPolicies(
  client: EcrClient,
  name: string,
  settings: RepositorySettings,
  options: Abortable,
): Promise<void> {
  const what = `set repository ${client.host}/${name}`;
  const { lifecyclePolicy, repositoryPolicy } = settings;
  if (lifecyclePolicy !== undefined) {
    await client.call(what, 'ecr:PutLifecyclePolicy', options, async (ecr, sdkOptions) =>
      ecr.putLifecyclePolicy({ ...client.idOf(name), lifecyclePolicyText: lifecyclePolicy }, sdkOptions),
    );
  }
  if (repositoryPolicy !== undefined) {
    await client.call(what, 'ecr:SetRepositoryPolicy', options, async (ecr, sdkOptions) =>
      ecr.setRepositoryPolicy({ ...client.idOf(name), policyText: repositoryPolicy }, sdkOptions),
    );
  }
}

/** A key belongs to an account and a region: settings from elsewhere keep the kind of encryption, with the key that AWS manages here. */
function encryptionHere(
  client: EcrClient,
  name: string,
  encryption: RepositorySettings['encryption'],
  warn: Warn,
): RepositorySettings['encryption'] {
  const [, , , region, account] = encryption?.key?.split(':') ?? [];
  if (encryption === undefined || region === undefined) return encryption;
  if (region === client.region && account === client.registryId) return encryption;
  warn(`create repository ${name}: its key is in ${account}, ${region}; encrypted with the key of AWS here instead`);
  return { type: encryption.type };
}

function tagList(tags: RepositorySettings['tags'] = {}): Sdk.Tag[] | undefined {
  const list = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
  return list.length === 0 ? undefined : list;
}

function exclusionFilters(wildcards: readonly string[] = []): Sdk.ImageTagMutabilityExclusionFilter[] | undefined {
  const list = wildcards.map((filter) => ({ filterType: 'WILDCARD' as const, filter }));
  return list.length === 0 ? undefined : list;
}
