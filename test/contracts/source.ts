import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Source } from '../../worker/content/content.ts';
import { blobsOf, walk } from '../../worker/content/graph.ts';
import { read } from '../../worker/content/read.ts';
import { digestOf } from '../../worker/oci/digest.ts';
import { MEDIA_TYPE, type Descriptor } from '../../worker/oci/manifest.ts';
import { collect, collectLate } from '../support/chunks.ts';
import { makeImage, type MadeImage } from '../support/images.ts';
import { expectSameImage } from '../support/same-image.ts';

export interface MadeSource {
  readonly source: Source;
  /** Called after the test. */
  readonly close?: () => Promise<void>;
}

/** The capabilities that a Source may lack. */
export interface SourceTraits {
  /** Can start in the middle of a blob. Default true; otherwise a range with `from` > 0 must be UNSUPPORTED. */
  readonly ranges?: boolean;
  /** Lists the referrers of an image. Default true; otherwise `referrers` must be empty. */
  readonly referrers?: boolean;
}

/**
 * Registers the tests of what `Source` promises. `make` returns a fresh backend that holds all of the image: its tag, its referrers
 * and the cosign tags.
 */
export function sourceSuite(
  name: string,
  make: (image: MadeImage) => Promise<MadeSource>,
  { ranges = true, referrers = true }: SourceTraits = {},
): void {
  const filled = async (image: MadeImage): Promise<Source> => {
    const { source, close } = await make(image);
    if (close !== undefined) onTestFinished(close);
    return source;
  };

  describe(`${name}, as a source,`, () => {
    test('resolves a tag and its digest to the same descriptor, with media type and size', async () => {
      const image = await makeImage();
      const source = await filled(image);
      const { descriptor } = image.root;
      for (const reference of ['v1', descriptor.digest]) {
        const { mediaType, digest, size } = await source.resolve(reference);
        expect({ mediaType, digest, size }).toEqual(descriptor);
      }
    });

    test('resolves the digest of an image inside an index', async () => {
      const image = await makeImage();
      const source = await filled(image);
      for (const child of await childrenOf(image)) {
        const { mediaType, digest, size } = await source.resolve(child.digest);
        expect({ mediaType, digest, size }).toEqual({
          mediaType: child.mediaType,
          digest: child.digest,
          size: child.size,
        });
      }
    });

    test('answers NOT_FOUND for a missing tag, digest and blob', async () => {
      const source = await filled(await makeImage());
      const absent = { mediaType: MEDIA_TYPE.ociLayerGzip, digest: digestOf(Buffer.from('absent')), size: 6 };
      await expect(source.resolve('no-such-tag')).rejects.toMatchObject({ code: 'NOT_FOUND' });
      await expect(source.resolve(absent.digest)).rejects.toMatchObject({ code: 'NOT_FOUND' });
      for (const mediaType of [MEDIA_TYPE.ociLayerGzip, MEDIA_TYPE.ociManifest]) {
        await expect(opened(source, { ...absent, mediaType })).rejects.toMatchObject({ code: 'NOT_FOUND' });
      }
    });

    test('returns every manifest and blob of a signed image unchanged', async () => {
      const image = await makeImage({ signed: true });
      await expectSameImage(image.content, await filled(image), image.root, { referrers });
    });

    test('returns chunks that stay unchanged until the next one is requested', async () => {
      const image = await makeImage({ platforms: ['linux/amd64'], layers: [1, 70_000, 1_500_000] });
      const source = await filled(image);
      for (const descriptor of await blobsBySize(image))
        expect(digestOf(await collectLate(await source.open(descriptor)))).toBe(descriptor.digest);
    });

    test('returns an image of one platform with docker media types unchanged', async () => {
      const image = await makeImage({ docker: true, platforms: ['linux/arm/v7'], layers: [1, 512, 70_000] });
      await expectSameImage(image.content, await filled(image), image.root, { referrers });
    });

    test.runIf(ranges)('returns exactly the requested range, also at the edges', async () => {
      const image = await makeImage();
      const source = await filled(image);
      const blobs = await blobsBySize(image);
      for (const descriptor of [...blobs.slice(0, 1), ...blobs.slice(-1)]) {
        const whole = await collect(await image.content.open(descriptor));
        const middle = Math.floor(descriptor.size / 2);
        const edges = [0, 1, middle, descriptor.size - 1, descriptor.size];
        for (const from of edges) {
          expect(await opened(source, descriptor, { from })).toEqual(whole.subarray(from));
          for (const to of edges.filter((edge) => edge > from))
            expect(await opened(source, descriptor, { from, to })).toEqual(whole.subarray(from, to));
        }
        for (const to of edges.slice(1))
          expect(await opened(source, descriptor, { to })).toEqual(whole.subarray(0, to));
      }
    });

    test.runIf(!ranges)('answers UNSUPPORTED to a range that starts in the middle', async () => {
      const image = await makeImage();
      const source = await filled(image);
      const descriptor = await largestOf(image);
      await expect(opened(source, descriptor, { from: 1 })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
      expect(digestOf(await opened(source, descriptor, { from: 0 }))).toBe(descriptor.digest);
    });

    test.runIf(referrers)('lists every referrer of a subject once, with its type', async () => {
      const image = await makeImage({ signed: true });
      const source = await filled(image);
      const [expected, found] = await Promise.all([
        Array.fromAsync(image.content.referrers(image.root.descriptor)),
        Array.fromAsync(source.referrers(image.root.descriptor)),
      ]);
      expect(expected).toHaveLength(2);
      const byDigest = (list: readonly Descriptor[]): readonly object[] =>
        list
          .map(({ mediaType, digest, size, artifactType }) => ({ mediaType, digest, size, artifactType }))
          .sort((a, b) => (a.digest < b.digest ? -1 : 1));
      expect(byDigest(found)).toEqual(byDigest(expected));
    });

    test('lists no referrer of an image without referrers, nor of a missing one', async () => {
      const image = await makeImage();
      const source = await filled(image);
      expect(await Array.fromAsync(source.referrers(image.root.descriptor))).toEqual([]);
      const absent = { mediaType: MEDIA_TYPE.ociManifest, digest: digestOf(Buffer.from('absent')), size: 6 };
      expect(await Array.fromAsync(source.referrers(absent))).toEqual([]);
    });

    test('lists every tag once', async () => {
      const image = await makeImage({ signed: referrers });
      const [expected, found] = await Promise.all([
        Array.fromAsync(image.content.tags()),
        filled(image).then(async (source) => Array.fromAsync(source.tags())),
      ]);
      expect(found.sort()).toEqual(expected.sort());
    });

    test('does nothing once the signal is aborted', async () => {
      const image = await makeImage();
      const source = await filled(image);
      const { descriptor } = image.root;
      const stopped = { signal: AbortSignal.abort() };
      const code = { code: 'ABORTED' };
      await expect(source.resolve('v1', stopped)).rejects.toMatchObject(code);
      await expect(opened(source, descriptor, stopped)).rejects.toMatchObject(code);
      await expect(Array.fromAsync(source.referrers(descriptor, stopped))).rejects.toMatchObject(code);
      await expect(Array.fromAsync(source.tags(stopped))).rejects.toMatchObject(code);
    });

    test('ends a body with ABORTED when the signal aborts in the middle of it', async () => {
      const image = await makeImage({ platforms: ['linux/amd64'], layers: [4 * 1024 * 1024] });
      const source = await filled(image);
      const descriptor = await largestOf(image);
      const stop = new AbortController();
      const sizes: number[] = [];
      let failure: unknown;
      try {
        for await (const chunk of await source.open(descriptor, stop)) {
          sizes.push(chunk.byteLength);
          stop.abort();
        }
      } catch (error) {
        failure = error;
      }
      // a body that arrived in one chunk had no middle
      if (failure === undefined) expect(sizes).toEqual([descriptor.size]);
      else expect(failure).toMatchObject({ code: 'ABORTED' });
      expect(sizes).toHaveLength(1);
    });

    test('still works after bodies that were abandoned', async () => {
      const image = await makeImage({ platforms: ['linux/amd64'], layers: [1024 * 1024] });
      const source = await filled(image);
      const descriptor = await largestOf(image);
      // more than any backend keeps connections: a backend that did not close them would have run out
      for (let i = 0; i < 70; i++) for await (const _ of await source.open(descriptor)) break;
      expect(digestOf(await opened(source, descriptor))).toBe(descriptor.digest);
    });

    test('serves many requests at once', async () => {
      const image = await makeImage({ signed: true });
      const source = await filled(image);
      const graph = await walk(image.content, [image.root]);
      const all = [...blobsOf(graph), ...[...graph.manifests.values()].map((node) => node.descriptor)];
      await Promise.all(
        Array.from({ length: 3 }, async (_, index) => {
          for (const descriptor of all) {
            let bytes = 0;
            for await (const chunk of read(source, descriptor)) bytes += chunk.byteLength;
            expect(bytes).toBe(descriptor.size);
            expect((await source.resolve('v1')).digest).toBe(image.root.descriptor.digest);
            if (index === 1) await turn();
          }
        }),
      );
    });
  });
}

async function opened(
  source: Source,
  descriptor: Descriptor,
  options: { from?: number; to?: number; signal?: AbortSignal } = {},
): Promise<Uint8Array> {
  return collect(await source.open(descriptor, options));
}

async function childrenOf(image: MadeImage): Promise<readonly Descriptor[]> {
  const { manifests } = await walk(image.content, [image.root], { referrers: false });
  return [...manifests.values()]
    .map((node) => node.descriptor)
    .filter((descriptor) => descriptor.digest !== image.root.descriptor.digest);
}

/** The smallest blob of the image first, the largest last. */
async function blobsBySize(image: MadeImage): Promise<readonly Descriptor[]> {
  return blobsOf(await walk(image.content, [image.root])).toSorted((a, b) => a.size - b.size);
}

async function largestOf(image: MadeImage): Promise<Descriptor> {
  const largest = (await blobsBySize(image)).at(-1);
  if (largest === undefined) throw new Error('the image has no blobs');
  return largest;
}
