import { fileURLToPath } from 'node:url';
import { Duration, RemovalPolicy, Stack } from 'aws-cdk-lib';
import { CfnPullTimeUpdateExclusion } from 'aws-cdk-lib/aws-ecr';
import { Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { Architecture, LoggingFormat, Runtime, type IFunction } from 'aws-cdk-lib/aws-lambda';
import { NodejsFunction, OutputFormat } from 'aws-cdk-lib/aws-lambda-nodejs';
import { LogGroup } from 'aws-cdk-lib/aws-logs';
import { Schedule, ScheduleExpression } from 'aws-cdk-lib/aws-scheduler';
import { LambdaInvoke } from 'aws-cdk-lib/aws-scheduler-targets';
import type { IQueue } from 'aws-cdk-lib/aws-sqs';
import { Construct } from 'constructs';
import { grantCalls, grantKeys, type Reach } from './grants.ts';
import type { InfraSettings } from '../settings/schema.ts';
import { acknowledgeWildcard } from '../synth/wildcards.ts';

export interface PlannerProps {
  /** What names begin with. */
  readonly prefix: string;
  /** Between two looks. */
  readonly everyMinutes: number;
  /** What it may call. */
  readonly reach: Reach;
  /** Where the queues and the table are, by variable. */
  readonly environment: Readonly<Record<string, string>>;
  /** Where ticks go that could not be delivered. */
  readonly undelivered: IQueue;
  /** How long logs are kept. */
  readonly logRetention: InfraSettings['logRetentionDays'];
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MEMORY_MIB = 1024;

/**
 * Looks at the rules' schedules every few minutes, and makes jobs of what is due. It runs outside of the VPC, where it reaches every public
 * registry. Two at once do no harm, so its concurrency is not reserved, which an account of ten could not spare.
 */
export class Planner extends Construct {
  readonly function: IFunction;
  readonly logGroup: LogGroup;

  constructor(scope: Construct, id: string, props: PlannerProps) {
    super(scope, id);
    this.logGroup = new LogGroup(this, 'Logs', { retention: props.logRetention, removalPolicy: RemovalPolicy.RETAIN });
    const role = new Role(this, 'Role', {
      // others name it in the policies of their registries and buckets
      roleName: `${props.prefix}-planner-${Stack.of(this).region}`,
      description: 'Planner of Transship',
      assumedBy: new ServicePrincipal('lambda.amazonaws.com'),
    });
    grantCalls(role, 'planner', props.reach);
    this.logGroup.grantWrite(role);
    // else the manifests that it reads count as pulls
    new CfnPullTimeUpdateExclusion(this, 'PullTimeExclusion', { principalArn: role.roleArn });
    this.function = this.#addFunction(role, props.environment);
    this.#addSchedule(props);
  }

  #addFunction(role: Role, environment: Readonly<Record<string, string>>): IFunction {
    return new NodejsFunction(this, 'Function', {
      description: 'Planner of Transship',
      entry: `${ROOT}worker/main/planner.lambda.ts`,
      handler: 'handler',
      runtime: Runtime.NODEJS_24_X,
      architecture: Architecture.ARM_64,
      memorySize: MEMORY_MIB,
      // the most that Lambda has; what is left then is handed to a worker
      timeout: Duration.minutes(15),
      // the next tick makes up for one that failed
      retryAttempts: 0,
      role,
      logGroup: this.logGroup,
      // metrics are lines of their own
      loggingFormat: LoggingFormat.TEXT,
      environment: { ...environment },
      projectRoot: ROOT,
      depsLockFilePath: `${ROOT}package-lock.json`,
      bundling: {
        format: OutputFormat.ESM,
        target: 'node24',
        minify: true,
        keepNames: true,
        // the SDK that was tested, and not the one that Lambda has today
        externalModules: [],
        // packages in CommonJS ask for Node's modules by a function that modules do not have
        banner: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
      },
    });
  }

  #addSchedule({ everyMinutes, reach, undelivered }: PlannerProps): void {
    const stack = Stack.of(this);
    const every = Duration.minutes(everyMinutes);
    const group = stack.formatArn({ service: 'scheduler', resource: 'schedule-group', resourceName: 'default' });
    const role = new Role(this, 'ScheduleRole', {
      description: 'Calls the planner of Transship',
      assumedBy: new ServicePrincipal('scheduler.amazonaws.com', {
        conditions: { StringEquals: { 'aws:SourceAccount': stack.account, 'aws:SourceArn': group } },
      }),
    });
    // CDK lets it send to the queue of what was not delivered, but not with the key of that queue:
    // https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
    if (reach.key !== undefined)
      grantKeys(role, [reach.key.keyArn], ['kms:Decrypt', 'kms:GenerateDataKey'], stack.region);
    new Schedule(this, 'Schedule', {
      description: 'Has the planner of Transship look at the rules',
      schedule: ScheduleExpression.rate(every),
      target: new LambdaInvoke(this.function, {
        role,
        deadLetterQueue: undelivered,
        retryAttempts: 3,
        // then the next one comes
        maxEventAge: every,
      }),
    });
    acknowledgeWildcard(role, `${this.function.functionArn}:*`, 'The schedule may invoke any version of the function.');
  }
}
