import { formatAccess, formatRule } from '../../rules/config.ts';
import { differencesOf, planApply, type Change } from '../../rules/apply.ts';
import type { Config } from '../../rules/rule.ts';
import type { StateStore, StoredRule } from '../../state/state.ts';
import { anyOf, type Abortable } from '../../util/abort.ts';
import { Failure } from '../../util/failure.ts';

/** What `apply` would change. */
export interface ApplyPlan {
  readonly rules: readonly Change[];
  /** What differs in how registries are reached and in what requests may write to, a line each. */
  readonly access: readonly string[];
  /** Whether anything has to be done. */
  readonly empty: boolean;
  /**
   * Makes the changes, one at a time. CONFLICT, with nothing changed, while another process applies rules, and when the rules were changed
   * since they were read: two files that are each without a conflict may have one with each other. If it fails in between, the changes made
   * so far stay; applying again makes the rest.
   */
  execute(options?: Abortable): Promise<void>;
}

/** Renewed while rules are written. A process that was killed meanwhile blocks others for this time and the difference of their clocks. */
const LOCK_SECONDS = 30;

/**
 * What would make the stored rules those of `config`. Nothing is changed before `execute`.
 */
export async function apply(config: Config, state: StateStore, options: Abortable): Promise<ApplyPlan> {
  const [stored, storedAccess] = await Promise.all([state.rules.list(options), state.rules.access(options)]);
  const wanted = config.rules.map((rule) => ({ name: rule.name, document: formatRule(rule) }));
  const rules = planApply(stored, wanted);
  const document = formatAccess(config);
  const before = storedAccess?.document ?? formatAccess({ registries: {}, allow: [] });
  const access = differencesOf(JSON.parse(before), JSON.parse(document));
  const revisions = new Map(stored.map((rule) => [rule.name, rule.revision]));
  const changes = rules.filter(({ change }) => change !== 'same');
  return {
    rules,
    access,
    empty: changes.length === 0 && access.length === 0,
    execute: async (taskOptions = {}) => {
      await using lease = await state.lock('rules', LOCK_SECONDS, taskOptions);
      if (lease === undefined)
        throw new Failure('CONFLICT', 'apply rules: another process is applying rules: try again in two minutes');
      const signal = anyOf(taskOptions.signal, lease.signal);
      const [rulesNow, accessNow] = await Promise.all([state.rules.list({ signal }), state.rules.access({ signal })]);
      if (!isSame(stored, rulesNow) || storedAccess?.revision !== accessNow?.revision)
        throw new Failure('CONFLICT', 'apply rules: another process changed them in the meantime: look at them again');
      // how to reach a registry before the rules that reach it
      if (access.length > 0) await state.rules.putAccess(document, storedAccess?.revision ?? 0, { signal });
      for (const { name, document: rule } of changes) {
        const revision = revisions.get(name) ?? 0;
        if (rule === undefined) await state.rules.remove(name, revision, { signal });
        else await state.rules.put({ name, document: rule }, revision, { signal });
      }
    },
  };
}

function isSame(before: readonly StoredRule[], now: readonly StoredRule[]): boolean {
  return (
    before.length === now.length &&
    before.every(({ name, revision }, index) => now[index]?.name === name && now[index].revision === revision)
  );
}
