import { partitionOf, regionOf } from './arn.ts';
import { continuousCron, longestGapDays } from './cron.ts';
import { ecrRegionOf, parseEcrImage } from './ecr-image.ts';
import { checkFips } from './fips.ts';
import { checkPrune, checkPublish } from './prune-checks.ts';
import { checkRegistries } from './registries-checks.ts';
import { refuseTooMany, type Refuse } from './refuse.ts';
import type { InfraSettings } from './schema.ts';

/** Checks settings that depend on each other, so that CloudFormation gets only settings that can work. */
export function checkSettings(settings: InfraSettings, refuse: Refuse): void {
  checkTags(settings, refuse);
  checkNetwork(settings, refuse);
  checkFips(settings, refuse);
  checkWorker(settings, refuse);
  checkLargeJobs(settings, refuse);
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
      refuse(['notifications', 'topics', i], `alarms in ${settings.region} notify topics in ${settings.region} only`);
  });
}

/** Logs and the topic are in one Region, and so are their keys. */
function checkKeys({ logKey, notifications, region }: InfraSettings, refuse: Refuse): void {
  const keys = [[['logKey'], logKey] as const, [['notifications', 'key'], notifications.key] as const];
  for (const [path, key] of keys)
    if (key !== undefined && regionOf(key) !== region)
      refuse(path, `what is in ${region} is encrypted with a key of ${region}`);
}

/** The sizes of memory that Fargate offers, by CPU units: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html */
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

/** Most resources accept 50 tags, and CDK adds three to subnets: https://docs.aws.amazon.com/tag-editor/latest/userguide/tagging.html */
const MAX_TAGS = 47;
const MAX_REPOSITORY_TAGS = 50;

function checkTags({ registries, tags }: InfraSettings, refuse: Refuse): void {
  const names = Object.keys(tags);
  if (names.length > MAX_TAGS)
    refuse(['tags'], `${names.length} tags are more than the ${MAX_TAGS} that every resource accepts`);
  // https://docs.aws.amazon.com/IAM/latest/UserGuide/id_tags.html
  names.forEach((name, i) => {
    const twin = names.slice(0, i).find((other) => other.toLowerCase() === name.toLowerCase());
    if (twin !== undefined) refuse(['tags', name], `IAM treats it as the same tag as ${twin}: remove one of the two`);
  });
  registries?.repositories.forEach((repo, index) => {
    const all = new Set([...names, ...Object.keys(repo.tags)]).size;
    if (all > MAX_REPOSITORY_TAGS)
      refuse(
        ['registries', 'repositories', index, 'tags'],
        `together with the tags of all resources it has ${all} tags, and ECR takes ${MAX_REPOSITORY_TAGS}`,
      );
  });
}

/** The addresses of the subnet of the NAT gateway in each zone, a /27 in network.ts. */
const NAT_SUBNET_ADDRESSES = 32;
/** The smallest subnet: https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html */
const MIN_SUBNET_ADDRESSES = 16;

function checkNetwork({ access, network, region, worker }: InfraSettings, refuse: Refuse): void {
  network.availabilityZones?.forEach((name, i) => {
    if (!name.startsWith(region))
      refuse(['network', 'availabilityZones', i], `it is not an availability zone of ${region}`);
  });
  if (network.type === 'existing') return;
  // https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html
  if (/^(?:0|127|169\.254|22[4-9]|2[3-5][0-9])\./.test(network.cidr))
    refuse(
      ['network', 'cidr'],
      'a VPC cannot have these addresses: use a range of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16',
    );
  if (network.type === 'public') return;
  const zones = network.availabilityZones?.length ?? 2;
  const size = 2 ** (32 - Number(network.cidr.split('/')[1]));
  if (network.natGateways > 0 && size / zones - NAT_SUBNET_ADDRESSES < MIN_SUBNET_ADDRESSES)
    refuse(['network', 'cidr'], `it is too small for subnets in ${zones} zones`);
  if (network.natGateways > 0) return;
  const far = `workers cannot reach anything outside ${region} with network.natGateways: 0`;
  access.repositories.forEach((some, i) => {
    if (some.region !== undefined && some.region !== region) refuse(['access', 'repositories', i, 'region'], far);
  });
  access.secrets.forEach((arn, i) => {
    if (regionOf(arn) !== region) refuse(['access', 'secrets', i], far);
  });
  if (worker.image !== undefined && ecrRegionOf(worker.image) !== region)
    refuse(['worker', 'image'], `${far}: a task can only pull an image of ECR in ${region}`);
}

