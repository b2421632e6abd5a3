import { walk } from '../content/graph.ts';
import { openImage } from '../archive/reader.ts';
import type { Digest } from '../oci/digest.ts';
import { expandImage, type ExpandedImage } from '../store/expanded.ts';
import { warnOfOrder } from '../store/clock-order.ts';
import { SnapshotBuilder, type BackedUpImage } from '../store/snapshot-builder.ts';
import { openSnapshots, type SnapshotName } from '../store/snapshots.ts';
import type { Snapshot, SnapshotArchive, SnapshotFailure } from '../store/snapshot.ts';
import { checkAborted } from '../util/abort.ts';
import { sameEtag } from '../util/etag.ts';
import type { ImageCounts } from '../util/events.ts';
import { describeFailure, Failure, ifFound, isFailure, onSide } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import type { Backends, ListedImage, OperationOptions } from './backends.ts';
import { registryFacts } from './registry-facts.ts';
import { archiveFacts, describeArchived, describeImage } from './describe-image.ts';

/** An archive, as the process that wrote it recorded it. */
export interface RecordedArchive extends SnapshotArchive {
  /** The digest of the image in it. */
  readonly digest: Digest;
  readonly pushedAt?: string | undefined;
  /** Whether this backup wrote it. False: it was there before. */
  readonly isNew: boolean;
}

/** What a backup recorded of one repository. */
export interface RecordedRepository {
  readonly name: string;
  readonly complete: boolean;
  readonly settings?: Readonly<Record<string, unknown>> | undefined;
  readonly archives: readonly RecordedArchive[];
  /** Images in the archive storage class of ECR, which were not backed up. */
  readonly archived: readonly ListedImage[];
  readonly failures: readonly Omit<SnapshotFailure, 'repository'>[];
}

/** A backup that other processes made, as they recorded it. */
export interface ArchivesSnapshotRequest extends Pick<Snapshot, 'startedAt' | 'tool' | 'rule' | 'run'> {
  /** Where archives and their snapshots are: `prefix` is that of the snapshots, and keys of archives are from the root of the bucket. */
  readonly bucket: string;
  readonly prefix: string;
  readonly registry: string;
  /** Gets the failures of the registry as a whole, such as that of a list, and then `listed` is false. */
  readonly scope: Snapshot['scope'];
  readonly failures: readonly SnapshotFailure[];
  /** One after the other: their memory is that of the document. */
  readonly repositories: AsyncIterable<RecordedRepository>;
  /** The id of a snapshot that may have some of the archives: what they hold is taken from it. Default: each is opened. */
  readonly previous?: string | undefined;
}

/** The snapshot that was written, in figures. */
export interface ArchivesSnapshot {
  readonly name: SnapshotName;
  readonly images: ImageCounts;
  /** The bytes of everything that the images name, each digest once. */
  readonly bytes: number;
  /** The bytes of archives that this backup wrote. */
  readonly bytesAdded: number;
  readonly failures: readonly SnapshotFailure[];
}

/** Archives that are opened at once: each costs a HEAD and a range of its head. */
const ARCHIVES_AT_ONCE = 8;

/**
 * Writes the snapshot of a backup into archives from what was recorded of it. What an archive holds is taken from an earlier snapshot that lists
 * the same object (key, ETag, version), else read from its head. One that is gone, or is not as it was recorded, is a failure in the snapshot.
 * Throws what keeps the snapshot from being written, and failures of S3 that may pass.
 */
