// S3 that is not Amazon's: what other servers refuse, ignore, forget or count. The embedded S3 imitates them by its quirks.
import { HeadObjectCommand, ListMultipartUploadsCommand, S3Client } from '@aws-sdk/client-s3';
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import type { S3Quirk } from '../../../../local/s3/quirks.ts';
import type { LocalS3 } from '../../../../local/s3/s3.ts';
import type { ObjectStore, Upload, UploadOptions } from '../../../../worker/objects/objects.ts';
import { openS3, type S3StoreOptions } from '../../../../worker/objects/s3/store.ts';
import type { Event } from '../../../../worker/util/events.ts';
import { chunked, collect } from '../../../support/chunks.ts';
import { fakeClock } from '../../../support/clock.ts';
import { seededBytes } from '../../../support/images.ts';
import { BUCKET, openS3 as openServer, type OpenS3 } from '../../../support/local-s3.ts';
import { scriptedServer, type Reply, type Script } from '../../../support/scripted-server.ts';

const PART = 1000;
const content = seededBytes('others', 4500);
const bytesOf = (n: number): Uint8Array => content.subarray((n - 1) * PART, n * PART);

interface Bench {
  readonly server: OpenS3;
  readonly s3: LocalS3;
  readonly warnings: readonly string[];
  /** A store without knowledge of earlier ones, as in another process. */
  open(o?: Partial<S3StoreOptions>): ObjectStore;
  begin(store: ObjectStore, o?: Partial<UploadOptions>): Promise<Upload>;
  /** Names of the requested operations, in order. */
  operations(): readonly unknown[];
}

async function bench(...quirks: readonly S3Quirk[]): Promise<Bench> {
  // like the clients of the program
  const client = { responseChecksumValidation: 'WHEN_REQUIRED' } as const;
  const server = await openServer({ minPartBytes: PART, quirks, kmsKeys: ['alias/backup'], client });
  onTestFinished(async () => server[Symbol.asyncDispose]());
  const warnings: string[] = [];
  const report = (event: Event): void => {
    if (event.type === 'warning') warnings.push(event.message);
  };
  return {
    server,
    s3: server.s3,
    warnings,
    open: (o = {}) =>
      openS3({ bucket: BUCKET, client: server.client, minPartBytes: PART, clock: fakeClock(), report, ...o }),
    begin: async (store, o = {}) =>
      store.upload('a.tar', content.byteLength, { fingerprint: 'sha256:f', partSize: PART, ...o }),
    operations: () => server.s3.requests.map(({ operation }) => operation),
  };
}

const send = async (upload: Upload, ...numbers: readonly number[]): Promise<void> => {
  for (const number of numbers) await upload.part(number, bytesOf(number));
};
const ABSENT = { condition: { ifAbsent: true } } as const;

