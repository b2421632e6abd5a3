import { partitionOf, regionOf } from './arn.ts';
import { continuousCron } from './cron.ts';
import { ecrRegionOf, parseEcrImage } from './ecr-image.ts';
import type { RepositorySettings } from '../registries/lifecycle-policy.ts';
import { groupDestinations } from '../registries/replication-rules.ts';
import type { InfraSettings } from './schema.ts';

/** Says what is wrong with the setting at a path, and what is allowed. */
export type Refuse = (path: readonly (string | number)[], message: string) => void;

/** What several members must fulfil together, so that what cannot work does not reach CloudFormation. */
export function checkSettings(settings: InfraSettings, refuse: Refuse): void {
  checkTags(settings, refuse);
  checkNetwork(settings, refuse);
  checkWorker(settings, refuse);
  checkAccess(settings, refuse);
  checkBucket(settings, refuse);
  checkPartitions(settings, refuse);
  checkVault(settings, refuse);
  checkRepositories(settings, refuse);
  checkReplication(settings, refuse);
  checkTemplates(settings, refuse);
  settings.notifications.topics.forEach((topic, i) => {
    if (regionOf(topic) !== settings.region)
      refuse(['notifications', 'topics', i], `alarms in ${settings.region} tell topics of ${settings.region} only`);
  });
}

/** What a task of Fargate may have: GiB of memory by vCPU. https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html */
const FARGATE_MEMORY_MIB: Readonly<Record<number, readonly number[]>> = {
  256: [512, 1024, 2048],
  512: range(1024, 4096, 1024),
  1024: range(2048, 8192, 1024),
  2048: range(4096, 16_384, 1024),
  4096: range(8192, 30_720, 1024),
  8192: range(16_384, 61_440, 4096),
  16_384: range(32_768, 122_880, 8192),
  32_768: [61_440, 122_880, 249_856],
};

/** 50 of most resources; CDK gives subnets three: https://docs.aws.amazon.com/tag-editor/latest/userguide/tagging.html */
const MAX_TAGS = 47;
const MAX_REPOSITORY_TAGS = 50;

function checkTags({ registries, tags }: InfraSettings, refuse: Refuse): void {
  const names = Object.keys(tags);
  if (names.length > MAX_TAGS)
    refuse(['tags'], `${names.length} tags are more than the ${MAX_TAGS} that every resource can have`);
  // https://docs.aws.amazon.com/IAM/latest/UserGuide/id_tags.html
  names.forEach((name, i) => {
    const twin = names.slice(0, i).find((other) => other.toLowerCase() === name.toLowerCase());
    if (twin !== undefined) refuse(['tags', name], `IAM takes it for the same as ${twin}: leave one of the two out`);
  });
  registries?.repositories.forEach((repo, index) => {
    const all = new Set([...names, ...Object.keys(repo.tags)]).size;
    if (all > MAX_REPOSITORY_TAGS)
      refuse(
        ['registries', 'repositories', index, 'tags'],
        `with those of all resources it has ${all} tags, and ECR takes ${MAX_REPOSITORY_TAGS}`,
      );
  });
}

/** Of the subnet in each zone that has the NAT gateway, as network.ts has it: /27. */
const NAT_SUBNET_ADDRESSES = 32;
/** Of a subnet: https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html */
const MIN_SUBNET_ADDRESSES = 16;

