import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { createLanguages, type Language } from '../../../worker/rules/language.ts';

const l = createLanguages();
const ALPHABET = ['a', 'b'];
const MOST = 5;
/** Every text of the alphabet up to a length, the shortest first. */
const TEXTS = Array.from({ length: MOST + 1 }).reduce<string[][]>(
  (rows) => [...rows, rows.length === 0 ? [''] : (rows.at(-1) ?? []).flatMap((t) => ALPHABET.map((c) => t + c))],
  [],
);

/** A language, and the texts of it among `TEXTS` by definition. */
interface Told {
  readonly language: Language;
  readonly has: (text: string) => boolean;
}

const both = ([x, y]: readonly [Told, Told]): Told => ({
  language: l.both(x.language, y.language),
  has: (t) => x.has(t) && y.has(t),
});
const either = ([x, y]: readonly [Told, Told]): Told => ({
  language: l.either(x.language, y.language),
  has: (t) => x.has(t) || y.has(t),
});
const not = (x: Told): Told => ({ language: l.not(x.language), has: (t) => !x.has(t) });
const splits = (t: string): readonly (readonly [string, string])[] =>
  Array.from({ length: t.length + 1 }, (_, at) => [t.slice(0, at), t.slice(at)] as const);
const concat = ([x, y]: readonly [Told, Told]): Told => ({
  language: l.concat(x.language, y.language),
  has: (t) => splits(t).some(([start, end]) => x.has(start) && y.has(end)),
});
const many = (x: Told): Told => {
  const has = (t: string): boolean =>
    t === '' || splits(t).some(([start, end]) => start !== '' && x.has(start) && has(end));
  return { language: l.many(x.language), has };
};

const { told } = fc.letrec<{ told: Told }>((tie) => ({
  told: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom<Told>(
      { language: l.none, has: () => false },
      { language: l.empty, has: (t) => t === '' },
      { language: l.text('ab'), has: (t) => t === 'ab' },
      { language: l.chars('a'), has: (t) => t === 'a' },
      { language: l.chars('ab'), has: (t) => t === 'a' || t === 'b' },
    ),
    fc.tuple(tie('told'), tie('told')).map(both),
    fc.tuple(tie('told'), tie('told')).map(either),
    fc.tuple(tie('told'), tie('told')).map(concat),
    tie('told').map(many),
    tie('told').map(not),
  ),
}));

test('a language has the texts that its definition has', () => {
  fc.assert(
    fc.property(told, ({ language, has }) => {
      for (const t of TEXTS.flat()) expect([t, l.has(language, t)]).toEqual([t, has(t)]);
    }),
    { numRuns: 300 },
  );
});

test('the shortest text is one of the shortest', () => {
  fc.assert(
    fc.property(told, ({ language, has }) => {
      // complements also have texts of characters that nobody named
      const within = l.both(language, l.many(l.chars(ALPHABET)));
      const found = l.shortest(within);
      const first = TEXTS.find((row) => row.some(has))?.[0]?.length;
      if (first === undefined) expect(found === undefined || found.length > MOST).toBe(true);
      else expect([found?.length, has(found ?? '')]).toEqual([first, true]);
    }),
    { numRuns: 300 },
  );
});

test('a search that takes too long is given up', () => {
  const any = l.many(l.chars('ab'));
  const far = (c: string): Language => l.concat(any, l.chars(c), ...Array.from({ length: 16 }, () => l.chars('ab')));
  expect(l.shortest(l.both(far('a'), l.not(far('a'))))).toBeUndefined();
});
