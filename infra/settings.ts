import { readFileSync } from 'node:fs';
import { RegionInfo } from 'aws-cdk-lib/region-info';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import { quote } from '../worker/util/quote.ts';
import { isCron } from './cron.ts';
import { groupDestinations } from './replication-rules.ts';

/**
 * What a deployment is, out of one YAML file: only what differs from the defaults needs saying. docs/deployment.md describes every member.
 * What several members must fulfil together is checked here as well, so that what cannot work does not reach CloudFormation.
 */
export type InfraSettings = z.infer<typeof infraSettings>;

const CRON_EXPECTED =
  'expected minutes, hours, day of month, month, day of week and year, one of the two days being ?: such as 0 5 * * ? *';

const ACCOUNT_EXPECTED = 'expected the twelve digits of an account, in quotes';
const accountId = z.string(ACCOUNT_EXPECTED).regex(/^[0-9]{12}$/, ACCOUNT_EXPECTED);
const regionName = z.string().regex(/^[a-z]{2}(?:-[a-z]+)+-[0-9]$/, 'expected the name of a region, such as us-east-1');
const days = z.int().min(1).max(36_500);
const keyArn = z
  .string()
  .regex(
    /^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key\/(?:mrk-[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/,
    'expected the ARN of a KMS key, by its id and not an alias',
  );
/** Ids of EC2. */
const idOf = (kind: string, what: string): z.ZodString =>
  z.string().regex(new RegExp(`^${kind}-(?:[0-9a-f]{8}|[0-9a-f]{17})$`), `expected the id of ${what}`);
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
const bucketName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, { error: 'expected the name of a bucket', abort: true })
  .refine(
    (name) =>
      !/\.\.|\.-|-\.|^(?:[0-9]+\.){3}[0-9]+$|^(?:xn--|sthree-|amzn-s3-demo-)|(?:-s3alias|--ol-s3|\.mrap|--x-s3|--table-s3)$/.test(
        name,
      ),
    'expected the name of a bucket that S3 takes: dots between letters or digits, no address, nothing that S3 has for itself',
  );
const repositoryPattern = z
  .string()
  .regex(/^[a-z0-9*][a-z0-9._/*-]*$/, 'expected the name of a repository, or a pattern such as product/*');
/** Of whom a role trusts: a wildcard would be anybody. */
const principalArn = z
  .string()
  .regex(
    /^arn:aws[a-z-]*:iam::[0-9]{12}:(?:root|(?:user|role)\/[\w+=,.@/-]+)$/,
    "expected the ARN of a role or a user, or of an account's root",
  );
const cronFields = z.string().refine(isCron, CRON_EXPECTED);
const CIDR_EXPECTED = 'expected a range of addresses of /16 to /24, such as 10.64.0.0/20';
const cidr = z
  .cidrv4({ error: CIDR_EXPECTED, abort: true })
  .refine((addresses) => /\/(?:1[6-9]|2[0-4])$/.test(addresses), CIDR_EXPECTED)
  .default('10.64.0.0/20');
const zone = z
  .string()
  .regex(/^[a-z]{2}(?:-[a-z]+)+-[0-9][a-z]$/, 'expected the name of an availability zone, such as us-east-1a');
// what IAM, ECS and others have in common: https://docs.aws.amazon.com/tag-editor/latest/userguide/tagging.html
const TAG_KEY_EXPECTED =
  'expected the key of a tag: up to 128 letters, digits, spaces and _ . : / = + - @, not beginning with aws:';
const TAG_VALUE_EXPECTED =
  'expected the value of a tag: up to 256 letters, digits, spaces and _ . : / = + - @, in quotes';
const tagValues = z.record(
  z.string().regex(/^(?!aws:)[\p{L}\p{Z}\p{N}_.:/=+@-]{1,128}$/iu, TAG_KEY_EXPECTED),
  z.string(TAG_VALUE_EXPECTED).regex(/^[\p{L}\p{Z}\p{N}_.:/=+@-]{0,256}$/u, TAG_VALUE_EXPECTED),
);

/** A list of what cannot be there twice. */
function eachOnce<T extends z.ZodType>(item: T): z.ZodArray<T> {
  return z.array(item).superRefine((list, context) => {
    list.forEach((one, i) => {
      if (list.indexOf(one) < i) context.addIssue({ code: 'custom', path: [i], message: 'is here twice' });
    });
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

// a worker takes what it says, and a task that is stopped has two minutes
const MAX_SLOTS = 64;

// https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html: five actions, and one is the topic that is made
const MAX_TOPICS = 4;

const network = z
  .discriminatedUnion(
    'type',
    [
      z.strictObject({
        /** A VPC of its own: private subnets without a way out, a gateway endpoint for S3, interface endpoints for what else is needed. */
        type: z.literal('own'),
        cidr,
        availabilityZones: eachOnce(zone).min(2).max(6).optional(),
        /** NAT gateways, needed to reach registries that are not of AWS, or not of this region. */
        natGateways: z.int().min(0).max(3).default(1),
      }),
      z.strictObject({
        type: z.literal('existing'),
        vpcId: idOf('vpc', 'a VPC'),
        // https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_AwsVpcConfiguration.html
        subnetIds: eachOnce(idOf('subnet', 'a subnet')).min(1).max(16),
        availabilityZones: eachOnce(zone).min(1),
        /** Whether tasks get public addresses: where the subnets are public ones and there is no NAT. */
        publicAddresses: z.boolean().default(false),
      }),
      z.strictObject({
        /** A VPC of its own with public subnets and no NAT: the cheapest; tasks have public addresses, and let nobody in. */
        type: z.literal('public'),
        cidr,
        availabilityZones: eachOnce(zone).min(2).max(6).optional(),
      }),
    ],
    'expected own, existing or public',
  )
  .prefault({ type: 'own' });

const worker = z
  .strictObject({
    /** CPU units: 1024 are one vCPU. */
    cpu: z.int().default(1024),
    memoryMiB: z.int().default(2048),
    architecture: z.enum(['arm64', 'x86_64']).default('arm64'),
    /** Jobs at once of one task. */
    slots: z.int().min(1).max(MAX_SLOTS).default(2),
    /** Blobs at once of one job. */
    concurrency: z.int().min(1).max(64).default(4),
    maxTasks: z.int().min(1).max(500).default(4),
    /** How tasks are spread over capacity: of weights 1 and 3, three of four tasks are Spot. */
    onDemandWeight: z.int().min(0).max(1000).default(0),
    spotWeight: z.int().min(0).max(1000).default(1),
    /** An image that is there already; absent: built from the Dockerfile and pushed by CDK. */
    image: z
      .string()
      .regex(/^[a-z0-9][\w.:/@-]*$/, 'expected an image, such as ghcr.io/owner/transship:1.0.0')
      .optional(),
    logLevel: z.enum(['debug', 'info', 'warn', 'error']).default('info'),
  })
  .prefault({});

const bucket = z
  .strictObject({
    /** The name of a bucket that exists; absent: one is created. */
    existing: bucketName.optional(),
    /** The name of the one that is created. Default: CloudFormation's. */
    name: bucketName.optional(),
    /** Where archives go after 30 days. */
    storageClass: z
      .enum(['STANDARD', 'STANDARD_IA', 'INTELLIGENT_TIERING', 'GLACIER_IR', 'GLACIER', 'DEEP_ARCHIVE'])
      .default('STANDARD'),
    /** Versions that were replaced or deleted are kept this long. */
    keepOldVersionsDays: days.default(90),
    objectLock: z.strictObject({ mode: z.enum(['governance', 'compliance']), days }).optional(),
  })
  .prefault({});

/** Of policies: what has a meaning there would be more than one prefix. */
const objectPrefix = z
  .string()
  .regex(/^[^*?$]*$/, 'expected what keys begin with, without wildcards')
  .default('');

/** What the worker may reach beside its own bucket: from these its role is made. */
const access = z
  .strictObject({
    /** Repositories of ECR, by account and region. */
    repositories: z
      .array(
        z.strictObject({
          account: accountId.optional(),
          region: regionName.optional(),
          names: z.array(repositoryPattern).min(1),
          /** `write` includes `read`. */
          allow: z.enum(['read', 'write']),
        }),
      )
      .default([]),
    buckets: z
      .array(z.strictObject({ name: bucketName, prefix: objectPrefix, allow: z.enum(['read', 'write']) }))
      // of the policy of an endpoint, which has 20,480 characters: https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-endpoints-access.html
      .max(100)
      .default([]),
    /** Roles to assume, of other accounts' registries. */
    roles: z
      .array(z.string().regex(/^arn:aws[a-z-]*:iam::[0-9]{12}:role\/[\w+=,.@/-]+$/, 'expected the ARN of a role'))
      .default([]),
    /** Secrets with credentials of registries. */
    secrets: z
      .array(
        z
          .string()
          .regex(
            /^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[\w/+=.@-]+-[A-Za-z0-9]{6}$/,
            'expected the ARN of a secret, whole, with the six characters that Secrets Manager puts behind its name',
          ),
      )
      .default([]),
    /** Customer keys that those buckets, repositories and secrets are encrypted with. */
    keys: z.array(keyArn).default([]),
  })
  .prefault({});

const lock = z.strictObject({
  /** `governance` can be taken off by who may; `compliance` by nobody, AWS included, once `changeableForDays` are over. */
  mode: z.enum(['governance', 'compliance']).default('governance'),
  minDays: days.default(7),
  maxDays: days.default(365),
  /** Of compliance: the days to change one's mind in. https://docs.aws.amazon.com/aws-backup/latest/devguide/vault-lock.html */
  changeableForDays: z.int().min(3).max(36_500).optional(),
  /** Of compliance: `nobody can delete these backups, and nobody can undo this`. */
  consent: z.string().optional(),
});

const vault = z
  .strictObject({
    account: accountId,
    region: regionName,
    lock: lock.prefault({}),
    /** What the vault of the source account takes. Its lock is always governance. */
    sourceLock: z.strictObject({ minDays: days.default(7), maxDays: days.default(365) }).prefault({}),
    /** A logically air-gapped vault beside: always compliance. */
    airGapped: z
      .strictObject({ minDays: z.int().min(7).max(36_500).default(7), maxDays: days.default(365), consent: z.string() })
      .optional(),
    plan: z
      .strictObject({
        /** When, in UTC, as EventBridge reads cron: `0 5 * * ? *`. */
        cron: cronFields.default('0 5 * * ? *'),
        /** In the source account. */
        deleteAfterDays: days.default(35),
        /** In the vault of the backup account. */
        copyDeleteAfterDays: days.default(90),
        /** Restoring to any second of the last days: 35 at most. 0: none. */
        continuousDays: z.int().min(0).max(36_500).default(0),
      })
      .prefault({}),
    /** Restores a backup by itself, to prove that it can be. */
    restoreTest: z.strictObject({ cron: cronFields.default('0 8 ? * SUN *') }).optional(),
  })
  .optional();

const PREFIX_EXPECTED = 'expected what names of repositories begin with, such as product/';
// patterns of RepositoryFilter, of CreateRepositoryCreationTemplate and of CreateRepository: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/
const repositoryPrefix = z
  .string()
  .min(2)
  .max(256)
  .regex(/^(?:[a-z0-9]+(?:[._-][a-z0-9]*)*\/)*[a-z0-9]*(?:[._-][a-z0-9]*)*$/, {
    error: PREFIX_EXPECTED,
    abort: true,
  })
  .regex(/^[a-z0-9]/, PREFIX_EXPECTED);
const NAME = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*)*';
const TEMPLATE_PREFIX_EXPECTED =
  'expected the first parts of the names of repositories, such as product for product/api and all others below it, or ROOT for all';
const templatePrefix = z
  .string(TEMPLATE_PREFIX_EXPECTED)
  .max(256)
  .regex(new RegExp(`^(?:ROOT|${NAME}/?)$`), TEMPLATE_PREFIX_EXPECTED);

const repository = z.strictObject({
  name: z
    .string()
    .min(2)
    .max(256)
    .regex(new RegExp(`^${NAME}$`), 'expected the name of a repository'),
  /**
   * `production`, the default: immutable tags, scan on push, the last 100 tagged images, untagged gone after a day. `testing`: mutable, all gone
   * after 7 days. Of one that exists: none, so that nothing in it expires but by what is said here.
   */
  shape: z.enum(['production', 'testing']).optional(),
  immutable: z.boolean().optional(),
  scanOnPush: z.boolean().optional(),
  /** Tagged images that are kept, the youngest ones. ECR takes this or `expireAfterDays`, not both. */
  keepLast: z.int().min(1).max(100_000).optional(),
  untaggedAfterDays: days.optional(),
  expireAfterDays: days.optional(),
  key: keyArn.optional(),
  /** Accounts that may pull. */
  pullAccounts: z.array(accountId).default([]),
  /** It is there already: only its policies are set, and of these only what is said here. */
  existing: z.boolean().default(false),
  tags: tagValues.default({}),
});

type Repository = z.infer<typeof repository>;

const registries = z
  .strictObject({
    repositories: z.array(repository).default([]),
    replication: z
      .array(
        z.strictObject({
          region: regionName,
          /** Default: this account. */
          account: accountId.optional(),
          /** Names that begin so; empty: all. */
          prefixes: z.array(repositoryPrefix).default([]),
        }),
      )
      .default([]),
    /** Settings of repositories that replication, or a push, creates: by prefix, `ROOT` for all. */
    templates: z
      .array(
        z.strictObject({
          prefix: templatePrefix,
          appliedFor: eachOnce(z.enum(['REPLICATION', 'PULL_THROUGH_CACHE', 'CREATE_ON_PUSH'])).min(1),
          /** Default: yes, but where it is for a cache, which could never take up a tag that has moved. */
          immutable: z.boolean().optional(),
          keepLast: z.int().min(1).max(100_000).optional(),
          untaggedAfterDays: days.optional(),
          /** The template is for the region of its key alone. Absent: keys that AWS owns. */
          key: keyArn.optional(),
        }),
      )
      .default([]),
    /** Accounts whose registries may replicate into this one. */
    replicationSources: z
      .array(
        z.strictObject({
          account: accountId,
          /** Repositories whose names begin so; empty: all. */
          prefixes: z.array(repositoryPrefix).default([]),
        }),
      )
      .default([]),
    /** Who may assume a role: ARNs of principals. Nobody: there is no such role. */
    roles: z
      .strictObject({
        /** Pulls from the repositories that are not of shape `testing`. */
        pull: z.array(principalArn).default([]),
        /** Pushes to all repositories named. */
        push: z.array(principalArn).default([]),
        /** Deletes images of repositories of shape `testing`. */
        cleanUp: z.array(principalArn).default([]),
      })
      .prefault({}),
  })
  .optional();

export const infraSettings = z
  .strictObject({
    version: z.literal(1),
    account: accountId,
    region: regionName,
    /** What names begin with. */
    prefix: z
      .string()
      .regex(/^[a-z][a-z0-9-]{0,19}$/, 'expected up to 20 small letters, digits and "-"')
      .default('transship'),
    tags: tagValues.default({}),
    network,
    worker,
    /** Minutes between looks of the planner at the rules' schedules. */
    planEveryMinutes: z.int().min(1).max(60).default(5),
    /** `aws`: keys that AWS owns; `create`: a key of its own; or the ARN of a key. */
    encryption: z
      .union(
        [z.enum(['aws', 'create']), keyArn],
        'expected aws, create, or the ARN of a KMS key, by its id and not an alias',
      )
      .default('aws'),
    bucket,
    access,
    notifications: z
      .strictObject({
        emails: eachOnce(z.email('expected an e-mail address')).default([]),
        topics: eachOnce(
          z.string().regex(/^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[\w-]{1,256}$/, 'expected the ARN of a topic'),
        )
          .max(
            MAX_TOPICS,
            `an alarm has five actions, one of them our own topic: expected ${MAX_TOPICS} at the most; one topic can tell many`,
          )
          .default([]),
      })
      .prefault({}),
    alarms: z
      .strictObject({
        /** Where docs/runbook.md is to be read: alarms link to its chapters. */
        runbook: z.string().min(1).max(500).default('docs/runbook.md'),
        /** A rule is late when its last good copy is older. */
        ruleAgeHours: z
          .number()
          .positive()
          .max(24 * 36_500)
          .default(26),
        /** Pulls of one repository in five minutes that are unusual. 0: no alarm, which CloudWatch bills by the number of repositories. */
        pullsPerFiveMinutes: z.int().min(0).default(1000),
        /** Days without a backup that came to the backup account. 0: no alarm; CloudWatch looks back a week at most. */
        backupAgeDays: z.int().min(0).max(7).default(2),
        /** Growth of the archives in a day that is unusual. */
        growthGiBPerDay: z.number().positive().max(1_000_000_000).default(500),
      })
      .prefault({}),
    logRetentionDays: z
      .literal([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827])
      .default(90),
    /** Switches ECR's blob mounting on for the account and region: layers that another repository has are not sent again. */
    blobMounting: z.boolean().default(false),
    vault,
    registries,
  })
  .superRefine((s, context) => {
    const refuse = (path: readonly (string | number)[], message: string): void => {
      context.addIssue({ code: 'custom', path: [...path], message });
    };
    checkTags(s, refuse);
    checkNetwork(s, refuse);
    checkWorker(s, refuse);
    checkBucket(s, refuse);
    checkPartitions(s, refuse);
    checkVault(s, refuse);
    checkRepositories(s, refuse);
    checkReplication(s, refuse);
    checkTemplates(s, refuse);
    s.notifications.topics.forEach((topic, i) => {
      if (topic.split(':')[3] !== s.region)
        refuse(['notifications', 'topics', i], `alarms in ${s.region} tell topics of ${s.region} only`);
    });
  });

type Refuse = (path: readonly (string | number)[], message: string) => void;
type Parsed = Pick<
  z.infer<typeof infraSettings>,
  | 'access'
  | 'account'
  | 'bucket'
  | 'encryption'
  | 'network'
  | 'notifications'
  | 'region'
  | 'registries'
  | 'tags'
  | 'vault'
  | 'worker'
>;

/** 50 of most resources; CDK gives subnets three: https://docs.aws.amazon.com/tag-editor/latest/userguide/tagging.html */
const MAX_TAGS = 47;
const MAX_REPOSITORY_TAGS = 50;

function checkTags({ registries: r, tags }: Parsed, refuse: Refuse): void {
  const names = Object.keys(tags);
  if (names.length > MAX_TAGS)
    refuse(['tags'], `${names.length} tags are more than the ${MAX_TAGS} that every resource can have`);
  // https://docs.aws.amazon.com/IAM/latest/UserGuide/id_tags.html
  names.forEach((name, i) => {
    const twin = names.slice(0, i).find((other) => other.toLowerCase() === name.toLowerCase());
    if (twin !== undefined) refuse(['tags', name], `IAM takes it for the same as ${twin}: leave one of the two out`);
  });
  r?.repositories.forEach((repo, i) => {
    const all = new Set([...names, ...Object.keys(repo.tags)]).size;
    if (all > MAX_REPOSITORY_TAGS)
      refuse(
        ['registries', 'repositories', i, 'tags'],
        `with those of all resources it has ${all} tags, and ECR takes ${MAX_REPOSITORY_TAGS}`,
      );
  });
}

/** Of the subnet in each zone that has the NAT gateway, as network.ts has it: /27. */
const NAT_SUBNET_ADDRESSES = 32;
/** Of a subnet: https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html */
const MIN_SUBNET_ADDRESSES = 16;

function checkNetwork({ access: a, network: n, region, worker: w }: Parsed, refuse: Refuse): void {
  n.availabilityZones?.forEach((name, i) => {
    if (!name.startsWith(region)) refuse(['network', 'availabilityZones', i], `it is no zone of ${region}`);
  });
  if (n.type === 'existing') return;
  // https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html
  if (/^(?:0|127|169\.254|22[4-9]|2[3-5][0-9])\./.test(n.cidr))
    refuse(['network', 'cidr'], 'no VPC has such addresses: take some of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16');
  if (n.type === 'public') return;
  const zones = n.availabilityZones?.length ?? 2;
  const size = 2 ** (32 - Number(n.cidr.split('/')[1]));
  if (n.natGateways > 0 && size / zones - NAT_SUBNET_ADDRESSES < MIN_SUBNET_ADDRESSES)
    refuse(['network', 'cidr'], `it is too small for subnets in ${zones} zones`);
  if (n.natGateways > 0) return;
  const far = `there is no way out of ${region} with network.natGateways: 0`;
  a.repositories.forEach((some, i) => {
    if (some.region !== undefined && some.region !== region) refuse(['access', 'repositories', i, 'region'], far);
  });
  a.secrets.forEach((arn, i) => {
    if (regionOfArn(arn) !== region) refuse(['access', 'secrets', i], far);
  });
  if (w.image !== undefined && ECR_HOST.exec(w.image)?.[1] !== region)
    refuse(['worker', 'image'], `${far}: a task gets its image from ECR of ${region} only`);
}

/** The registry of an image of ECR, with its region. */
const ECR_HOST = /^[0-9]{12}\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\./;

function checkWorker({ worker: w }: Parsed, refuse: Refuse): void {
  const { cpu, image, memoryMiB, onDemandWeight, spotWeight } = w;
  // worker.ts lets a task pull what it knows by these, and ECS takes the one or the other: https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html
  if (
    image !== undefined &&
    ECR_HOST.test(image) &&
    !/^[^/]*\.amazonaws\.com(?:\.cn)?\/[^:@]+(?::[^:@]+|@[^@]+)$/.test(image)
  )
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

function checkBucket({ bucket: b, vault: v }: Parsed, refuse: Refuse): void {
  if (b.existing !== undefined && b.objectLock !== undefined)
    refuse(['bucket', 'objectLock'], 'is set where a bucket is created: this one exists already');
  if (b.existing !== undefined && b.name !== undefined)
    refuse(['bucket', 'name'], 'is of a bucket to create: this one exists already');
  // https://docs.aws.amazon.com/aws-backup/latest/devguide/s3-backups.html
  if (v !== undefined && (b.storageClass === 'GLACIER' || b.storageClass === 'DEEP_ARCHIVE')) {
    refuse(
      ['bucket', 'storageClass'],
      `AWS Backup leaves objects of ${b.storageClass} out without a word: take GLACIER_IR, STANDARD_IA, INTELLIGENT_TIERING or STANDARD, or leave the vault out`,
    );
  }
}

/** Characters of a list in JSON, each with so many more. */
function sizeOf(list: readonly string[], more: number): number {
  return list.reduce((sum, one) => sum + one.length + more, 0);
}

/** What is in another partition nothing here can reach: China and GovCloud are worlds of their own. */
function checkPartitions(s: Parsed, refuse: Refuse): void {
  const { access: a, encryption, notifications, region, registries: r, vault: v } = s;
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
  if (encryption.startsWith('arn:') && regionOfArn(encryption) !== region)
    refuse(['encryption'], `what is in ${region} is encrypted with a key of ${region}`);
  for (const name of ['roles', 'secrets', 'keys'] as const) a[name].forEach((one, i) => arn(['access', name, i], one));
  a.repositories.forEach((one, i) => place(['access', 'repositories', i, 'region'], one.region));
  notifications.topics.forEach((one, i) => arn(['notifications', 'topics', i], one));
  place(['vault', 'region'], v?.region);
  if (r === undefined) return;
  r.repositories.forEach((one, i) => arn(['registries', 'repositories', i, 'key'], one.key));
  r.templates.forEach((one, i) => arn(['registries', 'templates', i, 'key'], one.key));
  r.replication.forEach((one, i) => place(['registries', 'replication', i, 'region'], one.region));
  for (const name of ['pull', 'push', 'cleanUp'] as const)
    r.roles[name].forEach((one, i) => arn(['registries', 'roles', name, i], one));
}

/** One that CDK does not know yet is of the world that most are of. */
function partitionOf(region: string): string {
  return RegionInfo.get(region).partition ?? 'aws';
}

const CONSENT = 'nobody can delete these backups, and nobody can undo this';
/** https://docs.aws.amazon.com/aws-backup/latest/devguide/s3-backups.html */
const MAX_CONTINUOUS_DAYS = 35;

function checkVault({ account, region, vault: v }: Parsed, refuse: Refuse): void {
  if (v === undefined) return;
  const { lock: l, sourceLock, plan, airGapped } = v;
  if (v.account === account && v.region === region)
    refuse(
      ['vault', 'account'],
      `the archives are in ${region} of this account themselves: name another account, or another region at the least`,
    );
  if (sourceLock.minDays > sourceLock.maxDays)
    refuse(['vault', 'sourceLock', 'minDays'], `${sourceLock.minDays} is more than maxDays, ${sourceLock.maxDays}`);
  within(plan.deleteAfterDays, sourceLock, ['vault', 'plan', 'deleteAfterDays'], 'sourceLock', refuse);
  if (l.minDays > l.maxDays) refuse(['vault', 'lock', 'minDays'], `${l.minDays} is more than maxDays, ${l.maxDays}`);
  if (l.mode === 'compliance' && l.consent !== CONSENT)
    refuse(['vault', 'lock', 'consent'], `a compliance lock is for ever: say so with consent: "${CONSENT}"`);
  if (l.mode === 'compliance' && l.changeableForDays === undefined)
    refuse(
      ['vault', 'lock', 'changeableForDays'],
      'a compliance lock needs the days to change your mind in, 3 at least',
    );
  if (l.mode === 'governance' && l.changeableForDays !== undefined)
    refuse(
      ['vault', 'lock', 'changeableForDays'],
      'makes a lock one of compliance: leave it out, or say mode: compliance',
    );
  within(plan.copyDeleteAfterDays, l, ['vault', 'plan', 'copyDeleteAfterDays'], 'the lock', refuse);
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

/**
 * When the rule of continuous backups begins: every day, twelve hours from the periodic one. Where the starts of two rules overlap AWS Backup
 * takes one of them only, and a copy that belongs to the other is not made. Undefined: minutes or hours are not one number.
 * https://docs.aws.amazon.com/aws-backup/latest/devguide/plan-options-and-configuration.html
 */
export function continuousCron(cron: string): string | undefined {
  const [minute, hour] = cron.split(' ');
  if (!/^[0-9]{1,2}$/.test(minute ?? '') || !/^[0-9]{1,2}$/.test(hour ?? '')) return undefined;
  return `${minute} ${(Number(hour) + 12) % 24} * * ? *`;
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

function checkRepositories({ region, registries: r }: Parsed, refuse: Refuse): void {
  if (r === undefined) return;
  const { repositories, roles } = r;
  if ([repositories, r.replication, r.templates, r.replicationSources].every((list) => list.length === 0))
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
  repositories.forEach((repo, i) => {
    if (repo.pullAccounts.length > MAX_ACCOUNTS)
      refuse(['registries', 'repositories', i, 'pullAccounts'], tooManyAccounts(repo.pullAccounts));
    const at = (name: string): readonly (string | number)[] => ['registries', 'repositories', i, name];
    if (repositories.findIndex((other) => other.name === repo.name) < i)
      refuse(at('name'), 'is here twice: a repository has one policy');
    if (repo.keepLast !== undefined && repo.expireAfterDays !== undefined)
      refuse(
        at('expireAfterDays'),
        `cannot stand beside keepLast ${repo.keepLast}: ECR holds a tagged image to one rule of a lifecycle policy, so take one of the two`,
      );
    if (repo.key !== undefined && regionOfKey(repo.key) !== region)
      refuse(at('key'), `a repository in ${region} is encrypted with a key of ${region}`);
    if (repo.existing) {
      for (const name of ['immutable', 'scanOnPush', 'key'] as const)
        if (repo[name] !== undefined) refuse(at(name), NOT_OF_EXISTING);
      if (Object.keys(repo.tags).length > 0) refuse(at('tags'), NOT_OF_EXISTING);
    }
  });
  const admitted = r.replicationSources.map(
    ({ prefixes }) => STATEMENT_OF_SOURCE + sizeOf(prefixes, ARN_OF_REPOSITORIES),
  );
  if (admitted.reduce((sum, some) => sum + some, 0) > MAX_REGISTRY_POLICY)
    refuse(
      ['registries', 'replicationSources'],
      `${admitted.length} accounts with their prefixes are more than the policy of a registry has room for: give them fewer prefixes, or leave accounts out`,
    );
  for (const name of ['pull', 'push', 'cleanUp'] as const)
    if (sizeOf(roles[name], 3) > MAX_PRINCIPALS)
      refuse(
        ['registries', 'roles', name],
        `${roles[name].length} principals are more than the trust of a role has room for: name the root of an account, or roles that many may assume`,
      );
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
/** Characters of the principals of a role, whose trust policy has 2,048: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html */
const MAX_PRINCIPALS = 1900;

/** The name of a repository that exists for each of its policies that are set. */
function policiesOf({ name, shape, keepLast, untaggedAfterDays, expireAfterDays, pullAccounts }: Repository): string[] {
  const expires = [shape, keepLast, untaggedAfterDays, expireAfterDays].some((some) => some !== undefined);
  return [expires, pullAccounts.length > 0].flatMap((isSet) => (isSet ? [name] : []));
}

function tooManyAccounts(accounts: readonly string[]): string {
  return `${accounts.length} accounts are more than the ${MAX_ACCOUNTS} that a policy of ECR has room for`;
}

const NOT_OF_EXISTING = 'is set where a repository is created: this one exists already';

/** Where a key of KMS is, by its ARN. */
export function regionOfKey(arn: string): string | undefined {
  return regionOfArn(arn);
}

function regionOfArn(arn: string): string | undefined {
  return arn.split(':')[3];
}

// https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html
const MAX_REPLICATION_DESTINATIONS = 25;
/** 25 in some regions and on some pages; 10 is what every region has. */
const MAX_REPLICATION_RULES = 10;
const MAX_REPLICATION_FILTERS = 100;

function checkReplication({ account, region, registries: r }: Parsed, refuse: Refuse): void {
  const destinations = r?.replication ?? [];
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
  destinations.forEach((to, i) => {
    if (to.region === region && (to.account ?? account) === account)
      refuse(
        ['registries', 'replication', i, 'region'],
        `${region} of this account is where the images are: name another`,
      );
  });
}

function checkTemplates({ account, region, registries: r }: Parsed, refuse: Refuse): void {
  if (r === undefined) return;
  const { templates, replication } = r;
  const regions = new Set([
    region,
    ...replication.filter((to) => (to.account ?? account) === account).map((to) => to.region),
  ]);
  templates.forEach((template, i) => {
    const at = (name: string): readonly (string | number)[] => ['registries', 'templates', i, name];
    const place = template.key === undefined ? undefined : regionOfKey(template.key);
    if (place !== undefined && !regions.has(place))
      refuse(at('key'), `a template in ${place} would be for nothing here: the regions are ${[...regions].join(', ')}`);
    const twin = templates.findIndex(
      (other) =>
        // product and product/ are the same to ECR
        other.prefix.replace(/\/$/, '') === template.prefix.replace(/\/$/, '') &&
        (other.key === undefined || place === undefined || regionOfKey(other.key) === place),
    );
    if (twin < i) refuse(at('prefix'), 'is here twice: a registry has one template for a prefix');
  });
}

/** Settings that cannot be used: one line for each error. */
export class SettingsError extends Error {
  override readonly name = 'SettingsError';
}

/** More than any settings have; what is larger is another file. */
const MAX_BYTES = 256 * 1024;
/** Of lists and tags that are said once; more is there to fill the memory. */
const MAX_ALIASES = 1000;

/** Reads settings. Throws SettingsError naming each setting, its value and what is allowed. */
export function parseSettings(text: string, file: string): InfraSettings {
  const bytes = Buffer.byteLength(text);
  if (bytes > MAX_BYTES)
    throw new SettingsError(`${file}: it has ${bytes} bytes: expected settings, which have ${MAX_BYTES} at the most`);
  // keys of numbers, as of tags, are text; of lists and groups none are
  const document = parseDocument(text, { prettyErrors: true, stringKeys: true, logLevel: 'error' });
  // a warning is a tag of YAML that nobody knows, such as !Ref
  const [broken] = [...document.errors, ...document.warnings];
  if (broken?.code === 'MULTIPLE_DOCS')
    throw new SettingsError(`${file}: there is a second document, behind a line of ---: expected one`);
  if (broken?.code === 'NON_STRING_KEY')
    throw new SettingsError(`${file}: the name of a setting is a list or a group: expected text`);
  if (broken?.code === 'RESOURCE_EXHAUSTION') throw new SettingsError(`${file}: it is nested too deep to be settings`);
  if (broken !== undefined) throw new SettingsError(`${file}: ${broken.message.trim()}`);
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: MAX_ALIASES });
  } catch (cause) {
    // an alias of nothing, or of too much
    throw new SettingsError(`${file}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  if (value === null || value === undefined)
    throw new SettingsError(`${file}: the file is empty: expected version, account and region at the least`);
  const result = infraSettings.safeParse(value);
  if (result.success) return result.data;
  throw new SettingsError(result.error.issues.map((issue) => `${file}: ${describe(issue, value)}`).join('\n'));
}

/** Reads the settings of a file. */
export function readSettings(file: string): InfraSettings {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
    const why = code === 'ENOENT' ? '' : `: ${code}`;
    throw new SettingsError(
      `${file} cannot be read${why}: copy one of infra/examples/ and name it with TRANSSHIP_INFRA`,
      { cause },
    );
  }
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new SettingsError(`${file}: it is not UTF-8: save it so`, { cause });
  }
  return parseSettings(text, file);
}

function describe(issue: z.core.$ZodIssue, value: unknown): string {
  const path = issue.path.map(nameOf).join('.');
  if (issue.code === 'unrecognized_keys')
    return `${path === '' ? '' : `${path}: `}there is no setting ${issue.keys.map(quote).join(', ')} here`;
  if (issue.code === 'invalid_key') return `${path}: ${issue.issues[0]?.message ?? issue.message}`;
  let given = value;
  for (const name of issue.path)
    given = typeof given === 'object' && given !== null ? Reflect.get(given, name) : undefined;
  if (given === undefined && path !== '' && (issue.code === 'invalid_type' || issue.code === 'invalid_value'))
    return `${path}: it is missing`;
  const shown = given === undefined || (typeof given === 'object' && given !== null) ? '' : ` ${quote(given)}`;
  return `${path === '' ? 'the file' : path}${shown}: ${issue.message}`;
}

/** Of a setting as it is written; of a tag, which may be anything. */
function nameOf(step: PropertyKey): string {
  return /^[\w:/=+@. -]{1,128}$/.test(String(step)) ? String(step) : quote(String(step));
}

function range(from: number, to: number, by: number): readonly number[] {
  return Array.from({ length: (to - from) / by + 1 }, (_, i) => from + i * by);
}
