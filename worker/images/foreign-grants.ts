import { Failure } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';

/**
 * The principals to which a repository policy grants access, apart from `accounts` and the services of AWS: `*`, other accounts, and
 * identities that name no account. Conditions are ignored. Members are matched without regard to case, and every effect but `Deny` counts as
 * a grant, so a policy in doubt grants more, not less. INVALID for what is not a policy.
 */
export function foreignGrants(policy: string, accounts: readonly string[]): readonly string[] {
  const statements = listOf(member(parsePolicy(policy), 'statement'));
  const foreign = new Set<string>();
  for (const statement of statements) {
    if (!isRecord(statement))
      throw new Failure('INVALID', 'the repository policy has a statement that is not an object');
    if (member(statement, 'effect') === 'Deny') continue;
    if (member(statement, 'notprincipal') !== undefined) foreign.add('every principal but NotPrincipal');
    for (const principal of principalsOf(member(statement, 'principal')))
      if (!isWithin(accounts, principal)) foreign.add(principal.name);
  }
  return [...foreign];
}

/**
 * Whether a policy denies something to every principal, or to principals of `accounts`: after such a policy is set, the caller that set it may be
 * unable to change it. Actions and conditions are ignored, so a policy in doubt locks out. INVALID for what is not a policy.
 */
export function locksOut(policy: string, accounts: readonly string[]): boolean {
  return listOf(member(parsePolicy(policy), 'statement')).some((statement) => {
    if (!isRecord(statement)) throw new Failure('INVALID', 'the policy has a statement that is not an object');
    if (member(statement, 'effect') !== 'Deny') return false;
    if (member(statement, 'notprincipal') !== undefined) return true;
    return principalsOf(member(statement, 'principal')).some(
      (principal) => principal.kind === 'aws' && (principal.name === '*' || isWithin(accounts, principal)),
    );
  });
}

interface Principal {
  /** `aws`, `service`, `federated`, `canonicaluser`. */
  readonly kind: string;
  readonly name: string;
}

/** The policy as `foreignGrants` reads it: without duplicate members, of which ECR might take another one. INVALID for what is not a policy. */
export function canonicalPolicy(policy: string): string {
  return JSON.stringify(parsePolicy(policy));
}

function parsePolicy(policy: string): Readonly<Record<string, unknown>> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(policy);
  } catch (cause) {
    throw new Failure('INVALID', 'the repository policy is not JSON', { cause });
  }
  if (isRecord(parsed)) return parsed;
  throw new Failure('INVALID', 'the repository policy is not a JSON object');
}

function principalsOf(value: unknown): readonly Principal[] {
  if (!isRecord(value)) return listOf(value).map((name) => ({ kind: 'aws', name: String(name) }));
  return Object.entries(value).flatMap(([kind, names]) =>
    listOf(names).map((name) => ({ kind: kind.toLowerCase(), name: String(name) })),
  );
}

/** https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html */
function isWithin(accounts: readonly string[], { kind, name }: Principal): boolean {
  if (kind === 'service') return !name.includes('*');
  const account = name.startsWith('arn:') ? name.split(':')[4] : name;
  return (kind === 'aws' || kind === 'federated') && account !== undefined && accounts.includes(account);
}

/** The member of that name in any case: services match some names without regard to it. INVALID for several such members. */
function member(of: Readonly<Record<string, unknown>>, lowerCase: string): unknown {
  const values = Object.entries(of).filter(([name]) => name.toLowerCase() === lowerCase);
  if (values.length <= 1) return values[0]?.[1];
  throw new Failure('INVALID', `the repository policy has more than one ${lowerCase}`);
}

function listOf(value: unknown): readonly unknown[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? value : [value];
}
