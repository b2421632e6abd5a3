import type { Digest } from '../oci/digest.ts';
import { MEDIA_TYPE, type Descriptor, type Manifest } from '../oci/manifest.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { TITLE, UNPACK } from './names.ts';
import { contentOf } from './object-artifact.ts';
import type { SnapshotEntry } from './snapshot.ts';

/** A file or object that an artifact holds. */
export interface Extracted {
  /** Its path below the place that is extracted to. Not checked: artifacts of other tools can contain any path. */
  readonly path: string;
  /** The digest of its bytes, which are one blob. An empty object has no blob. */
  readonly digest: Digest;
  readonly size: number;
  readonly contentType: string | undefined;
  /** User metadata. Undefined outside of snapshots: other artifacts do not record any. */
  readonly metadata: Readonly<Record<string, string>> | undefined;
}

/** An object of a snapshot whose keys start with `prefix`. INVALID, at the source, for a key that does not. */
export function extractedOf({ key, digest, size, contentType, metadata }: SnapshotEntry, prefix: string): Extracted {
  if (!key.startsWith(prefix))
    throw new Failure('INVALID', `the snapshot lists ${quote(key)}, which is not below ${quote(prefix)}`, {
      context: { side: 'source' },
    });
  return { path: key.slice(prefix.length), digest, size, contentType, metadata };
}

/**
 * The files of an artifact that is not a snapshot: an object, or the layers that have titles, as `oras push` makes them. A folder that oras
 * packed stays packed, with `.tar.gz` after its name. Empty where no layer has a title. INVALID where two have the same.
 */
export function titledLayers(manifest: Manifest): readonly Extracted[] {
  const content = contentOf(manifest);
  const layers = content === undefined ? blobsOf(manifest) : [content.layer];
  const found = layers.flatMap((layer): readonly Extracted[] => {
    const title = layer.annotations?.[TITLE];
    if (title === undefined || title === '') return [];
    const path = layer.annotations?.[UNPACK] === 'true' ? `${title}.tar.gz` : title;
    const { digest, size } = content ?? layer;
    const contentType = layer.mediaType === MEDIA_TYPE.ociEmpty ? undefined : layer.mediaType;
    return [{ path, digest, size, contentType, metadata: undefined }];
  });
  const seen = new Set<string>();
  const twice = found.find(({ path }) => seen.size === seen.add(path).size);
  if (twice !== undefined) throw new Failure('INVALID', `the artifact has two files of the name ${quote(twice.path)}`);
  return found;
}

function blobsOf(manifest: Manifest): readonly Descriptor[] {
  switch (manifest.kind) {
    case 'image':
      return manifest.layers;
    case 'artifact':
      return manifest.blobs;
    case 'index':
      return [];
    default:
      return manifest satisfies never;
  }
}
