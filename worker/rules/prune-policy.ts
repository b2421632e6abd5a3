import { policyFaults, type Policy, type PolicyFault, type RepositoryPolicy } from '../retention/policy.ts';

/** Keys of which a policy needs one: without them it deletes nothing. */
export const DELETING = [
  'untaggedAfterDays',
  'deleteTags',
  'keepLast',
  'keepDays',
  'expireAfterDays',
  'keepDaily',
  'keepWeekly',
  'keepMonthly',
  'keepYearly',
  'keepSemver',
  'notPulledForDays',
] as const satisfies readonly (keyof Policy)[];

/** Every key of a policy. */
export const POLICY_KEYS: readonly (keyof Policy)[] = [...DELETING, 'keepTags'];

/** What is wrong with a policy of a rule, by its members: also that it deletes nothing, or keeps nothing. */
export function ruleFaultsOf(policy: Policy): readonly PolicyFault[] {
  const message = `it names nothing to delete: expected one of ${DELETING.join(', ')} at least`;
  const empty = DELETING.every((key) => policy[key] === undefined) ? [{ path: [], message }] : [];
  const faults = policyFaults([{ ...policy, repositories: ['*'] }]);
  return [...empty, ...faults.map((fault) => ({ message: fault.message, path: fault.path.slice(1) }))];
}

/** Whether two lists of policies decide alike: the same members in the same order. */
export function arePoliciesEqual(a: readonly RepositoryPolicy[], b: readonly RepositoryPolicy[]): boolean {
  return JSON.stringify(a.map(orderedPolicy)) === JSON.stringify(b.map(orderedPolicy));
}

/** The members that are there, in one order. */
export function orderedPolicy(policy: RepositoryPolicy): RepositoryPolicy {
  const members = POLICY_KEYS.map((key) => [key, policy[key]] as const);
  return {
    repositories: policy.repositories,
    ...Object.fromEntries(members.filter(([, value]) => value !== undefined)),
  };
}
