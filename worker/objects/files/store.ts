import { constants, open, opendir, realpath, stat, type FileHandle } from 'node:fs/promises';
import type { BigIntStats } from 'node:fs';
import { dirname, isAbsolute, join, relative, resolve, sep } from 'node:path';
import type { Bytes } from '../../content/content.ts';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import { Failure, ifFound, isFailure, type Code } from '../../util/failure.ts';
import type { DeletableStore, Doomed, NotRemoved } from '../deletable.ts';
import type {
  ObjectInfo,
  ObjectStore,
  ReadOptions,
  Upload,
  UploadOptions,
  VersionOptions,
  WriteOptions,
} from '../objects.ts';
import { Parts } from '../parts.ts';
import { conflict, failureOf, hasErrno, withFailures, unlessErrno, unlinkIfThere } from './errno.ts';
import { etagOf } from './identity.ts';
import { makeFolder } from './make-folder.ts';
import { openTemporary, OWN_FILE } from './own-files.ts';
import { publish } from './publish.ts';
import { openUpload } from './upload.ts';

/** A crash costs the parts that are not whole, so they are small; they are larger for files of many GiB, which keeps the journal short. */
const MIN_PART_BYTES = 1024 * 1024;
const MAX_PARTS = 10_000;
const BUFFER_BYTES = 1024 * 1024;
/** A list looks at so many files at once: one after the other, each would wait for the disk, or for the network, by itself. */
const STATS_AT_ONCE = 32;

/**
 * The files below a folder as objects. The first write creates the folder. A file becomes visible whole: written beside its place, synced, then
 * renamed or linked into it. Content types and metadata are not kept. Links are followed when reading, and refused when writing if they lead out of
 * the folder; `list` passes over them.
 */
export function openFiles(root: string): ObjectStore & DeletableStore {
  return new FileStore(resolve(root));
}

class FileStore implements ObjectStore, DeletableStore {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  describe(key: string): string {
    return join(this.#root, key);
  }

  async stat(key: string, options?: VersionOptions): Promise<ObjectInfo> {
    checkAborted(options);
    const path = this.#path(key);
    return withFailures('look at', path, async () => infoOf(key, regular(await stat(path, { bigint: true }), path)));
  }

  async read(key: string, options: ReadOptions = {}): Promise<Bytes> {
    checkAborted(options);
    const path = this.#path(key);
    const { offset = 0, ifMatch } = options;
    return withFailures('read', path, async () => {
      // O_NONBLOCK: opening a named pipe would wait for its other end
      const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
      try {
        const info = infoOf(key, regular(await handle.stat({ bigint: true }), path));
        if (ifMatch !== undefined && info.etag !== ifMatch)
          throw readFailure(path, 'CONFLICT', 'it has changed in the meantime');
        if (offset > info.size)
          throw readFailure(path, 'INVALID', `it has ${info.size} bytes, so there is nothing at ${offset}`);
        return bytesOf(handle, path, offset, Math.min(info.size, offset + (options.length ?? info.size)), options);
      } catch (error) {
        await handle.close();
        throw error;
      }
    });
  }

