import { createHash } from 'node:crypto';
import type { BigIntStats } from 'node:fs';
import {
  appendFile,
  constants,
  link,
  mkdir,
  open,
  opendir,
  readdir,
  readFile,
  realpath,
  rename,
  stat,
  unlink,
  writeFile,
  type FileHandle,
} from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from 'node:path';
import { crc32 } from 'node:zlib';
import type { Bytes } from '../../content/content.ts';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import { systemClock } from '../../util/clock.ts';
import { Failure, isFailure, type Code } from '../../util/failure.ts';
import type { Condition, ObjectInfo, ObjectStore, Upload, UploadOptions, WriteOptions } from '../objects.ts';
import { Parts } from '../parts.ts';

/** Small, so that what was just received is still near the processor when it is checked and written; more for files of many GiB, for the journal's sake. */
const MIN_PART_BYTES = 1024 * 1024;
const MAX_PARTS = 10_000;
const BUFFER_BYTES = 1024 * 1024;
/** Files of our own beside the objects: locks, what is being written, unfinished uploads, and which of their parts are stored. */
const OWN_FILE = /^\..*\.(?:lock|\d+-\d+\.temp|[0-9a-f]{16}\.\d+-\d+-[0-9a-z]+\.(?:partial|parts))$/su;
/** A lock is held for some milliseconds. One that stays the same for so many looks was left behind by a process that died. */
const LOCK_LOOKS = 500;
const LOCK_LOOK_MS = 10;
/** Of the 255 bytes that a file name can have; the others are for what stands behind it. */
const MAX_KEPT_NAME_BYTES = 170;

/**
 * The files below a folder as objects. The folder comes to be with the first write. A file becomes visible whole: written beside its place,
 * synced, then renamed or linked into it. Content types and metadata are not kept. Links are followed when reading, and refused when writing
 * if they lead out of the folder; `list` passes over them.
 *
 * An upload is a sparse file `.<name>.<hash>.<id>.partial` beside its place, the hash being that of fingerprint, size and part size, and a
 * journal `.parts` with one line for each part, appended after the part's bytes were written. When the upload is taken up again the bytes are
 * checked against the CRC-32 values of the journal, so a line that a crash tore, or one that outlived the bytes it tells of, costs writing
 * that part again and no more. Unfinished uploads stay until they are finished, aborted or removed by hand.
 *
 * Two processes may have the same upload without a lock: they write the same bytes to the same places and append whole lines. The id is never
 * used twice, so a name stands for one file for ever: it can be put in place by its name, and whoever comes second finds it gone and its file
 * (inode) in place.
 *
 * `ifAbsent` is atomic between processes (link). For `ifMatch`, as no call of a file system compares and replaces, those who replace a file
 * hold a lock beside it; whoever knows nothing of the lock can still come between.
 */
export function openFiles(root: string): ObjectStore {
  return new FileStore(resolve(root));
}

class FileStore implements ObjectStore {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  describe(key: string): string {
    return join(this.#root, key);
  }

  async stat(key: string, options?: Abortable): Promise<ObjectInfo> {
    checkAborted(options);
    const path = this.#path(key);
    return named('look at', path, async () => infoOf(key, regular(await stat(path, { bigint: true }), path)));
  }

  async read(
    key: string,
    options: Abortable & { offset?: number; length?: number; ifMatch?: string } = {},
  ): Promise<Bytes> {
    checkAborted(options);
    const path = this.#path(key);
    const { offset = 0, ifMatch } = options;
    return named('read', path, async () => {
      // O_NONBLOCK: opening a named pipe would wait for its other end
      const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
      try {
        const info = infoOf(key, regular(await handle.stat({ bigint: true }), path));
        if (ifMatch !== undefined && info.etag !== ifMatch)
          throw new Failure('CONFLICT', `read ${path}: it has changed in the meantime`);
        if (offset > info.size)
          throw new Failure('INVALID', `read ${path}: it has ${info.size} bytes, so there is nothing at ${offset}`);
        return bytesOf(handle, path, offset, Math.min(info.size, offset + (options.length ?? info.size)), options);
      } catch (error) {
        await handle.close();
        throw error;
      }
    });
  }

