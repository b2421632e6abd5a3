import { describeManifest, openRegistryStore } from '../../local/registry/store.ts';
import { digestOf, type Digest } from '../../worker/oci/digest.ts';
import { MEDIA_TYPE, parseManifest } from '../../worker/oci/manifest.ts';

export interface Seed {
  readonly repository: string;
  readonly tags: readonly string[];
}

/**
 * Fills the folder of a registry that is not running with images that are only a manifest, one for each tag: any number of images to list
 * and to HEAD, not to read. The same tag is the same image everywhere.
 */
export async function seedRegistry(folder: string, seeds: readonly Seed[]): Promise<void> {
  const store = await openRegistryStore(folder);
  for (const { repository, tags } of seeds) {
    const r = store.create(repository, 0);
    for (const tag of tags) {
      const bytes = seededManifest(tag);
      const manifest = describeManifest(parseManifest(bytes, MEDIA_TYPE.ociManifest), bytes, digestOf(bytes), 0);
      // without the file, which takes longer than everything else
      store.updateManifest(r, manifest);
      store.tag(r, tag, manifest.digest);
    }
  }
  await store.close();
}

/** The digest of a seeded tag. */
export function seededDigest(tag: string): Digest {
  return digestOf(seededManifest(tag));
}

function seededManifest(tag: string): Uint8Array {
  const config = { mediaType: 'application/vnd.oci.empty.v1+json', digest: digestOf(Buffer.from('{}')), size: 2 };
  const annotations = { tag };
  return Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPE.ociManifest, config, layers: [], annotations }),
  );
}
