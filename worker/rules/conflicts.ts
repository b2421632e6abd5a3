import { ecrHost } from '../oci/ecr-host.ts';
import { isTag, parseRepository } from '../oci/reference.ts';
import { quote } from '../util/text.ts';
import { parseTemplate, type DestinationTemplate } from './destinations.ts';
import { expandFixed } from '../oci/key-template.ts';
import { createLanguages, type Language, type Languages } from './language.ts';
import type { CopyRule, Rule, TagSelection } from './rule.ts';
import { registryName, sourcesOf } from './sources.ts';
import { digests, repositoriesLike, selectedTags, tags } from './tag-language.ts';

/** What is wrong at one place of a configuration. */
export interface Fault {
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

/** A rule, and where it stands in the file. */
export interface PlacedRule {
  readonly rule: Rule;
  readonly path: readonly PropertyKey[];
}

/** Sources of a rule in one registry: what a template makes of them differs by the repository alone. */
interface Origin {
  readonly registry: string;
  readonly patterns: readonly string[];
}

/** What one template of a rule may write, out of its sources in one registry. */
interface Writes {
  readonly rule: Rule;
  readonly path: readonly PropertyKey[];
  /** Of the sources; absent: none. */
  readonly registry?: string;
  /** Locations in two parts, since what is before and what is behind says nothing of each other: `…/repository` and `:tag`. */
  readonly places: Places;
  /** What every head begins and ends with: most pairs are told apart by it. */
  readonly start: string;
  readonly end: string;
}

interface Places {
  readonly head: Language;
  readonly tail: Language;
  /** Whether each location is a head and a tail in one way alone. */
  readonly split: boolean;
}

/** Enough to see what is wrong. */
const MAX_CONFLICTS = 50;

/**
 * What is wrong with rules beside each other, and with one that stands in its own way: two that may write one destination, an image that
 * would be written over another of the same rule, a destination that is itself a source of its rule.
 *
 * Two rules are refused with a destination that both can write, by the forms of names, patterns and versions. They are held for able to where
 * a regular expression that looks around or back, `latest` or `maxAgeDays` is all that keeps them apart, or a variable that is in a template
 * twice.
 */
export function checkConflicts(rules: readonly PlacedRule[]): readonly Fault[] {
  const l = createLanguages();
  const writes = rules.flatMap((placed) => writesOf(l, placed));
  const faults = rules.flatMap((placed) => ownFaults(l, placed));
  const conflicts = new Map<string, Fault>();
  const common = commonPlaces(l);
  for (const [index, a] of writes.entries()) {
    for (const b of writes.slice(index + 1)) {
      if (!mayMeet(a, b)) continue;
      const key = JSON.stringify([a.path, b.path]);
      if (conflicts.has(key)) continue;
      const place = common(a.places, b.places);
      if (place === undefined) continue;
      const other =
        a.rule === b.rule ? 'as another source or destination of this rule does' : `as rule ${quote(a.rule.name)} does`;
      conflicts.set(key, {
        path: b.path,
        message: `it may write ${quote(place)} ${other}: expected destinations that differ`,
      });
      if (conflicts.size === MAX_CONFLICTS) return [...faults, ...conflicts.values()];
    }
  }
  return [...faults, ...conflicts.values()];
}

function mayMeet(a: Writes, b: Writes): boolean {
  // two patterns for one repository give the same image the same place
  if (a.path === b.path && a.registry === b.registry) return false;
  return (
    (a.start.startsWith(b.start) || b.start.startsWith(a.start)) && (a.end.endsWith(b.end) || b.end.endsWith(a.end))
  );
}

/** What finds a location that two have in common. Rules often share their parts: each pair of them is looked at once. */
function commonPlaces(l: Languages): (a: Places, b: Places) => string | undefined {
  const known = new Map<string, string | undefined>();
  const common = (a: Language, b: Language): string | undefined => {
    const key = `${Math.min(a.id, b.id)} ${Math.max(a.id, b.id)}`;
    if (!known.has(key)) known.set(key, l.shortest(l.both(a, b)));
    return known.get(key);
  };
  return (a, b) => {
    if (!a.split || !b.split) return common(l.concat(a.head, a.tail), l.concat(b.head, b.tail));
    const tail = common(a.tail, b.tail);
    const head = tail === undefined ? undefined : common(a.head, b.head);
    return head === undefined ? undefined : `${head}${tail}`;
  };
}

function writesOf(l: Languages, { rule, path }: PlacedRule): readonly Writes[] {
  if (rule.kind === 'prune') return [];
  if (rule.kind === 'publish') {
    const { registry, repository } = parseRepository(rule.to);
    const name = `docker://${registry}/${repository}`;
    const places = { head: l.text(name), tail: l.concat(l.text(':'), tags(l)), split: true };
    return [{ rule, path: [...path, 'publish', 'to'], places, start: name, end: name }];
  }
  const tag = selectedTags(l, rule.tags);
  return rule.to.flatMap((to, index) => {
    const template = parseTemplate(rule.kind, to);
    const here = [...path, rule.kind, 'to', index];
    return originsOf(rule).map((origin): Writes => {
      const { start, end } = endsOf(template, origin);
      const places = placesOf(l, template, origin, tag, rule.tags.untagged);
      return { rule, path: here, registry: origin.registry, places, start, end };
    });
  });
}

function originsOf(rule: CopyRule): readonly Origin[] {
  const origins = new Map<string, string[]>();
  for (const { registry, pattern } of sourcesOf(rule)) {
    const patterns = origins.get(registry) ?? [];
    patterns.push(pattern);
    origins.set(registry, patterns);
  }
  return Array.from(origins, ([registry, patterns]) => ({ registry, patterns }));
}

function placesOf(
  l: Languages,
  template: DestinationTemplate,
  { registry, patterns }: Origin,
  tag: Language,
  untagged: boolean,
): Places {
  const repository = l.either(...patterns.map((pattern) => repositoriesLike(l, pattern)));
  // an image without a tag is named by its digest
  const named = untagged ? l.either(tag, l.concat(l.text('sha256-'), digests(l))) : tag;
  const fill = (text: string): Language =>
    l.concat(
      ...piecesOf(text, registry).map((piece) => {
        switch (piece) {
          case '{repository}':
            return repository;
          case '{tag}':
            return named;
          case '{digest}':
            return digests(l);
          case '{date}':
            return l.many(l.chars('0123456789-'));
          default:
            return l.text(piece);
        }
      }),
    );
  const { head, tail } = partsOf(template);
  const split = template.transport === 'docker' || !tail.includes('{repository}');
  if (template.transport === 's3' || template.tag !== undefined) return { head: fill(head), tail: fill(tail), split };
  const digest = untagged ? l.concat(l.text('@sha256:'), digests(l)) : l.none;
  return { head: fill(head), tail: l.either(l.concat(l.text(':'), tag), digest), split };
}

function partsOf(template: DestinationTemplate): { readonly head: string; readonly tail: string } {
  if (template.transport === 'docker')
    return {
      head: `docker://${registryName(template.registry)}/${template.repository}`,
      tail: `:${template.tag ?? '{tag}'}`,
    };
  const whole = `s3://${template.bucket}/${template.key}`;
  const slash = whole.lastIndexOf('/');
  return { head: whole.slice(0, slash), tail: whole.slice(slash) };
}

/** Texts and variables in turns. */
function piecesOf(text: string, registry: string): readonly string[] {
  return expandFixed(text, registry).split(/(\{[^{}]*\})/);
}

function endsOf(
  template: DestinationTemplate,
  { registry, patterns }: Origin,
): { readonly start: string; readonly end: string } {
  const [only = '*', ...others] = patterns;
  // of several nothing is known
  const pattern = others.length === 0 ? only : '*';
  const pieces = piecesOf(partsOf(template).head, registry);
  const whole = pieces.map((piece) => (piece === '{repository}' && !pattern.includes('*') ? pattern : piece));
  const variable = /^\{[^{}]*\}$/;
  const first = whole.findIndex((piece) => variable.test(piece));
  if (first === -1) return { start: whole.join(''), end: whole.join('') };
  const last = whole.findLastIndex((piece) => variable.test(piece));
  const prefix = pattern.slice(0, pattern.indexOf('*'));
  const suffix = pattern.slice(pattern.lastIndexOf('*') + 1);
  return {
    start: whole.slice(0, first).join('') + (whole[first] === '{repository}' ? prefix : ''),
    end: (whole[last] === '{repository}' ? suffix : '') + whole.slice(last + 1).join(''),
  };
}

/** What a rule does to itself. */
function ownFaults(l: Languages, { rule, path }: PlacedRule): readonly Fault[] {
  if (rule.kind !== 'mirror' && rule.kind !== 'backup') return [];
  const origins = originsOf(rule);
  const tag = selectedTags(l, rule.tags);
  const common = commonPlaces(l);
  return rule.to.flatMap((to, index): readonly Fault[] => {
    const fault = (message: string): readonly Fault[] => [{ path: [...path, rule.kind, 'to', index], message }];
    const template = parseTemplate(rule.kind, to);
    const { head, tail } = partsOf(template);
    const text = head + tail;
    const elsewhere = origins.find(({ registry }) => ecrHost(registry) === undefined);
    if (elsewhere !== undefined && /\{(?:account|region)\}/.test(text))
      return fault(`${quote(to)}: ${elsewhere.registry} is not ECR and has no {account} and {region}`);
    const patterns = origins.flatMap((origin) => origin.patterns);
    const many = patterns.length > 1 || patterns.some((pattern) => pattern.includes('*'));
    if (many && !text.includes('{repository}'))
      return fault(`${quote(to)} is one place for more than one repository: expected {repository} in it`);
    if (!isOneTag(rule.tags) && !/\{(?:tag|digest)\}/.test(text))
      return fault(`${quote(to)} is one place for more than one tag: expected {tag} in it`);
    if (template.transport === 's3') return [];
    for (const own of origins) {
      if (registryName(own.registry) !== registryName(template.registry)) continue;
      const here: DestinationTemplate = { transport: 'docker', registry: own.registry, repository: '{repository}' };
      const from = placesOf(l, here, own, tag, rule.tags.untagged);
      for (const origin of origins) {
        const place = common(from, placesOf(l, template, origin, tag, rule.tags.untagged));
        if (place !== undefined)
          return fault(`it may write ${quote(place)}, which is one of its own sources: expected another place`);
      }
    }
    return [];
  });
}

function isOneTag({ include, latest, untagged }: TagSelection): boolean {
  const [only] = include;
  return !untagged && (latest?.count === 1 || (include.length === 1 && only !== undefined && isTag(only)));
}
