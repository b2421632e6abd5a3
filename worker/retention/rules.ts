import { parseRange, tagMatcher, versionOf } from '../oci/tag-pattern.ts';
import { CALENDAR, daysBefore } from './calendar.ts';
import { compareStrings } from '../util/text.ts';
import { byId, type Node } from './graph.ts';
import type { Item } from './inventory.ts';
import type { Policy } from './policy.ts';

/** A policy as questions. Every answer is the reason for yes; undefined is no. */
export interface Rules {
  readonly policy: Policy;
  /** Whether images with tags may go at all. */
  readonly deletesTagged: boolean;
  /** Whether it depends on when an image was pushed. */
  readonly needsAge: boolean;
  /** The rule that keeps this tag. */
  readonly keepsTag: (tag: string) => string | undefined;
  /** The rule that names this tag to go; `deleteTags` alone does. */
  readonly deletesTag: (tag: string) => string | undefined;
}

const CALENDAR_RULES = ['keepDaily', 'keepWeekly', 'keepMonthly', 'keepYearly'] as const;
const TIME_RULES = ['keepLast', 'keepDays', ...CALENDAR_RULES] as const;

/** INVALID for a policy with faults. */
export function rulesOf(policy: Policy): Rules {
  const { keepLast, keepDays, expireAfterDays, keepTags = [], keepSemver, deleteTags, notPulledForDays } = policy;
  const counts = [keepLast, keepDays, expireAfterDays, ...CALENDAR_RULES.map((name) => policy[name])];
  const needsAge = counts.some((count) => count !== undefined);
  const range = keepSemver === undefined ? undefined : parseRange(keepSemver);
  const kept = matcherOf('keepTags', keepTags);
  return {
    policy,
    needsAge,
    deletesTagged: needsAge || [keepSemver, deleteTags, notPulledForDays].some((rule) => rule !== undefined),
    keepsTag: (tag) => {
      const version = range === undefined ? undefined : versionOf(tag);
      return (
        kept(tag) ?? (version !== undefined && range?.test(version) === true ? `keepSemver ${keepSemver}` : undefined)
      );
    },
    deletesTag: matcherOf('deleteTags', deleteTags ?? []),
  };
}

function matcherOf(rule: string, patterns: readonly string[]): (tag: string) => string | undefined {
  const matchers = patterns.map((pattern) => ({ pattern, matches: tagMatcher(pattern) }));
  return (tag) => {
    const found = matchers.find(({ matches }) => matches(tag));
    return found && `${rule} ${found.pattern}`;
  };
}

/** An image whose push time is known, or something else that time decides about. */
export interface Aged<T = Node> {
  readonly node: T;
  readonly pushedAtMs: number;
}

/** Newest first; of two of the same moment the one whose id comes first. */
export function newestFirst(a: Aged, b: Aged): number {
  return b.pushedAtMs - a.pushedAtMs || byId(a.node, b.node);
}

/** The order of archives: newest first; of two of the same moment the one whose key comes last, because keys have days. */
export function newestArchiveFirst(a: Pick<Item, 'id' | 'pushedAtMs'>, b: Pick<Item, 'id' | 'pushedAtMs'>): number {
  return (b.pushedAtMs ?? -Infinity) - (a.pushedAtMs ?? -Infinity) || compareStrings(b.id, a.id);
}

/**
 * What `keepLast`, `keepDays` and the calendar rules keep of images that are newest first: the reasons, by image. As restic's forget: each
 * image is shown to each rule, whatever others keep it (https://restic.readthedocs.io/en/stable/060_forget.html). The oldest image is not kept
 * beside.
 */
export function keptByTime<T>(
  sorted: readonly Aged<T>[],
  policy: Policy,
  nowMs: number,
): ReadonlyMap<T, readonly string[]> {
  const kept = new Map<T, string[]>(sorted.map(({ node }) => [node, []]));
  const { keepLast = 0, keepDays, expireAfterDays } = policy;
  const young = sorted.filter(({ pushedAtMs }) => !hasExpired(pushedAtMs, policy, nowMs));
  const isAlone = TIME_RULES.every((name) => policy[name] === undefined);
  if (expireAfterDays !== undefined && isAlone)
    for (const { node } of young) kept.get(node)?.push(`expireAfterDays ${expireAfterDays}`);
  for (const { node } of young.slice(0, keepLast)) kept.get(node)?.push(`keepLast ${keepLast}`);
  for (const { node, pushedAtMs } of keepDays === undefined ? [] : young) {
    if (keepDays !== undefined && pushedAtMs >= daysBefore(nowMs, keepDays))
      kept.get(node)?.push(`keepDays ${keepDays}`);
  }
  for (const name of CALENDAR_RULES) {
    const count = policy[name] ?? 0;
    const periods = new Set<string>();
    for (const { node, pushedAtMs } of count === 0 ? [] : young) {
      const period = CALENDAR[name](pushedAtMs);
      if (periods.has(period)) continue;
      if (periods.size === count) break;
      periods.add(period);
      kept.get(node)?.push(`${name} ${count}: newest of ${period}`);
    }
  }
  return kept;
}

function hasExpired(pushedAtMs: number, { expireAfterDays }: Policy, nowMs: number): boolean {
  return expireAfterDays !== undefined && pushedAtMs < daysBefore(nowMs, expireAfterDays);
}

/** Why an image goes that no rule keeps. `named`: the rules of `deleteTags` that name its tags. */
export function whyItGoes(
  { policy }: Pick<Rules, 'policy'>,
  named: readonly string[],
  age?: { readonly pushedAtMs: number | undefined; readonly nowMs: number },
): string {
  const { keepLast, keepDays, expireAfterDays, notPulledForDays, keepSemver } = policy;
  const reasons = [...new Set(named)];
  if (expireAfterDays !== undefined && age?.pushedAtMs !== undefined && hasExpired(age.pushedAtMs, policy, age.nowMs))
    return [...reasons, `older than ${days(expireAfterDays)}`].join(', ');
  if (keepDays !== undefined) reasons.push(`older than ${days(keepDays)}`);
  if (notPulledForDays !== undefined) reasons.push(`not pulled for ${days(notPulledForDays)}`);
  if (keepLast !== undefined) reasons.push(`not in keepLast ${keepLast}`);
  for (const name of CALENDAR_RULES) if (policy[name] !== undefined) reasons.push(`not in ${name} ${policy[name]}`);
  if (keepSemver !== undefined && named.length === 0) reasons.push(`not in keepSemver ${keepSemver}`);
  return reasons.join(', ');
}

/** `1 day`, `30 days`. */
export function days(count: number): string {
  return count === 1 ? '1 day' : `${count} days`;
}
