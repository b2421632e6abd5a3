import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import type { Bytes } from '../../worker/content/content.ts';
import type {
  Condition,
  ObjectInfo,
  ObjectStore,
  ReadOptions,
  Upload,
  UploadOptions,
  WriteOptions,
} from '../../worker/objects/objects.ts';
import { checkAborted, type Abortable } from '../../worker/util/abort.ts';
import { Failure, type Code } from '../../worker/util/failure.ts';
import { chunked, collect, lent } from './chunks.ts';

export interface MemoryObjectsOptions {
  /** The part size of uploads that name none. Default 1 MiB. */
  readonly partSize?: number;
  /** Bytes of the chunks in which objects are read. Default 65,536. */
  readonly chunkBytes?: number;
  /** Called before a part is stored: the place to fail, to wait, or to look. */
  readonly onPart?: (n: number, bytes: Uint8Array) => Promise<void> | void;
}

interface Stored {
  readonly bytes: Uint8Array;
  readonly info: ObjectInfo;
}

/** The state of an upload, which outlives the process that began it. */
interface Unfinished {
  readonly parts: Map<number, Uint8Array>;
  committed?: ObjectInfo;
}

/** Objects in memory. Unfinished uploads stay, as in a bucket, until another process resumes them. */
export class MemoryObjects implements ObjectStore {
  /** Every range that was read, as `offset+length`. */
  readonly reads: string[] = [];
  /** The numbers of the parts that were stored, in order. */
  readonly stored: number[] = [];
  /** The parts that were copied, in order. */
  readonly copied: number[] = [];
  readonly #objects = new Map<string, Stored>();
  readonly #unfinished = new Map<string, Unfinished>();
  readonly #options: MemoryObjectsOptions;
  /** Each takes a second. */
  #writes = 0;

  constructor(options: MemoryObjectsOptions = {}) {
    this.#options = options;
  }

  /** The whole object, for assertions. */
  bytesOf(key: string): Uint8Array {
    return this.#found(key).bytes;
  }

  describe(key: string): string {
    return `memory://${key}`;
  }

  async stat(key: string, options?: Abortable): Promise<ObjectInfo> {
    checkAborted(options);
    return this.#found(key).info;
  }

