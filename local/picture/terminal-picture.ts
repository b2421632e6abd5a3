import { highest } from '../../worker/util/lists.ts';

/** A piece of a line with one look. */
interface Run {
  readonly column: number;
  readonly text: string;
  readonly style: Style;
}

interface Style {
  readonly colour?: string;
  readonly bold?: boolean;
  readonly dim?: boolean;
}

const CELL = { width: 8.4, height: 18 };
const PADDING = 16;
/** The bar of the window above the first line. */
const BAR = 28;
const BACKGROUND = '#1b1f24';
const FOREGROUND = '#d6dde4';
/** The colours of SGR 30 to 37, and 90 to 97. */
const COLOURS = ['#6b7580', '#ff7b72', '#7ee787', '#e3b341', '#79c0ff', '#d2a8ff', '#76e3ea', '#d6dde4'];
const ESCAPE = String.fromCharCode(27);

/**
 * An SVG of what a terminal shows: lines with the escape sequences of SGR, as `tmux capture-pane -e` prints them. `title` is
 * the name of the window, which a screen reader reads aloud.
 */
export function terminalPicture(lines: readonly string[], title: string): string {
  const rows = lines.map(runsOf);
  const columns = highest(
    rows.flat().map(({ column, text }) => column + text.length),
    0,
  );
  const width = Math.ceil(columns * CELL.width + 2 * PADDING);
  const height = BAR + rows.length * CELL.height + PADDING;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-label="${escaped(title)}">`,
    `<rect width="100%" height="100%" rx="8" fill="${BACKGROUND}"/>`,
    ...COLOURS.slice(1, 4).map((colour, index) => `<circle cx="${18 + index * 18}" cy="15" r="5" fill="${colour}"/>`),
    `<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="14" fill="${FOREGROUND}">`,
    ...rows.map((runs, index) => lineOf(runs, BAR + (index + 0.75) * CELL.height)).filter((line) => line !== ''),
    '</g>',
    '</svg>',
    '',
  ].join('\n');
}

function lineOf(runs: readonly Run[], y: number): string {
  const spans = runs.map(({ column, text, style }) => {
    const { colour, bold, dim } = style;
    const look = [
      colour === undefined ? '' : ` fill="${colour}"`,
      bold === true ? ' font-weight="bold"' : '',
      dim === true ? ' opacity="0.65"' : '',
    ].join('');
    // a fixed place and width, because fonts differ
    const x = PADDING + column * CELL.width;
    const length = (text.length * CELL.width).toFixed(1);
    return `<tspan x="${x.toFixed(1)}" textLength="${length}" lengthAdjust="spacingAndGlyphs"${look}>${escaped(text)}</tspan>`;
  });
  return spans.length === 0 ? '' : `<text y="${y.toFixed(1)}">${spans.join('')}</text>`;
}

/** A line in pieces of one look each. Sequences other than SGR are left out. */
function runsOf(line: string): readonly Run[] {
  const runs: Run[] = [];
  let style: Style = {};
  let column = 0;
  for (const [index, part] of line.split(new RegExp(`${ESCAPE}\\[([0-9;]*)m`)).entries()) {
    if (index % 2 === 1) {
      style = styleAfter(style, part);
      continue;
    }
    const text = part.replaceAll(
      new RegExp(`${ESCAPE}(?:\\[[^a-zA-Z]*[a-zA-Z]|\\][^${ESCAPE}]*${ESCAPE}\\\\)`, 'g'),
      '',
    );
    // SVG viewers collapse spaces, so text after several of them is a piece of its own
    for (const { 0: piece, index: at } of text.matchAll(/\S+(?: \S+)*/g))
      runs.push({ column: column + at, text: piece, style });
    column += text.length;
  }
  return runs;
}

/** The look after an SGR sequence with these parameters. */
function styleAfter(before: Style, parameters: string): Style {
  let style = before;
  for (const code of parameters.split(';').map(Number)) {
    const colour = COLOURS[code >= 90 ? code - 90 : code - 30];
    if (code === 0) style = {};
    else if (code === 1) style = { ...style, bold: true };
    else if (code === 2) style = { ...style, dim: true };
    else if (code === 22) style = style.colour === undefined ? {} : { colour: style.colour };
    else if (code === 39) style = { ...style, colour: FOREGROUND };
    else if (((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) && colour !== undefined)
      style = { ...style, colour };
  }
  return style;
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
