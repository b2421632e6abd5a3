import { describe, expect, test } from 'vitest';
import { once } from '../../../worker/content/bytes.ts';
import { digestOf, type Digest } from '../../../worker/oci/digest.ts';
import { MEDIA_TYPE } from '../../../worker/oci/manifest.ts';
import { collect, planCollection } from '../../../worker/store/collect.ts';
import { openImageStore } from '../../../worker/store/image-store.ts';
import { blobKey, type StorePlace } from '../../../worker/store/place.ts';
import { SnapshotBuilder } from '../../../worker/store/snapshot-builder.ts';
import type { Snapshot } from '../../../worker/store/snapshot.ts';
import { openSnapshots, type SnapshotName } from '../../../worker/store/snapshots.ts';
import type { StoreBackup } from '../../../worker/store/store.ts';
import { isFailure } from '../../../worker/util/failure.ts';
import { SimulatedProcess, SimulatedStore } from '../../support/simulated-store.ts';

const PREFIX = 'backups/';
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** A store in which time passes when the test decides, or when all processes wait. */
class Scene {
  readonly world = new SimulatedStore(1, () => undefined);

  process(skewMs = 0): SimulatedProcess {
    return new SimulatedProcess(this.world, 'a process', skewMs);
  }

  place(process: SimulatedProcess): StorePlace {
    return { store: process.objects, prefix: PREFIX, location: 'store:simulated' };
  }

  /** The result of `work`, while everything runs. */
  async end<T>(work: PromiseLike<T>): Promise<T> {
    const over = new AbortController();
    const end = (): void => over.abort();
    work.then(end, end);
    for (let turn = 0; !over.signal.aborted && turn < 50_000; turn++) await this.turn();
    return work;
  }

  /** The next event; where all processes wait, time passes. */
  async turn(): Promise<void> {
    if (await this.world.step()) return;
    // work that waits for threads needs some turns of its own
    await new Promise((resolve) => setImmediate(resolve));
    if (!this.world.hasWork) await this.world.pass(Math.min(this.world.idleMs ?? 0, MINUTE));
  }

  async begin(process: SimulatedProcess): Promise<StoreBackup> {
    const store = await openImageStore(this.place(process), { clock: process.clock, create: true });
    return store.begin();
  }

  /** Backs up images of one layer each, under these tags, and resolves to the snapshot. */
  async backUp(tags: Readonly<Record<string, string>>, skewMs = 0): Promise<SnapshotName> {
    const process = this.process(skewMs);
    const backup = await this.end(this.begin(process));
    await this.end(putAll(backup, tags));
    return this.end(backup.finish(snapshotOf(tags, process.clock.now())));
  }

  has(text: string): boolean {
    return this.world.objects.has(keyOf(text));
  }

  async collect(request: Parameters<typeof collect>[2] = {}, process = this.process()): ReturnType<typeof collect> {
    return this.end(collect(this.place(process), process.objects, request, { clock: process.clock }));
  }
}

function keyOf(text: string): string {
  return blobKey({ prefix: PREFIX }, digestOf(Buffer.from(text)));
}

async function putAll(backup: StoreBackup, tags: Readonly<Record<string, string>>): Promise<void> {
  for (const text of Object.values(tags)) {
    const bytes = Buffer.from(text);
    const descriptor = { mediaType: MEDIA_TYPE.ociLayer, digest: digestOf(bytes), size: bytes.byteLength };
    if (!(await backup.target.has(descriptor))) await backup.target.put(descriptor, () => once(bytes));
  }
}

function snapshotOf(tags: Readonly<Record<string, string>>, nowMs: number, pattern = '*'): Snapshot {
  const time = new Date(nowMs).toISOString();
  const builder = new SnapshotBuilder({
    startedAt: time,
    tool: 'test',
    kind: 'store',
    registry: { host: 'registry.example.com' },
    scope: { repositories: pattern, untagged: false, referrers: true, platforms: [], listed: true },
  });
  builder.repository('app', { complete: true });
  for (const [tag, text] of Object.entries(tags)) {
    const digest: Digest = digestOf(Buffer.from(text));
    const one = { digest, size: Buffer.byteLength(text), mediaType: MEDIA_TYPE.ociManifest };
    builder.image('app', { ...one, tags: [tag], content: [one], referrers: [] });
  }
  return builder.finish({ finishedAt: time, added: { blobs: 0, bytes: 0 } });
}

