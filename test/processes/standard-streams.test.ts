// Archives through pipes, as `docker save app | transship copy docker-archive:/dev/stdin …` and `… oci-archive:/dev/stdout | age …`.
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { expectSameImage } from '../support/same-image.ts';

const CLI = fileURLToPath(new URL('../../local/cli.ts', import.meta.url));

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { registry, otherEcr, environment } = lab.stack;
const home = join(lab.folder, 'home');
await mkdir(home);

const image = await makeImage({ signed: true });
const from = `docker://${registry.host}/piped/app:v1`;
const file = join(lab.folder, 'app.tar');
let archive = Buffer.alloc(0);
beforeEach(async () => {
  if (archive.byteLength > 0) return;
  await lab.push(image, registry, 'piped/app');
  await lab.session().copy(from, `oci-archive:${file}`);
  archive = await readFile(file);
});

type Child = ChildProcessByStdio<Writable, Readable, Readable>;

/** The program, with a folder of its own for temporary files. */
async function start(...args: readonly string[]): Promise<{ readonly child: Child; readonly temporary: string }> {
  const temporary = await mkdtemp(join(lab.folder, 'temporary-'));
  const child = spawn(process.execPath, [CLI, ...args], {
    env: {
      ...environment,
      PATH: process.env['PATH'],
      HOME: home,
      TMPDIR: temporary,
      NODE_DISABLE_COMPILE_CACHE: '1',
    },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  // the program may end before it has read everything
  child.stdin.on('error', () => undefined);
  return { child, temporary };
}

interface Ended {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
  /** The content of the folder for temporary files. */
  readonly left: readonly string[];
}

async function run(input: Uint8Array, ...args: readonly string[]): Promise<Ended> {
  const { child, temporary } = await start(...args);
  child.stdin.end(input);
  const [stdout, stderr] = await Promise.all([buffer(child.stdout), text(child.stderr), once(child, 'close')]);
  return { code: child.exitCode, stdout, stderr, left: await readdir(temporary) };
}

describe('an archive from standard input', () => {
  test.each([
    ['oci-archive:/dev/stdin', false],
    ['docker-archive:-', false],
    ['oci-archive:/dev/stdin:v1', true],
  ])('is copied from %s through a temporary file (compressed: %s)', async (source, compressed) => {
    const name = `from/app${source.length}`;
    const input = compressed ? gzipSync(archive, { level: 1 }) : archive;
    const { code, stderr, left } = await run(input, 'copy', source, `docker://${registry.host}/${name}:v1`);
    expect(code, stderr).toBe(0);
    expect(stderr).toMatch(/^standard input is kept in .*transship-.* until the end/m);
    expect(left).toEqual([]);
    await expectSameImage(image.content, lab.view(registry, name), image.root);
  });

  test('is restored under its own name, and verified', async () => {
    const restored = await run(archive, 'restore', 'oci-archive:-', `docker://${otherEcr.registryHost}`);
    expect(restored.code, restored.stderr).toBe(0);
    await expectSameImage(image.content, lab.view(otherEcr, 'piped/app'), image.root);
    const verified = await run(archive, 'verify', 'oci-archive:/dev/stdin');
    expect({ code: verified.code, left: verified.left }, verified.stderr).toEqual({ code: 0, left: [] });
    const cut = await run(archive.subarray(0, -2000), 'verify', 'oci-archive:/dev/stdin');
    expect({ code: cut.code, left: cut.left }, cut.stderr).toEqual({ code: 3, left: [] });
  });

  test('is read in place where it is a file', async () => {
    const handle = await open(file);
    onTestFinished(async () => handle.close());
    const child = spawn(process.execPath, [CLI, 'inspect', 'oci-archive:/dev/stdin'], {
      env: { ...environment, HOME: home, TMPDIR: join(lab.folder, 'no-such-folder') },
      stdio: [handle.fd, 'pipe', 'pipe'],
    });
    const said = async (stream: Readable | null): Promise<string> => (stream === null ? '' : text(stream));
    const [stdout, stderr] = await Promise.all([said(child.stdout), said(child.stderr), once(child, 'close')]);
    expect(child.exitCode, stderr).toBe(0);
    expect(stdout).toContain(image.root.descriptor.digest);
  });

  test.each(['SIGTERM', 'SIGINT'] as const)('leaves nothing behind after %s', async (signal) => {
    const { child, temporary } = await start('copy', 'oci-archive:/dev/stdin', `docker://${registry.host}/never:v1`);
    child.stdin.write(archive.subarray(0, 50_000));
    await eventually(async () => expect(await readdir(temporary)).toHaveLength(1));
    child.kill(signal);
    const [stderr] = await Promise.all([text(child.stderr), once(child, 'close')]);
    expect({ code: child.exitCode, left: await readdir(temporary) }).toEqual({ code: 130, left: [] });
    expect(stderr).toMatch(new RegExp(`transship: .*stopped by ${signal}`));
  });

  test('is refused with a sentence when it is empty', async () => {
    const { code, stderr, left } = await run(new Uint8Array(), 'inspect', 'oci-archive:-');
    expect({ code, left }).toEqual({ code: 2, left: [] });
    expect(stderr).toMatch(/^transship: source: read standard input: it is empty: /m);
  });
});

describe('an archive to standard output', () => {
  test.each(['oci-archive:/dev/stdout', 'docker-archive:-'])(
    'as %s has the bytes of the file, and everything else is on stderr',
    async (target) => {
      const { code, stdout, stderr } = await run(new Uint8Array(), 'copy', from, target);
      expect(code, stderr).toBe(0);
      expect(stdout.equals(archive)).toBe(true);
      expect(stderr).toMatch(/^copied docker:.* -> oci-archive:/m);
      expect(stderr).toMatch(/^175\.0 KiB sent in /m);
    },
  );

  test('passes from standard input to standard output', async () => {
    const { code, stdout, stderr } = await run(archive, 'copy', 'oci-archive:-', 'oci-archive:-');
    expect(code, stderr).toBe(0);
    expect(stdout.equals(archive)).toBe(true);
  });

  test('is refused with --json, whose document would be mixed with it: 2', async () => {
    const { code, stdout, stderr } = await run(new Uint8Array(), 'copy', '--json', from, 'oci-archive:/dev/stdout');
    expect({ code, stdout: stdout.byteLength }).toEqual({ code: 2, stdout: 0 });
    expect(stderr).toMatch(/^transship: --json .*standard output/m);
  });

  test('is refused by backup, which prints a table there: 2', async () => {
    const { code, stdout, stderr } = await run(new Uint8Array(), 'backup', from, 'oci-archive:/dev/stdout');
    expect({ code, stdout: stdout.byteLength }).toEqual({ code: 2, stdout: 0 });
    expect(stderr).toMatch(/transship copy/);
  });

  test('fails when its reader closes it', async () => {
    const { child } = await start('copy', from, 'oci-archive:/dev/stdout');
    child.stdout.destroy();
    const [stderr] = await Promise.all([text(child.stderr), once(child, 'close')]);
    expect(child.exitCode).toBe(1);
    expect(stderr).toMatch(/^transship: target: write standard output: .*EPIPE/m);
  });
});
