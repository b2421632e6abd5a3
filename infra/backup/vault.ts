import { ArnFormat, CfnOutput, Duration, RemovalPolicy, Stack, type StackProps } from 'aws-cdk-lib';
import {
  BackupVault,
  CfnLogicallyAirGappedBackupVault,
  CfnRestoreTestingPlan,
  CfnRestoreTestingSelection,
  type IBackupVault,
  type LockConfiguration,
} from 'aws-cdk-lib/aws-backup';
import { Rule } from 'aws-cdk-lib/aws-events';
import { SnsTopic } from 'aws-cdk-lib/aws-events-targets';
import { AccountPrincipal, PolicyDocument, PolicyStatement, type IRole } from 'aws-cdk-lib/aws-iam';
import { Key, type IKey } from 'aws-cdk-lib/aws-kms';
import type { Topic } from 'aws-cdk-lib/aws-sns';
import { Construct } from 'constructs';
import { backupRole } from './backup-role.ts';
import { RestoreVerifier } from './restore-verifier.ts';
import { addTiering } from './tiering.ts';
import { admitAlarms, mailTopic } from '../monitoring/mail-topic.ts';
import type { InfraSettings } from '../settings/schema.ts';

export type VaultSettings = NonNullable<InfraSettings['vault']>;

export interface VaultStackProps extends StackProps {
  /** The start of every name. */
  readonly prefix: string;
  /** The account whose backups are copied here. */
  readonly sourceAccount: string;
  /** Its locks, and the schedule of restore tests. */
  readonly vault: VaultSettings;
  /** The addresses that get mail about failed restore tests. */
  readonly emails: readonly string[];
  /** How long the function that verifies restore tests keeps its logs. */
  readonly logRetentionDays: InfraSettings['logRetentionDays'];
  /** The URL of docs/runbook.md, for the alarm of restore tests. */
  readonly runbook: string;
}

/** The most days that a restore test looks back for a backup: https://docs.aws.amazon.com/aws-backup/latest/devguide/restore-testing.html */
const MAX_TEST_WINDOW_DAYS = 365;

/** The event about a restore may be minutes late, and a verification takes a quarter of an hour at most. */
const VALIDATION_HOURS = 2;

/**
 * The vaults of the backup account. The account of the archives cannot delete what is copied here. The vaults and their key outlive the stack,
 * but a failed first deployment deletes the vaults that it created: the next one creates them by the same names.
 */
export class VaultStack extends Stack {
  constructor(scope: Construct, id: string, props: VaultStackProps) {
    super(scope, id, props);
    const { prefix, sourceAccount, vault: settings } = props;
    const key = this.#addKey(prefix);
    const vault = this.#addVault(props, key);
    if (settings.airGapped !== undefined) this.#addAirGapped(prefix, sourceAccount, settings.airGapped);
    // those of another account have no name here
    addTiering(this, settings, { backupVaultName: vaultName(prefix), resource: '*' }, vault);
    const restoreRole = backupRole(this, 'RestoreRole', {
      description: 'Restores archives from the vault to a bucket of this account',
      policy: 'AWSBackupServiceRolePolicyForS3Restore',
      key,
    });
    if (settings.restoreTest !== undefined) this.#addRestoreTest(props, settings.restoreTest, vault, restoreRole);
    this.#addOutputs(settings, vault, restoreRole);
  }

