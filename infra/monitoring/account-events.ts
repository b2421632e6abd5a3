import { ArnFormat, RemovalPolicy, Stack, type Duration } from 'aws-cdk-lib';
import type { Metric } from 'aws-cdk-lib/aws-cloudwatch';
import { CfnEventBusPolicy, Rule, type EventPattern } from 'aws-cdk-lib/aws-events';
import { PolicyStatement, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { FilterPattern, LogGroup, ResourcePolicy, type MetricFilter } from 'aws-cdk-lib/aws-logs';
import type { IBucket } from 'aws-cdk-lib/aws-s3';
import { Construct } from 'constructs';
import type { InfraSettings } from '../settings/schema.ts';

export interface AccountEventsProps {
  /** How long logs are kept. */
  readonly logRetention: InfraSettings['logRetentionDays'];
  /** What AWS Backup has a plan for here. Backups of others are nobody's business here. */
  readonly backedUp?: IBucket | undefined;
  /** Other accounts that images are replicated to, which hand their events of it on to this one. */
  readonly replicatedTo?: readonly string[] | undefined;
}

/**
 * What is counted of the events, as filters of CloudWatch Logs read them. ECR documents the event of a replication that succeeded, and not the
 * word it has for one that did not. A backup that is completed and has a message left something out.
 */
const COUNTED = {
  Pushes: '{ ($.detail.action-type = "PUSH") && ($.detail.result = "SUCCESS") }',
  Deletions: '{ ($.detail.action-type = "DELETE") && ($.detail.result = "SUCCESS") }',
  Replications: '{ $.detail.action-type = "REPLICATE" }',
  ReplicationsFailed: '{ ($.detail.action-type = "REPLICATE") && ($.detail.result != "SUCCESS") }',
  BackupsFailed: '{ ($.source = "aws.backup") && (($.detail.state != "COMPLETED") || ($.detail.statusMessage = "*")) }',
  BackupsCopied: '{ ($.detail-type = "Copy Job State Change") && ($.detail.state = "COMPLETED") }',
} as const;

type Counted = keyof typeof COUNTED;

/** What jobs of AWS Backup come to: https://docs.aws.amazon.com/aws-backup/latest/devguide/eventbridge.html */
const ENDED = ['ABORTED', 'COMPLETED', 'EXPIRED', 'FAILED', 'PARTIAL'];

const NAMESPACE = 'Transship/Events';

/**
 * What ECR and AWS Backup tell EventBridge, kept in a log and counted: neither has metrics of it. ECR tells of pushes in the region where they
 * happen, and of replication in the region where images arrive: https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-eventbridge.html
 */
export class AccountEvents extends Construct {
  readonly logGroup: LogGroup;
  readonly #filters = new Map<Counted, MetricFilter>();

  constructor(scope: Construct, id: string, { backedUp, logRetention, replicatedTo = [] }: AccountEventsProps) {
    super(scope, id);
    this.logGroup = new LogGroup(this, 'Logs', { retention: logRetention, removalPolicy: RemovalPolicy.DESTROY });
    // by a name of its own: the log group's would be the same in every deployment, and the last one in an account and region would have it
    new ResourcePolicy(this, 'Policy', {
      resourcePolicyName: `${Stack.of(this).stackName}-events`,
      policyStatements: [
        new PolicyStatement({
          principals: [
            new ServicePrincipal('events.amazonaws.com'),
            new ServicePrincipal('delivery.logs.amazonaws.com'),
          ],
          actions: ['logs:CreateLogStream', 'logs:PutLogEvents'],
          resources: [this.logGroup.logGroupArn],
        }),
      ],
    });
    this.#keep('Registry', 'Pushes, deletions and replication of ECR', {
      source: ['aws.ecr'],
      detailType: ['ECR Image Action', 'ECR Replication Action'],
    });
    for (const account of replicatedTo) this.#admit(account);
    if (backedUp !== undefined) {
      this.#keep('Backups', 'Backups of the archives by AWS Backup, and their copies, when they end', {
        source: ['aws.backup'],
        detailType: ['Backup Job State Change', 'Copy Job State Change'],
        detail: { resourceArn: [backedUp.bucketArn], state: ENDED },
      });
    }
  }

  /** How many of them in a period. None is told while there are no events at all. */
  metric(name: Counted, period: Duration, label?: string): Metric {
    const filter = this.#filters.get(name) ?? this.#count(name);
    return filter.metric({ statistic: 'Sum', period, ...(label === undefined ? {} : { label }) });
  }

  /** https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-cross-account.html */
  #admit(account: string): void {
    const { partition, stackName } = Stack.of(this);
    const bus = Stack.of(this).formatArn({ service: 'events', resource: 'event-bus', resourceName: 'default' });
    new CfnEventBusPolicy(this, `Admit-${account}`, {
      statementId: `${stackName}-replication-${account}`,
      statement: {
        Effect: 'Allow',
        Principal: { AWS: `arn:${partition}:iam::${account}:root` },
        Action: 'events:PutEvents',
        Resource: bus,
        Condition: { StringEquals: { 'events:source': 'aws.ecr', 'events:detail-type': 'ECR Replication Action' } },
      },
    });
  }

  #keep(id: string, description: string, eventPattern: EventPattern): void {
    const arn = Stack.of(this).formatArn({
      service: 'logs',
      resource: 'log-group',
      resourceName: this.logGroup.logGroupName,
      arnFormat: ArnFormat.COLON_RESOURCE_NAME,
    });
    // CDK's own target would add a function that writes the policy of the log group
    new Rule(this, id, { description, eventPattern, targets: [{ bind: () => ({ arn }) }] });
  }

  #count(name: Counted): MetricFilter {
    const filter = this.logGroup.addMetricFilter(name, {
      filterPattern: FilterPattern.literal(COUNTED[name]),
      metricNamespace: NAMESPACE,
      metricName: name,
      metricValue: '1',
      // of events that are another kind; so that a rate of two of them has both
      defaultValue: 0,
    });
    this.#filters.set(name, filter);
    return filter;
  }
}
