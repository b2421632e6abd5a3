import type semver from 'semver';
import type { Language, Languages } from './language.ts';
import type { TagSelection } from './rule.ts';
import { expressionParts, parseRange } from './select.ts';

// Selections of tags as languages, to tell whether two of them have a tag in common.

const DIGITS = '0123456789';
const LOWER = 'abcdefghijklmnopqrstuvwxyz';
const UPPER = LOWER.toUpperCase();
const WORD = `${DIGITS}${LOWER}${UPPER}_`;
/** What tags are made of. */
const TAG_CHARS = `${WORD}.-`;
const HEX = '0123456789abcdef';

/** Names of repositories: their form, not their length. */
function repositories(l: Languages): Language {
  const part = some(l, l.chars(LOWER + DIGITS));
  const separator = l.either(l.chars('.'), l.text('_'), l.text('__'), some(l, l.chars('-')));
  const component = l.concat(part, l.many(l.concat(separator, part)));
  return l.concat(component, l.many(l.concat(l.chars('/'), component)));
}

/** Repositories that match a pattern with `*`. */
export function repositoriesLike(l: Languages, pattern: string): Language {
  const any = l.many(l.chars(`${LOWER}${DIGITS}._-/`));
  const like = l.concat(...Array.from(pattern, (c) => (c === '*' ? any : l.text(c))));
  return pattern.includes('*') ? l.both(repositories(l), like) : like;
}

/** Every tag: its form, not its length. */
export function tags(l: Languages): Language {
  return l.concat(l.chars(WORD), l.many(l.chars(TAG_CHARS)));
}

/** What stands for a digest, in a name or a key. */
export function digests(l: Languages): Language {
  return l.many(l.chars(HEX));
}

/**
 * The tags that a selection can take. Where it cannot be said exactly it is more: what counts or knows the time (`latest`, `maxAgeDays`) takes
 * any, and so does a regular expression that looks around or back.
 */
export function selectedTags(l: Languages, selection: TagSelection): Language {
  const any = l.many(l.chars(TAG_CHARS));
  const included = selection.include.map((pattern) => patternLanguage(l, pattern) ?? any);
  const excluded = selection.exclude.map((pattern) => patternLanguage(l, pattern) ?? l.none);
  return l.both(
    tags(l),
    included.length === 0 ? any : l.either(...included),
    l.not(l.either(...excluded)),
    selection.semver === undefined ? any : versionsIn(l, parseRange(selection.semver)),
    selection.latest?.by === 'version' ? l.either(releases(l), prereleases(l, releases(l))) : any,
  );
}

/** What a pattern of tags matches; undefined where that cannot be said. */
export function patternLanguage(l: Languages, pattern: string): Language | undefined {
  const expression = expressionParts(pattern);
  return expression === undefined ? globLanguage(l, pattern) : expressionLanguage(l, expression);
}

function globLanguage(l: Languages, glob: string): Language {
  const any = l.many(l.chars(TAG_CHARS));
  /** Reads up to what `ends` names. */
  const read = (from: number, ends: string): { language: Language; at: number } => {
    const parts: Language[] = [];
    let offset = from;
    while (offset < glob.length && !ends.includes(glob.charAt(offset))) {
      const c = glob.charAt(offset);
      if (c === '*') parts.push(any);
      else if (c === '?') parts.push(l.chars(TAG_CHARS));
      else if (c === '[') {
        const end = glob.indexOf(']', offset + 1);
        parts.push(l.chars(classChars(glob.slice(offset + 1, end))));
        offset = end;
      } else if (c === '{') {
        const alternatives: Language[] = [];
        do {
          const alternative = read(offset + 1, ',}');
          alternatives.push(alternative.language);
          offset = alternative.at;
        } while (glob.charAt(offset) === ',');
        parts.push(l.either(...alternatives));
      } else parts.push(l.text(c));
      offset++;
    }
    return { language: l.concat(...parts), at: offset };
  };
  return read(0, '').language;
}

/** The tag characters of `a-z0` or `!a-z`. */
function classChars(text: string): string {
  const negated = /^[!^]/.test(text);
  const expression = new RegExp(`[${negated ? '^' : ''}${negated ? text.slice(1) : text}]`);
  return Array.from(TAG_CHARS)
    .filter((c) => expression.test(c))
    .join('');
}

/** Thrown inside `expressionLanguage` alone. */
const BEYOND = new Error('the expression cannot be told as a language');

