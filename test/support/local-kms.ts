import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { createServer, type ServerResponse } from 'node:http';
import { json } from 'node:stream/consumers';
import { z } from 'zod';
import { listenForTest } from './listen-for-test.ts';
import { signDigest } from './sign-digest.ts';

const REGION = 'eu-west-1';

const SPECS = {
  ECC_NIST_P256: { algorithms: ['ECDSA_SHA_256'], make: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }) },
  ECC_NIST_P384: { algorithms: ['ECDSA_SHA_384'], make: () => generateKeyPairSync('ec', { namedCurve: 'P-384' }) },
  RSA_2048: {
    algorithms: ['RSASSA_PKCS1_V1_5_SHA_256', 'RSASSA_PSS_SHA_256', 'RSASSA_PSS_SHA_512'],
    make: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  },
} as const;
type KeySpec = keyof typeof SPECS;

interface MadeKey {
  readonly arn: string;
  readonly spec: KeySpec;
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

/** The part of AWS KMS that signs, over its wire protocol: https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html */
export interface LocalKms {
  /** For `AWS_ENDPOINT_URL_KMS`. */
  readonly endpoint: string;
  /** The operations that were called. */
  readonly calls: readonly string[];
  /** Creates a key, or replaces the one that the alias names. Returns its public key in PEM. */
  key(alias: string, spec: KeySpec): { readonly arn: string; readonly pem: string };
  /** From now on this operation is denied. */
  deny(operation: string): void;
}

const request = z.object({
  KeyId: z.string(),
  Message: z.string().optional(),
  MessageType: z.string().optional(),
  SigningAlgorithm: z.string().optional(),
});

/** Starts it on loopback until the test ends. */
export async function startLocalKms(): Promise<LocalKms> {
  const keys = new Map<string, MadeKey>();
  const calls: string[] = [];
  const denied = new Set<string>();
  const server = createServer((asked, response) => {
    void json(asked).then((body) => {
      const operation = String(asked.headers['x-amz-target']).replace('TrentService.', '');
      calls.push(operation);
      const { KeyId, ...sent } = request.parse(body);
      const key = keys.get(KeyId) ?? [...keys.values()].find(({ arn }) => arn === KeyId);
      if (denied.has(operation))
        return refuse(response, 'AccessDeniedException', `User is not authorized to perform: kms:${operation}`);
      if (key === undefined) return refuse(response, 'NotFoundException', `Alias ${KeyId} is not found.`);
      return answer(response, operation, key, sent);
    });
  });
  const host = await listenForTest(server);
  return {
    endpoint: `http://${host}`,
    calls,
    key: (alias, spec) => {
      const arn = `arn:aws:kms:${REGION}:111122223333:key/${alias.replace('alias/', '')}`;
      const { publicKey, privateKey } = SPECS[spec].make();
      keys.set(alias, { arn, spec, publicKey, privateKey });
      return { arn, pem: publicKey.export({ format: 'pem', type: 'spki' }).toString() };
    },
    deny: (operation) => void denied.add(operation),
  };
}

function answer(
  response: ServerResponse,
  operation: string,
  { arn, spec, publicKey, privateKey }: MadeKey,
  sent: Omit<z.infer<typeof request>, 'KeyId'>,
): void {
  const { algorithms } = SPECS[spec];
  if (operation === 'GetPublicKey') {
    const der = publicKey.export({ format: 'der', type: 'spki' }).toString('base64');
    const about = { KeyId: arn, KeySpec: spec, KeyUsage: 'SIGN_VERIFY', SigningAlgorithms: algorithms };
    return reply(response, { ...about, PublicKey: der });
  }
  const { Message = '', MessageType, SigningAlgorithm = '' } = sent;
  const digest = Buffer.from(Message, 'base64');
  if (MessageType !== 'DIGEST' || digest.byteLength !== 32)
    return refuse(response, 'ValidationException', 'Digest is invalid length for algorithm');
  if (!algorithms.some((one) => one === SigningAlgorithm))
    return refuse(response, 'InvalidKeyUsageException', `Algorithm ${SigningAlgorithm} is not supported by the key`);
  const signature = signDigest(privateKey, SigningAlgorithm, digest);
  return reply(response, { KeyId: arn, Signature: signature.toString('base64'), SigningAlgorithm });
}

function refuse(response: ServerResponse, type: string, message: string): void {
  reply(response, { __type: type, message }, 400);
}

function reply(response: ServerResponse, body: object, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/x-amz-json-1.1' });
  response.end(JSON.stringify(body));
}
