import { createHash } from 'node:crypto';
import type { BigIntStats } from 'node:fs';
import {
  appendFile,
  constants,
  open,
  readdir,
  readFile,
  rename,
  stat,
  writeFile,
  type FileHandle,
} from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import { Failure } from '../../util/failure.ts';
import type { Condition, InPlace, ObjectInfo, PartOptions, Upload, UploadOptions } from '../objects.ts';
import type { Parts } from '../parts.ts';
import { hasErrno, withFailures, unlessErrno, unlinkIfThere } from './errno.ts';
import { isSame } from './identity.ts';
import { Hold, journalOf, takeOver } from './hold.ts';
import { FileInPlace, writeAt } from './in-place.ts';
import { beside, nextId, openTemporary, OWN_FILE } from './own-files.ts';
import { publish } from './publish.ts';

const BUFFER_BYTES = 1024 * 1024;
/** How often an unfinished file that is gone before it is opened is looked for again. */
const OPEN_TRIES = 10;

/**
 * Begins an upload to `path`, or takes up an unfinished one with the same fingerprint, size and part size.
 *
 * An upload is a sparse file `.<name>.<hash>.<id>.partial` beside its place, the hash being that of fingerprint, size and part size, and a journal
 * `.parts` with one line for each part, appended after the part's bytes were written. When the upload is taken up again, the bytes are checked
 * against the CRC-32 values of the journal: a line that a crash tore, or one that outlived its bytes, costs writing that part again and no more. A
 * line without a CRC-32 is of a part that was written in place: the caller checks its bytes, since it knows what they must be. Unfinished uploads
 * stay until they are finished, aborted or removed by hand.
 *
 * An exclusive upload holds its file alone (hold.ts): another one that begins meanwhile has a file of its own. Other uploads share a file without a
 * lock: they write the same bytes to the same places and append whole lines. An id is never used twice, so a name always stands for the same file:
 * the file can be put in place by its name, and the slower process finds the name gone and the file (inode) in place.
 */
export async function openUpload(
  path: string,
  info: () => Promise<ObjectInfo>,
  parts: Parts,
  options: UploadOptions,
): Promise<Upload> {
  const { fingerprint, condition, onSent } = options;
  const { size, partSize } = parts;
  const header = JSON.stringify({ format: 'transship-upload-1', fingerprint, size, partSize });
  const hash = createHash('sha256')
    .update(`${basename(path)}\n${header}`)
    .digest('hex')
    .slice(0, 16);
  for (let tries = 1; ; tries++) {
    const { partial, isResumed, hold } =
      options.exclusive === true ? await holdPartial(path, hash, options) : await sharePartial(path, hash);
    try {
      const journal = journalOf(partial);
      const stored = await openJournal(journal, header);
      // another process may have completed or aborted what was found; a name that stays is of no file
      await using handle = await unlessErrno(open(partial, 'r+'), ...(tries < OPEN_TRIES ? ['ENOENT'] : []));
      if (handle === undefined) {
        hold?.release();
        continue;
      }
      // first: the check of what is stored may take minutes
      await hold?.begin();
      const { size: before } = await handle.stat({ bigint: true });
      if (before !== BigInt(size)) await handle.truncate(size);
      for (const [number, crc] of stored) {
        if (number > parts.count) continue;
        if (crc === undefined) parts.done.set(number, undefined);
        else if ((await crcOf(handle, parts.offset(number), parts.length(number), options)) === crc)
          parts.done.set(number, crc);
      }
      const file = await handle.stat({ bigint: true });
      return new FileUpload({ path, partial, journal, file, info, parts, condition, onSent, isResumed, hold });
    } catch (error) {
      hold?.release();
      throw error;
    }
  }
}

interface OpenedPartial {
  readonly partial: string;
  /** Whether the unfinished file was there before. */
  readonly isResumed: boolean;
  /** Absent: others may write the file too. */
  readonly hold?: Hold;
}

async function sharePartial(path: string, hash: string): Promise<OpenedPartial> {
  const [found] = await findPartials(path, hash);
  if (found !== undefined) return { partial: found, isResumed: true };
  const { name, temporary } = await createPartial(path, hash);
  await rename(temporary, name);
  return { partial: name, isResumed: false };
}

/** The free file that knows of most parts, or a new one. */
async function holdPartial(path: string, hash: string, options: Abortable): Promise<OpenedPartial> {
  for (const found of await findPartials(path, hash)) {
    const partial = found.replace(/\d+-\d+(?=-[0-9a-z]+\.partial$)/u, nextId());
    const hold = new Hold(path, partial);
    try {
      if (await takeOver(found, partial, options)) return { partial, isResumed: true, hold };
    } catch (error) {
      hold.release();
      throw error;
    }
    hold.release();
  }
  const { name, temporary } = await createPartial(path, hash);
  const hold = new Hold(path, name);
  try {
    await rename(temporary, name);
  } catch (error) {
    hold.release();
    throw error;
  }
  return { partial: name, isResumed: false, hold };
}

