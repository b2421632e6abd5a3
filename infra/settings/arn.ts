import { RegionInfo } from 'aws-cdk-lib/region-info';

/** The Region of an ARN. Undefined: the ARN does not name one, or the string is not an ARN. */
export function regionOf(arn: string): string | undefined {
  return arn.split(':')[3];
}

/** The partition of a Region. A Region that CDK does not know yet counts as part of the commercial partition, `aws`. */
export function partitionOf(region: string): string {
  return RegionInfo.get(region).partition ?? 'aws';
}
