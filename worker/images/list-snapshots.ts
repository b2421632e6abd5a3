import { readSnapshots, type ReadSnapshot } from '../store/read-state.ts';
import type { Snapshot } from '../store/snapshot.ts';
import type { NamedSnapshot, SnapshotName } from '../store/snapshots.ts';
import type { Failure } from '../util/failure.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { openBackups, type BackupPlace } from './open-backups.ts';

/** What a list shows of a snapshot. */
export interface SnapshotSummary extends Pick<
  Snapshot,
  'startedAt' | 'finishedAt' | 'tool' | 'rule' | 'run' | 'kind' | 'scope'
> {
  readonly id: string;
  readonly key: string;
  /** The host. */
  readonly registry: string;
  readonly repositories: number;
  readonly images: number;
  readonly tags: number;
  /** Images in ECR's archive storage class, which were not backed up. */
  readonly archived: number;
  /** The bytes of everything that its images are made of, each digest once. */
  readonly bytes: number;
  /** What the backup sent: beside what was there before. */
  readonly newBytes: number;
  readonly failures: number;
  /** How far the clock of its writer was ahead of its store's, in milliseconds. Absent: not so much that it matters. */
  readonly aheadMs?: number;
}

/** A snapshot that cannot be read. */
export interface BrokenSnapshot {
  readonly id: string;
  readonly key: string;
  readonly finishedAt: string;
  readonly failure: Failure;
}

export interface ListSnapshotsOptions extends OperationOptions {
  /** Only so many of the newest. Default: all. */
  readonly latest?: number | undefined;
}

/** Clocks that differ by less give no wrong order of two backups of one registry. */
const MAX_AHEAD_MS = 5 * 60_000;

/** Every snapshot of a place, from the oldest to the newest. Reads each of them. */
export async function* listSnapshots(
  place: BackupPlace,
  backends: Backends,
  options: ListSnapshotsOptions,
): AsyncGenerator<SnapshotSummary | BrokenSnapshot, void, undefined> {
  const { snapshots } = await openBackups(place, backends, options);
  const names = await snapshots.list(options);
  const wanted = options.latest === undefined ? names : names.slice(-options.latest);
  for await (const read of readSnapshots(snapshots, wanted, options)) {
    // one that was deleted meanwhile
    if (read.failure?.code !== 'NOT_FOUND') yield shown(read);
  }
}

function shown(read: ReadSnapshot): SnapshotSummary | BrokenSnapshot {
  if (read.failure === undefined) return summaryOf(read);
  const { id, key, finishedAtMs } = read.name;
  return { id, key, finishedAt: new Date(finishedAtMs).toISOString(), failure: read.failure };
}

/** One snapshot whole, as `Snapshots.read` finds it. */
export async function showSnapshot(
  place: BackupPlace,
  id: string,
  backends: Backends,
  options: OperationOptions,
): Promise<NamedSnapshot & { readonly summary: SnapshotSummary }> {
  const { snapshots } = await openBackups(place, backends, options);
  const read = await snapshots.read(id, options);
  return { ...read, summary: summaryOf(read) };
}

/** What a list shows of it. Pure. */
function summaryOf({ name, snapshot }: NamedSnapshot): SnapshotSummary {
  const { startedAt, finishedAt, tool, rule, run, kind, scope, registry, repositories, content, failures } = snapshot;
  const images = repositories.flatMap((repository) => repository.images);
  const aheadMs = aheadOf(name);
  return {
    id: name.id,
    key: name.key,
    startedAt,
    finishedAt,
    tool,
    ...(rule === undefined ? {} : { rule }),
    ...(run === undefined ? {} : { run }),
    kind,
    scope,
    registry: registry.host,
    repositories: repositories.length,
    images: images.length,
    tags: images.reduce((sum, { tags }) => sum + tags.length, 0),
    archived: images.filter(({ archived }) => archived === true).length,
    bytes: content.reduce((sum, { size }) => sum + size, 0),
    newBytes: snapshot.added.bytes,
    failures: failures.length,
    ...(aheadMs === undefined ? {} : { aheadMs }),
  };
}

function aheadOf({ finishedAtMs, storedAtMs }: SnapshotName): number | undefined {
  const aheadMs = finishedAtMs - storedAtMs;
  return aheadMs > MAX_AHEAD_MS ? aheadMs : undefined;
}
