import { highest } from '../util/lists.ts';
import { painted, PLAIN, type Look } from './look.ts';
import { withoutControls } from './text.ts';
import { padded, shortened, widthOf, wrapped } from './width.ts';

/** How a table becomes narrower where a line is too short for it. Columns are named by their heads. */
export interface Fit {
  /** Lose the middle of their cells, as references may. */
  readonly shorten?: readonly string[];
  /** Left out one after the other, the first one first. */
  readonly drop?: readonly string[];
  /** Whether the last column goes on below itself. */
  readonly wrap?: boolean;
}

/** What a column that loses the middle of its cells keeps at least, before other columns are dropped, and in the end. */
const READABLE = 24;
const LEAST = 12;
const GAP = '  ';
/** The columns that name an outcome. */
const OF_OUTCOMES: ReadonlySet<string> = new Set(['outcome', 'result', 'state', 'change', 'action']);

/** The columns of a table as they are drawn: by index, with the width of each. */
export type Layout = readonly { readonly column: number; readonly width: number }[];

/** A table: rows under their heads, columns as wide as their widest cell; columns of numbers (`>`) to the right. */
export function formatTable(
  heads: readonly string[],
  rows: readonly (readonly string[])[],
  look: Look = PLAIN,
  fit: Fit = {},
): string {
  const layout = layOut(heads, widthsOf(heads, rows), look, fit);
  if (isTooWide(layout, look)) return rows.map((row) => formatRow(row, heads, layout, look, fit)).join('\n\n');
  const rule = heads.map((_, column) => '-'.repeat(layout.find((one) => one.column === column)?.width ?? 0));
  return [
    formatRow(heads.map(nameOf), heads, layout, PLAIN, fit),
    formatRow(rule, heads, layout, PLAIN, fit),
    ...rows.map((row) => formatRow(row, heads, layout, look, fit)),
  ].join('\n');
}

/** The width that each column takes by its cells. */
export function widthsOf(heads: readonly string[], rows: readonly (readonly string[])[]): readonly number[] {
  return heads.map((head, column) =>
    highest(
      rows.map((row) => widthOf(withoutControls(row[column] ?? ''))),
      widthOf(nameOf(head)),
    ),
  );
}

/** Which columns are drawn, and how wide, so that a line holds them. */
export function layOut(heads: readonly string[], natural: readonly number[], { columns }: Look, fit: Fit): Layout {
  let drawn = natural.map((width, column) => ({ column, width }));
  if (columns === undefined) return drawn;
  const gives = ({ column }: { readonly column: number }): boolean =>
    fit.shorten?.includes(nameOf(heads[column] ?? '')) === true || (fit.wrap === true && column === heads.length - 1);
  const leastOf = (layout: Layout, least: number): number =>
    sum(layout.map((one) => (gives(one) ? Math.min(one.width, least) : one.width))) + GAP.length * (layout.length - 1);
  for (const name of fit.drop ?? []) {
    if (leastOf(drawn, READABLE) <= columns) break;
    drawn = drawn.filter(({ column }) => nameOf(heads[column] ?? '') !== name);
  }
  const fixed = sum(drawn.filter((one) => !gives(one)).map(({ width }) => width));
  const shares = shareOut(
    drawn.filter(gives).map(({ width }) => width),
    columns - fixed - GAP.length * (drawn.length - 1),
  );
  return drawn.map(({ column, width }) => ({
    column,
    width: gives({ column }) ? (shares.shift() ?? width) : width,
  }));
}

/** Whether a line cannot hold the columns, as on a terminal of 20 cells: each cell of a row then has a line of its own. */
export function isTooWide(layout: Layout, { columns }: Look): boolean {
  return columns !== undefined && sum(layout.map(({ width }) => width)) + GAP.length * (layout.length - 1) > columns;
}

/** One row of a table. */
export function formatRow(
  cells: readonly string[],
  heads: readonly string[],
  layout: Layout,
  look: Look,
  fit: Fit,
): string {
  if (isTooWide(layout, look)) return formatStacked(cells, heads, look, fit);
  const lines: string[] = [];
  let indent = 0;
  let line = '';
  for (const [index, { column, width }] of layout.entries()) {
    // a cell may hold what an image or a registry calls itself
    const cell = withoutControls(cells[column] ?? '');
    const head = heads[column] ?? '';
    const isLast = index === layout.length - 1;
    if (isLast && fit.wrap === true && column === heads.length - 1 && widthOf(cell) > width) {
      const [first = '', ...more] = wrapped(cell, width);
      line += first;
      for (const part of more) lines.push(`${' '.repeat(indent)}${part}`);
      break;
    }
    const name = nameOf(head);
    const shown = fit.shorten?.includes(name) === true ? shortened(cell, width) : cell;
    const isNumber = head.startsWith('>');
    const text = isLast && !isNumber ? shown : padded(shown, width, isNumber ? 'left' : 'right');
    line += `${OF_OUTCOMES.has(name) ? painted(text, look) : text}${isLast ? '' : GAP}`;
    indent += width + GAP.length;
  }
  return [line.trimEnd(), ...lines].join('\n');
}

/** The cells of one row below each other, each after the name of its column. */
function formatStacked(cells: readonly string[], heads: readonly string[], look: Look, fit: Fit): string {
  const columns = look.columns ?? Infinity;
  const lines = heads.flatMap((head, column) => {
    const cell = withoutControls(cells[column] ?? '');
    const name = nameOf(head);
    if (cell === '') return [];
    const room = columns - widthOf(name) - ': '.length;
    const shown = fit.shorten?.includes(name) === true ? shortened(cell, Math.max(LEAST, room)) : cell;
    const text = OF_OUTCOMES.has(name) ? painted(shown, look) : shown;
    return [widthOf(shown) <= room ? `${name}: ${text}` : `${name}:\n${wrapped(text, columns).join('\n')}`];
  });
  return lines.join('\n');
}

function nameOf(head: string): string {
  return head.replace(/^>/, '');
}

/** What each gets of `room`: what it asks for where that is less than its share, and the rest of all in equal parts. */
function shareOut(asked: readonly number[], room: number): number[] {
  const shares = asked.map(() => 0);
  let left = room;
  const order = [...asked.keys()].sort((a, b) => (asked[a] ?? 0) - (asked[b] ?? 0));
  for (const [done, index] of order.entries()) {
    const share = Math.max(LEAST, Math.floor(left / (order.length - done)));
    shares[index] = Math.min(asked[index] ?? 0, share);
    left -= shares[index];
  }
  return shares;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((all, one) => all + one, 0);
}
