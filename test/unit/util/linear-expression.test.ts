import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { linearExpression } from '../../../worker/util/linear-expression.ts';

const ATOMS = String.raw`a b B - . 1 \d \w \. \x61 \u0062 [a-b] [^a] [\]a] ^ $ \b \B`;
const SYNTAX = String.raw`( (?: (?<n> ) | * + ? *? {2} {1,} {0,2} {,2} ] { } \u{2} \p{L}`;
const PIECES = `${ATOMS} ${SYNTAX}`.split(' ');

describe('linear expressions', () => {
  test('match what RegExp matches', () => {
    const source = fc.array(fc.constantFrom(...PIECES), { maxLength: 8 }).map((pieces) => pieces.join(''));
    const text = fc.string({ unit: fc.constantFrom('a', 'b', 'B', '1', '-', '.', ']', '\n', '{', 'ä'), maxLength: 6 });
    const flags = fc.constantFrom('', 'i', 'm', 's', 'u', 'imsu');
    fc.assert(
      fc.property(source, flags, fc.array(text, { maxLength: 5 }), (pattern, chosen, texts) => {
        let native: RegExp;
        try {
          native = new RegExp(pattern, chosen);
        } catch {
          expect(() => linearExpression(pattern, chosen)).toThrow(SyntaxError);
          return;
        }
        const matches = linearExpression(pattern, chosen);
        expect(texts.map((one) => matches(one))).toEqual(texts.map((one) => native.test(one)));
      }),
      { numRuns: 2000 },
    );
  });

  test.each(['a(?=b)', 'a(?!b)', '(?<=a)b', '(?<!a)b', '(a)\\1', '(?<n>a)\\k<n>'])(
    '%s is refused: it has no linear time',
    (source) => expect(() => linearExpression(source)).toThrow(/cannot be matched in linear time/),
  );

  test.each(['(?:a{100}){101}', `${'('.repeat(101)}a${')'.repeat(101)}`])(
    'an expression that would grow without bound is refused',
    (source) => expect(() => linearExpression(source)).toThrow(SyntaxError),
  );

  test('finish at once where RegExp would try for ever', () => {
    expect(linearExpression('^(?:){4000000000}$')('')).toBe(true);
    const begun = process.threadCpuUsage();
    expect(linearExpression('^(a+)+$')(`${'a'.repeat(10_000)}b`)).toBe(false);
    expect(linearExpression('(?:a|a)*(?:a*)*b$')('a'.repeat(10_000))).toBe(false);
    expect(process.threadCpuUsage(begun).user).toBeLessThan(1_000_000);
  });
});
