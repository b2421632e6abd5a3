import { Duration, Stack, Validations } from 'aws-cdk-lib';
import { Rule, type EventPattern } from 'aws-cdk-lib/aws-events';
import { PolicyStatement, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import type { IKey } from 'aws-cdk-lib/aws-kms';
import { Queue, QueueEncryption, type DeadLetterQueue, type IQueue } from 'aws-cdk-lib/aws-sqs';
import { Construct } from 'constructs';
import { inParts } from './parts.ts';
import type { InfraSettings } from '../settings/schema.ts';

export interface QueuesProps {
  /** @default keys that SQS owns */
  readonly key?: IKey | undefined;
  /** Pushes to those of these repositories that are in this account and Region become jobs. */
  readonly repositories: InfraSettings['access']['repositories'];
  /** S3 sends an event when one of these objects is written or deleted. The bucket of the deployment is given by its name too. */
  readonly objects: readonly { readonly bucket: string; readonly prefix: string }[];
  /** Whether large jobs have a queue of their own. */
  readonly large: boolean;
}

/** The time that a received message is hidden from other workers. A worker extends it while it works. */
const VISIBILITY = Duration.seconds(120);
/** The longest that SQS keeps a message: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html */
const RETENTION = Duration.days(14);
/** Workers count attempts and dead-letter failed jobs themselves: this limit is for messages that crash every worker that receives them. */
const MAX_RECEIVE_COUNT = 20;

/**
 * Characters of the names in one event pattern, whose quota is 2,048 characters in all: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html
 */
const NAMES_IN_RULE = 1800;
const WILDCARD = '{"wildcard":"",}';

const PREFIX = '{"prefix":""},';

/** The queues between planner, events and workers: jobs, and events about pushes to ECR and about objects that changed. */
export class Queues extends Construct {
  readonly jobs: IQueue;
  /** Requests by people: workers take them first. */
  readonly requests: IQueue;
  /** Large jobs, where they have a queue of their own. */
  readonly largeJobs: IQueue | undefined;
  /** Jobs that failed permanently, with the reason. */
  readonly deadLetters: IQueue;
  /** What EventBridge could not deliver: pushes, changes of objects, and calls of the planner and the Cleaner. The next call makes up for all of it. */
  readonly undelivered: IQueue;
  readonly #key: IKey | undefined;

  constructor(scope: Construct, id: string, { key, large, objects, repositories }: QueuesProps) {
    super(scope, id);
    this.#key = key;
    const deadLetters = this.#addQueue('DeadLetters');
    this.deadLetters = deadLetters;
    const redrive = { queue: deadLetters, maxReceiveCount: MAX_RECEIVE_COUNT };
    this.jobs = this.#addQueue('Jobs', redrive);
    this.requests = this.#addQueue('Requests', redrive);
    this.largeJobs = large ? this.#addQueue('LargeJobs', redrive) : undefined;
    const undelivered = this.#addQueue('Undelivered');
    Validations.of(undelivered).acknowledge({
      id: 'AwsSolutions-SQS3',
      reason: 'It is itself a dead-letter queue, of EventBridge.',
    });
    this.undelivered = undelivered;
    this.#admit([...this.#addPushes(repositories), ...this.#addObjects(objects)]);
  }

  #addQueue(id: string, deadLetterQueue?: DeadLetterQueue): Queue {
    return new Queue(this, id, {
      visibilityTimeout: VISIBILITY,
      retentionPeriod: RETENTION,
      enforceSSL: true,
      ...(this.#key === undefined
        ? { encryption: QueueEncryption.SQS_MANAGED }
        : { encryption: QueueEncryption.KMS, encryptionMasterKey: this.#key, dataKeyReuse: Duration.hours(1) }),
      ...(deadLetterQueue === undefined ? {} : { deadLetterQueue }),
    });
  }

  /** ECR sends events about pushes in the Region where they happen, without a guarantee. The planner finds pushes without an event. */
  #addPushes(repositories: QueuesProps['repositories']): readonly Rule[] {
    const { account, region } = Stack.of(this);
    const names = repositories
      .filter((some) => (some.account ?? account) === account && (some.region ?? region) === region)
      .flatMap((some) => some.names);
    const sizeOf = (name: string): number => name.length + WILDCARD.length;
    return inParts([...new Set(names)], NAMES_IN_RULE, sizeOf).map((some, index) =>
      this.#addRule(index === 0 ? 'Pushes' : `Pushes${index + 1}`, 'Pushes to ECR, for rules with `on: push`', {
        source: ['aws.ecr'],
        detailType: ['ECR Image Action'],
        detail: {
          'action-type': ['PUSH'],
          result: ['SUCCESS'],
          'repository-name': some.map((name) => (name.includes('*') ? { wildcard: name.replace(/\*+/g, '*') } : name)),
        },
      }),
    );
  }

  /** S3 sends events for buckets that have EventBridge enabled. The planner finds changes without an event by listing. */
  #addObjects(objects: QueuesProps['objects']): readonly Rule[] {
    const patterns = [...Map.groupBy(objects, (some) => some.bucket)].flatMap(([bucket, places]) => {
      const named = { name: [bucket] };
      if (places.some(({ prefix }) => prefix === '')) return [{ bucket: named }];
      const keys = places.map(({ prefix }) => prefix);
      return inParts(keys, NAMES_IN_RULE, (key) => JSON.stringify(key).length + PREFIX.length).map((some) => ({
        bucket: named,
        object: { key: some.map((prefix) => ({ prefix })) },
      }));
    });
    const description = 'Objects that were written or deleted, for publish rules with `on: push`';
    return patterns.map((detail, index) =>
      this.#addRule(index === 0 ? 'Objects' : `Objects${index + 1}`, description, {
        source: ['aws.s3'],
        detailType: ['Object Created', 'Object Deleted'],
        detail,
      }),
    );
  }

  #addRule(id: string, description: string, eventPattern: EventPattern): Rule {
    const target = {
      arn: this.jobs.queueArn,
      deadLetterConfig: { arn: this.undelivered.queueArn },
      // by then a pass of the planner has found the change
      retryPolicy: { maximumRetryAttempts: 10, maximumEventAgeInSeconds: Duration.hours(1).toSeconds() },
    };
    return new Rule(this, id, { description, eventPattern, targets: [{ bind: () => target }] });
  }

  /**
   * Lets EventBridge send messages for these rules only, by one statement for all: the policy of a queue may have 10 conditions, and the target of
   * CDK would add one for each rule. https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-policies.html
   */
  #admit(rules: readonly Rule[]): void {
    if (rules.length === 0) return;
    const principals = [new ServicePrincipal('events.amazonaws.com')];
    for (const queue of [this.jobs, this.undelivered])
      queue.addToResourcePolicy(
        new PolicyStatement({
          sid: 'Events',
          principals,
          actions: ['sqs:SendMessage'],
          resources: [queue.queueArn],
          conditions: { ArnEquals: { 'aws:SourceArn': rules.map(({ ruleArn }) => ruleArn) } },
        }),
      );
    // by the account: a key that named the rules would depend on them, they on the queue, and the queue on the key
    this.#key?.addToResourcePolicy(
      new PolicyStatement({
        sid: 'EventsToQueues',
        principals,
        actions: ['kms:Decrypt', 'kms:GenerateDataKey'],
        // in a key's policy, * is that key
        resources: ['*'],
        conditions: { StringEquals: { 'aws:SourceAccount': Stack.of(this).account } },
      }),
    );
  }
}
