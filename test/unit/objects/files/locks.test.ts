import { promises } from 'node:fs';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, onTestFinished, test, vi } from 'vitest';
import { locked } from '../../../../worker/objects/files/locks.ts';
import { openFiles } from '../../../../worker/objects/files/store.ts';
import { systemClock } from '../../../../worker/util/clock.ts';
import { eventually } from '../../../support/eventually.ts';

/** Runs `work` before the next file is removed. */
function beforeUnlink(work: () => Promise<void>): void {
  const { unlink } = promises;
  const restore = (): void => {
    promises.unlink = unlink;
    syncBuiltinESMExports();
  };
  promises.unlink = async (path) => {
    restore();
    await work();
    await unlink(path);
  };
  // the modules that are loaded already see it too
  syncBuiltinESMExports();
  onTestFinished(restore);
}

test('a writer that waits for the lock of another process can be stopped, and leaves the lock and no file', async () => {
  const root = await mkdtemp(join(tmpdir(), 'transship-files-'));
  onTestFinished(async () => rm(root, { recursive: true }));
  const store = openFiles(root);
  const { etag } = await store.write('k', Buffer.from('x'));
  await writeFile(join(root, '.k.lock'), '');
  const stop = new AbortController();
  const writing = store.write('k', Buffer.alloc(4500), { condition: { ifMatch: etag }, signal: stop.signal });
  // fully written, and waiting to be moved into place
  await eventually(async () => expect((await readdir(root)).some((name) => name.endsWith('.temp'))).toBe(true));
  stop.abort();
  await expect(writing).rejects.toMatchObject({ code: 'ABORTED' });
  expect((await readdir(root)).sort()).toEqual(['.k.lock', 'k']);
});

test('keeps the lock of the next holder when another process takes over, a moment later, the lock that a crash left', async () => {
  const root = await mkdtemp(join(tmpdir(), 'transship-files-'));
  onTestFinished(async () => rm(root, { recursive: true }));
  await writeFile(join(root, '.k.lock'), '');
  const end = Promise.withResolvers<void>();
  const isHeld = Promise.withResolvers<void>();
  let looks = 0;
  let isTaken = false;
  const real = { ...systemClock };
  const sleep = vi.spyOn(systemClock, 'sleep').mockImplementation(async (...args) => {
    // the later process waits for the lock of the next holder
    if (isTaken && ++looks === 3) end.resolve();
    return looks < 3 ? turn() : real.sleep(...args);
  });
  onTestFinished(() => sleep.mockRestore());
  const holders = new Set<string>();
  let most = 0;
  const hold = async (name: string, until: Promise<void>): Promise<void> => {
    holders.add(name);
    most = Math.max(most, holders.size);
    await until;
    holders.delete(name);
  };
  let next: Promise<void> | undefined;
  beforeUnlink(async () => {
    next = locked(
      join(root, 'k'),
      async () => {
        isHeld.resolve();
        await hold('next', end.promise);
      },
      undefined,
    );
    await isHeld.promise;
    isTaken = true;
  });
  await locked(
    join(root, 'k'),
    async () => {
      end.resolve();
      await hold('later', Promise.resolve());
    },
    undefined,
  );
  await next;
  expect(isTaken).toBe(true);
  expect(most).toBe(1);
  expect(await readdir(root)).toEqual([]);
});
