import { tagMatcher } from './select.ts';

/** What is kept of some repositories. Absent members decide nothing. */
export interface PrunePolicy {
  /** Names of repositories, with `*` and `{a,b}`; one of them matches. */
  readonly repositories: readonly string[];
  readonly untaggedAfterDays?: number | undefined;
  readonly keepLast?: number | undefined;
  readonly keepDays?: number | undefined;
  readonly keepDaily?: number | undefined;
  readonly keepWeekly?: number | undefined;
  readonly keepMonthly?: number | undefined;
  readonly keepYearly?: number | undefined;
  readonly keepTags?: readonly string[] | undefined;
  readonly keepSemver?: string | undefined;
  readonly deleteTags?: readonly string[] | undefined;
  readonly notPulledForDays?: number | undefined;
}

type PolicyWords = Omit<PrunePolicy, 'repositories'>;

/** Keys by which tagged images may be deleted: the others of them keep some of those. */
const TAGGED = [
  'deleteTags',
  'keepLast',
  'keepDays',
  'keepDaily',
  'keepWeekly',
  'keepMonthly',
  'keepYearly',
  'keepSemver',
  'notPulledForDays',
] as const satisfies readonly (keyof PolicyWords)[];

/** Keys of which a policy needs one: without them it deletes nothing. */
export const DELETING: readonly (keyof PolicyWords)[] = ['untaggedAfterDays', ...TAGGED];

/** All keys of a policy but `repositories`. */
export const POLICY_KEYS: readonly (keyof PolicyWords)[] = [...DELETING, 'keepTags'];

/** Tags that no pattern names by chance. */
const ANY_TAGS = ['latest', 'v1.2.3', '20261201', 'zq-7_x.Y'];

/** Why a policy is a mistake: it deletes nothing, or keeps nothing. Undefined for one that does neither. */
export function policyFault(policy: PolicyWords): string | undefined {
  if (DELETING.every((key) => policy[key] === undefined))
    return `it says nothing to delete: expected one of ${DELETING.join(', ')} at least`;
  const keeps = POLICY_KEYS.some(
    (key) => key !== 'deleteTags' && key !== 'untaggedAfterDays' && policy[key] !== undefined,
  );
  if (!keeps && policy.deleteTags?.some(matchesAll) === true)
    return 'it keeps nothing: its deleteTags match every tag, and nothing else keeps any: expected a keep… beside it';
  return undefined;
}

function matchesAll(pattern: string): boolean {
  const matches = tagMatcher(pattern);
  return ANY_TAGS.every((tag) => matches(tag));
}
