import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import type { Bytes, Source, Target } from '../../../worker/content/content.ts';
import { walk, type Root } from '../../../worker/content/graph.ts';
import { MemoryContent } from '../../../worker/content/memory.ts';
import { copy } from '../../../worker/copy/copy.ts';
import { dryRun } from '../../../worker/content/dry-run.ts';
import { discard } from '../../../worker/content/discard.ts';
import type { Digest } from '../../../worker/oci/digest.ts';
import { childrenOf, isManifestType, MEDIA_TYPE, type Descriptor } from '../../../worker/oci/manifest.ts';
import { describeFailure, Failure, isFailure } from '../../../worker/util/failure.ts';
import type { Event } from '../../../worker/util/events.ts';
import { addJson, makeImage } from '../../support/images.ts';
import { expectSameImage } from '../../support/same-image.ts';

/** A target that records what was written, in order: `blob` and `manifest` with a digest, `tag` with a name and a digest. */
function recorded(
  target: Target,
  before?: (what: string, d: Descriptor) => void,
): { target: Target; writes: string[] } {
  const writes: string[] = [];
  return {
    writes,
    target: {
      has: (d, o) => target.has(d, o),
      put: async (d, open, o) => {
        const what = isManifestType(d.mediaType) ? 'manifest' : 'blob';
        before?.(what, d);
        await target.put(d, open, o);
        writes.push(`${what} ${d.digest}`);
      },
      tag: async (name, d, open, o) => {
        before?.('tag', d);
        await target.tag(name, d, open, o);
        writes.push(`tag ${name} ${d.digest}`);
      },
    },
  };
}

