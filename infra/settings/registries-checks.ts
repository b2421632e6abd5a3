import { regionOf } from './arn.ts';
import type { RepositorySettings } from '../registries/lifecycle-policy.ts';
import { hasPolicy } from '../registries/repository-policy.ts';
import { groupDestinations } from '../registries/replication-rules.ts';
import { checkLifecycle } from './lifecycle-rule.ts';
import { sizeOf, type Refuse } from './refuse.ts';
import type { InfraSettings } from './schema.ts';

/** Refuses settings of repositories, replication and templates that ECR, IAM or CloudFormation would refuse. */
export function checkRegistries(settings: InfraSettings, refuse: Refuse): void {
  checkRepositories(settings, refuse);
  checkReplication(settings, refuse);
  checkTemplates(settings, refuse);
  checkPipelines(settings, refuse);
}

function checkRepositories({ region, registries }: InfraSettings, refuse: Refuse): void {
  if (registries === undefined) return;
  const { repositories, roles } = registries;
  if (
    [repositories, registries.replication, registries.templates, registries.replicationSources].every(
      (list) => list.length === 0,
    )
  )
    refuse(
      ['registries'],
      'it is empty: name repositories, replication, templates or replicationSources, or remove it',
    );
  const policies = repositories.filter((repo) => repo.existing).flatMap(policiesOf);
  const characters = sizeOf(policies, POLICY_OF_EXISTING);
  if (characters > MAX_INLINE)
    refuse(
      ['registries', 'repositories'],
      `${policies.length} policies of repositories that exist are more than one function may set, which is some ${Math.floor((MAX_INLINE / characters) * policies.length)}: move some of them to settings with another prefix`,
    );
  const resources = repositories.filter((repo) => !repo.existing).length + 2 * policies.length;
  if (resources > MAX_RESOURCES)
    refuse(
      ['registries', 'repositories'],
      `${repositories.length} make ${resources} resources, and CloudFormation has room for ${MAX_RESOURCES} in a stack: remove some of them, or move them to settings with another prefix`,
    );
  repositories.forEach((repo, index) => {
    // the policy names each account of Lambda twice
    const { lambdaAccounts, pullAccounts, pushAccounts } = repo;
    const accounts = [...pullAccounts, ...pushAccounts, ...lambdaAccounts, ...lambdaAccounts];
    if (accounts.length > MAX_ACCOUNTS)
      refuse(['registries', 'repositories', index, 'pullAccounts'], tooManyAccounts(accounts));
    const pathOf = (name: string): readonly (string | number)[] => ['registries', 'repositories', index, name];
    if (repositories.findIndex((other) => other.name === repo.name) < index)
      refuse(pathOf('name'), 'is given twice: name each repository once');
    if (repo.keepLast !== undefined && repo.expireAfterDays !== undefined)
      refuse(
        pathOf('expireAfterDays'),
        `cannot be combined with keepLast ${repo.keepLast}: ECR applies one rule of a lifecycle policy to a tagged image, so use one of the two, or a prune rule with both`,
      );
    checkRetention(repo, ['registries', 'repositories', index], refuse);
    if (repo.key !== undefined && regionOf(repo.key) !== region)
      refuse(pathOf('key'), `a repository in ${region} is encrypted with a key of ${region}`);
    if (repo.existing) {
      for (const name of ['immutable', 'scanOnPush', 'key'] as const)
        if (repo[name] !== undefined) refuse(pathOf(name), NOT_OF_EXISTING);
      if (Object.keys(repo.tags).length > 0) refuse(pathOf('tags'), NOT_OF_EXISTING);
    }
  });
  const admitted = registries.replicationSources.map(
    ({ prefixes }) => STATEMENT_OF_SOURCE + sizeOf(prefixes, ARN_OF_REPOSITORIES),
  );
  if (admitted.reduce((sum, some) => sum + some, 0) > MAX_REGISTRY_POLICY)
    refuse(
      ['registries', 'replicationSources'],
      `${admitted.length} accounts with their prefixes are more than the policy of a registry has room for: give them fewer prefixes, or remove accounts`,
    );
  for (const name of ['pull', 'push', 'cleanUp'] as const) {
    if (roles[name].length > 0 && repositories.length > MAX_OF_ROLE)
      refuse(
        ['registries', 'roles', name],
        `${repositories.length} repositories are more than a role has room for, which is some ${MAX_OF_ROLE}: move some of them to settings with another prefix`,
      );
    if (sizeOf(roles[name], 3) > MAX_PRINCIPALS)
      refuse(
        ['registries', 'roles', name],
        `${roles[name].length} principals are more than the trust of a role has room for: name the root of an account, or roles that many may assume`,
      );
  }
  const pushes = roles.push.length > 0 ? 'push' : 'pushFrom';
  if (roles[pushes].length > 0 && repositories.length === 0)
    refuse(
      ['registries', 'roles', pushes],
      'there are no repositories to push to: name them in registries.repositories',
    );
  if (roles.pull.length > 0 && repositories.every((repo) => repo.shape === 'testing'))
    refuse(['registries', 'roles', 'pull'], 'all repositories have shape testing, and this role pulls none of those');
  if (roles.cleanUp.length > 0 && !repositories.some((repo) => repo.shape === 'testing'))
    refuse(
      ['registries', 'roles', 'cleanUp'],
      'it deletes from repositories of shape testing, but no repository has it',
    );
}

/** An account has one provider for each issuer, which names every audience. */
function checkPipelines({ registries }: InfraSettings, refuse: Refuse): void {
  const from = registries?.roles.pushFrom ?? [];
  from.forEach(({ existing, issuer }, index) => {
    const before = from.slice(0, index).find((other) => other.issuer === issuer);
    if (before !== undefined && before.existing !== existing)
      refuse(
        ['registries', 'roles', 'pushFrom', index, 'existing'],
        `the account has the provider of ${issuer} already, or it does not: an entry before it has ${before.existing}`,
      );
  });
}

