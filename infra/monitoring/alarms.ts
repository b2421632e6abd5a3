import { Duration } from 'aws-cdk-lib';
import { ComparisonOperator, MathExpression, Metric, TreatMissingData, type IMetric } from 'aws-cdk-lib/aws-cloudwatch';
import type { ITable, ITableV2 } from 'aws-cdk-lib/aws-dynamodb';
import type { FargateService } from 'aws-cdk-lib/aws-ecs';
import type { IFunction } from 'aws-cdk-lib/aws-lambda';
import type { IBucket } from 'aws-cdk-lib/aws-s3';
import type { IQueue } from 'aws-cdk-lib/aws-sqs';
import type { AccountEvents } from './account-events.ts';
import { transshipMetric } from './metrics.ts';
import type { InfraSettings } from '../settings/schema.ts';

/** What is watched. */
export interface Watched {
  readonly settings: Pick<InfraSettings, 'alarms' | 'bucket' | 'planEveryMinutes' | 'vault'>;
  readonly jobs: IQueue;
  readonly requests: IQueue;
  readonly deadLetters: IQueue;
  readonly undelivered: IQueue;
  readonly table: ITable | ITableV2;
  readonly planner: IFunction;
  readonly service: FargateService;
  readonly bucket: IBucket;
  readonly events: AccountEvents;
}

export interface AlarmSpec {
  /** Of docs/runbook.md, as its heading is linked to. The alarm has its name. */
  readonly chapter: string;
  /** `high`: backups are missing, or will be. `medium`: somebody has to act within days. `low`: somebody may want to know. */
  readonly severity: 'high' | 'medium' | 'low';
  readonly text: string;
  readonly metric: IMetric;
  readonly threshold: number;
  /** @default at the threshold or above */
  readonly comparison?: ComparisonOperator;
  /** @default 1 */
  readonly periods?: number;
  /** Of the periods. @default all of them */
  readonly datapoints?: number;
  readonly missing: TreatMissingData;
}

const FIVE_MINUTES = Duration.minutes(5);
const HOUR = Duration.hours(1);
const DAY = Duration.days(1);
const GIB = 1024 ** 3;
const { GREATER_THAN_THRESHOLD, LESS_THAN_THRESHOLD } = ComparisonOperator;
const { BREACHING, IGNORE, NOT_BREACHING } = TreatMissingData;

/** With fewer jobs a rate says nothing, and each that failed is told as a dead letter. */
const JOBS_FOR_A_RATE = 10;

/** Every alarm. Scaling has two of its own, which tell nobody. */
export function alarmsOf(watched: Watched): readonly AlarmSpec[] {
  return [...ofCopies(watched), ...ofParts(watched), ...ofRegistries(watched), ...ofGrowth(watched)];
}

