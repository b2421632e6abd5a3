import type { Abortable } from '../../util/abort.ts';
import type { Report } from '../../util/events.ts';
import type { Authorizer } from '../transport/authorization.ts';
import { EcrAuthorizer, type EcrAuthorizerOptions } from './authorizer.ts';
import { EcrClient, type EcrClientOptions } from './client.ts';
import { isArchived, listImages, type EcrImage, type EcrImageId } from './images.ts';
import { applySettings, createRepository, hasRepository, listRepositories, readSettings } from './repositories.ts';
import type { RepositorySettings } from './repository-settings.ts';

export interface EcrOptions extends EcrClientOptions, EcrAuthorizerOptions {
  readonly report?: Report | undefined;
}

/** What a private registry of Amazon ECR has beside `/v2/`: authorization tokens, repositories with settings, and lists of images. */
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

  async has(name: string, options: Abortable): Promise<boolean> {
    return hasRepository(this.#client, name, options);
  }

  /** Makes the repository, with settings. Success when it is there already: then it is left as it is. */
  async create(name: string, settings: RepositorySettings, options: Abortable): Promise<void> {
    await createRepository(this.#client, name, settings, { ...options, warn: (message) => this.#warn(message) });
  }

  /** Makes the repository exist with these settings; what they do not say stays as it is. Idempotent. */
  async applySettings(name: string, settings: RepositorySettings, options: Abortable = {}): Promise<void> {
    await applySettings(this.#client, name, settings, { ...options, warn: (message) => this.#warn(message) });
  }

  /** The settings of a repository, whole. NOT_FOUND when there is none; DENIED naming the action that is missing. */
  async settings(name: string, options: Abortable = {}): Promise<RepositorySettings> {
    return readSettings(this.#client, name, options);
  }

  /** The names of the repositories that start with `prefix`. */
  repositories(prefix: string, options: Abortable): AsyncIterable<string> {
    return listRepositories(this.#client, prefix, options);
  }

  /** Everything in a repository, archived images too: one call for a thousand, and no image's last pull time is touched. */
  images(repository: string, options: Abortable = {}): AsyncIterable<EcrImage> {
    return listImages(this.#client, repository, options);
  }

  /** Whether an image that cannot be pulled is there, archived. False too where ECR does not say. */
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
