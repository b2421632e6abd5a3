import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { digestOf } from '../../../worker/oci/digest.ts';
import { memoryTable } from '../../../worker/state/memory.ts';
import type { Lease, StateStore, SyncRecord } from '../../../worker/state/state.ts';
import { stateOver } from '../../../worker/state/store.ts';
import type { Table } from '../../../worker/state/table.ts';
import { checkAborted, orAborted, type Abortable } from '../../../worker/util/abort.ts';
import type { Clock } from '../../../worker/util/clock.ts';
import { Failure } from '../../../worker/util/failure.ts';
import { manualClock, type ManualClock } from '../../support/clock.ts';

const KEY = { group: 's3://bucket/folder', name: 'v1.tar' };
const ITEM = { pk: `DEST#${KEY.group}`, sk: KEY.name };
const TTL_SECONDS = 60;
const SECOND_MS = 1000;
const RECORD: SyncRecord = {
  ...KEY,
  source: 'docker://source.example/app:v1',
  sourceDigest: digestOf(Buffer.from('a')),
  digest: digestOf(Buffer.from('b')),
  choices: '{}',
  bytes: 1,
  atMs: 0,
  run: 'run',
};

/** `fine`; `slow`: calls take half a lease; `down`: they fail; `deaf`: they are done, and their answer is lost; `hung`: no call ends. */
type Mood = 'fine' | 'slow' | 'down' | 'deaf' | 'hung';

/** The table as one process reaches it. */
class Line {
  mood: Mood = 'fine';
  updates = 0;
  readonly table: Table;
  readonly #clock: Clock;

  constructor(table: Table, clock: Clock) {
    this.#clock = clock;
    this.table = {
      get: async (key, o) => this.#through(async () => table.get(key, o), o),
      getEach: async (keys, o) => this.#through(async () => table.getEach(keys, o), o),
      updateAll: async (changes, o) => this.#through(async () => table.updateAll(changes, o), o),
      update: async (key, change, expected, o) => {
        this.updates++;
        return this.#through(async () => table.update(key, change, expected, o), o);
      },
      query: (pk, o) => table.query(pk, o),
    };
  }

  async #through<T>(call: () => Promise<T>, o: Abortable | undefined): Promise<T> {
    checkAborted(o);
    if (this.mood === 'hung') return orAborted(new Promise<never>(() => undefined), o);
    if (this.mood === 'slow') await this.#clock.sleep((TTL_SECONDS * SECOND_MS) / 2, o);
    if (this.mood === 'down') throw new Failure('UNAVAILABLE', 'reach the table: it is down');
    const answer = await call();
    if (this.mood === 'deaf') throw new Failure('UNAVAILABLE', 'reach the table: the answer was lost');
    return answer;
  }
}

/** A clock that shows another time, and runs like the others. */
function skewed(clock: Clock, byMs: number): Clock {
  return { now: () => clock.now() + byMs, sleep: async (ms, o) => clock.sleep(ms, o), random: () => clock.random() };
}

/** The clock of a process whose waits never end, as if it had crashed. */
function frozen(clock: Clock): Clock {
  return {
    now: () => clock.now(),
    sleep: async () => new Promise<never>(() => undefined),
    random: () => clock.random(),
  };
}

