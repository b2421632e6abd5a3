import { RemovalPolicy } from 'aws-cdk-lib';
import { PolicyStatement, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { Key } from 'aws-cdk-lib/aws-kms';
import { Topic } from 'aws-cdk-lib/aws-sns';
import { EmailSubscription } from 'aws-cdk-lib/aws-sns-subscriptions';
import type { Construct } from 'constructs';

export interface MailTopicOptions {
  /** Each has to confirm once. */
  readonly emails: readonly string[];
  /** Which service is to publish. The key lets it in; who may publish is said by the policy of the topic. */
  readonly from: 'cloudwatch.amazonaws.com' | 'events.amazonaws.com';
  /** A customer's key, by its ARN. @default a key beside the topic is created */
  readonly key?: string | undefined;
}

/** A topic that people get mail of, encrypted. */
export function mailTopic(scope: Construct, { emails, from, key }: MailTopicOptions): Topic {
  const masterKey = key === undefined ? addKey(scope, from) : Key.fromKeyArn(scope, 'Key', key);
  const topic = new Topic(scope, 'Topic', { displayName: 'Transship', masterKey, enforceSSL: true });
  for (const email of emails) topic.addSubscription(new EmailSubscription(email));
  return topic;
}

function addKey(scope: Construct, service: string): Key {
  // the key that SNS has for everybody lets neither service in: https://repost.aws/knowledge-center/cloudwatch-configure-alarm-sns
  const key = new Key(scope, 'Key', {
    description: 'Alarms of Transship on their way',
    enableKeyRotation: true,
    removalPolicy: RemovalPolicy.DESTROY,
  });
  key.addToResourcePolicy(
    new PolicyStatement({
      sid: 'Alarms',
      principals: [new ServicePrincipal(service)],
      actions: ['kms:Decrypt', 'kms:GenerateDataKey*'],
      // in the policy of a key: this key
      resources: ['*'],
    }),
  );
  return key;
}
