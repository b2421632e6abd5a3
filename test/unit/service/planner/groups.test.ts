import { describe, expect, test } from 'vitest';
import { RecentGroups } from '../../../../worker/service/planner/groups.ts';

function group(size: number): ReadonlyMap<string, string> {
  return new Map(Array.from({ length: size }, (_, i) => [`name-${i}`, 'value']));
}

describe('recent groups', () => {
  test('drop the least recently used ones when they have too many names in all', () => {
    const groups = new RecentGroups<string>(10);
    for (const name of ['a', 'b', 'c']) groups.keep(name, group(3));
    groups.get('a');
    groups.keep('d', group(4));
    expect(['a', 'b', 'c', 'd'].filter((name) => groups.get(name) !== undefined)).toEqual(['a', 'c', 'd']);
  });

  test('keep one group that is larger than the limit', () => {
    const groups = new RecentGroups<string>(10);
    groups.keep('a', group(3));
    const large = group(11);
    expect(groups.keep('large', large)).toBe(large);
    expect(groups.get('large')).toBe(large);
    expect(groups.get('a')).toBeUndefined();
  });

  test('keep a group without names', () => {
    const groups = new RecentGroups<string>(10);
    groups.keep('empty', new Map());
    expect(groups.get('empty')?.size).toBe(0);
  });
});
