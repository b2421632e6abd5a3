import * as fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { formatAccess, formatRule, parseAccess, parseConfig, parseRule } from '../../../worker/rules/config.ts';
import { destinationsOf } from '../../../worker/rules/destinations.ts';
import type { Rule } from '../../../worker/rules/rule.ts';
import { isFailure } from '../../../worker/util/failure.ts';
import { isRecord } from '../../../worker/util/record.ts';

const ECR = '111111111111.dkr.ecr.us-east-1.amazonaws.com';

/** The faults of a file, one a line, without its name. */
function faultsOf(text: string): readonly string[] {
  return messageOf(() => parseConfig(text, { file: 'f' }))
    .split('\n')
    .slice(1);
}

/** The reason for INVALID; empty if it is valid. */
function messageOf(read: () => unknown): string {
  try {
    read();
  } catch (error) {
    if (isFailure(error, 'INVALID')) return error.message;
    throw error;
  }
  return '';
}

describe('a file with a great many faults', () => {
  test.each([
    ['keys that are unknown', (index: number) => `unknown${index}: 1\n`, ''],
    ['hosts that are invalid', (index: number) => `  "host ${index}": { scret: x }\n`, 'registries:\n'],
    ['rules that are invalid', (index: number) => `  - { nme: r${index} }\n`, 'rules:\n'],
  ])('is refused within a second: 10,000 %s', (_, line, before) => {
    const text = `version: 1\n${before}${Array.from({ length: 10_000 }, (_item, index) => line(index)).join('')}`;
    const begun = process.threadCpuUsage();
    expect(faultsOf(text).at(-1)).toMatch(/^and \d+ more$/);
    expect(process.threadCpuUsage(begun).user).toBeLessThan(1_000_000);
  });
});

const RULE = {
  name: 'a',
  mirror: { from: 'docker.io/library/alpine', to: 'r.example/alpine' },
  schedule: '@daily',
} as const;

/** A file with one mirror rule, with `part` of the mirror and `rule` of the rule changed or added. */
function ruleWith(part: Readonly<Record<string, unknown>>, rule: Readonly<Record<string, unknown>> = {}): string {
  return JSON.stringify({ version: 1, rules: [{ ...RULE, mirror: { ...RULE.mirror, ...part }, ...rule }] });
}

/** The only fault of a file, without its place. */
function faultOf(text: string): string {
  const [fault = '', ...others] = faultsOf(text);
  expect(others).toEqual([]);
  return fault.replace(/^f:\d+:\d+: /, '');
}

describe('a rule', () => {
  test('has its defaults filled in', () => {
    const text = ruleWith({}, { mirror: { from: 'alpine', to: 'docker://r.example/x' } });
    expect(parseConfig(text)).toEqual({
      version: 1,
      registries: {},
      allow: [],
      rules: [
        {
          name: 'a',
          kind: 'mirror',
          from: ['docker.io/library/alpine'],
          to: ['r.example/x'],
          tags: { include: [], exclude: [], untagged: false },
          platforms: [],
          referrers: true,
          schedule: { cron: '@daily', timeZone: 'UTC' },
          onPush: false,
        },
      ],
    });
  });

  test('is compared once a day if it only starts by pushes', () => {
    const [rule] = parseConfig(
      ruleWith({ from: ECR, to: 'r.example/{repository}' }, { schedule: undefined, on: 'push' }),
    ).rules;
    expect([rule?.onPush, rule?.schedule.cron]).toEqual([true, expect.stringMatching(/^\d+ [1-4] \* \* \*$/)]);
  });

  test('expires when its last day is over', () => {
    const [rule] = parseConfig(ruleWith({}, { expires: '2027-06-30' })).rules;
    expect(rule?.expiresAtMs).toBe(Date.parse('2027-07-01T00:00:00Z'));
  });

  test.each(['1969-12-30', '10000-01-01', '9999-12-31T23:00:00-02:00'])(
    'expires in a supported year: not %s',
    (expires) => {
      expect(faultOf(ruleWith({}, { expires }))).toContain('is not a day or moment');
    },
  );

  test('names settings of repositories in short words', () => {
    const create = { immutable: { except: ['latest'] }, scan: true, encryption: 'KMS', lifecycle: { rules: [] } };
    const [rule] = parseConfig(ruleWith({ create })).rules;
    expect(rule?.kind === 'mirror' && rule.create).toEqual({
      tagMutability: 'IMMUTABLE_WITH_EXCLUSION',
      tagMutabilityExclusions: ['latest'],
      scanOnPush: true,
      encryption: { type: 'KMS' },
      lifecyclePolicy: '{"rules":[]}',
    });
  });
});

