import * as fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Bytes, Source, Target } from '../../worker/content/content.ts';
import { blobsOf, walk } from '../../worker/content/graph.ts';
import { MemoryContent } from '../../worker/content/memory.ts';
import { read } from '../../worker/content/read.ts';
import { MEDIA_TYPE, type Descriptor } from '../../worker/oci/manifest.ts';
import { Failure, isFailure } from '../../worker/util/failure.ts';
import { chunked, collect, lent, LENT_SIZES, rechunk } from '../support/chunks.ts';
import { addJson, makeImage, seededBytes, type MadeImage } from '../support/images.ts';
import { expectSameImage } from '../support/same-image.ts';

export interface MadeTarget {
  readonly target: Target;
  /** A view of what is visible at the same place now. A backend that shows nothing yet may throw NOT_FOUND. */
  readonly view: () => Promise<Source>;
  /** Makes what was put visible, where that takes a step of its own. */
  readonly commit?: () => Promise<unknown>;
  /** Called after the test. */
  readonly close?: () => Promise<void>;
}

/** How backends differ and still are a Target. */
export interface TargetTraits {
  /** Refuses a manifest with NOT_FOUND while something that it names is missing. Default true. */
  readonly ordered?: boolean;
  /** A tag can be moved. Default true; otherwise moving it must be CONFLICT. */
  readonly tagsMove?: boolean;
  /** Accepts an empty blob. Default true. */
  readonly emptyBlobs?: boolean;
  /** Is created for exactly the image passed to `make`: accepts nothing else, and has only its tag. Default false. */
  readonly planned?: boolean;
  /** Keeps the referrers of an image. Default true. */
  readonly referrers?: boolean;
}

/**
 * Registers the tests of what `Target` promises. `make` returns a fresh, empty backend; the image is what the test will put, for
 * backends that are planned.
 */
