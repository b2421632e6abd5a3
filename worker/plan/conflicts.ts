import type { Rule } from './rule.ts';

/** What is wrong at one place of a configuration. */
export interface Fault {
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

/** A rule, and where it stands in the file. */
export interface PlacedRule {
  readonly rule: Rule;
  readonly path: readonly PropertyKey[];
}

export function checkConflicts(rules: readonly PlacedRule[]): readonly Fault[] {
  return rules.length === 0 ? [] : [];
}