function checkWorker({ worker }: InfraSettings, refuse: Refuse): void {
  const { image } = worker;
  // the permission to pull the image is made from its parts
  if (image !== undefined && ecrRegionOf(image) !== undefined && parseEcrImage(image) === undefined)
    refuse(
      ['worker', 'image'],
      'expected an image of ECR with either a tag or a digest, such as 111111111111.dkr.ecr.us-east-1.amazonaws.com/transship:1.0.0',
    );
  checkTaskSize(worker, (name, why) => refuse(['worker', name], why));
}

function checkLargeJobs({ largeJobs, worker }: InfraSettings, refuse: Refuse): void {
  if (largeJobs === undefined) return;
  const refuseOne = (name: string, why: string): void => refuse(['largeJobs', name], why);
  checkTaskSize(largeJobs, refuseOne);
  if (largeJobs.cpu < worker.cpu || largeJobs.memoryMiB < worker.memoryMiB)
    refuseOne('cpu', 'large workers are smaller than those of worker: give them the same CPU and memory at least');
}

function checkTaskSize(
  {
    cpu,
    memoryMiB,
    onDemandWeight,
    spotWeight,
  }: Pick<InfraSettings['worker'], 'cpu' | 'memoryMiB' | 'onDemandWeight' | 'spotWeight'>,
  refuse: (name: string, why: string) => void,
): void {
  const sizes = FARGATE_MEMORY_MIB[cpu];
  if (sizes === undefined) {
    refuse(
      'cpu',
      `Fargate does not offer tasks with ${cpu} CPU units: expected one of ${Object.keys(FARGATE_MEMORY_MIB).join(', ')}`,
    );
  } else if (!sizes.includes(memoryMiB)) {
    refuse(
      'memoryMiB',
      `Fargate does not offer tasks with ${cpu} CPU units and ${memoryMiB} MiB: expected ${sizes[0]} to ${sizes.at(-1)} MiB (${sizes.length > 12 ? 'by the GiB' : sizes.join(', ')})`,
    );
  }
  if (onDemandWeight + spotWeight === 0) refuse('spotWeight', 'set onDemandWeight or spotWeight to more than 0');
}

/**
 * Characters of the ARNs of repositories that a role has room for: the statements of grants.ts, one in each of ten managed policies, and one in
 * the role itself. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
 */
const MAX_ACCESS = 44_000;

function checkAccess({ access: { repositories } }: InfraSettings, refuse: Refuse): void {
  const names = repositories.flatMap((some) => some.names);
  refuseTooMany(
    names,
    { path: ['access', 'repositories'], room: MAX_ACCESS, advice: 'name more of them by patterns such as product/*' },
    refuse,
  );
}

function checkBucket({ bucket, encryption, vault }: InfraSettings, refuse: Refuse): void {
  const { replicateTo } = bucket;
  if (bucket.existing !== undefined && replicateTo !== undefined)
    refuse(['bucket', 'replicateTo'], 'applies only to a bucket that is created: this one exists already');
  if (replicateTo !== undefined && replicateTo.name === bucket.name)
    refuse(['bucket', 'replicateTo', 'name'], 'it is the bucket of the archives: expected another one');
  // https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-config-for-kms-objects.html
  if (replicateTo !== undefined && encryption !== 'aws')
    refuse(
      ['bucket', 'replicateTo'],
      'S3 does not replicate what a customer managed key encrypts without a key of the other bucket: set encryption: aws, or use a vault',
    );
  // https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html#object-lock-managing-replication
  if (replicateTo !== undefined && bucket.objectLock !== undefined)
    refuse(
      ['bucket', 'replicateTo'],
      'S3 replicates a bucket with an object lock only to another one with an object lock, and with more permissions: leave out objectLock, or use a vault',
    );
  if (bucket.existing !== undefined && bucket.objectLock !== undefined)
    refuse(['bucket', 'objectLock'], 'applies only to a bucket that is created: this one exists already');
  if (bucket.existing !== undefined && bucket.name !== undefined)
    refuse(['bucket', 'name'], 'names a bucket to create: this one exists already');
  // https://docs.aws.amazon.com/aws-backup/latest/devguide/s3-backups.html
  if (vault !== undefined && (bucket.storageClass === 'GLACIER' || bucket.storageClass === 'DEEP_ARCHIVE')) {
    refuse(
      ['bucket', 'storageClass'],
      `AWS Backup skips objects of ${bucket.storageClass} without an error: use GLACIER_IR, STANDARD_IA, INTELLIGENT_TIERING or STANDARD, or remove the vault`,
    );
  }
}

