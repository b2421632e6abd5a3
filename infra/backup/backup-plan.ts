import { ArnFormat, CfnOutput, Duration, RemovalPolicy, Stack } from 'aws-cdk-lib';
import { BackupPlan, BackupPlanRule, BackupResource, BackupVault, type IBackupVault } from 'aws-cdk-lib/aws-backup';
import { Schedule } from 'aws-cdk-lib/aws-events';
import { AccountPrincipal, PolicyStatement, type Role } from 'aws-cdk-lib/aws-iam';
import { Key, type IKey } from 'aws-cdk-lib/aws-kms';
import type { IBucket } from 'aws-cdk-lib/aws-s3';
import { Construct } from 'constructs';
import { backupRole } from './backup-role.ts';
import { continuousCron } from '../settings/cron.ts';
import { destinationVaultArns, type VaultSettings } from './vault.ts';
import { addTiering } from './tiering.ts';
import { acknowledgeWildcard } from '../synth/wildcards.ts';

export interface BackupPlanOfArchivesProps {
  /** Of this account, versioned, and telling EventBridge what happens in it. One that exists is taken by its name. */
  readonly bucket: IBucket;
  /** What names begin with. */
  readonly prefix: string;
  /** When, for how long, and where copies go. */
  readonly vault: VaultSettings;
}

/** Shorter than the twelve hours between the two rules: see `continuousCron`. */
const START_WINDOW = Duration.hours(8);

/**
 * Backups of the bucket by AWS Backup: in a vault beside it, from which each periodic one is copied to the backup account. Vault and key outlive
 * the stack.
 */
