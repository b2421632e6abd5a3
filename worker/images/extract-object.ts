import { LRUCache } from 'lru-cache';
import { createHash } from 'node:crypto';
import type { Extracted } from '../artifacts/extracted.ts';
import { PROCESS_AHEAD } from '../content/ahead.ts';
import { bodyAt, collect, nothing } from '../content/bytes.ts';
import type { Bytes, Source } from '../content/content.ts';
import { progressOf } from '../content/paced.ts';
import { read } from '../content/read.ts';
import { watched } from '../content/watch.ts';
import type { Condition, ObjectInfo, ObjectStore } from '../objects/objects.ts';
import { hashFor, type Digest } from '../oci/digest.ts';
import type { Descriptor } from '../oci/manifest.ts';
import type { Abortable } from '../util/abort.ts';
import { Failure, isFailure, onSide } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import type { OperationOptions } from './backends.ts';
import type { OpenedPlace } from './object-places.ts';

export interface ExtractorOptions extends OpenedPlace {
  readonly source: Source;
  readonly isFolder: boolean;
  readonly force: boolean | undefined;
  readonly dryRun: boolean | undefined;
  readonly options: OperationOptions;
}

/** Objects up to this size are written in one piece. */
const SMALL_BYTES = 1024 * 1024;
/** Bytes of small objects that are kept for others with the same. */
const KEPT_BYTES = 16 * 1024 * 1024;

/** Writes single objects below a place. */
export class ObjectExtractor {
  readonly #options: ExtractorOptions;
  readonly #kept = new LRUCache<Digest, Uint8Array>({
    maxSize: KEPT_BYTES,
    // the cache takes no entry without a size
    sizeCalculation: ({ byteLength }) => Math.max(byteLength, 1),
  });
  /** For folders: hashes of the names of this run as a case-insensitive file system sees them. */
  readonly #folded = new Set<number>();

  constructor(options: ExtractorOptions) {
    this.#options = options;
  }

  /**
   * Makes the object be there. Idempotent. INVALID for a path that leads out of the place or cannot be there, CORRUPT for bytes that are not those of its digest, CONFLICT where another object is
   * there, or a file that differs in the case of its name alone.
   */
  async extract(object: Extracted, options: Abortable): Promise<'written' | 'unchanged' | 'skipped'> {
    const { isFolder, prefix, store, force, dryRun } = this.#options;
    const key = `${prefix}${object.path}`;
    if (object.size === 0 && (isFolder ? isMarker(key) : key === '')) return 'skipped';
    checkPath(object.path, key, isFolder);
    checkEmpty(object);
    const there = await onSide('target', this.#find(key, options));
    if (isFolder) await this.#checkCase(key, there, options);
    if (there !== undefined) {
      if (await this.#isSame(object, there, options)) return 'unchanged';
      if (force !== true) throw occupied(store, key);
    }
    if (dryRun === true) return 'written';
    await this.#write(key, object, there === undefined ? { ifAbsent: true } : { ifMatch: there.etag }, options);
    return 'written';
  }

  /** What is there. Undefined too without the permission to look: then the write decides. */
  async #find(key: string, options: Abortable): Promise<ObjectInfo | undefined> {
    try {
      return await this.#options.store.stat(key, options);
    } catch (error) {
      if (isFailure(error, 'NOT_FOUND', 'DENIED')) return undefined;
      throw error;
    }
  }

  async #write(key: string, object: Extracted, condition: Condition, options: Abortable): Promise<void> {
    const { store } = this.#options;
    const { contentType, digest, metadata, size } = object;
    const how = { ...options, condition, contentType, metadata };
    if (size > SMALL_BYTES) {
      const { report } = this.#options.options;
      report?.({ type: 'blob-started', digest, bytes: size });
      await onSide('target', store.stream(key, this.#bodyOf(object, options), how));
      report?.({ type: 'blob-done', digest, bytes: size, outcome: 'copied' });
    } else {
      const bytes = await this.#bytesOf(object, options);
      await onSide('target', store.write(key, bytes, how));
    }
  }

  /** The bytes of a small object, read once for those with the same bytes that come soon after it. */
  async #bytesOf(object: Extracted, options: Abortable): Promise<Uint8Array> {
    const { digest, size } = object;
    const known = this.#kept.get(digest);
    if (known !== undefined && known.byteLength === size) return known;
    const tooLong = (): Failure => new Failure('BUG', 'a verified body is longer than it should be');
    const bytes = await collect(this.#bodyOf(object, options), size, tooLong);
    this.#kept.set(digest, bytes);
    return bytes;
  }

  #bodyOf({ digest, size }: Extracted, options: Abortable): Bytes {
    if (size === 0) return nothing();
    const { source, options: common } = this.#options;
    const { clock, report } = common;
    const blob: Descriptor = { mediaType: 'application/octet-stream', digest, size };
    const body = bodyAt('source', read(source, blob, { ...options, clock, report, ahead: PROCESS_AHEAD }));
    return size > SMALL_BYTES ? watched(body, progressOf(blob, report, clock)) : body;
  }

  /** Whether the object that is there has the same bytes, and in S3 the same content type and metadata. */
  async #isSame(object: Extracted, there: ObjectInfo, options: Abortable): Promise<boolean> {
    const { store, isFolder } = this.#options;
    if (there.size !== object.size) return false;
    if (!isFolder && !isDescribedAs(object, there)) return false;
    const hash = hashFor(object.digest);
    const body = await onSide('target', store.read(there.key, { ...options, ifMatch: there.etag }));
    for await (const chunk of bodyAt('target', body)) hash.update(chunk);
    return object.digest.endsWith(`:${hash.digest('hex')}`);
  }

  /** CONFLICT where a file of this run, whose name differs in case alone, is what is found under this name too. */
  async #checkCase(key: string, there: ObjectInfo | undefined, options: Abortable): Promise<void> {
    const { store } = this.#options;
    const folded = foldedHash(key);
    const isNew = !this.#folded.has(folded);
    this.#folded.add(folded);
    if (isNew || there === undefined) return;
    for await (const { key: name } of store.list(key, options)) if (name === key) return;
    throw new Failure(
      'CONFLICT',
      `write ${store.describe(key)}: the file system does not distinguish its name from that of another file of this snapshot, which differs only in upper and lower case: extract to S3, or to a file system that does`,
      { context: { side: 'target' } },
    );
  }
}

