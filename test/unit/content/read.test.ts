import { getEventListeners } from 'node:events';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Bytes, Readable, Source } from '../../../worker/content/content.ts';
import { MemoryContent } from '../../../worker/content/memory.ts';
import { read, readAll, readPart, readUnnamed } from '../../../worker/content/read.ts';
import { digestOf } from '../../../worker/oci/digest.ts';
import type { Descriptor } from '../../../worker/oci/manifest.ts';
import type { Clock } from '../../../worker/util/clock.ts';
import { Failure, type Code } from '../../../worker/util/failure.ts';
import type { Event } from '../../../worker/util/events.ts';
import { MAX_RETRY_AFTER_MS } from '../../../worker/util/retry.ts';
import { CHUNK_SIZES, collect, collectLate, LENT_SIZES } from '../../support/chunks.ts';
import { fakeClock } from '../../support/clock.ts';
import {
  broken,
  corrupting,
  counting,
  failing,
  lending,
  rangeless,
  rechunked,
  truncated,
} from '../../support/faulty-content.ts';
import { seededBytes } from '../../support/images.ts';

const BYTES = seededBytes('a blob', 200_000);

function blob(bytes: Uint8Array = BYTES): { content: MemoryContent; d: Descriptor } {
  const content = new MemoryContent();
  return { content, d: content.add('application/octet-stream', bytes) };
}

/** The result of a body: the bytes handed out, and the failure that ended it. */
async function taken(body: Bytes): Promise<{ bytes: Buffer; failure: unknown }> {
  const chunks: Uint8Array[] = [];
  let failure: unknown;
  try {
    for await (const chunk of body) chunks.push(Uint8Array.from(chunk));
  } catch (error) {
    failure = error;
  }
  return { bytes: Buffer.concat(chunks), failure };
}

const code = (expected: Code): unknown => expect.objectContaining({ code: expected });

