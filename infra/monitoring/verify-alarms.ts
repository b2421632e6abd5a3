import { Duration } from 'aws-cdk-lib';
import { ComparisonOperator, TreatMissingData } from 'aws-cdk-lib/aws-cloudwatch';
import { FIVE_MINUTES, type AlarmSpec, type Watched } from './alarm-spec.ts';
import { transshipMetric } from './metrics.ts';

const { NOT_BREACHING } = TreatMissingData;

/** Alarms about verification: a finding, or no recent verification or drill. */
export function verifyAlarms({ settings }: Watched): readonly AlarmSpec[] {
  const { drillAgeHours, verificationAgeHours } = settings.alarms;
  return [
    {
      chapter: 'verification-faults',
      severity: 'high',
      text: 'Bytes that were read do not match their digest, or a verified image differs from what it should be.',
      metric: transshipMetric('JobsFailed', { code: 'CORRUPT', period: FIVE_MINUTES }),
      threshold: 1,
      // reported only when it happens
      missing: NOT_BREACHING,
    },
    {
      chapter: 'verification-findings',
      severity: 'high',
      text: 'The verification of a registry, of archives or of a store found something missing, moved, extra or damaged.',
      metric: transshipMetric('VerifyFindings', { period: FIVE_MINUTES }),
      threshold: 1,
      // reported only when it happens
      missing: NOT_BREACHING,
    },
    {
      chapter: 'verification-late',
      severity: 'medium',
      text: `The last verification of a rule without a finding is older than ${verificationAgeHours} hours.`,
      metric: transshipMetric('LastGoodVerificationAgeSeconds', {
        period: Duration.minutes(Math.max(15, settings.planEveryMinutes)),
        statistic: 'Maximum',
      }),
      threshold: verificationAgeHours * 3600,
      comparison: ComparisonOperator.GREATER_THAN_THRESHOLD,
      periods: 3,
      // there is no verify rule; the alarm planner-not-running reports a planner that does not run
      missing: NOT_BREACHING,
    },
    {
      chapter: 'drill-late',
      severity: 'medium',
      text: `The last drill of a rule without a finding is older than ${drillAgeHours} hours.`,
      metric: transshipMetric('DrillAgeSeconds', {
        period: Duration.minutes(Math.max(15, settings.planEveryMinutes)),
        statistic: 'Maximum',
      }),
      threshold: drillAgeHours * 3600,
      comparison: ComparisonOperator.GREATER_THAN_THRESHOLD,
      periods: 3,
      // there is no rule with drills; the alarm planner-not-running reports a planner that does not run
      missing: NOT_BREACHING,
    },
  ];
}
