import type { Rules, StoredRule } from '../state/state.ts';
import type { Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';

/** How long a change of rules may take to be noticed. */
const FRESH_MS = 60_000;

/** The stored rules as they were a minute ago at most: for what comes often and is compared by a schedule all the same. */
export class RecentRules implements Pick<Rules, 'list'> {
  readonly #rules: Pick<Rules, 'list'>;
  readonly #clock: Clock;
  #read: { readonly rules: readonly StoredRule[]; readonly atMs: number } | undefined;

  constructor(rules: Pick<Rules, 'list'>, clock: Clock) {
    this.#rules = rules;
    this.#clock = clock;
  }

  /** The same objects for as long as they were not read again. */
  async list(options: Abortable = {}): Promise<readonly StoredRule[]> {
    const atMs = this.#clock.now();
    if (this.#read === undefined || atMs - this.#read.atMs >= FRESH_MS)
      this.#read = { rules: await this.#rules.list(options), atMs };
    return this.#read.rules;
  }
}
