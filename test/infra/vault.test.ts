import { Stack } from 'aws-cdk-lib';
import { Match, Template, type Matcher } from 'aws-cdk-lib/assertions';
import { Bucket } from 'aws-cdk-lib/aws-s3';
import { describe, expect, test } from 'vitest';
import { BackupPlanOfArchives } from '../../infra/backup/backup-plan.ts';
import { VaultStack, type VaultSettings } from '../../infra/backup/vault.ts';
import { ACCOUNT, REGION, app, findings, refused, settingsOf } from './templates.ts';

const BACKUP_ACCOUNT = '222222222222';
const BASE = `vault: { account: '${BACKUP_ACCOUNT}', region: eu-west-1`;
const CONSENT = 'nobody can delete these backups, and nobody can undo this';
const VAULT = 'AWS::Backup::BackupVault';
const KEEPS = { DeletionPolicy: 'RetainExceptOnCreate', UpdateReplacePolicy: 'Retain' };

function vaultSettings(more = ''): VaultSettings {
  const { vault } = settingsOf(`${BASE}${more} }\nalarms: { backupAgeDays: 0 }`);
  if (vault === undefined) throw new Error('no vault');
  return vault;
}

function vaultStack(more = '', emails: readonly string[] = []): VaultStack {
  return new VaultStack(app(), 'TransshipVault', {
    env: { account: BACKUP_ACCOUNT, region: 'eu-west-1' },
    prefix: 'tea-ship',
    sourceAccount: ACCOUNT,
    vault: vaultSettings(more),
    emails,
    logRetentionDays: 90,
    runbook: 'https://example.com/runbook',
  });
}

function planStack(more = ''): Stack {
  const stack = new Stack(app(), 'Transship', { env: { account: ACCOUNT, region: REGION } });
  new BackupPlanOfArchives(stack, 'Backups', {
    bucket: Bucket.fromBucketName(stack, 'Bucket', 'archives'),
    prefix: 'tea-ship',
    vault: vaultSettings(more),
  });
  return stack;
}

