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
} from 'yaml';
import { z } from 'zod';
import { withoutSecrets } from '../oci/reference.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { isRecord } from '../util/record.ts';
import { expectedBy, valueAt } from '../util/schema-faults.ts';
import { checkConflicts, type Fault } from './conflicts.ts';
import {
  AccessSchema,
  accessFaults,
  ConfigSchema,
  documentOf,
  ruleFaults,
  RuleSchema,
  ruleOf,
} from './config-schema.ts';
import type { Access, Config, Rule } from './rule.ts';

/** https://yaml.org/spec/1.2.2 sets none; a thousand rules have some 300 KiB. */
const MAX_BYTES = 1024 * 1024;
/** Aliases are for saying a list of tags once, not for growing a file: values that it has with all of them written out. */
const MAX_VALUES = 1_000_000;
const MAX_ALIASES = 10_000;
/** Ours has five levels; what a policy says may have some more. */
const MAX_DEPTH = 100;
/** Of one message. */
const MAX_FAULTS = 50;

type Path = readonly PropertyKey[];

/**
 * Reads a configuration file (YAML, docs/configuration.md). INVALID with every fault of it, one a line: where (`file:line:column`, the path and
 * the name of the rule), what was given, and what was expected. `file` is its name in messages.
 */
export function parseConfig(text: string, options: { readonly file?: string | undefined } = {}): Config {
  const file = options.file ?? 'the configuration';
  const { document, lines } = readYaml(text, file);
  const value: unknown = document.toJS({ maxAliasCount: -1 });
  if (value === null || value === undefined)
    throw new Failure('INVALID', `read ${file}: it is empty: expected "version: 1" and "rules"`);
  const { config, faults } = readConfig(value);
  if (config !== undefined && faults.length === 0) return config;
  const placed = faults.map((fault) => ({ fault, offset: offsetOf(document, fault.path) }));
  placed.sort((a, b) => a.offset - b.offset);
  throw invalid(
    file,
    placed.map(({ fault, offset }) => `${placeIn(file, lines, offset)}: ${sentenceOf(fault, value)}`),
  );
}

/** Reads a rule that `formatRule` wrote. INVALID with every fault of it. */
export function parseRule(document: string): Rule {
  const value = readJson(document, 'a stored rule');
  const faults: Fault[] = [];
  const rule = readRule(value, [], faults);
  if (rule !== undefined && faults.length === 0) return rule;
  const name = isRecord(value) ? value['name'] : undefined;
  throw invalid(
    `the stored rule ${quote(name)}`,
    faults.map((fault) => sentenceOf(fault, value)),
  );
}

/** A rule as JSON of the words of the configuration file, defaults written out: equal for equal rules. */
export function formatRule(rule: Rule): string {
  return JSON.stringify(documentOf(rule));
}

/** Reads what `formatAccess` wrote. INVALID with every fault of it. */
export function parseAccess(document: string): Access {
  const value = readJson(document, 'stored access to registries');
  const read = AccessSchema.safeParse(value);
  // under the name that it has in a file, so that nothing of it is repeated
  const faults = [...(read.success ? [] : faultsOf(read.error.issues, value, ['registries'])), ...accessFaults(value)];
  if (read.success && faults.length === 0) return read.data;
  throw invalid(
    'stored access to registries',
    faults.map((fault) => sentenceOf(fault, { registries: value })),
  );
}

/** Access to registries as JSON: equal where it is equal. */
export function formatAccess(access: Access): string {
  const hosts = Object.entries(access).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify(
    Object.fromEntries(
      hosts.map(([host, { secret, assumeRole, externalId }]) => [host, { secret, assumeRole, externalId }]),
    ),
  );
}

/** The JSON Schema of the file, for editors. */
export function configJsonSchema(): Readonly<Record<string, unknown>> {
  const { $schema, ...schema } = z.toJSONSchema(ConfigSchema, { io: 'input', target: 'draft-7', reused: 'inline' });
  return { $schema, title: 'Transship configuration', ...schema };
}

