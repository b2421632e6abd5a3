import { formatAccess, formatRule } from '../plan/config.ts';
import { differencesOf, planApply, type Change } from '../plan/apply.ts';
import type { Config } from '../plan/rule.ts';
import type { StateStore } from '../state/state.ts';
import type { Abortable } from '../util/abort.ts';

export interface ApplyPlan {
  readonly rules: readonly Change[];
  /** What differs in how registries are reached, a line each. */
  readonly access: readonly string[];
  /** Whether anything has to be done. */
  readonly empty: boolean;
  /** Does it. CONFLICT when another changed the rules since they were read; what was done by then stays done, and applying again goes on. */
  execute(o?: Abortable): Promise<void>;
}

/** What would make the stored rules those of `config`. Nothing is changed before `execute`. */
export async function apply(config: Config, state: StateStore, o: Abortable): Promise<ApplyPlan> {
  const [stored, storedAccess] = await Promise.all([state.rules.list(o), state.rules.access(o)]);
  const wanted = config.rules.map((rule) => ({ name: rule.name, document: formatRule(rule) }));
  const rules = planApply(stored, wanted);
  const document = formatAccess(config.registries);
  const before: unknown = storedAccess === undefined ? {} : JSON.parse(storedAccess.document);
  const access = differencesOf(before, JSON.parse(document), 'registries');
  const revisions = new Map(stored.map((rule) => [rule.name, rule.revision]));
  const changes = rules.filter(({ change }) => change !== 'same');
  return {
    rules,
    access,
    empty: changes.length === 0 && access.length === 0,
    execute: async (at = {}) => {
      // how to reach a registry before the rules that reach it
      if (access.length > 0) await state.rules.putAccess(document, storedAccess?.revision ?? 0, at);
      for (const { name, document: rule } of changes) {
        const revision = revisions.get(name) ?? 0;
        if (rule === undefined) await state.rules.remove(name, revision, at);
        else await state.rules.put({ name, document: rule }, revision, at);
      }
    },
  };
}
