import type { Abortable } from '../util/abort.ts';
import type { Report } from '../util/events.ts';
import { isFailure } from '../util/failure.ts';
import type { SnapshotName, Snapshots } from './snapshots.ts';

/** Clocks differ by less, and backups that run at once end within less. */
const MOST_OFF_MS = 5 * 60_000;
const MINUTE_MS = 60_000;

/**
 * Warns where a wrong clock puts the snapshot that was just written in a wrong order: that of this process is far from the store's, or another
 * snapshot is dated well after it, whose images count as newer then. Lists the snapshots; a list that fails is not a failure of the backup.
 */
export async function warnOfOrder(
  snapshots: Snapshots,
  written: SnapshotName,
  { report, signal }: Abortable & { readonly report?: Report | undefined },
): Promise<void> {
  let names: readonly SnapshotName[];
  try {
    names = await snapshots.list({ signal });
  } catch (error) {
    if (isFailure(error)) return;
    throw error;
  }
  const warn = (message: string): void => report?.({ type: 'warning', message });
  const id = written.id.slice(0, 8);
  // the answer to a write does not have the time of the store
  const { storedAtMs } = names.find(({ key }) => key === written.key) ?? written;
  const offMs = written.finishedAtMs - storedAtMs;
  if (Math.abs(offMs) > MOST_OFF_MS) {
    const [minutes, way] = [Math.round(Math.abs(offMs) / MINUTE_MS), offMs > 0 ? 'ahead of' : 'behind'];
    warn(
      `the clock of this computer is ${minutes} minutes ${way} that of the store, and the snapshot ${id} has its time: set the clock, and back up again, or an older backup may be taken for the newest`,
    );
  }
  const newest = names.at(-1);
  if (newest === undefined || newest.finishedAtMs - written.finishedAtMs <= MOST_OFF_MS) return;
  const time = new Date(newest.finishedAtMs).toISOString();
  warn(
    `the snapshot ${newest.id.slice(0, 8)} is dated ${time}, after this one (${id}): what it has of the same repositories counts as newer until a backup ends after that time; a clock is wrong`,
  );
}