/** `lifecycle` is the whole policy, so it excludes the short settings. */
function checkRetention(
  {
    lifecycle,
    ...short
  }: Pick<RepositorySettings, 'lifecycle' | 'keepLast' | 'untaggedAfterDays'> & {
    readonly expireAfterDays?: number | undefined;
  },
  path: readonly (string | number)[],
  refuse: Refuse,
): void {
  if (lifecycle === undefined) return;
  for (const name of ['keepLast', 'untaggedAfterDays', 'expireAfterDays'] as const)
    if (short[name] !== undefined)
      refuse(
        [...path, name],
        'cannot be combined with lifecycle, which is the whole policy: write it as one of its rules',
      );
  checkLifecycle(lifecycle, (below, message) => {
    refuse([...path, 'lifecycle', ...below], message);
  });
}

/** CloudFormation allows 500 resources in a stack: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html */
const MAX_RESOURCES = 480;
/**
 * Characters of all inline policies of a role together, of 10,240. A call sets each policy of a repository that exists, and the function has an
 * inline policy for each call, so that it is removed after the call that removes the repository's policy.
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
 */
const MAX_INLINE = 10_000;
/** Characters of such an inline policy without the name of the repository. */
const POLICY_OF_EXISTING = 210;
/** Accounts in the policy of a repository, which may have 10,240 characters: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_SetRepositoryPolicy.html */
const MAX_ACCOUNTS = 200;
/** Characters of a registry policy, of 10,240: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_PutRegistryPolicy.html */
const MAX_REGISTRY_POLICY = 10_000;
/** Characters of an account's statement in it, with the ARN of all repositories; and of each prefix's ARN without the prefix. */
const STATEMENT_OF_SOURCE = 220;
const ARN_OF_REPOSITORIES = 70;
/** Repositories of a role, each by its ARN: they fill the ten managed policies that a role may have. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html */
const MAX_OF_ROLE = 380;
/** Characters of the principals in a trust policy, which may have 2,048: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html */
const MAX_PRINCIPALS = 1900;

/** The name of a repository that exists, once for each of its policies that is set. */
function policiesOf({
  name,
  shape,
  keepLast,
  untaggedAfterDays,
  expireAfterDays,
  lifecycle,
  ...admitted
}: RepositorySettings): string[] {
  const expires = [shape, keepLast, untaggedAfterDays, expireAfterDays, lifecycle].some((some) => some !== undefined);
  return [expires, hasPolicy(admitted)].flatMap((isSet) => (isSet ? [name] : []));
}

function tooManyAccounts(accounts: readonly string[]): string {
  return `${accounts.length} accounts are more than the ${MAX_ACCOUNTS} that a policy of ECR has room for`;
}

const NOT_OF_EXISTING = 'applies only to a repository that is created: this one exists already';

// https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html
const MAX_REPLICATION_DESTINATIONS = 25;
/** The quota is 25 in some Regions and on some pages of AWS; every Region has 10. */
const MAX_REPLICATION_RULES = 10;
const MAX_REPLICATION_FILTERS = 100;

function checkReplication({ account, region, registries }: InfraSettings, refuse: Refuse): void {
  const destinations = registries?.replication ?? [];
  const rules = groupDestinations(destinations, account);
  const distinct = rules.flatMap((rule) => rule.destinations);
  if (distinct.length > MAX_REPLICATION_DESTINATIONS)
    refuse(
      ['registries', 'replication'],
      `${distinct.length} destinations are more than the ${MAX_REPLICATION_DESTINATIONS} that ECR allows`,
    );
  if (rules.length > MAX_REPLICATION_RULES)
    refuse(
      ['registries', 'replication'],
      `destinations with ${rules.length} different lists of prefixes need as many rules, and ECR allows ${MAX_REPLICATION_RULES}: give some of them the same prefixes`,
    );
  for (const {
    prefixes,
    destinations: [first],
  } of rules)
    if (prefixes.length > MAX_REPLICATION_FILTERS)
      refuse(
        ['registries', 'replication'],
        `${prefixes.length} prefixes for ${first?.region} of ${first?.account} are more than the ${MAX_REPLICATION_FILTERS} that a rule of ECR allows`,
      );
  destinations.forEach((to, index) => {
    if (to.region === region && (to.account ?? account) === account)
      refuse(
        ['registries', 'replication', index, 'region'],
        `${region} of this account has the images already: name another Region`,
      );
  });
}

function checkTemplates({ account, region, registries }: InfraSettings, refuse: Refuse): void {
  if (registries === undefined) return;
  const { templates, replication } = registries;
  const regions = new Set([
    region,
    ...replication.filter((to) => (to.account ?? account) === account).map((to) => to.region),
  ]);
  templates.forEach((template, index) => {
    const pathOf = (name: string): readonly (string | number)[] => ['registries', 'templates', index, name];
    checkRetention(template, ['registries', 'templates', index], refuse);
    const place = template.key === undefined ? undefined : regionOf(template.key);
    if (place !== undefined && !regions.has(place))
      refuse(pathOf('key'), `a template in ${place} would have no effect: the Regions are ${[...regions].join(', ')}`);
    const twin = templates.findIndex(
      (other) =>
        // ECR takes product and product/ as the same
        other.prefix.replace(/\/$/, '') === template.prefix.replace(/\/$/, '') &&
        (other.key === undefined || place === undefined || regionOf(other.key) === place),
    );
    if (twin < index) refuse(pathOf('prefix'), 'is given twice: a registry has one template for each prefix');
  });
}
