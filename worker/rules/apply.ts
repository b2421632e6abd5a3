import { isRecord } from '../util/record.ts';

/** A rule as text, by name. */
export interface Document {
  readonly name: string;
  readonly document: string;
}

/** What has to be done to one rule. */
export interface Change {
  readonly name: string;
  readonly change: 'add' | 'change' | 'remove' | 'same';
  /** What differs, a line each: `schedule.cron: "0 * * * *" → "0 2 * * *"`. Empty unless it changes. */
  readonly differences: readonly string[];
  /** Absent: it is removed. */
  readonly document?: string | undefined;
}

/** What makes the rules that are `stored` those that are `wanted`: in order of names. */
export function planApply(stored: readonly Document[], wanted: readonly Document[]): readonly Change[] {
  const before = new Map(stored.map((rule) => [rule.name, rule.document]));
  const after = new Map(wanted.map((rule) => [rule.name, rule.document]));
  return [...new Set([...before.keys(), ...after.keys()])].sort().map((name) => {
    const [old, document] = [before.get(name), after.get(name)];
    if (document === undefined) return { name, change: 'remove', differences: [] };
    if (old === undefined) return { name, change: 'add', differences: [], document };
    const differences = old === document ? [] : differencesOf(valueOf(old), valueOf(document));
    return { name, change: differences.length === 0 ? 'same' : 'change', differences, document };
  });
}

/** What differs between two JSON values, a line each, named by its path. */
export function differencesOf(before: unknown, after: unknown, path = ''): readonly string[] {
  if (isRecord(before) && isRecord(after)) {
    return [...new Set([...Object.keys(before), ...Object.keys(after)])]
      .sort()
      .flatMap((name) => differencesOf(before[name], after[name], path === '' ? name : `${path}.${name}`));
  }
  const [old, now] = [textOf(before), textOf(after)];
  return old === now ? [] : [`${path === '' ? 'all' : path}: ${old} → ${now}`];
}

function textOf(value: unknown): string {
  return value === undefined ? 'none' : JSON.stringify(value);
}

/** What is stored may have been written by another version, or a hand: then all of it differs. */
function valueOf(document: string): unknown {
  try {
    return JSON.parse(document) as unknown;
  } catch {
    return document;
  }
}
