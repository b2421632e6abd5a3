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
  /** Level of gzip: 0 packs without compressing, which is quick. Default 1. */
  readonly compression?: number;
}

/**
 * Writes an image as an OCI layout folder: layers that are real tars, a config for each platform, an index, and what a careful build adds: an
 * SBOM and a signature that refer to the index (OCI 1.1), and cosign's signature tag for each platform. The same recipe gives the same bytes.
 */
export async function writeSampleImage(folder: string, recipe: SampleRecipe): Promise<SampleImage> {
  const blobs = await openBlobs(folder);
  const images: Descriptor[] = [];
  for (const platform of recipe.platforms) images.push(await writeImage(blobs, platform, recipe));
  const root = await blobs.putJson(MEDIA_TYPE.ociIndex, {
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.ociIndex,
    manifests: images,
  });
  const manifests: Descriptor[] = [
    { ...root, annotations: { [ANNOTATION.refName]: recipe.tag } },
    await writeArtifact(blobs, 'application/spdx+json', {
      text: `{"spdxVersion":"SPDX-2.3","name":"sample ${recipe.version}"}`,
      subject: root,
    }),
    await writeArtifact(blobs, 'application/vnd.dev.cosign.artifact.sig.v1+json', {
      text: `signature of ${root.digest}`,
      subject: root,
    }),
  ];
  for (const image of images) {
    const text = `signature of ${image.digest}`;
    const signature = await writeArtifact(blobs, 'application/vnd.dev.cosign.simplesigning.v1+json', { text });
    manifests.push({ ...signature, annotations: { [ANNOTATION.refName]: `${image.digest.replace(':', '-')}.sig` } });
  }
  await writeFile(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  const index = { schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests };
  await writeFile(join(folder, 'index.json'), JSON.stringify(index));
  return { root, layers: recipe.platforms.length * recipe.layerBytes.length, bytes: blobs.bytes };
}

/** The blobs of one OCI layout. */
interface Blobs {
  put(mediaType: string, bytes: Uint8Array): Promise<Descriptor>;
  putJson(mediaType: string, value: object): Promise<Descriptor>;
  /** Bytes of all that was put, each blob once. */
  readonly bytes: number;
}

async function openBlobs(folder: string): Promise<Blobs> {
  const blobs = join(folder, 'blobs', 'sha256');
  await mkdir(blobs, { recursive: true });
  const written = new Map<Digest, number>();
  const put = async (mediaType: string, bytes: Uint8Array): Promise<Descriptor> => {
    const descriptor = { mediaType, digest: digestOf(bytes), size: bytes.byteLength };
    if (!written.has(descriptor.digest)) await writeFile(join(blobs, hexOf(descriptor.digest)), bytes);
    written.set(descriptor.digest, descriptor.size);
    return descriptor;
  };
  return {
    put,
    putJson: async (mediaType, value) => put(mediaType, Buffer.from(JSON.stringify(value))),
    get bytes() {
      return [...written.values()].reduce((sum, size) => sum + size, 0);
    },
  };
}

/** The image of one platform. */
async function writeImage(blobs: Blobs, platform: Platform, recipe: SampleRecipe): Promise<Descriptor> {
  const layers: Descriptor[] = [];
  const diffIds: Digest[] = [];
  for (const [index, size] of recipe.layerBytes.entries()) {
    const isTop = index === recipe.layerBytes.length - 1;
    const seed = `${platform.architecture}/${index}${isTop ? `/${recipe.version}` : ''}`;
    const layer = await makeLayer(seed, size, recipe.compression ?? 1);
    layers.push(await blobs.put(MEDIA_TYPE.ociLayerGzip, layer.bytes));
    diffIds.push(layer.diffId);
  }
  const config = await blobs.putJson(MEDIA_TYPE.ociConfig, {
    ...platform,
    config: { Env: [`VERSION=${recipe.version}`], Cmd: ['/bin/true'] },
    rootfs: { type: 'layers', diff_ids: diffIds },
    history: diffIds.map((_, index) => ({ created_by: `layer ${index}` })),
  });
  const manifest = await blobs.putJson(MEDIA_TYPE.ociManifest, {
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.ociManifest,
    config,
    layers,
  });
  return { ...manifest, platform };
}

/** A manifest of one blob, which refers to `subject` where there is one. */
async function writeArtifact(
  blobs: Blobs,
  artifactType: string,
  content: { readonly text: string; readonly subject?: Descriptor },
): Promise<Descriptor> {
  const { text, subject } = content;
  const manifest = await blobs.putJson(MEDIA_TYPE.ociManifest, {
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.ociManifest,
    artifactType,
    config: await blobs.put(MEDIA_TYPE.ociEmpty, Buffer.from('{}')),
    layers: [await blobs.put(artifactType, Buffer.from(text))],
    ...(subject === undefined ? {} : { subject }),
  });
  return { ...manifest, artifactType };
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
