import { expect, test } from 'vitest';
import type { Source } from '../../../worker/content/content.ts';
import { MemoryContent } from '../../../worker/content/memory.ts';
import { preferCopy } from '../../../worker/content/prefer-copy.ts';
import { blobsOf, walk } from '../../../worker/content/graph.ts';
import { readAll } from '../../../worker/content/read.ts';
import type { Descriptor } from '../../../worker/oci/manifest.ts';
import { collect } from '../../support/chunks.ts';
import { fakeClock } from '../../support/clock.ts';
import { broken, corrupting, counting, failing, rangeless, truncated } from '../../support/faulty-content.ts';
import { makeImage } from '../../support/images.ts';

const { content, root } = await makeImage({ signed: true });
const blob = await largest();
const bytes = await collect(await content.open(blob));

async function largest(): Promise<Descriptor> {
  const [first] = blobsOf(await walk(content, [root])).toSorted((a, b) => b.size - a.size);
  if (first === undefined) throw new Error('the image has no blobs');
  return first;
}

const all = { clock: fakeClock() };

test('content is read nearby; only the source resolves names and lists referrers', async () => {
  const { end: source, counts } = counting(content);
  const { end: near, counts: asked } = counting(content);
  const both = preferCopy(near, source);
  expect(await readAll(both, blob, blob.size, all)).toEqual(bytes);
  expect((await both.resolve('v1')).digest).toBe(root.descriptor.digest);
  expect(await Array.fromAsync(both.referrers(root.descriptor))).not.toEqual([]);
  expect(await Array.fromAsync(both.tags())).toContain('v1');
  expect(counts.calls).toMatchObject({ open: 0, resolve: 1, referrers: 1, tags: 1 });
  expect(asked.calls).toMatchObject({ open: 1, resolve: 0, referrers: 0, tags: 0 });
});

test.each([
  ['does not have it', new MemoryContent(), 0],
  ['breaks off', broken(content, blob.digest, 1000), 1000],
  ['is not reachable', failing(content, { open: [1, 'UNAVAILABLE'] }), 0],
  ['may not be read', failing(content, { open: [1, 'DENIED'] }), 0],
] as const)('the nearby copy %s: the source continues from there, and is used from then on', async (_, near, from) => {
  const { end: source, counts } = counting(content);
  const both = preferCopy(near, source);
  expect(await readAll(both, blob, blob.size, all)).toEqual(bytes);
  expect(counts.opened).toMatchObject([{ digest: blob.digest, from }]);
  expect(await readAll(both, blob, blob.size, all)).toEqual(bytes);
  expect(counts.opened).toHaveLength(2);
});

test('a source that cannot start in the middle takes over too', async () => {
  const both = preferCopy(broken(content, blob.digest, 1000), rangeless(content));
  expect(await readAll(both, blob, blob.size, all)).toEqual(bytes);
});

test.each([
  ['wrong', corrupting(content, blob.digest, 7)],
  ['too few', truncated(content, blob.digest, 100)],
])('%s bytes nearby are CORRUPT', async (_, near) => {
  await expect(readAll(preferCopy(near, content), blob, blob.size, all)).rejects.toMatchObject({ code: 'CORRUPT' });
});

test('an abort is no reason to ask the source', async () => {
  const { end: source, counts } = counting(content);
  const stop = new AbortController();
  const copy: Source = {
    resolve: async () => expect.unreachable(),
    referrers: () => expect.unreachable(),
    tags: () => expect.unreachable(),
    open: async () => {
      stop.abort();
      throw new Error('the connection was closed');
    },
  };
  await expect(preferCopy(copy, source).open(blob, { signal: stop.signal })).rejects.toMatchObject({ code: 'ABORTED' });
  expect(counts.calls.open).toBe(0);
});
