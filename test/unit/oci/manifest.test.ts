import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { digestOf, parseDigest } from '../../../worker/oci/digest.ts';
import {
  artifactTypeOf,
  childrenOf,
  formatPlatform,
  isForeign,
  isIndexType,
  isManifestType,
  MANIFEST_MEDIA_TYPES,
  MAX_MANIFEST_BYTES,
  MEDIA_TYPE,
  mediaTypeByBytes,
  mediaTypeOf,
  parseDescriptor,
  parseManifest,
  parsePlatform,
  type Descriptor,
} from '../../../worker/oci/manifest.ts';
import { isFailure } from '../../../worker/util/failure.ts';

const descriptor = (mediaType: string, text: string): Descriptor => ({
  mediaType,
  digest: digestOf(Buffer.from(text)),
  size: text.length,
});
const CONFIG = descriptor(MEDIA_TYPE.ociConfig, '{}');
const LAYER = descriptor(MEDIA_TYPE.ociLayerGzip, 'layer');
const OTHER_LAYER = descriptor(MEDIA_TYPE.ociLayer, 'other layer');
const IMAGE = descriptor(MEDIA_TYPE.ociManifest, 'an image');
const FOREIGN = [
  'application/vnd.oci.image.layer.nondistributable.v1.tar',
  'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
  'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
];

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const invalid = (message: string | RegExp): unknown =>
  expect.objectContaining({ code: 'INVALID', message: expect.stringMatching(message) });

