import { Duration, Stack } from 'aws-cdk-lib';
import {
  AlarmStatusWidget,
  Dashboard,
  GraphWidget,
  LogQueryVisualizationType,
  LogQueryWidget,
  MathExpression,
  TextWidget,
  type IAlarm,
  type IMetric,
  type IWidget,
  type YAxisProps,
} from 'aws-cdk-lib/aws-cloudwatch';
import type { Construct } from 'constructs';
import { DAY, type Watched } from './alarm-spec.ts';
import { NAMESPACE, taskMetric, transshipMetric } from './metrics.ts';

export interface DashboardOptions extends Watched {
  readonly name: string;
  readonly alarms: readonly IAlarm[];
  readonly runbook: string;
}

const PERIOD = Duration.minutes(5);
/** S3 reports a size once a day, and a day late, so one day shows nothing. Three months are enough to compare months. */
const STORAGE_SHOWN = '-P3M';
/** A row has 24 columns: three graphs. */
const WIDTH = 8;

/** Everything at a glance: alarms, then copies and their proofs, then the parts that make them, then registries and storage. */
export function addDashboard(scope: Construct, options: DashboardOptions): Dashboard {
  const { region } = Stack.of(scope);
  const dashboard = new Dashboard(scope, 'Dashboard', { dashboardName: options.name, defaultInterval: DAY });
  dashboard.addWidgets(
    new TextWidget({
      markdown: `# Transship, ${region}\nWhat each alarm means, and what to do: ${options.runbook}`,
      width: 3 * WIDTH,
      height: 2,
    }),
  );
  dashboard.addWidgets(
    new AlarmStatusWidget({ title: 'Alarms', alarms: [...options.alarms], width: 3 * WIDTH, height: 4 }),
  );
  dashboard.addWidgets(...copies());
  dashboard.addWidgets(...proofs());
  dashboard.addWidgets(...work(options));
  if (options.large !== undefined) dashboard.addWidgets(...largeJobs(options.large));
  dashboard.addWidgets(...failures(options));
  dashboard.addWidgets(...changes(options));
  dashboard.addWidgets(...registries(options));
  dashboard.addWidgets(...sizes(options));
  return dashboard;
}

function copies(): GraphWidget[] {
  return [
    graph('Bytes', [
      transshipMetric('BytesCopied', { label: 'copied', period: PERIOD }),
      transshipMetric('BytesMounted', { label: 'mounted', period: PERIOD }),
      transshipMetric('BytesSkipped', { label: 'there already', period: PERIOD }),
    ]),
    graph('Images', [
      transshipMetric('ImagesCopied', { label: 'copied', period: PERIOD }),
      transshipMetric('ImagesUnchanged', { label: 'unchanged', period: PERIOD }),
    ]),
    agesByRule('Age of the last good copy, by rule', 'LastGoodCopyAgeSeconds'),
  ];
}

/** What was backed up as a whole, and what was verified. */
function proofs(): GraphWidget[] {
  return [
    graph(
      'Snapshots',
      [
        transshipMetric('SnapshotImages', { label: 'images listed', period: PERIOD }),
        transshipMetric('SnapshotFailures', { label: 'images that failed', period: PERIOD }),
      ],
      { min: 0 },
      [transshipMetric('SnapshotsWritten', { label: 'snapshots', period: PERIOD })],
    ),
    graph(
      'Verification',
      [
        transshipMetric('VerifyFindings', { label: 'findings', period: PERIOD }),
        transshipMetric('PlacesVerified', { label: 'places', period: PERIOD }),
      ],
      { min: 0 },
      [transshipMetric('VerifiedBytes', { label: 'read and hashed', period: PERIOD })],
    ),
    agesByRule('Age of the last good verification, by rule', 'LastGoodVerificationAgeSeconds'),
    agesByRule('Age of the last good drill, by rule', 'DrillAgeSeconds'),
  ];
}

