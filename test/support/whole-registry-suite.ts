import { expect, test } from 'vitest';
import { backupToStore } from '../../worker/images/backup-store.ts';
import { restoreSnapshot, type SnapshotRestoreResult } from '../../worker/images/restore-snapshot.ts';
import { systemClock } from '../../worker/util/clock.ts';
import { backedUpToArchives } from './backed-up.ts';
import { fakeClock } from './clock.ts';
import { CrashPoints } from './crash.ts';
import { makeImage } from './images.ts';
import type { Lab } from './lab.ts';
import {
  dyingBackends,
  emptyRegistry,
  fillRegistry,
  isDead,
  listRegistry,
  type RegistrySize,
} from './whole-registry.ts';

/** Registers the flow of a registry that is lost and restored, from a store and from archives. */
export function wholeRegistrySuite(lab: Lab, size: RegistrySize & { readonly kills: number }): void {
  const { ecr, otherEcr, bucket } = lab.stack;
  const { store, restored } = flowOf(lab);
  const images = size.repositories * size.imagesEach;
  // many times what it takes on a quiet machine
  const slow = { timeout: images * 5000 };

  const equalIn = ({ repositories }: SnapshotRestoreResult): number =>
    repositories.reduce((sum, { comparison }) => sum + (comparison?.equal ?? 0), 0);

  test(
    `${images} images of ${size.repositories} repositories are restored from a store, killed at any point, and as of an earlier day`,
    slow,
    async () => {
      const prefix = 'lost';
      await fillRegistry(lab, ecr, prefix, size);
      const rows = await Array.fromAsync(lab.client(ecr).images?.(`${prefix}/team-1/app-1`) ?? []);
      const archived = rows.find(({ tags }) => tags.includes('v4'));
      const { backends, options } = lab.session();
      const storage = backends.registry(ecr.registryHost, 'source').storageClasses;
      const before = await listRegistry(ecr, prefix, lab.session());
      await storage?.moveToStorageClass(`${prefix}/team-1/app-1`, archived?.digest ?? 'sha256:', 'ARCHIVE', options);
      await store(prefix);
      const day = systemClock.now();
      // the next day a tag moves, a repository is deleted, and another is created
      const moved = await makeImage({ seed: 77, tag: 'v2' });
      await lab.push(moved, ecr, `${prefix}/team-1/app-1`);
      await lab.stack.deleteRepository(`${prefix}/team-2/app-2`);
      await lab.push(moved, ecr, `${prefix}/new`);
      await store(prefix, 86_400_000);
      await emptyRegistry(lab, prefix);

      // as on the first day, by processes that are killed
      const dice = fakeClock({ seed: size.kills });
      const from = `store:s3://${bucket}/${prefix}`;
      let deaths = 0;
      for (let at = 1; deaths < size.kills; at += Math.ceil(dice.random() * images)) {
        const points = new CrashPoints(at);
        const session = lab.session();
        const dying = dyingBackends(session.backends, points);
        await restoreSnapshot(
          { from, to: `docker://${otherEcr.registryHost}`, asOfMs: day + 1000 },
          dying,
          session.options,
        );
        if (!isDead(points)) break;
        deaths++;
      }
      expect(deaths).toBeGreaterThan(2);
      const result = await restored(from, { asOfMs: day + 1000 });
      expect(result.failures).toEqual([]);
      expect(result.faults).toEqual([]);
      expect(equalIn(result)).toBe(images);
      expect(await listRegistry(otherEcr, prefix, lab.session())).toEqual(before);

      // and as at the end
      const last = await restored(from, { onExisting: 'overwrite', maps: [`${prefix}/*=${prefix}-end/*`] });
      expect(last).toMatchObject({ failures: [], faults: [] });
      expect(last.repositories.map(({ from: name }) => name.split('/').slice(1).join('/'))).not.toContain(
        `${prefix}/team-2/app-2`,
      );
      const view = lab.view(otherEcr, `${prefix}-end/team-1/app-1`);
      expect((await view.resolve('v2')).digest).toBe(moved.root.descriptor.digest);
    },
  );

  test(`${images} images of ${size.repositories} repositories are restored from archives`, slow, async () => {
    const prefix = 'lost-archives';
    await fillRegistry(lab, ecr, prefix, size);
    const before = await listRegistry(ecr, prefix, lab.session());
    await backedUpToArchives(`docker://${ecr.registryHost}/${prefix}/*`, `s3://${bucket}/${prefix}/`, lab.session());
    await emptyRegistry(lab, prefix);
    const result = await restored(`s3://${bucket}/${prefix}/`, { snapshot: 'latest' });
    expect(result).toMatchObject({ failures: [], faults: [] });
    expect(await listRegistry(otherEcr, prefix, lab.session())).toEqual(before);
  });
}

