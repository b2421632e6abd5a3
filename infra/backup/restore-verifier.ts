import { Duration, RemovalPolicy, Stack } from 'aws-cdk-lib';
import { Alarm, ComparisonOperator, TreatMissingData } from 'aws-cdk-lib/aws-cloudwatch';
import { SnsAction } from 'aws-cdk-lib/aws-cloudwatch-actions';
import { Rule } from 'aws-cdk-lib/aws-events';
import { LambdaFunction } from 'aws-cdk-lib/aws-events-targets';
import { PolicyStatement, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { LogGroup } from 'aws-cdk-lib/aws-logs';
import type { ITopic } from 'aws-cdk-lib/aws-sns';
import { Construct } from 'constructs';
import { restoreTestActionsOn } from '../service/grants.ts';
import { addWorkerFunction } from '../service/scheduled-function.ts';
import type { InfraSettings } from '../settings/schema.ts';
import { acknowledgeWildcard } from '../synth/wildcards.ts';

export interface RestoreVerifierProps {
  /** The start of every name. */
  readonly prefix: string;
  /** The ARN of the plan of restore tests. */
  readonly plan: string;
  /** How long logs are kept. */
  readonly logRetention: InfraSettings['logRetentionDays'];
  /** The URL of docs/runbook.md: the alarm links to its chapter. */
  readonly runbook: string;
  /** Gets mail about verifications that did not succeed. @default no mail */
  readonly topic?: ITopic | undefined;
}

/** Reading and hashing use more than one processor, which comes with the memory. */
const MEMORY_MIB = 3008;
/** Compressed archives of other tools are unpacked to files: as much as Lambda has. */
const DISK_MIB = 10_240;
/** How AWS Backup names the buckets of restore tests: https://docs.aws.amazon.com/aws-backup/latest/devguide/restore-testing-inferred-metadata.html */
const BUCKETS = 'awsbackup-restore-test-*';

/** Verifies what each restore test restored, and records the result in AWS Backup. It may only read the buckets of restore tests. */
export class RestoreVerifier extends Construct {
  constructor(scope: Construct, id: string, { logRetention, plan, prefix, runbook, topic }: RestoreVerifierProps) {
    super(scope, id);
    const { account, partition } = Stack.of(this);
    const logGroup = new LogGroup(this, 'Logs', { retention: logRetention, removalPolicy: RemovalPolicy.DESTROY });
    const role = new Role(this, 'Role', {
      description: 'Verifies the buckets that restore tests of Transship archives restored',
      assumedBy: new ServicePrincipal('lambda.amazonaws.com'),
    });
    logGroup.grantWrite(role);
    const bucket = `arn:${partition}:s3:::${BUCKETS}`;
    // names of buckets are unique for all accounts, so another account may have one of this name
    const conditions = { StringEquals: { 'aws:ResourceAccount': account } };
    for (const [resource, kind] of [
      [bucket, 'restoredBucket'],
      [`${bucket}/*`, 'restoredObject'],
    ] as const) {
      role.addToPolicy(new PolicyStatement({ actions: restoreTestActionsOn(kind), resources: [resource], conditions }));
      acknowledgeWildcard(role, resource, 'AWS Backup chooses the names of the buckets of restore tests.');
    }
    // https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsbackup.html
    role.addToPolicy(new PolicyStatement({ actions: restoreTestActionsOn('restoreJob'), resources: ['*'] }));
    acknowledgeWildcard(role, '*', 'backup:PutRestoreValidationResult has no resource.');
    const verifier = addWorkerFunction(this, {
      entry: 'restore-test',
      what: 'Verifies restore tests of Transship archives',
      role,
      logGroup,
      environment: {},
      memoryMiB: MEMORY_MIB,
      diskMiB: DISK_MIB,
    });
    new Rule(this, 'Restored', {
      description: 'Restore tests of Transship archives that restored a bucket',
      eventPattern: {
        source: ['aws.backup'],
        detailType: ['Restore Job State Change'],
        // restore jobs have a `status` where other jobs have a `state`
        detail: { restoreTestingPlanArn: [plan], status: ['COMPLETED'] },
      },
      // the function itself is not repeated: a second verification would begin when AWS Backup deletes the bucket
      targets: [new LambdaFunction(verifier, { retryAttempts: 3, maxEventAge: Duration.hours(1) })],
    });
    const alarm = new Alarm(this, 'NotVerified', {
      alarmName: `${prefix}-restore-test-not-verified`,
      alarmDescription: `What a restore test restored is damaged, incomplete, or was not verified in time. Severity: high. What to do: ${runbook}#a-restore-test-that-failed`,
      metric: verifier.metricErrors({ period: Duration.minutes(5) }),
      threshold: 1,
      comparisonOperator: ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
      evaluationPeriods: 1,
      // no test ended
      treatMissingData: TreatMissingData.NOT_BREACHING,
    });
    if (topic !== undefined) alarm.addAlarmAction(new SnsAction(topic));
  }
}
