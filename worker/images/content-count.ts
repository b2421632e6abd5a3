import type { Digest } from '../oci/digest.ts';
import { compareStrings } from '../util/text.ts';

/** A blob or manifest that an image is made of. */
export interface CountedContent {
  readonly digest: Digest;
  readonly size: number;
}

interface RepositoryStats {
  /** Absent: the archive does not state it. */
  readonly registry?: string | undefined;
  readonly repository: string;
  readonly images: number;
  readonly tags: number;
  /** Each blob and manifest of the repository once: what a registry bills. */
  readonly bytes: number;
  /** Those that no other repository of the place has: what would be freed without it. */
  readonly ownBytes: number;
}

/** A layer that several images have. */
export interface SharedContent extends CountedContent {
  readonly images: number;
  readonly repositories: number;
}

/** How many images a place has, and how many bytes: each alone, and each digest once. */
export interface ContentStats {
  readonly repositories: readonly RepositoryStats[];
  readonly images: number;
  readonly tags: number;
  /** Each blob and manifest of the place once: what a store holds. */
  readonly uniqueBytes: number;
  /** Each once for every repository that has it: what registries hold. */
  readonly repositoryBytes: number;
  /** Everything of each image, once for each of its tags: what archives hold. */
  readonly archiveBytes: number;
  /** The largest savings first. */
  readonly shared: readonly SharedContent[];
}

interface Counted {
  readonly size: number;
  images: number;
  repositories: number;
  /** The last repository that has it, by its place in the list. */
  last: number;
}

const MOST_SHARED = 10;

/** Counts what images are made of. Its memory grows with the distinct digests. */
export class ContentCount {
  readonly #content = new Map<Digest, Counted>();
  readonly #repositories: {
    name: string;
    registry: string | undefined;
    images: number;
    tags: number;
    bytes: number;
  }[] = [];
  #archiveBytes = 0;

  /** Begins a repository: the images that follow are of it. */
  repository(registry: string | undefined, name: string): void {
    this.#repositories.push({ registry, name, images: 0, tags: 0, bytes: 0 });
  }

  /** An image of the repository that was begun last: everything that it and what refers to it are made of, in any order. */
  image(tags: number, content: Iterable<CountedContent>): void {
    const place = this.#repositories.length - 1;
    const repository = this.#repositories[place];
    if (repository === undefined) return;
    repository.images++;
    repository.tags += tags;
    let bytes = 0;
    const seen = new Set<Digest>();
    for (const { digest, size } of content) {
      if (seen.has(digest)) continue;
      seen.add(digest);
      bytes += size;
      const known = this.#content.get(digest) ?? { size, images: 0, repositories: 0, last: -1 };
      this.#content.set(digest, known);
      known.images++;
      if (known.last === place) continue;
      known.last = place;
      known.repositories++;
      repository.bytes += size;
    }
    this.#archiveBytes += bytes * Math.max(1, tags);
  }

  stats(): ContentStats {
    const own = this.#repositories.map(() => 0);
    let uniqueBytes = 0;
    for (const { size, repositories, last } of this.#content.values()) {
      uniqueBytes += size;
      if (repositories === 1) own[last] = (own[last] ?? 0) + size;
    }
    const repositories = this.#repositories.map(({ registry, name, images, tags, bytes }, place) => ({
      registry,
      repository: name,
      images,
      tags,
      bytes,
      ownBytes: own[place] ?? 0,
    }));
    const sum = (of: (one: RepositoryStats) => number): number =>
      repositories.reduce((total, one) => total + of(one), 0);
    return {
      repositories,
      images: sum(({ images }) => images),
      tags: sum(({ tags }) => tags),
      uniqueBytes,
      repositoryBytes: sum(({ bytes }) => bytes),
      archiveBytes: this.#archiveBytes,
      shared: this.#mostShared(),
    };
  }

  #mostShared(): readonly SharedContent[] {
    const saved = ({ size, images }: SharedContent): number => size * (images - 1);
    let most: SharedContent[] = [];
    for (const [digest, { size, images, repositories }] of this.#content) {
      if (images < 2) continue;
      most.push({ digest, size, images, repositories });
      // now and then, not each time
      if (most.length > 100 * MOST_SHARED) most = most.sort((a, b) => saved(b) - saved(a)).slice(0, MOST_SHARED);
    }
    return most.sort((a, b) => saved(b) - saved(a) || compareStrings(a.digest, b.digest)).slice(0, MOST_SHARED);
  }
}
