import type { Target } from '../content/content.ts';
import type { Digest } from '../oci/digest.ts';
import { canonicalHost } from '../oci/ecr-host.ts';
import { isPattern, type ImagePattern } from '../oci/location.ts';
import { parsePlatform } from '../oci/manifest.ts';
import { parseStoreRoot } from '../oci/place.ts';
import type { Snapshot, SnapshotFailure } from '../store/snapshot.ts';
import { SnapshotBuilder } from '../store/snapshot-builder.ts';
import type { SnapshotName } from '../store/snapshots.ts';
import type { ImageStore } from '../store/store.ts';
import { checkAborted } from '../util/abort.ts';
import { describeFailure, Failure, isFailure, onSide } from '../util/failure.ts';
import { forEachOf, Limit } from '../util/limit.ts';
import { compareStrings, quote } from '../util/text.ts';
import { ArchivedImages } from './archived-images.ts';
import type { Backends, OperationOptions, Registry } from './backends.ts';
import { NOTHING_KNOWN, readKnownImages, type KnownImages } from './known-images.ts';
import { parseRegistryImages, repositoriesOf } from './list-repositories.ts';
import { openStore, storeAndPrefix } from './open-place.ts';
import { registryFacts, settingsFact, type SettingsFact } from './registry-facts.ts';
import { listRepository, type RepositoryListing } from './repository-listing.ts';
import { RestoredImages } from './restored-images.ts';
import type { SelectImages } from './select-images.ts';
import { storeImages, type ImageCounts, type StoreRun } from './store-images.ts';

/** What of a registry is backed up, and into which store. */
export interface StoreBackupRequest {
  /** `[docker://]HOST` for a whole registry, `HOST/pattern[:tags]`, a repository, or one image `HOST/repository:tag`. */
  readonly from: string;
  /** Patterns of repositories, and names of some, which are not looked for in lists. Default: the pattern of `from`, which stands for them all. */
  readonly repositories?: readonly string[] | undefined;
  /** Chooses the images of each repository, which counts as incomplete then. Default: all. */
  readonly select?: SelectImages | undefined;
  /** `store:s3://bucket/prefix/` or `store:folder`. */
  readonly to: string;
  /** The program that writes the snapshot, such as `transship 0.1.0`. */
  readonly tool: string;
  /** `os/architecture[/variant]`; empty for all. */
  readonly platforms?: readonly string[] | undefined;
  /** Whether signatures, SBOMs and whatever else refers to the images come along. Default true. */
  readonly referrers?: boolean | undefined;
  /** Also images without a tag that no index names and that refer to nothing. Default false. */
  readonly untagged?: boolean | undefined;
  /**
   * Also images in ECR's archive storage class, which are restored for it and archived again. Default false: those that no earlier backup
   * stored are listed as archived.
   */
  readonly includeArchived?: boolean | undefined;
  /**
   * False: archived images that are not restored yet are left for another call, which the caller makes minutes later with the same request, and are
   * counted as `restoring`. Default: it waits for them.
   */
  readonly waitsForArchived?: boolean | undefined;
  /** False: neither settings of repositories nor those of the registry are stored. Default: both are. */
  readonly settings?: boolean | undefined;
  /** Reports what would be stored, and writes nothing. Default false. */
  readonly dryRun?: boolean | undefined;
  /** The rule and the run of the service, for the snapshot. Absent for a command. */
  readonly rule?: string | undefined;
  readonly run?: string | undefined;
}

/** The result of a backup into a store. Sizes are bytes. */
export interface StoreBackupResult {
  readonly from: string;
  readonly to: string;
  /** Absent for a dry run, and where nothing was stored while images are restored. */
  readonly snapshot?: SnapshotName;
  readonly repositories: number;
  /** Images that are restored from ECR's archive storage class for the next call, and are listed as archived. */
  readonly restoring: number;
  /** By what became of them. `stored`: new, or changed since the last snapshot; in a dry run what would be stored. */
  readonly images: Readonly<ImageCounts>;
  /** What was sent, or would be: blobs and manifests that the store did not have. */
  readonly added: { readonly blobs: number; readonly bytes: number };
  /** Bytes of everything that the images name, each digest once. */
  readonly bytes: number;
  /** The same with the content of each image counted for itself, as archives store it. */
  readonly imageBytes: number;
  /** As the snapshot has them. */
  readonly failures: readonly SnapshotFailure[];
  /** The failures that were thrown: their codes decide whether a retry can help. */
  readonly causes: readonly Failure[];
}

