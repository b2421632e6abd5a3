import semver from 'semver';
import { isDerivedTag } from '../oci/derived-tag.ts';
import { isTag } from '../oci/reference.ts';
import { Failure } from '../util/failure.ts';
import { linearExpression } from '../util/linear-expression.ts';
import { compareStrings, quote } from '../util/text.ts';
import type { Candidate, TagSelection } from './rule.ts';

const DAY_MS = 24 * 60 * 60 * 1000;

type Tagged<C> = C & { readonly tag: string };

/**
 * The candidates that `selection` takes, in order of tags; after them those without a tag, in order of digests. The order of `candidates` does
 * not matter. What refers to an image is never selected (it comes along with that image), nor is a name that cannot be a tag.
 *
 * Conditions on tags say nothing of images without one: these are selected by `untagged` and `maxAgeDays` alone. INVALID where push times
 * decide and one is not known, and for a selection that cannot be read.
 */
export function select<C extends Candidate>(
  candidates: readonly C[],
  selection: TagSelection,
  nowMs: number,
): readonly C[] {
  const youngest = selection.maxAgeDays === undefined ? undefined : nowMs - selection.maxAgeDays * DAY_MS;
  const youngEnough = (one: C): boolean => youngest === undefined || pushedAt(one, 'maxAgeDays') >= youngest;
  const fits = tagFilter(selection);
  const tagged = candidates.filter(
    (one): one is Tagged<C> => one.tag !== undefined && fits(one.tag) && youngEnough(one),
  );
  const untagged = selection.untagged ? candidates.filter((one) => one.tag === undefined && youngEnough(one)) : [];
  return [
    ...latestOf(tagged, selection.latest, selection.semver !== undefined).sort(byTag),
    ...untagged.sort((a, b) => compareStrings(a.digest ?? '', b.digest ?? '')),
  ];
}

/**
 * Returns whether a selection takes an image that is the only one of its repository and was pushed just now: `latest` and `maxAgeDays`, which
 * depend on other images and on time, hold for it as far as they can. INVALID for a selection that cannot be read.
 */
export function aloneSelector(selection: TagSelection): (image: Partial<Pick<Candidate, 'tag'>>) => boolean {
  const fits = tagFilter(selection);
  const needsVersion = selection.latest?.by === 'version';
  return ({ tag }) =>
    tag === undefined ? selection.untagged : fits(tag) && (!needsVersion || versionOf(tag) !== undefined);
}

/** Whether a tag passes the conditions that are about its name alone. */
function tagFilter({ include, exclude, semver: versions }: TagSelection): (tag: string) => boolean {
  const included = include.map(tagMatcher);
  const excluded = exclude.map(tagMatcher);
  const range = versions === undefined ? undefined : parseRange(versions);
  return (tag) => {
    if (!isTag(tag) || isDerivedTag(tag)) return false;
    if (included.length > 0 && !included.some((matches) => matches(tag))) return false;
    if (excluded.some((matches) => matches(tag))) return false;
    if (range === undefined) return true;
    const version = versionOf(tag);
    return version !== undefined && range.test(version);
  };
}

function latestOf<C extends Candidate>(
  tagged: readonly Tagged<C>[],
  latest: TagSelection['latest'],
  ranged: boolean,
): Tagged<C>[] {
  if (latest === undefined) return [...tagged];
  if (latest.by === 'push') {
    const sorted = tagged.map((image) => ({ image, pushedAtMs: pushedAt(image, 'latest by push') }));
    sorted.sort((a, b) => b.pushedAtMs - a.pushedAtMs || byTag(a.image, b.image));
    return sorted.slice(0, latest.count).map(({ image }) => image);
  }
  const versions = tagged.flatMap((image) => {
    const version = versionOf(image.tag);
    return version === undefined ? [] : [{ image, version }];
  });
  // of a range, those that it names passed it already
  const releases = versions.filter(({ version }) => version.prerelease.length === 0);
  const counted = ranged || releases.length === 0 ? versions : releases;
  counted.sort((a, b) => semver.compare(b.version, a.version) || byTag(a.image, b.image));
  return counted.slice(0, latest.count).map(({ image }) => image);
}

function byTag(a: Tagged<Candidate>, b: Tagged<Candidate>): number {
  return compareStrings(a.tag, b.tag) || compareStrings(a.digest ?? '', b.digest ?? '');
}

