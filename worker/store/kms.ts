import { createHash, createPublicKey, type KeyObject } from 'node:crypto';
import type { Abortable } from '../util/abort.ts';
import { Failure } from '../util/failure.ts';
import type { Proxies } from '../util/proxies.ts';
import { renewingCredentials } from '../util/renew-credentials.ts';
import { calling } from '../util/sdk-failure.ts';
import { sdkRequests } from '../util/sdk-requests.ts';
import { SharedPromise } from '../util/shared-promise.ts';
import {
  isSignedBy,
  SIGNATURE_ALGORITHMS,
  type SignatureAlgorithm,
  type SnapshotSignature,
  type SnapshotSigner,
} from './signature.ts';

export interface KmsKeyOptions {
  /** `alias/NAME`, the id of a key, or the ARN of either; its Region is that of the ARN, or of the environment. */
  readonly key: string;
  /** Default: none. */
  readonly proxies?: Proxies | undefined;
}

/** Whether `text` names a key in KMS, and not a file. */
export function isKmsKey(text: string): boolean {
  return /^(?:alias\/|arn:[^:/]+:kms:|mrk-[0-9a-f]{32}$|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$)/.test(text);
}

/** What KMS reports of a key, as far as signing needs it. */
interface KnownKey {
  readonly arn: string;
  readonly algorithm: SignatureAlgorithm;
  readonly publicKey: KeyObject;
}

/**
 * An asymmetric key of AWS KMS. No request is sent yet: signing asks for its public key once and then for each signature, checking a signature
 * for its public key alone. https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html
 */
export function openKmsKey({ key, proxies }: KmsKeyOptions): SnapshotSigner {
  const known = new SharedPromise<KnownKey>();
  const open = async () => {
    const { KMS } = await import('@aws-sdk/client-kms');
    const region = /^arn:[^:]+:kms:([^:]+):/.exec(key)?.[1];
    const client = new KMS({ ...sdkRequests(proxies), maxAttempts: 4, ...(region === undefined ? {} : { region }) });
    return renewingCredentials(client);
  };

  const readKey = async (options: Abortable): Promise<KnownKey> => {
    const what = `read the public key of ${key}`;
    const client = await open();
    try {
      const answer = await calling(what, 'kms:GetPublicKey', options, async (sdkOptions) =>
        client.getPublicKey({ KeyId: key }, sdkOptions),
      );
      const algorithm = SIGNATURE_ALGORITHMS.find((one) => answer.SigningAlgorithms?.includes(one) === true);
      if (algorithm === undefined || answer.PublicKey === undefined)
        throw new Failure(
          'INVALID',
          `${what}: it is a key of ${answer.KeySpec ?? 'an unknown kind'} for ${answer.KeyUsage ?? 'an unknown use'}, which does not sign with SHA-256: use one of ECC_NIST_P256, ECC_SECG_P256K1 or RSA_2048 for SIGN_VERIFY`,
        );
      const publicKey = createPublicKey({ key: Buffer.from(answer.PublicKey), format: 'der', type: 'spki' });
      return { arn: answer.KeyId ?? key, algorithm, publicKey };
    } finally {
      client.destroy();
    }
  };

  const keyOf = (options: Abortable = {}): Promise<KnownKey> => known.get(() => readKey(options));
  return {
    name: key,
    publicKey: async (options) => (await keyOf(options)).publicKey,
    async sign(document, options = {}): Promise<SnapshotSignature> {
      const { arn, algorithm, publicKey } = await keyOf(options);
      const what = `sign the snapshot with ${key}`;
      const client = await open();
      try {
        const digest = createHash('sha256').update(document).digest();
        const answer = await calling(what, 'kms:Sign', options, async (sdkOptions) =>
          client.sign({ KeyId: arn, Message: digest, MessageType: 'DIGEST', SigningAlgorithm: algorithm }, sdkOptions),
        );
        const signature = Buffer.from(answer.Signature ?? []).toString('base64');
        if (!isSignedBy(publicKey, document, { algorithm, signature }))
          throw new Failure('CORRUPT', `${what}: what KMS answered is not a signature by the key`);
        return { version: 1, algorithm, key: arn, signature };
      } finally {
        client.destroy();
      }
    },
  };
}
