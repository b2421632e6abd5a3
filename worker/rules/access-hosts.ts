import { ecrHost } from '../oci/ecr-host.ts';
import type { Access } from './rule.ts';
import { expandBraces } from './sources.ts';

/** What stands in the ARN of a role for the account of each registry. */
const ACCOUNT = '{account}';

/**
 * The access to each host that the names stand for: `{a,b}` for either, and `{account}` in the ARN of a role for the account of an ECR registry.
 * INVALID as `expandBraces`.
 */
export function expandAccess(registries: Access): Access {
  return Object.fromEntries(
    Object.entries(registries).flatMap(([name, access]) =>
      expandBraces(name).map((host) => [host, { ...access, ...roleAt(host, access) }]),
    ),
  );
}

function roleAt(host: string, { assumeRole }: Access[string]): Pick<Access[string], 'assumeRole'> {
  const account = ecrHost(host)?.account;
  return assumeRole === undefined || account === undefined
    ? {}
    : { assumeRole: assumeRole.replaceAll(ACCOUNT, account) };
}
