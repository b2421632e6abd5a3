import type { Run } from '../../worker/state/state.ts';

/** The kinds of jobs that are shown: the others plan, and write snapshots. */
export const COPIES: ReadonlySet<string> = new Set(['backup', 'mirror', 'publish']);

/** The members of a line of a worker's log that the demo uses. */
interface WorkerLine {
  readonly event: string;
  readonly kind: string;
  readonly reference: string;
  readonly durationMs: number;
  readonly message: string;
}

/** Parses a line of a worker's log. */
export function parseWorkerLine(line: string): WorkerLine {
  return {
    event: '',
    kind: '',
    reference: '',
    durationMs: 0,
    message: '',
    ...(JSON.parse(line) as Partial<WorkerLine>),
  };
}

/** What became of the jobs of runs. */
export function described(runs: readonly Run[]): string {
  const sum = (count: (run: Run) => number): number => runs.reduce((all, run) => all + count(run), 0);
  const done = sum((run) => run.jobs.done);
  return `${done} done, ${sum((run) => run.unchanged + run.jobs.skipped)} unchanged, ${sum((run) => run.jobs.failed)} failed`;
}
