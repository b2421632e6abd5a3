import { parseAccess } from '../rules/config.ts';
import type { Access } from '../rules/rule.ts';
import type { Rules } from '../state/state.ts';
import type { Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import { Failure, isFailure } from '../util/failure.ts';
import type { Report } from '../util/events.ts';
import type { Ends } from '../images/backends.ts';

/** Ends for one job after another, by what was applied last of how registries are reached. Closing closes all that were opened. */
export interface CurrentEnds extends AsyncDisposable {
  /** Runs `work` with ends that stay open until it ends, also when they are replaced. INVALID for access that cannot be read. */
  use<T>(work: (ends: Ends) => Promise<T>, o?: Abortable): Promise<T>;
}

export interface CurrentEndsOptions {
  readonly rules: Pick<Rules, 'access'>;
  /** Opens ends with this access. */
  readonly connect: (access: Access) => Ends & AsyncDisposable;
  readonly clock: Clock;
  readonly report?: Report | undefined;
}

/** So long a change of access may take to be noticed. */
const FRESH_MS = 30_000;
/** Ends remember every repository that they met: after so many jobs they are made anew. */
const MAX_USES = 1000;

export function currentEnds(o: CurrentEndsOptions): CurrentEnds {
  return new FollowingEnds(o);
}

interface Opened {
  /** As it was applied; undefined: nothing was. */
  readonly document: string | undefined;
  readonly ends: Ends & AsyncDisposable;
  /** At the moment, and in all. */
  users: number;
  uses: number;
}

class FollowingEnds implements CurrentEnds {
  readonly #o: CurrentEndsOptions;
  readonly #opened = new Set<Opened>();
  #current: Opened | undefined;
  #lookedMs = -Infinity;

  constructor(o: CurrentEndsOptions) {
    this.#o = o;
  }

  async use<T>(work: (ends: Ends) => Promise<T>, o: Abortable = {}): Promise<T> {
    const isFresh = this.#o.clock.now() - this.#lookedMs < FRESH_MS;
    if (this.#current === undefined || this.#current.uses >= MAX_USES || !isFresh) await this.#look(o);
    const opened = this.#current;
    if (opened === undefined) throw new Failure('BUG', 'reach registries: everything was closed');
    opened.users++;
    opened.uses++;
    try {
      return await work(opened.ends);
    } finally {
      opened.users--;
      await this.#closeUnused();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#current = undefined;
    for (const opened of this.#opened) opened.users = 0;
    await this.#closeUnused();
  }

  async #look(o: Abortable): Promise<void> {
    const { rules, clock, connect, report } = this.#o;
    const nowMs = clock.now();
    try {
      const document = (await rules.access(o))?.document;
      // others may have looked meanwhile
      const current = this.#current;
      if (current === undefined || current.document !== document || current.uses >= MAX_USES) {
        const ends = connect(document === undefined ? {} : parseAccess(document));
        this.#current = { document, ends, users: 0, uses: 0 };
        this.#opened.add(this.#current);
      }
      this.#lookedMs = nowMs;
    } catch (error) {
      // a table that does not answer for a while keeps nobody from reaching what could be reached before
      if (this.#current === undefined || !isFailure(error) || !error.retryable) throw error;
      const message = `look whether the access to registries has changed: ${error.message}; it stays as it was`;
      report?.({ type: 'warning', message });
    }
    await this.#closeUnused();
  }

  async #closeUnused(): Promise<void> {
    for (const opened of this.#opened) {
      if (opened === this.#current || opened.users > 0) continue;
      this.#opened.delete(opened);
      await opened.ends[Symbol.asyncDispose]();
    }
  }
}
