/** A snapshot, as its key names it: nothing of it was read. */
export interface SnapshotName {
  /** The SHA-256 of the document, 64 hex digits: it proves what is read. */
  readonly id: string;
  readonly key: string;
  /** When it was finished, to the millisecond, by the clock of the process that wrote it. */
  readonly finishedAtMs: number;
  /** Bytes of the compressed object. */
  readonly size: number;
  /** When it was stored, by the clock of its store. A copy of a snapshot is stored later. */
  readonly storedAtMs: number;
}

/** What is below a prefix that has snapshots. */
export const SNAPSHOTS_FOLDER = 'snapshots/';

/** How the keys of snapshots end. */
export const SNAPSHOT_END = '.json.zst';

const NAME = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(\d{3})Z-([0-9a-f]{64})\.json\.zst$/;

/**
 * The key of the snapshot `id` that was finished at `finishedAt` (ISO 8601, UTC, milliseconds): `<prefix>snapshots/<YYYYMMDD>T<hhmmss><mmm>Z-<id>.json.zst`.
 * Keys are in the order of time, as long as no two are finished in one millisecond.
 */
export function snapshotKey(prefix: string, finishedAt: string, id: string): string {
  return `${prefix}${SNAPSHOTS_FOLDER}${finishedAt.replaceAll(/[-:.]/g, '')}-${id}.json.zst`;
}

/** The facts about a snapshot in the key of an object below `prefix`. Undefined for a key that is not one of a snapshot. */
export function readSnapshotKey(prefix: string, key: string): Omit<SnapshotName, 'size' | 'storedAtMs'> | undefined {
  const folder = `${prefix}${SNAPSHOTS_FOLDER}`;
  const match = key.startsWith(folder) ? NAME.exec(key.slice(folder.length)) : null;
  const [, year, month, day, hours, minutes, seconds, milliseconds, id] = match ?? [];
  const finishedAtMs = Date.parse(`${year}-${month}-${day}T${hours}:${minutes}:${seconds}.${milliseconds}Z`);
  return id === undefined || Number.isNaN(finishedAtMs) ? undefined : { id, key, finishedAtMs };
}

/** The key of a snapshot's signature. */
export function signatureKey(key: string): string {
  return `${key}.sig`;
}
