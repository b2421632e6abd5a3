import {
  Aws,
  CfnCondition,
  CfnParameter,
  Fn,
  Token,
  type CfnParameterProps,
  type ICfnConditionExpression,
  type Stack,
} from 'aws-cdk-lib';

/**
 * A parameter of a portable template. It has a type and bounds that CloudFormation checks before it creates anything, so that a value that
 * cannot work is refused in the form and not after minutes.
 */
type Parameter = CfnParameterProps & { readonly type: 'String' | 'Number' | 'CommaDelimitedList' };
type Parameters<Name extends string> = Readonly<Record<Name, Parameter>>;

const PREFIX = '^[a-z][a-z0-9-]{0,19}$';
/** A name, or a pattern as EventBridge takes it too: no wildcard beside another. */
const REPOSITORIES = '^[*]$|^([a-z0-9]|[*][a-z0-9._/-])([*]?[a-z0-9._/-])*[*]?$';
/** https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreateRepository.html */
const MAX_NAME = 256;
const REGION = '^[a-z]{2}(-[a-z]+)+-[0-9]$';
const OR_NONE = (pattern: string): string => `^$|${pattern}`;
/** https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html */
const BUCKET = '^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$';
/** https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html */
const LOG_DAYS = [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827];
const MAX_DAYS = 36_500;
/** https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_parameters.html */
const MAX_IMAGES = 100_000;

const text = (description: string, more: Omit<CfnParameterProps, 'description' | 'type'> = {}): Parameter => ({
  type: 'String',
  description,
  ...more,
});
const number = (description: string, byDefault: number, minValue: number, maxValue: number): Parameter => ({
  type: 'Number',
  description,
  default: byDefault,
  minValue,
  maxValue,
});
const choice = (description: string, allowedValues: readonly string[]): Parameter =>
  text(description, { default: allowedValues[0] ?? '', allowedValues: [...allowedValues] });

/** The sizes of a worker: CPU units and MiB that Fargate has. */
export const WORKER_SIZES = {
  small: { cpu: '1024', memory: '2048' },
  medium: { cpu: '2048', memory: '4096' },
  large: { cpu: '4096', memory: '16384' },
} as const;

/** Each task has an address in one of two subnets of 128, with a VPC that is created; the steps of scaling go so far. */
export const MOST_TASKS = 200;

export const SERVICE_PARAMETERS = {
  Prefix: text('Every name begins with it', {
    default: 'transship',
    allowedPattern: PREFIX,
    constraintDescription: 'up to 20 small letters, digits and "-"',
  }),
  AssetBucket: text("The bucket of this Region that has the functions' code: the files of the folder assets", {
    allowedPattern: BUCKET,
  }),
  AssetPrefix: text('Where the files are in that bucket: empty, or ending in /', {
    default: '',
    allowedPattern: '^$|^[^/].*/$',
    maxLength: 900,
  }),
  WorkerImage: text("The worker's image, with a tag or a digest", {
    allowedPattern: String.raw`^[a-z0-9][\w.:/@-]+$`,
    maxLength: 500,
  }),
  WorkerImageRepositoryArn: text(
    'The ARN of its repository when it is a private one of ECR; empty: anyone may pull it',
    {
      default: '',
      allowedPattern: OR_NONE(String.raw`^arn:aws[a-z-]*:ecr:[a-z0-9-]+:[0-9]{12}:repository/[a-z0-9._/-]+$`),
    },
  ),
  WorkerArchitecture: choice('What that image runs on', ['ARM64', 'X86_64']),
  WorkerSize: choice('1, 2 or 4 vCPU with 2, 4 or 16 GiB', Object.keys(WORKER_SIZES)),
  MaxTasks: number('The most tasks that run at once', 4, 1, MOST_TASKS),
  PlannerSchedule: choice('How often the planner looks at the schedules of the rules', [
    'rate(5 minutes)',
    'rate(1 minute)',
    'rate(10 minutes)',
    'rate(15 minutes)',
  ]),
  ReadRepositories: text('The repositories of ECR that workers may read: a name, or a pattern such as product/*', {
    default: '*',
    allowedPattern: REPOSITORIES,
    maxLength: MAX_NAME,
  }),
  WriteRepositories: text('Those that they may write, and create', {
    default: 'restored/*',
    allowedPattern: REPOSITORIES,
    maxLength: MAX_NAME,
  }),
  PublishBucket: text('The bucket that publish rules read; empty: none', {
    default: '',
    allowedPattern: OR_NONE(BUCKET),
  }),
  PublishPrefix: text('Only its keys that begin so: empty, or ending in /', {
    default: '',
    allowedPattern: '^$|^[^/*?$][^*?$]*/$',
    maxLength: 900,
  }),
  PublishRepository: text('The repository that they are published to; empty: WriteRepositories has it', {
    default: '',
    allowedPattern: OR_NONE(REPOSITORIES),
    maxLength: MAX_NAME,
  }),
  BucketName: text("The name of the archives' bucket; empty: CloudFormation chooses one", {
    default: '',
    allowedPattern: OR_NONE(BUCKET),
  }),
  StorageClass: choice('The class of archives after 30 days', ['STANDARD', 'GLACIER_IR']),
  KeepOldVersionsDays: number('Days that replaced and deleted archives are kept', 90, 1, MAX_DAYS),
  LogRetentionDays: {
    type: 'Number',
    description: 'Days that logs are kept',
    default: '90',
    allowedValues: LOG_DAYS.map(String),
  },
  VpcId: text('The VPC of the workers; empty: one is created, with public subnets', {
    default: '',
    allowedPattern: OR_NONE('^vpc-([0-9a-f]{8}|[0-9a-f]{17})$'),
  }),
  SubnetIds: {
    type: 'CommaDelimitedList',
    description: 'Its subnets, with commas between; needed with VpcId',
    default: '',
  },
  PublicAddresses: choice(
    'Whether tasks in those subnets get public addresses: DISABLED where they have a NAT gateway',
    ['DISABLED', 'ENABLED'],
  ),
  VpcCidr: text('The addresses of a VPC that is created', {
    default: '10.64.0.0/20',
    allowedPattern: String.raw`^([0-9]{1,3}\.){3}[0-9]{1,3}/(1[6-9]|2[0-4])$`,
    constraintDescription: 'a range of addresses of /16 to /24',
  }),
  EnableMonitoring: choice('Whether there are alarms, a topic and a dashboard', ['true', 'false']),
  NotificationEmail: text('Who gets mail of alarms; empty: no one. The address has to confirm once', {
    default: '',
    allowedPattern: OR_NONE(String.raw`^[^@\s]+@[^@\s]+\.[^@\s]+$`),
  }),
} as const satisfies Parameters<string>;

