import { isTag } from '../../oci/reference.ts';
import { versionOf } from '../../oci/tag-pattern.ts';
import { goExpression, neededExclusions } from './expressions.ts';
import { lost, shown, type Note, type Tags } from './mapping.ts';
import { attempt, NoRule } from './no-rule.ts';
import { translateRange } from './ranges.ts';
import { BY_DIGEST } from './references.ts';

/** An expression over tags, and whether it selects those that do not match. */
interface Expression {
  readonly pattern: string;
  readonly inverted: boolean;
}

interface Filters {
  readonly verbatim: string[];
  readonly ranges: string[];
  readonly expressions: Expression[];
  readonly keep: Expression[];
  latest: number | undefined;
}

/** Selections that no two tags pass both of, which together take what a list of `tags` does. */
export interface TagSets {
  readonly sets: readonly Tags[];
  readonly notes: readonly Note[];
}

/**
 * The `tags` of a mapping of dregsy: what is named, and of all other tags those that pass one of the filters `semver:` and `regex:` and all of
 * the filters `keep:`.
 */
export function dregsyTags(where: string, given: readonly string[]): TagSets {
  const notes: Note[] = [];
  const filters = readFilters(where, given, notes);
  const { verbatim, latest } = filters;
  const sets: Tags[] = [];
  if (verbatim.length > 0) sets.push({ include: [...new Set(verbatim)] });
  try {
    const filtered = filteredSets(where, filters);
    for (const set of filtered) sets.push(latest === undefined ? set : { ...set, latest });
    if (latest !== undefined) noteLatest(where, filters, filtered, notes);
  } catch (error) {
    if (!(error instanceof NoRule)) throw error;
    notes.push(lost(error.where, error.message));
  }
  return { sets, notes };
}

function readFilters(where: string, given: readonly string[], notes: Note[]): Filters {
  const filters: Filters = { verbatim: [], ranges: [], expressions: [], keep: [], latest: undefined };
  const read = (text: string): void => {
    const latest = /^keep:\s+latest\s+([0-9]+)$/.exec(text)?.[1];
    if (latest !== undefined) filters.latest = Number(latest) === 0 ? undefined : Number(latest);
    else if (text.startsWith('keep:')) filters.keep.push(expressionOf(where, text));
    else if (text.startsWith('regex:')) filters.expressions.push(expressionOf(where, text));
    else if (text.startsWith('semver:')) {
      const { range, differences } = attempt(where, text, () => translateRange(text.slice('semver:'.length), 'blang'));
      for (const one of differences) if (!notes.some((note) => note.text === one)) notes.push(lost(where, one));
      filters.ranges.push(range);
    } else if (isTag(text)) filters.verbatim.push(text);
    else notes.push(lost(where, `${shown(text)}: ${text.includes('sha256:') ? BY_DIGEST : 'it is not a tag'}`));
  };
  for (const text of given) {
    // without one filter of a list, the others select too much or too little: the whole mapping is refused
    read(text.trim());
  }
  return filters;
}

function expressionOf(where: string, text: string): Expression {
  const rest = text.slice(text.indexOf(':') + 1).trim();
  const inverted = rest.startsWith('!');
  const expression = inverted ? rest.slice(1) : rest;
  const anchored = `${expression.startsWith('^') ? '' : '^'}${expression}${expression.endsWith('$') ? '' : '$'}`;
  return { pattern: attempt(where, text, () => goExpression(anchored)), inverted };
}

function filteredSets(where: string, { verbatim, ranges, expressions, keep }: Filters): readonly Tags[] {
  const only = keep.filter(({ inverted }) => !inverted).map(({ pattern }) => pattern);
  if (only.length > 1) throw new NoRule(where, 'a tag cannot be made to match two patterns at once (keep:)');
  const never = [...verbatim, ...keep.filter(({ inverted }) => inverted).map(({ pattern }) => pattern)];
  const matching = expressions.filter(({ inverted }) => !inverted).map(({ pattern }) => pattern);
  const [other, ...others] = expressions.filter(({ inverted }) => inverted).map(({ pattern }) => pattern);
  if (others.length > 0)
    throw new NoRule(where, 'a rule has no list of inverted expressions, one of which has to match');
  const excluding = (set: Tags, ...more: readonly string[]): Tags => {
    const exclude = neededExclusions(set.include, [...more, ...never]);
    return exclude.length === 0 ? set : { ...set, exclude };
  };
  const kept = only.length === 0 ? {} : { include: only };
  // what is named is all of it
  if (verbatim.length > 0 && ranges.length === 0 && expressions.length === 0) return [];
  if (ranges.length === 0 && expressions.length === 0) return [excluding(kept)];
  if (matching.length > 0 && only.length > 0)
    throw new NoRule(where, 'a tag cannot be made to match two patterns at once (regex: and keep:)');
  if (other !== undefined && ranges.length > 0 && only.length > 0)
    throw new NoRule(where, 'semver:, keep: and an inverted regex: are too much for one rule');
  const sets: Tags[] = [];
  if (matching.length > 0) sets.push(excluding({ include: matching }));
  if (other !== undefined) sets.push(excluding(kept, other, ...matching));
  if (ranges.length > 0) {
    const include = other === undefined ? kept : { include: [other] };
    sets.push(excluding({ ...include, semver: ranges.join(' || ') }, ...matching));
  }
  return sets;
}

function noteLatest(where: string, filters: Filters, filtered: readonly Tags[], notes: Note[]): void {
  const add = (text: string): void => void notes.push(lost(where, `keep: latest: ${text}`));
  if (filtered.length > 1) add('it counts for each of these rules by itself');
  if (filtered.length === 0 || filters.verbatim.some((tag) => versionOf(tag) !== undefined))
    add('the tags that are named were counted too, and are all copied here');
  if (filtered.some(({ semver }) => semver === undefined))
    add('tags that are not versions were copied besides, and are not here');
}
