import { link, open, rename, stat, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Abortable } from '../../util/abort.ts';
import type { Condition } from '../objects.ts';
import { conflict, hasErrno, unlessErrno } from './errno.ts';
import { etagOf, isSame } from './identity.ts';
import { locked, oneAtATime } from './locks.ts';

/**
 * Moves the file `from` to `path`. CONFLICT when the condition does not hold. `from` may be left over. Does nothing when the file is
 * in place already.
 *
 * `ifAbsent` is atomic between processes (link). No call of a file system compares and replaces, so for `ifMatch` the processes that replace
 * a file hold a lock beside it; a program that does not know the lock can still come between.
 */
export async function publish(
  from: string,
  path: string,
  condition: Condition | undefined,
  options: Abortable | undefined,
): Promise<void> {
  await oneAtATime(path, async () => {
    const there = await unlessErrno(stat(path, { bigint: true }), 'ENOENT');
    if (there?.isDirectory() === true) throw conflict(path, 'there is a folder of that name');
    if (there !== undefined && isSame(there, await stat(from, { bigint: true }))) return;
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

/** The sync of a folder that waits for the one under way, for all that were placed into it since that began. */
const syncing = new Map<string, { readonly running: Promise<void>; next: Promise<void> | undefined }>();

/**
 * Makes what was renamed or linked into the folder survive a loss of power. Many that are placed at once share a sync that begins after
 * all of them are in place.
 */
async function syncFolder(path: string): Promise<void> {
  const before = syncing.get(path);
  if (before !== undefined) return (before.next ??= before.running.catch(() => undefined).then(() => begin(path)));
  return begin(path);
}

async function begin(path: string): Promise<void> {
  const own = { running: syncNow(path), next: undefined as Promise<void> | undefined };
  syncing.set(path, own);
  try {
    await own.running;
  } finally {
    if (own.next === undefined) syncing.delete(path);
  }
}

async function syncNow(path: string): Promise<void> {
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
