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
  /** A versioned bucket of this account that sends its events to EventBridge. A bucket that exists already is given by its name. */
  readonly bucket: IBucket;
  /** The start of every name. */
  readonly prefix: string;
  /** When, for how long, and where copies go. */
  readonly vault: VaultSettings;
}

/** It is shorter than the twelve hours between the two rules: see `continuousCron`. */
const START_WINDOW = Duration.hours(8);

/**
 * AWS Backup backs the bucket up to a vault in the same account, and copies each periodic backup to the backup account. The vault and its key
 * outlive the stack.
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
      description: 'Backs up the archives and copies the backups',
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
    // AWS Backup of the backup account makes the copies, and needs these permissions for it:
    // https://repost.aws/knowledge-center/backup-cross-account-copy-error
    const reader = new AccountPrincipal(backupAccount);
    key.addToResourcePolicy(
      new PolicyStatement({
        sid: 'CopiesToTheBackupAccount',
        principals: [reader],
        actions: ['kms:Decrypt', 'kms:DescribeKey', 'kms:Encrypt', 'kms:GenerateDataKey*', 'kms:ReEncrypt*'],
        // in a key's policy, * is that key
        resources: ['*'],
      }),
    );
    key.addToResourcePolicy(
      new PolicyStatement({
        sid: 'CopiesToTheBackupAccountByGrant',
        principals: [reader],
        actions: ['kms:CreateGrant', 'kms:ListGrants', 'kms:RevokeGrant'],
        // in a key's policy, * is that key
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

  /** The managed policy for S3 does not allow copies: https://docs.aws.amazon.com/aws-backup/latest/devguide/create-cross-account-backup.html */
  #allowCopies(role: Role, destinations: readonly string[]): void {
    const recoveryPoints = Stack.of(this).formatArn({
      service: 'backup',
      resource: 'recovery-point',
      // AWS Backup chooses their names
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
      'A copy to another Region looks up the key of AWS Backup, whose id differs in each Region. No other key has that alias.',
    );
    acknowledgeWildcard(
      role,
      recoveryPoints,
      'AWS Backup names recovery points when it creates them. The ARN covers those of this account and Region.',
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
              // AWS Backup requires the same vault as for periodic backups of S3
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
      // the output has this name, without that of a construct and a hash
      new CfnOutput(stack, id, { description, value });
    };
    output(
      'AllowS3',
      'Run once in this account: lets AWS Backup back up S3',
      `aws backup update-region-settings --resource-type-opt-in-preference S3=true --region ${region}`,
    );
    if (settings.account !== account)
      output(
        'AllowCopies',
        'Run once in the management account of the organization: lets AWS Backup copy backups between accounts',
        'aws backup update-global-settings --global-settings isCrossAccountBackupEnabled=true',
      );
    output(
      'BackUpNow',
      'Backs up now, without a copy',
      `aws backup start-backup-job --backup-vault-name ${backupVaultName} --resource-arn ${bucket.bucketArn} --iam-role-arn ${role.roleArn} --lifecycle DeleteAfterDays=${settings.plan.deleteAfterDays} --region ${region}`,
    );
    output(
      'ListBackups',
      'Lists the backups in the vault of this account',
      `aws backup list-recovery-points-by-backup-vault --backup-vault-name ${backupVaultName} --region ${region}`,
    );
    output(
      'ListCopies',
      'Lists copies to the backup account and their state',
      `aws backup list-copy-jobs --by-destination-vault-arn ${destination} --region ${region}`,
    );
    output(
      'RestoreBackup',
      'Restores a backup to a new bucket of this account',
      `aws backup start-restore-job --recovery-point-arn RECOVERY_POINT --resource-type S3 --iam-role-arn ${restoreRole.roleArn} --metadata DestinationBucketName=BUCKET,NewBucket=true,Encrypted=true,EncryptionType=SSE-S3,RestoreACLs=false --region ${region}`,
    );
  }
}
