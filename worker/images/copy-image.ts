import { openFolderTarget } from '../archive/layout-folder.ts';
import { manifestsFrom } from '../content/manifests-from.ts';
import type { Source } from '../content/content.ts';
import { blobsOf, unseenOf, walk, type Graph, type Root } from '../content/graph.ts';
import { onlyPlatforms } from '../content/only-platforms.ts';
import type { Digest } from '../oci/digest.ts';
import { formatLocation, isStandardOutput, type Location } from '../oci/location.ts';
import { formatRepository } from '../oci/reference.ts';
import { parsePlatform, type Descriptor } from '../oci/manifest.ts';
import { Failure, isFailure, onSide } from '../util/failure.ts';
import { SharedPromise } from '../util/shared-promise.ts';
import { openArchiveTarget } from './archive-target.ts';
import type { Backends, OperationOptions, RepositoryOptions } from './backends.ts';
import { countSent } from './count-sent.ts';
import type { ImageTarget, WrittenImage } from './image-target.ts';
import { openLocation, storeOf } from './open-location.ts';
import { streamTarget } from './stream-target.ts';
import { openRepositoryTarget } from './repository-target.ts';

/** Which parts of an image are copied. */
interface SelectChoices {
  /** `os/architecture[/variant]`; empty for all. */
  readonly platforms?: readonly string[] | undefined;
  /** Whether signatures, SBOMs and whatever else refers to the image come along. Default true. */
  readonly referrers?: boolean | undefined;
  /** Whether the targets are expected not to have the image: then asking for it costs fewer requests, and one that is there more. Default false. */
  readonly isNew?: boolean | undefined;
}

/** How an image is written. */
interface WriteChoices extends RepositoryOptions {
  /** Also replaces what is not an archive at an archive's key, an archive of another repository, and an equal one. Default false. */
  readonly force?: boolean | undefined;
  /** Replaces no archive. Default false: an archive of the same repository is replaced. */
  readonly keepExisting?: boolean | undefined;
  /** Reports what would be done, and writes nothing. Default false. */
  readonly dryRun?: boolean | undefined;
  /**
   * Whether a registry that shows an image is trusted to have all of it, so that nothing below it is asked for. Default false: the registry is
   * asked for every manifest and blob, and what it lost is sent again.
   */
  readonly trustTarget?: boolean | undefined;
  /** The program, as the snapshot of a store names it. Default `transship`. */
  readonly tool?: string | undefined;
}

/** Which parts of an image are copied, and how it is written. */
export interface ImageChoices extends SelectChoices, WriteChoices {}

/** The settings that archives name. */
export interface SettingsNaming {
  /** The digest of the settings that the archive at a location names. Called only for archives that are written. Default: they name none. */
  readonly settingsDigest?: ((archive: Location) => Promise<Digest | undefined>) | undefined;
}

/** An image that was written, or is there already, with all that is known of it. */
export interface WrittenWhole {
  readonly from: Location;
  readonly to: Location;
  /** With one root. */
  readonly graph: Graph;
  readonly written: WrittenImage;
}

/** Called with each image that was written. */
interface Observing {
  readonly onWritten?: ((image: WrittenWhole) => void) | undefined;
}

export interface ImageCopyRequest extends ImageChoices, SettingsNaming, Observing {
  readonly from: Location;
  readonly to: Location;
}

/** The result of a copy of one image. */
export interface ImageCopyResult extends WrittenImage {
  readonly from: string;
  readonly to: string;
  /** The digest at the target. */
  readonly digest: Digest;
  /** The digest at the source, where a choice of platforms made another. */
  readonly originalDigest?: Digest;
  /** Bytes of the image and of what refers to it, without blobs that a trusted target was not asked for. */
  readonly bytes: number;
  /** Why more may refer to the image at the source than was copied, a sentence each. Empty where all of it was listed. */
  readonly unchecked: readonly string[];
  /** Bytes that left for the target, those of repeated requests again. */
  readonly bytesSent: number;
}

