import type { BigIntStats } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import type { Abortable } from '../../util/abort.ts';
import { systemClock } from '../../util/clock.ts';
import { unlessErrno, unlinkIfThere } from './errno.ts';
import { isSame } from './identity.ts';
import { beside } from './own-files.ts';

/** A lock is held for some milliseconds. One that is unchanged after this many looks was left by a crashed process. */
const LOCK_LOOKS = 500;
const LOCK_LOOK_MS = 10;

/** Runs `work` while no other process runs work under the lock of the same path. */
export async function locked(path: string, work: () => Promise<void>, options: Abortable | undefined): Promise<void> {
  const lock = beside(path, 'lock');
  const own = await takeLock(lock, options);
  try {
    await work();
  } finally {
    // a process that slept for long may have lost its lock: then the file is another's
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
export async function oneAtATime(path: string, work: () => Promise<void>): Promise<void> {
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
