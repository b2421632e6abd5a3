import { mkdtemp, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { lockFile } from '../../../worker/registry/file-lock.ts';
import { systemClock } from '../../../worker/util/clock.ts';

const impatient = { ...systemClock, sleep: async () => turn() };

async function lockPath(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'transship-lock-'));
  onTestFinished(async () => rm(folder, { recursive: true }));
  return join(folder, '.config.json.lock');
}

test('one holder at a time has the lock that a crashed process left, however many found it', async () => {
  const path = await lockPath();
  for (let round = 0; round < 40; round++) {
    await writeFile(path, '');
    await utimes(path, 1, 1);
    let holders = 0;
    const work = async (): Promise<void> => {
      await using _lock = await lockFile(path, impatient);
      expect(++holders).toBe(1);
      await stat(path);
      holders--;
    };
    await Promise.all(Array.from({ length: 10 }, work));
    expect(await readdir(join(path, '..'))).toEqual([]);
  }
});

test('a removal that a process left unfinished when it crashed is finished by another', async () => {
  const path = await lockPath();
  await writeFile(path, '');
  await utimes(path, 1, 1);
  const mark = `${path}.${(await stat(path, { bigint: true })).mtimeNs}`;
  await writeFile(mark, '');
  await utimes(mark, 1, 1);
  const lock = await lockFile(path, impatient);
  await lock[Symbol.asyncDispose]();
  expect(await readdir(join(path, '..'))).toEqual([]);
});
