import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import type { Bytes } from '../../worker/content/content.ts';
import type {
  Condition,
  ObjectInfo,
  ObjectStore,
  Upload,
  UploadOptions,
  WriteOptions,
} from '../../worker/objects/objects.ts';
import { checkAborted, type Abortable } from '../../worker/util/abort.ts';
import { Failure } from '../../worker/util/failure.ts';
import { chunked, collect } from './chunks.ts';

export interface MemoryObjectsOptions {
  /** Of uploads that do not say. Default 1 MiB. */
  readonly partSize?: number;
  /** Bytes of the chunks in which objects are read. Default 65,536. */
  readonly chunkBytes?: number;
  readonly rangesAtOnce?: number;
  /** Called before a part is stored: the place to fail, to wait, or to look. */
  readonly onPart?: (n: number, bytes: Uint8Array) => Promise<void> | void;
}

interface Unfinished {
  readonly fingerprint: string;
  readonly size: number;
  readonly partSize: number;
  readonly parts: Map<number, Uint8Array>;
}

/** Objects in memory. Unfinished uploads outlive whoever began them, as they do in a bucket. */
export class MemoryObjects implements ObjectStore {
  readonly rangesAtOnce?: number;
  /** Every range that was read: `key offset+length`. */
  readonly reads: string[] = [];
  /** Every part that was stored, in order. */
  readonly stored: number[] = [];
  readonly #objects = new Map<string, { bytes: Uint8Array; info: ObjectInfo }>();
  readonly #unfinished = new Map<string, Unfinished>();
  readonly #o: MemoryObjectsOptions;
  onPart: MemoryObjectsOptions['onPart'];

  constructor(o: MemoryObjectsOptions = {}) {
    this.#o = o;
    this.onPart = o.onPart;
    if (o.rangesAtOnce !== undefined) this.rangesAtOnce = o.rangesAtOnce;
  }

  /** The whole object, for assertions. */
  bytesOf(key: string): Uint8Array {
    return this.#found(key).bytes;
  }

  /** How many parts an unfinished upload to `key` has stored. */
  unfinishedParts(key: string): number {
    return this.#unfinished.get(key)?.parts.size ?? 0;
  }

  describe(key: string): string {
    return `memory://${key}`;
  }

  async stat(key: string, o?: Abortable): Promise<ObjectInfo> {
    checkAborted(o);
    return this.#found(key).info;
  }

  async read(key: string, o: Abortable & { offset?: number; length?: number; ifMatch?: string } = {}): Promise<Bytes> {
    checkAborted(o);
    const { bytes, info } = this.#found(key);
    const { offset = 0, length = bytes.byteLength - offset } = o;
    if (o.ifMatch !== undefined && o.ifMatch !== info.etag) throw new Failure('CONFLICT', `${key} was replaced`);
    if (offset >= bytes.byteLength) throw new Failure('INVALID', `${key} ends before byte ${offset}`);
    if (length < 1) throw new Failure('BUG', `a range of ${length} bytes cannot be asked for`);
    this.reads.push(`${key} ${offset}+${length}`);
    return chunked(bytes.subarray(offset, offset + length), this.#o.chunkBytes ?? 65_536);
  }

  async write(key: string, body: Uint8Array, o: WriteOptions = {}): Promise<ObjectInfo> {
    checkAborted(o);
    this.#check(key, o.condition);
    const bytes = Buffer.from(body);
    const etag = createHash('md5').update(bytes).digest('hex');
    const info = { key, size: bytes.byteLength, etag, modified: new Date(0), metadata: { ...o.metadata } };
    this.#objects.set(key, { bytes, info });
    return info;
  }

  async stream(key: string, body: Bytes, o: WriteOptions = {}): Promise<ObjectInfo> {
    return this.write(key, await collect(body), o);
  }

  async *list(prefix: string): AsyncIterable<ObjectInfo> {
    const found = [...this.#objects.keys()].filter((key) => key.startsWith(prefix));
    for (const key of found.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))) {
      yield { ...this.#found(key).info, metadata: {} };
    }
  }

  async remove(key: string): Promise<void> {
    this.#objects.delete(key);
  }

  async upload(key: string, size: number, o: UploadOptions): Promise<Upload> {
    checkAborted(o);
    const partSize = o.partSize ?? this.#o.partSize ?? 1024 * 1024;
    const before = this.#unfinished.get(key);
    const same = before?.fingerprint === o.fingerprint && before.size === size && before.partSize === partSize;
    const state = same ? before : { fingerprint: o.fingerprint, size, partSize, parts: new Map<number, Uint8Array>() };
    this.#unfinished.set(key, state);
    const parts = Math.ceil(size / partSize);
    const done = new Map([...state.parts].map(([n, bytes]) => [n, crc32(bytes)]));
    return {
      partSize,
      parts,
      done,
      part: async (n, bytes, at) => {
        checkAborted(at);
        const wanted = Math.min(partSize, size - (n - 1) * partSize);
        if (bytes.byteLength !== wanted)
          throw new Failure('BUG', `part ${n} has ${bytes.byteLength} of ${wanted} bytes`);
        await this.onPart?.(n, bytes);
        checkAborted(at);
        state.parts.set(n, Buffer.from(bytes));
        done.set(n, crc32(bytes));
        this.stored.push(n);
      },
      commit: async (at) => {
        if (state.parts.size !== parts) throw new Failure('BUG', `${state.parts.size} of ${parts} parts are stored`);
        const all = Array.from({ length: parts }, (_, i) => state.parts.get(i + 1) ?? Buffer.alloc(0));
        const info = await this.write(key, Buffer.concat(all), { ...o, ...at });
        this.#unfinished.delete(key);
        return info;
      },
      abort: async () => {
        this.#unfinished.delete(key);
      },
    };
  }

  #check(key: string, condition: Condition | undefined): void {
    if (condition === undefined) return;
    const there = this.#objects.get(key);
    if ('ifAbsent' in condition ? there === undefined : there?.info.etag === condition.ifMatch) return;
    throw new Failure('CONFLICT', `${this.describe(key)} is there already`);
  }

  #found(key: string): { bytes: Uint8Array; info: ObjectInfo } {
    const found = this.#objects.get(key);
    if (found === undefined) throw new Failure('NOT_FOUND', `there is no ${this.describe(key)}`);
    return found;
  }
}
