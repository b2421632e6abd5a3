// docs/configuration.md and examples/ are read as anybody's file is.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { configJsonSchema, formatRule, parseConfig, parseRule } from '../../../worker/plan/config.ts';

const DOCUMENT = 'docs/configuration.md';
const SCHEMA = 'docs/transship.schema.json';

const blocks = [...readFileSync(DOCUMENT, 'utf8').matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, text = '']) => text);

/** Rules alone stand for a file that has nothing else. */
function wholeFile(text: string): string {
  return text.startsWith('- ') ? `version: 1\nrules:\n${text.replace(/^(?=.)/gm, '  ')}` : text;
}

describe('the examples', () => {
  test('of the document are all there', () => expect(blocks.length).toBeGreaterThan(8));

  test.each(blocks.map((text) => [wholeFile(text)]))('can be applied: %#', (text) => {
    for (const rule of parseConfig(text).rules) expect(parseRule(formatRule(rule))).toEqual(rule);
  });

  test('for users can be applied', () => {
    const { rules } = parseConfig(readFileSync('examples/rules.yaml', 'utf8'));
    expect(rules.map(({ name }) => name)).toEqual(['base-images', 'products']);
  });
});

test('what the document says of a file with faults is what is said', () => {
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

test('the JSON Schema for editors is that of the code: write what is expected here to it', () => {
  expect(JSON.parse(readFileSync(SCHEMA, 'utf8'))).toEqual(JSON.parse(JSON.stringify(configJsonSchema())));
});

test('every key that a file may have is in the document', () => {
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
