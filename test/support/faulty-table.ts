import type { Table } from '../../worker/state/table.ts';
import { CrashPoints } from './crash.ts';

/**
 * `table` as a process sees it that is killed at its `at`-th point (counted from 1; Infinity: never), or at one of points that it shares with
 * others: each change is two, before it takes effect, and after it did but before the process learns of it.
 */
export function crashingTable(table: Table, at: number | CrashPoints): { readonly table: Table; points(): number } {
  const points = typeof at === 'number' ? new CrashPoints(at) : at;
  const wrapped: Table = {
    get: async (key, options) => {
      points.alive();
      return table.get(key, options);
    },
    getEach: async (keys, options) => {
      points.alive();
      return table.getEach(keys, options);
    },
    updateAll: async (changes, options) => {
      points.point();
      const done = await table.updateAll(changes, options);
      points.point();
      return done;
    },
    update: async (key, change, expected, options) => {
      points.point();
      const updated = await table.update(key, change, expected, options);
      points.point();
      return updated;
    },
    query: async function* (pk, options) {
      for await (const item of table.query(pk, options)) {
        points.alive();
        yield item;
      }
    },
  };
  return { table: wrapped, points: () => points.count };
}

/** `table` with a wait before and after each call: the place where other processes interleave. */
export function slowTable(table: Table, wait: () => Promise<void>): Table {
  return {
    get: async (key, options) => {
      await wait();
      const item = await table.get(key, options);
      await wait();
      return item;
    },
    getEach: async (keys, options) => {
      await wait();
      const items = await table.getEach(keys, options);
      await wait();
      return items;
    },
    updateAll: async (changes, options) => {
      await wait();
      const done = await table.updateAll(changes, options);
      await wait();
      return done;
    },
    update: async (key, change, expected, options) => {
      await wait();
      const updated = await table.update(key, change, expected, options);
      await wait();
      return updated;
    },
    query: async function* (pk, options) {
      await wait();
      for await (const item of table.query(pk, options)) {
        yield item;
        await wait();
      }
    },
  };
}
