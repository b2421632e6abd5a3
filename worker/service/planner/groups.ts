import { LRUCache } from 'lru-cache';
import type { Destination } from '../../rules/destinations.ts';
import type { Abortable } from '../../util/abort.ts';
import { forEachOf } from '../../util/limit.ts';

/** What is known of the destinations of one group (`DestinationKey.group`), by name. */
export type Group<T> = ReadonlyMap<string, T>;

/** Up to this many destinations of a group are asked for one by one, more by listing the group. */
export const FEW = 16;
const REQUESTS_AT_ONCE = 8;
/** Names that are kept between repositories, which mostly have groups of their own. */
const MAX_KEPT = 50_000;

/** Groups that were used last, up to `maxNames` names in all. One group is kept however large it is. */
export class RecentGroups<T> {
  readonly #groups: LRUCache<string, Group<T>>;

  constructor(maxNames = MAX_KEPT) {
    const sizeCalculation = ({ size }: Group<T>): number => Math.min(Math.max(1, size), maxNames);
    this.#groups = new LRUCache({ maxSize: maxNames, sizeCalculation });
  }

  get(group: string): Group<T> | undefined {
    return this.#groups.get(group);
  }

  keep(group: string, names: Group<T>): Group<T> {
    this.#groups.set(group, names);
    return names;
  }
}

/** What `find` gives for the wanted destinations of each group. */
export async function eachGroup<T>(
  wanted: readonly Destination[],
  find: (group: string, some: readonly Destination[], options: Abortable) => Promise<Group<T>>,
  options: Abortable,
): Promise<Group<Group<T>>> {
  const found = new Map<string, Group<T>>();
  await forEachOf(
    Map.groupBy(wanted, (one) => one.group),
    REQUESTS_AT_ONCE,
    async ([group, some], taskOptions) => void found.set(group, await find(group, some, taskOptions)),
    options,
  );
  return found;
}

/** What `find` gives for each destination, asked one by one. */
export async function oneByOne<T>(
  some: readonly Destination[],
  find: (one: Destination, options: Abortable) => Promise<T | undefined>,
  options: Abortable,
): Promise<Group<T>> {
  const found = new Map<string, T>();
  await forEachOf(
    some,
    REQUESTS_AT_ONCE,
    async (one, taskOptions) => {
      const value = await find(one, taskOptions);
      if (value !== undefined) found.set(one.name, value);
    },
    options,
  );
  return found;
}
