/**
 * Counts down for jobs that ended, by few writes: those of one run that end while a write for it is under way are counted by the next one. Each
 * caller waits for the write that counts its job, so a crash loses no more than it would by one write for each.
 */
export class CountDowns {
  readonly #write: (run: string, count: number) => Promise<number>;
  readonly #lanes = new Map<string, Lane>();

  /** `write` counts so many jobs of a run, and returns how many are left. */
  constructor(write: (run: string, count: number) => Promise<number>) {
    this.#write = write;
  }

  /** Counts one job. Returns how many are left, which may count others of the same write. */
  async take(run: string): Promise<number> {
    const lane = this.#lanes.get(run) ?? { count: 0, underway: 0, next: undefined, last: Promise.resolve() };
    this.#lanes.set(run, lane);
    lane.count++;
    lane.underway++;
    lane.next ??= this.#startAfter(lane.last, run, lane);
    try {
      return await lane.next;
    } finally {
      lane.underway--;
      if (lane.underway === 0) this.#lanes.delete(run);
    }
  }

  async #startAfter(last: Promise<unknown>, run: string, lane: Lane): Promise<number> {
    // also where the last one failed: its callers know
    await last.catch(() => undefined);
    const { count, next } = lane;
    lane.count = 0;
    lane.next = undefined;
    if (next !== undefined) lane.last = next;
    return this.#write(run, count);
  }
}

/** The writes for one run. */
interface Lane {
  /** Jobs that the next write counts. */
  count: number;
  /** Jobs that wait for a write. */
  underway: number;
  /** The write that has not begun. */
  next: Promise<number> | undefined;
  /** The write that began last. */
  last: Promise<unknown>;
}
