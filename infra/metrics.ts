import type { Duration } from 'aws-cdk-lib';
import { Metric } from 'aws-cdk-lib/aws-cloudwatch';
import type { METRICS } from '../worker/telemetry/metrics.ts';

interface MetricOptions {
  /** Of one code of failure. @default all together */
  readonly code?: string;
  readonly label?: string;
  readonly period: Duration;
  /** @default Sum, as of counts and bytes */
  readonly statistic?: string;
}

export const NAMESPACE = 'Transship';

/** What workers and planners tell of themselves: docs/metrics.md. Of all rules together. */
export function transshipMetric(name: keyof typeof METRICS, o: MetricOptions): Metric {
  const { code, ...options } = o;
  return new Metric({
    namespace: NAMESPACE,
    metricName: name,
    statistic: 'Sum',
    ...options,
    ...(code === undefined ? {} : { dimensionsMap: { code } }),
  });
}
