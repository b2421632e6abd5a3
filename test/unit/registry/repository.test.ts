import { gzipSync } from 'node:zlib';
import { describe, expect, onTestFinished, test } from 'vitest';
import { read } from '../../../worker/content/read.ts';
import { digestOf, shortDigest } from '../../../worker/oci/digest.ts';
import { MANIFEST_MEDIA_TYPES, MEDIA_TYPE, type Descriptor } from '../../../worker/oci/manifest.ts';
import { openRegistry, type RegistryClient, type RegistryOptions } from '../../../worker/registry/registry.ts';
import type { RegistryRepository } from '../../../worker/registry/repository.ts';
import type { Event } from '../../../worker/util/events.ts';
import { chunked, collect } from '../../support/chunks.ts';
import { fakeClock, type FakeClock } from '../../support/clock.ts';
import { seededBytes } from '../../support/images.ts';
import { scriptedServer, type Reply, type Script, type ScriptedServer } from '../../support/scripted-server.ts';

interface Serving {
  readonly server: ScriptedServer;
  readonly client: RegistryClient;
  readonly app: RegistryRepository;
  readonly clock: FakeClock;
  readonly events: readonly Event[];
}

async function serving(script: Script = {}, o: Partial<RegistryOptions> = {}): Promise<Serving> {
  const server = await scriptedServer(script);
  onTestFinished(async () => server[Symbol.asyncDispose]());
  const clock = fakeClock();
  const events: Event[] = [];
  const client = openRegistry(server.host, {
    side: 'target',
    credentials: async () => undefined,
    version: 'test',
    clock,
    report: (event) => void events.push(event),
    ...o,
  });
  onTestFinished(async () => client.close());
  return { server, client, app: client.repository('app'), clock, events };
}

const MANIFEST = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.ociManifest,
    config: { mediaType: MEDIA_TYPE.ociConfig, digest: digestOf(Buffer.from('{}')), size: 2 },
    layers: [],
  }),
);
const IMAGE: Descriptor = { mediaType: MEDIA_TYPE.ociManifest, digest: digestOf(MANIFEST), size: MANIFEST.byteLength };
const OTHER = digestOf(Buffer.from('other'));

function headers(d: Descriptor = IMAGE): Record<string, string> {
  return { 'content-type': d.mediaType, 'docker-content-digest': d.digest, 'content-length': String(d.size) };
}

const manifestReply = (more: Partial<Reply> = {}): Reply => ({
  status: 200,
  headers: { 'content-type': IMAGE.mediaType },
  body: MANIFEST,
  ...more,
});

const body = (bytes: Uint8Array) => () => chunked(bytes, 1000);
const unasked = (): never => {
  throw new Error('the bytes should not be requested');
};

