import { parseRule } from '../rules/config.ts';
import type { Rule } from '../rules/rule.ts';
import type { Rules } from '../state/state.ts';
import type { Abortable } from '../util/abort.ts';
import { isFailure } from '../util/failure.ts';

/** The stored rules that this version can read. */
export async function readableRules(state: Pick<Rules, 'list'>, options: Abortable): Promise<readonly Rule[]> {
  const rules: Rule[] = [];
  for (const { document } of await state.list(options)) {
    try {
      rules.push(parseRule(document));
    } catch (error) {
      if (!isFailure(error, 'INVALID')) throw error;
    }
  }
  return rules;
}