describe('read', () => {
  test.each(CHUNK_SIZES)('returns the bytes unchanged when they arrive in chunks of %d', async (size) => {
    for (const length of [0, 1, 2, 511, 512, 513, 1024, 65_537]) {
      const { content, d } = blob(BYTES.subarray(0, length));
      expect(await collect(read(rechunked(content, size), d))).toEqual(BYTES.subarray(0, length));
    }
  });

  test.each(LENT_SIZES)('returns the bytes unchanged when chunks of %d are lent', async (size) => {
    for (const length of [0, 1, 512, size, size + 1, 2 * size - 1]) {
      const bytes = Buffer.alloc(length, BYTES);
      const { content, d } = blob(bytes);
      const source = lending(rechunked(content, size));
      expect((await collectLate(read(source, d))).equals(bytes)).toBe(true);
      expect(bytes.equals(await readAll(source, d, length))).toBe(true);
      const unnamed: Readable = { open: async (_, o) => source.open(d, o) };
      const named = await readUnnamed(unnamed, { name: 'it', size: length, keep: length }, {});
      expect(named.digest).toBe(d.digest);
      expect(bytes.equals(named.bytes ?? Buffer.alloc(0))).toBe(true);
    }
  });

  test('of a part hands out its last chunk before the source takes it back', async () => {
    const { content, d } = blob();
    for (const size of [1000, 65_536]) {
      const source = lending(rechunked(content, size));
      for (const [from, to] of [
        [0, 1000],
        [5, 70_000],
        [100_000, 200_000],
      ] as const)
        expect((await collectLate(readPart(source, d, { from, to }))).equals(BYTES.subarray(from, to))).toBe(true);
    }
  });

  test('hands out the memory of the source, except for the last chunk', async () => {
    const { content, d } = blob();
    const given: Uint8Array[] = [];
    const source: Source = {
      ...asSource(content),
      open: async (_, o) => {
        const body = await content.open(d, o);
        return (async function* () {
          for await (const chunk of body) {
            given.push(chunk);
            yield chunk;
          }
        })();
      },
    };
    const same: boolean[] = [];
    for await (const chunk of read(source, d)) same.push(chunk === given[same.length]);
    expect(same).toEqual([true, true, true, false]);
  });

  test('does not report a break after the last byte as a failure', async () => {
    const { content, d } = blob();
    const clock = fakeClock();
    const source: Source = {
      ...asSource(content),
      open: async (_, o) => {
        const body = await content.open(d, o);
        return (async function* () {
          yield* body;
          throw new Failure('UNAVAILABLE', 'closed late');
        })();
      },
    };
    expect(await collect(read(source, d, { clock }))).toEqual(BYTES);
    expect(clock.sleeps).toEqual([]);
  });

  test('hashes with the algorithm of the digest', async () => {
    const { content, d } = blob();
    const inSha512: Source = { ...asSource(content), open: async (_, o) => content.open(d, o) };
    const right = { ...d, digest: digestOf(BYTES, 'sha512') };
    expect(await collect(read(inSha512, right))).toEqual(BYTES);
    const wrong = { ...d, digest: digestOf(BYTES.subarray(1), 'sha512') };
    expect((await taken(read(inSha512, wrong))).failure).toEqual(code('CORRUPT'));
  });

  test('opens nothing before the first byte is requested', async () => {
    const { content, d } = blob();
    const { end, counts } = counting(content);
    const body = read(end, d);
    expect(counts.calls.open).toBe(0);
    await collect(body);
    expect(counts.opened).toEqual([{ digest: d.digest, from: 0, to: undefined, bytes: d.size, ended: true }]);
  });

  test('is empty for an empty blob, but not for a missing one', async () => {
    const { content, d } = blob(new Uint8Array());
    expect(await collect(read(content, d))).toHaveLength(0);
    expect((await taken(read(new MemoryContent(), d))).failure).toEqual(code('NOT_FOUND'));
  });

  describe('of bytes that do not match the descriptor', () => {
    test.each([0, 1, 100_000, BYTES.byteLength - 1])('is CORRUPT: byte %d changed', async (at) => {
      const { content, d } = blob();
      const { bytes, failure } = await taken(read(rechunked(corrupting(content, d.digest, at), 512), d));
      expect(failure).toMatchObject({ code: 'CORRUPT', context: { digest: d.digest } });
      // a chunk is held back until the digest is verified: no caller gets all bytes of a wrong blob
      expect(bytes.byteLength).toBeLessThan(BYTES.byteLength);
    });

    test('hands out nothing of wrong bytes that arrive in one chunk', async () => {
      const { content, d } = blob(BYTES.subarray(0, 100));
      const { bytes, failure } = await taken(read(corrupting(content, d.digest, 50), d));
      expect(failure).toEqual(code('CORRUPT'));
      expect(bytes).toHaveLength(0);
    });

    test.each(CHUNK_SIZES)('is CORRUPT with too many bytes, in chunks of %d', async (size) => {
      const { content, d } = blob(BYTES.subarray(0, 1500));
      for (const missing of [1, 512, 1499, 1500]) {
        const { end, counts } = counting(rechunked(content, size));
        const shorter = { ...d, size: d.size - missing };
        const { bytes, failure } = await taken(read(end, shorter));
        expect(failure).toMatchObject({ code: 'CORRUPT', message: expect.stringContaining(`${shorter.size} bytes`) });
        expect(bytes.byteLength).toBeLessThanOrEqual(shorter.size);
        expect(counts.opened).toMatchObject([{ ended: true }]); // more bytes do not go away by asking again
      }
    });

    test.each([0, 1, 199_999])('is CORRUPT when it always ends after %d bytes', async (at) => {
      const { content, d } = blob();
      const clock = fakeClock();
      const { end, counts } = counting(truncated(content, d.digest, at));
      const { bytes, failure } = await taken(read(end, d, { clock }));
      expect(failure).toMatchObject({ code: 'CORRUPT', message: expect.stringContaining(`${at} of 200000 bytes`) });
      expect(bytes).toEqual(Buffer.from(BYTES.subarray(0, bytes.byteLength)));
      expect(clock.sleeps).toHaveLength(5);
      expect(counts.opened.map((o) => o.from)).toEqual([0, at, at, at, at, at]);
    });
  });

  describe('of a body that breaks', () => {
    test.each([broken, truncated])('continues where it broke, at every offset (%#)', async (breaking) => {
      const bytes = BYTES.subarray(0, 300);
      const { content, d } = blob(bytes);
      for (let at = 0; at < bytes.byteLength; at++) {
        const clock = fakeClock();
        const { end, counts } = counting(breaking(rechunked(content, 64), d.digest, at, 1));
        expect(await collect(read(end, d, { clock }))).toEqual(bytes);
        // delivered bytes are not requested again
        expect(counts.opened).toMatchObject([
          { from: 0, bytes: at, ended: true },
          { from: at, bytes: 300 - at, ended: true },
        ]);
        expect(clock.sleeps).toHaveLength(1);
      }
    });

    test('continues however often it breaks, as long as some bytes arrive each time', async () => {
      const bytes = BYTES.subarray(0, 64);
      const { content, d } = blob(bytes);
      const clock = fakeClock();
      const events: Event[] = [];
      let source: Source = rechunked(content, 1);
      for (let at = 0; at < 64; at++) source = broken(source, d.digest, at, 1);
      const { end, counts } = counting(source);
      expect(await collect(read(end, d, { clock, report: (event) => events.push(event) }))).toEqual(bytes);
      expect(counts.opened.reduce((sum, o) => sum + o.bytes, 0)).toBe(64);
      expect(clock.sleeps).toHaveLength(64);
      // each break is the first since bytes arrived: the waits do not grow
      expect(Math.max(...clock.sleeps)).toBeLessThanOrEqual(200);
      expect(events).toHaveLength(64);
      expect(events[0]).toMatchObject({ type: 'retry', attempt: 1, code: 'UNAVAILABLE', delayMs: clock.sleeps[0] });
    });

    test('gives up after six attempts without a byte, waiting longer each time', async () => {
      const { content, d } = blob();
      const clock = fakeClock();
      const { end, counts } = counting(broken(content, d.digest, 1000));
      const { bytes, failure } = await taken(read(end, d, { clock }));
      expect(failure).toEqual(code('UNAVAILABLE'));
      expect(bytes.byteLength).toBeLessThanOrEqual(1000);
      expect(counts.calls.open).toBe(6);
      expect(clock.sleeps).toHaveLength(5);
      for (const [i, ms] of clock.sleeps.entries()) {
        expect(ms).toBeGreaterThanOrEqual(100 * 2 ** i);
        expect(ms).toBeLessThanOrEqual(200 * 2 ** i);
      }
    });

    test('waits for as long as the source asked, but not for hours', async () => {
      const { content, d } = blob();
      const throttled = (retryAfterMs: number): Source => {
        let calls = 0;
        return {
          ...asSource(content),
          open: async (_, o) => {
            if (calls++ === 0) throw new Failure('THROTTLED', 'get a: 429', { context: { retryAfterMs } });
            return content.open(d, o);
          },
        };
      };
      const clock = fakeClock();
      expect(await collect(read(throttled(17_000), d, { clock }))).toEqual(BYTES);
      expect(await collect(read(throttled(MAX_RETRY_AFTER_MS), d, { clock }))).toEqual(BYTES);
      expect(clock.sleeps).toEqual([17_000, MAX_RETRY_AFTER_MS]);
      const { failure } = await taken(read(throttled(MAX_RETRY_AFTER_MS + 1), d, { clock }));
      expect(failure).toEqual(code('THROTTLED'));
      expect(clock.sleeps).toHaveLength(2);
    });

    test.each<Code>(['NOT_FOUND', 'UNAUTHENTICATED', 'DENIED', 'INVALID', 'UNSUPPORTED', 'CORRUPT', 'BUG'])(
      'does not retry after %s',
      async (failed) => {
        const { content, d } = blob();
        const { end, counts } = counting(failing(content, { open: [1, failed] }));
        expect((await taken(read(end, d, { clock: fakeClock() }))).failure).toEqual(code(failed));
        expect(counts.calls.open).toBe(1);
        // nor when it is the second opening, in the middle, that fails permanently
        if (failed === 'UNSUPPORTED') return;
        const later = counting(failing(broken(content, d.digest, 1000), { open: [2, failed] }));
        expect((await taken(read(later.end, d, { clock: fakeClock() }))).failure).toEqual(code(failed));
        expect(later.counts.calls.open).toBe(2);
      },
    );

    test('reads everything again from a source that cannot start in the middle, and skips what it has', async () => {
      const bytes = BYTES.subarray(0, 300);
      const { content, d } = blob(bytes);
      for (const size of [1, 7, 64, 512]) {
        for (const at of [1, 63, 64, 65, 150, 299]) {
          const { end, counts } = counting(rangeless(broken(rechunked(content, size), d.digest, at, 1)));
          expect(await collect(read(end, d, { clock: fakeClock() }))).toEqual(bytes);
          expect(counts.opened).toMatchObject([
            { from: 0, bytes: at, ended: true },
            { from: 0, bytes: 300, ended: true },
          ]);
        }
      }
    });

    test('gives up on such a source when it never gets past the place', async () => {
      const { content, d } = blob();
      const { end, counts } = counting(rangeless(broken(content, d.digest, 1000)));
      const { failure } = await taken(read(end, d, { clock: fakeClock() }));
      expect(failure).toEqual(code('UNAVAILABLE'));
      expect(counts.opened.length).toBe(6);
    });

    test('ends in the same bytes for any break, at any place, in chunks of any size', async () => {
      const fault = fc.record({
        breaking: fc.constantFrom(broken, truncated),
        at: fc.nat(599),
        times: fc.integer({ min: 1, max: 3 }),
      });
      await fc.assert(
        fc.asyncProperty(
          fc.constantFrom(1, 7, 64, 511, 512, 513),
          fc.array(fault, { maxLength: 5 }),
          fc.boolean(),
          async (size, faults, ranges) => {
            const bytes = BYTES.subarray(0, 600);
            const { content, d } = blob(bytes);
            let source: Source = rechunked(content, size);
            // one fault at a place: three breaks in a row are survived, more than five would not be
            const places = new Set<number>();
            for (const { breaking, at, times } of faults) {
              if (places.has(at)) continue;
              places.add(at);
              source = breaking(source, d.digest, at, times);
            }
            const { end, counts } = counting(ranges ? source : rangeless(source));
            expect(await collect(read(end, d, { clock: fakeClock() }))).toEqual(bytes);
            if (ranges) expect(counts.opened.reduce((sum, o) => sum + o.bytes, 0)).toBe(600);
            expect(counts.opened.every((o) => o.ended)).toBe(true);
          },
        ),
        { numRuns: 150 },
      );
    });
  });

  describe('when it is aborted', () => {
    test('does nothing when the signal is already aborted', async () => {
      const { content, d } = blob();
      const { end, counts } = counting(content);
      expect((await taken(read(end, d, { signal: AbortSignal.abort() }))).failure).toEqual(code('ABORTED'));
      expect(counts.calls.open).toBe(0);
    });

    test('in the middle ends with ABORTED, and its body is closed, even for a source that ignores the signal', async () => {
      const { content, d } = blob();
      const deaf: Source = { ...asSource(content), open: async (_, o) => content.open(d, { ...o, signal: undefined }) };
      for (const source of [content, deaf]) {
        const { end, counts } = counting(rechunked(source, 512));
        const stop = new AbortController();
        let bytes = 0;
        const reading = async (): Promise<void> => {
          for await (const chunk of read(end, d, stop)) {
            bytes += chunk.byteLength;
            if (bytes > 10_000) stop.abort();
          }
        };
        await expect(reading()).rejects.toEqual(code('ABORTED'));
        expect(bytes).toBeLessThan(12_000);
        expect(counts.opened).toMatchObject([{ ended: true }]);
        expect(getEventListeners(stop.signal, 'abort')).toHaveLength(0);
      }
    });

    test('while it waits to retry ends with ABORTED', async () => {
      const { content, d } = blob();
      const stop = new AbortController();
      const clock = fakeClock({ onSleep: () => stop.abort() });
      const { end, counts } = counting(broken(content, d.digest, 10));
      expect((await taken(read(end, d, { clock, signal: stop.signal }))).failure).toEqual(code('ABORTED'));
      expect(counts.calls.open).toBe(1);
    });

    test('closes the body when it is abandoned', async () => {
      const { content, d } = blob();
      const { end, counts } = counting(rechunked(content, 512));
      for await (const _ of read(end, d)) break;
      expect(counts.opened).toMatchObject([{ ended: true }]);
      expect(counts.opened[0]?.bytes).toBeLessThanOrEqual(1024);
    });
  });
});