describe('open', () => {
  test('reads a manifest once that had to be read to resolve its tag', async () => {
    const { server, app } = await serving({
      'HEAD /v2/app/manifests/v1': [{ status: 405 }],
      'GET /v2/app/manifests/v1': [manifestReply()],
    });
    const found = await app.resolve('v1');
    for (let i = 0; i < 2; i++) expect(Buffer.compare(await collect(await app.open(found)), MANIFEST)).toBe(0);
    expect(server.lines).toEqual(['HEAD /v2/app/manifests/v1', 'GET /v2/app/manifests/v1']);
  });

  test('requests a manifest again that another repository served: that may have other permissions', async () => {
    const { server, client, app } = await serving({
      'HEAD /v2/app/manifests/v1': [{ status: 405 }],
      'GET /v2/app/manifests/v1': [manifestReply()],
      [`GET /v2/other/manifests/${IMAGE.digest}`]: [{ status: 404 }],
    });
    await app.resolve('v1');
    await expect(client.repository('other').open(IMAGE)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(server.lines).toHaveLength(3);
  });
});

describe('resolve', () => {
  test('costs one HEAD, which accepts every kind of manifest', async () => {
    const { server, app } = await serving({ 'HEAD /v2/app/manifests/v1': [{ status: 200, headers: headers() }] });
    expect(await app.resolve('v1')).toEqual(IMAGE);
    for (const type of MANIFEST_MEDIA_TYPES) expect(server.requests[0]?.headers.accept).toContain(type);
  });

  test("returns the registry's answer since the moment that the caller names", async () => {
    const head = { status: 200, headers: headers() };
    const { server, app, clock } = await serving({ 'HEAD /v2/app/manifests/v1': [head, head] });
    const answersSinceMs = clock.now();
    for (let i = 0; i < 2; i++) expect(await app.resolve('v1', { answersSinceMs })).toEqual(IMAGE);
    expect(server.requests).toHaveLength(1);
    await clock.sleep(1);
    await app.resolve('v1', { answersSinceMs: clock.now() });
  });

  test('returns what a tag stands for after a push moved it, although it was asked before', async () => {
    const old = { status: 200, headers: { ...headers(), 'docker-content-digest': OTHER } };
    const { app, clock } = await serving({
      // the second is that of the push
      'HEAD /v2/app/manifests/v1': [old, old, { status: 200, headers: headers() }],
      'PUT /v2/app/manifests/v1': [{ status: 201 }],
    });
    const answersSinceMs = clock.now();
    expect((await app.resolve('v1', { answersSinceMs })).digest).toBe(OTHER);
    await app.tag('v1', IMAGE, () => chunked(MANIFEST, 100));
    expect((await app.resolve('v1', { answersSinceMs })).digest).toBe(IMAGE.digest);
  });

  test('costs one GET when the manifest will be read, and also a HEAD when it cannot be', async () => {
    const { server, app } = await serving({
      'GET /v2/app/manifests/v1': [manifestReply()],
      'GET /v2/app/manifests/v2': [manifestReply({ headers: { ...headers(), 'docker-content-digest': OTHER } })],
      'HEAD /v2/app/manifests/v2': [{ status: 200, headers: { ...headers(), 'docker-content-digest': OTHER } }],
    });
    expect(await app.resolve('v1', { willRead: true })).toEqual(IMAGE);
    await collect(await app.open(IMAGE));
    expect((await app.resolve('v2', { willRead: true })).digest).toBe(OTHER);
    expect(server.requests).toHaveLength(3);
  });

  test('does not need the registry to repeat a digest', async () => {
    const { 'docker-content-digest': _, ...some } = headers();
    const { app } = await serving({ [`HEAD /v2/app/manifests/${IMAGE.digest}`]: [{ status: 200, headers: some }] });
    expect(await app.resolve(IMAGE.digest)).toEqual(IMAGE);
  });

  test.each<[string, Reply]>([
    ['names no digest', { status: 200, headers: { 'content-type': IMAGE.mediaType, 'content-length': '9' } }],
    ['names a malformed digest', { status: 200, headers: { ...headers(), 'docker-content-digest': 'sha256:zz' } }],
    ['has no length', { status: 200, headers: { ...headers(), 'content-length': '0' } }],
    ['has the length of what is compressed', { status: 200, headers: { ...headers(), 'content-encoding': 'gzip' } }],
    ['names no manifest type', { status: 200, headers: { ...headers(), 'content-type': 'application/json' } }],
    ['is not allowed', { status: 405 }],
    ['is not understood', { status: 400 }],
    ['is forbidden', { status: 403 }],
  ])('reads and hashes where a HEAD %s', async (_, head) => {
    const { app } = await serving({
      'HEAD /v2/app/manifests/v1': [head],
      'GET /v2/app/manifests/v1': [manifestReply()],
    });
    expect(await app.resolve('v1')).toEqual(IMAGE);
  });

  test('does not read again what was read to resolve', async () => {
    const { app, server } = await serving({
      'HEAD /v2/app/manifests/v1': [{ status: 405 }],
      'GET /v2/app/manifests/v1': [manifestReply()],
    });
    const d = await app.resolve('v1');
    expect(Buffer.compare(await collect(read(app, d)), MANIFEST)).toBe(0);
    expect(server.requests).toHaveLength(2);
  });

  test('uses the media type in the manifest where the registry sends another', async () => {
    const generic = { status: 200, headers: { 'content-type': 'text/plain; charset=utf-8' } };
    const { app } = await serving({
      'HEAD /v2/app/manifests/v1': [generic],
      'GET /v2/app/manifests/v1': [manifestReply(generic)],
    });
    expect(await app.resolve('v1')).toEqual(IMAGE);
  });

  test.each([
    [
      'a HEAD',
      {
        [`HEAD /v2/app/manifests/${IMAGE.digest}`]: [
          { status: 200, headers: { ...headers(), 'docker-content-digest': OTHER } },
        ],
      },
    ],
    [
      'a GET',
      {
        [`HEAD /v2/app/manifests/${IMAGE.digest}`]: [{ status: 405 }],
        [`GET /v2/app/manifests/${IMAGE.digest}`]: [manifestReply({ body: `${MANIFEST.toString()} ` })],
      },
    ],
  ])('is CORRUPT when the registry serves another digest, by %s', async (_, script) => {
    const { app } = await serving(script);
    await expect(app.resolve(IMAGE.digest)).rejects.toMatchObject({ code: 'CORRUPT' });
  });

  test('reads a manifest that a proxy compressed unasked', async () => {
    const compressed = { headers: { 'content-type': IMAGE.mediaType, 'content-encoding': 'gzip' } };
    const reply = manifestReply({ ...compressed, body: gzipSync(MANIFEST) });
    const { app, server } = await serving({
      [`HEAD /v2/app/manifests/${IMAGE.digest}`]: [{ status: 200, headers: { ...headers(), ...compressed.headers } }],
      [`GET /v2/app/manifests/${IMAGE.digest}`]: [reply],
    });
    expect(await app.resolve(IMAGE.digest)).toEqual(IMAGE);
    expect(Buffer.compare(await collect(read(app, IMAGE)), MANIFEST)).toBe(0);
    expect(server.requests.map((request) => request.headers['accept-encoding'])).toEqual(['identity', 'identity']);
  });

  test('is CORRUPT for a translation, which is another image', async () => {
    const { app } = await serving({
      'HEAD /v2/app/manifests/v1': [{ status: 405 }],
      'GET /v2/app/manifests/v1': [manifestReply({ headers: { ...headers(), 'docker-content-digest': OTHER } })],
    });
    await expect(app.resolve('v1')).rejects.toMatchObject({ code: 'CORRUPT' });
  });

  test.each([MEDIA_TYPE.dockerManifest, MEDIA_TYPE.ociIndex, 'application/vnd.docker.distribution.manifest.v1+json'])(
    'uses the media type in the manifest where the registry calls it %s',
    async (said) => {
      const { app } = await serving({
        'HEAD /v2/app/manifests/v1': [{ status: 405 }],
        'GET /v2/app/manifests/v1': [manifestReply({ headers: { 'content-type': said } })],
      });
      expect(await app.resolve('v1')).toEqual(IMAGE);
    },
  );

  test("names docker's first schema when it meets it", async () => {
    const old = { 'content-type': 'application/vnd.docker.distribution.manifest.v1+prettyjws' };
    const { app } = await serving({
      'HEAD /v2/app/manifests/v1': [{ status: 200, headers: { ...headers(), ...old } }],
      'GET /v2/app/manifests/v1': [{ status: 200, headers: old, body: '{"schemaVersion":1}' }],
    });
    await expect(app.resolve('v1')).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('schema 1'),
    });
  });

  test.each([401, 404])('does not read after a %i', async (status) => {
    const { app } = await serving({ 'HEAD /v2/app/manifests/v1': [{ status }] });
    await expect(app.resolve('v1')).rejects.toMatchObject({ context: { status } });
  });
});

