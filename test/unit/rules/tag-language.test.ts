import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createLanguages } from '../../../worker/rules/language.ts';
import type { TagSelection } from '../../../worker/rules/rule.ts';
import { parseRange, select, tagMatcher, versionOf } from '../../../worker/rules/select.ts';
import { patternLanguage, repositoriesLike, selectedTags } from '../../../worker/rules/tag-language.ts';
import { isRepositoryName } from '../../../worker/oci/reference.ts';
import { matchesPattern } from '../../../worker/oci/location.ts';

const l = createLanguages();
const ALL: TagSelection = { include: [], exclude: [], untagged: false };

const text = fc.string({ unit: fc.constantFrom('a', 'b', '1', '2', '.', '-'), maxLength: 6 });
const tag = text.filter((t) => /^[a-z0-9_]/.test(t));
const piece = fc.oneof(
  fc.constantFrom('*', '?', '[ab]', '[!a1]', '[a-b]', '{a,b1}', '{,-a}', '{a*,?b}', '**'),
  fc.constantFrom('a', 'b', '1', '.', '-'),
);
const glob = fc
  .array(piece, { minLength: 1, maxLength: 5 })
  .map((pieces) => pieces.join(''))
  .filter((g) => !g.includes('..'));

describe('a pattern as a language is what the pattern matches', () => {
  test('globs', () => {
    fc.assert(
      fc.property(glob, fc.array(tag, { minLength: 5, maxLength: 20 }), (pattern, tags) => {
        const language = patternLanguage(l, pattern);
        const matches = tagMatcher(pattern);
        for (const t of tags) {
          expect([pattern, t, language !== undefined && l.has(language, t)]).toEqual([pattern, t, matches(t)]);
        }
      }),
      { numRuns: 500 },
    );
  });

  const expressions = [
    '/a/',
    '/^a/',
    '/a$/',
    '/^a$|b/',
    '/^(a|b1)+$/',
    '/^(?:a|b)*1?$/',
    '/^[ab]{2}/',
    '/^[^a]{1,2}$/',
    '/^a{2,}$/',
    '/\\d\\.\\d/',
    '/^\\w+-\\w+$/',
    '/^A.b$/i',
    '/^(?<name>a|b)[.-]/',
    '/(a|b)?$/',
    '//',
    '/^a+?b*?$/',
  ];
  test.each(expressions)('%s', (pattern) => {
    const language = patternLanguage(l, pattern);
    const matches = tagMatcher(pattern);
    fc.assert(
      fc.property(tag, (t) => {
        expect(language !== undefined && l.has(language, t)).toBe(matches(t));
      }),
      { numRuns: 300 },
    );
  });

  test.each(['/^(?!a)/', '/(a)\\1/', '/\\ba/', '/a(^b|c)/', '/(?<=a)b/', '/a$b/'])('%s is beyond', (pattern) => {
    expect(patternLanguage(l, pattern)).toBeUndefined();
  });

  test('ranges of versions: releases exactly, prereleases never too few', () => {
    const number = fc.oneof(fc.nat({ max: 12 }), fc.constantFrom(99, 100, 101)).map(String);
    const version = fc
      .tuple(
        fc.constantFrom('', 'v'),
        number,
        number,
        fc.option(number),
        fc.constantFrom('', '', '', '-rc.1', '-alpine'),
      )
      .map(([v, a, b, c, pre]) => `${v}${a}.${b}${c === null ? '' : `.${c}`}${pre}`);
    const bound = fc
      .tuple(
        fc.constantFrom('>=', '>', '<', '<=', '=', '^', '~', ''),
        number,
        number,
        number,
        fc.constantFrom('', '', '-rc.0'),
      )
      .map(([operator, a, b, c, pre]) => `${operator}${a}.${b}.${c}${pre}`);
    const range = fc.oneof(
      bound,
      fc.tuple(bound, bound).map((both) => both.join(' ')),
      fc.tuple(bound, bound).map((either) => either.join(' || ')),
      fc.constantFrom('*', '3', '3.x', '1.2 - 2.3', '>=3.18', '<1'),
    );
    fc.assert(
      fc.property(range, fc.array(version, { minLength: 10, maxLength: 20 }), (r, versions) => {
        const language = selectedTags(l, { ...ALL, semver: r });
        for (const t of versions) {
          const parsed = versionOf(t);
          const taken = parsed !== undefined && parseRange(r).test(parsed);
          const said = l.has(language, t);
          if (taken || !t.includes('-')) expect([r, t, said]).toEqual([r, t, taken]);
        }
      }),
      { numRuns: 500 },
    );
  });

  test('a whole selection takes no tag that its language has not', () => {
    fc.assert(
      fc.property(
        fc.array(glob, { maxLength: 2 }),
        fc.array(glob, { maxLength: 2 }),
        fc.constantFrom(undefined, { count: 2, by: 'version' as const }),
        fc.array(tag, { maxLength: 20 }),
        (include, exclude, latest, tags) => {
          const s: TagSelection = { ...ALL, include, exclude, latest };
          const language = selectedTags(l, s);
          const candidates = tags.map((t) => ({ tag: t, digest: undefined, pushedAtMs: undefined }));
          const taken = new Set(select(candidates, s, 0).map((c) => c.tag));
          for (const t of tags) {
            if (taken.has(t)) expect(l.has(language, t)).toBe(true);
            else if (latest === undefined) expect(l.has(language, t)).toBe(false);
          }
        },
      ),
    );
  });

  test('patterns of repositories', () => {
    const name = fc.string({ unit: fc.constantFrom('a', 'b', '/', '-', '.', '_'), minLength: 1, maxLength: 7 });
    const pattern = fc.string({ unit: fc.constantFrom('a', 'b', '/', '-', '*'), minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(
        pattern.filter((p) => p.includes('*')),
        fc.array(name, { maxLength: 10 }),
        (p, names) => {
          const language = repositoriesLike(l, p);
          for (const n of names)
            expect([n, l.has(language, n)]).toEqual([n, isRepositoryName(n) && matchesPattern(p, n)]);
        },
      ),
    );
  });
});
