import { z } from 'zod';
import { isCron } from './cron.ts';
import { lifecycleRule } from './lifecycle-rule.ts';
import { objectPlace } from './object-place.ts';
import {
  accountId,
  bucketName,
  days,
  eachOnce,
  keyArn,
  regionName,
  repositoryName,
  repositoryPattern,
  roleArn,
  secretArn,
} from './values.ts';

const CRON_EXPECTED =
  'expected minutes, hours, day of month, month, day of week and year, one of the two days being ?: such as 0 5 * * ? *';

/** An id of EC2. */
const idOf = (kind: string, what: string): z.ZodString =>
  z.string().regex(new RegExp(`^${kind}-(?:[0-9a-f]{8}|[0-9a-f]{17})$`), `expected the id of ${what}`);
/** The ARN of a principal that a role trusts. A wildcard would trust everyone. */
const principalArn = z
  .string()
  .regex(
    /^arn:aws[a-z-]*:iam::[0-9]{12}:(?:root|(?:user|role)\/[\w+=,.@/-]+)$/,
    "expected the ARN of a role or a user, or of an account's root",
  );
/** The ARN of a principal that a denial excludes: `*` stands for any characters of a name, such as those of a session. */
const principalPattern = z
  .string()
  .regex(
    /^arn:aws[a-z-]*:iam::[0-9]{12}:(?:root|(?:user|role)\/[\w+=,.@/*-]+)$/,
    'expected the ARN of a role or a user, in which * stands for any characters',
  );
/** Their ARNs share the policy of a repository with its accounts. */
const MAX_EXCEPT = 20;
const cronFields = z.string().refine(isCron, CRON_EXPECTED);
const CIDR_EXPECTED = 'expected a range of addresses of /16 to /24, such as 10.64.0.0/20';
const cidr = z
  .cidrv4({ error: CIDR_EXPECTED, abort: true })
  .refine((addresses) => /\/(?:1[6-9]|2[0-4])$/.test(addresses), CIDR_EXPECTED)
  .default('10.64.0.0/20');
const zone = z
  .string()
  .regex(/^[a-z]{2}(?:-[a-z]+)+-[0-9][a-z]$/, 'expected the name of an availability zone, such as us-east-1a');
// the characters that all services accept; a value is not empty because CloudFormation refuses empty ones for alarms: https://docs.aws.amazon.com/tag-editor/latest/userguide/tagging.html
const TAG_KEY_EXPECTED =
  'expected the key of a tag: up to 128 letters, digits, spaces and _ . : / = + - @, not beginning with aws:';
const TAG_VALUE_EXPECTED =
  'expected the value of a tag: 1 to 256 letters, digits, spaces and _ . : / = + - @, in quotes';
const tagValues = z.record(
  z.string().regex(/^(?!aws:)[\p{L}\p{Z}\p{N}_.:/=+@-]{1,128}$/iu, TAG_KEY_EXPECTED),
  z.string(TAG_VALUE_EXPECTED).regex(/^[\p{L}\p{Z}\p{N}_.:/=+@-]{1,256}$/u, TAG_VALUE_EXPECTED),
);

/** A task that is stopped returns all its jobs to the queue within 20 seconds. */
const MAX_SLOTS = 64;

// an alarm has five actions, and one is the topic of the stack: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
const MAX_TOPICS = 4;

const network = z
  .discriminatedUnion(
    'type',
    [
      z.strictObject({
        /** Creates a VPC with private subnets, gateway endpoints for S3 and DynamoDB, and interface endpoints for the other services. */
        type: z.literal('own'),
        cidr,
        availabilityZones: eachOnce(zone).min(2).max(6).optional(),
        /** NAT gateways, which workers need to reach registries outside AWS or in other Regions. */
        natGateways: z.int().min(0).max(3).default(1),
      }),
      z.strictObject({
        type: z.literal('existing'),
        vpcId: idOf('vpc', 'a VPC'),
        // https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_AwsVpcConfiguration.html
        subnetIds: eachOnce(idOf('subnet', 'a subnet')).min(1).max(16),
        availabilityZones: eachOnce(zone).min(1),
        /** Whether tasks get public addresses: required where the subnets are public and have no NAT gateway. */
        publicAddresses: z.boolean().default(false),
      }),
      z.strictObject({
        /** Creates a VPC with public subnets and without NAT, the cheapest network. Tasks have public addresses and admit no connections. */
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
    /** CPU units: 1024 units are one vCPU. */
    cpu: z.int().default(1024),
    memoryMiB: z.int().default(2048),
    architecture: z.enum(['arm64', 'x86_64']).default('arm64'),
    /** How many jobs a task runs at once. */
    slots: z.int().min(1).max(MAX_SLOTS).default(2),
    /** How many blobs a job copies at once. */
    concurrency: z.int().min(1).max(64).default(4),
    maxTasks: z.int().min(1).max(500).default(4),
    /** The first tasks run on demand: without one, a restore would wait for Spot capacity, which a Region may not have in a disaster. */
    onDemandBase: z.int().min(0).max(500).default(1),
    /** How the tasks above the base are spread over capacity: with weights 1 and 3, three of four tasks are Spot. */
    onDemandWeight: z.int().min(0).max(1000).default(0),
    spotWeight: z.int().min(0).max(1000).default(1),
    /** An image that exists already; absent: CDK builds it from the Dockerfile and pushes it. */
    image: z
      .string()
      .regex(/^[a-z0-9][\w.:/@-]*$/, 'expected an image, such as ghcr.io/owner/transship:1.0.0')
      .optional(),
    logLevel: z.enum(['debug', 'info', 'warn', 'error']).default('info'),
  })
  .prefault({});

/**
 * Copies of images above a size run on larger workers of their own, from a queue of their own, so that small copies do not wait for them. Without it
 * there is one kind of workers. Image, architecture and log level are those of `worker`.
 */
const largeJobs = z
  .strictObject({
    /** Images above this size are large. ECR lists sizes; that of another image is known when a worker has read its manifests. */
    aboveGiB: z.int().min(1).max(100_000).default(10),
    cpu: z.int().default(4096),
    memoryMiB: z.int().default(16_384),
    /** The disk of a task. Only compressed archives of other tools need it: they are unpacked there. */
    diskGiB: z.int().min(21).max(200).default(200),
    slots: z.int().min(1).max(MAX_SLOTS).default(1),
    concurrency: z.int().min(1).max(64).default(8),
    maxTasks: z.int().min(1).max(500).default(2),
    /** A large copy that Spot interrupts begins its current layer again, so by default all tasks run on demand. */
    onDemandBase: z.int().min(0).max(500).default(0),
    onDemandWeight: z.int().min(0).max(1000).default(1),
    spotWeight: z.int().min(0).max(1000).default(0),
  })
  .optional();

const bucket = z
  .strictObject({
    /** The name of a bucket that exists; absent: a bucket is created. */
    existing: bucketName.optional(),
    /** The name of the bucket that is created. Default: CloudFormation chooses it. */
    name: bucketName.optional(),
    /** The storage class of archives after 30 days. */
    storageClass: z
      .enum(['STANDARD', 'STANDARD_IA', 'INTELLIGENT_TIERING', 'GLACIER_IR', 'GLACIER', 'DEEP_ARCHIVE'])
      .default('STANDARD'),
    /** Days that replaced and deleted versions are kept. */
    keepOldVersionsDays: days.default(90),
    objectLock: z.strictObject({ mode: z.enum(['governance', 'compliance']), days }).optional(),
    /** S3 copies what is written from now on to this bucket, and deletes nothing there. It exists, keeps versions, and admits the role of the copies. */
    replicateTo: z
      .strictObject({
        name: bucketName,
        /** Default: this account. */
        account: accountId.optional(),
      })
      .optional(),
  })
  .prefault({});

/** Policies of roles, the policy of an endpoint and patterns of EventBridge contain the prefixes, and each has a limit of its size. */
const MAX_PREFIXES = 50;

/** A prefix for policies. A wildcard or a variable in it would match more than one prefix. */
const objectPrefix = z
  .string()
  .regex(/^[^*?$]*$/, 'expected the start of keys, without wildcards')
  .default('');

/** Repositories by account, region and name. Without an account or a region: those of the deployment. */
const repositoriesOfEcr = {
  account: accountId.optional(),
  region: regionName.optional(),
  names: z.array(repositoryPattern).min(1),
};

/** What workers and the planner may reach besides the deployment's own bucket. Their roles are made from it. */
const access = z
  .strictObject({
    /** Repositories of ECR, by account and region. */
    repositories: z
      .array(
        z.strictObject({
          ...repositoriesOfEcr,
          /** `write` includes `read`. */
          allow: z.enum(['read', 'write']),
          /** Workers may restore images from ECR's archive storage class and archive them again, for rules with `includeArchived`. */
          restoreArchived: z.boolean().optional(),
        }),
      )
      .default([]),
    buckets: z
      .array(z.strictObject({ name: bucketName, prefix: objectPrefix, allow: z.enum(['read', 'write']) }))
      // they have to fit into the policy of an endpoint, which may have 20,480 characters: https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-endpoints-access.html
      .max(100)
      .default([]),
    /** Roles to assume for registries of other accounts. */
    roles: z.array(roleArn).default([]),
    /** Secrets with credentials of registries. */
    secrets: z.array(secretArn).default([]),
    /** Customer managed keys of those buckets, repositories and secrets. */
    keys: z.array(keyArn).default([]),
  })
  .prefault({});

/**
 * What prune rules may delete. The role of the Cleaner is made from it, and no other process deletes anything. Without it there is no Cleaner.
 */
const prune = z
  .strictObject({
    /** Repositories of ECR whose images may be deleted. */
    repositories: z.array(z.strictObject(repositoriesOfEcr)).default([]),
    /** Where drills create scratch repositories: the part of a rule's `restoreTo` after the host. Those of finished drills may be deleted. */
    scratch: z
      .array(
        z.strictObject({
          account: accountId.optional(),
          region: regionName.optional(),
          prefixes: z.array(repositoryName).min(1),
        }),
      )
      .default([]),
    /** Archives that may be deleted. */
    prefixes: eachOnce(objectPlace).max(MAX_PREFIXES).default([]),
    /** Prefixes of stores whose snapshots, and blobs that no snapshot needs, may be deleted. The Cleaner writes its lock and the index there. */
    stores: eachOnce(objectPlace).max(MAX_PREFIXES).default([]),
    /** Roles that the Cleaner may assume for registries of other accounts. */
    roles: eachOnce(roleArn).default([]),
    /** Secrets with credentials that may delete from registries other than ECR. */
    secrets: eachOnce(secretArn).default([]),
  })
  .optional();

/** The objects that publish rules publish. */
const publish = z
  .strictObject({
    /** Workers may read these objects, and S3 sends events about them to the queue through EventBridge. */
    prefixes: eachOnce(objectPlace).min(1).max(MAX_PREFIXES),
  })
  .optional();

const lock = z.strictObject({
  /** A `governance` lock can be removed by principals that have the permission; a `compliance` lock by no one, AWS included, after `changeableForDays`. */
  mode: z.enum(['governance', 'compliance']).default('governance'),
  minDays: days.default(7),
  maxDays: days.default(365),
  /** For compliance: how many days the lock can still be changed. https://docs.aws.amazon.com/aws-backup/latest/devguide/vault-lock.html */
  changeableForDays: z.int().min(3).max(36_500).optional(),
  /** For compliance: `nobody can delete these backups, and nobody can undo this`. */
  consent: z.string().optional(),
});

const vault = z
  .strictObject({
    account: accountId,
    region: regionName,
    lock: lock.prefault({}),
    /** The retention that the vault of the source account accepts. Its lock is always governance. */
    sourceLock: z.strictObject({ minDays: days.default(7), maxDays: days.default(365) }).prefault({}),
    /** Adds a logically air-gapped vault, whose lock is always compliance. */
    airGapped: z
      .strictObject({ minDays: z.int().min(7).max(36_500).default(7), maxDays: days.default(365), consent: z.string() })
      .optional(),
    plan: z
      .strictObject({
        /** The start of backups in UTC, in the cron syntax of EventBridge: `0 5 * * ? *`. */
        cron: cronFields.default('0 5 * * ? *'),
        /** Days that backups are kept in the source account. */
        deleteAfterDays: days.default(35),
        /** Days that copies are kept in the vault of the backup account. */
        copyDeleteAfterDays: days.default(90),
        /** When backups move to the low-cost tier of AWS Backup: after at least 60 days. Default: never. */
        tierAfterDays: z.int().min(60, 'AWS Backup moves nothing that is younger than 60 days').max(36_500).optional(),
        /** The last days of which any second can be restored: 35 at most. 0: no continuous backups. */
        continuousDays: z.int().min(0).max(36_500).default(0),
      })
      .prefault({}),
    /** Restores a backup on a schedule, to prove that it can be restored. */
    restoreTest: z
      .strictObject({
        cron: cronFields.default('0 8 ? * SUN *'),
        /** Verifies what was restored, by a function, and records the result in AWS Backup. */
        verify: z.boolean().default(true),
      })
      .optional(),
  })
  .optional();

const PREFIX_EXPECTED = 'expected the start of repository names, such as product/';
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
   * `production`, the default: immutable tags, scan on push, keeps the last 100 tagged images, deletes untagged images after a day. `testing`:
   * mutable tags, scan on push, deletes all images after 7 days. A repository that exists has no shape by default: its images expire only by the
   * settings given here.
   */
  shape: z.enum(['production', 'testing']).optional(),
  immutable: z.boolean().optional(),
  scanOnPush: z.boolean().optional(),
  /** How many tagged images are kept, the youngest ones. ECR accepts this or `expireAfterDays`, not both. */
  keepLast: z.int().min(1).max(100_000).optional(),
  untaggedAfterDays: days.optional(),
  expireAfterDays: days.optional(),
  /** The whole lifecycle policy, instead of those three settings and of the shape's. Its rules are in the order in which ECR applies them. */
  lifecycle: z.array(lifecycleRule).optional(),
  key: keyArn.optional(),
  /** Accounts that may pull. */
  pullAccounts: z.array(accountId).default([]),
  /** Accounts that may push, and pull. */
  pushAccounts: z.array(accountId).default([]),
  /** Every principal of this organization may pull. */
  pullOrganization: z
    .string()
    .regex(/^o-[a-z0-9]{10,32}$/, 'expected the id of an organization, such as o-a1b2c3d4e5')
    .optional(),
  /** Accounts whose Lambda functions may use images of the repository. */
  lambdaAccounts: z.array(accountId).default([]),
  /** The only principals that may push; pushes of all others are denied, whatever else allows them. */
  pushOnly: eachOnce(principalPattern).max(MAX_EXCEPT).default([]),
  /** The only principals that may delete images and the repository. */
  deleteOnly: eachOnce(principalPattern).max(MAX_EXCEPT).default([]),
  /** The repository exists already: only its policies are set, and only those given here. */
  existing: z.boolean().default(false),
  tags: tagValues.default({}),
});

const roleName = z
  .string()
  .regex(/^[\w+=,.@-]{1,64}$/, 'expected the name of a role: up to 64 characters, without a path');

const pipelines = z.strictObject({
  /** Without `https://`: token.actions.githubusercontent.com, gitlab.com, or the host of your own GitLab. */
  issuer: z
    .string()
    .regex(
      /^[a-z0-9.-]+(?:\/[\w./-]*[\w-])?$/,
      'expected the host of a provider of tokens, such as token.actions.githubusercontent.com',
    ),
  /** The audience of a token, as the pipeline requests it. */
  audience: z
    .string()
    .regex(/^[\w.:/-]{1,255}$/, 'expected the audience of a token, such as sts.amazonaws.com')
    .default('sts.amazonaws.com'),
  /** The pipelines, as `sub` of their tokens names them. */
  subjects: eachOnce(
    z
      .string()
      .max(255)
      .regex(
        // every pipeline of a provider has tokens: up to the owner a subject names one
        /^[^*?]+[:/][^*?]+\/[^\s]+$/,
        'expected a subject that names an owner, such as repo:owner/name:ref:refs/heads/main, with no * before the first /',
      ),
  ).min(1),
  /** The account has the provider already. */
  existing: z.boolean().default(false),
});

const registries = z
  .strictObject({
    repositories: z.array(repository).default([]),
    replication: z
      .array(
        z.strictObject({
          region: regionName,
          /** Default: this account. */
          account: accountId.optional(),
          /** The start of the names of repositories; empty: all repositories. */
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
          /** Default: true, except for a pull through cache, which could otherwise never update a tag that moved. */
          immutable: z.boolean().optional(),
          keepLast: z.int().min(1).max(100_000).optional(),
          untaggedAfterDays: days.optional(),
          /** The whole lifecycle policy, instead of those two settings. */
          lifecycle: z.array(lifecycleRule).optional(),
          /** The template is only for the Region of its key. Absent: keys that AWS owns. */
          key: keyArn.optional(),
        }),
      )
      .default([]),
    /** Accounts whose registries may replicate into this one. */
    replicationSources: z
      .array(
        z.strictObject({
          account: accountId,
          /** The start of the names of repositories; empty: all repositories. */
          prefixes: z.array(repositoryPrefix).default([]),
          /** The Region of that account with its alarms, which gets the events about what was replicated to here. */
          reportTo: regionName.optional(),
        }),
      )
      .default([]),
    /** The ARNs of principals that may assume each role. A role without principals is not created. */
    roles: z
      .strictObject({
        /** Pulls from the repositories that are not of shape `testing`. */
        pull: z.array(principalArn).default([]),
        /** Pushes to all repositories above. */
        push: z.array(principalArn).default([]),
        /** Deletes images of repositories of shape `testing`. */
        cleanUp: z.array(principalArn).default([]),
        /** Pipelines that may assume the role that pushes, by tokens of their provider (OpenID Connect). */
        pushFrom: z.array(pipelines).default([]),
        /** The names of the roles. Default: CloudFormation chooses them. */
        names: z
          .strictObject({ pull: roleName.optional(), push: roleName.optional(), cleanUp: roleName.optional() })
          .prefault({}),
        /** The longest session that a caller may request. */
        sessionHours: z.int().min(1).max(12).default(1),
      })
      .prefault({}),
  })
  .optional();

/** Checks each setting by itself; checks.ts checks settings that depend on each other. docs/deployment.md describes every setting. */
export const settingsSchema = z.strictObject({
  version: z.literal(1),
  account: accountId,
  region: regionName,
  /** The start of every name. */
  prefix: z
    .string()
    .regex(/^[a-z][a-z0-9-]{0,19}$/, 'expected up to 20 small letters, digits and "-"')
    .default('transship'),
  tags: tagValues.default({}),
  network,
  /** The processes reach AWS at FIPS endpoints, which only some Regions have: fips.ts. */
  fips: z.boolean().default(false),
  worker,
  largeJobs,
  /** Minutes between two passes of the planner over the rules' schedules. */
  planEveryMinutes: z.int().min(1).max(60).default(5),
  /** Hours after which the tags of a destination in a registry other than ECR are read again. */
  lookEveryHours: z.int().min(0).max(720).default(24),
  /** `aws`: keys that AWS owns; `create`: the stack creates a key; or the ARN of a key. */
  encryption: z
    .union(
      [z.enum(['aws', 'create']), keyArn],
      'expected aws, create, or the ARN of a KMS key, by its id and not an alias',
    )
    .default('aws'),
  bucket,
  access,
  prune,
  publish,
  notifications: z
    .strictObject({
      emails: eachOnce(z.email('expected an e-mail address')).default([]),
      /** A customer's key for the topic, whose policy lets CloudWatch use it. Default: a key is created. */
      key: keyArn.optional(),
      topics: eachOnce(
        z.string().regex(/^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[\w-]{1,256}$/, 'expected the ARN of a topic'),
      )
        .max(
          MAX_TOPICS,
          `an alarm has five actions, one of them the stack's own topic: expected at most ${MAX_TOPICS}; one topic can notify many people`,
        )
        .default([]),
    })
    .prefault({}),
  alarms: z
    .strictObject({
      /** The URL of docs/runbook.md: alarms link to its chapters. */
      runbook: z.string().min(1).max(500).default('docs/runbook.md'),
      /** A rule is late this many hours after its schedule asked for a run, if none has ended well since: the time of a run, and some more. */
      ruleLateHours: z
        .number()
        .positive()
        .max(24 * 36_500)
        .default(2),
      /** A rule of kind `verify` is late when its last run without a finding is older. */
      verificationAgeHours: z
        .number()
        .positive()
        .max(24 * 36_500)
        .default(192),
      /** A rule whose runs are drills is late when its last run without a finding is older. */
      drillAgeHours: z
        .number()
        .positive()
        .max(24 * 36_500)
        .default(840),
      /** Pulls of one repository in five minutes that are unusual. 0: no alarm, which CloudWatch bills by the number of repositories. */
      pullsPerFiveMinutes: z.int().min(0).default(0),
      /** Days without a backup that reached the backup account. 0: no alarm. CloudWatch looks back a week at most. */
      backupAgeDays: z.int().min(0).max(7).default(2),
      /** Growth of the archives in a day that is unusual. */
      growthGiBPerDay: z.number().positive().max(1_000_000_000).default(500),
      /** Growth of the archives in a week that asks for a prune rule, or a better one. */
      growthGiBPerWeek: z.number().positive().max(1_000_000_000).default(1000),
      /** The size of one repository that is unusual. */
      repositoryGiB: z.number().positive().max(1_000_000_000).default(1000),
      /** Images and archives that prune rules delete in a day: more are unusual. */
      prunedPerDay: z.int().min(1).max(1_000_000_000).default(5000),
    })
    .prefault({}),
  logRetentionDays: z.literal([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827]).default(90),
  /** A customer's key for logs, whose policy lets CloudWatch Logs use it. Default: a key that AWS owns. */
  logKey: keyArn.optional(),
  /** Enables ECR's blob mounting for the account and Region: layers that another repository has are not sent again. */
  blobMounting: z.boolean().default(false),
  vault,
  registries,
});

/** The settings of a deployment. */
export type InfraSettings = z.infer<typeof settingsSchema>;
