import { LRUCache } from 'lru-cache';
import type { Digest } from '../oci/digest.ts';
import { ecrHost, fipsHost } from '../oci/ecr-host.ts';
import type { Abortable } from '../util/abort.ts';
import { systemClock, type Clock } from '../util/clock.ts';
import { Failure, isFailure, type Side } from '../util/failure.ts';
import type { Report } from '../util/events.ts';
import type { Proxies } from '../util/proxies.ts';
import { addressKind } from './transport/address.ts';
import { ChallengeAuthorizer } from './auth/challenge-authorizer.ts';
import { findCertificates, type CertificateOptions } from './certificates.ts';
import type { CredentialLookup } from './credentials.ts';
import type { AwsAccess } from './ecr/aws-access.ts';
import { EcrRegistry } from './ecr/ecr.ts';
import { HttpDeletions } from './deletions.ts';
import type { EcrDeletions } from './ecr/deletions.ts';
import type { EcrImage, StoredManifest } from './ecr/images.ts';
import { Manifests } from './manifests.ts';
import type { RepositoryContext } from './context.ts';
import { ECR_PUBLIC_HOST, ecrPublicCredentials } from './ecr/public-credentials.ts';
import { names } from './pages.ts';
import { Mounts, Pace, PullBudget } from './rate.ts';
import type { RegistrySettings } from './ecr/parse-registry-settings.ts';
import { registrySettingsChanges, type RegistrySettingsChange } from './ecr/registry-settings-changes.ts';
import { parseRepositorySettings, type RepositorySettings } from './ecr/repository-settings.ts';
import { settingsChanges, type SettingsChange } from './ecr/settings-changes.ts';
import { RegistryRepository } from './repository.ts';
import { repositoryScope } from './scope.ts';
import type { HostBackoff } from './transport/pauses.ts';
import { Transport } from './transport/transport.ts';

export interface RegistryOptions {
  /** Decides what tokens are asked for: of a target, to write too. */
  readonly side: Side;
  /** This side's credentials. */
  readonly credentials: CredentialLookup;
  /** Whether `credentials` come before those of AWS at a private registry of ECR. Default false. */
  readonly prefersCredentials?: boolean | undefined;
  /** Where hosts really answer: `http://127.0.0.1:5000` by host. Default: at themselves, by HTTPS or as `plainHttp` sets. */
  readonly endpoints?: ReadonlyMap<string, string> | undefined;
  /** For ECR. Default: as the AWS SDK finds credentials. */
  readonly aws?: AwsAccess | undefined;
  /** Default: every host is reached directly. */
  readonly proxies?: Proxies | undefined;
  /** `certs.d` folders, and whether certificates of servers are checked. Default: no folders; certificates are checked. */
  readonly certificates?: CertificateOptions | undefined;
  /** Whether hosts without an endpoint are reached by plain HTTP. Default: on loopback only, and there only those that do not answer TLS. */
  readonly plainHttp?: boolean | undefined;
  /** How repositories are created that ECR does not have. Default: they are not, and pushing to them is NOT_FOUND. */
  readonly create?: RepositorySettings | undefined;
  /** Blobs at once that are going to be read or written. Default 4. */
  readonly concurrency?: number | undefined;
  /** This program's version, for the registry's logs. */
  readonly version: string;
  readonly clock?: Clock | undefined;
  readonly report?: Report | undefined;
  /** Pauses all requests to the host after it refused one as too many; the clients of both sides share it. Default: one of its own. */
  readonly backoff?: HostBackoff | undefined;
}

const DEFAULT_CONCURRENCY = 4;
const KEPT_MANIFESTS_BYTES = 8 * 1024 * 1024;
const KEPT_TAGS = 2000;
/** Images are copied by repositories, few of which are under way at once. A list has at most some thousands of tags. */
const KEPT_LISTS = 16;
const DOCKER_HUB = 'docker.io';
const DOCKER_HUB_URL = 'https://registry-1.docker.io';
/** PutImage, of an account in a region: https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html */
const ECR_PUTS_PER_SECOND = 10;

