import { openFolderTarget } from '../archive/layout-folder.ts';
import { manifestsFrom } from '../content/manifests-from.ts';
import type { Source, Target } from '../content/content.ts';
import { blobsOf, walk, type Graph, type Root } from '../content/graph.ts';
import { copy, type CopyResult } from '../copy/copy.ts';
import { dryRun } from '../content/dry-run.ts';
import { onlyPlatforms } from '../content/only-platforms.ts';
import type { Digest } from '../oci/digest.ts';
import { parsePlatform, type Descriptor } from '../oci/manifest.ts';
import type { Abortable } from '../util/abort.ts';
import { atSide, Failure, isFailure, onSide } from '../util/failure.ts';
import type { Backends, OperationOptions, RepositoryOptions } from './backends.ts';
import { openLocation, storeOf } from './open-location.ts';
import { formatLocation, type Location } from '../oci/location.ts';
import { writeArchive } from './archive-target.ts';

/** What of an image is wanted, and how. */
export interface ImageChoices extends Omit<WriteChoices, 'alsoAt'> {
  /** `os/architecture[/variant]`; empty for all. */
  readonly platforms?: readonly string[] | undefined;
  /** Whether signatures, SBOMs and whatever else refers to the image come along. Default true. */
  readonly referrers?: boolean | undefined;
}

/** How an image is written. */
export interface WriteChoices extends RepositoryOptions {
  /** Replaces also what is no image at an archive's key. Default false. */
  readonly force?: boolean | undefined;
  /** Reports what would be done, and writes nothing. Default false. */
  readonly dryRun?: boolean | undefined;
  /** Where the image is too: between repositories of one registry blobs need not move. Default: nowhere but where it is read. */
  readonly alsoAt?: readonly Location[] | undefined;
}

export interface ImageCopyRequest extends ImageChoices {
  readonly from: Location;
  readonly to: Location;
}

export interface ImageCopyResult {
  readonly from: string;
  readonly to: string;
  /** The digest at the target. */
  readonly digest: Digest;
  /** The digest at the source, where a choice of platforms made another. */
  readonly originalDigest?: Digest;
  readonly outcome: 'copied' | 'unchanged' | 'planned';
  /** Of the image, with what refers to it. */
  readonly bytes: number;
  /** Of the archive's object, where its bucket keeps versions. */
  readonly version?: string;
  /** As `CopyResult` has it. */
  readonly manifests: readonly Digest[];
  /** Absent where nothing had to be looked at. */
  readonly copied?: CopyResult;
}

