// Node signs only what it hashes itself; KMS signs digests. These are the algorithms themselves.
import { constants, createECDH, createHash, privateEncrypt, randomBytes, type KeyObject } from 'node:crypto';

/** A signature of a SHA-256, as KMS returns it. https://www.rfc-editor.org/rfc/rfc8017#section-8, https://www.rfc-editor.org/rfc/rfc6979#section-2.4 */
export function signDigest(key: KeyObject, algorithm: string, digest: Buffer): Buffer {
  if (algorithm === 'ECDSA_SHA_256') return ecdsa(key, digest);
  if (algorithm === 'RSASSA_PSS_SHA_256')
    return privateEncrypt({ key, padding: constants.RSA_NO_PADDING }, pssEncoded(digest, 256));
  // the DigestInfo of SHA-256
  const prefix = Buffer.from('3031300d060960864801650304020105000420', 'hex');
  return privateEncrypt({ key, padding: constants.RSA_PKCS1_PADDING }, Buffer.concat([prefix, digest]));
}

const ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;

function ecdsa(key: KeyObject, digest: Buffer): Buffer {
  const secret = numberOf(Buffer.from(String(key.export({ format: 'jwk' })['d']), 'base64url'));
  const k = (numberOf(randomBytes(32)) % (ORDER - 1n)) + 1n;
  const ecdh = createECDH('prime256v1');
  ecdh.setPrivateKey(bytesOf(k));
  // an uncompressed point: 4, x, y
  const r = numberOf(ecdh.getPublicKey().subarray(1, 33)) % ORDER;
  const s = modulo(inverse(k) * (numberOf(digest) + r * secret));
  const integers = Buffer.concat([r, s].map(derInteger));
  return Buffer.concat([Buffer.from([0x30, integers.byteLength]), integers]);
}

function derInteger(value: bigint): Buffer {
  const bytes = Buffer.from(
    value
      .toString(16)
      .padStart(64, '0')
      .replace(/^(?:00)+/, ''),
    'hex',
  );
  const padded = (bytes[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.from([0]), bytes]) : bytes;
  return Buffer.concat([Buffer.from([2, padded.byteLength]), padded]);
}

function modulo(value: bigint): bigint {
  return ((value % ORDER) + ORDER) % ORDER;
}

/** Uses the extended Euclidean algorithm. */
function inverse(value: bigint): bigint {
  let [a, b, x, y] = [modulo(value), ORDER, 1n, 0n];
  while (a > 1n) {
    const quotient = a / b;
    [a, b] = [b, a % b];
    [x, y] = [y, x - quotient * y];
  }
  return modulo(x);
}

function numberOf(bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
}

function bytesOf(value: bigint): Buffer {
  return Buffer.from(value.toString(16).padStart(64, '0'), 'hex');
}

/** EMSA-PSS with SHA-256 and a salt as long as the digest, for a modulus of `length` bytes. */
function pssEncoded(digest: Buffer, length: number): Buffer {
  const salt = randomBytes(32);
  const hash = createHash('sha256')
    .update(Buffer.concat([Buffer.alloc(8), digest, salt]))
    .digest();
  const block = Buffer.concat([Buffer.alloc(length - 32 - 32 - 2), Buffer.from([1]), salt]);
  const masked = Buffer.from(block.map((byte, index) => byte ^ (maskOf(hash, block.byteLength)[index] ?? 0)));
  masked[0] = (masked[0] ?? 0) & 0x7f;
  return Buffer.concat([masked, hash, Buffer.from([0xbc])]);
}

function maskOf(seed: Buffer, length: number): Buffer {
  const parts = Array.from({ length: Math.ceil(length / 32) }, (_, counter) => {
    const number = Buffer.alloc(4);
    number.writeUInt32BE(counter);
    return createHash('sha256').update(seed).update(number).digest();
  });
  return Buffer.concat(parts).subarray(0, length);
}
