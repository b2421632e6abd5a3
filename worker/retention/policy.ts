import { parseRange, tagMatcher } from '../oci/tag-pattern.ts';
import { matchesPattern } from '../oci/location.ts';
import { Failure, isFailure } from '../util/failure.ts';

/**
 * Which images of a repository go, and which stay. `deleteTags` chooses the tags that may go; without it every tag may go as soon as one of
 * `keepLast`, `keepDays`, the calendar rules, `keepSemver` and `notPulledForDays` is there, and otherwise none. Of these, everything stays that
 * one of the rules keeps. docs/prune.md is the reference.
 */
export interface Policy {
  /** Images without a tag go when they were pushed longer ago than this. Absent: they stay. */
  readonly untaggedAfterDays?: number | undefined;
  /** Keeps the newest images, by push time. */
  readonly keepLast?: number | undefined;
  /** Keeps images that were pushed within so many days. */
  readonly keepDays?: number | undefined;
  /** Images that were pushed longer ago go, whatever the other rules by time keep. By itself it keeps the others. */
  readonly expireAfterDays?: number | undefined;
  /** Keeps the newest image of each of the last so many days that have one, in UTC; weeks (ISO 8601), months and years likewise. */
  readonly keepDaily?: number | undefined;
  readonly keepWeekly?: number | undefined;
  readonly keepMonthly?: number | undefined;
  readonly keepYearly?: number | undefined;
  /** Keeps tags that match: globs, or `/expressions/`. */
  readonly keepTags?: readonly string[] | undefined;
  /** Keeps tags whose version is in the range, as npm has ranges. */
  readonly keepSemver?: string | undefined;
  /** The tags that may go: globs, or `/expressions/`. */
  readonly deleteTags?: readonly string[] | undefined;
  /** Keeps images that were pulled within so many days, and those whose last pull is not known. */
  readonly notPulledForDays?: number | undefined;
}

/** A policy and the repositories that it is for. The first of a list that matches decides; a repository that none matches is kept. */
export interface RepositoryPolicy extends Policy {
  /** Patterns of names: `*` stands for any characters, also `/`, and `{a,b}` for either. */
  readonly repositories: readonly string[];
}

/** The members of a policy that are a number. */
const COUNTS = [
  'untaggedAfterDays',
  'keepLast',
  'keepDays',
  'expireAfterDays',
  'keepDaily',
  'keepWeekly',
  'keepMonthly',
  'keepYearly',
  'notPulledForDays',
] as const;

/** The highest number that a policy may have. */
export const MAX_COUNT = 1_000_000;

/** What is wrong with a policy: the path of the value (in the policy, or in the list of policies), and a sentence. */
export interface PolicyFault {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** Everything that is wrong with a list of policies; empty when it can be planned with. */
export function policyFaults(policies: readonly RepositoryPolicy[]): readonly PolicyFault[] {
  const forAll = policies.findIndex(({ repositories }) => repositories.some((pattern) => /^\*+$/.test(pattern)));
  return policies.flatMap((policy, index) =>
    [
      ...repositoryFaults(policy.repositories),
      ...(forAll === -1 || index <= forAll
        ? []
        : [
            {
              path: [],
              message: 'it is never used: one above it is for every repository, and the first that matches decides',
            },
          ]),
      ...faultsOf(policy),
    ].map(({ path, message }) => ({ path: [index, ...path], message })),
  );
}

function repositoryFaults(patterns: readonly string[]): readonly PolicyFault[] {
  const message = 'expected a repository, or a pattern such as "team/*"';
  if (patterns.length === 0) return [{ path: ['repositories'], message }];
  return patternFaults(['repositories'], patterns, (pattern) => {
    if (pattern === '') throw new Failure('INVALID', message);
    matchesPattern(pattern, '');
  });
}

function faultsOf(policy: Policy): readonly PolicyFault[] {
  const faults: PolicyFault[] = [];
  for (const name of COUNTS) {
    const value = policy[name];
    if (value === undefined || (Number.isInteger(value) && value >= 1 && value <= MAX_COUNT)) continue;
    faults.push({ path: [name], message: `expected a whole number from 1 to ${MAX_COUNT}` });
  }
  const range = policy.keepSemver === undefined ? [] : [policy.keepSemver];
  return [
    ...faults,
    ...patternFaults(['keepTags'], policy.keepTags ?? [], tagMatcher),
    ...patternFaults(['deleteTags'], policy.deleteTags ?? [], tagMatcher),
    ...patternFaults(['keepSemver'], range, readRange).map(({ message }) => ({ path: ['keepSemver'], message })),
    ...emptyFaults(policy),
  ];
}

/** An empty range stands for every version, and is more likely a variable that was not set. */
function readRange(range: string): void {
  if (range.trim() === '') throw new Failure('INVALID', 'it is empty: leave it out, or name a range such as ">=2"');
  parseRange(range);
}

/** Whether this pattern of `deleteTags` is for every tag, as far as its text shows it. */
export function namesEveryTag(pattern: string): boolean {
  return /^\*+$|^\/(?:\.\*|\^\.\*\$|\^)?\/$/.test(pattern);
}

function emptyFaults(policy: Policy): readonly PolicyFault[] {
  if (policy.deleteTags?.length === 0)
    return [{ path: ['deleteTags'], message: 'it is empty: leave it out, or name the tags that may go' }];
  const everything = policy.deleteTags?.find(namesEveryTag);
  if (everything === undefined || keepsSomething(policy)) return [];
  const message = `${everything} matches every tag and no rule keeps one: add keepLast, keepDays or keepTags`;
  return [{ path: ['deleteTags'], message }];
}

/** Whether a rule of the policy keeps images with a tag. */
function keepsSomething({ keepTags = [], keepSemver, ...policy }: Policy): boolean {
  const counts = COUNTS.filter((name) => name !== 'untaggedAfterDays' && policy[name] !== undefined);
  return counts.length > 0 || keepTags.length > 0 || keepSemver !== undefined;
}

function patternFaults(
  path: readonly (string | number)[],
  patterns: readonly string[],
  read: (pattern: string) => unknown,
): readonly PolicyFault[] {
  return patterns.flatMap((pattern, index) => {
    try {
      read(pattern);
      return [];
    } catch (error) {
      if (!isFailure(error, 'INVALID')) throw error;
      return [{ path: [...path, index], message: error.message }];
    }
  });
}