  async write(key: string, body: Uint8Array, options: WriteOptions = {}): Promise<ObjectInfo> {
    return this.#create(key, options, async (handle) => handle.writeFile(body));
  }

  async stream(key: string, body: Bytes, options: WriteOptions = {}): Promise<ObjectInfo> {
    return this.#create(key, options, async (handle) => handle.writeFile(gathered(body, options)));
  }

  async *list(prefix: string, options: Abortable = {}): AsyncIterable<ObjectInfo> {
    const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1);
    if (folder !== '') this.#path(`${folder}x`);
    for await (const key of this.#keys(folder, prefix, options)) {
      try {
        yield await this.stat(key, options);
      } catch (error) {
        // gone since it was listed
        if (!isFailure(error, 'NOT_FOUND')) throw error;
      }
    }
  }

  async upload(key: string, size: number, options: UploadOptions): Promise<Upload> {
    checkAborted(options);
    const path = this.#path(key);
    const { partSize = MIN_PART_BYTES * Math.max(1, Math.ceil(size / MIN_PART_BYTES / MAX_PARTS)) } = options;
    if (!Number.isSafeInteger(size) || size < 1)
      throw new Failure('INVALID', `upload ${path}: ${size} bytes cannot be uploaded`);
    if (!Number.isSafeInteger(partSize) || partSize < 1)
      throw new Failure('INVALID', `upload ${path}: there are no parts of ${partSize} bytes`);
    return named('upload', path, async () => {
      await this.#makeFolder(path);
      return openUpload(path, async () => this.stat(key), new Parts(size, partSize), options);
    });
  }

