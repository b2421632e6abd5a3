// What only a process shows: exit codes, what is written to stdout and stderr, signals, pipes. Each process costs a third of a second.
import { execFile, spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, describe, expect, onTestFinished, test } from 'vitest';
import { digestOf } from '../../worker/oci/digest.ts';
import { collect } from '../support/chunks.ts';
import { makeImage } from '../support/images.ts';
import { openLab, PASSWORD } from '../support/lab.ts';

const CLI = fileURLToPath(new URL('../../local/cli.ts', import.meta.url));

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { registry, ecr, bucket, environment } = lab.stack;

const home = join(lab.folder, 'home');
await mkdir(home);
/** The machine's own environment is left out. */
const ENVIRONMENT: Readonly<Record<string, string>> = {
  ...environment,
  PATH: process.env['PATH'] ?? '',
  HOME: home,
  AWS_EC2_METADATA_DISABLED: 'true',
};

const image = await makeImage({ signed: true });

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

type Child = ChildProcessByStdio<null, Readable, Readable>;

function start(args: readonly string[], env: Readonly<Record<string, string>> = {}): Child {
  const child = spawn(process.execPath, [CLI, ...args], {
    env: { ...ENVIRONMENT, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  return child;
}

async function run(args: readonly string[], env?: Readonly<Record<string, string>>): Promise<Ended> {
  const child = start(args, env);
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  return { code: child.exitCode, stdout, stderr };
}

/** The output of a stream up to its first match. */
async function saying(stream: Readable, pattern: RegExp): Promise<string> {
  let said = '';
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
    said += String(chunk);
    if (pattern.test(said)) return said;
  }
  throw new Error(`it ended without saying ${String(pattern)}: ${said}`);
}

function expectJsonLines(lines: string): void {
  for (const line of lines.split('\n').filter((each) => each !== ''))
    expect(() => void JSON.parse(line), line).not.toThrow();
}

describe('the command line', () => {
  test('prints help on stdout with every command and exit code: 0', async () => {
    const { code, stdout, stderr } = await run(['--help']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    for (const word of [
      'copy',
      'inspect',
      'verify',
      'backup',
      'restore',
      'publish',
      'extract',
      'local',
      'demo',
      'Exit codes: 0 done',
    ])
      expect(stdout).toContain(word);
  });

  test('publishes a folder and extracts it; an existing file that differs is named: 1', async () => {
    const [from, to] = [join(lab.folder, 'to-publish'), join(lab.folder, 'extracted')];
    await mkdir(from);
    await writeFile(join(from, 'note.txt'), 'a note');
    const place = `docker://${ecr.registryHost}/by-command`;
    const planned = await run(['publish', from, place, '--dry-run', '-q']);
    expect(planned).toMatchObject({ code: 0, stderr: '' });
    expect(planned.stdout).toMatch(/^planned .*\n.*published 1, .*\n6 B would be read in /);
    const { code, stdout, stderr } = await run(['publish', from, place, '--json']);
    expect(code, stderr).toBe(0);
    expectJsonLines(stderr);
    expect(JSON.parse(stdout)).toMatchObject({ outcome: 'published', objects: { published: 1 }, failures: [] });
    const extracted = await run(['extract', place, to]);
    expect(extracted).toMatchObject({ code: 0, stderr: expect.stringContaining('extracted note.txt, 6 bytes') });
    expect(await readdir(to)).toEqual(['note.txt']);
    await writeFile(join(to, 'note.txt'), 'another');
    const again = await run(['extract', place, to, '-q']);
    expect(again).toMatchObject({ code: 1, stdout: '' });
    expect(again.stderr).toMatch(/^failed: note\.txt: target: .*something else is there: pass --force/);
  });

  test('reports an unknown flag on stderr, with the command that prints help: 2', async () => {
    const { code, stdout, stderr } = await run(['copy', '--no-such-flag', 'a', 'b']);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/^error: .*\n\(transship copy --help prints more\)\n$/);
  });

  test('reports an invalid environment variable by its name: 2', async () => {
    const { code, stdout, stderr } = await run(['inspect', 'registry.test/app'], { TRANSSHIP_CONCURRENCY: 'many' });
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toBe('transship: TRANSSHIP_CONCURRENCY is not a whole number from 1 to 64\n');
  });

  test('reports an invalid reference in one sentence: 2', async () => {
    const { code, stdout, stderr } = await run(['copy', 'docker://registry.test/UPPER', 'oci:there']);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/^transship: [^\n]*"UPPER" is not a component [^\n]*\n$/);
  });

  test('reports a failure in one sentence, without the secrets it was given: 1', async () => {
    const guarded = await lab.registry({ mode: 'oci', auth: 'bearer', users: { ann: PASSWORD } });
    const { code, stdout, stderr } = await run([
      'inspect',
      `docker://${guarded.host}/app:v1`,
      '--src-creds',
      'ann:guessed-password',
    ]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^transship: source: [^\n]*the credentials for [^\n]* are wrong[^\n]*\n$/);
    expect(stderr).not.toContain('guessed-password');
  });
});

describe('--json', () => {
  test('prints one document on stdout and events as lines on stderr, without colour or a bar', async () => {
    await lab.push(image, registry, 'json/app');
    const from = `docker://${registry.host}/json/app:v1`;
    const copied = await run(['copy', '--json', from, `docker://${ecr.registryHost}/json/app`], { FORCE_COLOR: '1' });
    expect(copied.code, copied.stderr).toBe(0);
    expect(JSON.parse(copied.stdout)).toMatchObject({
      from,
      to: `docker://${ecr.registryHost}/json/app:v1`,
      digest: image.root.descriptor.digest,
      outcome: 'copied',
      partial: false,
    });
    expectJsonLines(copied.stderr);
    expect(copied.stderr).toContain('"type":"tagged"');
    expect(copied.stdout + copied.stderr).not.toContain('\u001b');
  });

  test('lists a failed item in the document: 1', async () => {
    const [good, bad] = [await makeImage({ seed: 2, tag: 'good' }), await makeImage({ seed: 3, tag: 'bad' })];
    for (const each of [good, bad]) await lab.push(each, registry, 'json/several');
    registry.faults.add(
      { operation: 'manifest-get', digest: bad.root.descriptor.digest, times: 20 },
      { kind: 'lie-digest' },
    );
    const { code, stdout, stderr } = await run([
      'backup',
      '--json',
      `docker://${registry.host}/json/several`,
      `s3://${bucket}/json/{tag}.tar`,
    ]);
    registry.faults.clear();
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({
      items: [{ outcome: 'failed', failure: { code: 'CORRUPT' } }, { outcome: 'copied' }],
    });
    expectJsonLines(stderr);
  });
});

test('verify of a broken archive names the fault on stdout: 3', async () => {
  await lab.push(image, registry, 'verified/app');
  const file = join(lab.folder, 'broken.tar');
  await lab.session().copy(`docker://${registry.host}/verified/app:v1`, `oci-archive:${file}`);
  const folder = lab.session().backends.folder(lab.folder);
  const bytes = Buffer.from(await collect(await folder.read('broken.tar')));
  bytes[bytes.length - 20_000] = (bytes[bytes.length - 20_000] ?? 0) ^ 1;
  await writeFile(file, bytes);
  const { code, stdout } = await run(['verify', '--quiet', `oci-archive:${file}`], { NO_COLOR: '1' });
  expect(code).toBe(3);
  expect(stdout).toMatch(/^FAULTY +sha256:/m);
  expect(stdout).toMatch(/^fault: oci-archive:.*broken\.tar: sha256:.* has other bytes/m);
  expect(stdout).not.toContain('\u001b');
});

test('inspect --raw writes the manifest to stdout byte for byte, and nothing else anywhere', async () => {
  await lab.push(image, registry, 'raw/app');
  const { code, stdout, stderr } = await run(['inspect', '--raw', `docker://${registry.host}/raw/app:v1`]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(digestOf(Buffer.from(stdout))).toBe(image.root.descriptor.digest);
});

test('a reader of stdout that closes it is not a failure', async () => {
  await lab.push(image, registry, 'piped/app');
  const child = start(['inspect', `docker://${registry.host}/piped/app:v1`]);
  child.stdout.destroy();
  const [stderr] = await Promise.all([text(child.stderr), once(child, 'close')]);
  expect({ code: child.exitCode, stderr }).toEqual({ code: 0, stderr: '' });
});

test('SIGINT ends a copy with advice to run it again, and nothing visible: 130', async () => {
  await lab.push(image, registry, 'stopped/app');
  registry.faults.add({ operation: 'blob-get', times: 100 }, { kind: 'delay', ms: 600_000 });
  const child = start(['copy', `docker://${registry.host}/stopped/app:v1`, `s3://${bucket}/stopped.tar`, '-v']);
  await saying(child.stderr, /planned blobs=/);
  child.kill('SIGINT');
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  registry.faults.clear();
  expect({ code: child.exitCode, stdout }).toEqual({ code: 130, stdout: '' });
  expect(stderr).toMatch(/transship: stopped by SIGINT; run the same command again to go on\n$/);
  expect(await Array.fromAsync(lab.session().backends.bucket(bucket).list('stopped.tar'))).toEqual([]);
});

test('local prints an environment that a shell evaluates, and stops on SIGTERM, folder and all', async () => {
  const child = start(['local'], { TMPDIR: lab.folder });
  const exports = await saying(child.stdout, /TRANSSHIP_REGISTRY_ENDPOINTS=.*\n/);
  // as `eval "$(transship local)"` would, if it ended
  const { stdout } = await promisify(execFile)('sh', ['-c', `${exports}\nenv`], { env: { PATH: ENVIRONMENT['PATH'] } });
  const found = new Map(
    stdout.split('\n').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
  const names = Object.keys(environment);
  expect(names.filter((name) => !found.has(name))).toEqual([]);
  const endpoint = found.get('AWS_ENDPOINT_URL_S3') ?? '';
  expect((await fetch(endpoint)).status).toBe(403);
  child.kill('SIGTERM');
  await once(child, 'close');
  expect(child.exitCode).toBe(0);
  await expect(fetch(endpoint)).rejects.toThrow('fetch failed');
  expect((await readdir(lab.folder)).filter((name) => name.startsWith('transship-local-'))).toEqual([]);
});
