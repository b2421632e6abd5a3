import { createCipheriv, createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { createGzip } from 'node:zlib';
import { pack } from 'tar-stream';
import { digestOf, hexOf, type Digest } from '../worker/oci/digest.ts';
import { ANNOTATION, MEDIA_TYPE, type Descriptor, type Platform } from '../worker/oci/manifest.ts';

export interface SampleImage {
  /** The image's index. */
  readonly root: Descriptor;
  readonly layers: number;
  /** Bytes of all blobs and manifests. */
  readonly bytes: number;
}

export interface SampleRecipe {
  readonly tag: string;
  readonly platforms: readonly Platform[];
  /** Bytes of the layers of each platform, the lowest first; they hardly compress. */
  readonly layerBytes: readonly number[];
  /** Goes into the topmost layer of each platform: another version is another image that shares all other layers. */
  readonly version: string;
  /** Of gzip: 0 packs without compressing, which is quick. Default 1. */
  readonly compression?: number;
}

/**
 * Writes an image as an OCI layout folder: layers that are real tars, a config for each platform, an index, and what a careful build adds: an
 * SBOM and a signature that refer to the index (OCI 1.1), and cosign's signature tag for each platform. The same recipe gives the same bytes.
 */
export async function writeSampleImage(folder: string, recipe: SampleRecipe): Promise<SampleImage> {
  const blobs = join(folder, 'blobs', 'sha256');
  await mkdir(blobs, { recursive: true });
  const written = new Map<Digest, number>();
  const put = async (mediaType: string, bytes: Uint8Array): Promise<Descriptor> => {
    const d = { mediaType, digest: digestOf(bytes), size: bytes.byteLength };
    if (!written.has(d.digest)) await writeFile(join(blobs, hexOf(d.digest)), bytes);
    written.set(d.digest, d.size);
    return d;
  };
  const putJson = (mediaType: string, value: object): Promise<Descriptor> =>
    put(mediaType, Buffer.from(JSON.stringify(value)));
  const artifact = async (artifactType: string, text: string, subject?: Descriptor): Promise<Descriptor> => ({
    ...(await putJson(MEDIA_TYPE.ociManifest, {
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.ociManifest,
      artifactType,
      config: await put(MEDIA_TYPE.ociEmpty, Buffer.from('{}')),
      layers: [await put(artifactType, Buffer.from(text))],
      ...(subject === undefined ? {} : { subject }),
    })),
    artifactType,
  });

  const images: Descriptor[] = [];
  let layers = 0;
  for (const platform of recipe.platforms) {
    const made: Descriptor[] = [];
    const diffIds: Digest[] = [];
    for (const [i, size] of recipe.layerBytes.entries()) {
      const top = i === recipe.layerBytes.length - 1;
      const layer = await makeLayer(
        `${platform.architecture}/${i}${top ? `/${recipe.version}` : ''}`,
        size,
        recipe.compression ?? 1,
      );
      made.push(await put(MEDIA_TYPE.ociLayerGzip, layer.bytes));
      diffIds.push(layer.diffId);
      layers++;
    }
    const config = await putJson(MEDIA_TYPE.ociConfig, {
      ...platform,
      config: { Env: [`VERSION=${recipe.version}`], Cmd: ['/bin/true'] },
      rootfs: { type: 'layers', diff_ids: diffIds },
      history: diffIds.map((_, i) => ({ created_by: `layer ${i}` })),
    });
    const manifest = await putJson(MEDIA_TYPE.ociManifest, {
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.ociManifest,
      config,
      layers: made,
    });
    images.push({ ...manifest, platform });
  }
  const root = await putJson(MEDIA_TYPE.ociIndex, {
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.ociIndex,
    manifests: images,
  });
  const entries: Descriptor[] = [
    { ...root, annotations: { [ANNOTATION.refName]: recipe.tag } },
    await artifact('application/spdx+json', `{"spdxVersion":"SPDX-2.3","name":"sample ${recipe.version}"}`, root),
    await artifact('application/vnd.dev.cosign.artifact.sig.v1+json', `signature of ${root.digest}`, root),
  ];
  for (const image of images) {
    const signature = await artifact(
      'application/vnd.dev.cosign.simplesigning.v1+json',
      `signature of ${image.digest}`,
    );
    entries.push({ ...signature, annotations: { [ANNOTATION.refName]: `${image.digest.replace(':', '-')}.sig` } });
  }
  await writeFile(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  const index = { schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests: entries };
  await writeFile(join(folder, 'index.json'), JSON.stringify(index));
  return { root, layers, bytes: [...written.values()].reduce((sum, size) => sum + size, 0) };
}

/** A gzipped tar of a few files whose content looks random. */
async function makeLayer(
  seed: string,
  size: number,
  level: number,
): Promise<{ readonly bytes: Buffer; readonly diffId: Digest }> {
  const tar = pack();
  const hash = createHash('sha256');
  const gzip = createGzip({ level });
  const compressed = buffer(gzip);
  const fed = (async () => {
    for await (const chunk of tar as AsyncIterable<Buffer>) {
      hash.update(chunk);
      if (!gzip.write(chunk)) await once(gzip, 'drain');
    }
    gzip.end();
  })();
  const key = createHash('sha256').update(seed).digest();
  const stream = createCipheriv('aes-128-ctr', key.subarray(0, 16), key.subarray(16));
  for (let left = size, n = 0; left > 0; n++) {
    const content = stream.update(Buffer.alloc(Math.min(left, 1024 * 1024)));
    tar.entry({ name: `srv/${seed}/part-${n}`, mode: 0o644, mtime: new Date(0), uid: 0, gid: 0 }, content);
    left -= content.byteLength;
  }
  tar.finalize();
  await fed;
  return { bytes: await compressed, diffId: `sha256:${hash.digest('hex')}` };
}
