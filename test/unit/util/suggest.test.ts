import { expect, test } from 'vitest';
import { suggest } from '../../../worker/util/suggest.ts';

test.each([
  ['lates', 'latest'],
  ['excldue', 'exclude'],
  ['Semver', 'semver'],
  ['inclde', 'include'],
  ['on', undefined],
  ['password', undefined],
  ['', undefined],
  ['x'.repeat(1000), undefined],
])('%s is corrected to %s', (word, meant) => {
  expect(suggest(word, ['include', 'exclude', 'semver', 'latest', 'maxAgeDays'])).toBe(meant);
});

test('swapped neighbours count as one mistake', () => expect(suggest('form', ['from', 'to'])).toBe('from'));

test('the first of equal candidates wins', () => expect(suggest('tat', ['tag', 'tar'])).toBe('tag'));
