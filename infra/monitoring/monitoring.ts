import { Aws, CfnCondition, CfnOutput, Fn, Stack, Token } from 'aws-cdk-lib';
import { Alarm, ComparisonOperator, type Dashboard } from 'aws-cdk-lib/aws-cloudwatch';
import { SnsAction } from 'aws-cdk-lib/aws-cloudwatch-actions';
import { Topic, type ITopic } from 'aws-cdk-lib/aws-sns';
import { Construct } from 'constructs';
import { AccountEvents } from './account-events.ts';
import { partitionOf } from '../settings/arn.ts';
import { alarmsOf } from './alarms.ts';
import type { AlarmSpec, Watched } from './alarm-spec.ts';
import { addDashboard } from './dashboard.ts';
import { admitAlarms, mailTopic } from './mail-topic.ts';
import type { InfraSettings } from '../settings/schema.ts';

export interface MonitoringProps extends Omit<Watched, 'events' | 'settings'> {
  readonly settings: InfraSettings;
}

/** Notifies people when something is wrong, and has a dashboard. Each alarm links to its chapter of the runbook. */
export class Monitoring extends Construct {
  readonly #settings: InfraSettings;

  constructor(scope: Construct, id: string, props: MonitoringProps) {
    super(scope, id);
    const { settings } = props;
    this.#settings = settings;
    const events = new AccountEvents(this, 'Events', {
      logRetention: settings.logRetentionDays,
      backedUp: settings.vault === undefined ? undefined : props.bucket,
      replicatedTo: otherAccounts(settings),
    });
    const watched: Watched = { ...props, events };
    const actions = [
      this.#addTopic(),
      ...settings.notifications.topics.map((arn, i) => Topic.fromTopicArn(this, `Topic${i}`, arn)),
    ].map((topic) => new SnsAction(topic));
    const alarms = alarmsOf(watched).map((spec) => {
      const alarm = this.#addAlarm(spec);
      alarm.addAlarmAction(...actions);
      // the people who got the alarm also get its end
      alarm.addOkAction(...actions);
      return alarm;
    });
    const dashboard = addDashboard(this, {
      ...watched,
      // names of dashboards are unique in an account, across its Regions
      name: `${settings.prefix}-${Stack.of(this).region}`,
      alarms,
      runbook: settings.alarms.runbook,
    });
    this.#addOutputs(dashboard, events);
  }

  #addTopic(): ITopic {
    const topic = mailTopic(this, { ...this.#settings.notifications, from: ['cloudwatch.amazonaws.com'] });
    admitAlarms(topic);
    return topic;
  }

  #addAlarm(spec: AlarmSpec): Alarm {
    const { chapter, metric, threshold, missing, periods = 1, datapoints = periods } = spec;
    const { alarms, prefix } = this.#settings;
    return new Alarm(this, chapter, {
      alarmName: `${prefix}-${chapter}`,
      alarmDescription: `${spec.text} Severity: ${spec.severity}. What to do: ${alarms.runbook}#${chapter}`,
      metric,
      threshold,
      comparisonOperator: spec.comparison ?? ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
      evaluationPeriods: periods,
      datapointsToAlarm: datapoints,
      treatMissingData: missing,
    });
  }

  #addOutputs({ dashboardName }: Dashboard, { logGroup }: AccountEvents): void {
    const stack = Stack.of(this);
    const { region } = stack;
    new CfnOutput(stack, 'Dashboard', {
      description: 'The dashboard',
      value: `https://${region}.${consoleOf(stack)}/cloudwatch/home?region=${region}#dashboards/dashboard/${dashboardName}`,
    });
    new CfnOutput(stack, 'LogsOfEvents', {
      description: 'Events of ECR about pushes, deletions and replication, and of AWS Backup about backups',
      value: `aws logs tail --follow --region ${region} ${logGroup.logGroupName}`,
    });
  }
}

/** Accounts other than this one that the registry is replicated to. */
function otherAccounts({ account, registries }: InfraSettings): readonly string[] {
  const accounts = registries?.replication.map((to) => to.account ?? account) ?? [];
  return [...new Set(accounts.filter((other) => other !== account))];
}

/** Where the console is in partitions other than `aws`. */
const CONSOLES = { 'aws-cn': 'console.amazonaws.cn', 'aws-us-gov': 'console.amazonaws-us-gov.com' } as const;
const CONSOLE = 'console.aws.amazon.com';

/** The host of the console for the Region of the stack. CloudFormation decides it where the template is for any Region. */
function consoleOf(stack: Stack): string {
  if (!Token.isUnresolved(stack.region)) {
    const partition = partitionOf(stack.region);
    return partition === 'aws-cn' || partition === 'aws-us-gov' ? CONSOLES[partition] : CONSOLE;
  }
  const isIn = (id: string, partition: keyof typeof CONSOLES): string =>
    new CfnCondition(stack, id, { expression: Fn.conditionEquals(Aws.PARTITION, partition) }).logicalId;
  const otherwise = { 'Fn::If': [isIn('IsInUsGov', 'aws-us-gov'), CONSOLES['aws-us-gov'], CONSOLE] };
  return Token.asString({ 'Fn::If': [isIn('IsInChina', 'aws-cn'), CONSOLES['aws-cn'], otherwise] });
}
