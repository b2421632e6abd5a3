import { isDeepStrictEqual } from 'node:util';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { matchesPattern } from '../../../worker/oci/location.ts';
import { parseConfig, parseRule } from '../../../worker/rules/config.ts';
import { checkConflicts } from '../../../worker/rules/conflicts.ts';
import { destinationsOf } from '../../../worker/rules/destinations.ts';
import type { CopyRule, Rule } from '../../../worker/rules/rule.ts';
import { select } from '../../../worker/rules/select.ts';
import { sourcesOf } from '../../../worker/rules/sources.ts';

const ECR = '111111111111.dkr.ecr.us-east-1.amazonaws.com';
const DUAL_STACK = '111111111111.dkr-ecr.us-east-1.on.aws';

type Words = Readonly<Record<string, unknown>>;

function mirror(words: Words, name = 'a'): Words {
  return { name, mirror: { from: 'alpine', to: `${ECR}/{repository}`, ...words }, schedule: '@daily' };
}

function backup(words: Words, name = 'a'): Words {
  return { name, backup: { from: `${ECR}/app`, to: 's3://bucket', ...words }, schedule: '@daily' };
}

function prune(words: Words, name = 'a'): Words {
  return { name, prune: words };
}

function faultsOf(...rules: readonly Words[]): readonly string[] {
  return checkConflicts(rules.map((rule, at) => ({ rule: parseRule(JSON.stringify(rule)), path: [at] }))).map(
    ({ path, message }) => `${path.join('.')}: ${message}`,
  );
}

