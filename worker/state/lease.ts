import { randomUUID } from 'node:crypto';
import { aborted, anyOf, checkAborted, type Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import { deadline } from '../util/deadline.ts';
import { Failure } from '../util/failure.ts';
import type { Lease } from './state.ts';
import { findNumber, findText, type Expected, type Item, type Key, type Table, type Updated } from './table.ts';

/**
 * An item without a record may be cleared away then. It may remember dead letters, which a queue keeps for 14 days at most: without them a letter
 * of settings, which have no record, would count as done.
 */
const FORGOTTEN_AFTER_SECONDS = 15 * 24 * 3600;
/** A lease that takes longer to give back is left to expire. */
const RELEASE_MS = 5000;
/** How often a lease is renewed in its time, whether or not earlier requests were answered. */
const RENEWALS = 3;
/** By this factor the next renewal follows sooner after one that failed. */
const SOONER = 8;
/** The share of its time after which a lease that was not renewed counts as lost: what is on its way to a server has the rest to arrive. */
const PROVED = 0.9;

/**
 * Leases in the attributes `owner`, `fence` and `leaseUntilMs` of any item.
 *
 * No two processes hold one lease at once. The holder counts from before it asked, with a timer, which no change of a clock disturbs, and stops
 * before the time it asked for is over. Another process takes the lease when that time is over by its own clock and `skewSeconds` more. So it takes
 * two clocks that differ by more than `skewSeconds`, or a process that sleeps through its timers; then `record` still refuses the older fence. The
 * leases of a crashed worker expire after ttl + skew.
 */
export class Leases {
  readonly #table: Table;
  readonly #clock: Clock;
  readonly #skewMs: number;

  constructor(table: Table, clock: Clock, skewSeconds: number) {
    this.#table = table;
    this.#clock = clock;
    this.#skewMs = skewSeconds * 1000;
  }

  /** Whether the item is under a lease, as far as clocks that differ can show: `take` would not get it. */
  isHeld(item: Item | undefined, nowMs = this.#clock.now()): boolean {
    if (findText(item, 'owner') === undefined) return false;
    return (findNumber(item, 'leaseUntilMs') ?? 0) + this.#skewMs > nowMs;
  }

  /** Undefined while another process has it. */
  async take(key: Key, name: string, ttlSeconds: number, options: Abortable = {}): Promise<HeldLease | undefined> {
    if (!(ttlSeconds > 0)) throw new Failure('BUG', `lock ${name}: for ${ttlSeconds} seconds`);
    const nowMs = this.#clock.now();
    const open = (): HeldLease => new HeldLease(this.#table, this.#clock, { key, name, ttlMs: ttlSeconds * 1000 });
    const ttl = Math.ceil(nowMs / 1000) + ttlSeconds + FORGOTTEN_AFTER_SECONDS;
    // most items are free, and have no record yet or are not destinations: they need not be read first
    const lease = open();
    const { done, item } = await lease.begin({ owner: undefined, sourceDigest: undefined }, ttl, options);
    if (done) return lease;
    if (this.isHeld(item, nowMs)) return undefined;
    const found = {
      owner: findText(item, 'owner'),
      fence: findNumber(item, 'fence'),
      leaseUntilMs: findNumber(item, 'leaseUntilMs'),
    };
    const hasRecord = findText(item, 'sourceDigest') !== undefined;
    const next = open();
    return (await next.begin(found, hasRecord ? undefined : ttl, options)).done ? next : undefined;
  }
}

/** The attributes of an item whose lease is free. */
export const RELEASED = { owner: undefined, leaseUntilMs: undefined } as const;

/** A lease that `Leases.take` gave. */
export class HeldLease implements Lease {
  readonly key: Key;
  readonly name: string;
  readonly #owner = randomUUID();
  readonly #table: Table;
  readonly #clock: Clock;
  readonly #ttlMs: number;
  readonly #lost = new AbortController();
  readonly #given = new AbortController();
  /** Ends what is under way for the lease, for whatever reason. */
  readonly #over: AbortSignal;
  /** Ends the timer of the latest proof. */
  #proof = new AbortController();
  /** The values that `leaseUntilMs` of the item may have: the one that was proved last, and those that were asked for since, in this order. */
  #untilMs: number[] = [];
  #renewing: Promise<void> = Promise.resolve();
  #back: Promise<void> | undefined;
  #item: Item | undefined;

  constructor(
    table: Table,
    clock: Clock,
    options: { readonly key: Key; readonly name: string; readonly ttlMs: number },
  ) {
    this.#table = table;
    this.#clock = clock;
    this.#ttlMs = options.ttlMs;
    this.key = options.key;
    this.name = options.name;
    this.#over = AbortSignal.any([this.#lost.signal, this.#given.signal]);
  }

  get signal(): AbortSignal {
    return this.#lost.signal;
  }

  get fence(): number {
    return findNumber(this.item, 'fence') ?? 0;
  }

  /** The item as it was when the lease was taken. */
  get item(): Item {
    if (this.#item === undefined) throw new Failure('BUG', `hold the lease of ${this.name}: it was not taken`);
    return this.#item;
  }

  /** The attributes that an item has while it is under this lease. */
  get held(): { readonly owner: string; readonly fence: number } {
    return { owner: this.#owner, fence: this.fence };
  }

  /** Takes the lease if the item is as expected. */
  async begin(expected: Expected, ttl: number | undefined, options: Abortable): Promise<Updated> {
    checkAborted(options);
    const proof = this.#startProof();
    try {
      const leaseUntilMs = this.#clock.now() + this.#ttlMs;
      this.#untilMs.push(leaseUntilMs);
      const change = { set: { owner: this.#owner, leaseUntilMs, ttl }, add: { fence: 1 } };
      const { done, item } = await this.#table.update(this.key, change, expected, options);
      // not done, but ours: the answer to an earlier try was lost
      if (item === undefined || (!done && findText(item, 'owner') !== this.#owner)) {
        proof.abort();
        return { done: false, item };
      }
      this.#item = item;
      if (this.signal.aborted) throw aborted(this.signal);
    } catch (error) {
      proof.abort();
      await this[Symbol.asyncDispose]();
      throw error;
    }
    this.#proof = proof;
    this.#renewing = this.#keep();
    return { done: true, item: this.item };
  }

  /**
   * Gives the lease back by a write of the caller that sets `RELEASED`. Returns whether the write was made; where it was not, the lease is
   * lost. Where `write` throws, the lease is not renewed any more.
   */
  async endBy(write: () => Promise<boolean>): Promise<boolean> {
    this.#given.abort();
    await this.#renewing;
    checkAborted(this);
    const isMade = await write();
    if (!isMade) this.#lose('another has it');
    else this.#back ??= Promise.resolve();
    this.#proof.abort();
    return isMade;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#back ??= this.#giveBack();
    return this.#back;
  }

  async #giveBack(): Promise<void> {
    this.#given.abort();
    this.#proof.abort();
    await this.#renewing;
    const late = (): Failure => new Failure('ABORTED', `return the lease of ${this.name}: it takes too long`);
    await using end = deadline(RELEASE_MS, late, this.#clock);
    try {
      await this.#table.update(this.key, { set: RELEASED }, { owner: this.#owner }, { signal: end.signal });
    } catch {
      // it ends by itself
    }
  }

  /** From now on, for as long as it was asked for. What comes of it is proved by the answer of the call that follows. */
  #startProof(): AbortController {
    const proof = new AbortController();
    void this.#clock.sleep(this.#ttlMs * PROVED, { signal: proof.signal }).then(
      () => this.#lose('it could not be renewed in time'),
      () => undefined,
    );
    return proof;
  }

  #lose(why: string): void {
    this.#proof.abort();
    this.#lost.abort(new Failure('CONFLICT', `hold the lease of ${this.name}: ${why}`));
  }

  /** Renews it until it is over. Does not throw. */
  async #keep(): Promise<void> {
    const asked = new Set<Promise<boolean>>();
    let isDue = await this.#pause(this.#ttlMs / RENEWALS);
    while (isDue) {
      const renewing = this.#renew().then(
        () => true,
        () => false,
      );
      asked.add(renewing);
      void renewing.then(() => asked.delete(renewing));
      isDue = await this.#untilNext(renewing);
    }
    await Promise.all(asked);
  }

  /** Waits until the next renewal is due, whether or not this one is answered by then. False when the lease is over. */
  async #untilNext(renewing: Promise<boolean>): Promise<boolean> {
    const failed = new AbortController();
    void renewing.then((isRenewed) => (isRenewed ? undefined : failed.abort()));
    const intervalMs = this.#ttlMs / RENEWALS;
    const isDue = await this.#pause(intervalMs, failed.signal);
    return failed.signal.aborted ? this.#pause(intervalMs / SOONER) : isDue;
  }

  /** Waits, less long when the signal fires. False when the lease is over. */
  async #pause(ms: number, signal?: AbortSignal): Promise<boolean> {
    await this.#clock.sleep(ms, { signal: anyOf(this.#over, signal) }).catch(() => undefined);
    return !this.#over.aborted;
  }

  /** One request. It changes nothing when it reaches the table after a later one. */
  async #renew(): Promise<void> {
    const proof = this.#startProof();
    const leaseUntilMs = this.#clock.now() + this.#ttlMs;
    this.#untilMs.push(leaseUntilMs);
    const expected = { ...this.held, leaseUntilMs: [...this.#untilMs] };
    try {
      const { done, item } = await this.#table.update(this.key, { set: { leaseUntilMs } }, expected, {
        signal: this.#over,
      });
      if (findText(item, 'owner') !== this.#owner) this.#lose('another has it');
      checkAborted({ signal: this.#over });
      const place = done ? this.#untilMs.lastIndexOf(leaseUntilMs) : -1;
      if (place === -1) return proof.abort();
      this.#untilMs = this.#untilMs.slice(place);
    } catch (error) {
      proof.abort();
      throw error;
    }
    this.#proof.abort();
    this.#proof = proof;
  }
}
