import { createHash, createPublicKey, generateKeyPairSync } from 'node:crypto';
import type { ObjectInfo } from '../../../worker/objects/objects.ts';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { isKmsKey, openKmsKey } from '../../../worker/store/kms.ts';
import { isSignedBy, type SnapshotKey, type SnapshotKeys } from '../../../worker/store/signature.ts';
import { readState } from '../../../worker/store/read-state.ts';
import { openSnapshots, type Snapshots } from '../../../worker/store/snapshots.ts';
import { startLocalKms, type LocalKms } from '../../support/local-kms.ts';
import { MemoryObjects } from '../../support/memory-objects.ts';
import { signDigest } from '../../support/sign-digest.ts';
import { goldenSnapshot, makeSnapshot } from '../../support/snapshots.ts';

beforeAll(() => {
  Object.assign(process.env, {
    AWS_REGION: 'eu-west-1',
    AWS_ACCESS_KEY_ID: 'test',
    AWS_SECRET_ACCESS_KEY: 'test',
    AWS_EC2_METADATA_DISABLED: 'true',
  });
});

async function startKms(): Promise<LocalKms> {
  const kms = await startLocalKms();
  process.env['AWS_ENDPOINT_URL_KMS'] = kms.endpoint;
  onTestFinished(() => void delete process.env['AWS_ENDPOINT_URL_KMS']);
  return kms;
}

function pemKey(pem: string): SnapshotKey {
  return { name: 'backups.pem', publicKey: async () => createPublicKey(pem) };
}

function opened(store: MemoryObjects, keys: SnapshotKeys): Snapshots {
  return openSnapshots({ store, prefix: '', keys });
}

