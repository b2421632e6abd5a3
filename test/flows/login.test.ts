import { execFile } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, describe, expect, test } from 'vitest';
import { runCommand, type Ended } from '../support/command-line.ts';
import { makeImage } from '../support/images.ts';
import { openLab, PASSWORD } from '../support/lab.ts';

const lab = await openLab();
afterAll(() => lab[Symbol.asyncDispose]());

let homes = 0;
/** Runs commands with a home folder of their own. */
async function withHome(
  more: Readonly<Record<string, string>> = {},
): Promise<{ readonly home: string; readonly run: (args: readonly string[], stdin?: string) => Promise<Ended> }> {
  const home = join(lab.folder, `home-${++homes}`);
  await mkdir(home);
  const env = { HOME: home, ...more };
  return { home, run: async (args, stdin = '') => runCommand(args, { env, stdin }) };
}

const registryOf = async (auth: 'basic' | 'bearer' | 'none'): ReturnType<typeof lab.registry> =>
  lab.registry({ mode: 'oci', auth, users: { ann: PASSWORD } });

describe('transship login', () => {
  test.each(['basic', 'bearer'] as const)(
    'stores what a registry with %s accepts, so that other commands use it, and logout removes it',
    async (auth) => {
      const registry = await registryOf(auth);
      await lab.push(await makeImage(), registry, 'guarded/app');
      const { home, run } = await withHome();
      const image = `${registry.registryHost}/guarded/app:v1`;
      expect(await run(['inspect', image, '-q'])).toMatchObject({ code: 1 });
      const { code, stdout, stderr } = await run(
        ['login', registry.registryHost, '-u', 'ann', '--password-stdin'],
        `${PASSWORD}\n`,
      );
      const file = join(home, '.docker', 'config.json');
      expect({ code, stdout, stderr }).toEqual({
        code: 0,
        stdout: `logged in to ${registry.registryHost} as ann: stored in ${file}\n`,
        stderr: '',
      });
      expect(await run(['inspect', image, '-q'])).toMatchObject({ code: 0 });
      expect((await run(['logout', registry.registryHost])).stdout).toBe(
        `removed the credentials for ${registry.registryHost} from ${file}\n`,
      );
      expect(await run(['inspect', image, '-q'])).toMatchObject({ code: 1 });
      expect((await run(['logout', registry.registryHost])).stdout).toMatch(/^there were no credentials/);
    },
  );

  test('asks for the name and the password at a terminal, and does not show the password', async () => {
    const registry = await registryOf('basic');
    const { home } = await withHome();
    const asked: object[] = [];
    const ask = async (question: string, options: object = {}): Promise<string> => {
      asked.push({ question, ...options });
      return Promise.resolve(question.startsWith('User') ? ' ann ' : PASSWORD);
    };
    const login = async (...args: readonly string[]): Promise<Ended> =>
      runCommand(['login', registry.registryHost, ...args], { env: { HOME: home }, ask });
    expect(await login()).toMatchObject({ code: 0, stderr: '' });
    const password = { question: 'Password or token: ', hidden: true };
    expect(asked.splice(0)).toEqual([{ question: 'User name: ' }, password]);
    expect(await login('-u', 'ann')).toMatchObject({ code: 0, stderr: '' });
    expect(asked).toEqual([password]);
    const file = await readFile(join(home, '.docker', 'config.json'), 'utf8');
    expect(file).toContain(Buffer.from(`ann:${PASSWORD}`).toString('base64'));
  });

  test('reports without a terminal every flag that it needs, in one sentence', async () => {
    const { run } = await withHome();
    for (const [args, flags] of [
      [[], '--username NAME and --password-stdin'],
      [['-u', 'ann'], '--password-stdin'],
      [['--password-stdin'], '--username NAME'],
    ] as const)
      expect(await run(['login', 'ghcr.io', ...args])).toMatchObject({
        code: 2,
        stderr: `transship: log in to ghcr.io: there is no terminal to ask at: pass ${flags}\n`,
      });
  });

  test('stores nothing that the registry refuses, and prints no password', async () => {
    const registry = await registryOf('bearer');
    const { home, run } = await withHome();
    const { code, stdout, stderr } = await run(
      ['login', registry.registryHost, '-u', 'ann', '--password-stdin'],
      'wrong-password-12345',
    );
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^transship: .*the credentials for .* are wrong/);
    expect(stderr).not.toContain('wrong-password-12345');
    await expect(readFile(join(home, '.docker', 'config.json'))).rejects.toThrow('ENOENT');
  });

  test('writes the file that REGISTRY_AUTH_FILE names, though it does not exist yet', async () => {
    const registry = await registryOf('basic');
    const file = join(lab.folder, 'elsewhere', 'auth.json');
    const { run } = await withHome({ REGISTRY_AUTH_FILE: file });
    const args = ['login', registry.registryHost, '--username', 'ann', '--password-stdin', '--json'];
    expect(JSON.parse((await run(args, PASSWORD)).stdout)).toEqual({
      registry: registry.registryHost,
      username: 'ann',
      file,
      checked: true,
    });
  });

  test('warns where the registry did not check the credentials', async () => {
    const registry = await registryOf('none');
    const { run } = await withHome();
    const { code, stderr } = await run(['login', registry.registryHost, '-u', 'x', '--password-stdin'], 'y');
    expect(code).toBe(0);
    expect(stderr).toBe(`warning: ${registry.registryHost} did not ask for credentials, and did not check them\n`);
  });

  test('takes a key of Google, which has several lines, as a password', async () => {
    const registry = await registryOf('none');
    const { home, run } = await withHome();
    const key = '{\n  "type": "service_account"\n}';
    const args = ['login', registry.registryHost, '-u', '_json_key', '--password-stdin'];
    expect(await run(args, `${key}\n`)).toMatchObject({ code: 0 });
    const stored = await readFile(join(home, '.docker', 'config.json'), 'utf8');
    expect(stored).toContain(Buffer.from(`_json_key:${key}`).toString('base64'));
  });

  test('warns where another file has credentials that are used first', async () => {
    const registry = await registryOf('basic');
    const { home, run } = await withHome();
    await mkdir(join(home, '.config', 'containers'), { recursive: true });
    const auths = { [registry.registryHost]: { auth: Buffer.from('eve:old').toString('base64') } };
    await writeFile(join(home, '.config', 'containers', 'auth.json'), JSON.stringify({ auths }));
    const { code, stderr } = await run(['login', registry.registryHost, '-u', 'ann', '--password-stdin'], PASSWORD);
    expect(code).toBe(0);
    expect(stderr).toContain(`run \`transship logout ${registry.registryHost}\`, then log in again`);
    const { stdout } = await run(['logout', registry.registryHost]);
    expect(stdout.split('\n').filter((line) => line.startsWith('removed'))).toHaveLength(2);
  });

  test('refuses a FIFO and a device as a file for credentials instead of waiting for them', async () => {
    const registry = await registryOf('none');
    const { home, run } = await withHome();
    const fifo = join(home, 'fifo');
    await promisify(execFile)('mkfifo', [fifo]);
    for (const file of [fifo, '/dev/zero']) {
      const args = ['login', registry.registryHost, '-u', 'ann', '--password-stdin', '--authfile', file];
      expect(await run(args, PASSWORD)).toMatchObject({
        code: 2,
        stderr: expect.stringContaining(`${file} is not a regular file`) as unknown,
      });
    }
  });

  test.each<[readonly string[], RegExp, string?]>([
    [['login', 'ghcr.io/team', '-u', 'a', '--password-stdin'], /is not the host of a registry/],
    [['login', 'ghcr.io', '-u', 'a:b', '--password-stdin'], /has no ":"/],
    [['login', 'ghcr.io', '-u', 'a', '--password-stdin'], /standard input is empty/],
    [['login', 'ghcr.io', '-u', 'a', '--password-stdin'], /more than one line/, 'first\nsecond\n'],
  ])('refuses %j', async (args, message, stdin = '') => {
    const { run } = await withHome();
    expect(await run(args, stdin)).toMatchObject({ code: 2, stderr: expect.stringMatching(message) as unknown });
  });
});
