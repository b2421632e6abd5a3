import { checkAborted, type Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import { Failure } from '../util/failure.ts';
import type { StateStore } from './state.ts';
import { stateOver, type StateOptions } from './store.ts';
import {
  MAX_CHANGES,
  type Change,
  type Expected,
  type Item,
  type ItemChange,
  type Key,
  type QueryOptions,
  type Table,
  type Updated,
} from './table.ts';

const MAX_ITEM_BYTES = 400 * 1024;

/** A state that is gone with the process: for tests, and to try things. As `openDynamo` in everything else. */
export function memoryState(clock: Clock, options: StateOptions = {}): StateStore {
  return stateOver(memoryTable(), clock, options);
}

/** A table in memory, with the conditions of the real one. */
export function memoryTable(): Table {
  const items = new Map<string, Map<string, Item>>();
  const put = (item: Item): void => {
    const group = items.get(item.pk) ?? new Map<string, Item>();
    items.set(item.pk, group.set(item.sk, item));
  };
  return {
    async get({ pk, sk }: Key, options?: Abortable) {
      checkAborted(options);
      return items.get(pk)?.get(sk);
    },

    async getEach(keys: readonly Key[], options?: Abortable) {
      checkAborted(options);
      return keys.map(({ pk, sk }) => items.get(pk)?.get(sk));
    },

    async update(key: Key, change: Change, expected: Expected, options?: Abortable): Promise<Updated> {
      checkAborted(options);
      const found = items.get(key.pk)?.get(key.sk);
      if (!isAsExpected(found, expected)) return { done: false, item: found };
      const item = resized(key, changed(found ?? key, change));
      put(item);
      return { done: true, item };
    },

    async updateAll(changes: readonly ItemChange[], options?: Abortable): Promise<boolean> {
      checkAborted(options);
      if (changes.length > MAX_CHANGES) throw new Failure('BUG', `write ${changes.length} items at once`);
      const all = changes.map((one) => ({ ...one, found: items.get(one.key.pk)?.get(one.key.sk) }));
      if (!all.every(({ found, expected }) => isAsExpected(found, expected))) return false;
      for (const item of all.map(({ key, change, found }) => resized(key, changed(found ?? key, change)))) put(item);
      return true;
    },

    async *query(pk: string, options: QueryOptions = {}) {
      checkAborted(options);
      const { prefix = '', limit = Infinity, descending = false } = options;
      const found = [...(items.get(pk)?.values() ?? [])].filter(({ sk }) => sk.startsWith(prefix)).sort(bySk);
      for (const item of (descending ? found.toReversed() : found).slice(0, limit)) {
        checkAborted(options);
        yield item;
      }
    },
  };
}

/** The item. INVALID where it is too large for the table. */
function resized({ pk, sk }: Key, item: Item): Item {
  if (sizeOf(item) <= MAX_ITEM_BYTES) return item;
  throw new Failure('INVALID', `write ${pk}, ${sk}: an item has ${MAX_ITEM_BYTES} bytes at most`);
}

/** https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html: names and values, of numbers up to 21 bytes */
function sizeOf(item: Item): number {
  return Object.entries(item).reduce(
    (sum, [name, value]) => sum + name.length + (typeof value === 'string' ? Buffer.byteLength(value) : 21),
    0,
  );
}

function isAsExpected(item: Item | undefined, expected: Expected): boolean {
  return Object.entries(expected).every(([name, wanted]) => {
    const value = item?.[name];
    if (typeof wanted !== 'object') return value === wanted;
    return value !== undefined && wanted.includes(value);
  });
}

function changed(item: Item | Key, { set = {}, add = {} }: Change): Item {
  const next: Record<string, Item[string]> & Key = { ...item };
  for (const [name, value] of Object.entries(set)) {
    if (value === undefined) delete next[name];
    else next[name] = value;
  }
  for (const [name, value] of Object.entries(add)) {
    const before = next[name];
    next[name] = (typeof before === 'number' ? before : 0) + value;
  }
  return next;
}

/** In the order of DynamoDB, which is not that of strings in JavaScript. */
function bySk(a: Key, b: Key): number {
  return Buffer.compare(Buffer.from(a.sk), Buffer.from(b.sk));
}
