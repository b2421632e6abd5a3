import { readFileSync } from 'node:fs';
import { Match, Template } from 'aws-cdk-lib/assertions';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { ReplicasStack } from '../../infra/creation-templates.ts';
import { addStacks } from '../../infra/stacks.ts';
import { TransshipStack } from '../../infra/transship-stack.ts';
import { METRICS } from '../../worker/telemetry/metrics.ts';
import { ACCOUNT, REGION, app, findings, refused, settingsOf } from './templates.ts';

const ALARM = 'AWS::CloudWatch::Alarm';
const TOPIC = `arn:aws:sns:${REGION}:222222222222:operators`;
/** With everything that has alarms of its own. */
const ALL = `
vault: { account: '222222222222', region: eu-west-1 }
notifications: { emails: [a@example.com, b@example.com], topics: ['${TOPIC}'] }
`;

const dimensions = z.array(z.object({ Name: z.string(), Value: z.unknown() })).default([]);
const measured = z.object({ Namespace: z.string(), MetricName: z.string(), Dimensions: dimensions });
const alarmOfCloudFormation = z.object({
  AlarmName: z.string(),
  AlarmDescription: z.string(),
  AlarmActions: z.array(z.unknown()),
  ComparisonOperator: z.string(),
  Threshold: z.number(),
  EvaluationPeriods: z.number(),
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
    z.object({ properties: z.object({ metrics: z.array(z.array(z.union([z.string(), options]))).default([]) }) }),
  ),
});

function stackOf(more: string): TransshipStack {
  const tree = app();
  addStacks(tree, settingsOf(more));
  const stack = tree.node.findChild('Transship');
  if (!(stack instanceof TransshipStack)) throw new Error('no stack');
  return stack;
}

const stack = stackOf(ALL);
const template = Template.fromStack(stack);
const alarms = alarmsOf(template);

/** By name. Those that scale the workers have no name, and no chapter. */
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

/** As links name the headings of a document. */
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
    expect(alarms.size).toBe(15);
    const links = [...alarms.values()].map(
      (one) => /docs\/runbook\.md#([\w-]+)$/.exec(one.AlarmDescription)?.[1] ?? '',
    );
    expect(links.toSorted()).toEqual(chaptersOf('docs/runbook.md').toSorted());
    for (const [i, name] of [...alarms.keys()].entries()) expect(name).toBe(`transship-${links[i]}`);
  });

  test('says how bad it is, and tells the topic and those of the settings', () => {
    for (const one of alarms.values()) {
      expect(one.AlarmDescription).toMatch(/\. Severity: (high|medium|low)\. What to do: /);
      expect(one.AlarmActions).toEqual([{ Ref: expect.stringMatching(/^MonitoringTopic/) }, TOPIC]);
    }
  });

  test('says what missing data mean', () => {
    const meanings = new Map<string, string[]>();
    for (const [name, { TreatMissingData }] of alarms)
      meanings.set(TreatMissingData, [...(meanings.get(TreatMissingData) ?? []), name.replace('transship-', '')]);
    // a planner that does not run tells nothing; SQS and S3 tell nothing of what does not change
    expect(meanings.get('breaching')).toEqual(['rule-late']);
    expect(meanings.get('ignore')?.toSorted()).toEqual([
      'dead-letters',
      'events-that-were-not-delivered',
      'growth-of-archives',
    ]);
    expect([...meanings.keys()].toSorted()).toEqual(['breaching', 'ignore', 'notBreaching']);
  });

  test('that scales the workers tells nobody', () => {
    const scaling = Object.values(template.findResources(ALARM)).filter(
      ({ Properties }) => Properties['AlarmName'] === undefined,
    );
    expect(scaling).toHaveLength(2);
    for (const { Properties } of scaling) expect(JSON.stringify(Properties['AlarmActions'])).not.toContain('Topic');
  });

  test('has the period of its metrics, and looks back no longer than CloudWatch does', () => {
    for (const one of alarms.values()) {
      const metrics = one.Metrics.flatMap((metric) => metric.MetricStat?.Period ?? metric.Period ?? []);
      const periods = new Set([...metrics, ...(one.Period === undefined ? [] : [one.Period])]);
      expect(periods.size).toBe(1);
      const [period = 0] = periods;
      // https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
      expect(period * one.EvaluationPeriods).toBeLessThanOrEqual(period < 3600 ? 86_400 : 7 * 86_400);
    }
  });

  test('has a link that people can follow, where the settings say where the runbook is', () => {
    const linked = alarmsOf(Template.fromStack(stackOf('alarms: { runbook: https://wiki.example/runbook }')));
    expect(alarm('dead-letters', linked).AlarmDescription).toMatch(/ https:\/\/wiki\.example\/runbook#dead-letters$/);
  });
});

