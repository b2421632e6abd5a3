import { Stack } from 'aws-cdk-lib';
import type { ITableV2 } from 'aws-cdk-lib/aws-dynamodb';
import type { Cluster, FargateService } from 'aws-cdk-lib/aws-ecs';
import { PolicyStatement, type Role } from 'aws-cdk-lib/aws-iam';
import type { IKey } from 'aws-cdk-lib/aws-kms';
import type { IBucket } from 'aws-cdk-lib/aws-s3';
import type { IQueue } from 'aws-cdk-lib/aws-sqs';
import { regionOf } from '../settings/arn.ts';
import { parseObjectPlace } from '../settings/object-place.ts';
import { inParts } from './parts.ts';
import type { InfraSettings } from '../settings/schema.ts';
import { acknowledgeWildcard } from '../synth/wildcards.ts';

/** The processes that have a role in the stacks; `restoreTest` verifies restore tests of the vault. People who type commands use their own permissions. */
export type Caller = 'worker' | 'planner' | 'cleaner' | 'restoreTest';

/**
 * The resource of a call. `uploads` are the unfinished uploads of a bucket, `registry` are all repositories of an account and Region, and
 * `account` is for actions without a resource in IAM. `workers` are the ECS services of the workers. `pruned…` are the objects and repositories that
 * prune rules may delete from, and the stores that they then write to. `archivedRepository` are repositories whose images may be restored from the
 * archive storage class and archived again. `scratchRepository` are repositories named like those of drills, `markedRepository` those of them that
 * have the tag of a drill. `restored…` are the buckets of restore tests and their objects, `restoreJob` the jobs of AWS Backup that made them.
 */
export type ResourceKind =
  | 'jobs'
  | 'requests'
  | 'largeJobs'
  | 'deadLetters'
  | 'table'
  | 'bucket'
  | 'uploads'
  | 'object'
  | 'registry'
  | 'repository'
  | 'archivedRepository'
  | 'prunedObject'
  | 'prunedStore'
  | 'prunedRepository'
  | 'scratchRepository'
  | 'markedRepository'
  | 'role'
  | 'secret'
  | 'task'
  | 'workers'
  | 'restoredBucket'
  | 'restoredObject'
  | 'restoreJob'
  | 'account';

interface Call {
  /** The actions of IAM that allow the call. */
  readonly actions: readonly string[];
  /** The processes that make the call, by its resource. Empty: only commands that people type make it. */
  readonly by: Readonly<Partial<Record<ResourceKind, readonly Caller[]>>>;
  /** The call is granted only where the settings allow `write`. */
  readonly writes?: true;
}

const BOTH: readonly Caller[] = ['worker', 'planner'];
const WORKER: readonly Caller[] = ['worker'];
const PLANNER: readonly Caller[] = ['planner'];
const CLEANER: readonly Caller[] = ['cleaner'];
const RESTORE_TEST: readonly Caller[] = ['restoreTest'];
const ALL: readonly Caller[] = ['worker', 'planner', 'cleaner'];

/**
 * Every AWS call that the code makes, and the IAM actions that it needs. `registry` are requests to `/v2/` of ECR, by their operation in
 * worker/registry/transport/layer.ts. test/infra/iam.test.ts compares this table with the source, with the calls that each process can reach in it,
 * and with the templates.
 *
 * https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
 */
