// Templates for any account and Region.
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { REGISTRIES_PARAMETERS, REPLICAS_PARAMETERS, SERVICE_PARAMETERS } from '../../infra/portable/parameters.ts';
import { deploy, takes, type Deployed } from './deployed.ts';
import { PORTABLE, portableTemplates } from './templates.ts';

const templates = portableTemplates();
const NEEDED = {
  Transship: { AssetBucket: 'assets-bucket', WorkerImage: 'ghcr.io/owner/transship:1.0.0' },
  TransshipRegistries: {},
  TransshipReplicas: { HomeRegion: 'eu-central-1' },
} as const;
const DECLARED = {
  Transship: SERVICE_PARAMETERS,
  TransshipRegistries: REGISTRIES_PARAMETERS,
  TransshipReplicas: REPLICAS_PARAMETERS,
} as const;

function templateOf(id: (typeof PORTABLE)[number]) {
  const found = templates.get(id);
  if (found === undefined) throw new Error(`there is no template ${id}`);
  return found;
}

function deployed(id: (typeof PORTABLE)[number], given: Readonly<Record<string, string>> = {}): Deployed {
  return deploy(templateOf(id), { ...NEEDED[id], ...given });
}

function ofType(type: string, { resources }: Deployed): readonly unknown[] {
  return [...resources.values()].filter((one) => one.type === type).map(({ properties }) => properties);
}

describe.each(PORTABLE)('%s', (id) => {
  test('names no account and no Region', () => {
    // an account stands between quotes, or in an ARN or a host
    const text = JSON.stringify(templateOf(id));
    expect(text.match(/["/:.][0-9]{12}["/:.]/g)).toBeNull();
    expect(text.match(/\b(?:us|eu|ap|sa|ca)-[a-z]+-[0-9]\b/g)).toBeNull();
    expect(text).not.toContain('hnb659fds');
    expect(text).not.toContain('${Token');
  });

  test('has the declared parameters, each used and described', () => {
    const { Parameters, ...rest } = templateOf(id);
    expect(Object.keys(Parameters).toSorted()).toEqual(Object.keys(DECLARED[id]).toSorted());
    const text = JSON.stringify(rest);
    for (const name of Object.keys(Parameters))
      expect(text, name).toMatch(new RegExp(String.raw`\{"Ref":"${name}"\}|\$\{${name}\}`));
    const needed = Object.entries(Parameters).filter(([, { Default }]) => Default === undefined);
    expect(needed.map(([name]) => name)).toEqual(Object.keys(NEEDED[id]));
  });

  test('can be deployed with each parameter at its bounds, and has no reference to a resource that does not exist then', () => {
    for (const [name, { AllowedValues, MinValue, MaxValue }] of Object.entries(templateOf(id).Parameters)) {
      const bounds = [...(AllowedValues ?? []), MinValue, MaxValue].filter((value) => value !== undefined);
      for (const value of bounds) deployed(id, { [name]: String(value) });
      if (MinValue !== undefined) expect(() => deployed(id, { [name]: String(MinValue - 1) })).toThrow(name);
      if (MaxValue !== undefined) expect(() => deployed(id, { [name]: String(MaxValue + 1) })).toThrow(name);
      if (AllowedValues !== undefined) expect(() => deployed(id, { [name]: 'another' })).toThrow(name);
    }
  });
});

test.each([
  ['aws', 'eu-central-1', 'https://eu-central-1.console.aws.amazon.com/'],
  ['aws-cn', 'cn-north-1', 'https://cn-north-1.console.amazonaws.cn/'],
  ['aws-us-gov', 'us-gov-west-1', 'https://us-gov-west-1.console.amazonaws-us-gov.com/'],
])('the output Dashboard has a URL of the console of the partition %s', (partition, region, start) => {
  const pseudo = { 'AWS::Partition': partition, 'AWS::Region': region };
  const { outputs } = deploy(templateOf('Transship'), NEEDED.Transship, pseudo);
  expect(String(outputs.get('Dashboard')).startsWith(start)).toBe(true);
});

