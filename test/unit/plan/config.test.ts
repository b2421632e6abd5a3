import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../../worker/plan/config.ts';
import { isFailure } from '../../../worker/util/failure.ts';

/** What is wrong with a file, a line each, without its name. */
function faultsOf(text: string): readonly string[] {
  try {
    parseConfig(text, { file: 'f' });
  } catch (error) {
    if (isFailure(error, 'INVALID')) return error.message.split('\n').slice(1);
    throw error;
  }
  return [];
}

/** A file with one rule that mirrors, with `lines` of it changed or added. */
function ruleWith(part: Readonly<Record<string, unknown>>, rule: Readonly<Record<string, unknown>> = {}): string {
  const mirror = { from: 'docker.io/library/alpine', to: 'r.example/alpine', ...part };
  return JSON.stringify({ version: 1, rules: [{ name: 'a', mirror, schedule: '@daily', ...rule }] });
}

describe('YAML', () => {
  test('an alias of nothing is told with its place', () => {
    expect(faultsOf('version: 1\nrules: *b\n')).toEqual(['f:2:8: not YAML: there is no &b before *b']);
  });

  test('an alias within what it stands for is told with its place', () => {
    const text =
      'version: 1\nrules:\n  - name: a\n    schedule: "@daily"\n    mirror:\n      from: alpine\n      to: r.example/a\n      create: { lifecycle: &p { a: *p } }\n';
    expect(faultsOf(text)).toEqual(['f:8:36: not YAML: *p stands within what it stands for']);
  });

  test('one list may be said for many rules', () => {
    const rule = (at: number): string =>
      `  - { name: r${at}, mirror: { from: x.example/x${at}, to: "y.example/{repository}", tags: ${at === 0 ? '&t ["3.*"]' : '*t'} }, schedule: "@daily" }\n`;
    const text = `version: 1\nrules:\n${Array.from({ length: 150 }, (_, at) => rule(at)).join('')}`;
    expect(parseConfig(text).rules).toHaveLength(150);
  });

  test('aliases of aliases that grow beyond measure are refused', () => {
    const rows = Array.from(
      { length: 8 },
      (_, at) => `k${at}: &k${at} [${Array.from({ length: 10 }, () => (at === 0 ? 'x' : `*k${at - 1}`)).join(',')}]`,
    );
    expect(() => parseConfig(rows.join('\n'))).toThrow('its aliases stand for too much: write it out');
  });

  test('keys are text', () => {
    expect(faultsOf('version: 1\n? {a: b}\n: c\nnull: 3\nrules: []\nregistries: { __proto__: {} }\n')).toEqual([
      'f:2:3: not YAML: a key has to be text',
      'f:4:1: not YAML: a key has to be text',
      'f:6:15: not YAML: "__proto__" cannot be a key',
    ]);
  });

  test('YAML 1.1 reads "on" as true: it is refused', () => {
    expect(faultsOf(`%YAML 1.1\n---\n${ruleWith({})}`)).toEqual([
      'f:1:1: not YAML: version 1.1 is declared; expected 1.2, or no %YAML at all',
    ]);
  });

  test('several documents in one file are refused', () => {
    expect(faultsOf('version: 1\nrules: []\n---\nversion: 1\nrules: []\n')).toEqual([
      'f:3:1: not YAML: a second document begins; expected one',
    ]);
  });
});

describe('registries', () => {
  test('every fault is told at once', () => {
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
      'registries["u:p@r.example"]: "…@r.example" is not the host of a registry: expected one such as docker.io or registry.example:5000',
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
  test('a name that is there twice is told, whatever else is wrong', () => {
    const rules = [{ name: 'a' }, { name: 'a' }];
    expect(faultsOf(JSON.stringify({ version: 1, rules })).at(-1)).toBe(
      'f:1:37: rules[1].name (rule "a"): rules[0] has the name "a" already',
    );
  });

  test.each([
    ['alpine:3.20', 'names a tag: sources are repositories, and tags go under "tags"'],
    ['alpine:3', 'names a tag: sources are repositories, and tags go under "tags"'],
    ['localhost:5000', 'is no repository: "localhost:5000/*" stands for all of that registry'],
    ['r.example', 'is no repository: "r.example/*" stands for all of that registry'],
    ['r.example:5000/', 'is no repository: "r.example:5000/*" stands for all of that registry'],
  ])('%s is no source', (from, why) => {
    expect(faultsOf(ruleWith({ from }))).toEqual([
      expect.stringContaining(`(rule "a"): ${JSON.stringify(from)} ${why}`),
    ]);
  });

  test('a nickname that there is not is no schedule', () => {
    for (const schedule of ['@hourli', '@reboot']) {
      expect(faultsOf(ruleWith({}, { schedule }))).toEqual([
        expect.stringContaining(
          `"${schedule}" is not a schedule: expected five fields, such as "0 2 * * *", or six with seconds`,
        ),
      ]);
    }
  });

  test('two names of one ECR registry are one registry', () => {
    const from = '111111111111.dkr.ecr.us-east-1.amazonaws.com/*';
    const to = '111111111111.dkr-ecr.us-east-1.on.aws/{repository}';
    expect(faultsOf(ruleWith({ from, to }))).toEqual([
      expect.stringContaining('which is one of its own sources: expected another place'),
    ]);
  });

  test('many sources in their own registry are read in no time', () => {
    const from = 'r.example/{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}';
    expect(faultsOf(ruleWith({ from, to: 'r.example/copy/{repository}' }))).toEqual([]);
  }, 5000);
});
