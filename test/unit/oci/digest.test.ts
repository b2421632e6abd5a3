import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { algorithmOf, digestOf, hashFor, hexOf, parseDigest, shortDigest } from '../../../worker/oci/digest.ts';
import { isFailure } from '../../../worker/util/failure.ts';

const SHA256 = `sha256:${'0123456789abcdef'.repeat(4)}`;
const SHA512 = `sha512:${'0123456789abcdef'.repeat(8)}`;

describe('parseDigest', () => {
  test.each([SHA256, SHA512])('reads %s', (text) => {
    expect(parseDigest(text)).toBe(text);
  });

  test.each([
    ['', 'nothing'],
    ['sha256:', 'no hex'],
    [SHA256.slice(0, -1), 'too short'],
    [`${SHA256}0`, 'too long'],
    [SHA256.toUpperCase(), 'upper case'],
    [`sha256:${'A'.repeat(64)}`, 'upper case hex'],
    [`sha256:${'g'.repeat(64)}`, 'not hex'],
    [`sha512:${'0'.repeat(64)}`, 'the length of the other algorithm'],
    [`sha384:${'0'.repeat(96)}`, 'an unsupported algorithm'],
    [`md5:${'0'.repeat(32)}`, 'a broken algorithm'],
    [`sha256-${'0'.repeat(64)}`, 'a dash'],
    [` ${SHA256}`, 'a space before'],
    [`${SHA256}\n`, 'a newline at the end'],
    [`${SHA256}/../../etc/passwd`, 'a path at the end'],
  ])('refuses %j: %s', (text) => {
    expect(() => parseDigest(text)).toThrow(expect.objectContaining({ code: 'INVALID' }));
  });

  test('anything but text is INVALID in one short line, whatever it is', () => {
    const hostile = [
      JSON.parse('{"toString":null,"valueOf":null}'),
      JSON.parse(`${'['.repeat(50_000)}${']'.repeat(50_000)}`),
      Array.from({ length: 100_000 }, () => 'x'),
      Object.create(null),
      Symbol('x'),
      10n,
    ];
    for (const value of hostile) {
      expect(() => parseDigest(value)).toThrow(expect.objectContaining({ code: 'INVALID' }));
    }
    fc.assert(
      fc.property(fc.anything({ withNullPrototype: true, withBigInt: true, withDate: true }), (value) => {
        try {
          expect(parseDigest(value)).toBe(value);
        } catch (error) {
          expect(isFailure(error, 'INVALID')).toBe(true);
          expect(String(error).length).toBeLessThan(2000);
          expect(String(error)).not.toContain('\n');
        }
      }),
    );
  });

  test('shows what it refuses without characters that could control a terminal', () => {
    expect(() => parseDigest('\u001b[2Jsha256\u009b2J\u202e')).toThrow(
      /^"\\u001b\[2Jsha256\\u\{9b\}2J\\u\{202e\}" is not/,
    );
  });
});

describe('digests', () => {
  test('are those of their bytes', () => {
    // RFC 6234's "abc", and no bytes at all
    expect(digestOf(Buffer.from('abc'))).toBe(
      'sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
    );
    expect(digestOf(Buffer.alloc(0))).toBe('sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
    expect(digestOf(Buffer.from('abc'), 'sha512')).toMatch(/^sha512:ddaf35a193617aba/);
  });

  test('name their algorithm, hex and short form, and hash with it', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.constantFrom('sha256', 'sha512'), (bytes, algorithm) => {
        const digest = digestOf(bytes, algorithm);
        expect(parseDigest(digest)).toBe(digest);
        expect(algorithmOf(digest)).toBe(algorithm);
        expect(hexOf(digest)).toBe(createHash(algorithm).update(bytes).digest('hex'));
        expect(hashFor(digest).update(bytes).digest('hex')).toBe(hexOf(digest));
        expect(shortDigest(digest)).toBe(`${algorithm}:${hexOf(digest).slice(0, 12)}`);
      }),
      { numRuns: 50 },
    );
  });
});