export const CALLS: Readonly<Record<string, Call>> = {
  'sqs.ReceiveMessage': {
    actions: ['sqs:ReceiveMessage'],
    by: { jobs: WORKER, requests: WORKER, largeJobs: WORKER, deadLetters: PLANNER },
  },
  'sqs.DeleteMessageBatch': {
    actions: ['sqs:DeleteMessage'],
    by: { jobs: WORKER, requests: WORKER, largeJobs: WORKER, deadLetters: PLANNER },
  },
  'sqs.ChangeMessageVisibility': {
    actions: ['sqs:ChangeMessageVisibility'],
    by: { jobs: WORKER, requests: WORKER, largeJobs: WORKER, deadLetters: PLANNER },
  },
  'sqs.SendMessageBatch': {
    actions: ['sqs:SendMessage'],
    by: { jobs: BOTH, largeJobs: BOTH, deadLetters: WORKER },
  },
  'sqs.GetQueueAttributes': {
    actions: ['sqs:GetQueueAttributes'],
    by: { jobs: BOTH, requests: BOTH, largeJobs: BOTH, deadLetters: BOTH },
  },

  'dynamodb.GetItem': { actions: ['dynamodb:GetItem'], by: { table: ALL } },
  'dynamodb.BatchGetItem': { actions: ['dynamodb:BatchGetItem'], by: { table: ALL } },
  'dynamodb.UpdateItem': { actions: ['dynamodb:UpdateItem'], by: { table: ALL } },
  // IAM has no action for transactions: each update in a transaction needs the permission of an update
  'dynamodb.TransactWriteItems': { actions: ['dynamodb:UpdateItem'], by: { table: ALL } },
  // the command `import cuppett` reads the table of another tool
  'dynamodb.Scan': { actions: ['dynamodb:Scan'], by: {} },
  'dynamodb.Query': { actions: ['dynamodb:Query'], by: { table: ALL } },

  's3.GetObject': { actions: ['s3:GetObject'], by: { object: BOTH, restoredObject: RESTORE_TEST } },
  's3.HeadObject': { actions: ['s3:GetObject'], by: { object: ALL, restoredObject: RESTORE_TEST } },
  's3.ListObjectsV2': { actions: ['s3:ListBucket'], by: { bucket: ALL, restoredBucket: RESTORE_TEST } },
  // in a store that it prunes, the Cleaner writes its lock and index.json
  's3.PutObject': { actions: ['s3:PutObject'], by: { object: WORKER, prunedStore: CLEANER }, writes: true },
  's3.CreateMultipartUpload': { actions: ['s3:PutObject'], by: { object: WORKER }, writes: true },
  's3.UploadPart': { actions: ['s3:PutObject'], by: { object: WORKER }, writes: true },
  's3.UploadPartCopy': { actions: ['s3:GetObject', 's3:PutObject'], by: { object: WORKER }, writes: true },
  's3.CompleteMultipartUpload': { actions: ['s3:PutObject'], by: { object: WORKER }, writes: true },
  's3.AbortMultipartUpload': { actions: ['s3:AbortMultipartUpload'], by: { object: WORKER }, writes: true },
  's3.ListParts': { actions: ['s3:ListMultipartUploadParts'], by: { object: WORKER }, writes: true },
  's3.ListMultipartUploads': { actions: ['s3:ListBucketMultipartUploads'], by: { uploads: WORKER }, writes: true },

  // deletes the current version only: the bucket's lifecycle decides how long older versions are kept
  's3.DeleteObject': { actions: ['s3:DeleteObject'], by: { prunedObject: CLEANER } },
  's3.DeleteObjects': { actions: ['s3:DeleteObject'], by: { prunedObject: CLEANER } },

  'ecr.GetAuthorizationToken': { actions: ['ecr:GetAuthorizationToken'], by: { account: BOTH } },
  // a list of all repositories has all of them as its resource
  'ecr.DescribeRepositories': { actions: ['ecr:DescribeRepositories'], by: { registry: ALL } },
  'ecr.DescribeImages': { actions: ['ecr:DescribeImages'], by: { repository: ALL } },
  'ecr.BatchGetImage': { actions: ['ecr:BatchGetImage'], by: { repository: CLEANER } },
  'ecr.BatchDeleteImage': { actions: ['ecr:BatchDeleteImage'], by: { prunedRepository: CLEANER } },
  'ecr.DeleteRepository': { actions: ['ecr:DeleteRepository'], by: { markedRepository: CLEANER } },
  'ecr.ListTagsForResource': {
    actions: ['ecr:ListTagsForResource'],
    by: { repository: BOTH, scratchRepository: CLEANER },
  },
  'ecr.GetLifecyclePolicy': { actions: ['ecr:GetLifecyclePolicy'], by: { repository: BOTH } },
  'ecr.GetRepositoryPolicy': { actions: ['ecr:GetRepositoryPolicy'], by: { repository: BOTH } },
  'ecr.CreateRepository': {
    actions: ['ecr:CreateRepository', 'ecr:TagResource'],
    by: { repository: WORKER },
    writes: true,
  },
  // only the command `restore` restores settings of repositories that exist
  'ecr.PutImageTagMutability': { actions: ['ecr:PutImageTagMutability'], by: {}, writes: true },
  'ecr.PutImageScanningConfiguration': { actions: ['ecr:PutImageScanningConfiguration'], by: {}, writes: true },
  'ecr.TagResource': { actions: ['ecr:TagResource'], by: {}, writes: true },
  'ecr.PutLifecyclePolicy': { actions: ['ecr:PutLifecyclePolicy'], by: { repository: WORKER }, writes: true },
  'ecr.SetRepositoryPolicy': { actions: ['ecr:SetRepositoryPolicy'], by: { repository: WORKER }, writes: true },

  // settings of a registry as a whole, which have no resource in IAM: backups into stores read them, and only the command `restore` sets them
  'ecr.DescribeRegistry': { actions: ['ecr:DescribeRegistry'], by: { account: WORKER } },
  'ecr.GetRegistryScanningConfiguration': {
    actions: ['ecr:GetRegistryScanningConfiguration'],
    by: { account: WORKER },
  },
  'ecr.DescribeRepositoryCreationTemplates': {
    actions: ['ecr:DescribeRepositoryCreationTemplates'],
    by: { account: WORKER },
  },
  'ecr.DescribePullThroughCacheRules': { actions: ['ecr:DescribePullThroughCacheRules'], by: { account: WORKER } },
  'ecr.GetSigningConfiguration': { actions: ['ecr:GetSigningConfiguration'], by: { account: WORKER } },
  'ecr.GetRegistryPolicy': { actions: ['ecr:GetRegistryPolicy'], by: { account: WORKER } },
  'ecr.GetAccountSetting': { actions: ['ecr:GetAccountSetting'], by: { account: WORKER } },
  'ecr.ListPullTimeUpdateExclusions': { actions: ['ecr:ListPullTimeUpdateExclusions'], by: { account: WORKER } },
  'ecr.PutAccountSetting': { actions: ['ecr:PutAccountSetting'], by: {}, writes: true },
  'ecr.PutRegistryScanningConfiguration': { actions: ['ecr:PutRegistryScanningConfiguration'], by: {}, writes: true },
  'ecr.PutSigningConfiguration': { actions: ['ecr:PutSigningConfiguration'], by: {}, writes: true },
  'ecr.CreateRepositoryCreationTemplate': { actions: ['ecr:CreateRepositoryCreationTemplate'], by: {}, writes: true },
  'ecr.UpdateRepositoryCreationTemplate': { actions: ['ecr:UpdateRepositoryCreationTemplate'], by: {}, writes: true },
  'ecr.CreatePullThroughCacheRule': { actions: ['ecr:CreatePullThroughCacheRule'], by: {}, writes: true },
  'ecr.UpdatePullThroughCacheRule': { actions: ['ecr:UpdatePullThroughCacheRule'], by: {}, writes: true },
  'ecr.RegisterPullTimeUpdateExclusion': { actions: ['ecr:RegisterPullTimeUpdateExclusion'], by: {}, writes: true },
  'ecr.PutReplicationConfiguration': { actions: ['ecr:PutReplicationConfiguration'], by: {}, writes: true },
  'ecr.PutRegistryPolicy': { actions: ['ecr:PutRegistryPolicy'], by: {}, writes: true },
  // for rules with `includeArchived`, and the command `backup --include-archived`
  'ecr.UpdateImageStorageClass': {
    actions: ['ecr:UpdateImageStorageClass'],
    by: { archivedRepository: WORKER },
  },

  // only the command `login` makes this call
  'registry sign-in': { actions: ['ecr:GetAuthorizationToken'], by: {} },
  'registry read-manifest': { actions: ['ecr:BatchGetImage'], by: { repository: BOTH } },
  'registry list-tags': { actions: ['ecr:ListImages'], by: { repository: BOTH } },
  'registry list-repositories': { actions: ['ecr:DescribeRepositories'], by: { registry: BOTH } },
  'registry read-blob': { actions: ['ecr:GetDownloadUrlForLayer'], by: { repository: WORKER } },
  'registry find-blob': { actions: ['ecr:BatchCheckLayerAvailability'], by: { repository: WORKER } },
  'registry begin-upload': { actions: ['ecr:InitiateLayerUpload'], by: { repository: WORKER }, writes: true },
  'registry mount-blob': {
    actions: ['ecr:InitiateLayerUpload', 'ecr:GetDownloadUrlForLayer'],
    by: { repository: WORKER },
    writes: true,
  },
  'registry upload-blob': {
    actions: ['ecr:UploadLayerPart', 'ecr:CompleteLayerUpload'],
    by: { repository: WORKER },
    writes: true,
  },
  'registry delete-manifest': { actions: ['ecr:BatchDeleteImage'], by: { prunedRepository: CLEANER } },
  'registry write-manifest': { actions: ['ecr:PutImage'], by: { repository: WORKER }, writes: true },

  'ecr-public.GetAuthorizationToken': {
    actions: ['ecr-public:GetAuthorizationToken', 'sts:GetServiceBearerToken'],
    by: { account: BOTH },
  },
  'sts.AssumeRole': { actions: ['sts:AssumeRole'], by: { role: ALL } },
  'secretsmanager.GetSecretValue': { actions: ['secretsmanager:GetSecretValue'], by: { secret: ALL } },
  // only commands sign snapshots and check their signatures
  'kms.Sign': { actions: ['kms:Sign'], by: {} },
  'kms.GetPublicKey': { actions: ['kms:GetPublicKey'], by: {} },
  'ecs.UpdateTaskProtection': { actions: ['ecs:UpdateTaskProtection'], by: { task: WORKER } },
  // the planner starts a worker at once when none is running
  'ecs.DescribeServices': { actions: ['ecs:DescribeServices'], by: { workers: PLANNER } },
  'ecs.UpdateService': { actions: ['ecs:UpdateService'], by: { workers: PLANNER } },

  'backup.PutRestoreValidationResult': {
    actions: ['backup:PutRestoreValidationResult'],
    by: { restoreJob: RESTORE_TEST },
  },
};

