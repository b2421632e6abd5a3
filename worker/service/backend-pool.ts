import { parseAccess } from '../rules/config.ts';
import type { Access } from '../rules/rule.ts';
import type { Rules } from '../state/state.ts';
import type { Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import { Failure, isFailure } from '../util/failure.ts';
import type { Report } from '../util/events.ts';
import type { Backends } from '../images/backends.ts';

/** Backends for one job after another, with the access to registries that was applied last. Closing closes all that were opened. */
export interface BackendPool<B extends Backends = Backends> extends AsyncDisposable {
  /** Runs `work` with backends that stay open until it ends, also when they are replaced. INVALID for access that cannot be read. */
  use<T>(work: (backends: B) => Promise<T>, options?: Abortable): Promise<T>;
}

export interface BackendPoolOptions<B extends Backends> {
  readonly rules: Pick<Rules, 'access'>;
  /** Opens backends with this access. */
  readonly connect: (access: Access) => B & AsyncDisposable;
  readonly clock: Clock;
  readonly report?: Report | undefined;
}

/** How long a change of access may take to be noticed. */
const FRESH_MS = 30_000;
/** Backends remember every repository that they met, so they are replaced after this many jobs. */
const MAX_USES = 1000;

/** Opens a pool. No request is sent to the state before the first use. */
export function openBackendPool<B extends Backends>(options: BackendPoolOptions<B>): BackendPool<B> {
  return new CurrentBackends(options);
}

interface Opened<B extends Backends> {
  /** As it was applied; undefined: nothing was. */
  readonly document: string | undefined;
  readonly backends: B & AsyncDisposable;
  /** Jobs that use them now. */
  users: number;
  /** Jobs that have used them, in all. */
  uses: number;
}

class CurrentBackends<B extends Backends> implements BackendPool<B> {
  readonly #options: BackendPoolOptions<B>;
  readonly #opened = new Set<Opened<B>>();
  #current: Opened<B> | undefined;
  #lookedMs = -Infinity;

  constructor(options: BackendPoolOptions<B>) {
    this.#options = options;
  }

  async use<T>(work: (backends: B) => Promise<T>, options: Abortable = {}): Promise<T> {
    const isFresh = this.#options.clock.now() - this.#lookedMs < FRESH_MS;
    if (this.#current === undefined || this.#current.uses >= MAX_USES || !isFresh) await this.#look(options);
    const opened = this.#current;
    if (opened === undefined) throw new Failure('BUG', 'reach registries: the connections are closed already');
    opened.users++;
    opened.uses++;
    try {
      return await work(opened.backends);
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

  async #look(options: Abortable): Promise<void> {
    const { rules, clock, connect, report } = this.#options;
    const nowMs = clock.now();
    try {
      const document = (await rules.access(options))?.document;
      // others may have looked meanwhile
      const current = this.#current;
      if (current === undefined || current.document !== document || current.uses >= MAX_USES) {
        const backends = connect(document === undefined ? {} : parseAccess(document).registries);
        this.#current = { document, backends, users: 0, uses: 0 };
        this.#opened.add(this.#current);
      }
      this.#lookedMs = nowMs;
    } catch (error) {
      // while the table does not answer, jobs reach what they could reach before
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
      await opened.backends[Symbol.asyncDispose]();
    }
  }
}
