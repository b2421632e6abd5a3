import { collect } from '../content/bytes.ts';
import type { Bytes } from '../content/content.ts';
import type { ObjectInfo, ObjectStore, ReadOptions } from '../objects/objects.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { Failure, ifFound, isFailure } from '../util/failure.ts';
import { SharedPromise } from '../util/shared-promise.ts';
import { scanTar, type ReadAt, type TarEntry } from './tar.ts';

/** Headers that are close to each other come with one read. */
const READ_BYTES = 64 * 1024;

/** The tar, and where its files are. */
interface Opened {
  readonly info: ObjectInfo;
  /** By name, in the order of names. The last of a name counts, as when the tar is unpacked. */
  readonly files: ReadonlyMap<string, TarEntry>;
}

/**
 * The files of an uncompressed tar as objects that are only read: nothing is unpacked. Its headers are read when an object is first asked for.
 * A tar that does not exist has no objects. INVALID for what is not a tar, CORRUPT for one that is cut off; writes are UNSUPPORTED.
 */
export function openTarObjects(store: ObjectStore, key: string): ObjectStore {
  return new TarObjects(store, key);
}

class TarObjects implements ObjectStore {
  readonly #store: ObjectStore;
  readonly #key: string;
  readonly #opened = new SharedPromise<Opened | undefined>();

  constructor(store: ObjectStore, key: string) {
    this.#store = store;
    this.#key = key;
  }

  describe(key: string): string {
    return `${this.#store.describe(this.#key)}/${key}`;
  }

  async stat(key: string, options?: Abortable): Promise<ObjectInfo> {
    const { info, file } = await this.#find(key, options);
    return infoOf(info, key, file);
  }

  async read(key: string, options: ReadOptions = {}): Promise<Bytes> {
    const { info, file } = await this.#find(key, options);
    const { offset = 0, length = file.size, ifMatch, signal } = options;
    const context = { location: this.describe(key) };
    if (ifMatch !== undefined && ifMatch !== info.etag)
      throw new Failure('CONFLICT', `read ${this.describe(key)}: it has changed in the meantime`, { context });
    if (offset > file.size)
      throw new Failure('INVALID', `read ${this.describe(key)}: it has ${file.size} bytes`, { context });
    const range = { offset: file.offset + offset, length: Math.min(length, file.size - offset) };
    return this.#store.read(this.#key, { signal, ifMatch: info.etag, ...range });
  }

  async *list(prefix: string, options?: Abortable): AsyncGenerator<ObjectInfo, void, undefined> {
    const opened = await this.#open(options);
    if (opened === undefined) return;
    for (const [name, file] of opened.files) {
      checkAborted(options);
      if (name.startsWith(prefix)) yield infoOf(opened.info, name, file);
    }
  }

  async write(): Promise<never> {
    throw this.#refused();
  }

  async stream(): Promise<never> {
    throw this.#refused();
  }

  async upload(): Promise<never> {
    throw this.#refused();
  }

  #refused(): Failure {
    return new Failure(
      'UNSUPPORTED',
      `${this.#store.describe(this.#key)} is a store in one file, which a backup writes once and nothing changes: unpack it into a folder to write to it`,
    );
  }

  async #find(key: string, options?: Abortable): Promise<{ readonly info: ObjectInfo; readonly file: TarEntry }> {
    const opened = await this.#open(options);
    const file = opened?.files.get(key);
    if (opened !== undefined && file !== undefined) return { info: opened.info, file };
    const context = { location: this.describe(key) };
    throw new Failure('NOT_FOUND', `there is no ${this.describe(key)}`, { context });
  }

  async #open(options?: Abortable): Promise<Opened | undefined> {
    checkAborted(options);
    // without the signal of the first caller: others wait for the same scan
    const opened = await this.#opened.get(async () => this.#scan());
    checkAborted(options);
    return opened;
  }

  async #scan(): Promise<Opened | undefined> {
    const what = this.#store.describe(this.#key);
    const info = await ifFound(this.#store.stat(this.#key));
    if (info === undefined) return undefined;
    const files = new Map<string, TarEntry>();
    try {
      const entries = scanTar(this.#readAt(info), info.size);
      let next = await entries.next();
      for (; next.done !== true; next = await entries.next())
        if (next.value.kind === 'file') files.set(next.value.name, next.value);
      if (!next.value) throw new Failure('CORRUPT', 'it does not end as a tar does: it was cut off');
    } catch (error) {
      if (!isFailure(error, 'INVALID', 'CORRUPT')) throw error;
      throw new Failure(error.code, `${what}: ${error.message}`, { cause: error, context: { location: what } });
    }
    return { info, files: new Map([...files].sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))) };
  }

  #readAt({ size, etag }: ObjectInfo): ReadAt {
    let window: { readonly from: number; readonly bytes: Uint8Array } = { from: 0, bytes: new Uint8Array() };
    return async (offset, length) => {
      if (offset < window.from || offset + length > window.from + window.bytes.byteLength) {
        const wanted = Math.min(size - offset, Math.max(length, READ_BYTES));
        const body = await this.#store.read(this.#key, { offset, length: wanted, ifMatch: etag });
        const longer = (): Failure => new Failure('BUG', 'a range is longer than asked for');
        window = { from: offset, bytes: await collect(body, wanted, longer) };
      }
      return window.bytes.subarray(offset - window.from, offset - window.from + length);
    };
  }
}

function infoOf({ etag, modified }: ObjectInfo, key: string, { size }: TarEntry): ObjectInfo {
  return { key, size, etag, modified, metadata: {} };
}
