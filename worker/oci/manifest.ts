import { Failure, isFailure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { isRecord } from '../util/record.ts';
import { ambiguousMember } from './ambiguous-member.ts';
import { isDigest, type Digest } from './digest.ts';

/** https://github.com/opencontainers/image-spec/blob/v1.1.1/media-types.md and docker's of image manifest V2, schema 2. */
export const MEDIA_TYPE = {
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  /** Withdrawn before 1.1 became final, but there are registries that hold some. */
  ociArtifact: 'application/vnd.oci.artifact.manifest.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociLayerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
  ociEmpty: 'application/vnd.oci.empty.v1+json',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayerGzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
} as const;

/** All that a registry is asked for, so that it never translates a manifest into an older form. */
export const MANIFEST_MEDIA_TYPES: readonly string[] = [
  MEDIA_TYPE.ociIndex,
  MEDIA_TYPE.ociManifest,
  MEDIA_TYPE.dockerList,
  MEDIA_TYPE.dockerManifest,
  MEDIA_TYPE.ociArtifact,
];

/**
 * The largest manifest that every registry must take.
 * https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests
 */
export const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;

export const ANNOTATION = {
  refName: 'org.opencontainers.image.ref.name',
  imageName: 'io.containerd.image.name',
} as const;

/** https://github.com/opencontainers/image-spec/blob/v1.1.1/image-index.md#image-index-property-descriptions */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
  readonly 'os.version'?: string;
}

/** https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
  readonly urls?: readonly string[];
  readonly platform?: Platform;
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** What a manifest names, whatever its format. The bytes themselves are kept beside it and never written anew. */
export type Manifest =
  | (Common & { readonly kind: 'index'; readonly manifests: readonly Descriptor[] })
  | (Common & { readonly kind: 'image'; readonly config: Descriptor; readonly layers: readonly Descriptor[] })
  | (Common & { readonly kind: 'artifact'; readonly blobs: readonly Descriptor[] });

