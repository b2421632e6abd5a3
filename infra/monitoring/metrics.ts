import type { Duration } from 'aws-cdk-lib';
import { Metric } from 'aws-cdk-lib/aws-cloudwatch';
import type { FargateService } from 'aws-cdk-lib/aws-ecs';

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
