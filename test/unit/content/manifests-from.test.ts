import { expect, test } from 'vitest';
import { manifestsFrom } from '../../../worker/content/manifests-from.ts';
import { MemoryContent } from '../../../worker/content/memory.ts';
import { readAll } from '../../../worker/content/read.ts';
import { MAX_MANIFEST_BYTES } from '../../../worker/oci/manifest.ts';
import { corrupting, counting, truncated } from '../../support/faulty-content.ts';
import { collect } from '../../support/chunks.ts';
import { makeImage } from '../../support/images.ts';

const { content, root } = await makeImage();
const { descriptor } = root;
const bytes = await collect(await content.open(descriptor));

test('manifests are read from the nearby source', async () => {
  const { end: source, counts } = counting(content);
  expect(await readAll(manifestsFrom(source, content), descriptor, MAX_MANIFEST_BYTES)).toEqual(bytes);
  expect(counts.opened).toEqual([]);
});

test.each([
  ['does not have it', new MemoryContent()],
  ['has damaged it', corrupting(content, descriptor.digest, 7)],
  ['has a part of it', truncated(content, descriptor.digest, 100)],
])('a manifest is read from the source when the nearby source %s', async (_, near) => {
  const { end: source, counts } = counting(content);
  expect(await readAll(manifestsFrom(source, near), descriptor, MAX_MANIFEST_BYTES)).toEqual(bytes);
  expect(counts.opened).toHaveLength(1);
});