/** Makes the image at `to` equal to the one at `from`, whatever the two are. Idempotent; sends only what is missing. */
export async function copyImage(
  request: ImageCopyRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<ImageCopyResult> {
  await using image = await openChosen(request.from, request, backends, options);
  return await writeImage(image, request.to, request, backends, options);
}

/** An image that was found, and what was chosen of it. */
export interface ChosenImage extends AsyncDisposable {
  readonly from: Location;
  readonly source: Source;
  readonly root: Root;
  /** The digest before platforms were chosen, where that made another. */
  readonly originalDigest: Digest | undefined;
  /** `registry/repository`, as the image calls itself; undefined for files that do not say. */
  readonly repository: string | undefined;
  /** Everything that belongs to it, read by who asks first, for all: manifests from `near` where it has them. Failures carry `source`. */
  graph(nearby: Source | undefined, options: OperationOptions): Promise<Graph>;
}

/** Finds the image at `from`. What it stands for then stays what is written, to however many places. */
export async function openChosen(
  from: Location,
  choices: Pick<ImageChoices, 'platforms' | 'referrers'>,
  backends: Backends,
  options: OperationOptions,
): Promise<ChosenImage> {
  const image = await openLocation(backends, from, 'source', options);
  try {
    const { source, root } = await choose(image.source, image.root, choices.platforms ?? [], options);
    const original = image.root.descriptor.digest;
    let known: Graph | undefined;
    return {
      from,
      source,
      root,
      originalDigest: root.descriptor.digest === original ? undefined : original,
      repository: image.repository,
      graph: async (nearby, { signal, report, clock }) =>
        (known ??= await onSide(
          'source',
          walk(nearby === undefined ? source : manifestsFrom(source, nearby), [root], {
            referrers: choices.referrers,
            signal,
            report,
            clock,
          }),
        )),
      [Symbol.asyncDispose]: async () => image[Symbol.asyncDispose](),
    };
  } catch (error) {
    await image[Symbol.asyncDispose]();
    throw error;
  }
}

/** Makes the image at `to` equal to `image`. */
export async function writeImage(
  image: ChosenImage,
  to: Location,
  choices: WriteChoices,
  backends: Backends,
  options: OperationOptions,
): Promise<ImageCopyResult> {
  const { originalDigest, root } = image;
  try {
    const { graph, version, copied, ...written } = await writeTo(image, to, choices, backends, options);
    return {
      from: formatLocation(image.from),
      digest: root.descriptor.digest,
      ...(originalDigest === undefined ? {} : { originalDigest }),
      ...written,
      bytes: bytesOf(graph),
      ...(version === undefined ? {} : { version }),
      ...(copied === undefined ? {} : { copied }),
    };
  } catch (error) {
    throw naming(image.from, error);
  }
}

interface Written extends Pick<ImageCopyResult, 'to' | 'outcome' | 'manifests'> {
  readonly graph: Graph;
  readonly version?: string | undefined;
  readonly copied?: CopyResult | undefined;
}

async function writeTo(
  image: ChosenImage,
  to: Location,
  choices: WriteChoices,
  backends: Backends,
  options: OperationOptions,
): Promise<Written> {
  const { root } = image;
  if (to.transport === 's3' || to.transport === 'archive') {
    const tag = to.tag ?? root.tags[0];
    const written = await writeArchive(
      {
        force: choices.force,
        dryRun: choices.dryRun,
        source: image.source,
        root: { descriptor: root.descriptor, tags: tag === undefined ? [] : [tag] },
        repository: image.repository ?? 'localhost/image',
        graph: async (nearby) => image.graph(nearby, options),
        ...storeOf(backends, to),
      },
      backends,
      options,
    );
    const { outcome, graph, manifests, version, copied } = written;
    return { to: formatLocation(to), outcome, graph, manifests, version, copied };
  }
  const { digest } = root.descriptor;
  const target = await openTarget(backends, to, root, choices, options);
  const before = await standsFor(target.end, target.tags, options);
  const graph = await image.graph(before?.digest === digest ? target.end : undefined, options);
  const roots = [{ ...root, tags: target.tags }];
  const copied = await copy(image.source, choices.dryRun === true ? dryRun(target.end) : target.end, roots, {
    ...options,
    graph: { ...graph, roots },
    mountFrom: mountable([image.from, ...(choices.alsoAt ?? [])], to),
  });
  if (choices.dryRun !== true) await target.finish(options);
  const moved = copied.tallies.copied.count + copied.tallies.mounted.count;
  const outcome =
    choices.dryRun === true ? 'planned' : moved === 0 && before?.digest === digest ? 'unchanged' : 'copied';
  return { to: formatLocation(target.location), outcome, graph, manifests: copied.manifests, copied };
}

/** Of the image, and of what refers to it. */
function bytesOf(graph: Graph): number {
  const manifests = [...graph.manifests.values()].map((node) => node.descriptor);
  return [...manifests, ...blobsOf(graph)].reduce((sum, descriptor) => sum + descriptor.size, 0);
}

/** What is wrong with the image itself is reported by digests alone: with the name of the image, and what can be done about it. */
function naming(from: Location, error: unknown): unknown {
  if (!isFailure(error, 'CORRUPT', 'INVALID') || error.context.side !== 'source') return error;
  const message = `${error.message}; the image is broken there: push it again, or copy it from elsewhere`;
  return new Failure(error.code, message, {
    cause: error.cause,
    context: { ...error.context, image: formatLocation(from) },
  });
}

/** The image with some platforms only, where any were named. */
async function choose(
  source: Source,
  root: Root,
  platforms: readonly string[],
  options: OperationOptions,
): Promise<{ readonly source: Source; readonly root: Root }> {
  if (platforms.length === 0) return { source, root };
  const only = onlyPlatforms(source, platforms.map(parsePlatform));
  try {
    return { source: only, root: { ...root, descriptor: await only.resolve(root.descriptor.digest, options) } };
  } catch (error) {
    throw atSide('source', error);
  }
}

interface OpenedTarget {
  readonly end: Source & Target;
  readonly tags: readonly string[];
  /** With the tag that the image keeps, where none was named. */
  readonly location: Location;
  /** What is left to do when all of the image is there. */
  finish(options: Abortable): Promise<void>;
}

async function openTarget(
  backends: Backends,
  to: Extract<Location, { transport: 'docker' | 'oci' }>,
  root: Root,
  choices: WriteChoices,
  options: OperationOptions,
): Promise<OpenedTarget> {
  if (to.transport === 'oci') {
    const end = await openFolderTarget(storeOf(backends, to).store, options);
    const tags = to.tag === undefined ? root.tags : [to.tag];
    // a folder finds an image without a tag by its list only
    return {
      end,
      tags,
      location: to,
      finish: async (taskOptions) => (tags.length === 0 ? end.list(root.descriptor, taskOptions) : undefined),
    };
  }
  const { registry, repository, tag, digest } = to.reference;
  if (digest !== undefined && digest !== root.descriptor.digest) {
    throw new Failure(
      'INVALID',
      `${formatLocation(to)} names a digest that the image, ${root.descriptor.digest}, has not`,
      { context: { side: 'target' } },
    );
  }
  const tags = tag !== undefined ? [tag] : digest !== undefined ? [] : root.tags;
  const name = tags[0] === undefined ? { digest: root.descriptor.digest } : { tag: tags[0], digest };
  return {
    end: backends.registry(registry, 'target').repository(repository, { create: choices.create }),
    tags,
    location: { transport: 'docker', reference: { registry, repository, ...name } },
    finish: async () => undefined,
  };
}

async function standsFor(
  target: Source,
  tags: readonly string[],
  options: OperationOptions,
): Promise<Descriptor | undefined> {
  const [tag] = tags;
  if (tag === undefined) return undefined;
  try {
    return await target.resolve(tag, options);
  } catch (error) {
    // a repository that is about to be created, or credentials that may push but not look: the copy itself will tell
    if (isFailure(error, 'NOT_FOUND', 'DENIED')) return undefined;
    throw atSide('target', error);
  }
}

/** The repositories of the registry at `to`, but for that one, which have the image too. */
function mountable(places: readonly Location[], to: Location): readonly string[] {
  if (to.transport !== 'docker') return [];
  const { registry, repository } = to.reference;
  const repositories = places.flatMap((place) =>
    place.transport === 'docker' && place.reference.registry === registry ? [place.reference.repository] : [],
  );
  return [...new Set(repositories)].filter((name) => name !== repository);
}
