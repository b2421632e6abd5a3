import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { partSizeFor } from '../../../../worker/objects/s3/part-size.ts';

const MIB = 1024 * 1024;

describe('part sizes', () => {
  const size = fc.integer({ min: 1, max: 50e12 });

  test('every size up to 50 TB fits in 9,999 parts that S3 accepts', () => {
    fc.assert(
      fc.property(size, (bytes) => {
        const partSize = partSizeFor(bytes);
        expect(partSize % MIB).toBe(0);
        expect(partSize).toBeGreaterThanOrEqual(8 * MIB);
        expect(partSize).toBeLessThanOrEqual(5 * 1024 * MIB);
        expect(Math.ceil(bytes / partSize)).toBeLessThanOrEqual(9999);
        // no larger than necessary
        if (partSize > 8 * MIB) expect(Math.ceil(bytes / (partSize - MIB))).toBeGreaterThan(9999);
      }),
      { numRuns: 1000 },
    );
  });

  test.each([
    [1, 8 * MIB],
    [9999 * 8 * MIB, 8 * MIB],
    [9999 * 8 * MIB + 1, 9 * MIB],
    [50e12, 4769 * MIB],
  ])('%d bytes are sent in parts of %d', (bytes, partSize) => {
    expect(partSizeFor(bytes)).toBe(partSize);
  });

  test('a requested part size is used, or refused before anything is sent', () => {
    expect(partSizeFor(100 * MIB, { partSize: 5 * MIB })).toBe(5 * MIB);
    expect(partSizeFor(50e12, { partSize: 5 * 1024 * MIB })).toBe(5 * 1024 * MIB);
    for (const partSize of [5 * MIB - 1, 5 * 1024 * MIB + 1, 0, Number.NaN])
      expect(() => partSizeFor(100 * MIB, { partSize })).toThrow(/S3 takes parts of/u);
    expect(() => partSizeFor(9999 * 5 * MIB + 1, { partSize: 5 * MIB })).toThrow(/more than 9999 parts/u);
  });

  test.each([0, -1, 0.5, Number.NaN, 50e12 + 1, Number.POSITIVE_INFINITY])('%d bytes are INVALID', (bytes) => {
    expect(() => partSizeFor(bytes)).toThrow(expect.objectContaining({ code: 'INVALID' }));
  });
});