describe('names of Regions', () => {
  const backup = (part: object): string =>
    JSON.stringify({
      version: 1,
      rules: [{ name: 'a', backup: { from: ECR, to: 's3://bucket/', ...part }, schedule: '@daily' }],
    });

  test('are in the keys that a rule makes, even after the rule was stored', () => {
    const { rules } = parseConfig(backup({ regionNames: { 'us-east-1': 'virginia', 'eu-west-1': 'ireland' } }));
    for (const rule of [...rules, ...rules.map((one) => parseRule(formatRule(one)))]) {
      if (rule.kind !== 'backup') throw new TypeError('expected a backup');
      const keyOf = (registry: string): string | undefined =>
        destinationsOf(rule, { registry, repository: 'team/app', tag: 'v1' }, undefined, 0)[0]?.location;
      expect(keyOf(ECR)).toBe('s3://bucket/virginia/team/app/v1.tar');
      expect(keyOf(ECR.replace('us-east-1', 'ap-south-1'))).toBe('s3://bucket/ap-south-1/team/app/v1.tar');
      expect(keyOf('docker.io')).toBe('s3://bucket/docker.io/team/app/v1.tar');
    }
  });

  test('may be part of the repository of a mirror', () => {
    const names = { regionNames: { 'us-east-1': 'virginia' }, to: 'r.example/{regionName}/{repository}:{tag}-copy' };
    const [rule] = parseConfig(ruleWith({ ...names, from: ECR })).rules;
    if (rule?.kind !== 'mirror') throw new TypeError('expected a mirror');
    expect(destinationsOf(rule, { registry: ECR, repository: 'app', tag: 'v1' }, undefined, 0)).toMatchObject([
      { location: 'docker://r.example/virginia/app:v1-copy' },
    ]);
  });

  test.each([
    [{ 'us-east-1': 'a/b' }, /letters, digits/],
    [{ virginia: 'us-east-1' }, /a Region of AWS, such as us-east-1/],
    [{ 'us-east-1': 'one', 'eu-west-1': 'one' }, /two Regions have the name "one"/],
  ])('are refused where they are impossible: %j', (regionNames, message) => {
    expect(faultOf(backup({ regionNames }))).toMatch(message);
  });
});

