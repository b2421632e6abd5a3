import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { test } from 'vitest';
import {
  CHECKSUM_ALGORITHMS,
  checksumOfParts,
  createHasher,
  DIGEST_BYTES,
  type ChecksumAlgorithm,
} from '../../s3/checksum.ts';

const CRCS = ['CRC32', 'CRC32C', 'CRC64NVME'] as const;

function hash(algorithm: ChecksumAlgorithm, bytes: Uint8Array): string {
  const hasher = createHasher(algorithm);
  hasher.update(bytes);
  return hasher.digest().toString('base64');
}

// the check values of https://reveng.sourceforge.io/crc-catalogue/all.htm
test.each([
  ['CRC32', 'cbf43926'],
  ['CRC32C', 'e3069283'],
  ['CRC64NVME', 'ae8b14860a799888'],
] as const)('%s of 123456789 is %s', (algorithm, value) => {
  assert.equal(hash(algorithm, Buffer.from('123456789')), Buffer.from(value, 'hex').toString('base64'));
});

test('a checksum does not depend on how the bytes are split', () => {
  const cut = fc.tuple(fc.uint8Array({ maxLength: 200 }), fc.uint8Array({ maxLength: 200 }));
  fc.assert(
    fc.property(cut, fc.constantFrom(...CHECKSUM_ALGORITHMS), ([head, tail], algorithm) => {
      const hasher = createHasher(algorithm);
      hasher.update(head);
      hasher.update(tail);
      const digest = hasher.digest();
      assert.equal(digest.length, DIGEST_BYTES[algorithm]);
      assert.equal(digest.toString('base64'), hash(algorithm, Buffer.concat([head, tail])));
    }),
  );
});

test('the CRCs of parts combine to the CRC of the whole, whatever the parts', () => {
  const parts = fc.array(fc.uint8Array({ maxLength: 300 }), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(parts, fc.constantFrom(...CRCS), (bodies, algorithm) => {
      const sums = bodies.map((body) => ({ bytes: body.length, checksum: hash(algorithm, body) }));
      assert.equal(checksumOfParts(algorithm, 'FULL_OBJECT', sums), hash(algorithm, Buffer.concat(bodies)));
    }),
  );
});

test('the CRCs of parts beyond 4 GiB combine as those of many small ones', () => {
  const zeros = Buffer.alloc(1 << 20);
  for (const algorithm of CRCS) {
    const small = { bytes: zeros.length, checksum: hash(algorithm, zeros) };
    const thousands = Array.from({ length: 5000 }, () => small);
    const one = { bytes: 5000 * zeros.length, checksum: checksumOfParts(algorithm, 'FULL_OBJECT', thousands) };
    const twice = checksumOfParts(algorithm, 'FULL_OBJECT', [...thousands, ...thousands]);
    assert.equal(checksumOfParts(algorithm, 'FULL_OBJECT', [one, one]), twice);
  }
});

test('a composite checksum is the checksum of the binary checksums, and counts them', () => {
  const bodies = ['one', 'two', 'three'].map((text) => Buffer.from(text));
  const sums = bodies.map((body) => ({ bytes: body.length, checksum: hash('SHA256', body) }));
  const digests = bodies.map((body) => createHash('sha256').update(body).digest());
  const expected = createHash('sha256').update(Buffer.concat(digests)).digest('base64');
  assert.equal(checksumOfParts('SHA256', 'COMPOSITE', sums), `${expected}-3`);
});
