import semver from 'semver';
import { isDerivedTag } from '../oci/derived-tag.ts';
import { isTag } from '../oci/reference.ts';
import { parseRange, tagMatcher, versionOf } from '../oci/tag-pattern.ts';
import { Failure } from '../util/failure.ts';
import { compareStrings, quote } from '../util/text.ts';
import type { Candidate, TagSelection } from './rule.ts';

const DAY_MS = 24 * 60 * 60 * 1000;

type Tagged<C> = C & { readonly tag: string };

/**
 * The candidates that `selection` takes, in order of tags; after them those without a tag, in order of digests. The order of `candidates` does not
 * matter. What refers to an image is never selected (it comes along with that image), nor is a name that cannot be a tag.
 *
 * Conditions on tags do not apply to images without one: these are selected by `untagged` and `maxAgeDays` alone. INVALID where push times decide and
 * one is not known, and for a selection that cannot be read.
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
    (one): one is Tagged<C> => one.tag !== undefined && fits(one.tag, one.namesImage) && youngEnough(one),
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
export function aloneSelector(
  selection: TagSelection,
): (image: Partial<Pick<Candidate, 'tag' | 'namesImage'>>) => boolean {
  const fits = tagFilter(selection);
  const needsVersion = selection.latest?.by === 'version';
  return ({ tag, namesImage }) =>
    tag === undefined ? selection.untagged : fits(tag, namesImage) && (!needsVersion || versionOf(tag) !== undefined);
}

/** Whether a tag passes the conditions that are about its name alone. */
function tagFilter({
  include,
  exclude,
  semver: versions,
}: TagSelection): (tag: string, namesImage?: boolean) => boolean {
  const included = include.map(tagMatcher);
  const excluded = exclude.map(tagMatcher);
  const range = versions === undefined ? undefined : parseRange(versions);
  return (tag, namesImage = false) => {
    if (!isTag(tag) || (isDerivedTag(tag) && !namesImage)) return false;
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
    `select images ${condition}: the registry does not report when ${quote(name)} was pushed; only Amazon ECR does: select by version or by pattern`,
  );
}
