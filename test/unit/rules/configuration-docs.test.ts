// docs/configuration.md and examples/ are read like any user's file.
import { existsSync, globSync, readFileSync } from 'node:fs';
import { format, resolveConfig } from 'prettier';
import { parse } from 'yaml';
import { describe, expect, test } from 'vitest';
import { configJsonSchema, formatRule, parseConfig, parseRule } from '../../../worker/rules/config.ts';
import { warnings } from '../../../worker/rules/prune-conflicts.ts';
import { violations } from '../../support/json-schema.ts';

const DOCUMENT = 'docs/configuration.md';
const SCHEMA = 'docs/transship.schema.json';

const blocks = [...readFileSync(DOCUMENT, 'utf8').matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, text = '']) => text);

const EXAMPLES = globSync('examples/*.yaml').toSorted();

/** Rules alone stand for a file without anything else. */
function wholeFile(text: string): string {
  return text.startsWith('- ') ? `version: 1\nrules:\n${text.replace(/^(?=.)/gm, '  ')}` : text;
}

describe('the examples', () => {
  test('of the document are all found', () => expect(blocks.length).toBeGreaterThan(8));

  test.each(blocks.map((text) => [wholeFile(text)]))('can be applied: %#', (text) => {
    for (const rule of parseConfig(text).rules) expect(parseRule(formatRule(rule))).toEqual(rule);
  });

  test('for users can be applied', () => {
    const { rules } = parseConfig(readFileSync('examples/rules.yaml', 'utf8'));
    expect(rules.map(({ name }) => name)).toEqual([
      'base-images',
      'products',
      'documents',
      'ci-images',
      'old-products',
    ]);
  });
});

describe('the rules files in examples/', () => {
  test('have one for each of ten tasks', () => expect(EXAMPLES).toHaveLength(10));

  test.each(EXAMPLES)('can be applied without a warning: %s', (file) => {
    const { rules } = parseConfig(readFileSync(file, 'utf8'), { file });
    for (const rule of rules) expect(parseRule(formatRule(rule))).toEqual(rule);
    expect(warnings(rules, Date.parse('2026-12-01'))).toEqual([]);
  });

  test.each(EXAMPLES.filter((file) => file !== 'examples/rules.yaml'))('name the page about their task: %s', (file) => {
    const [, page = ''] = /(docs\/\S+\.md)$/m.exec(readFileSync(file, 'utf8')) ?? [];
    expect(existsSync(page)).toBe(true);
  });
});

describe('the refusals in the document', () => {
  const refused = /^```yaml refused\n(.*?)^```\n\n((?:> [^\n]*\n\n?)+)/gms;
  const examples = [...readFileSync(DOCUMENT, 'utf8').matchAll(refused)].map(
    ([, text = '', told = '']) =>
      [wholeFile(text), told.split('\n').flatMap((line) => (line.startsWith('> ') ? [line.slice(2)] : []))] as const,
  );

  test('are all found', () => {
    const blocksOf = readFileSync(DOCUMENT, 'utf8').split('```yaml refused').length - 1;
    expect([examples.length, blocksOf > 8]).toEqual([blocksOf, true]);
  });

  test.each(examples)('are real: %#', (text, told) => {
    let message = '';
    try {
      parseConfig(text, { file: 'f' });
    } catch (error) {
      message = error instanceof Error ? error.message : '';
    }
    const lines = message.split('\n').slice(1);
    expect(lines.map((line) => line.replace(/^f:\d+:\d+: /, ''))).toEqual(told);
  });
});

test('the document shows the real messages for a file with faults', () => {
  const bad = `version: 1
rules:
  - name: base
    mirror:
      fron: docker.io/library/alpine
      to: registry.example/hub/{repository}
    schedule: "61 * * * *"
`;
  const [, told = ''] = /^```\n(read rules\.yaml: .*?)\n```$/ms.exec(readFileSync(DOCUMENT, 'utf8')) ?? [];
  expect(() => parseConfig(bad, { file: 'rules.yaml' })).toThrow(expect.objectContaining({ message: told }));
});

