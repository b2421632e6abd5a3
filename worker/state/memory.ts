import { checkAborted, type Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import { Failure } from '../util/failure.ts';
import type { StateStore } from './state.ts';
import { stateOver, type StateOptions } from './store.ts';
import type { Change, Expected, Item, Key, QueryOptions, Table, Updated } from './table.ts';

const MAX_ITEM_BYTES = 400 * 1024;

/** A state that is gone with the process: for tests, and to try things. As `openDynamo` in everything else. */
export function memoryState(clock: Clock, options: StateOptions = {}): StateStore {
  return stateOver(memoryTable(), clock, options);
}

/** A table in memory, with the conditions of the real one. */
export function memoryTable(): Table {
  const items = new Map<string, Map<string, Item>>();
  return {
    async get({ pk, sk }: Key, options?: Abortable) {
      checkAborted(options);
      return items.get(pk)?.get(sk);
    },

    async update(key: Key, change: Change, expected: Expected, options?: Abortable): Promise<Updated> {
      checkAborted(options);
      const found = items.get(key.pk)?.get(key.sk);
      if (!isAsExpected(found, expected)) return { done: false, item: found };
      const item = changed(found ?? key, change);
      if (sizeOf(item) > MAX_ITEM_BYTES)
        throw new Failure('INVALID', `write ${key.pk}, ${key.sk}: an item has ${MAX_ITEM_BYTES} bytes at most`);
      const group = items.get(key.pk) ?? new Map<string, Item>();
      items.set(key.pk, group.set(key.sk, item));
      return { done: true, item };
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

/** As DynamoDB does, not as strings of JavaScript compare. */
function bySk(a: Key, b: Key): number {
  return Buffer.compare(Buffer.from(a.sk), Buffer.from(b.sk));
}
