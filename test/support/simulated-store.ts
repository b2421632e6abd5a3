import { createHash } from 'node:crypto';
import type { Bytes } from '../../worker/content/content.ts';
import type { DeletableStore, Doomed, NotRemoved } from '../../worker/objects/deletable.ts';
import type { Condition, ObjectInfo, ObjectStore, WriteOptions } from '../../worker/objects/objects.ts';
import { aborted, checkAborted, type Abortable } from '../../worker/util/abort.ts';
import type { Clock } from '../../worker/util/clock.ts';
import { Failure } from '../../worker/util/failure.ts';

/** A request takes effect within so long after it was sent, or never. */
const MAX_EFFECT_MS = 15 * 60_000;
/** Objects in a page of a list: few, so that much happens between pages. */
const PAGE = 8;

interface StoredObject {
  readonly bytes: Uint8Array;
  readonly etag: string;
  readonly modifiedMs: number;
}

/** Something that happens when the world chooses it. */
interface Step {
  readonly process: SimulatedProcess;
  /** `effect`: a request reaches the store. `answer`: its process learns of it. `timer`: a wait of the process is over. */
  readonly kind: 'effect' | 'answer' | 'timer';
  /** A timer fires no earlier than this, an effect happens no later. */
  readonly atMs: number;
  readonly run: () => void;
}

export interface Change {
  readonly key: string;
  readonly action: 'write' | 'delete';
  /** The previous content. */
  readonly before: StoredObject | undefined;
}

/**
 * A bucket, its clock, and processes that use it, in a random order: requests take effect and are answered at any time, in any order,
 * while processes are suspended or killed. The seed decides everything.
 */
export class SimulatedStore {
  readonly objects = new Map<string, StoredObject>();
  /** Keys that cannot be deleted. */
  readonly locked = new Set<string>();
  readonly #steps = new Set<Step>();
  readonly #onChange: (change: Change) => void;
  #state: number;
  nowMs = Date.UTC(2026, 0, 1);

  /** `onChange` is called after each write and delete. */
  constructor(seed: number, onChange: (change: Change) => void) {
    this.#state = seed;
    this.#onChange = onChange;
  }

