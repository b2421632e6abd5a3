import type { Backends, OperationOptions } from '../../images/backends.ts';
import type { Deletions } from '../../images/deletions.ts';
import { planPlaces } from '../../images/plan-places.ts';
import { execute, type PruneResult } from '../../images/prune.ts';
import type { PrunePlan } from '../../retention/plan.ts';
import type { PruneRule } from '../../rules/rule.ts';
import { refusedPlace } from '../refused-place.ts';
import { describeFailure } from '../../util/failure.ts';

/** The result of a rule that prunes. */
export interface PrunedRule {
  readonly rule: string;
  readonly plan: PrunePlan;
  /** What was deleted. Undefined: the rule was only planned. */
  readonly result?: PruneResult | undefined;
  /** What could not be pruned, a sentence each. */
  readonly faults: readonly string[];
}

/** Plans a rule here and now, and deletes what the plan names where `deletions` are given and the rule is not a dry run. */
export async function pruneHere(
  rule: PruneRule,
  deletions: Deletions | undefined,
  backends: Backends,
  options: OperationOptions,
): Promise<PrunedRule> {
  const { at, policies, maxDeletes, requireBackup } = rule;
  const plan = await planPlaces({ places: at, policies, maxDeletes, requireBackup }, backends, options);
  const refused = plan.repositories.flatMap((one) =>
    one.refused === undefined ? [] : [`rule ${rule.name}: ${refusedPlace(one.place, one.refused)}`],
  );
  if (deletions === undefined || rule.dryRun) {
    for (const { place, kind, items } of plan.repositories) {
      for (const { id, tags, action, bytes = 0, reason } of items) {
        if (action === 'keep') continue;
        options.report?.({ type: 'prune-planned', place, kind, id, tags, action, bytes, reason });
      }
    }
    return { rule: rule.name, plan, faults: refused };
  }
  const result = await execute(plan, { ...backends, deletions }, options);
  const failed = result.failures.map(({ failure }) => `rule ${rule.name}: ${describeFailure(failure)}`);
  return { rule: rule.name, plan, result, faults: [...refused, ...failed] };
}
