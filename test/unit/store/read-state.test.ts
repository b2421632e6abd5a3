import { expect, test } from 'vitest';
import { readSnapshots } from '../../../worker/store/read-state.ts';
import type { SnapshotName, Snapshots } from '../../../worker/store/snapshots.ts';
import { Failure } from '../../../worker/util/failure.ts';

/** Names of snapshots of one size, and a place without any of them that counts its concurrent reads. */
function placeOf(count: number, size: number): { names: SnapshotName[]; snapshots: Snapshots; asked: () => number[] } {
  const under = new Set<SnapshotName>();
  const mosts: number[] = [];
  const names = Array.from({ length: count }, (_, at) => ({
    id: String(at).padStart(64, '0'),
    key: `${at}`,
    finishedAtMs: at,
    size,
    storedAtMs: at,
  }));
  const read: Snapshots['read'] = async (name) => {
    if (typeof name === 'string') throw new TypeError('expected a name');
    under.add(name);
    mosts.push(under.size);
    await new Promise(setImmediate);
    under.delete(name);
    throw new Failure('NOT_FOUND', name.key);
  };
  const unused = async (): Promise<never> => Promise.reject(new Error('not asked for'));
  return { names, snapshots: { list: unused, misnamed: unused, write: unused, read }, asked: () => mosts };
}

async function readAll(place: ReturnType<typeof placeOf>, count = Infinity): Promise<readonly string[]> {
  const keys: string[] = [];
  for await (const { name } of readSnapshots(place.snapshots, place.names)) {
    keys.push(name.key);
    if (keys.length === count) break;
  }
  return keys;
}

test.each([
  { size: 900, most: 32 },
  { size: 150_000, most: 13 },
  { size: 30_000_000, most: 4 },
])('snapshots of $size bytes are read in order, at most $most at once', async ({ size, most }) => {
  const place = placeOf(100, size);
  expect(await readAll(place)).toEqual(place.names.map(({ key }) => key));
  expect(place.asked()).toHaveLength(100);
  expect(Math.max(...place.asked())).toBe(most);
});

test('a reader that stops after one snapshot causes few unused reads', async () => {
  const place = placeOf(100, 900);
  await readAll(place, 1);
  expect(place.asked()).toHaveLength(4);
});