function readConfig(value: unknown): { config: Config | undefined; faults: readonly Fault[] } {
  const faults: Fault[] = [];
  if (
    isRecord(value) &&
    typeof value['version'] === 'number' &&
    value['version'] > 1 &&
    Number.isInteger(value['version'])
  )
    return {
      config: undefined,
      faults: [{ path: ['version'], message: `${value['version']} is of a newer Transship; this one reads version 1` }],
    };
  const whole = ConfigSchema.extend({ rules: z.array(z.unknown()) }).safeParse(value);
  if (!whole.success) faults.push(...faultsOf(whole.error.issues, value, []));
  if (isRecord(value)) faults.push(...accessFaults(value['registries']));
  const given = isRecord(value) && Array.isArray(value['rules']) ? (value['rules'] as readonly unknown[]) : [];
  const rules = given.map((rule, index) => ({ at: index, rule: readRule(rule, ['rules', index], faults) }));
  const names = new Map<unknown, number>();
  for (const [index, rule] of given.entries()) {
    const name = isRecord(rule) ? rule['name'] : undefined;
    if (typeof name !== 'string') continue;
    const first = names.get(name);
    if (first === undefined) names.set(name, index);
    else
      faults.push({ path: ['rules', index, 'name'], message: `rules[${first}] has the name ${quote(name)} already` });
  }
  const good = rules.flatMap(({ at: offset, rule }) => (rule === undefined ? [] : [{ rule, path: ['rules', offset] }]));
  faults.push(...checkConflicts(good));
  if (!whole.success) return { config: undefined, faults };
  return {
    config: { version: 1, registries: whole.data.registries ?? {}, rules: good.map(({ rule }) => rule) },
    faults,
  };
}

function readRule(value: unknown, path: Path, faults: Fault[]): Rule | undefined {
  const read = RuleSchema.safeParse(value);
  const whole = isRecord(value) ? ruleFaults(value) : [];
  faults.push(...whole.map((fault) => ({ ...fault, path: [...path, ...fault.path] })));
  if (read.success) return whole.length === 0 ? ruleOf(read.data) : undefined;
  faults.push(...faultsOf(read.error.issues, value, path));
  return undefined;
}

function readJson(document: string, what: string): unknown {
  try {
    return JSON.parse(document) as unknown;
  } catch (cause) {
    throw new Failure('INVALID', `read ${what}: it is not JSON`, { cause });
  }
}

function readYaml(text: string, file: string): { document: Document; lines: LineCounter } {
  const bytes = Buffer.byteLength(text);
  if (bytes > MAX_BYTES)
    throw new Failure('INVALID', `read ${file}: it has ${bytes} bytes; ${MAX_BYTES} is the most that is allowed`);
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
  // a warning is a tag that nobody knows
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
    return `${placeIn(file, lines, pos[0])}: not YAML: ${why}${hint}`;
  });
  const { explicit, version } = document.directives?.yaml ?? {};
  if (explicit === true && version !== '1.2')
    errors.unshift(
      `${placeIn(file, lines, 0)}: not YAML: version ${version} is declared; expected 1.2, or no %YAML at all`,
    );
  // nothing can be said of what was read only in part
  const { faults, values, aliases } =
    errors.length > 0 ? { faults: [], values: 0, aliases: 0 } : valuesOf(document.contents);
  for (const { offset, message } of faults) errors.push(`${placeIn(file, lines, offset)}: ${message}`);
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

