import { describe, expect, test } from 'vitest';
import { startTelemetry, type Telemetry } from '../../../worker/telemetry/telemetry.ts';
import type { LogLevel } from '../../../worker/telemetry/logs.ts';
import type { Event, JobName, Report } from '../../../worker/util/events.ts';
import { fakeClock } from '../../support/clock.ts';

interface Telling extends Telemetry {
  readonly report: Report;
  /** Lines of the log. */
  readonly logged: Readonly<Record<string, unknown>>[];
  readonly metrics: Readonly<Record<string, unknown>>[];
}

function telling(level: LogLevel = 'info'): Telling {
  const logged: Readonly<Record<string, unknown>>[] = [];
  const metrics: Readonly<Record<string, unknown>>[] = [];
  const write = (line: string): void => {
    expect(line.endsWith('\n')).toBe(true);
    const parsed = JSON.parse(line) as Readonly<Record<string, unknown>>;
    (parsed['_aws'] === undefined ? logged : metrics).push(parsed);
  };
  const telemetry = startTelemetry({ write, level, clock: fakeClock() });
  return { ...telemetry, report: telemetry.reportOf(undefined), logged, metrics };
}

const named = (id: string): JobName => ({
  kind: 'backup',
  id,
  run: 'r1',
  rule: 'products',
  title: 'docker://a/b:1 → s3://c/b.tar',
});
const BLOB: Event = { type: 'blob-done', digest: 'sha256:0', bytes: 10, outcome: 'mounted' };

test('a line has its time, its level, its text and its job', () => {
  const { report, logged } = telling();
  report({ type: 'job-done', job: named('j1'), durationMs: 12, unchanged: false });
  expect(logged).toEqual([
    {
      level: 'info',
      time: '2026-01-01T00:00:00.000Z',
      event: 'job-done',
      job: 'j1',
      run: 'r1',
      rule: 'products',
      kind: 'backup',
      reference: 'docker://a/b:1 → s3://c/b.tar',
      durationMs: 12,
      unchanged: false,
    },
  ]);
});

describe('the level', () => {
  const events: readonly Event[] = [
    BLOB,
    { type: 'job-started', job: named('j1'), attempt: 1, waitedMs: 0 },
    { type: 'warning', message: 'w' },
    { type: 'job-failed', job: named('j1'), durationMs: 1, code: 'UNAVAILABLE', message: 'm', again: true },
    { type: 'job-failed', job: named('j1'), durationMs: 1, code: 'DENIED', message: 'm', again: false },
    { type: 'run-late', run: 'r', rule: 'products', dead: false, message: 'm' },
  ];
  const levels = ['debug', 'info', 'warn', 'warn', 'error', 'error'];

  test.each([
    ['debug', 0],
    ['info', 1],
    ['warn', 2],
    ['error', 4],
  ] as const)('%s leaves out lower levels', (level, from) => {
    const { report, logged } = telling(level);
    for (const event of events) report(event);
    expect(logged.map((line) => line['level'])).toEqual(levels.slice(from));
  });
});

describe('an event without a job of its own', () => {
  test('belongs to the job during which it happened, and to none outside of one', async () => {
    const { report, inJob, logged, metrics, flush } = telling('debug');
    const gate = Promise.withResolvers<void>();
    const job = async (id: string): Promise<void> =>
      inJob(async () => {
        report({ type: 'job-started', job: named(id), attempt: 1, waitedMs: 0 });
        await gate.promise;
        report(BLOB);
      });
    const jobs = [job('j1'), job('j2')];
    gate.resolve();
    await Promise.all(jobs);
    report(BLOB);
    await inJob(async () => report(BLOB));
    const blobs = logged.filter(({ event }) => event === 'blob-done');
    expect(blobs.map((line) => line['job'])).toEqual(['j1', 'j2', undefined, undefined]);
    flush();
    expect(metrics.map((line) => [line['rule'], line['BytesMounted']])).toEqual([
      ['products', 20],
      [undefined, 20],
    ]);
  });
});

test('belongs to the job that it names', () => {
  const { reportOf, logged } = telling('debug');
  reportOf(named('j1'))(BLOB);
  expect(logged).toMatchObject([{ event: 'blob-done', job: 'j1', bytes: 10 }]);
});

test('is written without signatures and credentials', () => {
  const { report, logged } = telling();
  const secrets = [
    'GET https://bucket.s3.amazonaws.com/key?X-Amz-Signature=hush&X-Amz-Credential=hush answered 403',
    'sent Authorization: Bearer hush0123456789 and Basic hush0123456789=',
    'reach https://ann:hush@registry.example/v2/ failed',
  ];
  for (const message of secrets) report({ type: 'warning', message });
  report({ type: 'retry', what: secrets[0] ?? '', attempt: 1, delayMs: 1, code: 'UNAVAILABLE', message: 'm' });
  report({
    type: 'job-failed',
    job: { ...named('j1'), title: 'docker://a/b:1 → https://ann:hush@c/' },
    durationMs: 1,
    code: 'DENIED',
    message: secrets[2] ?? '',
    again: false,
  });
  expect(logged).toHaveLength(5);
  expect(JSON.stringify(logged)).not.toContain('hush');
});
