import { isDeepStrictEqual } from 'node:util';
import { ecrHost } from '../oci/ecr-host.ts';
import { matchesPattern, parseLocation } from '../oci/location.ts';
import { isTag, parseRepository, type Reference } from '../oci/reference.ts';
import { isFailure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { destinationsOf, parseTemplate } from './destinations.ts';
import { drillFaults } from './drill-conflicts.ts';
import type { Fault, Path } from './faults.ts';
import { hostFaults } from './host-faults.ts';
import { pruneFaults } from './prune-conflicts.ts';
import { isCopyRule, isExpired, type CopyRule, type Rule, type TagSelection } from './rule.ts';
import { ANY_TAG, SAMPLE_DIGEST, sampleImage, sampleTags } from './samples.ts';
import { aloneSelector } from './select.ts';
import { registryName, sourcesOf, type SourcePattern } from './sources.ts';

/** A rule, and its path in the file. */
export interface RuleInFile {
  readonly rule: Rule;
  readonly path: Path;
}

/** A rule that copies, with what is compared. */
interface Copying {
  readonly rule: CopyRule;
  readonly path: Path;
  readonly sources: readonly SourcePattern[];
  readonly selects: (image: { readonly tag?: string | undefined }) => boolean;
  /** Tags that the rule selects: some of many. */
  readonly tags: readonly string[];
}

/** The most conflicts that are reported: enough to see what is wrong. */
const MAX_CONFLICTS = 50;

/**
 * What is wrong with rules by themselves and beside each other, as far as their text shows it:
 *
 * - a template with `{account}` or `{region}` for a source that is not in ECR, and a choice of tags that needs push times there
 * - `untagged` without a source in ECR
 * - one destination for several repositories, or for several tags, of one rule
 * - a mirror that writes an image into a repository and under a tag that its own sources and tags select
 * - one image that two templates give the same destination, of one rule or of two: the sources name the same repository, or the pattern of one
 *   matches what the other names, and there is a tag that both select
 * - archives below the prefix of a store
 * - a repository that one rule publishes to and another one writes, or publishes to
 * - what `hostFaults` finds
 * - scratch repositories of drills that a rule would copy
 * - what `pruneFaults` finds
 *
 * Every refusal names an example. Rules without an example pass: patterns that overlap in part, tags that only a regular expression
 * distinguishes, `latest` and `maxAgeDays` unless the other rule takes every tag, and different images that end up at one destination. When
 * rules run, the state decides: a destination belongs to the rule that wrote it (owner.ts).
 *
 * @param options `nowMs`: rules that have expired by then conflict with no other. Default: no rule has expired
 */
export function checkConflicts(
  rules: readonly RuleInFile[],
  options: { readonly nowMs?: number | undefined } = {},
): readonly Fault[] {
  const { nowMs = -Infinity } = options;
  const copying = rules.flatMap((placed): readonly Copying[] => {
    const { rule, path } = placed;
    return isCopyRule(rule) ? [copyingOf(rule, path)] : [];
  });
  const faults = [
    ...rules.flatMap((one) => [...hostFaults(one)]),
    ...copying.flatMap((one) => [...tagFaults(one), ...ownFaults(one)]),
  ];
  const conflicts: Fault[] = [];
  const living = rules.filter(({ rule }) => !isExpired(rule, nowMs));
  const livingCopying = copying.filter(({ rule }) => !isExpired(rule, nowMs));
  for (const fault of conflictsOf(living, livingCopying)) {
    conflicts.push(fault);
    if (conflicts.length === MAX_CONFLICTS) break;
  }
  return [...faults, ...conflicts];
}

function copyingOf(rule: CopyRule, path: Path): Copying {
  const selects = aloneSelector(rule.tags);
  return {
    rule,
    path,
    sources: sourcesOf(rule),
    selects,
    tags: sampleTags(rule.tags).filter((tag) => selects({ tag })),
  };
}

/** Choices that no registry but ECR can answer. */
function tagFaults({ rule, path, sources }: Copying): readonly Fault[] {
  const { latest, maxAgeDays, untagged } = rule.tags;
  const elsewhere = sources.find(({ registry }) => ecrHost(registry) === undefined);
  if (elsewhere === undefined) return [];
  const isElsewhere = sources.every(({ registry }) => ecrHost(registry) === undefined);
  const fault = (key: string, what: string): Fault => ({
    path: [...path, rule.kind, 'tags', key],
    message: `only Amazon ECR reports ${what}, and ${elsewhere.registry} is a source: expected a choice by name or version`,
  });
  const when = 'when an image was pushed';
  return [
    ...(latest?.by === 'push' ? [fault('latest', when)] : []),
    ...(maxAgeDays === undefined ? [] : [fault('maxAgeDays', when)]),
    ...(untagged && isElsewhere ? [fault('untagged', 'images without a tag')] : []),
    ...(rule.includeArchived === true && isElsewhere
      ? [
          {
            path: [...path, rule.kind, 'includeArchived'],
            message: `only Amazon ECR has an archive storage class, and no source is there`,
          },
        ]
      : []),
  ];
}

/** What is wrong with a rule by itself. */
function ownFaults(copying: Copying): readonly Fault[] {
  const { rule, path, sources } = copying;
  const elsewhere = sources.find(({ registry }) => ecrHost(registry) === undefined);
  const isManyRepositories = sources.length > 1 || sources.some(({ pattern }) => pattern.includes('*'));
  return rule.to.flatMap((to, index): readonly Fault[] => {
    // stores stand among the templates in the file
    const at = rule.stores === undefined ? [index] : [];
    const fault = (message: string): readonly Fault[] => [{ path: [...path, rule.kind, 'to', ...at], message }];
    const template = parseTemplate(rule.kind, to);
    const text = template.transport === 's3' ? template.key : `${template.repository}:${template.tag ?? '{tag}'}`;
    if (elsewhere !== undefined && /\{(?:account|region)\}/.test(text))
      return fault(`${quote(to)}: ${elsewhere.registry} is not ECR and has no {account} and {region}`);
    // what ends in "/" is followed by the default names
    const isPlain = !to.includes('{') && (template.transport === 's3' || template.tag === undefined);
    const orSlash = isPlain ? '"/" at its end, or ' : '';
    if (isManyRepositories && !text.includes('{repository}'))
      return fault(`${quote(to)} is one place for more than one repository: expected ${orSlash}{repository} in it`);
    if (!isOneTag(rule.tags) && !/\{(?:tag|digest)\}/.test(text))
      return fault(`${quote(to)} is one place for more than one tag: expected ${orSlash}{tag} in it`);
    const source = template.transport === 's3' ? undefined : ownSource(copying, to, template.registry);
    if (source !== undefined)
      return fault(`it may write ${quote(source)}, which is one of its own sources: expected another place`);
    return [];
  });
}

function isOneTag({ include, latest, untagged }: TagSelection): boolean {
  const [only] = include;
  return !untagged && (latest?.count === 1 || (include.length === 1 && only !== undefined && isTag(only)));
}

/** A destination of the template `to` that the rule would read again as a source. */
function ownSource({ rule, sources, selects, tags }: Copying, to: string, registry: string): string | undefined {
  const there = sources.filter((source) => registryName(source.registry) === registryName(registry));
  if (there.length === 0) return undefined;
  for (const source of sources) {
    for (const tag of [...tags, ANY_TAG]) {
      const [written] = locationsOf({ ...rule, to: [to] }, sampleImage(source, tag));
      const location = written === undefined ? undefined : parseLocation(written);
      if (written === undefined || location?.transport !== 'docker') break;
      const { repository, tag: writtenTag } = location.reference;
      // the repository is the same for every tag
      if (!there.some(({ pattern }) => matchesPattern(pattern, repository))) break;
      if (writtenTag === tag || (tag !== ANY_TAG && selects({ tag: writtenTag }))) return written;
    }
  }
  return undefined;
}

function* conflictsOf(rules: readonly RuleInFile[], copying: readonly Copying[]): Iterable<Fault> {
  for (const [index, later] of copying.entries()) {
    const twice = repeatedTemplate(later);
    if (twice !== undefined) yield conflict(later, twice, 'another source or destination of this rule');
    for (const earlier of copying.slice(0, index)) {
      const met = sharedDestination(earlier, later);
      if (met !== undefined) yield conflict(later, met, `rule ${quote(earlier.rule.name)}`);
    }
  }
  yield* publishConflicts(rules, copying);
  yield* storeConflicts(copying);
  yield* drillFaults(rules);
  yield* pruneFaults(rules);
}

/** A destination that two templates have in common. */
interface Meeting {
  readonly location: string;
  /** The index of the later template in its rule. */
  readonly index: number;
}

function conflict({ rule, path }: Pick<Copying, 'rule' | 'path'>, { location, index }: Meeting, other: string): Fault {
  return {
    path: [...path, rule.kind, 'to', index],
    message: `it may write ${quote(location)} as ${other} does: expected destinations that differ`,
  };
}

/** Two templates of one rule that give an image the same destination. */
function repeatedTemplate({ rule, sources, tags }: Copying): Meeting | undefined {
  if (rule.to.length === 1) return undefined;
  // one source of each registry is enough: templates treat all images of a registry alike
  const registries = new Map(sources.map((source) => [source.registry, source]));
  for (const source of registries.values()) {
    const names = locationsOf(rule, sampleImage(source, tags[0] ?? ANY_TAG)).map(nameOf);
    const index = names.findIndex((name, position) => names.indexOf(name) < position);
    if (index !== -1) return { location: names[index] ?? '', index };
  }
  return undefined;
}

/** A destination that both rules make of the same image. */
function sharedDestination(a: Copying, b: Copying): Meeting | undefined {
  for (const one of a.sources) {
    for (const other of b.sources) {
      const shared = sharedSource(one, other);
      if (shared === undefined) continue;
      if (mayBeApart(a.rule.tags, b.rule.tags)) return undefined;
      const tag = sharedTag(a, b);
      if (tag === undefined && !(a.rule.tags.untagged && b.rule.tags.untagged)) return undefined;
      const first = new Set(locationsOf(a.rule, sampleImage({ ...shared, registry: one.registry }, tag)).map(nameOf));
      const second = locationsOf(b.rule, sampleImage({ ...shared, registry: other.registry }, tag));
      const index = second.findIndex((location) => first.has(nameOf(location)));
      if (index !== -1) return { location: second[index] ?? '', index };
    }
  }
  return undefined;
}

function sharedTag(a: Copying, b: Copying): string | undefined {
  const shared = a.tags.find((tag) => b.selects({ tag })) ?? b.tags.find((tag) => a.selects({ tag }));
  return shared ?? (isDeepStrictEqual(a.rule.tags, b.rule.tags) ? ANY_TAG : undefined);
}

/** The narrower of two patterns of one registry, where one matches all that the other does. */
function sharedSource(a: SourcePattern, b: SourcePattern): SourcePattern | undefined {
  if (!a.prefix.startsWith(b.prefix) && !b.prefix.startsWith(a.prefix)) return undefined;
  if (registryName(a.registry) !== registryName(b.registry)) return undefined;
  if (a.pattern === b.pattern || matchesPattern(a.pattern, b.pattern)) return b;
  return matchesPattern(b.pattern, a.pattern) ? a : undefined;
}

/** Whether other images, or time, decide what one of the selections takes of the other's. */
function mayBeApart(a: TagSelection, b: TagSelection): boolean {
  const isUndecided = (dependsOnOthers(a) && !takesEveryTag(b)) || (dependsOnOthers(b) && !takesEveryTag(a));
  return isUndecided && !isDeepStrictEqual(a, b);
}

function dependsOnOthers({ latest, maxAgeDays }: TagSelection): boolean {
  return latest !== undefined || maxAgeDays !== undefined;
}

function takesEveryTag(tags: TagSelection): boolean {
  const { include, exclude } = tags;
  return include.length === 0 && exclude.length === 0 && tags.semver === undefined && !dependsOnOthers(tags);
}

/** Conflicts of rules that publish: no other rule may write their repository. */
function* publishConflicts(rules: readonly RuleInFile[], copying: readonly Copying[]): Iterable<Fault> {
  const published = new Map<string, string>();
  for (const { rule, path } of rules) {
    if (rule.kind !== 'publish') continue;
    const { registry, repository } = parseRepository(rule.to);
    const name = `docker://${registry}/${repository}`;
    const earlier = published.get(nameOf(name));
    if (earlier === undefined) published.set(nameOf(name), rule.name);
    const copies = copying.find((one) => writesInto(one, name));
    const other = earlier ?? copies?.rule.name;
    if (other !== undefined)
      yield {
        path: [...path, 'publish', 'to'],
        message: `it may write ${quote(name)} as rule ${quote(other)} does: expected destinations that differ`,
      };
  }
}

/** Archives below the prefix of a store: what is not its own there is taken for damage, or deleted with it. */
function* storeConflicts(copying: readonly Copying[]): Iterable<Fault> {
  const stores = copying.flatMap(({ rule }) => (rule.stores ?? []).map((store) => ({ store, name: rule.name })));
  for (const { rule, path } of copying) {
    for (const to of rule.kind === 'backup' ? rule.to : []) {
      const template = parseTemplate(rule.kind, to);
      if (template.transport !== 's3') continue;
      const place = `store:s3://${template.bucket}/${template.key.split('{', 1)[0]}`;
      const other = stores.find(({ store }) => place.startsWith(store));
      if (other !== undefined)
        yield {
          path: [...path, 'backup', 'to'],
          message: `${quote(to)} is below ${quote(other.store)} of rule ${quote(other.name)}: expected archives beside the store, not in it`,
        };
    }
  }
}

function writesInto({ rule, sources, tags }: Copying, repository: string): boolean {
  if (rule.kind !== 'mirror') return false;
  const start = `${nameOf(repository)}:`;
  return sources.some((source) =>
    locationsOf(rule, sampleImage(source, tags[0] ?? ANY_TAG)).some((location) => nameOf(location).startsWith(start)),
  );
}

/** Where the rule writes the image; empty for an image that a template makes no name of. */
function locationsOf(rule: CopyRule, image: Reference): readonly string[] {
  try {
    return destinationsOf(rule, image, SAMPLE_DIGEST, 0).map(({ location }) => location);
  } catch (error) {
    // the planner reports it, image by image
    if (isFailure(error, 'INVALID')) return [];
    throw error;
  }
}

/** A location with the canonical name of its registry. */
function nameOf(location: string): string {
  return location.replace(/^docker:\/\/([^/]+)/, (_, host: string) => `docker://${registryName(host)}`);
}
