import { Validations } from 'aws-cdk-lib';
import { ManagedPolicy, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import type { Construct } from 'constructs';

export interface BackupRoleOptions {
  readonly description: string;
  /** One for each role: what makes backups cannot write to buckets. */
  readonly policy: 'AWSBackupServiceRolePolicyForS3Backup' | 'AWSBackupServiceRolePolicyForS3Restore';
}

/** A role that AWS Backup works with. The one that CDK would make for a plan has nothing for S3, and its jobs fail. */
export function backupRole(scope: Construct, id: string, { description, policy }: BackupRoleOptions): Role {
  const role = new Role(scope, id, {
    assumedBy: new ServicePrincipal('backup.amazonaws.com'),
    description,
    managedPolicies: [ManagedPolicy.fromAwsManagedPolicyName(policy)],
  });
  Validations.of(role).acknowledge({
    id: `AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/${policy}]`,
    reason:
      'What AWS Backup needs for S3 changes with AWS Backup, and the managed policy with it; only backup.amazonaws.com can assume the role.',
  });
  return role;
}
