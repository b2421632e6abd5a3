import { RegionInfo } from 'aws-cdk-lib/region-info';

/** Of an ARN. Undefined: it has none, or it is no ARN. */
export function regionOf(arn: string): string | undefined {
  return arn.split(':')[3];
}

/** One that CDK does not know yet is of the world that most are of. */
export function partitionOf(region: string): string {
  return RegionInfo.get(region).partition ?? 'aws';
}
