import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { systemClock, type Clock } from '../../../worker/util/clock.ts';
import { lockFile } from '../../../worker/util/file-lock.ts';

const impatient = { ...systemClock, sleep: async () => turn() };

async function lockPath(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'transship-lock-'));
  onTestFinished(async () => rm(folder, { recursive: true }));
  return join(folder, '.config.json.lock');
}

const CRASHED = '.00000000-0000-4000-8000-000000000000.lock';

test('gives the lock that a crashed process left to one holder at a time, however many found it', async () => {
  const path = await lockPath();
  for (let round = 0; round < 2; round++) {
    await mkdir(path);
    await writeFile(join(path, CRASHED), '');
    // a live holder is never looked at so fast that it seems to have crashed
    const clock: Clock = {
      ...systemClock,
      sleep: async (...args) => (existsSync(join(path, CRASHED)) ? turn() : systemClock.sleep(...args)),
    };
    let holders = 0;
    const work = async (): Promise<void> => {
      await using _lock = await lockFile(path, clock);
      expect(++holders).toBe(1);
      await stat(path);
      holders--;
    };
    await Promise.all(Array.from({ length: 5 }, work));
    expect(await readdir(join(path, '..'))).toEqual([]);
  }
});

test('takes a lock at once when its takeover was left unfinished by a crash', async () => {
  const path = await lockPath();
  await mkdir(path);
  const sleepless = { ...systemClock, sleep: async () => Promise.reject(new Error('it waits')) };
  const lock = await lockFile(path, sleepless);
  await lock[Symbol.asyncDispose]();
  expect(await readdir(join(path, '..'))).toEqual([]);
});

test('takes over the file that an earlier version left as a lock', async () => {
  const path = await lockPath();
  await writeFile(path, '');
  const lock = await lockFile(path, impatient);
  await lock[Symbol.asyncDispose]();
  expect(await readdir(join(path, '..'))).toEqual([]);
});

test('leaves the lock of the next holder in place when the holder before it slept, lost it, and releases it', async () => {
  const path = await lockPath();
  const slept = await lockFile(path, impatient);
  const next = await lockFile(path, impatient);
  const held = await readdir(path);
  await slept[Symbol.asyncDispose]();
  expect(await readdir(path)).toEqual(held);
  await next[Symbol.asyncDispose]();
  expect(await readdir(join(path, '..'))).toEqual([]);
});

test('does not take over a lock that changes hands while it waits, however long that takes', async () => {
  const path = await lockPath();
  let holder = await lockFile(path, impatient);
  let looks = 0;
  const stop = new AbortController();
  const changing = {
    ...systemClock,
    sleep: async (): Promise<void> => {
      if (++looks % 900 === 0) {
        await holder[Symbol.asyncDispose]();
        holder = await lockFile(path, impatient);
      }
      if (looks === 1890) stop.abort();
      stop.signal.throwIfAborted();
    },
  };
  await expect(lockFile(path, changing, { signal: stop.signal })).rejects.toThrow();
  expect(await readdir(join(path, '..'))).toEqual(['.config.json.lock']);
  await holder[Symbol.asyncDispose]();
});

test('keeps the files of others in a folder that has the name of a lock', async () => {
  const path = await lockPath();
  await mkdir(path);
  await writeFile(join(path, 'x'), '');
  await expect(lockFile(path, impatient)).rejects.toMatchObject({
    code: expect.stringMatching(/^(?:ENOTEMPTY|EEXIST)$/u) as string,
  });
  expect(await readdir(path)).toEqual(['x']);
});

test('takes over a lock that is a link to nothing, as every other that was left', async () => {
  const path = await lockPath();
  await symlink('nowhere', path);
  const lock = await lockFile(path, impatient);
  await lock[Symbol.asyncDispose]();
  expect(await readdir(join(path, '..'))).toEqual([]);
});