describe('parameters that belong together', () => {
  const VPC = 'vpc-00000000';
  const SUBNETS = 'subnet-00000000,subnet-11111111';

  test.each([
    ['Transship', { VpcId: VPC }, 'VpcId needs SubnetIds'],
    ['Transship', { SubnetIds: SUBNETS }, 'SubnetIds needs VpcId'],
    ['Transship', { PublishPrefix: 'documents/' }, 'PublishPrefix needs PublishBucket'],
    ['Transship', { PublishRepository: 'documents' }, 'PublishRepository needs PublishBucket'],
    ['TransshipRegistries', { SecondaryRegion: 'eu-west-1' }, 'set DestinationRegion first'],
    [
      'TransshipRegistries',
      { DestinationRegion: 'eu-west-1', SecondaryRegion: 'eu-west-1' },
      'SecondaryRegion is another Region',
    ],
  ] as const)('are refused by %s without each other, before anything is created: %j', (id, given, sentence) => {
    expect(() => deployed(id, given)).toThrow(sentence);
  });

  test('are accepted together', () => {
    deployed('Transship', { VpcId: VPC, SubnetIds: SUBNETS });
    deployed('Transship', { PublishBucket: 'documents', PublishPrefix: 'a/', PublishRepository: 'documents' });
    deployed('TransshipRegistries', { DestinationRegion: 'eu-west-1', SecondaryRegion: 'us-west-2' });
  });

  test('are compared by functions that rules have', () => {
    // https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference-rules.html
    const allowed = new Set([
      'Ref',
      'Fn::And',
      'Fn::Contains',
      'Fn::EachMemberEquals',
      'Fn::Equals',
      'Fn::Not',
      'Fn::Or',
    ]);
    for (const id of PORTABLE) {
      const functions = JSON.stringify(templateOf(id).Rules).match(/"(?:Ref|Fn::\w+|Condition)"/g) ?? [];
      expect(functions.map((name) => name.slice(1, -1)).filter((name) => !allowed.has(name))).toEqual([]);
    }
  });
});

describe('what CloudFormation creates first', () => {
  const resources = z.record(
    z.string(),
    z.looseObject({
      Type: z.string(),
      Condition: z.string().optional(),
      DependsOn: z.union([z.string().transform((one) => [one]), z.array(z.string())]).default([]),
      Metadata: z.unknown().optional(),
    }),
  );

  test.each(PORTABLE)('is in %s never a resource that a condition may leave out alone', (id) => {
    const all = resources.parse(templateOf(id).Resources);
    const missing = Object.entries(all).flatMap(([name, { Condition, DependsOn }]) =>
      DependsOn.filter((one) => all[one]?.Condition !== undefined && all[one].Condition !== Condition).map(
        (one) => `${name} depends on ${one}`,
      ),
    );
    expect(missing).toEqual([]);
  });

  test('is the network where one is created, and otherwise nothing of it', () => {
    const all = resources.parse(templateOf('Transship').Resources);
    const service = Object.values(all).find(({ Type }) => Type === 'AWS::ECS::Service');
    const [condition, waitsFor, otherwise] = Object(service?.Metadata).Network['Fn::If'];
    expect([condition, otherwise]).toEqual(['CreatesNetwork', '']);
    const named = new Set(waitsFor.map(({ Ref }: { readonly Ref: string }) => Ref));
    const network = Object.entries(all).filter(([, { Type }]) =>
      /^AWS::EC2::(?:Route|VPCGatewayAttachment|SubnetRouteTableAssociation|VPCEndpoint)$/.test(Type),
    );
    expect(network.length).toBeGreaterThan(6);
    expect(network.map(([name]) => name).filter((name) => !named.has(name))).toEqual([]);
    expect(service?.DependsOn.join(' ')).toMatch(/PullOfWorkerImage.*ExecutionRoleDefaultPolicy/);
  });
});

