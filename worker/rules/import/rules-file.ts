import { Document, isSeq } from 'yaml';
import { parseReference } from '../../oci/reference.ts';
import { Failure } from '../../util/failure.ts';
import { escaped, redacted } from '../../util/text.ts';
import { isNote, shown, type Mapping, type Note, type RuleSchedule, type Tags } from './mapping.ts';

/** A rule as the file has it, with the notes beside it. */
export interface RuleDraft {
  readonly document: Readonly<Record<string, unknown>>;
  readonly notes: readonly Note[];
  /** The entries that it was made of. */
  readonly where: string;
}

/** Rules and notes in the order of the file: mappings that differ by their source alone are one rule. */
export function draftRules(
  entries: readonly (Mapping | Note)[],
  schedule: RuleSchedule,
): readonly (RuleDraft | Note)[] {
  const groups = new Map<string, Mapping[]>();
  const drafted: ({ readonly mappings: Mapping[] } | Note)[] = [];
  for (const entry of entries) {
    if (isNote(entry)) {
      drafted.push(entry);
      continue;
    }
    const templated = withTemplates(entry);
    const key = templated === undefined ? undefined : keyOf(templated);
    const group = key === undefined ? undefined : groups.get(key);
    if (group !== undefined && templated !== undefined) {
      group.push(templated);
      continue;
    }
    const mappings = [templated ?? entry];
    if (key !== undefined) groups.set(key, mappings);
    drafted.push({ mappings });
  }
  const names = new Set<string>();
  return drafted.map((one) => ('mappings' in one ? draftOf(one.mappings, schedule, names) : one));
}

