import type { Digest } from '../../worker/oci/digest.ts';
import type { Clock } from '../../worker/util/clock.ts';
import { TokenIssuer } from '../registry/seal.ts';
import { deniesAction } from './registry-policy.ts';
import type { RegistryStore, RepositorySettings, StoredManifest, StoredRepository } from '../registry/store.ts';

export interface EcrOptions {
  /** Twelve digits. */
  readonly account: string;
  readonly region: string;
  /** Default 12 hours, as ECR has it. */
  readonly tokenLifetimeSeconds?: number;
  /** Manifests that may be pushed in a second, and at once. Default: any number. */
  readonly putImagesPerSecond?: number;
  /** How long restoring an archived image takes. Default 0. */
  readonly restoreSeconds?: number;
  /** How long the address of a layer can be used. Default one hour. */
  readonly layerUrlSeconds?: number;
  /** IAM actions that the caller is not allowed. */
  readonly deny?: readonly `ecr:${string}`[];
}

export type ImageStatus = 'ACTIVE' | 'ARCHIVED' | 'ACTIVATING';

const DAY_MS = 24 * 3600 * 1000;
// https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html#registry-auth-token
const TOKEN_LIFETIME_SECONDS = 12 * 3600;
/** The name that IAM has for the caller: every caller has the same one here. */
const PRINCIPAL = 'assumed-role/transship/local';

/** One account's Amazon ECR in one region: what its JSON API and its `/v2/` share. */
export class Ecr {
  readonly account: string;
  readonly region: string;
  /** `111111111111.dkr.ecr.us-east-1.amazonaws.com`. */
  readonly host: string;
  readonly store: RegistryStore;
  readonly clock: Clock;
  readonly tokens: TokenIssuer;
  readonly tokenLifetimeSeconds: number;
  readonly #partition: string;
  readonly #deny: ReadonlySet<string>;
  readonly #restoreMs: number;
  readonly #puts: TokenBucket | undefined;

  constructor(store: RegistryStore, clock: Clock, options: EcrOptions) {
    this.account = options.account;
    this.region = options.region;
    this.store = store;
    this.clock = clock;
    this.tokens = new TokenIssuer(clock);
    this.tokenLifetimeSeconds = options.tokenLifetimeSeconds ?? TOKEN_LIFETIME_SECONDS;
    const china = options.region.startsWith('cn-');
    this.#partition = china ? 'aws-cn' : options.region.startsWith('us-gov-') ? 'aws-us-gov' : 'aws';
    this.host = `${options.account}.dkr.ecr.${options.region}.amazonaws.com${china ? '.cn' : ''}`;
    this.#deny = new Set<string>(options.deny);
    this.#restoreMs = (options.restoreSeconds ?? 0) * 1000;
    this.#puts =
      options.putImagesPerSecond === undefined ? undefined : new TokenBucket(options.putImagesPerSecond, clock);
  }

  /** JSON. */
  get registryPolicy(): string | undefined {
    return this.store.account.get('registry policy');
  }

  arnOf(repository: string): string {
    return `arn:${this.#partition}:ecr:${this.region}:${this.account}:repository/${repository}`;
  }

  /** IAM's sentence for why the caller may not do this to `resource`, or undefined where it may. */
  denialOf(action: string, resource: string): string | undefined {
    const user = `arn:${this.#partition}:sts::${this.account}:${PRINCIPAL}`;
    const policy = this.registryPolicy;
    if (policy !== undefined && deniesAction(policy, action, this.account))
      return `User: ${user} is not authorized to perform: ${action} on resource: ${resource} with an explicit deny in a resource-based policy`;
    if (!this.#deny.has(action)) return undefined;
    return `User: ${user} is not authorized to perform: ${action} on resource: ${resource} because no identity-based policy allows the ${action} action`;
  }

  /** Counts a push of a manifest; false when too many were pushed just now. */
  mayPut(): boolean {
    return this.#puts?.take() ?? true;
  }

  statusOf(image: StoredManifest): ImageStatus {
    if (image.archivedAtMs !== undefined) return 'ARCHIVED';
    return (image.activatedAtMs ?? 0) > this.clock.now() ? 'ACTIVATING' : 'ACTIVE';
  }

  archive(repository: StoredRepository, image: StoredManifest): ImageStatus {
    const archived = { ...image, archivedAtMs: this.clock.now() };
    this.store.updateManifest(repository, archived);
    return this.statusOf(archived);
  }

  /** Brings an image back from the archive; it is `ACTIVATING` for a while. */
  activate(repository: StoredRepository, image: StoredManifest): ImageStatus {
    const { archivedAtMs: _, ...rest } = image;
    const activated = { ...rest, activatedAtMs: this.clock.now() + this.#restoreMs };
    this.store.updateManifest(repository, activated);
    return this.statusOf(activated);
  }

  /** https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageDetail.html: the time is refreshed once a day. */
  recordPull(repository: StoredRepository, image: StoredManifest): void {
    const now = this.clock.now();
    if (image.pulledAtMs !== undefined && now - image.pulledAtMs < DAY_MS) return;
    this.store.updateManifest(repository, { ...image, pulledAtMs: now });
  }

  /** Removes the tag, and with the last tag the image. */
  removeTag(repository: StoredRepository, tag: string, image: StoredManifest): void {
    this.store.untag(repository, tag);
    if (tagsOf(repository, image.digest).length === 0) this.removeImage(repository, image);
  }

  /** Removes the image with all its tags, and the layers that no other image has: ECR cleans them up "at any time". */
  removeImage(repository: StoredRepository, image: StoredManifest): void {
    this.store.deleteManifest(repository, image.digest);
    for (const child of image.children) {
      if (repository.blobs.has(child) && holdersOf(repository, child).length === 0)
        this.store.unlinkBlob(repository, child);
    }
  }
}

/** The tags of an image, sorted. */
export function tagsOf(repository: StoredRepository, digest: Digest): readonly string[] {
  return [...repository.tags]
    .filter(([, target]) => target === digest)
    .map(([tag]) => tag)
    .sort();
}

/** The manifests that name `digest` as part of them. */
export function holdersOf(repository: StoredRepository, digest: Digest): readonly StoredManifest[] {
  return [...repository.manifests.values()].filter((manifest) => manifest.children.includes(digest));
}

/** https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-tag-mutability.html */
export function isImmutable(settings: RepositorySettings, tag: string): boolean {
  const excluded = (): boolean => settings.exclusions.some((filter) => wildcard(filter).test(tag));
  switch (settings.mutability) {
    case 'MUTABLE':
      return false;
    case 'IMMUTABLE':
      return true;
    case 'MUTABLE_WITH_EXCLUSION':
      return excluded();
    case 'IMMUTABLE_WITH_EXCLUSION':
      return !excluded();
    default:
      return settings.mutability satisfies never;
  }
}

function wildcard(filter: string): RegExp {
  return new RegExp(`^${filter.replaceAll('.', '\\.').replaceAll('*', '.*')}$`);
}

/** So many at once, and as many more each second. */
class TokenBucket {
  readonly #perSecond: number;
  readonly #clock: Clock;
  #tokens: number;
  #filledMs: number;

  constructor(perSecond: number, clock: Clock) {
    this.#perSecond = perSecond;
    this.#clock = clock;
    this.#tokens = perSecond;
    this.#filledMs = clock.now();
  }

  take(): boolean {
    const now = this.#clock.now();
    this.#tokens = Math.min(this.#perSecond, this.#tokens + ((now - this.#filledMs) / 1000) * this.#perSecond);
    this.#filledMs = now;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}
