import { collect } from '../content/bytes.ts';
import type { ObjectStore } from '../objects/objects.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import type { Report } from '../util/events.ts';
import { describeFailure, Failure, ifFound, isFailure } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';
import type { StorePlace } from './place.ts';

/** How often a lock that is held is written again. */
const REFRESH_MS = 5 * 60_000;
/** After a refresh that failed. */
const AGAIN_MS = 30_000;
/** A lock that was not written for so long, by the clock of the store, is ignored: its process crashed or was suspended. */
const STALE_MS = 30 * 60_000;
/**
 * A write or delete that depends on the lock is sent at most so long after a refresh was begun. The rest of `STALE_MS` is for it to take effect.
 * docs/store-format.md has the proof.
 */
const SURE_MS = 10 * 60_000;
/** A lock is a few hundred bytes. */
const MAX_LOCK_BYTES = 64 * 1024;
const LOCK_KEY = /^locks\/\d{8}T\d{6}Z-(backup|collect)-[0-9a-f]{13}\.json$/;

/** `backup`: a backup counts on what is there. `collect`: a garbage collection deletes. */
export type LockKind = 'backup' | 'collect';

export interface LockOptions extends Abortable {
  readonly clock: Clock;
  readonly report?: Report | undefined;
}

/** A lock of another process that is held. */
export interface HeldLock {
  /** What is not known is taken for a backup, which stops more. */
  readonly kind: LockKind;
  readonly key: string;
  /** When it was written last, by the clock of the store. */
  readonly refreshedAt: Date;
}

/** An object below `locks/`, by its key. Undefined for a key that is not one of a lock. */
export function isLockKey(prefix: string, key: string): boolean {
  return key.startsWith(prefix) && LOCK_KEY.test(key.slice(prefix.length));
}

/**
 * An object that shows what a process is doing with the store. It is held from `take` to `end` as long as it is refreshed; it is never deleted by the
 * process that wrote it. All ages are differences of times that the store gave.
 */
export class StoreLock {
  readonly kind: LockKind;
  readonly key: string;
  readonly #place: StorePlace;
  readonly #options: LockOptions;
  readonly #startedAtMs: number;
  /** When it was written last, by the clock of the store. */
  #modifiedMs = 0;
  /** When the last refresh was begun, by the clock of this process. */
  #refreshedAtMs = 0;
  #hasLapsed = false;
  #stop = new AbortController();
  #refreshing: Promise<void> | undefined;

