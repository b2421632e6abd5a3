import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { METRICS, startMetrics } from '../../../worker/telemetry/metrics.ts';
import type { JobName } from '../../../worker/util/events.ts';
import { fakeClock, type FakeClock } from '../../support/clock.ts';

interface Line {
  readonly _aws: {
    readonly Timestamp: number;
    readonly CloudWatchMetrics: readonly {
      readonly Namespace: string;
      readonly Dimensions: readonly (readonly string[])[];
      readonly Metrics: readonly { readonly Name: string; readonly Unit: string }[];
    }[];
  };
  readonly [name: string]: unknown;
}

function metering(): ReturnType<typeof startMetrics> & { readonly lines: Line[]; readonly clock: FakeClock } {
  const lines: Line[] = [];
  const clock = fakeClock();
  return { ...startMetrics({ write: (line) => lines.push(JSON.parse(line) as Line), clock }), lines, clock };
}

const JOB: JobName = { kind: 'mirror', id: 'j1', run: 'r1', rule: 'hub', title: 'docker://a/b:1 → docker://c/b:1' };
const BY_HAND: JobName = { kind: 'backup', id: 'j2', run: 'r2', title: 'docker://a/b:1 → s3://c/b.tar' };
const DIGEST = 'sha256:0';

/** The sum of a metric over all lines with these dimensions, as CloudWatch shows it. */
function sum(lines: readonly Line[], name: string, dimensions: Readonly<Record<string, string>> = {}): number {
  const set = Object.keys(dimensions);
  return lines
    .filter(
      (line) =>
        line._aws.CloudWatchMetrics.some(({ Dimensions }) => Dimensions.some((d) => d.join() === set.join())) &&
        set.every((key) => line[key] === dimensions[key]),
    )
    .flatMap((line) => (line[name] ?? 0) as number | number[])
    .reduce((total, value) => total + value, 0);
}

test('objects count once each, with their bytes, in all and for their rule', () => {
  const { sink, lines, flush } = metering();
  const common = { digest: DIGEST, outcome: 'copied' } as const;
  for (const bytes of [5, 0]) sink({ type: 'object-published', key: `k${bytes}`, bytes, ...common }, JOB);
  sink({ type: 'object-unchanged', key: 'same' }, JOB);
  sink({ type: 'object-failed', key: 'bad', code: 'DENIED', message: 'no' }, JOB);
  flush();
  for (const dimensions of [{}, { rule: 'hub' }])
    expect(['PublishedObjects', 'PublishedBytes', 'PublishFailed'].map((name) => sum(lines, name, dimensions))).toEqual(
      [2, 5, 1],
    );
});

test('a dead run without a rule counts in all: CloudWatch drops a line with an empty dimension', () => {
  const { sink, lines, flush } = metering();
  sink({ type: 'run-late', run: 'request-1', rule: undefined, dead: true, message: 'it is dead' }, undefined);
  flush();
  expect(lines).toMatchObject([{ RunsLate: 1, _aws: { CloudWatchMetrics: [{ Dimensions: [[]] }] } }]);
});