describe('values', () => {
  const A63 = `a${'b'.repeat(62)}`;
  const BOUNDS: Readonly<Record<string, readonly [taken: readonly string[], refused: readonly string[]]>> = {
    Prefix: [
      ['a', 'a2345678901234567890'],
      ['', 'A', '1', 'a23456789012345678901', 'a_'],
    ],
    AssetBucket: [
      ['abc', A63],
      ['', 'ab', `${A63}c`, 'Abc', '-bc'],
    ],
    BucketName: [
      ['', 'abc', A63],
      ['ab', `${A63}c`],
    ],
    PublishBucket: [
      ['', 'abc', A63],
      ['ab', 's3://abc'],
    ],
    PublishPrefix: [
      ['', 'in/', `${'a'.repeat(899)}/`],
      ['in', '/', '*/', '?/', '$/', `${'a'.repeat(900)}/`],
    ],
    AssetPrefix: [
      ['', 'a/', `${'a'.repeat(899)}/`],
      ['a', '/', `${'a'.repeat(900)}/`],
    ],
    WorkerImage: [
      ['ghcr.io/a/b:1', 'a@sha256:00', 'a'.repeat(500)],
      ['', 'a', 'A/b', 'a b', 'a'.repeat(501)],
    ],
    WorkerImageRepositoryArn: [
      ['', 'arn:aws:ecr:eu-west-1:111111111111:repository/a/b', 'arn:aws-cn:ecr:cn-north-1:111111111111:repository/a'],
      ['*', 'arn:aws:ecr:eu-west-1:111111111111:repository/*', 'arn:aws:s3:::bucket'],
    ],
    ReadRepositories: [
      ['*', 'a', 'product/*', 'a'.repeat(256)],
      // EventBridge refuses one wildcard beside another
      ['', '/a', 'A', 'a,b', '**', 'a/**', 'a'.repeat(257)],
    ],
    WriteRepositories: [
      ['*', 'restored/*'],
      ['', '${a}'],
    ],
    PublishRepository: [
      ['', 'documents'],
      ['/a', 'A'],
    ],
    VpcId: [
      ['', 'vpc-00000000', 'vpc-0123456789abcdef0'],
      ['vpc-1', 'subnet-00000000'],
    ],
    VpcCidr: [
      ['10.0.0.0/16', '10.0.0.0/24'],
      ['', '10.0.0.0/15', '10.0.0.0/25', '10.0.0.0'],
    ],
    NotificationEmail: [
      ['', 'a@b.c'],
      ['a', 'a@b', 'a b@c.d'],
    ],
    RepositoryPrefix: [
      ['a', 'a/b', 'a'.repeat(200)],
      ['', 'a/', '/a', 'A', 'a'.repeat(201)],
    ],
    DestinationRegion: [
      ['', 'us-east-1', 'us-gov-west-1'],
      ['us', 'US-EAST-1', 'us-east-1a'],
    ],
    SecondaryRegion: [['', 'eu-west-1'], ['eu']],
    HomeRegion: [['eu-central-1'], ['']],
    PullPrincipalArn: [
      ['', 'arn:aws:iam::111111111111:root', 'arn:aws:iam::111111111111:role/a/b'],
      ['*', 'arn:aws:iam::111111111111:role/*', '111111111111'],
    ],
    PushPrincipalArn: [
      ['', 'arn:aws:iam::111111111111:user/a'],
      ['*', 'arn:aws:iam::*:root'],
    ],
  };
  const parameters = [...templates.values()].flatMap(({ Parameters }) => Object.entries(Parameters));

  test('with a pattern are all tried at its bounds', () => {
    const named = parameters.filter(([, { AllowedPattern }]) => AllowedPattern !== undefined).map(([name]) => name);
    expect(new Set(Object.keys(BOUNDS))).toEqual(new Set(named));
  });

  test.each(parameters.filter(([name]) => name in BOUNDS))(
    'of %s are accepted, or refused before anything is created',
    (name, declared) => {
      const [taken, refused] = BOUNDS[name] ?? [[], []];
      expect(taken.filter((value) => !takes(declared, value))).toEqual([]);
      expect(refused.filter((value) => takes(declared, value))).toEqual([]);
    },
  );

  test('of the defaults are accepted', () => {
    for (const [name, declared] of parameters)
      if (declared.Default !== undefined) expect(takes(declared, String(declared.Default)), name).toBe(true);
  });
});

