import { Batches } from '../util/batches.ts';

/**
 * Counts down for jobs that ended, with few writes: jobs of one run that end while a write for it is under way are counted by the next one. Each
 * caller waits for the write that counts its job, so a crash loses no more than with one write for each job.
 */
export class CountDowns {
  readonly #write: (run: string, count: number) => Promise<number>;
  readonly #byRun = new Map<string, Batches<undefined, number>>();

  /** `write` subtracts `count` from the jobs of a run that are left, and returns how many are left then. */
  constructor(write: (run: string, count: number) => Promise<number>) {
    this.#write = write;
  }

  /** Counts one job. Returns how many are left after the write, which may count other jobs too. */
  async take(run: string): Promise<number> {
    const batches = this.#byRun.get(run) ?? this.#batches(run);
    try {
      return await batches.add(undefined);
    } finally {
      if (batches.isIdle) this.#byRun.delete(run);
    }
  }

  #batches(run: string): Batches<undefined, number> {
    const batches = new Batches<undefined, number>(Infinity, async (jobs) => {
      const left = await this.#write(run, jobs.length);
      return jobs.map(() => left);
    });
    this.#byRun.set(run, batches);
    return batches;
  }
}
