import { once } from '../content/bytes.ts';
import type { ByteRange, Bytes } from '../content/content.ts';
import type { ObjectInfo, ObjectStore } from '../objects/objects.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import { Failure, ifFound, isFailure, toFailure, type Code } from '../util/failure.ts';
import type { Report } from '../util/events.ts';
import { retry } from '../util/retry.ts';
import { headSizeIn } from './metadata.ts';
import { linkTarget, scanTar, type TarEntry } from './tar.ts';

/** Named files that can be read in ranges: those in a tar, or those in a folder. Names are clean relative paths. */
export interface ArchiveFiles {
  readonly rangesAtOnce?: number;
  /** For messages: the name of the archive or folder, or of a file in it. */
  describe(name?: string): string;
  /** Bytes of the file; undefined where it does not exist. */
  size(name: string, options?: Abortable): Promise<number | undefined>;
  /** Raw bytes. Fails with `missing` when there is no such file. */
  open(name: string, options?: Abortable & ByteRange): Promise<Bytes>;
  /** The failure of a search for `what` that found nothing: NOT_FOUND, or CORRUPT where the end of the tar is missing too. */
  missing(what: string): Failure;
}

export interface ArchiveFilesOptions extends Abortable {
  readonly clock?: Clock | undefined;
  readonly report?: Report | undefined;
}

/** The bytes read first from a tar whose head has no known size. */
export const FIRST_READ_BYTES = 1024 * 1024;
/** Kept in memory as long as the archive is open. */
const MAX_HEAD_BYTES = 16 * 1024 * 1024;
/** One request for the headers that are close to each other: small files come with it, a layer is skipped. */
export const HEADER_READ_BYTES = 64 * 1024;
/** Links in old archives of docker go one step; only a chain that is made to be endless has more than a few. */
const MAX_LINKS = 8;

/** A failure about `files`. Its message names them, which `context.location` records. */
export function failureIn(
  files: ArchiveFiles,
  code: Code,
  message: string,
  options: { readonly cause?: unknown } = {},
): Failure {
  return new Failure(code, message, { ...options, context: { location: files.describe() } });
}

/** The whole of a small file. INVALID when it has more than `limit` bytes, CORRUPT when it ends early. */
export async function readFile(
  files: ArchiveFiles,
  name: string,
  limit: number,
  options: ArchiveFilesOptions = {},
): Promise<Uint8Array> {
  const where = files.describe(name);
  const attempt = async (): Promise<Uint8Array> => {
    const size = await files.size(name, options);
    if (size === undefined) throw files.missing(name);
    if (size > limit) {
      throw failureIn(files, 'INVALID', `${where} has ${size} bytes; ${limit} is the most that is allowed`);
    }
    try {
      return await exactly(await files.open(name, options), size, files, name);
    } catch (error) {
      if (!isFailure(error, 'CORRUPT') || (await files.size(name, options)) === size) throw error;
      throw failureIn(files, 'UNAVAILABLE', `${where} was replaced while it was read`, { cause: error });
    }
  };
  return retry(`read ${where}`, attempt, options);
}

/** The files below the root of a store. */
export function folderFiles(store: ObjectStore): ArchiveFiles {
  return {
    ...(store.rangesAtOnce === undefined ? {} : { rangesAtOnce: store.rangesAtOnce }),
    describe: (name) => store.describe(name ?? 'index.json'),
    size: async (name, options) => (await ifFound(store.stat(name, options)))?.size,
    open: async (name, options) => openRange(store, name, 0, undefined, options),
    missing: (what) => new Failure('NOT_FOUND', `there is no ${what} in the layout of ${store.describe('index.json')}`),
  };
}

/** Where the bytes of a tar are. */
type TarBytes = Pick<ObjectStore, 'read' | 'rangesAtOnce'>;

/** Opens the tar that `info` describes: reads its head, and parses nothing yet. `name` is for people. */
export async function openTar(
  store: TarBytes,
  info: ObjectInfo,
  options: ArchiveFilesOptions & { readonly name: string },
): Promise<TarFiles> {
  const tar = new TarFiles(store, info, options.name, options);
  await tar.readHead(Math.min(info.size, headSizeIn(info.metadata) ?? FIRST_READ_BYTES, MAX_HEAD_BYTES));
  return tar;
}

/**
 * The files of a tar, found by reading headers as far as the search has to go, never the contents in between. Every read is bound to the
 * object that was there when it was opened (CONFLICT afterwards).
 */
export class TarFiles implements ArchiveFiles {
  readonly rangesAtOnce?: number;
  /** Bytes of the tar. */
  readonly length: number;
  readonly #store: TarBytes;
  readonly #info: ObjectInfo;
  readonly #name: string;
  readonly #options: ArchiveFilesOptions;
  readonly #entries = new Map<string, TarEntry>();
  /** What has not been searched yet. */
  #rest: AsyncGenerator<TarEntry, boolean, undefined> | undefined;
  /** Whether a search reached the end of the data without finding the end of a tar. */
  #endless = false;
  #failed: Failure | undefined;
  #head: Uint8Array = new Uint8Array();
  #window: { readonly offset: number; readonly bytes: Uint8Array } = { offset: 0, bytes: new Uint8Array() };

  constructor(store: TarBytes, info: ObjectInfo, name: string, options: ArchiveFilesOptions) {
    if (store.rangesAtOnce !== undefined) this.rangesAtOnce = store.rangesAtOnce;
    this.length = info.size;
    this.#store = store;
    this.#info = info;
    this.#name = name;
    this.#options = options;
    this.#rest = this.scan();
  }

  async readHead(length: number): Promise<void> {
    this.#head = length === 0 ? new Uint8Array() : await this.#fetch(0, length);
  }

