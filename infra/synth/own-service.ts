import { Stack } from 'aws-cdk-lib';
import { ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import type { Construct } from 'constructs';

/**
 * A service of AWS on behalf of this account alone, in the trust of a role: otherwise another account could have the service use the role. Only
 * of services whose pages say that they pass the condition for a role. For AWS Backup, EventBridge and ECR they do not, and a role that cannot
 * be assumed would stop backups. A Lambda function takes only roles of its own account, since `iam:PassRole` passes no others.
 * https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html
 * https://docs.aws.amazon.com/vpc/latest/userguide/flow-logs-iam-role.html
 */
export function ownService(
  scope: Construct,
  service: 'ecs-tasks.amazonaws.com' | 'vpc-flow-logs.amazonaws.com',
): ServicePrincipal {
  return new ServicePrincipal(service, {
    conditions: { StringEquals: { 'aws:SourceAccount': Stack.of(scope).account } },
  });
}