describe('a lease', () => {
  let clock: ManualClock;
  let table: Table;
  let line: Line;
  let state: StateStore;
  let other: StateStore;

  beforeEach(() => {
    clock = manualClock();
    table = memoryTable();
    line = new Line(table, clock);
    state = stateOver(line.table, clock);
    other = stateOver(table, clock);
  });
  afterEach(() => {
    expect(clock.sleeping).toBe(0);
  });

  const locked = async (at = state): Promise<Lease> => {
    const lease = await at.destinations.lock(KEY, TTL_SECONDS);
    if (lease === undefined) throw new Error('it is locked');
    return lease;
  };
  const isFree = async (): Promise<boolean> => {
    const lease = await other.destinations.lock(KEY, TTL_SECONDS);
    await lease?.[Symbol.asyncDispose]();
    return lease !== undefined;
  };
  const seconds = async (count: number): Promise<void> => clock.advance(count * SECOND_MS);

  test('renews itself every third of its time for as long as it is held, and not after', async () => {
    const lease = await locked();
    for (let minute = 0; minute < 10; minute++) {
      await seconds(60);
      expect(await isFree()).toBe(false);
    }
    expect(lease.signal.aborted).toBe(false);
    expect(line.updates).toBe(1 + 30);
    await lease[Symbol.asyncDispose]();
    expect(line.updates).toBe(32);
    await seconds(600);
    expect(line.updates).toBe(32);
    expect(await isFree()).toBe(true);
  });

  test('of a crashed process is free after its time and the skew of clocks, not before', async () => {
    await locked(stateOver(table, frozen(clock)));
    await seconds(119);
    expect(await isFree()).toBe(false);
    await seconds(1);
    expect(await isFree()).toBe(true);
  });

  test('of a crashed process is free earlier where clocks are known to differ by less', async () => {
    await locked(stateOver(table, frozen(clock)));
    other = stateOver(table, clock, { skewSeconds: 1 });
    await seconds(60);
    expect(await isFree()).toBe(false);
    await seconds(1);
    expect(await isFree()).toBe(true);
  });

  test('retries a renewal that fails, and stays held', async () => {
    await using lease = await locked();
    line.mood = 'down';
    await seconds(50);
    expect(line.updates).toBeGreaterThan(4);
    expect(lease.signal.aborted).toBe(false);
    line.mood = 'fine';
    await seconds(600);
    expect(lease.signal.aborted).toBe(false);
    expect(await isFree()).toBe(false);
  });

  test.each(['down', 'hung', 'deaf'] as const)(
    'is lost before its time is over while the table is %s',
    async (mood) => {
      await using lease = await locked();
      await seconds(30);
      line.mood = mood;
      // renewed at 20
      await seconds(43);
      expect(lease.signal.aborted).toBe(false);
      await seconds(2);
      expect(lease.signal.aborted).toBe(true);
      expect(lease.signal.reason).toMatchObject({
        code: 'CONFLICT',
        message: 'hold the lease of s3://bucket/folder/v1.tar: it could not be renewed in time',
      });
      const count = line.updates;
      await seconds(600);
      expect(line.updates).toBe(count);
      line.mood = 'fine';
      await expect(state.destinations.record(RECORD, lease)).rejects.toMatchObject({ code: 'CONFLICT' });
    },
  );

  test('is held while every answer of the table takes half of its time', async () => {
    await using lease = await locked();
    line.mood = 'slow';
    await seconds(600);
    expect(lease.signal.aborted).toBe(false);
    expect(await isFree()).toBe(false);
    line.mood = 'fine';
  });

  test('is not shortened by a renewal that reaches the table after a later one', async () => {
    await using lease = await locked();
    line.mood = 'slow';
    await seconds(21);
    line.mood = 'fine';
    // requested at 20 and at 40, done at 50 and at 40
    await seconds(25);
    expect(await table.get(ITEM)).toMatchObject({
      leaseUntilMs: clock.now() - 6 * SECOND_MS + TTL_SECONDS * SECOND_MS,
    });
    await seconds(10);
    expect(await table.get(ITEM)).toMatchObject({
      leaseUntilMs: clock.now() - 16 * SECOND_MS + TTL_SECONDS * SECOND_MS,
    });
    expect(lease.signal.aborted).toBe(false);
  });

  test('is lost at its next renewal if another process took it', async () => {
    await using lease = await locked();
    // like a process whose clock is years ahead
    await using taken = await locked(stateOver(table, skewed(clock, 1e11)));
    expect(taken.fence).toBe(lease.fence + 1);
    await expect(state.destinations.record(RECORD, lease)).rejects.toMatchObject({ code: 'CONFLICT' });
    await seconds(20);
    expect(lease.signal.reason).toMatchObject({ code: 'CONFLICT', message: expect.stringMatching(/another has it$/) });
    expect(taken.signal.aborted).toBe(false);
    await lease[Symbol.asyncDispose]();
    expect(await table.get(ITEM)).toMatchObject({ fence: taken.fence, owner: expect.any(String) });
  });

  test('is released at once, whatever happens to the table', async () => {
    for (const mood of ['down', 'deaf'] as const) {
      const lease = await locked();
      line.mood = mood;
      await lease[Symbol.asyncDispose]();
      expect(clock.sleeping).toBe(0);
      line.mood = 'fine';
      await seconds(121);
    }
    const lease = await locked();
    line.mood = 'hung';
    const given = lease[Symbol.asyncDispose]();
    await seconds(5);
    await given;
    expect(lease.signal.aborted).toBe(false);
  });

  test('is released while it is being renewed', async () => {
    const lease = await locked();
    line.mood = 'hung';
    await seconds(21);
    line.mood = 'fine';
    await lease[Symbol.asyncDispose]();
    expect(await isFree()).toBe(true);
  });

  test('is released if it was taken and the answer was lost', async () => {
    const deafOnce: Table = {
      ...table,
      update: async (key, change, expected, o) => {
        const updated = await table.update(key, change, expected, o);
        if (change.set?.['owner'] !== undefined)
          throw new Failure('UNAVAILABLE', 'reach the table: the answer was lost');
        return updated;
      },
    };
    await expect(stateOver(deafOnce, clock).destinations.lock(KEY, 60)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(await isFree()).toBe(true);
  });

  test('is ours where an earlier try took it', async () => {
    const twice: Table = {
      ...table,
      update: async (key, change, expected, o) => {
        await table.update(key, change, expected, o);
        return table.update(key, change, expected, o);
      },
    };
    await using lease = await stateOver(twice, clock).destinations.lock(KEY, 60);
    expect(lease?.fence).toBe(1);
    expect(await isFree()).toBe(false);
  });

  test('is kept 15 days in the table, and permanently once there is a record', async () => {
    const ttl = async (): Promise<unknown> => (await table.get(ITEM))?.['ttl'];
    const first = await locked();
    // the dead letters that it may remember are in their queue for 14 days
    expect(await ttl()).toBe(clock.now() / 1000 + TTL_SECONDS + 15 * 24 * 3600);
    await state.destinations.record(RECORD, first);
    expect(await ttl()).toBeUndefined();
    await first[Symbol.asyncDispose]();
    await using _ = await locked();
    expect(await ttl()).toBeUndefined();
  });

  test('is held by one process at a time, whatever clocks show and whatever happens to the table', async () => {
    const change = fc.record({
      afterSeconds: fc.integer({ min: 1, max: 80 }),
      who: fc.nat(1),
      what: fc.constantFrom<Mood | 'release'>('release', 'fine', 'fine', 'slow', 'down', 'deaf', 'hung'),
    });
    const skewMs = fc.constantFrom(-60_000, -30_000, 0, 30_000, 60_000);
    await fc.assert(
      fc.asyncProperty(skewMs, fc.array(change, { minLength: 3, maxLength: 12 }), async (byMs, changes) => {
        const time = manualClock();
        const shared = memoryTable();
        const workers = [0, byMs].map((ms) => {
          const to = new Line(shared, time);
          const held: Lease[] = [];
          return { line: to, held, store: stateOver(to.table, skewed(time, ms)), asks: false };
        });
        let fence = 0;
        /** Ends calls that hang: clients of the table have a timeout. */
        const timeout = new AbortController();
        const ask = async (worker: (typeof workers)[number]): Promise<void> => {
          worker.asks = true;
          const lease = await worker.store.destinations
            .lock(KEY, TTL_SECONDS, { signal: timeout.signal })
            .catch(() => undefined);
          worker.asks = false;
          if (lease === undefined) return;
          expect(lease.fence).toBeGreaterThan(fence);
          ({ fence } = lease);
          worker.held.push(lease);
        };
        const pending: Promise<void>[] = [];
        /** A process that holds no lease asks for it all the time, unless it is stuck. */
        const pass = async (count: number): Promise<void> => {
          for (let second = 0; second < count; second += 2) {
            for (const worker of workers) {
              const isHolder = worker.held.some(({ signal }) => !signal.aborted);
              if (!isHolder && !worker.asks && worker.line.mood !== 'hung') pending.push(ask(worker));
            }
            await time.advance(2 * SECOND_MS);
            const holders = workers.flatMap(({ held }) => held.filter(({ signal }) => !signal.aborted));
            expect(holders.length).toBeLessThanOrEqual(1);
          }
        };
        for (const { afterSeconds, who, what } of changes) {
          await pass(afterSeconds);
          const worker = workers[who];
          if (worker === undefined) continue;
          if (what !== 'release') worker.line.mood = what;
          else for (const lease of worker.held.splice(0)) pending.push(Promise.resolve(lease[Symbol.asyncDispose]()));
        }
        for (const worker of workers) worker.line.mood = 'fine';
        timeout.abort();
        // slow calls have their answers then
        await time.advance(2 * TTL_SECONDS * SECOND_MS);
        for (const lease of workers.flatMap(({ held }) => held))
          pending.push(Promise.resolve(lease[Symbol.asyncDispose]()));
        await time.advance(10 * SECOND_MS);
        await Promise.all(pending);
        expect(time.sleeping).toBe(0);
      }),
      { numRuns: 50 },
    );
  });
});
