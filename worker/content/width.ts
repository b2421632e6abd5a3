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
/** Of this time, its reader must have waited for bytes: else more of them are of no use. */
const LEAST_WAITED = 0.6;
/** And the thread must have been idle: else it is what is too slow, and every further connection costs it more. */
const LEAST_IDLE = 0.3;
/** Readings that bring so much together have no slow connections. One connection to S3 gives 80 to 100 MB/s. */
const FAST_BYTES_PER_SECOND = 200e6;
/** Twice the connections must bring so many times the bytes. */
const LEAST_GAIN = 1.25;

/**
 * How many connections read a blob: one, and twice as many whenever those that there are turn out to be what everything waits for, as long as that
 * makes the reading faster. In a fast network, or where this machine is the bottleneck, it stays at one, which costs the least.
 */
export class Width {
  /** How many there should be. */
  current = 1;
  readonly #most: number;
  #from: Progress;
  /** Of half as many connections. */
  #bytesPerMs: number | undefined;
  #isDecided = false;

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
    this.#from = now;
    const ms = now.nowMs - from.nowMs;
    if (now.waitedMs - from.waitedMs < LEAST_WAITED * ms) return;
    const bytesPerMs = (now.bytes - from.bytes) / ms;
    if (this.#bytesPerMs !== undefined && bytesPerMs < LEAST_GAIN * this.#bytesPerMs) {
      this.stayAt(this.current / 2);
      return;
    }
    const idleMs = now.idleMs === undefined || from.idleMs === undefined ? ms : now.idleMs - from.idleMs;
    if (idleMs < LEAST_IDLE * ms || ((now.allBytes - from.allBytes) / ms) * 1000 > FAST_BYTES_PER_SECOND) return;
    this.#bytesPerMs = bytesPerMs;
    this.current = Math.min(2 * this.current, this.#most);
    if (this.current === this.#most) this.#isDecided = true;
  }

  /** Ends the decision. */
  stayAt(connections: number): void {
    this.current = Math.max(1, connections);
    this.#isDecided = true;
  }
}
