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

/** The mark of a drill's scratch repositories: the same for every attempt, and only of characters that AWS tags accept. */
export function markOfDrill({ run, id, at }: Pick<VerifyJob, 'run' | 'id' | 'at'>): string {
  return `${run}/${id}/${at}`;
}

/** Reads the mark of a worker's drill. Undefined for any other mark, such as that of a command. */
export function parseDrillMark(mark: string): MarkedDrill | undefined {
  const [run, job, at, ...more] = mark.split('/');
  const atMs = Date.parse(at ?? '');
  return run === undefined || job === undefined || Number.isNaN(atMs) || more.length > 0
    ? undefined
    : { run, job, atMs };
}

/**
 * Whether the drill is over: its job has ended, or has not changed for a day, which is longer than a message exists. A job that the state does not
 * have may belong to another deployment, so its drill is over when it is a week old.
 */
export function isDrillOver({ atMs }: MarkedDrill, job: JobRecord | undefined, nowMs: number): boolean {
  if (job === undefined) return nowMs - atMs > 7 * DAY_MS;
  const isOpen = job.state === 'waiting' || job.state === 'running';
  return !isOpen || nowMs - job.changedAtMs > DAY_MS;
}
