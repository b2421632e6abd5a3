import type * as Sdk from '@aws-sdk/client-ecr';
import { parseDigest, type Digest } from '../../oci/digest.ts';
import type { EcrHost } from '../../oci/ecr-host.ts';
import { orAborted, type Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import { Failure, isFailure, type Code } from '../../util/failure.ts';
import type { Report } from '../../util/events.ts';
import { calling } from '../../util/sdk-failure.ts';
import { SDK_TIMEOUTS } from '../../util/sdk-timeouts.ts';
import type { CredentialLookup } from '../credentials.ts';
import type { RepositorySettings } from './repository-settings.ts';
import { repositoryOf } from '../scope.ts';
import type { Authorizer } from '../transport/authorization.ts';
import type { Operation } from '../transport/layer.ts';

export const ECR_PUBLIC_HOST = 'public.ecr.aws';

/** One row of what ECR says about a repository: an image, a child of one, or what refers to one. */
export interface EcrImage {
  readonly digest: Digest;
  readonly tags: readonly string[];
  readonly mediaType: string | undefined;
  readonly artifactMediaType: string | undefined;
  /** Of its layers, compressed. */
  readonly sizeBytes: number | undefined;
  readonly pushedAt: Date | undefined;
  /** An archived image is listed, but cannot be pulled. */
  readonly status: 'ACTIVE' | 'ARCHIVED' | 'ACTIVATING';
  readonly subject: Digest | undefined;
}

export interface AwsAccess {
  /** ARN of the role to assume; absent: as the AWS SDK finds credentials. */
  readonly assumeRole?: string | undefined;
  readonly externalId?: string | undefined;
}

export interface EcrOptions extends AwsAccess {
  readonly host: string;
  readonly ecr: EcrHost;
  /** For those who have docker's credentials and none of AWS. */
  readonly credentials: CredentialLookup;
  readonly clock: Clock;
  readonly report?: Report | undefined;
}

interface Token {
  readonly header: string;
  readonly sinceMs: number;
  readonly renewAtMs: number;
}

const MINUTE_MS = 60_000;
/** https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImages.html */
const PAGE = 1000;
/** What IAM calls what a request does: https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html */
const ACTIONS: Readonly<Record<Operation, string>> = {
  'read-manifest': 'ecr:BatchGetImage',
  'read-blob': 'ecr:GetDownloadUrlForLayer',
  'find-blob': 'ecr:BatchCheckLayerAvailability',
  'begin-upload': 'ecr:InitiateLayerUpload',
  'mount-blob': 'ecr:InitiateLayerUpload here and ecr:GetDownloadUrlForLayer there',
  'upload-blob': 'ecr:UploadLayerPart and ecr:CompleteLayerUpload',
  'write-manifest': 'ecr:PutImage',
  'list-tags': 'ecr:ListImages',
  'list-repositories': 'ecr:DescribeRepositories',
};

/**
 * What a private registry of Amazon ECR has beside `/v2/`: authorization tokens and repositories with settings. The SDK is loaded with the
 * first call, so that those who never meet ECR do not pay for it. Its own environment (`AWS_REGION`, `AWS_ENDPOINT_URL_ECR`) applies, but the
 * region is that of the host.
 */
export class EcrRegistry {
  readonly #options: EcrOptions;
  #client: Promise<Sdk.ECR> | undefined;
  #token: Promise<Token | Failure> | undefined;

  constructor(options: EcrOptions) {
    this.#options = options;
  }

  /** Basic with ECR's token on every request, renewed before it expires and when it is refused; fetched once for all who wait for it. */
  authorizer(): Authorizer {
    const { clock, host, credentials } = this.#options;
    return {
      header: async (scopes, options) => {
        const held = this.#token ?? this.#renew();
        let token = await orAborted(held, options);
        if (!isFailure(token) && token.renewAtMs <= clock.now()) {
          // whoever comes first renews it for all
          if (this.#token === held) void this.#renew();
          token = await orAborted(this.#token ?? this.#renew(), options);
        }
        if (!isFailure(token)) return token.header;
        const found = await credentials(host, repositoryOf(scopes), options);
        if (found !== undefined && 'username' in found) return basic(`${found.username}:${found.password}`);
        throw new Failure('UNAUTHENTICATED', `${token.message}; nor are there any of \`docker login\``, {
          cause: token,
        });
      },

      refused: async ({ status, text, used }, options) => {
        const token = await orAborted(this.#token ?? this.#renew(), options);
        if (isFailure(token)) return false;
        if (token.header !== used) return true;
        // a 403 is mostly a missing permission, and sometimes an old token: https://github.com/deis/builder/issues/426
        const old = /token has expired|reauthenticate/i.test(text) || clock.now() - token.sinceMs > MINUTE_MS;
        if (status === 403 && !old) return false;
        void this.#renew();
        return true;
      },

      hint: (code: Code, operation: Operation) => {
        if (code === 'DENIED') return `the caller needs ${ACTIONS[operation]}`;
        return code === 'UNAUTHENTICATED'
          ? 'check the AWS credentials, and that they are of the right account'
          : undefined;
      },
    };
  }

  /** Makes the repository, with settings. Success when it is there already: then it is left as it is. */
  async create(name: string, settings: RepositorySettings, options: Abortable): Promise<void> {
    const { tagMutability, tagMutabilityExclusions, scanOnPush, tags } = settings;
    const encryption = this.#encryptionOf(name, settings);
    const what = `create repository ${this.#options.host}/${name}`;
    try {
      await this.#call(what, 'ecr:CreateRepository', options, async (ecr, sdkOptions) =>
        ecr.createRepository(
          {
            ...this.#id(name),
            imageTagMutability: tagMutability,
            imageTagMutabilityExclusionFilters: exclusionFilters(tagMutabilityExclusions),
            imageScanningConfiguration: scanOnPush === undefined ? undefined : { scanOnPush },
            encryptionConfiguration:
              encryption === undefined ? undefined : { encryptionType: encryption.type, kmsKey: encryption.key },
            tags: tagList(tags),
          },
          sdkOptions,
        ),
      );
    } catch (error) {
      if (isFailure(error, 'CONFLICT')) return;
      throw error;
    }
    await this.#applyPolicies(name, settings, options);
  }

  /** Makes the repository exist with these settings; what they do not say stays as it is. Idempotent. */
  async applySettings(name: string, settings: RepositorySettings, options: Abortable = {}): Promise<void> {
    const found = await absentIfNotFound(this.#describe(name, options));
    if (found === undefined) return this.create(name, settings, options);
    const what = `set repository ${this.#options.host}/${name}`;
    const { tagMutability, scanOnPush, encryption } = settings;
    if (tagMutability !== undefined) {
      await this.#call(what, 'ecr:PutImageTagMutability', options, async (ecr, sdkOptions) =>
        ecr.putImageTagMutability(
          {
            ...this.#id(name),
            imageTagMutability: tagMutability,
            imageTagMutabilityExclusionFilters: exclusionFilters(settings.tagMutabilityExclusions),
          },
          sdkOptions,
        ),
      );
    }
    if (scanOnPush !== undefined) {
      await this.#call(what, 'ecr:PutImageScanningConfiguration', options, async (ecr, sdkOptions) =>
        ecr.putImageScanningConfiguration(
          { ...this.#id(name), imageScanningConfiguration: { scanOnPush } },
          sdkOptions,
        ),
      );
    }
    const tags = tagList(settings.tags);
    if (tags !== undefined) {
      await this.#call(what, 'ecr:TagResource', options, async (ecr, sdkOptions) =>
        ecr.tagResource({ resourceArn: found.repositoryArn, tags }, sdkOptions),
      );
    }
    const encrypted = found.encryptionConfiguration?.encryptionType ?? 'AES256';
    if (encryption !== undefined && encryption.type !== encrypted)
      this.#warn(`${what}: it is encrypted with ${encrypted}, which cannot be changed to ${encryption.type} any more`);
    await this.#applyPolicies(name, settings, options);
  }

  /** The settings of a repository, whole. NOT_FOUND when there is none; DENIED naming the action that is missing. */
  async settings(name: string, options: Abortable = {}): Promise<RepositorySettings> {
    const what = `read the settings of ${this.#options.host}/${name}`;
    const found = await this.#describe(name, options);
    const listed = await this.#call(what, 'ecr:ListTagsForResource', options, async (ecr, sdkOptions) =>
      ecr.listTagsForResource({ resourceArn: found.repositoryArn }, sdkOptions),
    );
    const lifecycle = await absentIfNotFound(
      this.#call(what, 'ecr:GetLifecyclePolicy', options, async (ecr, sdkOptions) =>
        ecr.getLifecyclePolicy(this.#id(name), sdkOptions),
      ),
    );
    const policy = await absentIfNotFound(
      this.#call(what, 'ecr:GetRepositoryPolicy', options, async (ecr, sdkOptions) =>
        ecr.getRepositoryPolicy(this.#id(name), sdkOptions),
      ),
    );
    const tags = listed.tags?.map(({ Key = '', Value = '' }) => [Key, Value] as const) ?? [];
    const exclusions = found.imageTagMutabilityExclusionFilters?.map(({ filter = '' }) => filter) ?? [];
    const { encryptionType: type, kmsKey: key } = found.encryptionConfiguration ?? {};
    return {
      tagMutability: found.imageTagMutability,
      tagMutabilityExclusions: exclusions.length === 0 ? undefined : exclusions,
      scanOnPush: found.imageScanningConfiguration?.scanOnPush,
      encryption: type === undefined ? undefined : { type, key },
      tags: tags.length === 0 ? undefined : Object.fromEntries(tags),
      lifecyclePolicy: lifecycle?.lifecyclePolicyText,
      repositoryPolicy: policy?.policyText,
    };
  }

  /** The names of the repositories that start with `prefix`. */
  async *repositories(prefix: string, options: Abortable): AsyncIterable<string> {
    const what = `list repositories of ${this.#options.host}`;
    const registryId = this.#options.ecr.account;
    let nextToken: string | undefined;
    do {
      const input = { registryId, maxResults: PAGE, nextToken };
      const page = await this.#call(what, ACTIONS['list-repositories'], options, async (ecr, sdkOptions) =>
        ecr.describeRepositories(input, sdkOptions),
      );
      for (const { repositoryName: name } of page.repositories ?? []) if (name?.startsWith(prefix) === true) yield name;
      ({ nextToken } = page);
    } while (nextToken !== undefined);
  }

  /** Everything in a repository, archived images too: one call for a thousand, and no image's last pull time is touched. */
  async *images(repository: string, options: Abortable = {}): AsyncIterable<EcrImage> {
    let nextToken: string | undefined;
    do {
      const page = await this.#describeImages(repository, { maxResults: PAGE, nextToken }, options);
      for (const detail of page.imageDetails ?? []) yield imageOf(detail);
      ({ nextToken } = page);
    } while (nextToken !== undefined);
  }

  /** Whether an image that cannot be pulled is there, archived. False too where ECR does not say. */
  async isArchived(repository: string, imageId: Sdk.ImageIdentifier, options: Abortable): Promise<boolean> {
    try {
      const { imageDetails = [] } = await this.#describeImages(repository, { imageIds: [imageId] }, options);
      return imageDetails.some(({ imageStatus }) => imageStatus === 'ARCHIVED' || imageStatus === 'ACTIVATING');
    } catch (error) {
      if (isFailure(error, 'ABORTED')) throw error;
      return false;
    }
  }

  async close(): Promise<void> {
    const client = await this.#client?.catch(() => undefined);
    client?.destroy();
  }

  async #describe(name: string, options: Abortable): Promise<Sdk.Repository> {
    const what = `read the settings of ${this.#options.host}/${name}`;
    const { account: registryId } = this.#options.ecr;
    const { repositories = [] } = await this.#call(
      what,
      ACTIONS['list-repositories'],
      options,
      async (ecr, sdkOptions) => ecr.describeRepositories({ registryId, repositoryNames: [name] }, sdkOptions),
    );
    const [found] = repositories;
    if (found === undefined) throw new Failure('NOT_FOUND', `${what}: there is no such repository`);
    return found;
  }

  async #describeImages(
    repository: string,
    input: Partial<Sdk.DescribeImagesCommandInput>,
    options: Abortable,
  ): Promise<Sdk.DescribeImagesCommandOutput> {
    return this.#call(
      `list images of ${this.#options.host}/${repository}`,
      'ecr:DescribeImages',
      options,
      async (ecr, sdkOptions) =>
        // by default archived images are left out, as if they had been deleted
        ecr.describeImages({ ...this.#id(repository), filter: { imageStatus: 'ANY' }, ...input }, sdkOptions),
    );
  }

  async #applyPolicies(name: string, settings: RepositorySettings, options: Abortable): Promise<void> {
    const what = `set repository ${this.#options.host}/${name}`;
    const { lifecyclePolicy, repositoryPolicy } = settings;
    if (lifecyclePolicy !== undefined) {
      await this.#call(what, 'ecr:PutLifecyclePolicy', options, async (ecr, sdkOptions) =>
        ecr.putLifecyclePolicy({ ...this.#id(name), lifecyclePolicyText: lifecyclePolicy }, sdkOptions),
      );
    }
    if (repositoryPolicy !== undefined) {
      await this.#call(what, 'ecr:SetRepositoryPolicy', options, async (ecr, sdkOptions) =>
        ecr.setRepositoryPolicy({ ...this.#id(name), policyText: repositoryPolicy }, sdkOptions),
      );
    }
  }

  #id(name: string): { readonly registryId: string; readonly repositoryName: string } {
    return { registryId: this.#options.ecr.account, repositoryName: name };
  }

  /** A key belongs to an account and a region: settings from elsewhere keep the kind of encryption, with the key that AWS manages here. */
  #encryptionOf(name: string, { encryption }: RepositorySettings): RepositorySettings['encryption'] {
    const [, , , region, account] = encryption?.key?.split(':') ?? [];
    const { ecr } = this.#options;
    if (encryption === undefined || region === undefined) return encryption;
    if (region === ecr.region && account === ecr.account) return encryption;
    this.#warn(
      `create repository ${name}: its key is in ${account}, ${region}; encrypted with the key of AWS here instead`,
    );
    return { type: encryption.type };
  }

  #warn(message: string): void {
    this.#options.report?.({ type: 'warning', message });
  }

  /** Fetches a new token for all who wait; that there are no AWS credentials is kept as well. What fails is tried anew by the next. */
  #renew(): Promise<Token | Failure> {
    const fetched = this.#fetchToken();
    fetched.catch(() => {
      if (this.#token === fetched) this.#token = undefined;
    });
    this.#token = fetched;
    return fetched;
  }

  /** Without a signal: others wait for the same. The SDK's own timeouts end it. */
  async #fetchToken(): Promise<Token | Failure> {
    try {
      const what = `sign in to ${this.#options.host}`;
      const answer = await this.#call(what, 'ecr:GetAuthorizationToken', {}, async (ecr, sdkOptions) =>
        ecr.getAuthorizationToken({}, sdkOptions),
      );
      return tokenOf(what, answer.authorizationData?.[0], this.#options.clock.now());
    } catch (error) {
      if (isFailure(error) && error.context['noCredentials'] === true) return error;
      throw error;
    }
  }

  async #call<T>(
    what: string,
    action: string,
    options: Abortable,
    send: (client: Sdk.ECR, sdkOptions: { abortSignal?: AbortSignal }) => Promise<T>,
  ): Promise<T> {
    this.#client ??= this.#connect();
    const client = await this.#client;
    return calling(what, action, options, async (sdkOptions) => send(client, sdkOptions));
  }

  async #connect(): Promise<Sdk.ECR> {
    const { ECR } = await import('@aws-sdk/client-ecr');
    const { host, ecr } = this.#options;
    return new ECR({
      ...SDK_TIMEOUTS,
      region: ecr.region,
      maxAttempts: 6,
      useFipsEndpoint: /ecr-fips\./.test(host),
      useDualstackEndpoint: /\.on\.[a-z.]+$/.test(host),
      ...(await credentialsOf(this.#options, ecr.region)),
    });
  }
}

