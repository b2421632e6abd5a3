// How the parts are wired together, across files and stacks: each would deploy without a complaint if it were wrong, and not work.
import { readFileSync } from 'node:fs';
import { Stack } from 'aws-cdk-lib';
import { Match, Template } from 'aws-cdk-lib/assertions';
import { Bucket } from 'aws-cdk-lib/aws-s3';
import { AssetManifestArtifact } from 'aws-cdk-lib/cx-api';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { addStacks } from '../../infra/synth/stacks.ts';
import { ACCOUNT, REGION, app, refused, settingsOf, stacksOf, textOf } from './templates.ts';

const BACKUP_ACCOUNT = '222222222222';
const OTHER = '333333333333';
/** With everything that has a part elsewhere. */
const ALL = `
prefix: tea
network: { type: own, cidr: 10.1.0.0/20 }
access:
  repositories:
    - { names: ['far/*'], region: us-east-1, allow: read }
    - { names: ['restored/*'], allow: write }
    - { names: ['product/*'], allow: read }
  buckets: [{ name: documents, allow: read }]
vault: { account: '${BACKUP_ACCOUNT}', region: eu-west-1, restoreTest: {} }
registries:
  repositories: [{ name: product/api, tags: { of: api } }, { name: product/web, immutable: false, scanOnPush: false }, { name: legacy/app, existing: true, keepLast: 3 }]
  replication: [{ region: us-east-1 }, { region: ap-south-1, account: '${OTHER}' }]
  templates: [{ prefix: ROOT, appliedFor: [REPLICATION], key: 'arn:aws:kms:${REGION}:${ACCOUNT}:key/0a000000-0000-4000-8000-000000000000' }]
`;

const stacks = stacksOf(settingsOf(ALL));
const templates = new Map([...stacks].map(([id, stack]) => [id, Template.fromStack(stack)]));
const template = templateOf('Transship');

function templateOf(id: string): Template {
  const found = templates.get(id);
  if (found === undefined) throw new Error(`there is no ${id}`);
  return found;
}

const strings = z.union([z.string().transform((one) => [one]), z.array(z.string())]);
const statement = z.looseObject({
  Sid: z.string().optional(),
  Effect: z.string(),
  Action: strings,
  Resource: z.unknown(),
  Condition: z.unknown().optional(),
});
type Statement = z.infer<typeof statement>;

function statementsOf(document: unknown): readonly Statement[] {
  return z.object({ Statement: z.array(statement) }).parse(document).Statement;
}

/** What a statement is about, a line for each action and resource. */
function lines(some: readonly Statement[]): readonly string[] {
  return some
    .flatMap(({ Action, Resource }) =>
      [Resource].flat().flatMap((resource) => Action.map((action) => `${action} on ${textOf(resource)}`)),
    )
    .toSorted();
}

/** Of the role whose logical id begins so, by its own policy. */
function permissionsOf(role: string, from = template): readonly Statement[] {
  const all = Object.entries(from.findResources('AWS::IAM::Policy'));
  const [[, found] = [], ...more] = all.filter(([id]) => id.startsWith(`${role}DefaultPolicy`));
  if (found === undefined || more.length > 0) throw new Error(`not one policy of ${role}`);
  return statementsOf(found['Properties'].PolicyDocument);
}

describe('roles', () => {
  test.each(['ecs-tasks.amazonaws.com', 'vpc-flow-logs.amazonaws.com'])(
    'are used by %s for this account alone',
    (service) => {
      const trusts = Object.values(
        template.findResources('AWS::IAM::Role', { Properties: { Description: Match.anyValue() } }),
      )
        .flatMap(({ Properties }) => Properties['AssumeRolePolicyDocument'].Statement)
        .filter(({ Principal }) => Principal.Service === service);
      expect(trusts).toEqual([
        expect.objectContaining({ Condition: { StringEquals: { 'aws:SourceAccount': ACCOUNT } } }),
      ]);
    },
  );
});