describe('the vault of the backup account', () => {
  test('has its own key that rotates, accepts copies of the source account, and allows no deletion', () => {
    const template = Template.fromStack(vaultStack());
    template.hasResource('AWS::KMS::Key', {
      Properties: { EnableKeyRotation: true },
      DeletionPolicy: 'Retain',
      UpdateReplacePolicy: 'Retain',
    });
    template.hasResource(VAULT, {
      Properties: {
        BackupVaultName: 'tea-ship-vault',
        EncryptionKeyArn: { 'Fn::GetAtt': [Match.stringLikeRegexp('^Key'), 'Arn'] },
        AccessPolicy: {
          Statement: [
            {
              Effect: 'Allow',
              Action: 'backup:CopyIntoBackupVault',
              Principal: { AWS: Match.anyValue() },
            },
            {
              Effect: 'Deny',
              Action: ['backup:DeleteRecoveryPoint', 'backup:UpdateRecoveryPointLifecycle'],
              Principal: { AWS: '*' },
            },
          ].map((statement) => Match.objectLike(statement)),
        },
      },
      ...KEEPS,
    });
    expect(JSON.stringify(template.findResources(VAULT))).toContain(`:iam::${ACCOUNT}:root`);
  });

  test('has a governance lock, which has no date', () => {
    Template.fromStack(vaultStack(', lock: { minDays: 10, maxDays: 100 }')).hasResourceProperties(VAULT, {
      LockConfiguration: { MinRetentionDays: 10, MaxRetentionDays: 100, ChangeableForDays: Match.absent() },
    });
  });

  test('has a permanent lock where the settings consent to it', () => {
    const lock = `, lock: { mode: compliance, changeableForDays: 5, consent: '${CONSENT}' }`;
    Template.fromStack(vaultStack(lock)).hasResourceProperties(VAULT, {
      LockConfiguration: { MinRetentionDays: 7, MaxRetentionDays: 365, ChangeableForDays: 5 },
    });
  });

  test('has a restore role for S3 only, and neither an air-gapped vault nor a restore test by default', () => {
    const template = Template.fromStack(vaultStack());
    template.resourceCountIs('AWS::IAM::Role', 1);
    template.hasResourceProperties('AWS::IAM::Role', {
      AssumeRolePolicyDocument: { Statement: [Match.objectLike({ Principal: { Service: 'backup.amazonaws.com' } })] },
      ManagedPolicyArns: [managedPolicy('AWSBackupServiceRolePolicyForS3Restore')],
    });
    template.resourceCountIs('AWS::Backup::LogicallyAirGappedBackupVault', 0);
    template.resourceCountIs('AWS::Backup::RestoreTestingPlan', 0);
  });

  test('may be restored from, by a role that may use the key of the copies', () => {
    Template.fromStack(vaultStack()).hasResourceProperties('AWS::IAM::Policy', {
      Roles: [{ Ref: Match.stringLikeRegexp('^RestoreRole') }],
      PolicyDocument: { Statement: keyStatements('^Key') },
    });
  });

  test('does not block the next attempt when its first deployment fails', () => {
    for (const stack of [vaultStack(`, airGapped: { consent: '${CONSENT}' }`), planStack()])
      for (const type of [VAULT, 'AWS::Backup::LogicallyAirGappedBackupVault'])
        for (const [id, vault] of Object.entries(Template.fromStack(stack).findResources(type)))
          expect(vault, id).toMatchObject(KEEPS);
  });

  test('has an air-gapped vault on request, which also accepts copies and is retained', () => {
    const stack = vaultStack(`, airGapped: { minDays: 20, maxDays: 200, consent: '${CONSENT}' }`);
    Template.fromStack(stack).hasResource('AWS::Backup::LogicallyAirGappedBackupVault', {
      Properties: {
        BackupVaultName: 'tea-ship-air-gapped',
        MinRetentionDays: 20,
        MaxRetentionDays: 200,
        AccessPolicy: { Statement: [Match.objectLike({ Action: 'backup:CopyIntoBackupVault' })] },
      },
      ...KEEPS,
    });
  });

  test('restores its last copy on a schedule on request', () => {
    const template = Template.fromStack(vaultStack(', restoreTest: {}, plan: { copyDeleteAfterDays: 365 }'));
    template.hasResourceProperties('AWS::Backup::RestoreTestingPlan', {
      // a name with "-" is refused
      RestoreTestingPlanName: 'tea_ship_restore_test',
      ScheduleExpression: 'cron(0 8 ? * SUN *)',
      RecoveryPointSelection: { Algorithm: 'LATEST_WITHIN_WINDOW', SelectionWindowDays: 365 },
    });
    template.hasResourceProperties('AWS::Backup::RestoreTestingSelection', {
      ProtectedResourceType: 'S3',
      ProtectedResourceArns: ['*'],
      IamRoleArn: { 'Fn::GetAtt': [Match.stringLikeRegexp('^RestoreRole'), 'Arn'] },
    });
  });

  test('has a restore test that looks back at most a year', () => {
    const days = ', lock: { maxDays: 800 }, plan: { copyDeleteAfterDays: 700 }, restoreTest: {}';
    Template.fromStack(vaultStack(days)).hasResourceProperties('AWS::Backup::RestoreTestingPlan', {
      RecoveryPointSelection: { SelectionWindowDays: 365 },
    });
  });

  test('verifies what a restore test restored, within the hours that AWS Backup keeps it for', () => {
    const template = Template.fromStack(vaultStack(', restoreTest: {}'));
    template.hasResourceProperties('AWS::Backup::RestoreTestingSelection', { ValidationWindowHours: 2 });
    template.hasResourceProperties('AWS::Lambda::Function', {
      Timeout: 900,
      MemorySize: 3008,
      EphemeralStorage: { Size: 10_240 },
    });
    template.hasResourceProperties('AWS::Events::Rule', {
      EventPattern: {
        source: ['aws.backup'],
        'detail-type': ['Restore Job State Change'],
        detail: {
          restoreTestingPlanArn: [{ 'Fn::GetAtt': [Match.stringLikeRegexp('^RestoreTest'), 'RestoreTestingPlanArn'] }],
          status: ['COMPLETED'],
        },
      },
      Targets: [Match.objectLike({ Arn: { 'Fn::GetAtt': [Match.stringLikeRegexp('^RestoreVerifier'), 'Arn'] } })],
    });
    // a second verification would find the bucket deleted
    template.hasResourceProperties('AWS::Lambda::EventInvokeConfig', { MaximumRetryAttempts: 0 });
  });

  test('has an alarm for a restore that was not verified, which sends mail where the settings name addresses', () => {
    for (const emails of [[], ['operators@example.com']])
      Template.fromStack(vaultStack(', restoreTest: {}', emails)).hasResourceProperties('AWS::CloudWatch::Alarm', {
        AlarmName: 'tea-ship-restore-test-not-verified',
        AlarmDescription: Match.stringLikeRegexp('https://example.com/runbook#a-restore-test-that-failed$'),
        Namespace: 'AWS/Lambda',
        MetricName: 'Errors',
        Threshold: 1,
        TreatMissingData: 'notBreaching',
        AlarmActions: emails.length === 0 ? Match.absent() : [{ Ref: Match.stringLikeRegexp('^MailTopic') }],
      });
    const template = Template.fromStack(vaultStack(', restoreTest: {}', ['operators@example.com']));
    template.hasResourceProperties('AWS::SNS::TopicPolicy', {
      PolicyDocument: {
        Statement: Match.arrayWith([
          Match.objectLike({
            Principal: { Service: 'cloudwatch.amazonaws.com' },
            Condition: { StringEquals: { 'aws:SourceAccount': BACKUP_ACCOUNT } },
          }),
        ]),
      },
    });
    template.hasResourceProperties('AWS::KMS::Key', {
      KeyPolicy: {
        Statement: Match.arrayWith([
          Match.objectLike({ Principal: { Service: ['cloudwatch.amazonaws.com', 'events.amazonaws.com'] } }),
        ]),
      },
    });
  });

  test('has no function where the settings leave the verification out', () => {
    const template = Template.fromStack(vaultStack(', restoreTest: { verify: false }', ['operators@example.com']));
    template.resourceCountIs('AWS::Lambda::Function', 0);
    template.hasResourceProperties('AWS::Backup::RestoreTestingSelection', { ValidationWindowHours: Match.absent() });
    template.hasResourceProperties('AWS::KMS::Key', {
      KeyPolicy: {
        Statement: Match.arrayWith([
          Match.objectLike({ Sid: 'Alarms', Principal: { Service: 'events.amazonaws.com' } }),
        ]),
      },
    });
  });

  test('sends mail about a failed restore test where the settings name addresses, since no metric counts it', () => {
    const template = Template.fromStack(vaultStack(', restoreTest: {}', ['operators@example.com']));
    template.hasResourceProperties('AWS::Events::Rule', {
      EventPattern: {
        source: ['aws.backup'],
        'detail-type': ['Restore Job State Change'],
        detail: {
          restoreTestingPlanArn: [{ 'Fn::GetAtt': ['RestoreTest', 'RestoreTestingPlanArn'] }],
          status: ['ABORTED', 'FAILED'],
        },
      },
      Targets: [Match.objectLike({ Arn: { Ref: Match.stringLikeRegexp('^MailTopic') } })],
    });
    template.hasResourceProperties('AWS::SNS::Subscription', { Protocol: 'email', Endpoint: 'operators@example.com' });
    // with a condition, nothing would be delivered
    const publish = { Effect: 'Allow', Action: 'sns:Publish', Principal: { Service: 'events.amazonaws.com' } };
    template.hasResourceProperties('AWS::SNS::TopicPolicy', {
      PolicyDocument: { Statement: Match.arrayWith([Match.objectLike({ ...publish, Condition: Match.absent() })]) },
    });
    template.hasResourceProperties('AWS::KMS::Key', {
      KeyPolicy: {
        Statement: Match.arrayWith([
          Match.objectLike({
            Action: ['kms:Decrypt', 'kms:GenerateDataKey*'],
            Principal: { Service: 'events.amazonaws.com' },
          }),
        ]),
      },
    });
    for (const [more, emails] of [
      ['', ['operators@example.com']],
      [', restoreTest: {}', []],
    ] as const)
      Template.fromStack(vaultStack(more, emails)).resourceCountIs('AWS::SNS::Topic', 0);
    expect(findings(vaultStack(', restoreTest: {}', ['operators@example.com']))).toEqual([]);
  });

  test('passes cdk-nag', () => {
    expect(findings(vaultStack(`, airGapped: { consent: '${CONSENT}' }, restoreTest: {}`))).toEqual([]);
  });
});

