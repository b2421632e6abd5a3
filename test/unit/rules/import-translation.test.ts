// How other tools write tags, repositories and times, and the equivalent in the rules file.
import semver from 'semver';
import { describe, expect, test } from 'vitest';
import { dregsyTags } from '../../../worker/rules/import/dregsy-tags.ts';
import { goExpression, replaceAll, repositoryPattern } from '../../../worker/rules/import/expressions.ts';
import { translateRange, type RangeDialect } from '../../../worker/rules/import/ranges.ts';
import { everySeconds, goSeconds, robfigSchedule } from '../../../worker/rules/import/times.ts';
import { tagMatcher } from '../../../worker/oci/tag-pattern.ts';
import { aloneSelector } from '../../../worker/rules/select.ts';

describe('a range of versions', () => {
  const CASES: readonly (readonly [RangeDialect, string, string])[] = [
    // https://github.com/Masterminds/semver#basic-comparisons
    ['masterminds', '>= 1.2, < 3.0.0 || >= 4.2.3', '>=1.2.0 <3.0.0 || >=4.2.3'],
    ['masterminds', '1.2 - 1.4.5', '>=1.2.0 <=1.4.5'],
    ['masterminds', '2.3.4 - 4.5', '>=2.3.4 <4.6.0'],
    ['masterminds', '1.2.x', '>=1.2.0 <1.3.0'],
    ['masterminds', '<= 2.x', '<3.0.0'],
    ['masterminds', '> 11', '>=12.0.0'],
    ['masterminds', '*', '>=0.0.0'],
    ['masterminds', '~1', '>=1.0.0 <2.0.0'],
    ['masterminds', '~>1.2.3', '>=1.2.3 <1.3.0'],
    ['masterminds', '^0.2.3', '>=0.2.3 <0.3.0'],
    ['masterminds', '^0.0', '>=0.0.0 <0.1.0'],
    ['masterminds', '^0', '>=0.0.0 <1.0.0'],
    ['masterminds', '=v1.2.3', '=1.2.3'],
    ['masterminds', '!=1.2.3', '<1.2.3 || >1.2.3'],
    // regclient pads with zeros
    ['regclient', '>=1.2 <2', '>=1.2.0 <2.0.0'],
    ['regclient', '1.2', '=1.2.0'],
    ['regclient', '>1', '>1.0.0'],
    ['regclient', '~1', '>=1.0.0 <1.1.0'],
    ['regclient', '^0.0.3', '>=0.0.3 <0.0.4'],
    ['regclient', '^0', '>=0.0.0 <0.0.1'],
    // https://github.com/blang/semver#ranges
    ['blang', '>1.0.0 <3.0.0 !2.0.3', '>1.0.0 <3.0.0 <2.0.3 || >1.0.0 <3.0.0 >2.0.3'],
    ['blang', '>= 1.0.0 <2.0.0 || ==3.1.0', '>=1.0.0 <2.0.0 || =3.1.0'],
    ['blang', '<=1.2.x', '<1.3.0'],
    ['blang', '!=1.x', '<1.0.0 || >=2.0.0'],
  ];

  test.each(CASES)('of %s, %s, is %s', (dialect, given, expected) => {
    expect(translateRange(given, dialect).range).toBe(expected);
    expect(semver.validRange(expected)).not.toBeNull();
  });

  test.each([
    ['masterminds', 'latest'],
    ['masterminds', '>= 1.2;rm'],
    ['masterminds', ''],
    ['regclient', '1.x'],
    ['regclient', '>=1 || <3'],
    ['blang', '>=1.2'],
    ['blang', '1.0.0 ||'],
    ['masterminds', `1.0.0${' !=1.2.3'.repeat(12)}`],
    ['masterminds', `>${'9'.repeat(40)}`],
  ] as const)('of %s, %s, is refused', (dialect, given) => {
    expect(() => translateRange(given, dialect)).toThrow();
  });

  test('reports the tags that it does not match like the tool', () => {
    expect(translateRange('~1.2', 'masterminds').differences).toEqual([]);
    expect(translateRange('>=1.2', 'masterminds').differences).toEqual([expect.stringContaining('one number')]);
    expect(translateRange('>=1.2.0-rc.1 <1.3', 'masterminds').differences).toEqual([
      expect.stringContaining('prereleases of every version'),
    ]);
    expect(translateRange('~1.2', 'regclient').differences).toEqual([expect.stringContaining('variants')]);
  });
});

