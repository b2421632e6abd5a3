import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { MemoryContent } from '../../worker/content/memory.ts';
import { blobsOf, walk } from '../../worker/content/graph.ts';
import { inspect, rawManifest } from '../../worker/images/inspect.ts';
import { MEDIA_TYPE } from '../../worker/oci/manifest.ts';
import { collect } from '../support/chunks.ts';
import { commandLine } from '../support/command-line.ts';
import { addJson, makeImage } from '../support/images.ts';
import { sentenceOf, openLab, requestsDuring } from '../support/lab.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, registry, bucket } = lab.stack;

test('an image is described alike wherever it is, without reading any byte of a layer', async () => {
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
  // the configs of two platforms
  expect(counts['blob-get']).toBe(2);
});

describe('transship inspect', () => {
  const config = {
    created: '2026-11-30T12:34:56.789Z',
    author: 'Ann',
    os: 'linux',
    architecture: 'amd64',
    config: {
      User: '1000',
      Env: ['PATH=/bin', 5],
      Entrypoint: ['/app', 'a b'],
      Cmd: ['--serve'],
      WorkingDir: '/srv',
      ExposedPorts: { '8080/tcp': {} },
      Volumes: { '/data': {} },
      Labels: { 'org.opencontainers.image.version': '1.2.3', steering: 'x\u001b[31m' },
    },
    rootfs: { type: 'layers', diff_ids: [] },
  };

  /** An image of one platform with this config. */
  async function push(name: string, document: string): Promise<string> {
    const content = new MemoryContent();
    const of = content.add(MEDIA_TYPE.ociConfig, Buffer.from(document));
    const layer = content.add(MEDIA_TYPE.ociLayer, Buffer.alloc(2048));
    const manifest = addJson(content, MEDIA_TYPE.ociManifest, {
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.ociManifest,
      config: of,
      layers: [layer],
      annotations: { 'org.opencontainers.image.source': 'https://example.com/app' },
    });
    await lab.push({ content, root: { descriptor: manifest, tags: ['v1'] } }, registry, name);
    return `${registry.host}/${name}:v1`;
  }

  const transship = commandLine({ ...lab.stack.environment, HOME: lab.folder });

  test('prints config, labels, annotations and layers', async () => {
    const at = await push('inspected/config', JSON.stringify(config));
    const { code, stdout, stderr } = await transship('inspect', at, '-q');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain('annotations\n  org.opencontainers.image.source=https://example.com/app\n');
    expect(stdout).toMatch(/^linux\/amd64 +1 +\S+ \S+ +2026-11-30T12:34:56 +sha256:/m);
    expect(stdout).toContain(
      `${[
        'created    2026-11-30T12:34:56.789Z',
        'author     Ann',
        'user       1000',
        'folder     /srv',
        'entrypoint ["/app","a b"]',
        'command    ["--serve"]',
        'ports      8080/tcp',
        'volumes    /data',
        'labels',
        '  org.opencontainers.image.version=1.2.3',
        '  steering=x [31m',
        'environment',
        '  PATH=/bin',
      ].join('\n')}\n`,
    );
    expect(stdout).toMatch(/^ +1 +2\.00 KiB +application\/vnd\.oci\.image\.layer\.v1\.tar +sha256:/m);
    const { stdout: json } = await transship('inspect', at, '-q', '--json');
    expect(JSON.parse(json)).toMatchObject({
      annotations: { 'org.opencontainers.image.source': 'https://example.com/app' },
      images: [{ config: { cmd: ['--serve'], labels: config.config.Labels }, layerBlobs: [{ size: 2048 }] }],
    });
  });

  test('prints the requested platform, or lists the platforms when it is missing', async () => {
    await lab.push(await makeImage(), registry, 'inspected/platforms');
    const at = `${registry.host}/inspected/platforms:v1`;
    expect((await transship('inspect', at, '-q', '--platform', 'linux/arm64')).stdout).toContain(
      '  PLATFORM=linux/arm64\n',
    );
    expect((await transship('inspect', at, '-q')).stdout).toContain(
      '\nlinux/amd64:\nenvironment\n  PLATFORM=linux/amd64\n',
    );
    expect(await transship('inspect', at, '-q', '--platform', 'linux/s390x')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('no image is for "linux/s390x", but for linux/amd64, linux/arm64') as unknown,
    });
  });

  test('prints an image whose config cannot be read, with the reason', async () => {
    const at = await push('inspected/odd', 'not JSON');
    const { code, stdout } = await transship('inspect', at, '-q');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^config +cannot be read: read the config sha256:[0-9a-f]+: it is not JSON$/m);
  });
});

test('an image that does not exist is NOT_FOUND, and the message names it', async () => {
  const { backends, options } = lab.session();
  const at = `docker://${registry.host}/not/inspected:v1`;
  const message = await sentenceOf(inspect(at, backends, options), 'NOT_FOUND');
  expect(message).toContain(`${registry.host}/not/inspected:v1`);
});
