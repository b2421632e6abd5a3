import type { Table } from '../../worker/state/table.ts';
import { CrashPoints } from './crash.ts';

/**
 * `table` as a process sees it that is killed at its `at`-th point (counted from 1; Infinity: never), or at one of points that it shares with
 * others: each change is two, before it takes
 * effect, and after it did but before the process hears of it.
 */
export function crashingTable(table: Table, at: number | CrashPoints): { readonly table: Table; points(): number } {
  const points = typeof at === 'number' ? new CrashPoints(at) : at;
  const wrapped: Table = {
    get: async (key, o) => {
      points.alive();
      return table.get(key, o);
    },
    update: async (key, change, expected, o) => {
      points.point();
      const updated = await table.update(key, change, expected, o);
      points.point();
      return updated;
    },
    query: async function* (pk, o) {
      for await (const item of table.query(pk, o)) {
        points.alive();
        yield item;
      }
    },
  };
  return { table: wrapped, points: () => points.count };
}

/** `table` behind a wait before and after each call: the place where others come in between. */
export function slowTable(table: Table, wait: () => Promise<void>): Table {
  return {
    get: async (key, o) => {
      await wait();
      const item = await table.get(key, o);
      await wait();
      return item;
    },
    update: async (key, change, expected, o) => {
      await wait();
      const updated = await table.update(key, change, expected, o);
      await wait();
      return updated;
    },
    query: async function* (pk, o) {
      await wait();
      for await (const item of table.query(pk, o)) {
        yield item;
        await wait();
      }
    },
  };
}
