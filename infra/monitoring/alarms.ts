import { Duration } from 'aws-cdk-lib';
import { ComparisonOperator, MathExpression, TreatMissingData } from 'aws-cdk-lib/aws-cloudwatch';
import { CLEAN, FIVE_MINUTES, HOUR, type AlarmSpec, type Watched } from './alarm-spec.ts';
import { taskMetric, transshipMetric } from './metrics.ts';
import { largeWorkerAlarms } from './large-worker-alarms.ts';
import { pruneAlarms } from './prune-alarms.ts';
import { storageAlarms } from './storage-alarms.ts';
import { verifyAlarms } from './verify-alarms.ts';

const { GREATER_THAN_THRESHOLD, LESS_THAN_THRESHOLD } = ComparisonOperator;
const { BREACHING, IGNORE, NOT_BREACHING } = TreatMissingData;

/** With fewer jobs a rate has no meaning, and each failed job is reported as a dead letter. */
const JOBS_FOR_A_RATE = 10;

/** Every alarm that notifies. Scaling has two more, which notify no one. */
export function alarmsOf(watched: Watched): readonly AlarmSpec[] {
  return [
    ...ofCopies(watched),
    ...verifyAlarms(watched),
    ...ofParts(watched),
    ...largeWorkerAlarms(watched),
    ...pruneAlarms(watched),
    ...storageAlarms(watched),
  ];
}

/** Whether everything is copied that should be. */
function ofCopies({ settings, deadLetters }: Watched): readonly AlarmSpec[] {
  const { ruleLateHours } = settings.alarms;
  const tick = lookOf(settings.planEveryMinutes);
  const failed = transshipMetric('JobsFailed', { period: HOUR });
  // SUM skips metrics without a value; FILL gives `done` one where it has no value at that time
  const ended = new MathExpression({
    expression: 'SUM([failed, FILL(done, 0)])',
    period: HOUR,
    usingMetrics: { failed, done: transshipMetric('JobsDone', { period: HOUR }) },
  });
  return [
    {
      chapter: 'dead-letters',
      severity: 'high',
      text: 'Jobs failed permanently and wait in the dead-letter queue: their images are not copied.',
      // NumberOfMessagesSent would not count what SQS itself moves
      metric: deadLetters.metricApproximateNumberOfMessagesVisible({ period: FIVE_MINUTES, statistic: 'Maximum' }),
      threshold: 1,
      // SQS emits no metrics for a queue that was not used for six hours; its dead letters are still there
      missing: IGNORE,
    },
    {
      chapter: 'rule-late',
      severity: 'high',
      text: `A rule has had no good run for ${ruleLateHours} hours after its schedule asked for one.`,
      // each rule has its own state: one that has been late for long does not hide the next
      metric: new MathExpression({
        expression: 'SELECT MAX(RuleOverdueSeconds) FROM SCHEMA("Transship", rule) GROUP BY rule ORDER BY MAX() DESC',
        label: 'seconds overdue',
        period: Duration.minutes(Math.max(15, settings.planEveryMinutes)),
        usingMetrics: {},
      }),
      threshold: ruleLateHours * 3600,
      comparison: GREATER_THAN_THRESHOLD,
      periods: 3,
      // the rule is gone or has expired; the alarm planner-not-running reports a planner that is silent
      missing: NOT_BREACHING,
    },
    {
      chapter: 'run-still-going',
      severity: 'medium',
      text: 'A run of a rule was still going when the next one was due, or was declared dead.',
      metric: transshipMetric('RunsLate', { period: tick }),
      threshold: 1,
      // reported only when it happens
      missing: NOT_BREACHING,
    },
    {
      chapter: 'many-failures',
      severity: 'high',
      text: `More than 10 % of the jobs of an hour failed permanently, of ${JOBS_FOR_A_RATE} jobs or more.`,
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
      chapter: 'snapshots-with-failures',
      severity: 'medium',
      text: 'Snapshots of a registry list images that could not be backed up.',
      metric: transshipMetric('SnapshotFailures', { period: HOUR }),
      threshold: 1,
      // reported only when it happens
      missing: NOT_BREACHING,
    },
    {
      chapter: 'publish-failing',
      severity: 'medium',
      text: 'Objects could not be published.',
      metric: transshipMetric('PublishFailed', { period: HOUR }),
      threshold: 1,
      // reported only when it happens
      missing: NOT_BREACHING,
    },
  ];
}

