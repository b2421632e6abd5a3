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
import { environmentOfFips } from '../settings/fips.ts';
import type { InfraSettings } from '../settings/schema.ts';
import { accessOf, publishedFrom } from './publish-sources.ts';
import { Storage } from './storage.ts';
import { acknowledgeWildcard } from '../synth/wildcards.ts';
import { addLargeWorkers, environmentOfLarge } from './large-workers.ts';
import { Workers } from './worker.ts';

export interface TransshipStackProps extends StackProps {
  /** All settings. This stack uses those that are not for other accounts and Regions, or for repositories. */
  readonly settings: InfraSettings;
}

/** The running system: storage, queues, the planner, the workers, the Cleaner where there is one, and monitoring. */
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
      large: settings.largeJobs !== undefined,
    });
    const { deadLetters, jobs, largeJobs, requests, undelivered } = queues;
    const bucketExists = settings.bucket.existing !== undefined;
    const reach: Reach = { jobs, requests, largeJobs, deadLetters, table, bucket, bucketExists, key, access };
    // worker/main/settings.ts reads these names
    const environment = {
      TRANSSHIP_QUEUE_URL: jobs.queueUrl,
      TRANSSHIP_REQUEST_QUEUE_URL: requests.queueUrl,
      TRANSSHIP_DEAD_LETTER_QUEUE_URL: deadLetters.queueUrl,
      TRANSSHIP_TABLE: table.tableName,
      ...environmentOfLarge(settings, largeJobs),
    };
    const ofRequests = {
      ...environment,
      TRANSSHIP_ALLOW: targetsOf(access, this.account, bucket.bucketName).join(','),
    };
    const planning = { TRANSSHIP_LOOK_EVERY_HOURS: String(settings.lookEveryHours) };
    const { fips } = settings;
    const ofSdk = environmentOfFips(settings);
    const ofNetwork = { network: settings.network, fips, access, bucket, table, logRetention };
    const network = new Network(this, 'Network', ofNetwork);
    const ofEachSize = { prefix, network, reach, environment: { ...ofRequests, ...planning, ...ofSdk }, logRetention };
    const workers = new Workers(this, 'Workers', {
      ...ofEachSize,
      worker: settings.worker,
      queues: { jobs, requests },
    });
    const large = addLargeWorkers(this, settings, { ...ofEachSize, largeJobs, others: workers });
    const ofWorkers = {
      TRANSSHIP_SERVICE: workers.service.serviceArn,
      ...(large === undefined ? {} : { TRANSSHIP_LARGE_SERVICE: large.service.serviceArn }),
    };
    const services = [workers, large].flatMap((some) => some?.service ?? []);
    const planner = new Planner(this, 'Planner', {
      prefix,
      everyMinutes: settings.planEveryMinutes,
      reach: { ...reach, workers: services },
      environment: {
        ...environment,
        ...planning,
        ...ofWorkers,
        ...ofSdk,
        TRANSSHIP_LOG_LEVEL: settings.worker.logLevel,
      },
      undelivered,
      logRetention,
    });
    const cleaner =
      settings.prune === undefined
        ? undefined
        : new Cleaner(this, 'Cleaner', {
            prefix,
            reach: { ...reach, access: settings.access, prune: settings.prune },
            // the Cleaner opens no queue
            environment: {
              ...ofSdk,
              TRANSSHIP_TABLE: table.tableName,
              TRANSSHIP_LOG_LEVEL: settings.worker.logLevel,
            },
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
      large: large === undefined || largeJobs === undefined ? undefined : { queue: largeJobs, service: large.service },
      logs: [planner.logGroup, workers.logGroup, ...(large === undefined ? [] : [large.logGroup])],
    });
    if (settings.blobMounting) mountBlobs(this, logRetention);
    addOutputs(this, {
      environment: { ...ofRequests, ...ofWorkers },
      capacity: workers.capacity,
      largeCapacity: large?.capacity,
      largeWorkerLogs: large?.logGroup,
      bucket,
      access,
      workerLogs: workers.logGroup,
      plannerLogs: planner.logGroup,
      cleanerLogs: cleaner?.logGroup,
    });
    encryptLogs(this, settings.logKey);
  }

  /** CloudFormation takes the zones of the Region at the deploy. A lookup before would need an account, and zone names differ between accounts. */
  override get availabilityZones(): string[] {
    return [0, 1, 2].map((i) => Fn.select(i, Fn.getAzs()));
  }
}

/** What the settings let workers write to, in the form of TRANSSHIP_ALLOW: ECR of this account, the deployment's bucket, and whatever allows `write`. */
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
 * Enables blob mounting for the account and Region, for which CloudFormation has no resource. It stays enabled when the setting is removed, since
 * other users of the account may rely on it:
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
  acknowledgeWildcard(setting, '*', 'ecr:PutAccountSetting has no resource: it is for the account.');
}
