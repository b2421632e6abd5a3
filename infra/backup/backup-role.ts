import { Validations } from 'aws-cdk-lib';
import { ManagedPolicy, PolicyStatement, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import type { IKey } from 'aws-cdk-lib/aws-kms';
import type { Construct } from 'constructs';

export interface BackupRoleOptions {
  readonly description: string;
  /** One for each role: what makes backups cannot write to buckets. */
  readonly policy: 'AWSBackupServiceRolePolicyForS3Backup' | 'AWSBackupServiceRolePolicyForS3Restore';
  /** Of the vault. */
  readonly key: IKey;
}

/** A role that AWS Backup works with. The one that CDK would make for a plan has nothing for S3, and its jobs fail. */
export function backupRole(scope: Construct, id: string, { description, key, policy }: BackupRoleOptions): Role {
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
  grantKey(key, role);
  return role;
}

/**
 * What AWS Backup does with the key of a vault on a role's behalf. The managed policies have keys by way of S3 only, and a job without the key
 * of its vault ends well with nothing backed up or restored: https://docs.aws.amazon.com/aws-backup/latest/devguide/encryption.html
 */
function grantKey(key: IKey, role: Role): void {
  key.grant(role, 'kms:DescribeKey', 'kms:GenerateDataKey', 'kms:Decrypt');
  role.addToPolicy(
    new PolicyStatement({
      actions: ['kms:CreateGrant'],
      resources: [key.keyArn],
      conditions: { Bool: { 'kms:GrantIsForAWSResource': 'true' } },
    }),
  );
}