/** Refuses resources of another partition, which cannot be reached: China and GovCloud are separate from the commercial Regions. */
function checkPartitions(settings: InfraSettings, refuse: Refuse): void {
  const { access, encryption, notifications, region, registries, vault } = settings;
  const here = partitionOf(region);
  const arn = (path: readonly (string | number)[], value: string | undefined): void => {
    if (value?.startsWith('arn:') === true && value.split(':')[1] !== here)
      refuse(path, `expected an ARN of ${region}, which begins with arn:${here}:`);
  };
  const place = (path: readonly (string | number)[], value: string | undefined): void => {
    if (value !== undefined && partitionOf(value) !== here)
      refuse(path, `${value} is of ${partitionOf(value)}, and ${region} of ${here}: neither can reach the other`);
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

/** An alarm that looks back over less than the time between two backups fires before each backup. */
function checkBackupAge({ alarms: { backupAgeDays }, vault }: InfraSettings, refuse: Refuse): void {
  if (vault === undefined || backupAgeDays === 0) return;
  const gap = longestGapDays(vault.plan.cron);
  if (gap !== undefined && backupAgeDays > gap) return;
  const between = gap === undefined ? 'more than a year' : `${gap} days`;
  refuse(
    ['alarms', 'backupAgeDays'],
    gap !== undefined && gap < MAX_ALARM_DAYS
      ? `${between} pass between two backups of vault.plan.cron, so this alarm would fire before each: expected ${gap + 1} or more`
      : `${between} pass between two backups of vault.plan.cron, and an alarm looks back at most ${MAX_ALARM_DAYS} days: set it to 0 and rely on the alarm about failed backups, or back up at least every six days`,
  );
}

function checkVault({ account, region, vault }: InfraSettings, refuse: Refuse): void {
  if (vault === undefined) return;
  const { lock, sourceLock, plan, airGapped } = vault;
  if (vault.account === account && vault.region === region)
    refuse(
      ['vault', 'account'],
      `the archives are in ${region} of this account: name another account, or at least another Region`,
    );
  if (sourceLock.minDays > sourceLock.maxDays)
    refuse(['vault', 'sourceLock', 'minDays'], `${sourceLock.minDays} is more than maxDays, ${sourceLock.maxDays}`);
  within(plan.deleteAfterDays, sourceLock, ['vault', 'plan', 'deleteAfterDays'], 'sourceLock', refuse);
  if (lock.minDays > lock.maxDays)
    refuse(['vault', 'lock', 'minDays'], `${lock.minDays} is more than maxDays, ${lock.maxDays}`);
  if (lock.mode === 'compliance' && lock.consent !== CONSENT)
    refuse(['vault', 'lock', 'consent'], `a compliance lock is permanent: confirm it with consent: "${CONSENT}"`);
  if (lock.mode === 'compliance' && lock.changeableForDays === undefined)
    refuse(
      ['vault', 'lock', 'changeableForDays'],
      'a compliance lock needs the number of days in which it can still be changed, at least 3',
    );
  if (lock.mode === 'governance' && lock.changeableForDays !== undefined)
    refuse(
      ['vault', 'lock', 'changeableForDays'],
      'makes a lock a compliance lock: remove it, or set mode: compliance',
    );
  within(plan.copyDeleteAfterDays, lock, ['vault', 'plan', 'copyDeleteAfterDays'], 'the lock', refuse);
  if (airGapped !== undefined) {
    if (airGapped.consent !== CONSENT)
      refuse(
        ['vault', 'airGapped', 'consent'],
        `an air-gapped vault is permanently locked: confirm it with consent: "${CONSENT}"`,
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
      `${plan.continuousDays} is more than the ${MAX_CONTINUOUS_DAYS} days that AWS Backup keeps continuous backups`,
    );
  else if (plan.continuousDays > 0)
    within(plan.continuousDays, sourceLock, ['vault', 'plan', 'continuousDays'], 'sourceLock', refuse);
  // https://docs.aws.amazon.com/aws-backup/latest/devguide/plan-options-and-configuration.html
  if (!/^[0-9]+ /.test(plan.cron))
    refuse(
      ['vault', 'plan', 'cron'],
      'AWS Backup starts at most once an hour: expected one number of minutes, such as 0 5 * * ? *',
    );
  else if (plan.continuousDays > 0 && continuousCron(plan.cron) === undefined)
    refuse(
      ['vault', 'plan', 'cron'],
      'the rule of continuousDays starts twelve hours after it: expected one number of minutes and one of hours, such as 0 5 * * ? *',
    );
}

function within(
  value: number,
  bounds: { readonly minDays: number; readonly maxDays: number },
  path: readonly string[],
  what: string,
  refuse: Refuse,
): void {
  // reported already
  if (bounds.minDays > bounds.maxDays) return;
  if (value < bounds.minDays || value > bounds.maxDays)
    refuse(
      path,
      `${value} is outside what ${what} accepts, ${bounds.minDays} to ${bounds.maxDays}: the job would fail when it runs`,
    );
}

function range(from: number, to: number, by: number): readonly number[] {
  return Array.from({ length: (to - from) / by + 1 }, (_, i) => from + i * by);
}
