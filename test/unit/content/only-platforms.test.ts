import assert from 'node:assert/strict';
import { test } from 'vitest';
import { readAll } from '../../../worker/content/read.ts';
import { walk } from '../../../worker/content/graph.ts';
import { MemoryContent } from '../../../worker/content/memory.ts';
import { copy } from '../../../worker/copy/copy.ts';
import { onlyPlatforms, ORIGINAL_DIGEST } from '../../../worker/content/only-platforms.ts';
import { MAX_MANIFEST_BYTES, MEDIA_TYPE, parseManifest, parsePlatform } from '../../../worker/oci/manifest.ts';
import { isFailure } from '../../../worker/util/failure.ts';
import { addJson, makeImage } from '../../support/images.ts';

const three = ['linux/amd64', 'linux/arm64', 'linux/arm/v7'];

test('the index is rewritten with the chosen platforms and names the original', async () => {
  const { content, root } = await makeImage({ platforms: three });
  const only = onlyPlatforms(content, [parsePlatform('linux/arm64')]);
  const chosen = await only.resolve('v1');
  assert.notEqual(chosen.digest, root.descriptor.digest);
  const index = parseManifest(await readAll(only, chosen, MAX_MANIFEST_BYTES), chosen.mediaType);
  assert.ok(index.kind === 'index');
  assert.deepEqual(
    index.manifests.map((d) => d.platform?.architecture),
    ['arm64'],
  );
  assert.equal(index.annotations?.[ORIGINAL_DIGEST], root.descriptor.digest);
});

test('the same choice gives the same digest, whatever its order', async () => {
  const { content } = await makeImage({ platforms: three });
  const choose = async (...names: string[]) =>
    (await onlyPlatforms(content, names.map(parsePlatform)).resolve('v1')).digest;
  assert.equal(await choose('linux/amd64', 'linux/arm64'), await choose('linux/arm64', 'linux/amd64'));
});

test('all platforms chosen leave the index unchanged', async () => {
  const { content, root } = await makeImage({ platforms: three });
  assert.equal((await onlyPlatforms(content, three.map(parsePlatform)).resolve('v1')).digest, root.descriptor.digest);
});

test('a copy of the choice is complete, and has nothing of the others', async () => {
  const { content, root } = await makeImage({ platforms: three, signed: true });
  const only = onlyPlatforms(content, [parsePlatform('linux/amd64')]);
  const target = new MemoryContent();
  const descriptor = await only.resolve('v1');
  const result = await copy(only, target, [{ descriptor, tags: ['v1'] }]);
  // the child's cosign signature is copied; those of the old index are about another digest
  assert.equal(result.referrers.length, 1);
  const others = (await walk(content, [root])).manifests;
  const copied = (await walk(target, [{ descriptor, tags: [] }])).manifests;
  assert.equal([...copied.keys()].filter((digest) => others.has(digest)).length, 2);
});

test('attestations of the chosen platforms are kept', async () => {
  const content = new MemoryContent();
  const config = content.add(MEDIA_TYPE.ociConfig, Buffer.from('{"os":"linux","architecture":"amd64"}'));
  const image = addJson(content, MEDIA_TYPE.ociManifest, { schemaVersion: 2, config, layers: [] });
  const other = addJson(content, MEDIA_TYPE.ociManifest, {
    schemaVersion: 2,
    config,
    layers: [],
    annotations: { n: '2' },
  });
  const attestation = addJson(content, MEDIA_TYPE.ociManifest, {
    schemaVersion: 2,
    config,
    layers: [],
    annotations: { n: '3' },
  });
  const index = addJson(content, MEDIA_TYPE.ociIndex, {
    schemaVersion: 2,
    manifests: [
      { ...image, platform: { os: 'linux', architecture: 'amd64' } },
      { ...other, platform: { os: 'linux', architecture: 's390x' } },
      {
        ...attestation,
        platform: { os: 'unknown', architecture: 'unknown' },
        annotations: { 'vnd.docker.reference.digest': image.digest },
      },
    ],
  });
  const only = onlyPlatforms(content, [parsePlatform('linux/amd64')]);
  const chosen = await only.resolve(index.digest);
  const kept = parseManifest(await readAll(only, chosen, MAX_MANIFEST_BYTES), chosen.mediaType);
  assert.ok(kept.kind === 'index');
  assert.deepEqual(
    kept.manifests.map((d) => d.digest),
    [image.digest, attestation.digest],
  );
});

test('a missing platform is refused with the list of those that exist', async () => {
  const { content } = await makeImage({ platforms: three });
  await assert.rejects(
    onlyPlatforms(content, [parsePlatform('windows/amd64')]).resolve('v1'),
    (error) =>
      isFailure(error, 'NOT_FOUND') &&
      /no image for windows\/amd64; it has linux\/amd64, linux\/arm64, linux\/arm\/v7/.test(error.message),
  );
});

test('an image without an index must have the platform itself', async () => {
  const { content, root } = await makeImage({ platforms: ['linux/arm64'] });
  assert.equal(
    (await onlyPlatforms(content, [parsePlatform('linux/arm64')]).resolve('v1')).digest,
    root.descriptor.digest,
  );
  assert.equal(
    (await onlyPlatforms(content, [parsePlatform('linux/arm64/v8')]).resolve('v1')).digest,
    root.descriptor.digest,
  );
  await assert.rejects(
    onlyPlatforms(content, [parsePlatform('linux/amd64')]).resolve('v1'),
    /is an image for linux\/arm64 only/,
  );
});
