import { describe, expect, test } from 'vitest';
import type { ObjectStore } from '../../../worker/objects/objects.ts';
import { holdsIndex, layoutIndexOf, writeLayoutIndex } from '../../../worker/store/layout-index.ts';
import { readCovered } from '../../../worker/store/index-checkpoint.ts';
import { readState } from '../../../worker/store/read-state.ts';
import type { State } from '../../../worker/store/state.ts';
import { openSnapshots, type SnapshotName } from '../../../worker/store/snapshots.ts';
import { MemoryObjects } from '../../support/memory-objects.ts';
import { makeSnapshot, snapshotImage } from '../../support/snapshots.ts';

const CHECKPOINT = 'index-checkpoint.json.zst';

/** A store to which snapshots of single tags are written, and which counts reads of snapshots. */
class Pushed {
  readonly objects = new MemoryObjects();
  readonly #read: string[] = [];
  readonly #place = {
    store: counting(this.objects, (key) => this.#read.push(key)),
    prefix: '',
    location: 'store:memory',
  };
  readonly #snapshots = openSnapshots(this.#place);
  #count = 0;

  /** Writes so many snapshots, each of another image under one of a hundred tags. `minute`: when they were finished. */
  async push(count: number, minute?: number): Promise<void> {
    for (let pushed = 0; pushed < count; pushed++) {
      const number = this.#count++;
      const finishedAt = new Date(Date.UTC(2026, 0, 1) + (minute ?? number) * 60_000).toISOString();
      const images = [snapshotImage(`image ${number}`, [`v${number % 100}`])];
      await openSnapshots({ store: this.objects, prefix: '' }).write(
        makeSnapshot({
          finishedAt,
          scope: { repositories: 'app', untagged: false, referrers: true, platforms: [], listed: false },
          repositories: { app: { complete: false, images } },
        }),
      );
    }
  }

  /** Writes a snapshot that lists a registry as a whole. */
  async list(host?: string): Promise<void> {
    const finishedAt = new Date(Date.UTC(2026, 0, 1) + this.#count++ * 60_000).toISOString();
    await openSnapshots({ store: this.objects, prefix: '' }).write(
      makeSnapshot({
        finishedAt,
        ...(host === undefined ? {} : { registry: { host } }),
        repositories: { app: { complete: true, images: [snapshotImage(`image of ${host}`, ['listed'])] } },
      }),
    );
  }

  /** The state as a list of the store reads it, after what it read. */
  async listed(): Promise<{ readonly state: State; readonly read: number }> {
    this.#read.length = 0;
    const covered = async (names: readonly SnapshotName[]): ReturnType<typeof readCovered> =>
      readCovered(this.#place, names, {});
    const state = await readState(this.#snapshots, { covered });
    return { state, read: this.#read.filter((key) => key.startsWith('snapshots/')).length };
  }

  /** Updates index.json as a backup does. Returns how many snapshots were read for it. */
  async writeIndex(options: { readonly readsAll?: boolean } = {}): Promise<number> {
    this.#read.length = 0;
    await writeLayoutIndex(this.#place, this.#snapshots, options);
    return this.#read.filter((key) => key.startsWith('snapshots/')).length;
  }

  /** Expects `index.json` to match all snapshots, whatever was read for it. */
  async expectIndex(): Promise<void> {
    const index = layoutIndexOf(await readState(openSnapshots({ store: this.objects, prefix: '' })));
    expect(await holdsIndex(this.#place, index, {})).toBe(true);
  }
}

function counting(store: MemoryObjects, onRead: (key: string) => void): ObjectStore {
  return {
    describe: (key) => store.describe(key),
    stat: async (key, options) => store.stat(key, options),
    list: (prefix, options) => store.list(prefix, options),
    stream: async (key, body, options) => store.stream(key, body, options),
    upload: async (key, size, options) => store.upload(key, size, options),
    write: async (key, body, options) => store.write(key, body, options),
    read: async (key, options) => {
      onRead(key);
      return store.read(key, options);
    },
  };
}

async function hasCheckpoint(objects: MemoryObjects): Promise<boolean> {
  return (await Array.fromAsync(objects.list(CHECKPOINT))).length === 1;
}

describe('a backup that ends', () => {
  test('reads only the new snapshots of a store with many', async () => {
    const store = new Pushed();
    await store.push(200);
    expect(await store.writeIndex()).toBe(200);
    const reads: number[] = [];
    for (let backup = 0; backup < 60; backup++) {
      await store.push(1);
      reads.push(await store.writeIndex());
    }
    expect(reads[0]).toBe(17);
    expect(Math.max(...reads)).toBe(65);
    expect(reads.at(-1)).toBeLessThan(30);
    await store.expectIndex();
  });

  test('writes no checkpoint in a store of few snapshots', async () => {
    const store = new Pushed();
    await store.push(64);
    await store.writeIndex();
    expect(await hasCheckpoint(store.objects)).toBe(false);
  });

  test('reads all snapshots where one was deleted, or is dated before those in the checkpoint', async () => {
    const store = new Pushed();
    await store.push(100);
    await store.writeIndex();
    const [oldest] = await openSnapshots({ store: store.objects, prefix: '' }).list();
    store.objects.remove(oldest?.key ?? '');
    expect(await store.writeIndex()).toBe(99);
    expect(await store.writeIndex()).toBe(16);
    await store.expectIndex();
    await store.push(1, 7.5);
    expect(await store.writeIndex()).toBe(100);
    await store.expectIndex();
  });

  test.each([
    ['is damaged', async (objects: MemoryObjects) => void (await objects.write(CHECKPOINT, Buffer.from('what?')))],
    ['was deleted', async (objects: MemoryObjects) => objects.remove(CHECKPOINT)],
  ])('reads all snapshots where the checkpoint %s', async (_, damage) => {
    const store = new Pushed();
    await store.push(100);
    await store.writeIndex();
    expect(await store.writeIndex()).toBe(16);
    await damage(store.objects);
    expect(await store.writeIndex()).toBe(100);
    expect(await store.writeIndex()).toBe(16);
  });
});

describe('a list of a store', () => {
  const whole = async (store: Pushed): Promise<State> => readState(openSnapshots({ store: store.objects, prefix: '' }));

  test('does not read snapshots that a newer list of the whole registry makes superfluous', async () => {
    const store = new Pushed();
    await store.push(100);
    await store.list();
    await store.writeIndex();
    await store.push(20);
    const { state, read } = await store.listed();
    expect(state).toEqual(await whole(store));
    // those since the checkpoint, and some that are read ahead
    expect(read).toBeLessThan(80);
  });

  test('has a registry that only an old snapshot lists', async () => {
    const store = new Pushed();
    await store.push(10);
    await store.list('old.example');
    await store.push(90);
    await store.list();
    await store.writeIndex();
    await store.push(20);
    const { state } = await store.listed();
    expect(state.repositories.map(({ registry }) => registry.host)).toContain('old.example');
    expect(state).toEqual(await whole(store));
  });
});

test('a garbage collection takes index.json from the snapshots alone', async () => {
  const store = new Pushed();
  await store.push(100);
  await store.writeIndex();
  expect(await store.writeIndex({ readsAll: true })).toBe(100);
});
