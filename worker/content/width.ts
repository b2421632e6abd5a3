/** What has happened while a blob was read, as sums since the reading began. */
export interface Progress {
  readonly nowMs: number;
  /** Bytes that came over all connections of this reading. */
  readonly bytes: number;
  /** Bytes that came over all connections of all readings that share its memory. */
  readonly allBytes: number;
  /** How long the reader has waited for bytes. */
  readonly waitedMs: number;
  /** How long the thread had nothing to do. Undefined: not known. */
  readonly idleMs: number | undefined;
}

/** How long a reading is watched before it is decided. */
const WINDOW_MS = 100;
/** The share of this time that the reader must have waited for bytes: otherwise more of them are of no use. */
const LEAST_WAITED = 0.6;
/** The share that the thread must have been idle: otherwise the thread is too slow, and each further connection slows it more. */
const LEAST_IDLE = 0.3;
/** Readings that bring this much together have no slow connections. One connection to S3 gives 80 to 100 MB/s. */
const FAST_BYTES_PER_SECOND = 200e6;
/** Twice the connections must bring this many times the bytes. */
const LEAST_GAIN = 1.25;
/** They have this long to do so: a connection begins slowly. */
const TRIAL_MS = 300;
/** After a trial in vain, the next one waits this long, and twice as long each time. */
const FIRST_PAUSE_MS = 500;

/** A doubling whose gain is not known yet. */
interface Trial {
  /** How many connections there were before. */
  readonly before: number;
  /** What they brought. */
  readonly bytesPerMs: number;
}

/**
 * How many connections read a blob: one, and twice as many whenever those that there are turn out to be what everything waits for, as long as that
 * makes the reading faster. In a fast network, or where this machine is the bottleneck, it stays at one, which costs the least.
 */
export class Width {
  /** How many connections there should be. */
  current = 1;
  readonly #most: number;
  #from: Progress;
  #trial: Trial | undefined;
  #pauseMs = FIRST_PAUSE_MS;
  #nextTrialMs = 0;
  #isDecided: boolean;

  constructor(most: number, start: Progress) {
    this.#most = most;
    this.#from = start;
    this.#isDecided = most <= 1;
  }

  /** Whether `look` may change anything now. */
  isDue(nowMs: number): boolean {
    return !this.#isDecided && nowMs - this.#from.nowMs >= WINDOW_MS;
  }

  /** Decides by what happened since the last time. To be called when it is due, and all connections have brought bytes. */
  look(now: Progress): void {
    const from = this.#from;
    const ms = now.nowMs - from.nowMs;
    const bytesPerMs = (now.bytes - from.bytes) / ms;
    const isWaiting = now.waitedMs - from.waitedMs >= LEAST_WAITED * ms;
    if (this.#trial !== undefined && isWaiting) {
      const isFaster = bytesPerMs >= LEAST_GAIN * this.#trial.bytesPerMs;
      if (!isFaster && ms < TRIAL_MS) return;
      if (!isFaster) {
        this.current = this.#trial.before;
        this.#nextTrialMs = now.nowMs + this.#pauseMs;
        this.#pauseMs *= 2;
      }
      this.#trial = undefined;
      this.#isDecided = this.current === this.#most;
    }
    this.#from = now;
    if (!isWaiting || this.#isDecided || now.nowMs < this.#nextTrialMs) return;
    const idleMs = now.idleMs === undefined || from.idleMs === undefined ? ms : now.idleMs - from.idleMs;
    if (idleMs < LEAST_IDLE * ms || ((now.allBytes - from.allBytes) / ms) * 1000 > FAST_BYTES_PER_SECOND) return;
    this.#trial = { before: this.current, bytesPerMs };
    this.current = Math.min(2 * this.current, this.#most);
  }

  /** Stays at one connection from now on. */
  stayAtOne(): void {
    this.current = 1;
    this.#isDecided = true;
  }
}
