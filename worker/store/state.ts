import { matchesPattern } from '../oci/location.ts';
import type { Digest } from '../oci/digest.ts';
import { optional } from '../util/optional.ts';
import { compareStrings } from '../util/text.ts';
import { compareImages, expandImage, type ExpandedImage } from './expanded.ts';
import type { SnapshotFailure, SnapshotImage, SnapshotRegistry, SnapshotRepository } from './snapshot.ts';
import type { NamedSnapshot, SnapshotName } from './snapshots.ts';

/** What a place of backups has of its registries at one moment. */
export interface State {
  /** By the host of their registry, then by name. */
  readonly repositories: readonly StateRepository[];
}

export interface StateRepository {
  readonly registry: SnapshotRegistry;
  readonly name: string;
  /** As the newest snapshot has them that has any. */
  readonly settings?: Readonly<Record<string, unknown>>;
  /** Whether a snapshot listed every tag: without one, more may have been there. */
  readonly complete: boolean;
  /** By their first tag, then digest. A tag is on one of them at most. */
  readonly images: readonly StateImage[];
  /** What was there and could not be backed up. An older copy of its tag is among the images where there is one. */
  readonly failures: readonly SnapshotFailure[];
}

export interface StateImage extends ExpandedImage {
  /** Where it is: in the store, or in its `archives`. */
  readonly kind: 'store' | 'archives';
  /** The newest snapshot that has it. */
  readonly snapshot: SnapshotName;
  /** Tags that are on this image in an older snapshot, and whose newer image could not be backed up. Absent: none. */
  readonly stale?: readonly string[];
}

/** What a fold keeps of an image, apart from its tags. */
interface Kept {
  readonly digest: Digest;
  readonly pushedAt?: string;
}

/** Returns what a fold keeps of an image of a snapshot. */
export type KeepImage<Image extends Kept> = (image: SnapshotImage, from: NamedSnapshot) => Image;

/** An image of a folded state: what was kept of it, with the tags that are on it. */
type FoldedImage<Image extends Kept> = Image & Pick<StateImage, 'tags' | 'stale' | 'pushedAt'>;

/** A state whose images have only what was kept of them. */
export interface FoldedState<Image extends Kept> {
  readonly repositories: readonly (Omit<StateRepository, 'images'> & {
    readonly images: readonly FoldedImage<Image>[];
  })[];
}

/** An image of a snapshot that counts: what is kept of it, with those of its tags that no newer snapshot decides. */
export interface CountedImage<Image extends Kept> {
  readonly image: Image;
  readonly tags: readonly string[];
  /** Whether it also counts where all its tags have moved. */
  readonly isUntagged: boolean;
}

/** Called with each image that counts, from the newest snapshot to the oldest. */
export type OnCounted<Image extends Kept> = (host: string, repository: string, counted: CountedImage<Image>) => void;

type WholeImage = Omit<StateImage, 'tags' | 'stale'>;

/** A fold that keeps everything of an image: its state is a `State`. */
export function wholeFold(): StateFold<WholeImage> {
  return new StateFold<WholeImage>((image, { name, snapshot }) => ({
    ...expandImage(snapshot, image),
    kind: snapshot.kind,
    snapshot: name,
  }));
}

/** The state at `timeMs`, from all snapshots that were finished until then, in any order. Pure. */
export function stateAt(snapshots: Iterable<NamedSnapshot>, timeMs: number): State {
  const fold = wholeFold();
  const until = [...snapshots].filter(({ name }) => name.finishedAtMs <= timeMs);
  for (const one of until.sort((a, b) => compareStrings(b.name.key, a.name.key))) fold.add(one);
  return fold.state();
}

/** A repository while older and older snapshots are added. */
interface OpenRepository<Image extends Kept> {
  registry: SnapshotRegistry;
  name: string;
  settings: SnapshotRepository['settings'];
  complete: boolean;
  /** Whether older snapshots say nothing more, except of tags that failed. */
  closed: boolean;
  /** Patterns of tags that were listed completely: an older snapshot adds nothing about them. */
  listedTags: Set<string>;
  /**
   * The image that has a tag; `failed` while none was found for a tag whose newest image could not be backed up, `missing` where that tag did not
   * exist before.
   */
  tags: Map<string, Digest | 'failed' | 'missing'>;
  images: Map<Digest, Draft<Image>>;
  failures: Map<string, SnapshotFailure>;
}

interface Draft<Image> {
  readonly image: Image;
  readonly tags: string[];
  readonly stale: string[];
  /** From the newest snapshot that has it: the copy of one tag does not. */
  pushedAt: string | undefined;
}

/**
 * Makes a state of snapshots that are added from the newest to the oldest. A repository is as the newest snapshot saw it that listed it completely,
 * with the images that later ones added. It is gone where a later snapshot listed the registry without it. What it keeps of a snapshot are the
 * images that count.
 */
