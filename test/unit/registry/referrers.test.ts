import { describe, expect, onTestFinished, test } from 'vitest';
import { MAX_REFERRERS } from '../../../worker/content/graph.ts';
import { MemoryContent } from '../../../worker/content/memory.ts';
import { referrersTag } from '../../../worker/oci/derived-tag.ts';
import { digestOf } from '../../../worker/oci/digest.ts';
import { MEDIA_TYPE, type Descriptor } from '../../../worker/oci/manifest.ts';
import { openRegistry } from '../../../worker/registry/registry.ts';
import type { RegistryRepository } from '../../../worker/registry/repository.ts';
import type { Event } from '../../../worker/util/events.ts';
import { chunked, collect } from '../../support/chunks.ts';
import { fakeClock } from '../../support/clock.ts';
import { addJson } from '../../support/images.ts';
import { registryUnderTest } from '../../support/registries.ts';
import { scriptedServer, type Reply, type Script, type ScriptedServer } from '../../support/scripted-server.ts';

const CONTENT = new MemoryContent();
const EMPTY = CONTENT.add(MEDIA_TYPE.ociEmpty, Buffer.from('{}'));
const SUBJECT = addJson(CONTENT, MEDIA_TYPE.ociManifest, { schemaVersion: 2, config: EMPTY, layers: [EMPTY] });
const TAG = referrersTag(SUBJECT.digest);

/** A manifest that refers to `subject`, or to nothing. */
function artifact(name: string, subject: Descriptor | null = SUBJECT): Descriptor {
  const { mediaType, digest, size } = addJson(CONTENT, MEDIA_TYPE.ociManifest, {
    schemaVersion: 2,
    artifactType: 'application/spdx+json',
    annotations: { name },
    config: EMPTY,
    layers: [EMPTY],
    ...(subject === null ? {} : { subject }),
  });
  return { mediaType, digest, size };
}

async function bytesOf(d: Descriptor): Promise<Buffer> {
  return collect(await CONTENT.open(d));
}

const described = (d: Descriptor, name: string): Descriptor => ({
  ...d,
  artifactType: 'application/spdx+json',
  annotations: { name },
});

function indexOf(...manifests: readonly unknown[]): Buffer {
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests }));
}

function standsFor(bytes: Uint8Array, mediaType: string): Reply {
  return {
    status: 200,
    headers: {
      'content-type': mediaType,
      'docker-content-digest': digestOf(bytes),
      'content-length': String(bytes.byteLength),
    },
  };
}

const given = (bytes: Uint8Array, mediaType: string): Reply => ({ ...standsFor(bytes, mediaType), body: bytes });

interface Serving {
  readonly server: ScriptedServer;
  readonly app: RegistryRepository;
  readonly warnings: readonly string[];
}

async function serving(script: Script): Promise<Serving> {
  const server = await scriptedServer(script);
  onTestFinished(async () => server[Symbol.asyncDispose]());
  const warnings: string[] = [];
  const client = openRegistry(server.host, {
    side: 'target',
    credentials: async () => undefined,
    version: 'test',
    clock: fakeClock(),
    report: (event: Event) => void (event.type === 'warning' && warnings.push(event.message)),
  });
  onTestFinished(async () => client.close());
  return { server, app: client.repository('app'), warnings };
}

const API = `GET /v2/app/referrers/${SUBJECT.digest}`;
const byDigest = (a: Descriptor, b: Descriptor): number => (a.digest < b.digest ? -1 : 1);