/** Alternatives, groups, classes, quantifiers and anchors at the ends: what expressions over tags are made of. Undefined for the others. */
function expressionLanguage(
  l: Languages,
  { source, flags }: { readonly source: string; readonly flags: string },
): Language | undefined {
  let offset = 0;
  const any = l.many(l.chars(TAG_CHARS));
  const charsLike = (text: string): Language => {
    const expression = new RegExp(`^${text}$`, flags);
    return l.chars(Array.from(TAG_CHARS).filter((c) => expression.test(c)));
  };
  const atom = (): Language => {
    const c = source.charAt(offset);
    const set = /^(?:\[\^?(?:\\.|[^\]\\])*\]|\\[dDwWsS]|\\[^A-Za-z0-9]|[^\\^$*+?()[\]{}|])/s.exec(
      source.slice(offset),
    )?.[0];
    if (set !== undefined) {
      offset += set.length;
      return charsLike(set);
    }
    const open = /^\((?:\?:|\?<[A-Za-z_$][\w$]*>)?(?!\?)/.exec(source.slice(offset))?.[0];
    if (c !== '(' || open === undefined) throw BEYOND;
    offset += open.length;
    const inner = alternatives(false);
    if (source.charAt(offset) !== ')') throw BEYOND;
    offset++;
    return inner;
  };
  const quantified = (): Language => {
    const one = atom();
    const match = /^(?:([*+?])|\{([0-9]+)(,([0-9]*))?\})\??/.exec(source.slice(offset));
    if (match === null) return one;
    offset += match[0].length;
    const [, sign, least, comma, most] = match;
    if (sign !== undefined) return sign === '*' ? l.many(one) : sign === '+' ? some(l, one) : l.either(l.empty, one);
    const from = Number(least);
    const to = comma === undefined ? from : most === '' ? undefined : Number(most);
    // longer than a tag
    if (from > 128) return l.none;
    const fixed = repeat(l, one, from);
    if (to === undefined || to > 128) return l.concat(fixed, l.many(one));
    let more = l.empty;
    for (let left = to - from; left > 0; left--) more = l.either(l.empty, l.concat(one, more));
    return l.concat(fixed, more);
  };
  const alternatives = (outermost: boolean): Language => {
    const found: Language[] = [];
    for (;;) {
      const parts: Language[] = [];
      if (outermost && source.charAt(offset) === '^') offset++;
      else if (outermost) parts.push(any);
      while (offset < source.length && !'|)$'.includes(source.charAt(offset))) parts.push(quantified());
      if (outermost && source.charAt(offset) === '$') offset++;
      else if (outermost) parts.push(any);
      found.push(l.concat(...parts));
      if (source.charAt(offset) !== '|') return l.either(...found);
      offset++;
    }
  };
  try {
    const language = alternatives(true);
    return offset === source.length ? language : undefined;
  } catch (error) {
    if (error === BEYOND) return undefined;
    throw error;
  }
}

function some(l: Languages, one: Language): Language {
  return l.concat(one, l.many(one));
}

function repeat(l: Languages, one: Language, times: number): Language {
  return l.concat(...Array.from({ length: times }, () => one));
}

function number(l: Languages): Language {
  return some(l, l.chars(DIGITS));
}

/** As `versionOf` reads them. */
function releases(l: Languages): Language {
  const dotted = l.concat(l.chars('.'), number(l));
  return l.concat(l.either(l.empty, l.chars('v')), number(l), dotted, l.either(l.empty, dotted));
}

function prereleases(l: Languages, of: Language): Language {
  return l.concat(of, l.chars('-'), some(l, l.chars(`${DIGITS}${LOWER}${UPPER}.-`)));
}

/** Versions that a range takes: releases exactly, of prereleases all of a version whose prereleases it takes at all. */
function versionsIn(l: Languages, range: semver.Range): Language {
  return l.either(
    ...range.set.map((comparators) => {
      const bounds = comparators.filter(({ value }) => value !== '');
      const taken = l.both(releases(l), ...bounds.map((bound) => releasesIn(l, bound)));
      // `<4.0.0-0` is how npm writes that the prereleases of 4.0.0 are not meant
      const named = bounds.filter(
        ({ operator, semver: v }) => v.prerelease.length > 0 && !(operator === '<' && v.prerelease[0] === 0),
      );
      return l.either(taken, ...named.map((bound) => prereleases(l, equalTo(l, bound.semver))));
    }),
  );
}

/** The releases on the side of a bound. */
function releasesIn(l: Languages, { operator, semver: bound }: semver.Comparator): Language {
  const [equal, less] = [equalTo(l, bound), lessThan(l, bound)];
  // 1.0.0 is above 1.0.0-rc.1
  const itself = bound.prerelease.length === 0;
  switch (operator) {
    case '':
    case '=':
      return itself ? equal : l.none;
    case '<':
      return less;
    case '<=':
      return itself ? l.either(less, equal) : less;
    case '>':
      return itself ? l.both(releases(l), l.not(l.either(less, equal))) : l.both(releases(l), l.not(less));
    case '>=':
      return l.both(releases(l), l.not(less));
    default:
      return releases(l);
  }
}

function equalTo(l: Languages, { major, minor, patch }: semver.SemVer): Language {
  const last = l.concat(l.chars('.'), numberEqual(l, patch));
  const start = l.concat(numberEqual(l, major), l.chars('.'), numberEqual(l, minor));
  return l.concat(l.either(l.empty, l.chars('v')), start, patch === 0 ? l.either(l.empty, last) : last);
}

function lessThan(l: Languages, { major, minor, patch }: semver.SemVer): Language {
  const dot = l.chars('.');
  const rest = l.either(l.empty, l.concat(dot, number(l)));
  const lessPatch = l.concat(dot, numberLess(l, patch));
  return l.concat(
    l.either(l.empty, l.chars('v')),
    l.either(
      l.concat(numberLess(l, major), dot, number(l), rest),
      l.concat(numberEqual(l, major), dot, numberLess(l, minor), rest),
      l.concat(numberEqual(l, major), dot, numberEqual(l, minor), patch === 0 ? l.none : l.either(l.empty, lessPatch)),
    ),
  );
}

function numberEqual(l: Languages, n: number): Language {
  return l.concat(l.many(l.chars('0')), l.text(String(n)));
}

/** Numbers below `n`, also with leading zeros. */
function numberLess(l: Languages, n: number): Language {
  const digits = String(n);
  const smaller = Array.from(digits, (digit, index) =>
    l.concat(
      l.text(digits.slice(0, index)),
      l.chars(DIGITS.slice(0, Number(digit))),
      repeat(l, l.chars(DIGITS), digits.length - 1 - index),
    ),
  );
  const shorter = Array.from({ length: digits.length - 1 }, (_, index) => repeat(l, l.chars(DIGITS), index + 1));
  return l.concat(l.many(l.chars('0')), l.either(...smaller, ...shorter));
}