test('every log group and the topic are encrypted with the keys of the settings', () => {
  const key = `arn:aws:kms:${REGION}:${ACCOUNT}:key/0a000000-0000-4000-8000-000000000000`;
  const more = `blobMounting: true\nlogKey: '${key}'\nnotifications: { key: '${key}' }\nprune: { prefixes: [/] }\n`;
  const registries = 'registries: { repositories: [{ name: legacy/app, existing: true, keepLast: 3 }] }';
  const encrypted = stacksOf(settingsOf(`${more}${registries}`));
  for (const id of ['Transship', 'TransshipRegistries']) {
    const stack = encrypted.get(id);
    if (stack === undefined) throw new Error(`there is no ${id}`);
    const groups = Object.values(Template.fromStack(stack).findResources('AWS::Logs::LogGroup'));
    expect(groups.length).toBeGreaterThan(0);
    for (const { Properties } of groups) expect(Properties['KmsKeyId']).toBe(key);
    if (id === 'Transship') Template.fromStack(stack).hasResourceProperties('AWS::SNS::Topic', { KmsMasterKeyId: key });
  }
});

test('backups of both vaults move to the low-cost tier when the settings ask for it, and not before the vault is there', () => {
  const of = (more: string): ReadonlyMap<string, Stack> =>
    stacksOf(settingsOf(`vault: { account: '${BACKUP_ACCOUNT}', region: eu-west-1${more} }`));
  const tiered = of(', plan: { tierAfterDays: 60, copyDeleteAfterDays: 365 }');
  for (const [id, BackupVaultName] of [
    ['Transship', 'transship-source'],
    ['TransshipVault', 'transship-vault'],
  ] as const) {
    const stack = tiered.get(id);
    if (stack === undefined) throw new Error(`there is no ${id}`);
    Template.fromStack(stack).hasResource('AWS::Backup::TieringConfiguration', {
      Properties: {
        BackupVaultName,
        TieringConfigurationName: `${BackupVaultName.replace('-', '_')}_tiering`,
        ResourceSelection: [{ ResourceType: 'S3', TieringDownSettingsInDays: 60, Resources: [Match.anyValue()] }],
      },
      DependsOn: [Match.stringLikeRegexp('Vault')],
    });
  }
  for (const stack of of('').values())
    Template.fromStack(stack).resourceCountIs('AWS::Backup::TieringConfiguration', 0);
  expect(
    refused(`vault: { account: '${BACKUP_ACCOUNT}', region: eu-west-1, plan: { tierAfterDays: 59 } }`),
  ).toHaveLength(1);
});

test('keys of another Region are refused', () => {
  const key = `arn:aws:kms:us-east-1:${ACCOUNT}:key/0a000000-0000-4000-8000-000000000000`;
  expect(refused(`logKey: '${key}'\nnotifications: { key: '${key}' }`)).toHaveLength(2);
});

test('two deployments in a Region have task families of their own', () => {
  template.hasResourceProperties('AWS::ECS::TaskDefinition', { Family: 'tea-worker' });
});

