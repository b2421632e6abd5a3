import { expect, test } from 'vitest';
import { nearest } from '../../../worker/util/suggest.ts';

test.each([
  ['lates', 'latest'],
  ['excldue', 'exclude'],
  ['Semver', 'semver'],
  ['inclde', 'include'],
  ['on', undefined],
  ['password', undefined],
  ['', undefined],
  ['x'.repeat(1000), undefined],
])('%s is meant as %s', (word, meant) => {
  expect(nearest(word, ['include', 'exclude', 'semver', 'latest', 'maxAgeDays'])).toBe(meant);
});

test('of equals the first', () => expect(nearest('tat', ['tag', 'tar'])).toBe('tag'));
