import type { Ecr } from './ecr.ts';
import { apiError, invalid, parseDocument, type Json, type Operation } from './input.ts';

/** The operations on the registry itself: an account in a Region. They take no repository, and no other account. */
export const REGISTRY_OPERATIONS: Readonly<Record<string, Operation>> = {
  DescribeRegistry: (ecr) => ({
    registryId: ecr.account,
    replicationConfiguration: documentOf(ecr, 'replication') ?? { rules: [] },
  }),

  PutReplicationConfiguration: (ecr, input) => {
    const configuration = input.object('replicationConfiguration');
    for (const rule of objectsOf(configuration['rules'], 'replicationConfiguration'))
      for (const { region, registryId } of objectsOf(rule['destinations'], 'destinations'))
        if (region === ecr.region && registryId === ecr.account)
          throw invalid('replicationConfiguration', 'a destination must not be the source registry itself');
    keep(ecr, 'replication', configuration);
    return { replicationConfiguration: configuration };
  },

  GetRegistryScanningConfiguration: (ecr) => ({
    registryId: ecr.account,
    scanningConfiguration: documentOf(ecr, 'scanning') ?? { scanType: 'BASIC', rules: [] },
  }),

  PutRegistryScanningConfiguration: (ecr, input) => {
    const scanType =
      input.optional('scanType') === undefined ? 'BASIC' : input.oneOf('scanType', ['BASIC', 'ENHANCED'] as const);
    const rules = input.optionalObjects('rules') ?? [];
    // https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_RegistryScanningRule.html
    const frequencies = scanType === 'BASIC' ? ['SCAN_ON_PUSH', 'MANUAL'] : ['SCAN_ON_PUSH', 'CONTINUOUS_SCAN'];
    for (const { scanFrequency } of rules)
      if (!frequencies.includes(String(scanFrequency)))
        throw invalid('scanFrequency', `Member must satisfy enum value set: [${frequencies.join(', ')}]`);
    keep(ecr, 'scanning', { scanType, rules });
    return { registryScanningConfiguration: { scanType, rules } };
  },

  GetRegistryPolicy: (ecr) => {
    const policyText = ecr.registryPolicy;
    if (policyText === undefined)
      throw apiError(
        'RegistryPolicyNotFoundException',
        `Registry policy does not exist in the registry with id '${ecr.account}'`,
      );
    return { registryId: ecr.account, policyText };
  },

  PutRegistryPolicy: (ecr, input) => {
    const policyText = input.text('policyText');
    parseDocument('PolicyText', policyText);
    ecr.store.setAccount('registry policy', policyText);
    return { registryId: ecr.account, policyText };
  },

  GetSigningConfiguration: (ecr) => {
    const signingConfiguration = documentOf(ecr, 'signing');
    if (signingConfiguration === undefined)
      throw apiError(
        'SigningConfigurationNotFoundException',
        `Signing configuration does not exist in the registry with id '${ecr.account}'`,
      );
    return { registryId: ecr.account, signingConfiguration };
  },

  PutSigningConfiguration: (ecr, input) => {
    const signingConfiguration = input.object('signingConfiguration');
    objectsOf(signingConfiguration['rules'], 'signingConfiguration');
    keep(ecr, 'signing', signingConfiguration);
    return { signingConfiguration };
  },

  ...itemOperations({
    list: 'DescribeRepositoryCreationTemplates',
    create: 'CreateRepositoryCreationTemplate',
    update: 'UpdateRepositoryCreationTemplate',
    rows: 'repositoryCreationTemplates',
    row: 'repositoryCreationTemplate',
    key: 'prefix',
    chosen: 'prefixes',
    required: ['appliedFor'],
    error: 'Template',
  }),
  ...itemOperations({
    list: 'DescribePullThroughCacheRules',
    create: 'CreatePullThroughCacheRule',
    update: 'UpdatePullThroughCacheRule',
    rows: 'pullThroughCacheRules',
    row: undefined,
    key: 'ecrRepositoryPrefix',
    chosen: 'ecrRepositoryPrefixes',
    required: ['upstreamRegistryUrl'],
    error: 'PullThroughCacheRule',
  }),

  ListPullTimeUpdateExclusions: (ecr, input) => {
    const principals = Object.keys(documentOf(ecr, 'pullTimeUpdateExclusions') ?? {}).sort();
    const { page, nextToken } = input.page(principals, (principal) => principal);
    return { pullTimeUpdateExclusions: page, ...nextToken };
  },

  RegisterPullTimeUpdateExclusion: (ecr, input) => {
    const principalArn = input.text('principalArn');
    if (!/^arn:aws[\w-]*:iam::\d{12}:(?:role|user)\/.+$/.test(principalArn))
      throw invalid('principalArn', 'an IAM ARN');
    const known = documentOf(ecr, 'pullTimeUpdateExclusions') ?? {};
    if (Object.hasOwn(known, principalArn))
      throw apiError('ExclusionAlreadyExistsException', `${principalArn} is excluded already`);
    const createdAt = ecr.clock.now() / 1000;
    keep(ecr, 'pullTimeUpdateExclusions', { ...known, [principalArn]: createdAt });
    return { principalArn, createdAt };
  },

  PutAccountSetting: (ecr, input) => {
    const name = input.oneOf('name', Object.keys(ACCOUNT_SETTINGS));
    const value = input.oneOf('value', ACCOUNT_SETTINGS[name]?.values ?? []);
    ecr.store.setAccount(name, value);
    return { name, value };
  },

  GetAccountSetting: (ecr, input) => {
    const name = input.oneOf('name', Object.keys(ACCOUNT_SETTINGS));
    return { name, value: ecr.store.account.get(name) ?? ACCOUNT_SETTINGS[name]?.byDefault };
  },
};

