import type { Target } from '../content/content.ts';
import { reportSent } from '../content/report-sent.ts';
import { canonicalHost, ecrHost } from '../oci/ecr-host.ts';
import type { Digest } from '../oci/digest.ts';
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
import { quote } from '../util/text.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { IMAGES_AT_ONCE } from './copy-images.ts';
import { readKnownImages, type KnownImages } from './known-images.ts';
import { openStore } from './open-place.ts';
import { listRepository } from './repository-listing.ts';
import { parseRegistryImages, repositoriesMatching } from './registry-images.ts';
import { storeImages, type ImageCounts, type StoreRun } from './store-images.ts';

export interface StoreBackupRequest {
  /** `[docker://]HOST` for a whole registry, `HOST/pattern[:tags]`, a repository, or one image `HOST/repository:tag`. */
  readonly from: string;
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
  /** Reports what would be stored, and writes nothing. Default false. */
  readonly dryRun?: boolean | undefined;
  /** The rule and the run of the service, for the snapshot. Absent for a command. */
  readonly rule?: string | undefined;
  readonly run?: string | undefined;
}

/** What a backup into a store came to. Sizes are bytes. */
export interface StoreBackupResult {
  readonly from: string;
  readonly to: string;
  /** Absent for a dry run. */
  readonly snapshot?: SnapshotName;
  readonly repositories: number;
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
}

const REPOSITORIES_AT_ONCE = 4;
/** Blobs at once for each image that `OperationOptions.concurrency` does not name. */
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
  const store = await openStore(root, backends, { ...options, side: 'target', create: true });
  const backup = new StoreBackupRun(request, pattern, store, backends, options);
  return request.dryRun === true ? backup.plan() : backup.write();
}

/** Where a backup puts content: in a store, or nowhere in a dry run. */
interface Destination {
  readonly target: Target;
  readonly present: ReadonlyMap<Digest, number>;
}

class StoreBackupRun {
  readonly #request: StoreBackupRequest;
  readonly #pattern: ImagePattern;
  readonly #store: ImageStore;
  readonly #backends: Backends;
  readonly #options: OperationOptions;
  readonly #startedAt: string;
  readonly #counts: ImageCounts = { stored: 0, unchanged: 0, archived: 0, failed: 0 };

  constructor(
    request: StoreBackupRequest,
    pattern: ImagePattern,
    store: ImageStore,
    backends: Backends,
    options: OperationOptions,
  ) {
    this.#request = request;
    this.#pattern = pattern;
    this.#store = store;
    this.#backends = backends;
    this.#options = options;
    this.#startedAt = timeOf(options);
  }

