import { RemovalPolicy, Stack } from 'aws-cdk-lib';
import { CfnPullTimeUpdateExclusion } from 'aws-cdk-lib/aws-ecr';
import { Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import type { IFunction } from 'aws-cdk-lib/aws-lambda';
import { LogGroup } from 'aws-cdk-lib/aws-logs';
import type { IQueue } from 'aws-cdk-lib/aws-sqs';
import { Construct } from 'constructs';
import { grantCalls, type Reach } from './grants.ts';
import { addScheduledFunction } from './scheduled-function.ts';
import type { InfraSettings } from '../settings/schema.ts';

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

/**
 * Looks at the rules' schedules every few minutes, and makes jobs of what is due. It runs outside of the VPC, where it reaches every public
 * registry.
 */
export class Planner extends Construct {
  readonly function: IFunction;
  readonly logGroup: LogGroup;

  constructor(scope: Construct, id: string, props: PlannerProps) {
    super(scope, id);
    const { environment, everyMinutes, reach, undelivered } = props;
    this.logGroup = new LogGroup(this, 'Logs', { retention: props.logRetention, removalPolicy: RemovalPolicy.RETAIN });
    const role = new Role(this, 'Role', {
      // others name it in the policies of their registries and buckets
      roleName: `${props.prefix}-planner-${Stack.of(this).region}`,
      description: 'Planner of Transship',
      assumedBy: new ServicePrincipal('lambda.amazonaws.com'),
    });
    grantCalls(role, 'planner', reach);
    this.logGroup.grantWrite(role);
    // else the manifests that it reads count as pulls
    new CfnPullTimeUpdateExclusion(this, 'PullTimeExclusion', { principalArn: role.roleArn });
    this.function = addScheduledFunction(this, {
      entry: 'planner',
      what: 'Planner of Transship',
      role,
      logGroup: this.logGroup,
      environment,
      everyMinutes,
      undelivered,
      key: reach.key,
    });
  }
}