describe('stacks', () => {
  test('go to their account and region, by the names that the commands of docs/deployment.md have', () => {
    const places = [...stacks].map(([id, { stackName, account, region }]) => [id, stackName, account, region]);
    expect(places).toEqual([
      ['Transship', 'tea', ACCOUNT, REGION],
      ['TransshipVault', 'tea-vault', BACKUP_ACCOUNT, 'eu-west-1'],
      ['TransshipRegistries', 'tea-registries', ACCOUNT, REGION],
      ['TransshipReplicas-us-east-1', 'tea-replicas', ACCOUNT, 'us-east-1'],
    ]);
  });

  test('are not made at all with something in them that cdk-nag finds', () => {
    const tree = app();
    addStacks(tree, settingsOf(''));
    const stack = tree.node.findChild('Transship');
    if (!(stack instanceof Stack)) throw new Error('no stack');
    new Bucket(stack, 'Open');
    expect(() => tree.synth()).toThrow('AwsSolutions-S1');
  });

  test('copy backups into the vault of the backup account, which lets the account of the bucket do so', () => {
    const vaults = Object.values(templateOf('TransshipVault').findResources('AWS::Backup::BackupVault'));
    expect(vaults).toHaveLength(1);
    const [name, policy] = [vaults[0]?.['Properties'].BackupVaultName, vaults[0]?.['Properties'].AccessPolicy];
    template.hasResourceProperties('AWS::Backup::BackupPlan', {
      BackupPlan: {
        BackupPlanRule: [
          Match.objectLike({
            CopyActions: [
              Match.objectLike({
                DestinationBackupVaultArn: `arn:aws:backup:eu-west-1:${BACKUP_ACCOUNT}:backup-vault:${name}`,
              }),
            ],
          }),
        ],
      },
    });
    const admitted = statementsOf(policy).find(({ Action }) => Action.includes('backup:CopyIntoBackupVault'));
    expect(JSON.stringify(admitted?.['Principal'])).toContain(`:iam::${ACCOUNT}:root`);
  });

  test('of another prefix have no name in common with these: both may be in one account and region', () => {
    const unique = [
      ['AWS::Backup::BackupPlan', 'BackupPlan'],
      ['AWS::Backup::BackupVault', 'BackupVaultName'],
      ['AWS::CloudWatch::Alarm', 'AlarmName'],
      ['AWS::CloudWatch::Dashboard', 'DashboardName'],
      ['AWS::IAM::Role', 'RoleName'],
      ['AWS::KMS::Alias', 'AliasName'],
      ['AWS::Logs::LogGroup', 'LogGroupName'],
      ['AWS::Logs::ResourcePolicy', 'PolicyName'],
      ['AWS::SQS::Queue', 'QueueName'],
    ] as const;
    for (const [type, property] of unique)
      for (const [id, { Properties }] of Object.entries(template.findResources(type)))
        if (Properties?.[property] !== undefined) expect(JSON.stringify(Properties[property]), id).toMatch(/\btea\b/);
  });

  test('of replicas hand their events to the region of the alarms', () => {
    templateOf('TransshipReplicas-us-east-1').hasResourceProperties('AWS::Events::Rule', {
      Targets: [Match.objectLike({ Arn: `arn:aws:events:${REGION}:${ACCOUNT}:event-bus/default` })],
    });
  });
});

