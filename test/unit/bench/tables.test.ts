import { expect, test } from 'vitest';
import { mergeTables } from '../../bench/tables.ts';

const TABLES = [
  'first run',
  '',
  '| mirror, plain | wall s |',
  '|---|---:|',
  '| transship | 1.00 |',
  '',
  '| archive, plain | wall s |',
  '|---|---:|',
  '| transship | 2.00 |',
].join('\n');

test('a run of one case keeps the tables of the others, each below the line of its own run', () => {
  const tables = [['| mirror, plain | wall s |', '|---|---:|', '| transship | 9.00 |']];
  const merged = mergeTables(`\n\n${TABLES}\n\n`, { line: 'second run', tables });
  expect(merged).toBe(
    [
      'second run',
      '',
      '| mirror, plain | wall s |',
      '|---|---:|',
      '| transship | 9.00 |',
      '',
      'first run',
      '',
      '| archive, plain | wall s |',
      '|---|---:|',
      '| transship | 2.00 |',
    ].join('\n'),
  );
});

test('a table of a new case comes last, and a run whose line is the same gets it once', () => {
  const tables = [['| restore, plain | wall s |', '|---|---:|', '| transship | 3.00 |']];
  const merged = mergeTables(TABLES, { line: 'first run', tables });
  expect(merged).toBe(`${TABLES}\n\n${(tables[0] ?? []).join('\n')}`);
  expect(mergeTables(merged, { line: 'first run', tables })).toBe(merged);
});