describe('an S3 that refuses conditional writes', () => {
  test('is reported when an upload begins, and stores the object', async () => {
    const t = await bench('refuses-conditions');
    const store = t.open();
    const upload = await t.begin(store, ABSENT);
    expect(t.warnings).toEqual([
      `s3://${BUCKET}: this S3 refuses conditional writes: Transship looks right before it writes instead, so of two writers of one key at the same moment the last one wins; set --s3-no-conditions or TRANSSHIP_S3_NO_CONDITIONS=true to accept that`,
    ]);
    await send(upload, 1, 2, 3, 4, 5);
    await upload.commit();
    expect(await collect(await store.read('a.tar'))).toEqual(content);
    expect(t.warnings).toHaveLength(1);
  });

  test('stores several objects that are written at once before this is known', async () => {
    const t = await bench('refuses-conditions', 'refuses-checksums');
    const store = t.open();
    const keys = ['k1', 'k2', 'k3', 'k4'];
    await Promise.all(
      keys.map(async (key) => {
        const upload = await store.upload(`${key}.tar`, content.byteLength, {
          fingerprint: 'f',
          partSize: PART,
          ...ABSENT,
        });
        await Promise.all([1, 2, 3, 4, 5].map(async (n) => send(upload, n)));
        await upload.commit();
      }),
    );
    for (const key of keys) expect(await collect(await store.read(`${key}.tar`))).toEqual(content);
    expect(t.warnings).toHaveLength(2);
  });

  test.each([
    ['a small object', 10],
    ['a stream', 9 * 1024 * 1024],
  ])('stores %s', async (_, bytes) => {
    const t = await bench('refuses-conditions');
    const store = t.open();
    const body = Buffer.alloc(bytes, 'x');
    await store.stream('k', chunked(body, bytes), ABSENT);
    expect((await collect(await store.read('k'))).equals(body)).toBe(true);
    expect(t.warnings).toEqual([expect.stringContaining('refuses conditional writes')]);
  });

  test.each(['small', 'large'])('does not lose an object that another process wrote meanwhile: %s', async (size) => {
    const t = await bench('refuses-conditions');
    const store = t.open();
    const upload = await t.begin(store, ABSENT);
    await send(upload, 1, 2, 3, 4, 5);
    await store.write('a.tar', Buffer.from('another'));
    const writing = size === 'small' ? store.write('a.tar', content, ABSENT) : upload.commit();
    await expect(writing).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(await collect(await store.read('a.tar'))).toEqual(Buffer.from('another'));
  });

  test('is neither reported nor tested when the operator accepted it', async () => {
    const t = await bench('refuses-conditions');
    const store = t.open({ noConditions: true });
    const upload = await t.begin(store, ABSENT);
    await send(upload, 1, 2, 3, 4, 5);
    const { etag } = await upload.commit();
    await store.write('a.tar', Buffer.from('next'), { condition: { ifMatch: etag } });
    expect(t.warnings).toEqual([]);
    expect(t.s3.requests.filter(({ status }) => status === 501)).toEqual([]);
  });
});

test('an S3 that ignores conditions is still written to', async () => {
  const t = await bench('ignores-conditions');
  const upload = await t.begin(t.open(), ABSENT);
  await send(upload, 1, 2, 3, 4, 5);
  await upload.commit();
  expect(await collect(await t.open().read('a.tar'))).toEqual(content);
});

describe('an S3 that forgets checksums', () => {
  test('an interrupted upload is resumed by the MD5 of its parts', async () => {
    const t = await bench('forgets-checksums');
    await send(await t.begin(t.open()), 2, 4);
    const upload = await t.begin(t.open());
    expect([...upload.done.keys()]).toEqual([2, 4]);
    expect([upload.holds(2, bytesOf(2)), upload.holds(4, bytesOf(3)), upload.holds(1, bytesOf(1))]).toEqual([
      true,
      false,
      false,
    ]);
    await send(upload, 1, 3, 5);
    await upload.commit();
    expect(await collect(await t.open().read('a.tar'))).toEqual(content);
    expect(t.operations().filter((name) => name === 'CreateMultipartUpload')).toHaveLength(1);
    expect(t.warnings).toEqual([]);
  });

  test('an upload of another image is not resumed', async () => {
    const t = await bench('forgets-checksums');
    await send(await t.begin(t.open(), { fingerprint: 'sha256:other' }), 2);
    expect((await t.begin(t.open())).done.size).toBe(0);
  });

  test('a write whose answer was lost is recognized by its ETag', async () => {
    const t = await bench('forgets-checksums');
    t.s3.faults.add({ operation: 'PutObject' }, { kind: 'lose-answer' });
    await expect(t.open().write('k', content, ABSENT)).resolves.toMatchObject({ size: content.byteLength });
    const upload = await t.begin(t.open(), ABSENT);
    await send(upload, 1, 2, 3, 4, 5);
    t.s3.faults.add({ operation: 'CompleteMultipartUpload', skip: 1 }, { kind: 'lose-answer' });
    await expect(upload.commit()).resolves.toMatchObject({ size: content.byteLength });
  });

  test('without MD5 either, the first upload reports that it cannot be resumed', async () => {
    const t = await bench('forgets-checksums', 'opaque-etags');
    const store = t.open();
    await send(await t.begin(store), 2, 4);
    const upload = await t.begin(store);
    expect(upload.done.size).toBe(0);
    await send(upload, 1, 2, 3, 4, 5);
    await upload.commit();
    expect(t.warnings).toEqual([
      `s3://${BUCKET}/a.tar: this S3 does not list what is needed to take up an upload again: one that is interrupted begins anew`,
    ]);
  });

  test('resumes also when it reads the part number marker as an index, as moto does', async () => {
    const t = await bench('forgets-checksums', 'counts-from-marker');
    await send(await t.begin(t.open()), 1, 3);
    expect([...(await t.begin(t.open())).done.keys()]).toEqual([1, 3]);
    expect(t.warnings).toEqual([]);
  });
});