describe('pull limits', () => {
  const left = (n: number): Record<string, string> => ({ 'ratelimit-remaining': `${n};w=21600` });
  const head = `HEAD /v2/app/manifests/${IMAGE.digest}`;
  const get = `GET /v2/app/manifests/${IMAGE.digest}`;

  test('stop reading before nothing is left, while resolving continues: it is free', async () => {
    const { app, server } = await serving({
      'HEAD /v2/app/manifests/v1': [
        { status: 200, headers: { ...headers(), ...left(1) } },
        { status: 200, headers: { ...headers(), ...left(1) } },
      ],
    });
    await app.resolve('v1');
    await expect(app.open(IMAGE)).rejects.toMatchObject({
      code: 'THROTTLED',
      message: expect.stringMatching(/pull limit of 6 hours is used up; sign in .* or try again later$/),
    });
    await app.resolve('v1');
    expect(server.lines.filter((line) => line.startsWith('GET'))).toEqual([]);
  });

  test('are requested again after a while', async () => {
    const { app, clock } = await serving({
      'HEAD /v2/app/manifests/v1': [{ status: 200, headers: { ...headers(), ...left(0) } }],
      [head]: [{ status: 200, headers: { ...headers(), ...left(80) } }],
      [get]: [manifestReply()],
    });
    await app.resolve('v1');
    await clock.sleep(60_000);
    expect(Buffer.compare(await collect(await app.open(IMAGE)), MANIFEST)).toBe(0);
  });

  test('are not waited for when they are used up', async () => {
    const { app, clock } = await serving({
      'HEAD /v2/app/manifests/v1': [{ status: 405 }],
      'GET /v2/app/manifests/v1': [{ status: 429, headers: left(0), body: 'You have reached your pull rate limit.' }],
    });
    await expect(app.resolve('v1')).rejects.toMatchObject({ code: 'THROTTLED' });
    expect(clock.sleeps).toEqual([]);
  });

  test('do not count blobs', async () => {
    const bytes = seededBytes('blob', 100);
    const d = { mediaType: MEDIA_TYPE.ociLayer, digest: digestOf(bytes), size: 100 };
    const { app } = await serving({
      'HEAD /v2/app/manifests/v1': [{ status: 200, headers: { ...headers(), ...left(0) } }],
      [`GET /v2/app/blobs/${d.digest}`]: [{ status: 200, body: bytes }],
    });
    await app.resolve('v1');
    expect(await collect(await app.open(d))).toHaveLength(100);
  });
});

