import { createArchive } from '../archive/writer.ts';
import { streamArchive } from '../archive/compressed-writer.ts';
import { openImage, type ArchivedImage } from '../archive/reader.ts';
import { LAYOUT_METADATA, planArchive, type ArchiveLayout } from '../archive/plan.ts';
import { manifestsFrom } from '../content/manifests-from.ts';
import type { Source } from '../content/content.ts';
import { digestsOf, walk, type Graph, type Root } from '../content/graph.ts';
import { copy, type CopyResult } from '../copy/copy.ts';
import type { Digest } from '../oci/digest.ts';
import type { ObjectInfo, ObjectStore } from '../objects/objects.ts';
import { checkAborted } from '../util/abort.ts';
import { atSide, describeFailure, Failure, isFailure, onSide } from '../util/failure.ts';
import type { Backends, OperationOptions } from './backends.ts';

export interface ArchiveRequest {
  readonly source: Source;
  readonly root: Root;
  /** `registry/repository` the image is called in the archive. */
  readonly repository: string;
  readonly store: ObjectStore;
  /** The ending decides the form: `.tar.gz` and `.tar.zst` are compressed, without ranges and resume; everything else is the plain tar. */
  readonly key: string;
  /** Default true. */
  readonly referrers?: boolean | undefined;
  /** Everything that belongs to the image, where others read it too: manifests from `near` where it has them. Default: it is read here. */
  readonly graph?: ((nearby: Source | undefined) => Promise<Graph>) | undefined;
  /** Writes also over an object that is no archive, and over an equal archive. Default false. */
  readonly force?: boolean | undefined;
  /** Plans and compares, and writes nothing. Default false. */
  readonly dryRun?: boolean | undefined;
}

export interface ArchiveResult {
  readonly outcome: 'copied' | 'unchanged' | 'planned';
  /** Bytes of the whole archive, before compression. */
  readonly size: number;
  /** Everything in it. */
  readonly graph: Graph;
  /** Of the object, where its bucket keeps versions. */
  readonly version?: string | undefined;
  /** As `CopyResult` has it. */
  readonly manifests: readonly Digest[];
  /** Absent where nothing was written. */
  readonly copied?: CopyResult;
}

/**
 * Writes one image, with what refers to it, as an archive at `key`. Nothing is visible before all of it arrived; stopped anywhere, the same
 * call goes on where it was. An archive that holds the same already is left alone; one of another image, an older state of the tag, is
 * replaced at the end, unless somebody else replaced it meanwhile (CONFLICT). CONFLICT too where the key holds something that is no archive.
 */
export async function writeArchive(
  request: ArchiveRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<ArchiveResult> {
  await using before = await openExisting(request, backends, options);
  const graph = { ...(await graphOf(request, before?.image, options)), roots: [request.root] };
  const layout = planArchive(graph, { tag: request.root.tags[0], repository: request.repository });
  const written = { size: layout.size, graph, manifests: digestsOf(graph) };
  if (before?.layoutDigest === layout.digest && request.force !== true)
    return { outcome: 'unchanged', ...written, version: before.info.version };
  if (request.dryRun === true) return { outcome: 'planned', ...written };

  const condition = before === undefined ? { ifAbsent: true as const } : { ifMatch: before.info.etag };
  if (isCompressed(request.key)) {
    const { version } = await onSide(
      'target',
      streamArchive(request.store, request.key, layout, request.source, { ...options, condition }),
    );
    return { outcome: 'copied', ...written, version };
  }
  const archive = await onSide('target', createArchive(request.store, request.key, layout, { ...options, condition }));
  const copied = await copy(request.source, archive, [request.root], { ...options, graph, strict: true });
  try {
    const { version } = await onSide('target', archive.commit(options));
    return { outcome: 'copied', ...written, version, copied };
  } catch (error) {
    if (!isFailure(error, 'CONFLICT')) throw error;
    const theirs = await equalTo(layout, request, backends, options);
    if (theirs === undefined) throw error;
    await archive.abort();
    return { outcome: 'unchanged', ...written, version: theirs.version, copied };
  }
}

async function graphOf(request: ArchiveRequest, nearby: Source | undefined, options: OperationOptions): Promise<Graph> {
  if (request.graph !== undefined) return request.graph(nearby);
  const source = nearby === undefined ? request.source : manifestsFrom(request.source, nearby);
  return onSide('source', walk(source, [request.root], { ...options, referrers: request.referrers }));
}

/** What is there, if somebody else who wrote at the same time has put the same archive there. */
async function equalTo(
  layout: ArchiveLayout,
  request: ArchiveRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<ObjectInfo | undefined> {
  try {
    await using there = await openExisting({ ...request, force: true }, backends, options);
    return there?.image?.layoutDigest === layout.digest ? there.info : undefined;
  } catch (error) {
    checkAborted(options);
    if (!isFailure(error)) throw error;
    return undefined;
  }
}

interface Existing extends AsyncDisposable {
  readonly info: ObjectInfo;
  /** What is there, to read manifests from. */
  readonly image: ArchivedImage | undefined;
  readonly layoutDigest: string | undefined;
}

/** Whether the archive at such a key is compressed: it cannot be read in place. */
export function isCompressed(key: string): boolean {
  return /\.tar\.(?:gz|zst)$/.test(key);
}

async function openExisting(
  request: ArchiveRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<Existing | undefined> {
  let info: ObjectInfo;
  try {
    info = await request.store.stat(request.key, options);
  } catch (error) {
    if (isFailure(error, 'NOT_FOUND')) return undefined;
    throw atSide('target', error);
  }
  const none: Existing = {
    info,
    image: undefined,
    layoutDigest: info.metadata[LAYOUT_METADATA],
    [Symbol.asyncDispose]: async () => undefined,
  };
  // to open it would be to unpack it
  if (isCompressed(request.key) && none.layoutDigest !== undefined) return none;
  try {
    const image = await openImage(request.store, request.key, { ...options, temporary: () => backends.temporary() });
    return { info, image, layoutDigest: image.layoutDigest, [Symbol.asyncDispose]: () => image[Symbol.asyncDispose]() };
  } catch (error) {
    if (!isFailure(error, 'INVALID', 'CORRUPT', 'UNSUPPORTED')) throw atSide('target', error);
    if (request.force === true) return none;
    throw new Failure(
      'CONFLICT',
      `${request.store.describe(request.key)} holds something that is no archive of an image (${describeFailure(error)}): give another key, or --force to replace it`,
      { cause: error, context: { side: 'target' } },
    );
  }
}
