import { isTag } from '../../oci/reference.ts';
import { Failure } from '../../util/failure.ts';
import { tagMatcher } from '../../oci/tag-pattern.ts';

/** https://pkg.go.dev/regexp/syntax: names of classes, as the inside of a class. */
const POSIX: Readonly<Record<string, string>> = {
  alnum: '0-9A-Za-z',
  alpha: 'A-Za-z',
  ascii: String.raw`\x00-\x7f`,
  blank: String.raw`\t `,
  digit: '0-9',
  lower: 'a-z',
  punct: String.raw`!-\/:-@\[-\x60{-~`,
  space: String.raw`\t\n\v\f\r `,
  upper: 'A-Z',
  word: String.raw`0-9A-Za-z_`,
  xdigit: '0-9A-Fa-f',
};

/**
 * A regular expression of Go (RE2) over tags as a pattern of the rules file: `/…/`, or the tag itself where it stands for one. INVALID, with one
 * sentence, for an expression that no such pattern can be.
 */
export function goExpression(source: string): string {
  const literal = /^\^([A-Za-z0-9_-]+)\$$/.exec(source)?.[1];
  if (literal !== undefined) return literal;
  const { text, flags } = translate(source);
  const pattern = `/${text}/${flags}`;
  // refuses what cannot be matched in linear time, or at all
  tagMatcher(pattern);
  return pattern;
}

/** Those of the patterns `exclude` that may take anything from `include`: a tag that no pattern there matches is left out of it. */
export function neededExclusions(
  include: readonly string[] | undefined,
  exclude: readonly string[],
): readonly string[] {
  if (include === undefined || include.length === 0) return [...new Set(exclude)];
  const included = include.map((pattern) => tagMatcher(pattern));
  return [...new Set(exclude)].filter((pattern) => !isTag(pattern) || included.some((matches) => matches(pattern)));
}

function invalid(what: string): Failure {
  return new Failure('INVALID', `regular expressions of rules have no ${what}`);
}

function translate(source: string): { readonly text: string; readonly flags: string } {
  const leading = /^(\^?)\(\?([imsU]+)\)/.exec(source);
  const flags = leading?.[2] ?? '';
  if (flags.includes('U')) throw invalid('flag U');
  const rest = leading === null ? source : `${leading[1] ?? ''}${source.slice(leading[0].length)}`;
  let text = '';
  for (let at = 0; at < rest.length;) {
    const { piece, length } = pieceAt(rest, at);
    text += piece;
    at += length;
  }
  return { text, flags };
}

interface Piece {
  readonly piece: string;
  /** How many characters of the source it stands for. */
  readonly length: number;
}