describe('faults are reported with their path, the given value and the expected one', () => {
  const TEXTS = 'a string, or a list of strings';
  test.each<[string, Readonly<Record<string, unknown>>, string]>([
    ['from', { from: undefined }, `it is missing: expected ${TEXTS}`],
    ['from', { from: null }, `nothing is given, expected ${TEXTS}`],
    ['from', { from: 3.5 }, `given 3.5, expected ${TEXTS}: put it in quotes`],
    ['from', { from: {} }, `given an object, expected ${TEXTS}`],
    ['from', { from: [] }, 'given a list, expected one entry at least'],
    ['from[1]', { from: ['alpine', 1] }, 'given 1, expected a string: put it in quotes'],
    [
      'from',
      { from: 'r.example/*x:1' },
      '"r.example/*x:1" names a tag: sources are repositories, and tags go under "tags"',
    ],
    ['to', { to: 's3://bucket/x' }, expect.stringContaining('a mirror is written to a registry')],
    ['to', { to: 'r.example/{repo}' }, expect.stringContaining('{repo} is not one of {regionName}, {repository}')],
    ['tags', { tags: 3 }, expect.stringContaining('given 3, expected a list of patterns, or a mapping with include')],
    ['tags[0]', { tags: [3.2] }, 'given 3.2, expected a string: put it in quotes'],
    ['tags.include', { tags: { include: [] } }, 'given a list, expected one entry at least'],
    [
      'tags.exclude',
      { tags: { exclude: '!a' } },
      '"!a" is not a pattern of tags: what is not wanted goes under "exclude"',
    ],
    [
      'tags.semver',
      { tags: { semver: 'a b' } },
      '"a b" is not a range of versions: expected one as npm has it, such as ">=3.18 <4"',
    ],
    ['tags.latest', { tags: { latest: 0 } }, 'given 0, expected at least 1'],
    ['tags.latest', { tags: { latest: 1.5 } }, 'given 1.5, expected a whole number, or {count, by: version or push}'],
    ['tags.latest', { tags: { latest: '5' } }, 'given "5", expected a whole number, or {count, by: version or push}'],
    ['tags.latest.by', { tags: { latest: { count: 1, by: 'age' } } }, 'given "age", expected "version" or "push"'],
    ['tags.latest.count', { tags: { latest: { by: 'push' } } }, 'it is missing: expected a number'],
    ['tags.maxAgeDays', { tags: { maxAgeDays: 0 } }, 'given 0, expected more than 0'],
    ['tags.maxAgeDays', { tags: { maxAgeDays: 1e6 } }, 'given 1000000, expected at most 36500'],
    ['tags.untagged', { tags: { untagged: 'yes' } }, 'given "yes", expected true or false'],
    [
      'platforms',
      { platforms: 'linux' },
      '"linux" is not a platform: expected os/architecture[/variant], such as linux/arm64',
    ],
    [
      'platforms[0]',
      { platforms: ['linux'] },
      '"linux" is not a platform: expected os/architecture[/variant], such as linux/arm64',
    ],
    ['referrers', { referrers: 'no' }, 'given "no", expected true or false'],
    ['create', { create: 'no' }, 'given "no", expected true, false, or a mapping of settings'],
    ['create.immutible', { create: { immutible: true } }, 'there is no "immutible" here; did you mean "immutable"?'],
    [
      'create.scanOnPush',
      { create: { scan: true, scanOnPush: true } },
      'scan and scanOnPush are one setting: expected one of them',
    ],
    [
      'create.tagMutability',
      { create: { tagMutability: 'IMMUTABLE_WITH_EXCLUSION' } },
      '"IMMUTABLE_WITH_EXCLUSION" needs tagMutabilityExclusions',
    ],
    ['create.encryption', { create: { encryption: 'DES' } }, 'given "DES", expected "AES256" or "KMS" or "KMS_DSSE"'],
    ['create.lifecycle', { create: { lifecycle: '{' } }, '"{" is not a JSON object'],
    ['create.tags.a', { create: { tags: { a: 1 } } }, 'given 1, expected a string: put it in quotes'],
    ['plattforms', { plattforms: 'all' }, 'there is no "plattforms" here; did you mean "platforms"?'],
    ['x', { x: 1 }, 'there is no "x" here; expected from, tags, platforms, referrers, to, regionNames, create'],
    [
      'constructor',
      { constructor: 1 },
      'there is no "constructor" here; expected from, tags, platforms, referrers, to, regionNames, create',
    ],
  ])('mirror.%s of %j', (path, part, why) => {
    const [at, told] = faultOf(ruleWith(part)).split(/ \(rule "a"\): (.*)/s);
    expect([at, told]).toEqual([`rules[0].mirror.${path}`, why]);
  });

  test.each<[string, Readonly<Record<string, unknown>>, string]>([
    ['.name', { name: 7 }, 'given 7, expected a string: put it in quotes'],
    [
      '.name',
      { name: 'a b' },
      'given "a b", expected letters, digits, "-", "_" and ".", 64 at most, a letter or digit first',
    ],
    ['.name', { name: '__proto__' }, expect.stringContaining('given "__proto__", expected letters')],
    ['.schedule', { schedule: 5 }, 'given 5, expected a cron text such as "0 2 * * *", or {cron, timeZone}'],
    ['.schedule', { schedule: '0 0 30 2 *' }, '"0 0 30 2 *" never comes: there is no such day'],
    ['.schedule', { schedule: '0 24 * * *' }, '"0 24 * * *" is not a schedule: invalid value for hour: 24'],
    [
      '.schedule.timeZone',
      { schedule: { cron: '@daily', timeZone: 'Berlin' } },
      '"Berlin" is not a time zone: expected an IANA name, such as Europe/Berlin',
    ],
    ['.schedule.cron', { schedule: {} }, 'it is missing: expected a string'],
    ['.on', { on: 'pull' }, 'given "pull", expected "push"'],
    ['.on', { on: 'push' }, 'only Amazon ECR reports pushes, and no source is there: expected a schedule alone'],
    ['.expires', { expires: 2027 }, 'given 2027, expected a string: put it in quotes'],
    [
      '.expires',
      { expires: '2027-02-30' },
      '"2027-02-30" is not a day or moment: expected 2027-06-30 or 2027-06-30T12:00:00Z',
    ],
    ['', { schedule: undefined }, 'it has no time: expected "schedule", "on: push", or both'],
    ['', { mirror: undefined }, 'it has no work to do: expected one of mirror, backup, publish, prune, verify'],
    [
      '',
      { backup: { from: ECR, to: 's3://bucket' } },
      'it has mirror and backup: expected one of mirror, backup, publish, prune, verify',
    ],
    [
      '.prune',
      { mirror: undefined, prune: { at: ECR } },
      expect.stringMatching(/^it names nothing to delete: expected one of untaggedAfterDays, deleteTags, keepLast, /),
    ],
    [
      '.prune.deleteTags',
      { mirror: undefined, prune: { at: ECR, deleteTags: ['*'] } },
      expect.stringContaining('* matches every tag and no rule keeps one'),
    ],
    [
      '.prune.policies[1]',
      {
        mirror: undefined,
        prune: {
          at: ECR,
          policies: [
            { repositories: '*', keepLast: 1 },
            { repositories: 'a', keepTags: ['v*'] },
          ],
        },
      },
      expect.stringContaining('it names nothing to delete'),
    ],
    [
      '.prune.policies[1]',
      {
        mirror: undefined,
        prune: {
          at: ECR,
          policies: [
            { repositories: '*', keepLast: 1 },
            { repositories: 'a', keepLast: 2 },
          ],
        },
      },
      'it is never used: policies[0] is for all repositories',
    ],
    [
      '.prune',
      { mirror: undefined, prune: { at: ECR, keepLast: 1, policies: [{ repositories: 'a', keepLast: 2 }] } },
      expect.stringContaining('it has policies and keepLast: expected one of them'),
    ],
    [
      '.prune.requireBackup',
      { mirror: undefined, prune: { at: 's3://bucket/a/', keepLast: 1, requireBackup: 's3://bucket/b/' } },
      expect.stringContaining('it is for images, and "at" names archives'),
    ],
    [
      '.backup.report',
      {
        mirror: undefined,
        backup: { from: 'a.example/b', to: 's3://bucket/{tag}.tar', snapshots: false, report: true },
      },
      'the page is made of snapshots: expected no "report", or no "snapshots: false"',
    ],
    [
      '.backup.includeArchived',
      {
        mirror: undefined,
        backup: { from: ECR, to: ['store:s3://bucket/store/', 's3://bucket/{tag}.tar'], includeArchived: true },
      },
      expect.stringContaining('archived images go into stores alone'),
    ],
    [
      '.publish.from',
      { mirror: undefined, publish: { from: ECR, to: `${ECR}/x` } },
      expect.stringContaining('expected s3://bucket/key'),
    ],
    [
      '.publish.from',
      { mirror: undefined, publish: { from: 's3://bucket/a\nb/', to: `${ECR}/x` } },
      expect.stringContaining('it has invisible characters'),
    ],
    [
      '.on',
      { mirror: undefined, prune: { at: `${ECR}/x`, keepLast: 1 }, on: 'push' },
      'only mirror, backup and publish start by a push',
    ],
  ])('%s of %j', (path, rule, why) => {
    const [at, told] = faultOf(ruleWith({}, rule)).split(/(?: \(rule [^)]*\))?: (.*)/s);
    expect([at, told]).toEqual([`rules[0]${path}`, why]);
  });

  test.each<[string, string, string]>([
    ['a list', '- a', 'the whole: given a list, expected a mapping of keys to values'],
    ['no rules', 'version: 1', 'rules: it is missing: expected a list'],
    ['empty rules', 'version: 1\nrules:\n', 'rules: nothing is given, expected a list'],
    ['no version', 'rules: []', 'version: it is missing: expected 1'],
    ['a string as version', 'version: "1"\nrules: []', 'version: given "1", expected 1'],
    ['a fraction as version', 'version: 1.5\nrules: []', 'version: given 1.5, expected 1'],
    ['an older version', 'version: 0\nrules: []', 'version: given 0, expected 1'],
    [
      'a newer version, whatever else it has',
      'version: 2\nrulez: []',
      'version: 2 is of a newer Transship; this one reads version 1',
    ],
    ['a rule that is a string', 'version: 1\nrules: [a]', 'rules[0]: given "a", expected a mapping of keys to values'],
  ])('%s', (_, text, why) => expect(faultOf(text)).toBe(why));

  test('all at once, in the order of the file, with lines and columns', () => {
    const text = `version: 1
registries:
  docker.io: { secret: hunter2 }
rules:
  - name: a
    mirror:
      from: alpine
      too: r.example/x
    schedule: "@daily"
  - name: b
    backup: { from: alpine, to: r.example/x }
    expires: tomorrow
rulez: []
`;
    expect(faultsOf(text)).toEqual([
      'f:3:16: registries["docker.io"].secret: given something, expected the ARN of a secret, arn:aws:secretsmanager:<region>:<account>:secret:<name>',
      'f:6:5: rules[0].mirror.to (rule "a"): it is missing: expected a string, or a list of strings',
      'f:8:7: rules[0].mirror.too (rule "a"): there is no "too" here; did you mean "to"?',
      'f:10:5: rules[1] (rule "b"): it has no time: expected "schedule", "on: push", or both',
      'f:11:29: rules[1].backup.to (rule "b"): "r.example/x" is not a destination: a backup is written to S3, such as s3://bucket/{repository}/{tag}.tar',
      'f:12:5: rules[1].expires (rule "b"): "tomorrow" is not a day or moment: expected 2027-06-30 or 2027-06-30T12:00:00Z',
      'f:13:1: rulez: there is no "rulez" here; did you mean "rules"?',
    ]);
  });

  test('for targets that requests may write to', () => {
    const text = `
version: 1
allow:
  - 333333333333
  - s3://bucket/prefix
  - registry.example/app
  - alpine
  - '333333333333'
  - registry.example:5000
  - s3://bucket
rules: []`;
    expect(faultsOf(text)).toEqual([
      'f:4:5: allow[0]: given 333333333333, expected a string: put it in quotes',
      'f:5:5: allow[1]: "s3://bucket/prefix" names more than a bucket: expected "s3://bucket"',
      'f:6:5: allow[2]: "registry.example/app" is not the host of a registry: expected one such as docker.io or registry.example:5000',
      'f:7:5: allow[3]: "alpine" is not the host of a registry: expected one such as docker.io or registry.example:5000',
    ]);
  });

  test('only in part where there are thousands', () => {
    const text = `version: 1\nrules: [${Array.from({ length: 1000 }, () => '{}').join()}]`;
    const faults = faultsOf(text);
    expect([faults.length, faults.at(-1)]).toEqual([51, 'and 2950 more']);
  });

  test('without passwords', () => {
    const registries = { 'me:hunter2@r.example': { password: 'hunter2' }, 'r.example': { secret: 'hunter2' } };
    const from = ['me:hunter2@r.example/x', 'https://me:hunter2@r.example/x', 'r.example/x?password=hunter2'];
    const to = 'me:hunter2@r.example/x';
    const file = { version: 1, registries, rules: [{ ...RULE, mirror: { from, to } }] };
    const told = messageOf(() => parseConfig(JSON.stringify(file)));
    expect(told).toContain('…@r.example');
    expect(told).not.toContain('hunter2');
    const allow = ['me:hunter2@r.example', 's3://me:hunter2@bucket', 'https://r.example/?token=hunter2'];
    expect(messageOf(() => parseConfig(JSON.stringify({ version: 1, allow, rules: [] })))).not.toContain('hunter2');
    expect(messageOf(() => parseAccess(JSON.stringify({ registries, allow })))).not.toContain('hunter2');
  });
});

