import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { streamArchive, unpacked } from '../../../worker/archive/compressed-writer.ts';
import type { Event } from '../../../worker/util/events.ts';
import { archiveImage, planOf, REPOSITORY } from '../../support/archives.ts';
import { CHUNK_SIZES, chunked, collect, lent, LENT_SIZES } from '../../support/chunks.ts';
import { corrupting, lending, rechunked } from '../../support/faulty-content.ts';
import { makeImage } from '../../support/images.ts';
import { MemoryObjects } from '../../support/memory-objects.ts';

describe.each([
  ['app.tar.gz', 'gzip', gunzipSync],
  ['app.tar.zst', 'zstd', zstdDecompressSync],
] as const)('%s', (key, compression, decompress) => {
  test('unpacks to the plain archive, and is the same file every time', async () => {
    const { content, root } = await makeImage({ signed: true });
    const layout = await planOf(content, root);
    const store = new MemoryObjects();
    await archiveImage(content, root, store, 'plain.tar');
    const { metadata } = await streamArchive(store, key, layout, content);
    expect(metadata).toEqual({
      'transship-format': '1',
      'transship-root': root.descriptor.digest,
      'transship-source': `${REPOSITORY}:v1`,
      'transship-layout': layout.digest,
    });
    const first = store.bytesOf(key);
    expect(Buffer.compare(decompress(first), store.bytesOf('plain.tar'))).toBe(0);
    await streamArchive(store, key, layout, content);
    expect(Buffer.compare(store.bytesOf(key), first)).toBe(0);
    // no time, no name, no system
    if (compression === 'gzip') expect(Buffer.from(first.subarray(0, 10)).toString('hex')).toBe('1f8b08000000000000ff');
  });

  test.each(LENT_SIZES)('is the same file from chunks of %i bytes that are lent', async (size) => {
    const { content, root } = await makeImage({ layers: size < 100 ? [3000] : [3000, 600_000] });
    const layout = await planOf(content, root);
    const store = new MemoryObjects();
    await streamArchive(store, 'a.' + key, layout, content);
    await streamArchive(store, 'b.' + key, layout, lending(rechunked(content, size)));
    expect(Buffer.compare(store.bytesOf('b.' + key), store.bytesOf('a.' + key))).toBe(0);
  });

  test('does not become visible when a blob fails verification', async () => {
    const { content, root } = await makeImage();
    const layout = await planOf(content, root);
    const store = new MemoryObjects();
    for (const entry of layout.entries) {
      if (entry.descriptor === undefined) continue;
      const bad = corrupting(content, entry.descriptor.digest);
      await expect(streamArchive(store, key, layout, bad)).rejects.toMatchObject({ code: 'CORRUPT' });
    }
    await expect(store.stat(key)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test('keeps its condition', async () => {
    const { content, root } = await makeImage();
    const store = new MemoryObjects();
    await store.write(key, Buffer.from('x'));
    const writing = streamArchive(store, key, await planOf(content, root), content, { condition: { ifAbsent: true } });
    await expect(writing).rejects.toMatchObject({ code: 'CONFLICT' });
  });

  test('stops when it is aborted', async () => {
    const { content, root } = await makeImage({ layers: [500_000] });
    const store = new MemoryObjects();
    const stop = new AbortController();
    const report = (event: Event): void => {
      if (event.type === 'blob-done') stop.abort();
    };
    const writing = streamArchive(store, key, await planOf(content, root), content, { signal: stop.signal, report });
    await expect(writing).rejects.toMatchObject({ code: 'ABORTED' });
    await expect(store.stat(key)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test('reports its progress like a copy', async () => {
    const { content, root } = await makeImage();
    const layout = await planOf(content, root);
    const events: Event[] = [];
    await streamArchive(new MemoryObjects(), key, layout, content, { report: (event) => events.push(event) });
    const blobs = layout.entries.filter((entry) => entry.descriptor !== undefined);
    const bytes = blobs.reduce((sum, entry) => sum + entry.size, 0);
    expect(events[0]).toMatchObject({ type: 'planned', blobs: blobs.length, bytes });
    const done = events.filter((event) => event.type === 'blob-done');
    expect(done.map((event) => event.digest)).toEqual(blobs.map((entry) => entry.descriptor?.digest));
    const moved = events.filter((event) => event.type === 'blob-progress').reduce((sum, event) => sum + event.bytes, 0);
    expect(moved).toBe(bytes);
  });

  test.each(CHUNK_SIZES)('is unpacked from chunks of %i bytes', async (size) => {
    const { content, root } = await makeImage({ layers: [3000] });
    const store = new MemoryObjects();
    await streamArchive(store, key, await planOf(content, root), content);
    // twice: a second member or frame begins anywhere in a chunk
    const twice = Buffer.concat([store.bytesOf(key), store.bytesOf(key)]);
    const plain = decompress(store.bytesOf(key));
    const got = await collect(unpacked(lent(chunked(twice, size)), compression));
    expect(Buffer.compare(got, Buffer.concat([plain, plain]))).toBe(0);
  });

  test('closes its source when it is abandoned', async () => {
    let closed = false;
    const body = (async function* () {
      try {
        const { content, root } = await makeImage();
        const store = new MemoryObjects();
        await streamArchive(store, key, await planOf(content, root), content);
        for (;;) yield* chunked(store.bytesOf(key), 1000);
      } finally {
        closed = true;
      }
    })();
    for await (const chunk of unpacked(body, compression)) {
      expect(chunk.byteLength).toBeGreaterThan(0);
      break;
    }
    expect(closed).toBe(true);
  });
});