/** Actions that services take with a customer managed key on behalf of the process that calls them. No call of the code has these names. */
export const KEY_ACTIONS = {
  /**
   * For the key of the stack. S3 and SQS need Decrypt and GenerateDataKey, DynamoDB needs all of them.
   * https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/encryption.usagenotes.html
   */
  own: ['kms:Decrypt', 'kms:DescribeKey', 'kms:Encrypt', 'kms:GenerateDataKey', 'kms:ReEncryptFrom', 'kms:ReEncryptTo'],
  read: ['kms:Decrypt'],
  /** Includes what ECR needs to create a repository with a key, for which it keeps a grant: https://docs.aws.amazon.com/AmazonECR/latest/userguide/encryption-at-rest.html */
  write: ['kms:GenerateDataKey', 'kms:DescribeKey', 'kms:CreateGrant', 'kms:RetireGrant'],
} as const satisfies Readonly<Record<string, readonly string[]>>;

/** The resources of a process. The Cleaner reaches no queue, and only the buckets of `access`; the other processes reach nothing of `prune`. */
export interface Reach {
  readonly jobs: IQueue;
  readonly requests: IQueue;
  /** @default all workers are alike */
  readonly largeJobs?: IQueue | undefined;
  readonly deadLetters: IQueue;
  readonly table: ITableV2;
  readonly bucket: IBucket;
  /** The bucket is not part of this stack: its key, if it has one, is in `access.keys`. */
  readonly bucketExists: boolean;
  /** The key of the stack's own resources. @default keys that AWS owns */
  readonly key?: IKey | undefined;
  readonly access: InfraSettings['access'];
  /** What the Cleaner may delete, and the roles and secrets that it needs. @default nothing */
  readonly prune?: InfraSettings['prune'];
  /** The cluster whose tasks protect themselves. @default none */
  readonly cluster?: Cluster | undefined;
  /** The services whose number of tasks the planner sets. @default none */
  readonly workers?: readonly FargateService[] | undefined;
}