describe('YAML', () => {
  test.each([
    ['', 'it is empty: expected "version: 1" and "rules"'],
    ['# nothing\n', 'it is empty: expected "version: 1" and "rules"'],
    ['null', 'it is empty: expected "version: 1" and "rules"'],
    [`# ${'x'.repeat(1024 * 1024)}`, 'it has 1048578 bytes; 1048576 is the most that is allowed'],
    ['['.repeat(1000), 'it is nested more than 100 deep'],
    ['- '.repeat(1000), 'it is nested more than 100 deep'],
  ])('%.20j', (text, why) => expect(messageOf(() => parseConfig(text, { file: 'f' }))).toBe(`read f: ${why}`));

  test.each([
    ['version: 1\nrules:\n\t- x', 'f:3:1: not YAML: tabs are not allowed as indentation'],
    [
      'rules: [r.example/{repository}]',
      'f:1:19: not YAML: missing , or : between flow sequence items; between [ ] put text with braces in quotes',
    ],
    ['version: !!js/function x', 'f:1:10: not YAML: unresolved tag: tag:yaml.org,2002:js/function'],
    ['version: 1\nrules: []\nversion: 1', 'f:3:1: "version" is there twice'],
  ])('%j', (text, why) => expect(faultsOf(text)).toEqual([why]));

  test('reports an alias of nothing with its place', () => {
    expect(faultsOf('version: 1\nrules: *b\n')).toEqual(['f:2:8: not YAML: there is no &b before *b']);
  });

  test('reports an alias within its own anchor with its place', () => {
    const text =
      'version: 1\nrules:\n  - name: a\n    schedule: "@daily"\n    mirror:\n      from: alpine\n      to: r.example/a\n      create: { lifecycle: &p { a: *p } }\n';
    expect(faultsOf(text)).toEqual(['f:8:36: not YAML: *p stands within what it stands for']);
  });

  test('allows one list for many rules', () => {
    const rule = (at: number): string =>
      `  - { name: r${at}, mirror: { from: x.example/x${at}, to: "y.example/{repository}", tags: ${at === 0 ? '&t ["3.*"]' : '*t'} }, schedule: "@daily" }\n`;
    const text = `version: 1\nrules:\n${Array.from({ length: 150 }, (_, at) => rule(at)).join('')}`;
    expect(parseConfig(text).rules).toHaveLength(150);
  });

  test('refuses aliases of aliases that grow beyond measure', () => {
    const rows = Array.from(
      { length: 8 },
      (_, at) => `k${at}: &k${at} [${Array.from({ length: 10 }, () => (at === 0 ? 'x' : `*k${at - 1}`)).join(',')}]`,
    );
    expect(() => parseConfig(rows.join('\n'))).toThrow('its aliases stand for too much: write it out');
  });

  test('reads keys as strings', () => {
    expect(faultsOf('version: 1\n? {a: b}\n: c\nnull: 3\nrules: []\nregistries: { __proto__: {} }\n')).toEqual([
      'f:2:3: not YAML: a key has to be a string',
      'f:4:1: not YAML: a key has to be a string',
      'f:6:15: not YAML: "__proto__" cannot be a key',
    ]);
  });

  test('refuses "on" where YAML 1.1 reads it as true', () => {
    expect(faultsOf(`%YAML 1.1\n---\n${ruleWith({})}`)).toEqual([
      'f:1:1: not YAML: version 1.1 is declared; expected 1.2, or no %YAML at all',
    ]);
  });

  test('refuses several documents in one file', () => {
    expect(faultsOf('version: 1\nrules: []\n---\nversion: 1\nrules: []\n')).toEqual([
      'f:3:1: not YAML: a second document begins; expected one',
    ]);
  });
});