test('an S3 that lists no checksums of parts and returns the checksum of the whole object finishes an interrupted upload', async () => {
  const t = await bench('lists-no-checksums');
  await send(await t.begin(t.open()), 1, 3);
  const upload = await t.begin(t.open());
  expect([...upload.done.keys()]).toEqual([1, 3]);
  await send(upload, 2, 4, 5);
  await upload.commit();
  expect(await collect(await t.open().read('a.tar'))).toEqual(content);
});

test('an S3 that answers NoSuchUpload where no upload is unfinished accepts the first one', async () => {
  const t = await bench('misses-uploads');
  const upload = await t.begin(t.open());
  await send(upload, 1, 2, 3, 4, 5);
  await expect(upload.commit()).resolves.toMatchObject({ size: content.byteLength });
});

test('an object that was replaced is never read as the previous one, though the S3 ignores If-Match', async () => {
  const t = await bench('ignores-conditions');
  const store = t.open();
  const { etag } = await store.write('k', content);
  await store.write('k', Buffer.from('another'));
  await expect(store.read('k', { ifMatch: etag })).rejects.toMatchObject({ code: 'CONFLICT' });
});

describe('an S3 that refuses checksums', () => {
  test('is sent Content-MD5 instead, with one warning, and interrupted uploads are resumed', async () => {
    const t = await bench('refuses-checksums');
    const store = t.open();
    await store.write('k', content, ABSENT);
    await send(await t.begin(store, ABSENT), 1, 2);
    const upload = await t.begin(store, ABSENT);
    expect([...upload.done.keys()]).toEqual([1, 2]);
    await send(upload, 3, 4, 5);
    await upload.commit();
    expect(await collect(await store.read('a.tar'))).toEqual(content);
    expect(t.warnings).toEqual([expect.stringContaining('this S3 refuses checksums: Transship sends Content-MD5')]);
  });

  test('stores objects without either if it refuses conditions too', async () => {
    const t = await bench('refuses-checksums', 'refuses-conditions');
    const store = t.open();
    await store.write('k', content, ABSENT);
    expect(await collect(await store.read('k'))).toEqual(content);
    expect(t.warnings).toHaveLength(2);
  });
});

test('an S3 that counts every part, like Ceph, gets no marker and stores the object, with a warning that it cannot resume', async () => {
  const t = await bench('counts-parts');
  const store = t.open();
  const upload = await t.begin(store);
  await send(upload, 1, 2, 3, 4, 5);
  await upload.commit();
  expect(await collect(await store.read('a.tar'))).toEqual(content);
  expect(t.warnings).toEqual([expect.stringContaining('one that is interrupted begins anew')]);
  const { Uploads = [] } = await t.server.client.send(new ListMultipartUploadsCommand({ Bucket: BUCKET }));
  expect(Uploads).toEqual([]);
});

test('an S3 that does not encode names in lists is understood', async () => {
  const t = await bench('lists-raw-keys');
  const store = t.open();
  const keys = ['l/50%', 'l/a+b', 'l/c d'];
  for (const key of keys) await store.write(key, content);
  expect((await Array.fromAsync(store.list('l/'))).map(({ key }) => key)).toEqual(keys);
});

