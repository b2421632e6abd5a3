import { parseRule } from '../../rules/config.ts';
import { isPlannedRule, notExecuted, type PlannedRule } from '../../rules/rule.ts';
import type { Abortable } from '../../util/abort.ts';
import { Failure } from '../../util/failure.ts';
import { quote } from '../../util/text.ts';
import type { Service } from '../service.ts';

/** A rule as it is stored now. NOT_FOUND without it, UNSUPPORTED for one that this version does not run. */
export async function readRule(name: string, { state }: Service, options: Abortable): Promise<PlannedRule> {
  const stored = (await state.rules.list(options)).find((rule) => rule.name === name);
  if (stored === undefined)
    throw new Failure('NOT_FOUND', `there is no rule ${quote(name)}: see \`transship rules list\``);
  const rule = parseRule(stored.document);
  if (!isPlannedRule(rule)) throw notExecuted(rule);
  return rule;
}