/**
 * Credentials for ECR Public by its own API, for docker's way to sign in: undefined where there are none of AWS, or they do not allow it, and
 * the image is read as anybody may.
 */
export function ecrPublicCredentials(
  options: AwsAccess & {
    readonly credentials: CredentialLookup;
    readonly clock: Clock;
    readonly report?: Report | undefined;
  },
): CredentialLookup {
  let token: Promise<{ readonly password: string | undefined; readonly untilMs: number }> | undefined;
  const fetchToken = async (): Promise<{ readonly password: string | undefined; readonly untilMs: number }> => {
    // the only region that has this API: https://docs.aws.amazon.com/AmazonECR/latest/public/public-registry-auth.html
    const region = 'us-east-1';
    const what = `sign in to ${ECR_PUBLIC_HOST}`;
    const { ECRPUBLIC } = await import('@aws-sdk/client-ecr-public');
    const client = new ECRPUBLIC({ ...SDK_TIMEOUTS, region, ...(await credentialsOf(options, region)) });
    // asked again now and then, so that what was refused is not used for its twelve hours
    const untilMs = options.clock.now() + 10 * MINUTE_MS;
    try {
      const needed = 'ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken';
      const answer = await calling(what, needed, {}, async (sdkOptions) =>
        client.getAuthorizationToken({}, sdkOptions),
      );
      const decoded = Buffer.from(answer.authorizationData?.authorizationToken ?? '', 'base64').toString();
      return { password: decoded.slice(decoded.indexOf(':') + 1), untilMs };
    } catch (error) {
      if (!isFailure(error, 'UNAUTHENTICATED', 'DENIED')) throw error;
      if (error.context['noCredentials'] !== true)
        options.report?.({ type: 'warning', message: `${error.message}; going on without` });
      return { password: undefined, untilMs };
    } finally {
      client.destroy();
    }
  };
  return async (host, repository, taskOptions) => {
    const kept = (token ??= fetchToken());
    kept.catch(() => {
      if (token === kept) token = undefined;
    });
    const { password, untilMs } = await orAborted(kept, taskOptions);
    if (untilMs <= options.clock.now() && token === kept) token = undefined;
    return password === undefined ? options.credentials(host, repository, taskOptions) : { username: 'AWS', password };
  };
}

