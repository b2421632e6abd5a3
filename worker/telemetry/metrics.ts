import type { Clock } from '../util/clock.ts';
import type { Event, JobName, Outcome } from '../util/events.ts';
import type { Sink } from './sink.ts';

export interface Metric {
  readonly unit: 'Count' | 'Bytes' | 'Seconds';
  /** `all`: of everything together. `rule`: also of each rule. `code`: also of each rule, and of each code of failure. */
  readonly by: 'all' | 'rule' | 'code';
  /** Values such as seconds are written one by one, because their sum has no meaning. */
  readonly each?: boolean;
  readonly meaning: string;
}

const NAMESPACE = 'Transship';

/** Every metric there is. docs/metrics.md is this table for readers, and a test holds them equal. */
export const METRICS = {
  ImagesCopied: { unit: 'Count', by: 'rule', meaning: 'jobs that copied an image, backed it up or restored it' },
  ImagesUnchanged: {
    unit: 'Count',
    by: 'rule',
    meaning: 'images, and places of objects, that needed nothing, found by planner or worker',
  },
  BytesCopied: {
    unit: 'Bytes',
    by: 'rule',
    meaning: 'that left for a destination; what was sent again counts again',
  },
  BytesMounted: { unit: 'Bytes', by: 'rule', meaning: 'of blobs that the registry took from a repository of its own' },
  BytesSkipped: {
    unit: 'Bytes',
    by: 'rule',
    meaning: 'of blobs and manifests that were there already, also in an unfinished upload',
  },
  PublishedObjects: {
    unit: 'Count',
    by: 'rule',
    meaning: 'objects of S3 that were new or had changed, and were published',
  },
  PublishedBytes: { unit: 'Bytes', by: 'rule', meaning: 'of these objects, also where the registry had them already' },
  PublishFailed: {
    unit: 'Count',
    by: 'rule',
    meaning: 'objects that could not be published; those that are tried again count again',
  },
  SnapshotsWritten: { unit: 'Count', by: 'rule', meaning: 'snapshots of stores and of archives' },
  SnapshotImages: { unit: 'Count', by: 'rule', meaning: 'images that these snapshots list as stored' },
  SnapshotFailures: {
    unit: 'Count',
    by: 'rule',
    meaning: 'images that these snapshots list as failed: those of every attempt of a backup into a store',
  },
  PlacesVerified: { unit: 'Count', by: 'rule', meaning: 'places that rules of kind `verify` looked at' },
  VerifiedBytes: { unit: 'Bytes', by: 'rule', meaning: 'that these read and hashed' },
  VerifyFindings: { unit: 'Count', by: 'rule', meaning: 'what was not as it should be at these places' },
  DrillImages: {
    unit: 'Count',
    by: 'rule',
    meaning: 'images that drills restored and found equal; VerifyFindings counts their findings',
  },
  JobsDone: { unit: 'Count', by: 'rule', meaning: 'jobs of any kind that succeeded' },
  JobsFailed: {
    unit: 'Count',
    by: 'code',
    meaning: 'jobs that failed permanently; each cause at each destination is one dead letter',
  },
  JobsRetried: { unit: 'Count', by: 'code', meaning: 'tries that failed and are made again' },
  JobsHandedBack: { unit: 'Count', by: 'rule', meaning: 'jobs given back unfinished by a worker that was stopped' },
  JobSeconds: { unit: 'Seconds', by: 'rule', meaning: 'how long a job took, however it ended' },
  QueueWaitSeconds: { unit: 'Seconds', by: 'rule', meaning: 'from when a job was asked for to when a worker began it' },
  JobsPlanned: { unit: 'Count', by: 'rule', meaning: 'jobs that a run of the rule made' },
  RepositoryBytes: {
    unit: 'Bytes',
    by: 'rule',
    each: true,
    meaning: 'of all images of one repository of ECR, when a run listed it; layers that images share count for each',
  },
  LastGoodCopyAgeSeconds: {
    unit: 'Seconds',
    by: 'rule',
    meaning: 'since the last run without a failure had started; of rules that mirror, back up or publish',
  },
  LastGoodVerificationAgeSeconds: {
    unit: 'Seconds',
    by: 'rule',
    meaning: 'since the last run without a failure or finding had started; of rules that verify without drills',
  },
  DrillAgeSeconds: {
    unit: 'Seconds',
    by: 'rule',
    meaning: 'since the last run without a failure or finding had started; of rules that verify by drills',
  },
  RuleOverdueSeconds: {
    unit: 'Seconds',
    by: 'rule',
    meaning: 'since the schedule of the rule asked for a run, when none has started since that ended well; 0 otherwise',
  },
  RunsLate: {
    unit: 'Count',
    by: 'rule',
    meaning: 'passes in which a run was due while the one before was going on, or that declared a run dead',
  },
  RulesFailed: { unit: 'Count', by: 'code', meaning: 'rules that could not be planned' },
  PrunedImages: {
    unit: 'Count',
    by: 'rule',
    meaning: 'manifests that a Cleaner deleted, and tags that it removed alone',
  },
  PrunedArchives: { unit: 'Count', by: 'rule', meaning: 'archives that a Cleaner deleted' },
  PrunedBytes: { unit: 'Bytes', by: 'rule', meaning: 'of what a Cleaner deleted, layers that other images share too' },
  PruneFailed: {
    unit: 'Count',
    by: 'code',
    meaning: 'manifests, archives and whole repositories that a Cleaner could not delete or list',
  },
  MessagesRefused: { unit: 'Count', by: 'all', meaning: 'messages that are not jobs: each is one dead letter' },
} as const satisfies Readonly<Record<string, Metric>>;