describe('two rules', () => {
  test('are refused when they write one tag, and the tag is named', () => {
    const rules = [mirror({}), mirror({ from: 'docker.io/library/{alpine,node}', tags: ['v[1-3]'] }, 'b')];
    expect(faultsOf(...rules)).toEqual([
      `1.mirror.to.0: it may write "docker://${ECR}/library/alpine:v1" as rule "a" does: expected destinations that differ`,
    ]);
    expect(() => parseConfig(JSON.stringify({ version: 1, rules }))).toThrow(
      'rules[1].mirror.to[0] (rule "b"): it may',
    );
  });

  test('do not conflict once one of them has expired', () => {
    const rules = [{ ...mirror({}), expires: '2026-06-30' }, mirror({}, 'b')];
    const text = JSON.stringify({ version: 1, rules });
    expect(() => parseConfig(text, { nowMs: Date.UTC(2026, 5, 30) })).toThrow('as rule "a" does');
    expect(parseConfig(text, { nowMs: Date.UTC(2026, 6, 1) }).rules).toHaveLength(2);
    expect(() => parseConfig(JSON.stringify({ version: 1, rules: rules.toReversed() }))).toThrow('as rule "b" does');
  });

  test.each<[string, Words, Words]>([
    ['other repositories', mirror({}), mirror({ from: 'node' }, 'b')],
    ['other registries', mirror({}), mirror({ to: 'r.example/{repository}' }, 'b')],
    ['other paths', mirror({ to: `${ECR}/a/{repository}` }), mirror({ to: `${ECR}/b/{repository}` }, 'b')],
    ['patterns of repositories', mirror({ from: 'x.io/a*/b' }), mirror({ from: 'x.io/*/c' }, 'b')],
    ['tags', mirror({ tags: ['3.*'] }), mirror({ tags: { exclude: ['3.*'] } }, 'b')],
    ['expressions', mirror({ tags: ['/^v[0-9]+$/'] }), mirror({ tags: ['/^v[0-9]+-/'] }, 'b')],
    ['versions', mirror({ tags: { semver: '>=3.18' } }), mirror({ tags: { semver: '<3.18' } }, 'b')],
    ['versions and patterns', mirror({ tags: { semver: '^3' } }), mirror({ tags: ['2.*', 'edge'] }, 'b')],
    ['tags made by templates', mirror({ to: `${ECR}/x:a-{tag}` }), mirror({ to: `${ECR}/x:b-{tag}` }, 'b')],
    ['keys', backup({}), backup({ to: 's3://bucket/{repository}/{tag}' }, 'b')],
  ])('are distinguished by %s', (_, a, b) => expect(faultsOf(a, b)).toEqual([]));

  test.each<[string, Words, Words]>([
    ['equal patterns', mirror({ from: 'x.io/*' }), mirror({ from: 'x.io/*' }, 'b')],
    ['a pattern within another', mirror({ from: 'x.io/team/*' }), mirror({ from: 'x.io/*' }, 'b')],
    ['a name that a pattern matches', mirror({ from: 'x.io/*' }), mirror({ from: 'x.io/{a,b}' }, 'b')],
    [
      'the hosts of one registry',
      mirror({ from: ECR, to: 'z.io/' }),
      mirror({ from: `${DUAL_STACK}/app`, to: 'z.io/' }, 'b'),
    ],
    ['hosts of the destination', mirror({}), mirror({ to: `${DUAL_STACK}/{repository}` }, 'b')],
    ['tag patterns', mirror({ tags: ['3.*'] }), mirror({ tags: ['3.2*'] }, 'b')],
    ['equal choices without an example', mirror({ tags: ['/a{2}/'] }), mirror({ tags: ['/a{2}/'] }, 'b')],
    ['expressions', mirror({ tags: ['/^v/'] }), mirror({ tags: ['/^v[0-9]/'] }, 'b')],
    ['equal choices of the latest', mirror({ tags: { latest: 3 } }), mirror({ tags: { latest: 3 } }, 'b')],
    ['the latest of all', mirror({ tags: { latest: 3 } }), mirror({}, 'b')],
    ['templates of other words', mirror({}), mirror({ to: `${ECR}/library/alpine` }, 'b')],
    ['versions', mirror({ tags: { semver: '^3.18' } }), mirror({ tags: { semver: '<3.19' } }, 'b')],
    ['prereleases', mirror({ tags: { semver: '>=3.0.0-rc.1' } }), mirror({ tags: ['3.0.0-rc.2'] }, 'b')],
    ['words of one template', mirror({}), mirror({ to: `docker://${ECR}/{repository}:{tag}` }, 'b')],
    [
      'images without a tag',
      backup({ tags: { include: ['a'], untagged: true } }),
      backup({ tags: { include: ['b'], untagged: true } }, 'b'),
    ],
    ['keys', backup({}), backup({ to: 's3://bucket/{region}/{repository}/{tag}.tar' }, 'b')],
  ])('meet by %s', (_, a, b) => expect(faultsOf(a, b)).toHaveLength(1));

  test.each<[string, Words, Words]>([
    ['patterns that overlap in part', mirror({ from: 'x.io/a*' }), mirror({ from: 'x.io/*b' }, 'b')],
    ['tag patterns that overlap in part', mirror({ tags: ['3.*'] }), mirror({ tags: ['*.20'] }, 'b')],
    ['one name in two registries', mirror({ from: 'x.io/a' }), mirror({ from: 'y.io/a' }, 'b')],
    [
      'templates that make one name of two repositories',
      mirror({ from: 'x.io/b/c' }),
      mirror({ from: 'x.io/c', to: `${ECR}/b/{repository}` }, 'b'),
    ],
    ['expressions without an example', mirror({ tags: ['/a{2}/'] }), mirror({ tags: ['b*'] }, 'b')],
    ['the latest and a name', mirror({ tags: { latest: 3 } }), mirror({ tags: ['1.0'] }, 'b')],
    ['age and a name', backup({ tags: { maxAgeDays: 3 } }), backup({ tags: ['1.0'] }, 'b')],
  ])('are left to the state with %s', (_, a, b) => expect(faultsOf(a, b)).toEqual([]));

  test('are refused for other sources when they choose by what only Amazon ECR reports', () => {
    const tags = { latest: { count: 3, by: 'push' }, maxAgeDays: 3, untagged: true };
    const from = `${ECR}/app`;
    const told = (what: string): string => expect.stringContaining(`only Amazon ECR reports ${what}, and docker.io is`);
    const whenPushed = [`latest`, `maxAgeDays`].map((key) =>
      expect.stringMatching(
        `^0\\.mirror\\.tags\\.${key}: only Amazon ECR reports when an image was pushed, and docker.io is`,
      ),
    );
    expect(faultsOf(mirror({ tags }))).toEqual([...whenPushed, told('images without a tag')]);
    expect(faultsOf(backup({ from: 'x.io/app', to: 'store:s3://bucket/store/', includeArchived: true }))).toEqual([
      '0.backup.includeArchived: only Amazon ECR has an archive storage class, and no source is there',
    ]);
    expect(faultsOf(mirror({ tags, from: [from, 'alpine'], to: 'r.example/x/{registry}/{repository}' }))).toEqual(
      whenPushed,
    );
    expect(faultsOf(mirror({ tags, from, to: 'r.example/{repository}' }))).toEqual([]);
  });

  test('need a repository of their own for publishing', () => {
    const publish = { name: 'p', publish: { from: 's3://docs/x', to: `${ECR}/documents` }, schedule: '@daily' };
    expect(faultsOf(mirror({ to: `${ECR}/documents` }), publish)).toEqual([
      expect.stringMatching(/^1\.publish\.to: it may write ".*\/documents" as rule "a" does/),
    ]);
    expect(faultsOf(publish, { ...publish, name: 'q' })).toEqual([
      expect.stringMatching(/^1\.publish\.to: it may write ".*\/documents" as rule "p" does/),
    ]);
    expect(faultsOf(publish, mirror({ to: `${ECR}/documents/{repository}` }))).toEqual([]);
  });
});

