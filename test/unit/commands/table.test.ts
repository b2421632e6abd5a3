import { expect, test } from 'vitest';
import { paintedLines } from '../../../worker/commands/look.ts';
import { formatTable } from '../../../worker/commands/table.ts';
import { shortened, widthOf } from '../../../worker/commands/width.ts';

const ECR = '111111111111.dkr.ecr.us-east-1.amazonaws.com/product/app:1.0';
const HEADS = ['outcome', 'digest', '>sent', 'from', 'to'];
const ROWS = [
  ['copied', 'sha256:0123456789ab', '12.3 MiB', ECR, 's3://transship-backups/us-east-1/product/app/1.0.tar'],
  ['failed', '', '0 B', 'docker.io/library/busybox:1', 's3://transship-backups/us-east-1/library/busybox/1.tar'],
];
const FIT = { shorten: ['from', 'to'], drop: ['digest'] };

test.each([60, 80, 100, 120])(
  'fits %i columns: references lose their middle, and the digest is left out first',
  (columns) => {
    const text = formatTable(HEADS, ROWS, { columns, colour: false }, FIT);
    const lines = text.split('\n');
    expect(Math.max(...lines.map(widthOf))).toBeLessThanOrEqual(columns);
    expect(lines[0]?.includes('digest')).toBe(columns >= 100);
    expect(lines[2]).toMatch(/^copied .*app:1\.0 .*\.tar$/);
  },
);

test('puts each cell on a line of its own where a terminal of 20 columns cannot hold them beside each other', () => {
  const text = formatTable(HEADS, ROWS, { columns: 20, colour: false }, FIT);
  expect(text.split('\n\n').map((row) => row.split('\n'))).toEqual([
    [
      'outcome: copied',
      'digest:',
      'sha256:0123456789ab',
      'sent: 12.3 MiB',
      'from: 1111…t/app:1.0',
      'to: s3://…pp/1.0.tar',
    ],
    ['outcome: failed', 'sent: 0 B', 'from: dock…busybox:1', 'to: s3://…ybox/1.tar'],
  ]);
});

test('is complete in a pipe', () => {
  const lines = formatTable(HEADS, ROWS, undefined, FIT).split('\n');
  expect(lines[2]).toBe(`copied   sha256:0123456789ab  12.3 MiB  ${ECR}  ${ROWS[0]?.[4]}`);
});

test('continues below its last column where that is a sentence', () => {
  const rows = [['delete', 'sha256:0123456789ab', 'it is older than 30 days, and the newest five images stay']];
  const text = formatTable(['action', 'item', 'reason'], rows, { columns: 60, colour: false }, { wrap: true });
  expect(text.split('\n').slice(2)).toEqual([
    'delete  sha256:0123456789ab  it is older than 30 days, and',
    '                             the newest five images stay',
  ]);
});

test('colours only outcomes, and keeps its columns', () => {
  const rows = [
    ['copied', 'failed/app'],
    ['failed', 'copied/app'],
  ];
  const text = formatTable(['outcome', 'image'], rows, { columns: 80, colour: true });
  expect(text.split('\n').slice(2)).toEqual([
    '\u001b[32mcopied \u001b[39m  failed/app',
    '\u001b[31mfailed \u001b[39m  copied/app',
  ]);
  expect(paintedLines('failed: x\nit failed', { colour: true })).toBe('\u001b[31mfailed\u001b[39m: x\nit failed');
  expect(paintedLines('failed: x', { colour: false })).toBe('failed: x');
});

test.each([
  ['app', 3],
  ['Überblick', 9],
  ['u\u0308ber', 4],
  ['契約書', 6],
  ['🚀', 2],
  ['👩‍👩‍👧', 2],
])('%s takes %i cells of a terminal', (text, cells) => {
  expect(widthOf(text)).toBe(cells);
});

test.each([
  ['docker.io/library/busybox:1.36', 20, 'docker…y/busybox:1.36'.length],
  ['契約書/契約書/契約書.pdf', 12, 12],
])('shortens %s to %i cells at most, and keeps its end', (text, width, most) => {
  const short = shortened(text, width);
  expect(widthOf(short)).toBeLessThanOrEqual(Math.min(width, most));
  expect(short).toContain('…');
  expect(text.endsWith(short.slice(short.indexOf('…') + 1))).toBe(true);
});

test('shows no control character of a cell, and keeps its columns in line', () => {
  const text = formatTable(['platform', '>layers'], [['linux/\u001b[31m\u202eamd64\n', '1']]);
  expect(text.split('\n')).toEqual([
    'platform            layers',
    '------------------  ------',
    'linux/ [31m amd64        1',
  ]);
});
