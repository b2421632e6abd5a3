import { appendFile, readFile, readlink, rename, stat, utimes } from 'node:fs/promises';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import { systemClock } from '../../util/clock.ts';
import { Failure } from '../../util/failure.ts';
import { hasErrno, unlessErrno } from './errno.ts';
import { isOfThisProcess } from './own-files.ts';

/** How often a holder touches its journal, whatever its source does. */
const BEAT_MS = 500;
/** A journal that is not touched for so long is of a process that crashed or was stopped. */
const STALE_MS = 3000;
const LOOK_MS = 100;
/** A journal that is older than this needs no watching, even where the clocks of two machines differ by minutes. */
const OLD_MS = 10 * 60 * 1000;

/** The unfinished files that uploads of this process hold. */
const held = new Set<string>();

export function journalOf(partial: string): string {
  return partial.replace(/partial$/u, 'parts');
}

/**
 * Makes one upload the only writer of an unfinished file. It touches the journal until it is released, and another process takes over only what was not
 * touched for some seconds, under another name: so a holder that slept through that finds its name gone before its next write.
 */
export class Hold {
  readonly #path: string;
  readonly #partial: string;
  readonly #ended = new AbortController();
  #seenMs = systemClock.now();

  /** Call it before the file has its name, so that no other upload of this process finds it free. */
  constructor(path: string, partial: string) {
    this.#path = path;
    this.#partial = partial;
    held.add(partial);
  }

  /** Names this process in the journal, and touches it from now on. */
  async begin(): Promise<void> {
    await appendFile(journalOf(this.#partial), `held by ${await thisProcess()}\n`);
    void this.#beatUntilReleased();
  }

  /** Whether the file has to be looked at before the next write: not within a second of the last look. */
  get isDue(): boolean {
    const sinceMs = systemClock.now() - this.#seenMs;
    return sinceMs < 0 || sinceMs >= 2 * BEAT_MS;
  }

  /** UNAVAILABLE where another process has taken the file over. */
  async check(): Promise<void> {
    if (await this.#beat()) return;
    this.release();
    throw new Failure(
      'UNAVAILABLE',
      `upload ${this.#path}: this process was stopped for a while, and another one continued its unfinished file: start the upload again`,
    );
  }

  /** Lets other writers take the file up. Idempotent. */
  release(): void {
    held.delete(this.#partial);
    this.#ended.abort();
  }

  /** False where the file is another's. */
  async #beat(): Promise<boolean> {
    const atMs = systemClock.now();
    try {
      await utimes(journalOf(this.#partial), atMs / 1000, atMs / 1000);
      await stat(this.#partial);
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) return false;
      throw error;
    }
    this.#seenMs = atMs;
    return true;
  }

  async #beatUntilReleased(): Promise<void> {
    try {
      do await systemClock.sleep(BEAT_MS, { signal: this.#ended.signal, background: true });
      while (await this.#beat());
    } catch {
      // released, or a fault of the file system, which the next write reports
    }
  }
}

/**
 * Gives a free unfinished file, and its journal, the name `to`, which the caller holds. False where another process was faster. Takes a look of some
 * seconds where the file was touched lately.
 */
export async function takeOver(partial: string, to: string, options: Abortable): Promise<boolean> {
  if (!(await isFree(partial, options))) return false;
  const nowS = systemClock.now() / 1000;
  try {
    // others that look at it wait from now on
    await utimes(partial, nowS, nowS);
    await rename(partial, to);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return false;
    throw error;
  }
  await unlessErrno(rename(journalOf(partial), journalOf(to)), 'ENOENT');
  return true;
}

async function isFree(partial: string, options: Abortable): Promise<boolean> {
  if (held.has(partial)) return false;
  if (isOfThisProcess(partial)) return true;
  const first = await touchedAt(partial);
  if (first === undefined) return false;
  if (await isOfEndedProcess(partial)) return true;
  if (first.every((ms) => ms < systemClock.now() - OLD_MS)) return true;
  for (let waitedMs = 0; waitedMs < STALE_MS; waitedMs += LOOK_MS) {
    checkAborted(options);
    await systemClock.sleep(LOOK_MS, { signal: options.signal });
    const now = await touchedAt(partial);
    if (now === undefined || now.some((ms, index) => ms !== first[index])) return false;
  }
  return true;
}

/** When the file and its journal were touched, 0 for a journal that does not exist. Undefined: the file is gone. */
async function touchedAt(partial: string): Promise<readonly number[] | undefined> {
  const file = await unlessErrno(stat(partial), 'ENOENT');
  const journal = await unlessErrno(stat(journalOf(partial)), 'ENOENT');
  return file === undefined ? undefined : [file.mtimeMs, journal?.mtimeMs ?? 0];
}

/** Whether the journal names a process of this machine that has ended. False where that is not known. */
async function isOfEndedProcess(partial: string): Promise<boolean> {
  const journal = await unlessErrno(readFile(journalOf(partial), 'utf8'), 'ENOENT');
  const holder = /^held by (\S+ \S+) (\d+) (\d+)\n(?![^]*^held by )/mu.exec(journal ?? '');
  const [, machine, id, startedAt] = holder ?? [];
  if (machine === undefined || machine !== (await thisMachine())) return false;
  return (await startOf(id ?? '')) !== startedAt;
}

/** This process, by names that no other process has or will have. */
async function thisProcess(): Promise<string> {
  return `${(await thisMachine()) ?? 'unknown unknown'} ${process.pid} ${(await startOf('self')) ?? 0}`;
}

/** Where process ids mean the same: since which start of the machine, and in which container. Undefined where there is no /proc. */
async function thisMachine(): Promise<string | undefined> {
  const boot = await unlessSystemError(readFile('/proc/sys/kernel/random/boot_id', 'utf8'));
  const namespace = await unlessSystemError(readlink('/proc/self/ns/pid'));
  return boot === undefined || namespace === undefined ? undefined : `${boot.trim()} ${namespace}`;
}

/** When a process started, as /proc/<id>/stat has it after the name, which may hold spaces and brackets. Undefined: there is no such process. */
async function startOf(id: string): Promise<string | undefined> {
  const text = await unlessSystemError(readFile(`/proc/${id}/stat`, 'utf8'));
  return text?.slice(text.lastIndexOf(')') + 2).split(' ')[19];
}

async function unlessSystemError<T>(promise: Promise<T>): Promise<T | undefined> {
  return unlessErrno(promise, 'ENOENT', 'EACCES', 'EPERM', 'ESRCH', 'ENOTDIR', 'EINVAL');
}
