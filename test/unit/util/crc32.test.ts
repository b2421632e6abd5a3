import { crc32 } from 'node:zlib';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { crc32Combine } from '../../../worker/util/crc32.ts';

test('combining gives the value of the whole, wherever it is cut', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 5000 }), fc.uint8Array({ maxLength: 5000 }), (a, b) => {
      expect(crc32Combine(crc32(a), crc32(b), b.byteLength)).toBe(crc32(Buffer.concat([a, b])));
    }),
  );
});

test('many parts of any length combine one after the other', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 600 }), { maxLength: 40 }), (parts) => {
      const combined = parts.reduce((value, part) => crc32Combine(value, crc32(part), part.byteLength), 0);
      expect(combined).toBe(crc32(Buffer.concat(parts)));
    }),
  );
});

test('an empty part on either side changes nothing', () => {
  const value = crc32('anything');
  expect(crc32Combine(value, 0, 0)).toBe(value);
  expect(crc32Combine(0, value, 8)).toBe(value);
});

test('the order in which neighbours are combined does not matter, up to 50 TB', () => {
  const length = fc.integer({ min: 0, max: 50e12 });
  const value = fc.integer({ min: 0, max: 0xffffffff });
  fc.assert(
    fc.property(value, value, value, length, length, (a, b, c, lengthOfB, lengthOfC) => {
      const leftFirst = crc32Combine(crc32Combine(a, b, lengthOfB), c, lengthOfC);
      const rightFirst = crc32Combine(a, crc32Combine(b, c, lengthOfC), lengthOfB + lengthOfC);
      expect(leftFirst).toBe(rightFirst);
    }),
  );
});

test('lengths beyond 4 GiB are exact: 4,097 MiB of zeros, really hashed', () => {
  const mebibyte = Buffer.alloc(2 ** 20);
  let whole = crc32('head');
  for (let i = 0; i < 4097; i++) whole = crc32(mebibyte, whole);
  let zeros = crc32(mebibyte);
  for (let bytes = 2 ** 20; bytes < 2 ** 32; bytes *= 2) zeros = crc32Combine(zeros, zeros, bytes);
  zeros = crc32Combine(zeros, crc32(mebibyte), 2 ** 20);
  expect(crc32Combine(crc32('head'), zeros, 4097 * 2 ** 20)).toBe(whole);
});

test('the value is that of CRC-32 (IEEE) by its published check value', () => {
  expect(crc32Combine(crc32('12345'), crc32('6789'), 4)).toBe(0xcbf43926);
});
