import { readFileSync } from 'node:fs';
import { Match, Template } from 'aws-cdk-lib/assertions';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { ReplicasStack } from '../../infra/registries/creation-templates.ts';
import { addStacks } from '../../infra/synth/stacks.ts';
import { TransshipStack } from '../../infra/service/transship-stack.ts';
import { METRICS } from '../../worker/telemetry/metrics.ts';
import { matches } from './filter-pattern.ts';
import { ACCOUNT, REGION, app, findings, refused, settingsOf, textOf } from './templates.ts';

const ALARM = 'AWS::CloudWatch::Alarm';
const TOPIC = `arn:aws:sns:${REGION}:222222222222:operators`;
/** Settings with everything that has alarms of its own. */
const ALL = `
prune: { repositories: [{ names: ['ci/*'] }] }
vault: { account: '222222222222', region: eu-west-1 }
notifications: { emails: [a@example.com, b@example.com], topics: ['${TOPIC}'] }
`;

const dimensions = z.array(z.object({ Name: z.string(), Value: z.unknown() })).default([]);
const measured = z.object({ Namespace: z.string(), MetricName: z.string(), Dimensions: dimensions });
const alarmOfCloudFormation = z.object({
  AlarmName: z.string(),
  AlarmDescription: z.string(),
  AlarmActions: z.array(z.unknown()),
  OKActions: z.array(z.unknown()).default([]),
  ComparisonOperator: z.string(),
  Threshold: z.number(),
  EvaluationPeriods: z.number(),
  DatapointsToAlarm: z.number(),
  TreatMissingData: z.string(),
  Namespace: z.string().optional(),
  MetricName: z.string().optional(),
  Dimensions: dimensions,
  Period: z.number().optional(),
  Statistic: z.string().optional(),
  Metrics: z
    .array(
      z.object({
        Id: z.string(),
        Expression: z.string().default(''),
        Period: z.number().optional(),
        MetricStat: z.object({ Metric: measured, Period: z.number(), Stat: z.string() }).optional(),
      }),
    )
    .default([]),
});
type AlarmOfCloudFormation = z.infer<typeof alarmOfCloudFormation>;
const options = z.looseObject({ expression: z.string().default(''), stat: z.string().default('Average') });
const dashboardBody = z.object({
  widgets: z.array(
    z.object({
      properties: z.object({
        metrics: z.array(z.array(z.union([z.string(), options]))).default([]),
        start: z.string().optional(),
      }),
    }),
  ),
});

function stackOf(more: string): TransshipStack {
  const tree = app();
  addStacks(tree, settingsOf(more));
  const stack = tree.node.findChild('Transship');
  if (!(stack instanceof TransshipStack)) throw new Error('no stack');
  return stack;
}

const stack = stackOf(`${ALL}\nalarms: { pullsPerFiveMinutes: 1000 }`);
const template = Template.fromStack(stack);
const alarms = alarmsOf(template);

/** Alarms by name. Those that scale the workers have no name, and no chapter. */
function alarmsOf(from: Template): ReadonlyMap<string, AlarmOfCloudFormation> {
  const all = Object.values(from.findResources(ALARM, { Properties: { AlarmName: Match.anyValue() } }));
  const known = all.map(({ Properties }) => alarmOfCloudFormation.parse(Properties));
  return new Map(known.map((one) => [one.AlarmName, one]));
}

function alarm(name: string, from = alarms): AlarmOfCloudFormation {
  const found = from.get(`transship-${name}`);
  if (found === undefined) throw new Error(`there is no alarm ${name}`);
  return found;
}

