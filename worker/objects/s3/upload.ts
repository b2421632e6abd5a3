import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import type { Bytes } from '../../content/content.ts';
import { anyOf, checkAborted, type Abortable } from '../../util/abort.ts';
import { crc32Combine } from '../../util/crc32.ts';
import { Failure, isFailure, toFailure } from '../../util/failure.ts';
import type { Condition, ObjectInfo, Upload, UploadOptions, WriteOptions } from '../objects.ts';
import type { Parts } from '../parts.ts';
import { isS3Error } from './failure.ts';

/** A part as S3 has it. */
export interface StoredPart {
  readonly n: number;
  readonly size: number;
  readonly etag: string;
  /** Absent when the upload was begun without CRC-32. */
  readonly crc: number | undefined;
}

/** A multipart upload of S3. */
export interface Multipart {
  readonly key: string;
  readonly id: string;
}

export interface WholeObject {
  readonly size: number;
  readonly crc: number;
  readonly condition: Condition | undefined;
}

/** What uploads in parts ask of S3: one call each, repeated where that helps. Failures carry S3's code. */
export interface MultipartCalls {
  describe(key: string): string;
  warn(message: string): void;
  stat(key: string, options: Abortable): Promise<ObjectInfo>;
  begin(key: string, options: WriteOptions): Promise<Multipart>;
  /** Those of exactly this key, the one begun last first. */
  unfinished(key: string, options: Abortable): Promise<readonly Multipart[]>;
  /** The parts whose numbers are greater than `after`, in their order. */
  storedParts(upload: Multipart, after: number, options: Abortable): Promise<readonly StoredPart[]>;
  send(upload: Multipart, n: number, bytes: Uint8Array, crc: number, options: Abortable): Promise<StoredPart>;
  /** `parts` are numbered from 1 without gaps. CORRUPT when S3 put together other bytes. An answer that was lost is found out. */
  complete(
    upload: Multipart,
    parts: readonly StoredPart[],
    whole: WholeObject,
    options: Abortable,
  ): Promise<ObjectInfo>;
  /** Success when there is none. */
  drop(upload: Multipart): Promise<void>;
}

const MIB = 1024 * 1024;
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
const MAX_OBJECT_BYTES = 50e12;
const MAX_PART_BYTES = 5 * 1024 * MIB;
const MIN_PART_BYTES = 5 * MIB;
const MAX_PARTS = 10_000;
/** The last part number that S3 has is none of ours, so that it can tell what an unfinished upload is for. */
const MARKER_PART = MAX_PARTS;
const DEFAULT_PART_BYTES = 8 * MIB;
/** Of a body of unknown length: on their way at once, while another is being filled. */
const STREAMED_AT_ONCE = 3;
/** Under this name every object that was uploaded in parts keeps the fingerprint of its content. */
const FINGERPRINT = 'transship-fingerprint';

/** Bytes of every part of an upload of `size` bytes but the last. INVALID when S3 cannot store it so. */
export function partSizeFor(
  size: number,
  options: { readonly partSize?: number | undefined; readonly minPartBytes?: number | undefined } = {},
): number {
  const { partSize, minPartBytes = MIN_PART_BYTES } = options;
  const most = MAX_PARTS - 1;
  if (!Number.isSafeInteger(size) || size < 1) throw new Failure('INVALID', `${size} bytes cannot be uploaded`);
  if (size > MAX_OBJECT_BYTES)
    throw new Failure('INVALID', `${size} bytes cannot be uploaded: an object in S3 has 50 TB at most`);
  if (partSize === undefined) return Math.max(DEFAULT_PART_BYTES, Math.ceil(size / most / MIB) * MIB);
  if (!Number.isSafeInteger(partSize) || partSize < minPartBytes || partSize > MAX_PART_BYTES)
    throw new Failure('INVALID', `S3 takes parts of ${minPartBytes} to ${MAX_PART_BYTES} bytes, not ${partSize}`);
  if (partSize * most < size)
    throw new Failure('INVALID', `${size} bytes in parts of ${partSize} are more than ${most} parts: use larger ones`);
  return partSize;
}

/** Begins an upload, or takes up the newest unfinished one that has the same marker. */
export async function openS3Upload(
  calls: MultipartCalls,
  key: string,
  parts: Parts,
  options: UploadOptions,
): Promise<Upload> {
  const marker = markerOf(options.fingerprint, parts);
  const found = await takeUp(calls, key, marker, options);
  if (found !== undefined) return new S3Upload(calls, found.multipart, parts, found.stored, options);
  const multipart = await calls.begin(key, {
    ...options,
    metadata: { ...options.metadata, [FINGERPRINT]: options.fingerprint },
  });
  try {
    await calls.send(multipart, MARKER_PART, marker, crc32(marker), options);
  } catch (error) {
    // without its marker nobody would ever find it again
    await dropQuietly(calls, multipart);
    throw error;
  }
  return new S3Upload(calls, multipart, parts, [], options);
}