export class StateFold<Image extends Kept> {
  readonly #registries = new Map<string, OpenRegistry<Image>>();
  readonly #keep: KeepImage<Image>;
  readonly #onCounted: OnCounted<Image> | undefined;

  constructor(keep: KeepImage<Image>, onCounted?: OnCounted<Image>) {
    this.#keep = keep;
    this.#onCounted = onCounted;
  }

  /** Returns whether it added anything: a state without the snapshot is another. */
  add({ name, snapshot }: NamedSnapshot): boolean {
    const { registry, scope } = snapshot;
    const known = this.#registries.get(registry.host) ?? new OpenRegistry<Image>();
    this.#registries.set(registry.host, known);
    const before = known.progress();
    const failures = Map.groupBy(snapshot.failures, ({ repository }) => repository);
    for (const repository of snapshot.repositories) {
      const open = known.open(registry, repository.name);
      if (open === undefined) continue;
      const failed = failures.get(repository.name) ?? [];
      addFailures(open, failed, new Set(repository.images.flatMap(({ tags }) => tags)));
      open.settings ??= open.closed ? undefined : repository.settings;
      for (const image of repository.images) {
        const isUntagged = image.tags.length === 0 || scope.untagged;
        this.#addImage(open, image, isUntagged, () => this.#keep(image, { name, snapshot }));
      }
      if (repository.complete) closeTags(open, scope.tags, new Set(failed.map(({ tag }) => tag)));
    }
    const named = new Set(snapshot.repositories.map((repository) => repository.name));
    for (const [repository, failed] of failures) {
      if (repository === undefined || named.has(repository)) continue;
      named.add(repository);
      const open = known.open(registry, repository);
      if (open !== undefined) addFailures(open, failed, new Set());
    }
    if (scope.listed) known.close(scope.repositories, named);
    return known.progress() > before;
  }

  /** Adds an image that counted in a fold of all older snapshots, in the order in which `onCounted` was called there. To be called last. */
  addCounted(host: string, repository: string, { image, tags, isUntagged }: CountedImage<Image>): void {
    const known = this.#registries.get(host) ?? new OpenRegistry<Image>();
    this.#registries.set(host, known);
    const open = known.open({ host }, repository);
    if (open !== undefined) this.#addImage(open, { ...image, tags }, isUntagged, () => image);
  }