describe('the plan of the source account', () => {
  test('backs up the bucket by its ARN, and copies every backup to the backup account', () => {
    const template = Template.fromStack(planStack());
    template.hasResourceProperties('AWS::Backup::BackupPlan', {
      BackupPlan: {
        BackupPlanRule: [
          {
            RuleName: 'periodic',
            ScheduleExpression: 'cron(0 5 * * ? *)',
            StartWindowMinutes: 480,
            Lifecycle: { DeleteAfterDays: 35 },
            CopyActions: [
              {
                DestinationBackupVaultArn: `arn:aws:backup:eu-west-1:${BACKUP_ACCOUNT}:backup-vault:tea-ship-vault`,
                Lifecycle: { DeleteAfterDays: 90 },
              },
            ],
            TargetBackupVault: { 'Fn::GetAtt': [Match.stringLikeRegexp('^BackupsVault'), 'BackupVaultName'] },
          },
        ],
      },
    });
    template.hasResourceProperties('AWS::Backup::BackupSelection', {
      BackupSelection: {
        Resources: ['arn:aws:s3:::archives'],
        IamRoleArn: { 'Fn::GetAtt': [Match.stringLikeRegexp('^BackupsRole'), 'Arn'] },
      },
    });
  });

  test('copies to the air-gapped vault too where it exists', () => {
    const template = Template.fromStack(planStack(`, airGapped: { consent: '${CONSENT}' }`));
    const copy = (name: string): unknown => ({
      DestinationBackupVaultArn: `arn:aws:backup:eu-west-1:${BACKUP_ACCOUNT}:backup-vault:${name}`,
      Lifecycle: { DeleteAfterDays: 90 },
    });
    template.hasResourceProperties('AWS::Backup::BackupPlan', {
      BackupPlan: {
        BackupPlanRule: [{ CopyActions: [copy('tea-ship-vault'), copy('tea-ship-air-gapped')] }].map((rule) =>
          Match.objectLike(rule),
        ),
      },
    });
  });

  test('has a separate rule for continuous backups, in the same vault, twelve hours apart and without copies', () => {
    const template = Template.fromStack(planStack(', plan: { cron: 30 15 ? * MON *, continuousDays: 14 }'));
    const vault = { 'Fn::GetAtt': [Match.stringLikeRegexp('^BackupsVault'), 'BackupVaultName'] };
    template.resourceCountIs(VAULT, 1);
    template.hasResourceProperties('AWS::Backup::BackupPlan', {
      BackupPlan: {
        BackupPlanRule: [
          Match.objectLike({
            RuleName: 'periodic',
            ScheduleExpression: 'cron(30 15 ? * MON *)',
            TargetBackupVault: vault,
          }),
          {
            RuleName: 'continuous',
            ScheduleExpression: 'cron(30 3 * * ? *)',
            StartWindowMinutes: 480,
            EnableContinuousBackup: true,
            Lifecycle: { DeleteAfterDays: 14 },
            TargetBackupVault: vault,
            CopyActions: Match.absent(),
          },
        ],
      },
    });
  });

  test('has a vault with its own key and a governance lock, which allows no deletion', () => {
    const template = Template.fromStack(planStack(', sourceLock: { minDays: 20, maxDays: 40 }'));
    template.hasResource(VAULT, {
      Properties: {
        BackupVaultName: 'tea-ship-source',
        LockConfiguration: { MinRetentionDays: 20, MaxRetentionDays: 40, ChangeableForDays: Match.absent() },
        AccessPolicy: { Statement: [Match.objectLike({ Effect: 'Deny', Principal: { AWS: '*' } })] },
      },
      ...KEEPS,
    });
    template.hasResource('AWS::KMS::Key', { DeletionPolicy: 'Retain', Properties: { EnableKeyRotation: true } });
  });

  test('lets the backup account use its key for copies, and for nothing more', () => {
    const shared = (stack: Stack): unknown[] => {
      const [key] = Object.values(Template.fromStack(stack).findResources('AWS::KMS::Key'));
      const statements: { readonly Principal: unknown }[] = key?.['Properties'].KeyPolicy.Statement;
      return statements.filter(({ Principal }) => JSON.stringify(Principal).includes(BACKUP_ACCOUNT));
    };
    expect(shared(planStack())).toEqual([
      expect.objectContaining({
        Action: ['kms:Decrypt', 'kms:DescribeKey', 'kms:Encrypt', 'kms:GenerateDataKey*', 'kms:ReEncrypt*'],
      }),
      expect.objectContaining({
        Action: ['kms:CreateGrant', 'kms:ListGrants', 'kms:RevokeGrant'],
        Condition: { Bool: { 'kms:GrantIsForAWSResource': 'true' } },
      }),
    ]);
  });

  test('has roles that may use its key, and look up the key of AWS for copies to another Region', () => {
    const template = Template.fromStack(planStack());
    for (const role of ['^BackupsRole', '^BackupsRestoreRole'])
      template.hasResourceProperties('AWS::IAM::Policy', {
        Roles: [{ Ref: Match.stringLikeRegexp(role) }],
        PolicyDocument: { Statement: keyStatements('^BackupsKey') },
      });
    template.hasResourceProperties('AWS::IAM::Policy', {
      Roles: [{ Ref: Match.stringLikeRegexp('^BackupsRole') }],
      PolicyDocument: {
        Statement: Match.arrayWith([
          {
            Effect: 'Allow',
            Action: 'kms:DescribeKey',
            Resource: `arn:aws:kms:*:${ACCOUNT}:key/*`,
            Condition: { 'ForAnyValue:StringEquals': { 'kms:ResourceAliases': 'alias/aws/backup' } },
          },
        ]),
      },
    });
  });

  test('has a role with the managed policy for S3, and the permissions for copies, which that policy lacks', () => {
    const template = Template.fromStack(planStack());
    template.hasResourceProperties('AWS::IAM::Role', {
      ManagedPolicyArns: [managedPolicy('AWSBackupServiceRolePolicyForS3Backup')],
    });
    template.hasResourceProperties('AWS::IAM::Policy', {
      PolicyDocument: {
        Statement: Match.arrayWith([
          {
            Effect: 'Allow',
            Action: 'backup:CopyFromBackupVault',
            Resource: `arn:aws:backup:${REGION}:${ACCOUNT}:recovery-point:*`,
          },
          {
            Effect: 'Allow',
            Action: 'backup:CopyIntoBackupVault',
            Resource: `arn:aws:backup:eu-west-1:${BACKUP_ACCOUNT}:backup-vault:tea-ship-vault`,
          },
        ]),
      },
    });
  });

  test('has no role that may both back up and restore, and none with the policy of all services', () => {
    const roles = Object.values(Template.fromStack(planStack()).findResources('AWS::IAM::Role'));
    const policies = roles.map((role) => JSON.stringify(role).match(/policy\/[\w/-]+/g));
    expect(policies).toEqual([
      ['policy/AWSBackupServiceRolePolicyForS3Backup'],
      ['policy/AWSBackupServiceRolePolicyForS3Restore'],
    ]);
  });

  test('has outputs with the commands to type, and with the one for the management account', () => {
    const outputs = Object.values(Template.fromStack(planStack()).findOutputs('*')).map((output) =>
      JSON.stringify(output),
    );
    for (const command of [
      'aws backup update-region-settings --resource-type-opt-in-preference S3=true',
      'aws backup update-global-settings --global-settings isCrossAccountBackupEnabled=true',
      'aws backup start-backup-job',
      'aws backup list-copy-jobs --by-destination-vault-arn',
      'aws backup start-restore-job',
    ])
      expect(outputs.filter((output) => output.includes(command))).toHaveLength(1);
  });

  test('passes cdk-nag', () => {
    expect(findings(planStack(', plan: { continuousDays: 35 }'))).toEqual([]);
  });
});

