import { RemovalPolicy, Stack } from 'aws-cdk-lib';
import { PolicyStatement, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { Key } from 'aws-cdk-lib/aws-kms';
import { Topic } from 'aws-cdk-lib/aws-sns';
import { EmailSubscription } from 'aws-cdk-lib/aws-sns-subscriptions';
import type { Construct } from 'constructs';

type Publisher = 'cloudwatch.amazonaws.com' | 'events.amazonaws.com';

export interface MailTopicOptions {
  /** Each address has to confirm once. */
  readonly emails: readonly string[];
  /** The services that publish. The key lets them encrypt; the policy of the topic decides which services may publish. */
  readonly from: readonly Publisher[];
  /** The ARN of a customer managed key. @default a key is created with the topic */
  readonly key?: string | undefined;
}

/** A topic that sends mail, and the key that encrypts it. */
export function mailTopic(scope: Construct, { emails, from, key }: MailTopicOptions): Topic {
  const masterKey = key === undefined ? addKey(scope, from) : Key.fromKeyArn(scope, 'Key', key);
  const topic = new Topic(scope, 'Topic', { displayName: 'Transship', masterKey, enforceSSL: true });
  for (const email of emails) topic.addSubscription(new EmailSubscription(email));
  return topic;
}

/** Lets alarms of this account publish: a topic with a policy of its own does not have the default one, which would. */
export function admitAlarms(topic: Topic): void {
  topic.addToResourcePolicy(
    new PolicyStatement({
      sid: 'AlarmsOfThisAccount',
      principals: [new ServicePrincipal('cloudwatch.amazonaws.com')],
      actions: ['sns:Publish'],
      resources: [topic.topicArn],
      conditions: { StringEquals: { 'aws:SourceAccount': Stack.of(topic).account } },
    }),
  );
}

function addKey(scope: Construct, from: readonly Publisher[]): Key {
  // the key of SNS, alias/aws/sns, does not admit either service: https://repost.aws/knowledge-center/cloudwatch-configure-alarm-sns
  const key = new Key(scope, 'Key', {
    description: 'Alarms of Transship on their way',
    enableKeyRotation: true,
    removalPolicy: RemovalPolicy.DESTROY,
  });
  key.addToResourcePolicy(
    new PolicyStatement({
      sid: 'Alarms',
      principals: from.map((service) => new ServicePrincipal(service)),
      actions: ['kms:Decrypt', 'kms:GenerateDataKey*'],
      // in a key's policy, * is that key
      resources: ['*'],
    }),
  );
  return key;
}
