import { digestOf } from '../../oci/digest.ts';
import type { Inventory } from '../../retention/inventory.ts';
import type { PlannedItem, RepositoryPlan } from '../../retention/plan.ts';

// Children, signatures and settings go with an image. When a Cleaner is killed after it deleted the image and before it deleted those, nothing
// in the registry shows any more that they may go. So the state remembers them before anything is deleted.

/** Bytes of what is remembered of one part of a plan: an item of the table has 400 KB. */
const MAX_BYTES = 250_000;

/** The plan in parts that can be remembered, each with whole groups. */
export function* partsOf(plan: RepositoryPlan): Iterable<RepositoryPlan> {
  let items: PlannedItem[] = [];
  let bytes = 0;
  for (const group of groupsOf(plan)) {
    const more = Buffer.byteLength(formatGroup(group));
    if (items.length > 0 && bytes + more > MAX_BYTES) {
      yield { ...plan, items };
      [items, bytes] = [[], 0];
    }
    for (const item of group) items.push(item);
    bytes += more;
  }
  if (items.length > 0) yield { ...plan, items };
}

/** What is remembered of a part: for each group the image, and what goes with it. A group that is one item has nothing to remember. */
export function formatDoomed(part: Pick<RepositoryPlan, 'items'>): string {
  const lines = groupsOf(part).map(formatGroup);
  return lines
    .filter((line) => line !== '')
    .join('\n')
    .slice(0, MAX_BYTES);
}

function groupsOf({ items }: Pick<RepositoryPlan, 'items'>): readonly (readonly PlannedItem[])[] {
  const going = items.filter(({ action }) => action !== 'keep');
  return [...Map.groupBy(going, (item) => item.group ?? item.id).values()];
}

function formatGroup(group: readonly PlannedItem[]): string {
  const image = group[0]?.group;
  return image === undefined || group.length === 1 ? '' : JSON.stringify([image, ...group.map(({ id }) => id)]);
}

/** What a Cleaner that was stopped left of those groups: a plan that names what went with images that are gone. Undefined for nothing. */
export function leftoversOf(doomed: string | undefined, inventory: Inventory): RepositoryPlan | undefined {
  const present = new Set(inventory.items.map(({ id }) => id));
  const items = (doomed ?? '')
    .split('\n')
    .flatMap(readGroup)
    .filter(({ id, group }) => present.has(id) && group !== undefined && !present.has(group));
  if (items.length === 0) return undefined;
  return { place: inventory.place, kind: inventory.kind, inventory: digestOf(Buffer.alloc(0)), items };
}

function readGroup(line: string): readonly PlannedItem[] {
  let ids: unknown;
  try {
    ids = JSON.parse(line);
  } catch {
    // the last line of a group that was too long to be remembered
    return [];
  }
  if (!Array.isArray(ids)) return [];
  const [group, ...members] = ids.filter((id) => typeof id === 'string');
  if (group === undefined) return [];
  const reason = 'goes with an image that was deleted before';
  return members.map((id): PlannedItem => ({ id, tags: [], action: 'delete', reason, group }));
}