describe('workers', () => {
  test('reach the endpoints of AWS by their names, and nobody else does', () => {
    const groups = template.findResources('AWS::EC2::SecurityGroup');
    const endpoints = Object.keys(groups).find((id) => id.startsWith('NetworkEndpoints')) ?? '';
    const workers = Object.keys(groups).find((id) => id.startsWith('NetworkWorkers')) ?? '';
    template.hasResourceProperties('AWS::ECS::Service', {
      NetworkConfiguration: { AwsvpcConfiguration: { SecurityGroups: [{ 'Fn::GetAtt': [workers, 'GroupId'] }] } },
    });
    template.resourceCountIs('AWS::EC2::SecurityGroupIngress', 1);
    template.hasResourceProperties('AWS::EC2::SecurityGroupIngress', {
      GroupId: { 'Fn::GetAtt': [endpoints, 'GroupId'] },
      SourceSecurityGroupId: { 'Fn::GetAtt': [workers, 'GroupId'] },
      IpProtocol: 'tcp',
      FromPort: 443,
      ToPort: 443,
    });
    for (const { Properties } of Object.values(groups)) expect(Properties).not.toHaveProperty('SecurityGroupIngress');
    // of CDK: nowhere
    expect(groups[endpoints]?.['Properties'].SecurityGroupEgress).toMatchObject([{ CidrIp: '255.255.255.255/32' }]);
    const interfaces = template.findResources('AWS::EC2::VPCEndpoint', {
      Properties: { VpcEndpointType: 'Interface' },
    });
    for (const [id, { Properties }] of Object.entries(interfaces))
      expect(Properties, id).toMatchObject({
        PrivateDnsEnabled: true,
        SecurityGroupIds: [{ 'Fn::GetAtt': [endpoints, 'GroupId'] }],
      });
    template.hasResourceProperties('AWS::EC2::VPC', { CidrBlock: '10.1.0.0/20' });
  });

  test('get through the gateways what their role may do, and of their own bucket and table nothing more', () => {
    const gateways = template.findResources('AWS::EC2::VPCEndpoint', { Properties: { VpcEndpointType: 'Gateway' } });
    const passed = lines(
      Object.values(gateways)
        .flatMap(({ Properties }) => statementsOf(Properties.PolicyDocument))
        .filter(({ Sid }) => Sid === 'Archives' || Sid === 'State'),
    );
    const granted = lines(permissionsOf('WorkersRole')).filter((line) => /^(?:s3|dynamodb):/.test(line));
    expect(granted.length).toBeGreaterThan(10);
    expect(granted.filter((line) => !passed.includes(line))).toEqual([]);
    const actions = (some: readonly string[]): readonly string[] => [
      ...new Set(some.filter((line) => line.includes('<Storage')).map((line) => line.split(' ')[0] ?? '')),
    ];
    expect(actions(passed).toSorted()).toEqual(actions(granted).toSorted());
  });

  test('of public subnets get layers of other registries through the gateway, too', () => {
    const open = Template.fromStack(stackOf('network: { type: public }'));
    expect(JSON.stringify(open.findResources('AWS::EC2::VPCEndpoint'))).toContain('"arn:aws:s3:::*/*"');
  });

  test('are made anew beside those that are there, never instead of them', () => {
    template.hasResourceProperties('AWS::ECS::Service', {
      DeploymentConfiguration: { MinimumHealthyPercent: 100, MaximumPercent: 200 },
    });
  });

  test('are asked how they are as often as the Dockerfile says', () => {
    const [, interval, timeout, start, retries] =
      /^HEALTHCHECK --interval=(\d+)s --timeout=(\d+)s --start-period=(\d+)s --retries=(\d+) /m.exec(
        readFileSync('Dockerfile', 'utf8'),
      ) ?? [];
    template.hasResourceProperties('AWS::ECS::TaskDefinition', {
      ContainerDefinitions: [
        Match.objectLike({
          HealthCheck: Match.objectLike({
            Interval: Number(interval),
            Timeout: Number(timeout),
            StartPeriod: Number(start),
            Retries: Number(retries),
          }),
        }),
      ],
    });
  });

  test.each([
    ['arm64', 'linux/arm64'],
    ['x86_64', 'linux/amd64'],
  ])('of %s have an image that is built for it, with the version of the package', (architecture, platform) => {
    const tree = app();
    addStacks(tree, settingsOf(`worker: { architecture: ${architecture} }`));
    const manifests = tree.synth().artifacts.filter((some) => some instanceof AssetManifestArtifact);
    const images = manifests.flatMap(({ contents }) => Object.values(contents.dockerImages ?? {}));
    const { version } = z.object({ version: z.string() }).parse(JSON.parse(readFileSync('package.json', 'utf8')));
    expect(images.map(({ source }) => [source.platform, source.dockerBuildArgs])).toEqual([
      [platform, { VERSION: version }],
    ]);
  });
});

