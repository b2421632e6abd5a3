import { Batches } from '../util/batches.ts';

/**
 * Counts down for jobs that ended, by few writes: those of one run that end while a write for it is under way are counted by the next one. Each
 * caller waits for the write that counts its job, so a crash loses no more than it would by one write for each.
 */
export class CountDowns {
  readonly #write: (run: string, count: number) => Promise<number>;
  readonly #byRun = new Map<string, Batches<undefined, number>>();

  /** `write` counts so many jobs of a run, and returns how many are left. */
  constructor(write: (run: string, count: number) => Promise<number>) {
    this.#write = write;
  }

  /** Counts one job. Returns how many are left, which may count others of the same write. */
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
