import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { endOf, planArchive, type ArchiveLayout } from '../../../worker/archive/plan.ts';
import { blobsOf, walk, type Graph } from '../../../worker/content/graph.ts';
import { MemoryContent } from '../../../worker/content/memory.ts';
import { partSizeFor } from '../../../worker/objects/s3/part-size.ts';
import { digestOf, parseDigest, type Digest } from '../../../worker/oci/digest.ts';
import { MEDIA_TYPE, parseManifest, type Descriptor } from '../../../worker/oci/manifest.ts';
import { planOf, REPOSITORY } from '../../support/archives.ts';
import { addJson, makeImage } from '../../support/images.ts';

const NAMES = { tag: 'v1', repository: REPOSITORY };

describe('the plan of an archive', () => {
  test('has the documents first, then referrers, manifests with children before parents, configs and layers', async () => {
    const { content, root } = await makeImage({ signed: true });
    const graph = await walk(content, [root]);
    const layout = planArchive(graph, NAMES);
    const listing = referrersOf(layout);
    expect(layout.entries.map((entry) => entry.name)).toEqual([
      'oci-layout',
      'index.json',
      'manifest.json',
      pathOf(listing),
      ...[...graph.manifests.keys()].map(pathOf),
      ...blobsOf(graph).map((d) => pathOf(d.digest)),
    ]);
    const kinds = blobsOf(graph).map((d) => (/config|empty/.test(d.mediaType) ? 'config' : 'layer'));
    expect(kinds).toEqual(kinds.toSorted());
    const firstLayer = layout.entries.find((entry) => entry.descriptor?.mediaType === MEDIA_TYPE.ociLayerGzip);
    expect(layout.headSize).toBe(firstLayer?.offset);
  });

  test('puts every file directly after the previous one, and two blocks of zeros at the end', async () => {
    const { content, root } = await makeImage({ signed: true, layers: [0, 1, 511, 512, 513, 70_000] });
    const { entries, size } = await planOf(content, root);
    let offset = 0;
    for (const entry of entries) {
      expect(entry.offset).toBe(offset);
      offset = endOf(entry);
      expect(offset % 512).toBe(0);
    }
    expect(size).toBe(offset + 1024);
  });

  test('is the same for the same image, and every change changes its digest', async () => {
    const { content, root } = await makeImage({ signed: true });
    const layout = await planOf(content, root);
    expect(await planOf(content, root)).toEqual(layout);
    const unsigned = await makeImage();
    const others = [
      await planOf(unsigned.content, unsigned.root),
      await planOf(content, { ...root, tags: ['v2'] }),
      await planOf(content, { ...root, tags: [] }),
      await planOf(content, root, 'registry.example.com/other'),
    ];
    expect(new Set([layout, ...others].map((plan) => plan.digest)).size).toBe(5);
  });

  test('has one entry in index.json, with the tag for skopeo and the full name for containerd', async () => {
    const { content, root } = await makeImage();
    const { mediaType, digest, size } = root.descriptor;
    const annotations = {
      'org.opencontainers.image.ref.name': 'v1',
      'io.containerd.image.name': `${REPOSITORY}:v1`,
    };
    expect(documentOf(await planOf(content, root), 'index.json')).toEqual({
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.ociIndex,
      manifests: [{ mediaType, digest, size, annotations }],
    });
  });

  test('names an image without a tag by its digest', async () => {
    const { content, root } = await makeImage();
    const layout = await planOf(content, { ...root, tags: [] });
    const annotations = { 'io.containerd.image.name': `${REPOSITORY}@${root.descriptor.digest}` };
    expect(documentOf(layout, 'index.json')).toMatchObject({ manifests: [{ annotations }] });
    expect(documentOf(layout, 'manifest.json')).toMatchObject([{ RepoTags: [] }]);
    expect(layout.tags.size).toBe(0);
  });

  test('lists all referrers of the image, with the tags of cosign', async () => {
    const { content, root } = await makeImage({ signed: true });
    const graph = await walk(content, [root]);
    const layout = planArchive(graph, NAMES);
    const bytes = layout.entries.find((entry) => entry.name === pathOf(referrersOf(layout)))?.bytes;
    const listing = parseManifest(bytes ?? new Uint8Array(), MEDIA_TYPE.ociIndex);
    if (listing.kind !== 'index') throw new Error('the listing is an index');
    const listed = listing.manifests.map((d) => [d.digest, d.annotations?.['org.opencontainers.image.ref.name']]);
    expect(listed).toEqual(graph.referrers.map((r) => [r.descriptor.digest, r.tags[0]]));
    expect(listed.filter(([, tag]) => tag !== undefined)).toHaveLength(2);
    expect(listing.manifests.map((d) => d.artifactType)).toContain('application/spdx+json');
    expect([...layout.tags.keys()].sort()).toEqual((await Array.fromAsync(content.tags())).sort());
  });

  test('keeps sha512 blobs in their own folder, with a pax header', async () => {
    const content = new MemoryContent();
    const config = content.add(MEDIA_TYPE.ociConfig, Buffer.from('{}'));
    const bytes = Buffer.from('layer');
    const layer = { mediaType: MEDIA_TYPE.ociLayer, digest: digestOf(bytes, 'sha512'), size: 5 };
    const manifest = addJson(content, MEDIA_TYPE.ociManifest, { schemaVersion: 2, config, layers: [layer] });
    const layout = await planOf(content, { descriptor: manifest, tags: ['v1'] });
    const entry = layout.entries.at(-1);
    expect(entry?.name).toBe(`blobs/sha512/${layer.digest.slice('sha512:'.length)}`);
    expect(entry?.header).toHaveLength(1536);
  });

  test('plans layers of any size', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 13e12 }), { minLength: 1, maxLength: 4 }), (sizes) => {
        const layout = planArchive(graphOf(sizes), NAMES);
        const layers = layout.entries.slice(-sizes.length);
        expect(layers.map((entry) => entry.size)).toEqual(sizes);
        for (const entry of layers) expect(entry.header).toHaveLength(entry.size < 8 * 1024 ** 3 ? 512 : 1536);
        expect(layout.size).toBe(endOf(layout.entries.at(-1) ?? expect.unreachable()) + 1024);
      }),
    );
  });

  test('refuses only an archive that is too large for an upload to S3', () => {
    const most = 50e12;
    expect(() => partSizeFor(most)).not.toThrow();
    expect(() => partSizeFor(most + 1)).toThrow();
    const { size } = planArchive(graphOf([0, 9e12]), NAMES);
    const fits = Math.floor((most - size) / 512) * 512 - 1024;
    expect(planArchive(graphOf([fits, 9e12]), NAMES).size).toBe(most);
    for (const large of [fits + 1, 60e12]) {
      expect(() => planArchive(graphOf([large, 9e12]), NAMES)).toThrow(/50000000000000 at most/);
    }
  });

  test('is of exactly one image', async () => {
    const { content, root } = await makeImage();
    const graph = await walk(content, [root]);
    for (const roots of [[], [root, root]]) {
      expect(() => planArchive({ ...graph, roots }, NAMES)).toThrow(`one image, ${roots.length} were given`);
    }
  });
});

