import { mkdtempSync, readdirSync } from 'node:fs';
import { open, rm, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { openFiles } from '../../../../worker/objects/files/store.ts';

const COUNT = 60;

test('a file is written once a sync of its folder has ended that began after it was placed; files placed at once share one sync', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'transship-publish-'));
  onTestFinished(async () => rm(folder, { recursive: true }));
  const some = await open(folder);
  const prototype = Object.getPrototypeOf(some) as FileHandle;
  await some.close();
  const durable = new Set<string>();
  let syncs = 0;
  const sync = Reflect.get(prototype, 'sync');
  const spy = vi.spyOn(prototype, 'sync').mockImplementation(async function (this: FileHandle) {
    if (!(await this.stat()).isDirectory()) return sync.call(this);
    syncs++;
    const placed = readdirSync(folder);
    await sync.call(this);
    for (const name of placed) durable.add(name);
  });
  onTestFinished(() => spy.mockRestore());

  const store = openFiles(folder);
  await Promise.all(
    Array.from({ length: COUNT }, async (_, at) => {
      await store.write(`file-${at}`, Buffer.from(`${at}`), { condition: { ifAbsent: true } });
      expect(durable).toContain(`file-${at}`);
    }),
  );
  expect(syncs).toBeGreaterThan(0);
  expect(syncs).toBeLessThan(COUNT);
});
