import { AsyncLocalStorage } from 'node:async_hooks';
import type { Clock } from '../util/clock.ts';
import type { JobName, Report } from '../util/events.ts';
import { startLogs, type LogLevel } from './logs.ts';
import { startMetrics } from './metrics.ts';
import type { Sink } from './sink.ts';

export interface TelemetryOptions {
  /** Takes whole lines, each with its end. Does not throw. */
  readonly write: (line: string) => void;
  readonly level: LogLevel;
  readonly clock: Clock;
}

/** What a process of the deployed system reports about its work: lines of logs, and lines of metrics. */
export interface Telemetry {
  /** Takes what belongs to a job; without one, what belongs to none, or to that of `inJob`. */
  readonly reportOf: (job: JobName | undefined) => Report;
  /**
   * Runs the work of at most one job. What is reported meanwhile without a job, by anything it calls, belongs to the job whose start was
   * reported in it: connections are shared by jobs, and their retries do not say whose they are.
   */
  readonly inJob: <T>(work: () => Promise<T>) => Promise<T>;
  /** Writes the metrics that were counted and not written yet. */
  readonly flush: () => void;
}

/** Logs and metrics of one stream of events, on one stream of lines. */
export function startTelemetry(options: TelemetryOptions): Telemetry {
  const scope = new AsyncLocalStorage<{ job?: JobName }>();
  const metrics = startMetrics(options);
  const sink = both(startLogs(options), metrics.sink);
  return {
    reportOf: (job) => (event) => {
      const current = scope.getStore();
      if (current !== undefined && event.type === 'job-started') current.job = event.job;
      sink(event, 'job' in event ? event.job : (job ?? current?.job));
    },
    inJob: async (work) => scope.run({}, work),
    flush: metrics.flush,
  };
}

function both(a: Sink, b: Sink): Sink {
  return (event, job) => {
    a(event, job);
    b(event, job);
  };
}