export class BackupPlanOfArchives extends Construct {
  constructor(scope: Construct, id: string, props: BackupPlanOfArchivesProps) {
    super(scope, id);
    const { bucket, prefix, vault: settings } = props;
    const key = this.#addKey(prefix, settings.account);
    const vault = this.#addVault(prefix, settings, key);
    addTiering(this, settings, { backupVaultName: `${prefix}-source`, resource: bucket.bucketArn }, vault);
    const destinations = destinationVaultArns(Stack.of(this), prefix, settings);
    const role = backupRole(this, 'Role', {
      description: 'Backs the archives up and copies the backups',
      policy: 'AWSBackupServiceRolePolicyForS3Backup',
      key,
    });
    this.#allowCopies(role, destinations);
    const restoreRole = backupRole(this, 'RestoreRole', {
      description: 'Restores archives from a backup to a bucket of this account',
      policy: 'AWSBackupServiceRolePolicyForS3Restore',
      key,
    });
    this.#addPlan(props, vault, destinations).addSelection('Archives', {
      resources: [BackupResource.fromArn(bucket.bucketArn)],
      role,
      disableDefaultBackupPolicy: true,
    });
    this.#addOutputs(props, vault, role, restoreRole, destinations);
  }

  #addKey(prefix: string, backupAccount: string): IKey {
    const key = new Key(this, 'Key', {
      alias: `alias/${prefix}-backups`,
      description: 'Backups of Transship archives',
      enableKeyRotation: true,
      removalPolicy: RemovalPolicy.RETAIN,
    });
    if (backupAccount === Stack.of(this).account) return key;
    // a copy is made by AWS Backup of the account that it goes to, for which AWS asks all of this:
    // https://repost.aws/knowledge-center/backup-cross-account-copy-error
    const reader = new AccountPrincipal(backupAccount);
    key.addToResourcePolicy(
      new PolicyStatement({
        sid: 'CopiesToTheBackupAccount',
        principals: [reader],
        actions: ['kms:Decrypt', 'kms:DescribeKey', 'kms:Encrypt', 'kms:GenerateDataKey*', 'kms:ReEncrypt*'],
        // in the policy of a key: this key
        resources: ['*'],
      }),
    );
    key.addToResourcePolicy(
      new PolicyStatement({
        sid: 'CopiesToTheBackupAccountByGrant',
        principals: [reader],
        actions: ['kms:CreateGrant', 'kms:ListGrants', 'kms:RevokeGrant'],
        // in the policy of a key: this key
        resources: ['*'],
        conditions: { Bool: { 'kms:GrantIsForAWSResource': 'true' } },
      }),
    );
    return key;
  }

  #addVault(prefix: string, { sourceLock }: VaultSettings, key: IKey): IBackupVault {
    return new BackupVault(this, 'Vault', {
      backupVaultName: `${prefix}-source`,
      encryptionKey: key,
      blockRecoveryPointDeletion: true,
      lockConfiguration: {
        minRetention: Duration.days(sourceLock.minDays),
        maxRetention: Duration.days(sourceLock.maxDays),
      },
      removalPolicy: RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
    });
  }

  /** The managed policy for S3 has nothing of it: https://docs.aws.amazon.com/aws-backup/latest/devguide/create-cross-account-backup.html */
  #allowCopies(role: Role, destinations: readonly string[]): void {
    const recoveryPoints = Stack.of(this).formatArn({
      service: 'backup',
      resource: 'recovery-point',
      // AWS Backup names them
      resourceName: '*',
      arnFormat: ArnFormat.COLON_RESOURCE_NAME,
    });
    role.addToPolicy(new PolicyStatement({ actions: ['backup:CopyFromBackupVault'], resources: [recoveryPoints] }));
    role.addToPolicy(new PolicyStatement({ actions: ['backup:CopyIntoBackupVault'], resources: [...destinations] }));
    const keys = Stack.of(this).formatArn({ service: 'kms', region: '*', resource: 'key', resourceName: '*' });
    role.addToPolicy(
      new PolicyStatement({
        actions: ['kms:DescribeKey'],
        resources: [keys],
        conditions: { 'ForAnyValue:StringEquals': { 'kms:ResourceAliases': 'alias/aws/backup' } },
      }),
    );
    acknowledgeWildcard(
      role,
      keys,
      'A copy to another region looks up the key of AWS Backup, which has an id of its own in each; no other key has that alias.',
    );
    acknowledgeWildcard(
      role,
      recoveryPoints,
      'Recovery points are named by AWS Backup when it makes them; it is those of this account and region.',
    );
  }

  #addPlan(
    { prefix, vault: { plan } }: BackupPlanOfArchivesProps,
    vault: IBackupVault,
    to: readonly string[],
  ): BackupPlan {
    const continuous = plan.continuousDays > 0 ? continuousCron(plan.cron) : undefined;
    return new BackupPlan(this, 'Plan', {
      backupPlanName: `${prefix}-archives`,
      backupPlanRules: [
        new BackupPlanRule({
          ruleName: 'periodic',
          backupVault: vault,
          scheduleExpression: Schedule.expression(`cron(${plan.cron})`),
          startWindow: START_WINDOW,
          deleteAfter: Duration.days(plan.deleteAfterDays),
          copyActions: to.map((arn, i) => ({
            destinationBackupVault: BackupVault.fromBackupVaultArn(this, `Destination${i}`, arn),
            deleteAfter: Duration.days(plan.copyDeleteAfterDays),
          })),
        }),
        ...(continuous === undefined
          ? []
          : [
              // into the same vault: AWS Backup has it that way for S3
              new BackupPlanRule({
                ruleName: 'continuous',
                backupVault: vault,
                scheduleExpression: Schedule.expression(`cron(${continuous})`),
                startWindow: START_WINDOW,
                enableContinuousBackup: true,
                deleteAfter: Duration.days(plan.continuousDays),
              }),
            ]),
      ],
    });
  }

  #addOutputs(
    { bucket, vault: settings }: BackupPlanOfArchivesProps,
    { backupVaultName }: IBackupVault,
    role: Role,
    restoreRole: Role,
    [destination]: readonly string[],
  ): void {
    const stack = Stack.of(this);
    const { account, region } = stack;
    const output = (id: string, description: string, value: string): void => {
      // by this name, without that of a construct and a hash
      new CfnOutput(stack, id, { description, value });
    };
    output(
      'AllowS3',
      'Once in this account: AWS Backup may back up S3',
      `aws backup update-region-settings --resource-type-opt-in-preference S3=true --region ${region}`,
    );
    if (settings.account !== account)
      output(
        'AllowCopies',
        'Once, in the management account of the organization: backups may be copied from account to account',
        'aws backup update-global-settings --global-settings isCrossAccountBackupEnabled=true',
      );
    output(
      'BackUpNow',
      'A backup at once, which is not copied',
      `aws backup start-backup-job --backup-vault-name ${backupVaultName} --resource-arn ${bucket.bucketArn} --iam-role-arn ${role.roleArn} --lifecycle DeleteAfterDays=${settings.plan.deleteAfterDays} --region ${region}`,
    );
    output(
      'ListBackups',
      'What is in the vault beside the bucket',
      `aws backup list-recovery-points-by-backup-vault --backup-vault-name ${backupVaultName} --region ${region}`,
    );
    output(
      'ListCopies',
      'Have the copies arrived?',
      `aws backup list-copy-jobs --by-destination-vault-arn ${destination} --region ${region}`,
    );
    output(
      'RestoreBackup',
      'Restores a backup to a new bucket of this account',
      `aws backup start-restore-job --recovery-point-arn RECOVERY_POINT --resource-type S3 --iam-role-arn ${restoreRole.roleArn} --metadata DestinationBucketName=BUCKET,NewBucket=true,Encrypted=true,EncryptionType=SSE-S3,RestoreACLs=false --region ${region}`,
    );
  }
}