function checkNetwork({ access, network, region, worker }: InfraSettings, refuse: Refuse): void {
  network.availabilityZones?.forEach((name, i) => {
    if (!name.startsWith(region)) refuse(['network', 'availabilityZones', i], `it is no zone of ${region}`);
  });
  if (network.type === 'existing') return;
  // https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html
  if (/^(?:0|127|169\.254|22[4-9]|2[3-5][0-9])\./.test(network.cidr))
    refuse(['network', 'cidr'], 'no VPC has such addresses: take some of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16');
  if (network.type === 'public') return;
  const zones = network.availabilityZones?.length ?? 2;
  const size = 2 ** (32 - Number(network.cidr.split('/')[1]));
  if (network.natGateways > 0 && size / zones - NAT_SUBNET_ADDRESSES < MIN_SUBNET_ADDRESSES)
    refuse(['network', 'cidr'], `it is too small for subnets in ${zones} zones`);
  if (network.natGateways > 0) return;
  const far = `there is no way out of ${region} with network.natGateways: 0`;
  access.repositories.forEach((some, i) => {
    if (some.region !== undefined && some.region !== region) refuse(['access', 'repositories', i, 'region'], far);
  });
  access.secrets.forEach((arn, i) => {
    if (regionOf(arn) !== region) refuse(['access', 'secrets', i], far);
  });
  if (worker.image !== undefined && ecrRegionOf(worker.image) !== region)
    refuse(['worker', 'image'], `${far}: a task gets its image from ECR of ${region} only`);
}

function checkWorker({ worker }: InfraSettings, refuse: Refuse): void {
  const { cpu, image, memoryMiB, onDemandWeight, spotWeight } = worker;
  // without its parts a task could not be let pull it
  if (image !== undefined && ecrRegionOf(image) !== undefined && parseEcrImage(image) === undefined)
    refuse(
      ['worker', 'image'],
      'expected an image of ECR with either a tag or a digest, such as 111111111111.dkr.ecr.us-east-1.amazonaws.com/transship:1.0.0',
    );
  const sizes = FARGATE_MEMORY_MIB[cpu];
  if (sizes === undefined) {
    refuse(
      ['worker', 'cpu'],
      `Fargate has no tasks of ${cpu} CPU units, but of ${Object.keys(FARGATE_MEMORY_MIB).join(', ')}`,
    );
  } else if (!sizes.includes(memoryMiB)) {
    refuse(
      ['worker', 'memoryMiB'],
      `Fargate has no tasks of ${cpu} CPU units with ${memoryMiB} MiB, but with ${sizes[0]} to ${sizes.at(-1)} MiB (${sizes.length > 12 ? 'by the GiB' : sizes.join(', ')})`,
    );
  }
  if (onDemandWeight + spotWeight === 0)
    refuse(['worker', 'spotWeight'], 'one of onDemandWeight and spotWeight is more than 0');
}

/**
 * Characters of the ARNs of repositories that a role has room for: statements as grants.ts makes them, one in each of ten managed policies, and one
 * in the role itself. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
 */
const MAX_ACCESS = 44_000;
/** Of an ARN beside the name of its repository. */
const ARN_OF_REPOSITORY = 50;

function checkAccess({ access: { repositories } }: InfraSettings, refuse: Refuse): void {
  const names = repositories.flatMap((some) => some.names);
  const characters = sizeOf(names, ARN_OF_REPOSITORY);
  if (characters > MAX_ACCESS)
    refuse(
      ['access', 'repositories'],
      `${names.length} names are more than a role has room for, some ${Math.floor((MAX_ACCESS / characters) * names.length)}: say more of them by patterns such as product/*`,
    );
}

function checkBucket({ bucket, vault }: InfraSettings, refuse: Refuse): void {
  if (bucket.existing !== undefined && bucket.objectLock !== undefined)
    refuse(['bucket', 'objectLock'], 'is set where a bucket is created: this one exists already');
  if (bucket.existing !== undefined && bucket.name !== undefined)
    refuse(['bucket', 'name'], 'is of a bucket to create: this one exists already');
  // https://docs.aws.amazon.com/aws-backup/latest/devguide/s3-backups.html
  if (vault !== undefined && (bucket.storageClass === 'GLACIER' || bucket.storageClass === 'DEEP_ARCHIVE')) {
    refuse(
      ['bucket', 'storageClass'],
      `AWS Backup leaves objects of ${bucket.storageClass} out without a word: take GLACIER_IR, STANDARD_IA, INTELLIGENT_TIERING or STANDARD, or leave the vault out`,
    );
  }
}

