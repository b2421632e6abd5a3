import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Bytes } from '../../../worker/content/content.ts';
import { collect, rechunk } from '../../support/chunks.ts';

test('bytes in other chunks are the same bytes, in chunks of exactly the size except the last', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.uint8Array({ maxLength: 20 }), { maxLength: 8 }),
      fc.integer({ min: 1, max: 30 }),
      async (pieces, size) => {
        const body = async function* (): Bytes {
          yield* pieces;
        };
        expect(await collect(rechunk(body(), size))).toEqual(Buffer.concat(pieces));
        const sizes = (await Array.fromAsync(rechunk(body(), size))).map((chunk) => chunk.byteLength);
        expect(sizes.slice(0, -1).every((bytes) => bytes === size)).toBe(true);
        expect(sizes.at(-1) ?? 1).toBeGreaterThan(0);
      },
    ),
    { numRuns: 100 },
  );
});
