import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Duration, Stack } from 'aws-cdk-lib';
import { Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import type { IKey } from 'aws-cdk-lib/aws-kms';
import {
  Architecture,
  Code,
  Function as LambdaFunction,
  LoggingFormat,
  Runtime,
  type IFunction,
} from 'aws-cdk-lib/aws-lambda';
import { NodejsFunction, OutputFormat } from 'aws-cdk-lib/aws-lambda-nodejs';
import type { ILogGroup } from 'aws-cdk-lib/aws-logs';
import { Schedule, ScheduleExpression } from 'aws-cdk-lib/aws-scheduler';
import { LambdaInvoke } from 'aws-cdk-lib/aws-scheduler-targets';
import type { IQueue } from 'aws-cdk-lib/aws-sqs';
import type { Construct } from 'constructs';
import { grantKeys } from './grants.ts';
import { acknowledgeWildcard } from '../synth/wildcards.ts';

export interface ScheduledFunctionProps {
  /** Of worker/main/, without its ending. */
  readonly entry: 'planner' | 'cleaner';
  /** What it is called in descriptions. */
  readonly what: string;
  /** What it may do. */
  readonly role: Role;
  readonly logGroup: ILogGroup;
  readonly environment: Readonly<Record<string, string>>;
  /** Between two calls. */
  readonly everyMinutes: number;
  /** Where calls go that could not be delivered. */
  readonly undelivered: IQueue;
  /** Of that queue. @default a key that SQS owns */
  readonly key?: IKey | undefined;
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MEMORY_MIB = 1024;

/**
 * A function of the worker's source in `scope`, with what calls it. Two calls at once do no harm, so its concurrency is not reserved, which an
 * account with ten could not spare.
 */
export function addScheduledFunction(scope: Construct, props: ScheduledFunctionProps): IFunction {
  const called = addFunction(scope, props);
  addSchedule(scope, called, props);
  return called;
}

function addFunction(
  scope: Construct,
  { entry, environment, logGroup, role, what }: ScheduledFunctionProps,
): IFunction {
  const common = {
    description: what,
    handler: 'handler',
    runtime: Runtime.NODEJS_24_X,
    architecture: Architecture.ARM_64,
    memorySize: MEMORY_MIB,
    // the most that Lambda has; another process or the next call does what is left then
    timeout: Duration.minutes(15),
    // the next call makes up for one that failed
    retryAttempts: 0,
    role,
    logGroup,
    // metrics are lines of their own
    loggingFormat: LoggingFormat.TEXT,
    environment: { ...environment },
  };
  const source = `${ROOT}worker/main/${entry}.lambda.ts`;
  // the package has no sources, and what `npm run build` made of them
  if (!existsSync(source))
    return new LambdaFunction(scope, 'Function', {
      ...common,
      handler: `${entry}.handler`,
      code: Code.fromAsset(`${ROOT}dist/infra/functions`),
    });
  return new NodejsFunction(scope, 'Function', {
    ...common,
    entry: source,
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

function addSchedule(scope: Construct, called: IFunction, props: ScheduledFunctionProps): void {
  const stack = Stack.of(scope);
  const every = Duration.minutes(props.everyMinutes);
  const group = stack.formatArn({ service: 'scheduler', resource: 'schedule-group', resourceName: 'default' });
  const role = new Role(scope, 'ScheduleRole', {
    description: `Calls the ${props.entry} of Transship`,
    assumedBy: new ServicePrincipal('scheduler.amazonaws.com', {
      conditions: { StringEquals: { 'aws:SourceAccount': stack.account, 'aws:SourceArn': group } },
    }),
  });
  // CDK lets it send to the queue of what was not delivered, and not use the key of that queue:
  // https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
  if (props.key !== undefined)
    grantKeys(role, [props.key.keyArn], ['kms:Decrypt', 'kms:GenerateDataKey'], stack.region);
  new Schedule(scope, 'Schedule', {
    description: `Has the ${props.entry} of Transship look at the rules`,
    schedule: ScheduleExpression.rate(every),
    target: new LambdaInvoke(called, {
      role,
      deadLetterQueue: props.undelivered,
      retryAttempts: 3,
      // then the next call is due
      maxEventAge: every,
    }),
  });
  acknowledgeWildcard(role, `${called.functionArn}:*`, 'The schedule may invoke any version of the function.');
}
