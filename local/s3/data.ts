import { open, type FileHandle } from 'node:fs/promises';
import { Failure } from '../../worker/util/failure.ts';
import type { Sink } from './body.ts';

const READ_BYTES = 512 * 1024;
const WRITE_BYTES = 512 * 1024;

/** A run of bytes of one data file. Files are never changed once written, so objects and parts share them. */
export interface Segment {
  readonly file: string;
  readonly offset: number;
  readonly bytes: number;
}

/** A data file being written: gathered into large writes, one of them under way while the next is gathered. */
export class DataWriter implements Sink {
  readonly #file: string;
  readonly #handle: FileHandle;
  readonly #remove: () => Promise<void>;
  #gathered: Buffer[] = [];
  #gatheredBytes = 0;
  #bytes = 0;
  #writing: Promise<unknown> = Promise.resolve();

  constructor(file: string, handle: FileHandle, remove: () => Promise<void>) {
    this.#file = file;
    this.#handle = handle;
    this.#remove = remove;
  }

  write(chunk: Buffer): Promise<void> | undefined {
    this.#gathered.push(chunk);
    this.#gatheredBytes += chunk.length;
    return this.#gatheredBytes < WRITE_BYTES ? undefined : this.#flush();
  }

  /** All of it is in the file. */
  async finish(): Promise<Segment> {
    await this.#flush();
    await this.#writing;
    await this.#handle.close();
    return { file: this.#file, offset: 0, bytes: this.#bytes };
  }

  /** Removes the file, whether it was finished or not. */
  async discard(): Promise<void> {
    await this.#writing.catch(() => undefined);
    await this.#handle.close().catch(() => undefined);
    await this.#remove();
  }

  async #flush(): Promise<void> {
    const chunks = this.#gathered;
    if (chunks.length === 0) return;
    await this.#writing;
    this.#writing = writeAll(this.#handle, chunks, this.#gatheredBytes);
    this.#writing.catch(() => undefined); // the next flush or finish throws it
    this.#bytes += this.#gatheredBytes;
    this.#gathered = [];
    this.#gatheredBytes = 0;
  }
}

async function writeAll(handle: FileHandle, chunks: readonly Buffer[], bytes: number): Promise<void> {
  const { bytesWritten } = await handle.writev(chunks);
  // a short write is what a full disk looks like; the next write then fails
  if (bytesWritten < bytes) await handle.writeFile(Buffer.concat(chunks).subarray(bytesWritten));
}

/** Bytes of an object. Each chunk is valid until the next one is asked for. */
export class DataReader implements AsyncIterable<Buffer>, Disposable {
  readonly #runs: readonly Segment[];
  readonly #pathOf: (file: string) => string;
  readonly #release: () => void;

  constructor(runs: readonly Segment[], pathOf: (file: string) => string, release: () => void) {
    this.#runs = runs;
    this.#pathOf = pathOf;
    this.#release = release;
  }

  /** Reads ahead by one chunk. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    const reads = this.#reads();
    let ahead = reads.next();
    try {
      for (;;) {
        const read = await ahead;
        if (read.done === true) return;
        ahead = reads.next();
        ahead.catch(() => undefined); // thrown when it is its turn
        yield read.value;
      }
    } finally {
      await ahead.catch(() => undefined);
      await reads.return();
    }
  }

  [Symbol.dispose](): void {
    this.#release();
  }

  /** Into two buffers that take turns. */
  async *#reads(): AsyncGenerator<Buffer, void> {
    const largestBytes = this.#runs.reduce((most, run) => Math.max(most, run.bytes), 0);
    const create = (): Buffer => Buffer.allocUnsafeSlow(Math.min(READ_BYTES, largestBytes));
    let [buffer, other] = [create(), create()];
    for (const run of this.#runs) {
      const handle = await open(this.#pathOf(run.file), 'r');
      try {
        for (let done = 0; done < run.bytes;) {
          const length = Math.min(buffer.length, run.bytes - done);
          const { bytesRead } = await handle.read(buffer, 0, length, run.offset + done);
          if (bytesRead === 0) throw new Failure('CORRUPT', `read ${run.file}: the data file is too short`);
          done += bytesRead;
          yield buffer.subarray(0, bytesRead);
          [buffer, other] = [other, buffer];
        }
      } finally {
        await handle.close();
      }
    }
  }
}

/** The segments that hold `bytes` from `offset` of the concatenation of `segments`. */
export function slice(segments: readonly Segment[], offset: number, bytes: number): readonly Segment[] {
  const runs: Segment[] = [];
  let skip = offset;
  let left = bytes;
  for (const segment of segments) {
    const length = Math.min(segment.bytes - skip, left);
    if (length > 0) runs.push({ file: segment.file, offset: segment.offset + skip, bytes: length });
    skip = Math.max(0, skip - segment.bytes);
    left -= Math.max(0, length);
  }
  return runs;
}