  async write(): Promise<StoreBackupResult> {
    // what the source does not have leaves nothing behind
    const repositories = await this.#repositories();
    await using session = await onSide('target', this.#store.begin(this.#options));
    const draft = await this.#gather(repositories, session);
    const snapshot = draft.finish({ finishedAt: timeOf(this.#options), added: session.added });
    const name = await onSide('target', session.finish(snapshot, this.#options));
    return { ...this.#result(snapshot), snapshot: name };
  }

  async plan(): Promise<StoreBackupResult> {
    const repositories = await this.#repositories();
    const present = new Map(await onSide('target', this.#store.blobs(this.#options)));
    const added = { blobs: 0, bytes: 0 };
    const count: Target['put'] = async ({ digest, size }) => {
      if (present.has(digest)) return;
      present.set(digest, size);
      added.blobs++;
      added.bytes += size;
    };
    const target: Target = {
      has: async ({ digest, size }) => present.get(digest) === size,
      put: count,
      tag: async (_, descriptor, open) => count(descriptor, open),
    };
    const draft = await this.#gather(repositories, { target, present });
    return this.#result(draft.finish({ finishedAt: timeOf(this.#options), added }));
  }

  async #repositories(): Promise<{ readonly names: readonly string[]; readonly faults: readonly string[] }> {
    const registry = this.#backends.registry(this.#pattern.registry, 'source');
    return repositoriesMatching(registry, this.#pattern, this.#options);
  }

  async #gather(
    { names, faults }: { readonly names: readonly string[]; readonly faults: readonly string[] },
    { target, present }: Destination,
  ): Promise<SnapshotBuilder> {
    const { platforms = [], referrers = true, untagged = false } = this.#request;
    const { registry: host, tag } = this.#pattern;
    const registry = this.#backends.registry(host, 'source');
    const listsAll = registry.images !== undefined && tag === undefined;
    if (untagged && !listsAll) {
      const message = `--untagged is left out: ${tag === undefined ? `${host} does not list images without a tag` : 'tags were named'}`;
      this.#options.report?.({ type: 'warning', message });
    }
    const scope = { untagged: untagged && listsAll, referrers, platforms };
    const snapshot = new SnapshotBuilder(this.#facts(scope));
    for (const reason of faults) {
      snapshot.failure({ reason });
      this.#options.report?.({ type: 'warning', message: reason });
    }
    const concurrency = this.#options.concurrency ?? CONCURRENCY;
    const run: StoreRun = {
      ...scope,
      registry,
      host,
      target: limited(this.#reporting(target), new Limit(concurrency * IMAGES_AT_ONCE)),
      present,
      known: await this.#known(),
      snapshot,
      atOnce: new Limit(concurrency),
      everyTag: tag === undefined,
      counts: this.#counts,
    };
    await forEachOf(
      names,
      REPOSITORIES_AT_ONCE,
      async (name, { signal }) => this.#repository(run, name, { ...this.#options, signal }),
      this.#options,
    );
    return snapshot;
  }

  /** What earlier backups found. One image is read from its registry sooner than from snapshots. */
  async #known(): Promise<KnownImages> {
    const { tag, repository } = this.#pattern;
    if (tag !== undefined && !isPattern(tag) && !isPattern(repository)) return { find: () => undefined };
    return onSide('target', readKnownImages(this.#store.snapshots, this.#pattern, this.#options));
  }

  /** A dry run sends nothing. */
  #reporting(target: Target): Target {
    const { report } = this.#options;
    return report === undefined || this.#request.dryRun === true ? target : reportSent(target, report);
  }

  #facts(
    scope: Pick<Snapshot['scope'], 'untagged' | 'referrers' | 'platforms'>,
  ): ConstructorParameters<typeof SnapshotBuilder>[0] {
    const { tool, rule, run } = this.#request;
    const { registry, repository, tag } = this.#pattern;
    const { account, region } = ecrHost(registry) ?? {};
    return {
      startedAt: this.#startedAt,
      tool,
      ...(rule === undefined ? {} : { rule }),
      ...(run === undefined ? {} : { run }),
      kind: 'store',
      registry: {
        host: canonicalHost(registry),
        ...(account === undefined ? {} : { account }),
        ...(region === undefined ? {} : { region }),
      },
      scope: {
        repositories: repository,
        ...(tag === undefined ? {} : { tags: tag }),
        ...scope,
        listed: isPattern(repository),
      },
    };
  }

  async #repository(run: StoreRun, name: string, options: OperationOptions): Promise<void> {
    const { snapshot, registry } = run;
    const { tag } = this.#pattern;
    const fail = (failed: string | undefined, error: Failure): void => {
      const what = describeFailure(error);
      snapshot.failure({ repository: name, ...(failed === undefined ? {} : { tag: failed }), reason: what });
      options.report?.({
        type: 'warning',
        message: `${run.host}/${name}${failed === undefined ? '' : `:${failed}`}: ${what}`,
      });
      this.#counts.failed++;
    };
    try {
      const listing = await listRepository(registry, name, tag, fail, options);
      const complete = tag === undefined || isPattern(tag);
      snapshot.repository(name, { complete, ...(await this.#settings(run, name, options)) });
      await storeImages(run, name, listing, options);
    } catch (error) {
      checkAborted(options);
      // the only one that was named
      if (!isFailure(error) || error.code === 'BUG' || !isPattern(this.#pattern.repository)) throw error;
      snapshot.repository(name, { complete: false });
      fail(undefined, error);
    }
  }

  async #settings(
    run: StoreRun,
    name: string,
    options: OperationOptions,
  ): Promise<Pick<Snapshot['repositories'][number], 'settings'>> {
    try {
      const settings = await onSide('source', run.registry.settings(name, options));
      return settings === undefined ? {} : { settings };
    } catch (error) {
      checkAborted(options);
      if (!isFailure(error)) throw error;
      const message = `settings of ${name} were not backed up: ${describeFailure(error)}`;
      // credentials that read images may lack the permission to read settings
      if (error.code !== 'DENIED') run.snapshot.failure({ repository: name, reason: message });
      options.report?.({ type: 'warning', message });
      return {};
    }
  }

  #result(snapshot: Snapshot): StoreBackupResult {
    const images = snapshot.repositories.flatMap((repository) => repository.images);
    return {
      from: this.#request.from,
      to: this.#store.location,
      repositories: snapshot.repositories.length,
      images: this.#counts,
      added: snapshot.added,
      bytes: snapshot.content.reduce((sum, { size }) => sum + size, 0),
      imageBytes: images.reduce((sum, { bytes }) => sum + bytes, 0),
      failures: snapshot.failures,
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
