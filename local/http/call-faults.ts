/** How often a fault happens. */
export interface Occasions {
  /** How many calls it happens to. Default 1, or Infinity with a share. */
  readonly times?: number;
  /** How many calls that it could happen to are served as usual before. Default 0. */
  readonly skip?: number;
  /** The share of the calls that it happens to, from 0 to 1, by seeded chance. Default 1. */
  readonly share?: number;
}

interface Queued<Fault> {
  readonly fault: Fault;
  readonly share: number;
  skip: number;
  left: number;
}

/** Faults in the order they were queued. Equal seeds and equal calls give equal faults. */
export class FaultQueue<Fault> {
  #queue: Queued<Fault>[] = [];
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  add(fault: Fault, { skip = 0, share = 1, ...options }: Occasions): void {
    this.#queue.push({ fault, share, skip, left: options.times ?? (share < 1 ? Infinity : 1) });
  }

  /** How many have not happened as often as they should. */
  get pending(): number {
    return this.#queue.length;
  }

  clear(): void {
    this.#queue = [];
  }

  /** The first fault of those that are meant, if chance has it. */
  take(isMeant: (fault: Fault) => boolean): Fault | undefined {
    for (const queued of this.#queue) {
      if (!isMeant(queued.fault)) continue;
      if (queued.skip > 0) {
        queued.skip--;
        continue;
      }
      if (queued.share < 1 && this.#random() >= queued.share) continue;
      queued.left--;
      if (queued.left <= 0) this.#queue = this.#queue.filter((other) => other !== queued);
      return queued.fault;
    }
    return undefined;
  }

  /** mulberry32 */
  #random(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }
}

/** Which calls a fault waits for. */
export interface CallMatch extends Occasions {
  /** E.g. `ReceiveMessage`. Default: any. */
  readonly action?: string;
}

export type CallFault =
  /** Refused before anything happens, as too many. */
  | { readonly kind: 'throttle'; readonly code?: string }
  /** The connection is cut before anything happens. */
  | { readonly kind: 'drop-before' }
  /** What was asked for happens, and the connection is cut instead of an answer. */
  | { readonly kind: 'drop-after' };

/** `reset`: connections are cut. `unavailable`: calls are answered with 503. */
export type Away = 'reset' | 'unavailable';

/** What goes wrong with the calls of a service. A call takes the first fault that waits for it, one at most. Without a request: nothing. */
export class CallFaults {
  readonly #queue: FaultQueue<{ readonly fault: CallFault; readonly action: string | undefined }>;
  #away: Away | undefined;

  constructor(options: { readonly seed?: number } = {}) {
    this.#queue = new FaultQueue(options.seed ?? 1);
  }

  /** Refuses calls as too many: with the code that the service has for it, or with `code`. */
  throttle(match: CallMatch = {}, code?: string): void {
    this.#add(match, { kind: 'throttle', ...(code === undefined ? {} : { code }) });
  }

  /** Cuts the connection before anything happens. */
  dropBefore(match: CallMatch = {}): void {
    this.#add(match, { kind: 'drop-before' });
  }

  /** Does what was asked for, then cuts the connection without an answer: the client cannot know. */
  dropAfter(match: CallMatch = {}): void {
    this.#add(match, { kind: 'drop-after' });
  }

  /** Makes the service unreachable, for calls that wait already too, until `comeBack`. */
  goAway(how: Away = 'reset'): void {
    this.#away = how;
  }

  comeBack(): void {
    this.#away = undefined;
  }

  get away(): Away | undefined {
    return this.#away;
  }

  /** How many queued faults have not all happened yet. */
  get pending(): number {
    return this.#queue.pending;
  }

  /** Takes back every fault, and comes back. */
  clear(): void {
    this.#queue.clear();
    this.comeBack();
  }

  take(action: string): CallFault | undefined {
    return this.#queue.take((queued) => queued.action === undefined || queued.action === action)?.fault;
  }

  #add({ action, ...occasions }: CallMatch, fault: CallFault): void {
    this.#queue.add({ fault, action }, occasions);
  }
}