describe('a collection', () => {
  test('deletes nothing while a snapshot has another name than its own: a renamed snapshot still needs its blobs', async () => {
    const scene = new Scene();
    await scene.backUp({ v1: 'kept' });
    await scene.world.pass(HOUR);
    const { key } = await scene.backUp({ v1: 'other' });
    await scene.world.pass(8 * DAY);
    const { objects } = scene.world;
    const renamed = key.replace('snapshots/', 'snapshots/before-the-upgrade-');
    for (const [from, to] of [[key, renamed]] as const) {
      const object = objects.get(from);
      if (object !== undefined) objects.set(to, object);
      objects.delete(from);
    }
    const message = expect.stringMatching(/before-the-upgrade-.* is not named as a snapshot is/);
    await expect(scene.collect()).rejects.toMatchObject({ code: 'INVALID', message });
    const process = scene.process();
    const planned = scene.end(planCollection(scene.place(process), {}, { clock: process.clock }));
    await expect(planned).rejects.toMatchObject({ code: 'INVALID', message });
    expect(scene.has('other')).toBe(true);
  });

  test('deletes nothing where every snapshot is gone, unless that is allowed', async () => {
    const scene = new Scene();
    const { key } = await scene.backUp({ v1: 'one', v2: 'two' });
    scene.world.objects.delete(key);
    await scene.world.pass(8 * DAY);
    const failure = { code: 'CONFLICT', message: expect.stringMatching(/there is no snapshot, .* 2 blobs: bring/) };
    await expect(scene.collect()).rejects.toMatchObject(failure);
    const process = scene.process();
    const planned = scene.end(planCollection(scene.place(process), {}, { clock: process.clock }));
    await expect(planned).rejects.toMatchObject(failure);
    expect(scene.has('one')).toBe(true);
    expect((await scene.collect({ allowEmpty: true })).deleted.blobs).toBe(2);
  });

  test('deletes snapshots by the policy, then what only they needed, and nothing younger than the grace period', async () => {
    const scene = new Scene();
    await scene.backUp({ v1: 'old', v2: 'shared' });
    await scene.world.pass(8 * DAY);
    await scene.backUp({ v1: 'new', v2: 'shared' });
    const left = await scene.end(scene.begin(scene.process()));
    await scene.end(putAll(left, { v3: 'unfinished' }));
    await scene.end(left[Symbol.asyncDispose]());
    const { deleted, sweep } = await scene.collect({ policy: { keepLast: 1 } });
    expect(deleted).toEqual({ snapshots: 1, blobs: 1, bytes: 3 });
    expect(sweep.young.count).toBe(1);
    expect(['old', 'shared', 'new', 'unfinished'].map((text) => scene.has(text))).toEqual([false, true, true, true]);
    await scene.world.pass(8 * DAY);
    expect((await scene.collect()).deleted).toEqual({ snapshots: 0, blobs: 1, bytes: 10 });
    expect(scene.has('unfinished')).toBe(false);
  });

  test('keeps every snapshot without a policy, and plans without writing', async () => {
    const scene = new Scene();
    for (const text of ['one', 'two', 'three']) {
      await scene.backUp({ v1: text });
      await scene.world.pass(30 * DAY);
    }
    const before = new Map(scene.world.objects);
    const process = scene.process();
    const place = scene.place(process);
    const all = await scene.end(planCollection(place, {}, { clock: process.clock }));
    expect(all.snapshots.map(({ action }) => action)).toEqual(['keep', 'keep', 'keep']);
    const some = await scene.end(planCollection(place, { policy: { keepLast: 1 } }, { clock: process.clock }));
    expect(some.snapshots.map(({ action }) => action)).toEqual(['keep', 'delete', 'delete']);
    expect(some.sweep.blobs.map(({ key }) => key).sort()).toEqual([keyOf('one'), keyOf('two')].sort());
    expect(new Map(scene.world.objects)).toEqual(before);
  });

  test('keeps the snapshots of the present state, and counts each scope by itself', async () => {
    const scene = new Scene();
    const process = scene.process();
    const write = async (tags: Readonly<Record<string, string>>, pattern: string): Promise<void> => {
      const backup = await scene.end(scene.begin(process));
      await scene.end(putAll(backup, tags));
      await scene.end(backup.finish(snapshotOf(tags, process.clock.now(), pattern)));
      await scene.world.pass(DAY);
    };
    await write({ v1: 'first' }, '*');
    await write({ v1: 'second' }, '*');
    await write({ v1: 'third' }, 'app');
    await write({ v1: 'fourth' }, 'app');
    await scene.world.pass(30 * DAY);
    const { snapshots } = await scene.collect({ policy: { keepDays: 1 } });
    expect(snapshots.map(({ action, scope }) => `${action} ${scope}`)).toEqual([
      'keep registry.example.com/app',
      'delete registry.example.com/app',
      'keep registry.example.com/*',
      'delete registry.example.com/*',
    ]);
  });

  test('reports locked objects, keeps what a locked snapshot needs, and deletes both later', async () => {
    const scene = new Scene();
    const old = await scene.backUp({ v1: 'old' });
    await scene.backUp({ v1: 'older than locked', v2: 'x' }, 1000);
    await scene.world.pass(DAY);
    await scene.backUp({ v1: 'new' });
    await scene.world.pass(8 * DAY);
    scene.world.locked.add(old.key).add(keyOf('x'));
    const { deleted, notDeleted } = await scene.collect({ policy: { keepLast: 1 } });
    expect(notDeleted.map(({ key, failure }) => [key, failure.code])).toEqual([
      [old.key, 'DENIED'],
      [keyOf('x'), 'DENIED'],
    ]);
    expect(deleted.blobs).toBe(1);
    expect(scene.has('old')).toBe(true);
    scene.world.locked.clear();
    expect((await scene.collect({ policy: { keepLast: 1 } })).deleted).toMatchObject({ snapshots: 1, blobs: 2 });
  });

  test('deletes nothing where a snapshot cannot be read', async () => {
    const scene = new Scene();
    const { key } = await scene.backUp({ v1: 'old' });
    await scene.world.pass(DAY);
    await scene.backUp({ v1: 'new' });
    await scene.world.pass(8 * DAY);
    scene.world.write(key, Buffer.from('damaged'), undefined);
    const keys = [...scene.world.objects.keys()].filter((one) => !one.includes('/locks/'));
    await expect(scene.collect({ policy: { keepLast: 1 } })).rejects.toMatchObject({ code: 'CORRUPT' });
    expect(keys.filter((one) => !scene.world.objects.has(one))).toEqual([]);
  });

  test('waits for a running backup, and gives up after ten minutes without deleting', async () => {
    const scene = new Scene();
    await scene.backUp({ v1: 'old' });
    await scene.world.pass(8 * DAY);
    const backup = await scene.end(scene.begin(scene.process()));
    await expect(scene.collect({ graceMs: 0 })).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringContaining('a backup is running'),
    });
    const collecting = scene.collect({ graceMs: 0 });
    await scene.end(backup[Symbol.asyncDispose]());
    expect((await collecting).deleted).toEqual({ snapshots: 0, blobs: 0, bytes: 0 });
  });

  test('deletes locks that are old, and ignores those of crashed backups', async () => {
    const scene = new Scene();
    const crashed = scene.process();
    await scene.end(scene.begin(crashed));
    crashed.kill();
    const locks = (): number => [...scene.world.objects.keys()].filter((key) => key.includes('/locks/')).length;
    await scene.world.pass(31 * MINUTE);
    await scene.collect();
    expect(locks()).toBe(2);
    await scene.world.pass(8 * DAY);
    await scene.collect();
    expect(locks()).toBe(1);
  });

  test('stops where it was suspended while it deleted', async () => {
    const scene = new Scene();
    await scene.backUp({ v1: 'old' });
    await scene.world.pass(8 * DAY);
    await scene.backUp({ v1: 'new' });
    await scene.world.pass(8 * DAY);
    const process = scene.process();
    // the snapshot is deleted, and the blob is not yet: then it sleeps
    const remove = process.objects.remove.bind(process.objects);
    let calls = 0;
    process.objects.remove = async (items, options) => {
      const result = await remove(items, options);
      if (++calls === 1) {
        await scene.world.pass(31 * MINUTE);
      }
      return result;
    };
    await expect(scene.collect({ policy: { keepLast: 1 } }, process)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(scene.has('old')).toBe(true);
    await scene.collect({ policy: { keepLast: 1 } });
    expect(scene.has('old')).toBe(false);
  });
});

