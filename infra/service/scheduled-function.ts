import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Duration, Size, Stack } from 'aws-cdk-lib';
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

export interface WorkerFunctionProps {
  /** The name of its file in worker/main/, without `.lambda.ts`. */
  readonly entry: 'planner' | 'cleaner' | 'restore-test';
  /** Its name in descriptions. */
  readonly what: string;
  /** What it may do. */
  readonly role: Role;
  readonly logGroup: ILogGroup;
  readonly environment: Readonly<Record<string, string>>;
  /** @default 1024 */
  readonly memoryMiB?: number;
  /** Space for files. @default what Lambda has */
  readonly diskMiB?: number;
}

export interface ScheduledFunctionProps extends WorkerFunctionProps {
  /** Minutes between two calls. */
  readonly everyMinutes: number;
  /** The queue for calls that could not be delivered. */
  readonly undelivered: IQueue;
  /** The key of that queue. @default a key that SQS owns */
  readonly key?: IKey | undefined;
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MEMORY_MIB = 1024;

/**
 * Adds a function made from the worker's source, and the schedule that calls it. Two calls at once do no harm, so it reserves no concurrency, which
 * an account with a limit of ten could not spare.
 */
export function addScheduledFunction(scope: Construct, props: ScheduledFunctionProps): IFunction {
  const called = addWorkerFunction(scope, props);
  addSchedule(scope, called, props);
  return called;
}

/** Adds a function made from the worker's source. */
export function addWorkerFunction(
  scope: Construct,
  { diskMiB, entry, environment, logGroup, memoryMiB = MEMORY_MIB, role, what }: WorkerFunctionProps,
): IFunction {
  const common = {
    description: what,
    handler: 'handler',
    runtime: Runtime.NODEJS_24_X,
    architecture: Architecture.ARM_64,
    memorySize: memoryMiB,
    ...(diskMiB === undefined ? {} : { ephemeralStorageSize: Size.mebibytes(diskMiB) }),
    // the longest that Lambda allows; another process or the next call does the rest
    timeout: Duration.minutes(15),
    // the next call makes up for a failed one; the alarm about restore tests counts each failure once
    retryAttempts: 0,
    role,
    logGroup,
    // metrics are lines of their own
    loggingFormat: LoggingFormat.TEXT,
    environment: { ...environment },
  };
  const source = `${ROOT}worker/main/${entry}.lambda.ts`;
  // the package has the functions that `npm run build` made, and not their sources
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
      // bundles the SDK that was tested, instead of the one that Lambda has today
      externalModules: [],
      // CommonJS packages call `require`, which does not exist in ES modules
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
  // CDK lets the schedule send to the queue of undelivered calls, but does not grant the key of that queue:
  // https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
  if (props.key !== undefined)
    grantKeys(role, [props.key.keyArn], ['kms:Decrypt', 'kms:GenerateDataKey'], stack.region);
  new Schedule(scope, 'Schedule', {
    description: `Calls the ${props.entry} of Transship for its next pass over the rules`,
    schedule: ScheduleExpression.rate(every),
    target: new LambdaInvoke(called, {
      role,
      deadLetterQueue: props.undelivered,
      retryAttempts: 3,
      // after that the next call is due
      maxEventAge: every,
    }),
  });
  acknowledgeWildcard(role, `${called.functionArn}:*`, 'The schedule may invoke any version of the function.');
}
