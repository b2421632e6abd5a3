import { gzipSync } from 'node:zlib';
import { MemoryContent } from '../../worker/content/memory.ts';
import { MEDIA_TYPE, type Descriptor } from '../../worker/oci/manifest.ts';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { addJson, seededBytes, type MadeImage } from './images.ts';
import type { Lab } from './lab.ts';

export interface StockOptions {
  readonly repositories: number;
  /** Tags of each repository. Default 2. */
  readonly tags?: number;
  /** Bytes of each of the four layers that all images of the stock share. Default 4000. */
  readonly baseBytes?: number;
  /** Bytes of the layer that each image has alone. Default 1000. */
  readonly ownBytes?: number;
  /** The prefix of repository names. Default `team`. */
  readonly prefix?: string;
}

/** Repository `number` of a stock. */
export function stockRepository(number: number, prefix = 'team'): string {
  return `${prefix}/app-${String(number).padStart(2, '0')}`;
}

/**
 * Pushes images that share most of their layers, like images of one base. Every third repository has indexes, every fourth has images with
 * a signature by subject, an SBOM of it and a cosign tag. Each repository except the second, whose tags may be immutable, has an older
 * image that lost its tag.
 */
export async function stockRegistry(lab: Lab, registry: LocalRegistry, o: StockOptions): Promise<readonly MadeImage[]> {
  const made: MadeImage[] = [];
  for (let number = 0; number < o.repositories; number++) {
    const repository = stockRepository(number, o.prefix);
    const old = stockImage({ ...o, seed: `${number}/old`, isIndex: number % 3 === 0, isSigned: false, tag: 'v0' });
    if (number !== 1) await lab.push(old, registry, repository);
    for (let tag = 0; tag < (o.tags ?? 2); tag++) {
      const kind = { isIndex: number % 3 === 0, isSigned: number % 4 === 0 };
      const image = stockImage({ ...o, seed: `${number}/${tag}`, ...kind, tag: `v${tag}` });
      await lab.push(image, registry, repository);
      made.push(image);
    }
  }
  return made;
}

interface StockImage extends StockOptions {
  readonly seed: string;
  readonly isIndex: boolean;
  readonly isSigned: boolean;
  readonly tag: string;
}

/** One image of a stock. Equal seeds give equal images. */
export function stockImage(o: StockImage): MadeImage {
  const content = new MemoryContent();
  const platforms = o.isIndex ? ['amd64', 'arm64'] : ['amd64'];
  const images = platforms.map((architecture) => {
    const shared = [0, 1, 2, 3].map((n) => layer(content, `base/${architecture}/${n}`, o.baseBytes ?? 4000));
    const own = layer(content, `${o.seed}/${architecture}`, o.ownBytes ?? 1000);
    const layers = [...shared, own];
    const config = content.add(
      MEDIA_TYPE.ociConfig,
      Buffer.from(
        JSON.stringify({
          os: 'linux',
          architecture,
          rootfs: { type: 'layers', diff_ids: layers.map(({ digest }) => digest) },
        }),
      ),
    );
    const manifest = addJson(content, MEDIA_TYPE.ociManifest, { schemaVersion: 2, config, layers });
    const { mediaType, digest, size } = manifest;
    return { mediaType, digest, size, platform: { os: 'linux', architecture } };
  });
  const [first] = images;
  if (first === undefined) throw new Error('an image has a platform');
  const top = o.isIndex ? addJson(content, MEDIA_TYPE.ociIndex, { schemaVersion: 2, manifests: images }) : first;
  const { mediaType, digest, size } = top;
  if (o.isSigned) {
    const sbom = artifact(content, `sbom of ${o.seed}`, { mediaType, digest, size });
    artifact(content, `signature of the sbom of ${o.seed}`, sbom);
    const cosign = artifact(content, `cosign of ${o.seed}`);
    void content.tag(`${first.digest.replace(':', '-')}.sig`, cosign, () => {
      throw new Error('it is there');
    });
  }
  return { content, root: { descriptor: { mediaType, digest, size }, tags: [o.tag] } };
}

function layer(content: MemoryContent, seed: string, bytes: number): Descriptor {
  return content.add(MEDIA_TYPE.ociLayerGzip, gzipSync(seededBytes(seed, bytes), { level: 1 }));
}

function artifact(content: MemoryContent, text: string, subject?: Descriptor): Descriptor {
  const config = content.add(MEDIA_TYPE.ociEmpty, Buffer.from('{}'));
  const layers = [content.add('text/plain', Buffer.from(text))];
  const type = subject === undefined ? {} : { artifactType: 'application/spdx+json', subject };
  return addJson(content, MEDIA_TYPE.ociManifest, { schemaVersion: 2, ...type, config, layers });
}