describe('roles', () => {
  test('are those of tasks and of the function, and nobody else takes them', () => {
    const all = Object.entries(template.findResources('AWS::IAM::Role'));
    const trusted = (role: string): unknown => {
      const found = all.find(([id]) => id.startsWith(role))?.[1];
      return found?.['Properties'].AssumeRolePolicyDocument.Statement.map(
        (one: { Principal: unknown }) => one.Principal,
      );
    };
    expect(trusted('WorkersRole')).toEqual([{ Service: 'ecs-tasks.amazonaws.com' }]);
    expect(trusted('PlannerRole')).toEqual([{ Service: 'lambda.amazonaws.com' }]);
  });

  // by hand, not from the table of grants: who calls what is said there, and nowhere in the source that a test could read
  test('the planner reads, sends jobs, remembers and deletes dead letters, and can change nothing else', () => {
    const { planner } = roles();
    expect(planner).toEqual([
      'dynamodb:BatchGetItem on <StorageTable.Arn>',
      'dynamodb:GetItem on <StorageTable.Arn>',
      'dynamodb:Query on <StorageTable.Arn>',
      'dynamodb:UpdateItem on <StorageTable.Arn>',
      'ecr-public:GetAuthorizationToken on *',
      `ecr:BatchGetImage on ${ECR}/a`,
      `ecr:DescribeImages on ${ECR}/a`,
      `ecr:DescribeRepositories on ${ECR}/*`,
      'ecr:GetAuthorizationToken on *',
      `ecr:GetLifecyclePolicy on ${ECR}/a`,
      `ecr:GetRepositoryPolicy on ${ECR}/a`,
      `ecr:ListImages on ${ECR}/a`,
      `ecr:ListTagsForResource on ${ECR}/a`,
      'ecs:DescribeServices on <WorkersService>',
      'ecs:UpdateService on <WorkersService>',
      'kms:Decrypt on KEY',
      'logs:CreateLogStream on <PlannerLogs.Arn>',
      'logs:PutLogEvents on <PlannerLogs.Arn>',
      's3:GetObject on <StorageBucket.Arn>/*',
      's3:GetObject on arn:aws:s3:::b-1/*',
      's3:ListBucket on <StorageBucket.Arn>',
      's3:ListBucket on arn:aws:s3:::b-1',
      'sqs:ChangeMessageVisibility on <QueuesDeadLetters.Arn>',
      'sqs:DeleteMessage on <QueuesDeadLetters.Arn>',
      'sqs:GetQueueAttributes on <QueuesDeadLetters.Arn>',
      'sqs:GetQueueAttributes on <QueuesJobs.Arn>',
      'sqs:GetQueueAttributes on <QueuesRequests.Arn>',
      'sqs:ReceiveMessage on <QueuesDeadLetters.Arn>',
      'sqs:SendMessage on <QueuesJobs.Arn>',
      'sts:GetServiceBearerToken on *',
    ]);
  });

  test('the Cleaner reads what it may delete and where backups are, remembers, deletes what the settings name, and can change nothing else', () => {
    const cleaning = Template.fromStack(
      stackOf(
        `access: { repositories: [{ names: [a], allow: write }], buckets: [{ name: b-1, allow: write }], roles: ['arn:aws:iam::${OTHER}:role/a'] }
prune: { repositories: [{ names: ['ci/*'] }], prefixes: [ci/, 's3://b-2/old/'] }`,
      ),
    );
    expect(lines(permissionsOf('CleanerRole', cleaning))).toEqual([
      'dynamodb:BatchGetItem on <StorageTable.Arn>',
      'dynamodb:GetItem on <StorageTable.Arn>',
      'dynamodb:Query on <StorageTable.Arn>',
      'dynamodb:UpdateItem on <StorageTable.Arn>',
      `ecr:BatchDeleteImage on ${ECR}/ci/*`,
      `ecr:BatchGetImage on ${ECR}/ci/*`,
      `ecr:DescribeImages on ${ECR}/ci/*`,
      `ecr:DescribeRepositories on ${ECR}/*`,
      'logs:CreateLogStream on <CleanerLogs.Arn>',
      'logs:PutLogEvents on <CleanerLogs.Arn>',
      's3:DeleteObject on <StorageBucket.Arn>/ci/*',
      's3:DeleteObject on arn:aws:s3:::b-2/old/*',
      's3:GetObject on <StorageBucket.Arn>/*',
      's3:GetObject on arn:aws:s3:::b-1/*',
      's3:GetObject on arn:aws:s3:::b-2/old/*',
      's3:ListBucket on <StorageBucket.Arn>',
      's3:ListBucket on arn:aws:s3:::b-1',
      's3:ListBucket on arn:aws:s3:::b-2',
    ]);
  });

  test('workers that may read alone change nothing but what is theirs', () => {
    const { workers } = roles();
    expect(workers.filter((line) => !line.startsWith('s3:') && !line.startsWith('dynamodb:'))).toEqual([
      'ecr-public:GetAuthorizationToken on *',
      `ecr:BatchCheckLayerAvailability on ${ECR}/a`,
      `ecr:BatchGetImage on ${ECR}/a`,
      `ecr:DescribeImages on ${ECR}/a`,
      'ecr:DescribePullThroughCacheRules on *',
      'ecr:DescribeRegistry on *',
      `ecr:DescribeRepositories on ${ECR}/*`,
      'ecr:DescribeRepositoryCreationTemplates on *',
      'ecr:GetAccountSetting on *',
      'ecr:GetAuthorizationToken on *',
      `ecr:GetDownloadUrlForLayer on ${ECR}/a`,
      `ecr:GetLifecyclePolicy on ${ECR}/a`,
      'ecr:GetRegistryPolicy on *',
      'ecr:GetRegistryScanningConfiguration on *',
      `ecr:GetRepositoryPolicy on ${ECR}/a`,
      'ecr:GetSigningConfiguration on *',
      `ecr:ListImages on ${ECR}/a`,
      'ecr:ListPullTimeUpdateExclusions on *',
      `ecr:ListTagsForResource on ${ECR}/a`,
      `ecs:UpdateTaskProtection on arn:aws:ecs:${REGION}:${ACCOUNT}:task/<WorkersCluster>/*`,
      'kms:Decrypt on KEY',
      'sqs:ChangeMessageVisibility on <QueuesJobs.Arn>',
      'sqs:ChangeMessageVisibility on <QueuesRequests.Arn>',
      'sqs:DeleteMessage on <QueuesJobs.Arn>',
      'sqs:DeleteMessage on <QueuesRequests.Arn>',
      'sqs:GetQueueAttributes on <QueuesDeadLetters.Arn>',
      'sqs:GetQueueAttributes on <QueuesJobs.Arn>',
      'sqs:GetQueueAttributes on <QueuesRequests.Arn>',
      'sqs:ReceiveMessage on <QueuesJobs.Arn>',
      'sqs:ReceiveMessage on <QueuesRequests.Arn>',
      'sqs:SendMessage on <QueuesDeadLetters.Arn>',
      'sqs:SendMessage on <QueuesJobs.Arn>',
      'sts:GetServiceBearerToken on *',
    ]);
    expect(workers.filter((line) => line.startsWith('s3:'))).toEqual([
      's3:AbortMultipartUpload on <StorageBucket.Arn>/*',
      's3:GetObject on <StorageBucket.Arn>/*',
      's3:GetObject on arn:aws:s3:::b-1/*',
      's3:ListBucket on <StorageBucket.Arn>',
      's3:ListBucket on arn:aws:s3:::b-1',
      's3:ListBucketMultipartUploads on <StorageBucket.Arn>',
      's3:ListMultipartUploadParts on <StorageBucket.Arn>/*',
      's3:PutObject on <StorageBucket.Arn>/*',
    ]);
  });

  test('that write with the keys of others do no more with them than encrypt, and have ECR use them', () => {
    const writing = Template.fromStack(
      stackOf(`access: { repositories: [{ names: [a], allow: write }], keys: ['${KEY}'] }`),
    );
    const actions = permissionsOf('WorkersRole', writing).flatMap(({ Action }) => Action);
    expect(actions.filter((action) => action.startsWith('kms:'))).toEqual([
      'kms:CreateGrant',
      'kms:Decrypt',
      'kms:DescribeKey',
      'kms:GenerateDataKey',
      'kms:RetireGrant',
    ]);
  });

  test('have of the key of this deployment what S3, SQS and DynamoDB do with it in their name', () => {
    const own = Template.fromStack(stackOf('encryption: create'));
    for (const role of ['WorkersRole', 'PlannerRole']) {
      const key = permissionsOf(role, own).filter(({ Resource }) => textOf(Resource) === '<StorageKey.Arn>');
      // https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/encryption.usagenotes.html
      expect(key.flatMap(({ Action }) => Action).toSorted(), role).toEqual([
        'kms:Decrypt',
        'kms:DescribeKey',
        'kms:Encrypt',
        'kms:GenerateDataKey',
        'kms:ReEncryptFrom',
        'kms:ReEncryptTo',
      ]);
    }
  });

  const KEY = 'arn:aws:kms:eu-central-1:222222222222:key/0c000000-0000-4000-8000-000000000000';
  const ECR = `arn:aws:ecr:${REGION}:${ACCOUNT}:repository`;

  function roles(): { readonly workers: readonly string[]; readonly planner: readonly string[] } {
    const reading = Template.fromStack(
      stackOf(
        `access: { repositories: [{ names: [a], allow: read }], buckets: [{ name: b-1, allow: read }], keys: ['${KEY}'] }`,
      ),
    );
    const of = (role: string): readonly string[] =>
      lines(permissionsOf(role, reading)).map((line) => line.replace(KEY, 'KEY'));
    return { workers: of('WorkersRole'), planner: of('PlannerRole') };
  }
});