type MetricName = keyof typeof METRICS;

export interface Metrics {
  readonly sink: Sink;
  /** Writes what was counted and not written yet. */
  readonly flush: () => void;
}

/** Long jobs are seen while they run. */
const FLUSH_MS = 60_000;
/** Values of one metric in one line: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html */
const MAX_VALUES = 100;
/** Limits the memory that many rules take between the ends of two jobs. */
const MAX_GROUPS = 50;

interface Dimensions {
  readonly rule?: string | undefined;
  readonly code?: string | undefined;
}

/** What goes into one line: metrics with the same dimensions. Their number is that of METRICS at most, far from the 100 that a line may have. */
interface Group {
  readonly dimensions: Dimensions;
  readonly by: Metric['by'];
  readonly values: Map<MetricName, number[]>;
}

/**
 * Counts events, and writes what it counted in CloudWatch's embedded metric format, one line of JSON for each combination of dimensions: when a
 * job or a run ends, and after a minute at the latest as long as events come. Counts and bytes are added up, seconds are kept one by one, so
 * that percentiles can be had.
 */
export function startMetrics(options: { readonly write: (line: string) => void; readonly clock: Clock }): Metrics {
  const groups = new Map<string, Group>();
  let flushedMs = options.clock.now();

  const flush = (): void => {
    flushedMs = options.clock.now();
    for (const group of groups.values()) options.write(`${JSON.stringify(lineOf(group, flushedMs))}\n`);
    groups.clear();
  };

  const add = ({ name, value, rule, code }: Count): void => {
    const { unit, by, each = unit === 'Seconds' }: Metric = METRICS[name];
    if (value === 0 && !each) return;
    const key = JSON.stringify([by, rule, code]);
    const group = groups.get(key) ?? { by, dimensions: { rule, code }, values: new Map<MetricName, number[]>() };
    groups.set(key, group);
    const values = group.values.get(name) ?? [];
    group.values.set(name, values);
    if (each || values.length === 0) values.push(value);
    else values[0] = (values[0] ?? 0) + value;
    if (values.length === MAX_VALUES || groups.size === MAX_GROUPS) flush();
  };

  const sink: Sink = (event, job) => {
    countsOf(event, job).forEach(add);
    const isDue = groups.size > 0 && options.clock.now() - flushedMs >= FLUSH_MS;
    if (WRITTEN_AT_ONCE.has(event.type) || isDue) flush();
  };
  return { sink, flush };
}

