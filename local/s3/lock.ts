import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '../../worker/util/failure.ts';

const LOCK = 'lock';
/** Folders that this process serves. */
const served = new Set<string>();

/** Takes a folder for this server. A lock whose process was killed is taken over; CONFLICT where its process runs. */
export async function takeLock(dir: string): Promise<void> {
  const path = join(dir, LOCK);
  if (served.has(dir)) throw taken(dir, process.pid);
  served.add(dir);
  try {
    await writeFile(path, String(process.pid), { flag: 'wx' });
  } catch {
    const owner = Number(await readFile(path, 'utf8'));
    if (owner !== process.pid && isAlive(owner)) {
      served.delete(dir);
      throw taken(dir, owner);
    }
    await writeFile(path, String(process.pid));
  }
}

function taken(dir: string, owner: number): Failure {
  return new Failure('CONFLICT', `open ${dir}: process ${owner} serves it already; stop it, or take another folder`);
}

function isAlive(pid: number): boolean {
  try {
    return pid > 0 && process.kill(pid, 0);
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}

/** Gives the folder back. */
export async function releaseLock(dir: string): Promise<void> {
  await rm(join(dir, LOCK), { force: true });
  served.delete(dir);
}