describe('backups', () => {
  test('are made and restored by roles that may use the key of their vault', () => {
    for (const role of ['BackupsRole', 'BackupsRestoreRole']) {
      const key = lines(permissionsOf(role)).filter((line) => line.includes('<BackupsKey.Arn>'));
      expect(key, role).toEqual(
        ['CreateGrant', 'Decrypt', 'DescribeKey', 'GenerateDataKey'].map((name) => `kms:${name} on <BackupsKey.Arn>`),
      );
    }
  });

  test('are read for a copy by the backup account, which may let AWS alone use the key', () => {
    const policyOf = (from: Template): readonly Statement[] => {
      const keys = Object.entries(from.findResources('AWS::KMS::Key'));
      const key = keys.find(([id]) => id.startsWith('BackupsKey'))?.[1];
      return statementsOf(key?.['Properties'].KeyPolicy).filter(({ Sid = '' }) => Sid.startsWith('Copies'));
    };
    expect(policyOf(template).map(({ Action, Condition }) => [Action, Condition])).toEqual([
      [['kms:Decrypt', 'kms:DescribeKey', 'kms:Encrypt', 'kms:GenerateDataKey*', 'kms:ReEncrypt*'], undefined],
      [['kms:CreateGrant', 'kms:ListGrants', 'kms:RevokeGrant'], { Bool: { 'kms:GrantIsForAWSResource': 'true' } }],
    ]);
    // the policy that every key has lets its own account
    const near = stackOf(`vault: { account: '${ACCOUNT}', region: eu-west-1 }`);
    expect(policyOf(Template.fromStack(near))).toEqual([]);
  });

  test('are restored for a test out of this vault, while there are any, without what S3 would refuse', () => {
    const vault = templateOf('TransshipVault');
    vault.hasResourceProperties('AWS::Backup::RestoreTestingPlan', {
      RecoveryPointSelection: {
        IncludeVaults: [{ 'Fn::GetAtt': [Match.stringLikeRegexp('^Vault'), 'BackupVaultArn'] }],
        RecoveryPointTypes: ['SNAPSHOT'],
        // as long as copies are kept
        SelectionWindowDays: 90,
      },
    });
    vault.hasResourceProperties('AWS::Backup::RestoreTestingSelection', {
      RestoreMetadataOverrides: { restoreACLs: 'false' },
    });
  });
});