/** Kills the process right after its write or delete of this number took effect, and resolves. */
async function killedAfter(process: SimulatedProcess, number: number): Promise<'killed'> {
  const { promise, resolve } = Promise.withResolvers<'killed'>();
  let writes = 0;
  const counted = async <T>(work: Promise<T>): Promise<T> => {
    const result = await work;
    if (++writes !== number) return result;
    process.kill();
    resolve('killed');
    return new Promise<never>(() => undefined);
  };
  const { objects } = process;
  const write = objects.write.bind(objects);
  const remove = objects.remove.bind(objects);
  process.objects.write = async (key, bytes, options) => counted(write(key, bytes, options));
  process.objects.remove = async (items, options) => counted(remove(items, options));
  return promise;
}

/** Fails where a snapshot names something that does not exist. */
async function expectWhole(scene: Scene): Promise<void> {
  const snapshots = openSnapshots(scene.place(scene.process()));
  for (const name of await scene.end(snapshots.list())) {
    const { snapshot } = await scene.end(snapshots.read(name));
    for (const { digest } of snapshot.content)
      expect(scene.world.objects.has(blobKey({ prefix: PREFIX }, digest)), digest).toBe(true);
  }
}

describe('killed after any write or delete,', () => {
  test('a collection leaves a whole store, and the next one continues', async () => {
    for (let number = 1; ; number++) {
      const scene = new Scene();
      await scene.backUp({ v1: 'old', v2: 'other' });
      await scene.world.pass(8 * DAY);
      await scene.backUp({ v1: 'new' });
      await scene.world.pass(8 * DAY);
      const process = scene.process();
      const killed = killedAfter(process, number);
      const request = { policy: { keepLast: 1 } };
      const collecting = collect(scene.place(process), process.objects, request, { clock: process.clock });
      const end = await scene.end(Promise.race([killed, collecting]));
      await expectWhole(scene);
      await scene.world.pass(HOUR);
      await scene.backUp({ v1: 'new', v2: 'newer' });
      await scene.collect(request);
      await expectWhole(scene);
      expect(['old', 'other', 'new', 'newer'].map((text) => scene.has(text))).toEqual([false, false, true, true]);
      if (end !== 'killed') break;
    }
  });

  test('a backup leaves a whole store, and the next one uses what it sent', async () => {
    for (let number = 1; ; number++) {
      const scene = new Scene();
      const process = scene.process();
      const killed = killedAfter(process, number);
      const tags = { v1: 'one', v2: 'two' };
      const backingUp = (async () => {
        const backup = await scene.begin(process);
        await putAll(backup, tags);
        return backup.finish(snapshotOf(tags, process.clock.now()));
      })();
      const end = await scene.end(Promise.race([killed, backingUp]));
      await expectWhole(scene);
      const sent = Object.values(tags).filter((text) => scene.has(text)).length;
      const next = await scene.end(scene.begin(scene.process()));
      await scene.end(putAll(next, tags));
      expect(next.added.blobs).toBe(2 - sent);
      await scene.end(next.finish(snapshotOf(tags, scene.world.nowMs + 1000)));
      await expectWhole(scene);
      if (end !== 'killed') break;
    }
  });
});

