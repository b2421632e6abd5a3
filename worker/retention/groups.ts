import { byId, labelOf, type Node } from './graph.ts';
import { belongsTo, holdOf, isNamed, judge, type Circumstances, type Verdict } from './judge.ts';
import type { Rules } from './rules.ts';

/** An image that may go, and everything that goes with it, in the order in which it can be deleted. */
export interface Group {
  readonly image: Node;
  readonly reason: string;
  readonly members: readonly Node[];
  /** The round in which it was found. It is deleted only if all groups of earlier rounds are: if one is left, a rule might keep it. */
  readonly round: number;
}

/** The verdicts of the policy on an inventory. */
export interface Outcome {
  /** In the order in which images go. */
  readonly groups: readonly Group[];
  /** The verdicts on what stays. */
  readonly verdicts: ReadonlyMap<Node, Verdict>;
  /** The round in which an image was found to lose tags. */
  readonly untagRounds: ReadonlyMap<Node, number>;
}

/**
 * What goes, if nothing limits how much. It is found in rounds: when an index went, its children that have a tag of their own are judged as
 * images, and so on until nothing more goes. So a second run has nothing to do.
 */
export function groupsOf(nodes: readonly Node[], rules: Rules, around: Circumstances): Outcome {
  const present = new Set(nodes);
  const groups: Group[] = [];
  const untagRounds = new Map<Node, number>();
  const ties = new Ties(nodes);
  for (let round = 0; ; round++) {
    const isFree = (node: Node): boolean => ties.isFree(node) && (node.above.size === 0 || isNamed(node, around));
    const verdicts = new Map(judge([...present].filter(isFree), rules, around));
    for (const [node, { action }] of verdicts)
      if (action === 'untag' && !untagRounds.has(node)) untagRounds.set(node, round);
    const going = withoutHeld(present, verdicts, ties, around);
    if (going.length === 0) return { groups, verdicts: allVerdicts(present, verdicts, around), untagRounds };
    for (const group of going) {
      groups.push({ ...group, round });
      for (const node of group.members) present.delete(node);
    }
  }
}

/** Counts for each node what is above it and did not go yet. */
class Ties {
  readonly #left: Map<Node, number>;

  constructor(nodes: Iterable<Node>) {
    this.#left = new Map(Array.from(nodes, (node) => [node, node.above.size]));
  }

  isFree(node: Node): boolean {
    return this.#left.get(node) === 0;
  }

  /** `node` goes. Returns what belongs to it and to nothing else that is left. */
  cut(node: Node): readonly Node[] {
    return node.below.filter((below) => this.#add(below, -1) === 0);
  }

  /** Takes `cut` back. */
  restore(node: Node): void {
    for (const below of node.below) this.#add(below, 1);
  }

  #add(node: Node, difference: number): number {
    const left = (this.#left.get(node) ?? 0) + difference;
    this.#left.set(node, left);
    return left;
  }
}

/**
 * The groups of this round. Where something that would go with an image may not be deleted, everything above it stays too, so that it does not lose
 * its image. The verdict of that image then gives that as its reason.
 */
function withoutHeld(
  present: ReadonlySet<Node>,
  verdicts: Map<Node, Verdict>,
  ties: Ties,
  around: Circumstances,
): readonly Omit<Group, 'round'>[] {
  const { groups, held } = groupsIn(present, verdicts, ties, around);
  if (held.size === 0) return groups;
  for (const { members } of groups) for (const member of members) ties.restore(member);
  for (const first of held) {
    const reason = `${labelOf(first)} goes with it: ${holdOf(first, around) ?? 'it may not be deleted'}`;
    const staying = new Set([first]);
    for (const node of staying) {
      for (const above of node.above.keys()) {
        if (!present.has(above)) continue;
        staying.add(above);
        if (verdicts.get(above)?.action === 'delete') verdicts.set(above, { action: 'keep', reason, barred: true });
      }
    }
  }
  return groupsIn(present, verdicts, ties, around).groups;
}

/** The groups of the images that go by their verdicts, and what would go with them and may not. */
function groupsIn(
  present: ReadonlySet<Node>,
  verdicts: ReadonlyMap<Node, Verdict>,
  ties: Ties,
  around: Circumstances,
): { readonly groups: readonly Omit<Group, 'round'>[]; readonly held: ReadonlySet<Node> } {
  const images = [...present].filter((node) => verdicts.get(node)?.action === 'delete').sort(oldestFirst);
  const held = new Set<Node>();
  const groups = images.map((image): Omit<Group, 'round'> => {
    const members = [image];
    // what is added while a list is walked is walked too
    for (const member of members) {
      for (const below of ties.cut(member)) {
        if (isNamed(below, around)) continue;
        if (holdOf(below, around) === undefined) members.push(below);
        // settings that stay harm no archive
        else if (!below.isSettings) held.add(below);
      }
    }
    return { image, reason: verdicts.get(image)?.reason ?? '', members };
  });
  return { groups, held };
}

/** Those whose push time is not known come last. */
export function oldestFirst(a: Node, b: Node): number {
  const [pushedA, pushedB] = [a.item.pushedAtMs ?? Infinity, b.item.pushedAtMs ?? Infinity];
  if (pushedA !== pushedB) return pushedA - pushedB;
  return byId(a, b);
}

/** The verdicts, and of what belongs to something the reason for that: it stays too. */
function allVerdicts(
  present: ReadonlySet<Node>,
  verdicts: ReadonlyMap<Node, Verdict>,
  around: Circumstances,
): ReadonlyMap<Node, Verdict> {
  const all = new Map(verdicts);
  for (const node of present) {
    if (all.has(node)) continue;
    const above = [...node.above.keys()].filter((one) => present.has(one));
    // settings alone stay without their archives
    const reason = above.length > 0 ? belongsTo(node, above) : holdOf(node, around);
    all.set(node, { action: 'keep', reason: reason ?? 'settings of the repository' });
  }
  return all;
}
