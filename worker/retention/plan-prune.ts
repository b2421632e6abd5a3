import { digestOf, type Digest } from '../oci/digest.ts';
import { canonicalJson } from '../util/canonical-json.ts';
import type { PlanOptions, PrunePlan, RepositoryPlan, Totals } from './plan.ts';
import type { RepositoryPolicy } from './policy.ts';

/** A plan of repositories that were planned one by one, by `planRepository` with the same policies and time, in the same order. */
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
