import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import * as fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import type { Bytes } from '../../../worker/content/content.ts';
import { digestOf } from '../../../worker/oci/digest.ts';
import { MEDIA_TYPE } from '../../../worker/oci/manifest.ts';
import { openRegistry } from '../../../worker/registry/registry.ts';
import { gathered } from '../../../worker/content/gathered.ts';
import { chunked, collect, lent } from '../../support/chunks.ts';
import { seededBytes } from '../../support/images.ts';

/** More than the socket buffers of both sides hold. */
const LARGE = Buffer.alloc(24 * 1024 * 1024 + 5, seededBytes('slow registry', 99_991));
/** Turns without a request for a chunk, after which the sender is assumed to wait for the socket. */
const STILL_TURNS = 200;

test('sends lent bytes in the same order, in chunks that undici waits for, except the last', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 150_000 }), { maxLength: 12 }),
      fc.constantFrom(1, 511, 16_384, 65_535, 65_536, 262_144),
      async (lengths, size) => {
        const pieces = lengths.map((length, index) => seededBytes(`piece ${index}`, length));
        const body = async function* (): Bytes {
          for (const piece of pieces) yield* size < 100 ? [piece] : chunked(piece, size);
        };
        const whole = Buffer.concat(pieces);
        expect((await collect(gathered(lent(body()), whole.byteLength))).equals(whole)).toBe(true);
        const sizes: number[] = [];
        for await (const chunk of gathered(lent(body()), whole.byteLength)) sizes.push(chunk.byteLength);
        expect(sizes.slice(0, -1).every((bytes) => bytes >= 64 * 1024)).toBe(true);
      },
    ),
    { numRuns: 60 },
  );
});

test('does not copy a large chunk because a small one came before it', async () => {
  const chunks = [
    seededBytes('small', 1000),
    ...Array.from({ length: 8 }, (_, i) => seededBytes(`large ${i}`, 262_144)),
  ];
  const memory = new Set<ArrayBufferLike>(chunks.map(({ buffer }) => buffer));
  const body = async function* (): Bytes {
    yield* chunks;
  };
  let copied = 0;
  for await (const { buffer, byteLength } of gathered(body(), 8 * 262_144 + 1000))
    if (!memory.has(buffer)) copied += byteLength;
  expect(copied).toBeLessThanOrEqual(64 * 1024);
});

test.each([511, 16_384, 65_535, 65_536, 262_144])(
  'sends a registry that does not read for a while the bytes that chunks of %i had when they were lent',
  async (size) => {
    const asked = { chunks: 0 };
    let received = '';
    const server = createServer((request, response) => {
      void (async () => {
        if (request.method !== 'PUT') return response.writeHead(202, { location: '/u/1' }).end();
        await stillness(asked);
        const hash = createHash('sha256');
        for await (const chunk of request as AsyncIterable<Buffer>) hash.update(chunk);
        received = `sha256:${hash.digest('hex')}`;
        return response.writeHead(201).end();
      })();
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(async () => {
      server.close();
      await once(server, 'close');
    });
    const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const client = openRegistry(host, { side: 'target', credentials: async () => undefined, version: 'test' });
    onTestFinished(async () => client.close());
    const open = async function* (): Bytes {
      for await (const chunk of lent(chunked(LARGE, size))) {
        asked.chunks++;
        yield chunk;
      }
    };
    const digest = digestOf(LARGE);
    await client.repository('app').put({ mediaType: MEDIA_TYPE.ociLayer, digest, size: LARGE.byteLength }, open);
    expect(received).toBe(digest);
  },
);

/** Resolves when no chunk was requested in many turns: the sender waits for the socket. */
async function stillness(asked: { readonly chunks: number }): Promise<void> {
  for (let still = 0, before = asked.chunks; still < STILL_TURNS; still++) {
    await turn();
    if (asked.chunks !== before) still = 0;
    before = asked.chunks;
  }
}
