import { describe, expect, onTestFinished, test } from 'vitest';
import type { Bytes } from '../../../worker/content/content.ts';
import { digestOf } from '../../../worker/oci/digest.ts';
import { MEDIA_TYPE, type Descriptor } from '../../../worker/oci/manifest.ts';
import { openRegistry, type RegistryClient, type RegistryOptions } from '../../../worker/registry/registry.ts';
import type { RegistryRepository } from '../../../worker/registry/repository.ts';
import { Failure } from '../../../worker/util/failure.ts';
import { chunked } from '../../support/chunks.ts';
import { fakeClock, type FakeClock } from '../../support/clock.ts';
import { seededBytes } from '../../support/images.ts';
import { registryUnderTest } from '../../support/registries.ts';
import { scriptedServer, type Reply, type Script, type ScriptedServer } from '../../support/scripted-server.ts';

interface Serving {
  readonly server: ScriptedServer;
  readonly client: RegistryClient;
  readonly app: RegistryRepository;
  readonly clock: FakeClock;
}

async function serving(script: Script = {}, o: Partial<RegistryOptions> = {}): Promise<Serving> {
  const server = await scriptedServer(script);
  onTestFinished(async () => server[Symbol.asyncDispose]());
  const clock = fakeClock();
  const client = openRegistry(server.host, {
    side: 'target',
    credentials: async () => undefined,
    version: 'test',
    clock,
    ...o,
  });
  onTestFinished(async () => client.close());
  return { server, client, app: client.repository('app'), clock };
}

const BYTES = seededBytes('blob', 5000);
const BLOB: Descriptor = { mediaType: MEDIA_TYPE.ociLayer, digest: digestOf(BYTES), size: BYTES.byteLength };
const DIGEST = encodeURIComponent(BLOB.digest);
const POST = 'POST /v2/app/blobs/uploads/';
const MOUNT = `POST /v2/app/blobs/uploads/?mount=${DIGEST}&from=other`;

const session = (location: string): Reply => ({ status: 202, headers: { location } });
const done: Reply = { status: 201 };
const body = (): Bytes => chunked(BYTES, 1000);
const error = (status: number, code: string, message = 'no'): Reply => ({
  status,
  body: JSON.stringify({ errors: [{ code, message }] }),
});