test('a job is one line: what it sent, how long it took and how long it waited, in all and for its rule', () => {
  const { sink, lines, clock } = metering();
  sink({ type: 'job-started', job: JOB, attempt: 1, waitedMs: 1500 }, JOB);
  sink({ type: 'bytes-sent', bytes: 100 }, JOB);
  // 40 of them were sent before
  sink({ type: 'blob-done', digest: DIGEST, bytes: 140, outcome: 'copied' }, JOB);
  sink({ type: 'blob-done', digest: DIGEST, bytes: 30, outcome: 'mounted' }, JOB);
  sink({ type: 'blob-done', digest: DIGEST, bytes: 5, outcome: 'exists' }, JOB);
  sink({ type: 'blob-done', digest: DIGEST, bytes: 7, outcome: 'foreign' }, JOB);
  sink({ type: 'bytes-sent', bytes: 1 }, JOB);
  expect(lines).toEqual([]);
  sink({ type: 'job-done', job: JOB, durationMs: 2500, unchanged: false }, JOB);
  const named = (Name: string, Unit: string): object => ({ Name, Unit });
  expect(lines).toEqual([
    {
      _aws: {
        Timestamp: clock.now(),
        CloudWatchMetrics: [
          {
            Namespace: 'Transship',
            Dimensions: [[], ['rule']],
            Metrics: [
              named('QueueWaitSeconds', 'Seconds'),
              named('BytesCopied', 'Bytes'),
              named('BytesMounted', 'Bytes'),
              named('BytesSkipped', 'Bytes'),
              named('JobsDone', 'Count'),
              named('JobSeconds', 'Seconds'),
              named('ImagesCopied', 'Count'),
            ],
          },
        ],
      },
      rule: 'hub',
      QueueWaitSeconds: 1.5,
      BytesCopied: 101,
      BytesMounted: 30,
      BytesSkipped: 5,
      JobsDone: 1,
      JobSeconds: 2.5,
      ImagesCopied: 1,
    },
  ]);
});

test('a failure counts in all, by its rule and by its code, each once', () => {
  const { sink, lines } = metering();
  const failed = { type: 'job-failed', job: JOB, durationMs: 10, code: 'DENIED', message: 'no' } as const;
  sink({ ...failed, again: false }, JOB);
  sink({ ...failed, code: 'UNAVAILABLE', again: true }, JOB);
  expect(sum(lines, 'JobsFailed')).toBe(1);
  expect(sum(lines, 'JobsFailed', { rule: 'hub' })).toBe(1);
  expect(sum(lines, 'JobsFailed', { code: 'DENIED' })).toBe(1);
  expect(sum(lines, 'JobsFailed', { code: 'UNAVAILABLE' })).toBe(0);
  expect(sum(lines, 'JobsRetried', { code: 'UNAVAILABLE' })).toBe(1);
  expect(sum(lines, 'JobSeconds', { rule: 'hub' })).toBeCloseTo(0.02);
});

test('work without a rule counts in all only', () => {
  const { sink, lines } = metering();
  sink({ type: 'job-done', job: BY_HAND, durationMs: 10, unchanged: false }, BY_HAND);
  sink({ type: 'message-refused', message: 'not JSON' }, undefined);
  expect(lines.map(({ _aws }) => _aws.CloudWatchMetrics[0]?.Dimensions)).toEqual([[[]], [[]]]);
  expect([sum(lines, 'ImagesCopied'), sum(lines, 'MessagesRefused')]).toEqual([1, 1]);
});

test('an image that needed nothing, and a job without images, do not count as copied images', () => {
  const { sink, lines } = metering();
  const verify = { ...JOB, kind: 'verify' };
  sink({ type: 'job-done', job: JOB, durationMs: 1, unchanged: true }, JOB);
  sink({ type: 'job-done', job: verify, durationMs: 1, unchanged: false }, verify);
  sink({ type: 'run-planned', run: 'r', rule: 'hub', jobs: 0, unchanged: 40, unseen: 0, continued: false }, undefined);
  sink({ type: 'run-ended', run: 'r', rule: 'hub', failed: 0 }, undefined);
  sink({ type: 'message-refused', message: '' }, undefined);
  expect([sum(lines, 'ImagesCopied'), sum(lines, 'ImagesUnchanged'), sum(lines, 'JobsDone')]).toEqual([0, 41, 2]);
});

test('a rule that verifies counts its findings, and its age is not one of copies', () => {
  const { sink, lines, flush } = metering();
  const ended = { type: 'verify-ended', place: 's3://a/', depth: 'bytes', names: { checked: 1, of: 1 } } as const;
  for (const findings of [0, 2]) sink({ ...ended, hashedBytes: 3, findings, complete: true }, JOB);
  sink({ type: 'rule-age', rule: 'hub', what: 'verification', ageSeconds: 60, overdueSeconds: 0 }, undefined);
  flush();
  const rule = { rule: 'hub' };
  expect(['PlacesVerified', 'VerifiedBytes', 'VerifyFindings'].map((name) => sum(lines, name, rule))).toEqual([
    2, 6, 2,
  ]);
  expect(sum(lines, 'LastGoodVerificationAgeSeconds', rule)).toBe(60);
  expect(sum(lines, 'LastGoodCopyAgeSeconds', rule)).toBe(0);
});

