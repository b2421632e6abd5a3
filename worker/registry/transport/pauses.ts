import type { Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import { isFailure } from '../../util/failure.ts';
import type { Answer, HttpRequest, Layer } from './layer.ts';

const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 30_000;

/**
 * A pause of all requests to one host after one of them was refused as one too many (429). It is as long as the host asks for, at most 30
 * seconds, or else doubled with each refusal that follows a pause.
 */
export class HostBackoff {
  readonly #clock: Clock;
  #untilMs = -Infinity;
  /** When the last pause was begun or made longer. */
  #begunMs = -Infinity;
  #pauses = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Resolves when no pause is left, also of those that begin meanwhile. */
  async wait(options: Abortable): Promise<void> {
    for (;;) {
      const leftMs = this.#untilMs - this.#clock.now();
      if (leftMs <= 0) return;
      await this.#clock.sleep(leftMs, options);
    }
  }

  /** The host refused a request that was sent at `sentMs`. Those that were sent before the pause make it longer only where the host asks for that. */
  refused(sentMs: number, retryAfterMs = 0): void {
    const nowMs = this.#clock.now();
    const isNew = sentMs > this.#begunMs;
    if (isNew) this.#pauses++;
    const backoffMs = isNew ? FIRST_PAUSE_MS * 2 ** (this.#pauses - 1) : 0;
    const untilMs = nowMs + Math.min(MAX_PAUSE_MS, Math.max(retryAfterMs, backoffMs));
    if (untilMs <= this.#untilMs) return;
    this.#untilMs = untilMs;
    this.#begunMs = nowMs;
  }

  /** The host answered a request that was sent at `sentMs`: after a pause, the next one is short again. */
  answered(sentMs: number): void {
    if (sentMs >= this.#untilMs) this.#pauses = 0;
  }
}

/** Holds every request back while the host is paused. A limit that refuses a request before it is sent pauses nothing. */
export class Pauses implements Layer {
  readonly #inner: Layer;
  readonly #backoff: HostBackoff;
  readonly #clock: Clock;

  constructor(inner: Layer, { backoff, clock }: { readonly backoff: HostBackoff; readonly clock: Clock }) {
    this.#inner = inner;
    this.#backoff = backoff;
    this.#clock = clock;
  }

  async send(request: HttpRequest, options: Abortable): Promise<Answer> {
    await this.#backoff.wait(options);
    const sentMs = this.#clock.now();
    try {
      const answer = await this.#inner.send(request, options);
      this.#backoff.answered(sentMs);
      return answer;
    } catch (error) {
      if (isFailure(error, 'THROTTLED') && error.context.status !== undefined)
        this.#backoff.refused(sentMs, error.context.retryAfterMs);
      throw error;
    }
  }
}
