import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { listen, stopListening } from '../../http/listen.ts';

const CLI = fileURLToPath(new URL('../../cli.ts', import.meta.url));

/** Runs `transship local` until it exits, with an empty folder for its temporary files. */
async function runLocal(...args: readonly string[]): Promise<{ code: number | null; stderr: string; left: string[] }> {
  const folder = await mkdtemp(join(tmpdir(), 'transship-local-test-'));
  onTestFinished(async () => rm(folder, { recursive: true, force: true }));
  const child = spawn(process.execPath, [CLI, 'local', ...args], {
    env: { PATH: process.env['PATH'] ?? '', TMPDIR: folder },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const [stderr] = await Promise.all([text(child.stderr), once(child, 'close')]);
  return {
    code: child.exitCode,
    stderr,
    left: (await readdir(folder)).filter((name) => name.startsWith('transship-')),
  };
}

test('local exits with 2 where a port is taken, names the server, and leaves nothing in its folder', async () => {
  const other = createServer();
  // below the range from which systems assign ports and above that of ports.test.ts, so the ports after it are free too
  const port = 15_000 + (process.pid % 900);
  await listen(other, { name: 'another program', port });
  const { code, stderr, left } = await runLocal('--port', String(port));
  await stopListening(other);
  expect({ code, left }).toEqual({ code: 2, left: [] });
  expect(stderr).toBe(
    `transship: start S3 on port ${port} of 127.0.0.1: another program listens there: choose another port, or end that program\n`,
  );
});

test.each(['0', '65528', '80.5', 'many', ''])('local exits with 2 for --port %j', async (port) => {
  const { code, stderr } = await runLocal('--port', port);
  expect(code).toBe(2);
  expect(stderr).toContain('expected a whole number from 1 to 65527');
});