/** The anchors of headings, in the form of links in a document. */
function chaptersOf(file: string): readonly string[] {
  return [...readFileSync(file, 'utf8').matchAll(/^## (.+)$/gm)].map(([, title = '']) =>
    title
      .toLowerCase()
      .replace(/[^\w -]/g, '')
      .replaceAll(' ', '-'),
  );
}

describe('every alarm', () => {
  test('links to its chapter of the runbook, and each chapter has its alarm', () => {
    expect(alarms.size).toBe(27);
    const links = [...alarms.values()].map(
      (one) => /docs\/runbook\.md#([\w-]+)$/.exec(one.AlarmDescription)?.[1] ?? '',
    );
    // large-jobs.test.ts has the alarm of large workers
    const chapters = chaptersOf('docs/runbook.md').filter((name) => name !== 'large-workers-that-cannot-start');
    expect(links.toSorted()).toEqual(chapters.toSorted());
    for (const [i, name] of [...alarms.keys()].entries()) expect(name).toBe(`transship-${links[i]}`);
  });

  test('names its severity, and notifies the stack’s topic and those of the settings', () => {
    for (const one of alarms.values()) {
      expect(one.AlarmDescription).toMatch(/\. Severity: (high|medium|low)\. What to do: /);
      expect(one.AlarmActions).toEqual([{ Ref: expect.stringMatching(/^MonitoringTopic/) }, TOPIC]);
      expect(one.OKActions, 'its end').toEqual(one.AlarmActions);
    }
  });

  test('defines what missing data mean', () => {
    const meanings = new Map<string, string[]>();
    for (const [name, { TreatMissingData }] of alarms)
      meanings.set(TreatMissingData, [...(meanings.get(TreatMissingData) ?? []), name.replace('transship-', '')]);
    // a planner that does not run reports nothing, nor does AWS Backup about backups that do not happen; SQS and S3 report nothing without changes
    expect(meanings.get('breaching')?.toSorted()).toEqual([
      'backups-that-do-not-happen',
      'cleaner-not-running',
      'planner-not-running',
    ]);
    expect(meanings.get('ignore')?.toSorted()).toEqual([
      'backups-growing',
      'dead-letters',
      'events-that-were-not-delivered',
      'growth-of-archives',
      'large-repository',
    ]);
    expect([...meanings.keys()].toSorted()).toEqual(['breaching', 'ignore', 'notBreaching']);
  });

  test('fires at its threshold, after its periods', () => {
    const told = [...alarms].map(([name, one]) => {
      const [stat] = one.Metrics.flatMap(({ MetricStat }) => MetricStat?.Period ?? []);
      const period = one.Period ?? stat ?? one.Metrics[0]?.Period ?? 0;
      const sign = { GreaterThanThreshold: '>', GreaterThanOrEqualToThreshold: '>=', LessThanThreshold: '<' };
      const [, comparison] = Object.entries(sign).find(([some]) => some === one.ComparisonOperator) ?? [];
      const { DatapointsToAlarm, EvaluationPeriods, Statistic = 'of several', Threshold } = one;
      const window = `${DatapointsToAlarm} of ${EvaluationPeriods} times ${period / 60} minutes`;
      return `${name.replace('transship-', '')}: ${Statistic} ${comparison} ${Threshold}, ${window}`;
    });
    expect(told.toSorted()).toEqual([
      'backups-growing: of several > 1073741824000, 1 of 7 times 1440 minutes',
      'backups-of-the-bucket: Sum >= 1, 1 of 1 times 60 minutes',
      'backups-that-do-not-happen: of several < 1, 2 of 2 times 1440 minutes',
      'cleaner-not-running: of several < 1, 4 of 4 times 15 minutes',
      'dead-letters: Maximum >= 1, 1 of 1 times 5 minutes',
      'drill-late: Maximum > 3024000, 3 of 3 times 15 minutes',
      'events-that-were-not-delivered: Maximum >= 1, 1 of 1 times 5 minutes',
      'growth-of-archives: of several > 536870912000, 1 of 3 times 1440 minutes',
      'growth-of-what-is-copied: Sum > 536870912000, 1 of 1 times 1440 minutes',
      'large-repository: Maximum > 1073741824000, 1 of 1 times 1440 minutes',
      'many-failures: of several > 10, 1 of 1 times 60 minutes',
      'planner-errors: Sum >= 1, 2 of 3 times 5 minutes',
      'planner-not-running: of several < 1, 3 of 3 times 15 minutes',
      'prune-deleted-many: of several > 5000, 1 of 1 times 1440 minutes',
      'prune-failing: Sum >= 1, 1 of 1 times 60 minutes',
      'publish-failing: Sum >= 1, 1 of 1 times 60 minutes',
      'replication-failures: of several > 10, 1 of 1 times 60 minutes',
      'rule-late: of several > 7200, 3 of 3 times 15 minutes',
      // the Cleaner reports prune rules once in 15 minutes
      'rules-not-planned: Sum >= 1, 2 of 3 times 15 minutes',
      'run-still-going: Sum >= 1, 1 of 1 times 5 minutes',
      'snapshots-with-failures: Sum >= 1, 1 of 1 times 60 minutes',
      'tasks-that-cannot-start: of several >= 0.5, 4 of 4 times 5 minutes',
      'throttled-table: of several >= 1, 3 of 3 times 5 minutes',
      'unusual-pulls: of several >= 1000, 1 of 1 times 5 minutes',
      'verification-faults: Sum >= 1, 1 of 1 times 5 minutes',
      'verification-findings: Sum >= 1, 1 of 1 times 5 minutes',
      'verification-late: Maximum > 691200, 3 of 3 times 15 minutes',
    ]);
  });

  test('uses metrics of this deployment only', () => {
    const looked = [...alarms].flatMap(([name, one]) => {
      const all = one.MetricName === undefined ? one.Metrics : [{ MetricStat: { Metric: measured.parse(one) } }];
      return all.flatMap(({ MetricStat }) => {
        if (MetricStat === undefined) return [];
        const { Dimensions, MetricName } = MetricStat.Metric;
        const whose = Dimensions.map(({ Name, Value }) => ` ${Name} ${textOf(Value)}`);
        return (whose.length === 0 ? [''] : whose).map(
          (some) => `${name.replace('transship-', '')}: ${MetricName}${some}`,
        );
      });
    });
    expect(looked.toSorted()).toEqual([
      'backups-growing: BucketSizeBytes BucketName <StorageBucket>',
      'backups-growing: BucketSizeBytes StorageType StandardStorage',
      'backups-of-the-bucket: BackupsFailed',
      'backups-that-do-not-happen: BackupsCopied',
      'cleaner-not-running: Errors FunctionName <CleanerFunction>',
      'cleaner-not-running: Invocations FunctionName <CleanerFunction>',
      'dead-letters: ApproximateNumberOfMessagesVisible QueueName <QueuesDeadLetters.QueueName>',
      'drill-late: DrillAgeSeconds',
      'events-that-were-not-delivered: ApproximateNumberOfMessagesVisible QueueName <QueuesUndelivered.QueueName>',
      'growth-of-archives: BucketSizeBytes BucketName <StorageBucket>',
      'growth-of-archives: BucketSizeBytes StorageType StandardStorage',
      'growth-of-what-is-copied: BytesCopied',
      'large-repository: RepositoryBytes',
      'many-failures: JobsDone',
      'many-failures: JobsFailed',
      'many-failures: JobsFailed',
      'planner-errors: Errors FunctionName <PlannerFunction>',
      'planner-not-running: Errors FunctionName <PlannerFunction>',
      'planner-not-running: Invocations FunctionName <PlannerFunction>',
      'prune-deleted-many: PrunedArchives',
      'prune-deleted-many: PrunedImages',
      'prune-failing: PruneFailed',
      'publish-failing: PublishFailed',
      'replication-failures: Replications',
      'replication-failures: ReplicationsFailed',
      'rules-not-planned: RulesFailed',
      'run-still-going: RunsLate',
      'snapshots-with-failures: SnapshotFailures',
      'tasks-that-cannot-start: ApproximateNumberOfMessagesNotVisible QueueName <QueuesJobs.QueueName>',
      'tasks-that-cannot-start: ApproximateNumberOfMessagesNotVisible QueueName <QueuesRequests.QueueName>',
      'tasks-that-cannot-start: ApproximateNumberOfMessagesVisible QueueName <QueuesJobs.QueueName>',
      'tasks-that-cannot-start: ApproximateNumberOfMessagesVisible QueueName <QueuesRequests.QueueName>',
      'tasks-that-cannot-start: DesiredTaskCount ClusterName <WorkersCluster>',
      'tasks-that-cannot-start: DesiredTaskCount ServiceName <WorkersService.Name>',
      'tasks-that-cannot-start: RunningTaskCount ClusterName <WorkersCluster>',
      'tasks-that-cannot-start: RunningTaskCount ServiceName <WorkersService.Name>',
      'throttled-table: Invocations FunctionName <PlannerFunction>',
      'throttled-table: ReadThrottleEvents TableName <StorageTable>',
      'throttled-table: WriteThrottleEvents TableName <StorageTable>',
      'verification-faults: JobsFailed code CORRUPT',
      'verification-findings: VerifyFindings',
      'verification-late: LastGoodVerificationAgeSeconds',
    ]);
  });

  test('notifies no one when it scales the workers', () => {
    const scaling = Object.values(template.findResources(ALARM)).filter(
      ({ Properties }) => Properties['AlarmName'] === undefined,
    );
    expect(scaling).toHaveLength(2);
    for (const { Properties } of scaling) expect(JSON.stringify(Properties['AlarmActions'])).not.toContain('Topic');
  });

  test('has the period of its metrics, and looks back no longer than CloudWatch allows', () => {
    for (const one of alarms.values()) {
      const metrics = one.Metrics.flatMap((metric) => metric.MetricStat?.Period ?? metric.Period ?? []);
      const periods = new Set([...metrics, ...(one.Period === undefined ? [] : [one.Period])]);
      expect(periods.size).toBe(1);
      const [period = 0] = periods;
      // https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
      expect(period * one.EvaluationPeriods).toBeLessThanOrEqual(period < 3600 ? 86_400 : 7 * 86_400);
    }
  });

  test('links to the URL of the runbook from the settings', () => {
    const linked = alarmsOf(Template.fromStack(stackOf('alarms: { runbook: https://wiki.example/runbook }')));
    expect(alarm('dead-letters', linked).AlarmDescription).toMatch(/ https:\/\/wiki\.example\/runbook#dead-letters$/);
  });
});

describe('the alarm', () => {
  test('of dead letters counts all that are in the queue, also those that SQS moved', () => {
    expect(alarm('dead-letters')).toMatchObject({
      MetricName: 'ApproximateNumberOfMessagesVisible',
      Dimensions: [
        { Name: 'QueueName', Value: { 'Fn::GetAtt': [expect.stringMatching(/^QueuesDeadLetters/), 'QueueName'] } },
      ],
      Statistic: 'Maximum',
      Threshold: 1,
      ComparisonOperator: 'GreaterThanOrEqualToThreshold',
    });
  });

  test('of a late rule follows the schedule of each rule, and one late rule does not hide the next', () => {
    const of = (more: string): AlarmOfCloudFormation => alarm('rule-late', alarmsOf(Template.fromStack(stackOf(more))));
    const Expression =
      'SELECT MAX(RuleOverdueSeconds) FROM SCHEMA("Transship", rule) GROUP BY rule ORDER BY MAX() DESC';
    expect(of('alarms: { ruleLateHours: 5 }')).toMatchObject({
      Threshold: 18_000,
      Metrics: [{ Expression, Period: 900 }],
    });
    // each period contains a pass of the planner, however rare its passes are
    expect(of('planEveryMinutes: 60').Metrics).toMatchObject([{ Period: 3600 }]);
  });

  test('of a planner that does not run is on when nothing calls it, and off before the first rule', () => {
    const { Metrics, TreatMissingData } = alarm('planner-not-running');
    expect(Metrics[0]?.Expression).toBe('FILL(calls, 0) - FILL(errors, 0)');
    expect(TreatMissingData).toBe('breaching');
  });

  test('of failures is a rate of all jobs that ended', () => {
    const { Metrics, Threshold, ComparisonOperator } = alarm('many-failures');
    expect(Metrics.map(({ Id, Expression, MetricStat }) => [Id, Expression || MetricStat?.Metric.MetricName])).toEqual([
      ['expr_1', 'IF(ended >= 10, 100 * failures / ended, 0)'],
      ['failures', 'JobsFailed'],
      ['ended', 'SUM([failed, FILL(done, 0)])'],
      ['failed', 'JobsFailed'],
      ['done', 'JobsDone'],
    ]);
    expect([Threshold, ComparisonOperator]).toEqual([10, 'GreaterThanThreshold']);
  });

  test('of corrupt bytes counts one code of failure', () => {
    expect(alarm('verification-faults')).toMatchObject({
      MetricName: 'JobsFailed',
      Dimensions: [{ Name: 'code', Value: 'CORRUPT' }],
      Threshold: 1,
    });
  });

  test('of a late verification takes the age of the settings, and stays off where no rule verifies', () => {
    const late = alarmsOf(Template.fromStack(stackOf('alarms: { verificationAgeHours: 30 }')));
    expect(alarm('verification-late', late)).toMatchObject({
      MetricName: 'LastGoodVerificationAgeSeconds',
      Statistic: 'Maximum',
      Threshold: 108_000,
      TreatMissingData: 'notBreaching',
    });
  });

  test('of a late drill takes the age of the settings, and stays off where no rule drills', () => {
    const late = alarmsOf(Template.fromStack(stackOf('alarms: { drillAgeHours: 30 }')));
    expect(alarm('drill-late', late)).toMatchObject({
      MetricName: 'DrillAgeSeconds',
      Statistic: 'Maximum',
      Threshold: 108_000,
      TreatMissingData: 'notBreaching',
    });
  });

  test('of tasks also fires when a service without tasks emits no metrics, and when scaling asks for no tasks', () => {
    const { Metrics } = alarm('tasks-that-cannot-start');
    expect(Metrics.map(({ Id, Expression, MetricStat }) => [Id, Expression || MetricStat?.Stat])).toEqual([
      [
        'expr_1',
        'IF(SUM([FILL(waiting, 0), FILL(requested, 0)]) > 0 AND SUM([FILL(taken, 0), FILL(begun, 0)]) == 0, 1, missing)',
      ],
      ['waiting', 'Minimum'],
      ['taken', 'Maximum'],
      ['requested', 'Minimum'],
      ['begun', 'Maximum'],
      ['missing', 'desired - running'],
      ['desired', 'Average'],
      ['running', 'Average'],
    ]);
  });

  test('of a throttled table ends when throttling ends, since it has a value whether or not DynamoDB emits one', () => {
    const { Metrics } = alarm('throttled-table');
    expect(Metrics.map(({ Expression, MetricStat }) => Expression || MetricStat?.Metric.MetricName)).toEqual([
      'SUM([reads, writes, 0 * looks])',
      'Invocations',
      'ReadThrottleEvents',
      'WriteThrottleEvents',
    ]);
  });

  test('of deletions adds images and archives, and counts one kind when the other has no value', () => {
    const { Metrics, Threshold } = alarm(
      'prune-deleted-many',
      alarmsOf(Template.fromStack(stackOf(`${ALL}alarms: { prunedPerDay: 7 }`))),
    );
    expect(Metrics[0]?.Expression).toBe('SUM([FILL(images, 0), FILL(archives, 0)])');
    expect(Threshold).toBe(7);
  });

  test('of the Cleaner fires when its calls fail, and when it is not called', () => {
    const { Metrics, TreatMissingData } = alarm('cleaner-not-running');
    expect(Metrics[0]?.Expression).toBe('FILL(calls, 0) - FILL(errors, 0)');
    expect(TreatMissingData).toBe('breaching');
  });

  test('of prune rules exists only with a Cleaner, and the alarm of unplanned rules is faster without one', () => {
    const without = alarmsOf(Template.fromStack(stackOf('')));
    expect([...without.keys()].filter((name) => /prune|cleaner/.test(name))).toEqual([]);
    expect(alarm('rules-not-planned', without).Period).toBe(300);
  });

  test('of a growing bucket adds up the days that CloudWatch looks back over, for each storage class of archives', () => {
    const grown = alarm(
      'backups-growing',
      alarmsOf(Template.fromStack(stackOf('bucket: { storageClass: GLACIER_IR }\nalarms: { growthGiBPerWeek: 2 }'))),
    );
    expect(grown.Metrics[0]?.Expression).toBe('RUNNING_SUM(DIFF(SUM([size0, size1])))');
    expect(grown.Threshold).toBe(2 * 1024 ** 3);
  });

  test('of replication is a rate of all events of ECR about replication', () => {
    const { Metrics } = alarm('replication-failures');
    expect(Metrics.map(({ Id, Expression, MetricStat }) => [Id, Expression || MetricStat?.Metric.MetricName])).toEqual([
      ['expr_1', '100 * failures / attempts'],
      ['failures', 'ReplicationsFailed'],
      ['attempts', 'Replications'],
    ]);
  });

  test('of missing backups waits for the days of the settings, and does not exist for 0 days or without a vault', () => {
    const of = (more: string): ReadonlyMap<string, AlarmOfCloudFormation> =>
      alarmsOf(Template.fromStack(stackOf(more)));
    const days = of(`${ALL}\nalarms: { backupAgeDays: 7 }`).get('transship-backups-that-do-not-happen');
    expect(days).toMatchObject({ EvaluationPeriods: 7, DatapointsToAlarm: 7, TreatMissingData: 'breaching' });
    expect(days?.Metrics.map(({ Expression, MetricStat }) => Expression || MetricStat?.Metric.MetricName)).toEqual([
      'FILL(copied, 0)',
      'BackupsCopied',
    ]);
    expect(of(`${ALL}\nalarms: { backupAgeDays: 0 }`).has('transship-backups-that-do-not-happen')).toBe(false);
    expect(of('').has('transship-backups-that-do-not-happen')).toBe(false);
    expect(refused('alarms: { backupAgeDays: 8 }')).toHaveLength(1);
  });

  test('of pulls covers every repository, and exists only on request, because CloudWatch bills it by the repository', () => {
    expect(alarm('unusual-pulls').Metrics.map(({ Expression }) => Expression)).toEqual([
      'SELECT SUM(RepositoryPullCount) FROM SCHEMA("AWS/ECR", RepositoryName) GROUP BY RepositoryName ORDER BY SUM() DESC',
    ]);
    const without = alarmsOf(Template.fromStack(stackOf('')));
    expect(without.size).toBe(21); // without a vault, there is no alarm of backups either
    expect(without.has('transship-unusual-pulls')).toBe(false);
  });

  test.each([
    ['STANDARD', ['StandardStorage']],
    ['GLACIER_IR', ['StandardStorage', 'GlacierInstantRetrievalStorage']],
    ['DEEP_ARCHIVE', ['StandardStorage', 'DeepArchiveStorage']],
  ])('of growth counts %s and the classes that archives pass on their way there', (storageClass, types) => {
    const settings = `bucket: { storageClass: ${storageClass} }\nalarms: { growthGiBPerDay: 2 }`;
    const grown = alarm('growth-of-archives', alarmsOf(Template.fromStack(stackOf(settings))));
    expect(grown.Threshold).toBe(2 * 1024 ** 3);
    // SUM and not +, which may have no value where a class is empty
    expect(grown.Metrics[0]?.Expression).toBe(types.length === 1 ? 'DIFF(size0)' : 'DIFF(SUM([size0, size1]))');
    const found = JSON.stringify(grown).match(/[A-Za-z]+Storage(?=")/g);
    expect(found).toEqual(types);
  });
});

describe('metrics of alarms and dashboard', () => {
  const used = [...usedByAlarms(), ...usedByDashboard()];
  const ofEvents = Object.values(template.findResources('AWS::Logs::MetricFilter')).map(({ Properties }): string =>
    String(Properties['MetricTransformations'][0].MetricName),
  );

  test('are found in both', () => {
    expect(usedByAlarms().length).toBeGreaterThan(15);
    expect(usedByDashboard().length).toBeGreaterThan(25);
  });

  test('of Transship are those that workers and planners write, with their dimensions', () => {
    const own = used.filter(({ namespace }) => namespace === 'Transship');
    const known = { all: [''], rule: ['', 'rule'], code: ['', 'rule', 'code'] } as const;
    expect(own.length).toBeGreaterThan(15);
    for (const { name, dimension } of own) {
      const metric = Object.entries(METRICS).find(([some]) => some === name)?.[1];
      expect(metric, name).toBeDefined();
      if (metric !== undefined) expect(known[metric.by], name).toContain(dimension);
    }
  });

  test('of the dashboard are all that an operator needs', () => {
    const shown = usedByDashboard().map(({ namespace, name, dimension }) =>
      [namespace, name, dimension].join(' ').trim(),
    );
    for (const asked of [
      'Transship BytesCopied',
      'Transship ImagesCopied',
      'Transship LastGoodCopyAgeSeconds rule',
      'Transship LastGoodVerificationAgeSeconds rule',
      'Transship VerifyFindings',
      'Transship SnapshotFailures',
      'AWS/SQS ApproximateNumberOfMessagesVisible QueueName',
      'AWS/SQS ApproximateAgeOfOldestMessage QueueName',
      'ECS/ContainerInsights RunningTaskCount ClusterName',
      'Transship JobsFailed code',
      'Transship RulesFailed code',
      'Transship PublishedObjects',
      'Transship PublishFailed',
      'Transship PublishedBytes',
      'Transship PrunedImages',
      'Transship PrunedArchives',
      'Transship PrunedBytes',
      'Transship PruneFailed',
      'AWS/Lambda Errors FunctionName',
      'AWS/S3 BucketSizeBytes BucketName',
      'AWS/ECR RepositoryPullCount RepositoryName',
      'Transship/Events Pushes',
      'Transship/Events Replications',
      'Transship/Events ReplicationsFailed',
    ])
      expect(shown).toContain(asked);
  });

  test('reported once a day are shown over months, since a single day has no values', () => {
    const daily = widgets().filter(({ properties }) => JSON.stringify(properties).includes('86400'));
    expect(daily.map(({ properties }) => properties.start)).toEqual(['-P3M', '-P3M']);
  });

  test('of Transship are sums where they are counts, and never where they are seconds', () => {
    for (const { namespace, name, statistic } of used) {
      const metric =
        namespace === 'Transship' ? Object.entries(METRICS).find(([some]) => some === name)?.[1] : undefined;
      if (metric !== undefined)
        expect(statistic === 'Sum', name).toBe(metric.unit !== 'Seconds' && !('each' in metric));
    }
  });

  test('of events are counted in the log, and are in docs/metrics.md', () => {
    const names = new Set(used.filter(({ namespace }) => namespace === 'Transship/Events').map(({ name }) => name));
    expect([...names].toSorted()).toEqual(ofEvents.toSorted());
    const [, section = ''] = readFileSync('docs/metrics.md', 'utf8').split(/^## Of events$/m);
    const told = [...(section.split(/^## /m)[0] ?? '').matchAll(/^\| `(\w+)`/gm)].map(([, name = '']) => name);
    expect(told.toSorted()).toEqual([...names].toSorted());
  });

  test('of AWS are those that docs/metrics.md has with a link', () => {
    const own = (namespace: string): boolean => namespace.startsWith('Transship');
    const names = new Set(used.flatMap(({ namespace, name }) => (own(namespace) ? [] : [`${namespace} ${name}`])));
    const [, section = ''] = readFileSync('docs/metrics.md', 'utf8').split(/^## Of AWS$/m);
    const rows = [...section.matchAll(/^\| `([\w/]+)` \| (.+?) \| \[\w[\w ]*\]\(https:\/\/docs\.aws\.amazon\.com\//gm)];
    const told = rows.flatMap(([, namespace, list = '']) =>
      [...list.matchAll(/`(\w+)`/g)].map(([, name]) => `${namespace} ${name}`),
    );
    expect(told.toSorted()).toEqual([...names].toSorted());
  });

  interface Used {
    readonly namespace: string;
    readonly name: string;
    /** The dimensions of a metric of Transship: `` without any. */
    readonly dimension: string;
    readonly statistic: string;
  }

  function usedByAlarms(): readonly Used[] {
    return [...alarms.values()].flatMap((one) =>
      one.MetricName === undefined
        ? one.Metrics.flatMap(({ MetricStat, Expression }) =>
            MetricStat === undefined ? inQuery(Expression) : [usedOf(MetricStat.Metric, MetricStat.Stat)],
          )
        : [usedOf(measured.parse(one), one.Statistic ?? '')],
    );
  }

  function usedOf({ Namespace, MetricName, Dimensions }: z.infer<typeof measured>, statistic: string): Used {
    return { namespace: Namespace, name: MetricName, dimension: Dimensions[0]?.Name ?? '', statistic };
  }

  function widgets(): z.infer<typeof dashboardBody>['widgets'] {
    const [dashboard] = Object.values(template.findResources('AWS::CloudWatch::Dashboard'));
    const parts: readonly unknown[] = dashboard?.['Properties']['DashboardBody']['Fn::Join'][1];
    const text = parts.map((part) => (typeof part === 'string' ? part : 'VALUE')).join('');
    return dashboardBody.parse(JSON.parse(text)).widgets;
  }

  function usedByDashboard(): readonly Used[] {
    return widgets().flatMap(({ properties }) =>
      properties.metrics.flatMap((metric): readonly Used[] => {
        const { expression, stat } = options.parse(metric.at(-1));
        const [namespace, name, dimension] = metric;
        if (typeof namespace !== 'string' || typeof name !== 'string') return inQuery(expression);
        return [{ namespace, name, dimension: typeof dimension === 'string' ? dimension : '', statistic: stat }];
      }),
    );
  }

  /** `SEARCH('{Namespace,dimension} MetricName="name"', 'Statistic', 300)`, or a query with SELECT. */
  function inQuery(expression: string): readonly Used[] {
    const searched = /\{([\w/]+),(\w+)[\w,]*\} MetricName="(\w+)".*?', '(\w+)', \d+\)/.exec(expression);
    if (searched !== null) {
      const [, namespace = '', dimension = '', name = '', statistic = ''] = searched;
      return [{ namespace, name, dimension, statistic }];
    }
    const selected = /^SELECT SUM\((\w+)\) FROM SCHEMA\("([\w/]+)", (\w+)\)/.exec(expression);
    if (selected !== null) {
      const [, name = '', namespace = '', dimension = ''] = selected;
      return [{ namespace, name, dimension, statistic: 'Sum' }];
    }
    return [];
  }
});

describe('people', () => {
  test('are notified by an encrypted topic whose key alarms may use, over TLS, and by this account only', () => {
    template.hasResourceProperties('AWS::SNS::Topic', {
      KmsMasterKeyId: { 'Fn::GetAtt': [Match.stringLikeRegexp('^MonitoringKey'), 'Arn'] },
    });
    const service = { Service: 'cloudwatch.amazonaws.com' };
    template.hasResourceProperties('AWS::KMS::Key', {
      EnableKeyRotation: true,
      KeyPolicy: {
        Statement: Match.arrayWith([
          Match.objectLike({ Principal: service, Action: ['kms:Decrypt', 'kms:GenerateDataKey*'] }),
        ]),
      },
    });
    template.hasResourceProperties('AWS::SNS::TopicPolicy', {
      PolicyDocument: {
        Statement: [
          Match.objectLike({ Effect: 'Deny', Condition: { Bool: { 'aws:SecureTransport': 'false' } } }),
          Match.objectLike({
            Effect: 'Allow',
            Action: 'sns:Publish',
            Principal: service,
            Condition: { StringEquals: { 'aws:SourceAccount': ACCOUNT } },
          }),
        ],
      },
    });
  });

  test('get mail where the settings name their addresses', () => {
    const subscriptions = Object.values(template.findResources('AWS::SNS::Subscription'));
    expect(subscriptions.map(({ Properties }) => [Properties['Protocol'], Properties['Endpoint']])).toEqual([
      ['email', 'a@example.com'],
      ['email', 'b@example.com'],
    ]);
  });

  test('cannot be notified by a topic of another Region', () => {
    expect(refused(`notifications: { topics: ['arn:aws:sns:us-east-1:${ACCOUNT}:x'] }`)).toEqual([
      `test.yaml: notifications.topics.0 "arn:aws:sns:us-east-1:${ACCOUNT}:x": alarms in ${REGION} notify topics in ${REGION} only`,
    ]);
  });

  test('find the dashboard in the outputs', () => {
    template.hasResourceProperties('AWS::CloudWatch::Dashboard', { DashboardName: `transship-${REGION}` });
    template.hasOutput('Dashboard', { Value: Match.anyValue() });
    template.hasOutput('LogsOfEvents', { Value: Match.anyValue() });
  });
});

describe('events', () => {
  test('of ECR and AWS Backup go to a log with the retention of the others, without a function', () => {
    template.hasResourceProperties('AWS::Events::Rule', {
      EventPattern: { source: ['aws.ecr'], 'detail-type': ['ECR Image Action', 'ECR Replication Action'] },
      Targets: [{ Arn: Match.objectLike({ 'Fn::Join': Match.anyValue() }) }],
    });
    template.hasResourceProperties('AWS::Logs::ResourcePolicy', {
      PolicyDocument: {
        'Fn::Join': ['', Match.arrayWith([Match.stringLikeRegexp('"logs:PutLogEvents".*"events.amazonaws.com"')])],
      },
    });
    const without = Template.fromStack(stackOf(''));
    expect(JSON.stringify(without.findResources('AWS::Events::Rule'))).not.toContain('aws.backup');
    without.resourceCountIs('AWS::Lambda::Function', 1);
  });

  test('of AWS Backup are those about the bucket, and not about other backups of the account', () => {
    template.hasResourceProperties('AWS::Events::Rule', {
      EventPattern: {
        source: ['aws.backup'],
        'detail-type': ['Backup Job State Change', 'Copy Job State Change'],
        detail: {
          resourceArn: [{ 'Fn::GetAtt': [Match.stringLikeRegexp('^StorageBucket'), 'Arn'] }],
          state: ['ABORTED', 'COMPLETED', 'EXPIRED', 'FAILED', 'PARTIAL'],
        },
      },
    });
  });

  const ecr = (kind: string, detail: object): object => ({
    source: 'aws.ecr',
    'detail-type': `ECR ${kind} Action`,
    detail,
  });
  const backup = (kind: string, detail: object): object => ({
    source: 'aws.backup',
    'detail-type': `${kind} Job State Change`,
    detail,
  });

  test.each([
    ['a push', ecr('Image', { 'action-type': 'PUSH', result: 'SUCCESS' }), ['Pushes']],
    ['a push that failed', ecr('Image', { 'action-type': 'PUSH', result: 'FAILURE' }), []],
    ['a deletion', ecr('Image', { 'action-type': 'DELETE', result: 'SUCCESS' }), ['Deletions']],
    ['an image that is archived', ecr('Image', { 'action-type': 'UPDATE_STORAGE_CLASS', result: 'SUCCESS' }), []],
    ['a replication', ecr('Replication', { 'action-type': 'REPLICATE', result: 'SUCCESS' }), ['Replications']],
    [
      'one that failed',
      ecr('Replication', { 'action-type': 'REPLICATE', result: 'FAILED' }),
      ['Replications', 'ReplicationsFailed'],
    ],
    [
      'one that failed by another word',
      ecr('Replication', { 'action-type': 'REPLICATE', result: 'FAILURE' }),
      ['Replications', 'ReplicationsFailed'],
    ],
    ['a backup', backup('Backup', { state: 'COMPLETED' }), []],
    [
      'a backup that left something out',
      backup('Backup', { state: 'COMPLETED', statusMessage: '3 objects' }),
      ['BackupsFailed'],
    ],
    ['a backup that failed', backup('Backup', { state: 'FAILED', statusMessage: 'no' }), ['BackupsFailed']],
    ['a backup that never began', backup('Backup', { state: 'EXPIRED' }), ['BackupsFailed']],
    ['a copy', backup('Copy', { state: 'COMPLETED' }), ['BackupsCopied']],
    ['a copy that failed', backup('Copy', { state: 'FAILED' }), ['BackupsFailed']],
  ])('count %s', (_, event, expected) => {
    const filters = Object.values(template.findResources('AWS::Logs::MetricFilter'));
    // one for each event, and 0 for other events, so that a rate has both of its metrics
    for (const { Properties } of filters)
      expect(Properties['MetricTransformations']).toMatchObject([{ MetricValue: '1', DefaultValue: 0 }]);
    const counted = filters.filter(({ Properties }) => matches(String(Properties['FilterPattern']), event));
    const names = counted.map(({ Properties }): string => String(Properties['MetricTransformations'][0].MetricName));
    expect(names.toSorted()).toEqual(expected);
  });

  test('of replication are forwarded from the Regions where images arrive, each Region its own events', () => {
    const { registries } = settingsOf('registries: { replication: [{ region: us-east-1 }] }');
    if (registries === undefined) throw new Error('no registries');
    const env = { account: ACCOUNT, region: 'us-east-1' };
    const replicas = new ReplicasStack(app(), 'Replicas', { env, registries, home: REGION, tags: {} });
    Template.fromStack(replicas).hasResourceProperties('AWS::Events::Rule', {
      EventPattern: { source: ['aws.ecr'], 'detail-type': ['ECR Replication Action'], region: ['us-east-1'] },
      Targets: [
        Match.objectLike({ Arn: `arn:aws:events:${REGION}:${ACCOUNT}:event-bus/default`, RoleArn: Match.anyValue() }),
      ],
    });
    expect(findings(replicas)).toEqual([]);
  });
});

test('cdk-nag finds nothing', () => {
  expect(findings(stack)).toEqual([]);
});
