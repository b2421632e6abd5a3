// What a person reads in a file: the comments, strings and titles of code, and the prose of Markdown.
import { parseSync } from 'rolldown/utils';

export type Kind = 'comment' | 'string' | 'title' | 'markdown';

/** A piece of a file that a person reads. Code in it is masked, so that an offset in it is an offset in the file. */
export interface Text {
  readonly kind: Kind;
  readonly start: number;
  readonly text: string;
}

/** Stands for a character of code. It belongs to no word. */
const MASK = '\u0000';

/** The texts of a file, by its name; none for a file that has no words. */
export function textsOf(file: string, source: string): readonly Text[] {
  if (file.endsWith('.md')) return [{ kind: 'markdown', start: 0, text: withoutCode(withoutTargets(source)) }];
  if (/\.ya?ml$|(?:^|\/)(?:Dockerfile|run)$/.test(file)) return hashComments(source);
  return [...comments(file, source), ...strings(file, source)];
}

/**
 * The numbers of the lines of a Markdown file that are too long and could be broken. Rows of tables, links, pieces without a space
 * and quoted messages of the program (`> `), which tests compare line by line, cannot be broken.
 */
export function longLines(markdown: string, limit: number): readonly number[] {
  return markdown
    .split('\n')
    .map((line, index) => ({ line, number: index + 1 }))
    .filter(({ line }) => line.length > limit && !/^(?:\||> )/.test(line) && !isOnePiece(line, limit))
    .map(({ number }) => number);
}

function isOnePiece(line: string, limit: number): boolean {
  const isLink = /^[\s>*-]*(?:\[[^\]]+\]: \S+|!?\[[^\]]*\]\([^)]*\)\S*)$/.test(line);
  return isLink || line.split(' ').some((piece) => piece.length > limit);
}

interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [key: string]: unknown;
}

/** A comment of several `//` lines is one text. */
function comments(file: string, source: string): readonly Text[] {
  const found: { start: number; end: number; line: boolean }[] = [];
  for (const { type, start, end } of parse(file, source).comments) {
    const last = found.at(-1);
    if (type === 'Line' && last?.line === true && /^\s*$/.test(source.slice(last.end, start))) last.end = end;
    else found.push({ start, end, line: type === 'Line' });
  }
  return found.map(({ start, end }) => ({
    kind: 'comment',
    start,
    text: withoutCode(source.slice(start, end).replace(/^[ \t]*(?:\/\*+|\*+\/?|\/\/)/gm, blank)),
  }));
}

/** Strings with a space in them: the others are names. A template is one text, its expressions masked. */
function strings(file: string, source: string): readonly Text[] {
  const found: Text[] = [];
  const visit = (value: unknown, title: boolean): void => {
    if (Array.isArray(value)) {
      for (const one of value) visit(one, title);
      return;
    }
    if (!isNode(value)) return;
    const text = textOf(value, source);
    if (text !== undefined && /\s/.test(text.trim())) {
      found.push({ kind: title ? 'title' : 'string', start: value.start + 1, text: withoutCode(text) });
    }
    const isTest = value.type === 'CallExpression' && isTestFunction(value['callee'], source);
    for (const [key, child] of Object.entries(value)) {
      if (isTest && key === 'arguments' && Array.isArray(child)) {
        child.forEach((argument, index) => visit(argument, index === 0));
      } else visit(child, title && value.type !== 'ArrowFunctionExpression');
    }
  };
  visit(parse(file, source).program, false);
  return found;
}

function textOf(node: Node, source: string): string | undefined {
  const raw = source.slice(node.start + 1, node.end - 1);
  if (node.type === 'Literal') return typeof node['value'] === 'string' ? raw : undefined;
  if (node.type !== 'TemplateLiteral') return undefined;
  let text = raw;
  for (const { start, end } of node['expressions'] as readonly Node[]) {
    const [from, to] = [start - node.start - 1, end - node.start - 1];
    text = text.slice(0, from) + MASK.repeat(to - from) + text.slice(to);
  }
  return text;
}

function isTestFunction(callee: unknown, source: string): boolean {
  return isNode(callee) && /^(?:test|it|describe)\b/.test(source.slice(callee.start, callee.end));
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && 'type' in value && 'start' in value && 'end' in value;
}

function parse(file: string, source: string): ReturnType<typeof parseSync> {
  const parsed = parseSync(file, source);
  if (parsed.errors.length > 0) throw new Error(`${file} is not TypeScript: ${parsed.errors[0]?.message ?? ''}`);
  return parsed;
}

/** Also what follows code in a line. */
function hashComments(source: string): readonly Text[] {
  return [...source.matchAll(/(?<=^|\s)#.*(?:\n[ \t]*#.*)*/g)].map((match) => ({
    kind: 'comment',
    start: match.index,
    text: withoutCode(match[0].replace(/^[ \t]*#/gm, blank)),
  }));
}

function withoutCode(text: string): string {
  return text.replace(/(?<!`)`[^`\n]+`(?!`)/g, (code) => MASK.repeat(code.length));
}

/** Without the targets of links: they are names of files and headings. */
function withoutTargets(markdown: string): string {
  return markdown.replace(/(?<=\])\([^)\s]+\)/g, (target) => MASK.repeat(target.length));
}

function blank(text: string): string {
  return ' '.repeat(text.length);
}
