import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rm, type FileHandle } from 'node:fs/promises';
import { algorithmOf, hashFor, type Digest } from '../oci/digest.ts';

/** How much is gathered before it is written; twice this is held in memory at most. */
const WRITE_BYTES = 1024 * 1024;

/** Begins to receive a blob into the file `path`, which must not exist. */
export async function createUpload(id: string, path: string): Promise<Upload> {
  return new Upload(id, path, await open(path, 'wx'));
}

/** A blob on its way in: appended to a file and hashed while it comes, so that closing it costs nothing more. */
export class Upload {
  readonly id: string;
  readonly path: string;
  readonly #file: FileHandle;
  readonly #hash: Hash = createHash('sha256');
  #bytes = 0;
  #busy = false;

  constructor(id: string, path: string, file: FileHandle) {
    this.id = id;
    this.path = path;
    this.#file = file;
  }

  /** Bytes received so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Whether a request is writing now; another must not begin. */
  get busy(): boolean {
    return this.#busy;
  }

  /** Takes the bytes in. When their source breaks off, those that came stay received, and the error is thrown. */
  async append(source: AsyncIterable<Uint8Array>): Promise<void> {
    this.#busy = true;
    let gathered: Uint8Array[] = [];
    let gatheredBytes = 0;
    let writing: Promise<unknown> = Promise.resolve();
    const flush = async (): Promise<void> => {
      await writing;
      if (gatheredBytes === 0) return;
      writing = this.#file.writev(gathered, this.#bytes - gatheredBytes);
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
      await flush();
      await writing;
      this.#busy = false;
    }
  }

  /** Ends the upload; whether its bytes are those of `digest`. The file stays, to be moved or removed. */
  async finish(digest: Digest): Promise<boolean> {
    await this.#file.close();
    const hash = algorithmOf(digest) === 'sha256' ? this.#hash : await hashOfFile(this.path, digest);
    return digest.endsWith(`:${hash.digest('hex')}`);
  }

  /** Gives up what was received. */
  async discard(): Promise<void> {
    await this.#file.close();
    await rm(this.path, { force: true });
  }
}

/** Rare: the algorithm of a blob is known when it is complete, and nearly all are sha256. */
async function hashOfFile(path: string, digest: Digest): Promise<Hash> {
  const hash = hashFor(digest);
  for await (const chunk of createReadStream(path, { highWaterMark: WRITE_BYTES }) as AsyncIterable<Uint8Array>) {
    hash.update(chunk);
  }
  return hash;
}