  /** A number in [0, 1): mulberry32. */
  random(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  pick<T>(list: readonly T[]): T {
    if (list.length === 0) throw new Error('nothing to pick from');
    return list[Math.floor(this.random() * list.length)] as T;
  }

  add(step: Step): void {
    this.#steps.add(step);
  }

  /** Runs one step that may happen now. Returns whether there was one. */
  async step(): Promise<boolean> {
    const ready = [...this.#steps].filter(
      ({ process, kind, atMs }) => kind === 'effect' || (process.isAwake && (kind === 'answer' || atMs <= this.nowMs)),
    );
    if (ready.length === 0) return false;
    await this.#run(this.pick(ready));
    return true;
  }

  /** Advances time. Requests that were sent take effect in time. */
  async pass(ms: number): Promise<void> {
    const untilMs = this.nowMs + ms;
    for (;;) {
      const [next] = [...this.#steps].filter(({ kind, atMs }) => kind === 'effect' && atMs <= untilMs).sort(byTime);
      if (next === undefined) break;
      this.nowMs = Math.max(this.nowMs, next.atMs);
      await this.#run(next);
    }
    this.nowMs = untilMs;
  }

  /** Whether a request or an answer is in transit. */
  get hasWork(): boolean {
    return [...this.#steps].some(({ process, kind }) => kind !== 'timer' && process.isAwake);
  }

  /** How long until something can happen by itself. Undefined: never. */
  get idleMs(): number | undefined {
    const times = [...this.#steps].flatMap(({ process, kind, atMs }) =>
      process.isDead || kind !== 'timer' ? [] : [Math.max(atMs, process.asleepUntilMs)],
    );
    const wakes = [...this.#steps].flatMap(({ process, kind }) =>
      process.isDead || kind !== 'answer' ? [] : [process.asleepUntilMs],
    );
    const all = [...times, ...wakes];
    return all.length === 0 ? undefined : Math.max(0, Math.min(...all) - this.nowMs);
  }

  /** Forgets what a killed process waits for. Some of its requests were in transit. */
  drop(process: SimulatedProcess): void {
    for (const step of this.#steps)
      if (step.process === process && (step.kind !== 'effect' || this.random() < 0.5)) this.#steps.delete(step);
  }

  remove(step: Step): void {
    this.#steps.delete(step);
  }

  write(key: string, bytes: Uint8Array, condition: Condition | undefined): ObjectInfo {
    const before = this.objects.get(key);
    if (
      condition !== undefined &&
      ('ifAbsent' in condition ? before !== undefined : before?.etag !== condition.ifMatch)
    )
      throw new Failure('CONFLICT', `${key} is another`);
    const etag = createHash('md5').update(bytes).digest('hex');
    this.objects.set(key, { bytes, etag, modifiedMs: this.nowMs });
    this.#onChange({ key, action: 'write', before });
    return this.infoOf(key);
  }

  delete({ key, etag }: Doomed): Failure | undefined {
    const before = this.objects.get(key);
    if (before === undefined) return undefined;
    if (this.locked.has(key)) return new Failure('DENIED', `${key} is locked`);
    if (before.etag !== etag) return new Failure('CONFLICT', `${key} is another`);
    this.objects.delete(key);
    this.#onChange({ key, action: 'delete', before });
    return undefined;
  }

  infoOf(key: string): ObjectInfo {
    const found = this.objects.get(key);
    if (found === undefined) throw new Failure('NOT_FOUND', `there is no ${key}`);
    const { bytes, etag, modifiedMs } = found;
    // S3 gives whole seconds
    const modified = new Date(Math.floor(modifiedMs / 1000) * 1000);
    return { key, size: bytes.byteLength, etag, modified, metadata: {} };
  }

  async #run(step: Step): Promise<void> {
    this.#steps.delete(step);
    step.run();
    // everything that follows in its process until it waits again
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function byTime(a: Step, b: Step): number {
  return a.atMs - b.atMs;
}

/** One process: its own view of the store, and a clock that may be wrong. */
export class SimulatedProcess {
  readonly name: string;
  readonly clock: Clock;
  readonly objects: ObjectStore & DeletableStore;
  readonly #world: SimulatedStore;
  #isDead = false;
  asleepUntilMs = 0;
  /** The keys that it listed. */
  readonly listed: string[] = [];

  constructor(world: SimulatedStore, name: string, skewMs: number) {
    this.#world = world;
    this.name = name;
    this.clock = {
      now: () => world.nowMs + skewMs,
      random: () => world.random(),
      sleep: async (ms, options) => this.#sleep(ms, options),
    };
    this.objects = this.#connect();
  }

  get isDead(): boolean {
    return this.#isDead;
  }

  get isAwake(): boolean {
    return !this.#isDead && this.asleepUntilMs <= this.#world.nowMs;
  }

  kill(): void {
    this.#isDead = true;
    this.#world.drop(this);
  }

  suspend(ms: number): void {
    this.asleepUntilMs = this.#world.nowMs + ms;
  }

  async #sleep(ms: number, options: Abortable | undefined): Promise<void> {
    checkAborted(options);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const step: Step = { process: this, kind: 'timer', atMs: this.#world.nowMs + ms, run: resolve };
    this.#world.add(step);
    const { signal } = options ?? {};
    signal?.addEventListener(
      'abort',
      () => {
        this.#world.remove(step);
        reject(aborted(signal));
      },
      { once: true },
    );
    return promise;
  }

  /** A request: `work` happens at the store some time later, and its answer arrives some time after that. */
  async #call<T>(work: () => T, options: Abortable | undefined): Promise<T> {
    checkAborted(options);
    const world = this.#world;
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const answer = (run: () => void): void => world.add({ process: this, kind: 'answer', atMs: 0, run });
    const effect = (): void => {
      try {
        const result = work();
        answer(() => resolve(result));
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        answer(() => reject(error));
      }
    };
    world.add({ process: this, kind: 'effect', atMs: world.nowMs + MAX_EFFECT_MS, run: effect });
    const { signal } = options ?? {};
    signal?.addEventListener('abort', () => reject(aborted(signal)), { once: true });
    return promise;
  }

  #connect(): ObjectStore & DeletableStore {
    const world = this.#world;
    const { listed } = this;
    const call = async <T>(work: () => T, options: Abortable | undefined): Promise<T> => this.#call(work, options);
    return {
      describe: (key) => `simulated://${key}`,
      stat: async (key, options) => call(() => world.infoOf(key), options),
      read: async (key, options) =>
        call(() => {
          world.infoOf(key);
          return body(world.objects.get(key)?.bytes ?? new Uint8Array());
        }, options),
      write: async (key, bytes, options: WriteOptions = {}) => {
        const copy = Buffer.from(bytes);
        return call(() => world.write(key, copy, options.condition), options);
      },
      stream: async () => expectNever(),
      upload: async () => expectNever(),
      list: async function* (prefix, options) {
        listed.push(prefix);
        let after = '';
        for (;;) {
          const page = await call(() => {
            const keys = [...world.objects.keys()].filter((key) => key.startsWith(prefix) && key > after).sort();
            return keys.slice(0, PAGE).map((key) => world.infoOf(key));
          }, options);
          yield* page;
          if (page.length < PAGE) return;
          after = page.at(-1)?.key ?? after;
        }
      },
      remove: async (items, options) => {
        const failures = await Promise.all(items.map(async (item) => call(() => world.delete(item), options)));
        return failures.flatMap((failure, index): NotRemoved[] =>
          failure === undefined ? [] : [{ key: items[index]?.key ?? '', failure }],
        );
      },
    };
  }
}

async function* body(bytes: Uint8Array): Bytes {
  yield bytes;
}

function expectNever(): never {
  throw new Error('everything in the simulation is small');
}