describe('the service', () => {
  const GIVEN = { VpcId: 'vpc-00000000', SubnetIds: 'subnet-00000000,subnet-11111111' };

  test('creates a network unless a VPC is given', () => {
    expect(ofType('AWS::EC2::VPC', deployed('Transship'))).toHaveLength(1);
    const given = deployed('Transship', GIVEN);
    const network = [...given.resources.values()]
      .map(({ type }) => type)
      .filter((type) => type.startsWith('AWS::EC2::'));
    expect(network).toEqual(['AWS::EC2::SecurityGroup']);
    expect(ofType('AWS::EC2::SecurityGroup', given)[0]).toMatchObject({ VpcId: 'vpc-00000000' });
    expect(ofType('AWS::ECS::Service', given)[0]).toMatchObject({
      NetworkConfiguration: {
        AwsvpcConfiguration: { AssignPublicIp: 'DISABLED', Subnets: ['subnet-00000000', 'subnet-11111111'] },
      },
    });
  });

  test('has no alarm that notifies, no topic and no dashboard without monitoring, and still scales', () => {
    const bare = deployed('Transship', { EnableMonitoring: 'false', NotificationEmail: 'a@b.c' });
    expect(ofType('AWS::SNS::Topic', bare)).toEqual([]);
    expect(ofType('AWS::SNS::Subscription', bare)).toEqual([]);
    expect(ofType('AWS::CloudWatch::Dashboard', bare)).toEqual([]);
    expect(ofType('AWS::CloudWatch::Alarm', bare)).toHaveLength(2);
    expect(ofType('AWS::SNS::Subscription', deployed('Transship'))).toEqual([]);
    expect(ofType('AWS::SNS::Subscription', deployed('Transship', { NotificationEmail: 'a@b.c' }))).toHaveLength(1);
  });

  test('names repositories in its commands that workers may read and write', () => {
    const commandOf = (id: string, given: Readonly<Record<string, string>> = {}): string =>
      String(deployed('Transship', given).outputs.get(id)).replaceAll(/111111111111\S*amazonaws\.com/g, 'HOST');
    expect(commandOf('Check3FirstBackup')).toMatch(/ docker:\/\/HOST\/REPOSITORY:TAG s3:/);
    expect(commandOf('Check5Restore')).toMatch(/\/REPOSITORY\/TAG\.tar docker:\/\/HOST\/restored\/REPOSITORY:TAG$/);
    const given = { ReadRepositories: 'product/*', WriteRepositories: 'back/*' };
    expect(commandOf('Check3FirstBackup', given)).toMatch(/ docker:\/\/HOST\/product\/REPOSITORY:TAG s3:/);
    expect(commandOf('Check5Restore', given)).toMatch(
      /\/product\/REPOSITORY\/TAG\.tar docker:\/\/HOST\/back\/REPOSITORY:TAG$/,
    );
    // beside the original, also where all may be written
    expect(commandOf('Check5Restore', { WriteRepositories: '*' })).toMatch(
      / docker:\/\/HOST\/restored\/REPOSITORY:TAG$/,
    );
  });

  test('may read the bucket that it publishes from, and otherwise only its own', () => {
    const arnsIn = (some: Deployed): readonly string[] => {
      const policies = ['AWS::IAM::Policy', 'AWS::IAM::ManagedPolicy', 'AWS::EC2::VPCEndpoint'];
      return policies.flatMap((type) => JSON.stringify(ofType(type, some)).match(/arn:aws:s3:::[^"]*/g) ?? []);
    };
    expect(arnsIn(deployed('Transship')).filter((arn) => /:::(?:\/|$)/.test(arn))).toEqual([]);
    const publishing = deployed('Transship', {
      PublishBucket: 'objects',
      PublishPrefix: 'in/',
      PublishRepository: 'documents',
    });
    expect(arnsIn(publishing)).toContain('arn:aws:s3:::objects/in/*');
    const registry = 'arn:aws:ecr:eu-central-1:111111111111:repository/';
    for (const some of [deployed('Transship'), publishing])
      expect(JSON.stringify([...some.resources.values()])).not.toContain(`"${registry}"`);
    expect(JSON.stringify(ofType('AWS::IAM::Policy', publishing))).toContain(`"${registry}documents"`);
    const rules = (some: Deployed): number =>
      JSON.stringify(ofType('AWS::Events::Rule', some)).split('"aws.s3"').length - 1;
    expect([rules(deployed('Transship')), rules(publishing)]).toEqual([0, 1]);
    expect(JSON.stringify(ofType('AWS::Events::Rule', publishing))).toContain('"object":{"key":[{"prefix":"in/"}]}');
  });

  test('lets a task pull the image of a private repository, and no other', () => {
    const arn = 'arn:aws:ecr:eu-west-1:222222222222:repository/transship/worker';
    const pulls = (some: Deployed): number =>
      JSON.stringify(ofType('AWS::IAM::Policy', some)).split(`"${arn}"`).length - 1;
    expect(pulls(deployed('Transship'))).toBe(0);
    expect(pulls(deployed('Transship', { WorkerImageRepositoryArn: arn }))).toBe(1);
  });

  test('has the given size, storage class and days', () => {
    const some = deployed('Transship', {
      WorkerSize: 'large',
      WorkerArchitecture: 'X86_64',
      StorageClass: 'GLACIER_IR',
      KeepOldVersionsDays: '30',
      LogRetentionDays: '7',
      MaxTasks: '9',
      BucketName: 'archives-here',
    });
    expect(ofType('AWS::ECS::TaskDefinition', some)[0]).toMatchObject({
      Cpu: '4096',
      Memory: '16384',
      Family: 'transship-worker',
      RuntimePlatform: { CpuArchitecture: 'X86_64' },
    });
    expect(ofType('AWS::S3::Bucket', some)[0]).toMatchObject({
      BucketName: 'archives-here',
      LifecycleConfiguration: {
        Rules: [
          {
            NoncurrentVersionExpiration: { NoncurrentDays: '30' },
            Transitions: [{ StorageClass: 'GLACIER_IR', TransitionInDays: 30 }],
          },
        ],
      },
    });
    for (const group of ofType('AWS::Logs::LogGroup', some)) expect(group).toMatchObject({ RetentionInDays: '7' });
    expect(ofType('AWS::ApplicationAutoScaling::ScalableTarget', some)[0]).toMatchObject({ MaxCapacity: '9' });
    expect(JSON.stringify(ofType('AWS::S3::Bucket', deployed('Transship')))).not.toContain('Transitions');
  });
});

describe('the planner', () => {
  test('may keep the task definition that the service has, and set no other', () => {
    const some = deployed('Transship', { Prefix: 'tea' });
    const [task] = ofType('AWS::ECS::TaskDefinition', some);
    const statements = ofType('AWS::IAM::Policy', some).flatMap((one) => Object(one).PolicyDocument.Statement);
    const { Condition } = Object(statements.find(({ Action }) => [Action].flat().includes('ecs:UpdateService')));
    expect(Object(task).Family).toBe('tea-worker');
    expect(Condition.ArnLikeIfExists).toEqual({
      'ecs:task-definition': 'arn:aws:ecs:eu-central-1:111111111111:task-definition/tea-worker:*',
    });
  });
});

describe('registries', () => {
  const policies = (given: Readonly<Record<string, string>>): readonly unknown[] =>
    ofType('AWS::ECR::Repository', deployed('TransshipRegistries', given)).map((properties) => {
      const { LifecyclePolicy } = Object(properties);
      const { rules } = JSON.parse(LifecyclePolicy.LifecyclePolicyText);
      return rules.map(({ selection }: { selection: { countType: string; countNumber: number } }) => [
        selection.countType,
        selection.countNumber,
      ]);
    });

  test('keep as many images as the parameters allow', () => {
    expect(policies({ ProductionKeepLast: '15', TestingExpireAfterDays: '3', UntaggedAfterDays: '2' })).toEqual([
      [
        ['sinceImagePushed', 2],
        ['imageCountMoreThan', 15],
      ],
      [
        ['sinceImagePushed', 2],
        ['sinceImagePushed', 3],
      ],
    ]);
    expect(policies({ TestingKeepLast: '8' })[1]).toEqual([
      ['sinceImagePushed', 1],
      ['imageCountMoreThan', 8],
    ]);
  });

  test('are replicated to no, one or two Regions', () => {
    const regions = (given: Readonly<Record<string, string>>): readonly string[] =>
      JSON.stringify(ofType('AWS::ECR::ReplicationConfiguration', deployed('TransshipRegistries', given))).match(
        /(?<="Region":")[^"]+/g,
      ) ?? [];
    expect(regions({})).toEqual([]);
    expect(regions({ DestinationRegion: 'us-west-2' })).toEqual(['us-west-2']);
    expect(regions({ DestinationRegion: 'us-west-2', SecondaryRegion: 'eu-west-1' })).toEqual([
      'us-west-2',
      'eu-west-1',
    ]);
  });

  test('have a role for each given principal', () => {
    expect(ofType('AWS::IAM::Role', deployed('TransshipRegistries'))).toEqual([]);
    const some = deployed('TransshipRegistries', { PushPrincipalArn: 'arn:aws:iam::111111111111:role/ci' });
    expect(ofType('AWS::IAM::Role', some)).toHaveLength(1);
    expect([...some.outputs.keys()]).toContain('PushRoleArn');
  });
});
