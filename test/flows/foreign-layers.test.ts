import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, onTestFinished, test } from 'vitest';
import { blobsOf, walk } from '../../worker/content/graph.ts';
import { MemoryContent } from '../../worker/content/memory.ts';
import { openImage } from '../../worker/archive/reader.ts';
import { backup } from '../../worker/images/backup.ts';
import { verify, type VerifyResult } from '../../worker/images/verify.ts';
import { MEDIA_TYPE, type Descriptor } from '../../worker/oci/manifest.ts';
import { addJson, makeImage, seededBytes, type MadeImage } from '../support/images.ts';
import { openLab, requestsDuring } from '../support/lab.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, registry, bucket } = lab.stack;

const FOREIGN = 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip';

interface Windows extends MadeImage {
  readonly base: Descriptor;
}

/** A Windows image whose base layer is foreign, with the layer or without. */
async function windows(seed: string, pushed: 'with its base layer' | 'without its base layer'): Promise<Windows> {
  const content = new MemoryContent();
  const holder = pushed === 'with its base layer' ? content : new MemoryContent();
  const base = { ...holder.add(FOREIGN, seededBytes(`base of ${seed}`, 3000)), urls: ['http://127.0.0.1:1/gone'] };
  const own = content.add(MEDIA_TYPE.dockerLayerGzip, seededBytes(`layer of ${seed}`, 3000));
  const config = addJson(content, MEDIA_TYPE.dockerConfig, { os: 'windows', architecture: 'amd64', seed });
  const descriptor = addJson(content, MEDIA_TYPE.dockerManifest, { schemaVersion: 2, config, layers: [base, own] });
  await content.tag('v1', descriptor, async function* () {});
  return { content, root: { descriptor, tags: ['v1'] }, base };
}

const from = (name: string): string => `docker://${registry.registryHost}/${name}:v1`;

async function verifyAt(at: string, deep = false): Promise<VerifyResult | undefined> {
  const { backends, options } = lab.session();
  return (await verify({ at, depth: deep ? 'bytes' : undefined }, backends, options))[0];
}

describe('a foreign layer that the registry has', () => {
  test('is in the archive, and in the registry to which the archive is restored', async () => {
    const image = await windows('kept', 'with its base layer');
    await lab.push(image, registry, 'kept/app');
    const session = lab.session();
    for (const key of ['foreign/kept.tar', 'foreign/kept.tar.gz']) {
      const at = `s3://${bucket}/${key}`;
      expect(await session.copy(from('kept/app'), at)).toMatchObject({ outcome: 'copied', foreign: [] });
      expect(await session.copy(from('kept/app'), at)).toMatchObject({ outcome: 'unchanged', foreign: [] });
      expect(await verifyAt(at)).toMatchObject({ complete: true, foreign: [], faults: [], blobs: 3 });
      const target = `kept/${key.endsWith('gz') ? 'gzip' : 'plain'}`;
      await session.copy(at, `docker://${ecr.registryHost}/${target}:v1`);
      expect(await lab.view(ecr, target).has(image.base)).toBe(true);
    }
    const archive = await openImage(session.backends.bucket(bucket), 'foreign/kept.tar');
    expect(archive.layoutDigest).toBeDefined();
    const { digest, size, mediaType, urls } = image.base;
    expect(blobsOf(await walk(archive, [archive.root]))).toContainEqual({ digest, size, mediaType, urls });
  });

  test('is in a mirror', async () => {
    const image = await windows('mirrored', 'with its base layer');
    await lab.push(image, registry, 'mirrored/app');
    const result = await lab.session().copy(from('mirrored/app'), `docker://${ecr.registryHost}/mirrored/app`);
    expect(result).toMatchObject({ foreign: [], copied: { tallies: { copied: { count: 4 } } } });
    expect(await lab.view(ecr, 'mirrored/app').has(image.base)).toBe(true);
    expect(await verifyAt(`docker://${ecr.registryHost}/mirrored/app:v1`)).toMatchObject({ foreign: [], faults: [] });
  });

  test('does not fail the image where the target refuses it', async () => {
    const image = await windows('refused', 'with its base layer');
    await lab.push(image, registry, 'refused/app');
    const target = await lab.registry({ mode: 'oci' });
    target.faults.add(
      { operation: 'upload-put', digest: image.base.digest, times: 20 },
      { kind: 'answer', status: 400 },
    );
    const session = lab.session();
    const result = await session.copy(from('refused/app'), `docker://${target.registryHost}/refused/app`);
    expect(result).toMatchObject({ outcome: 'copied', foreign: [{ digest: image.base.digest }] });
    expect(await lab.view(target, 'refused/app').resolve('v1')).toMatchObject({ digest: result.digest });
    expect(session.events.filter((event) => event.type === 'warning')).toHaveLength(1);
  });
});