/** The mapping with `{repository}` in its destinations, where they end in the name of its source. */
function withTemplates(mapping: Mapping): Mapping | undefined {
  const [source, ...others] = mapping.from;
  if (source === undefined || others.length > 0 || /[*{]/.test(source)) return undefined;
  const { repository } = parseReference(source);
  const to = mapping.to.map((one) => {
    const colon = one.indexOf(':', one.lastIndexOf('/') + 1);
    const [name, tag] = colon === -1 ? [one, ''] : [one.slice(0, colon), one.slice(colon)];
    return name.endsWith(`/${repository}`) ? `${name.slice(0, -repository.length)}{repository}${tag}` : undefined;
  });
  return to.includes(undefined) ? undefined : { ...mapping, to: to.filter((one) => one !== undefined) };
}

/** Equal for mappings that one rule can have. */
function keyOf({ to, tags, platforms, referrers, schedule, onPush, expires, group }: Mapping): string {
  return JSON.stringify([group, to, tags, platforms, referrers, schedule, onPush, expires]);
}

function draftOf(mappings: readonly Mapping[], schedule: RuleSchedule, names: Set<string>): RuleDraft {
  const [first] = mappings;
  if (first === undefined) throw new Failure('BUG', 'a rule is made of one mapping at least');
  // alone it is shown as the file has it
  const to = mappings.length > 1 ? first.to : first.to.map((one) => resolved(one, first.from));
  const name = freeName(mappings.length > 1 ? first.group : first.name, names);
  const from = [...new Set(mappings.flatMap((mapping) => mapping.from))];
  const { cron, timeZone } = first.schedule ?? schedule;
  const mirror = {
    from: from.length === 1 ? from[0] : from,
    to: to.length === 1 ? to[0] : to,
    ...tagsOf(first.tags),
    ...(first.platforms.length === 0 ? {} : { platforms: first.platforms }),
    ...(first.referrers ? {} : { referrers: false }),
  };
  const document = {
    name,
    mirror,
    schedule: timeZone === undefined ? cron : { cron, timeZone },
    ...(first.onPush === true ? { on: 'push' } : {}),
    ...(first.expires === undefined ? {} : { expires: first.expires }),
  };
  const notes = mappings.flatMap((mapping) => mapping.notes);
  return { document, notes, where: mappings.map(({ where }) => where).join(', ') };
}

function resolved(to: string, from: readonly string[]): string {
  const [source = ''] = from;
  return /[*{]/.test(source) || from.length > 1 ? to : to.replaceAll('{repository}', parseReference(source).repository);
}

function tagsOf({ include = [], exclude = [], semver, latest }: Tags): { tags?: unknown } {
  if (exclude.length === 0 && semver === undefined && latest === undefined)
    return include.length === 0 ? {} : { tags: include };
  return {
    tags: {
      ...(include.length === 0 ? {} : { include }),
      ...(exclude.length === 0 ? {} : { exclude }),
      ...(semver === undefined ? {} : { semver }),
      ...(latest === undefined ? {} : { latest }),
    },
  };
}

/** As docs/configuration.md has it. */
const MAX_NAME = 64;

/** A name that rules may have, and that no other one has. */
function freeName(wanted: string, names: Set<string>): string {
  const plain = wanted
    .replace(/[^A-Za-z0-9_.-]+/g, '-')
    .replace(/^[^A-Za-z0-9]+|-+$/g, '')
    .slice(0, MAX_NAME - 6);
  const base = plain === '' ? 'rule' : plain;
  let name = base;
  for (let number = 2; names.has(name); number++) name = `${base}-${number}`;
  names.add(name);
  return name;
}

export interface RulesFileParts {
  readonly drafts: readonly (RuleDraft | Note)[];
  /** Lines at the top. */
  readonly header: readonly string[];
  /** Registries that need credentials. */
  readonly credentials: readonly string[];
}

/** The rules file, as YAML, with notes as comments in front of the rules that they are about. */
export function writeRulesFile({ drafts, header, credentials }: RulesFileParts): string {
  const rules = drafts.flatMap((draft) => ('document' in draft ? [draft] : []));
  const document = new Document({ version: 1, rules: rules.map((rule) => rule.document) });
  document.commentBefore = comment([...header, ...credentialLines(credentials)]);
  const list = document.get('rules');
  if (!isSeq(list)) throw new Failure('BUG', 'the rules are a list');
  let waiting: Note[] = [];
  let index = 0;
  for (const draft of drafts) {
    if (!('document' in draft)) {
      waiting.push(draft);
      continue;
    }
    const notes = [...waiting, ...draft.notes];
    waiting = [];
    const item = list.items[index++];
    if (notes.length > 0 && isCommented(item)) item.commentBefore = comment(notes.map(noteLine));
  }
  if (waiting.length > 0) {
    if (rules.length === 0) list.flow = true;
    document.comment = comment(waiting.map(noteLine));
  }
  return document.toString({ lineWidth: 0 });
}

function isCommented(item: unknown): item is { commentBefore?: string | null } {
  return typeof item === 'object' && item !== null;
}

function noteLine({ where, text, lost }: Note): string {
  return `${lost ? 'not carried over: ' : ''}${where}: ${text}`;
}

/** Lines of a comment. Nothing in them can end it. */
function comment(lines: readonly string[]): string {
  return lines.map((line) => ` ${escaped(redacted(line))}`).join('\n');
}

function credentialLines(hosts: readonly string[]): readonly string[] {
  if (hosts.length === 0) return [];
  return [
    '',
    'Registries that need credentials, which are not copied: `docker login HOST` on the machine that runs the rules, or',
    'a secret of AWS Secrets Manager, {"username": …, "password": …}:',
    'registries:',
    ...hosts.flatMap((host) => [`  ${hostOf(host)}:`, '    secret: arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME']),
  ];
}

/** The host of what a tool calls a registry, which may have a namespace. */
function hostOf(text: string): string {
  const name = text.replace(/^https?:\/\//, '').replace(/\/.*$/, '');
  return /^[A-Za-z0-9.:[\]-]{1,255}$/.test(name) ? name : shown(name);
}

/** The message for stderr about a registry whose credentials are not copied. */
export function credentialNote(host: string): Note {
  const text = 'its credentials are not copied: `docker login`, or a secret in "registries" (docs/configuration.md)';
  return { where: hostOf(host), text, lost: true };
}