/** Registers the flow of a registry that mounts blobs. It counts requests, so it has its own stack, whose list of requests is short. */
export function mountingSuite(lab: Lab, size: RegistrySize): void {
  const { ecr, otherEcr, bucket } = lab.stack;
  const { store, restored } = flowOf(lab);

  test('a registry that mounts blobs is sent each blob once in all, and another registry once for each repository', async () => {
    const prefix = 'mounting';
    await fillRegistry(lab, ecr, prefix, size);
    await store(prefix);
    await emptyRegistry(lab, prefix);
    const sent = async (to: string): Promise<{ readonly uploads: number; readonly distinct: number }> => {
      const start = otherEcr.requests.length;
      const result = await restored(`store:s3://${bucket}/${prefix}`, { maps: [`${prefix}/*=${to}/*`] });
      expect(result).toMatchObject({ failures: [], faults: [] });
      const digests = otherEcr.requests
        .slice(start)
        .flatMap(({ kind, query }) => (kind === 'upload-put' ? [new URLSearchParams(query).get('digest')] : []));
      return { uploads: digests.length, distinct: new Set(digests).size };
    };
    const plain = await sent('mounting-off');
    // the base layer of all, and one layer of each repository, are sent once for each repository
    expect(plain.uploads - plain.distinct).toBe(size.repositories - 1);
    const { backends, options } = lab.session();
    const target = backends.registry(otherEcr.registryHost, 'target');
    await target.applyRegistrySettings({ accountSettings: { BLOB_MOUNTING: 'ENABLED' } }, options);
    const mounting = await sent('mounting-on');
    await target.applyRegistrySettings({ accountSettings: { BLOB_MOUNTING: 'DISABLED' } }, options);
    expect(mounting.uploads).toBe(mounting.distinct);
  });
}

/** What all flows do: back up `prefix` of one registry into a store, and restore it into the other. */
function flowOf(lab: Lab): {
  readonly store: (prefix: string, laterMs?: number) => Promise<string>;
  readonly restored: (from: string, more?: object) => Promise<SnapshotRestoreResult>;
} {
  const { ecr, otherEcr, bucket } = lab.stack;
  const store = async (prefix: string, laterMs = 0): Promise<string> => {
    const { backends, options } = lab.session();
    const clock = { ...systemClock, now: () => systemClock.now() + laterMs };
    const request = {
      from: `docker://${ecr.registryHost}/${prefix}/*`,
      to: `store:s3://${bucket}/${prefix}`,
      tool: 'test',
    };
    const { failures, snapshot } = await backupToStore(
      { ...request, untagged: true, includeArchived: true },
      backends,
      { ...options, clock },
    );
    expect(failures).toEqual([]);
    return snapshot?.id ?? '';
  };
  const restored = async (from: string, more: object = {}): Promise<SnapshotRestoreResult> => {
    const { backends, options } = lab.session();
    return restoreSnapshot({ from, to: `docker://${otherEcr.registryHost}`, ...more }, backends, options);
  };
  return { store, restored };
}
