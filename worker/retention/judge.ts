import { append } from '../util/lists.ts';
import { daysBefore } from './calendar.ts';
import { labelOf, lastPull, type Node } from './graph.ts';
import type { Inventory } from './inventory.ts';
import type { PlannedItem } from './plan.ts';
import { namesEveryTag } from './policy.ts';
import { days, keptByTime, newestArchiveFirst, newestFirst, whyItGoes, type Aged, type Rules } from './rules.ts';

/** The verdict on one image. */
export interface Verdict {
  readonly action: 'keep' | 'delete' | 'untag';
  readonly reason: string;
  readonly untag?: readonly string[];
  /** The policy would let it go, and something else bars that. */
  readonly barred?: true;
}

/** What decides beside the policy. */
export interface Circumstances {
  readonly inventory: Inventory;
  readonly nowMs: number;
  /** Why the image may not go: it has no verified backup, the reviewed plan does not name it. */
  readonly bars: (node: Node) => string | undefined;
  /** What the reviewed plan changes, by ids. Absent: there is no reviewed plan. */
  readonly only: ReadonlyMap<string, PlannedItem> | undefined;
  /** The ids of the inventory. */
  readonly present: ReadonlySet<string>;
}

/** Whether an item is an image of its own: it has a tag that was given to it, or is an archive. */
export function isNamed(node: Node, { inventory }: Circumstances): boolean {
  return node.tags.length > 0 || (inventory.kind === 'archives' && !node.isSettings);
}

/**
 * Judges images: nodes that are neither a child of another nor refer to one. The order does not matter. What belongs to an image is not
 * judged: it goes when the image goes.
 */
export function judge(images: readonly Node[], rules: Rules, around: Circumstances): ReadonlyMap<Node, Verdict> {
  const named = images.filter((node) => isNamed(node, around));
  const kept = keptOf(named, rules, around);
  const verdicts = new Map<Node, Verdict>();
  for (const node of images) {
    const verdict = isNamed(node, around)
      ? judgeNamed(node, rules, around, kept.get(node) ?? [])
      : judgeUntagged(node, rules, around);
    verdicts.set(node, barred(node, verdict, around));
  }
  return verdicts;
}

/** What the rules about time keep, and of archives the newest good backup of each image. */
function keptOf(
  named: readonly Node[],
  rules: Rules,
  { inventory, nowMs }: Circumstances,
): ReadonlyMap<Node, readonly string[]> {
  const groups = new Map<string, Aged[]>();
  for (const node of named) {
    const { pushedAtMs, bad, id, image } = node.item;
    if (pushedAtMs === undefined || bad !== undefined || !mayGo(node, rules)) continue;
    const name = inventory.kind === 'images' ? '' : (image ?? id);
    const group = groups.get(name) ?? [];
    groups.set(name, group);
    group.push({ node, pushedAtMs });
  }
  const kept = new Map<Node, readonly string[]>();
  for (const [name, group] of groups) {
    const sorted = group.sort(
      inventory.kind === 'archives' ? (a, b) => newestArchiveFirst(a.node.item, b.node.item) : newestFirst,
    );
    for (const [node, reasons] of keptByTime(sorted, rules.policy, nowMs)) kept.set(node, reasons);
    const newest = sorted[0]?.node;
    if (inventory.kind === 'archives' && newest !== undefined && keepsNewest(rules))
      kept.set(newest, [...(kept.get(newest) ?? []), `newest good backup of ${name}`]);
  }
  return kept;
}

/** Whether the newest good backup of each image stays: only patterns that name some tags, such as `pr-*`, are an order to delete the last one. */
function keepsNewest({ policy: { deleteTags } }: Rules): boolean {
  return deleteTags === undefined || deleteTags.some(namesEveryTag);
}

/** Whether the policy is about this image: one of its tags may go. */
function mayGo({ tags }: Node, rules: Rules): boolean {
  if (rules.policy.deleteTags === undefined) return rules.deletesTagged;
  return tags.some((tag) => rules.deletesTag(tag) !== undefined);
}

