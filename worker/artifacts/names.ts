import { digestOf, type Digest } from '../oci/digest.ts';
import { MEDIA_TYPE, type Descriptor } from '../oci/manifest.ts';

/** Types of the artifacts of docs/artifact-format.md. */
export const ARTIFACT_TYPE = {
  object: 'application/vnd.transship.object.v1',
  shard: 'application/vnd.transship.shard.v1',
  snapshot: 'application/vnd.transship.snapshot.v1',
} as const;

/** https://github.com/opencontainers/image-spec/blob/v1.1.1/annotations.md#pre-defined-annotation-keys */
export const TITLE = 'org.opencontainers.image.title';
export const CREATED = 'org.opencontainers.image.created';

export const OBJECT = {
  key: 'vnd.transship.object.key',
  digest: 'vnd.transship.object.digest',
  size: 'vnd.transship.object.size',
  etag: 'vnd.transship.object.etag',
  modified: 'vnd.transship.object.modified',
  version: 'vnd.transship.object.version',
  contentType: 'vnd.transship.object.content-type',
  metadata: 'vnd.transship.object.metadata',
  empty: 'vnd.transship.object.empty',
} as const;

export const SNAPSHOT = {
  version: 'vnd.transship.snapshot.version',
  source: 'vnd.transship.snapshot.source',
  objects: 'vnd.transship.snapshot.objects',
  bytes: 'vnd.transship.snapshot.bytes',
  failed: 'vnd.transship.snapshot.failed',
  listing: 'vnd.transship.snapshot.listing',
} as const;

/** The empty descriptor: https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md#guidance-for-an-empty-descriptor */
export const EMPTY_BYTES: Uint8Array = Buffer.from('{}');
export const EMPTY: Descriptor = {
  mediaType: MEDIA_TYPE.ociEmpty,
  digest: digestOf(EMPTY_BYTES),
  size: EMPTY_BYTES.byteLength,
};

/** The digest of an object without bytes. */
export const NO_BYTES: Digest = digestOf(new Uint8Array());

/** Marks a layer of `oras push` that is a packed folder: https://oras.land/docs/how_to_guides/pushing_and_pulling */
export const UNPACK = 'io.deis.oras.content.unpack';