describe('the JSON Schema for editors', () => {
  test('equals the one of the code; npx vitest run test/unit/rules/configuration-docs.test.ts -u writes it', async () => {
    const options = { ...(await resolveConfig(SCHEMA)), parser: 'json' };
    const text = await format(JSON.stringify(configJsonSchema()), options);
    await expect(text).toMatchFileSnapshot(`../../../${SCHEMA}`);
  });

  const examples = [...blocks.map(wholeFile), ...EXAMPLES.map((file) => readFileSync(file, 'utf8'))];
  test.each(examples.map((text) => [text]))('accepts what the program reads: %#', (text) => {
    expect(violations(configJsonSchema(), parse(text))).toEqual([]);
  });

  const rule = { name: 'a', mirror: { from: 'alpine', to: 'r.example/x' }, schedule: '@daily' };
  const file = (change: object): unknown => ({ version: 1, rules: [{ ...rule, ...change }] });
  const secret = 'arn:aws:secretsmanager:us-east-1:111111111111:secret:x';
  test.each<[string, unknown]>([
    ['no version', { rules: [] }],
    ['another version', { version: 2, rules: [] }],
    ['an unknown key', { version: 1, rules: [], rule: [] }],
    ['an unknown key of a rule', file({ shedule: '@daily' })],
    ['an invalid name', file({ name: 'a b' })],
    ['nothing to do', file({ mirror: undefined })],
    ['two things to do', file({ backup: { from: 'alpine', to: 's3://bucket' } })],
    ['no time', file({ schedule: undefined })],
    ['a schedule that is a number', file({ schedule: 5 })],
    ['no destination', file({ mirror: { from: 'alpine' } })],
    ['no source', file({ mirror: { from: [], to: 'r.example/x' } })],
    ['a backup to a registry', file({ mirror: undefined, backup: { from: 'alpine', to: 'r.example/x' } })],
    ['a tag that is a number', file({ mirror: { ...rule.mirror, tags: [3.2] } })],
    ['none of the latest', file({ mirror: { ...rule.mirror, tags: { latest: 0 } } })],
    ['latest by an unknown order', file({ mirror: { ...rule.mirror, tags: { latest: { count: 1, by: 'age' } } } })],
    ['an unknown setting', file({ mirror: { ...rule.mirror, create: { immutible: true } } })],
    ['settings of a backup', file({ mirror: undefined, backup: { from: 'alpine', to: 's3://bucket', create: false } })],
    ['a prune of nothing', file({ mirror: undefined, prune: { at: 'r.example/*' } })],
    ['access by nothing', { version: 1, rules: [], registries: { 'r.example': {} } }],
    [
      'an external id of a secret',
      { version: 1, rules: [], registries: { 'r.example': { secret, externalId: 'ab' } } },
    ],
  ])('refuses what the program refuses: %s', (_, value) => {
    const text = JSON.stringify(value);
    expect(violations(configJsonSchema(), JSON.parse(text))).not.toEqual([]);
    expect(() => parseConfig(text)).toThrow(expect.objectContaining({ code: 'INVALID' }));
  });
});

test('has every key of a file in the document', () => {
  const text = readFileSync(DOCUMENT, 'utf8');
  const keys = new Set<string>();
  const collect = (schema: unknown): void => {
    if (typeof schema !== 'object' || schema === null) return;
    for (const [name, value] of Object.entries(schema)) {
      if (name === 'properties' && typeof value === 'object' && value !== null)
        for (const key of Object.keys(value)) keys.add(key);
      collect(value);
    }
  };
  collect(configJsonSchema());
  expect(keys.size).toBeGreaterThan(30);
  expect([...keys].filter((key) => !new RegExp(`\\b${key}\\b`).test(text))).toEqual([]);
});
