import { Validations } from 'aws-cdk-lib';
import { ManagedPolicy, PolicyStatement, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import type { IKey } from 'aws-cdk-lib/aws-kms';
import type { Construct } from 'constructs';

export interface BackupRoleOptions {
  readonly description: string;
  /** Each role has one of the two: the role that makes backups cannot write to buckets. */
  readonly policy: 'AWSBackupServiceRolePolicyForS3Backup' | 'AWSBackupServiceRolePolicyForS3Restore';
  /** The key of the vault. */
  readonly key: IKey;
}

/** A role that AWS Backup assumes. The role that CDK would create for a plan lacks the permissions for S3, and its jobs fail. */
export function backupRole(scope: Construct, id: string, { description, key, policy }: BackupRoleOptions): Role {
  const role = new Role(scope, id, {
    assumedBy: new ServicePrincipal('backup.amazonaws.com'),
    description,
    managedPolicies: [ManagedPolicy.fromAwsManagedPolicyName(policy)],
  });
  Validations.of(role).acknowledge({
    id: `AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/${policy}]`,
    reason:
      'AWS keeps the managed policy in step with what AWS Backup needs for S3. Only backup.amazonaws.com can assume the role.',
  });
  grantKey(key, role);
  return role;
}

/**
 * Grants what AWS Backup does with the key of a vault on the role's behalf. The managed policies allow keys through S3 only, and a job without
 * the key of its vault succeeds with nothing backed up or restored: https://docs.aws.amazon.com/aws-backup/latest/devguide/encryption.html
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
