import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import { sameEtag } from '../../util/etag.ts';
import { Failure, isFailure, toFailure } from '../../util/failure.ts';
import type { ObjectInfo, PartOptions, PartSource, Upload, UploadOptions } from '../objects.ts';
import type { Parts } from '../parts.ts';
import { isRefusal, isS3Error, refused } from './failure.ts';
import { dropQuietly, wholeOf, type Multipart, type MultipartCalls, type StoredPart } from './multipart.ts';
import { MAX_PARTS } from './part-size.ts';
import { etagOf, holds } from './values.ts';

/** The number of the marker: the last that S3 has, and never that of a part of the object. */
const MARKER_PART = MAX_PARTS;
/** Under this name every object that was uploaded in parts keeps the fingerprint of its content. */
const FINGERPRINT = 'transship-fingerprint';

/**
 * Begins an upload, or takes up the newest unfinished one that has the same marker.
 *
 * An upload can be taken up again without state anywhere else. Each has a marker as part number 10,000, made of its fingerprint, size and part
 * size. A part cannot be read, but ListParts gives its length and CRC-32, and they are compared with those of the marker that the wanted
 * upload would have; where the server keeps no CRC-32, the ETag is compared. Complete does not list the marker, so S3 drops it. A server that
 * demands that every part is listed gets no marker, and every upload begins anew. Of several uploads, the one begun last is taken up; its parts
 * of the right length count as stored. Unfinished uploads of other programs are never touched: a lifecycle rule of the bucket
 * (AbortIncompleteMultipartUpload) clears away what no process takes up again. The reasons: docs/decisions/0002-resumable-uploads-without-state.md.
 */
export async function openS3Upload(
  calls: MultipartCalls,
  key: string,
  parts: Parts,
  options: UploadOptions,
): Promise<Upload> {
  const marker = markerOf(options.fingerprint, parts);
  const found = await takeUp(calls, key, marker, options);
  if (options.condition !== undefined) await calls.tryConditions(key, options);
  if (found !== undefined) return new S3Upload(calls, found.multipart, parts, found.stored, options);
  const multipart = await calls.begin(key, {
    ...options,
    metadata: { ...options.metadata, [FINGERPRINT]: options.fingerprint },
  });
  if (calls.countsParts) {
    if (!calls.triedTakingUp) calls.warn(cannotResume(calls, key));
    calls.triedTakingUp = true;
    return new S3Upload(calls, multipart, parts, [], options);
  }
  try {
    // without `onSent`: its bytes are not those of the object
    const sending = { signal: options.signal };
    await calls.send(multipart, MARKER_PART, marker, crc32(marker), sending);
    await tryTakingUp(calls, multipart, marker, sending);
  } catch (error) {
    // without its marker no process would ever find it again
    await dropQuietly(calls, multipart);
    throw error;
  }
  return new S3Upload(calls, multipart, parts, [], options);
}

class S3Upload implements Upload {
  readonly #calls: MultipartCalls;
  readonly #multipart: Multipart;
  readonly #parts: Parts;
  readonly #stored = new Map<number, StoredPart>();
  readonly #options: UploadOptions;
  #committed: ObjectInfo | undefined;

  constructor(
    calls: MultipartCalls,
    multipart: Multipart,
    parts: Parts,
    stored: readonly StoredPart[],
    options: UploadOptions,
  ) {
    this.#calls = calls;
    this.#multipart = multipart;
    this.#parts = parts;
    this.#options = options;
    for (const part of stored)
      if (part.number <= parts.count && part.size === parts.length(part.number)) this.#keep(part);
  }

  get partSize(): number {
    return this.#parts.partSize;
  }

  get parts(): number {
    return this.#parts.count;
  }

  get done(): ReadonlyMap<number, number | undefined> {
    return this.#parts.done;
  }

