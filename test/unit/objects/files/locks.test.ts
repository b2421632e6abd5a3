import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { openFiles } from '../../../../worker/objects/files/store.ts';
import { eventually } from '../../../support/eventually.ts';

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
