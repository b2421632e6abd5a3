import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Candidate, TagSelection } from '../../../worker/rules/rule.ts';
import { tagMatcher, versionOf } from '../../../worker/oci/tag-pattern.ts';
import { select } from '../../../worker/rules/select.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const NOW = Date.parse('2026-11-21T12:00:00Z');
const ALL: TagSelection = { include: [], exclude: [], untagged: false };

function tagged(...tags: readonly string[]): readonly Candidate[] {
  return tags.map((tag) => ({ tag, digest: undefined, pushedAtMs: undefined }));
}

function namesOf(candidates: readonly Candidate[]): readonly (string | undefined)[] {
  return candidates.map(({ tag, digest }) => tag ?? digest);
}

function selected(tags: readonly string[], s: Partial<TagSelection>): readonly (string | undefined)[] {
  return namesOf(select(tagged(...tags), { ...ALL, ...s }, NOW));
}

describe('tags', () => {
  test('are all selected without a condition, in order', () => {
    expect(selected(['b', 'latest', 'a', 'B'], {})).toEqual(['B', 'a', 'b', 'latest']);
  });

  test('are left out if they stand for referrers, or are not valid tags', () => {
    const hex = '0f'.repeat(32);
    expect(selected(['a', `sha256-${hex}.sig`, `sha256-${hex}`, 'b c', ''], { include: ['*'] })).toEqual(['a']);
  });

  test('must match one of include, and none of exclude', () => {
    const tags = ['3.19', '3.20', '3.20-rc1', 'edge', 'v3'];
    expect(selected(tags, { include: ['3.*', '/^v\\d$/'], exclude: ['*-rc*'] })).toEqual(['3.19', '3.20', 'v3']);
    expect(selected(tags, { exclude: ['/[0-9]/'] })).toEqual(['edge']);
  });

  test('match a glob as a whole, and an expression in any part', () => {
    expect(selected(['1.2', '11.2'], { include: ['1.*'] })).toEqual(['1.2']);
    expect(selected(['1.2', '11.2', '2.1'], { include: ['/1\\./'] })).toEqual(['1.2', '11.2']);
  });
});

describe('patterns', () => {
  test.each([
    ['v?', 'v1', true],
    ['v?', 'v10', false],
    ['[0-9].*', '3.20', true],
    ['[!0-9]*', '3.20', false],
    ['[^0-9]*', 'v3', true],
    ['{a,b}-*', 'b-1', true],
    ['*{,-slim}', '3-slim', true],
    ['**', 'x.y', true],
    ['*.*', 'x.', true],
    ['***x.', 'xx', false],
    ['1.2', '1x2', false],
    ['/^V/i', 'v1', true],
  ])('%s of %s: %s', (pattern, tag, expected) => expect(tagMatcher(pattern)(tag)).toBe(expected));

  test.each([
    ['', 'it is empty'],
    ['[', 'expected a glob'],
    ['{a', 'expected a glob'],
    ['a}', 'expected a glob'],
    ['!a', 'under "exclude"'],
    ['+(a)', 'expected a glob'],
    ['{1..3}', 'expected a glob'],
    ['a b', 'expected a glob'],
    ['a\\*', 'expected a glob'],
    ['[z-a]', 'out of order'],
    ['a/b', 'expected a glob'],
    ['/(/', 'unterminated group|invalid regular expression'],
    ['/a/g', 'flags may be'],
    ['/^(?!rc)/', 'linear time'],
  ])('%j is refused', (pattern, why) => {
    expect(() => tagMatcher(pattern)).toThrow(
      expect.objectContaining({ code: 'INVALID', message: expect.stringMatching(why) }),
    );
  });
});

describe('a tag that nearly matches', () => {
  test.each([`${'*a'.repeat(8)}*b`, '/^(a+)+$/', '/(?:a|a)*b$/'])('is refused at once by %s', (pattern) => {
    const matches = tagMatcher(pattern);
    const begun = process.threadCpuUsage();
    expect(matches(`${'a'.repeat(127)}.`)).toBe(false);
    expect(process.threadCpuUsage(begun).user).toBeLessThan(500_000);
  });
});

describe('versions', () => {
  test.each([
    ['1.2.3', '1.2.3'],
    ['v1.2.3', '1.2.3'],
    ['1.2', '1.2.0'],
    ['24.04', '24.4.0'],
    ['1.2.3-rc.1', '1.2.3-rc.1'],
    ['3.20-alpine', '3.20.0-alpine'],
    ['7', undefined],
    ['20260101', undefined],
    ['1.2.3.4', undefined],
    ['latest', undefined],
    ['V1.2.3', undefined],
    [`1.${'9'.repeat(20)}`, undefined],
  ])('%s is %s', (tag, version) => expect(versionOf(tag)?.version).toBe(version));

  test('match a range as releases, and as prereleases only where it names one', () => {
    const tags = ['3.17', '3.18', 'v3.18.1', '3.19.0-rc.1', '4.0.0', 'edge', '20260101'];
    expect(selected(tags, { semver: '>=3.18 <4' })).toEqual(['3.18', 'v3.18.1']);
    expect(selected(tags, { semver: '>=3.19.0-rc.0 <4' })).toEqual(['3.19.0-rc.1']);
  });

  test('are the latest by version, whatever the order of their text', () => {
    const tags = ['1.9.0', '1.10.0', '1.2.0', 'latest', '2'];
    expect(selected(tags, { latest: { count: 2, by: 'version' } })).toEqual(['1.10.0', '1.9.0']);
  });

  test('count prereleases and variants among the latest only where nothing else exists, or a range names them', () => {
    const latest = { count: 2, by: 'version' } as const;
    const tags = ['1.0.0', '1.1.0', '1.2.0-rc.1', '1.1.0-slim'];
    expect(selected(tags, { latest })).toEqual(['1.0.0', '1.1.0']);
    expect(selected(tags, { latest, include: ['*-*'] })).toEqual(['1.1.0-slim', '1.2.0-rc.1']);
    expect(selected(tags, { latest, semver: '>=1.2.0-rc.0 || 1.1.0' })).toEqual(['1.1.0', '1.2.0-rc.1']);
  });

  test('are counted by latest after the other conditions', () => {
    expect(selected(['1.1.0', '1.2.0', '1.3.0'], { exclude: ['1.3*'], latest: { count: 1, by: 'version' } })).toEqual([
      '1.2.0',
    ]);
  });
});