interface Count extends Dimensions {
  readonly name: MetricName;
  readonly value: number;
}

/** Events with which the work on a message ends. */
const WRITTEN_AT_ONCE: ReadonlySet<Event['type']> = new Set([
  'job-done',
  'job-failed',
  'job-handed-back',
  'message-refused',
]);

function countsOfContent(
  { outcome, bytes }: Extract<Event, { readonly type: 'blob-done' | 'manifest-done' }>,
  rule: string | undefined,
): readonly Count[] {
  const name = BYTES_BY_OUTCOME[outcome];
  return name === undefined ? [] : [{ name, value: bytes, rule }];
}

/** What an event adds to the metrics. */
function countsOf(event: Event, job: JobName | undefined): readonly Count[] {
  const rule = job?.rule;
  switch (event.type) {
    case 'bytes-sent':
      return [{ name: 'BytesCopied', value: event.bytes, rule }];
    case 'blob-done':
    case 'manifest-done':
      return countsOfContent(event, rule);
    case 'object-published':
    case 'object-failed':
    case 'pruned':
    case 'prune-failed':
      return countsOfItem(event, rule);
    case 'snapshot-written':
      return countsOfSnapshot(event, rule);
    case 'verify-ended':
    case 'drill-ended':
      return countsOfVerify(event, rule);
    case 'job-started':
      return [{ name: 'QueueWaitSeconds', value: event.waitedMs / 1000, rule }];
    case 'job-done':
    case 'job-failed':
    case 'job-handed-back':
      return countsOfEnd(event, rule);
    case 'message-refused':
      return [{ name: 'MessagesRefused', value: 1 }];
    case 'run-planned':
    case 'run-late':
    case 'rule-failed':
    case 'rule-age':
    case 'repository-listed':
      return countsOfPlan(event);
    case 'prune-planned':
    case 'place-pruned':
    case 'place-postponed':
    case 'scratch-deleted':
    case 'images-planned':
    case 'image-done':
    case 'planned':
    case 'blob-started':
    case 'blob-progress':
    case 'resumed':
    case 'tagged':
    case 'referrer-refused':
    case 'retry':
    case 'warning':
    case 'note':
    case 'request-served':
    case 'run-started':
    case 'run-ended':
    case 'rule-expired':
    case 'object-extracted':
    case 'object-unchanged':
    case 'object-removed':
    case 'snapshot-published':
      return [];
    default:
      return event satisfies never;
  }
}

function countsOfVerify(
  event: Extract<Event, { readonly type: 'verify-ended' | 'drill-ended' }>,
  rule: string | undefined,
): readonly Count[] {
  const findings = { name: 'VerifyFindings', value: event.findings, rule } as const;
  if (event.type === 'drill-ended') return [{ name: 'DrillImages', value: event.equal, rule }, findings];
  return [
    { name: 'PlacesVerified', value: 1, rule },
    { name: 'VerifiedBytes', value: event.hashedBytes, rule },
    findings,
  ];
}

function countsOfSnapshot(
  { images, place }: Extract<Event, { readonly type: 'snapshot-written' }>,
  rule: string | undefined,
): readonly Count[] {
  const { stored, unchanged, failed } = images;
  const counts = [
    { name: 'SnapshotsWritten', value: 1, rule },
    { name: 'SnapshotImages', value: stored + unchanged, rule },
    { name: 'SnapshotFailures', value: failed, rule },
  ] as const;
  // archives were counted by the jobs that wrote them
  if (!place.startsWith('store:')) return counts;
  return [
    ...counts,
    { name: 'ImagesCopied', value: stored, rule },
    { name: 'ImagesUnchanged', value: unchanged, rule },
  ];
}

