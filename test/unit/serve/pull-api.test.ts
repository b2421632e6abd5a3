import { describe, expect, test } from 'vitest';
import { MemoryContent } from '../../../worker/content/memory.ts';
import type { ServedImages } from '../../../worker/images/served-images.ts';
import { isManifestType, type Descriptor } from '../../../worker/oci/manifest.ts';
import { Failure } from '../../../worker/util/failure.ts';
import { addJson, seededBytes } from '../../support/images.ts';
import { serveForTest, type Served } from '../../support/served.ts';

const TYPE = 'application/vnd.oci.image.manifest.v1+json';
const LAYER = seededBytes('layer', 300_000);

/** One repository `team/app` in memory, with an image, a signature of it and these tags. */
function images(tags: readonly string[] = ['v1']): {
  readonly served: ServedImages;
  readonly layer: Descriptor;
  readonly manifest: Descriptor;
  readonly signature: Descriptor;
} {
  const content = new MemoryContent();
  const layer = content.add('application/vnd.oci.image.layer.v1.tar', LAYER);
  const config = content.add('application/vnd.oci.image.config.v1+json', Buffer.from('{}'));
  const manifest = addJson(content, TYPE, { schemaVersion: 2, config, layers: [layer] });
  const empty = content.add('application/vnd.oci.empty.v1+json', Buffer.from('{} '));
  const signature = addJson(content, TYPE, {
    schemaVersion: 2,
    artifactType: 'application/vnd.example.signature',
    config: empty,
    layers: [],
    subject: manifest,
    annotations: { 'org.example.signed-by': 'ann' },
  });
  const all = new Map([layer, config, manifest, empty, signature].map((one) => [one.digest as string, one]));
  const found = (name: string, isManifest: boolean): Descriptor => {
    const descriptor = tags.includes(name) ? manifest : all.get(name);
    if (descriptor === undefined || isManifestType(descriptor.mediaType) !== isManifest)
      throw new Failure('NOT_FOUND', `the backup does not have ${name}`);
    return descriptor;
  };
  return {
    layer,
    manifest,
    signature,
    served: {
      description: 'memory',
      repositories: [
        {
          registry: 'registry.example.com',
          name: 'team/app',
          tags: async () => tags,
          manifest: async (reference) => found(reference, true),
          blob: async (digest) => found(digest, false),
          referrers: async (digest) => (digest === manifest.digest ? [signature] : []),
          open: async (descriptor, options) => content.open(descriptor, options),
        },
      ],
      [Symbol.asyncDispose]: async () => undefined,
    },
  };
}

const serve = async (tags?: readonly string[]): Promise<Served & Omit<ReturnType<typeof images>, 'served'>> => {
  const { served, ...of } = images(tags);
  return { ...(await serveForTest(served)), ...of };
};

const errorOf = async (answer: Response): Promise<readonly [number, unknown]> => [
  answer.status,
  ((await answer.json()) as { errors: [{ code: string }] }).errors[0].code,
];