/** Makes the image at `to` equal to the one at `from`, whatever the two are. Idempotent; sends only what is missing. */
export async function copyImage(
  request: ImageCopyRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<ImageCopyResult> {
  await using image = await selectImage(request.from, request, backends, options);
  return await writeImage({ ...request, image }, backends, options);
}

/** The image that a copy writes, to however many targets. */
export interface SelectedImage extends AsyncDisposable {
  readonly from: Location;
  /** Where its content is read. */
  readonly source: Source;
  /** What was selected of the image that `from` stood for when it was opened. */
  readonly root: Root;
  /** The digest before platforms were chosen, where that made another. */
  readonly originalDigest: Digest | undefined;
  /** `registry/repository`, as the image calls itself; undefined for files that do not name it. */
  readonly repository: string | undefined;
  readonly referrers: boolean | undefined;
  /** Whether targets are expected not to have it. */
  readonly isNew: boolean;
  /** Everything that belongs to it, read with the first target and shared by all. */
  readonly graph: SharedPromise<Graph>;
  /** The graph for targets that are trusted: the manifests of platforms may be unread. */
  readonly outline: SharedPromise<Graph>;
}

/** Finds the image at `from`, and selects of it what was chosen. */
export async function selectImage(
  from: Location,
  { platforms = [], referrers, isNew = false }: SelectChoices,
  backends: Backends,
  options: OperationOptions,
): Promise<SelectedImage> {
  const willRead = isNew || platforms.length > 0;
  const image = await openLocation(backends, from, 'source', { ...options, willRead });
  try {
    const original = image.root.descriptor;
    const only = platforms.length === 0 ? undefined : onlyPlatforms(image.source, platforms.map(parsePlatform));
    const descriptor = only === undefined ? original : await onSide('source', only.resolve(original.digest, options));
    return {
      from,
      source: only ?? image.source,
      root: { ...image.root, descriptor },
      originalDigest: descriptor.digest === original.digest ? undefined : original.digest,
      repository: image.repository,
      referrers,
      isNew,
      graph: new SharedPromise(),
      outline: new SharedPromise(),
      [Symbol.asyncDispose]: async () => image[Symbol.asyncDispose](),
    };
  } catch (error) {
    await image[Symbol.asyncDispose]();
    throw error;
  }
}

export interface WriteRequest extends WriteChoices, SettingsNaming, Observing {
  readonly image: SelectedImage;
  readonly to: Location;
  /** Where the image is too: between repositories of one registry blobs need not move. Default: nowhere but where it is read. */
  readonly alsoAt?: readonly Location[] | undefined;
}

/** Makes the image at `to` equal to `image`. Idempotent; sends only what is missing. */
export async function writeImage(
  request: WriteRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<ImageCopyResult> {
  const { image } = request;
  const sent = countSent(options.report);
  const counted = { ...options, report: sent.report };
  try {
    const { root, location } = namedAt(request.to, image.root);
    await using target = await openTarget(root, request, backends, counted);
    const read = await graphOf(image, target, options);
    const { descriptor } = read.roots[0] ?? root;
    const graph = { ...read, roots: [{ ...root, descriptor }] };
    const written = await target.write({ source: image.source, graph, repository: image.repository });
    request.onWritten?.({ from: image.from, to: location, graph, written });
    return {
      from: formatLocation(image.from),
      to: formatLocation(location),
      digest: root.descriptor.digest,
      ...(image.originalDigest === undefined ? {} : { originalDigest: image.originalDigest }),
      bytes: bytesOf(graph),
      unchecked: unseenOf(graph),
      bytesSent: sent.bytes,
      ...written,
    };
  } catch (error) {
    throw naming(image.from, error);
  }
}

/** The image with the tags that it gets at `to`, and `to` with the tag that it keeps where none is named. INVALID where `to` names another digest. */
function namedAt(to: Location, root: Root): { readonly root: Root; readonly location: Location } {
  const named = (tags: readonly string[]): Root => ({ ...root, tags });
  if (to.transport === 'store') {
    checkDigest(to, to.image.digest, root);
    return { root: named(to.image.tag === undefined ? [] : [to.image.tag]), location: to };
  }
  if (to.transport !== 'docker') {
    // an archive has one tag at most
    const kept = to.transport === 'oci' ? root.tags : root.tags.slice(0, 1);
    return { root: named(to.tag === undefined ? kept : [to.tag]), location: to };
  }
  const { registry, repository, tag, digest } = to.reference;
  checkDigest(to, digest, root);
  const tags = tag !== undefined ? [tag] : digest !== undefined ? [] : root.tags;
  const name = tags[0] === undefined ? { digest: root.descriptor.digest } : { tag: tags[0], digest };
  return { root: named(tags), location: { transport: 'docker', reference: { registry, repository, ...name } } };
}

/** INVALID where `to` names another digest than that of the image. */
function checkDigest(to: Location, digest: Digest | undefined, root: Root): void {
  if (digest === undefined || digest === root.descriptor.digest) return;
  throw new Failure(
    'INVALID',
    `${formatLocation(to)} names another digest than that of the image, ${root.descriptor.digest}`,
    { context: { side: 'target' } },
  );
}

/** Opens `to` for the image `root`. */
async function openTarget(
  root: Root,
  { image, to, alsoAt = [], create, force, keepExisting, dryRun, trustTarget, tool, settingsDigest }: WriteRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<ImageTarget> {
  switch (to.transport) {
    case 's3':
    case 'archive':
      if (to.transport === 'archive' && isStandardOutput(to.path))
        return streamTarget({ streams: backends.standardStreams, dryRun }, options);
      return openArchiveTarget(
        {
          ...storeOf(backends, to),
          force,
          keepExisting,
          dryRun,
          settingsDigest: async () => settingsDigest?.(to),
          temporary: async () => backends.temporary(),
        },
        options,
      );
    case 'oci': {
      const target = await openFolderTarget(storeOf(backends, to).store, options);
      // a folder finds an image without a tag by its list only
      const finish =
        root.tags.length > 0 ? undefined : async (descriptor: Descriptor) => target.list(descriptor, options);
      return openRepositoryTarget({ target, root, mountFrom: [], dryRun, finish }, options);
    }
    case 'docker': {
      const { registry, repository } = to.reference;
      const target = backends.registry(registry, 'target').repository(repository, { create });
      const mountFrom = mountable([image.from, ...alsoAt], to);
      const place = formatRepository(to.reference);
      const { isNew } = image;
      const request = { target, root, mountFrom, place, dryRun, trusted: trustTarget, isNew };
      return openRepositoryTarget(request, options);
    }
    case 'store': {
      const referrers = image.referrers !== false;
      const { openStoreTarget } = await import('./store-target.ts');
      return openStoreTarget({ to, root, referrers, tool: tool ?? 'transship', dryRun }, backends, options);
    }
    default:
      return to satisfies never;
  }
}

/** The repositories of the registry at `to`, but for that one, which have the image too. */
function mountable(locations: readonly Location[], to: Extract<Location, { transport: 'docker' }>): readonly string[] {
  const { registry, repository } = to.reference;
  const repositories = locations.flatMap((location) =>
    location.transport === 'docker' && location.reference.registry === registry ? [location.reference.repository] : [],
  );
  return [...new Set(repositories)].filter((name) => name !== repository);
}

/** Everything that belongs to the image: manifests are read from the target where that has them. Failures carry `source`. */
async function graphOf(
  { source, root, referrers, graph, outline }: SelectedImage,
  { current, onShown, isTrusted = false }: ImageTarget,
  { signal, report, clock, answersSinceMs }: OperationOptions,
): Promise<Graph> {
  const from = current === undefined ? source : manifestsFrom(source, current, onShown);
  const walkOptions = { referrers, byLists: true, signal, report, clock, answersSinceMs };
  if (!isTrusted || graph.current !== undefined)
    return graph.get(async () => onSide('source', walk(from, [root], walkOptions)));
  return outline.get(async () => onSide('source', walk(from, [root], { ...walkOptions, outline: true })));
}

/** Bytes of the image and of what refers to it, without the blobs of manifests that were not read. */
function bytesOf(graph: Graph): number {
  const manifests = [
    ...Array.from(graph.manifests.values(), (node) => node.descriptor),
    ...(graph.unread?.values() ?? []),
  ];
  return [...manifests, ...blobsOf(graph)].reduce((sum, descriptor) => sum + descriptor.size, 0);
}

/** A failure of the image itself names digests alone: adds the name of the image, and what to do. Other failures are unchanged. */
function naming(from: Location, error: unknown): unknown {
  if (!isFailure(error, 'CORRUPT', 'INVALID') || error.context.side !== 'source') return error;
  // the registry refused the request: that is not evidence about the image
  if (error.code === 'INVALID' && error.context.status !== undefined) return error;
  const advice =
    error.code === 'CORRUPT'
      ? 'the image is broken there: push it again, or copy it from elsewhere'
      : 'the image was built that way: rebuild it';
  const message = `${error.message}; ${advice}`;
  return new Failure(error.code, message, {
    cause: error.cause,
    context: { ...error.context, image: formatLocation(from) },
  });
}