function pushedAt({ pushedAtMs, tag, digest }: Candidate, condition: string): number {
  if (pushedAtMs !== undefined) return pushedAtMs;
  const name = tag ?? digest ?? 'an image';
  throw new Failure(
    'INVALID',
    `select images ${condition}: the registry does not tell when ${quote(name)} was pushed; only Amazon ECR does: select by version or by pattern`,
  );
}

/**
 * The version that a tag is: `1.2.3` or `1.2`, which stands for `1.2.0`, each also with a `v` in front, leading zeros (`24.04`), and
 * `-prerelease` at the end. One number alone is not a version: dates and builds look like that.
 */
export function versionOf(tag: string): semver.SemVer | undefined {
  const match = /^v?([0-9]+)\.([0-9]+)(?:\.([0-9]+))?(?:-([0-9A-Za-z.-]+))?$/.exec(tag);
  if (match === null) return undefined;
  const [major, minor, patch] = [match[1], match[2], match[3] ?? '0'].map(Number);
  const prerelease = match[4] === undefined ? '' : `-${match[4]}`;
  return semver.parse(`${major}.${minor}.${patch}${prerelease}`, { loose: true }) ?? undefined;
}

/** Reads a range of versions. INVALID otherwise. */
export function parseRange(text: string): semver.Range {
  try {
    return new semver.Range(text);
  } catch (cause) {
    throw new Failure(
      'INVALID',
      `${quote(text)} is not a range of versions: expected one as npm has it, such as ">=3.18 <4"`,
      {
        cause,
      },
    );
  }
}

/** Whether `pattern` is a regular expression, `/…/` or `/…/i`, taken apart; undefined: a glob. */
export function expressionParts(pattern: string): { readonly source: string; readonly flags: string } | undefined {
  const match = /^\/(.*)\/([a-z]*)$/s.exec(pattern);
  return match?.[1] === undefined ? undefined : { source: match[1], flags: match[2] ?? '' };
}

/**
 * Returns whether a tag matches a glob (of the whole tag) or a `/regular expression/` (anywhere in the tag, unless it says `^` and `$`), in
 * time that is linear in the tag. INVALID with one sentence for what is neither.
 */
export function tagMatcher(pattern: string): (tag: string) => boolean {
  const invalid = (why: string, cause?: unknown): Failure =>
    new Failure('INVALID', `${quote(pattern)} is not a pattern of tags: ${why}`, { cause });
  const { source, flags } = expressionParts(pattern) ?? { source: globSource(pattern, invalid), flags: '' };
  if (/[^imsu]/.test(flags)) throw invalid('its flags may be i, m, s and u');
  try {
    return linearExpression(source, flags);
  } catch (cause) {
    throw invalid(cause instanceof Error ? lowerFirst(cause.message) : 'it cannot be read', cause);
  }
}

const CLASS = String.raw`\[[!^]?[A-Za-z0-9._-]+\]`;
const PIECE = String.raw`(?:[A-Za-z0-9._*?-]|${CLASS})`;
/** The globs that are supported. The rest of what shells have, such as `+(a)` and `{1..3}`, is left to regular expressions. */
const GLOB = new RegExp(String.raw`^(?:${PIECE}|\{${PIECE}*(?:,${PIECE}*)+\})+$`);

/** The regular expression that a glob stands for. Throws what `invalid` makes of the reason for a pattern that is not a glob. */
function globSource(pattern: string, invalid: (why: string) => Failure): string {
  if (pattern === '') throw invalid('it is empty');
  if (pattern.startsWith('!')) throw invalid('what is not wanted goes under "exclude"');
  if (!GLOB.test(pattern) || pattern.includes('..'))
    throw invalid(
      'expected a glob of letters, digits, ".", "_" and "-" with *, ?, [a-z], [!a-z] and {a,b}, or a regular expression such as /^v[0-9]+$/',
    );
  for (const [set] of pattern.matchAll(new RegExp(CLASS, 'g'))) {
    if (!isExpression(set)) throw invalid(`${quote(set)} is out of order`);
  }
  const source = pattern.replace(/\*+|[?.{},]|\[!/g, (piece) => GLOB_PIECES[piece] ?? '.*');
  return `^${source}$`;
}

/** What the pieces of a glob other than `*` are in a regular expression. Everything else stands for itself in both. */
const GLOB_PIECES: Readonly<Record<string, string>> = {
  '?': '.',
  '.': String.raw`\.`,
  '{': '(?:',
  ',': '|',
  '}': ')',
  '[!': '[^',
};

function isExpression(source: string): boolean {
  try {
    return new RegExp(source).source === source;
  } catch {
    return false;
  }
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
