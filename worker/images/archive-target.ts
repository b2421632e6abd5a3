import { knownBlobsOf } from '../archive/known-blobs.ts';
import { createArchive } from '../archive/writer.ts';
import { holdsPlanned } from '../archive/compressed-check.ts';
import { streamArchive } from '../archive/compressed-writer.ts';
import { openImage, type ArchivedImage } from '../archive/reader.ts';
import { isUnlisted, layoutDigestIn, sourceIn } from '../archive/metadata.ts';
import { imageName, planArchive, type ArchiveLayout } from '../archive/plan.ts';
import type { Digest } from '../oci/digest.ts';
import { isCompressed } from '../oci/archive-key.ts';
import { digestsOf, foreignOf, unseenOf } from '../content/graph.ts';
import { copy } from '../copy/copy.ts';
import type { ObjectInfo, ObjectStore } from '../objects/objects.ts';
import { checkAborted } from '../util/abort.ts';
import { atSide, describeFailure, Failure, ifFound, isFailure, onSide } from '../util/failure.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { keepForeign } from './keep-foreign.ts';
import type { ImageTarget, UnsentBytes, WholeImage, WrittenImage } from './image-target.ts';

export interface ArchiveTargetRequest {
  readonly store: ObjectStore;
  /** The ending decides the form: `.tar.gz` and `.tar.zst` are compressed, without ranges and resume; everything else is the plain tar. */
  readonly key: string;
  /** Also replaces what is not an archive, an archive of another repository, and an equal archive. Default false. */
  readonly force?: boolean | undefined;
  /** Replaces no archive. Default false: an archive of the same repository is replaced. */
  readonly keepExisting?: boolean | undefined;
  /** Plans and compares, and writes nothing. Default false. */
  readonly dryRun?: boolean | undefined;
  /** The digest of the settings that the archive names. Called only where it is written. Default: it names none. */
  readonly settingsDigest?: (() => Promise<Digest | undefined>) | undefined;
  /** Where a compressed archive that is at the key is unpacked. */
  readonly temporary: Backends['temporary'];
}

/** The name that an archive gives an image without a known name. */
const NO_NAME = 'localhost/image';

/**
 * The archive at `key` as the target of one image, which is written with what refers to it. Nothing is visible before all of it arrived;
 * stopped anywhere, the same write goes on where it was. An archive that holds the same already is left alone; one of another image of the
 * repository, an older state of the tag, is replaced at the end, unless another process replaced it meanwhile (CONFLICT). CONFLICT too, at
 * once, where the key holds the archive of another repository, or something that is not an archive: its context has `needsForce`. Failures carry
 * their side.
 */
export async function openArchiveTarget(
  request: ArchiveTargetRequest,
  options: OperationOptions,
): Promise<ImageTarget> {
  const before = await openCurrentArchive(request, options);
  return {
    current: before?.image,
    write: async (image) => writeArchive(image, before, request, options),
    [Symbol.asyncDispose]: async () => before?.[Symbol.asyncDispose](),
  };
}

async function writeArchive(
  image: WholeImage,
  before: CurrentArchive | undefined,
  request: ArchiveTargetRequest,
  options: OperationOptions,
): Promise<WrittenImage> {
  const layout = layoutOf(image);
  const write = async (): Promise<WrittenImage> => writePlanned({ image, layout }, before, request, options);
  const isEqual = before?.layoutDigest === layout.digest;
  if (before === undefined || isEqual || request.force === true || foreignOf(image.graph).length === 0) return write();
  await using unpacked = before.image === undefined ? await openIfReadable(request, options) : undefined;
  const archive = before.image ?? unpacked;
  if (archive === undefined) return await write();
  const { kept, image: fuller } = await onSide('target', keepForeign(image, archive, options));
  try {
    return await writePlanned({ image: fuller, layout: layoutOf(fuller) }, before, request, options);
  } catch (error) {
    if (!isFailure(error, 'CORRUPT') || !kept.has(error.context['digest'])) throw error;
    const message = `a foreign layer in ${request.store.describe(request.key)} is damaged, and not kept: ${describeFailure(error)}`;
    options.report?.({ type: 'warning', message });
    return await write();
  }
}

