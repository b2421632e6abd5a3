import { readFileSync } from 'node:fs';
import { Match, Template } from 'aws-cdk-lib/assertions';
import type { Stack } from 'aws-cdk-lib';
import { PolicyStatement, Role } from 'aws-cdk-lib/aws-iam';
import { assert as forAll, integer, property } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { stepsOf } from '../../infra/service/worker.ts';
import { readSettings } from '../../worker/main/settings.ts';
import { STOP_SECONDS } from '../../worker/util/stop.ts';
import { findings, refused, textOf, transship } from './templates.ts';

const known = new Map<string, { readonly stack: Stack; readonly template: Template }>();

/** The stack and the template of these settings, made once. */
function made(more = ''): { readonly stack: Stack; readonly template: Template } {
  const before = known.get(more);
  if (before !== undefined) return before;
  const stack = transship(more);
  const now = { stack, template: Template.fromStack(stack) };
  known.set(more, now);
  return now;
}

const templateOf = (more = ''): Template => made(more).template;
const KEY = 'arn:aws:kms:eu-central-1:111111111111:key/11111111-0000-4000-8000-000000000000';
const KEEPS = { DeletionPolicy: 'Retain', UpdateReplacePolicy: 'Retain' };
const REPOSITORIES = "access: { repositories: [{ names: ['product/*', app, 'odd**x'], allow: read }] }";

describe('the bucket', () => {
  test('keeps versions, sends events to EventBridge, and blocks public access', () => {
    templateOf().hasResource('AWS::S3::Bucket', {
      // a bucket that a failed first deployment left behind would block the next attempt, if it has a name
      DeletionPolicy: 'RetainExceptOnCreate',
      UpdateReplacePolicy: 'Retain',
      Properties: {
        VersioningConfiguration: { Status: 'Enabled' },
        NotificationConfiguration: { EventBridgeConfiguration: { EventBridgeEnabled: true } },
        PublicAccessBlockConfiguration: {
          BlockPublicAcls: true,
          BlockPublicPolicy: true,
          IgnorePublicAcls: true,
          RestrictPublicBuckets: true,
        },
        OwnershipControls: { Rules: [{ ObjectOwnership: 'BucketOwnerEnforced' }] },
        BucketEncryption: {
          ServerSideEncryptionConfiguration: [{ ServerSideEncryptionByDefault: { SSEAlgorithm: 'AES256' } }],
        },
      },
    });
    templateOf().hasResourceProperties('AWS::S3::BucketPolicy', {
      PolicyDocument: {
        Statement: Match.arrayWith([
          Match.objectLike({ Effect: 'Deny', Action: 's3:*', Condition: { Bool: { 'aws:SecureTransport': 'false' } } }),
        ]),
      },
    });
  });

  test('aborts unfinished uploads after a week, and deletes old versions after the days of the settings', () => {
    templateOf('bucket: { keepOldVersionsDays: 12, storageClass: STANDARD_IA }').hasResourceProperties(
      'AWS::S3::Bucket',
      {
        LifecycleConfiguration: {
          Rules: [
            {
              Status: 'Enabled',
              AbortIncompleteMultipartUpload: { DaysAfterInitiation: 7 },
              NoncurrentVersionExpiration: { NoncurrentDays: 12 },
              Transitions: [{ StorageClass: 'STANDARD_IA', TransitionInDays: 30 }],
            },
          ],
        },
      },
    );
    const rules = JSON.stringify(templateOf().findResources('AWS::S3::Bucket'));
    expect(rules).not.toContain('Transitions');
  });

  test.each(['STANDARD_IA', 'INTELLIGENT_TIERING', 'GLACIER_IR', 'GLACIER', 'DEEP_ARCHIVE'])(
    'moves archives to the storage class %s',
    (name) => {
      expect(
        JSON.stringify(templateOf(`bucket: { storageClass: ${name} }`).findResources('AWS::S3::Bucket')),
      ).toContain(`"StorageClass":"${name}"`);
    },
  );

  test.each(['governance', 'compliance'])(
    'has %s retention where the settings have an object lock, and none otherwise',
    (mode) => {
      templateOf(`bucket: { objectLock: { mode: ${mode}, days: 14 } }`).hasResourceProperties('AWS::S3::Bucket', {
        ObjectLockEnabled: true,
        ObjectLockConfiguration: { Rule: { DefaultRetention: { Mode: mode.toUpperCase(), Days: 14 } } },
      });
      expect(JSON.stringify(templateOf().findResources('AWS::S3::Bucket'))).not.toContain('ObjectLock');
    },
  );

  test.each([
    ['this account', '', undefined],
    ['another account', ", account: '222222222222'", { Owner: 'Destination' }],
  ])('is replicated to a bucket of %s, without its deletions, where the settings name one', (_, more, transition) => {
    const stack = transship(`bucket: { replicateTo: { name: copies-of-archives${more} } }`);
    Template.fromStack(stack).hasResourceProperties('AWS::S3::Bucket', {
      ReplicationConfiguration: {
        Rules: [
          {
            Status: 'Enabled',
            DeleteMarkerReplication: { Status: 'Disabled' },
            Destination: {
              Bucket: 'arn:aws:s3:::copies-of-archives',
              ...(transition === undefined ? {} : { AccessControlTranslation: transition }),
            },
          },
        ],
      },
    });
    const policy = Object.entries(Template.fromStack(stack).findResources('AWS::IAM::Policy')).find(([id]) =>
      id.startsWith('StorageReplicationRole'),
    );
    const statements = policy?.[1]['Properties'].PolicyDocument.Statement as readonly Record<string, unknown>[];
    expect(statements.map((one) => [textOf(one['Resource']), one['Action']])).toEqual([
      ['<StorageBucket.Arn>', ['s3:GetReplicationConfiguration', 's3:ListBucket']],
      [
        '<StorageBucket.Arn>/*',
        ['s3:GetObjectVersionAcl', 's3:GetObjectVersionForReplication', 's3:GetObjectVersionTagging'],
      ],
      [
        'arn:aws:s3:::copies-of-archives/*',
        [
          ...(transition === undefined ? [] : ['s3:ObjectOwnerOverrideToBucketOwner']),
          's3:ReplicateObject',
          's3:ReplicateTags',
        ],
      ],
    ]);
    for (const { Properties } of Object.values(Template.fromStack(stack).findResources('AWS::IAM::Role')))
      expect(Properties.RoleName).not.toBe('CDKReplicationRole');
    expect(findings(stack)).toEqual([]);
    for (const [setting, why] of [
      ['bucket: { existing: archives, replicateTo: { name: copies } }', 'applies only to a bucket that is created'],
      ['bucket: { name: archives, replicateTo: { name: archives } }', 'it is the bucket of the archives'],
      [
        'encryption: create\nbucket: { replicateTo: { name: copies } }',
        'S3 does not replicate what a customer managed key',
      ],
      [
        'bucket: { objectLock: { mode: governance, days: 14 }, replicateTo: { name: copies } }',
        'S3 replicates a bucket with an object lock only to another one with an object lock',
      ],
    ] as const)
      expect(refused(setting).join()).toContain(why);
  });

  test('is used unchanged when it exists already', () => {
    const template = templateOf('bucket: { existing: archives }');
    template.resourceCountIs('AWS::S3::Bucket', 0);
    template.resourceCountIs('AWS::S3::BucketPolicy', 0);
    expect(template.findOutputs('Check1Environment')['Check1Environment']?.['Value']).toMatchObject({
      'Fn::Join': ['', expect.arrayContaining([expect.stringMatching(/TRANSSHIP_BUCKET=archives$/)])],
    });
  });
});

