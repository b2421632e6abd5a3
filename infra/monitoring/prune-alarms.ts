import { ComparisonOperator, MathExpression, TreatMissingData } from 'aws-cdk-lib/aws-cloudwatch';
import { CLEAN, DAY, HOUR, type AlarmSpec, type Watched } from './alarm-spec.ts';
import { transshipMetric } from './metrics.ts';

const { GREATER_THAN_THRESHOLD, LESS_THAN_THRESHOLD } = ComparisonOperator;
const { BREACHING, NOT_BREACHING } = TreatMissingData;

/** Alarms of prune rules: too much was deleted, something could not be deleted, or no Cleaner runs them. Empty without a Cleaner. */
export function pruneAlarms({ cleaner, settings }: Watched): readonly AlarmSpec[] {
  if (cleaner === undefined) return [];
  const { prunedPerDay } = settings.alarms;
  return [
    {
      chapter: 'prune-deleted-many',
      severity: 'high',
      text: `Prune rules deleted more than ${prunedPerDay} images and archives in a day.`,
      metric: new MathExpression({
        expression: 'SUM([FILL(images, 0), FILL(archives, 0)])',
        label: 'images and archives deleted',
        period: DAY,
        usingMetrics: {
          images: transshipMetric('PrunedImages', { period: DAY }),
          archives: transshipMetric('PrunedArchives', { period: DAY }),
        },
      }),
      threshold: prunedPerDay,
      comparison: GREATER_THAN_THRESHOLD,
      // nothing was deleted
      missing: NOT_BREACHING,
    },
    {
      chapter: 'prune-failing',
      severity: 'medium',
      text: 'Prune rules could not delete images or archives that they selected.',
      metric: transshipMetric('PruneFailed', { period: HOUR }),
      threshold: 1,
      // reported only when it happens
      missing: NOT_BREACHING,
    },
    {
      chapter: 'cleaner-not-running',
      severity: 'medium',
      text: 'No call of the Cleaner succeeded for an hour: no prune rule runs.',
      metric: new MathExpression({
        // Lambda reports nothing about a function that is not called, and no errors about calls without one
        expression: 'FILL(calls, 0) - FILL(errors, 0)',
        label: 'calls that succeeded',
        period: CLEAN,
        usingMetrics: {
          calls: cleaner.metricInvocations({ period: CLEAN }),
          errors: cleaner.metricErrors({ period: CLEAN }),
        },
      }),
      threshold: 1,
      comparison: LESS_THAN_THRESHOLD,
      periods: 4,
      // the schedule of the Cleaner is gone
      missing: BREACHING,
    },
  ];
}
