import { optional } from '../util/optional.ts';
import type { SnapshotImage, SnapshotReferrer } from './snapshot.ts';
import { StateFold, type CountedImage, type FoldedState } from './state.ts';

/** What `index.json` needs of an image. */
export interface IndexImage extends Pick<SnapshotImage, 'digest' | 'mediaType' | 'size' | 'archived'> {
  readonly kind: 'store' | 'archives';
  readonly referrers: readonly Omit<SnapshotReferrer, 'content'>[];
}

/** The part of a state that `index.json` is made of. */
export type IndexState = FoldedState<IndexImage>;

/** The images that count, by the host of their registry, then by their repository, in the order in which a fold met them. */
export type CountedImages = ReadonlyMap<string, ReadonlyMap<string, readonly CountedImage<IndexImage>[]>>;

/** A fold of snapshots that keeps what `index.json` needs. */
export class IndexFold {
  readonly #counted = new Map<string, Map<string, CountedImage<IndexImage>[]>>();
  readonly #untagged = new Set<string>();
  readonly #fold: StateFold<IndexImage>;

  /** `gathers`: whether `counted` is filled. Default false. */
  constructor({ gathers = false }: { readonly gathers?: boolean } = {}) {
    this.#fold = new StateFold<IndexImage>(
      ({ digest, mediaType, size, archived, referrers }, { snapshot: { kind } }) => ({
        digest,
        mediaType,
        size,
        kind,
        ...(archived === undefined ? {} : { archived }),
        referrers: referrers.map((one) => ({
          digest: one.digest,
          mediaType: one.mediaType,
          size: one.size,
          ...optional('artifactType', one.artifactType),
          subject: one.subject,
          tags: one.tags,
        })),
      }),
      gathers ? (host, repository, counted) => this.#gather(host, repository, counted) : undefined,
    );
  }

  /** The images that count in the snapshots that were added. Another fold that gets newer snapshots, then these, has the state of all. */
  get counted(): CountedImages {
    return this.#counted;
  }

  /** As `StateFold.add`: from the newest snapshot to the oldest. */
  add(...one: Parameters<StateFold<IndexImage>['add']>): void {
    this.#fold.add(...one);
  }

  /** Adds the images that count in all older snapshots. To be called last. */
  addOlder(older: CountedImages): void {
    for (const [host, repositories] of older)
      for (const [name, images] of repositories)
        for (const counted of images) this.#fold.addCounted(host, name, counted);
  }

  state(): IndexState {
    return this.#fold.state();
  }

  #gather(host: string, repository: string, counted: CountedImage<IndexImage>): void {
    const { tags, isUntagged, image } = counted;
    const id = `${host}/${repository}@${image.digest}`;
    // without further tags an image counts once
    if (tags.length === 0 && this.#untagged.has(id)) return;
    if (isUntagged) this.#untagged.add(id);
    const repositories = this.#counted.get(host) ?? new Map<string, CountedImage<IndexImage>[]>();
    this.#counted.set(host, repositories);
    const images = repositories.get(repository) ?? [];
    repositories.set(repository, images);
    images.push(counted);
  }
}
