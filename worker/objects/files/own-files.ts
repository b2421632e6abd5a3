import { open, type FileHandle } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { systemClock } from '../../util/clock.ts';
import { unlessErrno } from './errno.ts';

/** Files of our own beside the objects: locks, what is being written, unfinished uploads, and which of their parts are stored. */
export const OWN_FILE = /^\..*\.(?:lock|\d+-\d+\.temp|[0-9a-f]{16}\.\d+-\d+-[0-9a-z]+\.(?:partial|parts))$/su;
/** How much of an object's name is kept: a file name has at most 255 bytes, and the suffix needs the rest. */
const MAX_KEPT_NAME_BYTES = 170;
/** Stands for this process in names of files. No process id: all containers that share a folder may have the same. */
const PROCESS = Math.floor(systemClock.random() * 2 ** 52);
let temporaries = 0;

/** A part of a file name that no process uses twice. */
export function nextId(): string {
  return `${PROCESS}-${++temporaries}`;
}

/** Whether this process made the unfinished file of that name. */
export function isOfThisProcess(partial: string): boolean {
  return new RegExp(`\\.${PROCESS}-\\d+-[0-9a-z]+\\.partial$`, 'u').test(partial);
}

/** Opens a new file beside `path`, under a name that no other process uses at the same time. */
export async function openTemporary(path: string): Promise<{ handle: FileHandle; temporary: string }> {
  for (;;) {
    const temporary = beside(path, `${nextId()}.temp`);
    const handle = await unlessErrno(open(temporary, 'wx'), 'EEXIST');
    if (handle !== undefined) return { handle, temporary };
  }
}

/** A hidden name beside `path` that ends in `suffix`. A long name is cut, so that there is room for every suffix. */
export function beside(path: string, suffix: string): string {
  let name = basename(path);
  while (Buffer.byteLength(name) > MAX_KEPT_NAME_BYTES) name = name.slice(0, -1);
  return join(dirname(path), `.${name}.${suffix}`);
}
