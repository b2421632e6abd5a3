import type { Node } from './graph.ts';
import type { Group } from './groups.ts';

/** The reason of what goes in a later run. */
export const LEFT = 'left for the next run';

export interface Limit {
  /** The most items that one run deletes. */
  readonly maxDeletes: number;
  /** How many of them it may still delete. */
  readonly room: number;
}

export interface Taken {
  readonly groups: readonly Group[];
  /** What is left, with the reason. */
  readonly left: ReadonlyMap<Node, string>;
  /** The first round of which something is left: what was found in a later one stays. */
  readonly lastRound: number;
}

/**
 * The groups for which there is room, first come first served, whole groups only. A group that is larger
 * than a run may be never goes, and bars no other of its round.
 */
export function takeGroups(groups: readonly Group[], { maxDeletes, room }: Limit): Taken {
  const taken: Group[] = [];
  const left = new Map<Node, string>();
  const gone = new Set<Node>();
  let free = room;
  let lastRound = Infinity;
  let isFull = false;
  for (const group of groups) {
    // what belongs to an image that is left stays with it
    const members: Node[] = [];
    for (const node of group.members) {
      if (isAfter(node, gone)) {
        members.push(node);
        gone.add(node);
      } else left.set(node, LEFT);
    }
    const isTooLarge = members.length > maxDeletes;
    isFull ||= group.round > lastRound || (!isTooLarge && members.length > free);
    if (isTooLarge || isFull) {
      lastRound = Math.min(lastRound, group.round);
      const why =
        isTooLarge && !isFull ? `goes with ${members.length} items, more than maxDeletes ${maxDeletes}` : LEFT;
      for (const node of members) {
        gone.delete(node);
        left.set(node, why);
      }
    } else if (members.length > 0) {
      taken.push({ ...group, members });
      free -= members.length;
    }
  }
  return { groups: taken, left, lastRound };
}

/** Whether all that it belongs to went before. */
function isAfter({ above }: Node, gone: ReadonlySet<Node>): boolean {
  for (const one of above.keys()) if (!gone.has(one)) return false;
  return true;
}
