import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import type { Bytes, Source } from '../../../worker/content/content.ts';
import { MemoryContent } from '../../../worker/content/memory.ts';
import { read } from '../../../worker/content/read.ts';
import type { Descriptor } from '../../../worker/oci/manifest.ts';
import type { Code } from '../../../worker/util/failure.ts';
import { Limit } from '../../../worker/util/limit.ts';
import { fakeClock } from '../../support/clock.ts';
import {
  broken,
  corrupting,
  counting,
  failing,
  rangeless,
  rechunked,
  truncated,
  type Opened,
} from '../../support/faulty-content.ts';
import { seededBytes } from '../../support/images.ts';

const MIB = 1024 * 1024;
/** Six ranges of 4 MiB and a rest that is not worth one more. Its pattern repeats nowhere near a multiple of a range's size. */
const BYTES = Buffer.alloc(24 * MIB + 777, seededBytes('pattern', 65_521));

/** A source that serves four ranges of a blob at once. */
class Wide extends MemoryContent {
  readonly rangesAtOnce = 4;
}

function wide(bytes: Uint8Array = BYTES): { content: Wide; d: Descriptor } {
  const content = new Wide();
  return { content, d: content.add('application/octet-stream', bytes) };
}

/** Reads to the end; gives what it failed with, if it did. */
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

/** Whether all of it has been given back. */
function isWhole(budget: Limit): boolean {
  const giveBack = budget.tryTake(budget.capacity);
  giveBack?.();
  return giveBack !== undefined;
}

const code = (expected: Code): unknown => expect.objectContaining({ code: expected });
const allEnded = (opened: readonly Opened[]): boolean => opened.every((o) => o.ended);