describe('a rule by itself', () => {
  test.each<[Words, string]>([
    [mirror({ from: `${ECR}/*`, to: `${ECR}/{repository}` }), 'which is one of its own sources'],
    [mirror({ from: ECR, to: `${ECR}/copy/{repository}` }), 'which is one of its own sources'],
    [mirror({ from: `${ECR}/app`, to: `${ECR}/app:{tag}-copy` }), 'which is one of its own sources'],
    [mirror({ from: 'x.io/{a,b}', to: 'y.io/c' }), 'one place for more than one repository'],
    [
      mirror({ from: 'x.io/*', to: 'y.io/c' }),
      'one place for more than one repository: expected "/" at its end, or {repository} in it',
    ],
    [
      backup({ from: `${ECR}/*`, to: 's3://bucket/mine' }),
      '"s3://bucket/mine" is one place for more than one repository: expected "/" at its end, or {repository} in it',
    ],
    [
      backup({ from: `${ECR}/*`, to: 's3://bucket/{tag}.tar' }),
      'one place for more than one repository: expected {repository} in it',
    ],
    [
      mirror({ from: 'docker.io/library/*' }),
      '"docker.io/library/*" is a pattern, and Docker Hub does not list its repositories: name each one',
    ],
    [
      prune({ at: 'docker.io/library/*', keepLast: 5 }),
      '"docker.io/library/*" is a pattern, and Docker Hub does not list its repositories: name each one',
    ],
    [
      mirror({ to: '11111111111.dkr.ecr.us-east-1.amazonaws.com/{repository}' }),
      '"11111111111.dkr.ecr.us-east-1.amazonaws.com" is not a host of Amazon ECR: its account has 11 digits instead of 12',
    ],
    [backup({ from: '11111111111.dkr.ecr.us-east-1.amazonaws.com/*' }), 'its account has 11 digits instead of 12'],
    [prune({ at: '11111111111.dkr.ecr.us-east-1.amazonaws.com/*', keepLast: 5 }), 'its account has 11 digits'],
    [
      {
        ...mirror({}),
        mirror: undefined,
        publish: { from: 's3://bucket/', to: 'x.dkr.ecr.us-east-1.amazonaws.com/a' },
      },
      'expected ACCOUNT.dkr.ecr.REGION.amazonaws.com',
    ],
    [mirror({ from: 'x.io/a', to: 'y.io/c:d' }), 'one place for more than one tag'],
    [mirror({ from: `${DUAL_STACK}/*`, to: `${ECR}/copy/{repository}` }), 'which is one of its own sources'],
    [mirror({ from: ['x.io/*', `${ECR}/app`], to: `${ECR}/{repository}` }), 'which is one of its own sources'],
    [mirror({ from: `${ECR}/a*`, to: `${ECR}/{repository}/b`, tags: ['/a{2}/'] }), 'which is one of its own sources'],
    [
      mirror({ from: `${ECR}/app`, to: `${ECR}/app:{tag}-b`, tags: { exclude: ['*c'] } }),
      'which is one of its own sources',
    ],
    [mirror({ to: ['z.io/{repository}', 'z.io/library/alpine'] }), 'as another source or destination of this rule'],
    [backup({ from: `${ECR}/app`, to: 's3://bucket/{repository}.tar' }), 'one place for more than one tag'],
    [
      backup({ from: ['alpine', `${ECR}/app`], to: 's3://bucket/{account}/{repository}/{tag}' }),
      'docker.io is not ECR',
    ],
  ])('%j is refused', (rule, why) => expect(faultsOf(rule)).toEqual([expect.stringContaining(why)]));

  test.each<[Words]>([
    [mirror({ from: [`x.io/a*`, 'x.io/*b'] })],
    [mirror({ from: `${ECR}/app`, to: `${ECR}/app:stable`, tags: ['1.0'] })],
    [mirror({ from: `${ECR}/app`, to: `${ECR}/newest:now`, tags: { latest: 1 } })],
    [mirror({ from: `${ECR}/app/*`, to: `${ECR}/copy/{repository}` })],
    [mirror({ from: `${ECR}/app`, to: `${ECR}/app:{tag}-b`, tags: { exclude: ['*-b'] } })],
    [mirror({ from: ['x.io/a', 'y.io/a'], to: 'z.io/{repository}' })],
    [mirror({ from: `${ECR}/app`, to: `${ECR}/app:{tag}-b`, tags: ['/^x-b$/'] })],
    [backup({ from: `${ECR}/*`, to: 's3://bucket/{repository}/{digest}.tar' })],
  ])('%j is not', (rule) => expect(faultsOf(rule)).toEqual([]));
});

