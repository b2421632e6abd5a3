import type { Abortable } from '../../util/abort.ts';
import { systemClock } from '../../util/clock.ts';
import { lockFile } from '../../util/file-lock.ts';
import { beside } from './own-files.ts';

/** Runs `work` while no other process runs work under the lock of the same path. */
export async function locked(path: string, work: () => Promise<void>, options: Abortable | undefined): Promise<void> {
  await using _lock = await lockFile(beside(path, 'lock'), systemClock, options);
  await work();
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
