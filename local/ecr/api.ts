import { readFileSync } from 'node:fs';
import type { Digest } from '../../worker/oci/digest.ts';
import { holdersOf, tagsOf, type Ecr, type ImageStatus } from './ecr.ts';
import { Refusal, type Answer, type Exchange } from '../registry/exchange.ts';
import type { Route } from '../registry/route.ts';
import { Seal } from '../registry/seal.ts';
import {
  DEFAULT_SETTINGS,
  type Mutability,
  type RepositorySettings,
  type StoredManifest,
  type StoredRepository,
} from '../registry/store.ts';

const TARGET = 'AmazonEC2ContainerRegistry_V20150921.';
const MAX_REQUEST_BYTES = 8 * 1024 * 1024;
const DEFAULT_PAGE = 100;
const MAX_PAGE = 1000;
const MAX_IDS = 100;

/** The API call that a POST to the root is, if it is one. */
export function parseApiRoute(method: string, url: URL, target: string): Route | undefined {
  if (url.pathname !== '/') return undefined;
  if (method !== 'POST') return { kind: 'unsupported', allow: 'POST' };
  return { kind: 'api', operation: target.startsWith(TARGET) ? target.slice(TARGET.length) : target };
}

const CONTENT_TYPE = 'application/x-amz-json-1.1';

/** What ECR's API says when it is too busy, or broken. */
export function apiTrouble(status: number, code: string | undefined): Refusal {
  return status === 429
    ? apiError(code ?? 'ThrottlingException', 'Rate exceeded', status)
    : apiError(code ?? 'ServerException', 'These errors are usually caused by a server-side issue.', status);
}

/**
 * The part of ECR's JSON API that images are mirrored and backed up with.
 * https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_Operations.html
 */
export class EcrApi {
  readonly #ecr: Ecr;
  readonly #seal = new Seal();

  constructor(ecr: Ecr) {
    this.#ecr = ecr;
  }