function judgeNamed(node: Node, rules: Rules, around: Circumstances, kept: readonly string[]): Verdict {
  const { tags, item, derivedTags } = node;
  const reasons = [...kept];
  const isChosen = rules.policy.deleteTags !== undefined;
  const going = tags.filter((tag) => rules.keepsTag(tag) === undefined && (!isChosen || rules.deletesTag(tag)));
  const keepers = new Set(tags.flatMap((tag) => rules.keepsTag(tag) ?? []));
  if (!isChosen || going.length === 0) append(reasons, keepers);
  if (!mayGo(node, rules)) {
    if (reasons.length === 0) reasons.push(isChosen ? 'not in deleteTags' : 'the policy deletes no image with a tag');
    return keep(reasons);
  }
  if (item.bad !== undefined) reasons.push(item.bad);
  if (item.pushedAtMs === undefined && (rules.needsAge || (around.inventory.kind === 'archives' && !isChosen)))
    reasons.push('age not known');
  const pulled = pullReason(node, rules, around.nowMs);
  if (pulled !== undefined) reasons.push(pulled);
  if (reasons.length > 0) return keep(reasons);

  const staying = tags.find((tag) => !going.includes(tag));
  const named = going.flatMap((tag) => rules.deletesTag(tag) ?? []);
  const reason = whyItGoes(rules, named, { pushedAtMs: item.pushedAtMs, nowMs: around.nowMs });
  if (staying === undefined) {
    if (derivedTags.length > 0) return keep([`about an image that is not here: ${derivedTags[0]}`]);
    return { action: 'delete', reason };
  }
  if (around.inventory.untags) return { action: 'untag', reason, untag: going };
  return keep([`the tag ${staying} stays: ${rules.keepsTag(staying) ?? 'not in deleteTags'}`]);
}

function pullReason(node: Node, { policy }: Rules, nowMs: number): string | undefined {
  if (policy.notPulledForDays === undefined) return undefined;
  const pulledAtMs = lastPull(node);
  if (pulledAtMs === undefined) return 'last pull not known';
  const isRecent = pulledAtMs >= daysBefore(nowMs, policy.notPulledForDays);
  return isRecent ? `pulled within ${days(policy.notPulledForDays)}` : undefined;
}

function judgeUntagged(
  { item, derivedTags, isSettings }: Node,
  { policy }: Rules,
  { nowMs, only, present }: Circumstances,
): Verdict {
  const { untaggedAfterDays } = policy;
  const planned = only?.get(item.id);
  // a run was stopped after the image, and before what went with it
  if (planned?.group !== undefined && !present.has(planned.group)) return { action: 'delete', reason: planned.reason };
  if (isSettings) return keep(['settings of the repository']);
  // its image may be in another repository: https://github.com/sigstore/cosign#registry-details
  if (derivedTags[0] !== undefined) return keep([`about an image that is not here: ${derivedTags[0]}`]);
  if (untaggedAfterDays === undefined) return keep(['the policy deletes no image without a tag']);
  if (item.pushedAtMs === undefined) return keep(['age not known']);
  if (item.pushedAtMs >= daysBefore(nowMs, untaggedAfterDays))
    return keep([`untagged, pushed within ${days(untaggedAfterDays)}`]);
  return { action: 'delete', reason: `untagged, older than ${days(untaggedAfterDays)}` };
}

/** The verdict, where nothing bars it. */
function barred(node: Node, verdict: Verdict, { bars, only }: Circumstances): Verdict {
  if (verdict.action === 'keep') return verdict;
  const { held } = node.item;
  if (held !== undefined) return { action: 'keep', reason: held, barred: true };
  const planned = only?.get(node.item.id);
  if (verdict.action === 'untag') {
    if (only === undefined) return verdict;
    const untag = (verdict.untag ?? []).filter((tag) => planned?.untag?.includes(tag));
    return untag.length > 0 ? { ...verdict, untag } : keep([NOT_REVIEWED]);
  }
  if (only !== undefined && planned?.action !== 'delete') return keep([NOT_REVIEWED]);
  const reason = bars(node);
  return reason === undefined ? verdict : { action: 'keep', reason, barred: true };
}

const NOT_REVIEWED = 'not in the reviewed plan';

function keep(reasons: readonly string[]): Verdict {
  return { action: 'keep', reason: reasons.join(', ') };
}

/** Why what belongs to an image may not go, which keeps the image too. */
export function holdOf({ item }: Node, { only }: Circumstances): string | undefined {
  if (item.held !== undefined) return item.held;
  return only !== undefined && only.get(item.id)?.action !== 'delete' ? NOT_REVIEWED : undefined;
}

/** What it is of which of `among`: `child of v3`. */
export function belongsTo(node: Node, among: Iterable<Node>): string {
  const some = new Set(among);
  for (const [above, relation] of node.above) if (some.has(above)) return `${relation} of ${labelOf(above)}`;
  return 'part of another image';
}
