import {
  Aws,
  CfnCondition,
  CfnParameter,
  CfnRule,
  Fn,
  Token,
  type CfnParameterProps,
  type ICfnConditionExpression,
  type ICfnRuleConditionExpression,
  type Stack,
} from 'aws-cdk-lib';

/**
 * A parameter of a portable template. CloudFormation checks its type and bounds before it creates anything, so that a value that cannot work
 * is refused at once and not after minutes.
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

/** The sizes of a worker: CPU units and MiB that Fargate offers. */
export const WORKER_SIZES = {
  small: { cpu: '1024', memory: '2048' },
  medium: { cpu: '2048', memory: '4096' },
  large: { cpu: '4096', memory: '16384' },
} as const;

/** A VPC that is created has two subnets of 128 addresses, one address for each task. The steps of scaling go up to this number. */
export const MOST_TASKS = 200;

export const SERVICE_PARAMETERS = {
  Prefix: text('The start of every name', {
    default: 'transship',
    allowedPattern: PREFIX,
    constraintDescription: 'up to 20 small letters, digits and "-"',
  }),
  AssetBucket: text("The bucket in this Region with the functions' code: the files of the folder assets", {
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
    "The ARN of the image's repository if it is a private one of ECR; empty: anyone may pull the image",
    {
      default: '',
      allowedPattern: OR_NONE(String.raw`^arn:aws[a-z-]*:ecr:[a-z0-9-]+:[0-9]{12}:repository/[a-z0-9._/-]+$`),
    },
  ),
  WorkerArchitecture: choice('The architecture of that image', ['ARM64', 'X86_64']),
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
  WriteRepositories: text('The repositories that workers may write and create: a name, or a pattern', {
    default: 'restored/*',
    allowedPattern: REPOSITORIES,
    maxLength: MAX_NAME,
  }),
  PublishBucket: text('The bucket that publish rules read; empty: none', {
    default: '',
    allowedPattern: OR_NONE(BUCKET),
  }),
  PublishPrefix: text('The start of the keys that are published: empty, or ending in /', {
    default: '',
    allowedPattern: '^$|^[^/*?$][^*?$]*/$',
    maxLength: 900,
  }),
  PublishRepository: text('The repository that objects are published to; empty: one of WriteRepositories', {
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
  VpcId: text('The VPC of the workers; empty: a VPC with public subnets is created', {
    default: '',
    allowedPattern: OR_NONE('^vpc-([0-9a-f]{8}|[0-9a-f]{17})$'),
  }),
  SubnetIds: {
    type: 'CommaDelimitedList',
    description: 'Subnets of that VPC, separated by commas; required with VpcId',
    default: '',
  },
  PublicAddresses: choice(
    'Whether tasks in those subnets get public addresses: DISABLED where they have a NAT gateway',
    ['DISABLED', 'ENABLED'],
  ),
  VpcCidr: text('The addresses of the VPC that is created', {
    default: '10.64.0.0/20',
    allowedPattern: String.raw`^([0-9]{1,3}\.){3}[0-9]{1,3}/(1[6-9]|2[0-4])$`,
    constraintDescription: 'a range of addresses of /16 to /24',
  }),
  EnableMonitoring: choice('Whether to create alarms, a topic and a dashboard', ['true', 'false']),
  NotificationEmail: text('The address that gets mail about alarms, which it has to confirm once; empty: none', {
    default: '',
    allowedPattern: OR_NONE(String.raw`^[^@\s]+@[^@\s]+\.[^@\s]+$`),
  }),
} as const satisfies Parameters<string>;

const REPOSITORY_PREFIX = text('The start of the names of the repositories', {
  default: 'product',
  allowedPattern: '^[a-z0-9]+([._/-][a-z0-9]+)*$',
  maxLength: 200,
});
const KEEP_LAST = number('How many tagged images of production are kept', 100, 1, MAX_IMAGES);
const UNTAGGED_DAYS = number('Days until an untagged image is deleted', 1, 1, MAX_DAYS);

export const REGISTRIES_PARAMETERS = {
  RepositoryPrefix: REPOSITORY_PREFIX,
  ProductionKeepLast: KEEP_LAST,
  TestingKeepLast: number(
    'How many tagged images of testing are kept; 0: TestingExpireAfterDays decides',
    0,
    0,
    MAX_IMAGES,
  ),
  TestingExpireAfterDays: number('Days until an image of testing is deleted', 7, 1, MAX_DAYS),
  UntaggedAfterDays: UNTAGGED_DAYS,
  ScanOnPush: choice('Whether ECR scans images when they are pushed', ['true', 'false']),
  DestinationRegion: text('The Region that ECR replicates to; empty: none', {
    default: '',
    allowedPattern: OR_NONE(REGION),
  }),
  SecondaryRegion: text('A second Region; empty: none', { default: '', allowedPattern: OR_NONE(REGION) }),
  PullPrincipalArn: text('The ARN that may assume the role that pulls from production; empty: no such role', {
    default: '',
    allowedPattern: OR_NONE(String.raw`^arn:aws[a-z-]*:iam::[0-9]{12}:(root|(user|role)/[\w+=,.@/-]+)$`),
  }),
  PushPrincipalArn: text('The ARN that may assume the role that pushes to both repositories; empty: no such role', {
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

/** The values of a stack's parameters, in the forms that properties of resources take. */
export class Values<Name extends string> {
  readonly #stack: Stack;
  readonly #parameters: Parameters<Name>;

  /** Adds the parameters to the stack. */
  constructor(stack: Stack, parameters: Parameters<Name>) {
    this.#stack = stack;
    this.#parameters = parameters;
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

  /** A condition that holds when the parameter has this value. */
  is(id: string, name: Name, value: string): CfnCondition {
    return this.#condition(id, Fn.conditionEquals(textOf(name), value));
  }

  /** A condition that holds when the parameter has another value. */
  isNot(id: string, name: Name, value: string): CfnCondition {
    return this.#condition(id, Fn.conditionNot(Fn.conditionEquals(textOf(name), value)));
  }

  /** A condition that holds when the parameter is not empty. */
  given(id: string, name: Name): CfnCondition {
    return this.isNot(id, name, '');
  }

  /** Refuses a value of `name` without one of `needed`, before anything is created. A list is given when one of its members is not empty. */
  needs(name: Name, needed: Name, sentence: string): void {
    new CfnRule(this.#stack, `${name}Needs${needed}`, {
      ruleCondition: this.#isGiven(name),
      assertions: [{ assert: this.#isGiven(needed), assertDescription: sentence }],
    });
  }

  /** Refuses the same value of both, before anything is created, unless `name` is empty. */
  differ(name: Name, other: Name, sentence: string): void {
    const assert = Fn.conditionNot(Fn.conditionEquals(textOf(name), textOf(other)));
    new CfnRule(this.#stack, `${name}IsNot${other}`, {
      ruleCondition: this.#isGiven(name),
      assertions: [{ assert, assertDescription: sentence }],
    });
  }

  /** Rules take neither conditions nor Fn::Join: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference-rules.html */
  #isGiven(name: Name): ICfnRuleConditionExpression {
    const isEmpty =
      this.#parameters[name].type === 'CommaDelimitedList'
        ? Fn.conditionEachMemberEquals(Token.asList({ Ref: name }), '')
        : Fn.conditionEquals(textOf(name), '');
    return Fn.conditionNot(isEmpty);
  }

  /** A condition that holds when both hold. */
  both(id: string, one: CfnCondition, other: CfnCondition): CfnCondition {
    return this.#condition(id, Fn.conditionAnd(one, other));
  }
}

/** The value of a parameter, also before its stack exists. */
export function textOf(name: string): string {
  return Token.asString({ Ref: name });
}

/** `value` where the condition holds, else `otherwise`. Without `otherwise` the property is left out. */
export function when(condition: CfnCondition, value: unknown, otherwise: unknown = { Ref: 'AWS::NoValue' }): unknown {
  return { 'Fn::If': [condition.logicalId, value, otherwise] };
}

function addParameters(stack: Stack, parameters: Parameters<string>): void {
  for (const [name, props] of Object.entries(parameters)) {
    const known = stack.node.tryFindChild(name);
    // the synthesizer adds the parameter for the bucket of the code itself
    if (known instanceof CfnParameter) Object.assign(known, props);
    else new CfnParameter(stack, name, props);
  }
}

/** The host of the ECR registry of the account and Region. */
export const REGISTRY = `${Aws.ACCOUNT_ID}.dkr.ecr.${Aws.REGION}.${Aws.URL_SUFFIX}`;