  async #create(key: string, options: WriteOptions, fill: (handle: FileHandle) => Promise<void>): Promise<ObjectInfo> {
    checkAborted(options);
    const path = this.#path(key);
    return named('write', path, async () => {
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
    await mkdir(this.#root, { recursive: true });
    await this.#checkInside(path);
    await mkdir(dirname(path), { recursive: true });
  }

  async #checkInside(path: string): Promise<void> {
    const way = relative(await realpathOfExisting(this.#root), await realpathOfExisting(dirname(path)));
    if (way === '..' || way.startsWith(`..${sep}`) || isAbsolute(way))
      throw new Failure('INVALID', `write ${path}: a link on the way leads out of ${this.#root}`);
  }
}

async function openUpload(
  path: string,
  info: () => Promise<ObjectInfo>,
  parts: Parts,
  options: UploadOptions,
): Promise<Upload> {
  const { fingerprint } = options;
  const { size, partSize } = parts;
  const header = JSON.stringify({ format: 'transship-upload-1', fingerprint, size, partSize });
  const hash = createHash('sha256')
    .update(`${basename(path)}\n${header}`)
    .digest('hex')
    .slice(0, 16);
  const partial = (await findPartial(path, hash)) ?? (await createPartial(path, hash));
  const journal = journalOf(partial);
  const stored = await openJournal(journal, header);
  const handle = await open(partial, 'r+');
  try {
    const { size: found } = await handle.stat({ bigint: true });
    if (found !== BigInt(size)) await handle.truncate(size);
    for (const [n, crc] of stored) {
      if (n > parts.count) continue;
      if ((await crcOf(handle, parts.offset(n), parts.length(n), options)) === crc) parts.done.set(n, crc);
    }
    const file = await handle.stat({ bigint: true });
    return new FileUpload({ path, partial, journal, file, info, parts, condition: options.condition });
  } finally {
    await handle.close();
  }
}

/** The unfinished file of such an upload that knows of most parts. Journals that have lost their file are removed. */
async function findPartial(path: string, hash: string): Promise<string | undefined> {
  const folder = dirname(path);
  const start = basename(beside(path, `${hash}.`));
  const names = new Set((await readdir(folder)).filter((name) => name.startsWith(start) && OWN_FILE.test(name)));
  let best: { partial: string; bytes: number } | undefined;
  for (const name of names) {
    const file = join(folder, name);
    if (name.endsWith('.parts') && !names.has(name.replace(/parts$/u, 'partial'))) await unlinkIfThere(file);
    if (!name.endsWith('.partial')) continue;
    const journal = await unlessErrno(stat(journalOf(file)), 'ENOENT');
    const bytes = journal?.size ?? 0;
    if (best === undefined || bytes > best.bytes) best = { partial: file, bytes };
  }
  return best?.partial;
}

/** An empty file under a name that nobody had or will have: this process, how many it made, and the time by the file system's clock. */
async function createPartial(path: string, hash: string): Promise<string> {
  const { handle, temporary } = await openTemporary(path);
  const { mtimeNs } = await handle.stat({ bigint: true });
  await handle.close();
  const [id = ''] = /\d+-\d+(?=\.temp$)/u.exec(temporary) ?? [];
  const partial = beside(path, `${hash}.${id}-${mtimeNs.toString(36)}.partial`);
  await rename(temporary, partial);
  return partial;
}

function journalOf(partial: string): string {
  return partial.replace(/partial$/u, 'parts');
}

interface FileUploadOptions {
  readonly path: string;
  readonly partial: string;
  readonly journal: string;
  /** What `partial` was when the upload was opened. */
  readonly file: BigIntStats;
  readonly info: () => Promise<ObjectInfo>;
  readonly parts: Parts;
  readonly condition: Condition | undefined;
}

/** The unfinished file and its journal; without the latter when it went with its upload. */
interface OpenFiles {
  readonly partial: FileHandle;
  readonly journal: FileHandle | undefined;
}

/** Holds nothing open between calls: an upload may be dropped at any time. Calls that overlap share what they hold open. */
class FileUpload implements Upload {
  readonly #options: FileUploadOptions;
  #shared: { readonly files: Promise<OpenFiles | undefined>; users: number } | undefined;

  constructor(options: FileUploadOptions) {
    this.#options = options;
  }

  get partSize(): number {
    return this.#options.parts.partSize;
  }

  get parts(): number {
    return this.#options.parts.count;
  }

  get done(): ReadonlyMap<number, number> {
    return this.#options.parts.done;
  }

  async part(n: number, bytes: Uint8Array, options?: Abortable): Promise<void> {
    checkAborted(options);
    const { path, parts } = this.#options;
    parts.check(n, bytes.byteLength, `upload ${path}`);
    const crc = crc32(bytes);
    await named('upload', path, () =>
      this.#withFiles(async (files) => {
        if (files !== undefined) {
          parts.done.delete(n);
          await writeAt(files.partial, bytes, parts.offset(n));
          await files.journal?.appendFile(`${n} ${crc}\n`);
        }
        parts.done.set(n, crc);
      }),
    );
  }

  async commit(options?: Abortable): Promise<ObjectInfo> {
    checkAborted(options);
    const { path, journal, partial, parts, condition } = this.#options;
    parts.checkComplete(`upload ${path}`);
    return named('upload', path, async () => {
      const handle = await this.#open();
      if (handle !== undefined) {
        try {
          await handle.sync();
        } finally {
          await handle.close();
        }
        try {
          await publish(partial, path, condition, options);
        } catch (error) {
          if (!hasErrno(error, 'ENOENT')) throw error;
          // another process was faster by a moment
          await this.#checkCommitted();
        }
        await unlinkIfThere(partial);
        await unlinkIfThere(journal);
      }
      return this.#options.info();
    });
  }

  async abort(): Promise<void> {
    const { path, journal, partial } = this.#options;
    await named('abort the upload of', path, async () => {
      await unlinkIfThere(partial);
      await unlinkIfThere(journal);
    });
  }

  /** Undefined when another process has put the file in its place. */
  async #withFiles(work: (files: OpenFiles | undefined) => Promise<void>): Promise<void> {
    const shared = (this.#shared ??= { files: this.#openFiles(), users: 0 });
    shared.users++;
    try {
      await work(await shared.files);
    } finally {
      if (--shared.users === 0) {
        this.#shared = undefined;
        const files = await shared.files.catch(() => undefined);
        await files?.partial.close();
        await files?.journal?.close();
      }
    }
  }

  async #openFiles(): Promise<OpenFiles | undefined> {
    const partial = await this.#open();
    if (partial === undefined) return undefined;
    try {
      // without O_CREAT: a journal that is gone went with its upload
      const flags = constants.O_WRONLY | constants.O_APPEND;
      return { partial, journal: await unlessErrno(open(this.#options.journal, flags), 'ENOENT') };
    } catch (error) {
      await partial.close();
      throw error;
    }
  }

  /** The unfinished file; undefined when another process has put it in its place. */
  async #open(): Promise<FileHandle | undefined> {
    const handle = await unlessErrno(open(this.#options.partial, 'r+'), 'ENOENT');
    if (handle === undefined) await this.#checkCommitted();
    return handle;
  }

  async #checkCommitted(): Promise<void> {
    const { path, file } = this.#options;
    const there = await unlessErrno(stat(path, { bigint: true }), 'ENOENT');
    if (!isSame(there, file) || there?.size !== file.size)
      throw new Failure(
        'UNAVAILABLE',
        `upload ${path}: somebody else removed the unfinished file: start the upload again`,
      );
  }
}

/** Puts the file `from` in its place, or says CONFLICT. `from` may be left over. Does nothing when it is there already. */
async function publish(
  from: string,
  path: string,
  condition: Condition | undefined,
  options: Abortable | undefined,
): Promise<void> {
  await oneAtATime(path, async () => {
    const there = await unlessErrno(stat(path, { bigint: true }), 'ENOENT');
    if (there?.isDirectory() === true) throw conflict(path, 'there is a folder of that name');
    if (isSame(there, await stat(from, { bigint: true }))) return;
    if (condition === undefined) await rename(from, path);
    else if ('ifAbsent' in condition) {
      if (there !== undefined) throw conflict(path, 'there is such a file already');
      await placeNew(from, path, options);
    } else {
      await locked(
        path,
        async () => {
          const now = await unlessErrno(stat(path, { bigint: true }), 'ENOENT');
          if (now === undefined) throw conflict(path, 'it was removed in the meantime');
          if (etagOf(now) !== condition.ifMatch) throw conflict(path, 'it has changed in the meantime');
          await rename(from, path);
        },
        options,
      );
    }
  });
  await syncFolder(dirname(path));
}

async function placeNew(from: string, path: string, options: Abortable | undefined): Promise<void> {
  try {
    if (await tryLink(from, path)) return;
    await locked(
      path,
      async () => {
        if ((await unlessErrno(stat(path), 'ENOENT')) !== undefined)
          throw conflict(path, 'there is such a file already');
        await rename(from, path);
      },
      options,
    );
  } catch (error) {
    if (!hasErrno(error, 'EEXIST')) throw error;
    // another process with the same unfinished file was faster by a moment; ENOENT: and has removed its other name
    const ours = await stat(from, { bigint: true });
    if (!isSame(await unlessErrno(stat(path, { bigint: true }), 'ENOENT'), ours))
      throw conflict(path, 'there is such a file already');
  }
}

/** False on file systems without hard links (exFAT, some network shares). */
async function tryLink(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (hasErrno(error, 'EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK')) return false;
    throw error;
  }
}

/** Runs `work` while no other process runs such on the same path. */
async function locked(path: string, work: () => Promise<void>, options: Abortable | undefined): Promise<void> {
  const lock = beside(path, 'lock');
  const own = await takeLock(lock, options);
  try {
    await work();
  } finally {
    // ours was taken for left behind if we slept for long: then it is another's
    if (isSame(await unlessErrno(stat(lock, { bigint: true }), 'ENOENT'), own)) await unlinkIfThere(lock);
  }
}

async function takeLock(lock: string, options: Abortable | undefined): Promise<BigIntStats> {
  let seen: BigIntStats | undefined;
  for (let looks = 0; ; looks++) {
    const handle = await unlessErrno(open(lock, 'wx'), 'EEXIST');
    if (handle !== undefined) {
      try {
        return await handle.stat({ bigint: true });
      } finally {
        await handle.close();
      }
    }
    const there = await unlessErrno(stat(lock, { bigint: true }), 'ENOENT');
    if (there === undefined) continue;
    if (seen?.mtimeNs !== there.mtimeNs || !isSame(seen, there)) {
      seen = there;
      looks = 0;
    }
    if (looks === LOCK_LOOKS) await unlinkIfThere(lock);
    else await systemClock.sleep(LOCK_LOOK_MS, options);
  }
}

const waiting = new Map<string, Promise<void>>();

/** Runs `work` when all earlier work on the same path of this process has ended. */
async function oneAtATime(path: string, work: () => Promise<void>): Promise<void> {
  const before = waiting.get(path);
  const { promise, resolve: end } = Promise.withResolvers<void>();
  waiting.set(path, promise);
  try {
    await before;
    await work();
  } finally {
    if (waiting.get(path) === promise) waiting.delete(path);
    end();
  }
}

/** Stands for this process in names of files. No process id: all containers that share a folder may have the same. */
const PROCESS = Math.floor(systemClock.random() * 2 ** 52);
let temporaries = 0;

/** A new file beside `path`, under a name that is taken by nobody else while we use it. */
async function openTemporary(path: string): Promise<{ handle: FileHandle; temporary: string }> {
  for (;;) {
    const temporary = beside(path, `${PROCESS}-${++temporaries}.temp`);
    const handle = await unlessErrno(open(temporary, 'wx'), 'EEXIST');
    if (handle !== undefined) return { handle, temporary };
  }
}

/** A hidden name beside `path` that ends in `suffix`. A long name is cut, so that there is room for every suffix. */
function beside(path: string, suffix: string): string {
  let name = basename(path);
  while (Buffer.byteLength(name) > MAX_KEPT_NAME_BYTES) name = name.slice(0, -1);
  return join(dirname(path), `.${name}.${suffix}`);
}

/** The CRC-32 of each part that the journal tells of, the last word on each; makes the journal be there. */
async function openJournal(path: string, header: string): Promise<ReadonlyMap<number, number>> {
  const text = await unlessErrno(readFile(path, 'utf8'), 'ENOENT');
  const stored = new Map<number, number>();
  if (text?.startsWith(`${header}\n`) === true) {
    for (const [, n, crc] of text.matchAll(/^([1-9]\d*) (\d+)\n/gmu)) stored.set(Number(n), Number(crc));
    // a torn last line must not run into the next one
    if (!text.endsWith('\n')) await appendFile(path, '\n');
    return stored;
  }
  if (text !== undefined) await unlinkIfThere(path);
  // somebody else may be as far as we are: their journal is the same
  await unlessErrno(writeFile(path, `${header}\n`, { flag: 'wx' }), 'EEXIST');
  return stored;
}

async function crcOf(handle: FileHandle, offset: number, length: number, options: Abortable): Promise<number> {
  const buffer = Buffer.allocUnsafe(Math.min(BUFFER_BYTES, length));
  let crc = 0;
  for (let index = offset; index < offset + length;) {
    checkAborted(options);
    const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.byteLength, offset + length - index), index);
    if (bytesRead === 0) break;
    crc = crc32(buffer.subarray(0, bytesRead), crc);
    index += bytesRead;
  }
  return crc;
}

