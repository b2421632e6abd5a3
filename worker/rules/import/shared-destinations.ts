import { isDeepStrictEqual } from 'node:util';
import { isTag, parseReference } from '../../oci/reference.ts';
import { Failure } from '../../util/failure.ts';
import { append } from '../../util/lists.ts';
import { tagMatcher } from '../../oci/tag-pattern.ts';
import { aloneSelector } from '../select.ts';
import { registryName } from '../sources.ts';
import { neededExclusions } from './expressions.ts';
import { isNote, lost, shownKey, type Findings, type Mapping, type Note, type Tags } from './mapping.ts';

/** A mapping that writes one repository, and can still change. */
interface Writer {
  mapping: Mapping;
  /** Its place among the entries. */
  readonly index: number;
  /** `host/repository` of the source. */
  readonly source: string;
  /** The tag of the destination, as the template has it; undefined: that of the source. */
  readonly tag: string | undefined;
}

/** What writes one repository. */
interface Writers {
  /** By the tags that they write, those that name them, and the tags of the source. */
  readonly tags: Map<string, { readonly writer: Writer; readonly tag: string }>;
  /** Those that take every tag of some kind. */
  readonly open: Writer[];
}

/**
 * The entries with no two mappings that make the same destination, as far as the file shows it: a rules file has one rule for each. The tags that two
 * entries copy from one repository are divided between them, so the same images are copied. Where they write a tag from two images, the later one
 * does not get it, and a note reports that.
 */
export function withoutSharedDestinations(findings: Findings): readonly (Mapping | Note)[] {
  const apart = new Apart();
  for (const entry of findings.entries) {
    if (isNote(entry)) apart.done.push(entry);
    else apart.add(entry);
  }
  return apart.done;
}

/** Takes mappings one by one, and changes them so that none writes what another one does. */
class Apart {
  readonly done: (Mapping | Note)[] = [];
  readonly #repositories = new Map<string, Writers>();

  add(mapping: Mapping): void {
    const parts = mapping.to.map((to) => writtenBy(mapping, to));
    const meets = (part: Written | undefined): boolean => part !== undefined && this.#repositories.has(part.repository);
    if (mapping.to.length > 1 && parts.some(meets)) {
      // each destination by itself, so that only what meets another is changed
      for (const [index, to] of mapping.to.entries())
        this.#settle({ ...mapping, to: [to], notes: index === 0 ? mapping.notes : [] });
    } else this.#settle(mapping);
  }

  #settle(mapping: Mapping): void {
    const index = this.done.push(mapping) - 1;
    const [first] = mapping.to;
    const part = first === undefined ? undefined : writtenBy(mapping, first);
    if (part === undefined) return;
    const writer: Writer = { mapping, index, source: part.source, tag: part.tag };
    if (mapping.to.length === 1 && !this.#divide(writer, part)) return;
    for (const to of mapping.to) {
      const each = writtenBy(writer.mapping, to);
      if (each === undefined) continue;
      const { tags, open } = this.#at(each.repository);
      // one of several destinations is not changed any more
      const view = mapping.to.length === 1 ? writer : { ...writer, tag: each.tag };
      const named = namedTags(writer.mapping.tags);
      if (named === undefined) open.push(view);
      else for (const tag of named) tags.set(destinationTag(each.tag, tag), { writer: view, tag });
    }
  }