export async function writeArchivesSnapshot(
  request: ArchivesSnapshotRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<ArchivesSnapshot> {
  const { bucket, prefix, registry, startedAt, tool, rule, run, scope } = request;
  const snapshots = openSnapshots({ store: backends.bucket(bucket), prefix, keys: backends.snapshotKeys });
  const known = new KnownArchives();
  if (request.previous !== undefined) {
    const found = await onSide('target', ifFound(snapshots.read(request.previous, options)));
    if (found !== undefined) known.add(found.snapshot);
  }
  const draft = new SnapshotBuilder({
    startedAt,
    tool,
    ...(rule === undefined ? {} : { rule }),
    ...(run === undefined ? {} : { run }),
    kind: 'archives',
    registry: registryFacts(registry),
    scope,
  });
  for (const failure of request.failures) draft.failure(failure);
  const counts = { stored: 0, unchanged: 0, archived: 0, failed: request.failures.length };
  const added = { blobs: 0, bytes: 0 };
  for await (const repository of request.repositories)
    await addRepository(repository, { request, draft, known, counts, added }, backends, options);
  const finishedAt = new Date(options.clock.now()).toISOString();
  const snapshot = draft.finish({ finishedAt, added });
  const name = await onSide('target', snapshots.write(snapshot, options));
  await warnOfOrder(snapshots, name, options);
  const bytes = snapshot.content.reduce((sum, { size }) => sum + size, 0);
  return { name, images: counts, bytes, bytesAdded: added.bytes, failures: snapshot.failures };
}

/** What a snapshot gathers. */
interface Gathering {
  readonly request: ArchivesSnapshotRequest;
  readonly draft: SnapshotBuilder;
  readonly known: KnownArchives;
  readonly counts: { stored: number; unchanged: number; archived: number; failed: number };
  readonly added: { blobs: number; bytes: number };
}

async function addRepository(
  repository: RecordedRepository,
  { request, draft, known, counts, added }: Gathering,
  backends: Backends,
  options: OperationOptions,
): Promise<void> {
  const { name, complete, settings } = repository;
  draft.repository(name, { complete, ...(settings === undefined ? {} : { settings }) });
  const fail = (failure: Omit<SnapshotFailure, 'repository'>): void => {
    draft.failure({ repository: name, ...failure });
    counts.failed++;
  };
  for (const failure of repository.failures) fail(failure);
  for (const image of repository.archived) {
    draft.image(name, describeArchived(image, image.tags));
    counts.archived++;
  }
  await forEachOf(
    repository.archives,
    ARCHIVES_AT_ONCE,
    async (archive, taskOptions) => {
      try {
        const image =
          known.find(name, archive) ?? (await readArchive(archive, request, backends, { ...options, ...taskOptions }));
        draft.image(name, { ...image, ...archiveFacts(archive, archive.pushedAt) });
        counts[archive.isNew ? 'stored' : 'unchanged']++;
        if (!archive.isNew) return;
        added.blobs++;
        added.bytes += archive.size;
      } catch (error) {
        checkAborted(options);
        if (!isFailure(error) || error.retryable || error.code === 'BUG') throw error;
        const { tag, digest } = archive;
        fail({ ...(tag === undefined ? {} : { tag }), digest, reason: describeFailure(error) });
      }
    },
    options,
  );
}

/** What archives hold, as an earlier snapshot lists them. */
class KnownArchives {
  readonly #images = new Map<string, ExpandedImage>();

  add(snapshot: Snapshot): void {
    for (const { name, images } of snapshot.repositories)
      for (const image of images)
        for (const archive of image.archives ?? [])
          this.#images.set(keyOf(name, image.digest, archive), expandImage(snapshot, image));
  }

  /** Undefined for an archive that was written since. */
  find(repository: string, archive: RecordedArchive): BackedUpImage | undefined {
    const found = this.#images.get(keyOf(repository, archive.digest, archive));
    if (found === undefined) return undefined;
    const { archives: _, bytes: _bytes, pushedAt: _pushedAt, ...image } = found;
    return image;
  }
}

function keyOf(repository: string, digest: Digest, { key, size, etag, version }: SnapshotArchive): string {
  return JSON.stringify([repository, digest, key, size, etag, version]);
}

/** What an archive holds, from its head. CONFLICT where it is not as it was recorded. */
async function readArchive(
  archive: RecordedArchive,
  { bucket, scope }: ArchivesSnapshotRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<BackedUpImage> {
  const store = backends.bucket(bucket);
  const { key, size, etag, digest } = archive;
  const changed = (): Failure =>
    new Failure(
      'CONFLICT',
      `${store.describe(key)} is not the archive that was written there: the next run writes it again`,
    );
  const now = await onSide('target', store.stat(key, options));
  if (now.size !== size || !sameEtag(now.etag, etag)) throw changed();
  await using image = await openImage(store, key, { ...options, temporary: async () => backends.temporary() });
  if (image.root.descriptor.digest !== digest) throw changed();
  const { descriptor } = image.root;
  const graph = await walk(image, [{ descriptor, tags: [] }], { ...options, referrers: scope.referrers });
  return describeImage(graph, { tags: [] });
}