/** What keys and aliases of a document make it unreadable, and how much it is. */
function valuesOf(contents: unknown): Values {
  const faults: { offset: number; message: string }[] = [];
  /** Of what has an anchor: how many values; undefined while it goes on. */
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

/** Before it is parsed, which takes the longer the deeper it is nested. */
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

/** A key as an object has it; `1: x` is as good as `"1": x`. */
function textOf(key: unknown): string | undefined {
  return typeof key === 'string' || typeof key === 'number' || typeof key === 'boolean' ? String(key) : undefined;
}

function placeIn(file: string, lines: LineCounter, offset: number): string {
  const { line, col } = lines.linePos(offset);
  return `${file}:${line}:${col}`;
}

/** Where what is at `path` begins, or else the nearest around it that is there. */
function offsetOf(document: Document, path: Path): number {
  for (let length = path.length; length > 0; length--) {
    const start = startOf(document, path.slice(0, length));
    if (start !== undefined) return start;
  }
  return 0;
}

function startOf(document: Document, path: Path): number | undefined {
  const parent: unknown = path.length === 1 ? document.contents : document.getIn(path.slice(0, -1), true);
  const last = path.at(-1);
  // the key says more than the value behind it
  if (isMap(parent)) {
    const pair = parent.items.find((item) => isPair(item) && isScalar(item.key) && textOf(item.key.value) === last);
    return isScalar(pair?.key) ? pair.key.range?.[0] : undefined;
  }
  const node: unknown = document.getIn(path, true);
  return isNode(node) ? node.range?.[0] : undefined;
}

/** What zod found, in words: every one a sentence of what was given and expected. */
function faultsOf(issues: readonly z.core.$ZodIssue[], value: unknown, prefix: Path): readonly Fault[] {
  return issues.flatMap((issue): readonly Fault[] => {
    const path = [...prefix, ...issue.path];
    const given = valueAt(value, issue.path);
    const told = (expected: string): readonly Fault[] => [{ path, message: expectation(given, expected, path) }];
    switch (issue.code) {
      case 'unrecognized_keys':
        return issue.keys.map((key, index) => ({
          path: [...path, key],
          message: issue.message.split('\n')[index] ?? issue.message,
        }));
      case 'invalid_union': {
        // the one form that was meant: all others are of another type, or one word that it is not
        const without = (errors: typeof issue.errors, wrong: string): typeof issue.errors =>
          errors.filter((form) => !form.some(({ code, path: at }) => at.length === 0 && code === wrong));
        const typed = without(issue.errors, 'invalid_type');
        const [only, ...others] = typed.length > 1 ? without(typed, 'invalid_value') : typed;
        if (only !== undefined && others.length === 0) return faultsOf(only, given, path);
        return told(issue.message);
      }
      case 'custom':
        return [{ path, message: issue.message }];
      case 'invalid_key':
        return issue.issues.map(({ message }) => ({ path, message }));
      case 'invalid_element':
      case 'invalid_format':
      case 'invalid_type':
      case 'invalid_value':
      case 'not_multiple_of':
      case 'too_big':
      case 'too_small':
        return told(expectedBy(issue));
      default:
        return issue satisfies never;
    }
  });
}

function expectation(given: unknown, expected: string, path: Path): string {
  if (given === undefined) return `it is missing: expected ${expected}`;
  if (given === null) return `nothing is given, expected ${expected}`;
  const wasText = expected.startsWith('a string') && (typeof given === 'number' || typeof given === 'boolean');
  // what is wrong here may be a password
  const shown = path[0] === 'registries' && typeof given === 'string' ? 'something' : shownOf(given);
  return `given ${shown}, expected ${expected}${wasText ? ': put it in quotes' : ''}`;
}

function shownOf(given: unknown): string {
  if (typeof given !== 'string' || given.startsWith('/')) return quote(given);
  return quote(/[@/]/.test(given) ? withoutSecrets(given) : given);
}

/** `rules[1].mirror.tags (rule "base"): what is wrong`. */
function sentenceOf({ path, message }: Fault, value: unknown): string {
  const [first, at] = path;
  const name = first === 'rules' && at !== undefined ? valueAt(value, ['rules', at, 'name']) : undefined;
  const rule = typeof name === 'string' ? ` (rule ${quote(name)})` : '';
  return `${formatPath(path)}${rule}: ${message}`;
}

function formatPath(path: Path): string {
  if (path.length === 0) return 'the whole';
  return path
    .map((step, index) => {
      if (typeof step === 'number') return `[${step}]`;
      const key = String(step);
      return /^[A-Za-z_][A-Za-z0-9_-]{0,63}$/.test(key)
        ? `${index === 0 ? '' : '.'}${key}`
        : `[${quote(withoutSecrets(key))}]`;
    })
    .join('');
}

function invalid(what: string, lines: readonly string[]): Failure {
  const more = lines.length > MAX_FAULTS ? [`and ${lines.length - MAX_FAULTS} more`] : [];
  const count = lines.length === 1 ? 'one fault' : `${lines.length} faults`;
  return new Failure('INVALID', [`read ${what}: ${count}`, ...lines.slice(0, MAX_FAULTS), ...more].join('\n'));
}
