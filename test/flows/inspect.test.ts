import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { blobsOf, walk } from '../../worker/content/graph.ts';
import { inspect, rawManifest } from '../../worker/images/inspect.ts';
import { collect } from '../support/chunks.ts';
import { makeImage } from '../support/images.ts';
import { sentenceOf, openLab, requestsDuring } from '../support/lab.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, registry, bucket } = lab.stack;

test('an image is described alike wherever it is, without one byte of a layer', async () => {
  const image = await makeImage({ signed: true });
  const { digest, mediaType } = image.root.descriptor;
  const graph = await walk(image.content, [image.root]);
  const all = [...blobsOf(graph), ...[...graph.manifests.values()].map((node) => node.descriptor)];
  const at = `docker://${registry.host}/inspected/app:v1`;
  await lab.push(image, registry, 'inspected/app');
  const places = [at];
  for (const to of [
    `docker://${ecr.registryHost}/inspected/app:v1`,
    `s3://${bucket}/inspected.tar`,
    `oci-archive:${join(lab.folder, 'inspected.tar')}`,
    `oci:${join(lab.folder, 'inspected')}:v1`,
  ]) {
    await lab.session().copy(at, to);
    places.push(to);
  }
  const bytes = await collect(await image.content.open(image.root.descriptor));
  for (const place of places) {
    const { backends, options } = lab.session();
    const found = await inspect(place, backends, options);
    expect(found).toMatchObject({
      at: place,
      digest,
      mediaType,
      tags: ['v1'],
      totalBytes: all.reduce((sum, d) => sum + d.size, 0),
      images: [
        { platform: 'linux/amd64', layers: 3 },
        { platform: 'linux/arm64', layers: 3 },
      ],
      foreign: [],
    });
    expect(found.referrers.map((referrer) => String(referrer.artifactType)).sort()).toEqual(
      graph.referrers
        .map(({ descriptor }) => {
          const manifest = graph.manifests.get(descriptor.digest)?.manifest;
          return manifest?.kind === 'image' ? (manifest.artifactType ?? manifest.config.mediaType) : 'undefined';
        })
        .sort(),
    );
    expect(Buffer.from(await rawManifest(place, backends, options))).toEqual(bytes);
  }
  const counts = await requestsDuring(registry, async () => {
    const { backends, options } = lab.session();
    await inspect(at, backends, options);
  });
  expect(counts['blob-get']).toBeUndefined();
});

test('an image that is not there is NOT_FOUND, and its name is said', async () => {
  const { backends, options } = lab.session();
  const at = `docker://${registry.host}/not/inspected:v1`;
  const message = await sentenceOf(inspect(at, backends, options), 'NOT_FOUND');
  expect(message).toContain(`${registry.host}/not/inspected:v1`);
});