describe('registries', () => {
  const registries = templateOf('TransshipRegistries');

  test('a repository of production is what its settings say where they say no', () => {
    registries.hasResourceProperties('AWS::ECR::Repository', {
      RepositoryName: 'product/web',
      ImageTagMutability: 'MUTABLE',
      ImageScanningConfiguration: { ScanOnPush: false },
    });
  });

  test('tags of a repository are not of another', () => {
    const tagged = registries.findResources('AWS::ECR::Repository', {
      Properties: { Tags: Match.arrayWith([{ Key: 'of', Value: 'api' }]) },
    });
    expect(Object.values(tagged).map(({ Properties }) => Properties['RepositoryName'])).toEqual(['product/api']);
  });

  test('a policy of a repository that exists is by its name, so that it goes from one that is named no longer, and little is told of it', () => {
    const [set] = Object.values(registries.findResources('Custom::PutLifecyclePolicy'));
    expect(JSON.parse(String(set?.['Properties'].Create))).toMatchObject({
      physicalResourceId: { id: 'legacy/app PutLifecyclePolicy' },
      // 4 KiB of an answer are all that CloudFormation takes
      outputPaths: ['repositoryName'],
    });
  });

  test('a template for all names is not there before its role may make all of them', () => {
    const policies = Object.entries(registries.findResources('AWS::IAM::Policy'));
    const [policy, found] = policies.find(([id]) => id.startsWith('TemplatesRole')) ?? [''];
    expect(JSON.stringify(found?.['Properties'].PolicyDocument)).toContain(
      `"arn:aws:ecr:${REGION}:${ACCOUNT}:repository/*"`,
    );
    registries.hasResource('AWS::ECR::RepositoryCreationTemplate', { DependsOn: Match.arrayWith([policy]) });
  });
});