describe('settings of a vault that are refused', () => {
  const NEVER = `lock: { mode: compliance, changeableForDays: 3, consent: '${CONSENT}' }`;
  test.each([
    [
      'a compliance lock without consent',
      'lock: { mode: compliance, changeableForDays: 3 }',
      `vault.lock.consent: a compliance lock is permanent: confirm it with consent: "${CONSENT}"`,
    ],
    [
      'a consent in other words',
      "lock: { mode: compliance, changeableForDays: 3, consent: 'yes' }",
      `vault.lock.consent "yes": a compliance lock is permanent: confirm it with consent: "${CONSENT}"`,
    ],
    [
      'a compliance lock at once',
      `lock: { mode: compliance, consent: '${CONSENT}' }`,
      'vault.lock.changeableForDays: a compliance lock needs the number of days in which it can still be changed, at least 3',
    ],
    [
      'two days to change the lock',
      `lock: { mode: compliance, changeableForDays: 2, consent: '${CONSENT}' }`,
      'vault.lock.changeableForDays 2: Too small: expected number to be >=3',
    ],
    [
      'a date on a governance lock',
      'lock: { changeableForDays: 3 }',
      'vault.lock.changeableForDays 3: makes a lock a compliance lock: remove it, or set mode: compliance',
    ],
    [
      'reversed bounds',
      'lock: { minDays: 100, maxDays: 99 }, plan: { copyDeleteAfterDays: 100 }',
      'vault.lock.minDays 100: 100 is more than maxDays, 99',
    ],
    [
      'a copy that is deleted before the lock allows it',
      'plan: { copyDeleteAfterDays: 6 }',
      'vault.plan.copyDeleteAfterDays 6: 6 is outside what the lock accepts, 7 to 365: the job would fail when it runs',
    ],
    [
      'a copy that is kept longer than the lock allows',
      `${NEVER}, plan: { copyDeleteAfterDays: 366 }`,
      'vault.plan.copyDeleteAfterDays 366: 366 is outside what the lock accepts, 7 to 365: the job would fail when it runs',
    ],
    [
      'a copy outside the bounds of the air-gapped vault',
      `airGapped: { minDays: 100, consent: '${CONSENT}' }`,
      'vault.plan.copyDeleteAfterDays: 90 is outside what the air-gapped vault accepts, 100 to 365: the job would fail when it runs',
    ],
    [
      'an air-gapped vault without consent',
      "airGapped: { consent: 'fine' }",
      `vault.airGapped.consent "fine": an air-gapped vault is permanently locked: confirm it with consent: "${CONSENT}"`,
    ],
    [
      'an air-gapped vault of less than a week',
      `airGapped: { minDays: 6, consent: '${CONSENT}' }`,
      'vault.airGapped.minDays 6: Too small: expected number to be >=7',
    ],
    [
      'reversed bounds of an air-gapped vault',
      `airGapped: { minDays: 90, maxDays: 89, consent: '${CONSENT}' }`,
      'vault.airGapped.minDays 90: 90 is more than maxDays, 89',
    ],
    [
      'a backup that is deleted before its own vault allows it',
      'plan: { deleteAfterDays: 3 }',
      'vault.plan.deleteAfterDays 3: 3 is outside what sourceLock accepts, 7 to 365: the job would fail when it runs',
    ],
    [
      'a backup that is kept longer than its own vault allows',
      'sourceLock: { maxDays: 30 }',
      'vault.plan.deleteAfterDays: 35 is outside what sourceLock accepts, 7 to 30: the job would fail when it runs',
    ],
    [
      'reversed bounds of the source vault',
      'sourceLock: { minDays: 36, maxDays: 35 }, plan: { deleteAfterDays: 36 }',
      'vault.sourceLock.minDays 36: 36 is more than maxDays, 35',
    ],
    [
      'continuous backups of more than 35 days',
      'plan: { continuousDays: 36 }',
      'vault.plan.continuousDays 36: 36 is more than the 35 days that AWS Backup keeps continuous backups',
    ],
    [
      'continuous backups that are shorter than the vault allows',
      'plan: { continuousDays: 5 }',
      'vault.plan.continuousDays 5: 5 is outside what sourceLock accepts, 7 to 365: the job would fail when it runs',
    ],
    [
      'continuous backups with a plan without a single hour',
      'plan: { cron: 0 */6 * * ? *, continuousDays: 14 }',
      'vault.plan.cron "0 */6 * * ? *": the rule of continuousDays starts twelve hours after it: expected one number of minutes and one of hours, such as 0 5 * * ? *',
    ],
    [
      'a cron of five fields',
      'plan: { cron: 0 5 * * * }',
      'vault.plan.cron "0 5 * * *": expected minutes, hours, day of month, month, day of week and year, one of the two days being ?: such as 0 5 * * ? *',
    ],
    [
      'a cron with both days',
      'restoreTest: { cron: 0 5 * * * * }',
      'vault.restoreTest.cron "0 5 * * * *": expected minutes, hours, day of month, month, day of week and year, one of the two days being ?: such as 0 5 * * ? *',
    ],
  ])('%s', (_, more, message) => {
    expect(refused(`${BASE}, ${more} }`)).toEqual([`test.yaml: ${message}`]);
  });

  test.each(['GLACIER', 'DEEP_ARCHIVE'])('a bucket whose archives go to %s, which AWS Backup skips', (storageClass) => {
    expect(refused(`bucket: { storageClass: ${storageClass} }\n${BASE} }`)).toEqual([
      `test.yaml: bucket.storageClass "${storageClass}": AWS Backup skips objects of ${storageClass} without an error: use GLACIER_IR, STANDARD_IA, INTELLIGENT_TIERING or STANDARD, or remove the vault`,
    ]);
  });

  test('a vault in the account and Region of the archives', () => {
    expect(refused(`vault: { account: '${ACCOUNT}', region: ${REGION} }`)).toEqual([
      `test.yaml: vault.account "${ACCOUNT}": the archives are in ${REGION} of this account: name another account, or at least another Region`,
    ]);
  });

  test('values on the bounds are accepted', () => {
    const plan = 'plan: { deleteAfterDays: 7, copyDeleteAfterDays: 365, continuousDays: 35 }';
    expect(refused(`${BASE}, ${plan}, airGapped: { minDays: 7, maxDays: 365, consent: '${CONSENT}' } }`)).toEqual([]);
  });
});

/** The permissions that a role needs for the key of a vault. */
function keyStatements(key: string): Matcher {
  const Resource = { 'Fn::GetAtt': [Match.stringLikeRegexp(key), 'Arn'] };
  return Match.arrayWith([
    Match.objectLike({ Action: ['kms:Decrypt', 'kms:DescribeKey', 'kms:GenerateDataKey'], Resource }),
    Match.objectLike({
      Action: 'kms:CreateGrant',
      Condition: { Bool: { 'kms:GrantIsForAWSResource': 'true' } },
      Resource,
    }),
  ]);
}

function managedPolicy(name: string): unknown {
  return { 'Fn::Join': ['', Match.arrayWith([`:iam::aws:policy/${name}`])] };
}
