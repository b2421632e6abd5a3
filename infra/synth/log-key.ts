import type { Stack } from 'aws-cdk-lib';
import { CfnLogGroup } from 'aws-cdk-lib/aws-logs';

/**
 * Encrypts every log group of the stack with a customer's key. Its policy has to let CloudWatch Logs use it, or the deployment fails:
 * https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html
 */
export function encryptLogs(stack: Stack, key: string | undefined): void {
  if (key === undefined) return;
  for (const construct of stack.node.findAll()) if (construct instanceof CfnLogGroup) construct.kmsKeyId = key;
}