async function* bytesOf(handle: FileHandle, path: string, from: number, to: number, options: Abortable): Bytes {
  try {
    for (let index = from; index < to;) {
      checkAborted(options);
      const buffer = Buffer.allocUnsafe(Math.min(BUFFER_BYTES, to - index));
      const { bytesRead } = await named('read', path, async () => handle.read(buffer, 0, buffer.byteLength, index));
      if (bytesRead === 0)
        throw new Failure('UNAVAILABLE', `read ${path}: it was cut to ${index} bytes while being read`);
      index += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await handle.close();
  }
}

/** The same bytes in chunks that are worth a call each. */
async function* gathered(body: Bytes, options: Abortable): AsyncIterable<Uint8Array> {
  let chunks: Uint8Array[] = [];
  let held = 0;
  for await (const chunk of body) {
    checkAborted(options);
    chunks.push(chunk);
    held += chunk.byteLength;
    if (held < BUFFER_BYTES) continue;
    yield chunks.length === 1 ? chunk : Buffer.concat(chunks);
    chunks = [];
    held = 0;
  }
  if (held > 0) yield Buffer.concat(chunks);
}

async function writeAt(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let written = 0; written < bytes.byteLength;) {
    const { bytesWritten } = await handle.write(bytes, written, bytes.byteLength - written, position + written);
    written += bytesWritten;
  }
}