describe('registries', () => {
  const SECRET = 'arn:aws:secretsmanager:us-east-1:111111111111:secret:x';
  const ROLE = 'arn:aws:iam::{account}:role/reader-of-{account}';

  test('of several accounts and Regions are reached by one entry, each by the role of its own account', () => {
    const hosts = '{111111111111,222222222222}.dkr.ecr.{us-east-1,eu-west-1}.amazonaws.com';
    const given = { [hosts]: { assumeRole: ROLE, externalId: 'abc' }, '{a,b}.example': { secret: SECRET } };
    const { registries, allow } = parseConfig(JSON.stringify({ version: 1, registries: given, rules: [] }));
    const at = (account: string): object => ({
      assumeRole: `arn:aws:iam::${account}:role/reader-of-${account}`,
      externalId: 'abc',
    });
    expect(registries).toEqual({
      '111111111111.dkr.ecr.us-east-1.amazonaws.com': at('111111111111'),
      '111111111111.dkr.ecr.eu-west-1.amazonaws.com': at('111111111111'),
      '222222222222.dkr.ecr.us-east-1.amazonaws.com': at('222222222222'),
      '222222222222.dkr.ecr.eu-west-1.amazonaws.com': at('222222222222'),
      'a.example': { secret: SECRET },
      'b.example': { secret: SECRET },
    });
    expect(parseAccess(formatAccess({ registries, allow }))).toEqual({ registries, allow });
  });

  test.each([
    ['{a,b', { secret: SECRET }, '"{a,b": a brace is not closed'],
    ['{a,b}.example', { assumeRole: ROLE }, 'a role can be assumed for Amazon ECR only: expected secret'],
    ['{a,https://b}.example', { secret: SECRET }, '"https://b.example" is not the host of a registry'],
    [
      `{${Array.from({ length: 1001 }, (_, i) => i).join(',')}}.example`,
      { secret: SECRET },
      'stands for more than 1000 names',
    ],
  ])('of %.20s are refused with a sentence', (host, access, why) => {
    const faults = faultsOf(JSON.stringify({ version: 1, registries: { [host]: access }, rules: [] }));
    expect(faults).toEqual([expect.stringContaining(why)]);
  });

  test('are refused when two entries stand for the same host', () => {
    const registries = { 'b.example': { secret: SECRET }, '{a,b}.example': { secret: SECRET } };
    expect(faultsOf(JSON.stringify({ version: 1, registries, rules: [] }))).toEqual([
      expect.stringContaining(
        'registries["{a,b}.example"]: it stands for b.example, which another name stands for too',
      ),
    ]);
  });

  test('report a host that is named twice beside every other fault, also where another name cannot be read', () => {
    const registries = {
      'b.example': { secret: SECRET },
      '{a,b}.example': { secret: SECRET },
      'c.example': {},
      '{d,e': { secret: SECRET },
    };
    expect(faultsOf(JSON.stringify({ version: 1, registries, rules: [] }))).toEqual([
      expect.stringContaining('it stands for b.example, which another name stands for too'),
      expect.stringContaining('registries["c.example"]: expected secret or assumeRole'),
      expect.stringContaining('"{d,e": a brace is not closed'),
    ]);
  });

  test('report every fault at once', () => {
    const secret = 'arn:aws:secretsmanager:us-east-1:111111111111:secret:x';
    const assumeRole = 'arn:aws:iam::111111111111:role/x';
    const registries = {
      'https://docker.io': { secret },
      'u:p@r.example': { secret },
      'a.example': { secret, assumeRole },
      'b.example': { assumeRole },
      'c.example': {},
      'd.example': { secret, externalId: 'abc' },
      'e.example': { secret: 'hunter2' },
      'f.example': { password: 'hunter2' },
    };
    const faults = faultsOf(JSON.stringify({ version: 1, registries, rules: [] }, undefined, 1));
    expect(faults.map((fault) => fault.replace(/^f:\d+:\d+: /, ''))).toEqual([
      'registries["https://docker.io"]: "https://docker.io" is not the host of a registry: expected one such as docker.io or registry.example:5000',
      'registries["…@r.example"]: "…@r.example" is not the host of a registry: expected one such as docker.io or registry.example:5000',
      'registries["a.example"]: secret and assumeRole exclude each other: expected one of them',
      'registries["b.example"]: a role can be assumed for Amazon ECR only: expected secret',
      'registries["c.example"]: expected secret or assumeRole',
      'registries["d.example"]: externalId belongs to assumeRole',
      'registries["e.example"].secret: given something, expected the ARN of a secret, arn:aws:secretsmanager:<region>:<account>:secret:<name>',
      'registries["f.example"].password: there is no "password" here; expected secret, assumeRole, externalId',
    ]);
  });
});

