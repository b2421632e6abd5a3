import { unlink } from 'node:fs/promises';
import { Failure, type Code } from '../../util/failure.ts';

/** What `work` resolves to. Its file system errors become Failures, as by `failureOf`. */
export async function withFailures<T>(doing: string, path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw failureOf(error, doing, path);
  }
}

/** A file system error as a Failure that names what was being done (`doing`) and the path; any other error unchanged. */
export function failureOf(error: unknown, doing: string, path: string): unknown {
  const errno = errnoOf(error);
  const reading = doing === 'read' || doing === 'look at';
  const because = (code: Code, what: string): Failure =>
    new Failure(code, `${doing} ${path}: ${what}`, { cause: error, context: { errno, location: path } });
  switch (errno) {
    case undefined:
      return error;
    case 'ENOENT':
      return because(
        'NOT_FOUND',
        reading ? 'there is no such file' : 'the folder was removed, or a link leads nowhere',
      );
    case 'ENOTDIR':
    case 'EEXIST':
    case 'EISDIR':
    case 'ENOTEMPTY':
      return reading
        ? because('NOT_FOUND', 'there is no such file')
        : because('CONFLICT', 'a file is where a folder is wanted, or a folder where a file is');
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return because('DENIED', 'the file system does not allow it: check owner, mode and mount');
    case 'ENOSPC':
    case 'EDQUOT':
    case 'EFBIG':
      return because('UNSUPPORTED', 'there is no space left for it: free some, or choose another place');
    case 'ENAMETOOLONG':
    case 'ELOOP':
    case 'EINVAL':
      return because('INVALID', `the file system does not take that path (${errno})`);
    default:
      return because('UNAVAILABLE', `the file system answered ${errno}`);
  }
}

/** What `promise` resolves to, or undefined when it fails with one of `codes`. */
export async function unlessErrno<T>(promise: Promise<T>, ...codes: readonly string[]): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    if (hasErrno(error, ...codes)) return undefined;
    throw error;
  }
}

/** Whether `error` is one of the file system, with one of `codes`: `ENOENT`, … */
export function hasErrno(error: unknown, ...codes: readonly string[]): boolean {
  return errnoOf(error) !== undefined && codes.includes(errnoOf(error) ?? '');
}

function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && 'syscall' in error && 'code' in error && typeof error.code === 'string'
    ? error.code
    : undefined;
}

/** CONFLICT of a write to `path`. */
export function conflict(path: string, what: string): Failure {
  return new Failure('CONFLICT', `write ${path}: ${what}`, { context: { location: path } });
}

/** Removes a file. Idempotent. */
export async function unlinkIfThere(path: string): Promise<void> {
  await unlessErrno(unlink(path), 'ENOENT');
}
