import { describe, expect, test } from 'vitest';
import { blobsOf, walk } from '../../../worker/content/graph.ts';
import { MemoryContent } from '../../../worker/content/memory.ts';
import { read } from '../../../worker/content/read.ts';
import type { Descriptor } from '../../../worker/oci/manifest.ts';
import { collect } from '../../support/chunks.ts';
import {
  broken,
  corrupting,
  counting,
  failing,
  lying,
  rangeless,
  rechunked,
  truncated,
} from '../../support/faulty-content.ts';
import { makeImage, type MadeImage } from '../../support/images.ts';

// what the wrappers promise to the tests that use them

async function layersOf(image: MadeImage): Promise<readonly [Descriptor, Descriptor]> {
  const [first, second] = blobsOf(await walk(image.content, [image.root])).slice(-2);
  if (first === undefined || second === undefined) throw new Error('the image has layers');
  return [first, second];
}

const codeOf = async (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'done',
    (error: { code?: unknown }) => error.code,
  );

describe('failing', () => {
  test('fails the n-th call of a method, no earlier or later one, and leaves other methods alone', async () => {
    const { content, root } = await makeImage();
    const target = failing(content, { has: [2, 'DENIED'], resolve: [1, 'UNAVAILABLE'] });
    const codes = [];
    for (let call = 1; call <= 3; call++) codes.push(await codeOf(target.has(root.descriptor)));
    expect(codes).toEqual(['done', 'DENIED', 'done']);
    expect(await codeOf(target.resolve('v1'))).toBe('UNAVAILABLE');
    expect(await codeOf(target.resolve('v1'))).toBe('done');
    expect(await codeOf(target.open(root.descriptor))).toBe('done');
    expect(await Array.fromAsync(target.tags())).toEqual(['v1']);
  });
});

describe('truncated, broken and corrupting', () => {
  test('change one blob at one byte, whole or in ranges', async () => {
    const image = await makeImage();
    const [d, other] = await layersOf(image);
    const whole = await collect(await image.content.open(d));
    const take = async (content: MemoryContent, from?: number, to?: number): Promise<Buffer> =>
      collect(await content.open(d, { ...(from === undefined ? {} : { from }), ...(to === undefined ? {} : { to }) }));
    for (const size of [1, 7, 100_000]) {
      const chunks = rechunked(image.content, size);
      expect(await take(truncated(chunks, d.digest, 1000))).toEqual(whole.subarray(0, 1000));
      expect(await take(truncated(chunks, d.digest, 1000), 400)).toEqual(whole.subarray(400, 1000));
      expect(await take(truncated(chunks, d.digest, 1000), 1000)).toHaveLength(0);
      expect(await take(truncated(chunks, d.digest, 1000), 400, 1000)).toEqual(whole.subarray(400, 1000));
      expect(await codeOf(take(broken(chunks, d.digest, 1000), 400))).toBe('UNAVAILABLE');
      expect(await take(broken(chunks, d.digest, 1000), 0, 1000)).toEqual(whole.subarray(0, 1000));
      const flipped = Buffer.from(whole);
      flipped[1000] = (flipped[1000] ?? 0) ^ 0xff;
      expect(await take(corrupting(chunks, d.digest, 1000))).toEqual(flipped);
      expect(await take(corrupting(chunks, d.digest, 1000), 999, 1002)).toEqual(flipped.subarray(999, 1002));
    }
    expect(await collect(await image.content.open(d))).toEqual(whole); // the original was not written to
    const all = corrupting(broken(truncated(image.content, d.digest, 5), d.digest, 6), d.digest);
    expect(await collect(await all.open(other))).toEqual(await collect(await image.content.open(other)));
  });

  test('do so as often as requested', async () => {
    const image = await makeImage();
    const [d] = await layersOf(image);
    const source = broken(image.content, d.digest, 10, 2);
    const codes = [];
    for (let i = 0; i < 3; i++) codes.push(await codeOf(collect(await source.open(d))));
    expect(codes).toEqual(['UNAVAILABLE', 'UNAVAILABLE', 'done']);
  });
});

describe('rangeless', () => {
  test('serves the whole or nothing', async () => {
    const image = await makeImage();
    const [d] = await layersOf(image);
    const source = rangeless(image.content);
    expect(await collect(await source.open(d, { from: 0, to: 5 }))).toHaveLength(d.size);
    expect(await codeOf(source.open(d, { from: 1 }))).toBe('UNSUPPORTED');
  });
});

describe('lying', () => {
  test('claims to have a missing blob, refuses what names it, and accepts both once it was really put', async () => {
    const image = await makeImage({ platforms: ['linux/amd64'] });
    const { descriptor } = image.root;
    const [layer] = await layersOf(image);
    const memory = new MemoryContent();
    const target = lying(memory, layer.digest);
    const put = async (d: Descriptor): Promise<unknown> => codeOf(target.put(d, () => read(image.content, d)));
    for (const d of blobsOf(await walk(image.content, [image.root])))
      if (!(await target.has(d))) expect(await put(d)).toBe('done');
    expect(await memory.has(layer)).toBe(false);
    expect(await put(descriptor)).toBe('NOT_FOUND');
    expect(await codeOf(target.tag('v1', descriptor, () => read(image.content, descriptor)))).toBe('NOT_FOUND');
    expect(await put(layer)).toBe('done');
    expect(await put(descriptor)).toBe('done');
    expect(await codeOf(target.tag('v1', descriptor, () => read(image.content, descriptor)))).toBe('done');
  });
});

describe('counting', () => {
  test('counts calls, ranges, bytes, and bodies that were not closed', async () => {
    const image = await makeImage();
    const [d] = await layersOf(image);
    const { end, counts } = counting(image.content);
    await end.resolve('v1');
    await collect(await end.open(d, { from: 10, to: 30 }));
    for await (const _ of await end.open(d)) break;
    const body = (await end.open(d))[Symbol.asyncIterator]();
    await body.next();
    expect(counts.calls).toMatchObject({ resolve: 1, open: 3, has: 0, put: 0 });
    expect(counts.opened).toMatchObject([
      { digest: d.digest, from: 10, to: 30, bytes: 20, ended: true },
      { from: 0, to: undefined, ended: true },
      { ended: false },
    ]);
    const target = counting(new MemoryContent());
    await target.end.put(d, () => read(image.content, d));
    await target.end.put(d, () => read(image.content, d));
    expect(target.counts.calls.put).toBe(2);
    expect(target.counts.bytesPut).toBe(d.size);
  });
});