describe('reading ahead', () => {
  test.each([511, 65_536, 1_000_003, 9 * MIB])(
    'gives the bytes as they are in chunks of %d, each asked for once',
    async (size) => {
      const { content, d } = wide();
      const { end, counts } = counting(rechunked(content, size));
      const budget = new Limit(16 * MIB);
      expect(await drain(read(end, d, { ahead: budget }))).toBeUndefined();
      const ranges = counts.opened.map(({ from, to = d.size }) => [from, to]).sort(([a = 0], [b = 0]) => a - b);
      expect(ranges.length).toBeGreaterThanOrEqual(6);
      let next = 0;
      for (const [from, to = 0] of ranges) {
        expect(from).toBe(next);
        next = to;
      }
      expect(next).toBe(d.size);
      expect(allEnded(counts.opened)).toBe(true);
      expect(isWhole(budget)).toBe(true);
    },
  );

  test('opens as many ranges as the source serves well, and no more', async () => {
    const { content, d } = wide();
    const { end, counts } = counting(content);
    let most = 0;
    for await (const _ of read(end, d, { ahead: new Limit(100 * MIB) })) {
      most = Math.max(most, counts.opened.filter((o) => !o.ended).length);
    }
    expect(most).toBe(4);
  });

  test('holds no more than the budget ahead of who reads, however slow that is', async () => {
    const { content, d } = wide();
    const { end, counts } = counting(content);
    const budget = new Limit(12 * MIB);
    let used = 0;
    let most = 0;
    for await (const chunk of read(end, d, { ahead: budget })) {
      for (let turns = 0; turns < 20; turns++) await turn();
      const fetched = counts.opened.reduce((sum, o) => sum + o.bytes, 0);
      most = Math.max(most, fetched - used);
      used += chunk.byteLength;
    }
    expect(used).toBe(d.size);
    expect(most).toBeGreaterThan(8 * MIB);
    expect(most).toBeLessThanOrEqual(12 * MIB + 2 * 65_536); // and what is in the hands of read and its reader
    expect(isWhole(budget)).toBe(true);
  });

  test('shares the budget between reads: one that finds none left reads as if there were none', async () => {
    const { content, d } = wide();
    const budget = new Limit(12 * MIB);
    const taken = await budget.take(12 * MIB);
    const { end, counts } = counting(content);
    expect(await drain(read(end, d, { ahead: budget }))).toBeUndefined();
    expect(counts.opened).toEqual([{ digest: d.digest, from: 0, to: undefined, bytes: d.size, ended: true }]);
    taken();
    const many = await Promise.all(Array.from({ length: 3 }, async () => drain(read(content, d, { ahead: budget }))));
    expect(many).toEqual([undefined, undefined, undefined]);
    expect(isWhole(budget)).toBe(true);
  });

  test('comes back to it when there is some again', async () => {
    const bytes = Buffer.alloc(44 * MIB, BYTES);
    const { content, d } = wide(bytes);
    const budget = new Limit(16 * MIB);
    const taken = await budget.take(16 * MIB);
    const { end, counts } = counting(content);
    const body = read(end, d, { ahead: budget });
    await body.next();
    taken();
    expect(await drain(body, bytes.subarray(65_536))).toBeUndefined();
    expect(counts.opened[0]).toMatchObject({ from: 0, to: 32 * MIB });
    expect(counts.opened.length).toBe(1 + 3);
    expect(isWhole(budget)).toBe(true);
  });

  test('does without when the budget could never hold a range', async () => {
    const { content, d } = wide();
    const { end, counts } = counting(content);
    const budget = new Limit(MIB);
    expect(await drain(read(end, d, { ahead: budget }))).toBeUndefined();
    expect(counts.calls.open).toBe(1);
  });

  test.each([0, 1, 4 * MIB])('reads a blob of %d bytes with one request', async (length) => {
    const bytes = BYTES.subarray(0, length);
    const { content, d } = wide(bytes);
    const { end, counts } = counting(content);
    expect(await drain(read(end, d, { ahead: new Limit(16 * MIB) }), bytes)).toBeUndefined();
    expect(counts.opened).toMatchObject([{ from: 0, to: undefined, bytes: length }]);
  });

  test('is for sources that say they serve several ranges', async () => {
    const content = new MemoryContent();
    const d = content.add('application/octet-stream', BYTES);
    const { end, counts } = counting(content);
    expect(await drain(read(end, d, { ahead: new Limit(16 * MIB) }))).toBeUndefined();
    expect(counts.opened).toMatchObject([{ from: 0, to: undefined }]);
  });

  describe('of what is wrong', () => {
    test.each([0, 5 * MIB, BYTES.byteLength - 1])('says CORRUPT: byte %d changed', async (at) => {
      const { content, d } = wide();
      const budget = new Limit(16 * MIB);
      const { end, counts } = counting(corrupting(content, d.digest, at));
      const chunks: Uint8Array[] = [];
      const reading = async (): Promise<void> => {
        for await (const chunk of read(end, d, { ahead: budget })) chunks.push(Uint8Array.from(chunk));
      };
      await expect(reading()).rejects.toEqual(code('CORRUPT'));
      expect(chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0)).toBeLessThan(d.size);
      expect(allEnded(counts.opened)).toBe(true);
      expect(isWhole(budget)).toBe(true);
    });

    test('says CORRUPT of a blob that is shorter than its descriptor says', async () => {
      const { content, d } = wide();
      const budget = new Limit(16 * MIB);
      for (const at of [0, 5 * MIB, d.size - 1]) {
        const { end, counts } = counting(truncated(content, d.digest, at));
        const failure = await drain(read(end, d, { ahead: budget, clock: fakeClock() }));
        expect(failure).toMatchObject({ code: 'CORRUPT', message: expect.stringContaining(`after ${at} of`) });
        expect(allEnded(counts.opened)).toBe(true);
        expect(isWhole(budget)).toBe(true);
      }
    });

    test('says CORRUPT of a blob that does not end, without taking in what never ends', async () => {
      const { content, d } = wide();
      const budget = new Limit(16 * MIB);
      let given = 0;
      const endless: Source = {
        rangesAtOnce: 4,
        resolve: async (...args) => content.resolve(...args),
        referrers: (...args) => content.referrers(...args),
        tags: (...args) => content.tags(...args),
        open: async (_, o) =>
          (async function* () {
            yield* await content.open(d, o);
            if (o?.to !== undefined) return;
            for (; given < 32 * MIB; given += MIB) yield BYTES.subarray(0, MIB);
            throw new Error('somebody keeps on reading');
          })(),
      };
      expect(await drain(read(endless, d, { ahead: budget }))).toEqual(code('CORRUPT'));
      expect(given).toBeLessThanOrEqual(MIB);
      expect(isWhole(budget)).toBe(true);
    });

    test.each<Code>(['NOT_FOUND', 'DENIED'])(
      'hands on %s of a later range, after the bytes before it',
      async (failed) => {
        const { content, d } = wide();
        const budget = new Limit(16 * MIB);
        const { end, counts } = counting(failing(content, { open: [3, failed] }));
        let bytes = 0;
        const reading = async (): Promise<void> => {
          for await (const chunk of read(end, d, { ahead: budget })) bytes += chunk.byteLength;
        };
        await expect(reading()).rejects.toEqual(code(failed));
        expect(bytes).toBeGreaterThan(7 * MIB);
        expect(bytes).toBeLessThanOrEqual(8 * MIB);
        expect(allEnded(counts.opened)).toBe(true);
        expect(isWhole(budget)).toBe(true);
      },
    );
  });

  describe('of a range that breaks', () => {
    test.each([
      [broken, 0],
      [broken, 3 * MIB],
      [broken, 4 * MIB],
      [truncated, 9 * MIB + 1],
      [broken, BYTES.byteLength - 1],
    ])('goes on where it broke (%#)', async (breaking, at) => {
      const { content, d } = wide();
      const budget = new Limit(16 * MIB);
      const clock = fakeClock();
      const { end, counts } = counting(breaking(content, d.digest, at, 1));
      expect(await drain(read(end, d, { ahead: budget, clock }))).toBeUndefined();
      expect(clock.sleeps).toHaveLength(1);
      // what was delivered before the break is not asked for again
      const again = counts.opened.filter((o, i) => counts.opened.some((other, j) => j < i && other.from >= o.from));
      expect(again.every((o) => o.from >= at)).toBe(true);
      expect(allEnded(counts.opened)).toBe(true);
      expect(isWhole(budget)).toBe(true);
    });

    test('gives up when it breaks there again and again', async () => {
      const { content, d } = wide();
      const budget = new Limit(16 * MIB);
      const clock = fakeClock();
      expect(await drain(read(broken(content, d.digest, 5 * MIB), d, { ahead: budget, clock }))).toEqual(
        code('UNAVAILABLE'),
      );
      expect(clock.sleeps).toHaveLength(5);
      expect(isWhole(budget)).toBe(true);
    });

    test('reads whole, skipping what it has, when the source turns out to serve no ranges', async () => {
      const { content, d } = wide();
      const budget = new Limit(16 * MIB);
      const clock = fakeClock();
      const { end, counts } = counting(rangeless(content));
      expect(await drain(read(end, d, { ahead: budget, clock }))).toBeUndefined();
      expect(counts.opened).toHaveLength(2);
      expect(clock.sleeps).toEqual([]);
      expect(allEnded(counts.opened)).toBe(true);
      expect(isWhole(budget)).toBe(true);
    });
  });

  describe('that is given up', () => {
    test.each([1, 3 * MIB, 5 * MIB])('after %d bytes gives the budget back and leaves nothing open', async (enough) => {
      const { content, d } = wide();
      const budget = new Limit(16 * MIB);
      for (const patient of [true, false]) {
        const { end, counts } = counting(content);
        let used = 0;
        for await (const chunk of read(end, d, { ahead: budget })) {
          used += chunk.byteLength;
          // the ranges behind may be on their way, or complete in memory
          if (patient) for (let turns = 0; turns < 200; turns++) await turn();
          if (used >= enough) break;
        }
        expect(allEnded(counts.opened)).toBe(true);
        expect(isWhole(budget)).toBe(true);
        const { length } = counts.opened;
        await turn();
        expect(counts.opened.length).toBe(length);
      }
    });

    test('by a signal ends with ABORTED, gives the budget back and leaves nothing open', async () => {
      const { content, d } = wide();
      const deaf: Source = {
        rangesAtOnce: 4,
        resolve: async (...args) => content.resolve(...args),
        referrers: (...args) => content.referrers(...args),
        tags: (...args) => content.tags(...args),
        open: async (_, o) => content.open(d, { ...o, signal: undefined }),
      };
      for (const source of [content, deaf]) {
        for (const patient of [true, false]) {
          const budget = new Limit(16 * MIB);
          const stop = new AbortController();
          const { end, counts } = counting(source);
          let used = 0;
          const reading = async (): Promise<void> => {
            for await (const chunk of read(end, d, { ahead: budget, signal: stop.signal })) {
              used += chunk.byteLength;
              if (patient) for (let turns = 0; turns < 200; turns++) await turn();
              stop.abort();
            }
          };
          await expect(reading()).rejects.toEqual(code('ABORTED'));
          expect(used).toBeLessThan(4 * MIB);
          expect(allEnded(counts.opened)).toBe(true);
          expect(isWhole(budget)).toBe(true);
        }
      }
    });
  });
});
