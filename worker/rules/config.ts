import { z } from 'zod';
import { append } from '../util/lists.ts';
import { Failure } from '../util/failure.ts';
import { compareStrings, quote } from '../util/text.ts';
import { isRecord } from '../util/record.ts';
import { checkConflicts } from './conflicts.ts';
import { expandAccess } from './access-hosts.ts';
import { accessFaults, StoredAccessSchema } from './access-schema.ts';
import { ConfigSchema, ruleFaults, RuleSchema } from './config-schema.ts';
import { faultsOf, invalid, sentenceOf, type Fault, type Path } from './faults.ts';
import type { Config, Rule } from './rule.ts';
import { documentOf, ruleOf } from './rule-document.ts';
import { offsetsIn, positionIn, readYaml } from './yaml.ts';

/**
 * Reads a rules file (YAML, docs/configuration.md). INVALID with every fault, one a line: where (`file:line:column`, the path and
 * the name of the rule), what was given, and what was expected. `file` is its name in messages, and `nowMs` as in `checkConflicts`.
 * `describe` writes a fault for a person who never saw the text; equal lines are given once.
 */
export function parseConfig(
  text: string,
  options: {
    readonly file?: string | undefined;
    readonly nowMs?: number | undefined;
    readonly describe?: ((fault: Fault) => string) | undefined;
  } = {},
): Config {
  const file = options.file ?? 'the configuration';
  const { document, lines } = readYaml(text, file);
  const value: unknown = document.toJS({ maxAliasCount: -1 });
  if (value === null || value === undefined)
    throw new Failure('INVALID', `read ${file}: it is empty: expected "version: 1" and "rules"`);
  const { config, faults } = readConfig(value, options);
  if (config !== undefined && faults.length === 0) return config;
  if (options.describe !== undefined) throw invalid(file, [...new Set(faults.map(options.describe))]);
  const offsetOf = offsetsIn(document);
  const placed = faults.map((fault) => ({ fault, offset: offsetOf(fault.path) }));
  placed.sort((a, b) => a.offset - b.offset);
  throw invalid(
    file,
    placed.map(({ fault, offset }) => `${positionIn(file, lines, offset)}: ${sentenceOf(fault, value)}`),
  );
}

/** Reads a rule that `formatRule` wrote. INVALID with every fault. */
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

/** A rule as JSON with the names of the rules file, defaults written out: equal for equal rules. */
export function formatRule(rule: Rule): string {
  return JSON.stringify(documentOf(rule));
}

/** The part of a rules file that is stored beside its rules. */
type ConfigAccess = Pick<Config, 'registries' | 'allow'>;

/** Reads what `formatAccess` wrote. INVALID with every fault. */
export function parseAccess(document: string): ConfigAccess {
  const value = readJson(document, 'stored access to registries');
  const read = StoredAccessSchema.safeParse(value);
  const faults = [
    ...(read.success ? [] : faultsOf(read.error.issues, value, [])),
    ...accessFaults(isRecord(value) ? value['registries'] : undefined),
  ];
  if (read.success && faults.length === 0) return accessOf(read.data);
  throw invalid(
    'stored access to registries',
    faults.map((fault) => sentenceOf(fault, value)),
  );
}

/** Access to registries, and what requests may write to, as JSON: equal strings for equal access. */
export function formatAccess({ registries, allow }: ConfigAccess): string {
  const hosts = Object.entries(registries).sort(([a], [b]) => compareStrings(a, b));
  return JSON.stringify({
    registries: Object.fromEntries(
      hosts.map(([host, { secret, assumeRole, externalId }]) => [host, { secret, assumeRole, externalId }]),
    ),
    allow: [...new Set(allow)].sort(compareStrings),
  });
}

function accessOf({
  registries = {},
  allow = [],
}: { [K in keyof ConfigAccess]?: ConfigAccess[K] | undefined }): ConfigAccess {
  return { registries: expandAccess(registries), allow };
}

/** The JSON Schema of the file, for editors. */
export function configJsonSchema(): Readonly<Record<string, unknown>> {
  const { $schema, ...schema } = z.toJSONSchema(ConfigSchema, { io: 'input', target: 'draft-7', reused: 'inline' });
  return { $schema, title: 'Transship configuration', ...schema };
}

function readConfig(
  value: unknown,
  options: { readonly nowMs?: number | undefined },
): { config: Config | undefined; faults: readonly Fault[] } {
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
  if (!whole.success) append(faults, faultsOf(whole.error.issues, value, []));
  if (isRecord(value)) append(faults, accessFaults(value['registries']));
  const given = isRecord(value) && Array.isArray(value['rules']) ? (value['rules'] as readonly unknown[]) : [];
  const rules = given.map((rule, index) => ({ index, rule: readRule(rule, ['rules', index], faults) }));
  const names = new Map<unknown, number>();
  for (const [index, rule] of given.entries()) {
    const name = isRecord(rule) ? rule['name'] : undefined;
    if (typeof name !== 'string') continue;
    const first = names.get(name);
    if (first === undefined) names.set(name, index);
    else
      faults.push({ path: ['rules', index, 'name'], message: `rules[${first}] has the name ${quote(name)} already` });
  }
  const good = rules.flatMap(({ index, rule }) => (rule === undefined ? [] : [{ rule, path: ['rules', index] }]));
  append(faults, checkConflicts(good, options));
  if (!whole.success) return { config: undefined, faults };
  return {
    config: { version: 1, ...accessOf(whole.data), rules: good.map(({ rule }) => rule) },
    faults,
  };
}

function readRule(value: unknown, path: Path, faults: Fault[]): Rule | undefined {
  const read = RuleSchema.safeParse(value);
  const whole = isRecord(value) ? ruleFaults(value) : [];
  for (const fault of whole) faults.push({ ...fault, path: [...path, ...fault.path] });
  if (read.success) return whole.length === 0 ? ruleOf(read.data) : undefined;
  append(faults, faultsOf(read.error.issues, value, path));
  return undefined;
}

function readJson(document: string, what: string): unknown {
  try {
    return JSON.parse(document) as unknown;
  } catch (cause) {
    throw new Failure('INVALID', `read ${what}: it is not JSON`, { cause });
  }
}