function agesByRule(title: string, metric: string): GraphWidget {
  const search = `SEARCH('{${NAMESPACE},rule} MetricName="${metric}"', 'Maximum', 300) / 3600`;
  const ages = searched(search, { label: "${PROP('Dim.rule')}" });
  return graph(title, [ages], { label: 'hours', showUnits: false, min: 0 });
}

function work({ jobs, planner, service }: Watched): GraphWidget[] {
  const window = { period: PERIOD, statistic: 'Maximum' };
  return [
    graph(
      'Queue',
      [
        jobs.metricApproximateNumberOfMessagesVisible({ ...window, label: 'waiting' }),
        jobs.metricApproximateNumberOfMessagesNotVisible({ ...window, label: 'in flight' }),
      ],
      { label: 'jobs', showUnits: false, min: 0 },
      [
        jobs.metricApproximateAgeOfOldestMessage({ ...window, label: 'age of the oldest' }),
        transshipMetric('QueueWaitSeconds', { statistic: 'p90', label: 'waited, p90', period: PERIOD }),
      ],
    ),
    graph(
      'Tasks',
      [
        taskMetric('RunningTaskCount', service, { ...window, label: 'running' }),
        taskMetric('PendingTaskCount', service, { ...window, label: 'starting' }),
        taskMetric('DesiredTaskCount', service, { ...window, label: 'wanted' }),
      ],
      { showUnits: false, min: 0 },
    ),
    graph(
      'Planner',
      [
        planner.metricInvocations({ period: PERIOD, label: 'passes' }),
        planner.metricErrors({ period: PERIOD, label: 'errors' }),
        transshipMetric('JobsPlanned', { label: 'jobs planned', period: PERIOD }),
      ],
      { showUnits: false, min: 0 },
      [planner.metricDuration({ ...window, label: 'longest pass' })],
    ),
  ];
}

/** The queue and the tasks of the large workers. */
function largeJobs({ queue, service }: NonNullable<Watched['large']>): GraphWidget[] {
  const window = { period: PERIOD, statistic: 'Maximum' };
  return [
    graph(
      'Queue of large jobs',
      [
        queue.metricApproximateNumberOfMessagesVisible({ ...window, label: 'waiting' }),
        queue.metricApproximateNumberOfMessagesNotVisible({ ...window, label: 'in flight' }),
      ],
      { label: 'jobs', showUnits: false, min: 0 },
      [queue.metricApproximateAgeOfOldestMessage({ ...window, label: 'age of the oldest' })],
    ),
    graph(
      'Large workers',
      [
        taskMetric('RunningTaskCount', service, { ...window, label: 'running' }),
        taskMetric('PendingTaskCount', service, { ...window, label: 'starting' }),
        taskMetric('DesiredTaskCount', service, { ...window, label: 'wanted' }),
      ],
      { showUnits: false, min: 0 },
    ),
  ];
}

function failures({ deadLetters, table }: Watched): GraphWidget[] {
  const byCode = (name: string, what: string): IMetric =>
    searched(`SEARCH('{${NAMESPACE},code} MetricName="${name}"', 'Sum', 300)`, {
      label: `${what}: \${PROP('Dim.code')}`,
    });
  return [
    graph('Permanent failures, by code', [byCode('JobsFailed', 'jobs'), byCode('RulesFailed', 'rules')]),
    graph('Attempts that failed and are retried, by code', [byCode('JobsRetried', 'jobs')]),
    graph('Dead letters and refusals', [
      deadLetters.metricApproximateNumberOfMessagesVisible({
        period: PERIOD,
        statistic: 'Maximum',
        label: 'dead letters',
      }),
      transshipMetric('MessagesRefused', { label: 'messages that are not jobs', period: PERIOD }),
      table.metric('ReadThrottleEvents', { statistic: 'Sum', period: PERIOD, label: 'throttled reads of the table' }),
      table.metric('WriteThrottleEvents', { statistic: 'Sum', period: PERIOD, label: 'throttled writes of the table' }),
    ]),
  ];
}