/** Makes what was renamed or linked into the folder survive a loss of power. */
async function syncFolder(path: string): Promise<void> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, 'r');
    await handle.sync();
  } catch (error) {
    // Windows does not open folders
    if (!hasErrno(error, 'EPERM', 'EISDIR', 'EACCES', 'EINVAL')) throw error;
  } finally {
    await handle?.close();
  }
}

/** Where the deepest folder on the way to `path` that exists really is. */
async function realpathOfExisting(path: string): Promise<string> {
  for (let folder = path; ; folder = dirname(folder)) {
    const found = await unlessErrno(realpath(folder), 'ENOENT');
    if (found !== undefined) return found;
  }
}

async function unlinkIfThere(path: string): Promise<void> {
  await unlessErrno(unlink(path), 'ENOENT');
}

function infoOf(key: string, file: BigIntStats): ObjectInfo {
  return { key, size: Number(file.size), etag: etagOf(file), modified: file.mtime, metadata: {} };
}

function etagOf(file: BigIntStats): string {
  return `${file.mtimeNs.toString(36)}-${file.size.toString(36)}-${file.ino.toString(36)}`;
}

function regular(file: BigIntStats, path: string): BigIntStats {
  if (!file.isFile()) throw new Failure('NOT_FOUND', `${path} is not a file`);
  return file;
}

