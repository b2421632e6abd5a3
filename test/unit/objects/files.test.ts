import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openFiles } from '../../../worker/objects/files.ts';
import { objectStoreSuite } from '../../suites/objects.ts';

objectStoreSuite('a folder', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'transship-files-'));
  const root = join(folder, 'root');
  return {
    store: openFiles(root),
    reopen: () => openFiles(root),
    partSize: 1000,
    keepsMetadata: false,
    [Symbol.asyncDispose]: async () => rm(folder, { recursive: true }),
  };
});
