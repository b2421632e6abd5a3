import { matchesPattern } from '../oci/location.ts';
import type { Digest } from '../oci/digest.ts';
import { compareStrings } from '../util/text.ts';
import { compareImages, expandImage, type ExpandedImage } from './expanded.ts';
import type { SnapshotFailure, SnapshotRegistry, SnapshotRepository } from './snapshot.ts';
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

/** The state at `timeMs`, from all snapshots that were finished until then, in any order. Pure. */
export function stateAt(snapshots: Iterable<NamedSnapshot>, timeMs: number): State {
  const fold = new StateFold();
  const until = [...snapshots].filter(({ name }) => name.finishedAtMs <= timeMs);
  for (const one of until.sort((a, b) => compareStrings(b.name.key, a.name.key))) fold.add(one);
  return fold.state();
}

/** A repository while older and older snapshots are added. */
interface OpenRepository {
  registry: SnapshotRegistry;
  name: string;
  settings: SnapshotRepository['settings'];
  complete: boolean;
  /** Whether older snapshots say nothing more, except of tags that failed. */
  closed: boolean;
  /** Patterns of tags that were listed completely: an older snapshot says nothing more of them. */
  listedTags: Set<string>;
  /**
   * The image that has a tag; `failed` while none was found for a tag whose newest image could not be backed up, `missing` where that tag did not
   * exist before.
   */
  tags: Map<string, Digest | 'failed' | 'missing'>;
  images: Map<Digest, Draft>;
  failures: Map<string, SnapshotFailure>;
}

interface Draft {
  readonly image: Omit<StateImage, 'tags' | 'stale'>;
  readonly tags: string[];
  readonly stale: string[];
}

/**
 * Makes a state of snapshots that are added from the newest to the oldest. A repository is as the newest snapshot saw it that listed it completely,
 * with the images that later ones added. It is gone where a later snapshot listed the registry without it. What it keeps of a snapshot are the
 * images that count.
 */
export class StateFold {
  readonly #registries = new Map<string, OpenRegistry>();

  /** Returns whether it added anything: a state without the snapshot is another. */
  add({ name, snapshot }: NamedSnapshot): boolean {
    const { registry, scope } = snapshot;
    const known = this.#registries.get(registry.host) ?? new OpenRegistry();
    this.#registries.set(registry.host, known);
    const before = known.progress();
    const failures = Map.groupBy(snapshot.failures, ({ repository }) => repository);
    for (const repository of snapshot.repositories) {
      const open = known.open(registry, repository.name);
      if (open === undefined) continue;
      const failed = failures.get(repository.name) ?? [];
      addFailures(open, failed, new Set(repository.images.flatMap(({ tags }) => tags)));
      addImages(open, repository, { name, snapshot });
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

  /** Whether no older snapshot can add anything for this registry. */
  isWhole(host: string): boolean {
    return this.#registries.get(host)?.isWhole() ?? false;
  }

  state(): State {
    const hosts = [...this.#registries].sort(([a], [b]) => compareStrings(a, b));
    return { repositories: hosts.flatMap(([, registry]) => registry.repositories()) };
  }
}

class OpenRegistry {
  readonly #repositories = new Map<string, OpenRepository>();
  /** Patterns of repositories that were listed completely. */
  readonly #listed = new Set<string>();

  /** The repository, while an older snapshot may say something of it. */
  open(registry: SnapshotRegistry, name: string): OpenRepository | undefined {
    const known = this.#repositories.get(name);
    if (known !== undefined) return known.closed && !hasOpenFailures(known) ? undefined : known;
    if ([...this.#listed].some((pattern) => matchesPattern(pattern, name))) return undefined;
    const opened: OpenRepository = {
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

  /** How much is known: every change makes it larger. */
  progress(): number {
    let known = this.#listed.size + this.#repositories.size;
    for (const { settings, complete, closed, listedTags, tags, images, failures } of this.#repositories.values()) {
      known += Number(settings !== undefined) + Number(complete) + Number(closed);
      known += listedTags.size + tags.size + images.size + failures.size;
      for (const digest of tags.values()) known += Number(digest !== 'failed');
    }
    return known;
  }

  isWhole(): boolean {
    return (
      this.#listed.has('*') && [...this.#repositories.values()].every((one) => one.closed && !hasOpenFailures(one))
    );
  }

  repositories(): readonly StateRepository[] {
    return [...this.#repositories.values()].sort((a, b) => compareStrings(a.name, b.name)).map(repositoryOf);
  }
}

function repositoryOf({ registry, name, settings, complete, images, failures }: OpenRepository): StateRepository {
  return {
    registry,
    name,
    ...(settings === undefined ? {} : { settings }),
    complete,
    images: [...images.values()].map(imageOf).sort(compareImages),
    failures: [...failures.values()],
  };
}

function hasOpenFailures(repository: OpenRepository): boolean {
  for (const digest of repository.tags.values()) if (digest === 'failed') return true;
  return false;
}

function addImages(open: OpenRepository, repository: SnapshotRepository, { name, snapshot }: NamedSnapshot): void {
  open.settings ??= open.closed ? undefined : repository.settings;
  const { kind } = snapshot;
  for (const image of repository.images) {
    const undecided = image.tags.filter((tag) => open.tags.get(tag) === 'failed' || !isDecided(open, tag));
    // an image whose tags moved is untagged since
    const isUntagged = !open.closed && (image.tags.length === 0 || snapshot.scope.untagged);
    if (undecided.length === 0 && !isUntagged) continue;
    const draft = open.images.get(image.digest) ?? {
      image: { ...expandImage(snapshot, image), kind, snapshot: name },
      tags: [],
      stale: [],
    };
    open.images.set(image.digest, draft);
    for (const tag of undecided) {
      (open.tags.get(tag) === 'failed' ? draft.stale : draft.tags).push(tag);
      open.tags.set(tag, image.digest);
    }
  }
}

/** Whether newer snapshots say where the tag is, or that it does not exist. */
function isDecided(open: OpenRepository, tag: string): boolean {
  return open.closed || open.tags.has(tag) || [...open.listedTags].some((pattern) => matchesPattern(pattern, tag));
}

/** Failures that no newer snapshot made up for. `tags` are those that the same snapshot has. */
function addFailures(open: OpenRepository, failures: readonly SnapshotFailure[], tags: ReadonlySet<string>): void {
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
function closeTags(open: OpenRepository, pattern: string | undefined, failed: ReadonlySet<string | undefined>): void {
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

function imageOf({ image, tags, stale }: Draft): StateImage {
  const all = [...tags, ...stale].sort(compareStrings);
  return { ...image, tags: all, ...(stale.length === 0 ? {} : { stale }) };
}