describe('blobs', () => {
  const bytes = seededBytes('blob', 5000);
  const d: Descriptor = { mediaType: MEDIA_TYPE.ociLayer, digest: digestOf(bytes), size: bytes.byteLength };
  const get = `GET /v2/app/blobs/${d.digest}`;
  const head = `HEAD /v2/app/blobs/${d.digest}`;
  const part = (from: number, to: number): Reply => ({
    status: 206,
    headers: { 'content-range': `bytes ${from}-${to - 1}/${d.size}` },
    body: bytes.subarray(from, to),
  });

  test.each<[{ from?: number; to?: number }, string | undefined, number, number]>([
    [{}, undefined, 0, 5000],
    [{ from: 0, to: 5000 }, undefined, 0, 5000],
    [{ from: 1 }, 'bytes=1-', 1, 5000],
    [{ from: 4999 }, 'bytes=4999-', 4999, 5000],
    [{ from: 10, to: 11 }, 'bytes=10-10', 10, 11],
    [{ to: 512 }, 'bytes=0-511', 0, 512],
    [{ from: 10, to: 9999 }, 'bytes=10-', 10, 5000],
  ])('%j is requested as %s', async (range, header, from, to) => {
    const { app, server } = await serving({
      [get]: [header === undefined ? { status: 200, body: bytes } : part(from, to)],
    });
    expect(Buffer.compare(await collect(await app.open(d, range)), bytes.subarray(from, to))).toBe(0);
    expect(server.requests[0]?.headers.range).toBe(header);
  });

  test.each([{ from: 5000 }, { from: 20, to: 20 }])('an empty range is not requested: %j', async (range) => {
    const { app } = await serving();
    expect(await collect(await app.open(d, range))).toHaveLength(0);
  });

  test.each<[string, Reply]>([
    ['the whole', { status: 200, body: bytes }],
    ['another range', part(0, 5000)],
    ['a range that it does not name', { status: 206, body: bytes.subarray(100) }],
  ])('%s instead of a range is UNSUPPORTED, and read still succeeds', async (_, reply) => {
    const cut = { status: 200, body: bytes, cutAfter: 1000 };
    const { app } = await serving({ [get]: [reply, cut, reply, { status: 200, body: bytes }] });
    await expect(app.open(d, { from: 100 })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    expect(Buffer.compare(await collect(read(app, d, { clock: fakeClock() })), bytes)).toBe(0);
  });

  test('are never unpacked: a layer may be stored with a Content-Encoding of its own', async () => {
    const packed = gzipSync(bytes);
    const layer: Descriptor = { mediaType: MEDIA_TYPE.ociLayerGzip, digest: digestOf(packed), size: packed.byteLength };
    const { app } = await serving({
      [`GET /v2/app/blobs/${layer.digest}`]: [
        { status: 200, body: packed, headers: { 'content-encoding': 'gzip', 'content-length': String(layer.size) } },
      ],
    });
    expect(Buffer.compare(await collect(read(app, layer)), packed)).toBe(0);
  });

  test('a config that a proxy compressed unasked is read and checked unpacked', async () => {
    const config = Buffer.from(JSON.stringify({ os: 'linux', history: 'x'.repeat(2000) }));
    const blob: Descriptor = { mediaType: MEDIA_TYPE.ociConfig, digest: digestOf(config), size: config.byteLength };
    const compressed = { status: 200, body: gzipSync(config), headers: { 'content-encoding': 'gzip' } };
    const { app } = await serving({
      [`GET /v2/app/blobs/${blob.digest}`]: [compressed],
      [`HEAD /v2/app/blobs/${blob.digest}`]: [
        { status: 200, headers: { 'content-encoding': 'gzip', 'content-length': '60' } },
      ],
    });
    expect(Buffer.compare(await collect(read(app, blob)), config)).toBe(0);
    expect(await app.has(blob)).toBe(true);
  });

  test('a broken body is resumed where it broke', async () => {
    const { app, server } = await serving({ [get]: [{ status: 200, body: bytes, cutAfter: 1000 }, part(1000, 5000)] });
    expect(Buffer.compare(await collect(read(app, d, { clock: fakeClock() })), bytes)).toBe(0);
    expect(server.requests[1]?.headers.range).toBe('bytes=1000-');
  });

  test('a busy registry is retried by read alone, not by two layers at once', async () => {
    const { app } = await serving({ [get]: Array.from({ length: 6 }, () => ({ status: 503 })) });
    await expect(collect(read(app, d, { clock: fakeClock() }))).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  });

  test('fewer bytes than the descriptor are CORRUPT', async () => {
    const { app, server } = await serving({ [get]: [{ status: 416, headers: { 'content-range': 'bytes */4000' } }] });
    await expect(app.open(d, { from: 4999 })).rejects.toMatchObject({
      code: 'CORRUPT',
      message: `read blob ${shortDigest(d.digest)} of ${server.host}/app: the registry has 4000 bytes of it instead of 5000`,
    });
  });

  test.each([
    ['of the whole blob', { 'content-range': 'bytes */5000' }],
    ['of a length that it does not name', {}],
  ])('a range that is refused %s is read from the start instead', async (_, refused) => {
    const cut = { status: 200, body: bytes, cutAfter: 1000 };
    const { app } = await serving({
      [get]: [cut, { status: 416, headers: refused }, { status: 200, body: bytes }],
    });
    expect(Buffer.compare(await collect(read(app, d, { clock: fakeClock() })), bytes)).toBe(0);
  });

  test.each<[boolean, string, Reply]>([
    [true, 'with its length', { status: 200, headers: { 'content-length': '5000' } }],
    [false, 'with another length', { status: 200, headers: { 'content-length': '4999' } }],
    [false, 'not there', { status: 404 }],
  ])('has returns %s for one that is %s', async (there, _, reply) => {
    const { app } = await serving({ [head]: [reply] });
    expect(await app.has(d)).toBe(there);
  });

  test.each([
    ['200', { status: 200, body: bytes }, true],
    ['206', part(0, 1), true],
    ['416, of an empty one', { status: 416 }, true],
    ['404', { status: 404 }, false],
  ])('a registry that refuses HEAD of blobs is asked for the first byte from then on: %s', async (_, reply, there) => {
    const { app, server } = await serving({ [head]: [{ status: 401 }], [get]: [reply, reply] });
    expect([await app.has(d), await app.has(d)]).toEqual([there, there]);
    expect(server.requests[1]?.headers.range).toBe('bytes=0-0');
  });

  test('storage that refuses the HEAD of a link signed for GET is asked for the first byte', async () => {
    const { app, server } = await serving();
    const link = { status: 307, headers: { location: `${server.url}/layer?signed=1` } };
    server.expect({
      [head]: [link],
      'HEAD /layer?signed=1': [{ status: 403 }],
      [get]: [link],
      'GET /layer?signed=1': [part(0, 1)],
    });
    expect(await app.has(d)).toBe(true);
  });
});

describe('tags', () => {
  const head = 'HEAD /v2/app/manifests/v1';
  const put = 'PUT /v2/app/manifests/v1';
  const immutable = {
    status: 400,
    body: JSON.stringify({
      errors: [{ code: 'TAG_INVALID', message: "The image tag 'v1' already exists … is immutable." }],
    }),
  };
  const standsFor = (digest: string): Reply => ({
    status: 200,
    headers: { ...headers(), 'docker-content-digest': digest },
  });

  test('an existing tag of the same image is not written', async () => {
    const { app } = await serving({ [head]: [standsFor(IMAGE.digest)] });
    await app.tag('v1', IMAGE, unasked);
  });

  test('is written with the media type of the manifest, byte for byte', async () => {
    const { app, server } = await serving({ [head]: [{ status: 404 }], [put]: [{ status: 201 }] });
    await app.tag('v1', IMAGE, body(MANIFEST));
    expect(server.requests[1]?.headers['content-type']).toBe(IMAGE.mediaType);
    expect(server.requests[1]?.body.equals(MANIFEST)).toBe(true);
  });

  test('an immutable tag of another image is a CONFLICT with the reason', async () => {
    const { app } = await serving({ [head]: [standsFor(OTHER), standsFor(OTHER)], [put]: [immutable] });
    await expect(app.tag('v1', IMAGE, body(MANIFEST))).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringMatching(
        /:v1 as sha256:.*: the tag is immutable and stands for sha256:.*; use another tag/,
      ),
    });
  });

  test('an immutable tag that another process has just set to the same image is accepted', async () => {
    const { app } = await serving({ [head]: [{ status: 404 }, standsFor(IMAGE.digest)], [put]: [immutable] });
    await app.tag('v1', IMAGE, body(MANIFEST));
  });

  test('a tag that was written, but whose answer was lost, is accepted where tags are immutable', async () => {
    const { app } = await serving({
      [head]: [{ status: 404 }, standsFor(IMAGE.digest)],
      [put]: [{ status: 201, drop: true }, immutable],
    });
    await app.tag('v1', IMAGE, body(MANIFEST));
  });

  test.each([401, 403])(
    'has() is false for a manifest when the registry answers %i, so that the push decides',
    async (status) => {
      const { app } = await serving({ [`HEAD /v2/app/manifests/${IMAGE.digest}`]: [{ status }] });
      expect(await app.has(IMAGE)).toBe(false);
    },
  );

  test('can be written without permission to read', async () => {
    const { app } = await serving({ [head]: [{ status: 403 }], [put]: [{ status: 201 }] });
    await app.tag('v1', IMAGE, body(MANIFEST));
  });

  test('a registry that stored something else is caught', async () => {
    const { app } = await serving({
      [head]: [{ status: 404 }],
      [put]: [{ status: 201, headers: { 'docker-content-digest': OTHER } }],
    });
    await expect(app.tag('v1', IMAGE, body(MANIFEST))).rejects.toMatchObject({ code: 'CORRUPT' });
  });

  test('is NOT_FOUND when the registry misses a child', async () => {
    const reply = { status: 400, body: '{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown"}]}' };
    const { app } = await serving({ [`PUT /v2/app/manifests/${IMAGE.digest}`]: [reply] });
    await expect(app.put(IMAGE, body(MANIFEST))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test('is refused before anything is sent when the manifest is larger than registries accept', async () => {
    const { app } = await serving();
    await expect(app.put({ ...IMAGE, size: 5 * 1024 * 1024 }, unasked)).rejects.toMatchObject({ code: 'INVALID' });
  });
});

test('hosts: loopback is plain HTTP, mapped hosts are where they are mapped to, other text is refused', async () => {
  const open = (host: string, endpoints?: ReadonlyMap<string, string>): unknown => {
    const client = openRegistry(host, {
      side: 'source',
      credentials: async () => undefined,
      version: 'test',
      endpoints,
    });
    onTestFinished(async () => client.close());
    return client.repository('app');
  };
  for (const host of ['registry.example', 'localhost:5000', '10.0.0.1:5000']) expect(() => open(host)).not.toThrow();
  expect(() => open('registry.example', new Map([['registry.example', 'http://127.0.0.1:1']]))).not.toThrow();
  expect(() => open('registry.example', new Map([['registry.example', 'ftp://a']]))).toThrow(
    /^the endpoint of registry.example/,
  );
  expect(() => open('a b')).toThrow('a b is not the host of a registry');
  for (const metadata of ['169.254.169.254', '[fd00:ec2::254]:80', '[::ffff:169.254.170.2]'])
    expect(() => open(metadata)).toThrow(`${metadata} is a metadata address`);
  expect(() => open('registry.example', new Map([['registry.example', 'http://169.254.169.254']]))).toThrow(
    /is a metadata address/,
  );
});
