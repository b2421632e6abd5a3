import type { Run, Runs } from '../../state/state.ts';
import type { Abortable } from '../../util/abort.ts';

/** How much a run may still delete. The state has it, so that a run that goes on in another process deletes no more than one that does not. */
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

  /** So much is about to be deleted. */
  async take(count: number, options: Abortable): Promise<void> {
    await this.#runs.addDeletes(this.#run, count, options);
    this.#left -= count;
  }

  /** So much of it was not deleted. */
  async giveBack(count: number, options: Abortable): Promise<void> {
    if (count !== 0) await this.take(-count, options);
  }
}