/** The archive of an image. */
export function layoutOf({ graph, repository = NO_NAME }: WholeImage): ArchiveLayout {
  return planArchive(graph, { tag: graph.roots[0]?.tags[0], repository });
}

interface PlannedImage {
  readonly image: WholeImage;
  readonly layout: ArchiveLayout;
}

async function writePlanned(
  planned: PlannedImage,
  before: CurrentArchive | undefined,
  request: ArchiveTargetRequest,
  options: OperationOptions,
): Promise<WrittenImage> {
  const {
    image: { source, graph },
    layout,
  } = planned;
  const { store, key } = request;
  const found = { manifests: digestsOf(graph), foreign: foreignOf(graph) };
  if (before !== undefined && request.force !== true && (await isHeld(before, planned, request, options)))
    return { outcome: 'unchanged', ...found, ...leftAlone(before.info) };
  if (before !== undefined) checkReplaceable(before, layout, request);
  const unsent = { bytesReused: 0, bytesSkipped: 0 };
  if (request.dryRun === true) return { outcome: 'planned', ...found, ...unsent, bytesToSend: layout.size };

  const condition = before === undefined ? { ifAbsent: true as const } : { ifMatch: before.info.etag };
  const onSent = (bytes: number): void => options.report?.({ type: 'bytes-sent', bytes });
  const notes = { settings: await request.settingsDigest?.(), unlisted: unseenOf(graph).length > 0 };
  const writeOptions = { ...options, ...notes, condition, onSent };
  if (isCompressed(key)) {
    const info = await onSide('target', streamArchive(store, key, layout, source, writeOptions));
    return { outcome: 'copied', ...found, ...unsent, ...writtenAs(info) };
  }
  const known = knownBlobsOf(store);
  if (before?.image?.layout !== undefined) known.add(before.info, before.image.layout);
  using archive = await onSide('target', createArchive(store, key, layout, { ...writeOptions, known }));
  if (archive.resumed !== undefined) {
    const { parts, total } = archive.resumed;
    options.report?.({ type: 'resumed', location: store.describe(key), parts, total });
  }
  const copied = await copy(source, archive, graph.roots, { ...options, graph, strict: true });
  try {
    const info = await onSide('target', archive.commit(options));
    known.add(info, layout);
    const { resumed, copiedBytes } = archive;
    return {
      outcome: 'copied',
      ...found,
      ...unsent,
      bytesReused: (resumed?.bytes ?? 0) + copiedBytes,
      ...(resumed === undefined ? {} : { resumed }),
      ...writtenAs(info),
      copied,
    };
  } catch (error) {
    if (!isFailure(error, 'CONFLICT')) throw error;
    const equal = await equalArchive(layout, request, options);
    if (equal === undefined) throw error;
    await archive.abort();
    return { outcome: 'unchanged', ...found, ...leftAlone(equal), copied };
  }
}

/**
 * Whether the archive of `layout` is at the key already. The metadata of one that was not opened proves nothing of its bytes. One whose source
 * did not list all that refers to the image is not held where it does now.
 */
async function isHeld(
  before: CurrentArchive,
  { image: { graph }, layout }: PlannedImage,
  { store, keepExisting = false }: ArchiveTargetRequest,
  options: OperationOptions,
): Promise<boolean> {
  if (before.layoutDigest !== layout.digest) return false;
  if (isUnlisted(before.info.metadata) && unseenOf(graph).length === 0 && !keepExisting) return false;
  return before.image !== undefined || (await onSide('target', holdsPlanned(store, before.info, layout, options)));
}

function leftAlone(info: ObjectInfo): Pick<WrittenImage, 'version' | 'object' | keyof UnsentBytes> {
  return { ...writtenAs(info), bytesReused: 0, bytesSkipped: info.size };
}

function writtenAs({ version, size, etag }: ObjectInfo): Pick<WrittenImage, 'version' | 'object'> {
  return { version, object: { size, etag } };
}