test('the table has the keys and the expiry of the state, point-in-time recovery, and protection from deletion', () => {
  templateOf().hasResource('AWS::DynamoDB::GlobalTable', {
    ...KEEPS,
    Properties: {
      KeySchema: [
        { AttributeName: 'pk', KeyType: 'HASH' },
        { AttributeName: 'sk', KeyType: 'RANGE' },
      ],
      AttributeDefinitions: [
        { AttributeName: 'pk', AttributeType: 'S' },
        { AttributeName: 'sk', AttributeType: 'S' },
      ],
      BillingMode: 'PAY_PER_REQUEST',
      TimeToLiveSpecification: { AttributeName: 'ttl', Enabled: true },
      Replicas: [
        { DeletionProtectionEnabled: true, PointInTimeRecoverySpecification: { PointInTimeRecoveryEnabled: true } },
      ],
    },
  });
});

describe('encryption', () => {
  const encrypted = (template: Template, key: unknown): void => {
    template.hasResourceProperties('AWS::S3::Bucket', {
      BucketEncryption: {
        ServerSideEncryptionConfiguration: [
          { BucketKeyEnabled: true, ServerSideEncryptionByDefault: { SSEAlgorithm: 'aws:kms', KMSMasterKeyID: key } },
        ],
      },
    });
    template.hasResourceProperties('AWS::DynamoDB::GlobalTable', {
      Replicas: [{ SSESpecification: { KMSMasterKeyId: key } }],
    });
    template.allResourcesProperties('AWS::SQS::Queue', { KmsMasterKeyId: key });
  };

  test('with a created key covers the bucket, the table and queues; the key rotates and is retained, and EventBridge may use it', () => {
    const template = templateOf(`encryption: create\n${REPOSITORIES}`);
    encrypted(template, { 'Fn::GetAtt': [Match.stringLikeRegexp('^StorageKey'), 'Arn'] });
    template.hasResource('AWS::KMS::Key', {
      ...KEEPS,
      Properties: {
        EnableKeyRotation: true,
        KeyPolicy: {
          Statement: Match.arrayWith([
            Match.objectLike({
              Principal: { Service: 'events.amazonaws.com' },
              Action: Match.arrayWith(['kms:Decrypt']),
            }),
          ]),
        },
      },
    });
    template.hasResourceProperties('AWS::KMS::Alias', { AliasName: 'alias/transship' });
  });

  test('with a given key covers the bucket, the table and queues', () => {
    encrypted(templateOf(`encryption: ${KEY}`), KEY);
  });

  test('without a key uses keys that AWS owns', () => {
    templateOf().allResourcesProperties('AWS::SQS::Queue', { SqsManagedSseEnabled: true });
    expect(JSON.stringify(templateOf().findResources('AWS::KMS::Key'))).not.toContain('StorageKey');
  });
});

describe('queues', () => {
  test('hide a message for two minutes, keep it for two weeks, and deliver it at most twenty times', () => {
    const template = templateOf();
    template.resourceCountIs('AWS::SQS::Queue', 4);
    template.allResourcesProperties('AWS::SQS::Queue', { VisibilityTimeout: 120, MessageRetentionPeriod: 1_209_600 });
    template.hasResourceProperties('AWS::SQS::Queue', {
      RedrivePolicy: {
        maxReceiveCount: 20,
        deadLetterTargetArn: { 'Fn::GetAtt': [Match.stringLikeRegexp('^QueuesDeadLetters'), 'Arn'] },
      },
    });
  });

  test('refuse requests without TLS', () => {
    templateOf().resourcePropertiesCountIs(
      'AWS::SQS::QueuePolicy',
      {
        PolicyDocument: {
          Statement: Match.arrayWith([
            Match.objectLike({
              Effect: 'Deny',
              Action: 'sqs:*',
              Condition: { Bool: { 'aws:SecureTransport': 'false' } },
            }),
          ]),
        },
      },
      4,
    );
  });

  test('get events about pushes to repositories of this account and Region, and keep events that were not delivered', () => {
    templateOf(REPOSITORIES).hasResourceProperties('AWS::Events::Rule', {
      EventPattern: {
        source: ['aws.ecr'],
        'detail-type': ['ECR Image Action'],
        detail: {
          'action-type': ['PUSH'],
          result: ['SUCCESS'],
          // EventBridge refuses two wildcards in a row
          'repository-name': [{ wildcard: 'product/*' }, 'app', { wildcard: 'odd*x' }],
        },
      },
      Targets: [
        {
          Arn: { 'Fn::GetAtt': [Match.stringLikeRegexp('^QueuesJobs'), 'Arn'] },
          DeadLetterConfig: { Arn: { 'Fn::GetAtt': [Match.stringLikeRegexp('^QueuesUndelivered'), 'Arn'] } },
          RetryPolicy: { MaximumEventAgeInSeconds: 3600 },
        },
      ],
    });
    const elsewhere =
      "access: { repositories: [{ names: [a], region: us-east-1, allow: read }, { names: [b], account: '222222222222', allow: read }] }";
    for (const more of ['', elsewhere])
      expect(JSON.stringify(templateOf(more).findResources('AWS::Events::Rule'))).not.toContain('repository-name');
  });
});