/** The actions that the most permissive settings allow workers on these resources: the endpoints of their network admit these. */
export function workerActionsOn(...resources: readonly ResourceKind[]): string[] {
  return sorted(resources.flatMap((kind) => actionsOf('worker', kind, 'write')));
}

/** The actions that the verification of restore tests may take on these resources. */
export function restoreTestActionsOn(kind: ResourceKind): string[] {
  return actionsOf('restoreTest', kind, 'read');
}

/** The actions that one process may take on a resource. */
function actionsOf(caller: Caller, kind: ResourceKind, allow: 'read' | 'write'): string[] {
  return sorted(
    Object.values(CALLS).flatMap(({ actions, by, writes = false }) =>
      by[kind]?.includes(caller) === true && (!writes || allow === 'write') ? actions : [],
    ),
  );
}

/** The reason for each wildcard in a policy. test/infra/iam.test.ts checks that there are no others. */
const WILDCARDS: Readonly<Partial<Record<ResourceKind, string>>> = {
  object: 'The objects of one bucket, below a prefix where the settings have one.',
  registry: 'A list of repositories has all repositories of the account and Region as its resource.',
  repository: 'The settings name the repositories by a pattern.',
  archivedRepository: 'The settings name the repositories whose archived images may be restored by a pattern.',
  prunedStore: 'The locks of a store that prune rules may delete from.',
  prunedObject: 'The archives below the prefixes that the settings name for prune rules.',
  scratchRepository: 'Drills name their scratch repositories when they create them.',
  markedRepository:
    'Drills name their scratch repositories when they create them. A condition requires the tag of a drill.',
  prunedRepository: 'The settings name the repositories that prune rules may delete from by a pattern.',
  task: 'ECS names tasks when it starts them. The ARN covers those of the cluster of this stack.',
  account:
    'Tokens have no resource, and give access only to what another statement allows. Settings of a registry have no resource either, and are only read.',
};

