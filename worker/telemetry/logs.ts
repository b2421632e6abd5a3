import { pino } from 'pino';
import type { Clock } from '../util/clock.ts';
import { redacted } from '../util/text.ts';
import type { Event } from '../util/events.ts';
import type { Sink } from './sink.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export interface LogOptions {
  /** Takes whole lines, each with its end. */
  readonly write: (line: string) => void;
  /** What is less important is left out. */
  readonly level: LogLevel;
  readonly clock: Clock;
}

/**
 * Every event as one line of JSON: `level`, `time` (ISO 8601), `event`, then `job`, `run`, `rule` and `reference` where it belongs to a job, then the
 * members of the event itself. Text is written without what signs or proves. Written at once, by this thread.
 */
export function startLogs(options: LogOptions): Sink {
  const logger = pino(
    {
      level: options.level,
      base: null,
      messageKey: 'message',
      timestamp: () => `,"time":"${new Date(options.clock.now()).toISOString()}"`,
      formatters: { level: (level) => ({ level }) },
    },
    { write: options.write },
  );
  return (event, job) => {
    const level = levelOf(event);
    if (!logger.isLevelEnabled(level)) return;
    const { type, ...said } = event;
    const fields: Record<string, unknown> = { event: type };
    if (job !== undefined) {
      const { id, run, rule, kind, title } = job;
      Object.assign(fields, { job: id, run, rule, kind, reference: redacted(title) });
    }
    for (const [name, value] of Object.entries(said)) {
      if (name !== 'job') fields[name] = typeof value === 'string' ? redacted(value) : value;
    }
    logger[level](fields);
  };
}

/**
 * `error` is for what you have to look at, `warn` for what you may want to look at. A failure that does not pass by itself is only tried again
 * because its caller may not give up.
 */
function levelOf(event: Event): LogLevel {
  switch (event.type) {
    case 'images-planned':
    case 'planned':
    case 'blob-started':
    case 'blob-progress':
    case 'bytes-sent':
    case 'blob-done':
    case 'manifest-done':
    case 'tagged':
    case 'object-unchanged':
      return 'debug';
    case 'image-done':
      return event.outcome === 'failed' ? 'warn' : 'debug';
    case 'request-served':
      return event.message === undefined ? 'info' : 'warn';
    case 'job-started':
    case 'job-done':
    case 'job-handed-back':
    case 'run-started':
    case 'run-planned':
    case 'rule-age':
    case 'repository-listed':
    case 'resumed':
    case 'prune-planned':
    case 'place-pruned':
    case 'place-postponed':
    case 'scratch-deleted':
    case 'note':
    case 'object-published':
    case 'object-extracted':
    case 'object-removed':
    case 'pruned':
      return 'info';
    case 'snapshot-written':
      return event.images.failed === 0 ? 'info' : 'warn';
    case 'verify-ended':
    case 'drill-ended':
      return event.findings === 0 ? 'info' : 'error';
    case 'retry':
      return event.code === 'UNAVAILABLE' || event.code === 'THROTTLED' ? 'info' : 'warn';
    case 'snapshot-published':
    case 'run-ended':
      return event.failed === 0 ? 'info' : 'warn';
    case 'job-failed':
      return event.again ? 'warn' : 'error';
    case 'warning':
    case 'referrer-refused':
    case 'rule-expired':
    case 'object-failed':
    case 'prune-failed':
      return 'warn';
    case 'message-refused':
    case 'run-late':
    case 'rule-failed':
      return 'error';
    default:
      return event satisfies never;
  }
}
