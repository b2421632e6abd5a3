import { createHash } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterEach, describe, expect, test } from 'vitest';
import { openImage, type OpenImageOptions } from '../../../worker/archive/reader.ts';
import { encodeHeader } from '../../../worker/archive/tar.ts';
import { lookedAt } from '../../../worker/archive/unpack.ts';
import { walk, blobsOf } from '../../../worker/content/graph.ts';
import { read } from '../../../worker/content/read.ts';
import { copy } from '../../../worker/copy/copy.ts';
import { discard } from '../../../worker/content/discard.ts';
import { digestOf } from '../../../worker/oci/digest.ts';
import { childrenOf, MEDIA_TYPE, type Descriptor } from '../../../worker/oci/manifest.ts';
import { Failure } from '../../../worker/util/failure.ts';
import { archiveImage, planOf, REPOSITORY } from '../../support/archives.ts';
import { CHUNK_SIZES, chunked, collect } from '../../support/chunks.ts';
import { makeImage, seededBytes, type MadeImage } from '../../support/images.ts';
import { MemoryObjects } from '../../support/memory-objects.ts';
import { expectSameImage } from '../../support/same-image.ts';
import { makeTar, type TarFile } from '../../support/tars.ts';
import { sourceSuite } from '../../contracts/source.ts';

const KEY = 'v1.tar';

sourceSuite('an archive of ours', async (image) => ({ source: await openImage(await archived(image), KEY) }));
sourceSuite('an archive of ours that was packed again by tar', async (image) => {
  const { bytes } = await repacked(image);
  return { source: await openImage(await holding(bytes), KEY) };
});

