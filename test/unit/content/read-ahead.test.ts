import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import type { Bytes, Source } from '../../../worker/content/content.ts';
import { MemoryContent } from '../../../worker/content/memory.ts';
import { read } from '../../../worker/content/read.ts';
import type { Descriptor } from '../../../worker/oci/manifest.ts';
import type { Code } from '../../../worker/util/failure.ts';
import { Limit } from '../../../worker/util/limit.ts';
import { manualClock, type ManualClock } from '../../support/clock.ts';
import { broken, corrupting, counting, failing, rangeless, slow, truncated } from '../../support/faulty-content.ts';
import type { Counts, Opened } from '../../support/faulty-content.ts';
import { seededBytes } from '../../support/images.ts';

const MIB = 1024 * 1024;
/** Several pieces and a rest. Its pattern repeats nowhere near a multiple of a piece's size. */
const BYTES = Buffer.alloc(24 * MIB + 777, seededBytes('pattern', 65_521));

/** A source that serves eight ranges of a blob at once. */
class Wide extends MemoryContent {
  readonly rangesAtOnce = 8;
}

interface Network {
  readonly content: MemoryContent;
  readonly d: Descriptor;
  readonly clock: ManualClock;
  /** Each connection delivers a chunk in 12 ms: 20 MB/s, for a chunk of 256 KiB. */
  readonly paced: <T extends Source>(source: T) => T;
}

function network(bytes: Uint8Array = BYTES, content: MemoryContent = new Wide()): Network {
  const clock = manualClock();
  const d = content.add('application/octet-stream', bytes);
  return { content, d, clock, paced: (source) => slow(source, clock, { chunkBytes: 256 * 1024, msPerChunk: 12 }) };
}

/** The result of `work` while time passes; `look` is called now and then. */
async function passing<T>(clock: ManualClock, work: Promise<T>, look?: () => void): Promise<T> {
  const state = { isDone: false };
  const done = work.finally(() => (state.isDone = true));
  done.catch(() => undefined); // handled below
  while (!state.isDone) {
    await clock.advance(24);
    look?.();
  }
  return done;
}

/** Reads to the end. Returns its failure, if it failed. */
async function drain(body: Bytes, expected: Uint8Array = BYTES): Promise<unknown> {
  let at = 0;
  try {
    for await (const chunk of body) {
      if (Buffer.compare(chunk, expected.subarray(at, at + chunk.byteLength)) !== 0)
        throw new Error(`other bytes near ${at}`);
      at += chunk.byteLength;
    }
  } catch (error) {
    return error;
  }
  expect(at).toBe(expected.byteLength);
  return undefined;
}

/** Whether all of the budget has been given back. */
function isWhole(budget: Limit): boolean {
  const giveBack = budget.tryTake(budget.capacity);
  giveBack?.();
  return giveBack !== undefined;
}

/** The most connections that were open at once while `work` ran. */
async function mostOpen(counts: Counts, clock: ManualClock, work: Promise<unknown>): Promise<number> {
  let most = 0;
  const failed = await passing(clock, work, () => {
    most = Math.max(most, counts.opened.filter((o) => !o.ended).length);
  });
  expect(failed).toBeUndefined();
  return most;
}

const code = (expected: Code): unknown => expect.objectContaining({ code: expected });
const allEnded = (opened: readonly Opened[]): boolean => opened.every((o) => o.ended);

