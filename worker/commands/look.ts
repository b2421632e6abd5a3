import { styleText } from 'node:util';
import type { Screen } from './screen.ts';
import { widthOf, wrapped } from './width.ts';

/** How text looks where it goes. */
export interface Look {
  /** Characters a line holds; undefined: as many as it takes, as in a pipe. */
  readonly columns: number | undefined;
  readonly colour: boolean;
}

/** As a pipe or a file gets it. */
export const PLAIN: Look = { columns: undefined, colour: false };

/** Tables fit the width of a terminal, unless the reader asked for all of them. A pipe gets whole lines. */
export function lookOf(screen: Screen, { wide = false }: { readonly wide?: boolean | undefined } = {}): Look {
  return {
    columns: screen.terminal && !wide ? screen.columns : undefined,
    colour: screen.colour ?? false,
  };
}

/** Lines of prose that go on below themselves, between words, where a terminal would break them anywhere. */
export function fitted(text: string, { columns }: Pick<Look, 'columns'>): string {
  if (columns === undefined) return text;
  const indent = '  ';
  const fit = (line: string): string => {
    // a line with colours is of a table, which fits already
    if (line.includes('\u001b') || widthOf(line) <= columns) return line;
    const [, margin = '', words = ''] = /^( *)(.*)$/.exec(line) ?? [];
    return `${margin}${wrapped(words, columns - margin.length - indent.length).join(`\n${margin}${indent}`)}`;
  };
  return text.split('\n').map(fit).join('\n');
}

type Style = 'green' | 'yellow' | 'red' | 'dim';

/** Words that name an outcome, by what they mean to the reader. */
const STYLES: Readonly<Record<Style, readonly string[]>> = {
  green: ['copied', 'stored', 'restored', 'written', 'published', 'extracted', 'whole', 'equal', 'done', 'ok', 'new'],
  yellow: [
    'warning',
    'planned',
    'would',
    'untag',
    'untagged',
    'partial',
    'moved',
    'late',
    'planning',
    'going',
    'incomplete',
  ],
  red: ['failed', 'fault', 'corrupt', 'missing', 'lost', 'dead', 'delete', 'deleted', 'differs', 'different', 'unread'],
  dim: ['unchanged', 'exists', 'skipped', 'keep', 'kept'],
};

const STYLE_OF = new Map(
  Object.entries(STYLES).flatMap(([style, words]) => words.map((word) => [word, style as Style] as const)),
);

const FIRST_WORDS =
  /^(?:(?:failed|fault|warning|incomplete|missing|different)(?=:)|(?:copied|unchanged|planned|failed|published|extracted|whole|would)(?= ))/gm;

/** `text` in the colour of the outcome that it begins with, where there is one. */
export function painted(text: string, look: Pick<Look, 'colour'>): string {
  if (!look.colour) return text;
  const style = STYLE_OF.get(/^\s*([a-z]+)/.exec(text)?.[1] ?? '');
  // the caller decided already whether there are colours
  return style === undefined ? text : styleText(style, text, { validateStream: false });
}

/** Lines of which each that begins with an outcome has that word in its colour. */
export function paintedLines(text: string, look: Pick<Look, 'colour'>): string {
  if (!look.colour) return text;
  return text.replace(FIRST_WORDS, (word) => painted(word, look));
}
