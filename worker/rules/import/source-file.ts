import { isAlias, isMap, isNode, isPair, isScalar, isSeq, type Document } from 'yaml';
import { Failure, isFailure } from '../../util/failure.ts';
import { append } from '../../util/lists.ts';
import { isRecord } from '../../util/record.ts';
import { MAX_YAML_BYTES, readYaml } from '../yaml.ts';

/** Mappings, lists, strings, booleans and null: numbers are the strings that they are written as, since `3.20` is a tag. */
export type FileValue = unknown;

/**
 * Reads a file of another tool: YAML, with aliases and merge keys, or JSON. INVALID for others, for an empty one and for one that is too large.
 * Its message has positions and keys, and no value of the file: it may be a password.
 */
export function readSourceFile(text: string, file: string): FileValue {
  const fail = (why: string): Failure => new Failure('INVALID', `read ${file}: ${why}`);
  const bytes = Buffer.byteLength(text);
  if (bytes > MAX_YAML_BYTES)
    throw fail(`it has ${bytes} bytes; ${MAX_YAML_BYTES} is the most that is allowed: split it`);
  const json = /^\s*[[{]/.test(text) ? parseJson(text) : undefined;
  if (json !== undefined) return withoutNumbers(json);
  let value: FileValue;
  try {
    const { document } = readYaml(text, file);
    value = valueOf(document.contents, document, new Map());
  } catch (error) {
    if (!isFailure(error, 'INVALID')) throw error;
    throw new Failure('INVALID', error.message.split('\n').map(withoutText).join('\n'));
  }
  if (value === undefined || value === null || value === '') throw fail('it is empty');
  return value;
}

/** A message about syntax without what it quotes of the file. */
function withoutText(line: string): string {
  return line
    .replace(/(: not YAML): .*$/s, '$1 from here on')
    .replace(/: "[^]*" is there twice$/, ': a key is there twice');
}

function parseJson(text: string): FileValue {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    // flow collections of YAML begin like this too
    return undefined;
  }
}

function withoutNumbers(value: FileValue): FileValue {
  if (typeof value === 'number') return String(value);
  if (Array.isArray(value)) return value.map(withoutNumbers);
  if (!isRecord(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, withoutNumbers(inner)]));
}

/** A node as a value. What an anchor stands for is made once. */
function valueOf(node: unknown, document: Document, anchors: Map<unknown, FileValue>): FileValue {
  if (isAlias(node)) {
    const target = node.resolve(document);
    if (!anchors.has(target)) anchors.set(target, valueOf(target, document, anchors));
    return anchors.get(target);
  }
  if (isScalar(node)) return typeof node.value === 'number' ? (node.source ?? String(node.value)) : node.value;
  if (isSeq(node)) return node.items.map((item) => valueOf(isPair(item) ? item.value : item, document, anchors));
  if (!isMap(node)) return undefined;
  const merged: [string, FileValue][] = [];
  const own: [string, FileValue][] = [];
  for (const { key, value } of node.items) {
    const name = isNode(key) ? String(valueOf(key, document, anchors)) : String(key);
    const inner = valueOf(value, document, anchors);
    if (name === '<<') {
      // of several the first wins
      const parts: readonly unknown[] = Array.isArray(inner) ? inner : [inner];
      for (const part of parts.toReversed()) if (isRecord(part)) append(merged, Object.entries(part));
    } else own.push([name, inner]);
  }
  return Object.fromEntries([...merged, ...own]);
}

/** Reads members of a file. Each throws INVALID, with the path and without the value, for what is not of the type. */
export class Shape {
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  fail(where: string, expected: string): Failure {
    return new Failure('INVALID', `read ${this.#file}: ${where === '' ? 'the file' : where}: expected ${expected}`);
  }

  record(where: string, value: FileValue): Readonly<Record<string, unknown>> {
    if (!isRecord(value)) throw this.fail(where, 'a mapping');
    return value;
  }

  /** Empty where there is nothing. */
  list(where: string, value: FileValue): readonly unknown[] {
    if (value === undefined || value === null) return [];
    if (!Array.isArray(value)) throw this.fail(where, 'a list');
    return value as readonly unknown[];
  }

  text(where: string, value: FileValue): string {
    if (typeof value === 'boolean') return String(value);
    if (typeof value !== 'string' || value.trim() === '') throw this.fail(where, 'a string');
    return value.trim();
  }

  /** Undefined where there is nothing, or an empty string. */
  optionalText(where: string, value: FileValue): string | undefined {
    return value === undefined || value === null || value === '' ? undefined : this.text(where, value);
  }

  texts(where: string, value: FileValue): readonly string[] {
    return this.list(where, value).map((one, index) => this.text(`${where}[${index}]`, one));
  }

  /** As Go's YAML reads it; undefined where there is nothing. */
  optionalBoolean(where: string, value: FileValue): boolean | undefined {
    if (value === undefined || value === null || value === '') return undefined;
    const word = this.text(where, value).toLowerCase();
    if (['true', 'yes', 'on', 'y'].includes(word)) return true;
    if (['false', 'no', 'off', 'n'].includes(word)) return false;
    throw this.fail(where, 'true or false');
  }
}
