import type { Abortable } from '../util/abort.ts';
import { Failure } from '../util/failure.ts';

/**
 * The one table behind the state: items by key, each changed on its own and only where it is as expected. Reads see every write that ended
 * before. Calls are repeated until they are answered, so a change whose answer was lost may be reported as not done. A caller that must know
 * leaves a mark of its own in the item.
 *
 * Failures of all calls: NOT_FOUND (no such table), DENIED, UNAUTHENTICATED, THROTTLED, UNAVAILABLE, ABORTED.
 */
export interface Table {
  /** The item; undefined where it does not exist. */
  get(key: Key, options?: Abortable): Promise<Item | undefined>;
  /** The items of different keys, in the order of the keys. They may be of different moments. */
  getEach(keys: readonly Key[], options?: Abortable): Promise<readonly (Item | undefined)[]>;
  /** Changes the item, or makes it, where it is as expected. INVALID when it grows too large. */
  update(key: Key, change: Change, expected: Expected, options?: Abortable): Promise<Updated>;
  /**
   * Makes all of these changes, of MAX_CHANGES different items at most, where every item is as expected. Otherwise makes none and returns false.
   * May also return false while another process changes one of the items.
   */
  updateAll(changes: readonly ItemChange[], options?: Abortable): Promise<boolean>;
  /** All items of a `pk`, in order of the bytes of their `sk`. */
  query(pk: string, options?: QueryOptions): AsyncIterable<Item>;
}

/** The key of an item: its partition and its place there. */
export interface Key {
  readonly pk: string;
  readonly sk: string;
}

/** The value of an attribute. */
export type Value = string | number | boolean;

/** An item: its key and its attributes. */
export type Item = Key & Readonly<Record<string, Value>>;

/** What is changed in an item. */
export interface Change {
  /** New values. Undefined removes the attribute. */
  readonly set?: Readonly<Record<string, Value | undefined>>;
  /** Numbers to add. An absent attribute counts from 0. */
  readonly add?: Readonly<Record<string, number>>;
}

/** A change of one item among several. */
export interface ItemChange {
  readonly key: Key;
  readonly change: Change;
  readonly expected: Expected;
}

/** The most changes of one transaction: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html */
export const MAX_CHANGES = 100;

/** By attribute: its value, one of several, or undefined where it must be absent. `{ pk }`: the item is there; `{ pk: undefined }`: it is not. */
export type Expected = Readonly<Record<string, Value | readonly Value[] | undefined>>;

/** `item` as it is now, or as it was found where the change was not done. */
export type Updated =
  { readonly done: true; readonly item: Item } | { readonly done: false; readonly item: Item | undefined };

export interface QueryOptions extends Abortable {
  /** What the `sk` of every item begins with. */
  readonly prefix?: string | undefined;
  /** Last first. */
  readonly descending?: boolean | undefined;
  /** Only these attributes, beside the key. */
  readonly attributes?: readonly string[] | undefined;
  /** The most items to return. Default: all. */
  readonly limit?: number | undefined;
}

/** https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html */
const MAX_PK_BYTES = 2048;
const MAX_SK_BYTES = 1024;

/** The key of an item. INVALID for one that no table takes. */
export function keyOf(pk: string, sk: string): Key {
  const fits = sk !== '' && Buffer.byteLength(pk) <= MAX_PK_BYTES && Buffer.byteLength(sk) <= MAX_SK_BYTES;
  if (!fits) throw new Failure('INVALID', `name an item of the table ${pk}, ${sk}: it is empty or too long`);
  return { pk, sk };
}

/** A string attribute; undefined where the item does not have it. */
export function findText(item: Item | undefined, name: string): string | undefined {
  const value = item?.[name];
  return typeof value === 'string' ? value : undefined;
}

/** A number attribute; undefined where the item does not have it. */
export function findNumber(item: Item | undefined, name: string): number | undefined {
  const value = item?.[name];
  return typeof value === 'number' ? value : undefined;
}

/** A string attribute. CORRUPT when the item does not have it. */
export function textOf(item: Item, name: string): string {
  return findText(item, name) ?? lacks(item, name);
}

/** A number attribute. CORRUPT when the item does not have it. */
export function numberOf(item: Item, name: string): number {
  return findNumber(item, name) ?? lacks(item, name);
}

function lacks(item: Item, name: string): never {
  throw new Failure('CORRUPT', `read item ${item.pk}, ${item.sk} of the table: it has no ${name}`);
}