/** Characters of a list in JSON, each with so many more. */
function sizeOf(list: readonly string[], more: number): number {
  return list.reduce((sum, one) => sum + one.length + more, 0);
}

/** What is in another partition nothing here can reach: China and GovCloud are worlds of their own. */
function checkPartitions(settings: InfraSettings, refuse: Refuse): void {
  const { access, encryption, notifications, region, registries, vault } = settings;
  const here = partitionOf(region);
  const arn = (path: readonly (string | number)[], value: string | undefined): void => {
    if (value?.startsWith('arn:') === true && value.split(':')[1] !== here)
      refuse(path, `expected an ARN of ${region}, which begins with arn:${here}:`);
  };
  const place = (path: readonly (string | number)[], value: string | undefined): void => {
    if (value !== undefined && partitionOf(value) !== here)
      refuse(
        path,
        `${value} is of ${partitionOf(value)}, and ${region} of ${here}: nothing goes from the one to the other`,
      );
  };
  arn(['encryption'], encryption);
  // https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
  if (encryption.startsWith('arn:') && regionOf(encryption) !== region)
    refuse(['encryption'], `what is in ${region} is encrypted with a key of ${region}`);
  for (const name of ['roles', 'secrets', 'keys'] as const)
    access[name].forEach((one, i) => arn(['access', name, i], one));
  access.repositories.forEach((one, i) => place(['access', 'repositories', i, 'region'], one.region));
  notifications.topics.forEach((one, i) => arn(['notifications', 'topics', i], one));
  place(['vault', 'region'], vault?.region);
  if (registries === undefined) return;
  registries.repositories.forEach((one, i) => arn(['registries', 'repositories', i, 'key'], one.key));
  registries.templates.forEach((one, i) => arn(['registries', 'templates', i, 'key'], one.key));
  registries.replication.forEach((one, i) => place(['registries', 'replication', i, 'region'], one.region));
  for (const name of ['pull', 'push', 'cleanUp'] as const)
    registries.roles[name].forEach((one, i) => arn(['registries', 'roles', name, i], one));
}

const CONSENT = 'nobody can delete these backups, and nobody can undo this';
/** https://docs.aws.amazon.com/aws-backup/latest/devguide/s3-backups.html */
const MAX_CONTINUOUS_DAYS = 35;

