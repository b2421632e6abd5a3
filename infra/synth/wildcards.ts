import { Stack, Validations } from 'aws-cdk-lib';
import type { IConstruct } from 'constructs';

/**
 * Says to cdk-nag why policies below the construct may have this resource, where it has a wildcard. By resource, so that another wildcard is
 * found all the same.
 */
export function acknowledgeWildcard(construct: IConstruct, resource: string, reason: string): void {
  const shown = textOf(Stack.of(construct).resolve(resource));
  if (shown.includes('*'))
    Validations.of(construct).acknowledge({ id: `AwsSolutions-IAM5[Resource::${shown}]`, reason });
}

/** As cdk-nag writes what CloudFormation works out: `<Bucket.Arn>/*`. */
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
