import type { Inventory, Item } from './inventory.ts';
import { newestArchiveFirst } from './rules.ts';
import type { RepositoryPlan } from './plan.ts';

/**
 * For each image that a plan deletes archives of, the newest archive that stays and is not known to be bad: the one that would be restored. A caller
 * that finds it bad plans again.
 */
export function newestKept({ items, kind }: Inventory, plan: RepositoryPlan): readonly Item[] {
  if (kind !== 'archives') return [];
  const going = new Set(plan.items.flatMap(({ id, action }) => (action === 'keep' ? [] : [id])));
  if (going.size === 0) return [];
  const newest = new Map<string, Item>();
  const losing = new Set<string>();
  for (const item of items) {
    const name = item.image ?? item.id;
    if (going.has(item.id)) losing.add(name);
    else if (item.bad === undefined) {
      const known = newest.get(name);
      if (known === undefined || newestArchiveFirst(item, known) < 0) newest.set(name, item);
    }
  }
  return [...newest].flatMap(([name, item]) => (losing.has(name) ? [item] : []));
}

/** The inventory, in which these archives are bad, with the reason of each. */
export function withBad(inventory: Inventory, bad: ReadonlyMap<string, string>): Inventory {
  if (bad.size === 0) return inventory;
  const items = inventory.items.map((item) => ({ ...item, bad: item.bad ?? bad.get(item.id) }));
  return { ...inventory, items };
}