/** Whether the planner, the workers, the table and the queues work. */
function ofParts({
  cleaner,
  jobs,
  planner,
  requests,
  service,
  settings,
  table,
  undelivered,
}: Watched): readonly AlarmSpec[] {
  const tick = lookOf(settings.planEveryMinutes);
  const quarter = longer(tick, Duration.minutes(15));
  // the Cleaner reports prune rules, less often than the planner reports its own
  const look = cleaner === undefined ? tick : longer(tick, CLEAN);
  // averages, because a task that starts and crashes again and again runs for part of the time only
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
      text: 'The planner fails: no rule is planned.',
      metric: planner.metricErrors({ period: tick }),
      threshold: 1,
      // the next call makes up for one that failed
      periods: 3,
      datapoints: 2,
      // the planner did not run, which the next alarm reports
      missing: NOT_BREACHING,
    },
    {
      chapter: 'planner-not-running',
      severity: 'high',
      text: 'No call of the planner succeeded for 45 minutes: no rule runs on schedule.',
      metric: new MathExpression({
        // Lambda reports nothing about a function that is not called, and no errors about calls without one
        expression: 'FILL(calls, 0) - FILL(errors, 0)',
        label: 'calls that succeeded',
        period: quarter,
        usingMetrics: {
          calls: planner.metricInvocations({ period: quarter }),
          errors: planner.metricErrors({ period: quarter }),
        },
      }),
      threshold: 1,
      comparison: LESS_THAN_THRESHOLD,
      periods: 3,
      // its schedule is gone
      missing: BREACHING,
    },
    {
      chapter: 'rules-not-planned',
      severity: 'high',
      text: 'A rule could not be planned, several times in a row.',
      metric: transshipMetric('RulesFailed', { period: look }),
      threshold: 1,
      periods: 3,
      datapoints: 2,
      // reported only when it happens
      missing: NOT_BREACHING,
    },
    {
      chapter: 'tasks-that-cannot-start',
      severity: 'high',
      text: 'For twenty minutes, fewer workers run than the work needs.',
      metric: new MathExpression({
        // a service without tasks may emit no metrics, and when scaling fails nothing asks for tasks: the queues show that no job is taken
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
      // SQS emits no metrics for a queue that was not used for six hours
      missing: NOT_BREACHING,
    },
    {
      chapter: 'throttled-table',
      severity: 'medium',
      text: 'DynamoDB has throttled requests to the table for 15 minutes.',
      metric: new MathExpression({
        // 0 where there are no values: for metrics of DynamoDB, CloudWatch ignores missing data whatever the alarm sets, so that it would never end
        // https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html#API_PutMetricAlarm_RequestParameters
        expression: 'SUM([reads, writes, 0 * looks])',
        label: 'throttled requests',
        period: FIVE_MINUTES,
        usingMetrics: {
          looks: planner.metricInvocations({ period: FIVE_MINUTES }),
          reads: table.metric('ReadThrottleEvents', { statistic: 'Sum', period: FIVE_MINUTES }),
          writes: table.metric('WriteThrottleEvents', { statistic: 'Sum', period: FIVE_MINUTES }),
        },
      }),
      threshold: 1,
      periods: 3,
      // reported only when it happens
      missing: NOT_BREACHING,
    },
    {
      chapter: 'events-that-were-not-delivered',
      severity: 'low',
      text: 'EventBridge could not deliver an event to the queue, or call the planner or the Cleaner.',
      metric: undelivered.metricApproximateNumberOfMessagesVisible({ period: FIVE_MINUTES, statistic: 'Maximum' }),
      threshold: 1,
      // for the reason given at dead-letters
      missing: IGNORE,
    },
  ];
}

/** A period that is at least as long as the time between two passes of the planner. */
function lookOf(planEveryMinutes: number): Duration {
  return Duration.minutes(Math.max(5, planEveryMinutes));
}

function longer(one: Duration, other: Duration): Duration {
  return one.toSeconds() > other.toSeconds() ? one : other;
}
