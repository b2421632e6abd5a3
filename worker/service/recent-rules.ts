import type { Rules, StoredRule } from '../state/state.ts';
import type { Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';

/** How long a change of the rules may take to be noticed. */
const FRESH_MS = 60_000;

/** The stored rules, at most a minute old. For events, which are frequent: a run by schedule finds what one of them missed. */
export class RecentRules implements Pick<Rules, 'list'> {
  readonly #rules: Pick<Rules, 'list'>;
  readonly #clock: Clock;
  #read: { readonly rules: readonly StoredRule[]; readonly atMs: number } | undefined;

  constructor(rules: Pick<Rules, 'list'>, clock: Clock) {
    this.#rules = rules;
    this.#clock = clock;
  }

  /** Returns the same objects until the rules are read again. */
  async list(options: Abortable = {}): Promise<readonly StoredRule[]> {
    const atMs = this.#clock.now();
    if (this.#read === undefined || atMs - this.#read.atMs >= FRESH_MS)
      this.#read = { rules: await this.#rules.list(options), atMs };
    return this.#read.rules;
  }
}
