import { Failure } from '../util/failure.ts';
import type { Inventory } from './inventory.ts';
import type { PlanOptions, PrunePlan } from './plan.ts';
import type { RepositoryPolicy } from './policy.ts';

/**
 * Plans what goes and what stays. Pure: the same inventories, policies and time give the same plan, in whatever order they are listed. INVALID
 * for policies with faults (`policyFaults`) and for a place that is there twice.
 */
export function planPrune(
  inventories: readonly Inventory[],
  policies: readonly RepositoryPolicy[],
  options: PlanOptions,
): PrunePlan {
  throw new Failure('UNSUPPORTED', `plan ${inventories.length} ${policies.length} ${options.nowMs}`);
}