export function targetSuite(
  name: string,
  make: (image: MadeImage) => Promise<MadeTarget>,
  traits: TargetTraits = {},
): void {
  const { ordered = true, tagsMove = true, emptyBlobs = true, planned = false, referrers = true } = traits;
  const fresh = async (image: MadeImage): Promise<MadeTarget> => {
    const made = await make(image);
    if (made.close !== undefined) onTestFinished(made.close);
    return made;
  };
  // a planned backend knows its manifests before it gets them, and does not ask for their bytes
  const asked = planned ? blobsIn : contentOf;

  describe(`${name}, as a target,`, () => {
    test('has nothing at first, accepts a blob, and has it then', async () => {
      const image = await makeImage();
      const { target } = await fresh(image);
      for (const descriptor of await asked(image)) {
        expect(await target.has(descriptor)).toBe(false);
        await target.put(descriptor, opener(image, descriptor));
        expect(await target.has(descriptor)).toBe(true);
      }
    });

    test('holds the same image afterwards, byte for byte, with its tag and its referrers', async () => {
      const image = await makeImage({ signed: true });
      const made = await fresh(image);
      await fill(made.target, image, true);
      await made.commit?.();
      await expectSameImage(image.content, await made.view(), image.root, { referrers });
    });

    test('holds an image of docker media types the same way', async () => {
      const image = await makeImage({ docker: true });
      const made = await fresh(image);
      await fill(made.target, image, false);
      await made.commit?.();
      await expectSameImage(image.content, await made.view(), image.root, { referrers: false });
    });

    test('accepts the same content again', async () => {
      const image = await makeImage();
      const made = await fresh(image);
      await fill(made.target, image, false);
      await fill(made.target, image, false);
      await made.commit?.();
      await expectSameImage(image.content, await made.view(), image.root, { referrers: false });
    });

    test('accepts the same content from many writers at once', async () => {
      const image = await makeImage();
      const made = await fresh(image);
      for (const descriptor of await asked(image)) {
        await Promise.all(
          Array.from({ length: 4 }, async () => made.target.put(descriptor, opener(image, descriptor))),
        );
        expect(await made.target.has(descriptor)).toBe(true);
      }
      await made.target.tag('v1', image.root.descriptor, opener(image, image.root.descriptor));
      await made.commit?.();
      await expectSameImage(image.content, await made.view(), image.root, { referrers: false });
    });

    test.each(LENT_SIZES)('keeps no chunk of %i bytes that it was lent', async (size) => {
      const image = await makeImage({ layers: size < 100 ? [1, 6, 3000] : [1, 511, 3000, 300_000, 1_100_000] });
      const made = await fresh(image);
      const open = (descriptor: Descriptor) => (): Bytes => lent(rechunk(read(image.content, descriptor), size));
      await Promise.all((await blobsIn(image)).map(async (d) => made.target.put(d, open(d))));
      await fill(made.target, image, false, open);
      await made.commit?.();
      await expectSameImage(image.content, await made.view(), image.root, { referrers: false });
    });

    test('keeps no chunk that it was lent, whatever their sizes', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.integer({ min: 1, max: 100_000 }), { minLength: 1, maxLength: 6 }),
          async (sizes) => {
            const image = await makeImage({ layers: [1, 3000, 400_000] });
            const made = await fresh(image);
            const open = (descriptor: Descriptor) => (): Bytes =>
              lent(rechunk(read(image.content, descriptor), ...sizes));
            await fill(made.target, image, false, open);
            await made.commit?.();
            await expectSameImage(image.content, await made.view(), image.root, { referrers: false });
          },
        ),
        { numRuns: 5 },
      );
    });

    test('accepts different blobs at once', async () => {
      const image = await makeImage({ layers: [10, 1000, 100_000, 300_000] });
      const made = await fresh(image);
      await Promise.all(
        (await blobsIn(image)).map(async (descriptor) => made.target.put(descriptor, opener(image, descriptor))),
      );
      await fill(made.target, image, false);
      await made.commit?.();
      await expectSameImage(image.content, await made.view(), image.root, { referrers: false });
    });

    test('leaves no body open', async () => {
      const image = await makeImage();
      const { target } = await fresh(image);
      let open = 0;
      const counted = (descriptor: Descriptor) =>
        async function* (): Bytes {
          open++;
          try {
            yield* read(image.content, descriptor);
          } finally {
            open--;
          }
        };
      for (const descriptor of await contentOf(image)) {
        await target.put(descriptor, counted(descriptor));
        expect(open).toBe(0);
        await target.put(descriptor, counted(descriptor));
        expect(open).toBe(0);
      }
    });

    test('shows nothing of a body that turns out wrong near its end, and accepts the right one afterwards', async () => {
      const image = await makeImage({ platforms: ['linux/amd64'], layers: [300_000] });
      const made = await fresh(image);
      for (const descriptor of await asked(image)) {
        const wrong = async function* (): Bytes {
          // as read() does: all chunks except the last, then the failure
          const whole = await collect(await image.content.open(descriptor));
          yield* chunked(whole.subarray(0, -1), 65_536);
          throw new Failure('CORRUPT', `${descriptor.digest} has other bytes than its digest states`);
        };
        await expect(made.target.put(descriptor, wrong)).rejects.toMatchObject({ code: 'CORRUPT' });
        expect(await made.target.has(descriptor)).toBe(false);
        expect(await visible(made, descriptor)).toBe(false);
        await made.target.put(descriptor, opener(image, descriptor));
        expect(await made.target.has(descriptor)).toBe(true);
      }
    });

    test('shows nothing of a put that is aborted in the middle, and accepts it afterwards', async () => {
      const image = await makeImage({ platforms: ['linux/amd64'], layers: [300_000] });
      const made = await fresh(image);
      for (const descriptor of await asked(image)) {
        const stop = new AbortController();
        const stopping = async function* (): Bytes {
          const whole = await collect(await image.content.open(descriptor));
          yield whole.subarray(0, descriptor.size / 2);
          stop.abort();
          yield whole.subarray(descriptor.size / 2);
        };
        await expect(made.target.put(descriptor, stopping, stop)).rejects.toMatchObject({ code: 'ABORTED' });
        expect(await made.target.has(descriptor)).toBe(false);
        expect(await visible(made, descriptor)).toBe(false);
        await made.target.put(descriptor, opener(image, descriptor));
        expect(await made.target.has(descriptor)).toBe(true);
      }
    });

    test('does nothing once the signal is aborted', async () => {
      const image = await makeImage();
      const made = await fresh(image);
      const stopped = { signal: AbortSignal.abort() };
      const unasked = (): Bytes => expect.unreachable('nothing is opened any more');
      for (const descriptor of await contentOf(image)) {
        await expect(made.target.has(descriptor, stopped)).rejects.toMatchObject({ code: 'ABORTED' });
        await expect(made.target.put(descriptor, unasked, stopped)).rejects.toMatchObject({ code: 'ABORTED' });
        expect(await made.target.has(descriptor)).toBe(false);
      }
      const tagging = made.target.tag('v1', image.root.descriptor, unasked, stopped);
      await expect(tagging).rejects.toMatchObject({ code: 'ABORTED' });
      expect(await resolved(made, 'v1')).toBeUndefined();
    });

    test.runIf(ordered)('refuses a manifest whose children are missing, and shows nothing of it', async () => {
      const image = await makeImage();
      const made = await fresh(image);
      const { descriptor } = image.root;
      for (const d of await manifestsIn(image)) {
        await expect(made.target.put(d, opener(image, d))).rejects.toMatchObject({ code: 'NOT_FOUND' });
        expect(await made.target.has(d)).toBe(false);
        expect(await visible(made, d)).toBe(false);
      }
      const tagging = made.target.tag('v1', descriptor, opener(image, descriptor));
      await expect(tagging).rejects.toMatchObject({ code: 'NOT_FOUND' });
      expect(await resolved(made, 'v1')).toBeUndefined();
      await fill(made.target, image, false);
      await made.commit?.();
      await expectSameImage(image.content, await made.view(), image.root, { referrers: false });
    });

    test('tags a manifest that it has, and one that it does not yet have, and either again', async () => {
      for (const before of [true, false]) {
        const image = await makeImage();
        const made = await fresh(image);
        const { descriptor } = image.root;
        const all = await contentOf(image);
        for (const d of before ? all : all.slice(0, -1)) await made.target.put(d, opener(image, d));
        await made.target.tag('v1', descriptor, opener(image, descriptor));
        await made.target.tag('v1', descriptor, opener(image, descriptor));
        await made.commit?.();
        expect(await resolved(made, 'v1')).toBe(descriptor.digest);
        expect(await resolved(made, descriptor.digest)).toBe(descriptor.digest);
      }
    });

    test.skipIf(planned)('keeps two tags of one manifest', async () => {
      const image = await makeImage();
      const made = await fresh(image);
      const { descriptor } = image.root;
      await fill(made.target, image, false);
      await made.target.tag('v1.2', descriptor, opener(image, descriptor));
      expect(await resolved(made, 'v1')).toBe(descriptor.digest);
      expect(await resolved(made, 'v1.2')).toBe(descriptor.digest);
      expect((await Array.fromAsync((await made.view()).tags())).sort()).toEqual(['v1', 'v1.2']);
    });

    test.skipIf(planned)(tagsMove ? 'moves a tag' : 'does not move a tag: CONFLICT', async () => {
      const image = await makeImage();
      const made = await fresh(image);
      await fill(made.target, image, false);
      const [first, second] = await manifestsIn(image);
      if (first === undefined || second === undefined) throw new Error('the image has two children');
      await made.target.tag('moving', first, opener(image, first));
      const moving = made.target.tag('moving', second, opener(image, second));
      if (tagsMove) await moving;
      else await expect(moving).rejects.toMatchObject({ code: 'CONFLICT' });
      expect(await resolved(made, 'moving')).toBe((tagsMove ? second : first).digest);
    });

    test.runIf(emptyBlobs)('accepts an empty blob', async () => {
      const image = await imageWithEmptyLayer();
      const made = await fresh(image);
      await fill(made.target, image, false);
      await made.commit?.();
      await expectSameImage(image.content, await made.view(), image.root, { referrers: false });
    });

    test('answers false, not with a failure, when a mount is not possible', async () => {
      const image = await makeImage();
      const { target } = await fresh(image);
      for (const descriptor of (await contentOf(image)).slice(0, 2)) {
        expect((await target.mount?.(descriptor, 'no/such/repository')) ?? false).toBe(false);
        expect(await target.has(descriptor)).toBe(false);
      }
    });
  });
}