/** Whether everything is copied that should be. */
function ofCopies({ settings, deadLetters }: Watched): readonly AlarmSpec[] {
  const { ruleAgeHours } = settings.alarms;
  const tick = lookOf(settings.planEveryMinutes);
  const failed = transshipMetric('JobsFailed', { period: HOUR });
  // SUM leaves out what has no value, FILL is for a done that has none at that time
  const ended = new MathExpression({
    expression: 'SUM([failed, FILL(done, 0)])',
    period: HOUR,
    usingMetrics: { failed, done: transshipMetric('JobsDone', { period: HOUR }) },
  });
  return [
    {
      chapter: 'dead-letters',
      severity: 'high',
      text: 'Jobs failed for good and wait among the dead letters: what they were to copy is not copied.',
      // not NumberOfMessagesSent, which does not count what SQS itself moves
      metric: deadLetters.metricApproximateNumberOfMessagesVisible({ period: FIVE_MINUTES, statistic: 'Maximum' }),
      threshold: 1,
      // SQS tells nothing of a queue that nobody used for six hours: dead letters that were there then still are
      missing: IGNORE,
    },
    {
      chapter: 'rule-late',
      severity: 'high',
      text: `The last good copy of a rule is older than ${ruleAgeHours} hours, or no planner tells how old it is.`,
      metric: transshipMetric('LastGoodCopyAgeSeconds', {
        period: Duration.minutes(Math.max(15, settings.planEveryMinutes)),
        statistic: 'Maximum',
      }),
      threshold: ruleAgeHours * 3600,
      comparison: GREATER_THAN_THRESHOLD,
      periods: 3,
      // each look of a planner tells it of each rule: missing, there is no planner, no rule, or no metric
      missing: BREACHING,
    },
    {
      chapter: 'run-still-going',
      severity: 'medium',
      text: 'A run of a rule went on when its next one was due, or was declared dead.',
      metric: transshipMetric('RunsLate', { period: tick }),
      threshold: 1,
      // told only when it happens
      missing: NOT_BREACHING,
    },
    {
      chapter: 'many-failures',
      severity: 'high',
      text: `More than 10 % of the jobs of an hour failed for good, of ${JOBS_FOR_A_RATE} or more.`,
      metric: new MathExpression({
        expression: `IF(ended >= ${JOBS_FOR_A_RATE}, 100 * failures / ended, 0)`,
        label: 'jobs that failed, percent',
        period: HOUR,
        usingMetrics: { failures: failed, ended },
      }),
      threshold: 10,
      comparison: GREATER_THAN_THRESHOLD,
      // no job failed
      missing: NOT_BREACHING,
    },
    {
      chapter: 'verification-faults',
      severity: 'high',
      text: 'Bytes were read that are not what their digest says, in an archive or in a registry.',
      metric: transshipMetric('JobsFailed', { code: 'CORRUPT', period: FIVE_MINUTES }),
      threshold: 1,
      // told only when it happens
      missing: NOT_BREACHING,
    },
  ];
}

/** Whether planner, workers, table and queues do what they are for. */
function ofParts({ jobs, planner, requests, service, settings, table, undelivered }: Watched): readonly AlarmSpec[] {
  const tick = lookOf(settings.planEveryMinutes);
  // averages: a task that starts and dies, over and over, runs for a part of the time only
  const average = { statistic: 'Average', period: FIVE_MINUTES };
  const missing = new MathExpression({
    expression: 'desired - running',
    period: FIVE_MINUTES,
    usingMetrics: {
      desired: taskMetric('DesiredTaskCount', service, average),
      running: taskMetric('RunningTaskCount', service, average),
    },
  });
  return [
    {
      chapter: 'planner-errors',
      severity: 'high',
      text: 'The planner fails: no rule at all is served.',
      metric: planner.metricErrors({ period: tick }),
      threshold: 1,
      // one that failed is made up for by the next
      periods: 3,
      datapoints: 2,
      // it did not run, which is told as a rule that is late
      missing: NOT_BREACHING,
    },
    {
      chapter: 'rules-not-planned',
      severity: 'high',
      text: 'A rule could not be planned, again and again.',
      metric: transshipMetric('RulesFailed', { period: tick }),
      threshold: 1,
      periods: 3,
      datapoints: 2,
      // told only when it happens
      missing: NOT_BREACHING,
    },
    {
      chapter: 'tasks-that-cannot-start',
      severity: 'high',
      text: 'There is work for more workers than run, for twenty minutes.',
      metric: new MathExpression({
        // a service without tasks may tell nothing of itself, and nobody asks for tasks when scaling fails: the queue knows that nobody takes jobs
        expression:
          'IF(SUM([FILL(waiting, 0), FILL(requested, 0)]) > 0 AND SUM([FILL(taken, 0), FILL(begun, 0)]) == 0, 1, missing)',
        label: 'tasks that are missing',
        period: FIVE_MINUTES,
        usingMetrics: {
          waiting: jobs.metricApproximateNumberOfMessagesVisible({ period: FIVE_MINUTES, statistic: 'Minimum' }),
          taken: jobs.metricApproximateNumberOfMessagesNotVisible({ period: FIVE_MINUTES, statistic: 'Maximum' }),
          requested: requests.metricApproximateNumberOfMessagesVisible({ period: FIVE_MINUTES, statistic: 'Minimum' }),
          begun: requests.metricApproximateNumberOfMessagesNotVisible({ period: FIVE_MINUTES, statistic: 'Maximum' }),
          missing,
        },
      }),
      threshold: 0.5,
      periods: 4,
      // SQS tells nothing of a queue that nobody used for six hours
      missing: NOT_BREACHING,
    },
    {
      chapter: 'throttled-table',
      severity: 'medium',
      text: 'DynamoDB refuses requests to the table, for a quarter of an hour.',
      metric: new MathExpression({
        // 0 where there are none: of DynamoDB's metrics an alarm may ignore that they are missing, whatever it says, and so never end
        // https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html#API_PutMetricAlarm_RequestParameters
        expression: 'SUM([reads, writes, 0 * looks])',
        label: 'requests that were refused',
        period: FIVE_MINUTES,
        usingMetrics: {
          looks: planner.metricInvocations({ period: FIVE_MINUTES }),
          reads: table.metric('ReadThrottleEvents', { statistic: 'Sum', period: FIVE_MINUTES }),
          writes: table.metric('WriteThrottleEvents', { statistic: 'Sum', period: FIVE_MINUTES }),
        },
      }),
      threshold: 1,
      periods: 3,
      // told only when it happens
      missing: NOT_BREACHING,
    },
    {
      chapter: 'events-that-were-not-delivered',
      severity: 'low',
      text: 'EventBridge could not deliver a push to the queue, or a tick to the planner.',
      metric: undelivered.metricApproximateNumberOfMessagesVisible({ period: FIVE_MINUTES, statistic: 'Maximum' }),
      threshold: 1,
      // as of dead letters
      missing: IGNORE,
    },
  ];
}

