import { expect, test } from 'vitest';
import type { Source } from '../../../worker/content/content.ts';
import { blobsOf, walk } from '../../../worker/content/graph.ts';
import type { Descriptor } from '../../../worker/oci/manifest.ts';
import { corrupting, failing, truncated } from '../../support/faulty-content.ts';
import { makeImage, type MadeImage } from '../../support/images.ts';
import { expectSameImage } from '../../support/same-image.ts';

// an assertion that cannot fail proves nothing

async function someBlob(image: MadeImage): Promise<Descriptor> {
  const blob = blobsOf(await walk(image.content, [image.root])).at(-1);
  if (blob === undefined) throw new Error('the image has blobs');
  return blob;
}

const same = async (target: Source, image: MadeImage, o?: { referrers: boolean }): Promise<void> =>
  expectSameImage(image.content, target, image.root, o);

test('an image is the same as itself, and as another created the same way', async () => {
  const image = await makeImage({ signed: true });
  await same(image.content, image);
  await same((await makeImage({ signed: true })).content, image);
});

test('an image with one different byte is not the same, and the digest is named', async () => {
  const image = await makeImage({ signed: true });
  const { digest, size } = await someBlob(image);
  await expect(same(corrupting(image.content, digest, size - 1), image)).rejects.toThrow(digest);
  await expect(same(truncated(image.content, digest, size - 1), image)).rejects.toThrow(digest);
});

test('two images that are broken the same way are not the same', async () => {
  const image = await makeImage();
  const { digest } = await someBlob(image);
  const bad = corrupting(image.content, digest);
  await expect(expectSameImage(bad, bad, image.root)).rejects.toThrow('CORRUPT at the target');
});

test('an image that lacks a blob, a manifest or its tag is not the same', async () => {
  const image = await makeImage({ signed: true });
  for (let n = 1; n <= 10; n++)
    await expect(same(failing(image.content, { open: [n, 'NOT_FOUND'] }), image)).rejects.toThrow();
  await expect(same(failing(image.content, { resolve: [1, 'NOT_FOUND'] }), image)).rejects.toMatchObject({
    context: { side: 'target' },
  });
});

test('an image under a tag that stands for something else is not the same', async () => {
  const image = await makeImage();
  const other = await makeImage();
  const [child] = (await walk(other.content, [other.root])).manifests.values();
  await other.content.tag('v1', child?.descriptor ?? other.root.descriptor, () => expect.unreachable());
  await expect(same(other.content, image)).rejects.toThrow(child?.descriptor.digest);
});

test('an image without its referrers is the same only when these are left out', async () => {
  const image = await makeImage({ signed: true });
  const unsigned = await makeImage();
  await expect(same(unsigned.content, image)).rejects.toThrow('referrer');
  await same(unsigned.content, image, { referrers: false });
  await expect(expectSameImage(unsigned.content, image.content, image.root)).rejects.toThrow('referrer');
});