describe('copy', () => {
  test('copies every platform, the signatures and the SBOM, also those of children and of the SBOM', async () => {
    const { content, root } = await makeImage({ signed: true });
    const target = new MemoryContent();
    const result = await copy(content, target, [root]);
    assert.equal(result.referrers.length, 5);
    assert.ok(result.referrers.every((referrer) => referrer.refused === undefined));
    await expectSameImage(content, target, root);
    assert.equal((await target.resolve('v1')).digest, root.descriptor.digest);
  });

  for (const docker of [false, true]) {
    test(`writes children before parents and the tag last (${docker ? 'docker' : 'OCI'})`, async () => {
      const { content, root } = await makeImage({ signed: true, docker });
      const memory = new MemoryContent();
      const graph = await walk(content, [root]);
      const { target, writes } = recorded(memory);
      await copy(content, target, [root]);
      const at = (digest: Digest): number => writes.findIndex((write) => write.endsWith(digest));
      for (const node of graph.manifests.values()) {
        for (const child of childrenOf(node.manifest)) {
          assert.ok(at(child.digest) < at(node.descriptor.digest), `${child.digest} before ${node.descriptor.digest}`);
        }
      }
      assert.equal(writes.at(-1), `tag v1 ${root.descriptor.digest}`);
    });
  }

  test('shows nothing before all of it is there, wherever the copy is stopped', async () => {
    const { content, root } = await makeImage({ signed: true, layers: [100, 2000] });
    for (let stopAt = 1; ; stopAt++) {
      const memory = new MemoryContent();
      let writes = 0;
      const { target } = recorded(memory, () => {
        if (++writes === stopAt) throw new Failure('DENIED', 'stopped here');
      });
      const stopped = await copy(content, target, [root], { strict: true }).then(
        () => false,
        () => true,
      );
      // every manifest there has everything that it names
      for (const node of (await walk(content, [root])).manifests.values()) {
        if (!(await memory.has(node.descriptor))) continue;
        for (const child of childrenOf(node.manifest))
          assert.ok(await memory.has(child), `stopped at ${stopAt}: ${child.digest}`);
      }
      if (!stopped) {
        assert.ok(stopAt > 15, `${stopAt} points`);
        break;
      }
      await assert.rejects(memory.resolve('v1'), `stopped at ${stopAt}`);
      await copy(content, memory, [root]);
      await expectSameImage(content, memory, root);
    }
  });

  test('sends a manifest as soon as everything that it names is there, while a blob of another platform is in transit', async () => {
    const { content, root } = await makeImage();
    const [first, second] = [...(await walk(content, [root])).manifests.values()];
    assert.ok(first?.manifest.kind === 'image' && second?.manifest.kind === 'image');
    const slow = second.manifest.layers.at(-1)?.digest;
    const memory = new MemoryContent();
    const sent = Promise.withResolvers<void>();
    const target: Target = {
      has: (d) => memory.has(d),
      put: async (d, open) => {
        if (d.digest === slow) await sent.promise;
        await memory.put(d, open);
        if (d.digest === first.descriptor.digest) sent.resolve();
      },
      tag: (name, d, open) => memory.tag(name, d, open),
    };
    await copy(content, target, [root]);
    await expectSameImage(content, memory, root);
  });

  test('stops all work after a failure, and throws it once everything has ended', async () => {
    const { content, root } = await makeImage({ platforms: ['linux/amd64'], layers: [1000, 2000, 3000] });
    const memory = new MemoryContent();
    let underway = 0;
    let isFailed = false;
    const target: Target = {
      has: async () => false,
      put: async (_, __, options) => {
        if (isFailed) return assert.fail('nothing begins after the failure');
        underway++;
        try {
          if (underway === 4) {
            isFailed = true;
            throw new Failure('DENIED', 'no');
          }
          await new Promise<void>((resolve) => options?.signal?.addEventListener('abort', () => resolve()));
          throw new Failure('ABORTED', 'stopped');
        } finally {
          underway--;
        }
      },
      tag: (name, d, open) => memory.tag(name, d, open),
    };
    await assert.rejects(copy(content, target, [root]), (error) => isFailure(error, 'DENIED'));
    assert.equal(underway, 0);
  });

  test('sends nothing a second time and reports that', async () => {
    const { content, root } = await makeImage({ signed: true });
    const memory = new MemoryContent();
    await copy(content, memory, [root]);
    const { target, writes } = recorded(memory);
    const again = await copy(content, target, [root]);
    assert.deepEqual(
      writes.filter((write) => !write.startsWith('tag ')),
      [],
    );
    assert.equal(again.tallies.copied.count, 0);
    assert.ok(again.tallies.exists.count > 10);
  });

  test('sends a digest once that many manifests name', async () => {
    const { content, root } = await makeImage({
      platforms: ['linux/amd64', 'linux/arm64', 'linux/riscv64'],
      sharedLayerBytes: 9000,
    });
    const { target, writes } = recorded(new MemoryContent());
    await copy(content, target, [root]);
    assert.equal(new Set(writes).size, writes.length);
  });

  test('sends a missing blob again that an existing manifest names', async () => {
    const { content, root } = await makeImage();
    const whole = new MemoryContent();
    await copy(content, whole, [root]);
    const lost = (await walk(content, [root])).manifests.values().next().value;
    assert.ok(lost?.manifest.kind === 'image');
    const gone = lost.manifest.layers[0];
    assert.ok(gone);
    const { target, writes } = recorded({
      has: async (d) => d.digest !== gone.digest && whole.has(d),
      put: (d, open) => whole.put(d, open),
      tag: (name, d, open) => whole.tag(name, d, open),
    });
    await copy(content, target, [root]);
    assert.deepEqual(writes, [`blob ${gone.digest}`, `tag v1 ${root.descriptor.digest}`]);
  });

  test('sends a blob again, once, that the target claims to have and then misses', async () => {
    const { content, root } = await makeImage();
    const memory = new MemoryContent();
    const layer = (await walk(content, [root])).manifests.values().next().value;
    assert.ok(layer?.manifest.kind === 'image');
    const lied = layer.manifest.layers[0];
    assert.ok(lied);
    const events: Event[] = [];
    const { target, writes } = recorded({
      has: async (d) => d.digest === lied.digest || memory.has(d),
      put: (d, open) => memory.put(d, open),
      tag: (name, d, open) => memory.tag(name, d, open),
    });
    await copy(content, target, [root], { report: (event) => events.push(event) });
    assert.equal(writes.filter((write) => write === `blob ${lied.digest}`).length, 1);
    assert.ok(events.some((event) => event.type === 'warning'));
    await expectSameImage(content, memory, root);
  });

  test('reports a referrer that the target refuses, and the image is there', async () => {
    const { content, root } = await makeImage({ signed: true });
    const memory = new MemoryContent();
    const { target } = recorded(memory, (what, d) => {
      if (what === 'manifest' && d.artifactType?.includes('cosign') === true) {
        throw new Failure('UNSUPPORTED', 'push manifest: registry answered 405 UNSUPPORTED');
      }
    });
    const events: Event[] = [];
    const result = await copy(content, target, [root], { report: (event) => events.push(event) });
    const refused = result.referrers.filter((referrer) => referrer.refused !== undefined);
    assert.equal(refused.length, 2);
    assert.equal(events.filter((event) => event.type === 'referrer-refused').length, 2);
    assert.match(describeFailure(refused[0]?.refused), /^target: push manifest/);
    await expectSameImage(content, memory, root, { referrers: false });
  });

  test('leaves foreign layers where they are and reports them', async () => {
    const content = new MemoryContent();
    const config = content.add(MEDIA_TYPE.dockerConfig, Buffer.from('{}'));
    const layer = content.add(MEDIA_TYPE.dockerLayerGzip, Buffer.from('layer'));
    const foreign: Descriptor = {
      mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
      digest: `sha256:${'fe'.repeat(32)}`,
      size: 1_700_000_000,
      urls: ['https://example.test/layer'],
    };
    const top = addJson(content, MEDIA_TYPE.dockerManifest, { schemaVersion: 2, config, layers: [foreign, layer] });
    const memory = new MemoryContent();
    const result = await copy(content, memory, [{ descriptor: top, tags: ['v1'] }]);
    assert.deepEqual(
      result.foreign.map((d) => d.urls),
      [['https://example.test/layer']],
    );
    assert.equal(result.tallies.foreign.count, 1);
    assert.equal((await memory.resolve('v1')).digest, top.digest);
  });

  for (const code of ['DENIED', 'UNAVAILABLE'] as const) {
    const title =
      code === 'DENIED'
        ? 'a foreign layer that the target refuses does not fail the image'
        : 'a foreign layer is not left out because the target is away: the copy fails and may be tried again';
    test(title, async () => {
      const content = new MemoryContent();
      const config = addJson(content, MEDIA_TYPE.dockerConfig, { os: 'windows' });
      const mediaType = 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip';
      const foreign = content.add(mediaType, Buffer.from('base'));
      const top = addJson(content, MEDIA_TYPE.dockerManifest, { schemaVersion: 2, config, layers: [foreign] });
      const { target } = recorded(new MemoryContent(), (_, descriptor) => {
        if (descriptor.digest === foreign.digest) throw new Failure(code, 'no');
      });
      const copied = copy(content, target, [{ descriptor: top, tags: ['v1'] }]);
      if (code === 'DENIED') assert.equal((await copied).foreign.length, 1);
      else await assert.rejects(copied, (error) => isFailure(error, code) && error.context.side === 'target');
    });
  }

  test('copies content of unknown media types as bytes', async () => {
    const content = new MemoryContent();
    const odd = content.add('application/vnd.buildkit.cacheconfig.v0', Buffer.from('cache'));
    const top = addJson(content, MEDIA_TYPE.ociIndex, { schemaVersion: 2, manifests: [odd] });
    const root: Root = { descriptor: top, tags: ['cache'] };
    const memory = new MemoryContent();
    await copy(content, memory, [root]);
    assert.ok(await memory.has(odd));
  });

  test('fails on wrong bytes of the source, on that side, and tags nothing', async () => {
    const { content, root } = await makeImage();
    const graph = await walk(content, [root]);
    const bad = [...graph.manifests.values()].flatMap((node) =>
      node.manifest.kind === 'image' ? node.manifest.layers : [],
    )[1];
    assert.ok(bad);
    const source: Source = {
      resolve: (reference) => content.resolve(reference),
      referrers: (d) => content.referrers(d),
      tags: () => content.tags(),
      open: async (d, o): Promise<Bytes> =>
        d.digest === bad.digest ? content.open(makeOther(content, bad.size), o) : content.open(d, o),
    };
    const memory = new MemoryContent();
    await assert.rejects(
      copy(source, memory, [root]),
      (error) =>
        isFailure(error, 'CORRUPT') &&
        error.context.side === 'source' &&
        describeFailure(error).startsWith('source: sha256:'),
    );
    await assert.rejects(memory.resolve('v1'));
    assert.equal(await memory.has(bad), false);
  });

  test('names the target when that fails', async () => {
    const { content, root } = await makeImage();
    const { target } = recorded(new MemoryContent(), () => {
      throw new Failure('DENIED', 'upload blob: ecr:InitiateLayerUpload is not allowed');
    });
    await assert.rejects(copy(content, target, [root]), (error) =>
      describeFailure(error).startsWith('target: upload blob'),
    );
  });

  test('ends with ABORTED when it is aborted', async () => {
    const { content, root } = await makeImage();
    const stop = new AbortController();
    const { target } = recorded(new MemoryContent(), () => stop.abort());
    await assert.rejects(copy(content, target, [root], { signal: stop.signal }), (error) =>
      isFailure(error, 'ABORTED'),
    );
  });

  test('mounts blobs where the target can', async () => {
    const { content, root } = await makeImage();
    const memory = new MemoryContent();
    const mounted: string[] = [];
    const target: Target = {
      has: (d) => memory.has(d),
      put: (d, open) => memory.put(d, open),
      tag: (name, d, open) => memory.tag(name, d, open),
      mount: async (d, from) => {
        mounted.push(from);
        await memory.put(d, async function* () {
          yield* await content.open(d);
        });
        return true;
      },
    };
    const result = await copy(content, target, [root], { mountFrom: ['library/app'] });
    assert.equal(result.tallies.mounted.count, mounted.length);
    assert.deepEqual([...new Set(mounted)], ['library/app']);
    await expectSameImage(content, memory, root);
  });

  test('reports as planned the bytes of all blobs that are then done, those of signatures too', async () => {
    const { content, root } = await makeImage({ signed: true });
    const events: Event[] = [];
    await copy(content, new MemoryContent(), [root], { report: (event) => events.push(event) });
    const bytesOf = (type: 'planned' | 'blob-done'): number =>
      events.reduce((sum, event) => sum + (event.type === type && 'bytes' in event ? event.bytes : 0), 0);
    assert.equal(bytesOf('planned'), bytesOf('blob-done'));
  });

  test('counts in a dry run what a copy would send, and writes nothing', async () => {
    const { content, root } = await makeImage({ signed: true });
    const memory = new MemoryContent();
    const planned = await copy(content, dryRun(memory), [root]);
    const real = await copy(content, memory, [root]);
    assert.deepEqual(planned.tallies, real.tallies);
  });

  test('reads and verifies every byte when it copies to nowhere', async () => {
    const { content, root } = await makeImage({ signed: true });
    const result = await copy(content, discard, [root], { strict: true });
    assert.equal(result.tallies.exists.count, 0);
    assert.ok(result.tallies.copied.bytes > 150_000);
  });
});

/** Other content of the same size. */
function makeOther(content: MemoryContent, size: number): Descriptor {
  return content.add('application/octet-stream', Buffer.alloc(size, 7));
}
