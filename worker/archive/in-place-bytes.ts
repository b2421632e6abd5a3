import type { Bytes } from '../content/content.ts';
import { gathered } from '../content/gathered.ts';
import { read } from '../content/read.ts';
import type { InPlace } from '../objects/objects.ts';
import type { Abortable } from '../util/abort.ts';
import { Failure, isFailure } from '../util/failure.ts';
import { writeBlob, type ArchiveBytes, type ArchiveBytesOptions, type BlobPlace } from './archive-bytes.ts';
import { endOf } from './plan.ts';
import { END_BYTES } from './tar.ts';

/** How many parts of a blob are counted as stored at once: each time costs a line in a journal. */
const KEEP_PARTS = 8;

/**
 * Writes the bytes of an archive where they belong, without gathering them in parts. Only the bytes themselves show what is stored: bytes that an
 * earlier process left are read and compared, or hashed, before they count.
 */
export class InPlaceBytes implements ArchiveBytes {
  readonly copiedBytes = 0;
  readonly #options: ArchiveBytesOptions;

  constructor(options: ArchiveBytesOptions) {
    this.#options = options;
  }

  async begin(options: Abortable): Promise<void> {
    const { layout } = this.#options;
    await this.#opened(options, async (file) => {
      for (const entry of layout.entries) {
        if (entry.bytes === undefined) continue;
        const content = entry.offset + entry.header.byteLength;
        const padding = new Uint8Array(endOf(entry) - content - entry.size);
        const bytes = Buffer.concat([entry.header, entry.bytes, padding]);
        await this.#put(file, entry.offset, bytes, options);
      }
      await this.#put(file, layout.size - END_BYTES, new Uint8Array(END_BYTES), options);
    });
  }

  async isStored(blob: BlobPlace, options: Abortable): Promise<boolean> {
    const { upload, reused } = this.#options;
    if (upload.done.size === 0) return false;
    return this.#opened(options, async (file) => {
      if (file.isPublished) {
        await this.#failing(options, file.keep(blob.parts, options));
        return true;
      }
      if (blob.parts.every((number) => upload.done.has(number)) && (await isWhole(blob, file, options))) return true;
      // the journal may have them although the machine lost their bytes: they are stored when the blob is complete
      file.forget(blob.heldParts);
      for (const number of blob.heldParts) reused.delete(number);
      return false;
    });
  }

  async fill(blob: BlobPlace, open: () => Bytes, options: Abortable): Promise<void> {
    const { check, upload } = this.#options;
    const { entry } = blob;
    await this.#opened(options, async (file) => {
      let next = blob.first;
      const write = async (bytes: Uint8Array, offset: number): Promise<void> => {
        check(options);
        await this.#put(file, offset, bytes, options);
        const full = Math.floor((offset + bytes.byteLength) / upload.partSize);
        if (full - next + 1 < KEEP_PARTS) return;
        await this.#keepOwn(file, blob, next, full, options);
        next = full + 1;
      };
      await writeBlob(entry, gathered(open(), entry.size), write);
      await this.#keepOwn(file, blob, next, blob.last, options);
    });
  }

  async store(number: number, options: Abortable): Promise<void> {
    await this.#opened(options, async (file) => this.#failing(options, file.keep([number], options)));
  }

  [Symbol.dispose](): void {
    // a blob that is filled has closed the file
  }

  async #opened<T>(options: Abortable, work: (file: InPlace) => Promise<T>): Promise<T> {
    const { upload } = this.#options;
    if (upload.openInPlace === undefined) throw new Failure('BUG', 'the upload takes whole parts only');
    await using file = await this.#failing(options, upload.openInPlace(options));
    return await work(file);
  }

  /** Writes bytes, unless they are there. */
  async #put(file: InPlace, offset: number, bytes: Uint8Array, options: Abortable): Promise<void> {
    const { reused, upload } = this.#options;
    if (bytes.byteLength === 0) return;
    if (file.isResumed && (await this.#failing(options, file.has(offset, bytes, options)))) return;
    const last = Math.floor((offset + bytes.byteLength - 1) / upload.partSize) + 1;
    for (let number = Math.floor(offset / upload.partSize) + 1; number <= last; number++) reused.delete(number);
    await this.#failing(options, file.write(offset, bytes, options));
  }

  /** Counts the own parts of a blob among those from `first` to `last` as stored. */
  async #keepOwn(file: InPlace, blob: BlobPlace, first: number, last: number, options: Abortable): Promise<void> {
    const { done } = this.#options.upload;
    const own: number[] = [];
    for (let number = first; number <= last; number++)
      if (!blob.heldParts.includes(number) && !done.has(number)) own.push(number);
    if (own.length > 0) await this.#failing(options, file.keep(own, options));
  }

  async #failing<T>(options: Abortable, work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      throw this.#options.fail(error, options.signal);
    }
  }
}

/** Whether a blob was written whole: its header, its content by its digest, and its padding. */
async function isWhole({ entry }: BlobPlace, file: InPlace, options: Abortable): Promise<boolean> {
  const content = entry.offset + entry.header.byteLength;
  const contentEnd = content + entry.size;
  const frame = new Uint8Array(endOf(entry) - contentEnd);
  if (!(await file.has(entry.offset, entry.header, options)) || !(await file.has(contentEnd, frame, options)))
    return false;
  const stored = {
    open: async (_: unknown, { from = 0 }: { readonly from?: number } = {}) =>
      file.read(content + from, entry.size - from, options),
  };
  try {
    for await (const _ of read(stored, entry.descriptor, options));
    return true;
  } catch (error) {
    if (isFailure(error, 'CORRUPT')) return false;
    throw error;
  }
}
