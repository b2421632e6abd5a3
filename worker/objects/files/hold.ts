import { appendFile, constants, open, readFile, readlink, rename, stat, utimes } from 'node:fs/promises';
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
  #seen = timesNow();

  /** Call it before the file has its name, so that no other upload of this process finds it free. */
  constructor(path: string, partial: string) {
    this.#path = path;
    this.#partial = partial;
    held.add(partial);
  }

  /** Names this process in the journal, and touches it from now on. UNAVAILABLE where another process has taken the file over. */
  async begin(): Promise<void> {
    await appendFile(journalOf(this.#partial), `held by ${await thisProcess()}\n`);
    await this.check();
    void this.#beatUntilReleased();
  }

  /** Whether the file has to be looked at before the next write: not within a second of the last look. */
  get isDue(): boolean {
    const now = timesNow();
    const since = now.map((ms, clock) => ms - (this.#seen[clock] ?? 0));
    return since.some((ms) => ms < 0 || ms >= 2 * BEAT_MS);
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
    const seen = timesNow();
    const nowS = systemClock.now() / 1000;
    try {
      await utimes(journalOf(this.#partial), nowS, nowS);
      await stat(this.#partial);
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) return false;
      throw error;
    }
    this.#seen = seen;
    return true;
  }

  async #beatUntilReleased(): Promise<void> {
    while (await this.#waitForBeat()) {
      try {
        if (!(await this.#beat())) return;
      } catch {
        // a fault of the file system: the next write reports it, or it has passed by the next beat
      }
    }
  }

  /** False once it is released. */
  async #waitForBeat(): Promise<boolean> {
    try {
      await systemClock.sleep(BEAT_MS, { signal: this.#ended.signal, background: true });
      return true;
    } catch {
      return false;
    }
  }
}

/** By two clocks, in milliseconds: the first jumps when it is set, and the second stands still while the machine sleeps. */
function timesNow(): readonly number[] {
  return [systemClock.now(), systemClock.steadyMs?.() ?? 0];
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
    await nameThisProcess(journalOf(partial));
    await rename(partial, to);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return false;
    throw error;
  }
  await unlessErrno(rename(journalOf(partial), journalOf(to)), 'ENOENT');
  return true;
}

/** Until the journal names this process, it may name one that has ended, and then any process takes the file over at once. */
async function nameThisProcess(journal: string): Promise<void> {
  // without O_CREAT: a journal that is gone went with its file
  await using handle = await unlessErrno(open(journal, constants.O_WRONLY | constants.O_APPEND), 'ENOENT');
  // a crash may have torn the last line
  await handle?.appendFile(`\nheld by ${await thisProcess()}\n`);
}

async function isFree(partial: string, options: Abortable): Promise<boolean> {
  if (held.has(partial)) return false;
  if (isOfThisProcess(partial)) return true;
  const first = await touchedAt(partial);
  if (first === undefined) return false;
  if (await isOfEndedProcess(partial)) return true;
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
  const start = await startOf(id ?? '');
  return start === undefined ? hasEnded(Number(id)) : startedAt !== '0' && start !== startedAt;
}

/** A /proc that is mounted with `hidepid` does not show the processes of other users. */
function hasEnded(id: number): boolean {
  try {
    process.kill(id, 0);
    return false;
  } catch (error) {
    return hasErrno(error, 'ESRCH');
  }
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
