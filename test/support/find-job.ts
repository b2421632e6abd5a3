import type { JobRecord, RunReader } from '../../worker/state/state.ts';

/** One job of a run, as the list of its jobs has it. Undefined if the run or the job is unknown. */
export async function findJob(runs: RunReader, run: string, id: string): Promise<JobRecord | undefined> {
  for await (const job of runs.jobs(run)) if (job.id === id) return job;
  return undefined;
}