function pieceAt(source: string, at: number): Piece {
  const rest = source.slice(at, at + 300);
  const [character = ''] = rest;
  if (character === '\\') return escapeAt(rest, false);
  if (character === '[') return classAt(source, at);
  if (!rest.startsWith('(?')) return { piece: character, length: 1 };
  const named = /^\(\?P?<\w+>/.exec(rest);
  if (named !== null) return { piece: '(?:', length: named[0].length };
  if (rest.startsWith('(?:')) return { piece: '(?:', length: 3 };
  throw invalid('flags within an expression, and no groups other than ( ) and (?: )');
}

/** What `\` begins. Letters that mean something else in JavaScript, or nothing, are refused. */
function escapeAt(rest: string, inClass: boolean): Piece {
  const hex = /^\\x[0-9A-Fa-f]{2}/.exec(rest);
  if (hex !== null) return { piece: hex[0], length: 4 };
  const next = rest.charAt(1);
  if (!inClass && next === 'A') return { piece: '^', length: 2 };
  if (!inClass && next === 'z') return { piece: '$', length: 2 };
  const isPlain = next !== '' && !/[A-Za-z0-9]/.test(next);
  if (isPlain || /[dDwWsSfnrtv]/.test(next) || (!inClass && /[bB]/.test(next)))
    return { piece: `\\${next}`, length: 2 };
  throw invalid(`\\${/[A-Za-z0-9]/.test(next) ? next : ''}`);
}

function classAt(source: string, start: number): Piece {
  let piece = '[';
  let at = start + 1;
  if (source.charAt(at) === '^') {
    piece += '^';
    at++;
  }
  for (let first = true; ; first = false) {
    const character = source.charAt(at);
    if (character === '') throw new Failure('INVALID', 'a class of it is not closed');
    if (character === ']' && !first) return { piece: `${piece}]`, length: at + 1 - start };
    const posix = /^\[:(\^?)(\w+):\]/.exec(source.slice(at, at + 20));
    if (posix !== null) {
      const inside = posix[1] === '' ? POSIX[posix[2] ?? ''] : undefined;
      if (inside === undefined) throw invalid(posix[0]);
      piece += inside;
      at += posix[0].length;
    } else if (character === '\\') {
      const escape = escapeAt(source.slice(at, at + 4), true);
      piece += escape.piece;
      at += escape.length;
    } else {
      // these two stand for themselves in Go
      piece += character === '[' || character === ']' ? `\\${character}` : character;
      at++;
    }
  }
}

/**
 * The pattern of repositories (`*`, `{a,b}`) that matches exactly what an anchored expression of Go does: letters, `\.`, `.*`, `(a|b)`, and `.+`
 * after a slash. Undefined for every other expression.
 */
export function repositoryPattern(expression: string): string | undefined {
  const inner = expression
    .replace(/^\^/, '')
    .replace(/(?<!\\)\$$/, '')
    .replace(/^\//, '');
  const PIECE = /([a-z0-9_/-]+)|\\([./_-])|(\.\*)|(?<=\/)(\.\+)|\((?:\?:)?([a-z0-9_/-]+(?:\|[a-z0-9_/-]+)+)\)/y;
  let pattern = '';
  let at = 0;
  while (at < inner.length) {
    PIECE.lastIndex = at;
    const match = PIECE.exec(inner);
    if (match === null) return undefined;
    // a quantifier after it would be about the last of its characters
    if (/^[*+?{]/.test(inner.slice(PIECE.lastIndex))) return undefined;
    const [, plain, escape, any, some, choice] = match;
    pattern += plain ?? escape ?? ((any ?? some) ? '*' : `{${choice?.replaceAll('|', ',')}}`);
    at = PIECE.lastIndex;
  }
  return pattern === '' ? undefined : pattern;
}

/** The most characters of a string that is rewritten, and the most repetitions in the expression: the time grows with their power. */
const MAX_REWRITTEN = 300;
const MAX_REPETITIONS = 2;

/** What Go's ReplaceAllString makes of `text`. INVALID for an expression that could take long, or cannot be read. */
export function replaceAll(text: string, expression: string, replacement: string): string {
  const repetitions = expression.replaceAll(/\\./g, '').match(/[*+?{]/g) ?? [];
  const isNested = /\)[*+?{]/.test(expression);
  if (text.length > MAX_REWRITTEN || repetitions.length > MAX_REPETITIONS || isNested || expression.includes('(?'))
    throw new Failure('INVALID', 'the expression is too involved: write the name itself into the file');
  const { text: source, flags } = translate(expression);
  // refuses what is not an expression
  tagMatcher(`/${source}/${flags}`);
  return text.replace(new RegExp(source, `${flags}g`), (...found: unknown[]) =>
    replacement.replace(/\$(?:\$|\{(\w+)\}|(\w+))/g, (whole, braced?: string, bare?: string) => {
      const name = braced ?? bare;
      if (name === undefined) return whole === '$$' ? '$' : whole;
      // after the groups follow the place and the text; Go writes nothing for a group that does not exist
      const group: unknown = /^[0-9]+$/.test(name) && Number(name) < found.length - 2 ? found[Number(name)] : undefined;
      return typeof group === 'string' ? group : '';
    }),
  );
}
