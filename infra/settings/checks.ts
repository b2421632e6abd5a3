import { partitionOf, regionOf } from './arn.ts';
import { continuousCron, longestGapDays } from './cron.ts';
import { ecrRegionOf, parseEcrImage } from './ecr-image.ts';
import { checkPrune, checkPublish } from './prune-checks.ts';
import { checkRegistries } from './registries-checks.ts';
import { refuseTooMany, type Refuse } from './refuse.ts';
import type { InfraSettings } from './schema.ts';

/** What several members must fulfil together, so that what cannot work does not reach CloudFormation. */
export function checkSettings(settings: InfraSettings, refuse: Refuse): void {
  checkTags(settings, refuse);
  checkNetwork(settings, refuse);
  checkWorker(settings, refuse);
  checkAccess(settings, refuse);
  checkPrune(settings, refuse);
  checkPublish(settings, refuse);
  checkBucket(settings, refuse);
  checkPartitions(settings, refuse);
  checkVault(settings, refuse);
  checkBackupAge(settings, refuse);
  checkRegistries(settings, refuse);
  checkKeys(settings, refuse);
  settings.notifications.topics.forEach((topic, i) => {
    if (regionOf(topic) !== settings.region)
      refuse(['notifications', 'topics', i], `alarms in ${settings.region} tell topics of ${settings.region} only`);
  });
}

/** Logs and the topic are in one Region, and so are their keys. */
function checkKeys({ logKey, notifications, region }: InfraSettings, refuse: Refuse): void {
  const keys = [[['logKey'], logKey] as const, [['notifications', 'key'], notifications.key] as const];
  for (const [path, key] of keys)
    if (key !== undefined && regionOf(key) !== region)
      refuse(path, `what is in ${region} is encrypted with a key of ${region}`);
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

function checkAccess({ access: { repositories } }: InfraSettings, refuse: Refuse): void {
  const names = repositories.flatMap((some) => some.names);
  refuseTooMany(
    names,
    { path: ['access', 'repositories'], room: MAX_ACCESS, advice: 'say more of them by patterns such as product/*' },
    refuse,
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

/** The longest time that an alarm looks back over: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html */
const MAX_ALARM_DAYS = 7;

/** An alarm that looks back less far than to the backup before fires between any two backups. */
function checkBackupAge({ alarms: { backupAgeDays }, vault }: InfraSettings, refuse: Refuse): void {
  if (vault === undefined || backupAgeDays === 0) return;
  const gap = longestGapDays(vault.plan.cron);
  if (gap !== undefined && backupAgeDays > gap) return;
  const between = gap === undefined ? 'more than a year' : `${gap} days`;
  refuse(
    ['alarms', 'backupAgeDays'],
    gap !== undefined && gap < MAX_ALARM_DAYS
      ? `${between} lie between two backups by vault.plan.cron, so this alarm would fire before each: expected ${gap + 1} or more`
      : `${between} lie between two backups by vault.plan.cron, and an alarm looks back ${MAX_ALARM_DAYS} days: set it to 0, and count on the alarm of backups that fail; or back up every six days at the least`,
  );
}

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

function range(from: number, to: number, by: number): readonly number[] {
  return Array.from({ length: (to - from) / by + 1 }, (_, i) => from + i * by);
}
