import { parseRule } from '../../rules/config.ts';
import type { Rule } from '../../rules/rule.ts';
import type { Abortable } from '../../util/abort.ts';
import { Failure } from '../../util/failure.ts';
import { quote } from '../../util/text.ts';
import type { Service } from '../service.ts';

/** A rule as it is stored now. NOT_FOUND without it. */
export async function readRule(name: string, { state }: Service, options: Abortable): Promise<Rule> {
  const stored = (await state.rules.list(options)).find((rule) => rule.name === name);
  if (stored === undefined)
    throw new Failure('NOT_FOUND', `there is no rule ${quote(name)}: see \`transship rules list\``);
  return parseRule(stored.document);
}