  #addImage(
    open: OpenRepository<Image>,
    image: Pick<SnapshotImage, 'digest' | 'tags' | 'pushedAt'>,
    isUntagged: boolean,
    keep: () => Image,
  ): void {
    const tags = addImage(open, image, isUntagged, keep);
    if (tags === undefined || this.#onCounted === undefined) return;
    const counted = { image: keep(), tags, isUntagged: isUntagged && !open.closed };
    this.#onCounted(open.registry.host, open.name, counted);
  }

  /** Whether no older snapshot can add anything for this registry, or for these repositories of it. */
  isWhole(host: string, repositories?: readonly string[]): boolean {
    return this.#registries.get(host)?.isWhole(repositories) ?? false;
  }

  state(): FoldedState<Image> {
    const hosts = [...this.#registries].sort(([a], [b]) => compareStrings(a, b));
    return { repositories: hosts.flatMap(([, registry]) => registry.repositories()) };
  }
}

class OpenRegistry<Image extends Kept> {
  readonly #repositories = new Map<string, OpenRepository<Image>>();
  /** Patterns of repositories that were listed completely. */
  readonly #listed = new Set<string>();

  /** The repository, while an older snapshot may say something of it. */
  open(registry: SnapshotRegistry, name: string): OpenRepository<Image> | undefined {
    if (this.#isWhole(name)) return undefined;
    const known = this.#repositories.get(name);
    if (known !== undefined) return known;
    const opened: OpenRepository<Image> = {
      registry,
      name,
      settings: undefined,
      complete: false,
      closed: false,
      listedTags: new Set(),
      tags: new Map(),
      images: new Map(),
      failures: new Map(),
    };
    this.#repositories.set(name, opened);
    return opened;
  }

  /** Only `named` of the repositories that match existed. */
  close(pattern: string, named: ReadonlySet<string>): void {
    this.#listed.add(pattern);
    for (const [name, repository] of this.#repositories) {
      if (named.has(name) || !matchesPattern(pattern, name)) continue;
      // it was created later: all that it has is known
      repository.closed = true;
      for (const [tag, digest] of repository.tags) if (digest === 'failed') repository.tags.set(tag, 'missing');
    }
  }

  /** Grows with every change. */
  progress(): number {
    let known = this.#listed.size + this.#repositories.size;
    for (const { settings, complete, closed, listedTags, tags, images, failures } of this.#repositories.values()) {
      known += Number(settings !== undefined) + Number(complete) + Number(closed);
      known += listedTags.size + tags.size + images.size + failures.size;
      for (const digest of tags.values()) known += Number(digest !== 'failed');
      for (const { pushedAt } of images.values()) known += Number(pushedAt !== undefined);
    }
    return known;
  }

  isWhole(repositories?: readonly string[]): boolean {
    if (repositories === undefined)
      return this.#listed.has('*') && [...this.#repositories.keys()].every((name) => this.#isWhole(name));
    return repositories.every((name) => this.#isWhole(name));
  }

  /** Whether no older snapshot can add anything about the repository. */
  #isWhole(name: string): boolean {
    const known = this.#repositories.get(name);
    if (known !== undefined) return known.closed && !hasOpenFailures(known);
    return [...this.#listed].some((pattern) => matchesPattern(pattern, name));
  }

  repositories(): FoldedState<Image>['repositories'] {
    return [...this.#repositories.values()].sort((a, b) => compareStrings(a.name, b.name)).map(repositoryOf);
  }
}

function repositoryOf<Image extends Kept>({
  registry,
  name,
  settings,
  complete,
  images,
  failures,
}: OpenRepository<Image>): FoldedState<Image>['repositories'][number] {
  return {
    registry,
    name,
    ...(settings === undefined ? {} : { settings }),
    complete,
    images: Array.from(images.values(), imageOf).sort(compareImages),
    failures: [...failures.values()],
  };
}

function hasOpenFailures(repository: OpenRepository<Kept>): boolean {
  for (const digest of repository.tags.values()) if (digest === 'failed') return true;
  return false;
}

/** Adds an image of an older snapshot where it counts. Returns the tags that this snapshot puts on it; undefined where it does not count. */
function addImage<Image extends Kept>(
  open: OpenRepository<Image>,
  { digest, tags, pushedAt }: Pick<SnapshotImage, 'digest' | 'tags' | 'pushedAt'>,
  isUntagged: boolean,
  keep: () => Image,
): readonly string[] | undefined {
  const undecided = tags.filter((tag) => open.tags.get(tag) === 'failed' || !isDecided(open, tag));
  const known = open.images.get(digest);
  // when an image was pushed does not depend on the tag that names it
  if (known !== undefined && !open.closed) known.pushedAt ??= pushedAt;
  // an image whose tags moved has been untagged since
  if (undecided.length === 0 && (open.closed || !isUntagged)) return undefined;
  const draft = known ?? { image: keep(), tags: [], stale: [], pushedAt };
  open.images.set(digest, draft);
  for (const tag of undecided) {
    (open.tags.get(tag) === 'failed' ? draft.stale : draft.tags).push(tag);
    open.tags.set(tag, digest);
  }
  return undecided;
}

/** Whether newer snapshots say where the tag is, or that it does not exist. */
function isDecided(open: OpenRepository<Kept>, tag: string): boolean {
  return open.closed || open.tags.has(tag) || [...open.listedTags].some((pattern) => matchesPattern(pattern, tag));
}

/** Failures that no newer snapshot made up for. `tags` are those that the same snapshot has. */
function addFailures(
  open: OpenRepository<Kept>,
  failures: readonly SnapshotFailure[],
  tags: ReadonlySet<string>,
): void {
  if (open.closed) return;
  for (const failure of failures) {
    const { tag, digest } = failure;
    if (tag === undefined ? digest !== undefined && open.images.has(digest) : isDecided(open, tag)) continue;
    if (tag !== undefined && !tags.has(tag)) open.tags.set(tag, 'failed');
    const key = tag ?? digest ?? '';
    if (!open.failures.has(key)) open.failures.set(key, failure);
  }
}

/** Closes the tags that match: of those, an older snapshot counts only for the ones that failed. */
function closeTags(
  open: OpenRepository<Kept>,
  pattern: string | undefined,
  failed: ReadonlySet<string | undefined>,
): void {
  for (const [tag, digest] of open.tags) {
    const isListed = pattern === undefined || matchesPattern(pattern, tag);
    if (digest === 'failed' && isListed && !failed.has(tag)) open.tags.set(tag, 'missing');
  }
  if (pattern !== undefined) {
    open.listedTags.add(pattern);
    return;
  }
  open.complete ||= !open.closed;
  open.closed = true;
}

function imageOf<Image extends Kept>({ image, tags, stale, pushedAt }: Draft<Image>): FoldedImage<Image> {
  const all = [...tags, ...stale].sort(compareStrings);
  return { ...image, tags: all, ...optional('pushedAt', pushedAt), ...(stale.length === 0 ? {} : { stale }) };
}
