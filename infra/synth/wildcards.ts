import { Stack, Validations } from 'aws-cdk-lib';
import type { IConstruct } from 'constructs';

/**
 * Records for cdk-nag why policies below the construct may have this resource, if it contains a wildcard. It names the resource, so that cdk-nag
 * still finds any other wildcard.
 */
export function acknowledgeWildcard(construct: IConstruct, resource: string, reason: string): void {
  const shown = textOf(Stack.of(construct).resolve(resource));
  if (shown.includes('*'))
    Validations.of(construct).acknowledge({ id: `AwsSolutions-IAM5[Resource::${shown}]`, reason });
}

/** Writes a value that CloudFormation computes in the notation of cdk-nag: `<Bucket.Arn>/*`. */
function textOf(value: unknown): string {
  if (typeof value !== 'object' || value === null) return String(value);
  if ('Ref' in value) return `<${String(value.Ref)}>`;
  if ('Fn::GetAtt' in value && Array.isArray(value['Fn::GetAtt'])) return `<${value['Fn::GetAtt'].join('.')}>`;
  if ('Fn::Join' in value && Array.isArray(value['Fn::Join'])) {
    const [separator, parts]: unknown[] = value['Fn::Join'];
    if (Array.isArray(parts)) return parts.map(textOf).join(String(separator));
  }
  throw new Error(`a resource that is ${JSON.stringify(value)}: cdk-nag's name for it is not known here`);
}
