import type { z } from 'zod';
import { isRecord } from './record.ts';
import { quote } from './text.ts';

const TYPES: Readonly<Record<string, string>> = {
  string: 'a string',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a mapping of keys to values',
  record: 'a mapping of keys to values',
};

/** Words for types that depend on the format, by zod's name: JSON has objects where YAML has mappings. */
type TypeNames = Readonly<Record<string, string>>;

/** What a schema expected where it found an issue: `a string`, `at most 5 entries`. The schema's own message where it is more specific. */
export function expectedBy(issue: z.core.$ZodIssue, names: TypeNames = {}): string {
  switch (issue.code) {
    case 'invalid_type':
      return names[issue.expected] ?? TYPES[issue.expected] ?? issue.expected;
    case 'invalid_value':
      return issue.values
        .map((allowed) => (typeof allowed === 'string' ? quote(allowed) : String(allowed)))
        .join(' or ');
    case 'too_small':
      if (issue.origin === 'array') return 'one entry at least';
      return `${issue.inclusive === true ? 'at least' : 'more than'} ${issue.minimum}`;
    case 'too_big':
      return `at most ${issue.maximum}${issue.origin === 'array' ? ' entries' : ''}`;
    case 'custom':
    case 'invalid_element':
    case 'invalid_format':
    case 'invalid_key':
    case 'invalid_union':
    case 'not_multiple_of':
    case 'unrecognized_keys':
      return issue.message;
    default:
      return issue satisfies never;
  }
}

/** The message of an issue, with `expected a string` instead of zod's words about a wrong type, unless the schema has words of its own. */
export function messageOf(issue: z.core.$ZodIssue, names: TypeNames = {}): string {
  const isZods = issue.code === 'invalid_type' && issue.message.startsWith('Invalid input');
  return isZods ? `expected ${expectedBy(issue, names)}` : issue.message;
}

/** The value at `path` inside `value`. Undefined where `value` does not have that path. */
export function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  let found = value;
  for (const step of path) {
    if (Array.isArray(found) && typeof step === 'number') found = found[step] as unknown;
    else if (isRecord(found) && Object.hasOwn(found, step)) found = found[String(step)];
    else return undefined;
  }
  return found;
}
