import { digestOf } from '../oci/digest.ts';
import { matchesPattern } from '../oci/location.ts';
import { canonicalJson } from '../util/canonical-json.ts';
import { compareStrings } from '../util/text.ts';
import { byId, graphOf, type Node } from './graph.ts';
import { groupsOf, oldestFirst, type Outcome } from './groups.ts';
import type { Inventory } from './inventory.ts';
import { belongsTo, isNamed, type Circumstances } from './judge.ts';
import { DEFAULT_MAX_DELETES, KEEPS_NOTHING, type PlannedItem, type PlanOptions, type RepositoryPlan } from './plan.ts';
import type { RepositoryPolicy } from './policy.ts';
import { rulesOf } from './rules.ts';
import { LEFT, takeGroups, type Limit } from './take-groups.ts';

/**
 * Plans what goes and what stays of one repository, by the first of `policies` that is for it. `room`: how many items the run may still delete;
 * of more, the oldest images go first. Pure: the same inventory, in whatever order it is listed, policies and time give the same plan. INVALID
 * for a policy with faults (`policyFaults`).
 */
export function planRepository(
  inventory: Inventory,
  policies: readonly RepositoryPolicy[],
  options: Omit<PlanOptions, 'places'>,
  room = options.maxDeletes ?? DEFAULT_MAX_DELETES,
): RepositoryPlan {
  const nodes = graphOf(inventory);
  const policy = policyFor(inventory.repository, policies);
  const incomplete = inventory.incomplete ?? listedTwice(nodes);
  if (incomplete !== undefined) return refusedPlan(inventory, nodes, `the list is not complete: ${incomplete}`);
  const stranger = inventory.others?.find((name) => policyFor(name, policies) !== policy);
  if (stranger !== undefined) {
    const names = `${inventory.repository} and ${stranger}`;
    return refusedPlan(
      inventory,
      nodes,
      `it has archives of ${names}, which have different policies: move one of them`,
    );
  }
  if (policy === undefined) return keepingPlan(inventory, nodes, 'no policy for it');

  const around: Circumstances = {
    inventory,
    nowMs: options.nowMs,
    bars: ({ item }) =>
      inventory.kind === 'images' && options.unbacked?.(item, inventory) === true ? 'no verified backup' : undefined,
    only: options.only && reviewedItems(options.only, inventory.place),
    present: new Set(nodes.map(({ item }) => item.id)),
  };
  const outcome = groupsOf(nodes, rulesOf(policy), around);
  if (options.allowEmpty !== true && leavesNothing(nodes, outcome, around))
    return refusedPlan(inventory, nodes, KEEPS_NOTHING);
  return {
    ...planOf(inventory),
    items: plannedItems(nodes, outcome, { room, maxDeletes: options.maxDeletes ?? DEFAULT_MAX_DELETES }),
  };
}

/** The first policy that matches decides. */
function policyFor(repository: string, policies: readonly RepositoryPolicy[]): RepositoryPolicy | undefined {
  return policies.find(({ repositories }) => repositories.some((pattern) => matchesPattern(pattern, repository)));
}

function planOf(inventory: Inventory): Pick<RepositoryPlan, 'place' | 'kind' | 'inventory'> {
  return { place: inventory.place, kind: inventory.kind, inventory: inventoryDigest(inventory) };
}

function refusedPlan(inventory: Inventory, nodes: readonly Node[], why: string): RepositoryPlan {
  return { ...keepingPlan(inventory, nodes, why), refused: why };
}

function keepingPlan(inventory: Inventory, nodes: readonly Node[], reason: string): RepositoryPlan {
  return { ...planOf(inventory), items: nodes.toSorted(newestFirst).map((node) => plannedItem(node, 'keep', reason)) };
}

/** The digest of an inventory, whatever its order. */
function inventoryDigest({ items, ...inventory }: Inventory): RepositoryPlan['inventory'] {
  const sorted = items.map(({ tags, children, ...item }) =>
    canonicalJson({ ...item, tags: tags.toSorted(compareStrings), children: children.toSorted(compareStrings) }),
  );
  return digestOf(Buffer.from([canonicalJson(inventory), ...sorted.sort(compareStrings)].join('\n')));
}

function listedTwice(nodes: readonly Node[]): string | undefined {
  const twice = nodes.find(({ item }, index) => nodes[index + 1]?.item.id === item.id);
  return twice && `${twice.item.id} is listed twice`;
}

function reviewedItems(plan: NonNullable<PlanOptions['only']>, place: string): ReadonlyMap<string, PlannedItem> {
  const repository = plan.repositories.find((one) => one.place === place);
  return new Map(repository?.items.filter(({ action }) => action !== 'keep').map((item) => [item.id, item]));
}

/**
 * Whether the policy keeps no image: none with a tag where there were any, else nothing. What is kept only because it may not be deleted does
 * not count.
 */
function leavesNothing(nodes: readonly Node[], { groups, verdicts }: Outcome, around: Circumstances): boolean {
  if (groups.length === 0 && ![...verdicts.values()].some(({ barred }) => barred)) return false;
  const named = nodes.filter((node) => isNamed(node, around));
  const counted = named.length > 0 ? named : nodes.filter((node) => !node.isSettings);
  return !counted.some((node) => {
    const verdict = verdicts.get(node);
    return verdict !== undefined && verdict.barred !== true;
  });
}

/** The items of a plan, in its order; of what goes only that for which there is room. */
function plannedItems(nodes: readonly Node[], outcome: Outcome, limit: Limit): readonly PlannedItem[] {
  const { verdicts, untagRounds } = outcome;
  const { groups, left, lastRound } = takeGroups(outcome.groups, limit);
  const items = groups.flatMap(({ image, reason, members }) =>
    members.map((node): PlannedItem => {
      const why = node === image ? reason : belongsTo(node, members);
      return { ...plannedItem(node, 'delete', why), group: image.item.id };
    }),
  );
  const done = new Set(groups.flatMap(({ members }) => members));
  for (const node of nodes.toSorted(oldestFirst)) {
    const { action, reason = '', untag } = verdicts.get(node) ?? {};
    const isLeft = items.length >= limit.room || (untagRounds.get(node) ?? 0) > lastRound;
    if (action !== 'untag' || isLeft) continue;
    items.push({ ...plannedItem(node, 'untag', reason), untag });
    done.add(node);
  }
  for (const node of nodes.filter((one) => !done.has(one)).sort(newestFirst)) {
    const verdict = verdicts.get(node);
    if (verdict?.action === 'keep') items.push(plannedItem(node, 'keep', verdict.reason));
    else items.push({ ...plannedItem(node, 'keep', left.get(node) ?? LEFT), left: true });
  }
  return items;
}

function newestFirst(a: Node, b: Node): number {
  return (b.item.pushedAtMs ?? -Infinity) - (a.item.pushedAtMs ?? -Infinity) || byId(a, b);
}

function plannedItem({ item }: Node, action: PlannedItem['action'], reason: string): PlannedItem {
  const { id, tags, bytes, etag } = item;
  return { id, tags: tags.toSorted(compareStrings), action, reason, bytes, etag };
}