describe('rules', () => {
  test('reports a name that is used twice, whatever else is wrong', () => {
    const rules = [{ name: 'a' }, { name: 'a' }];
    expect(faultsOf(JSON.stringify({ version: 1, rules })).at(-1)).toBe(
      'f:1:37: rules[1].name (rule "a"): rules[0] has the name "a" already',
    );
  });

  test.each([
    ['alpine:3.20', 'names a tag: sources are repositories, and tags go under "tags"'],
    ['alpine:3', 'names a tag: sources are repositories, and tags go under "tags"'],
    ['localhost:5000', 'is not a repository: "localhost:5000/*" stands for all of that registry'],
    ['r.example', 'is not a repository: "r.example/*" stands for all of that registry'],
    ['r.example:5000/', 'is not a repository: "r.example:5000/*" stands for all of that registry'],
  ])('%s is not a source', (from, why) => {
    expect(faultsOf(ruleWith({ from }))).toEqual([
      expect.stringContaining(`(rule "a"): ${JSON.stringify(from)} ${why}`),
    ]);
  });

  test('refuses an unknown nickname as a schedule', () => {
    for (const schedule of ['@hourli', '@reboot']) {
      expect(faultsOf(ruleWith({}, { schedule }))).toEqual([
        expect.stringContaining(
          `"${schedule}" is not a schedule: expected five fields, such as "0 2 * * *", or six with seconds`,
        ),
      ]);
    }
  });

  test('treats two names of one ECR registry as one registry', () => {
    const from = '111111111111.dkr.ecr.us-east-1.amazonaws.com/*';
    const to = '111111111111.dkr-ecr.us-east-1.on.aws/{repository}';
    expect(faultsOf(ruleWith({ from, to }))).toEqual([
      expect.stringContaining('which is one of its own sources: expected another place'),
    ]);
  });

  test('reads many sources in their own registry in no time', () => {
    const from = 'r.example/{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}';
    expect(faultsOf(ruleWith({ from, to: 'r.example/copy/{repository}' }))).toEqual([]);
  });
});

