import type { Digest } from '../oci/digest.ts';
import { cosignSubject } from '../oci/derived-tag.ts';
import { childrenOf, isIndexType, parseManifest } from '../oci/manifest.ts';
import { type Abortable } from '../util/abort.ts';
import { describeFailure, Failure, isFailure } from '../util/failure.ts';
import { Limit } from '../util/limit.ts';
import { awaitActive, notActive, RESTORE_MS, type AwaitActiveOptions } from './await-active.ts';
import type { ListedImage, Registry, StorageClasses } from './backends.ts';
import type { RestoredImages } from './restored-images.ts';

/** A repository of ECR whose archived images are restored for a backup. */
export interface ArchivedImagesRequest {
  readonly registry: Registry;
  readonly repository: string;
  /** The whole list of the repository. */
  readonly rows: readonly ListedImage[];
  /** Where restored images are noted. */
  readonly restored: RestoredImages;
  /**
   * False: a job does not wait for images, but asks `isReady` again in its next pass. What it does not finish stays noted and in STANDARD for that.
   * Default true.
   */
  readonly waits?: boolean | undefined;
}

/** Calls of `during` that hold restored images at once: a kill leaves the images of so many in STANDARD. */
const AT_ONCE = 100;
/** How long one image that is archived again may hold up a backup that was stopped. */
const STOP_MS = 20_000;

/**
 * The images of one repository of ECR that are in its archive storage class. They cannot be pulled: a backup restores them, copies them and
 * archives them again. Restoring takes up to 20 minutes, and an image that is archived again is billed for at least 90 days:
 * https://docs.aws.amazon.com/AmazonECR/latest/userguide/archive_restore_image.html
 */
export class ArchivedImages implements AsyncDisposable {
  readonly #request: ArchivedImagesRequest;
  readonly #options: AwaitActiveOptions;
  readonly #storage: StorageClasses;
  readonly #rows: ReadonlyMap<Digest, ListedImage>;
  readonly #referrers: ReadonlyMap<Digest, readonly Digest[]>;
  /** When each image that is not archived again yet was noted. */
  readonly #noted: Map<Digest, number>;
  /** What an earlier backup restored, and this one has not archived again yet. */
  readonly #left: Set<Digest>;
  /** What is in STANDARD, or on its way there, for this backup or an earlier one. A note alone may be of an image that is archived again, or gone. */
  readonly #begun: Set<Digest>;
  /** What became of images since they were listed. */
  readonly #changed = new Map<Digest, ListedImage['status']>();
  /** Images that the next pass needs: this one does not archive them again. */
  readonly #kept = new Set<Digest>();
  readonly #held = new Map<Digest, { count: number; readonly active: Promise<void> }>();
  readonly #places = new Limit(AT_ONCE);
  readonly #awaitActive: (digest: Digest) => Promise<void>;

