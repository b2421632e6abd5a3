import type { BigIntStats } from 'node:fs';
import { open, rm, stat } from 'node:fs/promises';
import type { Clock } from '../util/clock.ts';

/** A change takes milliseconds, or seconds on a busy disk. A lock that is older was left by a process that crashed. */
const LOCK_MS = 20_000;
const POLL_MS = 20;

/** Waits until no other process holds the lock at `path`, and holds it until it is disposed. */
export async function lockFile(path: string, clock: Clock): Promise<AsyncDisposable> {
  for (;;) {
    if (await create(path)) return { [Symbol.asyncDispose]: async () => rm(path, { force: true }) };
    const held = await identity(path);
    if (held === undefined) continue;
    if (isLeft(held, clock)) await removeLeft(path, held, clock);
    else await clock.sleep(POLL_MS);
  }
}

/**
 * Removes a lock that a crashed process left. Of all processes that found this one, only the one that creates the mark of its removal may
 * do so: another that removed it a moment later would remove the lock of its next holder.
 */
async function removeLeft(path: string, left: BigIntStats, clock: Clock): Promise<void> {
  const mark = `${path}.${left.mtimeNs}`;
  if (await create(mark)) {
    const held = await identity(path);
    if (held?.ino === left.ino && held.mtimeNs === left.mtimeNs) await rm(path, { force: true });
    await rm(mark, { force: true });
    return;
  }
  const marked = await identity(mark);
  if (marked !== undefined && isLeft(marked, clock)) await rm(mark, { force: true });
  else await clock.sleep(POLL_MS);
}

/** Whether this call created the file. */
async function create(path: string): Promise<boolean> {
  try {
    await (await open(path, 'wx', 0o600)).close();
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
    throw error;
  }
}

async function identity(path: string): Promise<BigIntStats | undefined> {
  return stat(path, { bigint: true }).catch(() => undefined);
}

function isLeft({ mtimeMs }: BigIntStats, clock: Clock): boolean {
  return clock.now() - Number(mtimeMs) > LOCK_MS;
}
