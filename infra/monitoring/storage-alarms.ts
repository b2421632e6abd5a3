import { ComparisonOperator, MathExpression, Metric, TreatMissingData, type IMetric } from 'aws-cdk-lib/aws-cloudwatch';
import { DAY, FIVE_MINUTES, HOUR, type AlarmSpec, type Watched } from './alarm-spec.ts';
import { transshipMetric } from './metrics.ts';
import type { InfraSettings } from '../settings/schema.ts';

const GIB = 1024 ** 3;
/** The longest time that an alarm looks back over: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html */
const DAYS_LOOKED_BACK = 7;
const { GREATER_THAN_THRESHOLD, LESS_THAN_THRESHOLD } = ComparisonOperator;
const { BREACHING, IGNORE, NOT_BREACHING } = TreatMissingData;

/** Alarms about repositories, their replication, backups of the bucket, and growth. */
export function storageAlarms(watched: Watched): readonly AlarmSpec[] {
  return [...ofRegistries(watched), ...ofGrowth(watched)];
}

/** What happens to repositories and backups without Transship. */
function ofRegistries({ events, settings }: Watched): readonly AlarmSpec[] {
  const { backupAgeDays, pullsPerFiveMinutes } = settings.alarms;
  const pulls: AlarmSpec = {
    chapter: 'unusual-pulls',
    severity: 'low',
    text: `Images of one repository were pulled ${pullsPerFiveMinutes} times or more in five minutes.`,
    // all repositories, also those that are created later; each has a state of its own
    metric: new MathExpression({
      expression:
        'SELECT SUM(RepositoryPullCount) FROM SCHEMA("AWS/ECR", RepositoryName) GROUP BY RepositoryName ORDER BY SUM() DESC',
      label: 'pulls',
      period: FIVE_MINUTES,
      usingMetrics: {},
    }),
    threshold: pullsPerFiveMinutes,
    // nothing was pulled
    missing: NOT_BREACHING,
  };
  const backups: AlarmSpec = {
    chapter: 'backups-of-the-bucket',
    severity: 'high',
    text: 'AWS Backup could not back up the bucket, left something out, or could not copy a backup to the backup account.',
    metric: events.metric('BackupsFailed', HOUR),
    threshold: 1,
    // reported only when it happens
    missing: NOT_BREACHING,
  };
  const noBackups: AlarmSpec = {
    chapter: 'backups-that-do-not-happen',
    severity: 'high',
    text: `No backup of the bucket reached the backup account for ${backupAgeDays} days.`,
    metric: new MathExpression({
      // days without a value count; otherwise older days would take their place
      expression: 'FILL(copied, 0)',
      label: 'backups that were copied',
      period: DAY,
      usingMetrics: { copied: events.metric('BackupsCopied', DAY) },
    }),
    threshold: 1,
    comparison: LESS_THAN_THRESHOLD,
    periods: backupAgeDays,
    // where AWS Backup may not back up S3, it creates no job that could fail
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
  const { growthGiBPerDay, growthGiBPerWeek, repositoryGiB } = settings.alarms;
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
  // SUM skips metrics without a value: S3 reports no size for a class that is empty
  const growth = sizes.length === 1 ? 'DIFF(size0)' : `DIFF(SUM([${sizes.map(([id]) => id).join(', ')}]))`;
  return [
    {
      chapter: 'growth-of-archives',
      severity: 'low',
      text: `The bucket of archives grew by more than ${growthGiBPerDay} GiB in a day.`,
      metric: new MathExpression({
        expression: growth,
        label: 'growth of the bucket, bytes',
        period: DAY,
        usingMetrics: Object.fromEntries(sizes),
      }),
      threshold: growthGiBPerDay * GIB,
      comparison: GREATER_THAN_THRESHOLD,
      // S3 reports a size once a day, and a day late, and a difference needs two sizes
      periods: 3,
      datapoints: 1,
      // until S3 reports the next size
      missing: IGNORE,
    },
    {
      chapter: 'backups-growing',
      severity: 'low',
      text: `The bucket of archives grew by more than ${growthGiBPerWeek} GiB in a week: more is added than deleted.`,
      metric: new MathExpression({
        // an alarm cannot compare with the month before, so it adds up the days that it looks back over
        expression: `RUNNING_SUM(${growth})`,
        label: 'growth of the bucket within a week, bytes',
        period: DAY,
        usingMetrics: Object.fromEntries(sizes),
      }),
      threshold: growthGiBPerWeek * GIB,
      comparison: GREATER_THAN_THRESHOLD,
      periods: DAYS_LOOKED_BACK,
      datapoints: 1,
      // until S3 reports the next size
      missing: IGNORE,
    },
    {
      chapter: 'growth-of-what-is-copied',
      severity: 'low',
      text: `More than ${growthGiBPerDay} GiB were copied to repositories and archives in a day.`,
      metric: transshipMetric('BytesCopied', { period: DAY }),
      threshold: growthGiBPerDay * GIB,
      comparison: GREATER_THAN_THRESHOLD,
      // nothing was copied
      missing: NOT_BREACHING,
    },
    {
      chapter: 'large-repository',
      severity: 'low',
      text: `A repository that a rule copies has more than ${repositoryGiB} GiB.`,
      // of the largest repository: ECR has no such metric, so it is as old as the last run that listed it
      metric: transshipMetric('RepositoryBytes', { period: DAY, statistic: 'Maximum' }),
      threshold: repositoryGiB * GIB,
      comparison: GREATER_THAN_THRESHOLD,
      // no run listed a repository that day
      missing: IGNORE,
    },
  ];
}

/** The storage types that objects move through: https://docs.aws.amazon.com/AmazonS3/latest/userguide/metrics-dimensions.html */
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
