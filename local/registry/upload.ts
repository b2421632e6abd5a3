import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rm, writeFile, type FileHandle } from 'node:fs/promises';
import { algorithmOf, hashFor, hexOf, type Digest } from '../../worker/oci/digest.ts';
import { Failure } from '../../worker/util/failure.ts';
import { Limit } from '../../worker/util/limit.ts';

/** How much is gathered before it is written; twice this is held in memory at most. */
const WRITE_BYTES = 1024 * 1024;

/**
 * A blob on its way in: appended to a file and hashed while it comes, so that closing it costs nothing more. Between requests it holds
 * nothing open, for clients that never return.
 */
export class Upload {
  readonly id: string;
  /** Requests take turns: one that was broken off may still be writing when the next comes. */
  readonly turn = new Limit(1);
  /** The name of the repository it is for. */
  readonly repository: string;
  readonly path: string;
  readonly #hash: Hash = createHash('sha256');
  readonly #parts: number[] = [];
  #bytes = 0;

  constructor(id: string, repository: string, path: string) {
    this.id = id;
    this.repository = repository;
    this.path = path;
  }

  /** Bytes received so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Sizes in bytes of what each request brought. */
  get parts(): readonly number[] {
    return this.#parts;
  }

  /** Takes the bytes in. When their source breaks off, those that came stay received, and the error is thrown. */
  async append(source: AsyncIterable<Uint8Array>): Promise<void> {
    const start = this.#bytes;
    const file = await open(this.path, 'a');
    let gathered: Uint8Array[] = [];
    let gatheredBytes = 0;
    let writing: Promise<void> = Promise.resolve();
    const flush = async (): Promise<void> => {
      await writing;
      if (gatheredBytes === 0) return;
      writing = writeAll(file, gathered, gatheredBytes);
      writing.catch(() => undefined); // awaited by the next flush
      gathered = [];
      gatheredBytes = 0;
    };
    try {
      for await (const chunk of source) {
        this.#hash.update(chunk);
        this.#bytes += chunk.byteLength;
        gathered.push(chunk);
        gatheredBytes += chunk.byteLength;
        if (gatheredBytes >= WRITE_BYTES) await flush();
      }
    } finally {
      try {
        await flush();
        await writing;
      } finally {
        await file.close();
        if (this.#bytes > start) this.#parts.push(this.#bytes - start);
      }
    }
  }

  /** Whether the bytes are those of `digest`. */
  async isOf(digest: Digest): Promise<boolean> {
    if (this.#bytes === 0) await writeFile(this.path, '');
    const hash = algorithmOf(digest) === 'sha256' ? this.#hash.copy() : await hashOfFile(this.path, digest);
    return hash.digest('hex') === hexOf(digest);
  }

  /** Removes what was received. */
  async discard(): Promise<void> {
    await rm(this.path, { force: true });
  }
}

async function writeAll(file: FileHandle, chunks: Uint8Array[], bytes: number): Promise<void> {
  const { bytesWritten } = await file.writev(chunks);
  if (bytesWritten !== bytes)
    throw new Failure('UNAVAILABLE', `store an upload: ${bytesWritten} of ${bytes} bytes were written`);
}

/** Rare: the algorithm of a blob is known when it is complete, and nearly all are sha256. */
async function hashOfFile(path: string, digest: Digest): Promise<Hash> {
  const hash = hashFor(digest);
  for await (const chunk of createReadStream(path, { highWaterMark: WRITE_BYTES }) as AsyncIterable<Uint8Array>) {
    hash.update(chunk);
  }
  return hash;
}
