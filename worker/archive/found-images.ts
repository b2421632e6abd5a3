import { once } from '../content/bytes.ts';
import type { ByteRange, Bytes, Source } from '../content/content.ts';
import type { ManifestNode } from '../content/graph.ts';
import { isReferrersTag } from '../oci/derived-tag.ts';
import type { Digest } from '../oci/digest.ts';
import { MAX_MANIFEST_BYTES, referrerEntry, type Descriptor } from '../oci/manifest.ts';
import { isImageChoice } from '../oci/location.ts';
import { formatReference, formatRepository, isTag, parseReference } from '../oci/reference.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { Failure, isFailure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { failureIn, type ArchiveFiles } from './archive-files.ts';

/** An image in a layout or archive, and what it is called there. */
export interface NamedImage {
  readonly descriptor: Descriptor;
  /** Every name by which it can be asked for: as written, and whole references also as docker completes them. */
  readonly names: readonly string[];
  readonly tags: readonly string[];
  /** Its positions in the list of images, from 0: `@0` is the first. */
  readonly indexes: readonly number[];
  /** `registry/repository`, where one of the names contains it. */
  readonly repository?: string;
  /** Whether it is listed without a name and is part of another image's index: then only its digest or its place chooses it. */
  readonly isPart?: true;
}

/** What was found in files: the images, and a Source of everything in them. */
export interface FoundImages {
  readonly source: Source;
  readonly images: readonly NamedImage[];
}

/** The largest config, and the largest document that lists images (a layout's `index.json`, docker's `manifest.json`). */
export const MAX_DOCUMENT_BYTES = MAX_MANIFEST_BYTES;

/**
 * The one image that `wanted`, a tag, name or `@index`, stands for; without it, the only one. INVALID, with the names there are, otherwise;
 * NOT_FOUND for a name that no image has.
 */
export function chooseImage(all: readonly NamedImage[], wanted: string | undefined, files: ArchiveFiles): NamedImage {
  const where = files.describe();
  const found = all.filter(({ isPart }) => isPart !== true);
  const matching = wanted === undefined ? found : imagesCalled(wanted, all);
  const [only, ...others] = matching;
  if (only !== undefined && others.length === 0) return only;
  if (found.length === 0) throw failureIn(files, 'INVALID', `${where} holds no image`);
  const names = found.slice(0, 20).map((image) => quote(`:${choiceOf(image, found)}`));
  const last = found.length > 20 ? '…' : (names.pop() ?? '');
  const choices = names.length === 0 ? last : `${names.join(', ')} or ${last}`;
  const problem =
    wanted === undefined
      ? `${found.length} images`
      : only === undefined
        ? `no image ${quote(wanted)}`
        : `several images ${quote(wanted)}`;
  // a colon is part of a key
  const how = where.startsWith('s3://') ? 'copy the archive to a file and ' : '';
  const code = wanted !== undefined && only === undefined ? 'NOT_FOUND' : 'INVALID';
  throw failureIn(files, code, `${where} holds ${problem}; ${how}name one of them after the path: ${choices}`);
}

/** The images that `wanted` names as it is written; if no image has that name, those that it names after docker completes it. */
function imagesCalled(wanted: string, found: readonly NamedImage[]): readonly NamedImage[] {
  const exact = found.filter(
    ({ names, tags, indexes, descriptor }) =>
      names.includes(wanted) ||
      tags.includes(wanted) ||
      descriptor.digest === wanted ||
      indexes.some((index) => wanted === `@${index}`),
  );
  if (exact.length > 0) return exact;
  const whole = completed(wanted);
  return whole === undefined ? [] : found.filter(({ names }) => names.includes(whole));
}

/** A name or index that chooses `image` among `found`, and no other. */
function choiceOf(image: NamedImage, found: readonly NamedImage[]): string {
  const isOwn = (name: string): boolean => isImageChoice(name) && imagesCalled(name, found).length === 1;
  return image.names.find(isOwn) ?? `@${image.indexes[0] ?? 0}`;
}

/** `name` as a complete reference, as docker completes it; undefined for what is not one. */
function completed(name: string): string | undefined {
  try {
    return formatReference(parseReference(name));
  } catch (error) {
    if (!isFailure(error, 'INVALID')) throw error;
    return undefined;
  }
}

interface FilesSourceParts {
  readonly files: ArchiveFiles;
  /** Those that are known already; others are read from the path that `pathOf` returns. */
  readonly manifests: ReadonlyMap<Digest, ManifestNode>;
  /** By tags, and by whatever else an image is asked for. */
  readonly tags: ReadonlyMap<string, Descriptor>;
  readonly pathOf: (digest: Digest) => string | undefined;
}

/** Files as a Source. Referrers are the known manifests that have a subject. */
export function filesSource({ files, manifests, tags, pathOf }: FilesSourceParts): Source {
  return {
    ...(files.rangesAtOnce === undefined ? {} : { rangesAtOnce: files.rangesAtOnce }),
    resolve: async (reference, options) => {
      checkAborted(options);
      const descriptor = tags.get(reference) ?? manifests.get(reference as Digest)?.descriptor;
      if (descriptor === undefined) throw files.missing(reference);
      return withoutNames(descriptor);
    },
    open: async (descriptor: Descriptor, options: Abortable & ByteRange = {}): Promise<Bytes> => {
      checkAborted(options);
      const node = manifests.get(descriptor.digest);
      if (node !== undefined) return once(node.bytes.subarray(options.from ?? 0, options.to));
      const path = pathOf(descriptor.digest);
      if (path === undefined || (await files.size(path, options)) === undefined) throw files.missing(descriptor.digest);
      return files.open(path, options);
    },
    referrers: async function* (descriptor, options) {
      checkAborted(options);
      for (const { descriptor: referrer, manifest } of manifests.values()) {
        if (manifest.subject?.digest !== descriptor.digest) continue;
        yield referrerEntry(referrer, manifest);
      }
    },
    tags: async function* (options) {
      checkAborted(options);
      yield* [...tags.keys()].filter((tag) => isTag(tag) && !isReferrersTag(tag));
    },
  };
}

/** The image of `descriptor`, at `index` of the list, with these names added to those that it had `before`. A name is a tag or a complete reference. */
export function withNames(
  descriptor: Descriptor,
  index: number,
  names: readonly (string | undefined)[],
  before: NamedImage | undefined,
): NamedImage {
  const all = new Set(before?.names);
  const tags = new Set(before?.tags);
  let repository = before?.repository;
  for (const name of names) {
    if (name === undefined) continue;
    all.add(name);
    if (isTag(name)) {
      tags.add(name);
      continue;
    }
    try {
      const reference = parseReference(name);
      all.add(formatReference(reference));
      if (reference.tag !== undefined) tags.add(reference.tag);
      repository ??= formatRepository(reference);
    } catch (error) {
      // a name that only its writer understands
      if (!isFailure(error, 'INVALID')) throw error;
    }
  }
  return {
    descriptor: withoutNames(descriptor),
    names: [...all],
    tags: [...tags],
    indexes: [...(before?.indexes ?? []), index],
    ...(repository === undefined ? {} : { repository }),
  };
}

/** The descriptor as a registry has it, without the annotations of the layout. */
export function withoutNames({ mediaType, digest, size }: Descriptor): Descriptor {
  return { mediaType, digest, size };
}

/** Returns what `parse` returns. Its failures begin with `where`, and have `location` in their context. */
export function inDocument<T>(where: string, location: string | undefined, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!isFailure(error)) throw error;
    throw new Failure(error.code, `${where}: ${error.message}`, { cause: error, context: { location } });
  }
}