function isSame(a: BigIntStats | undefined, b: BigIntStats): boolean {
  return a !== undefined && a.ino === b.ino && a.dev === b.dev;
}

function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** What `promise` gives, or undefined when it fails with one of `codes`. */
async function unlessErrno<T>(promise: Promise<T>, ...codes: readonly string[]): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    if (hasErrno(error, ...codes)) return undefined;
    throw error;
  }
}

function hasErrno(error: unknown, ...codes: readonly string[]): boolean {
  return errnoOf(error) !== undefined && codes.includes(errnoOf(error) ?? '');
}

function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && 'syscall' in error && 'code' in error && typeof error.code === 'string'
    ? error.code
    : undefined;
}

function conflict(path: string, what: string): Failure {
  return new Failure('CONFLICT', `write ${path}: ${what}`);
}

async function named<T>(doing: string, path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw failureOf(error, doing, path);
  }
}

/** Errors of the file system as Failures; everything else as it is. */
function failureOf(error: unknown, doing: string, path: string): unknown {
  const errno = errnoOf(error);
  const reading = doing === 'read' || doing === 'look at';
  const because = (code: Code, what: string): Failure =>
    new Failure(code, `${doing} ${path}: ${what}`, { cause: error, context: { errno } });
  switch (errno) {
    case undefined:
      return error;
    case 'ENOENT':
      return because(
        'NOT_FOUND',
        reading ? 'there is no such file' : 'the folder was removed, or a link leads nowhere',
      );
    case 'ENOTDIR':
    case 'EEXIST':
    case 'EISDIR':
    case 'ENOTEMPTY':
      return reading
        ? because('NOT_FOUND', 'there is no such file')
        : because('CONFLICT', 'a file is where a folder is wanted, or a folder where a file is');
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return because('DENIED', 'the file system does not allow it: check owner, mode and mount');
    case 'ENOSPC':
    case 'EDQUOT':
    case 'EFBIG':
      return because('UNSUPPORTED', 'there is no space left for it: free some, or choose another place');
    case 'ENAMETOOLONG':
    case 'ELOOP':
    case 'EINVAL':
      return because('INVALID', `the file system does not take that path (${errno})`);
    default:
      return because('UNAVAILABLE', `the file system answered ${errno}`);
  }
}