describe('an archive written by Transship', () => {
  test('has its image, its tag, its repository and its plan', async () => {
    const image = await makeImage({ signed: true });
    const opened = await openImage(await archived(image), KEY);
    expect(opened.root).toEqual(image.root);
    expect(opened.repository).toBe(REPOSITORY);
    expect(opened.layoutDigest).toBe((await planOf(image.content, image.root)).digest);
    expect(opened.images).toHaveLength(1);
  });

  test('of an image without a tag has its repository', async () => {
    const { content, root } = await makeImage();
    const untagged = { content, root: { ...root, tags: [] } };
    const opened = await openImage(await archived(untagged), KEY);
    expect(opened.root).toEqual(untagged.root);
    expect(opened.repository).toBe(REPOSITORY);
    expect(opened.layoutDigest).toBeDefined();
  });

  test('costs one range read to open and list, and one for each layer', async () => {
    const image = await makeImage({ signed: true, layers: [3000, 70_000] });
    const store = await archived(image);
    const { headSize } = await planOf(image.content, image.root);
    store.reads.length = 0;
    const opened = await openImage(store, KEY);
    expect(store.reads).toEqual([`0+${headSize}`]);
    const graph = await walk(opened, [opened.root]);
    for (const d of blobsOf(graph)) await collect(read(opened, d));
    const layers = blobsOf(graph).filter((d) => !/config|empty/.test(d.mediaType));
    expect(store.reads).toHaveLength(1 + layers.length);
  });

  test('gives the same plan when it is archived again', async () => {
    const image = await makeImage({ signed: true });
    const store = await archived(image);
    const opened = await openImage(store, KEY);
    await archiveImage(opened, opened.root, store, 'again.tar');
    expect(Buffer.compare(store.bytesOf('again.tar'), store.bytesOf(KEY))).toBe(0);
  });

  test.each(CHUNK_SIZES)('is read in chunks of %i bytes as well', async (chunkBytes) => {
    const image = await makeImage({ signed: true });
    const store = new MemoryObjects({ chunkBytes });
    await archiveImage(image.content, image.root, store, KEY);
    await expectSameImage(image.content, await openImage(store, KEY), image.root);
    const { bytes } = await repacked(image);
    const other = new MemoryObjects({ chunkBytes });
    await other.write(KEY, bytes);
    await expectSameImage(image.content, await openImage(other, KEY), image.root);
  });

  test('is CORRUPT or no archive, and never an image, when it was cut off anywhere', async () => {
    const image = await makeImage({ signed: true, layers: [3000] });
    const whole = (await archived(image)).bytesOf(KEY);
    for (let length = 0; length < whole.byteLength; length += 331) {
      const opening = openImage(await holding(whole.subarray(0, length)), KEY);
      await expect(opening).rejects.toMatchObject({
        code: expect.stringMatching(/^(CORRUPT|INVALID)$/),
        message: expect.stringContaining(`memory://${KEY}`),
      });
    }
    await expect(openImage(await holding(whole.subarray(0, -512)), KEY)).rejects.toMatchObject({
      code: 'CORRUPT',
      message: `open memory://${KEY}: it is cut off: it has ${whole.byteLength - 512} of ${whole.byteLength} bytes`,
    });
  });

  test('fails with the name of the archive in front, unless the context of the failure names the archive', async () => {
    const store = await archived(await makeImage());
    const location = `memory://${KEY}`;
    const named = new Failure('DENIED', `read ${location}: access denied`, { context: { location } });
    const unnamed = new Failure('DENIED', `no access to ${location}`);
    const elsewhere = new Failure('DENIED', 'read /tmp/x: access denied', { context: { location: '/tmp/x' } });
    store.read = async () => Promise.reject(named);
    await expect(openImage(store, KEY)).rejects.toBe(named);
    for (const failure of [unnamed, elsewhere]) {
      store.read = async () => Promise.reject(failure);
      await expect(openImage(store, KEY)).rejects.toMatchObject({
        code: 'DENIED',
        message: `open ${location}: ${failure.message}`,
        context: { location },
      });
    }
  });

  test('with a changed byte in its head never opens as another image', async () => {
    const image = await makeImage({ signed: true });
    const whole = (await archived(image)).bytesOf(KEY);
    const { headSize } = await planOf(image.content, image.root);
    let refused = 0;
    for (let offset = 0; offset < headSize; offset += 97) {
      const changed = Buffer.from(whole);
      changed[offset] = (changed[offset] ?? 0) ^ 0x01;
      try {
        const opened = await openImage(await holding(changed), KEY);
        await copy(opened, discard, [opened.root], { strict: true });
        expect(opened.root.descriptor.digest).toBe(image.root.descriptor.digest);
      } catch (error) {
        expect(error).toMatchObject({ code: expect.stringMatching(/^(CORRUPT|INVALID|NOT_FOUND|UNSUPPORTED)$/) });
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(30);
  });

  test('with a changed byte in a layer is CORRUPT when it is read', async () => {
    const image = await makeImage({ platforms: ['linux/amd64'] });
    const whole = Buffer.from((await archived(image)).bytesOf(KEY));
    const { entries } = await planOf(image.content, image.root);
    const layer = entries.at(-1) ?? expect.unreachable();
    whole[layer.offset + 600] = (whole[layer.offset + 600] ?? 0) ^ 0xff;
    const opened = await openImage(await holding(whole), KEY);
    await expect(copy(opened, discard, [opened.root])).rejects.toMatchObject({ code: 'CORRUPT' });
  });

  test('is CONFLICT when it was replaced while it was read', async () => {
    const image = await makeImage({ layers: [70_000] });
    const store = await archived(image);
    const opened = await openImage(store, KEY);
    await store.write(KEY, Buffer.concat([store.bytesOf(KEY), Buffer.alloc(512)]));
    await expect(copy(opened, discard, [opened.root])).rejects.toMatchObject({ code: 'CONFLICT' });
  });

  test('still has everything after tar unpacked it and packed it in another order', async () => {
    const image = await makeImage({ signed: true });
    const { bytes } = await repacked(image);
    const opened = await openImage(await holding(bytes), KEY);
    expect(opened.layoutDigest).toBeUndefined();
    expect(opened.root).toEqual(image.root);
    expect(opened.repository).toBe(REPOSITORY);
    await expectSameImage(image.content, opened, image.root);
  });
});

describe('an OCI archive of another tool', () => {
  test('with index.json at its end and folders, as skopeo writes it, is read', async () => {
    const image = await makeImage();
    const opened = await openImage(await holding(await makeTar(await layoutFiles([image]))), KEY);
    expect(opened.root).toEqual(image.root);
    await expectSameImage(image.content, opened, image.root, { referrers: false });
  });

  test('of several images opens the one chosen by its tag, and otherwise lists them', async () => {
    const one = await makeImage({ tag: 'one' });
    const two = await makeImage({ tag: 'two', seed: 2, platforms: ['linux/amd64'] });
    const store = await holding(await makeTar(await layoutFiles([one, two])));
    for (const image of [one, two]) {
      const opened = await openImage(store, KEY, { tag: image.root.tags[0] });
      expect(opened.root).toEqual(image.root);
      await expectSameImage(image.content, opened, image.root, { referrers: false });
    }
    await expect(openImage(store, KEY)).rejects.toMatchObject({
      code: 'INVALID',
      message: expect.stringContaining('holds 2 images; name one of them after the path: ":one" or ":two"'),
    });
    await expect(openImage(store, KEY, { tag: 'three' })).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringContaining('no image "three"; name one of them after the path: ":one" or ":two"'),
    });
  });

  test('named by a full reference, as buildkit does, has its tag and repository', async () => {
    const image = await makeImage();
    const name = 'app:2.1';
    const store = await holding(
      await makeTar(await layoutFiles([image], { 'org.opencontainers.image.ref.name': name })),
    );
    for (const tag of [undefined, name, 'docker.io/library/app:2.1', '2.1']) {
      const opened = await openImage(store, KEY, { tag });
      expect(opened.root).toEqual({ ...image.root, tags: ['2.1'] });
      expect(opened.repository).toBe('docker.io/library/app');
      expect((await opened.resolve('2.1')).digest).toBe(image.root.descriptor.digest);
    }
  });

  test('with referrers listed beside the image, as oras and regctl write it, has one image', async () => {
    const image = await makeImage({ signed: true });
    const graph = await walk(image.content, [image.root]);
    const files = await layoutFiles(
      [image],
      undefined,
      graph.referrers.map((r) => [r.descriptor, r.tags[0]]),
    );
    const opened = await openImage(await holding(await makeTar(files)), KEY);
    expect(opened.images).toHaveLength(1);
    await expectSameImage(image.content, opened, image.root);
  });

  test('with the platforms of an image listed beside it, as oras backup writes them, has that image without its tag', async () => {
    const image = await makeImage({ signed: true });
    const graph = await walk(image.content, [image.root]);
    const { manifest } = graph.manifests.get(image.root.descriptor.digest) ?? expect.unreachable();
    const platforms = childrenOf(manifest);
    const files = await layoutFiles([image], undefined, [
      ...platforms.map((d) => [d, undefined] as const),
      ...graph.referrers.map((r) => [r.descriptor, r.tags[0]] as const),
    ]);
    const store = await holding(await makeTar(files));
    const opened = await openImage(store, KEY);
    expect(opened.root).toEqual(image.root);
    await expectSameImage(image.content, opened, image.root);
    const second = await openImage(store, KEY, { tag: '@2' });
    expect(second.root.descriptor.digest).toBe(platforms[1]?.digest);
  });

  test('with an incomplete image opens the others', async () => {
    const whole = await makeImage({ tag: 'whole' });
    const partial = await makeImage({ tag: 'partial', seed: 2 });
    const missing = childrenOf(
      (await walk(partial.content, [partial.root])).manifests.get(partial.root.descriptor.digest)?.manifest ??
        expect.unreachable(),
    )[0];
    const files = (await layoutFiles([whole, partial])).filter(
      (file) => !file.name.endsWith(missing?.digest.slice(7) ?? '-'),
    );
    const store = await holding(await makeTar(files));
    await expectSameImage(whole.content, await openImage(store, KEY, { tag: 'whole' }), whole.root, {
      referrers: false,
    });
    const opened = await openImage(store, KEY, { tag: 'partial' });
    await expect(copy(opened, discard, [opened.root])).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringContaining(`there is no ${missing?.digest} in memory://${KEY}`),
    });
  });
});

