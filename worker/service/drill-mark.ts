import type { VerifyJob } from '../queue/job.ts';
import type { JobRecord } from '../state/state.ts';

/** The job that a mark names. */
export interface MarkedDrill {
  readonly run: string;
  readonly job: string;
  /** When the drill was asked for, in milliseconds since 1970. */
  readonly atMs: number;
}

const DAY_MS = 24 * 60 * 60 * 1000;

/** What the scratch repositories of a drill are marked with: the same for every attempt. Characters that tags of AWS take. */
export function markOfDrill({ run, id, at }: Pick<VerifyJob, 'run' | 'id' | 'at'>): string {
  return `${run}/${id}/${at}`;
}

/** Reads the mark of a worker's drill. Undefined for any other, such as that of a command. */
export function parseDrillMark(mark: string): MarkedDrill | undefined {
  const [run, job, at, ...more] = mark.split('/');
  const atMs = Date.parse(at ?? '');
  return run === undefined || job === undefined || Number.isNaN(atMs) || more.length > 0
    ? undefined
    : { run, job, atMs };
}

/**
 * Whether no worker does the drill any more: its job has ended, or has not changed for a day, which is longer than a message lives. A job that the state does
 * not know may be that of another deployment until it is a week old.
 */
export function isDrillOver({ atMs }: MarkedDrill, job: JobRecord | undefined, nowMs: number): boolean {
  if (job === undefined) return nowMs - atMs > 7 * DAY_MS;
  const isOpen = job.state === 'waiting' || job.state === 'running';
  return !isOpen || nowMs - job.changedAtMs > DAY_MS;
}