test('the sizes of two repositories are two values, so that the largest can be had', () => {
  const { sink, lines, flush } = metering();
  for (const [repository, bytes] of [['r/a', 5] as const, ['r/b', 7] as const])
    sink({ type: 'repository-listed', rule: 'hub', repository, images: 1, bytes }, undefined);
  flush();
  expect(lines).toMatchObject([{ rule: 'hub', RepositoryBytes: [5, 7] }]);
});

describe('lines', () => {
  test('of a long job are written every minute, as long as something happens', async () => {
    const { sink, lines, clock } = metering();
    sink({ type: 'bytes-sent', bytes: 100 }, JOB);
    await clock.sleep(59_999);
    sink({ type: 'blob-progress', digest: DIGEST, bytes: 1 }, JOB);
    expect(lines).toEqual([]);
    await clock.sleep(1);
    sink({ type: 'blob-progress', digest: DIGEST, bytes: 1 }, JOB);
    expect(sum(lines, 'BytesCopied', { rule: 'hub' })).toBe(100);
    await clock.sleep(60_000);
    sink({ type: 'blob-progress', digest: DIGEST, bytes: 1 }, JOB);
    expect(lines).toHaveLength(1);
  });

  test('are completed by a flush, once', () => {
    const { sink, flush, lines } = metering();
    sink({ type: 'rule-age', rule: 'hub', what: 'copy', ageSeconds: 7200, overdueSeconds: 3600 }, undefined);
    expect(lines).toEqual([]);
    flush();
    flush();
    expect([lines.length, sum(lines, 'LastGoodCopyAgeSeconds', { rule: 'hub' })]).toEqual([1, 7200]);
  });

  test('keep within the limits of CloudWatch, and lose nothing, whatever is counted', () => {
    const event = fc.record({ rule: fc.constantFrom('a', 'b', 'c'), waitedMs: fc.nat(100_000), jobs: fc.nat(5) });
    fc.assert(
      fc.property(fc.array(event, { maxLength: 400 }), (events) => {
        const { sink, flush, lines } = metering();
        for (const { rule, waitedMs, jobs } of events) {
          const job = { ...JOB, rule };
          sink({ type: 'job-started', job, attempt: 1, waitedMs }, job);
          sink({ type: 'run-planned', run: 'r', rule, jobs, unchanged: 0, unseen: 0, continued: false }, undefined);
        }
        flush();
        const waited = events.reduce((total, { waitedMs }) => total + waitedMs / 1000, 0);
        expect(sum(lines, 'QueueWaitSeconds')).toBeCloseTo(waited, 3);
        expect(sum(lines, 'JobsPlanned')).toBe(events.reduce((total, { jobs }) => total + jobs, 0));
        for (const line of lines) {
          const { Metrics = [] } = line._aws.CloudWatchMetrics[0] ?? {};
          expect(Metrics.length).toBeLessThanOrEqual(100);
          for (const { Name } of Metrics) expect([line[Name]].flat().length).toBeLessThanOrEqual(100);
        }
      }),
      { numRuns: 30 },
    );
  });
});

test('docs/metrics.md documents every metric as it is', () => {
  const dimensions = { all: '-', rule: '`rule`', code: '`rule`, `code`' };
  const rows = readFileSync('docs/metrics.md', 'utf8')
    .split('\n')
    .filter((row) => /^\| [A-Z]/.test(row));
  expect(rows).toEqual(
    Object.entries(METRICS).map(
      ([name, { unit, by, meaning }]) => `| ${name} | ${unit} | ${dimensions[by]} | ${meaning} |`,
    ),
  );
});
