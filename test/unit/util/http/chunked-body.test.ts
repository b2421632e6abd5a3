import { assert, constantFrom, integer, property, uint8Array } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ChunkedBody } from '../../../../worker/util/http/chunked-body.ts';
import { inHttpChunks } from '../../../support/raw-http.ts';

/** What is decoded from `wire` in pieces of `size`, and the bytes after the end. */
function decode(
  wire: Uint8Array,
  size: number,
): { readonly body: Buffer; readonly isEnded: boolean; readonly after: number } {
  const chunks = new ChunkedBody();
  const parts: Buffer[] = [];
  let after = 0;
  for (let at = 0; at < wire.byteLength; at += size) {
    const piece = Buffer.from(wire.subarray(at, at + size));
    const { decoded, taken } = chunks.decode(piece);
    parts.push(piece.subarray(0, decoded));
    after += piece.byteLength - taken;
  }
  return { body: Buffer.concat(parts), isEnded: chunks.isEnded, after };
}

describe('a body in chunks', () => {
  test('is the same however it is sent and split', () => {
    assert(
      property(
        uint8Array({ minLength: 0, maxLength: 300 }),
        integer({ min: 1, max: 40 }),
        integer({ min: 1, max: 60 }),
        constantFrom('', 'X-Trailer: 1\r\n', 'A: 1\r\nB: 2\r\n'),
        (bytes, chunkSize, size, trailer) => {
          const wire = inHttpChunks(bytes, chunkSize, trailer);
          expect(decode(wire, size)).toEqual({ body: Buffer.from(bytes), isEnded: true, after: 0 });
          expect(decode(wire.subarray(0, -1), size).isEnded).toBe(false);
        },
      ),
    );
  });

  test('may have sizes in capitals, with zeros and extensions', () => {
    const wire = Buffer.from('00A;name="v"\r\n0123456789\r\n1 ;x\r\n!\r\n000\r\n\r\n');
    expect(decode(wire, 3).body.toString()).toBe('0123456789!');
  });

  test('counts the bytes after its end', () => {
    expect(decode(Buffer.from('1\r\na\r\n0\r\n\r\nHTTP/1.1 200'), 1000)).toMatchObject({ isEnded: true, after: 12 });
  });

  test.each([
    '\r\n',
    'x\r\n',
    '-1\r\n',
    '1\na',
    '1\r\nab',
    '1\r\na\n',
    '1;\nx',
    '0\r\n\n',
    '0\r\nA: 1\n',
    '0\r\n\rx',
    '10000000000000000\r\n',
    `1;${'x'.repeat(20_000)}\r\n`,
    `0\r\n${'X: 1\r\n'.repeat(5000)}`,
  ])('is refused when it is malformed', (wire) => {
    for (const size of [1, 100_000])
      expect(() => decode(Buffer.from(wire), size)).toThrow(expect.objectContaining({ code: 'MALFORMED' }));
  });
});
