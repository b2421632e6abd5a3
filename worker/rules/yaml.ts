import {
  isAlias,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  Lexer,
  LineCounter,
  parseDocument,
  type Document,
  type Pair,
  type YAMLMap,
} from 'yaml';
import { withoutSecrets } from '../oci/reference.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { invalid, type Path } from './faults.ts';

/** The most bytes of a file. https://yaml.org/spec/1.2.2 sets none; a thousand rules have some 300 KiB. */
export const MAX_YAML_BYTES = 1024 * 1024;
/** The most values of a file with its aliases written out: an alias is for a list of tags that several rules share, not for growing a file. */
const MAX_VALUES = 1_000_000;
const MAX_ALIASES = 10_000;
/** The rules file has five levels; a policy in it may have some more. */
const MAX_DEPTH = 100;

/**
 * Reads a YAML document, with the lines of its text. INVALID with every fault of the syntax and of keys, and for a file that is too large, too
 * deep, or whose aliases stand for too much.
 */
export function readYaml(text: string, file: string): { document: Document; lines: LineCounter } {
  const bytes = Buffer.byteLength(text);
  if (bytes > MAX_YAML_BYTES)
    throw new Failure('INVALID', `read ${file}: it has ${bytes} bytes; ${MAX_YAML_BYTES} is the most that is allowed`);
  checkNesting(text, file);
  const lines = new LineCounter();
  // keys are compared below: each with each, as yaml does it, takes minutes where there are many
  const document = parseDocument(text, {
    version: '1.2',
    lineCounter: lines,
    prettyErrors: false,
    logLevel: 'error',
    uniqueKeys: false,
  });
  // a warning is an unknown YAML tag
  const errors = [...document.errors, ...document.warnings].map(({ code, pos, message }) => {
    const { line } = lines.linePos(pos[0]);
    const why =
      code === 'MULTIPLE_DOCS'
        ? 'a second document begins; expected one'
        : message.charAt(0).toLowerCase() + message.slice(1);
    // the usual reason: [host/{repository}] has braces of YAML in it
    const hint = /[[,].*\{[^}]*\}/.test(text.split('\n')[line - 1] ?? '')
      ? '; between [ ] put text with braces in quotes'
      : '';
    return `${positionIn(file, lines, pos[0])}: not YAML: ${why}${hint}`;
  });
  const { explicit, version } = document.directives?.yaml ?? {};
  if (explicit === true && version !== '1.2')
    errors.unshift(
      `${positionIn(file, lines, 0)}: not YAML: version ${version} is declared; expected 1.2, or no %YAML at all`,
    );
  // nothing can be said of what was read only in part
  const { faults, values, aliases } =
    errors.length > 0 ? { faults: [], values: 0, aliases: 0 } : valuesOf(document.contents);
  for (const { offset, message } of faults) errors.push(`${positionIn(file, lines, offset)}: ${message}`);
  if (errors.length > 0) throw invalid(file, errors);
  if (values > MAX_VALUES || aliases > MAX_ALIASES)
    throw new Failure('INVALID', `read ${file}: its aliases stand for too much: write it out`);
  return { document, lines };
}

interface Values {
  readonly faults: readonly { readonly offset: number; readonly message: string }[];
  /** With what aliases stand for written out. */
  readonly values: number;
  readonly aliases: number;
}

/** The keys and aliases of a document that make it unreadable, and how many values it has. */
function valuesOf(contents: unknown): Values {
  const faults: { offset: number; message: string }[] = [];
  /** How many values each anchor stands for; undefined until its end is reached. */
  const sizes = new Map<string, number | undefined>();
  let aliases = 0;
  const alias = (source: string, offset: number): number => {
    aliases++;
    const size = sizes.get(source);
    if (size !== undefined) return size;
    const why = sizes.has(source)
      ? `*${source} stands within what it stands for`
      : `there is no &${source} before *${source}`;
    faults.push({ offset, message: `not YAML: ${why}` });
    return 0;
  };
  const sizeOf = (node: unknown): number => {
    if (!isNode(node)) return 0;
    if (isAlias(node)) return alias(node.source, node.range?.[0] ?? 0);
    if (node.anchor !== undefined) sizes.set(node.anchor, undefined);
    let size = 1;
    if (isSeq(node)) for (const item of node.items) size += isPair(item) ? sizeOf(item.value) : sizeOf(item);
    if (isMap(node)) {
      const keys = new Set<unknown>();
      for (const { key, value } of node.items) {
        const offset = isNode(key) ? (key.range?.[0] ?? 0) : 0;
        const name = isScalar(key) ? textOf(key.value) : undefined;
        if (name === undefined) faults.push({ offset, message: 'not YAML: a key has to be a string' });
        else if (name === '__proto__') faults.push({ offset, message: `not YAML: ${quote(name)} cannot be a key` });
        else if (keys.has(name)) faults.push({ offset, message: `${quote(withoutSecrets(name))} is there twice` });
        keys.add(name);
        size += sizeOf(value);
      }
    }
    if (node.anchor !== undefined) sizes.set(node.anchor, size);
    return size;
  };
  const values = sizeOf(contents);
  return { faults, values, aliases };
}

/** INVALID for a file that is nested too deep. Called before parsing, whose time grows with the depth. */
function checkNesting(text: string, file: string): void {
  let flow = 0;
  let line = 0;
  for (const token of new Lexer().lex(text)) {
    if (token === '[' || token === '{') flow++;
    else if (token === ']' || token === '}') flow--;
    else if (token === '-' || token === '?') line++;
    else if (token.includes('\n')) line = 0;
    if (flow > MAX_DEPTH || line > MAX_DEPTH)
      throw new Failure('INVALID', `read ${file}: it is nested more than ${MAX_DEPTH} deep`);
  }
}

/** A key as the name of a member; `1: x` means `"1": x`. */
function textOf(key: unknown): string | undefined {
  return typeof key === 'string' || typeof key === 'number' || typeof key === 'boolean' ? String(key) : undefined;
}

/** `file:line:column`. */
export function positionIn(file: string, lines: LineCounter, offset: number): string {
  const { line, col } = lines.linePos(offset);
  return `${file}:${line}:${col}`;
}

/**
 * Returns the offset at which the value at a path begins, or else that of the innermost value around it that exists. A mapping is looked
 * through once, however many of its members are asked for.
 */
export function offsetsIn(document: Document): (path: Path) => number {
  const known = new Map<unknown, ReadonlyMap<PropertyKey, Pair>>();
  return (path) => {
    let node: unknown = document.contents;
    let offset = 0;
    for (const step of path) {
      let within: unknown;
      let start: number | undefined;
      if (isMap(node)) {
        const members = known.get(node) ?? membersOf(node);
        known.set(node, members);
        const pair = members.get(step);
        // the key is a more useful position than its value
        start = isScalar(pair?.key) ? pair.key.range?.[0] : undefined;
        within = pair?.value;
      } else if (isSeq(node) && typeof step === 'number') {
        within = node.items[step];
        start = isNode(within) ? within.range?.[0] : undefined;
      }
      if (start === undefined) break;
      node = within;
      offset = start;
    }
    return offset;
  };
}

/** The members of a mapping by their keys; for a key that occurs twice, the first. */
function membersOf(mapping: YAMLMap): ReadonlyMap<PropertyKey, Pair> {
  const members = new Map<PropertyKey, Pair>();
  for (const pair of mapping.items) {
    const key = isScalar(pair.key) ? textOf(pair.key.value) : undefined;
    if (key !== undefined && !members.has(key)) members.set(key, pair);
  }
  return members;
}
