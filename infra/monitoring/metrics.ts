import type { Duration } from 'aws-cdk-lib';
import { Metric } from 'aws-cdk-lib/aws-cloudwatch';

interface MetricOptions {
  /** Of one code of failure. @default all together */
  readonly code?: string;
  readonly label?: string;
  readonly period: Duration;
  /** @default Sum, as of counts and bytes */
  readonly statistic?: string;
}

export const NAMESPACE = 'Transship';

/** What workers and planners tell of themselves, of all rules together. test/infra/monitoring.test.ts holds the names to those that they write. */
export function transshipMetric(name: string, given: MetricOptions): Metric {
  const { code, ...options } = given;
  return new Metric({
    namespace: NAMESPACE,
    metricName: name,
    statistic: 'Sum',
    ...options,
    ...(code === undefined ? {} : { dimensionsMap: { code } }),
  });
}