  async read(key: string, options: ReadOptions = {}): Promise<Bytes> {
    checkAborted(options);
    const { bytes, info } = this.#found(key);
    const { offset = 0, length = bytes.byteLength } = options;
    if (options.ifMatch !== undefined && options.ifMatch !== info.etag) throw conflict(this.describe(key));
    if (offset > bytes.byteLength) throw failure('INVALID', this.describe(key), `ends before byte ${offset}`);
    this.reads.push(`${offset}+${length}`);
    const body = chunked(bytes.subarray(offset, offset + length), this.#options.chunkBytes ?? 65_536);
    return stopping(lent(body), options);
  }

  async write(key: string, body: Uint8Array, options: WriteOptions = {}): Promise<ObjectInfo> {
    checkAborted(options);
    options.onSent?.(body.byteLength);
    this.#check(key, options.condition);
    const bytes = Buffer.from(body);
    const etag = createHash('md5').update(bytes).digest('hex');
    const { metadata = {}, contentType } = options;
    const modified = new Date(++this.#writes * 1000);
    const info = { key, size: bytes.byteLength, etag, modified, metadata: { ...metadata }, contentType };
    this.#objects.set(key, { bytes, info });
    return info;
  }

  async stream(key: string, body: Bytes, options: WriteOptions = {}): Promise<ObjectInfo> {
    checkAborted(options);
    return this.write(key, await collect(stopping(body, options)), options);
  }

  async *list(prefix: string, options?: Abortable): AsyncIterable<ObjectInfo> {
    const found = [...this.#objects.keys()].filter((key) => key.startsWith(prefix));
    for (const key of found.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))) {
      checkAborted(options);
      yield { ...this.#found(key).info, metadata: {} };
    }
    checkAborted(options);
  }

  /** For tests: removes the object, as another program would. */
  remove(key: string): void {
    this.#objects.delete(key);
  }

  async upload(key: string, size: number, options: UploadOptions): Promise<Upload> {
    checkAborted(options);
    if (!Number.isSafeInteger(size) || size < 1) throw new Failure('INVALID', `an upload of ${size} bytes`);
    const partSize = options.partSize ?? this.#options.partSize ?? 1024 * 1024;
    const parts = Math.ceil(size / partSize);
    const id = JSON.stringify([key, size, partSize, options.fingerprint]);
    const state = this.#unfinished.get(id) ?? { parts: new Map<number, Uint8Array>() };
    this.#unfinished.set(id, state);
    const done = new Map([...state.parts].map(([n, bytes]) => [n, crc32(bytes)]));
    const check = (n: number, bytes: Uint8Array): void => {
      const wanted = Math.min(partSize, size - (n - 1) * partSize);
      if (!Number.isInteger(n) || n < 1 || n > parts || bytes.byteLength !== wanted)
        throw new Failure('BUG', `part ${n} of ${parts} with ${bytes.byteLength} bytes instead of ${wanted}`);
    };
    const checkCrc = (n: number, bytes: Uint8Array, crc: number | undefined): void => {
      if (crc !== undefined && crc !== crc32(bytes))
        throw new Failure('BUG', `part ${n} has another CRC-32 than ${crc}`);
    };
    return {
      partSize,
      parts,
      done,
      holds: (n, bytes, crc) => {
        checkCrc(n, bytes, crc);
        return done.get(n) === crc32(bytes);
      },
      part: async (n, bytes, taskOptions) => {
        checkAborted(taskOptions);
        check(n, bytes);
        checkCrc(n, bytes, taskOptions?.crc);
        const kept = Buffer.from(bytes);
        options.onSent?.(kept.byteLength);
        await this.#options.onPart?.(n, kept);
        checkAborted(taskOptions);
        state.parts.set(n, kept);
        done.set(n, crc32(kept));
        this.stored.push(n);
      },
      copyPart: async (n, bytes, { key: from, etag, offset }, taskOptions) => {
        checkAborted(taskOptions);
        check(n, bytes);
        checkCrc(n, bytes, taskOptions?.crc);
        const source = this.#objects.get(from);
        if (source?.info.etag !== etag) return false;
        const copied = Buffer.from(source.bytes.subarray(offset, offset + bytes.byteLength));
        // as in S3: the part is stored whatever its bytes should have been
        state.parts.set(n, copied);
        done.delete(n);
        if (crc32(copied) !== crc32(bytes)) return false;
        done.set(n, crc32(copied));
        this.copied.push(n);
        return true;
      },
      commit: async (taskOptions) => {
        checkAborted(taskOptions);
        if (state.committed !== undefined) return state.committed;
        if (done.size !== parts) throw new Failure('BUG', `${done.size} of ${parts} parts are stored`);
        const all = Array.from({ length: parts }, (_, i) => state.parts.get(i + 1) ?? new Uint8Array());
        state.committed = await this.write(key, Buffer.concat(all), {
          ...options,
          onSent: undefined,
          signal: taskOptions?.signal,
        });
        this.#unfinished.delete(id);
        return state.committed;
      },
      abort: async () => {
        state.parts.clear();
        this.#unfinished.delete(id);
      },
    };
  }

  #check(key: string, condition: Condition | undefined): void {
    if (condition === undefined) return;
    const etag = this.#objects.get(key)?.info.etag;
    if ('ifAbsent' in condition ? etag !== undefined : etag !== condition.ifMatch) throw conflict(this.describe(key));
  }

  #found(key: string): Stored {
    const found = this.#objects.get(key);
    if (found === undefined)
      throw new Failure('NOT_FOUND', `there is no ${this.describe(key)}`, {
        context: { location: this.describe(key) },
      });
    return found;
  }
}

async function* stopping(body: Bytes, options: Abortable): Bytes {
  for await (const chunk of body) {
    checkAborted(options);
    yield chunk;
    checkAborted(options);
  }
}

function conflict(name: string): Failure {
  return failure('CONFLICT', name, 'does not meet the condition');
}

function failure(code: Code, location: string, what: string): Failure {
  return new Failure(code, `${location} ${what}`, { context: { location } });
}