describe('readAll', () => {
  test('returns everything in one piece, however it arrived', async () => {
    const { content, d } = blob();
    for (const size of [513, 65_536, 1_000_000])
      expect(await readAll(rechunked(content, size), d, 200_000)).toEqual(Buffer.from(BYTES));
    const empty = blob(new Uint8Array());
    expect(await readAll(empty.content, empty.d, 0)).toHaveLength(0);
  });

  test('refuses more than its limit before the request', async () => {
    const { content, d } = blob();
    const { end, counts } = counting(content);
    await expect(readAll(end, d, 199_999)).rejects.toEqual(code('INVALID'));
    expect(counts.calls.open).toBe(0);
  });

  test('verifies, and accepts no more than the size in the descriptor', async () => {
    const { content, d } = blob();
    await expect(readAll(corrupting(content, d.digest, 7), d, 200_000)).rejects.toEqual(code('CORRUPT'));
    const { end, counts } = counting(rechunked(content, 512));
    await expect(readAll(end, { ...d, size: 1000 }, 1000)).rejects.toEqual(code('CORRUPT'));
    expect(counts.opened[0]?.bytes).toBeLessThanOrEqual(1024);
  });
});

/** The methods of a source as an object that some can be replaced in. */
function asSource(source: Source): Source {
  return {
    resolve: async (...args) => source.resolve(...args),
    open: async (...args) => source.open(...args),
    referrers: (...args) => source.referrers(...args),
    tags: (...args) => source.tags(...args),
  };
}