  #at(name: string): Writers {
    const found = this.#repositories.get(name) ?? { tags: new Map(), open: [] };
    this.#repositories.set(name, found);
    return found;
  }

  /** Takes from the mapping what others write. Returns whether anything is left of it. */
  #divide(writer: Writer, { repository }: Written): boolean {
    const there = this.#repositories.get(repository);
    if (there === undefined) return true;
    const named = namedTags(writer.mapping.tags);
    if (named !== undefined && !this.#divideNamed(writer, named, repository, there)) return false;
    const others =
      named === undefined
        ? new Set([...[...there.tags.values()].map(({ writer: one }) => one), ...there.open])
        : there.open;
    const seen = new Set<Mapping>();
    for (const other of others) {
      if (seen.has(other.mapping) || other.mapping.where === writer.mapping.where) continue;
      seen.add(other.mapping);
      if (!this.#dividePair(other, writer, repository)) return false;
    }
    return true;
  }

  #divideNamed(writer: Writer, named: readonly string[], repository: string, there: Writers): boolean {
    const left: string[] = [];
    const texts = new Set<string>();
    let isLost = false;
    for (const tag of named) {
      const wanted = destinationTag(writer.tag, tag);
      const found = there.tags.get(wanted);
      const other = found?.writer;
      if (found === undefined || other === undefined || other.mapping.where === writer.mapping.where) {
        left.push(tag);
        continue;
      }
      const isSame = other.source === writer.source && found.tag === tag;
      if (isSame && isAlike(other.mapping, writer.mapping))
        texts.add(`${tag}: ${other.mapping.where} copies it already`);
      else {
        isLost = true;
        const why = isSame ? 'writes it with other settings' : 'writes it from another image';
        texts.add(
          `${shownKey(`${repository}:${wanted}`)}: ${other.mapping.where} ${why}, and a destination has one rule`,
        );
      }
    }
    if (texts.size === 0) return true;
    this.#change(writer, { tags: { include: left } });
    for (const text of texts) this.#note(writer, { where: writer.mapping.where, text, lost: isLost });
    if (left.length === 0) this.#drop(writer);
    return left.length > 0;
  }

  #dividePair(other: Writer, writer: Writer, repository: string): boolean {
    const { where } = writer.mapping;
    if (other.source !== writer.source || other.tag !== writer.tag) {
      if (mayMeet(other, writer))
        this.#note(
          writer,
          lost(
            where,
            `it may write tags of ${repository} that ${other.mapping.where} writes: the one that is first keeps them`,
          ),
        );
      return true;
    }
    const drop = (note: Note): false => {
      this.#note(writer, note);
      this.#drop(writer);
      return false;
    };
    if (!isAlike(other.mapping, writer.mapping))
      return drop(lost(where, `${other.mapping.where} copies the same repository there, with other settings`));
    const [a, b] = [other.mapping.tags, writer.mapping.tags];
    if (isAll(a) || isDeepStrictEqual(a, b))
      return drop({ where, text: `${other.mapping.where} copies these images already`, lost: false });
    const divided = divide(a, b, other.mapping.to.length === 1);
    if (divided === undefined)
      return drop(lost(where, `it overlaps with ${other.mapping.where} in a way that two rules cannot divide`));
    this.#change(other, { tags: divided.first });
    if (divided.second === undefined)
      return drop({ where, text: `the rule of ${other.mapping.where} copies these images too`, lost: false });
    this.#change(writer, { tags: divided.second });
    return true;
  }

  #change(writer: Writer, parts: Partial<Mapping>): void {
    writer.mapping = { ...writer.mapping, ...parts };
    this.done[writer.index] = writer.mapping;
  }

  #note(writer: Writer, note: Note): void {
    this.#change(writer, { notes: [...writer.mapping.notes.filter(({ text }) => text !== note.text), note] });
  }

  /** Leaves the notes of a mapping in its place. */
  #drop({ mapping: { notes }, index }: Writer): void {
    const last = notes.at(-1);
    if (last === undefined) throw new Failure('BUG', 'a mapping is dropped with a note that gives the reason');
    this.done[index] = last;
    append(this.done, notes.slice(0, -1));
  }
}

/** What one template of a mapping writes, where that is one repository. */
interface Written {
  readonly source: string;
  /** With the canonical name of its registry. */
  readonly repository: string;
  readonly tag: string | undefined;
}

