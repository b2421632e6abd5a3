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

/** Ids of EC2. */
const idOf = (kind: string, what: string): z.ZodString =>
  z.string().regex(new RegExp(`^${kind}-(?:[0-9a-f]{8}|[0-9a-f]{17})$`), `expected the id of ${what}`);
/** Of whom a role trusts: a wildcard would be anybody. */
const principalArn = z
  .string()
  .regex(
    /^arn:aws[a-z-]*:iam::[0-9]{12}:(?:root|(?:user|role)\/[\w+=,.@/-]+)$/,
    "expected the ARN of a role or a user, or of an account's root",
  );
/** Of whom a denial excepts: `*` stands for any characters of a name, such as those of a session. */
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
// what IAM, ECS and others have in common, but that CloudFormation takes no empty value for an alarm: https://docs.aws.amazon.com/tag-editor/latest/userguide/tagging.html
const TAG_KEY_EXPECTED =
  'expected the key of a tag: up to 128 letters, digits, spaces and _ . : / = + - @, not beginning with aws:';
const TAG_VALUE_EXPECTED =
  'expected the value of a tag: 1 to 256 letters, digits, spaces and _ . : / = + - @, in quotes';
const tagValues = z.record(
  z.string().regex(/^(?!aws:)[\p{L}\p{Z}\p{N}_.:/=+@-]{1,128}$/iu, TAG_KEY_EXPECTED),
  z.string(TAG_VALUE_EXPECTED).regex(/^[\p{L}\p{Z}\p{N}_.:/=+@-]{1,256}$/u, TAG_VALUE_EXPECTED),
);

/** Jobs of a task that is stopped are given back within 20 seconds, all of them. */
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
    /** The first tasks run on demand: without one, a restore would wait for Spot capacity, which a Region may not have in a disaster. */
    onDemandBase: z.int().min(0).max(500).default(1),
    /** How the tasks above the base are spread over capacity: with weights 1 and 3, three of four tasks are Spot. */
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

/** Prefixes are in policies of roles and of an endpoint, and in patterns of EventBridge: each of these has a limit of its size. */
const MAX_PREFIXES = 50;

/** Of policies: what has a meaning there would be more than one prefix. */
const objectPrefix = z
  .string()
  .regex(/^[^*?$]*$/, 'expected what keys begin with, without wildcards')
  .default('');

/** Repositories by account, region and name. Without an account or a region: those of the deployment. */
const repositoriesOfEcr = {
  account: accountId.optional(),
  region: regionName.optional(),
  names: z.array(repositoryPattern).min(1),
};

/** What the worker may reach beside its own bucket: from these its role is made. */
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
      // of the policy of an endpoint, which has 20,480 characters: https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-endpoints-access.html
      .max(100)
      .default([]),
    /** Roles to assume, of other accounts' registries. */
    roles: z.array(roleArn).default([]),
    /** Secrets with credentials of registries. */
    secrets: z.array(secretArn).default([]),
    /** Customer keys that those buckets, repositories and secrets are encrypted with. */
    keys: z.array(keyArn).default([]),
  })
  .prefault({});

/**
 * What prune rules may delete: the role of the Cleaner is made from it, the only process that deletes anything. Without it there is no
 * Cleaner, and no process deletes anything.
 */
const prune = z
  .strictObject({
    /** Repositories of ECR whose images may be deleted. */
    repositories: z.array(z.strictObject(repositoriesOfEcr)).default([]),
    /** Where drills make scratch repositories, as a rule's `restoreTo` names it after the host. Those of drills that are over may be deleted. */
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
    /** Stores whose snapshots may be deleted, and what no snapshot needs: prefixes. The Cleaner writes its lock and the index there. */
    stores: eachOnce(objectPlace).max(MAX_PREFIXES).default([]),
    /** Roles that the Cleaner may assume, of other accounts' registries. */
    roles: eachOnce(roleArn).default([]),
    /** Secrets with credentials that may delete from registries other than ECR. */
    secrets: eachOnce(secretArn).default([]),
  })
  .optional();

