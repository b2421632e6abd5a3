import { createHash, type Hash } from 'node:crypto';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';

/**
 * `algorithm:hex`, made by `parseDigest` at the edge and trusted inside.
 * https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md#digests
 */
export type Digest = `${'sha256' | 'sha512'}:${string}`;

const PATTERN = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;

/** Whether `value` is a digest, of an algorithm that is carried. */
export function isDigest(value: unknown): value is Digest {
  return typeof value === 'string' && PATTERN.test(value);
}

/** Parses `text` as a digest. INVALID when it is not a digest, or of an algorithm other than sha256 and sha512. */
export function parseDigest(text: unknown): Digest {
  if (isDigest(text)) return text;
  throw new Failure(
    'INVALID',
    `${quote(text)} is not a digest: expected sha256:<64 hex> or sha512:<128 hex>, in lower case`,
  );
}

/** The digest of `bytes`, by default with sha256. */
export function digestOf(bytes: Uint8Array, algorithm: 'sha256' | 'sha512' = 'sha256'): Digest {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
}

/** A running hash of the digest's algorithm. */
export function hashFor(digest: Digest): Hash {
  return createHash(algorithmOf(digest));
}

export function algorithmOf(digest: Digest): 'sha256' | 'sha512' {
  return digest.startsWith('sha512:') ? 'sha512' : 'sha256';
}

/** The hex part. */
export function hexOf(digest: Digest): string {
  return digest.slice(digest.indexOf(':') + 1);
}

/** `sha256:0123456789ab`: enough for a person to distinguish digests. */
export function shortDigest(digest: Digest): string {
  return digest.slice(0, digest.indexOf(':') + 13);
}
