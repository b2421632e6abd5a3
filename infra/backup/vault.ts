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
import { Construct } from 'constructs';
import { backupRole } from './backup-role.ts';
import { addTiering } from './tiering.ts';
import { mailTopic } from '../monitoring/mail-topic.ts';
import type { InfraSettings } from '../settings/schema.ts';

export type VaultSettings = NonNullable<InfraSettings['vault']>;

export interface VaultStackProps extends StackProps {
  /** What names begin with. */
  readonly prefix: string;
  /** The account whose backups are copied here. */
  readonly sourceAccount: string;
  /** Its locks, and when a restore is tried. */
  readonly vault: VaultSettings;
  /** Who is told of restore tests that failed. */
  readonly emails: readonly string[];
}

/** The most days that a restore test looks back for a backup: https://docs.aws.amazon.com/aws-backup/latest/devguide/restore-testing.html */
const MAX_TEST_WINDOW_DAYS = 365;

/**
 * The vaults of the backup account: what is copied here the account of the archives cannot delete. Vaults and key outlive the stack; but vaults
 * of a deployment that failed go, since the next one makes them by the same names.
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
    if (settings.restoreTest !== undefined) this.#addRestoreTest(props, settings.restoreTest.cron, vault, restoreRole);
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
      // the plan of the source account names it before it is there
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

  /** The last copy is restored to a bucket that AWS Backup makes, and deletes when the test is over. */
  #addRestoreTest(
    { emails, prefix, vault: { plan } }: VaultStackProps,
    cron: string,
    vault: IBackupVault,
    restoreRole: IRole,
  ): void {
    // a name has letters, digits and "_" only
    const name = prefix.replaceAll('-', '_');
    const test = new CfnRestoreTestingPlan(this, 'RestoreTest', {
      restoreTestingPlanName: `${name}_restore_test`,
      scheduleExpression: `cron(${cron})`,
      recoveryPointSelection: {
        algorithm: 'LATEST_WITHIN_WINDOW',
        includeVaults: [vault.backupVaultArn],
        // a copy of a continuous backup is a snapshot as well
        recoveryPointTypes: ['SNAPSHOT'],
        selectionWindowDays: Math.min(plan.copyDeleteAfterDays, MAX_TEST_WINDOW_DAYS),
      },
    });
    const selection = new CfnRestoreTestingSelection(this, 'RestoreTestSelection', {
      restoreTestingPlanName: test.restoreTestingPlanName,
      restoreTestingSelectionName: `${name}_archives`,
      iamRoleArn: restoreRole.roleArn,
      protectedResourceType: 'S3',
      // all that is in the vault, which is one bucket of another account
      protectedResourceArns: ['*'],
      // archives have no access control lists, and those of another account would mean nobody here
      restoreMetadataOverrides: { restoreACLs: 'false' },
    });
    selection.addResourceDependency(test);
    if (emails.length > 0) this.#tellOfFailures(test.attrRestoreTestingPlanArn, emails);
  }

  /** There are no alarms in this account, so the event itself is the mail. https://docs.aws.amazon.com/aws-backup/latest/devguide/eventbridge.html */
  #tellOfFailures(plan: string, emails: readonly string[]): void {
    new Rule(this, 'RestoreTestsFailed', {
      description: 'Restore tests of Transship archives that failed',
      eventPattern: {
        source: ['aws.backup'],
        detailType: ['Restore Job State Change'],
        // of other jobs this is the state, of these the status
        detail: { restoreTestingPlanArn: [plan], status: ['ABORTED', 'FAILED'] },
      },
      // EventBridge has no condition in the policy of a topic: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
      targets: [new SnsTopic(mailTopic(new Construct(this, 'Mail'), { emails, from: 'events.amazonaws.com' }))],
    });
  }

  #addOutputs(settings: VaultSettings, { backupVaultName, backupVaultArn }: IBackupVault, restoreRole: IRole): void {
    const { region } = settings;
    const output = (id: string, description: string, value: string): void => {
      new CfnOutput(this, id, { description, value });
    };
    output('VaultArn', 'The vault that backups are copied to', backupVaultArn);
    output(
      'CheckLock',
      'Is it locked, and until when can that be changed?',
      `aws backup describe-backup-vault --backup-vault-name ${backupVaultName} --region ${region}`,
    );
    output(
      'ListBackups',
      'What is in it, in the backup account',
      `aws backup list-recovery-points-by-backup-vault --backup-vault-name ${backupVaultName} --region ${region}`,
    );
    output(
      'RestoreBackup',
      'Restores a backup to a new bucket, in the backup account',
      `aws backup start-restore-job --recovery-point-arn RECOVERY_POINT --resource-type S3 --iam-role-arn ${restoreRole.roleArn} --metadata DestinationBucketName=BUCKET,NewBucket=true,Encrypted=true,EncryptionType=SSE-S3,RestoreACLs=false --region ${region}`,
    );
    if (settings.restoreTest !== undefined)
      output(
        'ListRestoreTests',
        'What the restore tests came to, in the backup account',
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
    // what makes it compliance: after so many days nobody can take it off
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
    // in the policy of a vault AWS Backup takes nothing else, and it is this vault
    resources: ['*'],
  });
}