describe('an archive of docker save', () => {
  test('of two images with one tag opens the one that its name or index chooses, and lists these choices otherwise', async () => {
    const { files, layers } = dockerSave();
    const [layer = new Uint8Array()] = layers;
    const images = ['app', 'db', 'none'].map((name) => ({ name, config: configOf([layer], name) }));
    const manifest = images.map(({ name }) => ({
      Config: `${name}.json`,
      RepoTags: name === 'none' ? null : [`${name}:latest`],
      Layers: ['one/layer.tar'],
    }));
    const store = await holding(
      await makeTar([
        ...files.filter(({ name }) => name !== 'manifest.json'),
        ...images.map(({ name, config }) => ({ name: `${name}.json`, content: config })),
        { name: 'manifest.json', content: JSON.stringify(manifest) },
      ]),
    );
    const configs = images.map(({ config }) => digestOf(config));
    const wanted = [
      ['app:latest', 0],
      ['db:latest', 1],
      ['db', 1],
      ['library/db:latest', 1],
      ['docker.io/library/db:latest', 1],
      ['@0', 0],
      ['@2', 2],
    ] as const;
    for (const [tag, index] of wanted) {
      const opened = await openImage(store, KEY, { tag });
      const { manifests } = await walk(opened, [opened.root]);
      const [first] = childrenOf(manifests.get(opened.root.descriptor.digest)?.manifest ?? expect.unreachable());
      expect(first?.digest).toBe(configs[index]);
    }
    const names = 'name one of them after the path: ":app:latest", ":db:latest" or ":@2"';
    await expect(openImage(store, KEY)).rejects.toMatchObject({
      message: expect.stringContaining(`holds 3 images; ${names}`),
    });
    await expect(openImage(store, KEY, { tag: 'latest' })).rejects.toMatchObject({
      code: 'INVALID',
      message: expect.stringContaining(`several images "latest"; ${names}`),
    });
    await expect(openImage(store, KEY, { tag: '@3' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test('before version 25, with links between equal layers, is read', async () => {
    const { files, layers, config } = dockerSave();
    const opened = await openImage(await holding(await makeTar(files)), KEY);
    expect(opened.repository).toBe('docker.io/library/app');
    expect(opened.root.tags).toEqual(['3']);
    const { manifests } = await walk(opened, [opened.root]);
    const manifest = [...manifests.values()][0]?.manifest ?? expect.unreachable();
    const [first, second] = layers.map((layer) => ({
      mediaType: MEDIA_TYPE.ociLayer,
      digest: digestOf(layer),
      size: layer.byteLength,
    }));
    expect(childrenOf(manifest)).toEqual([
      { mediaType: MEDIA_TYPE.ociConfig, digest: digestOf(config), size: config.byteLength },
      first,
      second,
      first,
    ]);
    for (const d of childrenOf(manifest)) expect(await collect(read(opened, d))).toHaveLength(d.size);
  });

  test('gives the same manifest every time', async () => {
    const { files } = dockerSave();
    const [one, two] = await Promise.all(
      [files, files.toReversed()].map(async (all) => openImage(await holding(await makeTar(all)), KEY)),
    );
    expect(one?.root).toEqual(two?.root);
  });

  test.each(['gzip', 'zstd'] as const)(
    'with layers compressed with %s is read as they are stored',
    async (compression) => {
      const layer = seededBytes('layer', 3000);
      const stored = compression === 'gzip' ? gzipSync(layer) : zstdCompressSync(layer);
      const config = configOf([layer]);
      for (const name of ['layer.tar.gz', `blobs/sha256/${digestOf(stored).slice(7)}`]) {
        const files = [
          { name: 'config.json', content: config },
          { name, content: stored },
          {
            name: 'manifest.json',
            content: JSON.stringify([{ Config: 'config.json', RepoTags: ['app:v1'], Layers: [name] }]),
          },
        ];
        const opened = await openImage(await holding(await makeTar(files)), KEY);
        const { manifests } = await walk(opened, [opened.root]);
        const d = childrenOf([...manifests.values()][0]?.manifest ?? expect.unreachable())[1] ?? expect.unreachable();
        expect(d).toEqual({
          mediaType: `${MEDIA_TYPE.ociLayer}+${compression}`,
          digest: digestOf(stored),
          size: stored.byteLength,
        });
        expect(Buffer.compare(await collect(read(opened, d)), stored)).toBe(0);
      }
    },
  );

  test('of several images gives the one asked for by its name', async () => {
    const layer = seededBytes('layer', 100);
    const files: TarFile[] = [{ name: 'l.tar', content: layer }];
    const images = ['a', 'b'].map((name) => {
      files.push({ name: `${name}.json`, content: configOf([layer], name) });
      return { Config: `${name}.json`, RepoTags: [`${name}:latest`, `other/${name}:1`], Layers: ['l.tar'] };
    });
    const store = await holding(await makeTar([...files, { name: 'manifest.json', content: JSON.stringify(images) }]));
    const opened = await openImage(store, KEY, { tag: 'b:latest' });
    expect(opened.root.tags).toEqual(['latest', '1']);
    expect(Buffer.from(await collect(await configIn(opened, opened.root.descriptor))).toString()).toContain('"b"');
    await expect(openImage(store, KEY, { tag: 'latest' })).rejects.toMatchObject({
      code: 'INVALID',
      message: expect.stringContaining('several images "latest"'),
    });
    await expect(openImage(store, KEY)).rejects.toMatchObject({
      code: 'INVALID',
      message: expect.stringContaining('":a:latest" or ":b:latest"'),
    });
  });

  test('with a layer that does not match its config is CORRUPT when it is read', async () => {
    const { files } = dockerSave();
    const changed = [
      ...files.filter((file) => file.name !== 'one/layer.tar'),
      { name: 'one/layer.tar', content: seededBytes('other', 2000) },
    ];
    const opened = await openImage(await holding(await makeTar(changed)), KEY);
    await expect(copy(opened, discard, [opened.root])).rejects.toMatchObject({ code: 'CORRUPT' });
  });

  const good = dockerSave();
  const withManifest = (document: unknown): TarFile[] => [
    ...good.files.filter((file) => file.name !== 'manifest.json'),
    { name: 'manifest.json', content: typeof document === 'string' ? document : JSON.stringify(document) },
  ];
  test.each<[string, TarFile[], string, RegExp]>([
    ['a manifest that is not JSON', withManifest('{'), 'INVALID', /manifest\.json in memory:\/\/v1\.tar is not JSON/],
    ['a manifest without images', withManifest([]), 'INVALID', /lists no images/],
    [
      'an image without a config',
      withManifest([{ Layers: [] }]),
      'INVALID',
      /image 1 in manifest\.json .* names no config/,
    ],
    [
      'a missing config',
      withManifest([{ Config: 'x.json', Layers: [] }]),
      'INVALID',
      /names the config "x\.json", which is not there/,
    ],
    [
      'a missing layer',
      withManifest([{ Config: 'config.json', Layers: ['a', 'b', 'c'] }]),
      'INVALID',
      /names the layer "a", which is not there/,
    ],
    [
      'more layers than the config has',
      withManifest([{ Config: 'config.json', Layers: ['one/layer.tar'] }]),
      'INVALID',
      /has 1 layers, but its config names 3/,
    ],
    [
      'a config outside the archive',
      withManifest([{ Config: '../x.json', Layers: [] }]),
      'INVALID',
      /"\.\.\/x\.json" leads outside/,
    ],
    [
      'links in a circle',
      [
        ...good.files.filter((file) => file.name !== 'one/layer.tar'),
        { name: 'one/layer.tar', type: 'symlink', target: '../three/layer.tar' },
      ],
      'INVALID',
      /link to a link to a link/,
    ],
    [
      'an image of a docker before 1.10',
      [{ name: 'repositories', content: '{}' }],
      'UNSUPPORTED',
      /docker before 1\.10/,
    ],
  ])('with %s', async (_, files, code, message) => {
    const opening = openImage(await holding(await makeTar(files)), KEY);
    await expect(opening).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    await expect(opening).rejects.toThrow(`memory://${KEY}`);
  });
});

describe('a key that holds something else', () => {
  const index = (content: string): readonly TarFile[] => [
    { name: 'oci-layout', content: '{"imageLayoutVersion":"1.0.0"}' },
    { name: 'index.json', content },
  ];
  test.each<[string, () => Promise<Uint8Array>, string, RegExp]>([
    ['nothing', async () => new Uint8Array(), 'INVALID', /it is empty/],
    ['plain text', async () => Buffer.from('hello'), 'INVALID', /it is not a tar/],
    ['a page', async () => Buffer.from('<html>'.repeat(1000)), 'INVALID', /it is not a tar/],
    [
      'a tar of something',
      async () => makeTar([{ name: 'etc/passwd', content: 'root' }]),
      'INVALID',
      /a tar, but not an archive of an image/,
    ],
    ['zeros', async () => Buffer.alloc(2048), 'INVALID', /neither index\.json nor manifest\.json/],
    [
      'something compressed with xz',
      async () => Buffer.from('fd377a585a0000', 'hex'),
      'UNSUPPORTED',
      /compressed with xz: unpack it first/,
    ],
    ['a tar that leads outside', async () => makeTar([{ name: '../../etc/passwd' }]), 'INVALID', /leads outside/],
    ['two indexes', async () => makeTar([...index('{}'), ...index('{}')]), 'INVALID', /index\.json/],
    ['an index that is not JSON', async () => makeTar(index('{')), 'INVALID', /index\.json in .*not JSON/],
    [
      'a manifest in place of an index',
      async () =>
        makeTar(
          index(
            JSON.stringify({
              schemaVersion: 2,
              mediaType: MEDIA_TYPE.ociManifest,
              config: { mediaType: 'x/y', digest: digestOf(Buffer.from('')), size: 0 },
              layers: [],
            }),
          ),
        ),
      'INVALID',
      /not an index of images/,
    ],
    [
      'an index without images',
      async () => makeTar(index('{"schemaVersion":2,"manifests":[]}')),
      'INVALID',
      /holds no image/,
    ],
  ])('%s, is reported', async (_, make, code, message) => {
    const opening = openImage(await holding(await make()), KEY);
    await expect(opening).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    await expect(opening).rejects.toThrow(`memory://${KEY}`);
  });

  test('is NOT_FOUND when it does not exist', async () => {
    await expect(openImage(new MemoryObjects(), KEY)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

describe('a compressed archive', () => {
  const folders: string[] = [];
  afterEach(async () => {
    for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true });
  });
  const temporary = async (): Promise<{ path: string } & AsyncDisposable> => {
    const path = await mkdtemp(join(tmpdir(), 'transship-image-'));
    folders.push(path);
    return { path, [Symbol.asyncDispose]: async () => rm(path, { recursive: true }) };
  };
  const emptied = async (): Promise<boolean> => {
    for (const folder of folders)
      if (
        await readdir(folder).then(
          () => true,
          () => false,
        )
      )
        return false;
    return true;
  };

  test.each([
    ['gzip', (tar: Uint8Array) => gzipSync(tar)],
    [
      'gzip in two members, as pigz and cat make it',
      (tar: Uint8Array) => Buffer.concat([gzipSync(tar.subarray(0, 5000)), gzipSync(tar.subarray(5000))]),
    ],
    ['zstd', (tar: Uint8Array) => zstdCompressSync(tar)],
    [
      'zstd in two frames',
      (tar: Uint8Array) =>
        Buffer.concat([zstdCompressSync(tar.subarray(0, 5000)), zstdCompressSync(tar.subarray(5000))]),
    ],
  ])('of %s is unpacked to a temporary folder for as long as it is open', async (_, compress) => {
    const image = await makeImage({ signed: true });
    const store = await holding(compress((await archived(image)).bytesOf(KEY)));
    {
      await using opened = await openImage(store, KEY, { temporary });
      expect(opened.layoutDigest).toBeDefined();
      await expectSameImage(image.content, opened, image.root);
      expect(await emptied()).toBe(false);
    }
    expect(await emptied()).toBe(true);
  });

  test('of docker save is read as well', async () => {
    await using opened = await openImage(await holding(gzipSync(await makeTar(dockerSave().files))), KEY, {
      temporary,
    });
    expect(opened.repository).toBe('docker.io/library/app');
  });

  test('is UNSUPPORTED without a folder to unpack it', async () => {
    await expect(openImage(await holding(gzipSync(Buffer.alloc(100))), KEY)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: `open memory://${KEY}: it is compressed with gzip, so it cannot be read in place: unpack it first`,
    });
  });

  test.each<[string, (tar: Uint8Array) => Uint8Array, OpenImageOptions, string, RegExp]>([
    ['a bomb of zeros', () => gzipSync(Buffer.alloc(50_000_000)), {}, 'INVALID', /a tar without a file/],
    ['a bomb of text', () => zstdCompressSync(Buffer.alloc(50_000_000, 'a')), {}, 'INVALID', /it is not a tar/],
    [
      'a bomb with the header of a tar',
      () => gzipSync(announcing(50_000_000, 50_000_000)),
      { maxUnpackedBytes: 1_000_000 },
      'INVALID',
      /unpacks to more than the 1000000 bytes that are allowed/,
    ],
    [
      'a bomb after the end of a tar',
      (tar) => zstdCompressSync(Buffer.concat([tar, Buffer.alloc(50_000_000)])),
      { maxUnpackedBytes: 1_000_000 },
      'INVALID',
      /more than the 1000000 bytes/,
    ],
    [
      'one that unpacks to more than a hundred times its size',
      () => gzipSync(announcing(2 ** 32, 1000)),
      {},
      'INVALID',
      /unpacks to more than the 1073741824 bytes that \d+ compressed ones may stand for/,
    ],
    [
      'one that unpacks to more than the free space',
      () => gzipSync(announcing(30_000_000, 1000)),
      { temporary: async () => ({ ...(await temporary()), freeBytes: 20_000_000 }) },
      'UNSUPPORTED',
      /unpacks to more than the 20000000 bytes that are free in .*: free some, or choose another folder with TMPDIR/,
    ],
    ['a truncated gzip', (tar) => gzipSync(tar).subarray(0, -100), {}, 'CORRUPT', /gzip data is damaged or cut off/],
    [
      'a truncated zstd',
      (tar) => zstdCompressSync(tar).subarray(0, -100),
      {},
      'CORRUPT',
      /zstd data is damaged or cut off/,
    ],
    ['a gzip with damage', (tar) => damaged(gzipSync(tar)), {}, 'CORRUPT', /gzip data is damaged/],
    [
      'a zstd with damage',
      (tar) => damaged(zstdCompressSync(tar, { params: { 201: 1 } })),
      {},
      'CORRUPT',
      /zstd data is damaged/,
    ],
    ['compressed text', () => gzipSync('hello'), {}, 'INVALID', /it is not a tar/],
  ])('%s leaves nothing behind', async (_, make, o, code, message) => {
    const image = await makeImage();
    const store = await holding(make((await archived(image)).bytesOf(KEY)));
    const opening = openImage(store, KEY, { temporary, ...o });
    await expect(opening).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    await expect(opening).rejects.toThrow(`memory://${KEY}`);
    expect(await emptied()).toBe(true);
  });

  test.each(CHUNK_SIZES)('is passed on unchanged, in chunks of %d bytes', async (size) => {
    const tar = Buffer.from((await archived(await makeImage({ signed: true }))).bytesOf(KEY));
    const limit = { bytes: tar.byteLength, exceeded: new Failure('INVALID', 'it is too large') };
    expect((await collect(lookedAt(chunked(tar, size), limit))).equals(tar)).toBe(true);
    const cut = tar.subarray(0, -700);
    expect((await collect(lookedAt(chunked(cut, size), limit))).equals(cut)).toBe(true);
  });

  /** The start of a tar whose one file is announced with one size, and has another. */
  function announcing(size: number, contained: number): Uint8Array {
    return Buffer.concat([encodeHeader('layer.tar', size), Buffer.alloc(contained)]);
  }

  function damaged(bytes: Uint8Array): Uint8Array {
    const changed = Buffer.from(bytes);
    const middle = changed.byteLength >>> 1;
    return changed.fill(0x55, middle, middle + 40);
  }
});

async function archived(image: MadeImage): Promise<MemoryObjects> {
  const store = new MemoryObjects();
  await archiveImage(image.content, image.root, store, KEY);
  return store;
}

async function holding(bytes: Uint8Array): Promise<MemoryObjects> {
  const store = new MemoryObjects();
  await store.write(KEY, bytes);
  return store;
}

/** The archive of an image, with its files in reverse order in a tar of other headers. */
async function repacked(image: MadeImage): Promise<{ bytes: Buffer }> {
  const tar = Buffer.from((await archived(image)).bytesOf(KEY));
  const { entries } = await planOf(image.content, image.root);
  const files = entries.map(({ name, offset, header, size }) => {
    const start = offset + header.byteLength;
    return { name: `./${name}`, content: tar.subarray(start, start + size) };
  });
  return { bytes: await makeTar([{ name: './', type: 'directory' as const }, ...files.toReversed()]) };
}

/** An OCI layout as skopeo's oci-archive writes it: folders first, `index.json` late. */
async function layoutFiles(
  images: readonly MadeImage[],
  annotations?: Readonly<Record<string, string>>,
  more: readonly (readonly [Descriptor, string | undefined])[] = [],
): Promise<TarFile[]> {
  const files = new Map<string, TarFile>();
  const entries: object[] = [];
  for (const { content, root } of images) {
    const graph = await walk(content, [root]);
    const all = [...blobsOf(graph), ...[...graph.manifests.values()].map((node) => node.descriptor)];
    for (const d of all) {
      const name = `blobs/${d.digest.replace(':', '/')}`;
      files.set(name, { name, content: await collect(read(content, d)) });
    }
    entries.push({
      ...root.descriptor,
      annotations: annotations ?? { 'org.opencontainers.image.ref.name': root.tags[0] },
    });
  }
  for (const [d, tag] of more) {
    entries.push({ ...d, ...(tag === undefined ? {} : { annotations: { 'org.opencontainers.image.ref.name': tag } }) });
  }
  return [
    { name: 'blobs/', type: 'directory' },
    { name: 'blobs/sha256/', type: 'directory' },
    ...files.values(),
    { name: 'index.json', content: JSON.stringify({ schemaVersion: 2, manifests: entries }) },
    { name: 'oci-layout', content: '{"imageLayoutVersion": "1.0.0"}' },
  ];
}

/** What docker save wrote before version 25: uncompressed layers in folders, the third a link to the first. */
function dockerSave(): { files: TarFile[]; layers: Uint8Array[]; config: Buffer } {
  const layers = [seededBytes('one', 2000), seededBytes('two', 3000)];
  const [one = new Uint8Array(), two = new Uint8Array()] = layers;
  const config = configOf([one, two, one]);
  const manifest = [
    { Config: 'config.json', RepoTags: ['app:3'], Layers: ['one/layer.tar', 'two/layer.tar', 'three/layer.tar'] },
  ];
  const files: TarFile[] = [
    { name: 'three/', type: 'directory' },
    { name: 'three/layer.tar', type: 'symlink', target: '../one/layer.tar' },
    { name: 'two/VERSION', content: '1.0' },
    { name: 'two/layer.tar', content: two },
    { name: 'config.json', content: config },
    { name: 'one/layer.tar', content: one },
    { name: 'manifest.json', content: JSON.stringify(manifest) },
    { name: 'repositories', content: '{"app":{"3":"two"}}' },
  ];
  return { files, layers, config };
}

function configOf(layers: readonly Uint8Array[], name = 'app'): Buffer {
  const diff_ids = layers.map((layer) => `sha256:${createHash('sha256').update(layer).digest('hex')}`);
  return Buffer.from(
    JSON.stringify({ os: 'linux', architecture: 'amd64', author: name, rootfs: { type: 'layers', diff_ids } }),
  );
}

async function configIn(opened: Awaited<ReturnType<typeof openImage>>, d: Descriptor): ReturnType<typeof opened.open> {
  const { manifests } = await walk(opened, [{ descriptor: d, tags: [] }]);
  return opened.open(childrenOf(manifests.get(d.digest)?.manifest ?? expect.unreachable())[0] ?? expect.unreachable());
}
