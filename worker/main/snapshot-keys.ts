import { createPublicKey } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { isKmsKey, openKmsKey } from '../store/kms.ts';
import type { SnapshotKey, SnapshotKeys } from '../store/signature.ts';
import { Failure } from '../util/failure.ts';
import type { Proxies } from '../util/proxies.ts';

/** The keys that a command names. Nothing is asked of them yet. INVALID for a file where a key must sign. */
export function openSnapshotKeys(
  { signWith, verifyKey }: { readonly signWith?: string | undefined; readonly verifyKey?: string | undefined },
  proxies: Proxies | undefined,
): SnapshotKeys {
  if (signWith !== undefined && !isKmsKey(signWith))
    throw new Failure(
      'INVALID',
      `--sign-with ${signWith}: a key that signs is one of AWS KMS: alias/NAME, its id or its ARN`,
    );
  return {
    signer: signWith === undefined ? undefined : openKmsKey({ key: signWith, proxies }),
    trusted:
      verifyKey === undefined
        ? undefined
        : isKmsKey(verifyKey)
          ? openKmsKey({ key: verifyKey, proxies })
          : publicKeyFile(verifyKey),
  };
}

/** The public key in a PEM file, which needs no network. */
function publicKeyFile(path: string): SnapshotKey {
  return {
    name: path,
    publicKey: async () => {
      try {
        const key = createPublicKey(await readFile(path));
        if (key.asymmetricKeyType === 'ec' || key.asymmetricKeyType === 'rsa') return key;
      } catch (cause) {
        throw new Failure('INVALID', `--verify-key ${path}: it is not a file with a public key in PEM`, { cause });
      }
      throw new Failure('INVALID', `--verify-key ${path}: it is not a key of ECDSA or RSA`);
    },
  };
}
