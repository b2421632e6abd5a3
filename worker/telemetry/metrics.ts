import type { Clock } from '../util/clock.ts';
import type { Outcome } from '../util/events.ts';
import type { Sink } from './sink.ts';

export interface Metric {
  readonly unit: 'Count' | 'Bytes' | 'Seconds';
  /** `all`: of everything together. `rule`: also of each rule. `code`: also of each rule, and of each code of failure. */
  readonly by: 'all' | 'rule' | 'code';
  readonly meaning: string;
}

const NAMESPACE = 'Transship';

/** Every metric there is. docs/metrics.md is this table for readers, and a test holds them equal. */
export const METRICS = {
  ImagesCopied: { unit: 'Count', by: 'rule', meaning: 'jobs that copied an image, backed it up or restored it' },
  ImagesUnchanged: { unit: 'Count', by: 'rule', meaning: 'images that needed nothing, found by planner or worker' },
  BytesCopied: { unit: 'Bytes', by: 'rule', meaning: 'of blobs and manifests that were sent' },
  BytesMounted: { unit: 'Bytes', by: 'rule', meaning: 'of blobs that the registry took from a repository of its own' },
  BytesSkipped: { unit: 'Bytes', by: 'rule', meaning: 'of blobs and manifests that were there already' },
  JobsDone: { unit: 'Count', by: 'rule', meaning: 'jobs of any kind that succeeded' },
  JobsFailed: { unit: 'Count', by: 'code', meaning: 'jobs that failed for good: each is one dead letter' },
  JobsRetried: { unit: 'Count', by: 'code', meaning: 'tries that failed and are made again' },
  JobsHandedBack: { unit: 'Count', by: 'rule', meaning: 'jobs given back unfinished by a worker that was stopped' },
  JobSeconds: { unit: 'Seconds', by: 'rule', meaning: 'how long a job took, however it ended' },
  QueueWaitSeconds: { unit: 'Seconds', by: 'rule', meaning: 'from when a job was asked for to when a worker began it' },
  JobsPlanned: { unit: 'Count', by: 'rule', meaning: 'jobs that a run of the rule made' },
  LastGoodCopyAgeSeconds: { unit: 'Seconds', by: 'rule', meaning: 'since the last run without a failure had started' },
  RunsLate: { unit: 'Count', by: 'rule', meaning: 'ticks at which the run before was going on or declared dead' },
  RulesFailed: { unit: 'Count', by: 'code', meaning: 'rules that could not be planned' },
  MessagesRefused: { unit: 'Count', by: 'all', meaning: 'messages that are no job: each is one dead letter' },
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
/** So that many rules do not fill the memory between two jobs' ends. */
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

  const add = (name: MetricName, value: number, dimensions: Dimensions = {}): void => {
    if (value === 0 && METRICS[name].unit !== 'Seconds') return;
    const { unit, by } = METRICS[name];
    const key = JSON.stringify([by, dimensions.rule, dimensions.code]);
    const group = groups.get(key) ?? { by, dimensions, values: new Map<MetricName, number[]>() };
    groups.set(key, group);
    const values = group.values.get(name) ?? [];
    group.values.set(name, values);
    if (unit === 'Seconds' || values.length === 0) values.push(value);
    else values[0] = (values[0] ?? 0) + value;
    if (values.length === MAX_VALUES || groups.size === MAX_GROUPS) flush();
  };

  const sink: Sink = (event, job) => {
    const rule = { rule: job?.rule };
    switch (event.type) {
      case 'blob-done':
      case 'manifest-done': {
        const name = BYTES_BY_OUTCOME[event.outcome];
        if (name !== undefined) add(name, event.bytes, rule);
        break;
      }
      case 'job-started':
        add('QueueWaitSeconds', event.waitedMs / 1000, rule);
        break;
      case 'job-done':
        add('JobsDone', 1, rule);
        add('JobSeconds', event.durationMs / 1000, rule);
        if (event.unchanged) add('ImagesUnchanged', 1, rule);
        else if (MOVING.has(event.job.kind)) add('ImagesCopied', 1, rule);
        flush();
        break;
      case 'job-failed':
        add(event.again ? 'JobsRetried' : 'JobsFailed', 1, { ...rule, code: event.code });
        add('JobSeconds', event.durationMs / 1000, rule);
        flush();
        break;
      case 'job-handed-back':
        add('JobsHandedBack', 1, rule);
        flush();
        break;
      case 'message-refused':
        add('MessagesRefused', 1);
        flush();
        break;
      case 'run-planned':
        add('JobsPlanned', event.jobs, { rule: event.rule });
        add('ImagesUnchanged', event.unchanged, { rule: event.rule });
        break;
      case 'run-late':
        add('RunsLate', 1, { rule: event.rule });
        break;
      case 'rule-failed':
        add('RulesFailed', 1, { rule: event.rule, code: event.code });
        break;
      case 'rule-age':
        add('LastGoodCopyAgeSeconds', event.ageSeconds, { rule: event.rule });
        break;
      case 'planned':
      case 'blob-started':
      case 'blob-progress':
      case 'tagged':
      case 'referrer-refused':
      case 'retry':
      case 'warning':
      case 'note':
      case 'run-started':
      case 'run-ended':
      case 'rule-expired':
        break;
      default:
        event satisfies never;
    }
    if (groups.size > 0 && options.clock.now() - flushedMs >= FLUSH_MS) flush();
  };
  return { sink, flush };
}

const MOVING: ReadonlySet<string> = new Set(['mirror', 'backup', 'restore']);

const BYTES_BY_OUTCOME: Readonly<Record<Outcome, MetricName | undefined>> = {
  copied: 'BytesCopied',
  mounted: 'BytesMounted',
  exists: 'BytesSkipped',
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
