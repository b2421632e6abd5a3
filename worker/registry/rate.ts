import type { Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import { Failure } from '../util/failure.ts';

/** A token bucket: at most `perSecond` starts a second, as many at once after a pause, in the order of asking. */
export class Pace {
  readonly #intervalMs: number;
  readonly #burst: number;
  readonly #clock: Clock;
  /** When the next start would be due if all had come evenly. */
  #due = -Infinity;

  constructor(perSecond: number, clock: Clock) {
    this.#intervalMs = 1000 / perSecond;
    this.#burst = perSecond;
    this.#clock = clock;
  }

  async take(options: Abortable): Promise<void> {
    const now = this.#clock.now();
    const start = Math.max(this.#due, now - this.#intervalMs * (this.#burst - 1));
    this.#due = start + this.#intervalMs;
    if (start > now) await this.#clock.sleep(start - now, options);
  }
}

/** The last pulls are left to others behind the same address. */
const RESERVE = 1;
/** After this long the count may have recovered: it is asked for again, which costs nothing. */
const STALE_MS = 60_000;

/**
 * What is left of a registry's allowance of manifest GETs, from the headers of its answers. A HEAD does not count and has the same headers.
 * https://docs.docker.com/docker-hub/usage/pulls/
 */
export class PullBudget {
  readonly #clock: Clock;
  #seen: { readonly left: number; readonly atMs: number } | undefined;
  #windowSeconds = 0;
  #underway = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Takes `ratelimit-remaining: 99;w=21600`; does nothing for an answer without it. */
  observe(header: string | undefined): void {
    // others have a header of that name without a window, and mean all requests by it
    const [, left, window] = /^(\d+);w=(\d+)/.exec(header ?? '') ?? [];
    if (left === undefined) return;
    this.#seen = { left: Number(left), atMs: this.#clock.now() };
    this.#windowSeconds = Number(window);
  }

  /** Whether to ask again before giving up: nothing is left, but that was long ago. */
  get stale(): boolean {
    return this.spent && this.#seen !== undefined && this.#clock.now() - this.#seen.atMs >= STALE_MS;
  }

  /** Counts a GET under way until the returned function is called. THROTTLED when none is left. */
  admit(what: string): () => void {
    if (this.spent) throw this.exhausted(what);
    this.#underway++;
    let held = true;
    return () => {
      if (held) this.#underway--;
      held = false;
    };
  }

  /** The refusal of a GET that would be over the allowance. */
  exhausted(what: string): Failure {
    return new Failure(
      'THROTTLED',
      `${what}: the registry's pull limit of ${this.#windowSeconds / 3600} hours is used up; sign in with an account that has a higher one, or try again later`,
      // it is not known when the next pull becomes free: too long to wait for on the spot
      { context: { retryAfterMs: Math.max(this.#windowSeconds * 1000, 600_000) } },
    );
  }

  /** Whether the next pull would be one too many. */
  get spent(): boolean {
    return this.#seen !== undefined && this.#seen.left - this.#underway <= RESERVE;
  }
}

/** Refused mounts, and none that was taken, after which a registry is believed to mount nothing. */
const REFUSED_ENOUGH = 8;

/** Whether a registry mounts blobs, by its answers: ECR does so only where the account has BLOB_MOUNTING on. */
export class Mounts {
  #refused = 0;

  get inVain(): boolean {
    return this.#refused >= REFUSED_ENOUGH;
  }

  observe(taken: boolean): void {
    this.#refused = taken ? -Infinity : this.#refused + 1;
  }
}