describe('the alarm', () => {
  test('of dead letters counts those that are there, whoever moved them', () => {
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

  test('of a late rule is about the oldest of them, as old as the settings say, and about a planner that is silent', () => {
    const of = (more: string): AlarmOfCloudFormation => alarm('rule-late', alarmsOf(Template.fromStack(stackOf(more))));
    const late = { Namespace: 'Transship', MetricName: 'LastGoodCopyAgeSeconds', Statistic: 'Maximum' };
    expect(of('alarms: { ruleAgeHours: 50 }')).toMatchObject({ ...late, Threshold: 180_000, Period: 900 });
    expect(of('alarms: { ruleAgeHours: 50 }').Dimensions).toEqual([]);
    // a period has a look of the planner in it, however seldom it looks
    expect(of('planEveryMinutes: 60')).toMatchObject({ ...late, Threshold: 26 * 3600, Period: 3600 });
  });

  test('of failures is a rate of all jobs that ended', () => {
    const { Metrics, Threshold, ComparisonOperator } = alarm('many-failures');
    expect(Metrics.map(({ Id, Expression }) => [Id, Expression])).toEqual([
      ['expr_1', 'IF(ended >= 10, 100 * failures / ended, 0)'],
      ['failures', ''],
      ['ended', 'SUM([failed, FILL(done, 0)])'],
      ['failed', ''],
      ['done', ''],
    ]);
    expect([Threshold, ComparisonOperator]).toEqual([10, 'GreaterThanThreshold']);
  });

  test('of faults counts one code of failure', () => {
    expect(alarm('verification-faults')).toMatchObject({
      MetricName: 'JobsFailed',
      Dimensions: [{ Name: 'code', Value: 'CORRUPT' }],
      Threshold: 1,
    });
  });

  test('of pulls looks at every repository, and is not there where nobody wants to pay for it', () => {
    expect(JSON.stringify(alarm('unusual-pulls').Metrics)).toContain('GROUP BY RepositoryName');
    const without = alarmsOf(Template.fromStack(stackOf('alarms: { pullsPerFiveMinutes: 0 }')));
    expect(without.size).toBe(13); // neither that of backups, without a vault
    expect(without.has('transship-unusual-pulls')).toBe(false);
  });

  test.each([
    ['STANDARD', ['StandardStorage']],
    ['GLACIER_IR', ['StandardStorage', 'GlacierInstantRetrievalStorage']],
    ['DEEP_ARCHIVE', ['StandardStorage', 'DeepArchiveStorage']],
  ])('of growth counts what is in %s and what is on its way there', (storageClass, types) => {
    const settings = `bucket: { storageClass: ${storageClass} }\nalarms: { growthGiBPerDay: 2 }`;
    const grown = alarm('growth-of-archives', alarmsOf(Template.fromStack(stackOf(settings))));
    expect(grown.Threshold).toBe(2 * 1024 ** 3);
    expect(grown.Metrics[0]?.Expression).toBe(`DIFF(SUM([${types.map((_, i) => `size${i}`).join(', ')}]))`);
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

  test('of Transship are those that workers and planners write, with dimensions that they have', () => {
    const own = used.filter(({ namespace }) => namespace === 'Transship');
    const known = { all: [''], rule: ['', 'rule'], code: ['', 'rule', 'code'] } as const;
    expect(own.length).toBeGreaterThan(15);
    for (const { name, dimension } of own) {
      const metric = Object.entries(METRICS).find(([some]) => some === name)?.[1];
      expect(metric, name).toBeDefined();
      if (metric !== undefined) expect(known[metric.by], name).toContain(dimension);
    }
  });

  test('of Transship are added up where they are counts, and never where they are seconds', () => {
    for (const { namespace, name, statistic } of used) {
      const metric =
        namespace === 'Transship' ? Object.entries(METRICS).find(([some]) => some === name)?.[1] : undefined;
      if (metric !== undefined) expect(statistic === 'Sum', name).toBe(metric.unit !== 'Seconds');
    }
  });

  test('of events are counted in the log, and docs/metrics.md tells of them', () => {
    const names = new Set(used.filter(({ namespace }) => namespace === 'Transship/Events').map(({ name }) => name));
    expect([...names].toSorted()).toEqual(ofEvents.toSorted());
    const [, section = ''] = readFileSync('docs/metrics.md', 'utf8').split(/^## Of events$/m);
    const told = [...(section.split(/^## /m)[0] ?? '').matchAll(/^\| `(\w+)`/gm)].map(([, name = '']) => name);
    expect(told.toSorted()).toEqual([...names].toSorted());
  });

  test('of AWS are those that docs/metrics.md has with a link, and it has no others', () => {
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
    /** Of Transship's: `` when there is none. */
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

  function usedByDashboard(): readonly Used[] {
    const [dashboard] = Object.values(template.findResources('AWS::CloudWatch::Dashboard'));
    const parts: readonly unknown[] = dashboard?.['Properties']['DashboardBody']['Fn::Join'][1];
    const text = parts.map((part) => (typeof part === 'string' ? part : 'VALUE')).join('');
    const { widgets } = dashboardBody.parse(JSON.parse(text));
    return widgets.flatMap(({ properties }) =>
      properties.metrics.flatMap((metric): readonly Used[] => {
        const { expression, stat } = options.parse(metric.at(-1));
        const [namespace, name, dimension] = metric;
        if (typeof namespace !== 'string' || typeof name !== 'string') return inQuery(expression);
        return [{ namespace, name, dimension: typeof dimension === 'string' ? dimension : '', statistic: stat }];
      }),
    );
  }

  /** `SEARCH('{Namespace,dimension} MetricName="name"', 'Statistic', 300)`, or a query that says SELECT. */
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
  test('are told by a topic that is encrypted by a key that alarms may use, over TLS, and by this account alone', () => {
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

  test('get mail where the settings name them', () => {
    const subscriptions = Object.values(template.findResources('AWS::SNS::Subscription'));
    expect(subscriptions.map(({ Properties }) => [Properties['Protocol'], Properties['Endpoint']])).toEqual([
      ['email', 'a@example.com'],
      ['email', 'b@example.com'],
    ]);
  });

  test('cannot be told by a topic of another region', () => {
    expect(refused(`notifications: { topics: ['arn:aws:sns:us-east-1:${ACCOUNT}:x'] }`)).toEqual([
      `test.yaml: notifications.topics.0 "arn:aws:sns:us-east-1:${ACCOUNT}:x": alarms in ${REGION} tell topics of ${REGION} only`,
    ]);
  });

  test('find the dashboard by the outputs', () => {
    template.hasResourceProperties('AWS::CloudWatch::Dashboard', { DashboardName: `transship-${REGION}` });
    template.hasOutput('Dashboard', { Value: Match.anyValue() });
    template.hasOutput('LogsOfEvents', { Value: Match.anyValue() });
  });
});

describe('events', () => {
  test('of ECR and AWS Backup go to a log that is kept as long as the others, without a function', () => {
    template.hasResourceProperties('AWS::Events::Rule', {
      EventPattern: { source: ['aws.ecr'], 'detail-type': ['ECR Image Action', 'ECR Replication Action'] },
      Targets: [{ Arn: Match.objectLike({ 'Fn::Join': Match.anyValue() }) }],
    });
    template.hasResourceProperties('AWS::Events::Rule', { EventPattern: Match.objectLike({ source: ['aws.backup'] }) });
    const without = Template.fromStack(stackOf(''));
    expect(JSON.stringify(without.findResources('AWS::Events::Rule'))).not.toContain('aws.backup');
    without.resourceCountIs('AWS::Lambda::Function', 1);
    template.hasResourceProperties('AWS::Logs::ResourcePolicy', { PolicyDocument: Match.anyValue() });
  });

  test('of replication are told where images arrive: other regions of the account hand them over, each its own', () => {
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
