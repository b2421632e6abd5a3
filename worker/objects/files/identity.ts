import type { BigIntStats } from 'node:fs';

/** Whether two looks found one file (inode), whatever its content. False where the first found none. */
export function isSame(a: BigIntStats | undefined, b: BigIntStats): boolean {
  return a !== undefined && a.ino === b.ino && a.dev === b.dev;
}

/** Changes whenever the content of a file changes. */
export function etagOf(file: BigIntStats): string {
  return `${file.mtimeNs.toString(36)}-${file.size.toString(36)}-${file.ino.toString(36)}`;
}
