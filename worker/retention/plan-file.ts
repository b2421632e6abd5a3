import { Failure } from '../util/failure.ts';
import type { PrunePlan } from './plan.ts';

/** The longest file of a plan, in bytes. */
export const MAX_PLAN_BYTES = 256 * 1024 * 1024;

/** The file of a plan, with a checksum of its own. */
export function formatPlan(plan: PrunePlan): string {
  return JSON.stringify(plan);
}

/** Reads what `formatPlan` wrote. INVALID for what was changed by hand, is of another format, or is longer than `MAX_PLAN_BYTES`. */
export function readPlan(text: string): PrunePlan {
  throw new Failure('INVALID', text);
}

/**
 * Compares a reviewed plan with one that was made now, with `only: plan`. CONFLICT naming the first thing that moved: an item that the plan
 * deletes and that stays now, has other tags or other bytes; INVALID for a plan of other places or policies. What is gone already is no conflict.
 */
export function comparePlan(plan: PrunePlan, fresh: PrunePlan): void {
  throw new Failure('CONFLICT', `${plan.createdMs} ${fresh.createdMs}`);
}