interface Common {
  readonly mediaType: string;
  readonly subject?: Descriptor;
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** Whether bytes of this media type are a manifest that we read; everything else is carried as a blob. */
export function isManifestType(mediaType: string): boolean {
  return MANIFEST_MEDIA_TYPES.includes(mediaType);
}

export function isIndexType(mediaType: string): boolean {
  return mediaType === MEDIA_TYPE.ociIndex || mediaType === MEDIA_TYPE.dockerList;
}

/**
 * Whether the descriptor is of a layer that may not be distributed: its bytes are elsewhere, at its `urls`, and stay there.
 * https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#non-distributable-layers
 */
export function isForeign(descriptor: Descriptor): boolean {
  return descriptor.mediaType.includes('.nondistributable.') || descriptor.mediaType.includes('.foreign.');
}

/** All that a manifest names in the order it names it, without its subject. */
export function childrenOf(manifest: Manifest): readonly Descriptor[] {
  switch (manifest.kind) {
    case 'index':
      return manifest.manifests;
    case 'image':
      return [manifest.config, ...manifest.layers];
    case 'artifact':
      return manifest.blobs;
    default:
      return manifest satisfies never;
  }
}

/** The type by which referrers are listed. https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers */
export function artifactTypeOf(manifest: Manifest): string | undefined {
  return manifest.artifactType ?? (manifest.kind === 'image' ? manifest.config.mediaType : undefined);
}

/** The entry of `manifest` in a list of referrers. https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers */
export function referrerEntry({ mediaType, digest, size }: Descriptor, manifest: Manifest): Descriptor {
  const artifactType = artifactTypeOf(manifest);
  const { annotations } = manifest;
  return {
    mediaType,
    digest,
    size,
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(annotations === undefined ? {} : { annotations }),
  };
}

const PLATFORM = /^[\w.-]+\/[\w.-]+(?:\/[\w.-]+)?$/;

/** `os/architecture[/variant]`. */
export function formatPlatform(p: Platform): string {
  return p.variant === undefined ? `${p.os}/${p.architecture}` : `${p.os}/${p.architecture}/${p.variant}`;
}

/** Reads `os/architecture[/variant]`; INVALID otherwise. */
export function parsePlatform(text: string): Platform {
  const [os, architecture, variant] = text.split('/');
  if (!PLATFORM.test(text) || os === undefined || architecture === undefined) {
    throw new Failure(
      'INVALID',
      `${quote(text)} is not a platform: expected os/architecture[/variant], such as linux/arm64`,
    );
  }
  return variant === undefined ? { os, architecture } : { os, architecture, variant };
}

/**
 * Reads the bytes of a manifest. `mediaType` is what its descriptor or the registry said; where the manifest names another itself, or
 * could be read as two kinds (CVE-2021-41190) or as two images (`ambiguousMember`), it is INVALID. UNSUPPORTED for formats that are not
 * carried (docker schema 1).
 */
export function parseManifest(bytes: Uint8Array, mediaType: string): Manifest {
  if (bytes.byteLength > MAX_MANIFEST_BYTES) {
    throw new Failure(
      'INVALID',
      `the manifest has ${bytes.byteLength} bytes; ${MAX_MANIFEST_BYTES} is the most that is allowed`,
    );
  }
  const body = parseObject(bytes);
  if (mediaType.startsWith('application/vnd.docker.distribution.manifest.v1') || body['schemaVersion'] === 1) {
    throw new Failure(
      'UNSUPPORTED',
      'this is an image of docker schema 1, which is not carried: push it again with a current docker',
    );
  }
  if (!isManifestType(mediaType))
    throw new Failure('INVALID', `${quote(mediaType)} is not the media type of a manifest`);
  const own = body['mediaType'];
  if (own !== undefined && own !== mediaType) {
    throw new Failure('INVALID', `the manifest calls itself ${quote(own)} but was given as ${mediaType}`);
  }
  const index = isIndexType(mediaType);
  if (index ? body['layers'] !== undefined || body['config'] !== undefined : body['manifests'] !== undefined) {
    throw new Failure(
      'INVALID',
      `the manifest is ambiguous: given as ${mediaType}, it also has fields of the other kind`,
    );
  }
  const common: Common = {
    mediaType,
    ...(body['subject'] === undefined || body['subject'] === null
      ? {}
      : { subject: parseDescriptor(body['subject'], 'subject') }),
    ...optionalString(body, 'artifactType'),
    ...optionalAnnotations(body),
  };
  if (index) return { kind: 'index', ...common, manifests: parseDescriptors(body['manifests'], 'manifests') };
  if (mediaType === MEDIA_TYPE.ociArtifact)
    return { kind: 'artifact', ...common, blobs: parseDescriptors(body['blobs'] ?? [], 'blobs') };
  return {
    kind: 'image',
    ...common,
    config: parseDescriptor(body['config'], 'config'),
    layers: parseDescriptors(body['layers'], 'layers'),
  };
}

/** The media type that the bytes of a manifest have by themselves, for backends that do not store one (OCI layout folders). */
export function mediaTypeOf(bytes: Uint8Array): string | undefined {
  const body = parseObject(bytes);
  const own = body['mediaType'];
  if (typeof own === 'string') return own;
  if (Array.isArray(body['manifests'])) return MEDIA_TYPE.ociIndex;
  return Array.isArray(body['layers']) && body['config'] !== undefined ? MEDIA_TYPE.ociManifest : undefined;
}

/**
 * The media type of a manifest that a server labelled `said`, by its bytes: their member `mediaType`, or without one their shape. Servers
 * mislabel manifests, and a digest vouches for the bytes alone. `said` where the bytes do not decide.
 */
export function mediaTypeByBytes<Said extends string | undefined>(bytes: Uint8Array, said: Said): string | Said {
  let body: Readonly<Record<string, unknown>>;
  try {
    body = parseObject(bytes);
  } catch (error) {
    if (!isFailure(error)) throw error;
    return said;
  }
  const own = body['mediaType'];
  if (own !== undefined) return typeof own === 'string' && isManifestType(own) ? own : said;
  const isIndex = Array.isArray(body['manifests']);
  const isImage = isRecord(body['config']);
  if (isIndex === isImage) return said;
  if (isIndex) return said !== undefined && isIndexType(said) ? said : MEDIA_TYPE.ociIndex;
  return said === MEDIA_TYPE.dockerManifest ? said : MEDIA_TYPE.ociManifest;
}

/** A descriptor out of parsed JSON; `where` names its place in the document. INVALID otherwise. Unknown fields are dropped. */
export function parseDescriptor(value: unknown, where: string): Descriptor {
  if (!isRecord(value)) throw new Failure('INVALID', `${where} of the manifest is not a descriptor`);
  const { mediaType, size } = value;
  if (typeof mediaType !== 'string' || mediaType === '')
    throw new Failure('INVALID', `${where} of the manifest has no media type`);
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) {
    throw new Failure('INVALID', `${where} of the manifest has no size in bytes`);
  }
  const digest = value['digest'];
  if (!isDigest(digest)) throw new Failure('INVALID', `${where} of the manifest: ${quote(digest)} is not a digest`);
  const urls = value['urls'];
  const platform = value['platform'];
  return {
    mediaType,
    digest,
    size,
    ...(Array.isArray(urls) && urls.every((u) => typeof u === 'string') && urls.length > 0 ? { urls } : {}),
    ...(isRecord(platform) ? { platform: readPlatform(platform) } : {}),
    ...optionalString(value, 'artifactType'),
    ...optionalAnnotations(value),
  };
}

