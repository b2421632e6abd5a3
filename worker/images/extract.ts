import { extractedOf, titledLayers, type Extracted } from '../artifacts/extracted.ts';
import { readSnapshot, type Snapshot, type SnapshotEntry } from '../artifacts/snapshot.ts';
import type { Source } from '../content/content.ts';
import type { Digest } from '../oci/digest.ts';
import { parseS3 } from '../oci/location.ts';
import type { Descriptor } from '../oci/manifest.ts';
import { formatObjectPlace, type ObjectPlace } from '../oci/object-place.ts';
import { formatReference, type Reference } from '../oci/reference.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { describeFailure, Failure, onSide, toFailure } from '../util/failure.ts';
import { forEachOf } from '../util/limit.ts';
import type { Backends, OperationOptions } from './backends.ts';
import { ObjectExtractor } from './extract-object.ts';
import { openPlace } from './object-places.ts';
import { entriesOf, readManifest } from './open-snapshot.ts';
import { concernsAll, MAX_FAILURES, type ObjectFailure } from './publish-result.ts';

export interface ExtractRequest {
  /** A snapshot, a published object, or any artifact whose layers have titles. */
  readonly from: Reference;
  readonly to: ObjectPlace;
  /** Also replaces files and objects that have other bytes. Default false: such an object fails. */
  readonly force?: boolean | undefined;
  /** Reports what would be done, and writes nothing. Default false. */
  readonly dryRun?: boolean | undefined;
}

/** What became of everything that an artifact or snapshot holds. */
export interface ExtractResult {
  readonly from: string;
  readonly to: string;
  /** What `from` stood for. */
  readonly digest: Digest;
  /** `unchanged`: everything was there already, and nothing failed. */
  readonly outcome: 'extracted' | 'unchanged' | 'planned';
  readonly objects: {
    readonly written: number;
    /** There already, with the same bytes (in S3 with the same content type and metadata too). */
    readonly unchanged: number;
    /** Markers of folders in S3, which a folder cannot have. */
    readonly skipped: number;
    readonly failed: number;
  };
  /** Bytes of what was written; of a dry run, of what would be. */
  readonly bytesWritten: number;
  /** The first `MAX_FAILURES` of `objects.failed`. `key`: its destination, below `to`. */
  readonly failures: readonly ObjectFailure[];
}

/** Objects that are written together, before the next are read from the snapshot: what is held in memory. */
const BATCH = 1000;
const DEFAULT_CONCURRENCY = 4;

/**
 * Writes what `from` holds below `to`, never outside of it. Idempotent: what is there with the same bytes is left alone. A failed object is
 * reported (`object-failed`) and counted, and the others go on. UNSUPPORTED where `from` holds no files.
 */
export async function extract(
  request: ExtractRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<ExtractResult> {
  const { registry, repository, tag, digest } = request.from;
  const source = backends.registry(registry, 'source').repository(repository);
  const descriptor = await onSide('source', source.resolve(digest ?? tag ?? 'latest', options));
  const { snapshot, files } = await onSide('source', filesIn(source, descriptor, options));
  const run = new ExtractRun(request, source, backends, options);
  if (snapshot === undefined) {
    if (files.length === 0) throw withoutFiles(request.from);
    await run.extract(files);
  } else {
    const entries = entriesOf(source, snapshot.shards, { ...options, side: 'source' });
    await run.extract(objectsOf(entries, prefixOf(snapshot.source)));
    checkCount(request.from, run.counts, snapshot.objects);
  }
  return {
    from: formatReference(request.from),
    to: formatObjectPlace(request.to),
    digest: descriptor.digest,
    outcome: outcomeOf(request, run.counts),
    objects: run.counts,
    bytesWritten: run.bytes,
    failures: run.failures,
  };
}

/** The snapshot that `descriptor` names, or the files of another artifact. */
async function filesIn(
  source: Source,
  descriptor: Descriptor,
  options: OperationOptions,
): Promise<{ readonly snapshot: Snapshot | undefined; readonly files: readonly Extracted[] }> {
  const manifest = await readManifest(source, descriptor, options);
  const snapshot = readSnapshot(manifest);
  return { snapshot, files: snapshot === undefined ? titledLayers(manifest) : [] };
}

function outcomeOf(
  { dryRun }: ExtractRequest,
  { written, failed }: ExtractResult['objects'],
): ExtractResult['outcome'] {
  if (dryRun === true) return 'planned';
  return written + failed === 0 ? 'unchanged' : 'extracted';
}

/** CORRUPT unless as many objects were found as the snapshot states. */
function checkCount(from: Reference, counts: ExtractResult['objects'], said: number): void {
  const found = counts.written + counts.unchanged + counts.skipped + counts.failed;
  if (found === said) return;
  const message = `${formatReference(from)} states that it lists ${said} objects, and lists ${found}: what it lists was extracted; publish a new snapshot`;
  throw new Failure('CORRUPT', message, { context: { side: 'source' } });
}

class ExtractRun {
  readonly counts = { written: 0, unchanged: 0, skipped: 0, failed: 0 };
  bytes = 0;
  readonly failures: ObjectFailure[] = [];
  readonly #options: OperationOptions;
  readonly #extractor: ObjectExtractor;
  readonly #planned: { readonly planned?: true };

  constructor({ to, force, dryRun }: ExtractRequest, source: Source, backends: Backends, options: OperationOptions) {
    this.#options = options;
    this.#planned = dryRun === true ? { planned: true } : {};
    const isFolder = to.transport === 'folder';
    this.#extractor = new ObjectExtractor({ ...openPlace(to, backends), source, isFolder, force, dryRun, options });
  }

  async extract(objects: Iterable<Extracted> | AsyncIterable<Extracted>): Promise<void> {
    const width = this.#options.concurrency ?? DEFAULT_CONCURRENCY;
    const settle = async (batch: readonly Extracted[]): Promise<void> =>
      forEachOf(batch, width, async (object, options) => this.#one(object, options), this.#options);
    let batch: Extracted[] = [];
    for await (const object of objects) {
      batch.push(object);
      if (batch.length < BATCH) continue;
      await settle(batch);
      batch = [];
    }
    await settle(batch);
  }

  async #one(object: Extracted, options: Abortable): Promise<void> {
    const { path: key, digest, size: bytes } = object;
    const { report } = this.#options;
    try {
      const outcome = await this.#extractor.extract(object, options);
      this.counts[outcome]++;
      if (outcome === 'written') {
        this.bytes += bytes;
        report?.({ type: 'object-extracted', key, digest, bytes, ...this.#planned });
      } else report?.({ type: 'object-unchanged', key });
    } catch (error) {
      checkAborted(options);
      const failure = toFailure(error);
      if (concernsAll(failure, 'source')) throw failure;
      this.counts.failed++;
      if (this.failures.length < MAX_FAILURES) this.failures.push({ key, failure });
      report?.({ type: 'object-failed', key, code: failure.code, message: describeFailure(failure) });
    }
  }
}

async function* objectsOf(entries: AsyncIterable<SnapshotEntry>, prefix: string): AsyncIterable<Extracted> {
  for await (const entry of entries) yield extractedOf(entry, prefix);
}

/** What the keys of a snapshot start with. */
function prefixOf(source: string): string {
  return source.startsWith('s3://') ? parseS3(source).key : '';
}

function withoutFiles(from: Reference): Failure {
  return new Failure(
    'UNSUPPORTED',
    `${formatReference(from)} holds no files: it is neither a snapshot nor an artifact whose layers have titles (an image is copied with \`transship copy\`)`,
    { context: { side: 'source' } },
  );
}