  async write(key: string, body: Uint8Array, options: WriteOptions = {}): Promise<ObjectInfo> {
    return this.#create(key, options, async (handle) => {
      options.onSent?.(body.byteLength);
      await handle.writeFile(body);
    });
  }

  async stream(key: string, body: Bytes, options: WriteOptions = {}): Promise<ObjectInfo> {
    return this.#create(key, options, async (handle) => writeBody(handle, body, options));
  }

  async *list(prefix: string, options: Abortable = {}): AsyncIterable<ObjectInfo> {
    const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1);
    if (folder !== '') this.#path(`${folder}x`);
    const keys: string[] = [];
    for await (const key of this.#keys(folder, prefix, options))
      if (keys.push(key) === STATS_AT_ONCE) yield* this.#found(keys.splice(0), options);
    yield* this.#found(keys, options);
  }

  /** What is there of `keys`, in their order: a file may be gone since it was listed. */
  async *#found(keys: readonly string[], options: Abortable): AsyncIterable<ObjectInfo> {
    for (const info of await Promise.all(keys.map(async (key) => ifFound(this.stat(key, options)))))
      if (info !== undefined) yield info;
  }

  async upload(key: string, size: number, options: UploadOptions): Promise<Upload> {
    checkAborted(options);
    const path = this.#path(key);
    const { partSize = MIN_PART_BYTES * Math.max(1, Math.ceil(size / MIN_PART_BYTES / MAX_PARTS)) } = options;
    if (!Number.isSafeInteger(size) || size < 1)
      throw new Failure('INVALID', `upload ${path}: ${size} bytes cannot be uploaded`);
    if (!Number.isSafeInteger(partSize) || partSize < 1)
      throw new Failure('INVALID', `upload ${path}: there are no parts of ${partSize} bytes`);
    return withFailures('upload', path, async () => {
      await this.#makeFolder(path);
      return openUpload(path, async () => this.stat(key), new Parts(size, partSize), options);
    });
  }

  async remove(items: readonly Doomed[], options: Abortable = {}): Promise<readonly NotRemoved[]> {
    const notRemoved: NotRemoved[] = [];
    for (const { key, etag } of items) {
      checkAborted(options);
      try {
        const there = await ifFound(this.stat(key, options));
        if (there === undefined) continue;
        const path = this.#path(key);
        if (there.etag !== etag)
          throw new Failure('CONFLICT', `delete ${path}: it was written again in the meantime, so it stays`);
        await this.#checkInside(path);
        await withFailures('delete', path, async () => unlinkIfThere(path));
      } catch (error) {
        checkAborted(options);
        if (!isFailure(error)) throw error;
        notRemoved.push({ key, failure: error });
      }
    }
    return notRemoved;
  }

  async #create(key: string, options: WriteOptions, fill: (handle: FileHandle) => Promise<void>): Promise<ObjectInfo> {
    checkAborted(options);
    const path = this.#path(key);
    return withFailures('write', path, async () => {
      await this.#makeFolder(path);
      const { handle, temporary } = await openTemporary(path);
      try {
        try {
          await fill(handle);
          checkAborted(options);
          await handle.sync();
        } finally {
          await handle.close();
        }
        await publish(temporary, path, options.condition, options);
      } finally {
        await unlinkIfThere(temporary);
      }
      return this.stat(key);
    });
  }

  async *#keys(folder: string, prefix: string, options: Abortable): AsyncIterable<string> {
    const names: string[] = [];
    try {
      for await (const entry of await opendir(join(this.#root, folder))) {
        if (entry.isDirectory()) names.push(`${entry.name}/`);
        else if (entry.isFile() && !OWN_FILE.test(entry.name)) names.push(entry.name);
      }
    } catch (error) {
      if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return;
      throw failureOf(error, 'list', join(this.#root, folder));
    }
    // a folder takes its place by its name with the slash: `a-b` and `a.b` come before what is in `a`
    for (const name of names.sort(byBytes)) {
      checkAborted(options);
      const key = folder + name;
      if (!key.startsWith(prefix)) continue;
      if (name.endsWith('/')) yield* this.#keys(key, prefix, options);
      else yield key;
    }
  }

  #path(key: string): string {
    const components = key.split('/');
    if (
      components.some((name) => name === '' || name === '.' || name === '..') ||
      /\0/u.test(key) ||
      !key.isWellFormed()
    )
      throw new Failure(
        'INVALID',
        `${JSON.stringify(key)} is not the path of a file inside a folder: give one like a/b`,
      );
    if (OWN_FILE.test(components.at(-1) ?? ''))
      throw new Failure('INVALID', `${JSON.stringify(key)} is a name for unfinished files: choose another`);
    return join(this.#root, ...components);
  }

  async #makeFolder(path: string): Promise<void> {
    if (!(await this.#isFolderInside(dirname(path)))) {
      await makeFolder(this.#root);
      await this.#checkInside(path);
      await makeFolder(dirname(path));
    }
    const there = await unlessErrno(stat(path), 'ENOENT');
    if (there !== undefined && !there.isFile() && !there.isDirectory())
      throw conflict(path, 'it is not a file, but a pipe or a device');
  }

  /** Whether a folder is there that no link leads out to. */
  async #isFolderInside(folder: string): Promise<boolean> {
    const found = await unlessErrno(Promise.all([realpath(this.#root), realpath(folder)]), 'ENOENT');
    return found !== undefined && !leadsOut(...found);
  }

  async #checkInside(path: string): Promise<void> {
    if (leadsOut(await realpathOfExisting(this.#root), await realpathOfExisting(dirname(path))))
      throw new Failure('INVALID', `write ${path}: a link on the way leads out of ${this.#root}`);
  }
}

/** Chunks are lent: all are read into the same memory. */
async function* bytesOf(handle: FileHandle, path: string, from: number, to: number, options: Abortable): Bytes {
  try {
    const buffer = Buffer.allocUnsafe(Math.min(BUFFER_BYTES, to - from));
    for (let index = from; index < to;) {
      checkAborted(options);
      const { bytesRead } = await withFailures('read', path, async () =>
        handle.read(buffer, 0, Math.min(buffer.byteLength, to - index), index),
      );
      if (bytesRead === 0) throw readFailure(path, 'UNAVAILABLE', `it was cut to ${index} bytes while being read`);
      index += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await handle.close();
  }
}

/** Writes a body in calls that are worth it: small chunks are gathered, in memory that is used again. */
async function writeBody(handle: FileHandle, body: Bytes, options: WriteOptions): Promise<void> {
  let gathered: Buffer | undefined;
  let held = 0;
  const flush = async (): Promise<void> => {
    if (gathered !== undefined && held > 0) await handle.writeFile(gathered.subarray(0, held));
    held = 0;
  };
  for await (const chunk of body) {
    checkAborted(options);
    options.onSent?.(chunk.byteLength);
    if (held + chunk.byteLength > BUFFER_BYTES) await flush();
    if (chunk.byteLength >= BUFFER_BYTES) await handle.writeFile(chunk);
    else {
      gathered ??= Buffer.allocUnsafe(BUFFER_BYTES);
      gathered.set(chunk, held);
      held += chunk.byteLength;
    }
  }
  await flush();
}

/** Whether one real path is not below another. */
function leadsOut(root: string, path: string): boolean {
  const way = relative(root, path);
  return way === '..' || way.startsWith(`..${sep}`) || isAbsolute(way);
}

/** Where the deepest folder on the way to `path` that exists really is. */
async function realpathOfExisting(path: string): Promise<string> {
  for (let folder = path; ; folder = dirname(folder)) {
    const found = await unlessErrno(realpath(folder), 'ENOENT');
    if (found !== undefined) return found;
  }
}

function readFailure(path: string, code: Code, what: string): Failure {
  return new Failure(code, `read ${path}: ${what}`, { context: { location: path } });
}

function infoOf(key: string, file: BigIntStats): ObjectInfo {
  return { key, size: Number(file.size), etag: etagOf(file), modified: file.mtime, metadata: {} };
}

function regular(file: BigIntStats, path: string): BigIntStats {
  if (!file.isFile()) throw new Failure('NOT_FOUND', `${path} is not a file`, { context: { location: path } });
  return file;
}

function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
