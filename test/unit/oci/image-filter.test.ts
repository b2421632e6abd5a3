import { describe, expect, test } from 'vitest';
import { matchesRepository, matchingTags, parseImageFilter } from '../../../worker/oci/image-filter.ts';

describe('a filter of images', () => {
  const filters = ['team/*', 'base/{node,go}:1.*'].map(parseImageFilter);

  test('chooses repositories by a pattern', () => {
    expect(
      ['team/app', 'team/a/b', 'base/go', 'base/rust', 'other'].map((name) => matchesRepository(filters, name)),
    ).toEqual([true, true, true, false, false]);
    expect(matchesRepository([], 'anything')).toBe(true);
  });

  test('chooses tags by a pattern, and untagged images where it names none', () => {
    expect(matchingTags(filters, 'base/go', ['1.0', '2.0', '1.1'])).toEqual(['1.0', '1.1']);
    expect(matchingTags(filters, 'base/go', ['2.0'])).toBeUndefined();
    expect(matchingTags(filters, 'base/go', [])).toBeUndefined();
    expect(matchingTags(filters, 'team/app', [])).toEqual([]);
    expect(matchingTags([], 'team/app', ['1'])).toEqual(['1']);
  });

  test.each(['', 'TEAM/*', 'a:', 'a b', 'a:t*g s', '{a', 'a:{1', 'a@sha256:00'])('is not %j', (text) => {
    expect(() => parseImageFilter(text)).toThrow(expect.objectContaining({ code: 'INVALID' }));
  });
});
