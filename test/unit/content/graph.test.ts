import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import type { Source } from '../../../worker/content/content.ts';
import { blobsOf, foreignOf, manifestsBelow, walk, type Graph, type Root } from '../../../worker/content/graph.ts';
import { MemoryContent } from '../../../worker/content/memory.ts';
import { digestOf, type Digest } from '../../../worker/oci/digest.ts';
import { childrenOf, MAX_MANIFEST_BYTES, MEDIA_TYPE, type Descriptor } from '../../../worker/oci/manifest.ts';
import { Failure, type Code } from '../../../worker/util/failure.ts';
import { corrupting, counting, failing, type Opened } from '../../support/faulty-content.ts';
import { addJson, makeImage, seededBytes } from '../../support/images.ts';

const code = (expected: Code): unknown => expect.objectContaining({ code: expected });
const digests = (graph: Graph): readonly Digest[] => [...graph.manifests.keys()];
const rootOf = (descriptor: Descriptor, ...tags: readonly string[]): Root => ({ descriptor, tags });
const cosignTag = (d: Descriptor, suffix: string): string => `${d.digest.replace(':', '-')}.${suffix}`;

/** An image of one small layer that only `name` has. */
function addImage(content: MemoryContent, name: string, more: object = {}): Descriptor {
  return addJson(content, MEDIA_TYPE.ociManifest, {
    schemaVersion: 2,
    config: content.add(MEDIA_TYPE.ociConfig, Buffer.from(JSON.stringify({ name }))),
    layers: [content.add(MEDIA_TYPE.ociLayer, Buffer.from(`layer of ${name}`))],
    ...more,
  });
}

function addIndex(content: MemoryContent, manifests: readonly Descriptor[], more: object = {}): Descriptor {
  return addJson(content, MEDIA_TYPE.ociIndex, { schemaVersion: 2, manifests, ...more });
}

async function tag(content: MemoryContent, name: string, d: Descriptor): Promise<void> {
  await content.tag(name, d, () => expect.unreachable('it is there already'));
}

/** How often each digest was opened. */
function opensOf(opened: readonly Opened[]): ReadonlyMap<Digest, number> {
  const counted = new Map<Digest, number>();
  for (const { digest } of opened) counted.set(digest, (counted.get(digest) ?? 0) + 1);
  return counted;
}