/**
 * Characters of the ARNs in one statement. CDK moves whole statements that are too much for a role into managed policies, and IAM accepts 6,144
 * characters in each of those: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
 */
const ARNS_IN_STATEMENT = 4000;

/** The tag of a drill's scratch repositories. It is the same as in worker/images/scratch-mark.ts, as test/infra/safety.test.ts checks. */
const MARK_TAG = 'transship-drill';

type Grant = (
  kind: ResourceKind,
  allow: 'read' | 'write',
  resources: readonly string[],
  conditions?: PolicyStatement['conditions'],
) => void;

/** Grants the role the calls of the process, resource by resource. */
export function grantCalls(role: Role, caller: Caller, reach: Reach): void {
  const { access, bucket, bucketExists, cluster, deadLetters, jobs, key, largeJobs, prune, requests, table } = reach;
  const stack = Stack.of(role);
  const grant: Grant = (kind, allow, resources, conditions = {}) => {
    const actions = actionsOf(caller, kind, allow);
    if (actions.length === 0 || resources.length === 0) return;
    for (const some of inParts(resources, ARNS_IN_STATEMENT))
      role.addToPolicy(new PolicyStatement({ actions, resources: some, conditions }));
    for (const resource of resources) acknowledgeWildcard(role, resource, WILDCARDS[kind] ?? '');
  };

  grant('jobs', 'write', [jobs.queueArn]);
  grant('requests', 'write', [requests.queueArn]);
  if (largeJobs !== undefined) grant('largeJobs', 'write', [largeJobs.queueArn]);
  grant('deadLetters', 'write', [deadLetters.queueArn]);
  grant('table', 'write', [table.tableArn]);
  grant('bucket', 'write', [bucket.bucketArn]);
  grant('uploads', 'write', [bucket.bucketArn]);
  grant('object', 'write', [bucket.arnForObjects('*')]);
  if (cluster !== undefined) grant('task', 'write', [cluster.arnForTasks('*')]);
  for (const service of reach.workers ?? []) grant('workers', 'write', [service.serviceArn], onlyTasks(stack, service));
  grantBuckets(stack, grant, access.buckets);
  if (caller === 'cleaner') {
    if (prune !== undefined) grantPruning(stack, grant, prune, bucket);
  } else {
    grantRepositories(stack, grant, access.repositories);
    grant('role', 'write', access.roles);
    grant('secret', 'write', access.secrets);
  }
  // tokens and settings of a registry have no resource in IAM: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html
  grant('account', 'write', ['*']);

  if (key !== undefined) grantKeys(role, [key.keyArn], KEY_ACTIONS.own, stack.region);
  const writes =
    caller === 'worker' &&
    (bucketExists || [...access.buckets, ...access.repositories].some((one) => one.allow === 'write'));
  for (const arn of access.keys)
    grantKeys(role, [arn], [...KEY_ACTIONS.read, ...(writes ? KEY_ACTIONS.write : [])], regionOf(arn) ?? '');
}

/**
 * Restricts UpdateService to the number of tasks: it could also run another task definition, or open a shell in tasks.
 * https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerservice.html
 */
function onlyTasks(stack: Stack, { taskDefinition }: FargateService): PolicyStatement['conditions'] {
  const resourceName = `${taskDefinition.family}:*`;
  return {
    ArnLikeIfExists: {
      'ecs:task-definition': stack.formatArn({ service: 'ecs', resource: 'task-definition', resourceName }),
    },
    StringNotEqualsIfExists: { 'ecs:enable-execute-command': 'true' },
  };
}