function parseDescriptors(value: unknown, where: string): readonly Descriptor[] {
  // some builders write null for an empty list
  if (value === null) return [];
  if (!Array.isArray(value)) throw new Failure('INVALID', `the manifest has no list of ${where}`);
  return value.map((item, i) => parseDescriptor(item, `${where}[${i}]`));
}

function readPlatform(value: Readonly<Record<string, unknown>>): Platform {
  const text = (name: string): string | undefined =>
    typeof value[name] === 'string' && value[name] !== '' ? value[name] : undefined;
  const variant = text('variant');
  const version = text('os.version');
  return {
    os: text('os') ?? 'unknown',
    architecture: text('architecture') ?? 'unknown',
    ...(variant === undefined ? {} : { variant }),
    ...(version === undefined ? {} : { 'os.version': version }),
  };
}

function parseObject(bytes: Uint8Array): Readonly<Record<string, unknown>> {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    value = JSON.parse(text);
  } catch (cause) {
    throw new Failure('INVALID', 'the manifest is not JSON', { cause });
  }
  if (!isRecord(value)) throw new Failure('INVALID', 'the manifest is not a JSON object');
  const ambiguity = ambiguousMember(text);
  if (ambiguity !== undefined) throw new Failure('INVALID', `the manifest is ambiguous: ${ambiguity}`);
  return value;
}

function optionalString<K extends string>(
  from: Readonly<Record<string, unknown>>,
  name: K,
): { readonly [N in K]?: string } {
  const value = from[name];
  return typeof value === 'string' && value !== '' ? ({ [name]: value } as { readonly [N in K]?: string }) : {};
}

function optionalAnnotations(from: Readonly<Record<string, unknown>>): {
  readonly annotations?: Readonly<Record<string, string>>;
} {
  const value = from['annotations'];
  if (!isRecord(value)) return {};
  const entries = Object.entries(value).filter((e): e is [string, string] => typeof e[1] === 'string');
  return entries.length === 0 ? {} : { annotations: Object.fromEntries(entries) };
}
