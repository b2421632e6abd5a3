import { expect } from 'vitest';
import { backup } from '../../worker/images/backup.ts';
import { backupToStore } from '../../worker/images/backup-store.ts';
import { parseS3 } from '../../worker/oci/location.ts';
import { openSnapshots } from '../../worker/store/snapshots.ts';
import type { Snapshot, SnapshotArchive } from '../../worker/store/snapshot.ts';
import { systemClock } from '../../worker/util/clock.ts';
import type { Session } from './lab.ts';

/** Backs up into a store; returns the id of its snapshot. */
export async function backedUpToStore(from: string, to: string, { backends, options }: Session): Promise<string> {
  // the lock of a backup is refreshed while it runs: a clock that jumps with each sleep would never stand still
  const timed = { ...options, clock: systemClock };
  const { failures, snapshot } = await backupToStore({ from, to, tool: 'test', untagged: true }, backends, timed);
  expect(failures).toEqual([]);
  return snapshot?.id ?? '';
}

/**
 * Backs up into archives below `s3://bucket/prefix/`, and writes the snapshot that lists them, after `edit`. What the images are made of comes from
 * a snapshot of a store.
 */
export async function backedUpToArchives(
  from: string,
  to: string,
  session: Session,
  edit: (snapshot: Snapshot) => Snapshot = (snapshot) => snapshot,
): Promise<string> {
  const { backends, options } = session;
  const { bucket, key: prefix } = parseS3(to);
  const { items, faults } = await backup({ from, to }, backends, options);
  expect([...faults, ...items.flatMap(({ failure }) => failure ?? [])]).toEqual([]);
  const archives = new Map<string, SnapshotArchive>();
  for (const { from: source, to: target, result } of items) {
    if (result?.object === undefined) continue;
    const { key } = parseS3(target);
    const tag = source.slice(source.lastIndexOf(':') + 1);
    const version = result.version === undefined ? {} : { version: result.version };
    archives.set(source.replace('docker://', ''), { tag, key, ...result.object, ...version });
  }
  const store = backends.bucket(bucket);
  const id = await backedUpToStore(from, `store:s3://${bucket}/facts-of/${prefix}`, session);
  const { snapshot } = await openSnapshots({ store, prefix: `facts-of/${prefix}` }).read(id);
  const { host } = snapshot.registry;
  const repositories = snapshot.repositories.map((repository) => ({
    ...repository,
    images: repository.images.map((image) => ({
      ...image,
      archives: image.tags.flatMap((tag) => archives.get(`${host}/${repository.name}:${tag}`) ?? []),
    })),
  }));
  const name = await openSnapshots({ store, prefix }).write(edit({ ...snapshot, kind: 'archives', repositories }));
  return name.id;
}