/** The unfinished files of such an upload, first those that know of most parts. Journals that have lost their file are removed. */
async function findPartials(path: string, hash: string): Promise<readonly string[]> {
  const folder = dirname(path);
  const start = basename(beside(path, `${hash}.`));
  const names = new Set((await readdir(folder)).filter((name) => name.startsWith(start) && OWN_FILE.test(name)));
  const found: { readonly partial: string; readonly bytes: number }[] = [];
  for (const name of names) {
    const file = join(folder, name);
    if (name.endsWith('.parts') && !names.has(name.replace(/parts$/u, 'partial'))) await removeOrphan(file);
    if (!name.endsWith('.partial')) continue;
    const journal = await unlessErrno(stat(journalOf(file)), 'ENOENT');
    found.push({ partial: file, bytes: journal?.size ?? 0 });
  }
  return found.sort((a, b) => b.bytes - a.bytes).map(({ partial }) => partial);
}

/** Removes a journal without a file. A list that was read while files were renamed may lack the file. */
async function removeOrphan(journal: string): Promise<void> {
  const partial = await unlessErrno(stat(journal.replace(/parts$/u, 'partial')), 'ENOENT');
  if (partial === undefined) await unlinkIfThere(journal);
}

/** Creates an empty file, and a name for it that is never used twice: it has this process, a counter, and the time by the file system's clock. */
async function createPartial(path: string, hash: string): Promise<{ name: string; temporary: string }> {
  const { handle, temporary } = await openTemporary(path);
  const { mtimeNs } = await handle.stat({ bigint: true });
  await handle.close();
  const [id = ''] = /\d+-\d+(?=\.temp$)/u.exec(temporary) ?? [];
  return { name: beside(path, `${hash}.${id}-${mtimeNs.toString(36)}.partial`), temporary };
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
  readonly onSent: UploadOptions['onSent'];
  /** Whether the unfinished file was there before. */
  readonly isResumed: boolean;
  /** Absent: others may write the file too. */
  readonly hold: Hold | undefined;
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

  get done(): ReadonlyMap<number, number | undefined> {
    return this.#options.parts.done;
  }

  holds(number: number, bytes: Uint8Array, crc?: number): boolean {
    const stored = this.#options.parts.done.get(number);
    // the bytes of a part that is not there need no look
    return stored !== undefined && stored === (crc ?? crc32(bytes));
  }

  async part(number: number, bytes: Uint8Array, options?: PartOptions): Promise<void> {
    checkAborted(options);
    const { path, parts, onSent, hold } = this.#options;
    parts.check(number, bytes.byteLength, `upload ${path}`);
    const crc = options?.crc ?? crc32(bytes);
    await withFailures('upload', path, () =>
      this.#withFiles(async (files) => {
        if (files !== undefined) {
          if (hold?.isDue === true) await hold.check();
          parts.done.delete(number);
          onSent?.(bytes.byteLength);
          await writeAt(files.partial, bytes, parts.offset(number));
          await files.journal?.appendFile(`${number} ${crc}\n`);
        }
        parts.done.set(number, crc);
      }),
    );
  }

  async commit(options?: Abortable): Promise<ObjectInfo> {
    checkAborted(options);
    const { path, journal, partial, parts, condition, hold } = this.#options;
    parts.checkComplete(`upload ${path}`);
    const info = await withFailures('upload', path, async () => {
      const handle = await this.#open();
      if (handle !== undefined) {
        try {
          await handle.sync();
        } finally {
          await handle.close();
        }
        await hold?.check();
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
    this.release();
    return info;
  }

  release(): void {
    this.#options.hold?.release();
  }

  async abort(): Promise<void> {
    const { path, journal, partial } = this.#options;
    this.release();
    await withFailures('abort the upload of', path, async () => {
      await unlinkIfThere(partial);
      await unlinkIfThere(journal);
    });
  }

  async openInPlace(options?: Abortable): Promise<InPlace> {
    checkAborted(options);
    const { path, parts, onSent, isResumed, hold } = this.#options;
    const files = await withFailures('upload', path, () => this.#acquire());
    return new FileInPlace({ path, parts, onSent, isResumed, hold, ...files, release: () => this.#release() });
  }

  /** Undefined when another process has put the file in its place. */
  async #withFiles(work: (files: OpenFiles | undefined) => Promise<void>): Promise<void> {
    const files = await this.#acquire();
    try {
      await work(files);
    } finally {
      await this.#release();
    }
  }

  async #acquire(): Promise<OpenFiles | undefined> {
    const shared = (this.#shared ??= { files: this.#openFiles(), users: 0 });
    shared.users++;
    try {
      return await shared.files;
    } catch (error) {
      await this.#release();
      throw error;
    }
  }

  async #release(): Promise<void> {
    const shared = this.#shared;
    if (shared === undefined || --shared.users > 0) return;
    this.#shared = undefined;
    const files = await shared.files.catch(() => undefined);
    await files?.partial.close();
    await files?.journal?.close();
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
        `upload ${path}: another process removed the unfinished file: start the upload again`,
      );
  }
}

/** Each part in the journal, with its CRC-32 where its last line has one. Creates the journal where it does not exist. */
async function openJournal(path: string, header: string): Promise<ReadonlyMap<number, number | undefined>> {
  const text = await unlessErrno(readFile(path, 'utf8'), 'ENOENT');
  const stored = new Map<number, number | undefined>();
  if (text?.startsWith(`${header}\n`) === true) {
    for (const [, n, crc] of text.matchAll(/^([1-9]\d*)(?: (\d+))?\n/gmu))
      stored.set(Number(n), crc === undefined ? undefined : Number(crc));
    // a torn last line must not run into the next one
    if (!text.endsWith('\n')) await appendFile(path, '\n');
    return stored;
  }
  if (text !== undefined) await unlinkIfThere(path);
  // another process may be here too: its journal is the same
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