describe('by the API', () => {
  test('lists each referrer once, page by page, with its real size', async () => {
    const [one, two] = [artifact('one'), artifact('two')];
    const next = `/v2/app/referrers/${SUBJECT.digest}?page=2`;
    const { app } = await serving({
      [API]: [
        {
          status: 200,
          headers: { link: `<${next}>; rel="next"` },
          body: indexOf({ ...described(one, 'one'), size: 1 }),
        },
      ],
      [`GET ${next}`]: [{ status: 200, body: indexOf(described(two, 'two'), described(one, 'one')) }],
      [`HEAD /v2/app/manifests/${one.digest}`]: [standsFor(await bytesOf(one), one.mediaType)],
      [`HEAD /v2/app/manifests/${two.digest}`]: [standsFor(await bytesOf(two), two.mediaType)],
    });
    expect(await Array.fromAsync(app.referrers(SUBJECT))).toEqual([described(one, 'one'), described(two, 'two')]);
  });

  test.each(['{"manifests":[]}', '{"manifests":null}', '{}'])('%s lists none', async (body) => {
    const { app } = await serving({ [API]: [{ status: 200, body }] });
    expect(await Array.fromAsync(app.referrers(SUBJECT))).toEqual([]);
  });

  test('skips listed referrers that are missing, with a warning', async () => {
    const gone = artifact('gone');
    const { app, warnings } = await serving({
      [API]: [{ status: 200, body: indexOf(gone, { digest: 'nonsense' }, null) }],
      [`HEAD /v2/app/manifests/${gone.digest}`]: [{ status: 404 }],
    });
    expect(await Array.fromAsync(app.referrers(SUBJECT))).toEqual([]);
    expect(warnings).toEqual([expect.stringMatching(/^3 referrers of .* are passed over, the first: /)]);
  });

  test('skips a list of thousands of missing referrers with one warning, without requesting each', async () => {
    const entries = Array.from({ length: 20_000 }, (_, index) => ({
      ...SUBJECT,
      digest: digestOf(Buffer.from(`${index}`)),
    }));
    const missing = entries.map(({ digest }) => [`HEAD /v2/app/manifests/${digest}`, [{ status: 404 }]] as const);
    const { app, warnings, server } = await serving({
      [API]: [{ status: 200, body: indexOf(...entries), headers: { link: `<${API.slice(4)}?last=a>; rel="next"` } }],
      ...Object.fromEntries(missing.slice(0, MAX_REFERRERS + 1)),
    });
    expect(await Array.fromAsync(app.referrers(SUBJECT))).toEqual([]);
    expect(server.lines).toHaveLength(1 + MAX_REFERRERS + 1);
    expect(warnings).toEqual([
      expect.stringMatching(/^1001 referrers of .* are passed over, the first: .*; the list has more/),
    ]);
  });

  test.each(['{"manifests":{}}', '[]'])('%s is not a list', async (body) => {
    const { app } = await serving({
      [API]: [{ status: 200, body }],
      [`HEAD /v2/app/manifests/${TAG}`]: [{ status: 404 }],
    });
    // a server that does not answer like the API does not have the API
    expect(await Array.fromAsync(app.referrers(SUBJECT))).toEqual([]);
  });

  test('a missing later page is a failure: a registry with a first page has the API', async () => {
    const { app } = await serving({
      [API]: [{ status: 200, body: indexOf(), headers: { link: `<${API.slice(4)}?last=a>; rel="next"` } }],
      [`${API}?last=a`]: [{ status: 404 }],
    });
    await expect(Array.fromAsync(app.referrers(SUBJECT))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test('a page with an unreadable Link is a failure, not the last', async () => {
    const { app } = await serving({
      [API]: [{ status: 200, body: indexOf(), headers: { link: '</more>; rel="next' } }],
    });
    await expect(Array.fromAsync(app.referrers(SUBJECT))).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  test.each([401, 403])(
    'a registry that refuses it with %i, and serves the manifest, is asked for the tag',
    async (status) => {
      const real = artifact('real');
      const index = indexOf(real);
      const { app, warnings } = await serving({
        [API]: [{ status }],
        [`HEAD /v2/app/manifests/${SUBJECT.digest}`]: [standsFor(await bytesOf(SUBJECT), SUBJECT.mediaType)],
        [`HEAD /v2/app/manifests/${TAG}`]: [standsFor(index, MEDIA_TYPE.ociIndex)],
        [`GET /v2/app/manifests/${digestOf(index)}`]: [given(index, MEDIA_TYPE.ociIndex)],
        [`GET /v2/app/manifests/${real.digest}`]: [given(await bytesOf(real), real.mediaType)],
      });
      expect(await Array.fromAsync(app.referrers(SUBJECT))).toEqual([described(real, 'real')]);
      expect(warnings).toEqual([expect.stringContaining(`answered ${status}`)]);
    },
  );

  test('a registry that answers 403 for the tag too, and serves the manifest, has no referrers, with one warning', async () => {
    const manifest = standsFor(await bytesOf(SUBJECT), SUBJECT.mediaType);
    const { app, warnings } = await serving({
      [API]: [{ status: 403 }],
      [`HEAD /v2/app/manifests/${TAG}`]: [{ status: 403 }, { status: 403 }],
      [`HEAD /v2/app/manifests/${SUBJECT.digest}`]: [manifest, manifest, manifest],
    });
    expect(await Array.fromAsync(app.referrers(SUBJECT))).toEqual([]);
    expect(await Array.fromAsync(app.referrers(SUBJECT))).toEqual([]);
    expect(warnings).toHaveLength(1);
  });

  test('a refused later page is a failure, not an empty list', async () => {
    const { app } = await serving({
      [API]: [{ status: 403 }],
      [`HEAD /v2/app/manifests/${SUBJECT.digest}`]: [{ status: 403 }],
    });
    await expect(Array.fromAsync(app.referrers(SUBJECT))).rejects.toMatchObject({ code: 'DENIED' });
  });
});

describe('by the tag that stands in for it', () => {
  test.each([404, 405, 400])('a registry that answers %i to the API is not asked for it again', async (status) => {
    const { app } = await serving({
      [API]: [{ status }],
      [`HEAD /v2/app/manifests/${TAG}`]: [{ status: 404 }, { status: 404 }],
    });
    expect(await Array.fromAsync(app.referrers(SUBJECT))).toEqual([]);
    expect(await Array.fromAsync(app.referrers(SUBJECT))).toEqual([]);
  });

  test('a repository that does not exist does not decide whether the API exists', async () => {
    const missing = { status: 404, body: '{"errors":[{"code":"NAME_UNKNOWN"}]}' };
    const { app } = await serving({
      [API]: [missing, { status: 200, body: indexOf() }],
      [`HEAD /v2/app/manifests/${TAG}`]: [{ status: 404 }],
    });
    expect(await Array.fromAsync(app.referrers(SUBJECT))).toEqual([]);
    expect(await Array.fromAsync(app.referrers(SUBJECT))).toEqual([]);
  });

  test('only real referrers are listed, with their real size', async () => {
    const real = artifact('real');
    const stranger = artifact('stranger', null);
    const gone = artifact('gone');
    const index = indexOf({ ...real, size: 7 }, stranger, gone, real);
    const { app, warnings } = await serving({
      [API]: [{ status: 404 }],
      [`HEAD /v2/app/manifests/${TAG}`]: [standsFor(index, MEDIA_TYPE.ociIndex)],
      [`GET /v2/app/manifests/${digestOf(index)}`]: [given(index, MEDIA_TYPE.ociIndex)],
      [`GET /v2/app/manifests/${real.digest}`]: [given(await bytesOf(real), real.mediaType)],
      [`GET /v2/app/manifests/${stranger.digest}`]: [given(await bytesOf(stranger), stranger.mediaType)],
      [`GET /v2/app/manifests/${gone.digest}`]: [{ status: 404 }],
    });
    expect(await Array.fromAsync(app.referrers(SUBJECT))).toEqual([described(real, 'real')]);
    expect(warnings).toEqual([expect.stringMatching(/^2 referrers of .* are passed over, the first: /)]);
    // a manifest that was read to check it is not read again
    expect(await collect(await app.open(real))).toHaveLength(real.size);
  });

  test('a tag of another kind is ignored', async () => {
    const bytes = await bytesOf(SUBJECT);
    const { app, warnings } = await serving({
      [API]: [{ status: 404 }],
      [`HEAD /v2/app/manifests/${TAG}`]: [standsFor(bytes, MEDIA_TYPE.ociManifest)],
    });
    expect(await Array.fromAsync(app.referrers(SUBJECT))).toEqual([]);
    expect(warnings).toEqual([expect.stringContaining(`${TAG} is not a list of referrers`)]);
  });
});

describe('a pushed manifest with a subject', () => {
  const pushed = artifact('pushed');
  const PUT = `PUT /v2/app/manifests/${pushed.digest}`;
  const TAG_LINE = `HEAD /v2/app/manifests/${TAG}`;
  const push = async (app: RegistryRepository): Promise<void> => {
    const bytes = await bytesOf(pushed);
    await app.put(pushed, () => chunked(bytes, 100));
  };

  test('needs nothing more where the registry reports that it saw the subject', async () => {
    const { app } = await serving({ [PUT]: [{ status: 201, headers: { 'oci-subject': SUBJECT.digest } }] });
    await push(app);
  });

  test('needs nothing more where the registry does not report it, but has the API', async () => {
    const { app } = await serving({ [PUT]: [{ status: 201 }], [API]: [{ status: 200, body: indexOf() }] });
    await push(app);
  });

  test('is listed by the tag where there is no API', async () => {
    const { app, server } = await serving({
      [PUT]: [{ status: 201 }],
      [API]: [{ status: 404 }],
      [TAG_LINE]: [{ status: 404 }],
      [`PUT /v2/app/manifests/${TAG}`]: [{ status: 201 }],
    });
    await push(app);
    const sent = server.requests.at(-1);
    expect(sent?.headers['content-type']).toBe(MEDIA_TYPE.ociIndex);
    expect(sent?.body.equals(indexOf(described(pushed, 'pushed')))).toBe(true);
  });

  test('is added to the list of the tag, which otherwise stays unchanged', async () => {
    const other = { ...artifact('other'), annotations: { a: 'b' }, data: 'e30=' };
    const index = indexOf(other);
    const { app, server } = await serving({
      [PUT]: [{ status: 201 }],
      [API]: [{ status: 404 }],
      [TAG_LINE]: [standsFor(index, MEDIA_TYPE.ociIndex)],
      [`GET /v2/app/manifests/${digestOf(index)}`]: [given(index, MEDIA_TYPE.ociIndex)],
      [`PUT /v2/app/manifests/${TAG}`]: [{ status: 201 }],
    });
    await push(app);
    expect(server.requests.at(-1)?.body.equals(indexOf(other, described(pushed, 'pushed')))).toBe(true);
  });

  test('is not added twice', async () => {
    const index = indexOf(pushed);
    const { app } = await serving({
      [PUT]: [{ status: 201 }],
      [API]: [{ status: 404 }],
      [TAG_LINE]: [standsFor(index, MEDIA_TYPE.ociIndex)],
      [`GET /v2/app/manifests/${digestOf(index)}`]: [given(index, MEDIA_TYPE.ociIndex)],
    });
    await push(app);
  });

  test('is listed by the tag where the registry claims to have seen the subject, but was found to have no API', async () => {
    const { app } = await serving({
      [API]: [{ status: 404 }],
      [TAG_LINE]: [{ status: 404 }, { status: 404 }],
      [PUT]: [{ status: 201, headers: { 'oci-subject': SUBJECT.digest } }],
      [`PUT /v2/app/manifests/${TAG}`]: [{ status: 201 }],
    });
    expect(await Array.fromAsync(app.referrers(SUBJECT))).toEqual([]);
    await push(app);
  });

  test('does not overwrite a tag of another kind', async () => {
    const { app } = await serving({
      [PUT]: [{ status: 201 }],
      [API]: [{ status: 404 }],
      [TAG_LINE]: [standsFor(await bytesOf(SUBJECT), MEDIA_TYPE.ociManifest)],
    });
    await expect(push(app)).rejects.toMatchObject({ code: 'CONFLICT' });
  });

  test('is never lost when many are pushed at once', async () => {
    await using made = await registryUnderTest({ mode: 'oci', referrersApi: false });
    const app = made.client().repository('app');
    const put = async (d: Descriptor): Promise<void> => {
      const bytes = await bytesOf(d);
      await app.put(d, () => chunked(bytes, 512));
    };
    await put(EMPTY);
    await put(SUBJECT);
    const many = Array.from({ length: 12 }, (_, i) => artifact(`many ${i}`));
    await Promise.all(many.map(async (d) => put(d)));
    const found = await Array.fromAsync(made.client().repository('app').referrers(SUBJECT));
    expect(found.map(({ mediaType, digest, size }) => ({ mediaType, digest, size })).sort(byDigest)).toEqual(
      many.toSorted(byDigest),
    );
  });
});