describe('a backup', () => {
  test('waits for a collection, and gives up after ten minutes', async () => {
    const scene = new Scene();
    await scene.backUp({ v1: 'old' });
    const crashed = scene.process();
    const collecting = collect(scene.place(crashed), crashed.objects, {}, { clock: crashed.clock });
    collecting.catch(() => undefined);
    while (![...scene.world.objects.keys()].some((key) => key.includes('-collect-'))) await scene.world.step();
    crashed.kill();
    await expect(scene.end(scene.begin(scene.process()))).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringContaining('a garbage collection is running'),
    });
    await scene.world.pass(21 * MINUTE);
    await scene.end((await scene.end(scene.begin(scene.process())))[Symbol.asyncDispose]());
  });

  test('looks again after it took a new lock: another collection may have begun meanwhile', async () => {
    const scene = new Scene();
    await scene.backUp({ v1: 'old' });
    const order: string[] = [];
    const process = scene.process();
    const write = process.objects.write.bind(process.objects);
    let second: Promise<unknown> | undefined;
    process.objects.write = async (key, bytes, options) => {
      const isRenewed = order[0] === 'first' && key.includes('/locks/') && !Buffer.from(bytes).includes('endedAt');
      if (isRenewed && second === undefined) {
        const other = scene.process();
        second = collect(scene.place(other), other.objects, {}, { clock: other.clock }).then(() =>
          order.push('second'),
        );
        while (!other.listed.includes(`${PREFIX}snapshots/`)) await scene.turn();
      }
      return write(key, bytes, options);
    };
    const other = scene.process();
    const first = collect(scene.place(other), other.objects, {}, { clock: other.clock }).then(() =>
      order.push('first'),
    );
    while (!other.listed.includes(`${PREFIX}snapshots/`)) await scene.turn();
    const begun = scene.begin(process).then((backup) => {
      order.push('backup');
      return backup;
    });
    await scene.end(first);
    await scene.end((await scene.end(begun))[Symbol.asyncDispose]());
    await second;
    expect(order).toEqual(['first', 'second', 'backup']);
  });

  test('writes no snapshot of what was collected while it was suspended, and writes one where everything is there', async () => {
    const scene = new Scene();
    const left = await scene.end(scene.begin(scene.process()));
    await scene.end(putAll(left, { v1: 'unreferenced', v2: 'other' }));
    await scene.end(left[Symbol.asyncDispose]());
    const process = scene.process();
    const backup = await scene.end(scene.begin(process));
    await scene.end(putAll(backup, { v1: 'unreferenced' }));
    process.suspend(2 * HOUR);
    await scene.world.pass(HOUR);
    expect((await scene.collect({ graceMs: 0, allowEmpty: true })).deleted.blobs).toBe(2);
    await scene.world.pass(HOUR + 1);
    const error = await scene
      .end(backup.finish(snapshotOf({ v1: 'unreferenced' }, process.clock.now())))
      .catch((cause: unknown) => cause);
    expect(isFailure(error, 'CONFLICT')).toBe(true);
    expect(await scene.end(openSnapshots(scene.place(process)).list())).toEqual([]);
    await scene.end(putAll(backup, { v1: 'unreferenced' }));
    await scene.end(backup.finish(snapshotOf({ v1: 'unreferenced' }, process.clock.now())));
    expect(scene.has('unreferenced')).toBe(true);
  });

  test('waits for a collection that began while it was suspended, before it looks again', async () => {
    const scene = new Scene();
    const left = await scene.end(scene.begin(scene.process()));
    await scene.end(putAll(left, { v1: 'unreferenced' }));
    await scene.end(left[Symbol.asyncDispose]());
    const process = scene.process();
    const backup = await scene.end(scene.begin(process));
    process.suspend(2 * HOUR);
    await scene.world.pass(2 * HOUR - MINUTE);
    const other = scene.process();
    const remove = other.objects.remove.bind(other.objects);
    const gate = Promise.withResolvers<void>();
    other.objects.remove = async (items, options) => {
      await gate.promise;
      return remove(items, options);
    };
    const collecting = collect(
      scene.place(other),
      other.objects,
      { graceMs: 0, allowEmpty: true },
      { clock: other.clock },
    );
    while (!other.listed.includes(`${PREFIX}blobs/`)) await scene.turn();
    for (let turn = 0; turn < 20; turn++) await scene.world.step();
    await scene.world.pass(MINUTE);
    const finishing = backup.finish(snapshotOf({ v1: 'unreferenced' }, process.clock.now()));
    finishing.catch(() => undefined);
    for (let turn = 0; turn < 100; turn++) await scene.turn();
    gate.resolve();
    expect((await scene.end(collecting)).deleted.blobs).toBe(1);
    await expect(scene.end(finishing)).rejects.toMatchObject({ code: 'CONFLICT' });
    await expectWhole(scene);
  });

  test('holds its lock until its snapshot is written', async () => {
    const scene = new Scene();
    const process = scene.process();
    const backup = await scene.end(scene.begin(process));
    await scene.end(putAll(backup, { v1: 'one' }));
    const write = process.objects.write.bind(process.objects);
    let collected: unknown;
    process.objects.write = async (key, bytes, options) => {
      if (key.includes('/snapshots/')) collected = await scene.collect({ graceMs: 0 }).catch((error: unknown) => error);
      return write(key, bytes, options);
    };
    await scene.end(backup.finish(snapshotOf({ v1: 'one' }, process.clock.now())));
    expect(isFailure(collected, 'UNAVAILABLE')).toBe(true);
    await expectWhole(scene);
  });

  test('writes no snapshot where its lock is too old at the last moment', async () => {
    const scene = new Scene();
    const process = scene.process();
    const backup = await scene.end(scene.begin(process));
    await scene.end(putAll(backup, { v1: 'one' }));
    const stat = process.objects.stat.bind(process.objects);
    process.objects.stat = async (key, options) => {
      const info = await stat(key, options);
      if (key.includes('/locks/')) await scene.world.pass(11 * MINUTE);
      return info;
    };
    const finishing = backup.finish(snapshotOf({ v1: 'one' }, process.clock.now()));
    await expect(scene.end(finishing)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(await scene.end(openSnapshots(scene.place(process)).list())).toEqual([]);
  });

  test.each([HOUR, -HOUR])('and a collection agree, whatever their clocks show (%s ms apart)', async (skewMs) => {
    const scene = new Scene();
    const backup = await scene.end(scene.begin(scene.process(skewMs)));
    await scene.end(putAll(backup, { v1: 'young' }));
    await expect(scene.collect({ graceMs: HOUR / 2 }, scene.process(-skewMs))).rejects.toMatchObject({
      code: 'UNAVAILABLE',
    });
    await scene.end(backup[Symbol.asyncDispose]());
    expect((await scene.collect({ graceMs: HOUR / 2 }, scene.process(skewMs))).deleted.blobs).toBe(0);
  });
});