/** Where objects come from that rules publish. */
const publish = z
  .strictObject({
    /** Workers may read them, and S3's events about them go to the queue through EventBridge. */
    prefixes: eachOnce(objectPlace).min(1).max(MAX_PREFIXES),
  })
  .optional();

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
        /** When backups move to the low-cost tier of AWS Backup: after 60 days at the least. Default: never. */
        tierAfterDays: z.int().min(60, 'AWS Backup moves nothing that is younger than 60 days').max(36_500).optional(),
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
   * `production`, the default: immutable tags, scan on push, the last 100 tagged images, untagged gone after a day. `testing`: mutable, scan on
   * push, all gone after 7 days. Of one that exists: none, so that nothing in it expires but by what is said here.
   */
  shape: z.enum(['production', 'testing']).optional(),
  immutable: z.boolean().optional(),
  scanOnPush: z.boolean().optional(),
  /** Tagged images that are kept, the youngest ones. ECR takes this or `expireAfterDays`, not both. */
  keepLast: z.int().min(1).max(100_000).optional(),
  untaggedAfterDays: days.optional(),
  expireAfterDays: days.optional(),
  /** Instead of the three, and of what its shape has: the whole lifecycle policy, in the order in which ECR holds images to its rules. */
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
  /** Accounts whose Lambda functions may have an image of it. */
  lambdaAccounts: z.array(accountId).default([]),
  /** Principals that alone may push; pushes of all others are denied, whatever else allows them. */
  pushOnly: eachOnce(principalPattern).max(MAX_EXCEPT).default([]),
  /** Principals that alone may delete images and the repository. */
  deleteOnly: eachOnce(principalPattern).max(MAX_EXCEPT).default([]),
  /** It is there already: only its policies are set, and of these only what is said here. */
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
  /** What a token is for, as the pipeline asks for it. */
  audience: z
    .string()
    .regex(/^[\w.:/-]{1,255}$/, 'expected the audience of a token, such as sts.amazonaws.com')
    .default('sts.amazonaws.com'),
  /** Which pipelines, as `sub` of their tokens names them. */
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
          /** Instead of the two: the whole lifecycle policy. */
          lifecycle: z.array(lifecycleRule).optional(),
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
          /** The Region of that account with its alarms, which is told what was replicated to here. */
          reportTo: regionName.optional(),
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
        /** Pipelines that may assume the role that pushes, by tokens of their provider (OpenID Connect). */
        pushFrom: z.array(pipelines).default([]),
        /** What the roles are called. Default: CloudFormation's names. */
        names: z
          .strictObject({ pull: roleName.optional(), push: roleName.optional(), cleanUp: roleName.optional() })
          .prefault({}),
        /** The longest session that may be asked for. */
        sessionHours: z.int().min(1).max(12).default(1),
      })
      .prefault({}),
  })
  .optional();

/** Each member by itself; settings-checks.ts has what several must fulfil together. docs/deployment.md describes every one. */
export const settingsSchema = z.strictObject({
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
  /** Hours between looks at each tag of a destination in a registry other than ECR. */
  lookEveryHours: z.int().min(0).max(720).default(24),
  /** `aws`: keys that AWS owns; `create`: a key of its own; or the ARN of a key. */
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
          `an alarm has five actions, one of them our own topic: expected ${MAX_TOPICS} at the most; one topic can tell many`,
        )
        .default([]),
    })
    .prefault({}),
  alarms: z
    .strictObject({
      /** Where docs/runbook.md is to be read: alarms link to its chapters. */
      runbook: z.string().min(1).max(500).default('docs/runbook.md'),
      /** A rule is late so long after its schedule asked for a run, when none has ended well: as long as a run takes, and some time more. */
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
      /** Days without a backup that came to the backup account. 0: no alarm; CloudWatch looks back a week at most. */
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
  /** Switches ECR's blob mounting on for the account and region: layers that another repository has are not sent again. */
  blobMounting: z.boolean().default(false),
  vault,
  registries,
});

/** What a deployment is. */
export type InfraSettings = z.infer<typeof settingsSchema>;