describe('walk', () => {
  test('gives roots and referrers the media type of their bytes, whatever the source stated', async () => {
    const content = new MemoryContent();
    const image = addImage(content, 'image', { mediaType: MEDIA_TYPE.ociManifest });
    const signature = addImage(content, 'signature', { mediaType: MEDIA_TYPE.ociManifest });
    await tag(content, cosignTag(image, 'sig'), signature);
    const mislabelled = (d: Descriptor): Descriptor => ({ ...d, mediaType: MEDIA_TYPE.dockerList });
    const source: Source = {
      open: (d, o) => content.open(d, o),
      referrers: (d, o) => content.referrers(d, o),
      tags: (o) => content.tags(o),
      resolve: async (reference, o) => mislabelled(await content.resolve(reference, o)),
    };
    const graph = await walk(source, [rootOf(mislabelled(image), 'v1')]);
    expect(graph.roots).toEqual([rootOf(image, 'v1')]);
    expect(graph.referrers).toEqual([rootOf(signature, cosignTag(image, 'sig'))]);
    expect([...graph.manifests.values()].map((node) => node.descriptor)).toEqual([image, signature]);
  });

  test('refuses a child whose media type differs from the one in its index, which no server can have changed', async () => {
    const content = new MemoryContent();
    const image = addImage(content, 'image', { mediaType: MEDIA_TYPE.ociManifest });
    const index = addIndex(content, [{ ...image, mediaType: MEDIA_TYPE.dockerManifest }]);
    await expect(walk(content, [rootOf(index)])).rejects.toEqual(code('INVALID'));
  });

  test('requests no cosign tags of digests that are too long for tags', async () => {
    const content = new MemoryContent();
    const bytes = Buffer.from('{}');
    const config = content.add(MEDIA_TYPE.ociEmpty, bytes);
    const manifest = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPE.ociManifest, config, layers: [] }),
    );
    const descriptor = {
      mediaType: MEDIA_TYPE.ociManifest,
      digest: digestOf(manifest, 'sha512'),
      size: manifest.byteLength,
    };
    await content.put(descriptor, async function* () {
      yield manifest;
    });
    const source: Source = {
      open: (d, o) => content.open(d, o),
      referrers: (d, o) => content.referrers(d, o),
      tags: (o) => content.tags(o),
      // as registries answer an impossible tag
      resolve: async (reference) => {
        throw new Failure(reference.length > 128 ? 'INVALID' : 'NOT_FOUND', reference);
      },
    };
    expect((await walk(source, [rootOf(descriptor)])).manifests.size).toBe(1);
  });

  test('finds every manifest of an index, children before their parent, with the exact bytes of the source', async () => {
    const { content, root } = await makeImage({ platforms: ['linux/amd64', 'linux/arm64', 'windows/amd64'] });
    const graph = await walk(content, [root]);
    expect(graph.roots).toEqual([root]);
    expect(graph.referrers).toEqual([]);
    expect(graph.manifests.size).toBe(4);
    expect(digests(graph).at(-1)).toBe(root.descriptor.digest);
    for (const [digest, { descriptor, bytes }] of graph.manifests) {
      expect(descriptor.digest).toBe(digest);
      expect(digestOf(bytes)).toBe(digest);
    }
  });

  test('reads each manifest once, and nothing but manifests', async () => {
    const { content, root } = await makeImage({ signed: true });
    const { end, counts } = counting(content);
    const graph = await walk(end, [root, root]);
    expect([...opensOf(counts.opened)]).toEqual(expect.arrayContaining(digests(graph).map((digest) => [digest, 1])));
    expect(counts.calls.open).toBe(graph.manifests.size);
  });

  test('finds what several indexes share once, children before every parent', async () => {
    const content = new MemoryContent();
    const shared = addImage(content, 'shared');
    const inner = addIndex(content, [shared, addImage(content, 'a')]);
    const middle = addIndex(content, [inner, shared]);
    const top = addIndex(content, [middle, inner, addImage(content, 'b'), shared, shared]);
    const graph = await walk(content, [rootOf(top, 'v1'), rootOf(top, 'v2'), rootOf(inner, 'v3')]);
    expect(graph.manifests.size).toBe(6);
    const seen = new Set<Digest>();
    for (const { descriptor, manifest } of graph.manifests.values()) {
      for (const child of childrenOf(manifest))
        if (graph.manifests.has(child.digest)) expect(seen).toContain(child.digest);
      seen.add(descriptor.digest);
    }
  });

  test('reads what several indexes share once too', async () => {
    const content = new MemoryContent();
    const shared = addImage(content, 'shared');
    const inner = addIndex(content, [shared, addImage(content, 'a')]);
    const top = addIndex(content, [addIndex(content, [inner, shared]), inner, shared]);
    const { end, counts } = counting(content);
    const graph = await walk(end, [rootOf(top)]);
    expect(counts.calls.open).toBe(graph.manifests.size);
  });

  test.each(['application/vnd.docker.distribution.manifest.v1+prettyjws', 'application/vnd.example.thing+json'])(
    'is UNSUPPORTED for an image of an unknown kind of manifest, instead of finding nothing: %s',
    async (mediaType) => {
      const content = new MemoryContent();
      const odd = content.add(mediaType, Buffer.from('{"schemaVersion":1}'));
      await expect(walk(content, [rootOf(odd)])).rejects.toEqual(code('UNSUPPORTED'));
    },
  );

  test('returns the same graph whatever the order of the answers', async () => {
    const { content, root } = await makeImage({
      signed: true,
      platforms: ['linux/amd64', 'linux/arm64', 'linux/s390x'],
    });
    const expected = await walk(content, [root], { concurrency: 1 });
    for (let round = 0; round < 5; round++) {
      const slow = async (text: string): Promise<void> => {
        for (let turns = (text.charCodeAt(text.length - 1) * (round + 3)) % 11; turns > 0; turns--) await turn();
      };
      const shuffled: Source = {
        tags: (o) => content.tags(o),
        resolve: async (reference, o) => {
          await slow(reference);
          return content.resolve(reference, o);
        },
        open: async (d, o) => {
          await slow(d.digest);
          return content.open(d, o);
        },
        referrers: async function* (d, o) {
          await slow(d.digest);
          yield* (await Array.fromAsync(content.referrers(d, o))).toReversed();
        },
      };
      const graph = await walk(shuffled, [root], { concurrency: 4 });
      expect(digests(graph)).toEqual(digests(expected));
      expect(graph.referrers).toEqual(expected.referrers);
      expect(blobsOf(graph)).toEqual(blobsOf(expected));
    }
  });

  test('keeps to the given number of concurrent requests', async () => {
    const { content, root } = await makeImage({
      signed: true,
      platforms: Array.from({ length: 12 }, (_, i) => `linux/a${i}`),
    });
    let running = 0;
    let most = 0;
    const counted = async <T>(work: () => Promise<T>): Promise<T> => {
      most = Math.max(most, ++running);
      await turn();
      running--;
      return work();
    };
    const source: Source = {
      tags: (o) => content.tags(o),
      referrers: (d, o) => content.referrers(d, o),
      resolve: async (reference, o) => counted(async () => content.resolve(reference, o)),
      open: async (d, o) => counted(async () => content.open(d, o)),
    };
    await walk(source, [root], { concurrency: 3 });
    expect(most).toBe(3);
  });

  test('treats unknown media types as blobs', async () => {
    const content = new MemoryContent();
    const odd = content.add('application/vnd.example.thing+json', Buffer.from('{"config":'));
    const graph = await walk(content, [rootOf(addIndex(content, [odd, addImage(content, 'a')]))]);
    expect(graph.manifests.size).toBe(2);
    expect(blobsOf(graph).map((d) => d.digest)).toContain(odd.digest);
  });

  test('is NOT_FOUND when a child is missing, and CORRUPT when one does not match its digest', async () => {
    const { content, root } = await makeImage();
    const child = digests(await walk(content, [root]))[1] ?? root.descriptor.digest;
    await expect(walk(failing(content, { open: [3, 'NOT_FOUND'] }), [root])).rejects.toEqual(code('NOT_FOUND'));
    await expect(walk(corrupting(content, child), [root])).rejects.toEqual(code('CORRUPT'));
    await expect(walk(new MemoryContent(), [root])).rejects.toEqual(code('NOT_FOUND'));
  });

  test('names the manifest that cannot be read', async () => {
    const content = new MemoryContent();
    const bad = content.add(MEDIA_TYPE.ociManifest, Buffer.from('{"layers":[]}'));
    await expect(walk(content, [rootOf(addIndex(content, [bad]))])).rejects.toMatchObject({
      code: 'INVALID',
      message: expect.stringMatching(new RegExp(`^manifest ${bad.digest.slice(0, 19)}: `)),
    });
  });

  test('refuses a manifest over 4 MiB before requesting it', async () => {
    const content = new MemoryContent();
    const large = { ...addImage(content, 'a'), size: MAX_MANIFEST_BYTES + 1 };
    const { end, counts } = counting(content);
    await expect(walk(end, [rootOf(addIndex(content, [large]))])).rejects.toEqual(code('INVALID'));
    expect(counts.calls.open).toBe(1);
  });

  test('refuses an index whose manifests would fill the memory', async () => {
    const content = new MemoryContent();
    const children = Array.from({ length: 33 }, (_, i) => {
      const bytes = Buffer.alloc(MAX_MANIFEST_BYTES, ' ');
      bytes.write(JSON.stringify({ manifests: [], annotations: { name: String(i) } }));
      return content.add(MEDIA_TYPE.ociIndex, bytes);
    });
    await expect(walk(content, [rootOf(addIndex(content, children))])).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('bytes of manifests'),
    });
  });

  test('does nothing once the signal is aborted, and stops when it aborts', async () => {
    const { content, root } = await makeImage({ signed: true });
    await expect(walk(content, [root], { signal: AbortSignal.abort() })).rejects.toEqual(code('ABORTED'));
    const complete = counting(content);
    await walk(complete.end, [root]);
    for (let calls = 1; calls < complete.counts.calls.open; calls++) {
      const stop = new AbortController();
      let left = calls;
      const source: Source = {
        tags: (o) => content.tags(o),
        referrers: (d, o) => content.referrers(d, o),
        resolve: async (reference, o) => content.resolve(reference, o),
        open: async (d, o) => {
          if (--left === 0) stop.abort();
          return content.open(d, o);
        },
      };
      await expect(walk(source, [root], { signal: stop.signal, concurrency: 1 })).rejects.toEqual(code('ABORTED'));
      expect(left).toBe(0);
    }
  });
});