  private constructor(
    request: ArchivedImagesRequest,
    storage: StorageClasses,
    noted: ReadonlyMap<Digest, number>,
    options: AwaitActiveOptions,
  ) {
    this.#request = request;
    this.#options = options;
    this.#storage = storage;
    this.#rows = new Map(request.rows.map((row) => [row.digest, row]));
    this.#referrers = referrersIn(request.rows);
    this.#noted = new Map(noted);
    const isRestored = (digest: Digest): boolean => (this.#rows.get(digest)?.status ?? 'ARCHIVED') !== 'ARCHIVED';
    this.#left = new Set([...noted.keys()].filter(isRestored));
    this.#begun = new Set(this.#left);
    this.#awaitActive = awaitActive(request.repository, storage, options);
  }

  /**
   * Reads which images an earlier backup restored and did not archive again. `options.waitMs` is how long an image may take to become active.
   * UNSUPPORTED where the registry has no storage classes.
   */
  static async open(request: ArchivedImagesRequest, options: AwaitActiveOptions): Promise<ArchivedImages> {
    const { repository, registry, restored } = request;
    const { storageClasses } = registry;
    if (storageClasses === undefined)
      throw new Failure(
        'UNSUPPORTED',
        `${repository}: only private registries of Amazon ECR have an archive storage class`,
      );
    return new ArchivedImages(request, storageClasses, await restored.of(repository, options), options);
  }

  /** Whether the image, or something that refers to it, is archived: it can be read only by `during`. */
  isArchived(digest: Digest): boolean {
    return this.#withReferrers([digest]).some((one) => this.#isOurs(one) || this.#status(one) === 'ACTIVATING');
  }

  /**
   * Runs `work` while the image, its children and all that refers to them are in STANDARD. Those that were archived are archived again after it, also
   * when it fails; one that cannot be is a warning. Call it for all images at once: it holds a hundred at once, and images that share children share
   * the wait. DENIED without ecr:UpdateImageStorageClass; UNAVAILABLE where an image is not active in time.
   */
  async during<T>(digest: Digest, work: () => Promise<T>): Promise<T> {
    const giveBack = await this.#places.take(1, this.#options);
    const held: Digest[] = [];
    try {
      for (let next = this.#withReferrers([digest]); next.length > 0;) {
        await this.#hold(next, held);
        const seen = new Set([...held, ...next]);
        next = this.#withReferrers(await this.#children(next)).filter((one) => !seen.has(one));
      }
      return await work();
    } finally {
      await this.#release(held);
      giveBack();
    }
  }

  /**
   * Whether `during` could run for the image without waiting. Asks for the restore of what it would wait for, unless a hundred images of the
   * repository are restored already. DENIED without ecr:UpdateImageStorageClass; UNAVAILABLE where an image is not active in time.
   */
  async isReady(digest: Digest): Promise<boolean> {
    const needed = new Set<Digest>();
    const isActive = (one: Digest): boolean => (this.#status(one) ?? 'ACTIVE') === 'ACTIVE';
    let isReady = true;
    try {
      for (let next = this.#withReferrers([digest]); next.length > 0;) {
        for (const one of next) needed.add(one);
        const missing = next.filter((one) => !isActive(one));
        if (missing.length > 0) {
          isReady = false;
          if (!(await this.#askFor(missing, needed))) return false;
          isReady = missing.every(isActive);
        }
        // an index names its children once it can be read
        const children = await this.#children(next.filter(isActive));
        next = isReady ? this.#withReferrers(children).filter((one) => !needed.has(one)) : [];
      }
      return isReady;
    } catch (error) {
      isReady = false;
      throw error;
    } finally {
      if (!isReady) for (const one of needed) this.#kept.add(one);
    }
  }

  /** Archives again the images that an earlier backup left in STANDARD, unless a call of `during` used them or the next pass needs them. */
  async close(): Promise<void> {
    const isLeft = (one: Digest): boolean =>
      !this.#held.has(one) && !this.#kept.has(one) && this.#status(one) === 'ACTIVE';
    const left = [...this.#left].filter(isLeft);
    await this.#archive(left);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#request.waits !== false) await this.close();
  }

  /** Asks for the restore of these, which an image needs with the others of `needed`. False: later, because others come first. */
  async #askFor(missing: readonly Digest[], needed: ReadonlySet<Digest>): Promise<boolean> {
    const { repository, restored } = this.#request;
    const atMs = this.#options.clock.now();
    for (const one of missing) {
      const since = this.#noted.get(one) ?? 0;
      // one that has no note is restored by another process
      if (this.#status(one) === 'ACTIVATING' && atMs - since >= (this.#options.waitMs ?? RESTORE_MS))
        throw notActive(repository, one, atMs - since);
    }
    const archived = missing.filter((one) => this.#status(one) === 'ARCHIVED');
    if (archived.length === 0) return true;
    const isBegun = [...needed].some((one) => this.#begun.has(one));
    if (!isBegun && this.#begun.size >= AT_ONCE) return false;
    for (const one of archived) {
      this.#noted.set(one, atMs);
      this.#begun.add(one);
    }
    await restored.add(repository, archived, { ...this.#options, atMs });
    for (const one of archived) {
      const status = await this.#storage.moveToStorageClass(repository, one, 'STANDARD', this.#options);
      this.#changed.set(one, status);
    }
    return true;
  }

  /** Restores those that are archived and waits until all can be read. `held` gets each that `#release` has to be called for. */
  async #hold(digests: readonly Digest[], held: Digest[]): Promise<void> {
    const { restored, repository } = this.#request;
    const wanted = digests.filter((one) => this.#isOurs(one) || this.#status(one) === 'ACTIVATING');
    // noted before it is restored: a process that is killed in between leaves a note too many, which does no harm
    const ours = wanted.filter((one) => this.#isOurs(one) && !this.#left.has(one) && !this.#held.has(one));
    const atMs = this.#options.clock.now();
    for (const one of ours) this.#noted.set(one, atMs);
    if (ours.length > 0) await restored.add(repository, ours, { ...this.#options, atMs });
    const all = wanted.map(async (one) => {
      const hold = this.#held.get(one) ?? { count: 0, active: this.#restore(one) };
      hold.count++;
      this.#held.set(one, hold);
      held.push(one);
      await hold.active;
    });
    const failed = (await Promise.allSettled(all)).find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  async #restore(digest: Digest): Promise<void> {
    const { repository } = this.#request;
    let status = this.#status(digest);
    if (status === 'ARCHIVED')
      status = await this.#storage.moveToStorageClass(repository, digest, 'STANDARD', this.#options);
    if (status !== 'ACTIVE') await this.#awaitActive(digest);
  }

  /** What the indexes among `digests` list, where it is in the repository. */
  async #children(digests: readonly Digest[]): Promise<readonly Digest[]> {
    const { registry, repository } = this.#request;
    const types = new Map(digests.map((digest) => [digest, this.#rows.get(digest)?.mediaType]));
    const indexes = digests.filter((digest) => isIndexType(types.get(digest) ?? ''));
    const children: Digest[] = [];
    if (indexes.length === 0 || registry.manifests === undefined) return children;
    for await (const { digest, bytes } of registry.manifests(repository, indexes, this.#options))
      for (const child of childrenOf(parseManifest(bytes, types.get(digest) ?? '')))
        if (this.#rows.has(child.digest)) children.push(child.digest);
    return children;
  }

  async #release(held: readonly Digest[]): Promise<void> {
    const last = held.filter((digest) => {
      const hold = this.#held.get(digest);
      if (hold === undefined || --hold.count > 0) return false;
      this.#held.delete(digest);
      return this.#isOurs(digest) && !this.#kept.has(digest);
    });
    await this.#archive(last);
  }

  /** Also after the backup was stopped: without its signal, and for a bounded time. */
  async #archive(digests: readonly Digest[]): Promise<void> {
    const { repository, restored } = this.#request;
    const archived: Digest[] = [];
    const warn = (what: string, error: unknown): void => {
      if (!isFailure(error)) throw error;
      const message = `${what}: ${describeFailure(error)}; the next backup with --include-archived archives it again`;
      this.#options.report?.({ type: 'warning', message });
    };
    for (const digest of digests) {
      const bounded: Abortable = { signal: AbortSignal.timeout(STOP_MS) };
      try {
        await this.#storage.moveToStorageClass(repository, digest, 'ARCHIVE', bounded);
        this.#changed.set(digest, 'ARCHIVED');
      } catch (error) {
        if (!isFailure(error, 'NOT_FOUND')) {
          warn(`${repository}@${digest} stays in the storage class STANDARD`, error);
          continue;
        }
      }
      this.#left.delete(digest);
      this.#noted.delete(digest);
      this.#begun.delete(digest);
      archived.push(digest);
    }
    if (archived.length === 0) return;
    try {
      await restored.forget(repository, archived, { signal: AbortSignal.timeout(STOP_MS) });
    } catch (error) {
      warn(`the note of images of ${repository} that were restored is out of date`, error);
    }
  }

  /** Whether this backup archives it after use. */
  #isOurs(digest: Digest): boolean {
    return this.#left.has(digest) || this.#rows.get(digest)?.status === 'ARCHIVED';
  }

  #status(digest: Digest): ListedImage['status'] | undefined {
    return this.#changed.get(digest) ?? this.#rows.get(digest)?.status;
  }

  /** These and all that refers to them, each once. */
  #withReferrers(digests: readonly Digest[]): readonly Digest[] {
    const all = new Set(digests);
    // a set that grows while it is gone through gives what was added too
    for (const digest of all) for (const referrer of this.#referrers.get(digest) ?? []) all.add(referrer);
    return [...all];
  }
}

function referrersIn(rows: readonly ListedImage[]): ReadonlyMap<Digest, readonly Digest[]> {
  const referrers = new Map<Digest, Digest[]>();
  for (const { digest, subject, tags } of rows)
    for (const of of [subject, ...tags.map(cosignSubject)])
      if (of !== undefined) referrers.set(of, [...(referrers.get(of) ?? []), digest]);
  return referrers;
}