describe('manifest.json, which docker load reads,', () => {
  test.each([
    [['linux/arm64', 'linux/amd64'], 'linux/amd64'],
    [['windows/amd64', 'linux/arm64'], 'windows/amd64'],
    [['linux/s390x'], 'linux/s390x'],
  ])('of %s has %s', async (platforms, chosen) => {
    const { content, root } = await makeImage({ platforms });
    const layout = await planOf(content, root);
    const [{ Config, RepoTags, Layers }] = documentOf(layout, 'manifest.json') as [DockerImage];
    expect(RepoTags).toEqual([`${REPOSITORY}:v1`]);
    expect(await textOf(content, Config)).toContain(`PLATFORM=${chosen}`);
    const names = layout.entries.map((entry) => entry.name);
    expect(Layers).toHaveLength(3);
    for (const layer of Layers) expect(names).toContain(layer);
  });

  test('leaves out attestations and images with layers that are elsewhere or encrypted', async () => {
    const content = new MemoryContent();
    const image = (name: string, layerType: string): Descriptor => {
      const config = content.add(MEDIA_TYPE.ociConfig, Buffer.from(JSON.stringify({ name })));
      const layer = content.add(layerType, Buffer.from(`layer of ${name}`));
      return addJson(content, MEDIA_TYPE.ociManifest, { schemaVersion: 2, config, layers: [layer] });
    };
    const children = [
      image('attestation', 'application/vnd.in-toto+json'),
      image('foreign', 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip'),
      image('encrypted', 'application/vnd.oci.image.layer.v1.tar+gzip+encrypted'),
      image('runs', 'application/vnd.oci.image.layer.v1.tar+zstd'),
    ];
    const inner = addJson(content, MEDIA_TYPE.ociIndex, { schemaVersion: 2, manifests: children });
    const outer = addJson(content, MEDIA_TYPE.ociIndex, { schemaVersion: 2, manifests: [inner] });
    const layout = await planOf(content, { descriptor: outer, tags: ['v1'] });
    const [{ Config }] = documentOf(layout, 'manifest.json') as [DockerImage];
    expect(await textOf(content, Config)).toBe('{"name":"runs"}');
  });

  test('is left out for an artifact that is not an image', async () => {
    const content = new MemoryContent();
    const config = content.add(MEDIA_TYPE.ociEmpty, Buffer.from('{}'));
    const layer = content.add('application/vnd.cncf.helm.chart.content.v1.tar+gzip', Buffer.from('chart'));
    const chart = addJson(content, MEDIA_TYPE.ociManifest, { schemaVersion: 2, config, layers: [layer] });
    const layout = await planOf(content, { descriptor: chart, tags: ['1.0'] });
    expect(layout.entries.map((entry) => entry.name).slice(0, 3)).toEqual([
      'oci-layout',
      'index.json',
      pathOf(chart.digest),
    ]);
  });
});

interface DockerImage {
  readonly Config: string;
  readonly RepoTags: readonly string[];
  readonly Layers: readonly string[];
}

/** An image of layers that do not exist. */
function graphOf(sizes: readonly number[]): Graph {
  const layers = sizes.map((size, i) => ({
    mediaType: MEDIA_TYPE.ociLayer,
    digest: digestOf(Buffer.from(`${i}`)),
    size,
  }));
  const config = { mediaType: MEDIA_TYPE.ociConfig, digest: digestOf(Buffer.from('config')), size: 2 };
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPE.ociManifest, config, layers }));
  const descriptor = { mediaType: MEDIA_TYPE.ociManifest, digest: digestOf(bytes), size: bytes.byteLength };
  const node = { descriptor, bytes, manifest: parseManifest(bytes, MEDIA_TYPE.ociManifest) };
  return {
    roots: [{ descriptor, tags: ['v1'] }],
    referrers: [],
    unreadable: [],
    manifests: new Map([[descriptor.digest, node]]),
  };
}

function documentOf(layout: ArchiveLayout, name: string): unknown {
  const bytes = layout.entries.find((entry) => entry.name === name)?.bytes;
  return JSON.parse(Buffer.from(bytes ?? []).toString());
}

function referrersOf(layout: ArchiveLayout): Digest {
  const { annotations } = documentOf(layout, 'index.json') as { annotations: Record<string, string> };
  return parseDigest(annotations['dev.transship.referrers']);
}

function pathOf(digest: Digest): string {
  return `blobs/${digest.replace(':', '/')}`;
}

async function textOf(content: MemoryContent, path: string): Promise<string> {
  const digest = parseDigest(path.replace('blobs/', '').replace('/', ':'));
  const chunks = await Array.fromAsync(await content.open({ mediaType: '', digest, size: 0 }));
  return Buffer.concat(chunks).toString();
}
