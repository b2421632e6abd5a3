import { Duration, Stack, Validations } from 'aws-cdk-lib';
import { Rule } from 'aws-cdk-lib/aws-events';
import { SqsQueue } from 'aws-cdk-lib/aws-events-targets';
import type { IKey } from 'aws-cdk-lib/aws-kms';
import { Queue, QueueEncryption, type DeadLetterQueue, type IQueue } from 'aws-cdk-lib/aws-sqs';
import { Construct } from 'constructs';
import { inParts } from './parts.ts';
import type { InfraSettings } from '../settings/schema.ts';

export interface QueuesProps {
  /** @default keys that SQS owns */
  readonly key?: IKey | undefined;
  /** Of these repositories, those of this account and region tell of their pushes. */
  readonly repositories: InfraSettings['access']['repositories'];
  /** Of these objects S3 tells when one is written or deleted. The bucket of the deployment has its name. */
  readonly objects: readonly { readonly bucket: string; readonly prefix: string }[];
}

/** A message is hidden so long from others; a worker extends it while it works. */
const VISIBILITY = Duration.seconds(120);
/** The most that SQS has: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html */
const RETENTION = Duration.days(14);
/** Workers count tries and move what failed by themselves: this is for messages that kill whoever takes them. */
const MAX_RECEIVE_COUNT = 20;

/**
 * Of a pattern, whose quota is 2,048 and has the rest of it too: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html
 */
const NAMES_IN_RULE = 1800;
const WILDCARD = '{"wildcard":"",}';

const PREFIX = '{"prefix":""},';

/** Jobs on their way to the workers, pushes to ECR and changes of objects among them. */
export class Queues extends Construct {
  readonly jobs: IQueue;
  /** Requests by hand: workers take them first. */
  readonly requests: IQueue;
  /** What failed for good, with its reason. */
  readonly deadLetters: IQueue;
  /** What EventBridge could not deliver: pushes, changes of objects, and calls of planner and Cleaner. The next call makes up for all of it. */
  readonly undelivered: IQueue;
  readonly #key: IKey | undefined;

  constructor(scope: Construct, id: string, { key, objects, repositories }: QueuesProps) {
    super(scope, id);
    this.#key = key;
    const deadLetters = this.#addQueue('DeadLetters');
    this.deadLetters = deadLetters;
    const redrive = { queue: deadLetters, maxReceiveCount: MAX_RECEIVE_COUNT };
    this.jobs = this.#addQueue('Jobs', redrive);
    this.requests = this.#addQueue('Requests', redrive);
    const undelivered = this.#addQueue('Undelivered');
    Validations.of(undelivered).acknowledge({
      id: 'AwsSolutions-SQS3',
      reason: 'It is a dead-letter queue itself, of EventBridge.',
    });
    this.undelivered = undelivered;
    this.#addPushes(repositories);
    this.#addObjects(objects);
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

  /** ECR tells of pushes as well as it can, in the region where they happen; what it does not tell, the planner finds. */
  #addPushes(repositories: QueuesProps['repositories']): void {
    const { account, region } = Stack.of(this);
    const names = repositories
      .filter((some) => (some.account ?? account) === account && (some.region ?? region) === region)
      .flatMap((some) => some.names);
    const sizeOf = (name: string): number => name.length + WILDCARD.length;
    inParts([...new Set(names)], NAMES_IN_RULE, sizeOf).forEach((some, index) => {
      new Rule(this, index === 0 ? 'Pushes' : `Pushes${index + 1}`, {
        description: 'Pushes to ECR, for rules with `on: push`',
        eventPattern: {
          source: ['aws.ecr'],
          detailType: ['ECR Image Action'],
          detail: {
            'action-type': ['PUSH'],
            result: ['SUCCESS'],
            'repository-name': some.map((name) =>
              name.includes('*') ? { wildcard: name.replace(/\*+/g, '*') } : name,
            ),
          },
        },
        targets: [this.#target()],
      });
    });
  }
  /** S3 tells of a bucket that has EventBridge switched on; what it does not tell, the planner finds by listing. */
  #addObjects(objects: QueuesProps['objects']): void {
    let rules = 0;
    for (const [bucket, prefixes] of Map.groupBy(objects, (some) => some.bucket)) {
      const whole = prefixes.some(({ prefix }) => prefix === '');
      const keys = whole ? [''] : prefixes.map(({ prefix }) => prefix);
      for (const some of inParts(keys, NAMES_IN_RULE, (key) => JSON.stringify(key).length + PREFIX.length)) {
        rules++;
        new Rule(this, rules === 1 ? 'Objects' : `Objects${rules}`, {
          description: 'Objects that were written or deleted, for publish rules with `on: push`',
          eventPattern: {
            source: ['aws.s3'],
            detailType: ['Object Created', 'Object Deleted'],
            detail: {
              bucket: { name: [bucket] },
              ...(whole ? {} : { object: { key: some.map((prefix) => ({ prefix })) } }),
            },
          },
          targets: [this.#target()],
        });
      }
    }
  }

  #target(): SqsQueue {
    return new SqsQueue(this.jobs, {
      deadLetterQueue: this.undelivered,
      retryAttempts: 10,
      // later than that a tick has found it
      maxEventAge: Duration.hours(1),
    });
  }
}