test('a list that is cut without a continuation token is a failure, never the whole list', async () => {
  const t = await bench('loses-tokens');
  const store = t.open();
  for (let i = 0; i < 3; i++) await store.write(`l/${i}`, content.subarray(0, 1));
  t.server.client.middlewareStack.add(
    (next) => async (args) => next({ ...args, input: { ...args.input, MaxKeys: 2 } }),
    { step: 'initialize', name: 'short pages' },
  );
  await expect(Array.fromAsync(store.list('l/'))).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: expect.stringContaining('there is more'),
  });
});

describe('a bucket whose requesters pay', () => {
  const calls: readonly [string, (of: ObjectStore) => Promise<unknown>][] = [
    ['stat', async (of) => of.stat('k')],
    ['read', async (of) => collect(await of.read('k'))],
    ['write', async (of) => of.write('k', content)],
    ['list', async (of) => Array.fromAsync(of.list(''))],
    ['upload', async (of) => of.upload('k', 4500, { fingerprint: 'f', partSize: PART })],
  ];

  test.each(calls)('names the setting when it is missing: %s', async (_, call) => {
    const t = await bench('requester-pays');
    await expect(call(t.open())).rejects.toMatchObject({
      code: 'DENIED',
      message: expect.stringMatching(
        /access denied: s3:\w+ is needed; for a bucket whose requesters pay, set --s3-requester-pays$/,
      ),
    });
  });

  test('is written, listed and read with the setting', async () => {
    const t = await bench('requester-pays');
    const store = t.open({ requesterPays: true });
    await store.write('k', content);
    for (const [, call] of calls) await call(store);
    const upload = await t.begin(store);
    await send(upload, 1, 2, 3, 4, 5);
    await upload.commit();
    await (await t.begin(store)).abort();
    expect(t.s3.requests.filter(({ status }) => status === 403)).toEqual([]);
  });
});

describe('a KMS key', () => {
  test('is named with advice when it does not exist, and not confused with a missing object', async () => {
    const t = await bench();
    const store = t.open({ kmsKeyId: 'alias/typo' });
    const wrong = {
      code: 'INVALID',
      message: expect.stringContaining(
        'the KMS key alias/typo cannot be used: check --s3-kms-key or TRANSSHIP_S3_KMS_KEY; the key has to be enabled, and in the region of the bucket',
      ),
    };
    await expect(store.write('k', content)).rejects.toMatchObject(wrong);
    await expect(t.begin(store)).rejects.toMatchObject(wrong);
  });

  test('is named with the missing actions when it may not be used', async () => {
    const t = await bench('requester-pays');
    await expect(t.open({ kmsKeyId: 'alias/backup' }).write('k', content)).rejects.toMatchObject({
      code: 'DENIED',
      message: expect.stringContaining(
        's3:PutObject is needed, with kms:GenerateDataKey and kms:Decrypt on alias/backup',
      ),
    });
  });

  test('fails with the name of the missing permission when S3 names it', async () => {
    const server = await scriptedServer({
      'GET /bucket/k?x-id=GetObject': [
        {
          status: 403,
          headers: { 'content-type': 'application/xml' },
          body: '<Error><Code>AccessDenied</Code><Message>User: arn:aws:sts::111111111111:assumed-role/w is not authorized to perform: kms:Decrypt on the resource associated with this ciphertext</Message></Error>',
        },
      ],
    });
    onTestFinished(async () => server[Symbol.asyncDispose]());
    environment(server.url);
    await using store = openS3({ bucket: BUCKET, clock: fakeClock() });
    await expect(store.read('k')).rejects.toMatchObject({
      code: 'DENIED',
      message: expect.stringContaining('access denied: kms:Decrypt is needed'),
    });
  });
});

