import type { FileHandle } from 'node:fs/promises';
import type { Bytes } from '../../content/content.ts';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import { Failure } from '../../util/failure.ts';
import type { InPlace, UploadOptions } from '../objects.ts';
import type { Parts } from '../parts.ts';
import { withFailures } from './errno.ts';
import type { Hold } from './hold.ts';

/** What was written is read back in pieces of this size, which stay in the processor's cache while they are hashed. */
const READ_BYTES = 256 * 1024;

interface FileInPlaceOptions {
  readonly path: string;
  readonly parts: Parts;
  readonly onSent: UploadOptions['onSent'];
  /** Whether the unfinished file was there before. */
  readonly isResumed: boolean;
  /** Absent: another process has put the file in its place. */
  readonly partial?: FileHandle;
  /** Absent: it went with its upload. */
  readonly journal?: FileHandle | undefined;
  /** Absent: others may write the file too. */
  readonly hold: Pick<Hold, 'check' | 'isDue'> | undefined;
  readonly release: () => Promise<void>;
}

/** An unfinished file, written where its bytes belong. */
export class FileInPlace implements InPlace {
  readonly #options: FileInPlaceOptions;
  #buffer: Buffer | undefined;
  #isReleased = false;

  constructor(options: FileInPlaceOptions) {
    this.#options = options;
  }

  get isPublished(): boolean {
    return this.#options.partial === undefined;
  }

  get isResumed(): boolean {
    return this.#options.isResumed;
  }

  async write(offset: number, bytes: Uint8Array, options?: Abortable): Promise<void> {
    checkAborted(options);
    const { path, parts, partial, onSent, hold } = this.#options;
    if (offset < 0 || offset + bytes.byteLength > parts.size)
      throw new Failure(
        'BUG',
        `upload ${path}: ${bytes.byteLength} bytes at ${offset} are outside its ${parts.size} bytes`,
      );
    if (partial === undefined || bytes.byteLength === 0) return;
    const last = Math.floor((offset + bytes.byteLength - 1) / parts.partSize) + 1;
    for (let number = Math.floor(offset / parts.partSize) + 1; number <= last; number++) parts.done.delete(number);
    if (hold?.isDue === true) await withFailures('upload', path, () => hold.check());
    onSent?.(bytes.byteLength);
    await withFailures('upload', path, () => writeAt(partial, bytes, offset));
  }

  async has(offset: number, bytes: Uint8Array, options?: Abortable): Promise<boolean> {
    if (this.#options.partial === undefined) return true;
    let compared = 0;
    for await (const chunk of this.read(offset, bytes.byteLength, options)) {
      if (Buffer.compare(chunk, bytes.subarray(compared, compared + chunk.byteLength)) !== 0) return false;
      compared += chunk.byteLength;
    }
    return compared === bytes.byteLength;
  }

  async *read(offset: number, length: number, options?: Abortable): Bytes {
    const { path, partial } = this.#options;
    const end = offset + length;
    for (let position = offset; position < end;) {
      checkAborted(options);
      this.#buffer ??= Buffer.allocUnsafeSlow(READ_BYTES);
      const buffer = this.#buffer.subarray(0, end - position);
      const read = await withFailures('upload', path, async () =>
        partial?.read(buffer, 0, buffer.byteLength, position),
      );
      if (read === undefined || read.bytesRead === 0) return;
      position += read.bytesRead;
      yield buffer.subarray(0, read.bytesRead);
    }
  }

  async keep(numbers: readonly number[], options?: Abortable): Promise<void> {
    checkAborted(options);
    const { path, parts, journal, hold } = this.#options;
    const lines = numbers.map((number) => `${number}\n`).join('');
    if (lines === '') return;
    if (hold?.isDue === true) await withFailures('upload', path, () => hold.check());
    await withFailures('upload', path, async () => journal?.appendFile(lines));
    for (const number of numbers) parts.done.set(number, undefined);
  }

  forget(numbers: readonly number[]): void {
    for (const number of numbers) this.#options.parts.done.delete(number);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isReleased) return;
    this.#isReleased = true;
    await this.#options.release();
  }
}

export async function writeAt(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let written = 0; written < bytes.byteLength;) {
    const { bytesWritten } = await handle.write(bytes, written, bytes.byteLength - written, position + written);
    written += bytesWritten;
  }
}