/** Whether an empty object of this key stands for a folder, as consoles of S3 make them. */
function isMarker(key: string): boolean {
  return key === '' || key.endsWith('/');
}

/** INVALID for a path that leads elsewhere, or that a folder does not have. In S3 one slash more is a name like any other. */
function checkPath(path: string, key: string, isFolder: boolean): void {
  const components = path.split('/');
  const leadsOut = components.some((name) => name === '.' || name === '..');
  if (!leadsOut && key !== '' && !(isFolder && components.includes(''))) return;
  throw new Failure('INVALID', `${quote(path)} is not a path below the target: it is not written`, {
    context: { side: 'target' },
  });
}

/** CORRUPT for an object of no bytes whose digest is that of others: no blob is read for it. */
function checkEmpty({ size, digest }: Extracted): void {
  if (size > 0 || digest.endsWith(`:${hashFor(digest).digest('hex')}`)) return;
  throw new Failure(
    'CORRUPT',
    `${digest} is not the digest of an empty object, as the snapshot claims: it is not written`,
    { context: { side: 'source', digest } },
  );
}

/** 48 bits are enough: where two names share them by chance, the folder is looked at once more than it needs. */
function foldedHash(key: string): number {
  return createHash('sha256').update(key.normalize('NFC').toLowerCase()).digest().readUIntBE(0, 6);
}

function isDescribedAs({ contentType, metadata }: Extracted, there: ObjectInfo): boolean {
  if (contentType !== undefined && contentType !== there.contentType) return false;
  if (metadata === undefined) return true;
  const [wanted, found] = [Object.entries(metadata), Object.entries(there.metadata)];
  return wanted.length === found.length && wanted.every(([name, value]) => there.metadata[name] === value);
}

function occupied(store: ObjectStore, key: string): Failure {
  return new Failure('CONFLICT', `write ${store.describe(key)}: something else is there: pass --force to replace it`, {
    context: { side: 'target' },
  });
}
