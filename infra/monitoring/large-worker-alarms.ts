import { MathExpression, TreatMissingData } from 'aws-cdk-lib/aws-cloudwatch';
import { FIVE_MINUTES, type AlarmSpec, type Watched } from './alarm-spec.ts';
import { taskMetric } from './metrics.ts';

/** As the alarm of the other workers: jobs wait and none is taken, or ECS runs fewer tasks than it should. */
export function largeWorkerAlarms({ large }: Watched): readonly AlarmSpec[] {
  if (large === undefined) return [];
  const { queue, service } = large;
  const average = { statistic: 'Average', period: FIVE_MINUTES };
  return [
    {
      chapter: 'large-workers-that-cannot-start',
      severity: 'high',
      text: 'For twenty minutes, fewer large workers run than the work needs: large images are not copied.',
      metric: new MathExpression({
        expression: 'IF(FILL(waiting, 0) > 0 AND FILL(taken, 0) == 0, 1, desired - running)',
        label: 'tasks that are missing',
        period: FIVE_MINUTES,
        usingMetrics: {
          waiting: queue.metricApproximateNumberOfMessagesVisible({ period: FIVE_MINUTES, statistic: 'Minimum' }),
          taken: queue.metricApproximateNumberOfMessagesNotVisible({ period: FIVE_MINUTES, statistic: 'Maximum' }),
          desired: taskMetric('DesiredTaskCount', service, average),
          running: taskMetric('RunningTaskCount', service, average),
        },
      }),
      threshold: 0.5,
      periods: 4,
      // SQS emits no metrics for a queue that was not used for six hours
      missing: TreatMissingData.NOT_BREACHING,
    },
  ];
}