  private constructor(place: StorePlace, kind: LockKind, options: LockOptions, attempt: number) {
    const { clock } = options;
    this.kind = kind;
    this.#place = place;
    this.#options = options;
    this.#startedAtMs = clock.now();
    const time = new Date(this.#startedAtMs).toISOString().slice(0, 19).replaceAll(/[-:]/g, '');
    const id = (Math.floor(clock.random() * 2 ** 52) + attempt).toString(16);
    this.key = `${place.prefix}locks/${time}Z-${kind}-${id.padStart(13, '0')}.json`;
  }

  /** Writes a new lock. It holds once `others` shows none that excludes it. */
  static async take(place: StorePlace, kind: LockKind, options: LockOptions): Promise<StoreLock> {
    for (let attempt = 0; ; attempt++) {
      const lock = new StoreLock(place, kind, options, attempt);
      try {
        await lock.#write({ ifAbsent: true }, options);
        return lock;
      } catch (error) {
        // another process has the same moment and chance, or an attempt whose answer was lost wrote it
        if (!isFailure(error, 'CONFLICT')) throw error;
      }
    }
  }

  /** Whether it may have been taken for a crashed one's since `take` or `renew`: it was once not refreshed in time. */
  get hasLapsed(): boolean {
    return this.#hasLapsed;
  }

  /** When it was written last, by the clock of the store. */
  get refreshedAt(): Date {
    return new Date(this.#modifiedMs);
  }

  /** Throws UNAVAILABLE unless every other process is bound to see the lock for as long as a request takes that is sent now. */
  check(): void {
    const ageMs = this.#options.clock.now() - this.#refreshedAtMs;
    if (!this.#hasLapsed && ageMs >= 0 && ageMs <= SURE_MS) return;
    throw new Failure(
      'UNAVAILABLE',
      `${this.#place.location}: this process was suspended, or could not reach the store, for longer than its lock lasts: run it again`,
    );
  }

  /** Writes it again. What lapsed stays so. */
  async refresh(options: Abortable = {}): Promise<void> {
    await this.#write(undefined, options);
  }

  /** As a new one: what was before does not count. */
  async renew(options: Abortable = {}): Promise<void> {
    this.#hasLapsed = false;
    this.#modifiedMs = 0;
    await this.#write(undefined, options);
  }

  /** Refreshes it in the background until it ends. */
  keep(): void {
    this.#refreshing ??= this.#keep(this.#stop.signal);
  }

  /** Locks of other processes that are held: neither ended nor stale. Compares their times with that of this one, as the store lists both. */
  async others(options: Abortable = {}): Promise<readonly HeldLock[]> {
    const listed = await listLocks(this.#place, options);
    const own = listed.find(({ key }) => key === this.key);
    const nowMs = Math.max(this.#modifiedMs, own?.refreshedAt.getTime() ?? 0);
    return heldOf(
      this.#place,
      listed.filter((lock) => lock !== own),
      nowMs,
      options,
    );
  }

  /** Marks the lock as ended. Never fails: a lock that could not be ended is ignored when it is stale. Idempotent. */
  async end(): Promise<void> {
    this.#stop.abort();
    await this.#refreshing;
    this.#refreshing = undefined;
    this.#stop = new AbortController();
    const { store, location } = this.#place;
    const endedAt = new Date(this.#options.clock.now()).toISOString();
    try {
      await store.write(this.key, this.#document({ endedAt }), { contentType: 'application/json' });
    } catch (error) {
      if (!isFailure(error)) throw error;
      const message = `${location}: the lock ${this.key} could not be ended, and is ignored after ${STALE_MS / 60_000} minutes: ${describeFailure(error)}`;
      this.#options.report?.({ type: 'warning', message });
    }
  }

  async #keep(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    let waitMs = REFRESH_MS;
    while (!signal.aborted) {
      try {
        await clock.sleep(waitMs, { signal });
        await this.refresh({ signal });
        waitMs = REFRESH_MS;
      } catch (error) {
        if (!isFailure(error)) throw error;
        // what depends on the lock calls `check`
        waitMs = AGAIN_MS;
      }
    }
  }

  async #write(condition: { readonly ifAbsent: true } | undefined, options: Abortable): Promise<void> {
    checkAborted(options);
    const { store } = this.#place;
    const begunMs = this.#options.clock.now();
    const { signal } = options;
    await store.write(this.key, this.#document({}), { signal, condition, contentType: 'application/json' });
    // the answer to a write does not have the time of the store
    const modifiedMs = (await store.stat(this.key, options)).modified.getTime();
    if (this.#modifiedMs !== 0 && modifiedMs - this.#modifiedMs > STALE_MS) this.#hasLapsed = true;
    this.#modifiedMs = Math.max(this.#modifiedMs, modifiedMs);
    this.#refreshedAtMs = begunMs;
  }

  #document(more: Readonly<Record<string, unknown>>): Uint8Array {
    const startedAt = new Date(this.#startedAtMs).toISOString();
    return Buffer.from(JSON.stringify({ version: 1, kind: this.kind, startedAt, ...more }));
  }
}

/**
 * Locks that are held: neither ended nor stale. For a reader, which has no lock whose time the store gave: ages are by the clock of this process, so
 * the answer is a hint.
 */
export async function heldLocks(place: StorePlace, nowMs: number, options: Abortable): Promise<readonly HeldLock[]> {
  return heldOf(place, await listLocks(place, options), nowMs, options);
}

async function listLocks({ store, prefix }: StorePlace, options: Abortable): Promise<readonly HeldLock[]> {
  const listed: HeldLock[] = [];
  for await (const { key, modified } of store.list(`${prefix}locks/`, options)) {
    const [, kind = 'backup'] = LOCK_KEY.exec(key.slice(prefix.length)) ?? [];
    listed.push({ key, kind: kind === 'collect' ? 'collect' : 'backup', refreshedAt: modified });
  }
  return listed;
}

async function heldOf(
  { store }: StorePlace,
  listed: readonly HeldLock[],
  nowMs: number,
  options: Abortable,
): Promise<readonly HeldLock[]> {
  const held: HeldLock[] = [];
  for (const lock of listed) {
    if (nowMs - lock.refreshedAt.getTime() > STALE_MS) continue;
    if (!(await hasEnded(store, lock.key, options))) held.push(lock);
  }
  return held;
}

/** Whether the process that wrote the lock has marked it as ended. A lock that cannot be read has not ended. */
async function hasEnded(store: ObjectStore, key: string, options: Abortable): Promise<boolean> {
  const body = await ifFound(store.read(key, options));
  if (body === undefined) return true;
  const tooLarge = (): Failure => new Failure('INVALID', `${store.describe(key)} is not a lock`);
  try {
    const document: unknown = JSON.parse((await collect(body, MAX_LOCK_BYTES, tooLarge)).toString());
    return isRecord(document) && typeof document['endedAt'] === 'string';
  } catch (error) {
    checkAborted(options);
    if (error instanceof SyntaxError || isFailure(error, 'INVALID')) return false;
    throw error;
  }
}