describe('the endpoint', () => {
  afterEach(() => vi.unstubAllEnvs());

  test('of a private S3 at a name with dots is addressed by path', async () => {
    expect(await hostOf('http://minio.corp.example:9000')).toBe('minio.corp.example');
  });

  test('of a private S3 is addressed by host name where that is set', async () => {
    expect(await hostOf('http://minio.corp.example:9000', { pathStyle: false })).toBe('bucket.minio.corp.example');
  });

  test.each(['https://s3.eu-west-1.amazonaws.com', 'https://bucket.vpce-1a2b.s3.us-east-1.vpce.amazonaws.com'])(
    'of Amazon is addressed by host name: %s',
    async (endpoint) => {
      expect(await hostOf(endpoint)).toBe(`bucket.${new URL(endpoint).hostname}`);
      expect(await hostOf(endpoint, { pathStyle: true })).toBe(new URL(endpoint).hostname);
    },
  );

  test('receives no checksums where AWS_REQUEST_CHECKSUM_CALCULATION turns them off', async () => {
    const t = await bench();
    environment(t.s3.endpoint);
    vi.stubEnv('AWS_ACCESS_KEY_ID', t.s3.credentials.accessKeyId);
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', t.s3.credentials.secretAccessKey);
    vi.stubEnv('AWS_REQUEST_CHECKSUM_CALCULATION', 'WHEN_REQUIRED');
    await using store = openS3({ bucket: BUCKET, minPartBytes: PART, clock: fakeClock() });
    const upload = await t.begin(store);
    await send(upload, 1, 2, 3, 4, 5);
    await upload.commit();
    const head = await t.server.client.send(
      new HeadObjectCommand({ Bucket: BUCKET, Key: 'a.tar', ChecksumMode: 'ENABLED' }),
    );
    expect(head.ChecksumCRC32).toBeUndefined();
    expect(await collect(await store.read('a.tar'))).toEqual(content);
  });
});

/** The host that is asked for an object with this endpoint. */
async function hostOf(endpoint: string, o: Partial<S3StoreOptions> = {}): Promise<string | undefined> {
  let host: string | undefined;
  const handle = async (request: { readonly hostname: string }): Promise<never> => {
    host = request.hostname;
    throw new Error('there is no network');
  };
  const credentials = { accessKeyId: 'key', secretAccessKey: 'secret' };
  const client = new S3Client({ endpoint, region: 'us-east-1', credentials, requestHandler: { handle } });
  await expect(openS3({ bucket: BUCKET, client, ...o }).stat('k')).rejects.toThrow('there is no network');
  return host;
}

describe('an endpoint that sends no length', () => {
  const part = (from: number): Reply => ({
    status: 206,
    headers: { 'content-range': `bytes ${from}-4499/4500` },
    body: content.subarray(from),
    unsized: true,
  });
  const serving = async (script: Script): Promise<ObjectStore> => {
    const server = await scriptedServer(script);
    onTestFinished(async () => server[Symbol.asyncDispose]());
    environment(server.url);
    const store = openS3({ bucket: BUCKET, clock: fakeClock() });
    onTestFinished(async () => store[Symbol.asyncDispose]());
    return store;
  };

  test('is read whole and in parts, until its body ends', async () => {
    const get = `GET /${BUCKET}/k?x-id=GetObject`;
    const store = await serving({ [get]: [{ status: 200, body: content, unsized: true }, part(100)] });
    expect(await collect(await store.read('k'))).toEqual(content);
    expect(await collect(await store.read('k', { offset: 100 }))).toEqual(content.subarray(100));
  });

  test('is asked for a byte where a HEAD would do: its objects are not empty', async () => {
    const store = await serving({
      [`HEAD /${BUCKET}/k`]: [{ status: 200, unsized: true, headers: { etag: '"e"' } }],
      [`GET /${BUCKET}/k?x-id=GetObject`]: [
        { status: 206, headers: { 'content-range': 'bytes 0-0/4500', etag: '"e"' }, body: 'x' },
      ],
    });
    expect(await store.stat('k')).toMatchObject({ size: 4500, etag: '"e"' });
  });
});

/** Like a shell that is logged in and uses this endpoint. */
function environment(endpoint: string): void {
  for (const [name, value] of Object.entries({
    AWS_ENDPOINT_URL_S3: endpoint,
    AWS_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: 'key',
    AWS_SECRET_ACCESS_KEY: 'secret',
    AWS_CONFIG_FILE: '/dev/null',
    AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
  }))
    vi.stubEnv(name, value);
}