describe('publish sources', () => {
  const targets = [Match.objectLike({ Arn: { 'Fn::GetAtt': [Match.stringLikeRegexp('^QueuesJobs'), 'Arn'] } })];
  const pattern = (name: unknown, object?: object): object => ({
    source: ['aws.s3'],
    'detail-type': ['Object Created', 'Object Deleted'],
    detail: { bucket: { name: [name] }, ...object },
  });

  test('send events about objects below the prefixes to the queue, by one rule for each bucket', () => {
    const template = templateOf(
      "publish: { prefixes: ['s3://documents/a/', 's3://documents/b/c/', 'shared/', 's3://all/'] }",
    );
    const rules = Object.values(template.findResources('AWS::Events::Rule'));
    const told = rules
      .map(({ Properties }) => Properties)
      .filter(({ EventPattern }) => EventPattern.source[0] === 'aws.s3');
    expect(told.map(({ EventPattern }) => EventPattern)).toEqual([
      pattern('documents', { object: { key: [{ prefix: 'a/' }, { prefix: 'b/c/' }] } }),
      pattern({ Ref: expect.stringMatching(/^StorageBucket/) }, { object: { key: [{ prefix: 'shared/' }] } }),
      pattern('all'),
    ]);
    for (const Properties of told) {
      expect(Properties.Targets[0].DeadLetterConfig.Arn['Fn::GetAtt'][0]).toMatch(/^QueuesUndelivered/);
      // in the form of S3: a worker reads the event itself
      expect(Object.keys(Properties.Targets[0])).not.toContain('InputTransformer');
    }
    template.hasResourceProperties('AWS::Events::Rule', {
      EventPattern: pattern('documents', { object: Match.anyValue() }),
      Targets: targets,
    });
    expect(JSON.stringify(templateOf().findResources('AWS::Events::Rule'))).not.toContain('aws.s3');
  });

  test('are read by workers through the gateway of their network', () => {
    const template = templateOf("publish: { prefixes: ['s3://documents/a/'] }");
    expect(JSON.stringify(template.findResources('AWS::EC2::VPCEndpoint'))).toContain('"arn:aws:s3:::documents/*"');
  });

  test('become several patterns of a size that EventBridge accepts when they are many', () => {
    const many = Array.from({ length: 50 }, (_, i) => `'s3://documents/${String(i).padStart(100, 'x')}/'`);
    const rules = Object.values(
      templateOf(`publish: { prefixes: [${many.join(', ')}] }`).findResources('AWS::Events::Rule'),
    );
    const patterns = rules
      .map(({ Properties }) => Properties.EventPattern)
      .filter(({ source }) => source[0] === 'aws.s3');
    expect(patterns.flatMap(({ detail }) => detail.object.key)).toHaveLength(50);
    for (const one of patterns) expect(JSON.stringify(one).length).toBeLessThan(2048);
  });
});

describe('the Cleaner', () => {
  const PRUNE = "prune: { repositories: [{ names: ['ci/*'] }], prefixes: [/] }";

  test('does not exist unless the settings name what it may delete', () => {
    for (const type of ['AWS::Lambda::Function', 'AWS::Scheduler::Schedule']) {
      templateOf().resourceCountIs(type, 1);
      templateOf(PRUNE).resourceCountIs(type, 2);
    }
    expect(Object.keys(templateOf().findOutputs('*'))).not.toContain('LogsOfCleaner');
    expect(Object.keys(templateOf(PRUNE).findOutputs('*'))).toContain('LogsOfCleaner');
  });

  test('is called every 15 minutes without retries, and has the table in its environment but no queue', () => {
    const template = templateOf(`${PRUNE}\nworker: { logLevel: warn }`);
    template.hasResourceProperties('AWS::Scheduler::Schedule', {
      ScheduleExpression: 'rate(15 minutes)',
      Target: {
        Arn: { 'Fn::GetAtt': [Match.stringLikeRegexp('^CleanerFunction'), 'Arn'] },
        DeadLetterConfig: { Arn: { 'Fn::GetAtt': [Match.stringLikeRegexp('^QueuesUndelivered'), 'Arn'] } },
      },
    });
    const functions = Object.entries(template.findResources('AWS::Lambda::Function'));
    const [, cleaner] = functions.find(([id]) => id.startsWith('Cleaner')) ?? [];
    expect(cleaner?.['Properties']).toMatchObject({ Timeout: 900, Handler: 'index.handler', Architectures: ['arm64'] });
    const variables = z.record(z.string(), z.unknown()).parse(cleaner?.['Properties'].Environment.Variables);
    expect(Object.fromEntries(Object.entries(variables).map(([name, value]) => [name, textOf(value)]))).toMatchObject({
      TRANSSHIP_TABLE: '<StorageTable>',
      TRANSSHIP_LOG_LEVEL: 'warn',
    });
    const source = readFileSync('worker/main/settings.ts', 'utf8');
    for (const name of Object.keys(variables)) expect(source, name).toContain(`'${name}'`);
    expect(Object.keys(variables).filter((name) => name.includes('QUEUE'))).toEqual([]);
    template.allResourcesProperties('AWS::Lambda::EventInvokeConfig', { MaximumRetryAttempts: 0 });
  });

  test('has a role with a fixed name, and its reads do not count as pulls', () => {
    const template = templateOf(PRUNE);
    template.hasResourceProperties('AWS::IAM::Role', {
      RoleName: 'transship-cleaner-eu-central-1',
      AssumeRolePolicyDocument: { Statement: [Match.objectLike({ Principal: { Service: 'lambda.amazonaws.com' } })] },
    });
    const excluded = Object.values(template.findResources('AWS::ECR::PullTimeUpdateExclusion'));
    expect(excluded.map(({ Properties }) => textOf(Properties.PrincipalArn))).toContain('<CleanerRole.Arn>');
  });
});

