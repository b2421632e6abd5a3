import { assemblePlan, goingItems } from '../../../worker/retention/plan-prune.ts';
import { planRepository } from '../../../worker/retention/plan-repository.ts';
import { DEFAULT_MAX_DELETES, type PlanOptions, type PrunePlan } from '../../../worker/retention/plan.ts';
import type { Inventory } from '../../../worker/retention/inventory.ts';
import type { RepositoryPolicy } from '../../../worker/retention/policy.ts';
import { compareStrings } from '../../../worker/util/text.ts';

/** Plans inventories one after the other, in the order of their places, as `planPlaces` does with what it reads. */
export function planPrune(
  inventories: readonly Inventory[],
  policies: readonly RepositoryPolicy[],
  options: PlanOptions,
): PrunePlan {
  let room = options.maxDeletes ?? DEFAULT_MAX_DELETES;
  const repositories = inventories
    .toSorted((a, b) => compareStrings(a.place, b.place))
    .map((inventory) => {
      const repository = planRepository(inventory, policies, options, room);
      room -= goingItems(repository);
      return repository;
    });
  return assemblePlan(repositories, policies, options);
}