describe('a signed snapshot', () => {
  test.each([
    ['ECC_NIST_P256', 'ECDSA_SHA_256'],
    ['RSA_2048', 'RSASSA_PSS_SHA_256'],
  ] as const)('by a key of %s is trusted by that key, in KMS and as a file', async (spec, algorithm) => {
    const kms = await startKms();
    const { arn, pem } = kms.key('alias/backups', spec);
    const store = new MemoryObjects();
    const { key } = await opened(store, { signer: openKmsKey({ key: 'alias/backups' }) }).write(goldenSnapshot());
    expect(kms.calls).toEqual(['GetPublicKey', 'Sign']);
    expect(JSON.parse(Buffer.from(store.bytesOf(`${key}.sig`)).toString())).toMatchObject({ algorithm, key: arn });
    for (const trusted of [openKmsKey({ key: arn }), pemKey(pem)])
      expect(await opened(store, { trusted }).read('latest')).toMatchObject({ snapshot: goldenSnapshot() });
    expect(kms.calls.slice(2)).toEqual(['GetPublicKey']);
  });

  test('is stored after its signature, and only once', async () => {
    const kms = await startKms();
    kms.key('alias/backups', 'ECC_NIST_P256');
    const written: string[] = [];
    class Watched extends MemoryObjects {
      override async write(...args: Parameters<MemoryObjects['write']>): Promise<ObjectInfo> {
        written.push(args[0].replace(/^.*\.json\.zst/, ''));
        return super.write(...args);
      }
    }
    const snapshots = opened(new Watched(), { signer: openKmsKey({ key: 'alias/backups' }) });
    const first = await snapshots.write(goldenSnapshot());
    expect(await snapshots.write(goldenSnapshot())).toEqual(first);
    expect(written.slice(0, 2)).toEqual(['.sig', '']);
    expect(await snapshots.list()).toEqual([first]);
  });

  test('is not written where the key cannot sign', async () => {
    const kms = await startKms();
    kms.key('alias/p384', 'ECC_NIST_P384');
    const store = new MemoryObjects();
    const write = (key: string): Promise<unknown> =>
      opened(store, { signer: openKmsKey({ key }) }).write(goldenSnapshot());
    await expect(write('alias/p384')).rejects.toMatchObject({
      code: 'INVALID',
      message: expect.stringMatching(/alias\/p384: it is a key of ECC_NIST_P384 .* does not sign with SHA-256: use/),
    });
    await expect(write('alias/missing')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    kms.key('alias/backups', 'ECC_NIST_P256');
    kms.deny('Sign');
    await expect(write('alias/backups')).rejects.toMatchObject({
      code: 'DENIED',
      message: expect.stringMatching(/^sign the snapshot with alias\/backups: .*; the caller needs kms:Sign$/),
    });
    expect(await opened(store, {}).list()).toEqual([]);
  });
});

describe('where a key is trusted, a snapshot is refused', () => {
  async function signed(): Promise<{ store: MemoryObjects; key: string; trusted: SnapshotKey; kms: LocalKms }> {
    const kms = await startKms();
    const { pem } = kms.key('alias/backups', 'ECC_NIST_P256');
    const store = new MemoryObjects();
    const { key } = await opened(store, { signer: openKmsKey({ key: 'alias/backups' }) }).write(goldenSnapshot());
    return { store, key, trusted: pemKey(pem), kms };
  }

  const corrupt = (message: RegExp): object => ({ code: 'CORRUPT', message: expect.stringMatching(message) });

  test('without a signature, also in a state', async () => {
    const { store, key, trusted } = await signed();
    store.remove(`${key}.sig`);
    const unsigned = corrupt(
      /^the snapshot memory:.* is not signed, and backups\.pem is the key that must have signed it$/,
    );
    await expect(opened(store, { trusted }).read('latest')).rejects.toMatchObject(unsigned);
    await expect(readState(opened(store, { trusted }))).rejects.toMatchObject(unsigned);
    expect(await opened(store, {}).read('latest')).toMatchObject({ snapshot: goldenSnapshot() });
  });

  test('with a signature by another key, or of another snapshot', async () => {
    const { store, key, trusted, kms } = await signed();
    const other = kms.key('alias/other', 'ECC_NIST_P256');
    const wrong = corrupt(/has a signature that backups\.pem did not make: do not trust it/);
    await expect(
      opened(store, { trusted: { ...pemKey(other.pem), name: 'backups.pem' } }).read('latest'),
    ).rejects.toMatchObject(wrong);
    const forged = await opened(store, {}).write(makeSnapshot({ finishedAt: '2026-12-02T00:00:00.000Z' }));
    await store.write(`${forged.key}.sig`, store.bytesOf(`${key}.sig`));
    await expect(opened(store, { trusted }).read('latest')).rejects.toMatchObject(wrong);
  });

  test('with any byte of its signature changed', async () => {
    const { store, key, trusted } = await signed();
    const bytes = store.bytesOf(`${key}.sig`);
    const name = Buffer.from(bytes).indexOf('"key":"');
    const end = Buffer.from(bytes).indexOf('"', name + 7);
    for (let index = 0; index < bytes.byteLength; index++) {
      // the name of the key is for people
      if (index >= name + 7 && index < end) continue;
      const edited = Buffer.from(bytes);
      edited[index] = (bytes[index] ?? 0) ^ 1;
      await store.write(`${key}.sig`, edited);
      await expect(opened(store, { trusted }).read('latest'), edited.toString()).rejects.toMatchObject({
        code: 'CORRUPT',
      });
    }
  });

  test('with a signature as long as a file', async () => {
    const { store, key, trusted } = await signed();
    await store.write(`${key}.sig`, Buffer.alloc(10_000));
    await expect(opened(store, { trusted }).read('latest')).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });
});

test('a signature of RSA with PKCS #1 is checked too, and never as one of another algorithm', async () => {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const bytes = Buffer.from('document');
  const digest = createHash('sha256').update(bytes).digest();
  const signature = signDigest(privateKey, 'RSASSA_PKCS1_V1_5_SHA_256', digest).toString('base64');
  expect(isSignedBy(publicKey, bytes, { algorithm: 'RSASSA_PKCS1_V1_5_SHA_256', signature })).toBe(true);
  expect(isSignedBy(publicKey, bytes, { algorithm: 'RSASSA_PSS_SHA_256', signature })).toBe(false);
  expect(isSignedBy(publicKey, bytes, { algorithm: 'ECDSA_SHA_256', signature })).toBe(false);
});

test.each([
  ['alias/backups', true],
  ['arn:aws:kms:eu-west-1:111122223333:alias/backups', true],
  ['arn:aws-cn:kms:cn-north-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab', true],
  ['1234abcd-12ab-34cd-56ef-1234567890ab', true],
  ['mrk-1234abcd12ab34cd56ef1234567890ab', true],
  ['backups.pem', false],
  ['./alias/backups.pem', false],
  ['arn:aws:s3:::bucket/key', false],
])('%s names a key of KMS: %s', (text, is) => expect(isKmsKey(text)).toBe(is));
