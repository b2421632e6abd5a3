import type { Run, Runs } from '../../state/state.ts';
import type { Abortable } from '../../util/abort.ts';

/** How many items a run may still delete. The state counts them, so that all processes that go on with a run delete no more than one would. */
export class Budget {
  readonly #run: string;
  readonly #runs: Pick<Runs, 'addDeletes'>;
  #left: number;

  constructor(run: Pick<Run, 'id' | 'deletes'>, maxDeletes: number, runs: Pick<Runs, 'addDeletes'>) {
    this.#run = run.id;
    this.#runs = runs;
    this.#left = Math.max(0, maxDeletes - (run.deletes ?? 0));
  }

  get left(): number {
    return Math.max(0, this.#left);
  }

  /** So many are about to be deleted. Not idempotent. */
  async take(count: number, options: Abortable): Promise<void> {
    await this.#runs.addDeletes(this.#run, count, options);
    this.#left -= count;
  }

  /** So many of them were not deleted. Not idempotent. */
  async giveBack(count: number, options: Abortable): Promise<void> {
    if (count !== 0) await this.take(-count, options);
  }
}
