import { abilitiesOf } from './abilities.ts';
import type { Source } from './content.ts';
import { MemoryContent } from './memory.ts';
import { readAll } from './read.ts';
import { isDigest, type Digest } from '../oci/digest.ts';
import {
  formatPlatform,
  MAX_MANIFEST_BYTES,
  MEDIA_TYPE,
  mediaTypeByBytes,
  parseManifest,
  type Descriptor,
  type Manifest,
  type Platform,
} from '../oci/manifest.ts';
import type { Abortable } from '../util/abort.ts';
import { Failure } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';

/** The annotation in which a rewritten index names the one that it was made of. */
export const ORIGINAL_DIGEST = 'dev.transship.original-digest';
/** BuildKit's attestations name the manifest they are about: https://github.com/moby/buildkit/blob/master/docs/attestations/attestation-storage.md */
const ATTESTED = 'vnd.docker.reference.digest';

/**
 * `source`, but its indexes hold `platforms` only, with the attestations of those. Registries refuse an index whose children are not all
 * there, so the index is written anew: it has another digest, and the old one in its annotations. The same choice from the same index gives
 * the same bytes. An image that is not an index must be of one of the platforms itself. NOT_FOUND when a platform is not there, with those that
 * are.
 */
export function onlyPlatforms(source: Source, platforms: readonly Platform[]): Source {
  const rewritten = new MemoryContent();
  const originals = new Map<Digest, Descriptor>();

  const choose = async (found: Descriptor, options: Parameters<Source['resolve']>[1]): Promise<Descriptor> => {
    const bytes = await readAll(source, found, MAX_MANIFEST_BYTES, { signal: options?.signal });
    const descriptor = { ...found, mediaType: mediaTypeByBytes(bytes, found.mediaType) };
    const manifest = parseManifest(bytes, descriptor.mediaType);
    if (manifest.kind !== 'index') {
      if (manifest.kind === 'image') await checkPlatform(source, manifest, platforms, descriptor, options);
      return descriptor;
    }
    const kept = keep(manifest.manifests, platforms, descriptor);
    if (kept.length === manifest.manifests.length) return descriptor;
    const digests = new Set<string>(kept.map((child) => child.digest));
    // every field of the index and of its descriptors stays as it was, also those that this program does not know
    const document: unknown = JSON.parse(new TextDecoder().decode(bytes));
    if (!isIndex(document)) throw new Failure('INVALID', `${descriptor.digest} is not an index`);
    const body = {
      ...document,
      manifests: document.manifests.filter((child) => digests.has(String(child['digest']))),
      annotations: { ...document.annotations, [ORIGINAL_DIGEST]: descriptor.digest },
    };
    const made = rewritten.add(descriptor.mediaType, Buffer.from(JSON.stringify(body)));
    originals.set(made.digest, descriptor);
    return made;
  };

  return {
    ...abilitiesOf(source),
    resolve: async (reference, options) => {
      const made = isDigest(reference) ? originals.get(reference) : undefined;
      if (made !== undefined) return rewritten.resolve(reference, options);
      const descriptor = await source.resolve(reference, options);
      // cosign's tags are artifacts, of no platform
      return /^sha(?:256|512)-[0-9a-f]+\.\w+$/.test(reference) ? descriptor : choose(descriptor, options);
    },
    open: (descriptor, options) =>
      originals.has(descriptor.digest) ? rewritten.open(descriptor, options) : source.open(descriptor, options),
    referrers: (descriptor, options) => source.referrers(descriptor, options),
    tags: (options) => source.tags(options),
  };
}

function keep(
  children: readonly Descriptor[],
  platforms: readonly Platform[],
  index: Descriptor,
): readonly Descriptor[] {
  const chosen = new Set<string>();
  for (const platform of platforms) {
    const found = children.filter((child) => child.platform !== undefined && matches(child.platform, platform));
    if (found.length === 0) {
      const present = children.flatMap((child) =>
        child.platform === undefined ? [] : [formatPlatform(child.platform)],
      );
      const list = [...new Set(present)].filter((name) => name !== 'unknown/unknown').join(', ') || 'none';
      throw new Failure('NOT_FOUND', `${index.digest} has no image for ${formatPlatform(platform)}; it has ${list}`);
    }
    for (const child of found) chosen.add(child.digest);
  }
  return children.filter((child) => chosen.has(child.digest) || chosen.has(child.annotations?.[ATTESTED] ?? ''));
}

/** A choice without a variant takes every variant. https://github.com/containerd/platforms#normalization for why v8 is arm64 itself. */
function matches(platform: Platform, wanted: Platform): boolean {
  if (platform.os !== wanted.os || platform.architecture !== wanted.architecture) return false;
  if (wanted.variant === undefined || platform.variant === wanted.variant) return true;
  return wanted.architecture === 'arm64' && wanted.variant === 'v8' && platform.variant === undefined;
}

async function checkPlatform(
  source: Source,
  manifest: Extract<Manifest, { kind: 'image' }>,
  platforms: readonly Platform[],
  descriptor: Descriptor,
  options: Abortable | undefined,
): Promise<void> {
  // an artifact is of no platform
  if (manifest.config.mediaType !== MEDIA_TYPE.ociConfig && manifest.config.mediaType !== MEDIA_TYPE.dockerConfig)
    return;
  const bytes = await readAll(source, manifest.config, MAX_MANIFEST_BYTES, { signal: options?.signal });
  let config: unknown;
  try {
    config = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw new Failure('INVALID', `the config of ${descriptor.digest} is not JSON`);
  }
  if (!isRecord(config)) return;
  const { os, architecture, variant } = config;
  if (typeof os !== 'string' || typeof architecture !== 'string') return;
  const own: Platform = { os, architecture, ...(typeof variant === 'string' && variant !== '' ? { variant } : {}) };
  if (platforms.some((platform) => matches(own, platform))) return;
  const wanted = platforms.map(formatPlatform).join(', ');
  throw new Failure('NOT_FOUND', `${descriptor.digest} is an image for ${formatPlatform(own)} only, not for ${wanted}`);
}

function isIndex(value: unknown): value is Readonly<Record<string, unknown>> & {
  readonly manifests: readonly Readonly<Record<string, unknown>>[];
  readonly annotations?: object;
} {
  return isRecord(value) && Array.isArray(value['manifests']) && value['manifests'].every(isRecord);
}
