import { promises } from 'node:fs';
import { mkdtemp, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { journalOf, takeOver } from '../../../../worker/objects/files/hold.ts';

test.skipIf(process.platform !== 'linux')(
  'does not take over at once what another process has just taken over from one that has ended',
  async () => {
    const root = await mkdtemp(join(tmpdir(), 'transship-hold-'));
    onTestFinished(async () => rm(root, { recursive: true }));
    const [left, taken, again] = [1, 2, 3].map((id) => join(root, `.a.0123456789abcdef.${id}-1-z.partial`)) as [
      string,
      string,
      string,
    ];
    const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
    const ended = `${boot} ${await readlink('/proc/self/ns/pid')} 4194999 1`;
    await writeFile(left, '');
    await writeFile(journalOf(left), `{}\nheld by ${ended}\n1 2`);
    const noWait = { signal: AbortSignal.abort() };
    expect(await takeOver(left, taken, noWait)).toBe(true);
    // it would have to watch the file, as that of a process that is running
    await expect(takeOver(taken, again, noWait)).rejects.toMatchObject({ code: 'ABORTED' });
  },
);

test.skipIf(process.platform !== 'linux')(
  'does not take over at once the file of a running process that /proc hides',
  async () => {
    const root = await mkdtemp(join(tmpdir(), 'transship-hold-'));
    onTestFinished(async () => rm(root, { recursive: true }));
    const held = join(root, '.a.0123456789abcdef.1-1-z.partial');
    const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
    await writeFile(held, '');
    await writeFile(journalOf(held), `{}\nheld by ${boot} ${await readlink('/proc/self/ns/pid')} ${process.pid} 1\n`);
    const { readFile: read } = promises;
    const restore = (): void => {
      promises.readFile = read;
      syncBuiltinESMExports();
    };
    onTestFinished(restore);
    promises.readFile = (async (path: string, encoding: 'utf8') =>
      read(path === `/proc/${process.pid}/stat` ? join(root, 'missing') : path, encoding)) as typeof read;
    syncBuiltinESMExports();
    const took = takeOver(held, `${held}.2`, { signal: AbortSignal.abort() });
    await expect(took).rejects.toMatchObject({ code: 'ABORTED' });
  },
);