async function credentialsOf(options: AwsAccess, region: string): Promise<Pick<Sdk.ECRClientConfig, 'credentials'>> {
  if (options.assumeRole === undefined) return {};
  const { fromTemporaryCredentials } = await import('@aws-sdk/credential-providers');
  return {
    credentials: fromTemporaryCredentials({
      params: {
        RoleArn: options.assumeRole,
        RoleSessionName: 'transship',
        ...(options.externalId === undefined ? {} : { ExternalId: options.externalId }),
      },
      clientConfig: { ...SDK_TIMEOUTS, region },
    }),
  };
}

function tokenOf(
  what: string,
  data: { readonly authorizationToken?: string | undefined; readonly expiresAt?: Date | undefined } | undefined,
  nowMs: number,
): Token {
  const { authorizationToken, expiresAt } = data ?? {};
  if (authorizationToken === undefined) throw new Failure('UNAVAILABLE', `${what}: ECR answered without a token`);
  const lifetimeMs = (expiresAt?.getTime() ?? nowMs) - nowMs;
  // a tenth of its life ahead: of the twelve hours that ECR gives, more than one
  return { header: `Basic ${authorizationToken}`, sinceMs: nowMs, renewAtMs: nowMs + lifetimeMs * 0.9 };
}

function imageOf(detail: Sdk.ImageDetail): EcrImage {
  const { imageStatus: status, subjectManifestDigest: subject } = detail;
  return {
    digest: parseDigest(detail.imageDigest),
    tags: detail.imageTags ?? [],
    mediaType: detail.imageManifestMediaType,
    artifactMediaType: detail.artifactMediaType,
    sizeBytes: detail.imageSizeInBytes,
    pushedAt: detail.imagePushedAt,
    status: status === 'ARCHIVED' || status === 'ACTIVATING' ? status : 'ACTIVE',
    subject: subject === undefined ? undefined : parseDigest(subject),
  };
}

function basic(text: string): string {
  return `Basic ${Buffer.from(text).toString('base64')}`;
}

function tagList(tags: RepositorySettings['tags'] = {}): Sdk.Tag[] | undefined {
  const list = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
  return list.length === 0 ? undefined : list;
}

function exclusionFilters(wildcards: readonly string[] = []): Sdk.ImageTagMutabilityExclusionFilter[] | undefined {
  const list = wildcards.map((filter) => ({ filterType: 'WILDCARD' as const, filter }));
  return list.length === 0 ? undefined : list;
}

async function absentIfNotFound<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (isFailure(error, 'NOT_FOUND')) return undefined;
    throw error;
  }
}