describe('the referrers of an image', () => {
  test('are found: OCI referrers, those of referrers, and the cosign tags of every child', async () => {
    const { content, root } = await makeImage({ signed: true });
    const graph = await walk(content, [root]);
    const direct = await Array.fromAsync(content.referrers(root.descriptor));
    const sbom = direct.find((d) => d.artifactType === 'application/spdx+json');
    if (sbom === undefined) throw new Error('the image has an SBOM');
    const untagged = graph.referrers.filter((r) => r.tags.length === 0).map((r) => r.descriptor.digest);
    const tagged = graph.referrers.flatMap((r) => r.tags);
    expect(untagged).toHaveLength(3); // a signature, the SBOM, and the signature of the SBOM
    expect(tagged.sort()).toEqual(
      (await Array.fromAsync(content.tags())).filter((name) => name.endsWith('.sig')).sort(),
    );
    // a subject's referrer comes before the referrer's own
    const [ofSbom] = await Array.fromAsync(content.referrers(sbom));
    const order = graph.referrers.map((r) => r.descriptor.digest);
    expect(order.findIndex((digest) => digest === ofSbom?.digest)).toBeGreaterThan(order.indexOf(sbom.digest));
    for (const { descriptor } of graph.referrers) expect(graph.manifests.has(descriptor.digest)).toBe(true);
  });

  test('are found once when two name them, with all their tags', async () => {
    const content = new MemoryContent();
    const image = addImage(content, 'image');
    const signature = addImage(content, 'signature', { subject: image });
    await tag(content, cosignTag(image, 'sig'), signature);
    await tag(content, cosignTag(image, 'att'), signature);
    const graph = await walk(content, [rootOf(image)]);
    expect(graph.referrers).toHaveLength(1);
    expect(graph.referrers[0]?.descriptor.digest).toBe(signature.digest);
    expect([...(graph.referrers[0]?.tags ?? [])].sort()).toEqual([cosignTag(image, 'att'), cosignTag(image, 'sig')]);
  });

  test('are not looked for when not wanted', async () => {
    const { content, root } = await makeImage({ signed: true });
    const { end, counts } = counting(content);
    const graph = await walk(end, [root], { referrers: false });
    expect(graph.referrers).toEqual([]);
    expect(graph.manifests.size).toBe(3);
    expect(counts.calls).toMatchObject({ referrers: 0, resolve: 0 });
  });

  test('are empty where the registry answers 403 for a missing tag', async () => {
    const { content, root } = await makeImage({ platforms: ['linux/amd64'] });
    for (const answer of ['DENIED', 'UNAUTHENTICATED', 'UNSUPPORTED'] as const) {
      const graph = await walk(failing(content, { resolve: [1, answer] }), [root]);
      expect(graph.referrers).toEqual([]);
    }
  });

  test.each<Code>(['UNAVAILABLE', 'THROTTLED', 'INVALID'])(
    'are not assumed empty when the answer is %s',
    async (answer) => {
      const { content, root } = await makeImage({ platforms: ['linux/amd64'] });
      await expect(walk(failing(content, { resolve: [2, answer] }), [root])).rejects.toEqual(code(answer));
    },
  );

  test('are found once when they are found again by the tag of another referrer', async () => {
    const content = new MemoryContent();
    const image = addImage(content, 'image');
    const sbom = addImage(content, 'sbom', { subject: image });
    const signature = addImage(content, 'signature', { subject: image });
    await tag(content, cosignTag(sbom, 'sig'), signature);
    const graph = await walk(content, [rootOf(image)]);
    expect(graph.referrers.map((r) => r.descriptor.digest).sort()).toEqual([sbom.digest, signature.digest].sort());
  });

  test.each([1, 2])('may refer in a circle of %d by tags that a person set: the walk ends', async (length) => {
    const content = new MemoryContent();
    const circle = Array.from({ length }, (_, i) => addImage(content, String(i)));
    for (const [i, d] of circle.entries()) await tag(content, cosignTag(d, 'sig'), circle[(i + 1) % length] ?? d);
    const stop = new AbortController();
    let left = 100;
    const source: Source = {
      tags: (o) => content.tags(o),
      referrers: (d, o) => content.referrers(d, o),
      open: async (d, o) => content.open(d, o),
      resolve: async (reference, o) => {
        if (--left === 0) stop.abort();
        return content.resolve(reference, o);
      },
    };
    const [first] = circle;
    if (first === undefined) throw new Error('a circle has a first');
    const graph = await walk(source, [rootOf(first)], { signal: stop.signal });
    expect(graph.manifests.size).toBe(length);
  });

  test('do not make the image unreadable when the registry lists one that is gone', async () => {
    const { content, root } = await makeImage({ signed: true });
    const [gone] = await Array.fromAsync(content.referrers(root.descriptor));
    const source: Source = {
      tags: (o) => content.tags(o),
      referrers: (d, o) => content.referrers(d, o),
      resolve: async (reference, o) => content.resolve(reference, o),
      open: async (d, o) => (d.digest === gone?.digest ? new MemoryContent() : content).open(d, o),
    };
    const graph = await walk(source, [root]);
    expect(graph.referrers.map((r) => r.descriptor.digest)).not.toContain(gone?.digest);
    expect(graph.manifests.size).toBeGreaterThanOrEqual(3);
  });

  test('may be an index, which is walked too', async () => {
    const content = new MemoryContent();
    const image = addImage(content, 'image');
    const part = addImage(content, 'part');
    const bundle = addIndex(content, [part], { subject: image, artifactType: 'application/vnd.example.bundle' });
    const graph = await walk(content, [rootOf(image)]);
    expect(graph.referrers.map((r) => r.descriptor.digest)).toEqual([bundle.digest]);
    expect(digests(graph)).toEqual([image.digest, part.digest, bundle.digest]);
  });
});

