import { Stack } from 'aws-cdk-lib';
import { EventBus, Rule } from 'aws-cdk-lib/aws-events';
import { EventBus as EventBusTarget } from 'aws-cdk-lib/aws-events-targets';
import { Construct } from 'constructs';

export interface ReplicationEventsProps {
  /** The Region that has the alarms. */
  readonly home: string;
  /** Its account. @default this one */
  readonly account?: string;
}

/**
 * Forwards ECR's events about replication to the Region that has the alarms: ECR sends them only in the Region where images arrive.
 * https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-eventbridge.html
 */
export class ReplicationEvents extends Construct {
  constructor(scope: Construct, id: string, { account, home }: ReplicationEventsProps) {
    super(scope, id);
    const stack = Stack.of(this);
    const bus = EventBus.fromEventBusArn(
      this,
      'Home',
      stack.formatArn({
        service: 'events',
        region: home,
        ...(account === undefined ? {} : { account }),
        resource: 'event-bus',
        resourceName: 'default',
      }),
    );
    new Rule(this, 'Rule', {
      description: `Replication of ECR, for the alarms of Transship in ${home}`,
      // events of this Region only: two Regions that replicate to each other would forward one event back and forth
      eventPattern: { source: ['aws.ecr'], detailType: ['ECR Replication Action'], region: [stack.region] },
      targets: [new EventBusTarget(bus)],
    });
  }
}
