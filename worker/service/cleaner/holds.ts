import type { Inventory, Item } from '../../retention/inventory.ts';
import type { JobAtPlace } from './open-jobs.ts';

/** Whether a copy is writing images there now: it may be about to use any of them, so nothing of the place is deleted. */
export function isWrittenNow(jobs: readonly JobAtPlace[]): boolean {
  return jobs.some(({ running, uses }) => running && uses.some(({ role }) => role === 'destination'));
}

/**
 * The inventory with what jobs need held: what they name, and while one of them reads images, those without a tag too, since a tag may have
 * moved on since that job began. `kept` are tags that stay in any case, with the reason of each.
 */
export function withHolds(
  inventory: Inventory,
  jobs: readonly JobAtPlace[],
  kept: ReadonlyMap<string, string>,
): Inventory {
  const named = new Map<string, string>();
  let untagged: string | undefined;
  for (const { running, uses } of jobs) {
    for (const { role, name } of uses) {
      const copy = role === 'source' ? 'of it' : 'to it';
      if (name !== undefined) named.set(name, `a copy ${copy} is ${running ? 'under way' : 'waiting'}`);
      if (running && inventory.kind === 'images') untagged = 'a copy of this repository is under way';
    }
  }
  const children = new Set<string>(inventory.items.flatMap((item) => item.children));
  const isUntaggedImage = ({ id, tags, subject }: Item): boolean =>
    tags.length === 0 && subject === undefined && !children.has(id);
  const reasonOf = (item: Item): string | undefined =>
    [item.id, ...item.tags].map((name) => named.get(name) ?? kept.get(name)).find((reason) => reason !== undefined) ??
    (isUntaggedImage(item) ? untagged : undefined);
  const items = inventory.items.map((item) => {
    const held = item.held ?? reasonOf(item);
    return held === undefined ? item : { ...item, held };
  });
  return { ...inventory, items };
}