  async answer(exchange: Exchange, operation: string): Promise<Answer> {
    checkSigned(this.#ecr, exchange.headers.authorization);
    const work = Object.hasOwn(OPERATIONS, operation) ? OPERATIONS[operation] : undefined;
    if (work === undefined) {
      throw apiError('UnknownOperationException', `the local ECR does not know ${operation}: add it there`, 501);
    }
    const body = await exchange.bodyUpTo(MAX_REQUEST_BYTES);
    if (body === undefined) throw apiError('SerializationException', 'the request is too long', 413);
    const input = new Input(parseBody(body), this.#ecr.account, this.#seal);
    const name = input.optionalText('repositoryName');
    for (const action of actionsOf(operation, input)) {
      const denial = this.#ecr.denialOf(action, name === undefined ? '*' : this.#ecr.arnOf(name));
      if (denial !== undefined) throw apiError('AccessDeniedException', denial);
    }
    const output = work(this.#ecr, input);
    return { status: 200, headers: { 'content-type': CONTENT_TYPE }, body: JSON.stringify(output) };
  }
}

/** A repository that is created with tags needs the permission for tags too. */
function actionsOf(operation: string, input: Input): readonly string[] {
  const tags = operation === 'CreateRepository' && input.optionalObjects('tags') !== undefined;
  return [`ecr:${operation}`, ...(tags ? ['ecr:TagResource'] : [])];
}

type Operation = (ecr: Ecr, input: Input) => object;

const OPERATIONS: Readonly<Record<string, Operation>> = {
  GetAuthorizationToken: (ecr, input) => {
    const password = ecr.tokens.issue({ kind: 'access', user: 'AWS', scopes: [] }, ecr.tokenLifetimeSeconds);
    const token = {
      authorizationToken: Buffer.from(`AWS:${password}`).toString('base64'),
      expiresAt: seconds(ecr.clock.now() + ecr.tokenLifetimeSeconds * 1000),
    };
    const accounts = input.optionalTexts('registryIds') ?? [ecr.account];
    const hostOf = (account: string): string => ecr.host.replace(ecr.account, account);
    return {
      authorizationData: accounts.map((account) =>
        Object.assign({ proxyEndpoint: `https://${hostOf(account)}` }, token),
      ),
    };
  },

  DescribeRegistry: (ecr) => ({ registryId: ecr.account, replicationConfiguration: { rules: [] } }),

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

  DescribeImages: (ecr, input) => {
    const repository = repositoryOf(ecr, input);
    const matches = readFilter(ecr, repository, input);
    const ids = input.optionalObjects('imageIds');
    if (ids === undefined) {
      const images = [...repository.manifests.values()].filter(matches).sort((a, b) => (a.digest < b.digest ? -1 : 1));
      const { page, nextToken } = input.page(images, (image) => image.digest);
      // looked up once for all: there may be ten thousand of each
      const tags = Map.groupBy(repository.tags, ([, digest]) => digest);
      const tagsHere = (image: StoredManifest): readonly string[] =>
        (tags.get(image.digest) ?? []).map(([tag]) => tag).sort();
      return {
        imageDetails: page.map((image) => describeImage(ecr, repository, image, tagsHere(image))),
        ...nextToken,
      };
    }
    input.forbid('imageIds', 'maxResults', 'nextToken');
    const found = ids.map(readImageId).map((id) => {
      const image = findImage(repository, id);
      if (typeof image === 'object' && matches(image)) return image;
      throw imageNotFound(ecr, repository, id);
    });
    return { imageDetails: found.map((image) => describeImage(ecr, repository, image)) };
  },

  ListImages: (ecr, input) => {
    const repository = repositoryOf(ecr, input);
    const ids = [...repository.manifests.values()]
      .filter(readFilter(ecr, repository, input))
      .flatMap((image) => idsOf(repository, image));
    const keyOf = (id: ImageId): string => `${id.imageDigest} ${id.imageTag ?? ''}`;
    const { page, nextToken } = input.page(
      ids.sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1)),
      keyOf,
    );
    return { imageIds: page, ...nextToken };
  },

  BatchGetImage: (ecr, input) => {
    const repository = repositoryOf(ecr, input);
    const images: object[] = [];
    const failures: object[] = [];
    for (const id of imageIdsOf(input)) {
      const image = findImage(repository, id);
      if (typeof image === 'string') {
        failures.push(failure(id, image));
      } else if (ecr.statusOf(image) !== 'ACTIVE') {
        failures.push(failure(id, 'ImageNotFound'));
      } else {
        images.push({
          ...repositoryId(ecr, repository),
          imageId: { ...id, imageDigest: image.digest },
          imageManifest: readFileSync(ecr.store.path(image.digest), 'utf8'),
          imageManifestMediaType: image.mediaType,
        });
      }
    }
    return { images, failures };
  },

  BatchDeleteImage: (ecr, input) => {
    const repository = repositoryOf(ecr, input);
    const imageIds: ImageId[] = [];
    const failures: object[] = [];
    // what refers to what is judged once: whoever deletes a list and its images at once has to ask again for the images
    const listed = new Set(
      [...repository.manifests.values()]
        .filter((manifest) => manifest.kind === 'index')
        .flatMap((manifest) => manifest.children),
    );
    for (const id of imageIdsOf(input)) {
      const image = findImage(repository, id);
      if (typeof image === 'string') {
        failures.push(failure(id, image));
        continue;
      }
      const onlyTag =
        id.imageDigest === undefined && tagsOf(repository, image.digest).length > 1 ? id.imageTag : undefined;
      if (onlyTag === undefined && listed.has(image.digest)) {
        failures.push(failure(id, 'ImageReferencedByManifestList', holdersOf(repository, image.digest)));
        continue;
      }
      imageIds.push(
        ...(onlyTag === undefined ? idsOf(repository, image) : [{ imageDigest: image.digest, imageTag: onlyTag }]),
      );
      if (onlyTag === undefined) ecr.removeImage(repository, image);
      else ecr.removeTag(repository, onlyTag, image);
    }
    return { imageIds, failures };
  },

  UpdateImageStorageClass: (ecr, input) => {
    const repository = repositoryOf(ecr, input);
    const id = readImageId(input.object('imageId'));
    const to = input.oneOf('targetStorageClass', ['ARCHIVE', 'STANDARD']);
    const image = findImage(repository, id);
    if (typeof image === 'string') throw imageNotFound(ecr, repository, id);
    if (ecr.statusOf(image) !== (to === 'ARCHIVE' ? 'ACTIVE' : 'ARCHIVED')) {
      const message = 'The requested image storage class update is not supported.';
      throw apiError('ImageStorageClassUpdateNotSupportedException', message);
    }
    const imageStatus = to === 'ARCHIVE' ? ecr.archive(repository, image) : ecr.activate(repository, image);
    return { ...repositoryId(ecr, repository), imageId: { ...id, imageDigest: image.digest }, imageStatus };
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

const NAME = /^(?:[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*\/)*[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;

type Json = Readonly<Record<string, unknown>>;

/** The parameters of a call; what is missing or of another type is refused as ECR does. */
class Input {
  readonly #values: Json;
  readonly #seal: Seal;

  constructor(values: Json, account: string, seal: Seal) {
    this.#values = values;
    this.#seal = seal;
    const registryId = this.optionalText('registryId');
    if (registryId !== undefined && registryId !== account) {
      const name = this.optionalText('repositoryName') ?? '';
      const message = `The repository with name '${name}' does not exist in the registry with id '${registryId}'`;
      throw apiError('RepositoryNotFoundException', message);
    }
  }

  optional(name: string): unknown {
    return this.#values[name] ?? undefined;
  }

  optionalText(name: string): string | undefined {
    const value = this.optional(name);
    if (value === undefined || typeof value === 'string') return value;
    throw apiError('SerializationException', `${name} must be a string`);
  }

  text(name: string): string {
    const value = this.optionalText(name);
    if (value === undefined || value === '') throw invalid(name, 'must not be null');
    return value;
  }

  oneOf<T extends string>(name: string, values: readonly T[]): T {
    const value = this.text(name);
    const found = values.find((other) => other === value);
    if (found === undefined) throw invalid(name, `Member must satisfy enum value set: [${values.join(', ')}]`);
    return found;
  }

  optionalTexts(name: string): readonly string[] | undefined {
    const value = this.#optionalList(name);
    if (value?.every((item) => typeof item === 'string') === false) {
      throw apiError('SerializationException', `${name} must be a list of strings`);
    }
    return value;
  }

  optionalObject(name: string): Json | undefined {
    const value = this.optional(name);
    if (value === undefined || isObject(value)) return value;
    throw apiError('SerializationException', `${name} must be a structure`);
  }

  object(name: string): Json {
    const value = this.optionalObject(name);
    if (value === undefined) throw invalid(name, 'must not be null');
    return value;
  }

  optionalObjects(name: string): readonly Json[] | undefined {
    const value = this.#optionalList(name);
    if (value?.every(isObject) === false) {
      throw apiError('SerializationException', `${name} must be a list of structures`);
    }
    return value;
  }

  /** Refuses parameters that `name` excludes. */
  forbid(name: string, ...others: readonly string[]): void {
    const given = others.find((other) => this.optional(other) !== undefined);
    if (given !== undefined) throw invalid(given, `cannot be used together with ${name}`);
  }

  /** The page of a sorted list that is asked for, and the token of the next. */
  page<T>(
    items: readonly T[],
    keyOf: (item: T) => string,
  ): { readonly page: readonly T[]; readonly nextToken: { readonly nextToken?: string } } {
    const size = this.optional('maxResults') ?? DEFAULT_PAGE;
    if (typeof size !== 'number' || size < 1 || size > MAX_PAGE) {
      throw invalid('maxResults', `Member must have value between 1 and ${MAX_PAGE}`);
    }
    const token = this.optionalText('nextToken');
    const after = token === undefined ? '' : this.#seal.open(token);
    if (after === undefined) throw invalid('nextToken', 'is not one that was given out');
    const rest = items.filter((item) => keyOf(item) > after);
    const page = rest.slice(0, size);
    const last = page.at(-1);
    const more = last !== undefined && page.length < rest.length;
    return { page, nextToken: more ? { nextToken: this.#seal.close(keyOf(last)) } : {} };
  }

  #optionalList(name: string): readonly unknown[] | undefined {
    const value = this.optional(name);
    if (value === undefined) return undefined;
    if (!Array.isArray(value)) throw apiError('SerializationException', `${name} must be a list`);
    // the SDK sends an empty list where nothing was chosen
    return value.length === 0 ? undefined : value;
  }
}

/** https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html#operation-error-serialization */
function apiError(type: string, message: string, status = 400): Refusal {
  const headers = { 'content-type': CONTENT_TYPE, 'x-amzn-errortype': type };
  return new Refusal(message, { status, headers, body: JSON.stringify({ __type: type, message }) });
}

/** https://docs.aws.amazon.com/AmazonECR/latest/APIReference/CommonErrors.html; the signature itself is not checked. */
function checkSigned(ecr: Ecr, authorization: string | undefined): void {
  if (authorization === undefined) {
    throw apiError('MissingAuthenticationTokenException', 'Missing Authentication Token', 403);
  }
  const [, region, service] =
    /^AWS4-HMAC-SHA256 .*Credential=[^/]+\/[0-9]{8}\/([^/]+)\/([^/]+)\/aws4_request/.exec(authorization) ?? [];
  if (region === undefined) {
    throw apiError('IncompleteSignatureException', 'the Authorization header is not of AWS Signature Version 4', 403);
  }
  if (region !== ecr.region || service !== 'ecr') {
    const message = `Credential should be scoped to a valid region: this is ecr in ${ecr.region}, not ${service} in ${region}.`;
    throw apiError('InvalidSignatureException', message, 403);
  }
}

function parseBody(body: Uint8Array): Json {
  try {
    const value: unknown = JSON.parse(Buffer.from(body).toString());
    if (isObject(value)) return value;
  } catch {
    // refused below, with all else that is no structure
  }
  throw apiError('SerializationException', 'the body is not a JSON object');
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function invalid(parameter: string, constraint: string): Refusal {
  const message = `Invalid parameter at '${parameter}' failed to satisfy constraint: '${constraint}'`;
  return apiError('InvalidParameterException', message);
}

function parseDocument(parameter: string, text: string): Json {
  try {
    const value: unknown = JSON.parse(text);
    if (isObject(value)) return value;
  } catch {
    // refused below
  }
  throw invalid(parameter, 'Invalid JSON syntax');
}

/** The wire form of a time. */
function seconds(ms: number): number {
  return ms / 1000;
}

// ---- repositories

function findRepository(ecr: Ecr, name: string): StoredRepository {
  const found = ecr.store.repositories.get(name);
  if (found !== undefined) return found;
  const message = `The repository with name '${name}' does not exist in the registry with id '${ecr.account}'`;
  throw apiError('RepositoryNotFoundException', message);
}

function repositoryOf(ecr: Ecr, input: Input): StoredRepository {
  return findRepository(ecr, input.text('repositoryName'));
}

function resourceOf(ecr: Ecr, input: Input): StoredRepository {
  const arn = input.text('resourceArn');
  const prefix = ecr.arnOf('');
  if (!arn.startsWith(prefix)) throw invalid('resourceArn', `Invalid ARN: expected ${prefix}<name>`);
  return findRepository(ecr, arn.slice(prefix.length));
}

function repositoryId(
  ecr: Ecr,
  repository: StoredRepository,
): { readonly registryId: string; readonly repositoryName: string } {
  return { registryId: ecr.account, repositoryName: repository.name };
}

function named(ecr: Ecr, repository: StoredRepository): string {
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

function describeMutability(s: Pick<RepositorySettings, 'mutability' | 'exclusions'>): object {
  return {
    imageTagMutability: s.mutability,
    ...(s.exclusions.length === 0
      ? {}
      : { imageTagMutabilityExclusionFilters: s.exclusions.map((filter) => ({ filterType: 'WILDCARD', filter })) }),
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

// ---- images

interface ImageId {
  readonly imageDigest?: string;
  readonly imageTag?: string;
}

function readImageId(value: Json): ImageId {
  const { imageDigest, imageTag } = value;
  return {
    ...(typeof imageDigest === 'string' ? { imageDigest } : {}),
    ...(typeof imageTag === 'string' ? { imageTag } : {}),
  };
}

function imageIdsOf(input: Input): readonly ImageId[] {
  const ids = input.optionalObjects('imageIds') ?? [];
  if (ids.length === 0 || ids.length > MAX_IDS) {
    throw invalid('imageIds', `Member must have length between 1 and ${MAX_IDS}`);
  }
  return ids.map(readImageId);
}

function idsOf(repository: StoredRepository, image: StoredManifest): ImageId[] {
  const imageDigest = image.digest;
  const tags = tagsOf(repository, image.digest);
  return tags.length === 0 ? [{ imageDigest }] : tags.map((imageTag) => ({ imageDigest, imageTag }));
}

/** https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageFailure.html */
type FailureCode =
  | 'InvalidImageDigest'
  | 'MissingDigestAndTag'
  | 'ImageNotFound'
  | 'ImageTagDoesNotMatchDigest'
  | 'ImageReferencedByManifestList';

/** The image, or why there is none. */
function findImage(repository: StoredRepository, id: ImageId): StoredManifest | FailureCode {
  const { imageDigest, imageTag } = id;
  if (imageDigest === undefined && imageTag === undefined) return 'MissingDigestAndTag';
  if (imageDigest !== undefined && !/^sha(?:256:[0-9a-f]{64}|512:[0-9a-f]{128})$/.test(imageDigest)) {
    return 'InvalidImageDigest';
  }
  const tagged = imageTag === undefined ? undefined : repository.tags.get(imageTag);
  if (imageTag !== undefined && tagged === undefined) return 'ImageNotFound';
  if (tagged !== undefined && imageDigest !== undefined && tagged !== imageDigest) return 'ImageTagDoesNotMatchDigest';
  return repository.manifests.get(tagged ?? (imageDigest as Digest)) ?? 'ImageNotFound';
}

function failure(id: ImageId, failureCode: FailureCode, holders: readonly StoredManifest[] = []): object {
  return { imageId: id, failureCode, failureReason: reasonOf(failureCode, holders) };
}

function reasonOf(code: FailureCode, holders: readonly StoredManifest[]): string {
  switch (code) {
    case 'InvalidImageDigest':
      return 'Invalid request parameters: image digest should satisfy the regex';
    case 'MissingDigestAndTag':
      return 'Invalid request parameters: both tag and digest cannot be null';
    case 'ImageNotFound':
      return 'Requested image not found';
    case 'ImageTagDoesNotMatchDigest':
      return 'Requested tag does not match the digest';
    case 'ImageReferencedByManifestList':
      return `Requested image referenced by manifest list: [${holders.map((holder) => holder.digest).join(', ')}]`;
    default:
      return code satisfies never;
  }
}

function imageNotFound(ecr: Ecr, repository: StoredRepository, id: ImageId): Refusal {
  const what = `{imageDigest:'${id.imageDigest ?? 'null'}', imageTag:'${id.imageTag ?? 'null'}'}`;
  const message = `The image with imageId ${what} does not exist within the ${named(ecr, repository)}`;
  return apiError('ImageNotFoundException', message);
}

/** Which images a `filter` wants; without one the active ones. */
function readFilter(ecr: Ecr, repository: StoredRepository, input: Input): (image: StoredManifest) => boolean {
  const { tagStatus = 'ANY', imageStatus = 'ACTIVE' } = input.optionalObject('filter') ?? {};
  const tagged = new Set(repository.tags.values());
  return (image) =>
    (imageStatus === 'ANY' || imageStatus === ecr.statusOf(image)) &&
    (tagStatus === 'ANY' || (tagStatus === 'TAGGED') === tagged.has(image.digest));
}

/** https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageDetail.html */
function describeImage(
  ecr: Ecr,
  repository: StoredRepository,
  image: StoredManifest,
  imageTags = tagsOf(repository, image.digest),
): object {
  const imageStatus: ImageStatus = ecr.statusOf(image);
  return {
    ...repositoryId(ecr, repository),
    imageDigest: image.digest,
    ...(imageTags.length === 0 ? {} : { imageTags }),
    imageSizeInBytes: sizeOf(repository, image),
    imagePushedAt: seconds(image.pushedAtMs),
    imageManifestMediaType: image.mediaType,
    ...(image.artifactType === undefined ? {} : { artifactMediaType: image.artifactType }),
    ...(image.subject === undefined ? {} : { subjectManifestDigest: image.subject }),
    ...(image.pulledAtMs === undefined ? {} : { lastRecordedPullTime: seconds(image.pulledAtMs) }),
    imageStatus,
    ...(image.archivedAtMs === undefined ? {} : { lastArchivedAt: seconds(image.archivedAtMs) }),
    ...(image.activatedAtMs === undefined ? {} : { lastActivatedAt: seconds(image.activatedAtMs) }),
  };
}

/** Of a list: the largest image in it. */
function sizeOf(repository: StoredRepository, image: StoredManifest): number {
  if (image.kind !== 'index') return image.contentBytes;
  return Math.max(0, ...image.children.map((child) => repository.manifests.get(child)?.contentBytes ?? 0));
}