function writtenBy({ from }: Mapping, to: string): Written | undefined {
  const [source, ...others] = from;
  if (source === undefined || others.length > 0 || /[*{]/.test(source)) return undefined;
  const { repository } = parseReference(source);
  const colon = to.indexOf(':', to.lastIndexOf('/') + 1);
  const name = (colon === -1 ? to : to.slice(0, colon)).replaceAll('{repository}', repository);
  const slash = name.indexOf('/');
  return {
    source,
    repository: `${registryName(name.slice(0, slash))}${name.slice(slash)}`,
    tag: colon === -1 ? undefined : to.slice(colon + 1),
  };
}

function destinationTag(template: string | undefined, tag: string): string {
  return template?.replaceAll('{tag}', tag) ?? tag;
}

/** The tags that a selection names, where it takes no others. */
function namedTags({ include = [], exclude, semver, latest }: Tags): readonly string[] | undefined {
  const isNamed = exclude === undefined && semver === undefined && latest === undefined;
  return isNamed && include.length > 0 && include.every(isTag) ? include : undefined;
}

function isAll({ include = [], exclude = [], semver, latest }: Tags): boolean {
  return include.length === 0 && exclude.length === 0 && semver === undefined && latest === undefined;
}

function isAlike(a: Mapping, b: Mapping): boolean {
  return (
    a.referrers === b.referrers &&
    a.expires === b.expires &&
    isDeepStrictEqual(new Set(a.platforms), new Set(b.platforms))
  );
}

/** Whether tags that one names may be among those that the other takes. */
function mayMeet(other: Writer, writer: Writer): boolean {
  const [named, open] =
    namedTags(writer.mapping.tags) === undefined ? ([other, writer] as const) : ([writer, other] as const);
  const tags = namedTags(named.mapping.tags);
  if (tags === undefined || open.tag !== undefined) return true;
  const { include = [], exclude = [], semver } = open.mapping.tags;
  const selects = aloneSelector({ include, exclude, semver, untagged: false });
  return tags.some((tag) => selects({ tag: destinationTag(named.tag, tag) }));
}

/** Two selections that have no tag in common and together take what these do; `second` undefined: the first takes all of it. */
function divide(
  a: Tags,
  b: Tags,
  canChangeFirst: boolean,
): { readonly first: Tags; readonly second: Tags | undefined } | undefined {
  const hasPatternsAlone = (tags: Tags): boolean =>
    tags.semver === undefined &&
    tags.latest === undefined &&
    (tags.exclude ?? []).length === 0 &&
    (tags.include ?? []).length > 0;
  const without = (tags: Tags, patterns: readonly string[]): Tags => ({
    ...tags,
    exclude: neededExclusions(tags.include, [...(tags.exclude ?? []), ...patterns]),
  });
  if (a.latest !== undefined || b.latest !== undefined) return undefined;
  // what the first leaves out, the second does not take either
  const isCovered =
    (a.include ?? []).length > 0 &&
    a.semver === undefined &&
    neededExclusions(b.include, a.exclude ?? []).every((pattern) => b.exclude?.includes(pattern) === true);
  if (isCovered) {
    const patterns = a.include ?? [];
    const include = b.include?.filter((tag) => !isTag(tag) || !patterns.some((pattern) => tagMatcher(pattern)(tag)));
    if (b.include !== undefined && b.include.length > 0 && include?.length === 0)
      return { first: a, second: undefined };
    const isNamed = include !== undefined && include.length > 0 && include.every(isTag) && b.semver === undefined;
    return { first: a, second: isNamed ? { ...b, include } : without({ ...b, include }, patterns) };
  }
  if (!canChangeFirst) return undefined;
  if (hasPatternsAlone(b)) return { first: without(a, b.include ?? []), second: b };
  const isRangeAlone = (tags: Tags): boolean => tags.semver !== undefined && isAll({ ...tags, semver: undefined });
  if (isRangeAlone(a) && isRangeAlone(b)) return { first: { semver: `${a.semver} || ${b.semver}` }, second: undefined };
  return undefined;
}
