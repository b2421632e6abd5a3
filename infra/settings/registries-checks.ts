import { regionOf } from './arn.ts';
import type { RepositorySettings } from '../registries/lifecycle-policy.ts';
import { hasPolicy } from '../registries/repository-policy.ts';
import { groupDestinations } from '../registries/replication-rules.ts';
import { checkLifecycle } from './lifecycle-rule.ts';
import { sizeOf, type Refuse } from './refuse.ts';
import type { InfraSettings } from './schema.ts';

/** Of repositories, their replication and their templates: what ECR, IAM or CloudFormation would refuse. */
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
      'there is nothing in it: name repositories, replication, templates or replicationSources, or leave it out',
    );
  const policies = repositories.filter((repo) => repo.existing).flatMap(policiesOf);
  const characters = sizeOf(policies, POLICY_OF_EXISTING);
  if (characters > MAX_INLINE)
    refuse(
      ['registries', 'repositories'],
      `${policies.length} policies of repositories that exist are more than one function may set, some ${Math.floor((MAX_INLINE / characters) * policies.length)}: take part of them into settings with another prefix`,
    );
  const resources = repositories.filter((repo) => !repo.existing).length + 2 * policies.length;
  if (resources > MAX_RESOURCES)
    refuse(
      ['registries', 'repositories'],
      `${repositories.length} make ${resources} resources, and CloudFormation has ${MAX_RESOURCES} for them in a stack: take part of them out, or into settings with another prefix`,
    );
  repositories.forEach((repo, index) => {
    // of Lambda each account is named twice
    const { lambdaAccounts, pullAccounts, pushAccounts } = repo;
    const accounts = [...pullAccounts, ...pushAccounts, ...lambdaAccounts, ...lambdaAccounts];
    if (accounts.length > MAX_ACCOUNTS)
      refuse(['registries', 'repositories', index, 'pullAccounts'], tooManyAccounts(accounts));
    const pathOf = (name: string): readonly (string | number)[] => ['registries', 'repositories', index, name];
    if (repositories.findIndex((other) => other.name === repo.name) < index)
      refuse(pathOf('name'), 'is here twice: a repository has one policy');
    if (repo.keepLast !== undefined && repo.expireAfterDays !== undefined)
      refuse(
        pathOf('expireAfterDays'),
        `cannot stand beside keepLast ${repo.keepLast}: ECR holds a tagged image to one rule of a lifecycle policy, so take one of the two, or a prune rule with both`,
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
      `${admitted.length} accounts with their prefixes are more than the policy of a registry has room for: give them fewer prefixes, or leave accounts out`,
    );
  for (const name of ['pull', 'push', 'cleanUp'] as const) {
    if (roles[name].length > 0 && repositories.length > MAX_OF_ROLE)
      refuse(
        ['registries', 'roles', name],
        `${repositories.length} repositories are more than a role has room for, some ${MAX_OF_ROLE}: take part of them into settings with another prefix`,
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
    refuse(['registries', 'roles', 'pull'], 'there are no repositories to pull from but those of shape testing');
  if (roles.cleanUp.length > 0 && !repositories.some((repo) => repo.shape === 'testing'))
    refuse(['registries', 'roles', 'cleanUp'], 'it deletes from repositories of shape testing, and there are none');
}

/** Of one issuer an account has one provider, which names every audience. */
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

/** `lifecycle` is a whole policy: nothing else can be in it. */
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
      refuse([...path, name], 'cannot stand beside lifecycle, which is the whole policy: write it as a rule of it');
  checkLifecycle(lifecycle, (below, message) => {
    refuse([...path, 'lifecycle', ...below], message);
  });
}

/** Of 500: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html */
const MAX_RESOURCES = 480;
/**
 * Of the inline policies of a role, all together. Each policy of a repository that exists is set by a call, which the function has a policy of
 * its own for: it goes after the call that takes the policy off. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
 */
const MAX_INLINE = 10_000;
/** Beside the name of the repository. */
const POLICY_OF_EXISTING = 210;
/** In the policy of a repository, which has 10,240 characters: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_SetRepositoryPolicy.html */
const MAX_ACCOUNTS = 200;
/** Characters, of 10,240: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_PutRegistryPolicy.html */
const MAX_REGISTRY_POLICY = 10_000;
/** Of an account in it, with the ARN of all repositories, and of each prefix beside its own characters. */
const STATEMENT_OF_SOURCE = 220;
const ARN_OF_REPOSITORIES = 70;
/** Repositories, each by its ARN, for which CDK makes ten managed policies: more a role cannot have. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html */
const MAX_OF_ROLE = 380;
/** Characters of the principals of a role, whose trust policy has 2,048: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html */
const MAX_PRINCIPALS = 1900;

/** The name of a repository that exists for each of its policies that are set. */
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

const NOT_OF_EXISTING = 'is set where a repository is created: this one exists already';

// https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html
const MAX_REPLICATION_DESTINATIONS = 25;
/** 25 in some regions and on some pages; 10 is what every region has. */
const MAX_REPLICATION_RULES = 10;
const MAX_REPLICATION_FILTERS = 100;

function checkReplication({ account, region, registries }: InfraSettings, refuse: Refuse): void {
  const destinations = registries?.replication ?? [];
  const rules = groupDestinations(destinations, account);
  const distinct = rules.flatMap((rule) => rule.destinations);
  if (distinct.length > MAX_REPLICATION_DESTINATIONS)
    refuse(
      ['registries', 'replication'],
      `${distinct.length} destinations are more than the ${MAX_REPLICATION_DESTINATIONS} that ECR has`,
    );
  if (rules.length > MAX_REPLICATION_RULES)
    refuse(
      ['registries', 'replication'],
      `destinations with ${rules.length} different lists of prefixes are as many rules, and ECR has ${MAX_REPLICATION_RULES}: give some of them the same prefixes`,
    );
  for (const {
    prefixes,
    destinations: [first],
  } of rules)
    if (prefixes.length > MAX_REPLICATION_FILTERS)
      refuse(
        ['registries', 'replication'],
        `${prefixes.length} prefixes for ${first?.region} of ${first?.account} are more than the ${MAX_REPLICATION_FILTERS} that a rule of ECR has`,
      );
  destinations.forEach((to, index) => {
    if (to.region === region && (to.account ?? account) === account)
      refuse(
        ['registries', 'replication', index, 'region'],
        `${region} of this account is where the images are: name another`,
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
      refuse(
        pathOf('key'),
        `a template in ${place} would be for nothing here: the regions are ${[...regions].join(', ')}`,
      );
    const twin = templates.findIndex(
      (other) =>
        // product and product/ are the same to ECR
        other.prefix.replace(/\/$/, '') === template.prefix.replace(/\/$/, '') &&
        (other.key === undefined || place === undefined || regionOf(other.key) === place),
    );
    if (twin < index) refuse(pathOf('prefix'), 'is here twice: a registry has one template for a prefix');
  });
}
