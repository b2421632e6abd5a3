import { expect } from 'vitest';
import { backup } from '../../worker/images/backup.ts';
import { backupToStore } from '../../worker/images/backup-store.ts';
import { parseS3 } from '../../worker/oci/location.ts';
import { openSnapshots } from '../../worker/store/snapshots.ts';
import type { Snapshot } from '../../worker/store/snapshot.ts';
import { systemClock } from '../../worker/util/clock.ts';
import type { Session } from './lab.ts';

/** Backs up into a store. Returns the id of its snapshot. */
export async function backedUpToStore(from: string, to: string, { backends, options }: Session): Promise<string> {
  // a backup refreshes its lock while it runs: a clock that jumps with each sleep would never stop
  const timed = { ...options, clock: systemClock };
  const { failures, snapshot } = await backupToStore({ from, to, tool: 'test', untagged: true }, backends, timed);
  expect(failures).toEqual([]);
  return snapshot?.id ?? '';
}

/** Backs up into archives below `s3://bucket/prefix/`. `edit` makes a second snapshot of the first. Returns the id of the last. */
export async function backedUpToArchives(
  from: string,
  to: string,
  { backends, options }: Session,
  edit?: (snapshot: Snapshot) => Snapshot,
): Promise<string> {
  const { items, faults, snapshot } = await backup({ from, to, untagged: true, snapshotBy: 'test' }, backends, options);
  expect([...faults, ...items.flatMap(({ failure }) => failure ?? [])]).toEqual([]);
  const id = snapshot?.id ?? '';
  if (edit === undefined) return id;
  const { bucket, key: prefix } = parseS3(to);
  const snapshots = openSnapshots({ store: backends.bucket(bucket), prefix });
  const { snapshot: first } = await snapshots.read(id);
  const finishedAt = new Date(Date.parse(first.finishedAt) + 60_000).toISOString();
  return (await snapshots.write(edit({ ...first, finishedAt }))).id;
}