describe('parseManifest', () => {
  test.each([MEDIA_TYPE.ociManifest, MEDIA_TYPE.dockerManifest])('reads an image of %s', (mediaType) => {
    const manifest = parseManifest(
      json({ schemaVersion: 2, mediaType, config: CONFIG, layers: [LAYER, OTHER_LAYER, LAYER] }),
      mediaType,
    );
    expect(manifest).toEqual({ kind: 'image', mediaType, config: CONFIG, layers: [LAYER, OTHER_LAYER, LAYER] });
    expect(childrenOf(manifest)).toEqual([CONFIG, LAYER, OTHER_LAYER, LAYER]);
    expect(artifactTypeOf(manifest)).toBe(MEDIA_TYPE.ociConfig);
  });

  test.each([MEDIA_TYPE.ociIndex, MEDIA_TYPE.dockerList])('reads an index of %s', (mediaType) => {
    const child = { ...IMAGE, platform: { os: 'windows', architecture: 'amd64', 'os.version': '10.0.17763.1' } };
    const manifest = parseManifest(json({ schemaVersion: 2, mediaType, manifests: [child, IMAGE] }), mediaType);
    expect(manifest).toEqual({ kind: 'index', mediaType, manifests: [child, IMAGE] });
    expect(childrenOf(manifest)).toEqual([child, IMAGE]);
    expect(artifactTypeOf(manifest)).toBeUndefined();
  });

  test('reads an image with a subject, which is not one of its children', () => {
    const body = {
      schemaVersion: 2,
      artifactType: 'application/spdx+json',
      config: CONFIG,
      layers: [LAYER],
      subject: IMAGE,
      annotations: { a: 'b', n: 1 },
    };
    const manifest = parseManifest(json(body), MEDIA_TYPE.ociManifest);
    expect(manifest).toMatchObject({ kind: 'image', subject: IMAGE, annotations: { a: 'b' } });
    expect(manifest.annotations).not.toHaveProperty('n');
    expect(childrenOf(manifest)).toEqual([CONFIG, LAYER]);
    expect(artifactTypeOf(manifest)).toBe('application/spdx+json');
  });

  test('reads the withdrawn artifact manifest', () => {
    const mediaType = MEDIA_TYPE.ociArtifact;
    const manifest = parseManifest(
      json({ mediaType, artifactType: 'application/x', blobs: [LAYER], subject: IMAGE }),
      mediaType,
    );
    expect(manifest).toEqual({
      kind: 'artifact',
      mediaType,
      artifactType: 'application/x',
      blobs: [LAYER],
      subject: IMAGE,
    });
    expect(parseManifest(json({ artifactType: 'application/x' }), mediaType)).toMatchObject({ blobs: [] });
  });

  test('uses the media type that it was given when the bytes name none, as OCI allows', () => {
    expect(parseManifest(json({ config: CONFIG, layers: [] }), MEDIA_TYPE.ociManifest)).toMatchObject({
      kind: 'image',
      mediaType: MEDIA_TYPE.ociManifest,
    });
  });

  test('reads null for a list or a subject as absent: some builders write that', () => {
    expect(parseManifest(json({ manifests: null }), MEDIA_TYPE.ociIndex)).toMatchObject({ manifests: [] });
    expect(parseManifest(json({ config: CONFIG, layers: null, subject: null }), MEDIA_TYPE.ociManifest)).toEqual({
      kind: 'image',
      mediaType: MEDIA_TYPE.ociManifest,
      config: CONFIG,
      layers: [],
    });
    expect(parseManifest(json({ blobs: null }), MEDIA_TYPE.ociArtifact)).toMatchObject({ blobs: [] });
  });

  test.each([
    [MEDIA_TYPE.ociIndex, { manifests: [IMAGE], layers: [LAYER] }],
    [MEDIA_TYPE.ociIndex, { manifests: [IMAGE], config: CONFIG }],
    [MEDIA_TYPE.dockerList, { manifests: [], layers: [] }],
    [MEDIA_TYPE.ociManifest, { config: CONFIG, layers: [LAYER], manifests: [IMAGE] }],
    [MEDIA_TYPE.dockerManifest, { config: CONFIG, layers: [LAYER], manifests: [] }],
  ])('refuses a manifest that could be read as two kinds, given as %s', (mediaType, body) => {
    expect(() => parseManifest(json(body), mediaType)).toThrow(invalid(/ambiguous/));
  });

  test.each([
    ['"Layers" beside', `{"config":<C>,"layers":[],"Layers":[<D>]}`, '"Layers" differs from "layers"'],
    ['"LAYERS" in place of', `{"config":<C>,"LAYERS":[<D>]}`, '"LAYERS" differs from "layers"'],
    ['a long s in', `{"config":<C>,"layers":[],"layer\u017f":[<D>]}`, 'only in case'],
    ['an escaped letter in', `{"config":<C>,"layers":[],"\\u004cayers":[<D>]}`, '"Layers" differs from "layers"'],
    ['two members', `{"config":<C>,"layers":[<D>],"layers":[]}`, 'the member "layers" twice'],
    ['two members, one escaped,', `{"config":<C>,"layers":[<D>],"\\u006cayers":[]}`, 'the member "layers" twice'],
    ['"Digest" in a layer of', `{"config":<C>,"layers":[{"Digest":"x",<E>]}`, '"Digest" differs from "digest"'],
    ['two sizes in a layer of', `{"config":<C>,"layers":[<D>,{"size":1,<E>]}`, 'the member "size" twice'],
    ['"Size" in the config of', `{"config":{"Size":1,<E>,"layers":[]}`, '"Size" differs from "size"'],
    ['"Digest" in the subject of', `{"config":<C>,"layers":[],"subject":{"Digest":1,<E>}`, '"Digest" differs'],
    ['"OS" in a platform in', `{"config":<C>,"layers":[{"platform":{"OS":"x"},<E>]}`, '"OS" differs from "os"'],
    ['two annotations of', `{"config":<C>,"layers":[],"annotations":{"a":"1","a":"2"}}`, 'the member "a" twice'],
  ])('refuses a manifest that has other layers for some programs: %s its layers', (_, template, message) => {
    const layer = JSON.stringify(LAYER);
    const text = template.replace('<C>', JSON.stringify(CONFIG)).replace('<D>', layer).replace('<E>', layer.slice(1));
    expect(() => parseManifest(Buffer.from(text), MEDIA_TYPE.ociManifest)).toThrow(invalid(/ambiguous/));
    expect(() => parseManifest(Buffer.from(text), MEDIA_TYPE.ociManifest)).toThrow(message);
  });

  test('refuses an index with "Manifests" beside its manifests', () => {
    const text = `{"manifests":[],"Manifests":[${JSON.stringify(IMAGE)}]}`;
    expect(() => parseManifest(Buffer.from(text), MEDIA_TYPE.ociIndex)).toThrow(invalid(/"Manifests" differs/));
  });

  test('accepts duplicate members of objects that no program reads, and strings that look like members', () => {
    const body = {
      config: CONFIG,
      layers: [LAYER, LAYER],
      annotations: { layers: 'x', Layers: 'y', quoted: '","layers":"', back: '\\\\' },
      other: [{ Size: 1, size: 2 }],
    };
    const text = JSON.stringify(body).replace('"other":[{', '"other":[{"size":3,');
    expect(parseManifest(Buffer.from(text), MEDIA_TYPE.ociManifest)).toMatchObject({ layers: [LAYER, LAYER] });
  });

  test('refuses bytes with another media type inside than they were given', () => {
    const body = { mediaType: MEDIA_TYPE.ociIndex, manifests: [] };
    expect(() => parseManifest(json(body), MEDIA_TYPE.dockerList)).toThrow(invalid(/calls itself/));
    expect(() => parseManifest(json({ ...body, mediaType: 7 }), MEDIA_TYPE.ociIndex)).toThrow(
      invalid(/calls itself 7/),
    );
  });

  test.each<[string, object, string]>([
    [MEDIA_TYPE.dockerManifest, { mediaType: MEDIA_TYPE.ociManifest }, MEDIA_TYPE.ociManifest],
    [MEDIA_TYPE.ociIndex, { mediaType: MEDIA_TYPE.ociArtifact }, MEDIA_TYPE.ociArtifact],
    [MEDIA_TYPE.dockerManifest, { config: CONFIG, layers: [] }, MEDIA_TYPE.dockerManifest],
    [MEDIA_TYPE.dockerList, { config: CONFIG, layers: null }, MEDIA_TYPE.ociManifest],
    [MEDIA_TYPE.ociArtifact, { config: CONFIG, layers: [] }, MEDIA_TYPE.ociManifest],
    [MEDIA_TYPE.dockerList, { manifests: [] }, MEDIA_TYPE.dockerList],
    [MEDIA_TYPE.dockerManifest, { manifests: [] }, MEDIA_TYPE.ociIndex],
    ['application/json', { manifests: [] }, MEDIA_TYPE.ociIndex],
    [MEDIA_TYPE.ociIndex, { manifests: [], config: CONFIG }, MEDIA_TYPE.ociIndex],
    [MEDIA_TYPE.ociIndex, { mediaType: 'text/plain' }, MEDIA_TYPE.ociIndex],
    [MEDIA_TYPE.ociIndex, [], MEDIA_TYPE.ociIndex],
  ])('a manifest that is labelled %s and has the bytes %j is a %s', (said, body, expected) => {
    expect(mediaTypeByBytes(json(body), said)).toBe(expected);
  });

  test.each([
    ['application/vnd.docker.distribution.manifest.v1+json', { name: 'x' }],
    ['application/vnd.docker.distribution.manifest.v1+prettyjws', { name: 'x', signatures: [] }],
    [MEDIA_TYPE.dockerManifest, { schemaVersion: 1, fsLayers: [] }],
    ['application/json', { schemaVersion: 1, fsLayers: [] }],
  ])('refuses docker schema 1, given as %s, as unsupported', (mediaType, body) => {
    expect(() => parseManifest(json(body), mediaType)).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED', message: expect.stringMatching(/schema 1/) }),
    );
  });

  test('refuses other content by its media type', () => {
    expect(() => parseManifest(json({}), 'application/octet-stream')).toThrow(invalid(/application\/octet-stream/));
  });

  test('refuses more than 4 MiB without reading it, and accepts 4 MiB', () => {
    const bytes = Buffer.alloc(MAX_MANIFEST_BYTES + 1, ' ');
    expect(() => parseManifest(bytes, MEDIA_TYPE.ociIndex)).toThrow(invalid(/4194305 bytes; 4194304/));
    bytes.write('{"manifests":[]}', MAX_MANIFEST_BYTES - 16);
    expect(parseManifest(bytes.subarray(0, MAX_MANIFEST_BYTES), MEDIA_TYPE.ociIndex)).toMatchObject({ kind: 'index' });
  });

  test.each<[string, Uint8Array, RegExp]>([
    ['nothing', Buffer.alloc(0), /not JSON/],
    ['cut off', Buffer.from('{"config":'), /not JSON/],
    ['not UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), /not JSON/],
    ['a web page', Buffer.from('<html>log in</html>'), /not JSON/],
    ['a list', json([]), /not a JSON object/],
    ['null', json(null), /not a JSON object/],
    ['no config', json({ layers: [] }), /config of the manifest is not a descriptor/],
    ['no layers', json({ config: CONFIG }), /no list of layers/],
    ['layers that are not a list', json({ config: CONFIG, layers: {} }), /no list of layers/],
    ['a layer that is not an object', json({ config: CONFIG, layers: [LAYER, 'x'] }), /layers\[1\] .*not a descriptor/],
    [
      'no digest',
      json({ config: CONFIG, layers: [{ ...LAYER, digest: undefined }] }),
      /layers\[0\] .*undefined is not a digest/,
    ],
    [
      'a bad digest',
      json({ config: { ...CONFIG, digest: 'sha256:../x' }, layers: [] }),
      /config .*"sha256:\.\.\/x" is not a digest/,
    ],
    ['a negative size', json({ config: { ...CONFIG, size: -1 }, layers: [] }), /config .*size/],
    ['half a byte', json({ config: { ...CONFIG, size: 1.5 }, layers: [] }), /config .*size/],
    ['a size beyond counting', json({ config: { ...CONFIG, size: 2 ** 53 }, layers: [] }), /config .*size/],
    ['a size as text', json({ config: { ...CONFIG, size: '2' }, layers: [] }), /config .*size/],
    ['no media type', json({ config: { ...CONFIG, mediaType: '' }, layers: [] }), /config .*media type/],
    ['a subject that is not a descriptor', json({ config: CONFIG, layers: [], subject: 'x' }), /subject/],
  ])('refuses an image with %s', (_, bytes, message) => {
    expect(() => parseManifest(bytes, MEDIA_TYPE.ociManifest)).toThrow(invalid(message));
  });

  test('turns arbitrary JSON into a manifest or a failure in one short line, never anything else', () => {
    const digest = fc.oneof(fc.constant(LAYER.digest), fc.jsonValue());
    const child = fc.oneof(
      fc.constantFrom<unknown>(CONFIG, LAYER, IMAGE),
      fc.record(
        {
          mediaType: fc.oneof(fc.string(), fc.jsonValue()),
          digest,
          size: fc.oneof(fc.nat(), fc.jsonValue()),
          platform: fc.dictionary(fc.constantFrom('os', 'architecture', 'variant', 'os.version'), fc.jsonValue()),
        },
        { requiredKeys: [] },
      ),
      fc.jsonValue(),
    );
    const field = fc.oneof(child, fc.array(child, { maxLength: 3 }), fc.constant(null));
    const body = fc.record(
      {
        schemaVersion: fc.constantFrom<unknown>(1, 2, '2', null),
        mediaType: fc.constantFrom<unknown>(...MANIFEST_MEDIA_TYPES, '', null),
        artifactType: fc.oneof(fc.string(), field),
        config: field,
        layers: field,
        manifests: field,
        blobs: field,
        subject: field,
        annotations: fc.oneof(fc.dictionary(fc.string(), fc.jsonValue()), field),
      },
      { requiredKeys: [] },
    );
    const mediaType = fc.oneof(fc.constantFrom(...MANIFEST_MEDIA_TYPES), fc.string());
    fc.assert(
      fc.property(fc.oneof(body, fc.jsonValue({ maxDepth: 6 })), mediaType, (value, type) => {
        try {
          const manifest = parseManifest(json(value), type);
          expect(manifest.mediaType).toBe(type);
          for (const d of [...childrenOf(manifest), ...(manifest.subject === undefined ? [] : [manifest.subject])]) {
            expect(parseDigest(d.digest)).toBe(d.digest);
            expect(Number.isSafeInteger(d.size) && d.size >= 0 && d.mediaType !== '').toBe(true);
          }
          for (const text of Object.values(manifest.annotations ?? {})) expect(text).toBeTypeOf('string');
          expect(['string', 'undefined']).toContain(typeof artifactTypeOf(manifest));
        } catch (error) {
          if (!isFailure(error, 'INVALID', 'UNSUPPORTED')) throw error;
          expect(error.message.length).toBeLessThan(1000);
          expect(error.message).not.toContain('\n');
        }
      }),
      { numRuns: 500 },
    );
  });

  test('survives fields nested deeper than the stack', () => {
    const deep = `${'['.repeat(200_000)}${']'.repeat(200_000)}`;
    for (const text of [
      deep,
      `{"mediaType":${deep},"config":{},"layers":[]}`,
      `{"config":{"mediaType":"x","size":1,"digest":${deep}},"layers":[]}`,
      `{"config":{"mediaType":"x","size":1,"digest":{"toString":1,"valueOf":1}},"layers":[]}`,
      `{"config":${JSON.stringify(CONFIG)},"layers":[],"annotations":${deep},"subject":${deep}}`,
    ]) {
      expect(() => parseManifest(Buffer.from(text), MEDIA_TYPE.ociManifest)).toThrow(invalid(/^.{1,300}$/));
    }
  });
});