describe('a foreign layer that is elsewhere', () => {
  test('makes a copy, a backup and its verification incomplete', async () => {
    const image = await windows('elsewhere', 'without its base layer');
    await lab.push(image, registry, 'elsewhere/app');
    const session = lab.session();
    const foreign = [{ digest: image.base.digest }];
    const to = `docker://${ecr.registryHost}/elsewhere/app`;
    expect(await session.copy(from('elsewhere/app'), to)).toMatchObject({ outcome: 'copied', foreign });
    const request = { from: from('elsewhere/app'), to: `s3://${bucket}/foreign/elsewhere-{tag}.tar` };
    for (const outcome of ['copied', 'unchanged']) {
      const { items } = await backup(request, session.backends, session.options);
      expect(items).toMatchObject([{ outcome, result: { foreign } }]);
    }
    for (const at of [`s3://${bucket}/foreign/elsewhere-v1.tar`, `${to}:v1`]) {
      expect(await verifyAt(at, true)).toMatchObject({ foreign: [image.base.digest], faults: [] });
    }
  });
});

/** Deletes the base layer from the registry. */
function lose(image: Windows): void {
  registry.faults.add(
    { operation: 'blob-get', digest: image.base.digest, times: Infinity },
    { kind: 'answer', status: 404, code: 'BLOB_UNKNOWN' },
  );
  onTestFinished(() => registry.faults.clear());
}

/** Gives the image one more referrer, which changes its archive. */
async function sign(image: Windows, name: string): Promise<void> {
  const signature = addJson(image.content, MEDIA_TYPE.ociManifest, {
    schemaVersion: 2,
    artifactType: 'text/plain',
    config: image.content.add(MEDIA_TYPE.ociEmpty, Buffer.from('{}')),
    layers: [],
    subject: image.root.descriptor,
  });
  await lab.push({ ...image, root: { descriptor: signature, tags: [] } }, registry, name);
}

describe('a foreign layer that the registry has lost since it was archived', () => {
  test('is not kept where its bytes in the archive are damaged, and a warning is logged', async () => {
    const image = await windows('damaged', 'with its base layer');
    await lab.push(image, registry, 'lost/damaged');
    const file = join(lab.folder, 'damaged.tar');
    const session = lab.session();
    await session.copy(from('lost/damaged'), `oci-archive:${file}`);
    const bytes = await readFile(file);
    const place = bytes.indexOf(seededBytes('base of damaged', 3000));
    bytes[place] = (bytes[place] ?? 0) ^ 1;
    await writeFile(file, bytes);
    lose(image);
    await sign(image, 'lost/damaged');
    const foreign = [{ digest: image.base.digest }];
    expect(await session.copy(from('lost/damaged'), `oci-archive:${file}`)).toMatchObject({
      outcome: 'copied',
      foreign,
    });
    expect(session.events).toContainEqual({ type: 'warning', message: expect.stringContaining('is damaged') });
    expect(await verifyAt(`oci-archive:${file}`)).toMatchObject({ foreign: [image.base.digest], faults: [] });
  });

  test.each(['tar', 'tar.gz'])('stays in the .%s, also in one that replaces it', async (ending) => {
    const image = await windows(`lost ${ending}`, 'with its base layer');
    const name = `lost/${ending.replace('.', '-')}`;
    await lab.push(image, registry, name);
    const at = `s3://${bucket}/foreign/lost.${ending}`;
    const session = lab.session();
    expect(await session.copy(from(name), at)).toMatchObject({ outcome: 'copied', foreign: [] });
    lose(image);
    expect(await session.copy(from(name), at)).toMatchObject({ outcome: 'unchanged', foreign: [] });
    await sign(image, name);
    expect(await session.copy(from(name), at)).toMatchObject({ outcome: 'copied', foreign: [] });
    expect(await verifyAt(at)).toMatchObject({ complete: true, foreign: [], faults: [], manifests: 2 });
  });
});

test('an image without foreign layers costs no request for them', async () => {
  const image = await makeImage({ platforms: ['linux/amd64'], seed: 3 });
  await lab.push(image, registry, 'plain/app');
  const { backends, options } = lab.session();
  const requests = await requestsDuring(registry, async () => {
    await walk(backends.registry(registry.registryHost, 'source').repository('plain/app'), [image.root], options);
  });
  expect(requests['blob-get']).toBeUndefined();
  expect(requests['blob-head']).toBeUndefined();
});
