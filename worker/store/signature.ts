import { constants, verify, type KeyObject } from 'node:crypto';
import type { Abortable } from '../util/abort.ts';
import { canonicalJson } from '../util/canonical-json.ts';
import { Failure } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';

/** Signatures over the SHA-256 of a document, as AWS KMS names them. A key can make some of them. */
export const SIGNATURE_ALGORITHMS = ['ECDSA_SHA_256', 'RSASSA_PSS_SHA_256', 'RSASSA_PKCS1_V1_5_SHA_256'] as const;
export type SignatureAlgorithm = (typeof SIGNATURE_ALGORITHMS)[number];

/** The object beside a snapshot that proves who wrote it. */
export interface SnapshotSignature {
  readonly version: 1;
  readonly algorithm: SignatureAlgorithm;
  /** Which key it was, for people: the ARN in KMS. It proves nothing. */
  readonly key: string;
  /** Base64. ECDSA: DER. */
  readonly signature: string;
}

/** A key whose signatures are trusted. */
export interface SnapshotKey {
  /** As the caller names it: `alias/backups`, an ARN, a file. */
  readonly name: string;
  /** INVALID for a key that cannot sign a SHA-256; NOT_FOUND without it. Asked for once. */
  publicKey(options?: Abortable): Promise<KeyObject>;
}

/** A key that signs. */
export interface SnapshotSigner extends SnapshotKey {
  /** The signature of a document, checked with the public key. */
  sign(document: Uint8Array, options?: Abortable): Promise<SnapshotSignature>;
}

/** The keys that a command uses for signatures of snapshots. */
export interface SnapshotKeys {
  /** Signs every snapshot that is written. Absent: none is signed. */
  readonly signer?: SnapshotSigner | undefined;
  /** Every snapshot that is read must be signed by this key. Absent: signatures are not looked at. */
  readonly trusted?: SnapshotKey | undefined;
}

/** The longest object of a signature, in bytes: 2,048 are room for an RSA key of 8,192 bits. */
export const MAX_SIGNATURE_BYTES = 8192;

export function encodeSignature(signature: SnapshotSignature): Uint8Array {
  return Buffer.from(canonicalJson(signature));
}

/** Reads what `encodeSignature` wrote. CORRUPT, naming `what`, for anything else. */
export function decodeSignature(bytes: Uint8Array, what: string): SnapshotSignature {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString());
  } catch {
    value = undefined;
  }
  if (isRecord(value)) {
    const { version, key, signature } = value;
    const algorithm = SIGNATURE_ALGORITHMS.find((one) => one === value['algorithm']);
    if (version === 1 && algorithm !== undefined && typeof key === 'string' && isBase64(signature))
      return { version, algorithm, key, signature };
  }
  throw new Failure('CORRUPT', `the signature of ${what} is not one: it was changed or damaged after it was written`);
}

/** Whether `value` is canonical Base64, with padding. */
function isBase64(value: unknown): value is string {
  return typeof value === 'string' && Buffer.from(value, 'base64').toString('base64') === value;
}

/** Whether `signature` is one of `bytes` by this key. False also for an algorithm that is not one of the key. */
export function isSignedBy(
  key: KeyObject,
  bytes: Uint8Array,
  { algorithm, signature }: Pick<SnapshotSignature, 'algorithm' | 'signature'>,
): boolean {
  const value = Buffer.from(signature, 'base64');
  if (key.asymmetricKeyType !== (algorithm === 'ECDSA_SHA_256' ? 'ec' : 'rsa')) return false;
  // https://docs.aws.amazon.com/kms/latest/developerguide/symm-asymm-choose-key-spec.html: the salt is as long as the digest
  const padding = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST };
  return verify('sha256', bytes, { key, ...(algorithm === 'RSASSA_PSS_SHA_256' ? padding : {}) }, value);
}
