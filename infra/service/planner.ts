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
  /** The start of every name. */
  readonly prefix: string;
  /** Minutes between two passes. */
  readonly everyMinutes: number;
  /** What it may call. */
  readonly reach: Reach;
  /** The environment variables that name the queues and the table. */
  readonly environment: Readonly<Record<string, string>>;
  /** The queue for calls that could not be delivered. */
  readonly undelivered: IQueue;
  /** How long logs are kept. */
  readonly logRetention: InfraSettings['logRetentionDays'];
}

/**
 * Reads the schedules of the rules every few minutes, and creates the jobs that are due. It runs outside the VPC, where it reaches every public
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
      // other accounts name the role in the policies of their registries and buckets
      roleName: `${props.prefix}-planner-${Stack.of(this).region}`,
      description: 'Planner of Transship',
      assumedBy: new ServicePrincipal('lambda.amazonaws.com'),
    });
    grantCalls(role, 'planner', reach);
    this.logGroup.grantWrite(role);
    // otherwise the manifests that the planner reads would count as pulls
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