const REPOSITORY_PREFIX = text('What the names of the repositories begin with', {
  default: 'product',
  allowedPattern: '^[a-z0-9]+([._/-][a-z0-9]+)*$',
  maxLength: 200,
});
const KEEP_LAST = number('Tagged images of production that are kept', 100, 1, MAX_IMAGES);
const UNTAGGED_DAYS = number('Days until an untagged image is deleted', 1, 1, MAX_DAYS);

export const REGISTRIES_PARAMETERS = {
  RepositoryPrefix: REPOSITORY_PREFIX,
  ProductionKeepLast: KEEP_LAST,
  TestingKeepLast: number(
    'Tagged images of testing that are kept; 0: TestingExpireAfterDays decides',
    0,
    0,
    MAX_IMAGES,
  ),
  TestingExpireAfterDays: number('Days until an image of testing is deleted', 7, 1, MAX_DAYS),
  UntaggedAfterDays: UNTAGGED_DAYS,
  ScanOnPush: choice('Whether ECR scans what is pushed', ['true', 'false']),
  DestinationRegion: text('The Region that ECR replicates to; empty: none', {
    default: '',
    allowedPattern: OR_NONE(REGION),
  }),
  SecondaryRegion: text('A second one; empty: none', { default: '', allowedPattern: OR_NONE(REGION) }),
  PullPrincipalArn: text('Who may assume the role that pulls from production: an ARN; empty: there is no such role', {
    default: '',
    allowedPattern: OR_NONE(String.raw`^arn:aws[a-z-]*:iam::[0-9]{12}:(root|(user|role)/[\w+=,.@/-]+)$`),
  }),
  PushPrincipalArn: text('Who may assume the role that pushes to both', {
    default: '',
    allowedPattern: OR_NONE(String.raw`^arn:aws[a-z-]*:iam::[0-9]{12}:(root|(user|role)/[\w+=,.@/-]+)$`),
  }),
} as const satisfies Parameters<string>;

export const REPLICAS_PARAMETERS = {
  RepositoryPrefix: REPOSITORY_PREFIX,
  ProductionKeepLast: KEEP_LAST,
  UntaggedAfterDays: UNTAGGED_DAYS,
  HomeRegion: text('The Region that images come from, which has the alarms', { allowedPattern: REGION }),
} as const satisfies Parameters<string>;

/** The values of a stack's parameters, as properties of resources take them. */
export class Values<Name extends string> {
  readonly #stack: Stack;

  /** Adds the parameters to the stack. */
  constructor(stack: Stack, parameters: Parameters<Name>) {
    this.#stack = stack;
    addParameters(stack, parameters);
  }

  ref(name: Name): { readonly Ref: string } {
    return { Ref: name };
  }

  text(name: Name): string {
    return textOf(name);
  }

  #condition(id: string, expression: ICfnConditionExpression): CfnCondition {
    return new CfnCondition(this.#stack, id, { expression });
  }

  /** A condition that the value is this one. */
  is(id: string, name: Name, value: string): CfnCondition {
    return this.#condition(id, Fn.conditionEquals(textOf(name), value));
  }

  /** A condition that the value is another one. */
  isNot(id: string, name: Name, value: string): CfnCondition {
    return this.#condition(id, Fn.conditionNot(Fn.conditionEquals(textOf(name), value)));
  }

  /** A condition that there is a value. */
  given(id: string, name: Name): CfnCondition {
    return this.isNot(id, name, '');
  }

  /** A condition that both hold. */
  both(id: string, one: CfnCondition, other: CfnCondition): CfnCondition {
    return this.#condition(id, Fn.conditionAnd(one, other));
  }
}

/** The value of a parameter before the stack exists that has it. */
export function textOf(name: string): string {
  return Token.asString({ Ref: name });
}

/** The value where the condition holds, and else the other: without another one the property is left out. */
export function when(condition: CfnCondition, value: unknown, otherwise: unknown = { Ref: 'AWS::NoValue' }): unknown {
  return { 'Fn::If': [condition.logicalId, value, otherwise] };
}

function addParameters(stack: Stack, parameters: Parameters<string>): void {
  for (const [name, props] of Object.entries(parameters)) {
    const known = stack.node.tryFindChild(name);
    // the synthesizer asks for the bucket of the code by itself
    if (known instanceof CfnParameter) Object.assign(known, props);
    else new CfnParameter(stack, name, props);
  }
}

/** A name of ECR's registry here. */
export const REGISTRY = `${Aws.ACCOUNT_ID}.dkr.ecr.${Aws.REGION}.${Aws.URL_SUFFIX}`;