/** CONFLICT where what is at the key must not be replaced by the archive of `layout`. */
function checkReplaceable(before: CurrentArchive, { names, root }: ArchiveLayout, request: ArchiveTargetRequest): void {
  const place = request.store.describe(request.key);
  const held = before.name ?? 'an image without a name';
  const refuse = (why: string, context = {}): Failure =>
    new Failure('CONFLICT', why, { context: { side: 'target', ...context } });
  if (request.keepExisting === true)
    throw refuse(`${place} holds an archive of ${held} already, which --keep-existing keeps: give another key`);
  const other = before.name === undefined ? undefined : repositoryIn(before.name);
  if (request.force === true || other === undefined || other === names.repository) return;
  throw refuse(
    `${place} holds the archive of ${held}, which is not replaced by ${imageName(names, root.digest)}: give another key, or --force to replace it`,
    { needsForce: true },
  );
}

/** `registry/repository` of a name with a tag or a digest. */
function repositoryIn(name: string): string {
  return name.replace(/@[^@/]*$|:[^:/]*$/, '');
}

/** What is at the key, if another process that wrote at the same time has put the same archive there. */
async function equalArchive(
  layout: ArchiveLayout,
  request: ArchiveTargetRequest,
  options: OperationOptions,
): Promise<ObjectInfo | undefined> {
  try {
    await using current = await openCurrentArchive({ ...request, force: true }, options);
    return current?.image?.layoutDigest === layout.digest ? current.info : undefined;
  } catch (error) {
    checkAborted(options);
    if (!isFailure(error)) throw error;
    return undefined;
  }
}

/** What is at the key before it is written. */
interface CurrentArchive extends AsyncDisposable {
  readonly info: ObjectInfo;
  /** Undefined where it was not opened. */
  readonly image: ArchivedImage | undefined;
  /** The image in it, `registry/repository` with its tag or digest. Undefined where it does not name it. */
  readonly name: string | undefined;
  readonly layoutDigest: string | undefined;
}

/** The archive at the key, unpacked where it is compressed. Undefined for what cannot be read. */
async function openIfReadable(
  { store, key, temporary }: ArchiveTargetRequest,
  options: OperationOptions,
): Promise<ArchivedImage | undefined> {
  try {
    return await openImage(store, key, { ...options, temporary });
  } catch (error) {
    if (!isFailure(error, 'INVALID', 'CORRUPT', 'UNSUPPORTED')) throw atSide('target', error);
    return undefined;
  }
}

/** Undefined where the key holds nothing. */
async function openCurrentArchive(
  { store, key, force, temporary }: ArchiveTargetRequest,
  options: OperationOptions,
): Promise<CurrentArchive | undefined> {
  const info = await onSide('target', ifFound(store.stat(key, options)));
  if (info === undefined) return undefined;
  const unopened: CurrentArchive = {
    info,
    image: undefined,
    name: sourceIn(info.metadata),
    layoutDigest: layoutDigestIn(info.metadata),
    [Symbol.asyncDispose]: async () => undefined,
  };
  // opening it would unpack it
  if (isCompressed(key) && unopened.layoutDigest !== undefined) return unopened;
  try {
    const image = await openImage(store, key, { ...options, temporary });
    return {
      info,
      image,
      name: nameOf(image) ?? unopened.name,
      layoutDigest: image.layoutDigest,
      [Symbol.asyncDispose]: () => image[Symbol.asyncDispose](),
    };
  } catch (error) {
    if (!isFailure(error, 'INVALID', 'CORRUPT', 'UNSUPPORTED')) throw atSide('target', error);
    if (force === true) return unopened;
    throw new Failure(
      'CONFLICT',
      `${store.describe(key)} holds something that is not an archive of an image (${describeFailure(error)}): give another key, or --force to replace it`,
      { cause: error, context: { side: 'target', needsForce: true } },
    );
  }
}

function nameOf({ repository, root }: ArchivedImage): string | undefined {
  return repository === undefined ? undefined : imageName({ repository, tag: root.tags[0] }, root.descriptor.digest);
}