describe('put', () => {
  test('is a session and one request with all bytes', async () => {
    const { server, app } = await serving({ [POST]: [session('/u/1')], [`PUT /u/1?digest=${DIGEST}`]: [done] });
    await app.put(BLOB, body);
    const sent = server.requests[1];
    expect(sent?.body.equals(BYTES)).toBe(true);
    expect(sent?.headers).toMatchObject({ 'content-type': 'application/octet-stream', 'content-length': '5000' });
    expect(server.requests[0]?.headers['content-length']).toBe('0');
  });

  test.each([
    ['relative', '/u/1', '/u/1?digest='],
    ['relative to the request', '7', '/v2/app/blobs/uploads/7?digest='],
    ['with a query, which stays unchanged', '/u/1?_state=a%2Bb~c+d%20e&x', '/u/1?_state=a%2Bb~c+d%20e&x&digest='],
  ])('a Location that is %s', async (_, location, line) => {
    const { app } = await serving({ [POST]: [session(location)], [`PUT ${line}${DIGEST}`]: [done] });
    await app.put(BLOB, body);
  });

  test('sends the bytes to a Location at another host without credentials', async () => {
    const storage = await serving({ [`PUT /u/1?sig=x&digest=${DIGEST}`]: [done] });
    const { server, app } = await serving(
      {
        'GET /v2/': [{ status: 401, headers: { 'www-authenticate': 'Basic realm="r"' } }],
        [POST]: [session(`${storage.server.url}/u/1?sig=x`)],
      },
      { credentials: async () => ({ username: 'ann', password: 'secret' }) },
    );
    await app.put(BLOB, body);
    expect(server.requests[1]?.headers).toHaveProperty('authorization');
    expect(storage.server.requests[0]?.headers).not.toHaveProperty('authorization');
  });

  test.each(['http://169.254.169.254/latest/', 'http://[fe80::1]/', 'gopher://x'])(
    'a Location like %s is refused',
    async (location) => {
      const { app } = await serving({ [POST]: [session(location)] });
      await expect(app.put(BLOB, body)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    },
  );

  test('an answer without a Location is refused', async () => {
    const { app } = await serving({ [POST]: [{ status: 202 }] });
    await expect(app.put(BLOB, body)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('did not say where to upload to'),
    });
  });

  test.each([200, 201, 202, 204])('%i is a success', async (status) => {
    const { app } = await serving({ [POST]: [session('/u/1')], [`PUT /u/1?digest=${DIGEST}`]: [{ status }] });
    await app.put(BLOB, body);
  });

  test.each<[string, Reply]>([
    ['a broken connection', { status: 201, drop: true }],
    ['503', { status: 503 }],
    ['429', { status: 429 }],
    ['a session that is lost', error(404, 'BLOB_UPLOAD_UNKNOWN')],
    ['a session that is lost, without a code', { status: 404 }],
    [
      'a session that is out of step',
      error(416, 'BLOB_UPLOAD_INVALID', 'First byte of the layer part is 0 instead of 5000'),
    ],
  ])('%s means a new session and the body from its start, and the old session is cancelled', async (_, reply) => {
    const { server, app, clock } = await serving({
      [POST]: [session('/u/1'), session('/u/2')],
      [`PUT /u/1?digest=${DIGEST}`]: [reply],
      'DELETE /u/1': [{ status: 204 }],
      [`PUT /u/2?digest=${DIGEST}`]: [done],
    });
    let opened = 0;
    await app.put(BLOB, () => {
      opened++;
      return body();
    });
    expect(opened).toBe(2);
    expect(server.requests.at(-1)?.body.equals(BYTES)).toBe(true);
    // a 429 also pauses the request that cancels the session
    expect(clock.sleeps).toHaveLength(reply.status === 429 ? 2 : 1);
  });

  test('ignores an old session that cannot be cancelled', async () => {
    const { app } = await serving({
      [POST]: [session('/u/1'), session('/u/2')],
      [`PUT /u/1?digest=${DIGEST}`]: [{ status: 500 }],
      'DELETE /u/1': [{ status: 405 }],
      [`PUT /u/2?digest=${DIGEST}`]: [done],
    });
    await app.put(BLOB, body);
  });

  test('ends after some tries', async () => {
    const { app, clock } = await serving({
      [POST]: Array.from({ length: 6 }, () => session('/u/1')),
      [`PUT /u/1?digest=${DIGEST}`]: Array.from({ length: 6 }, () => ({ status: 500 })),
      'DELETE /u/1': Array.from({ length: 6 }, () => ({ status: 204 })),
    });
    await expect(app.put(BLOB, body)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(clock.sleeps).toHaveLength(5);
  });

  test.each([
    ['DIGEST_INVALID', 'provided digest did not match uploaded content'],
    ['BLOB_UPLOAD_INVALID', 'None of the provided layer digests match the computed layer digest'],
  ])('bytes that do not match the digest are CORRUPT, once: %s', async (code, message) => {
    const { app } = await serving({
      [POST]: [session('/u/1')],
      [`PUT /u/1?digest=${DIGEST}`]: [error(400, code, message)],
      'DELETE /u/1': [{ status: 204 }],
    });
    await expect(app.put(BLOB, body)).rejects.toMatchObject({ code: 'CORRUPT' });
  });

  test('catches a registry that stored the blob under another digest', async () => {
    const { app } = await serving({
      [POST]: [session('/u/1')],
      [`PUT /u/1?digest=${DIGEST}`]: [{ ...done, headers: { 'docker-content-digest': digestOf(Buffer.from('x')) } }],
      'DELETE /u/1': [{ status: 204 }],
    });
    await expect(app.put(BLOB, body)).rejects.toMatchObject({ code: 'CORRUPT' });
  });

  test('throws the failure of the body unchanged, without another try, and cancels the session', async () => {
    const broken = new Failure('UNAVAILABLE', 'the source is gone');
    // the bytes never end, so the request is never answered
    const { app, clock } = await serving({
      [POST]: [session('/u/1')],
      'DELETE /u/1': [{ status: 204 }],
      [`PUT /u/1?digest=${DIGEST}`]: [{ status: 500, early: true, hang: true }],
    });
    const open = async function* (): Bytes {
      yield Buffer.alloc(100_000);
      throw broken;
    };
    await expect(app.put({ ...BLOB, size: 200_000 }, open)).rejects.toBe(broken);
    expect(clock.sleeps).toEqual([]);
  });

  test.each([400, 405, 411, 413, 415, 501])(
    'a registry that answers %i to one PUT gets PATCH and an empty PUT from then on',
    async (status) => {
      const { server, app } = await serving({
        [POST]: [session('/u/1'), session('/u/2'), session('/u/3')],
        [`PUT /u/1?digest=${DIGEST}`]: [{ status }],
        'DELETE /u/1': [{ status: 204 }],
        'PATCH /u/2': [session('/u/2?state=b')],
        [`PUT /u/2?state=b&digest=${DIGEST}`]: [done],
        'PATCH /u/3': [{ status: 204 }],
        [`PUT /u/3?digest=${DIGEST}`]: [{ status: 204 }],
      });
      await app.put(BLOB, body);
      await app.put(BLOB, body);
      const patch = server.requests.find(({ line }) => line === 'PATCH /u/2');
      expect(patch?.body.equals(BYTES)).toBe(true);
      expect(patch?.headers).not.toHaveProperty('content-range');
      expect(server.requests.find(({ line }) => line.startsWith('PUT /u/2'))?.headers['content-length']).toBe('0');
    },
  );

  test('does not continue a PATCH at the offset of the registry, which ECR reports wrongly', async () => {
    const { app } = await serving({
      [POST]: [session('/u/1'), session('/u/2'), session('/u/3')],
      [`PUT /u/1?digest=${DIGEST}`]: [{ status: 405 }],
      'DELETE /u/1': [{ status: 204 }],
      'PATCH /u/2': [{ status: 201, headers: { range: '0-9', location: '/u/2' }, drop: true }],
      'DELETE /u/2': [{ status: 204 }],
      'PATCH /u/3': [{ status: 201, headers: { range: '0-9', location: '/u/3' } }],
      [`PUT /u/3?digest=${DIGEST}`]: [done],
    });
    await app.put(BLOB, body);
  });

  test('renews credentials that expire while bytes are sent, and sends the bytes to a new session', async () => {
    const challenge = { status: 401, headers: { 'www-authenticate': 'Bearer realm="/token",service="s"' } };
    const { server, app, clock } = await serving({
      [POST]: [challenge, session('/u/1'), session('/u/2')],
      [`GET /token?service=s&scope=${encodeURIComponent('repository:app:pull,push')}`]: [
        { status: 200, body: '{"token":"old"}' },
        { status: 200, body: '{"token":"new"}' },
      ],
      [`PUT /u/1?digest=${DIGEST}`]: [challenge],
      'DELETE /u/1': [{ status: 204 }],
      [`PUT /u/2?digest=${DIGEST}`]: [done],
    });
    await app.put(BLOB, body);
    const puts = server.requests.filter(({ line }) => line.startsWith('PUT'));
    expect(puts.map(({ headers }) => headers.authorization)).toEqual(['Bearer old', 'Bearer new']);
    expect(clock.sleeps).toEqual([]);
  });

  test('cancels the session when it is aborted', async () => {
    const { server, app } = await serving({
      [POST]: [session('/u/1')],
      [`PUT /u/1?digest=${DIGEST}`]: [{ status: 500, hang: true, early: true }],
      'DELETE /u/1': [{ status: 204 }],
    });
    const stop = new AbortController();
    const open = async function* (): Bytes {
      yield Buffer.alloc(100_000);
      stop.abort();
      yield Buffer.alloc(1000);
    };
    await expect(app.put({ ...BLOB, size: 200_000 }, open, { signal: stop.signal })).rejects.toMatchObject({
      code: 'ABORTED',
    });
    expect(server.lines).toContain('DELETE /u/1');
  });
});

describe('mount', () => {
  test('201 is mounted', async () => {
    const { app } = await serving({ [MOUNT]: [done] });
    expect(await app.mount(BLOB, 'other')).toBe(true);
  });

  test('uses the session of a refused mount for the next put of the blob', async () => {
    const { app } = await serving({
      [MOUNT]: [session('/u/1')],
      [`PUT /u/1?digest=${DIGEST}`]: [done],
      [POST]: [session('/u/2')],
      [`PUT /u/2?digest=${DIGEST}`]: [done],
    });
    expect(await app.mount(BLOB, 'other')).toBe(false);
    await app.put(BLOB, body);
    await app.put(BLOB, body);
  });

  test('asks a registry once for each blob after eight refused mounts, until it mounts one', async () => {
    const others = ['a', 'b', 'c'];
    const blobs = Array.from({ length: 6 }, (_, i) => {
      const bytes = seededBytes(`mounted ${i}`, 100);
      return { mediaType: MEDIA_TYPE.ociLayer, digest: digestOf(bytes), size: bytes.byteLength };
    });
    const urlOf = ({ digest }: Descriptor, from: string): string =>
      `POST /v2/app/blobs/uploads/?mount=${encodeURIComponent(digest)}&from=${from}`;
    // sessions that the next refusal replaces, and those that are left at the end
    const script: Record<string, Reply[]> = { 'DELETE /u/1': Array.from({ length: 7 + 5 }, () => ({ status: 204 })) };
    const asked = [3, 3, 2, 1, 1, 3];
    for (const [i, blob] of blobs.entries())
      for (const from of others.slice(0, asked[i])) script[urlOf(blob, from)] = [i === 4 ? done : session('/u/1')];
    const { app } = await serving(script);
    const mounted: boolean[] = [];
    for (const blob of blobs) {
      let isMounted = false;
      for (const from of others) isMounted ||= await app.mount(blob, from);
      mounted.push(isMounted);
    }
    expect(mounted).toEqual([false, false, false, false, true, false]);
  });

  test('cancels an unused session at the end', async () => {
    const { app, client } = await serving({ [MOUNT]: [session('/u/1')], 'DELETE /u/1': [{ status: 204 }] });
    expect(await app.mount(BLOB, 'other')).toBe(false);
    await client.close();
  });

  test.each<[string, Reply]>([
    ['400', { status: 400 }],
    ['401', { status: 401 }],
    ['403', error(403, 'DENIED')],
    ['404', error(404, 'NAME_UNKNOWN')],
    ['405', { status: 405 }],
    ['429', { status: 429 }],
    ['503', { status: 503 }],
    ['a broken connection', { status: 201, drop: true }],
    ['202 without a session', { status: 202 }],
  ])('%s is neither a mount nor a failure', async (_, reply) => {
    const { app } = await serving({ [MOUNT]: [reply] });
    expect(await app.mount(BLOB, 'other')).toBe(false);
  });

  test('asks for a token that also reads the other repository', async () => {
    const scopes = ['repository:app:pull,push', 'repository:other:pull']
      .map((s) => `scope=${encodeURIComponent(s)}`)
      .join('&');
    const { app } = await serving({
      [MOUNT]: [{ status: 401, headers: { 'www-authenticate': 'Bearer realm="/token"' } }, done],
      [`GET /token?${scopes}`]: [{ status: 200, body: '{"token":"t"}' }],
    });
    expect(await app.mount(BLOB, 'other')).toBe(true);
  });
});

describe('against a registry that follows the specification', () => {
  test.each([
    ['cut while it is sent', { kind: 'cut-request', afterBytes: 70_000 }],
    ['taken, but its answer lost', { kind: 'lose-answer' }],
    ['refused for now', { kind: 'answer', status: 503 }],
    ['of an expired token', { kind: 'expire-token' }],
  ] as const)('completes an upload that is %s', async (_, fault) => {
    await using made = await registryUnderTest({ mode: 'oci', auth: 'bearer', users: { ann: 'secret' } });
    const client = made.client({
      credentials: async () => ({ username: 'ann', password: 'secret' }),
      clock: fakeClock(),
    });
    const bytes = seededBytes('large', 1_000_000);
    const d = { mediaType: MEDIA_TYPE.ociLayer, digest: digestOf(bytes), size: bytes.byteLength };
    made.local.faults.add({ operation: 'upload-put' }, fault);
    await client.repository('app').put(d, () => chunked(bytes, 65_536));
    expect(made.local.faults.pending).toBe(0);
    expect(await client.repository('app').has(d)).toBe(true);
  });
});