/** What happens to repositories and backups without Transship. */
function ofRegistries({ events, settings }: Watched): readonly AlarmSpec[] {
  const { backupAgeDays, pullsPerFiveMinutes } = settings.alarms;
  const pulls: AlarmSpec = {
    chapter: 'unusual-pulls',
    severity: 'low',
    text: `A repository was pulled from ${pullsPerFiveMinutes} times or more in five minutes.`,
    // of all repositories, those too that are yet to be made; each has a state of its own
    metric: new MathExpression({
      expression:
        'SELECT SUM(RepositoryPullCount) FROM SCHEMA("AWS/ECR", RepositoryName) GROUP BY RepositoryName ORDER BY SUM() DESC',
      label: 'pulls',
      period: FIVE_MINUTES,
      usingMetrics: {},
    }),
    threshold: pullsPerFiveMinutes,
    // nobody pulled
    missing: NOT_BREACHING,
  };
  const backups: AlarmSpec = {
    chapter: 'backups-of-the-bucket',
    severity: 'high',
    text: 'AWS Backup could not back the bucket up, left something out, or could not copy a backup to the backup account.',
    metric: events.metric('BackupsFailed', HOUR),
    threshold: 1,
    // told only when it happens
    missing: NOT_BREACHING,
  };
  const noBackups: AlarmSpec = {
    chapter: 'backups-that-do-not-happen',
    severity: 'high',
    text: `No backup of the bucket came to the backup account for ${backupAgeDays} days.`,
    metric: new MathExpression({
      // days of which nothing is told count, else older ones would in their place
      expression: 'FILL(copied, 0)',
      label: 'backups that were copied',
      period: DAY,
      usingMetrics: { copied: events.metric('BackupsCopied', DAY) },
    }),
    threshold: 1,
    comparison: LESS_THAN_THRESHOLD,
    periods: backupAgeDays,
    // where AWS Backup may not back up S3 it makes no job, and none that fails
    missing: BREACHING,
  };
  return [
    {
      chapter: 'replication-failures',
      severity: 'medium',
      text: 'More than 10 % of what ECR replicated within an hour failed.',
      metric: new MathExpression({
        expression: '100 * failures / attempts',
        label: 'replications that failed, percent',
        period: HOUR,
        usingMetrics: {
          failures: events.metric('ReplicationsFailed', HOUR),
          attempts: events.metric('Replications', HOUR),
        },
      }),
      threshold: 10,
      comparison: GREATER_THAN_THRESHOLD,
      // nothing was replicated
      missing: NOT_BREACHING,
    },
    ...(pullsPerFiveMinutes === 0 ? [] : [pulls]),
    ...(settings.vault === undefined ? [] : [backups]),
    ...(settings.vault === undefined || backupAgeDays === 0 ? [] : [noBackups]),
  ];
}