  #addKey(prefix: string): IKey {
    return new Key(this, 'Key', {
      alias: `alias/${vaultName(prefix)}`,
      description: 'Copies of backups of Transship archives',
      enableKeyRotation: true,
      removalPolicy: RemovalPolicy.RETAIN,
    });
  }

  #addVault({ prefix, sourceAccount, vault: { lock } }: VaultStackProps, key: IKey): IBackupVault {
    return new BackupVault(this, 'Vault', {
      // the plan of the source account names the vault before it exists
      backupVaultName: vaultName(prefix),
      encryptionKey: key,
      accessPolicy: new PolicyDocument({ statements: [copyStatement(sourceAccount)] }),
      blockRecoveryPointDeletion: true,
      lockConfiguration: lockOf(lock),
      removalPolicy: RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
    });
  }

  #addAirGapped(
    prefix: string,
    sourceAccount: string,
    { minDays, maxDays }: NonNullable<VaultSettings['airGapped']>,
  ): void {
    const vault = new CfnLogicallyAirGappedBackupVault(this, 'AirGappedVault', {
      backupVaultName: airGappedVaultName(prefix),
      minRetentionDays: minDays,
      maxRetentionDays: maxDays,
      accessPolicy: new PolicyDocument({ statements: [copyStatement(sourceAccount)] }),
    });
    vault.applyRemovalPolicy(RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE);
  }

  /** AWS Backup restores the last copy to a bucket that it creates, and deletes after it was verified. */
  #addRestoreTest(
    { emails, logRetentionDays, prefix, runbook, vault: { plan } }: VaultStackProps,
    { cron, verify }: NonNullable<VaultSettings['restoreTest']>,
    vault: IBackupVault,
    restoreRole: IRole,
  ): void {
    // a name may contain letters, digits and "_" only
    const name = prefix.replaceAll('-', '_');
    const test = new CfnRestoreTestingPlan(this, 'RestoreTest', {
      restoreTestingPlanName: `${name}_restore_test`,
      scheduleExpression: `cron(${cron})`,
      recoveryPointSelection: {
        algorithm: 'LATEST_WITHIN_WINDOW',
        includeVaults: [vault.backupVaultArn],
        // a copy of a continuous backup is a snapshot too
        recoveryPointTypes: ['SNAPSHOT'],
        selectionWindowDays: Math.min(plan.copyDeleteAfterDays, MAX_TEST_WINDOW_DAYS),
      },
    });
    const selection = new CfnRestoreTestingSelection(this, 'RestoreTestSelection', {
      restoreTestingPlanName: test.restoreTestingPlanName,
      restoreTestingSelectionName: `${name}_archives`,
      iamRoleArn: restoreRole.roleArn,
      protectedResourceType: 'S3',
      // everything in the vault: backups of one bucket of another account
      protectedResourceArns: ['*'],
      // archives have no access control lists, and grants of another account would have no meaning here
      restoreMetadataOverrides: { restoreACLs: 'false' },
      // without a result by then AWS Backup deletes what it restored, and the result is TIMED_OUT
      ...(verify ? { validationWindowHours: VALIDATION_HOURS } : {}),
    });
    selection.addResourceDependency(test);
    const topic = emails.length > 0 ? this.#mailFailures(test.attrRestoreTestingPlanArn, emails, verify) : undefined;
    if (!verify) return;
    new RestoreVerifier(this, 'RestoreVerifier', {
      prefix,
      plan: test.attrRestoreTestingPlanArn,
      logRetention: logRetentionDays,
      runbook,
      topic,
    });
  }

  /**
   * Mails each restore that failed. No metric counts them, so the mail is the event itself. `hasAlarm`: the topic takes an alarm too.
   * https://docs.aws.amazon.com/aws-backup/latest/devguide/eventbridge.html
   */
  #mailFailures(plan: string, emails: readonly string[], hasAlarm: boolean): Topic {
    const from = ['events.amazonaws.com' as const, ...(hasAlarm ? ['cloudwatch.amazonaws.com' as const] : [])];
    const topic = mailTopic(new Construct(this, 'Mail'), { emails, from });
    new Rule(this, 'RestoreTestsFailed', {
      description: 'Restore tests of Transship archives that failed',
      eventPattern: {
        source: ['aws.backup'],
        detailType: ['Restore Job State Change'],
        // restore jobs have a `status` where other jobs have a `state`
        detail: { restoreTestingPlanArn: [plan], status: ['ABORTED', 'FAILED'] },
      },
      // for EventBridge, the policy of a topic cannot have conditions: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
      targets: [new SnsTopic(topic)],
    });
    if (hasAlarm) admitAlarms(topic);
    return topic;
  }

  #addOutputs(settings: VaultSettings, { backupVaultName, backupVaultArn }: IBackupVault, restoreRole: IRole): void {
    const { region } = settings;
    const output = (id: string, description: string, value: string): void => {
      new CfnOutput(this, id, { description, value });
    };
    output('VaultArn', 'The vault that backups are copied to', backupVaultArn);
    output(
      'CheckLock',
      'Shows whether the vault is locked, and until when the lock can be changed',
      `aws backup describe-backup-vault --backup-vault-name ${backupVaultName} --region ${region}`,
    );
    output(
      'ListBackups',
      'Lists the backups in the vault; run in the backup account',
      `aws backup list-recovery-points-by-backup-vault --backup-vault-name ${backupVaultName} --region ${region}`,
    );
    output(
      'RestoreBackup',
      'Restores a backup to a new bucket; run in the backup account',
      `aws backup start-restore-job --recovery-point-arn RECOVERY_POINT --resource-type S3 --iam-role-arn ${restoreRole.roleArn} --metadata DestinationBucketName=BUCKET,NewBucket=true,Encrypted=true,EncryptionType=SSE-S3,RestoreACLs=false --region ${region}`,
    );
    if (settings.restoreTest !== undefined)
      output(
        'ListRestoreTests',
        'Lists the results of restore tests; run in the backup account',
        `aws backup list-restore-jobs --by-resource-type=S3 --region ${region}`,
      );
  }
}

/** The vaults of the backup account that backups are copied to, as the stack of the source account names them. */
export function destinationVaultArns(source: Stack, prefix: string, vault: VaultSettings): readonly string[] {
  const names = [vaultName(prefix), ...(vault.airGapped === undefined ? [] : [airGappedVaultName(prefix)])];
  return names.map((resourceName) =>
    source.formatArn({
      service: 'backup',
      resource: 'backup-vault',
      account: vault.account,
      region: vault.region,
      resourceName,
      arnFormat: ArnFormat.COLON_RESOURCE_NAME,
    }),
  );
}

function vaultName(prefix: string): string {
  return `${prefix}-vault`;
}

function airGappedVaultName(prefix: string): string {
  return `${prefix}-air-gapped`;
}

function lockOf(lock: VaultSettings['lock']): LockConfiguration {
  return {
    minRetention: Duration.days(lock.minDays),
    maxRetention: Duration.days(lock.maxDays),
    // this makes it a compliance lock: after so many days it cannot be removed
    ...(lock.mode === 'compliance' && lock.changeableForDays !== undefined
      ? { changeableFor: Duration.days(lock.changeableForDays) }
      : {}),
  };
}

function copyStatement(sourceAccount: string): PolicyStatement {
  return new PolicyStatement({
    sid: 'CopiesOfTheSourceAccount',
    principals: [new AccountPrincipal(sourceAccount)],
    actions: ['backup:CopyIntoBackupVault'],
    // AWS Backup accepts only * in the policy of a vault, where it is that vault
    resources: ['*'],
  });
}
