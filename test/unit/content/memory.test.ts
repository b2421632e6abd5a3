import { describe, expect, test } from 'vitest';
import { MemoryContent } from '../../../worker/content/memory.ts';
import { read } from '../../../worker/content/read.ts';
import { MEDIA_TYPE } from '../../../worker/oci/manifest.ts';
import { collect } from '../../support/chunks.ts';
import { addJson, makeImage } from '../../support/images.ts';
import { sourceSuite } from '../../contracts/source.ts';
import { targetSuite } from '../../contracts/target.ts';

sourceSuite('memory', async (image) => ({ source: image.content }));

targetSuite('memory', async () => {
  const content = new MemoryContent();
  return { target: content, view: async () => content };
});

describe('memory', () => {
  test('describes what is added to it, and returns it', async () => {
    const content = new MemoryContent();
    const d = content.add('text/plain', Buffer.from('abc'));
    expect(d).toEqual({
      mediaType: 'text/plain',
      digest: 'sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
      size: 3,
    });
    expect(await collect(read(content, d))).toEqual(Buffer.from('abc'));
  });

  test('does not use the bytes of a manifest that was put as a blob for the manifest', async () => {
    const { content, root } = await makeImage({ platforms: ['linux/amd64'] });
    const bytes = await collect(await content.open(root.descriptor));
    const other = new MemoryContent();
    other.add('application/octet-stream', bytes);
    expect(await other.has(root.descriptor)).toBe(false);
    await expect(other.put(root.descriptor, () => read(content, root.descriptor))).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    await expect(other.resolve(root.descriptor.digest)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test.each([
    [
      'without its foreign layer, whose bytes are elsewhere',
      'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
      true,
    ],
    ['only with a layer that could also be had elsewhere', MEDIA_TYPE.dockerLayerGzip, false],
  ])('accepts a manifest %s', async (_, mediaType, taken) => {
    const made = new MemoryContent();
    const layer = { ...made.add(mediaType, Buffer.from('layer')), urls: ['https://example.com/layer'] };
    const config = made.add(MEDIA_TYPE.dockerConfig, Buffer.from('{}'));
    const d = addJson(made, MEDIA_TYPE.dockerManifest, { schemaVersion: 2, config, layers: [layer] });
    const content = new MemoryContent();
    await content.put(config, () => read(made, config));
    const putting = content.put(d, () => read(made, d));
    if (taken) await putting;
    else await expect(putting).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(await content.has(d)).toBe(taken);
  });
});