describe('reading ahead', () => {
  test.each([16_384, 65_536, 262_144, 9 * MIB])(
    'returns the bytes unchanged in chunks of %d, each requested once',
    async (chunkBytes) => {
      const { content, d, clock } = network();
      const paced = slow(content, clock, { chunkBytes, msPerChunk: chunkBytes / 20_000 });
      const { end, counts } = counting(paced);
      const budget = new Limit(32 * MIB);
      expect(await passing(clock, drain(read(end, d, { ahead: budget, clock })))).toBeUndefined();
      const [first, ...others] = counts.opened;
      expect(first).toMatchObject({ from: 0, to: undefined });
      if (chunkBytes < MIB) expect(others.length).toBeGreaterThanOrEqual(3);
      const ranges = others.map(({ from, to = d.size }) => [from, to]).sort(([a = 0], [b = 0]) => a - b);
      let next = ranges[0]?.[0] ?? d.size;
      expect(first?.bytes).toBeLessThan(next + 2 * chunkBytes);
      for (const [from, to = 0] of ranges) {
        expect(from).toBe(next);
        next = to;
      }
      expect(next).toBe(d.size);
      expect(allEnded(counts.opened)).toBe(true);
      expect(isWhole(budget)).toBe(true);
    },
  );

  test('opens more connections, as many as the source serves well, where one is too slow', async () => {
    for (const rangesAtOnce of [1, 3, 8]) {
      const bytes = Buffer.alloc(48 * MIB, BYTES);
      const content = Object.assign(new MemoryContent(), { rangesAtOnce });
      const { d, clock, paced } = network(bytes, content);
      const { end, counts } = counting(paced(content));
      const reading = drain(read(end, d, { ahead: new Limit(100 * MIB), clock }), bytes);
      expect(await mostOpen(counts, clock, reading)).toBe(rangesAtOnce);
    }
  });

  test('reads several times as fast as one connection', async () => {
    const bytes = Buffer.alloc(48 * MIB, BYTES);
    const { content, d, clock, paced } = network(bytes);
    const startMs = clock.now();
    const reading = drain(read(paced(content), d, { ahead: new Limit(32 * MIB), clock }), bytes);
    expect(await passing(clock, reading)).toBeUndefined();
    const oneMs = (12 * bytes.byteLength) / (256 * 1024);
    expect(clock.now() - startMs).toBeLessThan(oneMs / 3);
  });

  test('keeps to one connection where that is fast, or its reader is slow', async () => {
    const { content, d, clock, paced } = network();
    const fast = counting(content);
    expect(await passing(clock, drain(read(fast.end, d, { ahead: new Limit(32 * MIB), clock })))).toBeUndefined();
    expect(fast.counts.opened).toMatchObject([{ from: 0, to: undefined, bytes: d.size }]);

    const { end, counts } = counting(paced(content));
    const reading = async (): Promise<void> => {
      for await (const _ of read(end, d, { ahead: new Limit(32 * MIB), clock })) await clock.sleep(36);
    };
    await passing(clock, reading());
    expect(counts.opened).toMatchObject([{ from: 0, to: undefined, bytes: d.size }]);
  });

  test('keeps to one connection where a second one gains nothing', async () => {
    const { content, d, clock } = network();
    // a line of 20 MB/s that all connections share
    let freeAtMs = clock.now();
    const narrow: typeof clock = {
      ...clock,
      sleep: async (ms, options) => {
        freeAtMs = Math.max(freeAtMs, clock.now()) + ms;
        await clock.sleep(freeAtMs - clock.now(), options);
      },
    };
    const bytes = Buffer.alloc(48 * MIB, BYTES);
    const large = content.add('application/octet-stream', bytes);
    expect(large.size).toBeGreaterThan(d.size);
    const { end, counts } = counting(slow(content, narrow, { chunkBytes: 256 * 1024, msPerChunk: 12 }));
    const reading = drain(read(end, large, { ahead: new Limit(32 * MIB), clock }), bytes);
    expect(await mostOpen(counts, clock, reading)).toBe(2);
    expect(counts.opened.length).toBeLessThanOrEqual(10);
  });

  test('holds no more than the budget ahead of its reader, however slow that becomes', async () => {
    const { content, d, clock, paced } = network();
    const { end, counts } = counting(paced(content));
    const budget = new Limit(12 * MIB);
    let [used, most] = [0, 0];
    const reading = async (): Promise<void> => {
      for await (const chunk of read(end, d, { ahead: budget, clock })) {
        if (used > 4 * MIB) await clock.sleep(100);
        const fetched = counts.opened.reduce((sum, o) => sum + o.bytes, 0);
        most = Math.max(most, fetched - used);
        used += chunk.byteLength;
      }
    };
    await passing(clock, reading());
    expect(used).toBe(d.size);
    expect(most).toBeGreaterThan(8 * MIB);
    expect(most).toBeLessThanOrEqual(12 * MIB + 2 * 256 * 1024); // and the chunks that read and its reader hold
    expect(isWhole(budget)).toBe(true);
  });

  test('shares the budget between readers: one that finds none left reads over one connection', async () => {
    const { content, d, clock, paced } = network();
    const budget = new Limit(12 * MIB);
    const taken = await budget.take(12 * MIB);
    const { end, counts } = counting(paced(content));
    expect(await passing(clock, drain(read(end, d, { ahead: budget, clock })))).toBeUndefined();
    expect(counts.opened).toEqual([{ digest: d.digest, from: 0, to: undefined, bytes: d.size, ended: true }]);
    taken();
    const many = Promise.all(
      Array.from({ length: 3 }, async () => drain(read(paced(content), d, { ahead: budget, clock }))),
    );
    expect(await passing(clock, many)).toEqual([undefined, undefined, undefined]);
    expect(isWhole(budget)).toBe(true);
  });

  test('continues over one connection where other readers use the whole budget, and wait as well', async () => {
    const { content, d, clock, paced } = network();
    const connections = new Limit(2);
    const budgets = [new Limit(32 * MIB), new Limit(32 * MIB)];
    const inner = paced(content);
    const limited: Source = {
      rangesAtOnce: 8,
      resolve: async (...args) => content.resolve(...args),
      referrers: (...args) => content.referrers(...args),
      tags: (...args) => content.tags(...args),
      open: async (descriptor, options) => {
        const giveBack = await connections.take(1, options);
        const body = await inner.open(descriptor, options);
        return (async function* () {
          try {
            for await (const chunk of body) yield chunk;
          } finally {
            giveBack();
          }
        })();
      },
    };
    const { end, counts } = counting(limited);
    const both = Promise.all(budgets.map(async (ahead) => drain(read(end, d, { ahead, clock }))));
    expect(await passing(clock, both)).toEqual([undefined, undefined]);
    expect(counts.calls.open).toBeGreaterThan(2);
    expect(allEnded(counts.opened)).toBe(true);
    expect(budgets.every(isWhole)).toBe(true);
    expect(isWhole(connections)).toBe(true);
  });

  test('opens more connections when there is memory again', async () => {
    const bytes = Buffer.alloc(48 * MIB, BYTES);
    const { content, d, clock, paced } = network(bytes);
    const budget = new Limit(16 * MIB);
    let taken: (() => void) | undefined = await budget.take(16 * MIB);
    const { end, counts } = counting(paced(content));
    const seen: number[] = [];
    const reading = async (): Promise<void> => {
      let used = 0;
      for await (const chunk of read(end, d, { ahead: budget, clock })) {
        expect(Buffer.compare(chunk, bytes.subarray(used, used + chunk.byteLength))).toBe(0);
        used += chunk.byteLength;
        // the budget is used up, then free, used up again, and free to the end
        const phase = Math.floor(used / (12 * MIB));
        if (taken !== undefined && phase % 2 === 1) {
          taken();
          taken = undefined;
        } else taken ??= phase === 2 ? budget.tryTake(16 * MIB) : undefined;
        seen[phase] = Math.max(seen[phase] ?? 0, counts.opened.filter((o) => !o.ended).length);
      }
      expect(used).toBe(d.size);
    };
    await passing(clock, reading());
    expect(seen[0]).toBe(1);
    expect(seen[1]).toBeGreaterThan(2);
    expect(seen[3]).toBeGreaterThan(2);
    taken?.();
    expect(isWhole(budget)).toBe(true);
  });

  test('does without when the budget could never hold a piece', async () => {
    const { content, d, clock, paced } = network();
    const { end, counts } = counting(paced(content));
    expect(await passing(clock, drain(read(end, d, { ahead: new Limit(MIB), clock })))).toBeUndefined();
    expect(counts.calls.open).toBe(1);
  });

  test.each([0, 1, 4 * MIB])('reads a blob of %d bytes with one request', async (length) => {
    const bytes = BYTES.subarray(0, length);
    const { content, d, clock, paced } = network(bytes);
    const { end, counts } = counting(paced(content));
    expect(await passing(clock, drain(read(end, d, { ahead: new Limit(16 * MIB), clock }), bytes))).toBeUndefined();
    expect(counts.opened).toMatchObject([{ from: 0, to: undefined, bytes: length }]);
  });

  test('is for sources that announce several ranges', async () => {
    const { content, d, clock, paced } = network(BYTES, new MemoryContent());
    const { end, counts } = counting(paced(content));
    expect(await passing(clock, drain(read(end, d, { ahead: new Limit(16 * MIB), clock })))).toBeUndefined();
    expect(counts.opened).toMatchObject([{ from: 0, to: undefined }]);
  });

  describe('wrong bytes', () => {
    test.each([0, 5 * MIB, BYTES.byteLength - 1])('are CORRUPT: byte %d changed', async (at) => {
      const { content, d, clock, paced } = network();
      const budget = new Limit(16 * MIB);
      const { end, counts } = counting(paced(corrupting(content, d.digest, at)));
      let bytes = 0;
      const reading = async (): Promise<void> => {
        for await (const chunk of read(end, d, { ahead: budget, clock })) bytes += chunk.byteLength;
      };
      await expect(passing(clock, reading())).rejects.toEqual(code('CORRUPT'));
      expect(bytes).toBeLessThan(d.size);
      expect(allEnded(counts.opened)).toBe(true);
      expect(isWhole(budget)).toBe(true);
    });

    test('are CORRUPT when the blob is shorter than its descriptor', async () => {
      for (const at of [0, 5 * MIB, BYTES.byteLength - 1]) {
        const { content, d, clock, paced } = network();
        const budget = new Limit(16 * MIB);
        const { end, counts } = counting(paced(truncated(content, d.digest, at)));
        const failure = await passing(clock, drain(read(end, d, { ahead: budget, clock })));
        expect(failure).toMatchObject({ code: 'CORRUPT', message: expect.stringContaining(`after ${at} of`) });
        expect(allEnded(counts.opened)).toBe(true);
        expect(isWhole(budget)).toBe(true);
      }
    });

    test('are CORRUPT when the blob does not end, without reading on', async () => {
      const { content, d, clock, paced } = network();
      const budget = new Limit(16 * MIB);
      let given = 0;
      const endless: Source = {
        rangesAtOnce: 8,
        resolve: async (...args) => content.resolve(...args),
        referrers: (...args) => content.referrers(...args),
        tags: (...args) => content.tags(...args),
        open: async (_, o) =>
          (async function* () {
            yield* await content.open(d, o);
            if (o?.to !== undefined) return;
            for (; given < 32 * MIB; given += MIB) yield BYTES.subarray(0, MIB);
            throw new Error('a reader reads on');
          })(),
      };
      expect(await passing(clock, drain(read(paced(endless), d, { ahead: budget, clock })))).toEqual(code('CORRUPT'));
      expect(given).toBeLessThanOrEqual(MIB);
      expect(isWhole(budget)).toBe(true);
    });

    test('are cut off when a source sends more than the requested range', async () => {
      const { content, d, clock, paced } = network();
      const budget = new Limit(32 * MIB);
      const generous: Source = {
        rangesAtOnce: 8,
        resolve: async (...args) => content.resolve(...args),
        referrers: (...args) => content.referrers(...args),
        tags: (...args) => content.tags(...args),
        open: async (_, o) => content.open(d, { signal: o?.signal, from: o?.from ?? 0 }),
      };
      const { end, counts } = counting(paced(generous));
      expect(await passing(clock, drain(read(end, d, { ahead: budget, clock })))).toBeUndefined();
      expect(counts.opened.length).toBeGreaterThan(3);
      expect(allEnded(counts.opened)).toBe(true);
      expect(isWhole(budget)).toBe(true);
    });

    test.each<Code>(['NOT_FOUND', 'DENIED'])('cause %s of a later range, after the bytes before it', async (failed) => {
      const { content, d, clock, paced } = network();
      const budget = new Limit(16 * MIB);
      const { end, counts } = counting(failing(paced(content), { open: [4, failed] }));
      let bytes = 0;
      const reading = async (): Promise<void> => {
        for await (const chunk of read(end, d, { ahead: budget, clock })) bytes += chunk.byteLength;
      };
      await expect(passing(clock, reading())).rejects.toEqual(code(failed));
      expect(bytes).toBeGreaterThan(8 * MIB);
      expect(bytes).toBeLessThan(d.size);
      expect(allEnded(counts.opened)).toBe(true);
      expect(isWhole(budget)).toBe(true);
    });
  });

  describe('a source that serves no ranges', () => {
    test.each<Code>(['UNSUPPORTED', 'DENIED', 'UNAVAILABLE', 'THROTTLED'])(
      'is read over one connection (%s)',
      async (refusal) => {
        const { content, d, clock, paced } = network();
        const budget = new Limit(16 * MIB);
        const { end, counts } = counting(
          refusal === 'UNSUPPORTED' ? rangeless(paced(content)) : failing(paced(content), { open: [2, refusal] }),
        );
        expect(await passing(clock, drain(read(end, d, { ahead: budget, clock })))).toBeUndefined();
        expect(counts.calls.open).toBe(2);
        expect(counts.opened).toMatchObject([{ from: 0, to: undefined, bytes: d.size, ended: true }]);
        expect(isWhole(budget)).toBe(true);
      },
    );

    test('is waited for before the one connection is closed', async () => {
      const { content, d, clock, paced } = network();
      const late = rangeless(paced(content));
      const open = late.open.bind(late);
      const source: Source = Object.assign(Object.create(late) as Source, {
        rangesAtOnce: 8,
        open: async (...args: Parameters<Source['open']>) => {
          if ((args[1]?.from ?? 0) > 0) await clock.sleep(5000, args[1]);
          return open(...args);
        },
      });
      const { end, counts } = counting(source);
      expect(await passing(clock, drain(read(end, d, { ahead: new Limit(16 * MIB), clock })))).toBeUndefined();
      expect(counts.opened).toMatchObject([{ from: 0, to: undefined, bytes: d.size, ended: true }]);
    });
  });

  describe('a connection that breaks', () => {
    test.each([
      [broken, 0],
      [broken, 3 * MIB],
      [broken, 4 * MIB],
      [truncated, 9 * MIB + 1],
      [broken, BYTES.byteLength - 1],
    ])('is resumed where it broke (%#)', async (breaking, at) => {
      const { content, d, clock, paced } = network();
      const budget = new Limit(16 * MIB);
      let retries = 0;
      const { end, counts } = counting(paced(breaking(content, d.digest, at, 1)));
      const report = ({ type }: { readonly type: string }): void => void (retries += type === 'retry' ? 1 : 0);
      expect(await passing(clock, drain(read(end, d, { ahead: budget, clock, report })))).toBeUndefined();
      // a range that breaks before the first connection is closed needs none
      expect(retries).toBeLessThanOrEqual(1);
      expect(allEnded(counts.opened)).toBe(true);
      expect(isWhole(budget)).toBe(true);
    });

    test('is given up when it breaks there again and again', async () => {
      const { content, d, clock, paced } = network();
      const budget = new Limit(16 * MIB);
      let retries = 0;
      const report = ({ type }: { readonly type: string }): void => void (retries += type === 'retry' ? 1 : 0);
      const reading = drain(read(paced(broken(content, d.digest, 5 * MIB)), d, { ahead: budget, clock, report }));
      expect(await passing(clock, reading)).toEqual(code('UNAVAILABLE'));
      expect(retries).toBe(5);
      expect(isWhole(budget)).toBe(true);
    });

    test('is read again as a whole, skipping the bytes before, when the source later serves no ranges', async () => {
      const { content, d, clock, paced } = network();
      const budget = new Limit(16 * MIB);
      const { end, counts } = counting(failing(paced(content), { open: [3, 'UNSUPPORTED'] }));
      expect(await passing(clock, drain(read(end, d, { ahead: budget, clock })))).toBeUndefined();
      expect(counts.opened.at(-1)).toMatchObject({ from: 0, to: undefined, bytes: d.size });
      expect(allEnded(counts.opened)).toBe(true);
      expect(isWhole(budget)).toBe(true);
    });
  });

  describe('a reading that is abandoned', () => {
    test.each([1, 3 * MIB, 9 * MIB])('releases the budget after %d bytes and leaves nothing open', async (enough) => {
      for (const patient of [true, false]) {
        const { content, d, clock, paced } = network();
        const budget = new Limit(16 * MIB);
        const { end, counts } = counting(paced(content));
        const reading = async (): Promise<void> => {
          let used = 0;
          for await (const chunk of read(end, d, { ahead: budget, clock })) {
            used += chunk.byteLength;
            if (used < enough) continue;
            // the pieces after it may be in transit, or complete in memory
            if (patient) await clock.sleep(3000);
            break;
          }
        };
        await passing(clock, reading());
        expect(allEnded(counts.opened)).toBe(true);
        expect(isWhole(budget)).toBe(true);
        const { length } = counts.opened;
        await turn();
        expect(counts.opened.length).toBe(length);
      }
    });

    test('ends with ABORTED on a signal, releases the budget and leaves nothing open', async () => {
      for (const isDeaf of [false, true]) {
        for (const enough of [1, 9 * MIB]) {
          const { content, d, clock, paced } = network();
          const hearing = paced(content);
          const open = hearing.open.bind(hearing);
          const source: Source = Object.assign(Object.create(hearing) as Source, {
            rangesAtOnce: 8,
            open: async (...[descriptor, o]: Parameters<Source['open']>) =>
              open(descriptor, isDeaf ? { ...o, signal: undefined } : o),
          });
          const budget = new Limit(16 * MIB);
          const stop = new AbortController();
          const { end, counts } = counting(source);
          let used = 0;
          const reading = async (): Promise<void> => {
            for await (const chunk of read(end, d, { ahead: budget, signal: stop.signal, clock })) {
              used += chunk.byteLength;
              if (used >= enough) stop.abort();
            }
          };
          await expect(passing(clock, reading())).rejects.toEqual(code('ABORTED'));
          expect(used).toBeLessThan(enough + MIB);
          expect(allEnded(counts.opened)).toBe(true);
          expect(isWhole(budget)).toBe(true);
        }
      }
    });
  });
});