function checkVault({ account, region, vault }: InfraSettings, refuse: Refuse): void {
  if (vault === undefined) return;
  const { lock, sourceLock, plan, airGapped } = vault;
  if (vault.account === account && vault.region === region)
    refuse(
      ['vault', 'account'],
      `the archives are in ${region} of this account themselves: name another account, or another region at the least`,
    );
  if (sourceLock.minDays > sourceLock.maxDays)
    refuse(['vault', 'sourceLock', 'minDays'], `${sourceLock.minDays} is more than maxDays, ${sourceLock.maxDays}`);
  within(plan.deleteAfterDays, sourceLock, ['vault', 'plan', 'deleteAfterDays'], 'sourceLock', refuse);
  if (lock.minDays > lock.maxDays)
    refuse(['vault', 'lock', 'minDays'], `${lock.minDays} is more than maxDays, ${lock.maxDays}`);
  if (lock.mode === 'compliance' && lock.consent !== CONSENT)
    refuse(['vault', 'lock', 'consent'], `a compliance lock is for ever: say so with consent: "${CONSENT}"`);
  if (lock.mode === 'compliance' && lock.changeableForDays === undefined)
    refuse(
      ['vault', 'lock', 'changeableForDays'],
      'a compliance lock needs the days to change your mind in, 3 at least',
    );
  if (lock.mode === 'governance' && lock.changeableForDays !== undefined)
    refuse(
      ['vault', 'lock', 'changeableForDays'],
      'makes a lock one of compliance: leave it out, or say mode: compliance',
    );
  within(plan.copyDeleteAfterDays, lock, ['vault', 'plan', 'copyDeleteAfterDays'], 'the lock', refuse);
  if (airGapped !== undefined) {
    if (airGapped.consent !== CONSENT)
      refuse(
        ['vault', 'airGapped', 'consent'],
        `an air-gapped vault is locked for ever: say so with consent: "${CONSENT}"`,
      );
    if (airGapped.minDays > airGapped.maxDays)
      refuse(['vault', 'airGapped', 'minDays'], `${airGapped.minDays} is more than maxDays, ${airGapped.maxDays}`);
    within(
      plan.copyDeleteAfterDays,
      airGapped,
      ['vault', 'plan', 'copyDeleteAfterDays'],
      'the air-gapped vault',
      refuse,
    );
  }
  if (plan.continuousDays > MAX_CONTINUOUS_DAYS)
    refuse(
      ['vault', 'plan', 'continuousDays'],
      `${plan.continuousDays} is more than the ${MAX_CONTINUOUS_DAYS} days that AWS Backup has`,
    );
  else if (plan.continuousDays > 0)
    within(plan.continuousDays, sourceLock, ['vault', 'plan', 'continuousDays'], 'sourceLock', refuse);
  // https://docs.aws.amazon.com/aws-backup/latest/devguide/plan-options-and-configuration.html
  if (!/^[0-9]+ /.test(plan.cron))
    refuse(
      ['vault', 'plan', 'cron'],
      'AWS Backup begins once an hour at the most: its minutes are to be one number, such as 0 5 * * ? *',
    );
  else if (plan.continuousDays > 0 && continuousCron(plan.cron) === undefined)
    refuse(
      ['vault', 'plan', 'cron'],
      'the rule of continuousDays begins twelve hours apart from it, for which its minutes and hours are to be one number each: such as 0 5 * * ? *',
    );
}

function within(
  value: number,
  bounds: { readonly minDays: number; readonly maxDays: number },
  path: readonly string[],
  what: string,
  refuse: Refuse,
): void {
  // told already
  if (bounds.minDays > bounds.maxDays) return;
  if (value < bounds.minDays || value > bounds.maxDays)
    refuse(
      path,
      `${value} is outside of what ${what} takes, ${bounds.minDays} to ${bounds.maxDays}: the job would fail when it runs`,
    );
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
    if (repo.pullAccounts.length > MAX_ACCOUNTS)
      refuse(['registries', 'repositories', index, 'pullAccounts'], tooManyAccounts(repo.pullAccounts));
    const pathOf = (name: string): readonly (string | number)[] => ['registries', 'repositories', index, name];
    if (repositories.findIndex((other) => other.name === repo.name) < index)
      refuse(pathOf('name'), 'is here twice: a repository has one policy');
    if (repo.keepLast !== undefined && repo.expireAfterDays !== undefined)
      refuse(
        pathOf('expireAfterDays'),
        `cannot stand beside keepLast ${repo.keepLast}: ECR holds a tagged image to one rule of a lifecycle policy, so take one of the two`,
      );
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
  if (roles.push.length > 0 && repositories.length === 0)
    refuse(
      ['registries', 'roles', 'push'],
      'there are no repositories to push to: name them in registries.repositories',
    );
  if (roles.pull.length > 0 && repositories.every((repo) => repo.shape === 'testing'))
    refuse(['registries', 'roles', 'pull'], 'there are no repositories to pull from but those of shape testing');
  if (roles.cleanUp.length > 0 && !repositories.some((repo) => repo.shape === 'testing'))
    refuse(['registries', 'roles', 'cleanUp'], 'it deletes from repositories of shape testing, and there are none');
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
  pullAccounts,
}: RepositorySettings): string[] {
  const expires = [shape, keepLast, untaggedAfterDays, expireAfterDays].some((some) => some !== undefined);
  return [expires, pullAccounts.length > 0].flatMap((isSet) => (isSet ? [name] : []));
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

function range(from: number, to: number, by: number): readonly number[] {
  return Array.from({ length: (to - from) / by + 1 }, (_, i) => from + i * by);
}