/** The counts for the end of an attempt. */
function countsOfEnd(
  event: Extract<Event, { readonly type: 'job-done' | 'job-failed' | 'job-handed-back' }>,
  rule: string | undefined,
): readonly Count[] {
  if (event.type === 'job-handed-back') return [{ name: 'JobsHandedBack', value: 1, rule }];
  const seconds = { name: 'JobSeconds', value: event.durationMs / 1000, rule } as const;
  if (event.type === 'job-failed')
    return [{ name: event.again ? 'JobsRetried' : 'JobsFailed', value: 1, rule, code: event.code }, seconds];
  return [
    { name: 'JobsDone', value: 1, rule },
    seconds,
    { name: 'ImagesUnchanged', value: event.unchanged && !OF_MANY.has(event.job.kind) ? 1 : 0, rule },
    { name: 'ImagesCopied', value: hasCopied(event) ? 1 : 0, rule },
  ];
}

/** The counts for one object that is published, or one item that is deleted. */
function countsOfItem(
  event: Extract<Event, { readonly type: 'object-published' | 'object-failed' | 'pruned' | 'prune-failed' }>,
  rule: string | undefined,
): readonly Count[] {
  switch (event.type) {
    case 'object-published':
      return [
        { name: 'PublishedObjects', value: 1, rule },
        { name: 'PublishedBytes', value: event.bytes, rule },
      ];
    case 'object-failed':
      return [{ name: 'PublishFailed', value: 1, rule }];
    case 'pruned':
      return [
        { name: event.kind === 'images' ? 'PrunedImages' : 'PrunedArchives', value: 1, rule },
        { name: 'PrunedBytes', value: event.bytes, rule },
      ];
    case 'prune-failed':
      return [{ name: 'PruneFailed', value: 1, rule, code: event.code }];
    default:
      return event satisfies never;
  }
}

type PlanEventName = 'run-planned' | 'run-late' | 'rule-failed' | 'rule-age' | 'repository-listed';

function countsOfPlan(event: Extract<Event, { readonly type: PlanEventName }>): readonly Count[] {
  const { rule } = event;
  switch (event.type) {
    case 'run-planned':
      return [
        { name: 'JobsPlanned', value: event.jobs, rule },
        { name: 'ImagesUnchanged', value: event.unchanged, rule },
      ];
    case 'run-late':
      return [{ name: 'RunsLate', value: 1, rule }];
    case 'rule-failed':
      return [{ name: 'RulesFailed', value: 1, rule, code: event.code }];
    case 'rule-age':
      return [
        { name: AGES[event.what], value: event.ageSeconds, rule },
        { name: 'RuleOverdueSeconds', value: event.overdueSeconds, rule },
      ];
    case 'repository-listed':
      return [{ name: 'RepositoryBytes', value: event.bytes, rule }];
    default:
      return event satisfies never;
  }
}

const AGES = {
  copy: 'LastGoodCopyAgeSeconds',
  verification: 'LastGoodVerificationAgeSeconds',
  drill: 'DrillAgeSeconds',
} as const;

/** Jobs about many images, which have events of their own. */
const OF_MANY: ReadonlySet<string> = new Set(['backup-store', 'snapshot']);
const MOVING: ReadonlySet<string> = new Set(['mirror', 'backup', 'restore']);

function hasCopied({ unchanged, gone = false, job }: Extract<Event, { type: 'job-done' }>): boolean {
  return !unchanged && !gone && MOVING.has(job.kind);
}

const BYTES_BY_OUTCOME: Readonly<Record<Outcome, MetricName | undefined>> = {
  copied: undefined,
  mounted: 'BytesMounted',
  exists: 'BytesSkipped',
  trusted: 'BytesSkipped',
  foreign: undefined,
};

/** https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html */
function lineOf({ dimensions, by, values }: Group, nowMs: number): Readonly<Record<string, unknown>> {
  const { rule, code } = dimensions;
  const sets: string[][] = [[]];
  if (by !== 'all' && rule !== undefined) sets.push(['rule']);
  if (by === 'code' && code !== undefined) sets.push(['code']);
  return {
    _aws: {
      Timestamp: nowMs,
      CloudWatchMetrics: [
        {
          Namespace: NAMESPACE,
          Dimensions: sets,
          Metrics: [...values.keys()].map((name) => ({ Name: name, Unit: METRICS[name].unit })),
        },
      ],
    },
    ...dimensions,
    ...Object.fromEntries([...values].map(([name, list]) => [name, list.length === 1 ? list[0] : list])),
  };
}