describe('beside brute force', () => {
  const REPOSITORIES = ['a', 'b', 'ab', 'a/b', 'b/a', 'a/a/b'];
  const TAGS = ['a', 'b', 'ab', 'ba', '1.0', '1.1', '2.0', 'v1.1', 'a-b'];

  const rule = fc
    .record({
      from: fc.array(fc.constantFrom('s.io/a', 's.io/b', 's.io/a/*', 's.io/*b', 's.io/*', 's.io/{a,ab}', 's.io/b/a'), {
        minLength: 1,
        maxLength: 2,
      }),
      to: fc.constantFrom(
        't.io/{repository}',
        't.io/a/{repository}',
        't.io/{repository}/b',
        't.io/{repository}:a-{tag}',
      ),
      include: fc.subarray(['a*', '*b', 'v?.?', '*.[01]', '/^a/', '/b$/', '{ab,ba}'], { maxLength: 3 }),
      exclude: fc.subarray(['a', '*b', '/^1\\./', '[!a]*'], { maxLength: 1 }),
      semver: fc.option(fc.constantFrom('>=1.1', '<1.1', '1.x', '>=2'), { nil: undefined, freq: 2 }),
    })
    .map(({ from, to, include, exclude, semver }): CopyRule => {
      const tags = { include, exclude, semver, untagged: false };
      const schedule = { cron: '@daily', timeZone: 'UTC' };
      return {
        name: 'r',
        kind: 'mirror',
        schedule,
        onPush: false,
        from,
        to: [to],
        tags,
        platforms: [],
        referrers: true,
      };
    });

  function written(r: CopyRule, repositories: readonly string[], tags: readonly string[]): ReadonlySet<string> {
    const candidates = tags.map((tag) => ({ tag, digest: undefined, pushedAtMs: undefined }));
    const selected = select(candidates, r.tags, 0);
    return new Set(
      repositories
        .filter((repository) =>
          sourcesOf(r).some(({ registry, pattern }) => registry === 's.io' && matchesPattern(pattern, repository)),
        )
        .flatMap((repository) => selected.map(({ tag }) => ({ registry: 's.io', repository, tag })))
        .flatMap((image) => destinationsOf(r, image, undefined, 0).map(({ location }) => location)),
    );
  }

  /** Repositories and tags that `location` may stand for, by every template. */
  function makersOf(location: string): { repositories: readonly string[]; tags: readonly string[] } {
    const [name = '', tag = ''] = location.slice('docker://t.io/'.length).split(':');
    return {
      repositories: [name, name.replace(/^a\//, ''), name.replace(/\/b$/, ''), ...REPOSITORIES],
      tags: [tag, tag.replace(/^a-/, '')],
    };
  }

  test('refuses two rules with a destination that both can write, and equal ones always', () => {
    let met = 0;
    fc.assert(
      fc.property(rule, rule, fc.boolean(), (a, other, equal) => {
        const b = equal ? a : other;
        const faults = checkConflicts([
          { rule: a, path: ['a'] },
          { rule: { ...b, name: 'other' } satisfies Rule, path: ['b'] },
        ]).filter(({ message }) => message.includes('as rule "r" does'));
        met += faults.length;
        if (equal && written(a, REPOSITORIES, TAGS).size > 0) expect(faults).toHaveLength(1);
        for (const { message } of faults) {
          const location = /"(docker:[^"]*)"/.exec(message)?.[1] ?? '';
          // any tag, for two that select the same ones
          if (isDeepStrictEqual(a.tags, b.tags) && /[:-]x$/.test(location)) continue;
          const { repositories, tags } = makersOf(location);
          for (const r of [a, b]) expect(written(r, repositories, tags)).toContain(location);
        }
      }),
      { numRuns: 250 },
    );
    // the samples have conflicts
    expect(met).toBeGreaterThan(5);
  });
});

test('distinguishes three hundred rules of the same kind in little time', () => {
  const rules = Array.from({ length: 300 }, (_, at) => ({
    rule: parseRule(
      JSON.stringify(mirror({ from: `x.io/org${at}/*`, tags: { include: ['v*'], semver: '>=3' } }, `r${at}`)),
    ),
    path: [at],
  }));
  expect(checkConflicts(rules)).toEqual([]);
});

test('reports only some of hundreds of conflicts', () => {
  const rules = Array.from({ length: 40 }, (_, at) => ({
    rule: parseRule(JSON.stringify(mirror({}, `r${at}`))),
    path: [at],
  }));
  expect(checkConflicts(rules)).toHaveLength(50);
});
