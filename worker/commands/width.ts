/** What a terminal draws over two cells: https://www.unicode.org/reports/tr11/ names these scripts wide, and emoji. */
const WIDE =
  /^(?:[\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}\u3000-\u303e\uff01-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}|.\ufe0f)/u;
const INVISIBLE = /^[\p{Mn}\p{Me}\p{Cf}]+$/u;
// oxlint-disable-next-line no-control-regex -- most text is ASCII, and each of its characters takes one cell
const ASCII = /^[\u0020-\u007e]*$/;

/** How many cells of a terminal `text` takes. It has no control characters. */
export function widthOf(text: string): number {
  if (ASCII.test(text)) return text.length;
  return graphemesOf(text).reduce((sum, grapheme) => sum + cellsOf(grapheme), 0);
}

/** `text` in at most `width` cells, with `…` in place of its middle: the end of a reference is more useful than its beginning. */
export function shortened(text: string, width: number): string {
  if (widthOf(text) <= width) return text;
  const head = Math.max(0, Math.floor((width - 1) / 3));
  return `${taken(text, head)}…${takenFromEnd(text, Math.max(0, width - 1 - head))}`;
}

/** `text` in at most `width` cells, without what is after them. */
export function cut(text: string, width: number): string {
  return widthOf(text) <= width ? text : taken(text, width);
}

/** `text` filled with spaces to `width` cells. */
export function padded(text: string, width: number, side: 'left' | 'right'): string {
  const spaces = ' '.repeat(Math.max(0, width - widthOf(text)));
  return side === 'left' ? `${spaces}${text}` : `${text}${spaces}`;
}

/** The words of `text` in lines of at most `width` cells. A word that is longer has a line of its own. */
export function wrapped(text: string, width: number): readonly string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const line = lines.at(-1);
    if (line !== undefined && widthOf(line) + 1 + widthOf(word) <= width) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(word);
  }
  return lines;
}

function taken(text: string, width: number): string {
  if (ASCII.test(text)) return text.slice(0, width);
  let [cells, out] = [0, ''];
  for (const segment of graphemesOf(text)) {
    cells += cellsOf(segment);
    if (cells > width) break;
    out += segment;
  }
  return out;
}

function takenFromEnd(text: string, width: number): string {
  if (ASCII.test(text)) return text.slice(text.length - width);
  let [cells, out] = [0, ''];
  for (const segment of graphemesOf(text).toReversed()) {
    cells += cellsOf(segment);
    if (cells > width) break;
    out = segment + out;
  }
  return out;
}

let segmenter: Intl.Segmenter | undefined;

function graphemesOf(text: string): readonly string[] {
  // made where it is needed: it costs milliseconds, and most text is ASCII
  segmenter ??= new Intl.Segmenter('en', { granularity: 'grapheme' });
  return Array.from(segmenter.segment(text), ({ segment }) => segment);
}

function cellsOf(grapheme: string): number {
  return INVISIBLE.test(grapheme) ? 0 : WIDE.test(grapheme) ? 2 : 1;
}