function ofGrowth({ bucket, settings }: Watched): readonly AlarmSpec[] {
  const { growthGiBPerDay } = settings.alarms;
  const sizes = storageTypesOf(settings.bucket.storageClass).map((StorageType, index): readonly [string, IMetric] => [
    `size${index}`,
    new Metric({
      namespace: 'AWS/S3',
      metricName: 'BucketSizeBytes',
      dimensionsMap: { BucketName: bucket.bucketName, StorageType },
      statistic: 'Average',
      period: DAY,
    }),
  ]);
  return [
    {
      chapter: 'growth-of-archives',
      severity: 'low',
      text: `The bucket of archives grew by more than ${growthGiBPerDay} GiB in a day.`,
      metric: new MathExpression({
        // SUM leaves out what has no value: S3 tells no size of a class that nothing is in
        expression: sizes.length === 1 ? 'DIFF(size0)' : `DIFF(SUM([${sizes.map(([id]) => id).join(', ')}]))`,
        label: 'growth of the bucket, bytes',
        period: DAY,
        usingMetrics: Object.fromEntries(sizes),
      }),
      threshold: growthGiBPerDay * GIB,
      comparison: GREATER_THAN_THRESHOLD,
      // S3 tells a size once a day, and a day late, and a difference takes two
      periods: 3,
      datapoints: 1,
      // until S3 tells the next
      missing: IGNORE,
    },
    {
      chapter: 'growth-of-what-is-copied',
      severity: 'low',
      text: `More than ${growthGiBPerDay} GiB were copied to repositories and archives within a day.`,
      // ECR tells no sizes: what is written there is what there is to know
      metric: transshipMetric('BytesCopied', { period: DAY }),
      threshold: growthGiBPerDay * GIB,
      comparison: GREATER_THAN_THRESHOLD,
      // nothing was copied
      missing: NOT_BREACHING,
    },
  ];
}

/** Of a service's tasks: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/container-insights-metrics.html */
export function taskMetric(
  metricName: 'DesiredTaskCount' | 'PendingTaskCount' | 'RunningTaskCount',
  { cluster, serviceName }: FargateService,
  options: { readonly statistic: string; readonly period: Duration; readonly label?: string },
): Metric {
  return new Metric({
    namespace: 'ECS/ContainerInsights',
    metricName,
    dimensionsMap: { ClusterName: cluster.clusterName, ServiceName: serviceName },
    ...options,
  });
}

/** Longer than it takes until the planner looks again. */
function lookOf(planEveryMinutes: number): Duration {
  return Duration.minutes(Math.max(5, planEveryMinutes));
}

/** What is in the bucket goes from the one to the other: https://docs.aws.amazon.com/AmazonS3/latest/userguide/metrics-dimensions.html */
function storageTypesOf(storageClass: InfraSettings['bucket']['storageClass']): readonly string[] {
  switch (storageClass) {
    case 'STANDARD':
      return ['StandardStorage'];
    case 'STANDARD_IA':
      return ['StandardStorage', 'StandardIAStorage'];
    case 'INTELLIGENT_TIERING':
      return [
        'StandardStorage',
        'IntelligentTieringFAStorage',
        'IntelligentTieringIAStorage',
        'IntelligentTieringAIAStorage',
      ];
    case 'GLACIER_IR':
      return ['StandardStorage', 'GlacierInstantRetrievalStorage'];
    case 'GLACIER':
      return ['StandardStorage', 'GlacierStorage'];
    case 'DEEP_ARCHIVE':
      return ['StandardStorage', 'DeepArchiveStorage'];
    default:
      return storageClass satisfies never;
  }
}
