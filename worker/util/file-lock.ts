import { randomUUID } from 'node:crypto';
import { lstat, mkdir, open, readdir, rename, rm, rmdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { checkAborted, type Abortable } from './abort.ts';
import type { Clock } from './clock.ts';

/** A change takes milliseconds, or seconds on a busy disk. A crashed process left a lock that is unchanged for 20 seconds of looks. */
const LOOKS = 1000;
const LOOK_MS = 20;
const HOLDER = /^\.[0-9a-f-]{36}\.lock$/u;

/**
 * Waits until no other process holds the lock at `path`, and holds it until it is disposed.
 *
 * A lock is a folder with one file, whose name no other holder ever has, and is put in place by a rename, which fails while a folder with a file is there.
 * Release and takeover remove the file by its name, so however late either happens, it cannot remove the lock of another holder.
 * A lock counts as left by a crash when many looks, with a wait between them, found the same name: no clock and no file time is compared.
 */
export async function lockFile(path: string, clock: Clock, options?: Abortable): Promise<AsyncDisposable> {
  checkAborted(options);
  const id = randomUUID();
  const holder = `.${id}.lock`;
  const claim = `${path}.${id}.lock`;
  await mkdir(claim);
  try {
    await (await open(join(claim, holder), 'wx', 0o600)).close();
    await place(claim, path, holder, clock, options);
  } catch (error) {
    await rm(claim, { recursive: true, force: true });
    throw error;
  }
  return { [Symbol.asyncDispose]: async () => remove(path, [holder]) };
}

async function place(
  claim: string,
  path: string,
  holder: string,
  clock: Clock,
  options: Abortable | undefined,
): Promise<void> {
  let seen: string | undefined;
  for (let looks = 0; ; looks++) {
    const refusal = await errorOf(rename(claim, path), 'ENOTEMPTY', 'EEXIST', 'ENOTDIR', 'EPERM', 'EACCES', 'ENOENT');
    if (refusal === undefined) return;
    const there = await lookAt(path);
    // a network file system may answer a rename that it repeats with ENOENT
    if (there?.names?.includes(holder) === true) return;
    if (codeOf(refusal) === 'ENOENT') throw refusal;
    if (there === undefined) {
      if (!['ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes(codeOf(refusal))) throw refusal;
      checkAborted(options);
      continue;
    }
    if (there.what !== seen) {
      seen = there.what;
      looks = 0;
    }
    // not every file system puts a folder in the place of an empty one
    if (there.names?.length === 0) await remove(path, []);
    else if (looks < LOOKS) {
      await clock.sleep(LOOK_MS, options);
      continue;
    } else if (there.names === undefined) await errorOf(unlink(path), 'ENOENT', 'EISDIR', 'EPERM');
    else if (there.names.every((name) => HOLDER.test(name))) await remove(path, there.names);
    else throw refusal;
    checkAborted(options);
  }
}

interface Look {
  /** Differs for every holder. */
  readonly what: string;
  /** Absent: a file is in place of the folder. */
  readonly names?: readonly string[];
}

async function lookAt(path: string): Promise<Look | undefined> {
  try {
    const names = (await readdir(path)).sort();
    return { what: names.join('/'), names };
  } catch (error) {
    // a link to nothing is there, too
    if (codeOf(error) !== 'ENOTDIR' && codeOf(error) !== 'ENOENT') throw error;
  }
  try {
    const { ino, mtimeNs } = await lstat(path, { bigint: true });
    return { what: `${ino}/${mtimeNs}` };
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Removes holders by name, and the folder unless another one holds it by now. */
async function remove(path: string, holders: readonly string[]): Promise<void> {
  for (const holder of holders) await errorOf(unlink(join(path, holder)), 'ENOENT', 'ENOTDIR');
  await errorOf(rmdir(path), 'ENOENT', 'ENOTEMPTY', 'EEXIST', 'ENOTDIR');
}

/** The error of `promise` when it has one of `codes`. */
async function errorOf(promise: Promise<void>, ...codes: readonly string[]): Promise<Error | undefined> {
  try {
    await promise;
    return undefined;
  } catch (error) {
    if (error instanceof Error && codes.includes(codeOf(error))) return error;
    throw error;
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}
