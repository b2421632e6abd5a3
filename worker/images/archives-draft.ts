import { dirname, relative } from 'node:path';
import type { Digest } from '../oci/digest.ts';
import { snapshotPrefix } from '../oci/key-template.ts';
import { isPattern, type ImagePattern, type Location } from '../oci/location.ts';
import type { ObjectRoot } from '../oci/place.ts';
import type { ExpandedImage } from '../store/expanded.ts';
import type { Snapshot, SnapshotArchive, SnapshotFailure, SnapshotScope } from '../store/snapshot.ts';
import { warnOfOrder } from '../store/clock-order.ts';
import { SnapshotBuilder } from '../store/snapshot-builder.ts';
import { openSnapshots, type SnapshotName } from '../store/snapshots.ts';
import { onSide } from '../util/failure.ts';
import { optional } from '../util/optional.ts';
import type { Backends, ListedImage, OperationOptions } from './backends.ts';
import type { WrittenWhole } from './copy-image.ts';
import { archiveFacts, describeArchived, describeImage } from './describe-image.ts';
import { storeAndPrefix } from './open-place.ts';
import { registryFacts, type SettingsFact } from './registry-facts.ts';

/** What a snapshot records of a backup into archives, apart from its images. */
export interface ArchivesDraftRequest extends Pick<Snapshot, 'tool' | 'startedAt'> {
  readonly pattern: ImagePattern;
  readonly scope: Pick<SnapshotScope, 'untagged' | 'referrers' | 'platforms'>;
  /** The settings of the registry. */
  readonly settings: SettingsFact;
  readonly place: ArchivesPlace;
}

/** Where archives of one template are, and their snapshots. */
export interface ArchivesPlace {
  readonly root: ObjectRoot;
  /** The key of an archive, from the root of the bucket or of the folder. */
  keyOf(location: Location): string;
}

/** The place of archives with this template, in a bucket or in files. */
export function archivesPlace(template: string, bucket: string | undefined): ArchivesPlace {
  const prefix = snapshotPrefix(template);
  if (bucket !== undefined)
    return {
      root: { bucket, prefix },
      keyOf: (location) => (location.transport === 's3' ? location.key : ''),
    };
  const folder = prefix === '' ? '.' : dirname(`${prefix}x`);
  return {
    root: { folder, prefix: '' },
    keyOf: (location) =>
      location.transport === 'archive' ? relative(folder, location.path).replaceAll('\\', '/') : '',
  };
}

/**
 * The snapshot of a backup into archives, gathered by the process that writes them: it has the graph of each image in memory, so that no archive is
 * opened. Where other processes wrote the archives, `writeArchivesSnapshot` makes it of what they recorded.
 */
export class ArchivesDraft {
  readonly #draft: SnapshotBuilder;
  readonly #place: ArchivesPlace;
  readonly #added = { blobs: 0, bytes: 0 };
  readonly #repositories = new Set<string>();
  readonly #complete: boolean;
  readonly #pushed = new Map<Digest, string>();

  constructor({ tool, startedAt, pattern, scope, settings, place }: ArchivesDraftRequest) {
    const { registry, repository, tag } = pattern;
    this.#place = place;
    this.#complete = tag === undefined || isPattern(tag);
    this.#draft = new SnapshotBuilder({
      startedAt,
      tool,
      kind: 'archives',
      registry: { ...registryFacts(registry), ...settings },
      scope: {
        repositories: repository,
        ...(tag === undefined ? {} : { tags: tag }),
        ...scope,
        listed: isPattern(repository),
      },
    });
  }

  /** Adds a repository that was listed, or one that could not be. */
  repository(name: string, settings: SettingsFact, isListed: boolean): void {
    if (this.#repositories.has(name)) return;
    this.#repositories.add(name);
    this.#draft.repository(name, { complete: isListed && this.#complete, ...settings });
  }

  /**
   * Notes what ECR lists of an image: when it was pushed. One that is archived there, and has one of the tags that are asked for, is added as that;
   * returns how many were.
   */
  row(repository: string, row: ListedImage, asked: ReadonlySet<string>): number {
    if (row.pushedAt !== undefined) this.#pushed.set(row.digest, row.pushedAt.toISOString());
    const tags = row.tags.filter((tag) => asked.has(tag));
    if (row.status === 'ACTIVE' || tags.length === 0) return 0;
    this.#draft.image(repository, describeArchived(row, tags));
    return 1;
  }

  /** Adds an image whose archive is there. */
  written({ from, to, graph, written: { object, version, foreign, outcome } }: WrittenWhole): void {
    if (from.transport !== 'docker' || object === undefined) return;
    const { repository, tag } = from.reference;
    const [root] = graph.roots;
    const pushedAt = root === undefined ? undefined : this.#pushed.get(root.descriptor.digest);
    const key = this.#place.keyOf(to);
    const archive = { ...optional('tag', tag), key, ...object, ...optional('version', version) };
    this.#draft.image(repository, describeImage(graph, archiveFacts(archive, pushedAt), foreign));
    if (outcome !== 'copied') return;
    this.#added.blobs++;
    this.#added.bytes += object.size;
  }

  /** Adds an image that did not change since an earlier backup wrote its archive. */
  unchanged(repository: string, image: ExpandedImage, archive: SnapshotArchive): void {
    const { digest, mediaType, size, artifactType, content, referrers, foreign, unchecked } = image;
    this.#draft.image(repository, {
      digest,
      mediaType,
      size,
      content,
      referrers,
      ...optional('artifactType', artifactType),
      ...optional('foreign', foreign),
      ...optional('unchecked', unchecked),
      ...archiveFacts(archive, this.#pushed.get(digest)),
    });
  }

  /** Names what was not backed up. */
  failure(failure: SnapshotFailure): void {
    this.#draft.failure(failure);
  }

  /** Writes the snapshot, last of all: what it names is there. Failures carry `target`. */
  async finish(backends: Backends, options: OperationOptions): Promise<SnapshotName> {
    const finishedAt = new Date(options.clock.now()).toISOString();
    const snapshot = this.#draft.finish({ finishedAt, added: this.#added });
    const snapshots = openSnapshots(storeAndPrefix(this.#place.root, backends));
    const name = await onSide('target', snapshots.write(snapshot, options));
    await warnOfOrder(snapshots, name, options);
    return name;
  }
}