describe('what is kept', () => {
  test('takes nothing below TLS 1.2, and no mark of what is long gone', () => {
    template.hasResourceProperties('AWS::S3::BucketPolicy', {
      PolicyDocument: {
        Statement: Match.arrayWith([
          Match.objectLike({ Effect: 'Deny', Condition: { NumericLessThan: { 's3:TlsVersion': 1.2 } } }),
        ]),
      },
    });
    template.hasResourceProperties('AWS::S3::Bucket', {
      LifecycleConfiguration: { Rules: [Match.objectLike({ ExpiredObjectDeleteMarker: true })] },
    });
  });

  test('has keys that cost nothing unless there is one of its own', () => {
    template.hasResourceProperties('AWS::DynamoDB::GlobalTable', { SSESpecification: { SSEEnabled: false } });
  });

  test('are the logs of workers and planner, and no others', () => {
    const logs = Object.entries(template.findResources('AWS::Logs::LogGroup'));
    const kept = logs.filter(([, { DeletionPolicy }]) => DeletionPolicy === 'Retain').map(([id]) => id.slice(0, -8));
    expect(kept.toSorted()).toEqual(['PlannerLogs', 'WorkersLogs']);
  });
});

describe('outputs', () => {
  const value = (id: string): string => textOf(template.findOutputs(id)[id]?.['Value']);

  test('of every stack can be typed as they are: no place to fill in is a file to a shell', () => {
    const told = [...templates.values()].flatMap((one) => Object.values(one.findOutputs('*')));
    const commands = told.filter(({ Value }) => /^(?:aws|npx|export) /.test(textOf(Value)));
    expect(commands.length).toBeGreaterThan(20);
    for (const { Value } of commands) expect(JSON.stringify(Value)).not.toMatch(/[<>]/);
  });

  test('show the log of each, and where an image of this region was replicated to', () => {
    const tail = `aws logs tail --follow --region ${REGION}`;
    expect(value('LogsOfWorkers')).toBe(`${tail} <WorkersLogs>`);
    expect(value('LogsOfPlanner')).toBe(`${tail} <PlannerLogs>`);
    expect(value('Check6Replication')).toBe(
      `aws ecr describe-image-replication-status --region ${REGION} --repository-name product/REPOSITORY --image-id imageTag=TAG`,
    );
  });
});

function stackOf(more: string): Stack {
  const stack = stacksOf(settingsOf(more)).get('Transship');
  if (stack === undefined) throw new Error('no stack');
  return stack;
}