/** The digest that a reference visibly stands for, or undefined. */
async function resolved(made: MadeTarget, reference: string): Promise<string | undefined> {
  try {
    return (await (await made.view()).resolve(reference)).digest;
  } catch (error) {
    if (isFailure(error, 'NOT_FOUND')) return undefined;
    throw error;
  }
}

/** Whether any byte of `d` can be read. */
async function visible(made: MadeTarget, descriptor: Descriptor): Promise<boolean> {
  try {
    return (await collect(await (await made.view()).open(descriptor))).byteLength > 0;
  } catch (error) {
    if (isFailure(error, 'NOT_FOUND')) return false;
    throw error;
  }
}

function opener(image: MadeImage, descriptor: Descriptor): () => Bytes {
  return () => lent(read(image.content, descriptor));
}

/** Puts all of the image in an order that every target accepts, and tags it. Chunks are lent. */
async function fill(
  target: Target,
  image: MadeImage,
  referrers: boolean,
  open = (descriptor: Descriptor): (() => Bytes) => opener(image, descriptor),
): Promise<void> {
  const graph = await walk(image.content, [image.root], { referrers });
  const manifests = [...graph.manifests.values()].map((node) => node.descriptor);
  for (const descriptor of [...blobsOf(graph), ...manifests]) await target.put(descriptor, open(descriptor));
  for (const { descriptor, tags } of [...graph.referrers, ...graph.roots])
    for (const tag of tags) await target.tag(tag, descriptor, open(descriptor));
}

async function blobsIn(image: MadeImage): Promise<readonly Descriptor[]> {
  return blobsOf(await walk(image.content, [image.root], { referrers: false }));
}

/** Children first, the root last. */
async function manifestsIn(image: MadeImage): Promise<readonly Descriptor[]> {
  const { manifests } = await walk(image.content, [image.root], { referrers: false });
  return [...manifests.values()].map((node) => node.descriptor);
}

async function contentOf(image: MadeImage): Promise<readonly Descriptor[]> {
  return [...(await blobsIn(image)), ...(await manifestsIn(image))];
}

async function imageWithEmptyLayer(): Promise<MadeImage> {
  const content = new MemoryContent();
  const config = content.add(MEDIA_TYPE.ociConfig, Buffer.from('{"os":"linux","architecture":"amd64"}'));
  const layers = [seededBytes('before', 600), new Uint8Array(), seededBytes('after', 600)];
  const { mediaType, digest, size } = addJson(content, MEDIA_TYPE.ociManifest, {
    schemaVersion: 2,
    config,
    layers: layers.map((bytes) => content.add(MEDIA_TYPE.ociLayer, bytes)),
  });
  const root = { descriptor: { mediaType, digest, size }, tags: ['v1'] };
  await content.tag('v1', root.descriptor, () => expect.unreachable('it is there already'));
  return { content, root };
}
