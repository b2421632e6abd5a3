import { accountOf, member, parsePolicy, principalsOf, statementsOf, type Principal } from './policy.ts';

/**
 * The principals to which a policy grants access, apart from `accounts` and the services of AWS: `*`, other accounts, and identities that name
 * no account. Conditions are ignored. Members are matched without regard to case, and every effect but `Deny` counts as a grant, so a policy in
 * doubt grants more, not less. INVALID for what is not a policy.
 */
export function foreignGrants(policy: string, accounts: readonly string[]): readonly string[] {
  const foreign = new Set<string>();
  for (const statement of statementsOf(parsePolicy(policy))) {
    if (member(statement, 'effect') === 'Deny') continue;
    if (member(statement, 'notprincipal') !== undefined) foreign.add('every principal but NotPrincipal');
    for (const principal of principalsOf(statement)) if (!isWithin(accounts, principal)) foreign.add(principal.name);
  }
  return [...foreign];
}

/** The policy as `foreignGrants` reads it: without duplicate members, of which ECR might take another one. INVALID for what is not a policy. */
export function canonicalPolicy(policy: string): string {
  return JSON.stringify(parsePolicy(policy));
}

function isWithin(accounts: readonly string[], principal: Principal): boolean {
  if (principal.kind === 'service') return !principal.name.includes('*');
  const account = accountOf(principal);
  return (
    (principal.kind === 'aws' || principal.kind === 'federated') && account !== undefined && accounts.includes(account)
  );
}
