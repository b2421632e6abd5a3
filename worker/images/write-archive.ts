import { createArchive } from '../archive/writer.ts';
import { streamArchive } from '../archive/compressed-writer.ts';
import { openImage, type ArchivedImage } from '../archive/reader.ts';
import { LAYOUT_METADATA, planArchive, type ArchiveLayout } from '../archive/plan.ts';
import { cached } from '../content/manifests-from.ts';
import type { Source } from '../content/content.ts';
import { digestsOf, walk, type Graph, type Root } from '../content/graph.ts';
import { copy, type CopyResult } from '../copy/copy.ts';
import type { Digest } from '../oci/digest.ts';
import type { ObjectInfo, ObjectStore } from '../objects/objects.ts';
import { checkAborted } from '../util/abort.ts';
import { atSide, Failure, isFailure, onSide } from '../util/failure.ts';
import type { Ends, OperationOptions } from './backends.ts';

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
  readonly graph?: ((near: Source | undefined) => Promise<Graph>) | undefined;
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
export async function writeArchive(r: ArchiveRequest, ends: Ends, o: OperationOptions): Promise<ArchiveResult> {
  await using before = await openExisting(r, ends, o);
  const graph = { ...(await graphOf(r, before?.image, o)), roots: [r.root] };
  const layout = planArchive(graph, { tag: r.root.tags[0], repository: r.repository });
  const written = { size: layout.size, graph, manifests: digestsOf(graph) };
  if (before?.layoutDigest === layout.digest && r.force !== true)
    return { outcome: 'unchanged', ...written, version: before.info.version };
  if (r.dryRun === true) return { outcome: 'planned', ...written };

  const condition = before === undefined ? { ifAbsent: true as const } : { ifMatch: before.info.etag };
  if (isCompressed(r.key)) {
    const { version } = await onSide('target', streamArchive(r.store, r.key, layout, r.source, { ...o, condition }));
    return { outcome: 'copied', ...written, version };
  }
  const archive = await onSide('target', createArchive(r.store, r.key, layout, { ...o, condition }));
  const copied = await copy(r.source, archive, [r.root], { ...o, graph, strict: true });
  try {
    const { version } = await onSide('target', archive.commit(o));
    return { outcome: 'copied', ...written, version, copied };
  } catch (error) {
    if (!isFailure(error, 'CONFLICT')) throw error;
    const theirs = await equalTo(layout, r, ends, o);
    if (theirs === undefined) throw error;
    await archive.abort();
    return { outcome: 'unchanged', ...written, version: theirs.version, copied };
  }
}

async function graphOf(r: ArchiveRequest, near: Source | undefined, o: OperationOptions): Promise<Graph> {
  if (r.graph !== undefined) return r.graph(near);
  const source = near === undefined ? r.source : cached(r.source, near);
  return onSide('source', walk(source, [r.root], { ...o, referrers: r.referrers }));
}

/** What is there, if somebody else who wrote at the same time has put the same archive there. */
async function equalTo(
  layout: ArchiveLayout,
  r: ArchiveRequest,
  ends: Ends,
  o: OperationOptions,
): Promise<ObjectInfo | undefined> {
  try {
    await using there = await openExisting({ ...r, force: true }, ends, o);
    return there?.image?.layoutDigest === layout.digest ? there.info : undefined;
  } catch (error) {
    checkAborted(o);
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

async function openExisting(r: ArchiveRequest, ends: Ends, o: OperationOptions): Promise<Existing | undefined> {
  let info: ObjectInfo;
  try {
    info = await r.store.stat(r.key, o);
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
  if (isCompressed(r.key) && none.layoutDigest !== undefined) return none;
  try {
    const image = await openImage(r.store, r.key, { ...o, temporary: () => ends.temporary() });
    return { info, image, layoutDigest: image.layoutDigest, [Symbol.asyncDispose]: () => image[Symbol.asyncDispose]() };
  } catch (error) {
    if (!isFailure(error, 'INVALID', 'CORRUPT', 'UNSUPPORTED')) throw atSide('target', error);
    if (r.force === true) return none;
    throw new Failure(
      'CONFLICT',
      `target: ${r.store.describe(r.key)} holds something that is no archive of an image (${error.message}): give another key, or --force to replace it`,
      { cause: error, context: { side: 'target' } },
    );
  }
}
