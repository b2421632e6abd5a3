import type { Duration } from 'aws-cdk-lib';
import { Metric } from 'aws-cdk-lib/aws-cloudwatch';
import type { FargateService } from 'aws-cdk-lib/aws-ecs';

interface MetricOptions {
  /** Counts failures with this code only. @default all codes together */
  readonly code?: string;
  readonly label?: string;
  readonly period: Duration;
  /** @default Sum, for counts and bytes */
  readonly statistic?: string;
}

export const NAMESPACE = 'Transship';

/** A metric that workers and planners write, of all rules together. test/infra/monitoring.test.ts compares the names with those that they write. */
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

/** A count of the service's tasks: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/container-insights-metrics.html */
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
