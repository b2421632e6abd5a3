import type { Digest } from '../worker/oci/digest.ts';
import type { Clock } from '../worker/util/clock.ts';
import { TokenIssuer } from './registry-seal.ts';
import type { RegistryStore, RepositorySettings, StoredManifest, StoredRepository } from './registry-store.ts';

export interface EcrOptions {
  /** Twelve digits. */
  readonly account: string;
  readonly region: string;
  /** Default 12 hours, as ECR has it. */
  readonly tokenLifetimeSeconds?: number;
  /** Manifests that may be pushed in a second, and at once. Default: any number. */
  readonly putImagesPerSecond?: number;
  /** How long an archived image takes to come back. Default 0. */
  readonly restoreSeconds?: number;
  /** How long the address of a layer can be used. Default one hour. */
  readonly layerUrlSeconds?: number;
  /** IAM actions that the caller is not allowed. */
  readonly deny?: readonly `ecr:${string}`[];
}

export type ImageStatus = 'ACTIVE' | 'ARCHIVED' | 'ACTIVATING';

// https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html#registry-auth-token
const TOKEN_LIFETIME_SECONDS = 12 * 3600;
/** How IAM calls whoever asks: everybody is the same here. */
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

  constructor(store: RegistryStore, clock: Clock, o: EcrOptions) {
    this.account = o.account;
    this.region = o.region;
    this.store = store;
    this.clock = clock;
    this.tokens = new TokenIssuer(clock);
    this.tokenLifetimeSeconds = o.tokenLifetimeSeconds ?? TOKEN_LIFETIME_SECONDS;
    const china = o.region.startsWith('cn-');
    this.#partition = china ? 'aws-cn' : o.region.startsWith('us-gov-') ? 'aws-us-gov' : 'aws';
    this.host = `${o.account}.dkr.ecr.${o.region}.amazonaws.com${china ? '.cn' : ''}`;
    this.#deny = new Set<string>(o.deny);
    this.#restoreMs = (o.restoreSeconds ?? 0) * 1000;
    this.#puts = o.putImagesPerSecond === undefined ? undefined : new TokenBucket(o.putImagesPerSecond, clock);
  }

  arnOf(repository: string): string {
    return `arn:${this.#partition}:ecr:${this.region}:${this.account}:repository/${repository}`;
  }

  /** IAM's sentence for why the caller may not do this to `resource`, or undefined where it may. */
  denialOf(action: string, resource: string): string | undefined {
    if (!this.#deny.has(action)) return undefined;
    const user = `arn:${this.#partition}:sts::${this.account}:${PRINCIPAL}`;
    return `User: ${user} is not authorized to perform: ${action} on resource: ${resource} because no identity-based policy allows the ${action} action`;
  }

  /** Counts a push of a manifest; false when there were too many just now. */
  mayPut(): boolean {
    return this.#puts?.take() ?? true;
  }

  statusOf(image: StoredManifest): ImageStatus {
    if (image.archivedAtMs !== undefined) return 'ARCHIVED';
    return (image.activatedAtMs ?? 0) > this.clock.now() ? 'ACTIVATING' : 'ACTIVE';
  }

  archive(r: StoredRepository, image: StoredManifest): ImageStatus {
    const archived = { ...image, archivedAtMs: this.clock.now() };
    this.store.updateManifest(r, archived);
    return this.statusOf(archived);
  }

  /** Brings an image back from the archive; it is `ACTIVATING` for a while. */
  activate(r: StoredRepository, image: StoredManifest): ImageStatus {
    const { archivedAtMs: _, ...rest } = image;
    const activated = { ...rest, activatedAtMs: this.clock.now() + this.#restoreMs };
    this.store.updateManifest(r, activated);
    return this.statusOf(activated);
  }

  /** Removes the tag, and with the last tag the image. */
  removeTag(r: StoredRepository, tag: string, image: StoredManifest): void {
    this.store.untag(r, tag);
    if (tagsOf(r, image.digest).length === 0) this.removeImage(r, image);
  }

  /** Removes the image with all its tags, and the layers that no other image has: ECR cleans them up "at any time". */
  removeImage(r: StoredRepository, image: StoredManifest): void {
    this.store.deleteManifest(r, image.digest);
    for (const child of image.children) {
      if (r.blobs.has(child) && holdersOf(r, child).length === 0) this.store.unlinkBlob(r, child);
    }
  }
}

/** The tags of an image, sorted. */
export function tagsOf(r: StoredRepository, digest: Digest): readonly string[] {
  return [...r.tags]
    .filter(([, target]) => target === digest)
    .map(([tag]) => tag)
    .sort();
}

/** The manifests that name `digest` as part of them. */
export function holdersOf(r: StoredRepository, digest: Digest): readonly StoredManifest[] {
  return [...r.manifests.values()].filter((manifest) => manifest.children.includes(digest));
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
