import type { z } from 'zod';
import { withoutSecrets } from '../oci/reference.ts';
import { Failure } from '../util/failure.ts';
import { expectedBy, valueAt } from '../util/schema-faults.ts';
import { quote } from '../util/text.ts';

/** How many of the faults one message lists. */
const MAX_FAULTS = 50;

/** The members and indexes that lead to a value in the file. */
export type Path = readonly PropertyKey[];

/** What is wrong at one path of a configuration. */
export interface Fault {
  readonly path: Path;
  readonly message: string;
}

/**
 * The issues that zod found in `value`, each as a sentence with what was given and expected. `prefix` is the path of `value` in the file.
 */
export function faultsOf(issues: readonly z.core.$ZodIssue[], value: unknown, prefix: Path): readonly Fault[] {
  return issues.flatMap((issue): readonly Fault[] => {
    const path = [...prefix, ...issue.path];
    const given = valueAt(value, issue.path);
    const misfit = (expected: string): readonly Fault[] => [{ path, message: expectation(given, expected, path) }];
    switch (issue.code) {
      case 'unrecognized_keys': {
        const messages = issue.message.split('\n');
        return issue.keys.map((key, index) => ({ path: [...path, key], message: messages[index] ?? issue.message }));
      }
      case 'invalid_union': {
        // the one form that was meant: all others are of another type, or one word that it is not
        const without = (errors: typeof issue.errors, wrong: string): typeof issue.errors =>
          errors.filter(
            (form) => !form.some((issueOfForm) => issueOfForm.path.length === 0 && issueOfForm.code === wrong),
          );
        const typed = without(issue.errors, 'invalid_type');
        const [only, ...others] = typed.length > 1 ? without(typed, 'invalid_value') : typed;
        if (only !== undefined && others.length === 0) return faultsOf(only, given, path);
        return misfit(issue.message);
      }
      case 'custom':
        return [{ path, message: issue.message }];
      case 'invalid_key':
        return issue.issues.map(({ message }) => ({ path, message }));
      case 'invalid_element':
      case 'invalid_format':
      case 'invalid_type':
      case 'invalid_value':
      case 'not_multiple_of':
      case 'too_big':
      case 'too_small':
        return misfit(expectedBy(issue));
      default:
        return issue satisfies never;
    }
  });
}

function expectation(given: unknown, expected: string, path: Path): string {
  if (given === undefined) return `it is missing: expected ${expected}`;
  if (given === null) return `nothing is given, expected ${expected}`;
  const wasText = expected.startsWith('a string') && (typeof given === 'number' || typeof given === 'boolean');
  // what is wrong here may be a password
  const shown = path[0] === 'registries' && typeof given === 'string' ? 'something' : shownOf(given);
  return `given ${shown}, expected ${expected}${wasText ? ': put it in quotes' : ''}`;
}

function shownOf(given: unknown): string {
  if (typeof given !== 'string' || given.startsWith('/')) return quote(given);
  return quote(/[@/]/.test(given) ? withoutSecrets(given) : given);
}

/** `rules[1].mirror.tags (rule "base"): what is wrong`. `value` is the whole file, for the name of the rule. */
export function sentenceOf({ path, message }: Fault, value: unknown): string {
  const [first, index] = path;
  const name = first === 'rules' && index !== undefined ? valueAt(value, ['rules', index, 'name']) : undefined;
  const rule = typeof name === 'string' ? ` (rule ${quote(name)})` : '';
  return `${formatPath(path)}${rule}: ${message}`;
}

function formatPath(path: Path): string {
  if (path.length === 0) return 'the whole';
  return path
    .map((step, index) => {
      if (typeof step === 'number') return `[${step}]`;
      const key = String(step);
      return /^[A-Za-z_][A-Za-z0-9_-]{0,63}$/.test(key)
        ? `${index === 0 ? '' : '.'}${key}`
        : `[${quote(withoutSecrets(key))}]`;
    })
    .join('');
}

/** INVALID with a line for each fault, at most the first `MAX_FAULTS` of them. */
export function invalid(what: string, lines: readonly string[]): Failure {
  const more = lines.length > MAX_FAULTS ? [`and ${lines.length - MAX_FAULTS} more`] : [];
  const count = lines.length === 1 ? 'one fault' : `${lines.length} faults`;
  return new Failure('INVALID', [`read ${what}: ${count}`, ...lines.slice(0, MAX_FAULTS), ...more].join('\n'));
}