const resources = z.object({
  Resources: z.record(
    z.string(),
    z.looseObject({ Type: z.string(), DependsOn: z.union([z.string(), z.array(z.string())]).optional() }),
  ),
});

const container = z.object({
  Environment: z.array(z.object({ Name: z.string(), Value: z.unknown() })),
  Image: z.unknown(),
});

function containerOf(template: Template): z.infer<typeof container> {
  const [task] = Object.values(template.findResources('AWS::ECS::TaskDefinition'));
  return container.parse(task?.['Properties']?.ContainerDefinitions?.[0]);
}

/** The container of a worker. */
function environmentOf(template: Template): Readonly<Record<string, string>> {
  return Object.fromEntries(containerOf(template).Environment.map(({ Name, Value }) => [Name, textOf(Value)]));
}

describe('workers', () => {
  test('run as an ordinary user on a read-only file system, on ARM, with two minutes to stop', () => {
    templateOf().hasResourceProperties('AWS::ECS::TaskDefinition', {
      Cpu: '1024',
      Memory: '2048',
      RequiresCompatibilities: ['FARGATE'],
      RuntimePlatform: { CpuArchitecture: 'ARM64', OperatingSystemFamily: 'LINUX' },
      Volumes: [{ Name: 'temporary' }],
      ContainerDefinitions: [
        {
          User: '1000:1000',
          ReadonlyRootFilesystem: true,
          StopTimeout: 120,
          MountPoints: [{ ContainerPath: '/tmp', ReadOnly: false, SourceVolume: 'temporary' }],
          LogConfiguration: { LogDriver: 'awslogs', Options: { mode: 'non-blocking' } },
        },
      ],
    });
  });

  test('get more time to stop than they need', () => {
    const [task] = Object.values(templateOf().findResources('AWS::ECS::TaskDefinition'));
    expect(task?.['Properties'].ContainerDefinitions[0].StopTimeout).toBeGreaterThan(STOP_SECONDS);
  });

  test('have the health check of the Dockerfile, and may write where the Dockerfile lets them', () => {
    const dockerfile = readFileSync('Dockerfile', 'utf8');
    const [, command = '[]'] = /^HEALTHCHECK .*CMD (\[.*\])$/m.exec(dockerfile) ?? [];
    templateOf().hasResourceProperties('AWS::ECS::TaskDefinition', {
      ContainerDefinitions: [
        { HealthCheck: { Command: ['CMD', ...z.array(z.string()).min(1).parse(JSON.parse(command))] } },
      ],
    });
    expect(dockerfile).toMatch(/^VOLUME \["\/tmp"\]$/m);
    expect(dockerfile).toMatch(/^USER 1000:1000$/m);
  });

  test('and the planner read all variables that they get, and get all variables that they need', () => {
    const template = templateOf('worker: { slots: 3, concurrency: 5, logLevel: warn }');
    const [planner] = Object.values(template.findResources('AWS::Lambda::Function'));
    const ofPlanner = z.record(z.string(), z.unknown()).parse(planner?.['Properties'].Environment.Variables);
    const source = readFileSync('worker/main/settings.ts', 'utf8');
    const [worker, other] = [environmentOf(template), ofPlanner].map((environment) => {
      const values: Record<string, string> = {};
      for (const [name, value] of Object.entries(environment)) {
        const text = name === 'TRANSSHIP_ALLOW' ? textOf(value).replace('<StorageBucket>', 'archives') : textOf(value);
        values[name] = name.endsWith('_URL') ? `https://sqs/1/${text}` : text;
        expect(source, name).toContain(`'${name}'`);
      }
      return readSettings(values);
    });
    const common = {
      queueUrl: 'https://sqs/1/<QueuesJobs>',
      requestQueueUrl: 'https://sqs/1/<QueuesRequests>',
      deadLetterQueueUrl: 'https://sqs/1/<QueuesDeadLetters>',
      table: '<StorageTable>',
      logLevel: 'warn',
    };
    const allow = ['111111111111', 's3://archives'];
    expect(worker).toMatchObject({ ...common, slots: 3, concurrency: 5, healthPort: 8080, allow });
    expect(other).toMatchObject({ ...common, workerService: '<WorkersService>' });
    expect(textOf(template.findOutputs('Check1Environment')['Check1Environment']?.['Value'])).toContain(
      ' TRANSSHIP_SERVICE=<WorkersService>',
    );
  });

  test('take requests that write to what the settings open for writing', () => {
    const template = templateOf(`access:
  repositories:
    - { names: ['mirror/*'], account: '333333333333', allow: write }
    - { names: ['product/*'], account: '444444444444', allow: read }
  buckets: [{ name: exchange, allow: write }, { name: archive, allow: read }]`);
    expect(textOf(environmentOf(template)['TRANSSHIP_ALLOW'])).toBe(
      '111111111111,333333333333,s3://<StorageBucket>,s3://exchange',
    );
  });

  test('have their capacity on the cluster itself, since a separate resource could be created after the service or deleted before it', () => {
    const template = templateOf();
    template.hasResourceProperties('AWS::ECS::Cluster', { CapacityProviders: ['FARGATE', 'FARGATE_SPOT'] });
    template.resourceCountIs('AWS::ECS::ClusterCapacityProviderAssociations', 0);
  });

  test('deploy without a number of tasks, without moves between zones, and with a rollback of a version that does not start', () => {
    const template = templateOf();
    template.hasResourceProperties('AWS::ECS::Service', {
      DesiredCount: Match.absent(),
      AvailabilityZoneRebalancing: 'DISABLED',
      DeploymentConfiguration: { DeploymentCircuitBreaker: { Enable: true, Rollback: true } },
      LaunchType: Match.absent(),
    });
  });

  // ECS never replaces Spot tasks that it cannot get by on-demand capacity
  test('run one task on demand by default, so that a restore needs no Spot capacity, and all other tasks on Spot', () => {
    templateOf().hasResourceProperties('AWS::ECS::Service', {
      CapacityProviderStrategy: [
        { CapacityProvider: 'FARGATE_SPOT', Weight: 1 },
        { CapacityProvider: 'FARGATE', Base: 1, Weight: 0 },
      ],
    });
  });

  test.each([
    ['onDemandBase: 0', [['FARGATE_SPOT', 1]]],
    [
      'onDemandBase: 2, onDemandWeight: 1, spotWeight: 3',
      [
        ['FARGATE_SPOT', 3],
        ['FARGATE', 1, 2],
      ],
    ],
    ['onDemandBase: 0, onDemandWeight: 2, spotWeight: 0', [['FARGATE', 2]]],
    ['onDemandWeight: 2, spotWeight: 0', [['FARGATE', 2, 1]]],
  ])('spread their tasks over capacity by the settings: %s', (worker, strategy) => {
    templateOf(`worker: { ${worker} }`).hasResourceProperties('AWS::ECS::Service', {
      CapacityProviderStrategy: strategy.map(([CapacityProvider, Weight, Base]) => ({
        CapacityProvider,
        Weight,
        Base: Base ?? Match.absent(),
      })),
    });
  });

  /** What CloudFormation creates before the service of the workers. */
  function createdBeforeService(more: string): {
    readonly before: ReadonlySet<string>;
    readonly all: z.infer<typeof resources>['Resources'];
  } {
    const { Resources } = resources.parse(templateOf(more).toJSON());
    const service = Object.keys(Resources).find((id) => Resources[id]?.Type === 'AWS::ECS::Service') ?? '';
    const before = new Set<string>();
    const visit = (id: string): void => {
      if (before.has(id) || Resources[id] === undefined) return;
      before.add(id);
      const text = JSON.stringify(Resources[id]);
      for (const [, ref, attributeOf] of text.matchAll(/"Ref":"(\w+)"|"Fn::GetAtt":\["(\w+)"/g))
        visit(ref ?? attributeOf ?? '');
      [Resources[id].DependsOn ?? []].flat().forEach(visit);
    };
    visit(service);
    return { before, all: Resources };
  }

  test('start after the policies of both of their roles exist: ECS pulls the image as soon as it creates the service', () => {
    const { all, before } = createdBeforeService(
      'network: { type: existing, vpcId: vpc-00000001, subnetIds: [subnet-00000001], availabilityZones: [eu-central-1a] }',
    );
    const policies = Object.keys(all).filter((id) => /^Workers.*Role.*Policy/.test(id));
    expect(policies).toHaveLength(2);
    expect(policies.filter((id) => !before.has(id))).toEqual([]);
  });

  test.each(['own', 'own, natGateways: 0', 'public'])(
    'start after every route and endpoint of their network (%s), and stop before any of these is deleted',
    (type) => {
      const { all, before } = createdBeforeService(
        `network: { type: ${type} }\naccess: { roles: ['arn:aws:iam::222222222222:role/a'] }`,
      );
      const network = Object.entries(all).filter(([, { Type }]) =>
        /^AWS::EC2::(?:Route|NatGateway|VPCGatewayAttachment|SubnetRouteTableAssociation|VPCEndpoint|SecurityGroupIngress)$/.test(
          Type,
        ),
      );
      expect(network.length).toBeGreaterThan(4);
      expect(network.map(([id]) => id).filter((id) => !before.has(id))).toEqual([]);
    },
  );

  test('run an existing image, which they may pull from ECR', () => {
    const ofEcr = templateOf(
      'worker: { image: 222222222222.dkr.ecr.us-east-1.amazonaws.com/a/b@sha256:0123, architecture: x86_64 }',
    );
    expect(textOf(containerOf(ofEcr).Image)).toBe('222222222222.dkr.ecr.us-east-1.<AWS::URLSuffix>/a/b@sha256:0123');
    ofEcr.hasResourceProperties('AWS::ECS::TaskDefinition', { RuntimePlatform: { CpuArchitecture: 'X86_64' } });
    expect(JSON.stringify(ofEcr.findResources('AWS::IAM::Policy'))).toContain(
      'arn:aws:ecr:us-east-1:222222222222:repository/a/b',
    );
    expect(containerOf(templateOf('worker: { image: ghcr.io/a/b:1 }')).Image).toBe('ghcr.io/a/b:1');
  });

  test('and the planner do not count as users of the images that they pull', () => {
    const excluded = Object.values(templateOf().findResources('AWS::ECR::PullTimeUpdateExclusion'));
    expect(excluded.map(({ Properties }) => textOf(Properties.PrincipalArn)).toSorted()).toEqual([
      '<PlannerRole.Arn>',
      '<WorkersRole.Arn>',
    ]);
    templateOf().hasResourceProperties('AWS::IAM::Role', { RoleName: 'transship-worker-eu-central-1' });
    templateOf().hasResourceProperties('AWS::IAM::Role', { RoleName: 'transship-planner-eu-central-1' });
  });
});

describe('scaling', () => {
  const METRICS = Match.arrayWith([
    Match.objectLike({
      Expression: 'SUM([FILL(visible, 0), FILL(inFlight, 0), FILL(requested, 0), FILL(begun, 0)])',
      ReturnData: true,
    }),
    Match.objectLike({ Id: 'visible', MetricStat: Match.objectLike({ Period: 60, Stat: 'Maximum' }) }),
    Match.objectLike({ Id: 'inFlight', MetricStat: Match.objectLike({ Period: 60, Stat: 'Maximum' }) }),
  ]);

  const IDLE = Match.arrayWith([
    Match.objectLike({
      Expression:
        'IF(SUM([FILL(visible, 0), FILL(inFlight, 0), FILL(requested, 0), FILL(begun, 0)]) == 0 AND FILL(tasks, REPEAT) > 0, 1, 0)',
      ReturnData: true,
    }),
    Match.objectLike({
      Id: 'tasks',
      MetricStat: Match.objectLike({
        Metric: Match.objectLike({ MetricName: 'DesiredTaskCount', Namespace: 'ECS/ContainerInsights' }),
        Period: 60,
        Stat: 'Maximum',
      }),
    }),
  ]);

  test('starts tasks for the first job, from zero tasks', () => {
    const template = templateOf('worker: { maxTasks: 6, slots: 2 }');
    template.hasResourceProperties('AWS::ApplicationAutoScaling::ScalableTarget', { MinCapacity: 0, MaxCapacity: 6 });
    template.hasResourceProperties('AWS::CloudWatch::Alarm', {
      ComparisonOperator: 'GreaterThanOrEqualToThreshold',
      Threshold: 1,
      EvaluationPeriods: 1,
      TreatMissingData: 'notBreaching',
      Metrics: METRICS,
      AlarmActions: [{ Ref: Match.stringLikeRegexp('^WorkersByWork') }],
    });
    template.hasResourceProperties('AWS::ApplicationAutoScaling::ScalingPolicy', {
      StepScalingPolicyConfiguration: {
        AdjustmentType: 'ExactCapacity',
        Cooldown: 300,
        // bounds are relative to the alarm's threshold, 1
        StepAdjustments: [
          { MetricIntervalLowerBound: 0, MetricIntervalUpperBound: 7, ScalingAdjustment: 1 },
          { MetricIntervalLowerBound: 7, MetricIntervalUpperBound: 15, ScalingAdjustment: 2 },
          { MetricIntervalLowerBound: 15, MetricIntervalUpperBound: 31, ScalingAdjustment: 4 },
          { MetricIntervalLowerBound: 31, MetricIntervalUpperBound: Match.absent(), ScalingAdjustment: 6 },
        ],
      },
    });
  });

  // CloudWatch repeats the action of a scaling alarm every minute that it lasts: an alarm without a running task would stop the next task
  test('stops all tasks after five minutes without a job, while any are running', () => {
    templateOf().hasResourceProperties('AWS::CloudWatch::Alarm', {
      ComparisonOperator: 'GreaterThanOrEqualToThreshold',
      Threshold: 1,
      EvaluationPeriods: 5,
      TreatMissingData: 'notBreaching',
      Metrics: IDLE,
      AlarmActions: [{ Ref: Match.stringLikeRegexp('^WorkersToNothing') }],
    });
    templateOf().hasResourceProperties('AWS::ApplicationAutoScaling::ScalingPolicy', {
      StepScalingPolicyConfiguration: {
        AdjustmentType: 'ExactCapacity',
        StepAdjustments: [{ MetricIntervalLowerBound: 0, ScalingAdjustment: 0 }],
      },
    });
  });

  test('has a step for every number of jobs, never more tasks than allowed, and no more steps than Application Auto Scaling accepts', () => {
    forAll(
      property(integer({ min: 1, max: 500 }), integer({ min: 4, max: 256 }), (maxTasks, jobsPerTask) => {
        const steps = stepsOf(maxTasks, jobsPerTask);
        // https://docs.aws.amazon.com/autoscaling/application/userguide/application-auto-scaling-limits.html
        expect(steps.length).toBeLessThanOrEqual(20);
        expect(steps[0]).toMatchObject({ tasks: 1, from: 1 });
        expect(steps.at(-1)).toMatchObject({ tasks: maxTasks, to: undefined });
        steps.forEach(({ tasks, from, to }, i) => {
          expect(to).toBe(steps[i + 1]?.from);
          if (to !== undefined) expect(to).toBeGreaterThan(from);
          expect(tasks).toBeGreaterThan(steps[i - 1]?.tasks ?? 0);
        });
      }),
    );
  });
});

describe('the planner', () => {
  test('is called every few minutes, without retries', () => {
    const template = templateOf('planEveryMinutes: 2');
    template.hasResourceProperties('AWS::Lambda::Function', {
      Runtime: 'nodejs24.x',
      Architectures: ['arm64'],
      Timeout: 900,
      Handler: 'index.handler',
      LoggingConfig: { LogFormat: 'Text' },
      ReservedConcurrentExecutions: Match.absent(),
      Environment: { Variables: Match.objectLike({ TRANSSHIP_LOOK_EVERY_HOURS: '24' }) },
    });
    template.hasResourceProperties('AWS::Lambda::EventInvokeConfig', { MaximumRetryAttempts: 0 });
    template.hasResourceProperties('AWS::Scheduler::Schedule', {
      ScheduleExpression: 'rate(2 minutes)',
      State: 'ENABLED',
      Target: {
        DeadLetterConfig: { Arn: { 'Fn::GetAtt': [Match.stringLikeRegexp('^QueuesUndelivered'), 'Arn'] } },
        RetryPolicy: { MaximumEventAgeInSeconds: 120 },
      },
    });
  });

  test('keeps calls that were not delivered, also where their queue has a key', () => {
    // https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
    const actions = ['kms:Decrypt', 'kms:GenerateDataKey'];
    for (const [encryption, key] of [
      ['create', { 'Fn::GetAtt': [Match.stringLikeRegexp('^StorageKey'), 'Arn'] }],
      [KEY, KEY],
    ] as const)
      templateOf(`encryption: ${encryption}\n${REPOSITORIES}`).hasResourceProperties('AWS::IAM::Policy', {
        Roles: [{ Ref: Match.stringLikeRegexp('^PlannerScheduleRole') }],
        PolicyDocument: { Statement: Match.arrayWith([Match.objectLike({ Action: actions, Resource: key })]) },
      });
    const without = templateOf().findResources('AWS::IAM::Policy', {
      Properties: { Roles: [{ Ref: Match.stringLikeRegexp('^PlannerScheduleRole') }] },
    });
    expect(Object.keys(without)).toHaveLength(1);
    expect(JSON.stringify(without)).not.toContain('kms:');
  });

  test('may only be called by the Scheduler of this account', () => {
    templateOf().hasResourceProperties('AWS::IAM::Role', {
      AssumeRolePolicyDocument: {
        Statement: [
          Match.objectLike({
            Principal: { Service: 'scheduler.amazonaws.com' },
            Condition: { StringEquals: Match.objectLike({ 'aws:SourceAccount': '111111111111' }) },
          }),
        ],
      },
    });
  });
});

describe('the network', () => {
  const endpointsOf = (template: Template): readonly string[] =>
    Object.values(template.findResources('AWS::EC2::VPCEndpoint'))
      .map(({ Properties }) =>
        textOf(Properties.ServiceName).replace(/^com\.amazonaws\.(?:eu-central-1|<AWS::Region>)\./, ''),
      )
      .toSorted();
  const publicIp = (template: Template, value: string): void => {
    template.hasResourceProperties('AWS::ECS::Service', {
      NetworkConfiguration: { AwsvpcConfiguration: { AssignPublicIp: value } },
    });
  };
  /** What the S3 endpoint admits, by sid. */
  const policyOf = (template: Template): string =>
    JSON.stringify(template.findResources('AWS::EC2::VPCEndpoint', { Properties: { VpcEndpointType: 'Gateway' } }));

  test('of type own has private subnets, a NAT gateway, and endpoints', () => {
    const template = templateOf();
    publicIp(template, 'DISABLED');
    template.resourceCountIs('AWS::EC2::NatGateway', 1);
    template.resourceCountIs('AWS::EC2::Subnet', 4);
    expect(endpointsOf(template)).toEqual(['dynamodb', 'ecr.api', 'ecr.dkr', 'logs', 's3', 'sqs']);
    expect(endpointsOf(templateOf("access: { roles: ['arn:aws:iam::222222222222:role/a'] }"))).toContain('sts');
    expect(
      endpointsOf(
        templateOf("access: { secrets: ['arn:aws:secretsmanager:eu-central-1:111111111111:secret:a-AbCdEf'] }"),
      ),
    ).toContain('secretsmanager');
    template.hasResourceProperties('AWS::EC2::FlowLog', { TrafficType: 'REJECT' });
  });

  test('needs no lookup of its zones before a deploy', () => {
    expect(JSON.stringify(templateOf().findResources('AWS::EC2::Subnet'))).toContain('Fn::GetAZs');
    const named = templateOf('network: { type: own, availabilityZones: [eu-central-1b, eu-central-1c] }');
    expect(JSON.stringify(named.findResources('AWS::EC2::Subnet'))).not.toContain('Fn::GetAZs');
  });

  test('admits its bucket, those of the settings and the layers of registries, and no other bucket of the account', () => {
    const policy = policyOf(templateOf('access: { buckets: [{ name: documents, allow: read }] }'));
    expect(policy).toContain('arn:aws:s3:::prod-eu-central-1-starport-layer-bucket/*');
    expect(policy).toContain('arn:aws:s3:::documents/*');
    expect(policy).toContain(
      '"Condition":{"StringNotEquals":{"aws:ResourceAccount":"111111111111"}},"Effect":"Allow","Principal":{"AWS":"*"},"Resource":"arn:aws:s3:::*/*"',
    );
    const closed = policyOf(templateOf('network: { type: own, natGateways: 0 }'));
    expect(closed).toContain('starport-layer-bucket');
    expect(closed).not.toContain(':::*/*');
  });

  test('without NAT reaches AWS only', () => {
    const template = templateOf('network: { type: own, natGateways: 0 }');
    template.resourceCountIs('AWS::EC2::NatGateway', 0);
    template.resourceCountIs('AWS::EC2::InternetGateway', 0);
    publicIp(template, 'DISABLED');
  });

  test('of type public has no NAT and no endpoints that cost, and admits no connections', () => {
    const template = templateOf('network: { type: public }');
    template.resourceCountIs('AWS::EC2::NatGateway', 0);
    expect(endpointsOf(template)).toEqual(['dynamodb', 's3']);
    publicIp(template, 'ENABLED');
    template.resourceCountIs('AWS::EC2::SecurityGroupIngress', 0);
    template.allResourcesProperties('AWS::EC2::SecurityGroup', { SecurityGroupIngress: Match.absent() });
    template.allResourcesProperties('AWS::EC2::Subnet', { MapPublicIpOnLaunch: false });
  });

  test.each([
    ['', 'DISABLED'],
    [', publicAddresses: true', 'ENABLED'],
  ])('of type existing uses the given VPC unchanged%s', (more, address) => {
    const template = templateOf(
      `network: { type: existing, vpcId: vpc-0123456789abcdef0, subnetIds: [subnet-0123456789abcdef1, subnet-0123456789abcdef2], availabilityZones: [eu-central-1a, eu-central-1b]${more} }`,
    );
    for (const type of ['VPC', 'Subnet', 'VPCEndpoint', 'NatGateway']) template.resourceCountIs(`AWS::EC2::${type}`, 0);
    template.hasResourceProperties('AWS::EC2::SecurityGroup', { VpcId: 'vpc-0123456789abcdef0' });
    template.hasResourceProperties('AWS::ECS::Service', {
      NetworkConfiguration: {
        AwsvpcConfiguration: {
          Subnets: ['subnet-0123456789abcdef1', 'subnet-0123456789abcdef2'],
          AssignPublicIp: address,
        },
      },
    });
  });
});

test('logs are kept for the days of the settings', () => {
  templateOf('logRetentionDays: 30').allResourcesProperties('AWS::Logs::LogGroup', { RetentionInDays: 30 });
});

test('blob mounting is enabled where the settings ask for it, and never disabled', () => {
  const asked = templateOf('blobMounting: true');
  asked.hasResourceProperties('Custom::PutAccountSetting', {
    Create: Match.serializedJson(
      Match.objectLike({
        service: 'ecr',
        action: 'PutAccountSetting',
        parameters: { name: 'BLOB_MOUNTING', value: 'ENABLED' },
      }),
    ),
    Delete: Match.absent(),
  });
  // without it, a deployment has no other function than the planner's
  templateOf().resourceCountIs('AWS::Lambda::Function', 1);
});

test('every resource that accepts tags has those of the settings', () => {
  const template = templateOf('tags: { team: platform }');
  for (const type of [
    'AWS::S3::Bucket',
    'AWS::SQS::Queue',
    'AWS::Lambda::Function',
    'AWS::IAM::Role',
    'AWS::ECS::Cluster',
    'AWS::Logs::LogGroup',
    'AWS::EC2::VPC',
  ])
    for (const [id, { Properties }] of Object.entries(template.findResources(type)))
      expect(Properties.Tags, id).toContainEqual({ Key: 'team', Value: 'platform' });
  // and tasks, which cost the most
  template.hasResourceProperties('AWS::ECS::Service', { PropagateTags: 'SERVICE' });
  template.hasResourceProperties('AWS::DynamoDB::GlobalTable', {
    Replicas: [{ Tags: [{ Key: 'team', Value: 'platform' }] }],
  });
});

describe('outputs', () => {
  const command = (template: Template, id: string): string => textOf(template.findOutputs(id)[id]?.['Value']);
  const ECR = 'docker://111111111111.dkr.ecr.eu-central-1.<AWS::URLSuffix>';

  test('are the commands that check a deployment, with repositories that it may reach', () => {
    const template = templateOf(
      "access: { repositories: [{ names: ['restored/*'], allow: write }, { names: ['product/*'], allow: read }] }",
    );
    expect(command(template, 'Check1Environment')).toBe(
      'export AWS_REGION=eu-central-1 ECR=111111111111.dkr.ecr.eu-central-1.<AWS::URLSuffix> TRANSSHIP_QUEUE_URL=<QueuesJobs> TRANSSHIP_REQUEST_QUEUE_URL=<QueuesRequests> TRANSSHIP_DEAD_LETTER_QUEUE_URL=<QueuesDeadLetters> TRANSSHIP_TABLE=<StorageTable> TRANSSHIP_ALLOW=111111111111,s3://<StorageBucket> TRANSSHIP_SERVICE=<WorkersService> TRANSSHIP_BUCKET=<StorageBucket>',
    );
    expect(command(template, 'Check2Status')).toBe('npx transship status');
    expect(command(template, 'Check3FirstBackup')).toBe(
      `npx transship enqueue --wait ${ECR}/product/REPOSITORY:TAG s3://<StorageBucket>/`,
    );
    const archive = 's3://<StorageBucket>/eu-central-1/product/REPOSITORY/TAG.tar';
    expect(command(template, 'Check4Verify')).toBe(`npx transship verify ${archive}`);
    expect(command(template, 'Check5Restore')).toBe(
      `npx transship enqueue --wait ${archive} ${ECR}/restored/product/REPOSITORY:TAG`,
    );
  });

  test('restore to a file where nothing may be written, and never over the original', () => {
    expect(command(templateOf(REPOSITORIES), 'Check5Restore')).toMatch(
      /^npx transship copy s3:.* oci-archive:restored\.tar$/,
    );
    const all = templateOf("access: { repositories: [{ names: ['*'], allow: write }] }");
    expect(command(all, 'Check3FirstBackup')).toContain(`${ECR}/REPOSITORY:TAG`);
    expect(command(all, 'Check5Restore')).toMatch(/\/restored\/REPOSITORY:TAG$/);
  });
});

describe('cdk-nag finds no wildcard without a reason', () => {
  test.each([
    ['the defaults', ''],
    ['public subnets and a key', 'network: { type: public }\nencryption: create\nblobMounting: true'],
    [
      'prune and publish',
      "encryption: create\nprune: { repositories: [{ names: ['ci/*', b] }], prefixes: [/, 'a/', 's3://other/', 's3://other/b/'] }\npublish: { prefixes: ['s3://documents/a/', '/'] }",
    ],
    [
      'what exists already',
      `encryption: ${KEY}\nbucket: { existing: archives }\nworker: { image: ghcr.io/a/b:1 }\nnetwork: { type: existing, vpcId: vpc-0123456789abcdef0, subnetIds: [subnet-0123456789abcdef1], availabilityZones: [eu-central-1a] }`,
    ],
  ])('%s', (_, more) => {
    expect(findings(made(more).stack)).toEqual([]);
  });

  test('except one that was added without a reason', () => {
    const stack = transship(REPOSITORIES);
    const role = stack.node.findChild('Workers').node.findChild('Role');
    if (!(role instanceof Role)) throw new Error('no role');
    role.addToPolicy(new PolicyStatement({ actions: ['s3:GetObject'], resources: ['arn:aws:s3:::foreign/*'] }));
    expect(findings(stack)).toEqual(['AwsSolutions-IAM5[Resource::arn:aws:s3:::foreign/*]']);
  });
});
