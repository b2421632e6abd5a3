import { digestOf, type Digest } from '../oci/digest.ts';
import { canonicalJson } from '../util/canonical-json.ts';
import { Failure } from '../util/failure.ts';
import { compareStrings, quote } from '../util/text.ts';
import type { Inventory } from './inventory.ts';
import { planRepository } from './plan-repository.ts';
import { DEFAULT_MAX_DELETES, type PlanOptions, type PrunePlan, type RepositoryPlan, type Totals } from './plan.ts';
import { policyFaults, type RepositoryPolicy } from './policy.ts';

/**
 * Plans what goes and what stays. Pure: the same inventories, policies and time give the same plan, in whatever order they are listed. Where
 * `maxDeletes` is not enough for all, the places that come first go first, and of each the oldest images. INVALID for policies with faults
 * (`policyFaults`) and for a place that is there twice.
 */
export function planPrune(
  inventories: readonly Inventory[],
  policies: readonly RepositoryPolicy[],
  options: PlanOptions,
): PrunePlan {
  const fault = policyFaults(policies)[0];
  if (fault !== undefined) throw new Failure('INVALID', `policy ${fault.path.join('.')}: ${fault.message}`);
  const repositories: RepositoryPlan[] = [];
  let room = options.maxDeletes ?? DEFAULT_MAX_DELETES;
  for (const inventory of inventories.toSorted((a, b) => compareStrings(a.place, b.place))) {
    if (repositories.at(-1)?.place === inventory.place)
      throw new Failure('INVALID', `plan ${quote(inventory.place)}: it was listed twice`);
    const repository = planRepository(inventory, policies, options, room);
    repositories.push(repository);
    room -= goingItems(repository);
  }
  return assemblePlan(repositories, policies, options);
}

/** A plan of repositories that were planned one by one, by `planRepository` with the same policies and options. */
export function assemblePlan(
  repositories: readonly RepositoryPlan[],
  policies: readonly RepositoryPolicy[],
  { places, nowMs }: Pick<PlanOptions, 'places' | 'nowMs'>,
): PrunePlan {
  return {
    format: 1,
    places,
    createdMs: nowMs,
    policies: policiesDigest(policies),
    repositories,
    totals: totalsOf(repositories),
  };
}

/** How many items of a repository go or lose tags: what a run's `maxDeletes` counts. */
export function goingItems({ items }: RepositoryPlan): number {
  return items.filter(({ action }) => action !== 'keep').length;
}

/** The digest of policies, in their order. */
function policiesDigest(policies: readonly RepositoryPolicy[]): Digest {
  return digestOf(Buffer.from(canonicalJson(policies)));
}

/** The totals of some repositories. */
function totalsOf(repositories: readonly RepositoryPlan[]): Totals {
  const totals = { keep: 0, delete: 0, untag: 0, left: 0, bytes: 0, refused: 0 };
  for (const { items, refused } of repositories) {
    if (refused !== undefined) totals.refused++;
    for (const { action, bytes = 0, left } of items) {
      totals[action]++;
      if (left === true) totals.left++;
      if (action === 'delete') totals.bytes += bytes;
    }
  }
  return totals;
}
