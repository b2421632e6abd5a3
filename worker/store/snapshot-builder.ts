import type { Digest } from '../oci/digest.ts';
import { Failure } from '../util/failure.ts';
import { compareStrings, quote } from '../util/text.ts';
import { compareImages, type ExpandedImage } from './expanded.ts';
import type {
  Snapshot,
  SnapshotArchive,
  SnapshotContent,
  SnapshotFailure,
  SnapshotImage,
  SnapshotReferrer,
  SnapshotRepository,
} from './snapshot.ts';
import { SNAPSHOT_VERSION } from './snapshot-schema.ts';

/** What is known of a snapshot before its images are. */
export type SnapshotFacts = Pick<Snapshot, 'startedAt' | 'tool' | 'rule' | 'run' | 'kind' | 'registry' | 'scope'>;

/** An image that was backed up. `bytes` is counted from the content, except for an archived image, whose content is not stored. */
export type BackedUpImage = Omit<ExpandedImage, 'bytes'> & { readonly bytes?: number };

interface RepositoryDraft extends Pick<SnapshotRepository, 'complete' | 'settings'> {
  readonly images: Map<Digest, SnapshotImage>;
}

/** Gathers what a backup stored, in any order, and makes the document of it. Its memory is that of the document. */
export class SnapshotBuilder {
  readonly #facts: SnapshotFacts;
  readonly #places = new Map<Digest, number>();
  readonly #content: SnapshotContent[] = [];
  readonly #repositories = new Map<string, RepositoryDraft>();
  readonly #failures: SnapshotFailure[] = [];

  constructor(facts: SnapshotFacts) {
    this.#facts = facts;
  }

  /** Adds a repository, also one without images. BUG for one that was added. */
  repository(name: string, facts: Pick<SnapshotRepository, 'complete' | 'settings'>): void {
    if (this.#repositories.has(name)) throw new Failure('BUG', `the repository ${quote(name)} is added twice`);
    this.#repositories.set(name, { ...facts, images: new Map() });
  }

  /** Marks a repository, which is added where it was not, as one whose images were not all looked at. */
  incomplete(name: string): void {
    this.#repositories.set(name, { images: new Map(), ...this.#repositories.get(name), complete: false });
  }

  /**
   * Adds an image to a repository that was added. A digest that is there already gets the other tags and archives too. BUG without the
   * repository, and for content whose size is another than it was before.
   */
  image(repository: string, image: BackedUpImage): void {
    const draft = this.#repositories.get(repository);
    if (draft === undefined) throw new Failure('BUG', `the repository ${quote(repository)} is not added`);
    const before = draft.images.get(image.digest);
    const added = this.#intern(image);
    draft.images.set(image.digest, before === undefined ? added : merged(before, added));
  }

  failure(failure: SnapshotFailure): void {
    this.#failures.push(failure);
  }

  /** The document: equal for equal additions in any order. */
  finish(end: Pick<Snapshot, 'finishedAt' | 'added'>): Snapshot {
    // places by first use, so that the order of additions does not show
    const order = new Map<number, number>();
    const renumbered = (places: readonly number[]): readonly number[] =>
      places.map((place) => {
        const known = order.get(place) ?? order.size;
        order.set(place, known);
        return known;
      });
    const repositories: SnapshotRepository[] = [];
    for (const [name, draft] of [...this.#repositories].sort(([a], [b]) => compareStrings(a, b))) {
      const images: SnapshotImage[] = [];
      for (const image of [...draft.images.values()].sort(compareImages)) {
        const content = renumbered(image.content);
        const referrers: SnapshotReferrer[] = [];
        for (const referrer of image.referrers) referrers.push({ ...referrer, content: renumbered(referrer.content) });
        images.push({ ...image, content, referrers });
      }
      repositories.push({ name, ...draft, images });
    }
    return {
      version: SNAPSHOT_VERSION,
      ...this.#facts,
      ...end,
      content: [...order.keys()].flatMap((place) => this.#content[place] ?? []),
      repositories,
      failures: this.#failures.toSorted(compareFailures),
    };
  }

  #intern(image: BackedUpImage): SnapshotImage {
    const referrers = image.referrers.map((referrer) => ({ ...referrer, content: this.#placesOf(referrer.content) }));
    const content = this.#placesOf(image.content);
    const all = new Set([content, ...referrers.map((referrer) => referrer.content)].flat());
    let bytes = 0;
    for (const place of all) bytes += this.#content[place]?.size ?? 0;
    return { ...image, tags: sorted(image.tags), bytes: image.bytes ?? bytes, content, referrers };
  }

  #placesOf(content: readonly SnapshotContent[]): readonly number[] {
    return content.map((one) => {
      const known = this.#places.get(one.digest);
      if (known === undefined) {
        this.#places.set(one.digest, this.#content.length);
        return this.#content.push(one) - 1;
      }
      const before = this.#content[known];
      if (before?.size !== one.size)
        throw new Failure('BUG', `${one.digest} has ${one.size} bytes, and had ${before?.size} before`);
      // a manifest that was also listed as a blob
      if (before.mediaType === undefined && one.mediaType !== undefined) this.#content[known] = one;
      return known;
    });
  }
}

/** One image that was added twice, under other tags. The referrers are those of the later. */
function merged(before: SnapshotImage, added: SnapshotImage): SnapshotImage {
  const archives = new Map<string | undefined, SnapshotArchive>(
    [...(before.archives ?? []), ...(added.archives ?? [])].map((archive) => [archive.tag, archive]),
  );
  return {
    ...before,
    ...added,
    tags: sorted(new Set([...before.tags, ...added.tags])),
    ...(archives.size === 0 ? {} : { archives: [...archives.values()].sort(compareArchives) }),
  };
}

function sorted(tags: Iterable<string>): readonly string[] {
  return [...tags].sort(compareStrings);
}

function compareArchives(a: SnapshotArchive, b: SnapshotArchive): number {
  return compareStrings(a.tag ?? '', b.tag ?? '');
}

function compareFailures(a: SnapshotFailure, b: SnapshotFailure): number {
  const key = ({ repository, tag, digest, reason }: SnapshotFailure): string =>
    [repository, tag, digest, reason].join('\n');
  return compareStrings(key(a), key(b));
}