/** https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_PutAccountSetting.html */
const ACCOUNT_SETTINGS: Readonly<Record<string, { readonly values: readonly string[]; readonly byDefault: string }>> = {
  BASIC_SCAN_TYPE_VERSION: { values: ['AWS_NATIVE'], byDefault: 'AWS_NATIVE' },
  REGISTRY_POLICY_SCOPE: { values: ['V2'], byDefault: 'V2' },
  BLOB_MOUNTING: { values: ['ENABLED', 'DISABLED'], byDefault: 'DISABLED' },
};

/** What an API keeps under prefixes of repositories. */
interface Items {
  readonly list: string;
  readonly create: string;
  readonly update: string;
  /** The member of the answer that lists them. */
  readonly rows: string;
  /** The member of the answer that has the one that was changed; undefined: the answer itself. */
  readonly row: string | undefined;
  readonly key: string;
  /** The parameter that names some of them. */
  readonly chosen: string;
  readonly required: readonly string[];
  readonly error: string;
}

function itemOperations(items: Items): Readonly<Record<string, Operation>> {
  const { rows, key, error } = items;
  const all = (ecr: Ecr): Json => documentOf(ecr, rows) ?? {};
  const answer = (ecr: Ecr, item: Json): object =>
    items.row === undefined ? { registryId: ecr.account, ...item } : { registryId: ecr.account, [items.row]: item };
  return {
    [items.list]: (ecr, input) => {
      const chosen = input.optionalTexts(items.chosen);
      const missing = chosen?.find((name) => !Object.hasOwn(all(ecr), name));
      if (missing !== undefined) throw apiError(`${error}NotFoundException`, `there is no ${missing}`);
      const names = (chosen ?? Object.keys(all(ecr))).toSorted();
      const { page, nextToken } = input.page(names, (name) => name);
      return { registryId: ecr.account, [rows]: page.map((name) => all(ecr)[name]), ...nextToken };
    },
    [items.create]: (ecr, input) => {
      const name = input.text(key);
      for (const required of items.required)
        if (input.optional(required) === undefined) throw invalid(required, 'must not be null');
      if (Object.hasOwn(all(ecr), name)) throw apiError(`${error}AlreadyExistsException`, `${name} exists already`);
      const item = { ...input.values('registryId'), createdAt: ecr.clock.now() / 1000 };
      keep(ecr, rows, { ...all(ecr), [name]: item });
      return answer(ecr, item);
    },
    [items.update]: (ecr, input) => {
      const name = input.text(key);
      const known = all(ecr)[name];
      if (known === undefined) throw apiError(`${error}NotFoundException`, `there is no ${name}`);
      const item = { ...(known as Json), ...input.values('registryId'), updatedAt: ecr.clock.now() / 1000 };
      keep(ecr, rows, { ...all(ecr), [name]: item });
      return answer(ecr, item);
    },
  };
}

function documentOf(ecr: Ecr, name: string): Json | undefined {
  const text = ecr.store.account.get(`registry ${name}`);
  return text === undefined ? undefined : (JSON.parse(text) as Json);
}

function keep(ecr: Ecr, name: string, document: Json): void {
  ecr.store.setAccount(`registry ${name}`, JSON.stringify(document));
}

function objectsOf(value: unknown, where: string): readonly Json[] {
  if (Array.isArray(value) && value.every((one) => typeof one === 'object' && one !== null)) return value as Json[];
  throw invalid(where, 'must be a list of structures');
}
