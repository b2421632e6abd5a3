import semver from 'semver';
import { Failure } from '../util/failure.ts';
import { linearExpression } from '../util/linear-expression.ts';
import { quote } from '../util/text.ts';

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
 * Returns whether a tag matches a glob (of the whole tag) or a `/regular expression/` (anywhere in the tag, unless it has `^` and `$`), in time that
 * is linear in the tag. INVALID with one sentence for what is neither.
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