  holds(number: number, bytes: Uint8Array, crc?: number): boolean {
    const part = this.#stored.get(number);
    if (part === undefined || !this.#parts.done.has(number)) return false;
    return part.crc === undefined ? sameEtag(part.etag, etagOf(bytes)) : part.crc === (crc ?? crc32(bytes));
  }

  async part(number: number, bytes: Uint8Array, options: PartOptions = {}): Promise<void> {
    checkAborted(options);
    this.#parts.check(number, bytes.byteLength, this.#doing);
    const crc = options.crc ?? crc32(bytes);
    const { onSent } = this.#options;
    this.#parts.done.delete(number);
    try {
      if (this.#committed === undefined)
        this.#keep(await this.#calls.send(this.#multipart, number, bytes, crc, { signal: options.signal, onSent }));
    } catch (error) {
      await this.#endedElsewhere(error, options);
    }
    this.#parts.done.set(number, crc);
  }

  async copyPart(number: number, bytes: Uint8Array, from: PartSource, options: PartOptions = {}): Promise<boolean> {
    checkAborted(options);
    this.#parts.check(number, bytes.byteLength, this.#doing);
    if (!this.#calls.copies) return false;
    const crc = options.crc ?? crc32(bytes);
    this.#parts.done.delete(number);
    try {
      if (this.#committed === undefined) {
        const copied = await this.#calls.copy(this.#multipart, number, from, bytes.byteLength, options);
        if (copied?.crc !== crc) return false;
        this.#keep(copied);
      }
    } catch (error) {
      await this.#endedElsewhere(error, options);
    }
    this.#parts.done.set(number, crc);
    return true;
  }

  async commit(options: Abortable = {}): Promise<ObjectInfo> {
    checkAborted(options);
    this.#parts.checkComplete(this.#doing);
    if (this.#committed === undefined) {
      this.#committed = await this.#complete(options);
      // a writer with a condition looked at what is there before, and so do all others of this key: theirs does not hold any more
      if (this.#options.condition !== undefined) await clearAway(this.#calls, this.#multipart, options);
    }
    return this.#committed;
  }

  async abort(): Promise<void> {
    if (this.#committed === undefined) await this.#calls.drop(this.#multipart);
  }

  get #doing(): string {
    return `upload ${this.#calls.describe(this.#multipart.key)}`;
  }

  #keep(part: StoredPart): void {
    this.#stored.set(part.number, part);
    this.#parts.done.set(part.number, part.crc);
  }

  async #complete(options: Abortable): Promise<ObjectInfo> {
    const finish = async (): Promise<ObjectInfo> => {
      const stored = [...this.#stored.values()].sort((a, b) => a.number - b.number);
      return this.#calls.complete(this.#multipart, stored, wholeOf(stored, this.#options.condition), options);
    };
    try {
      try {
        return await finish();
      } catch (error) {
        if (!isS3Error(error, 'InvalidPart')) throw error;
        // another process with the same upload has sent a part again, which under KMS gives it another etag
        await this.#lookAgain(error, options);
        return await finish();
      }
    } catch (error) {
      if (isS3Error(error, 'NoSuchUpload')) return this.#endedElsewhere(error, options);
      if (isRefusal(error)) {
        const ours = await this.#ours(options);
        if (ours === undefined) throw refused(this.#calls.describe(this.#multipart.key), error);
        await dropQuietly(this.#calls, this.#multipart);
        return ours;
      }
      // S3 demands a new upload: this one must not be taken up again
      if (isS3Error(error, 'ConditionalRequestConflict')) await dropQuietly(this.#calls, this.#multipart);
      throw error;
    }
  }

  async #lookAgain(cause: unknown, options: Abortable): Promise<void> {
    const { done } = this.#parts;
    const found = new Map(
      (await this.#calls.storedParts(this.#multipart, 0, options)).map((part) => [part.number, part]),
    );
    for (const number of done.keys()) {
      const [part, sent] = [found.get(number), this.#stored.get(number)];
      const isSame = part?.crc === undefined ? sameEtag(part?.etag, sent?.etag) : part.crc === sent?.crc;
      if (part === undefined || !isSame || part.size !== this.#parts.length(number)) {
        done.delete(number);
        this.#stored.delete(number);
      } else this.#stored.set(number, { ...part, crc: sent?.crc });
    }
    if (done.size < this.#parts.count)
      throw new Failure('CORRUPT', `${this.#doing}: S3 holds other parts than were sent: send them again`, { cause });
  }

  /** After NoSuchUpload: the object if another process has finished the same upload. Everything else is thrown. */
  async #endedElsewhere(error: unknown, options: Abortable): Promise<ObjectInfo> {
    if (!isS3Error(error, 'NoSuchUpload')) throw error;
    const found = await this.#calls.stat(this.#multipart.key, options);
    if (found !== undefined && this.#isOurs(found)) {
      this.#committed = found;
      return found;
    }
    // the other unfinished uploads of the key are useless now
    const { condition } = this.#options;
    if (isFailure(error) && found !== undefined && condition !== undefined && !holds(condition, found))
      throw refused(this.#calls.describe(this.#multipart.key), error);
    throw new Failure('UNAVAILABLE', `${this.#doing}: another process aborted it: start the upload again`);
  }

  /** What is there, if it has our content. */
  async #ours(options: Abortable): Promise<ObjectInfo | undefined> {
    const found = await this.#calls.stat(this.#multipart.key, options);
    return found !== undefined && this.#isOurs(found) ? found : undefined;
  }

  #isOurs(info: ObjectInfo): boolean {
    return info.metadata[FINGERPRINT] === this.#options.fingerprint && info.size === this.#parts.size;
  }
}

/**
 * What the marker of such an upload holds. Only its length and CRC-32 can be asked for later, so its length depends on its content too: with 32 and
 * 16 bits, no two uploads of one key will ever be taken for each other. The ETag has more bits, but under KMS it is not a digest.
 */
function markerOf(fingerprint: string, { size, partSize }: Parts): Uint8Array {
  const text = JSON.stringify({ format: 'transship-upload-1', fingerprint, size, partSize });
  const padding = createHash('sha256').update(text).digest().readUInt16BE();
  return Buffer.from(text + ' '.repeat(padding));
}

async function takeUp(
  calls: MultipartCalls,
  key: string,
  marker: Uint8Array,
  options: Abortable,
): Promise<{ multipart: Multipart; stored: readonly StoredPart[] } | undefined> {
  const crc = crc32(marker);
  try {
    for (const multipart of await calls.unfinished(key, options)) {
      const found = await findMarker(calls, multipart, options);
      if (found?.size !== marker.byteLength) continue;
      if (found.crc === undefined ? !sameEtag(found.etag, etagOf(marker)) : found.crc !== crc) continue;
      return { multipart, stored: await storedUnlessGone(calls, multipart, 0, options) };
    }
  } catch (error) {
    if (!isFailure(error, 'DENIED', 'UNSUPPORTED')) throw error;
    calls.warn(`an interrupted upload cannot be taken up, so it begins anew: ${error.message}`);
  }
  return undefined;
}

/** The marker of an unfinished upload. Undefined for an upload without one. */
async function findMarker(
  calls: MultipartCalls,
  multipart: Multipart,
  options: Abortable,
): Promise<StoredPart | undefined> {
  const [found] = await storedUnlessGone(calls, multipart, MARKER_PART - 1, options);
  if (found !== undefined || !calls.isForeign) return found?.number === MARKER_PART ? found : undefined;
  // moto and others take the number after which a list begins for an index
  const all = await storedUnlessGone(calls, multipart, 0, options);
  return all.find(({ number }) => number === MARKER_PART);
}

/** At the first upload to a server that is not Amazon's: reports a warning unless this upload could be taken up again. */
async function tryTakingUp(
  calls: MultipartCalls,
  { key, id }: Multipart,
  marker: Uint8Array,
  options: Abortable,
): Promise<void> {
  if (!calls.isForeign || calls.triedTakingUp) return;
  calls.triedTakingUp = true;
  if ((await takeUp(calls, key, marker, options))?.multipart.id !== id) calls.warn(cannotResume(calls, key));
}

function cannotResume(calls: MultipartCalls, key: string): string {
  return `${calls.describe(key)}: this S3 does not list what is needed to take up an upload again: one that is interrupted begins anew`;
}

async function storedUnlessGone(
  calls: MultipartCalls,
  multipart: Multipart,
  after: number,
  options: Abortable,
): Promise<readonly StoredPart[]> {
  try {
    return await calls.storedParts(multipart, after, options);
  } catch (error) {
    if (isS3Error(error, 'NoSuchUpload')) return [];
    throw error;
  }
}

/**
 * Drops the other unfinished uploads of a key whose object is complete, where they are ours: those with a marker, and those without any part,
 * of which nothing can be known. They were left by a crash, or by an answer that was lost. Never fails.
 */
async function clearAway(calls: MultipartCalls, complete: Multipart, options: Abortable): Promise<void> {
  try {
    for (const multipart of await calls.unfinished(complete.key, options)) {
      if (multipart.id === complete.id) continue;
      const parts = await calls.storedParts(multipart, 0, options);
      if (parts.every(({ number }) => number !== MARKER_PART) && parts.length > 0) continue;
      await calls.drop(multipart);
    }
  } catch (error) {
    if (!isS3Error(error, 'NoSuchUpload')) calls.warn(`unfinished uploads may remain: ${toFailure(error).message}`);
  }
}