describe('anything else', () => {
  /** Reading it ends in a value or INVALID. */
  const isRead = (read: () => unknown): boolean => messageOf(read) === '';

  test('text is read or INVALID', () => {
    const words = fc.constantFrom(
      'version: 1',
      'rules:',
      '  - name: a',
      '- &a',
      '*a',
      '{',
      '}',
      '[',
      ']',
      ': ',
      '\n',
      '\t',
      '"',
      '!!set',
      '? ',
      '<<: *a',
      '|',
      '---',
      '%YAML 1.1',
      '__proto__',
    );
    const yaml = fc
      .array(fc.oneof(words, fc.string({ maxLength: 5 })), { maxLength: 20 })
      .map((parts) => parts.join(' '));
    fc.assert(
      fc.property(fc.oneof(yaml, fc.string({ unit: 'binary' }), fc.json()), (text) => {
        for (const read of [parseConfig, parseRule, parseAccess]) isRead(() => read(text));
      }),
      { numRuns: 200 },
    );
  });

  test('a file with anything anywhere is read or INVALID, and what is read can be stored', () => {
    const example: unknown = parse(readFileSync('examples/rules.yaml', 'utf8'));
    const places = placesOf(example);
    const anything = fc.oneof(
      fc.jsonValue(),
      fc.constantFrom('*', '{a', 's3://x/y', '@daily', 'push', '/(/', '__proto__', ECR, [], {}, 0, -1, 1e21, true),
      // removes the value: the file is still read if the value was optional, or never there
      fc.constant(undefined),
    );
    let read = 0;
    fc.assert(
      fc.property(
        fc.constantFrom(...places),
        anything,
        fc.constantFrom('', 's', '__proto__', 'constructor'),
        (place, value, more) => {
          const changed = JSON.parse(JSON.stringify(example)) as unknown;
          change(changed, place, more, value);
          const text = JSON.stringify(changed);
          if (!isRead(() => parseConfig(text))) return;
          read++;
          const { rules, registries, allow } = parseConfig(text);
          for (const rule of rules) expect(parseRule(formatRule(rule))).toEqual(rule);
          expect(parseAccess(formatAccess({ registries, allow }))).toEqual({ registries, allow });
        },
      ),
      { numRuns: 200 },
    );
    // about every fourth
    expect(read).toBeGreaterThan(10);
  });
});

/** A path of a value in `value`, except the root. */
function placesOf(value: unknown, path: readonly string[] = []): readonly (readonly string[])[] {
  const inner = typeof value === 'object' && value !== null ? Object.entries(value) : [];
  return [...(path.length === 0 ? [] : [path]), ...inner.flatMap(([key, v]) => placesOf(v, [...path, key]))];
}

/** Sets the value at `path`, or beside it by the same name and `more`. */
function change(value: unknown, path: readonly string[], more: string, to: unknown): void {
  const at = path.slice(0, -1).reduce((outer: unknown, key) => (outer as Record<string, unknown>)[key], value);
  const key = `${path.at(-1)}`;
  const name = isRecord(at) && more !== '' ? (more === 's' ? `${key}s` : more) : key;
  Object.defineProperty(at, name, { value: to, enumerable: true, writable: true, configurable: true });
}

