import { quote } from '../util/text.ts';
import {
  accountOf,
  listOf,
  member,
  parsePolicy,
  principalsOf,
  statementsOf,
  type Policy,
  type Principal,
} from './policy.ts';

/**
 * What may be denied to the caller without locking it out: it can still read, push, and replace the policy. Whatever else is denied counts,
 * so an action that AWS adds does too.
 */
const HARMLESS: ReadonlySet<string> = new Set([
  'ecr:batchdeleteimage',
  'ecr:batchimportupstreamimage',
  'ecr:deletelifecyclepolicy',
  'ecr:deleterepository',
  'ecr:deleterepositorypolicy',
  'ecr:replicateimage',
  'ecr:startimagescan',
]);

/**
 * Why a registry policy may lock its caller out, which is an identity of `account`: it denies what reading, pushing or replacing the policy
 * needs to all, or to an identity of the account. Since the scope of registry policies is V2, they apply to every request, and no one but AWS
 * can remove a policy that denies its own replacement. In doubt it locks out: conditions are ignored, and effects but `Allow` count as `Deny`.
 * Undefined where it does not. INVALID for what is not a policy.
 * https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry-permissions.html
 */
export function locksOut(policy: string, account: string): string | undefined {
  for (const statement of statementsOf(parsePolicy(policy))) {
    if (member(statement, 'effect') === 'Allow') continue;
    const action = harmfulAction(statement);
    if (action === undefined) continue;
    if (member(statement, 'notprincipal') !== undefined) return `it denies ${action} to all but some principals`;
    const principals = principalsOf(statement);
    const hit = principals.find((principal) => mayBeOf(account, principal));
    if (hit !== undefined) return `it denies ${action} to ${quote(hit.name)}`;
    if (principals.length === 0) return `it denies ${action}, and does not say to whom`;
  }
  return undefined;
}

/** In words, one action of the statement that is not harmless; undefined where all are. */
function harmfulAction(statement: Policy): string | undefined {
  if (member(statement, 'notaction') !== undefined) return 'all but some actions';
  const actions = listOf(member(statement, 'action')).map(String);
  if (actions.length === 0) return 'actions that it does not name';
  const harmful = actions.find((action) => !HARMLESS.has(action.toLowerCase()));
  return harmful === undefined ? undefined : quote(harmful);
}

function mayBeOf(account: string, principal: Principal): boolean {
  if (principal.kind === 'service') return principal.name.includes('*');
  if (principal.kind !== 'aws') return true;
  const named = accountOf(principal);
  return named === undefined || !/^\d{12}$/.test(named) || named === account;
}
