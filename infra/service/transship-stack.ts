import { Fn, RemovalPolicy, Stack, type StackProps } from 'aws-cdk-lib';
import { LogGroup } from 'aws-cdk-lib/aws-logs';
import type { Construct } from 'constructs';
import { BackupPlanOfArchives } from '../backup/backup-plan.ts';
import type { Reach } from './grants.ts';
import { Cleaner } from './cleaner.ts';
import { Monitoring } from '../monitoring/monitoring.ts';
import { Network } from './network.ts';
import { addOutputs } from './outputs.ts';
import { Planner } from './planner.ts';
import { Queues } from './queue.ts';
import { encryptLogs } from '../synth/log-key.ts';
import { sdkCalls } from '../synth/sdk-calls.ts';
import type { InfraSettings } from '../settings/schema.ts';
import { accessOf, publishedFrom } from './publish-sources.ts';
import { Storage } from './storage.ts';
import { acknowledgeWildcard } from '../synth/wildcards.ts';
import { Workers } from './worker.ts';

export interface TransshipStackProps extends StackProps {
  /** All of them: this stack has all but what is of other accounts and regions, and of registries. */
  readonly settings: InfraSettings;
}

/** The running system: what it keeps, its queues, the planner, the workers, the Cleaner where there is one, and what watches over them. */
export class TransshipStack extends Stack {
  constructor(scope: Construct, id: string, props: TransshipStackProps) {
    super(scope, id, props);
    const { settings } = props;
    const { prefix } = settings;
    const access = accessOf(settings);
    const logRetention = settings.logRetentionDays;
    const storage = new Storage(this, 'Storage', settings);
    const { bucket, key, table } = storage;
    if (settings.vault !== undefined)
      new BackupPlanOfArchives(this, 'Backups', {
        bucket: storage.bucket,
        prefix: settings.prefix,
        vault: settings.vault,
      });
    const queues = new Queues(this, 'Queues', {
      key,
      repositories: access.repositories,
      objects: publishedFrom(settings, bucket.bucketName),
    });
    const { deadLetters, jobs, requests, undelivered } = queues;
    const bucketExists = settings.bucket.existing !== undefined;
    const reach: Reach = { jobs, requests, deadLetters, table, bucket, bucketExists, key, access };
    // the names are those that worker/main/settings.ts reads
    const environment = {
      TRANSSHIP_QUEUE_URL: jobs.queueUrl,
      TRANSSHIP_REQUEST_QUEUE_URL: requests.queueUrl,
      TRANSSHIP_DEAD_LETTER_QUEUE_URL: deadLetters.queueUrl,
      TRANSSHIP_TABLE: table.tableName,
    };
    const ofRequests = {
      ...environment,
      TRANSSHIP_ALLOW: targetsOf(access, this.account, bucket.bucketName).join(','),
    };
    const planning = { TRANSSHIP_LOOK_EVERY_HOURS: String(settings.lookEveryHours) };
    const network = new Network(this, 'Network', { network: settings.network, access, bucket, table, logRetention });
    const workers = new Workers(this, 'Workers', {
      prefix,
      worker: settings.worker,
      network,
      reach,
      environment: { ...ofRequests, ...planning },
      logRetention,
    });
    const ofWorkers = { TRANSSHIP_SERVICE: workers.service.serviceArn };
    const planner = new Planner(this, 'Planner', {
      prefix,
      everyMinutes: settings.planEveryMinutes,
      reach: { ...reach, workers: workers.service },
      environment: { ...environment, ...planning, ...ofWorkers, TRANSSHIP_LOG_LEVEL: settings.worker.logLevel },
      undelivered,
      logRetention,
    });
    const cleaner =
      settings.prune === undefined
        ? undefined
        : new Cleaner(this, 'Cleaner', {
            prefix,
            reach: { ...reach, access: settings.access, prune: settings.prune },
            // it opens no queue
            environment: { TRANSSHIP_TABLE: table.tableName, TRANSSHIP_LOG_LEVEL: settings.worker.logLevel },
            undelivered,
            logRetention,
          });
    new Monitoring(this, 'Monitoring', {
      settings,
      jobs,
      requests,
      deadLetters,
      undelivered,
      table,
      bucket,
      planner: planner.function,
      cleaner: cleaner?.function,
      service: workers.service,
      logs: [planner.logGroup, workers.logGroup],
    });
    if (settings.blobMounting) mountBlobs(this, logRetention);
    addOutputs(this, {
      environment: { ...ofRequests, ...ofWorkers },
      capacity: workers.capacity,
      bucket,
      access,
      workerLogs: workers.logGroup,
      plannerLogs: planner.logGroup,
      cleanerLogs: cleaner?.logGroup,
    });
    encryptLogs(this, settings.logKey);
  }

  /** Told by the region when it is deployed. Asking before that would need an account, and `a` of one account is not `a` of another. */
  override get availabilityZones(): string[] {
    return [0, 1, 2].map((i) => Fn.select(i, Fn.getAzs()));
  }
}

/** What the settings let workers write to, as TRANSSHIP_ALLOW names it: this account's ECR, the deployment's bucket, and what is open for writing. */
function targetsOf(
  { repositories, buckets }: InfraSettings['access'],
  account: string,
  bucket: string,
): readonly string[] {
  const opened = repositories.filter(({ allow }) => allow === 'write').map((some) => some.account ?? account);
  const names = [bucket, ...buckets.filter(({ allow }) => allow === 'write').map(({ name }) => name)];
  return [...new Set([account, ...opened]), ...names.map((name) => `s3://${name}`)];
}

/**
 * Of the account and region, which CloudFormation has no resource for. Left on when it is taken away, since others may count on it:
 * https://docs.aws.amazon.com/AmazonECR/latest/userguide/blob-mounting.html
 */
function mountBlobs(stack: Stack, retention: InfraSettings['logRetentionDays']): void {
  sdkCalls(stack, 'BlobMounting', {
    service: 'ecr',
    // a setting of the account has no resource
    resource: '*',
    physicalId: 'BLOB_MOUNTING',
    set: { action: 'PutAccountSetting', parameters: { name: 'BLOB_MOUNTING', value: 'ENABLED' } },
    logGroup: new LogGroup(stack, 'BlobMountingLogs', { retention, removalPolicy: RemovalPolicy.DESTROY }),
  });
  const setting = stack.node.findChild('BlobMounting');
  acknowledgeWildcard(setting, '*', 'ecr:PutAccountSetting has no resource: it is about the account.');
}