describe('what is stored', () => {
  const some = <T>(values: fc.Arbitrary<T>): fc.Arbitrary<T | readonly T[]> =>
    fc.oneof(values, fc.array(values, { minLength: 1, maxLength: 3 }));
  const pattern = fc.constantFrom('3.*', '*-rc*', '/^v[0-9]+$/i', '[!a-z]?', '{a,b}-*');
  const copied = {
    from: some(
      fc.constantFrom(
        'alpine',
        'docker.io/library/{alpine,node}',
        `${ECR}/product/*`,
        ECR,
        'docker://x.example:5000/a',
      ),
    ),
    tags: fc.oneof(
      some(pattern),
      fc.record(
        {
          include: some(pattern),
          exclude: some(pattern),
          semver: fc.constantFrom('>=3.18 <4', '1.x || 2.x', ''),
          latest: fc.oneof(
            fc.integer({ min: 1, max: 1e6 }),
            fc.record({ count: fc.constant(3), by: fc.constantFrom('version', 'push') }),
          ),
          maxAgeDays: fc.double({ min: 0.001, max: 36500, noNaN: true }),
          untagged: fc.boolean(),
        },
        { requiredKeys: [] },
      ),
    ),
    platforms: fc.oneof(
      fc.constantFrom('all', 'linux/amd64'),
      fc.constant(['linux/amd64', 'linux/arm64/v8', 'linux/amd64']),
    ),
    referrers: fc.boolean(),
  };
  const create = fc.oneof(
    fc.boolean(),
    fc.record(
      {
        immutable: fc.oneof(fc.boolean(), fc.constant({ except: ['latest', 'v*'] })),
        scan: fc.boolean(),
        encryption: fc.constantFrom('AES256', 'KMS', { type: 'KMS', key: 'alias/x' }),
        tags: fc.dictionary(fc.string(), fc.string()),
        lifecycle: fc.constantFrom({ rules: [{ rulePriority: 1 }] }, '{"rules": []}'),
        policy: fc.constant('{}'),
      },
      { requiredKeys: [] },
    ),
  );
  const place = {
    at: some(fc.constantFrom(`${ECR}/*`, `docker://${ECR}`, 's3://bucket/x', `${ECR}/{a,b}`)),
    maxDeletes: fc.integer({ min: 1, max: 99 }),
    dryRun: fc.boolean(),
  };
  const pruned = {
    untaggedAfterDays: fc.constant(1),
    keepDays: fc.constant(2),
    keepTags: some(pattern),
    deleteTags: some(fc.constant('pr-*')),
    keepSemver: fc.constant('>=2'),
    notPulledForDays: fc.constant(30),
  };
  const work = fc.oneof(
    fc.record({
      mirror: fc.record(
        {
          ...copied,
          to: some(
            fc.constantFrom('r.example/{repository}', 'docker://r.example/a/{repository}:{tag}', 'r.example/b/'),
          ),
          create,
        },
        { requiredKeys: ['from', 'to'] },
      ),
    }),
    fc.record({
      backup: fc.record(
        { ...copied, to: some(fc.constantFrom('s3://bucket', 's3://bucket/x/', 's3://bucket/{repository}/{tag}.tar')) },
        { requiredKeys: ['from', 'to'] },
      ),
    }),
    fc.constant({ publish: { from: 's3://bucket/x', to: 'docker://r.example/documents' } }),
    fc.record({
      prune: fc.oneof(
        fc.record(
          { ...place, ...pruned, keepLast: fc.integer({ min: 1, max: 99 }) },
          { requiredKeys: ['at', 'keepLast'] },
        ),
        fc.record(
          {
            ...place,
            policies: fc.array(
              fc.record(
                { ...pruned, repositories: some(fc.constantFrom('a/*', '{b,c}', 'd')), keepDaily: fc.constant(3) },
                { requiredKeys: ['repositories', 'keepDaily'] },
              ),
              { minLength: 1, maxLength: 3 },
            ),
          },
          { requiredKeys: ['at', 'policies'] },
        ),
      ),
    }),
  );
  const time = fc.record(
    {
      schedule: fc.oneof(
        fc.constantFrom('0 2 * * *', '@hourly', '*/10 0 0 1 * MON-FRI'),
        fc.record(
          { cron: fc.constant('0 2 * * *'), timeZone: fc.constant('Europe/Berlin') },
          { requiredKeys: ['cron'] },
        ),
      ),
      expires: fc.constantFrom(
        '2027-06-30',
        '9999-12-31',
        '2027-06-30T12:00:00Z',
        '2027-06-30T12:30+05:30',
        '2028-02-29T23:59:59.999-12:00',
      ),
    },
    { requiredKeys: ['schedule'] },
  );
  const words = fc
    .tuple(fc.constantFrom('a', 'constructor', 'toString', 'A-1_b.c'), work, time)
    .map(([name, what, when]) => Object.assign({ name }, what, when));

  test('is read back unchanged, and equal rules are equal text', () => {
    fc.assert(
      fc.property(words, (rule) => {
        const read: Rule = parseRule(JSON.stringify(rule));
        const stored = formatRule(read);
        expect(parseRule(stored)).toEqual(read);
        expect(formatRule(parseRule(stored))).toBe(stored);
        const reversed = JSON.parse(
          JSON.stringify(rule, (_, v: unknown) =>
            isRecord(v) ? Object.fromEntries(Object.entries(v).toReversed()) : v,
          ),
        ) as unknown;
        expect(formatRule(parseRule(JSON.stringify(reversed)))).toBe(stored);
      }),
      { numRuns: 200 },
    );
  });

  test('has access that is read back unchanged, hosts in order', () => {
    const access = {
      'r.example:5000': { secret: 'arn:aws:secretsmanager:us-east-1:111111111111:secret:x' },
      [ECR]: { externalId: 'abc', assumeRole: 'arn:aws-cn:iam::111111111111:role/path/x' },
    };
    const allow = ['111111111111', 'r.example:5000', 's3://backups'];
    const stored = formatAccess({ registries: access, allow });
    expect(parseAccess(stored)).toEqual({ registries: access, allow });
    const reversed = Object.fromEntries(Object.entries(access).toReversed());
    expect(formatAccess({ registries: reversed, allow: [...allow.toReversed(), 's3://backups'] })).toBe(stored);
  });

  test.each([
    ['{', 'read a stored rule: it is not JSON'],
    ['[]', 'read the stored rule undefined: one fault\nthe whole: given a list, expected a mapping of keys to values'],
    [
      '{"name":"a","mirror":{},"schedule":"@daily"}',
      'read the stored rule "a": 2 faults\nmirror.from: it is missing: expected a string, or a list of strings\nmirror.to: it is missing: expected a string, or a list of strings',
    ],
  ])('%s is refused', (text, why) => expect(messageOf(() => parseRule(text))).toBe(why));
});