/** What publish rules write, and what prune rules delete where there is a Cleaner. */
function changes({ cleaner }: Watched): GraphWidget[] {
  const published = graph('Published objects', [
    transshipMetric('PublishedObjects', { label: 'published', period: PERIOD }),
    transshipMetric('PublishFailed', { label: 'failed', period: PERIOD }),
  ]);
  const publishedBytes = transshipMetric('PublishedBytes', { label: 'published', period: PERIOD });
  if (cleaner === undefined) return [published, graph('Bytes of published objects', [publishedBytes])];
  return [
    published,
    graph(
      'Deleted by prune rules',
      [
        transshipMetric('PrunedImages', { label: 'images', period: PERIOD }),
        transshipMetric('PrunedArchives', { label: 'archives', period: PERIOD }),
        transshipMetric('PruneFailed', { label: 'could not be deleted', period: PERIOD }),
      ],
      { min: 0 },
      [
        cleaner.metricInvocations({ period: PERIOD, label: 'calls of the Cleaner' }),
        cleaner.metricErrors({ period: PERIOD, label: 'errors of the Cleaner' }),
      ],
    ),
    graph('Bytes published and deleted', [
      publishedBytes,
      transshipMetric('PrunedBytes', { label: 'deleted', period: PERIOD }),
    ]),
  ];
}

function registries({ bucket, events }: Watched): GraphWidget[] {
  return [
    graph(
      'Bucket of archives, in three months',
      [
        searched(
          `SEARCH('{AWS/S3,BucketName,StorageType} MetricName="BucketSizeBytes" BucketName="${bucket.bucketName}"', 'Average', 86400)`,
          { label: "${PROP('Dim.StorageType')}", period: DAY },
        ),
      ],
      { min: 0 },
      [],
      STORAGE_SHOWN,
    ),
    graph('Pulls from ECR, the ten repositories pulled most', [
      searched(
        `SLICE(SORT(SEARCH('{AWS/ECR,RepositoryName} MetricName="RepositoryPullCount"', 'Sum', 300), SUM, DESC), 0, 10)`,
        { label: "${PROP('Dim.RepositoryName')}" },
      ),
    ]),
    graph('Events of ECR', [
      events.metric('Pushes', PERIOD, 'pushes'),
      events.metric('Deletions', PERIOD, 'deletions'),
      events.metric('Replications', PERIOD, 'replications'),
      events.metric('ReplicationsFailed', PERIOD, 'replications that failed'),
    ]),
  ];
}

/** The size of each repository, from logs: as metrics they would cost as much as the rest of the dashboard. */
function sizes({ logs }: Watched): IWidget[] {
  return [
    graph('Largest repository of ECR, in three months', [LARGEST], { min: 0 }, [], STORAGE_SHOWN),
    new LogQueryWidget({
      title: 'GiB of repositories, the twenty largest that runs listed',
      logGroupNames: logs.map(({ logGroupName }) => logGroupName),
      queryLines: [
        'filter event = "repository-listed"',
        `stats latest(bytes) / ${1024 ** 3} as GiB, latest(images) as Images by repository`,
        'sort GiB desc',
        'limit 20',
      ],
      view: LogQueryVisualizationType.TABLE,
      width: 2 * WIDTH,
      height: 6,
    }),
  ];
}

const LARGEST = transshipMetric('RepositoryBytes', { label: 'the largest', period: DAY, statistic: 'Maximum' });

function graph(
  title: string,
  left: IMetric[],
  leftYAxis: YAxisProps = { min: 0 },
  right: IMetric[] = [],
  start?: string,
): GraphWidget {
  const time = start === undefined ? {} : { start };
  return new GraphWidget({ title, left, leftYAxis, right, width: WIDTH, height: 6, liveData: true, ...time });
}

/** As many lines as the search finds when the dashboard is opened: rules and repositories come and go. */
function searched(expression: string, options: { readonly label: string; readonly period?: Duration }): IMetric {
  return new MathExpression({ expression, usingMetrics: {}, period: PERIOD, ...options });
}
