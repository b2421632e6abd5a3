import { Failure } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';

/** A policy of a repository or of a registry: JSON, with members that services match without regard to case. */
export type Policy = Readonly<Record<string, unknown>>;

/** INVALID for what is not a JSON object. */
export function parsePolicy(policy: string): Policy {
  let parsed: unknown;
  try {
    parsed = JSON.parse(policy);
  } catch (cause) {
    throw new Failure('INVALID', 'the policy is not JSON', { cause });
  }
  if (isRecord(parsed)) return parsed;
  throw new Failure('INVALID', 'the policy is not a JSON object');
}

/** INVALID where one is not an object. */
export function statementsOf(policy: Policy): readonly Policy[] {
  return listOf(member(policy, 'statement')).map((statement) => {
    if (isRecord(statement)) return statement;
    throw new Failure('INVALID', 'the policy has a statement that is not an object');
  });
}

/** The principal of a statement of a policy. */
export interface Principal {
  /** `aws`, `service`, `federated`, `canonicaluser`. */
  readonly kind: string;
  readonly name: string;
}

/** https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html */
export function principalsOf(statement: Policy): readonly Principal[] {
  const value = member(statement, 'principal');
  if (!isRecord(value)) return listOf(value).map((name) => ({ kind: 'aws', name: String(name) }));
  return Object.entries(value).flatMap(([kind, names]) =>
    listOf(names).map((name) => ({ kind: kind.toLowerCase(), name: String(name) })),
  );
}

/** The account that a principal names, by itself or in its ARN; undefined where it names none. */
export function accountOf({ name }: Principal): string | undefined {
  return name.startsWith('arn:') ? name.split(':')[4] : name;
}

/** The member of that name in any case: services match some names without regard to it. INVALID for several such members. */
export function member(of: Policy, lowerCase: string): unknown {
  const values = Object.entries(of).filter(([name]) => name.toLowerCase() === lowerCase);
  if (values.length <= 1) return values[0]?.[1];
  throw new Failure('INVALID', `the policy has more than one ${lowerCase}`);
}

/** One value or a list of them, as a list. */
export function listOf(value: unknown): readonly unknown[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? value : [value];
}