const REPOSITORIES_AT_ONCE = 4;
/** Blobs at once for each image, and images at once. */
/** How many writes each image may have at once: while one waits for its source, another is sent. */
const WRITES_PER_IMAGE = 2;
const CONCURRENCY = 4;

/**
 * Stores every image that `from` stands for, with the settings of its repository and of the registry, in a store, and writes a snapshot of
 * it. Sends only content that the store does not have. One image or repository that fails is among the failures, and the others go on.
 * Idempotent: one that was stopped anywhere leaves what it sent for the next one. Throws INVALID for malformed input, NOT_FOUND where nothing
 * matches, and what keeps the store from being opened or the snapshot from being written.
 */
export async function backupToStore(
  request: StoreBackupRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<StoreBackupResult> {
  const pattern = parseRegistryImages(request.from);
  for (const platform of request.platforms ?? []) parsePlatform(platform);
  if (!request.to.startsWith('store:'))
    throw new Failure(
      'INVALID',
      `${quote(request.to)} is not a store: expected store:s3://bucket/prefix/ or store:folder`,
    );
  const root = parseStoreRoot(request.to.slice('store:'.length), request.to);
  const registry = backends.registry(pattern.registry, 'source');
  const strange: string[] = [];
  const onStrange = (message: string): void => void strange.push(message);
  // a key that cannot sign is found before anything is copied
  await backends.snapshotKeys?.signer?.publicKey(options);
  // before a store is created: a source without images leaves no store
  const listed = async (repository: string): Promise<readonly string[]> =>
    repositoriesOf({ pattern: { ...pattern, repository } }, backends, { ...options, side: 'source', onStrange });
  const names = new Set<string>();
  for (const repository of request.repositories ?? [pattern.repository])
    for (const name of await onSide('source', listed(repository))) names.add(name);
  const store = await openStore(root, backends, { ...options, side: 'target', create: true });
  const restored = new RestoredImages({ ...storeAndPrefix(root, backends), registry: canonicalHost(pattern.registry) });
  const run = new StoreBackupRun({ request, pattern, registry, store, restored }, options);
  const all = [...names].sort(compareStrings);
  return request.dryRun === true ? run.plan(all, strange) : run.write(all, strange);
}

/** What one backup is about. */
interface Circumstances {
  readonly request: StoreBackupRequest;
  readonly pattern: ImagePattern;
  readonly registry: Registry;
  readonly store: ImageStore;
  readonly restored: RestoredImages;
}

/** Where a backup puts content: in a store, or nowhere in a dry run. */
interface Destination {
  readonly target: Target;
  /** What is there by a list, and what was put since. */
  readonly present: ReadonlyMap<Digest, number>;
}

class StoreBackupRun {
  readonly #about: Circumstances;
  readonly #options: OperationOptions;
  readonly #startedAt: string;
  readonly #causes: Failure[] = [];
  readonly #counts: ImageCounts = { stored: 0, unchanged: 0, archived: 0, failed: 0 };
  #restoring = 0;

  constructor(about: Circumstances, options: OperationOptions) {
    this.#about = about;
    this.#options = options;
    this.#startedAt = timeOf(options);
  }

  /** Backs up these repositories. `strange`: what was listed and cannot be a repository, a sentence each. */
  async write(names: readonly string[], strange: readonly string[]): Promise<StoreBackupResult> {
    await using session = await onSide('target', this.#about.store.begin(this.#options));
    const draft = await this.#gather(names, strange, session);
    const snapshot = draft.finish({ finishedAt: timeOf(this.#options), added: session.added });
    // another call comes in minutes: it would be the same snapshot again
    if (this.#restoring > 0 && this.#counts.stored === 0) return this.#result(snapshot);
    const name = await onSide('target', session.finish(snapshot, this.#options));
    return { ...this.#result(snapshot), snapshot: name };
  }

  /** As `write`, without writing. */
  async plan(names: readonly string[], strange: readonly string[]): Promise<StoreBackupResult> {
    const present = new Map(await onSide('target', this.#about.store.blobs(this.#options)));
    const added = { blobs: 0, bytes: 0 };
    const count: Target['put'] = async ({ digest, size }) => {
      if (present.get(digest) === size) return;
      present.set(digest, size);
      added.blobs++;
      added.bytes += size;
    };
    const target: Target = {
      has: async ({ digest, size }) => present.get(digest) === size,
      put: count,
      tag: async (_, descriptor, open) => count(descriptor, open),
    };
    const draft = await this.#gather(names, strange, { target, present });
    return this.#result(draft.finish({ finishedAt: timeOf(this.#options), added }));
  }

  async #gather(
    names: readonly string[],
    strange: readonly string[],
    { target, present }: Destination,
  ): Promise<SnapshotBuilder> {
    const { request, pattern, registry } = this.#about;
    const { platforms = [], referrers = true } = request;
    const { registry: host, repository, tag } = pattern;
    const scope = { untagged: this.#listsUntagged(), referrers, platforms };
    const failures: string[] = [];
    const settings = await this.#registrySettings((reason) => failures.push(reason));
    for (const message of strange) this.#options.report?.({ type: 'warning', message });
    const snapshot = new SnapshotBuilder({
      startedAt: this.#startedAt,
      tool: request.tool,
      ...(request.rule === undefined ? {} : { rule: request.rule }),
      ...(request.run === undefined ? {} : { run: request.run }),
      kind: 'store',
      registry: { ...registryFacts(host), ...settings },
      scope: {
        repositories: repository,
        ...(tag === undefined ? {} : { tags: tag }),
        ...scope,
        listed: isPattern(repository),
      },
    });
    for (const reason of [...strange, ...failures]) snapshot.failure({ reason });
    const concurrency = this.#options.concurrency ?? CONCURRENCY;
    const run: StoreRun = {
      ...scope,
      registry,
      host,
      target: limited(target, new Limit(concurrency * WRITES_PER_IMAGE)),
      present,
      known: await this.#known(names),
      snapshot,
      atOnce: new Limit(this.#options.imagesAtOnce ?? concurrency),
      tags: tag,
      select: request.select,
      counts: this.#counts,
      dryRun: request.dryRun === true,
      onFailure: (failure) => void this.#causes.push(failure),
      onRestoring: request.waitsForArchived === false ? () => void this.#restoring++ : undefined,
    };
    await forEachOf(
      names,
      REPOSITORIES_AT_ONCE,
      async (name, { signal }) => this.#repository(run, name, { ...this.#options, signal }),
      this.#options,
    );
    return snapshot;
  }

  /** Whether images without a tag are asked for and can be found. */
  #listsUntagged(): boolean {
    const { request, pattern, registry } = this.#about;
    if (request.untagged !== true) return false;
    if (registry.images !== undefined && pattern.tag === undefined) return true;
    const why = pattern.tag === undefined ? `${pattern.registry} does not list images without a tag` : 'tags are named';
    this.#options.report?.({ type: 'warning', message: `images without a tag are not backed up: ${why}` });
    return false;
  }

  /** What earlier backups found. One image is read from its registry sooner than from snapshots. */
  async #known(names: readonly string[]): Promise<KnownImages> {
    const { pattern, store } = this.#about;
    if (pattern.tag !== undefined && !isPattern(pattern.tag) && !isPattern(pattern.repository)) return NOTHING_KNOWN;
    return onSide('target', readKnownImages(store.snapshots, canonicalHost(pattern.registry), names, this.#options));
  }

  /** The settings of the registry itself. Not for what is only a repository of it. */
  async #registrySettings(onFailure: (reason: string) => void): Promise<SettingsFact> {
    const { request, pattern, registry } = this.#about;
    if (!isPattern(pattern.repository) || request.settings === false) return {};
    return settingsFact(
      pattern.registry,
      async () => registry.registrySettings(this.#options),
      onFailure,
      this.#options,
    );
  }

  async #repository(run: StoreRun, name: string, options: OperationOptions): Promise<void> {
    const { snapshot, registry, tags } = run;
    const { request } = this.#about;
    const fail = (tag: string | undefined, error: Failure): void => {
      const reason = describeFailure(error);
      this.#causes.push(error);
      snapshot.failure({ repository: name, ...(tag === undefined ? {} : { tag }), reason });
      const what = `${run.host}/${name}${tag === undefined ? '' : `:${tag}`}`;
      options.report?.({ type: 'warning', message: `${what}: ${reason}` });
      this.#counts.failed++;
    };
    try {
      const listing = await listRepository(registry, name, tags, fail, { ...options, select: request.select });
      await using archived = await this.#archived(name, listing, options);
      const settings =
        request.settings === false
          ? {}
          : await settingsFact(
              name,
              async () => registry.settings(name, options),
              (reason) => snapshot.failure({ repository: name, reason }),
              options,
            );
      const complete = request.select === undefined && (tags === undefined || isPattern(tags));
      snapshot.repository(name, { complete, ...settings });
      await storeImages(run, name, { listing, archived }, options);
      await archived?.close();
    } catch (error) {
      checkAborted(options);
      const isGone = isFailure(error, 'NOT_FOUND') && error.context.side === 'source';
      if (isGone && isPattern(this.#about.pattern.repository)) {
        // some registries list what never had an image
        snapshot.incomplete(name);
        const message = `${run.host}/${name}: it is listed and not there: it was deleted meanwhile, or has no image`;
        options.report?.({ type: 'warning', message });
        return;
      }
      // the only one that was named
      if (!isFailure(error) || error.code === 'BUG' || !isPattern(this.#about.pattern.repository)) throw error;
      snapshot.incomplete(name);
      fail(undefined, error);
    }
  }

  /** Undefined where archived images are only listed. */
  async #archived(
    repository: string,
    { manifests }: RepositoryListing,
    options: OperationOptions,
  ): Promise<ArchivedImages | undefined> {
    const { request, registry, restored } = this.#about;
    if (request.includeArchived !== true || request.dryRun === true || registry.storageClasses === undefined)
      return undefined;
    const { waitsForArchived: waits } = request;
    return ArchivedImages.open({ registry, repository, rows: [...manifests.values()], restored, waits }, options);
  }

  #result(snapshot: Snapshot): StoreBackupResult {
    const { request, store } = this.#about;
    const images = snapshot.repositories.flatMap((repository) => repository.images);
    return {
      from: request.from,
      to: store.location,
      repositories: snapshot.repositories.length,
      restoring: this.#restoring,
      images: this.#counts,
      added: snapshot.added,
      bytes: snapshot.content.reduce((sum, { size }) => sum + size, 0),
      imageBytes: images.reduce((sum, { bytes }) => sum + bytes, 0),
      failures: snapshot.failures,
      causes: this.#causes,
    };
  }
}

function timeOf({ clock }: OperationOptions): string {
  return new Date(clock.now()).toISOString();
}

/** The same target, with so many blobs and manifests on their way at once, over all images. */
function limited(target: Target, limit: Limit): Target {
  return {
    ...(target.inOrder === undefined ? {} : { inOrder: target.inOrder }),
    has: async (descriptor, options) => target.has(descriptor, options),
    put: async (descriptor, open, options) => limit.run(async () => target.put(descriptor, open, options), options),
    tag: async (name, descriptor, open, options) => target.tag(name, descriptor, open, options),
  };
}
