import { describe, expect, test } from 'vitest';
import { faultsOf } from '../language/find-faults.ts';

function found(file: string, source: string): readonly string[] {
  return faultsOf(file, source).map((fault) => `${fault.line} ${fault.found}`);
}

describe('the check of the language', () => {
  test('finds a replaced word in a comment, a string, a template and a title, by its line', () => {
    const source = [
      '// the worker is told',
      '/**',
      ' * A lease that',
      ' * lives.',
      ' */',
      "const a = 'what nobody reads';",
      'const b = `${a} tells ${a}`;',
      "test('that it works', () => {});",
    ];
    expect(found('a.ts', source.join('\n'))).toEqual(['1 told', '4 lives', '6 nobody', '7 tells', '8 that']);
  });

  test('finds a phrase across the lines of a comment and of a paragraph', () => {
    expect(found('a.ts', '// a message that comes\n// again\n')).toEqual(['1 comes again']);
    expect(found('a.md', 'a message that comes\nagain\n')).toEqual(['1 comes again']);
  });

  test('reads no code, name, target of a link or word of one piece', () => {
    expect(found('a.ts', "// `told` is a name\nconst told = 'told';\n")).toEqual([]);
    expect(found('a.md', '`told` and [a link](decisions/0014-who-may-delete.md#told)')).toEqual([]);
  });

  test.each([
    'people who read it',
    'an archive that has not been read',
    'leaves nothing behind',
    'a registry behind a proxy',
    'for good reasons',
  ])('accepts "%s"', (words) => {
    expect(found('a.md', words)).toEqual([]);
  });

  test('finds lines of Markdown that are too long, except rows of tables and lone links', () => {
    const long = 'word '.repeat(25);
    const link = `[name](https://example.com/${'a'.repeat(120)})`;
    expect(found('a.md', `${long}\n| ${long} |\n- ${link}.\n`)).toEqual(['1 a long line']);
  });

  test('accepts a word that an exception covers, and only there', () => {
    const exception = { file: 'a.md', words: 'it tells the time', reason: 'a clock does' };
    const faults = faultsOf('a.md', 'it tells the time\nit tells a story\n', [exception]);
    expect(faults.map(({ line }) => line)).toEqual([2]);
  });
});