  describe(name?: string): string {
    return name === undefined ? this.#name : `${name} in ${this.#name}`;
  }

  missing(what: string): Failure {
    return this.#endless
      ? failureIn(this, 'CORRUPT', `there is no ${what} in ${this.#name}, which ends as a tar does not: it is cut off`)
      : failureIn(this, 'NOT_FOUND', `there is no ${what} in ${this.#name}`);
  }

  async size(name: string, options?: Abortable): Promise<number | undefined> {
    return (await this.find(name, options))?.size;
  }

  async open(name: string, options: Abortable & ByteRange = {}): Promise<Bytes> {
    const entry = await this.find(name, options);
    if (entry === undefined) throw this.missing(name);
    const from = entry.offset + Math.min(options.from ?? 0, entry.size);
    const to = entry.offset + Math.min(options.to ?? entry.size, entry.size);
    if (to <= this.#head.byteLength || to <= from) return once(this.#head.subarray(from, Math.max(from, to)));
    return openRange(this.#store, this.#info.key, from, this.#info, { signal: options.signal, from: 0, to: to - from });
  }

  /** The file of that name, links followed. Undefined when the whole tar does not have one. */
  async find(name: string, options?: Abortable): Promise<TarEntry | undefined> {
    let wanted = name;
    for (let links = 0; links <= MAX_LINKS; links++) {
      const entry = await this.#search(wanted, options);
      if (entry === undefined || entry.kind === 'directory') return undefined;
      if (entry.kind === 'file') return entry;
      wanted = linkTarget(entry);
    }
    throw failureIn(this, 'INVALID', `${this.describe(name)} is a link to a link to a link, without end`);
  }

  /** Exactly these bytes of the tar. */
  async readAt(offset: number, length: number): Promise<Uint8Array> {
    for (const { offset: start, bytes } of [{ offset: 0, bytes: this.#head }, this.#window]) {
      if (offset >= start && offset + length <= start + bytes.byteLength) {
        return bytes.subarray(offset - start, offset - start + length);
      }
    }
    const ahead = Math.min(Math.max(length, HEADER_READ_BYTES), this.length - offset);
    this.#window = { offset, bytes: await this.#fetch(offset, ahead) };
    return this.#window.bytes.subarray(0, length);
  }

  /** Every entry that the tar headers name, from the first. Fails as `scanTar` does. */
  scan(): AsyncGenerator<TarEntry, boolean, undefined> {
    return scanTar((offset, length) => this.readAt(offset, length), this.length);
  }

  /** Takes these to be the entries, without searching any further. */
  replaceEntries(entries: Iterable<TarEntry>): void {
    this.#rest = undefined;
    this.#entries.clear();
    for (const entry of entries) this.#entries.set(entry.name, entry);
  }

  async #search(name: string, options: Abortable | undefined): Promise<TarEntry | undefined> {
    while (!this.#entries.has(name)) {
      checkAborted(options);
      if (this.#failed !== undefined) throw this.#failed;
      if (this.#rest === undefined) return undefined;
      let next: IteratorResult<TarEntry, boolean>;
      try {
        next = await this.#rest.next();
      } catch (error) {
        // the generator has ended with it: others that search must not take that for the end of the tar
        this.#failed = toFailure(error);
        throw this.#failed;
      }
      if (next.done !== true) {
        if (this.#entries.has(next.value.name) && isDocument(next.value.name)) {
          throw failureIn(this, 'INVALID', `${this.describe(next.value.name)} is there twice`);
        }
        this.#entries.set(next.value.name, next.value);
      } else if (this.#rest !== undefined) {
        // a search that ran at the same time sees that it ended, but not how
        this.#rest = undefined;
        this.#endless = !next.value;
      }
    }
    return this.#entries.get(name);
  }

  async #fetch(offset: number, length: number): Promise<Uint8Array> {
    return retry(
      `read ${this.#name}`,
      async () => {
        const range = { signal: this.#options.signal, from: 0, to: length };
        return exactly(await openRange(this.#store, this.#info.key, offset, this.#info, range), length, this);
      },
      this.#options,
    );
  }
}

/** The documents that say what else there is. */
function isDocument(name: string): boolean {
  return name === 'index.json' || name === 'manifest.json' || name === 'oci-layout';
}

/** `range`, counted from `base`, of an object; nothing is asked for when it is empty. */
async function openRange(
  store: TarBytes,
  key: string,
  base: number,
  info: ObjectInfo | undefined,
  range: (Abortable & ByteRange) | undefined,
): Promise<Bytes> {
  const { from = 0, to, signal } = range ?? {};
  if (to !== undefined && to <= from) return once(new Uint8Array());
  return store.read(key, {
    signal,
    offset: base + from,
    ...(to === undefined ? {} : { length: to - from }),
    ...(info === undefined ? {} : { ifMatch: info.etag }),
  });
}

/** The whole of `body`, which is that of `files` or of one file of them. UNAVAILABLE when it ends early, CORRUPT when it is too long. */
async function exactly(body: Bytes, length: number, files: ArchiveFiles, name?: string): Promise<Uint8Array> {
  const bytes = Buffer.alloc(length);
  let offset = 0;
  for await (const chunk of body) {
    if (offset + chunk.byteLength > length)
      throw failureIn(files, 'CORRUPT', `${files.describe(name)} gave more than the ${length} bytes asked for`);
    bytes.set(chunk, offset);
    offset += chunk.byteLength;
  }
  if (offset < length)
    throw failureIn(files, 'UNAVAILABLE', `${files.describe(name)} broke off after ${offset} of ${length} bytes`);
  return bytes;
}
