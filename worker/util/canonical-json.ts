import { compareStrings } from './text.ts';

/**
 * JSON without spaces, members in the order of their names: equal values give equal strings. Members that are undefined are left out, as JSON
 * has it. For values that JSON has: strings, finite numbers, booleans, null, lists and plain objects.
 */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map((one) => canonicalJson(one ?? null)).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = Object.entries(value).filter(([, member]) => member !== undefined);
  members.sort(([a], [b]) => compareStrings(a, b));
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonicalJson(member)}`).join(',')}}`;
}