describe('the pull API', () => {
  test('serves manifests by tag and digest with their type, digest and ETag, and 304 for one that the client has', async () => {
    const { get, manifest } = await serve();
    for (const reference of ['v1', manifest.digest]) {
      for (const method of ['GET', 'HEAD']) {
        const answer = await get(`/v2/team/app/manifests/${reference}`, { accept: 'text/html' }, method);
        expect(answer.status).toBe(200);
        expect(Object.fromEntries(answer.headers)).toMatchObject({
          'content-type': TYPE,
          'docker-content-digest': manifest.digest,
          'content-length': String(manifest.size),
          'docker-distribution-api-version': 'registry/2.0',
          etag: `"${manifest.digest}"`,
        });
        expect((await answer.arrayBuffer()).byteLength).toBe(method === 'GET' ? manifest.size : 0);
      }
    }
    for (const header of [`"${manifest.digest}"`, `"other", W/"${manifest.digest}"`, '*'])
      expect((await get('/v2/team/app/manifests/v1', { 'if-none-match': header })).status).toBe(304);
    expect((await get('/v2/team/app/manifests/v1', { 'if-none-match': '"other"' })).status).toBe(200);
  });

  test.each([
    ['bytes=0-9', 206, 'bytes 0-9/300000', LAYER.subarray(0, 10)],
    ['bytes=299990-', 206, 'bytes 299990-299999/300000', LAYER.subarray(299_990)],
    ['bytes=-5', 206, 'bytes 299995-299999/300000', LAYER.subarray(299_995)],
    ['bytes=100000-900000', 206, 'bytes 100000-299999/300000', LAYER.subarray(100_000)],
    ['bytes=70000-200000', 206, 'bytes 70000-200000/300000', LAYER.subarray(70_000, 200_001)],
    ['bytes=0-', 206, 'bytes 0-299999/300000', LAYER],
    // several ranges, and nonsensical ones, are ignored
    ['bytes=0-1,5-6', 200, null, LAYER],
    ['bytes=9-1', 200, null, LAYER],
    ['lines=1-2', 200, null, LAYER],
  ])('answers the range %s of a blob with %d', async (range, status, contentRange, bytes) => {
    const { get, layer } = await serve();
    const answer = await get(`/v2/team/app/blobs/${layer.digest}`, { range });
    expect([answer.status, answer.headers.get('content-range')]).toEqual([status, contentRange]);
    expect(Buffer.from(await answer.arrayBuffer()).equals(bytes)).toBe(true);
  });

  test('answers 416 for a range after the end, and the whole where If-Range names other bytes', async () => {
    const { get, layer } = await serve();
    const path = `/v2/team/app/blobs/${layer.digest}`;
    const after = await get(path, { range: 'bytes=300000-' });
    expect([after.status, after.headers.get('content-range')]).toEqual([416, 'bytes */300000']);
    expect((await get(path, { range: 'bytes=0-1', 'if-range': '"other"' })).status).toBe(200);
    expect((await get(path, { range: 'bytes=0-1', 'if-range': `"${layer.digest}"` })).status).toBe(206);
    expect((await get(path, {}, 'HEAD')).headers.get('content-length')).toBe('300000');
  });

  test('lists tags in pages, in the order of letters in either case', async () => {
    const { get } = await serve(['b', 'A', 'a', 'B2', 'latest', 'c']);
    const list = async (query: string): Promise<readonly [readonly string[], string | null]> => {
      const answer = await get(`/v2/team/app/tags/list${query}`);
      return [((await answer.json()) as { tags: readonly string[] }).tags, answer.headers.get('link')];
    };
    expect(await list('')).toEqual([['A', 'a', 'b', 'B2', 'c', 'latest'], null]);
    expect(await list('?n=2')).toEqual([['A', 'a'], '</v2/team/app/tags/list?n=2&last=a>; rel="next"']);
    expect(await list('?n=2&last=a')).toEqual([['b', 'B2'], '</v2/team/app/tags/list?n=2&last=B2>; rel="next"']);
    expect(await list('?n=2&last=B2')).toEqual([['c', 'latest'], null]);
    // a last that was deleted since, or never existed
    expect(await list('?last=bb')).toEqual([['c', 'latest'], null]);
    expect(await list('?n=0')).toEqual([[], null]);
    expect((await get('/v2/team/app/tags/list?n=x')).status).toBe(400);
  });

  test('lists referrers with their annotations, filtered by artifactType, and an empty list for a digest without referrers', async () => {
    const { get, manifest, signature, layer } = await serve();
    const list = async (digest: string, query = ''): Promise<readonly [unknown, string | null]> => {
      const answer = await get(`/v2/team/app/referrers/${digest}${query}`);
      expect(answer.headers.get('content-type')).toBe('application/vnd.oci.image.index.v1+json');
      const { manifests } = (await answer.json()) as { manifests: unknown };
      return [manifests, answer.headers.get('oci-filters-applied')];
    };
    const entry = {
      mediaType: TYPE,
      digest: signature.digest,
      size: signature.size,
      artifactType: 'application/vnd.example.signature',
      annotations: { 'org.example.signed-by': 'ann' },
    };
    expect(await list(manifest.digest)).toEqual([[entry], null]);
    expect(await list(manifest.digest, '?artifactType=application/vnd.example.signature')).toEqual([
      [entry],
      'artifactType',
    ]);
    expect(await list(manifest.digest, '?artifactType=other')).toEqual([[], 'artifactType']);
    expect(await list(layer.digest)).toEqual([[], null]);
    expect((await get('/v2/team/app/referrers/none')).status).toBe(400);
  });

  test('answers missing, malformed and writing requests in the form of the specification', async () => {
    const { get, layer, manifest } = await serve();
    const other = `sha256:${'0'.repeat(64)}`;
    expect(await errorOf(await get('/v2/team/other/tags/list'))).toEqual([404, 'NAME_UNKNOWN']);
    expect(await errorOf(await get('/v2/Team/app/tags/list'))).toEqual([400, 'NAME_INVALID']);
    expect(await errorOf(await get('/v2/team/app/manifests/none'))).toEqual([404, 'MANIFEST_UNKNOWN']);
    expect(await errorOf(await get(`/v2/team/app/manifests/${other}`))).toEqual([404, 'MANIFEST_UNKNOWN']);
    expect(await errorOf(await get('/v2/team/app/manifests/sha256:0'))).toEqual([400, 'DIGEST_INVALID']);
    expect(await errorOf(await get(`/v2/team/app/blobs/${other}`))).toEqual([404, 'BLOB_UNKNOWN']);
    expect(await errorOf(await get(`/v2/team/app/blobs/${manifest.digest}`))).toEqual([404, 'BLOB_UNKNOWN']);
    expect(await errorOf(await get(`/v2/team/app/manifests/${layer.digest}`))).toEqual([404, 'MANIFEST_UNKNOWN']);
    expect(await errorOf(await get('/v1/'))).toEqual([404, 'UNSUPPORTED']);
    for (const [method, path] of [
      ['PUT', '/v2/team/app/manifests/v1'],
      ['DELETE', '/v2/team/app/manifests/v1'],
      ['POST', '/v2/team/app/blobs/uploads/'],
      ['PATCH', '/v2/team/app/blobs/uploads/1'],
      ['DELETE', `/v2/team/app/blobs/${layer.digest}`],
    ] as const) {
      const answer = await get(path, {}, method);
      expect(answer.headers.get('allow')).toBe('GET, HEAD');
      expect(await errorOf(answer)).toEqual([405, 'UNSUPPORTED']);
    }
    expect((await get('/v2/')).status).toBe(200);
  });
});