function grantBuckets(
  { partition }: Stack,
  grant: Grant,
  buckets: readonly { readonly name: string; readonly prefix: string; readonly allow: 'read' | 'write' }[],
): void {
  for (const { name, prefix, allow } of buckets) {
    const arn = `arn:${partition}:s3:::${name}`;
    // this also refuses a list without a prefix; for a missing key, S3 still answers 404, because it takes the key as the prefix:
    // https://github.com/ceph/ceph/pull/68577, https://github.com/kopia/kopia/pull/3072
    grant('bucket', allow, [arn], prefix === '' ? {} : { StringLike: { 's3:prefix': `${prefix}*` } });
    // IAM has no condition on their prefix: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html
    grant('uploads', allow, [arn]);
    grant('object', allow, [`${arn}/${prefix}*`]);
  }
}

function grantRepositories(
  stack: Stack,
  grant: Grant,
  repositories: readonly (Pruned['repositories'][number] & {
    readonly allow: 'read' | 'write';
    readonly restoreArchived?: boolean | undefined;
  })[],
): void {
  for (const { account = stack.account, region = stack.region, names, allow, restoreArchived } of repositories) {
    const registry = `arn:${stack.partition}:ecr:${region}:${account}:repository/`;
    const arns = names.map((name) => `${registry}${name}`);
    grant('registry', allow, [`${registry}*`]);
    grant('repository', allow, arns);
    if (restoreArchived === true) grant('archivedRepository', allow, arns);
  }
}

type Pruned = NonNullable<InfraSettings['prune']>;

/** Grants reading and deleting what prune rules may delete: images by their digest or tag, and the current version of objects, never an older one. */
function grantPruning(
  stack: Stack,
  grant: Grant,
  { prefixes, repositories, roles, scratch, secrets, stores }: Pruned,
  own: IBucket,
): void {
  grantRepositories(
    stack,
    grant,
    repositories.map((some) => ({ ...some, allow: 'read' })),
  );
  for (const { account = stack.account, region = stack.region, names } of repositories)
    grant(
      'prunedRepository',
      'write',
      names.map((name) => `arn:${stack.partition}:ecr:${region}:${account}:repository/${name}`),
    );
  for (const { account = stack.account, region = stack.region, prefixes: names } of scratch) {
    const registry = `arn:${stack.partition}:ecr:${region}:${account}:repository/`;
    const arns = names.map((name) => `${registry}${name}/transship-drill-*`);
    grant('registry', 'read', [`${registry}*`]);
    grant('scratchRepository', 'write', arns);
    // https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-supported-iam-actions-tagging.html
    grant('markedRepository', 'write', arns, { Null: { [`aws:ResourceTag/${MARK_TAG}`]: 'false' } });
  }
  const places = [...prefixes, ...stores].map(parseObjectPlace);
  grantBuckets(
    stack,
    grant,
    places.flatMap(({ bucket, prefix }) => (bucket === undefined ? [] : [{ name: bucket, prefix, allow: 'read' }])),
  );
  grant(
    'prunedObject',
    'write',
    places.map(({ bucket, prefix }) =>
      bucket === undefined ? own.arnForObjects(`${prefix}*`) : `arn:${stack.partition}:s3:::${bucket}/${prefix}*`,
    ),
  );
  const written = stores
    .map(parseObjectPlace)
    .flatMap(({ bucket, prefix }) =>
      ['locks/*', 'index.json'].map((name) =>
        bucket === undefined
          ? own.arnForObjects(prefix + name)
          : `arn:${stack.partition}:s3:::${bucket}/${prefix}${name}`,
      ),
    );
  grant('prunedStore', 'write', written);
  grant('role', 'write', roles);
  grant('secret', 'write', secrets);
}

/** Grants use of the keys through services only, never directly. */
export function grantKeys(role: Role, keys: readonly string[], actions: readonly string[], region: string): void {
  const { urlSuffix } = Stack.of(role);
  const services = ['dynamodb', 'ecr', 's3', 'secretsmanager', 'sqs'].map((name) => `${name}.${region}.${urlSuffix}`);
  role.addToPolicy(
    new PolicyStatement({
      actions: [...actions],
      resources: [...keys],
      conditions: { StringEquals: { 'kms:ViaService': services } },
    }),
  );
}

function sorted(actions: readonly string[]): string[] {
  return [...new Set(actions)].toSorted();
}