describe('blobsOf', () => {
  test('returns every blob once, configs first, then layers in the order of the manifests', async () => {
    const { content, root } = await makeImage({ signed: true });
    const graph = await walk(content, [root]);
    const blobs = blobsOf(graph);
    expect(new Set(blobs.map((d) => d.digest)).size).toBe(blobs.length);
    const kinds = blobs.map((d) =>
      d.mediaType === MEDIA_TYPE.ociConfig || d.mediaType === MEDIA_TYPE.ociEmpty ? 'config' : 'layer',
    );
    expect(kinds.lastIndexOf('config')).toBeLessThan(kinds.indexOf('layer'));
    const named = [...graph.manifests.values()]
      .flatMap((node) => childrenOf(node.manifest))
      .filter((d) => !graph.manifests.has(d.digest));
    expect(new Set(blobs.map((d) => d.digest))).toEqual(new Set(named.map((d) => d.digest)));
    const layers = named.filter((d) => kinds[blobs.findIndex((b) => b.digest === d.digest)] === 'layer');
    expect(blobs.slice(kinds.indexOf('layer')).map((d) => d.digest)).toEqual([...new Set(layers.map((d) => d.digest))]);
  });

  test('counts a blob that is a config here and a layer there as a config', async () => {
    const content = new MemoryContent();
    const empty = content.add(MEDIA_TYPE.ociEmpty, Buffer.from('{}'));
    const layer = content.add(MEDIA_TYPE.ociLayer, seededBytes('layer', 10));
    const first = addJson(content, MEDIA_TYPE.ociManifest, { config: addImageConfig(content), layers: [layer, empty] });
    const second = addJson(content, MEDIA_TYPE.ociManifest, { config: empty, layers: [empty] });
    const graph = await walk(content, [rootOf(first), rootOf(second)]);
    expect(blobsOf(graph).map((d) => d.digest)).toEqual([addImageConfig(content).digest, empty.digest, layer.digest]);
  });

  test('leaves out foreign layers that the source does not have, which foreignOf returns', async () => {
    const content = new MemoryContent();
    const foreign = {
      ...new MemoryContent().add('application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', Buffer.from('elsewhere')),
      urls: ['https://example.com/layer'],
    };
    const own = content.add(MEDIA_TYPE.dockerLayerGzip, Buffer.from('here'));
    const config = content.add(MEDIA_TYPE.dockerConfig, Buffer.from('{}'));
    const image = addJson(content, MEDIA_TYPE.dockerManifest, {
      schemaVersion: 2,
      config,
      layers: [foreign, own, foreign],
    });
    const graph = await walk(content, [rootOf(image)]);
    expect(blobsOf(graph).map((d) => d.digest)).toEqual([config.digest, own.digest]);
    expect(foreignOf(graph)).toEqual([foreign]);
  });
});

describe('manifestsBelow', () => {
  test('returns what is below one root only, children first, each once', async () => {
    const content = new MemoryContent();
    const shared = addImage(content, 'shared');
    const own = addImage(content, 'own');
    const inner = addIndex(content, [shared]);
    const one = addIndex(content, [inner, own, shared]);
    const two = addIndex(content, [shared]);
    const graph = await walk(content, [rootOf(one), rootOf(two)]);
    const below = (d: Descriptor): readonly Digest[] => manifestsBelow(graph, d.digest).map((n) => n.descriptor.digest);
    expect(below(one)).toEqual([shared.digest, inner.digest, own.digest, one.digest]);
    // the same bytes as `inner`, so the same manifest
    expect(two.digest).toBe(inner.digest);
    expect(below(two)).toEqual([shared.digest, two.digest]);
    expect(below(shared)).toEqual([shared.digest]);
    expect(manifestsBelow(graph, digestOf(Buffer.from('absent')))).toEqual([]);
  });
});

function addImageConfig(content: MemoryContent): Descriptor {
  return content.add(MEDIA_TYPE.ociConfig, Buffer.from('{"os":"linux"}'));
}
