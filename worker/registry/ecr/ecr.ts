import type { Abortable } from '../../util/abort.ts';
import type { Report } from '../../util/events.ts';
import type { Authorizer } from '../transport/authorization.ts';
import { EcrAuthorizer, type EcrAuthorizerOptions } from './authorizer.ts';
import { EcrClient, type EcrClientOptions } from './client.ts';
import { EcrDeletions } from './deletions.ts';
import {
  imageStatuses,
  isArchived,
  listImages,
  readManifests,
  type EcrImage,
  type EcrImageId,
  type StoredManifest,
} from './images.ts';
import type { Digest } from '../../oci/digest.ts';
import { applySettings, createRepository, hasRepository, listRepositories, readSettings } from './repositories.ts';
import { applyRegistrySettings } from './apply-registry-settings.ts';
import { readRegistrySettings } from './read-registry-settings.ts';
import type { RegistrySettings } from './parse-registry-settings.ts';
import type { RepositorySettings } from './repository-settings.ts';
import { moveToStorageClass, type StorageClass } from './storage-class.ts';

export interface EcrOptions extends EcrClientOptions, EcrAuthorizerOptions {
  readonly report?: Report | undefined;
}

/** What a private registry of Amazon ECR offers beyond `/v2/`: authorization tokens, repositories with settings, and lists of images. */
export class EcrRegistry {
  readonly #client: EcrClient;
  readonly #authorizer: EcrAuthorizer;
  readonly #report: Report | undefined;

  constructor(options: EcrOptions) {
    this.#client = new EcrClient(options);
    this.#authorizer = new EcrAuthorizer(this.#client, options);
    this.#report = options.report;
  }

  /** ECR's own token for every request: one for the whole registry. */
  get authorizer(): Authorizer {
    return this.#authorizer;
  }

  /** As `hasRepository`. */
  async has(name: string, options: Abortable): Promise<boolean> {
    return hasRepository(this.#client, name, options);
  }

  /** As `createRepository`. */
  async create(name: string, settings: RepositorySettings, options: Abortable): Promise<void> {
    await createRepository(this.#client, name, settings, { ...options, warn: (message) => this.#warn(message) });
  }

  /** As `applySettings` of repositories.ts. */
  async applySettings(name: string, settings: RepositorySettings, options: Abortable = {}): Promise<void> {
    await applySettings(this.#client, name, settings, { ...options, warn: (message) => this.#warn(message) });
  }

  /** As `readSettings`. */
  async settings(name: string, options: Abortable = {}): Promise<RepositorySettings> {
    return readSettings(this.#client, name, options);
  }

  /** As `readRegistrySettings`. */
  async registrySettings(options: Abortable = {}): Promise<RegistrySettings> {
    return readRegistrySettings(this.#client, options);
  }

  /** As `applyRegistrySettings` of apply-registry-settings.ts. */
  async applyRegistrySettings(settings: RegistrySettings, options: Abortable = {}): Promise<void> {
    await applyRegistrySettings(this.#client, settings, { ...options, warn: (message) => this.#warn(message) });
  }

  /** As `listRepositories`. */
  repositories(prefix: string, options: Abortable): AsyncIterable<string> {
    return listRepositories(this.#client, prefix, options);
  }

  /** As `listImages`. */
  images(repository: string, options: Abortable = {}): AsyncIterable<EcrImage> {
    return listImages(this.#client, repository, options);
  }

  /** As `readManifests`. */
  manifests(repository: string, digests: readonly Digest[], options: Abortable = {}): AsyncIterable<StoredManifest> {
    return readManifests(this.#client, repository, digests, options);
  }

  /** As `moveToStorageClass`. */
  async moveToStorageClass(
    repository: string,
    digest: Digest,
    to: StorageClass,
    options: Abortable = {},
  ): Promise<EcrImage['status']> {
    return moveToStorageClass(this.#client, repository, digest, to, options);
  }

  /** As `imageStatuses`. */
  async imageStatuses(
    repository: string,
    digests: readonly Digest[],
    options: Abortable = {},
  ): Promise<ReadonlyMap<Digest, EcrImage['status']>> {
    return imageStatuses(this.#client, repository, digests, options);
  }

  /** What deletes from a repository. */
  deletions(repository: string): EcrDeletions {
    return new EcrDeletions(this.#client, repository);
  }

  /** As `isArchived` of images.ts. */
  async isArchived(repository: string, imageId: EcrImageId, options: Abortable): Promise<boolean> {
    return isArchived(this.#client, repository, imageId, options);
  }

  async close(): Promise<void> {
    await this.#client.close();
  }

  #warn(message: string): void {
    this.#report?.({ type: 'warning', message });
  }
}
