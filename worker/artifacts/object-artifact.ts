import { digestOf, hexOf, type Digest } from '../oci/digest.ts';
import { isForeign, isManifestType, MEDIA_TYPE, type Descriptor, type Manifest } from '../oci/manifest.ts';
import { ARTIFACT_TYPE, EMPTY, EMPTY_BYTES, NO_BYTES, OBJECT, TITLE } from './names.ts';

/** An object as its artifact is made of it. */
export interface ObjectContent {
  readonly key: string;
  /** The sha256 of the bytes. */
  readonly digest: Digest;
  readonly size: number;
  /** As its store returns it; undefined where the object was stored without one. */
  readonly contentType: string | undefined;
}

/** An artifact, ready to be pushed. */
export interface ObjectArtifact {
  /** Describes the manifest. */
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
  /** The tag under which it is found by its content. */
  readonly tag: string;
  /** The layer with the object's bytes; for an empty object, the two bytes that stand for it. */
  readonly layer: Descriptor;
}

const OCTETS = 'application/octet-stream';
// https://www.rfc-editor.org/rfc/rfc6838#section-4.2
const NAME = /^[a-z0-9][a-z0-9!#$&^_.+-]{0,126}\/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}$/;
/** Types that make registries, scanners and this program take a layer for a part of a container image. */
const OF_IMAGES = /^application\/vnd\.(?:oci|docker)\./;

/** The artifact of an object. The same bytes for the same content. */
export function objectArtifact(object: ObjectContent): ObjectArtifact {
  const { digest, size, key } = object;
  const title = { [TITLE]: fileNameOf(key) };
  const layer = size === 0 ? EMPTY : { mediaType: layerTypeOf(object.contentType), digest, size };
  const manifest = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.ociManifest,
    artifactType: ARTIFACT_TYPE.object,
    config: { ...EMPTY, data: Buffer.from(EMPTY_BYTES).toString('base64') },
    layers: [{ ...layer, annotations: title }],
    ...(size === 0 ? { annotations: { [OBJECT.empty]: 'true' } } : {}),
  };
  const bytes = Buffer.from(JSON.stringify(manifest));
  return {
    descriptor: { mediaType: MEDIA_TYPE.ociManifest, digest: digestOf(bytes), size: bytes.byteLength },
    bytes,
    tag: hexOf(digest),
    layer,
  };
}

/** What the artifact of an object holds: its digest and size, and the layer with them. Undefined for any other manifest. */
export function contentOf(
  manifest: Manifest,
): { readonly digest: Digest; readonly size: number; readonly layer: Descriptor } | undefined {
  if (manifest.kind !== 'image' || manifest.artifactType !== ARTIFACT_TYPE.object) return undefined;
  const [layer, ...more] = manifest.layers;
  if (layer === undefined || more.length > 0) return undefined;
  if (manifest.annotations?.[OBJECT.empty] !== 'true') return { digest: layer.digest, size: layer.size, layer };
  return layer.digest === EMPTY.digest ? { digest: NO_BYTES, size: 0, layer } : undefined;
}

/** The media type of the layer: the content type where that is one without parameters, since ECR refuses others. */
function layerTypeOf(contentType: string | undefined): string {
  const type = contentType?.trim().toLowerCase() ?? '';
  const isUsable = NAME.test(type) && !OF_IMAGES.test(type) && !isManifestType(type);
  return isUsable && !isForeign({ mediaType: type, digest: EMPTY.digest, size: 0 }) ? type : OCTETS;
}

/** The last component of a key that can be the name of a file. */
function fileNameOf(key: string): string {
  const name = key.split('/').findLast((part) => part !== '') ?? '';
  return name === '' || name === '.' || name === '..' ? 'object' : name;
}
