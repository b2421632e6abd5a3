import type { Mutability, RepositorySettings, StoredRepository } from '../registry/store.ts';
import { DEFAULT_SETTINGS } from '../registry/store.ts';
import type { Ecr } from './ecr.ts';
import { apiError, invalid, parseDocument, seconds, type Input, type Json, type Operation } from './input.ts';

const NAME = /^(?:[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*\/)*[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;

/** The operations on repositories and their settings. */
export const REPOSITORY_OPERATIONS: Readonly<Record<string, Operation>> = {
  DescribeRepositories: (ecr, input) => {
    const names = input.optionalTexts('repositoryNames');
    if (names === undefined) {
      const all = [...ecr.store.repositories.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
      const { page, nextToken } = input.page(all, (repository) => repository.name);
      return { repositories: page.map((repository) => describeRepository(ecr, repository)), ...nextToken };
    }
    input.forbid('repositoryNames', 'maxResults', 'nextToken');
    return { repositories: names.map((name) => describeRepository(ecr, findRepository(ecr, name))) };
  },

  CreateRepository: (ecr, input) => {
    const name = input.text('repositoryName');
    // https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreateRepository.html
    if (!NAME.test(name) || name.length < 2 || name.length > 256) throw invalid('repositoryName', NAME.source);
    if (ecr.store.repositories.has(name)) {
      const message = `The repository with name '${name}' already exists in the registry with id '${ecr.account}'`;
      throw apiError('RepositoryAlreadyExistsException', message);
    }
    const settings: RepositorySettings = {
      ...DEFAULT_SETTINGS,
      ...readMutability(input),
      scanOnPush: input.optionalObject('imageScanningConfiguration')?.['scanOnPush'] === true,
      encryption: readEncryption(input),
      tags: readTags(input.optionalObjects('tags') ?? []),
    };
    return { repository: describeRepository(ecr, ecr.store.create(name, ecr.clock.now(), settings)) };
  },

  DeleteRepository: (ecr, input) => {
    const repository = repositoryOf(ecr, input);
    if (repository.manifests.size > 0 && input.optional('force') !== true) {
      const message = `The repository with name '${repository.name}' in registry with id '${ecr.account}' cannot be deleted because it still contains images`;
      throw apiError('RepositoryNotEmptyException', message);
    }
    ecr.store.delete(repository);
    return { repository: describeRepository(ecr, repository) };
  },

  PutImageTagMutability: (ecr, input) => {
    const repository = repositoryOf(ecr, input);
    input.text('imageTagMutability');
    const change = readMutability(input);
    ecr.store.configure(repository, change);
    return { ...repositoryId(ecr, repository), ...describeMutability(change) };
  },

  PutImageScanningConfiguration: (ecr, input) => {
    const repository = repositoryOf(ecr, input);
    const scanOnPush = input.object('imageScanningConfiguration')['scanOnPush'] === true;
    ecr.store.configure(repository, { scanOnPush });
    return { ...repositoryId(ecr, repository), imageScanningConfiguration: { scanOnPush } };
  },

  PutLifecyclePolicy: (ecr, input) => {
    const repository = repositoryOf(ecr, input);
    const lifecyclePolicy = input.text('lifecyclePolicyText');
    if (!Array.isArray(parseDocument('LifecyclePolicyText', lifecyclePolicy)['rules'])) {
      throw invalid(
        'LifecyclePolicyText',
        'Lifecycle policy validation failure: object has missing required properties ([\\"rules\\"])',
      );
    }
    ecr.store.configure(repository, { lifecyclePolicy });
    return { ...repositoryId(ecr, repository), lifecyclePolicyText: lifecyclePolicy };
  },

  GetLifecyclePolicy: (ecr, input) => {
    const repository = repositoryOf(ecr, input);
    const { lifecyclePolicy } = repository.settings;
    if (lifecyclePolicy === undefined) {
      throw apiError(
        'LifecyclePolicyNotFoundException',
        `Lifecycle policy does not exist for the ${named(ecr, repository)}`,
      );
    }
    return {
      ...repositoryId(ecr, repository),
      lifecyclePolicyText: lifecyclePolicy,
      lastEvaluatedAt: seconds(repository.createdAtMs),
    };
  },

  SetRepositoryPolicy: (ecr, input) => {
    const repository = repositoryOf(ecr, input);
    const policy = input.text('policyText');
    parseDocument('PolicyText', policy);
    ecr.store.configure(repository, { policy });
    return { ...repositoryId(ecr, repository), policyText: policy };
  },

  GetRepositoryPolicy: (ecr, input) => {
    const repository = repositoryOf(ecr, input);
    const { policy } = repository.settings;
    if (policy === undefined) {
      throw apiError(
        'RepositoryPolicyNotFoundException',
        `Repository policy does not exist for the ${named(ecr, repository)}`,
      );
    }
    return { ...repositoryId(ecr, repository), policyText: policy };
  },

  ListTagsForResource: (ecr, input) => {
    const { tags } = resourceOf(ecr, input).settings;
    return { tags: Object.entries(tags).map(([Key, Value]) => ({ Key, Value })) };
  },

  TagResource: (ecr, input) => {
    const repository = resourceOf(ecr, input);
    const added = readTags(input.optionalObjects('tags') ?? []);
    ecr.store.configure(repository, { tags: { ...repository.settings.tags, ...added } });
    return {};
  },
};

function findRepository(ecr: Ecr, name: string): StoredRepository {
  const found = ecr.store.repositories.get(name);
  if (found !== undefined) return found;
  const message = `The repository with name '${name}' does not exist in the registry with id '${ecr.account}'`;
  throw apiError('RepositoryNotFoundException', message);
}

export function repositoryOf(ecr: Ecr, input: Input): StoredRepository {
  return findRepository(ecr, input.text('repositoryName'));
}

function resourceOf(ecr: Ecr, input: Input): StoredRepository {
  const arn = input.text('resourceArn');
  const prefix = ecr.arnOf('');
  if (!arn.startsWith(prefix)) throw invalid('resourceArn', `Invalid ARN: expected ${prefix}<name>`);
  return findRepository(ecr, arn.slice(prefix.length));
}

export function repositoryId(
  ecr: Ecr,
  repository: StoredRepository,
): { readonly registryId: string; readonly repositoryName: string } {
  return { registryId: ecr.account, repositoryName: repository.name };
}

export function named(ecr: Ecr, repository: StoredRepository): string {
  return `repository with name '${repository.name}' in the registry with id '${ecr.account}'`;
}

function describeRepository(ecr: Ecr, repository: StoredRepository): object {
  return {
    ...repositoryId(ecr, repository),
    repositoryArn: ecr.arnOf(repository.name),
    repositoryUri: `${ecr.host}/${repository.name}`,
    createdAt: seconds(repository.createdAtMs),
    ...describeMutability(repository.settings),
    imageScanningConfiguration: { scanOnPush: repository.settings.scanOnPush },
    encryptionConfiguration: repository.settings.encryption,
  };
}

function describeMutability(settings: Pick<RepositorySettings, 'mutability' | 'exclusions'>): object {
  const { mutability, exclusions } = settings;
  return {
    imageTagMutability: mutability,
    ...(exclusions.length === 0
      ? {}
      : { imageTagMutabilityExclusionFilters: exclusions.map((filter) => ({ filterType: 'WILDCARD', filter })) }),
  };
}

const MUTABILITY: readonly Mutability[] = [
  'MUTABLE',
  'IMMUTABLE',
  'MUTABLE_WITH_EXCLUSION',
  'IMMUTABLE_WITH_EXCLUSION',
];

/** https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageTagMutabilityExclusionFilter.html */
function readMutability(input: Input): Pick<RepositorySettings, 'mutability' | 'exclusions'> {
  const mutability =
    input.optional('imageTagMutability') === undefined ? 'MUTABLE' : input.oneOf('imageTagMutability', MUTABILITY);
  const where = 'imageTagMutabilityExclusionFilters';
  const exclusions = (input.optionalObjects(where) ?? []).map(({ filterType, filter }) => {
    if (filterType !== 'WILDCARD') throw invalid(where, 'Member must satisfy enum value set: [WILDCARD]');
    if (typeof filter === 'string' && /^[0-9a-zA-Z._*-]{1,128}$/.test(filter)) return filter;
    throw invalid(where, '^[0-9a-zA-Z._*-]{1,128}$');
  });
  const wanted = mutability.endsWith('_WITH_EXCLUSION');
  if (wanted !== exclusions.length > 0 || exclusions.length > 5) {
    throw invalid(where, `between 1 and 5 filters with an exclusion and none without, not ${exclusions.length}`);
  }
  return { mutability, exclusions };
}

function readEncryption(input: Input): RepositorySettings['encryption'] {
  const given = input.optionalObject('encryptionConfiguration');
  if (given === undefined) return DEFAULT_SETTINGS.encryption;
  const { encryptionType, kmsKey } = given;
  if (encryptionType !== 'AES256' && encryptionType !== 'KMS' && encryptionType !== 'KMS_DSSE') {
    throw invalid('encryptionType', 'Member must satisfy enum value set: [AES256, KMS, KMS_DSSE]');
  }
  if (typeof kmsKey !== 'string') return { encryptionType };
  if (encryptionType === 'AES256') throw invalid('kmsKey', 'cannot be used with AES256');
  return { encryptionType, kmsKey };
}

function readTags(tags: readonly Json[]): Readonly<Record<string, string>> {
  const entries = tags.map(({ Key, Value }): readonly [string, string] => {
    if (typeof Key === 'string' && Key !== '' && typeof Value === 'string') return [Key, Value];
    throw apiError('InvalidTagParameterException', 'a tag has a key and a value');
  });
  return Object.fromEntries(entries);
}
