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

export interface CleanerProps {
  /** The start of every name. */
  readonly prefix: string;
  /** What it may call, with `prune`. */
  readonly reach: Reach;
  /** Variables that name the table and what is logged. */
  readonly environment: Readonly<Record<string, string>>;
  /** The queue for calls that could not be delivered. */
  readonly undelivered: IQueue;
  /** How long logs are kept. */
  readonly logRetention: InfraSettings['logRetentionDays'];
}

/** Minutes between two passes over the prune rules. The next pass continues a run that has not ended. */
export const CLEAN_EVERY_MINUTES = 15;

/**
 * Runs prune rules. No other process may delete images and archives, and the Cleaner may delete only what the settings name. It copies nothing,
 * and of images it reads the manifests only. It runs outside the VPC, whose endpoints admit no deletions.
 */
export class Cleaner extends Construct {
  readonly function: IFunction;
  readonly logGroup: LogGroup;

  constructor(scope: Construct, id: string, props: CleanerProps) {
    super(scope, id);
    const { environment, reach, undelivered } = props;
    this.logGroup = new LogGroup(this, 'Logs', { retention: props.logRetention, removalPolicy: RemovalPolicy.RETAIN });
    const role = new Role(this, 'Role', {
      // other accounts name the role in the policies of their registries and buckets
      roleName: `${props.prefix}-cleaner-${Stack.of(this).region}`,
      description: 'Cleaner of Transship: deletes what prune rules name',
      assumedBy: new ServicePrincipal('lambda.amazonaws.com'),
    });
    grantCalls(role, 'cleaner', reach);
    this.logGroup.grantWrite(role);
    // otherwise every image that the Cleaner reads would count as pulled, and no rule by the last pull would ever delete it
    new CfnPullTimeUpdateExclusion(this, 'PullTimeExclusion', { principalArn: role.roleArn });
    this.function = addScheduledFunction(this, {
      entry: 'cleaner',
      what: 'Cleaner of Transship',
      role,
      logGroup: this.logGroup,
      environment,
      everyMinutes: CLEAN_EVERY_MINUTES,
      undelivered,
      key: reach.key,
    });
  }
}