describe('a regular expression of Go', () => {
  test.each([
    ['^latest$', 'latest'],
    [String.raw`^v\d+\.\d+$`, String.raw`/^v\d+\.\d+$/`],
    ['^a|b$', '/^a|b$/'],
    ['^[[:digit:]][^]x]+$', String.raw`/^[0-9][^\]x]+$/`],
    [String.raw`\Av(?P<major>1)\z`, '/^v(?:1)$/'],
    ['^(?i)rc', '/^rc/i'],
  ])('%s is %s', (given, expected) => {
    expect(goExpression(given)).toBe(expected);
    expect(tagMatcher(expected)).toBeTypeOf('function');
  });

  test.each([
    String.raw`\Qa.b\E`,
    String.raw`\pL`,
    'a(?i)b',
    '(?U)a',
    '[[:^alpha:]]',
    '[a',
    'a**',
    String.raw`(a)\1`,
    '(?=a)',
    '\\',
  ])('%s is refused, and not read with the meaning of JavaScript', (given) => {
    expect(() => goExpression(given)).toThrow();
  });

  test('over repositories is a pattern where it matches the same names', () => {
    expect(['team/.*', '^team/.+$', 'a/(b|c)', String.raw`my\.app/.*`, '.*'].map(repositoryPattern)).toEqual([
      'team/*',
      'team/*',
      'a/{b,c}',
      'my.app/*',
      '*',
    ]);
    for (const other of ['team.*x+', 'a|b', 'app.+', 'app[0-9]', 'a.b', 'ab?', '(a|b)*', ''])
      expect(repositoryPattern(other), other).toBeUndefined();
  });

  test('rewrites a path as Go does, and never takes long', () => {
    expect(replaceAll('/myproject/webui', 'my(.+)/', 'from-dh/your$1/')).toBe('/from-dh/yourproject/webui');
    expect(replaceAll('/a/b', '/(a)', '/$1x${1}y$$')).toBe('/ay$/b');
    for (const slow of ['(a+)+$', '(a|a)*b', '.*.*.*x', 'a{1,9}{1,9}'])
      expect(() => replaceAll(`/${'a'.repeat(250)}`, slow, '')).toThrow();
  });
});

describe('a list of tags of dregsy', () => {
  const TAGS = ['latest', '1.0.0', '1.2.0', '2.0.0', '2.0.0-rc1', 'v3.0.0', 'v3-alpine', 'edge', 'qa-1', 'qa-2'];
  /** Which of the sets match a tag: none, or one of them. */
  const takes = (given: readonly string[]): Readonly<Record<string, number>> => {
    const { sets } = dregsyTags('tags', given);
    const selects = sets.map(({ include = [], exclude = [], semver: range }) =>
      aloneSelector({ include, exclude, semver: range, untagged: false }),
    );
    const counts = TAGS.map((tag) => [tag, selects.filter((one) => one({ tag })).length] as const);
    return Object.fromEntries(counts.filter(([, count]) => count > 0));
  };

  test.each([
    [[], TAGS],
    [['latest'], ['latest']],
    [
      ['semver: >=1.0.0 <2.0.0', 'regex: qa-.*', 'latest'],
      ['latest', '1.0.0', '1.2.0', 'qa-1', 'qa-2'],
    ],
    [['regex: !qa-.*', 'qa-2'], TAGS.filter((tag) => tag !== 'qa-1')],
    [
      ['semver: >=1.0.0', 'regex: 1.*', 'keep: !.*-rc1'],
      ['1.0.0', '1.2.0', '2.0.0', 'v3.0.0'],
    ],
    [['keep: v.*', 'keep: !.*alpine'], ['v3.0.0']],
    [
      ['semver: >=1.0.0', 'keep: v.*', 'edge'],
      ['v3.0.0', 'edge'],
    ],
  ] as const)('%j puts each tag in one rule', (given, expected) => {
    expect(takes(given)).toEqual(Object.fromEntries(expected.map((tag) => [tag, 1])));
  });

  test.each([[['keep: a.*', 'keep: .*b']], [['regex: a.*', 'keep: .*b', 'latest']], [['regex: !a', 'regex: !b']]])(
    '%j reports what it cannot express',
    (given) => {
      const { sets, notes } = dregsyTags('tags', given);
      expect(notes).not.toEqual([]);
      expect(sets.length).toBeLessThan(2);
    },
  );
});

test('an interval becomes the equal cron schedule, or the next shorter one, which is reported', () => {
  expect([30, 60, 900, 3600, 6 * 3600, 86_400].map((seconds) => everySeconds(seconds))).toEqual(
    ['*/30 * * * * *', '* * * * *', '*/15 * * * *', '0 * * * *', '0 */6 * * *', '0 0 * * *'].map((cron) => ({
      schedule: { cron },
    })),
  );
  expect(everySeconds(goSeconds('1h30m'))).toEqual({
    schedule: { cron: '0 * * * *' },
    difference: 'every 90m is not a schedule: it runs every 1h',
  });
  expect(robfigSchedule('CRON_TZ=Europe/Berlin 0 3 ? * 1-5').schedule).toEqual({
    cron: '0 3 * * 1-5',
    timeZone: 'Europe/Berlin',
  });
  expect(robfigSchedule('@every 30m').schedule).toEqual({ cron: '*/30 * * * *' });
  expect(robfigSchedule('5 * * * *')).toEqual({ schedule: { cron: '5 * * * *' } });
  for (const wrong of ['0 0 30 2 *', '* * * * * *', 'hourly', 'TZ=Nowhere/X * * * * *', '@every 5d', ''])
    expect(() => robfigSchedule(wrong), wrong).toThrow();
});

test('a schedule by the clock of the machine is reported, because a rule reads it in UTC', () => {
  for (const local of ['15 1 * * *', '0 */6 * * *', '0 * * * 1-5', '@daily'])
    expect(robfigSchedule(local), local).toEqual({
      schedule: { cron: local },
      difference: expect.stringContaining('was read by the clock of the machine, and is in UTC here'),
    });
  for (const same of ['5 * * * *', '*/15 * ? * ?', '@hourly', '@every 30m', 'TZ=UTC 15 1 * * *'])
    expect(robfigSchedule(same).difference, same).toBeUndefined();
});
