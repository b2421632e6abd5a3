import { mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { hasErrno, unlessErrno } from './errno.ts';

/**
 * Makes a folder, and those on the way to it, unless it is there. ENOENT where the file system makes no folders there. (`mkdir` of Node with
 * `recursive` never ends in such places: /proc, an automounter.)
 */
export async function makeFolder(path: string): Promise<void> {
  if ((await unlessErrno(stat(path), 'ENOENT'))?.isDirectory() === true) return;
  const parent = dirname(path);
  if (parent !== path) await makeFolder(parent);
  try {
    await mkdir(path);
  } catch (error) {
    // another process may have made it; ENOENT: it is a link that leads nowhere
    if (!hasErrno(error, 'EEXIST') || !(await stat(path)).isDirectory()) throw error;
  }
}