describe('parseDescriptor', () => {
  test('keeps what the engine needs and drops the rest', () => {
    const full = {
      ...LAYER,
      urls: ['https://example.com/layer'],
      platform: { os: 'linux', architecture: 'arm', variant: 'v7', 'os.version': '1', 'os.features': ['x'] },
      artifactType: 'application/x',
      annotations: { a: 'b' },
    };
    expect(parseDescriptor({ ...full, data: 'aGVsbG8=', other: {} }, 'it')).toEqual({
      ...full,
      platform: { os: 'linux', architecture: 'arm', variant: 'v7', 'os.version': '1' },
    });
  });

  test('drops malformed optional fields', () => {
    const odd = { ...LAYER, urls: [7], platform: 'linux', artifactType: '', annotations: { n: 1 } };
    expect(parseDescriptor(odd, 'it')).toEqual(LAYER);
    expect(parseDescriptor({ ...LAYER, urls: [] }, 'it')).toEqual(LAYER);
    expect(parseDescriptor({ ...LAYER, platform: {} }, 'it').platform).toEqual({
      os: 'unknown',
      architecture: 'unknown',
    });
  });
});

describe('media types', () => {
  test('distinguish manifests, indexes and foreign layers', () => {
    for (const type of MANIFEST_MEDIA_TYPES) expect(isManifestType(type)).toBe(true);
    expect(MANIFEST_MEDIA_TYPES.filter(isIndexType)).toEqual([MEDIA_TYPE.ociIndex, MEDIA_TYPE.dockerList]);
    for (const type of [MEDIA_TYPE.ociConfig, MEDIA_TYPE.ociLayerGzip, 'application/octet-stream', '']) {
      expect(isManifestType(type) || isIndexType(type)).toBe(false);
      expect(isForeign({ ...LAYER, mediaType: type })).toBe(false);
    }
    for (const mediaType of FOREIGN) expect(isForeign({ ...LAYER, mediaType })).toBe(true);
    // a place to fetch it from does not make a layer foreign
    expect(isForeign({ ...LAYER, urls: ['https://example.com/layer'] })).toBe(false);
  });

  test.each<[unknown, string | undefined]>([
    [{ mediaType: MEDIA_TYPE.dockerList, manifests: [] }, MEDIA_TYPE.dockerList],
    [{ manifests: [] }, MEDIA_TYPE.ociIndex],
    [{ config: CONFIG, layers: [] }, MEDIA_TYPE.ociManifest],
    [{ layers: [] }, undefined],
    [{ os: 'linux' }, undefined],
  ])('are found in the bytes where no header names them (%#)', (body, expected) => {
    expect(mediaTypeOf(json(body))).toBe(expected);
  });
});

describe('platforms', () => {
  test.each(['linux/amd64', 'linux/arm/v7', 'windows/amd64', 'linux/arm64/v8'])('%s is read and written', (text) => {
    expect(formatPlatform(parsePlatform(text))).toBe(text);
  });

  test.each([
    '',
    'linux',
    '/',
    'linux/',
    '/amd64',
    'linux/arm/',
    'linux/arm/v7/x',
    'linux /amd64',
    'linux/amd64\n',
    'linux/*',
  ])('refuses %j', (text) => {
    expect(() => parsePlatform(text)).toThrow(invalid(/is not a platform: expected os\/architecture/));
  });

  test('are the same when written and read again; other text is INVALID', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[av/.\-_ \n9é]{0,12}$/), (text) => {
        try {
          expect(formatPlatform(parsePlatform(text))).toBe(text);
        } catch (error) {
          expect(isFailure(error, 'INVALID')).toBe(true);
        }
      }),
    );
  });
});