/** Stores a body of unknown length in parts of growing size. A short one is handed to `write`. */
export async function streamToS3(
  calls: MultipartCalls,
  key: string,
  body: Bytes,
  options: WriteOptions,
  write: (bytes: Uint8Array) => Promise<ObjectInfo>,
): Promise<ObjectInfo> {
  const pieces = piecesOf(body, options);
  try {
    const first = await pieces.next();
    if (first.done === true) return await write(new Uint8Array());
    if (first.value.byteLength < DEFAULT_PART_BYTES) return await write(first.value);
    const multipart = await calls.begin(key, options);
    try {
      const stored = await sendPieces(calls, multipart, first.value, pieces, options);
      return await calls.complete(multipart, stored, wholeOf(stored, options.condition), options);
    } catch (error) {
      await dropQuietly(calls, multipart);
      throw isRefusal(error) ? refused(calls, key, error) : error;
    }
  } finally {
    await pieces.return();
  }
}

/** Whether S3 says that a condition does not hold. */
export function isRefusal(error: unknown): error is Failure {
  // If-Match on what is not there: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
  return isS3Error(error, 'PreconditionFailed', 'NoSuchKey');
}

export function refused(calls: Pick<MultipartCalls, 'describe'>, key: string, cause: Failure): Failure {
  const what = isS3Error(cause, 'NoSuchKey') ? 'was removed' : 'was written by somebody else';
  return new Failure('CONFLICT', `write ${calls.describe(key)}: it ${what} in the meantime`, {
    context: cause.context,
  });
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
    for (const part of stored) if (part.n <= parts.count && part.size === parts.length(part.n)) this.#keep(part);
  }

  get partSize(): number {
    return this.#parts.partSize;
  }

  get parts(): number {
    return this.#parts.count;
  }

  get done(): ReadonlyMap<number, number> {
    return this.#parts.done;
  }

  async part(n: number, bytes: Uint8Array, options: Abortable = {}): Promise<void> {
    checkAborted(options);
    this.#parts.check(n, bytes.byteLength, this.#doing);
    const crc = crc32(bytes);
    this.#parts.done.delete(n);
    try {
      if (this.#committed === undefined) this.#keep(await this.#calls.send(this.#multipart, n, bytes, crc, options));
    } catch (error) {
      await this.#endedElsewhere(error, options);
    }
    this.#parts.done.set(n, crc);
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

  /** False when S3 did not tell the part's CRC-32. */
  #keep(part: StoredPart): boolean {
    if (part.crc === undefined) return false;
    this.#stored.set(part.n, part);
    this.#parts.done.set(part.n, part.crc);
    return true;
  }

  async #complete(options: Abortable): Promise<ObjectInfo> {
    const finish = async (): Promise<ObjectInfo> => {
      const stored = [...this.#stored.values()].sort((a, b) => a.n - b.n);
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
        if (ours === undefined) throw refused(this.#calls, this.#multipart.key, error);
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
    const found = new Map((await this.#calls.storedParts(this.#multipart, 0, options)).map((part) => [part.n, part]));
    for (const [n, crc] of done) {
      const part = found.get(n);
      if (part?.crc !== crc || part.size !== this.#parts.length(n)) {
        done.delete(n);
        this.#stored.delete(n);
      } else this.#stored.set(n, part);
    }
    if (done.size < this.#parts.count)
      throw new Failure('CORRUPT', `${this.#doing}: S3 holds other parts than were sent: send them again`, { cause });
  }

  /** After NoSuchUpload: the object if another process has finished the same upload. Everything else is thrown. */
  async #endedElsewhere(error: unknown, options: Abortable): Promise<ObjectInfo> {
    if (!isS3Error(error, 'NoSuchUpload')) throw error;
    const found = await this.#found(options);
    if (found !== undefined && this.#isOurs(found)) {
      this.#committed = found;
      return found;
    }
    // who completes an upload clears away those that this makes useless
    if (isFailure(error) && found !== undefined && !holds(this.#options.condition, found))
      throw refused(this.#calls, this.#multipart.key, error);
    throw new Failure('UNAVAILABLE', `${this.#doing}: it was aborted by somebody else: start the upload again`);
  }

  /** What is there, if it has our content. */
  async #ours(options: Abortable): Promise<ObjectInfo | undefined> {
    const found = await this.#found(options);
    return found !== undefined && this.#isOurs(found) ? found : undefined;
  }

  #isOurs(info: ObjectInfo): boolean {
    return info.metadata[FINGERPRINT] === this.#options.fingerprint && info.size === this.#parts.size;
  }

  async #found(options: Abortable): Promise<ObjectInfo | undefined> {
    try {
      return await this.#calls.stat(this.#multipart.key, options);
    } catch (error) {
      if (isFailure(error, 'NOT_FOUND', 'DENIED')) return undefined;
      throw error;
    }
  }
}

/**
 * What the marker of such an upload holds. Only its length and CRC-32 can be asked for later, so its length too depends on what it says:
 * with 32 and 16 bits, no two uploads of one key will ever be taken for each other. The ETag would say more, but under KMS it is no digest.
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
      const [found] = await storedUnlessGone(calls, multipart, MARKER_PART - 1, options);
      if (found?.n !== MARKER_PART || found.size !== marker.byteLength || found.crc !== crc) continue;
      return { multipart, stored: await storedUnlessGone(calls, multipart, 0, options) };
    }
  } catch (error) {
    if (!isFailure(error, 'DENIED', 'UNSUPPORTED')) throw error;
    calls.warn(`an interrupted upload cannot be taken up, so it begins anew: ${error.message}`);
  }
  return undefined;
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

function holds(condition: Condition | undefined, there: ObjectInfo): boolean {
  return condition === undefined || ('ifMatch' in condition && condition.ifMatch === there.etag);
}

/**
 * Drops the other unfinished uploads of a key whose object is complete, where they are ours: those with a marker, and those without any part,
 * of which nothing can be known. They were left by who died, or by an answer that was lost. Never fails.
 */
async function clearAway(calls: MultipartCalls, complete: Multipart, options: Abortable): Promise<void> {
  try {
    for (const multipart of await calls.unfinished(complete.key, options)) {
      if (multipart.id === complete.id) continue;
      const parts = await calls.storedParts(multipart, 0, options);
      if (parts.every(({ n }) => n !== MARKER_PART) && parts.length > 0) continue;
      await calls.drop(multipart);
    }
  } catch (error) {
    if (!isS3Error(error, 'NoSuchUpload'))
      calls.warn(`unfinished uploads may stay behind: ${toFailure(error).message}`);
  }
}

async function dropQuietly(calls: MultipartCalls, multipart: Multipart): Promise<void> {
  try {
    await calls.drop(multipart);
  } catch (error) {
    calls.warn(`an unfinished upload stays behind: ${toFailure(error).message}`);
  }
}

/**
 * The body in pieces of at least 8 MiB, or a thousandth of what came before: 8 GB in small parts, 19 TB in 10,000. Only the last piece may be
 * smaller. Each is memory of its own.
 */
async function* piecesOf(body: Bytes, options: Abortable): AsyncGenerator<Uint8Array, void, undefined> {
  let sent = 0;
  let piece = Buffer.allocUnsafe(DEFAULT_PART_BYTES);
  let filled = 0;
  for await (const chunk of body) {
    checkAborted(options);
    for (let rest = chunk; rest.byteLength > 0;) {
      const taken = rest.subarray(0, piece.byteLength - filled);
      piece.set(taken, filled);
      filled += taken.byteLength;
      rest = rest.subarray(taken.byteLength);
      if (filled < piece.byteLength) continue;
      yield piece;
      sent += filled;
      const next = Math.max(DEFAULT_PART_BYTES, Math.ceil(sent / 1000 / MIB) * MIB);
      piece = Buffer.allocUnsafe(Math.min(next, MAX_PART_BYTES));
      filled = 0;
    }
  }
  if (filled > 0) yield piece.subarray(0, filled);
}

async function sendPieces(
  calls: MultipartCalls,
  multipart: Multipart,
  first: Uint8Array,
  others: AsyncIterable<Uint8Array>,
  options: Abortable,
): Promise<readonly StoredPart[]> {
  const stop = new AbortController();
  const signal = anyOf(options.signal, stop.signal);
  const stored: StoredPart[] = [];
  const flying = new Set<Promise<void>>();
  const failed: unknown[] = [];
  let count = 0;
  const send = async (n: number, bytes: Uint8Array): Promise<void> => {
    try {
      stored.push(await calls.send(multipart, n, bytes, crc32(bytes), { signal }));
    } catch (error) {
      failed.push(error);
      stop.abort(error);
    }
  };
  const launch = (bytes: Uint8Array): void => {
    const sending = send(++count, bytes).finally(() => flying.delete(sending));
    flying.add(sending);
  };
  try {
    launch(first);
    for await (const piece of others) {
      if (count === MAX_PARTS)
        throw new Failure('INVALID', `upload ${calls.describe(multipart.key)}: the body is too long for an object`);
      while (flying.size >= STREAMED_AT_ONCE) await Promise.race(flying);
      if (failed.length > 0) break;
      launch(piece);
    }
  } catch (error) {
    failed.unshift(error);
    stop.abort(error);
  }
  await Promise.all(flying);
  if (failed.length > 0) throw failed[0];
  return stored.sort((a, b) => a.n - b.n);
}

function wholeOf(stored: readonly StoredPart[], condition: Condition | undefined): WholeObject {
  return {
    size: stored.reduce((sum, part) => sum + part.size, 0),
    crc: stored.reduce((crc, part) => crc32Combine(crc, part.crc ?? 0, part.size), 0),
    condition,
  };
}