/** The registry at `host`, as references name it. No request is sent yet. */
export function openRegistry(host: string, options: RegistryOptions): RegistryClient {
  return new RegistryClient(host, options);
}

/** One registry, with the credentials of one side. Closing it breaks off what is under way. */
export class RegistryClient implements AsyncDisposable {
  readonly host: string;
  /** Undefined for all but private registries of ECR. */
  readonly ecr: EcrRegistry | undefined;
  /** Every image of a repository with its digest, tags and time, by pages of 1,000. Of ECR alone. */
  readonly images: ((repository: string, options?: Abortable) => AsyncIterable<EcrImage>) | undefined;
  /** The manifests of these digests, verified, twenty a call; those that are gone or archived are left out. Of ECR alone. */
  readonly manifests:
    | ((repository: string, digests: readonly Digest[], options?: Abortable) => AsyncIterable<StoredManifest>)
    | undefined;
  /** Moves images into and out of the archive. Of ECR alone. */
  readonly storageClasses: Pick<EcrRegistry, 'moveToStorageClass' | 'imageStatuses'> | undefined;
  readonly #options: RegistryOptions;
  readonly #clock: Clock;
  readonly #baseUrl: URL;
  readonly #transport: Transport;
  /** Undefined for private registries of ECR. */
  #challenges: ChallengeAuthorizer | undefined;
  readonly #pace: Pace | undefined;
  readonly #pulls: PullBudget;
  readonly #mounts = new Mounts();
  readonly #keptManifests = new LRUCache<string, Uint8Array>({
    maxSize: KEPT_MANIFESTS_BYTES,
    // the cache takes no entry without a size
    sizeCalculation: ({ byteLength }) => Math.max(byteLength, 1),
  });
  readonly #resolvedTags: RepositoryContext['resolvedTags'] = new LRUCache({ max: KEPT_TAGS });
  readonly #tagLists: RepositoryContext['tagLists'] = new LRUCache({ max: KEPT_LISTS });
  readonly #repositories = new Map<string, RegistryRepository>();

  constructor(host: string, options: RegistryOptions) {
    const { clock = systemClock, report, credentials, prefersCredentials, aws } = options;
    this.host = host;
    this.#options = options;
    this.#clock = clock;
    this.#baseUrl = baseUrlOf(host, options);
    this.#pulls = new PullBudget(clock);
    const ecr = ecrHost(host);
    this.ecr =
      ecr === undefined
        ? undefined
        : new EcrRegistry({ host, ecr, credentials, prefersCredentials, clock, report, ...aws });
    this.storageClasses = this.ecr;
    const listing = this.ecr;
    this.images =
      listing === undefined ? undefined : (repository, taskOptions = {}) => listing.images(repository, taskOptions);
    this.manifests =
      listing === undefined
        ? undefined
        : (repository, digests, taskOptions = {}) => listing.manifests(repository, digests, taskOptions);
    this.#pace = ecr === undefined && host !== ECR_PUBLIC_HOST ? undefined : new Pace(ECR_PUTS_PER_SECOND, clock);
    const lookup =
      host === ECR_PUBLIC_HOST ? ecrPublicCredentials({ credentials, clock, report, ...aws }) : credentials;
    this.#transport = new Transport({
      host,
      baseUrl: this.#baseUrl,
      plainFallback: mayBePlain(this.#baseUrl, host, options),
      authorize: (fetch, origin) => {
        if (this.ecr !== undefined) return this.ecr.authorizer;
        this.#challenges = new ChallengeAuthorizer({
          host,
          baseUrl: () => origin.baseUrl,
          fetch,
          credentials: async (repository, taskOptions) => lookup(host, repository, taskOptions),
          clock,
        });
        return this.#challenges;
      },
      concurrency: options.concurrency ?? DEFAULT_CONCURRENCY,
      backoff: options.backoff,
      userAgent: `transship/${options.version}`,
      proxies: options.proxies,
      tls: async () => findCertificates(host, options.certificates ?? { folders: [] }),
      clock,
      report,
      observe: (answer) => this.#pulls.observe(answer.header('ratelimit-remaining')),
    });
  }

  /**
   * The same object for the same name and options: it remembers what the registry can do. `create` replaces the client's own settings for new
   * repositories, as JSON; false: the repository is not created. INVALID for what are not settings.
   */
  repository(
    name: string,
    options: { readonly create?: Readonly<Record<string, unknown>> | false | undefined } = {},
  ): RegistryRepository {
    const key = options.create === undefined ? name : `${name} ${JSON.stringify(options.create)}`;
    const known = this.#repositories.get(key);
    if (known !== undefined) return known;
    const create =
      options.create === undefined
        ? this.#options.create
        : options.create === false
          ? undefined
          : parseRepositorySettings(options.create);
    const isTarget = this.#options.side === 'target';
    const context = this.#context(name, isTarget ? 'pull,push' : 'pull', isTarget ? create : undefined);
    const opened = new RegistryRepository(context);
    this.#repositories.set(key, opened);
    return opened;
  }

  /** What deletes from a repository, missing or not. Nothing is asked of the registry yet. */
  deletions(name: string): EcrDeletions | HttpDeletions {
    if (this.ecr !== undefined) return this.ecr.deletions(name);
    const context = this.#context(name, 'pull,push,delete', undefined);
    return new HttpDeletions(context, new Manifests(context));
  }

  /**
   * Asks the registry for an answer to these credentials. Returns whether it asked for them; false: it answers without any. UNAUTHENTICATED where
   * it refuses them, NOT_FOUND where it is not a registry.
   */
  async check(options: Abortable = {}): Promise<boolean> {
    const what = `sign in to ${this.host}`;
    // https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#determining-support
    const request = { what, operation: 'sign-in', method: 'GET', url: '/v2/', accept: [200], scopes: [] } as const;
    await this.#transport.send(request, options);
    return this.#challenges?.isAsked ?? true;
  }

  /** The names of its repositories that start with `prefix`. UNSUPPORTED or DENIED where the registry does not list them. */
  async *repositories(prefix = '', options: Abortable = {}): AsyncIterable<string> {
    if (this.ecr !== undefined) {
      yield* this.ecr.repositories(prefix, options);
      return;
    }
    const what = `list repositories of ${this.host}`;
    // https://distribution.github.io/distribution/spec/api/#listing-repositories
    const request = {
      what,
      operation: 'list-repositories',
      url: '/v2/_catalog',
      member: 'repositories',
      scopes: ['registry:catalog:*'],
      report: this.#options.report,
    } as const;
    try {
      for await (const name of names(this.#transport, request, options)) if (name.startsWith(prefix)) yield name;
    } catch (error) {
      if (!isFailure(error, 'NOT_FOUND')) throw error;
      throw new Failure('UNSUPPORTED', `${what}: it does not list them; name the repositories`, { cause: error });
    }
  }

  /**
   * The settings of a repository as JSON, for `applySettings`. Undefined for a registry without readable settings (all but ECR's private ones).
   * DENIED, naming the missing action, where they may not be read.
   */
  async settings(repository: string, options: Abortable = {}): Promise<Readonly<Record<string, unknown>> | undefined> {
    const settings = await this.ecr?.settings(repository, options);
    return settings === undefined ? undefined : { ...settings };
  }

  /** Whether the repository exists; undefined where repositories have no settings (all registries but ECR). */
  async hasRepository(repository: string, options: Abortable = {}): Promise<boolean | undefined> {
    return this.ecr?.has(repository, options);
  }

  /** Creates the repository with these settings, where the registry has such. An existing repository stays as it is. */
  async createRepository(
    repository: string,
    settings: Readonly<Record<string, unknown>>,
    options: Abortable = {},
  ): Promise<void> {
    await this.ecr?.create(repository, parseRepositorySettings(settings), options);
  }

  /** What `applySettings` would change of an existing repository. INVALID for malformed settings, DENIED where the current ones may not be read. */
  async settingsChanges(
    repository: string,
    settings: Readonly<Record<string, unknown>>,
    options: Abortable = {},
  ): Promise<readonly SettingsChange[]> {
    if (this.ecr === undefined) return [];
    return settingsChanges(await this.ecr.settings(repository, options), parseRepositorySettings(settings));
  }

  /** Makes the repository exist with these settings. Does nothing for a registry without settings. Idempotent. INVALID for what are not settings. */
  async applySettings(
    repository: string,
    settings: Readonly<Record<string, unknown>>,
    options: Abortable = {},
  ): Promise<void> {
    await this.ecr?.applySettings(repository, parseRepositorySettings(settings), options);
  }

  /** The settings of the registry itself as JSON, for `applyRegistrySettings`: as `readRegistrySettings`. Undefined for all but ECR. */
  async registrySettings(options: Abortable = {}): Promise<Readonly<Record<string, unknown>> | undefined> {
    return this.ecr?.registrySettings(options);
  }

  /** What `applyRegistrySettings` would change, one by one: as `registrySettingsChanges`. INVALID for malformed settings. */
  async registrySettingsChanges(
    settings: Readonly<Record<string, unknown>>,
    options: Abortable = {},
  ): Promise<readonly RegistrySettingsChange[]> {
    if (this.ecr === undefined) return [];
    const wanted = await registrySettingsOf(settings);
    return registrySettingsChanges(await this.ecr.registrySettings(options), wanted);
  }

  /** Makes the registry have these settings, and removes none. Does nothing for all but ECR. Idempotent. INVALID for malformed settings. */
  async applyRegistrySettings(settings: Readonly<Record<string, unknown>>, options: Abortable = {}): Promise<void> {
    await this.ecr?.applyRegistrySettings(await registrySettingsOf(settings), options);
  }

  #context(
    name: string,
    access: Parameters<typeof repositoryScope>[1],
    create: RepositorySettings | undefined,
  ): RepositoryContext {
    return {
      transport: this.#transport,
      host: this.host,
      name,
      scopes: [repositoryScope(name, access)],
      clock: this.#clock,
      report: this.#options.report,
      ecr: this.ecr,
      create,
      pace: this.#pace,
      pulls: this.#pulls,
      mounts: this.#mounts,
      keptManifests: this.#keptManifests,
      tagLists: this.#tagLists,
      resolvedTags: this.#resolvedTags,
    };
  }

  async close(): Promise<void> {
    await Promise.all([...this.#repositories.values()].map(async (repository) => repository.close()));
    await this.#transport.close();
    await this.ecr?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** As `parseRegistrySettings`, whose schemas are loaded for ECR alone. */
async function registrySettingsOf(settings: Readonly<Record<string, unknown>>): Promise<RegistrySettings> {
  const { parseRegistrySettings } = await import('./ecr/parse-registry-settings.ts');
  return parseRegistrySettings(settings);
}

function baseUrlOf(
  host: string,
  { aws, endpoints, plainHttp }: Pick<RegistryOptions, 'aws' | 'endpoints' | 'plainHttp'>,
): URL {
  const mapped = endpoints?.get(host) ?? (host === DOCKER_HUB ? DOCKER_HUB_URL : undefined);
  if (mapped === undefined) {
    const https = URL.parse(`https://${aws?.fips === true ? fipsHost(host) : host}`);
    if (https === null) throw new Failure('INVALID', `${host} is not the host of a registry`);
    return refusingMetadata(host, plainHttp === true ? new URL(`http://${host}`) : https);
  }
  const url = URL.parse(mapped);
  if (url !== null && /^https?:$/.test(url.protocol)) return refusingMetadata(host, url);
  throw new Failure('INVALID', `the endpoint of ${host} is not an http or https address`);
}

/** Whether https is only tried: the registry is on this machine, and neither an endpoint nor a flag chose how it is asked. */
function mayBePlain(
  baseUrl: URL,
  host: string,
  { endpoints, plainHttp }: Pick<RegistryOptions, 'endpoints' | 'plainHttp'>,
): boolean {
  return plainHttp === undefined && endpoints?.has(host) !== true && addressKind(baseUrl.hostname) === 'loopback';
}

/** `url`. INVALID for a metadata address, where clouds keep credentials and no registry is. */
function refusingMetadata(host: string, url: URL): URL {
  if (addressKind(url.hostname) !== 'metadata') return url;
  throw new Failure('INVALID', `${host} is a metadata address, where clouds keep credentials, and not a registry`);
}