describe('push times', () => {
  const pushed = (tag: string | undefined, daysAgo: number, digest = 'd'): Candidate => ({
    tag,
    digest,
    pushedAtMs: NOW - daysAgo * DAY_MS,
  });

  test('decide the latest by push; equal ones are ordered by name', () => {
    const candidates = [pushed('a', 3), pushed('b', 1), pushed('d', 2), pushed('c', 2)];
    const latest = { count: 2, by: 'push' } as const;
    expect(namesOf(select(candidates, { ...ALL, latest }, NOW))).toEqual(['b', 'c']);
  });

  test('reach an age at that moment, not before', () => {
    const candidates = [pushed('a', 7), pushed('b', 7.001), pushed('c', 0)];
    expect(namesOf(select(candidates, { ...ALL, maxAgeDays: 7 }, NOW))).toEqual(['a', 'c']);
  });

  test('decide about untagged images, which are listed on request and chosen by age only', () => {
    const candidates = [pushed(undefined, 1, 'z'), pushed(undefined, 9, 'y'), pushed('1.0', 1), pushed('x', 1)];
    expect(namesOf(select(candidates, ALL, NOW))).toEqual(['1.0', 'x']);
    const s: TagSelection = { ...ALL, untagged: true, include: ['1.*'], latest: { count: 1, by: 'push' } };
    expect(namesOf(select(candidates, s, NOW))).toEqual(['1.0', 'y', 'z']);
    expect(namesOf(select(candidates, { ...s, maxAgeDays: 2 }, NOW))).toEqual(['1.0', 'z']);
  });

  test.each<Partial<TagSelection>>([{ maxAgeDays: 1 }, { latest: { count: 9, by: 'push' } }])(
    '%j is INVALID for a registry that does not report them',
    (s) => {
      expect(() => select(tagged('a'), { ...ALL, ...s }, NOW)).toThrow(
        expect.objectContaining({
          code: 'INVALID',
          message: expect.stringContaining('does not report when "a" was pushed'),
        }),
      );
      // a tag that is left out anyway needs none
      expect(select(tagged('a'), { ...ALL, ...s, exclude: ['a'] }, NOW)).toEqual([]);
    },
  );
});

describe('any selection', () => {
  const tag = fc.constantFrom(
    '1.0.0',
    'v1.0.0',
    '1.0',
    '1.1.0',
    '2.0.0-rc.1',
    '2.0.0',
    'latest',
    'dev-1',
    'dev-2',
    '7',
  );
  const candidate = fc.record<Candidate>({
    tag: fc.option(tag, { nil: undefined }),
    digest: fc.constantFrom('a', 'b', 'c', 'd'),
    pushedAtMs: fc.integer({ min: 0, max: 3 }).map((days) => NOW - days * DAY_MS),
  });
  const candidates = fc.uniqueArray(candidate, { selector: (c) => c.tag ?? `@${c.digest}`, maxLength: 12 });
  const selection = fc.record<TagSelection>(
    {
      include: fc.subarray(['*', '1.*', 'dev-*', '/0$/']),
      exclude: fc.subarray(['dev-1', 'v*']),
      semver: fc.constantFrom('>=1', '<2', '>=2.0.0-rc.0'),
      latest: fc.record({ count: fc.integer({ min: 1, max: 4 }), by: fc.constantFrom('version', 'push') }),
      maxAgeDays: fc.constantFrom(1, 2),
      untagged: fc.boolean(),
    },
    { requiredKeys: ['include', 'exclude', 'untagged'] },
  );

  test('is a subset, the same in any order of its input, and not more than its latest', () => {
    fc.assert(
      fc.property(
        candidates.chain((cs) =>
          fc.tuple(fc.constant(cs), fc.shuffledSubarray(cs, { minLength: cs.length, maxLength: cs.length })),
        ),
        selection,
        ([given, shuffled], s) => {
          const chosen = select(given, s, NOW);
          expect(select(shuffled, s, NOW)).toEqual(chosen);
          expect(given).toEqual(expect.arrayContaining([...chosen]));
          expect(new Set(chosen).size).toBe(chosen.length);
          const named = chosen.filter((c) => c.tag !== undefined);
          if (s.latest !== undefined) expect(named.length).toBeLessThanOrEqual(s.latest.count);
          if (!s.untagged) expect(named).toEqual(chosen);
        },
      ),
      { numRuns: 500 },
    );
  });

  test('is the same when it is applied again', () => {
    fc.assert(
      fc.property(candidates, selection, (given, s) => {
        const chosen = select(given, s, NOW);
        expect(select(chosen, s, NOW)).toEqual(chosen);
      }),
    );
  });
});