describe('a body that drips', () => {
  /** Delivers `bytes` at a time, `everyMs` apart; each body continues where it is opened. */
  const dripping = (content: MemoryContent, clock: Clock, bytes: number, everyMs: number): Source => ({
    tags: (o) => content.tags(o),
    referrers: (d, o) => content.referrers(d, o),
    resolve: async (reference, o) => content.resolve(reference, o),
    open: async (d, o) => {
      const body = await content.open(d, o);
      return (async function* drip() {
        for await (const chunk of body)
          for (let at = 0; at < chunk.byteLength; at += bytes) {
            await clock.sleep(everyMs);
            yield chunk.subarray(at, at + bytes);
          }
      })();
    },
  });

  test('is given up after six times five minutes, with a retry each', async () => {
    const { content, d } = blob();
    const clock = fakeClock();
    const events: Event[] = [];
    const begunMs = clock.now();
    const { failure } = await taken(
      read(dripping(content, clock, 1, 29_000), d, { clock, report: (e) => events.push(e) }),
    );
    expect(failure).toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringContaining('less than 1024 bytes a second for 5 minutes'),
    });
    expect(events.map(({ type }) => type)).toEqual(Array.from({ length: 5 }, () => 'retry'));
    expect(clock.now() - begunMs).toBeLessThan(6 * 6 * 60_000);
  });

  test('at 2 KiB a second is read to its end', async () => {
    const { content, d } = blob(seededBytes('slow', 2_000_000));
    const clock = fakeClock();
    const { failure } = await taken(read(dripping(content, clock, 2048, 1000), d, { clock }));
    expect(failure).toBeUndefined();
  });

  test('into a slow reader is not a fault of the source', async () => {
    const { content, d } = blob(seededBytes('slow reader', 200_000));
    const clock = fakeClock();
    let received = 0;
    for await (const chunk of read(rechunked(content, 1000), d, { clock })) {
      received += chunk.byteLength;
      await clock.sleep(60_000);
    }
    expect(received).toBe(200_000);
  });
});
