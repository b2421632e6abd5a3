import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { MemoryContent } from '../../worker/content/memory.ts';
import type { Root } from '../../worker/content/graph.ts';
import type { Bytes } from '../../worker/content/content.ts';
import { MEDIA_TYPE, type Descriptor } from '../../worker/oci/manifest.ts';

export interface ImageRecipe {
  /** Equal seeds give equal images. Default 1. */
  readonly seed?: number;
  /** More than one makes an index. Default linux/amd64 and linux/arm64. */
  readonly platforms?: readonly string[];
  /** Bytes of each layer of each platform. Default 3000, 70000. */
  readonly layers?: readonly number[];
  /** A layer that all platforms share. Default 5000 bytes; 0 for none. */
  readonly sharedLayerBytes?: number;
  readonly tag?: string;
  /** Adds an OCI 1.1 signature and SBOM of the image, a signature of the SBOM, and a cosign .sig tag of each child. Default false. */
  readonly signed?: boolean;
  /** Docker's media types instead of OCI's. Default false. */
  readonly docker?: boolean;
}

export interface MadeImage {
  readonly content: MemoryContent;
  readonly root: Root;
}

/** An image of pseudo-random layers in memory, the same for the same recipe. */
export async function makeImage(recipe: ImageRecipe = {}): Promise<MadeImage> {
  const {
    seed = 1,
    platforms = ['linux/amd64', 'linux/arm64'],
    layers = [3000, 70_000],
    sharedLayerBytes = 5000,
  } = recipe;
  const { tag = 'v1', signed = false, docker = false } = recipe;
  const content = new MemoryContent();
  const shared = sharedLayerBytes === 0 ? [] : [makeLayer(content, `${seed}/shared`, sharedLayerBytes, docker)];
  const images: Descriptor[] = [];
  for (const platform of platforms) {
    const own = layers.map((bytes, i) => makeLayer(content, `${seed}/${platform}/${i}`, bytes, docker));
    images.push(makeManifest(content, platform, [...shared, ...own], docker));
  }
  const top =
    images.length === 1 && images[0] !== undefined
      ? images[0]
      : addJson(content, docker ? MEDIA_TYPE.dockerList : MEDIA_TYPE.ociIndex, { schemaVersion: 2, manifests: images });
  const descriptor: Descriptor = { mediaType: top.mediaType, digest: top.digest, size: top.size };
  await content.tag(tag, descriptor, nothing);
  if (signed) {
    const sbom = makeArtifact(content, 'application/spdx+json', `sbom of ${seed}`, descriptor);
    makeArtifact(content, 'application/vnd.dev.cosign.artifact.sig.v1+json', `signature of ${seed}`, descriptor);
    makeArtifact(content, 'application/vnd.dev.cosign.artifact.sig.v1+json', `signature of the sbom of ${seed}`, sbom);
    for (const image of images) {
      const signature = makeArtifact(content, undefined, `cosign of ${image.digest}`);
      await content.tag(`${image.digest.replace(':', '-')}.sig`, signature, nothing);
    }
  }
  return { content, root: { descriptor, tags: [tag] } };
}

/** `length` bytes that look random and do not compress, the same for the same seed. */
export function seededBytes(seed: string, length: number): Uint8Array {
  const bytes = Buffer.allocUnsafe(length);
  let state = createHash('sha256').update(seed).digest().readUInt32LE(0) | 1;
  for (let index = 0; index < length; index++) {
    // xorshift32
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[index] = state & 0xff;
  }
  return bytes;
}

/** `value` as JSON, stored under `mediaType`. */
export function addJson(content: MemoryContent, mediaType: string, value: object): Descriptor {
  return content.add(
    mediaType,
    Buffer.from(JSON.stringify({ ...value, ...('mediaType' in value ? {} : { mediaType }) })),
  );
}

function makeLayer(content: MemoryContent, seed: string, bytes: number, docker: boolean): Descriptor {
  return content.add(
    docker ? MEDIA_TYPE.dockerLayerGzip : MEDIA_TYPE.ociLayerGzip,
    gzipSync(seededBytes(seed, bytes), { level: 1 }),
  );
}

function makeManifest(
  content: MemoryContent,
  platform: string,
  layers: readonly Descriptor[],
  docker: boolean,
): Descriptor {
  const [os = 'linux', architecture = 'amd64', variant] = platform.split('/');
  const config = content.add(
    docker ? MEDIA_TYPE.dockerConfig : MEDIA_TYPE.ociConfig,
    Buffer.from(
      JSON.stringify({
        os,
        architecture,
        ...(variant === undefined ? {} : { variant }),
        config: { Env: [`PLATFORM=${platform}`] },
        rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.digest) },
      }),
    ),
  );
  const manifest = addJson(content, docker ? MEDIA_TYPE.dockerManifest : MEDIA_TYPE.ociManifest, {
    schemaVersion: 2,
    config,
    layers,
  });
  return { ...manifest, platform: { os, architecture, ...(variant === undefined ? {} : { variant }) } };
}

function makeArtifact(
  content: MemoryContent,
  artifactType: string | undefined,
  text: string,
  subject?: Descriptor,
): Descriptor {
  const empty = content.add(MEDIA_TYPE.ociEmpty, Buffer.from('{}'));
  const layer = content.add('text/plain', Buffer.from(text));
  return addJson(content, MEDIA_TYPE.ociManifest, {
    schemaVersion: 2,
    ...(artifactType === undefined ? {} : { artifactType }),
    config: empty,
    layers: [layer],
    ...(subject === undefined ? {} : { subject }),
  });
}

function nothing(): Bytes {
  throw new Error('the content is there already');
}
